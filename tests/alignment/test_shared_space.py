"""Shared response model and hyperalignment on planted series; fitting on test data is caught."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from neuroalign.alignment import encode_across_subjects, fit_shared_space, shift_subjects
from neuroalign.data import make_responses
from neuroalign.recordings import clean, load_confounds, load_responses
from neuroalign.stats import Folds

SIZES = (20, 26, 22, 24)


def planted(n=160, k=3, noise=0.5, seed=0, sizes=SIZES):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, k)) * [3, 2, 1.5][:k]
    return shared, [shared @ np.linalg.qr(rng.standard_normal((p, k)))[0].T + noise * rng.standard_normal((n, p)) + 5
                    for p in sizes]


def labelled(arrays, runs=4):
    who = [f"p{s}" for s, x in enumerate(arrays) for _ in range(x.shape[1])]
    n = len(arrays[0])
    return make_responses(np.hstack(arrays), np.arange(float(n)), [f"{s}:{k}" for k, s in enumerate(who)], dim="time",
                          sample_coords={"run": np.arange(n) * runs // n}, neuroid_coords={"subject": who})


def agreement(mapped):
    """Mean correlation of subjects with the mean of the others, over components."""
    return np.mean([np.corrcoef(m[:, c], (sum(mapped) - m)[:, c])[0, 1] for m in mapped for c in range(m.shape[1])])


@pytest.mark.parametrize("method", ["srm", "procrustes"])
def test_a_planted_series_is_recovered_on_other_samples(method):
    shared, arrays = planted()
    space = fit_shared_space([x[:100] for x in arrays], method=method, n_components=3 if method == "srm" else None)
    mapped = space.transform([x[100:] for x in arrays])
    mean = sum(mapped) / 4
    fitted = np.linalg.lstsq(space.shared, shared[:100] - shared[:100].mean(0))[0]
    r = [np.corrcoef((mean @ fitted)[:, c], shared[100:, c])[0, 1] for c in range(3)]
    assert min(r) > 0.9
    wrong = fit_shared_space([x[:100] for x in planted(noise=0.5, seed=9)[1]], method=method,
                             n_components=3 if method == "srm" else None)
    assert agreement(mapped) > agreement(wrong.transform([x[100:] for x in arrays])) + (0.4 if method == "srm" else 0.1)


@pytest.mark.parametrize("method", ["srm", "procrustes"])
def test_every_map_is_the_best_one_for_what_is_shared_and_the_error_never_rises(method):
    _, arrays = planted(noise=2.0)
    space = fit_shared_space(arrays, method=method, n_components=4 if method == "srm" else None, n_iterations=2000)
    assert (np.diff(space.errors) <= 1e-12).all() and len(space.errors) > 2
    for j, (x, w) in enumerate(zip(arrays, space.bases)):
        gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-10)
        mapped = space.transform(arrays)
        target = space.shared if method == "srm" else (sum(mapped) - mapped[j]) / 3
        x = x - x.mean(0)
        # scipy's own solution, of rows padded with zeros to one width, reaches the same overlap
        wide = max(x.shape[1], target.shape[1])
        best = orthogonal_procrustes(np.pad(x, ((0, 0), (0, wide - x.shape[1]))),
                                     np.pad(target, ((0, 0), (0, wide - target.shape[1]))))[1]
        assert np.trace((x @ w).T @ target) == pytest.approx(best, rel=1e-3)


def test_srm_reaches_the_error_of_the_best_of_many_random_starts():
    _, arrays = planted(n=60, noise=1.0, sizes=(6, 7, 8))
    centred = [x - x.mean(0) for x in arrays]
    rng, best = np.random.default_rng(0), np.inf
    for _ in range(20):
        bases = [np.linalg.qr(rng.standard_normal((x.shape[1], 2)))[0] for x in centred]
        for _ in range(200):
            s = sum(x @ w for x, w in zip(centred, bases)) / 3
            bases = [np.linalg.svd(x.T @ s, full_matrices=False) for x in centred]
            bases = [u @ v for u, _, v in bases]
        s = sum(x @ w for x, w in zip(centred, bases)) / 3
        best = min(best, sum(((x - s @ w.T) ** 2).sum() for x, w in zip(centred, bases)))
    own = fit_shared_space(arrays, n_components=2, n_iterations=1000).errors[-1] * sum((x**2).sum() for x in centred)
    assert own <= best * (1 + 1e-6)


@pytest.mark.parametrize("method", ["srm", "procrustes"])
def test_fitting_on_test_samples_is_caught_by_shifted_subjects(method):
    """On shifted series the honest fit finds nothing; the one that saw the test samples finds plenty."""
    moved = shift_subjects(labelled(planted()[1]))
    arrays = [moved.values[:, moved.subject.values == f"p{s}"] for s in range(4)]
    k = {"n_components": 10} if method == "srm" else {}
    honest = fit_shared_space([x[:120] for x in arrays], method=method, **k)
    leaky = fit_shared_space(arrays, method=method, **k)
    test = [x[120:] for x in arrays]
    assert abs(agreement(honest.transform(test))) < 0.12 and agreement(leaky.transform(test)) > 0.25
    true = planted()[1]
    assert agreement(fit_shared_space([x[:120] for x in true], n_components=3).transform(
        [x[120:] for x in true])) > 0.8


def test_subjects_are_predicted_from_the_others_and_shifted_ones_are_not():
    r = labelled(planted(n=120, noise=0.7, sizes=(8, 10, 9))[1], runs=3)
    found = encode_across_subjects(r, n_components=3, n_permutations=9, keep="null")
    assert found.score.mean() > 0.5 and abs(found.null_mean.mean()) < 0.05
    assert (found.p <= 0.1).mean() > 0.7 and found.null.sizes["permutation"] == 9
    apart = encode_across_subjects(shift_subjects(r), n_components=3)
    assert abs(apart.score.mean()) < 0.1
    assert found.subject.values.tolist() == r.subject.values.tolist() and found.metric.item() == "r.foldmean"


def test_a_prediction_is_the_ridge_of_the_others_written_out():
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    _, arrays = planted(noise=1.0, n=80)
    found = encode_across_subjects(labelled(arrays, runs=2), n_components=2, alphas=[10.0], metric="r.pooled")
    predicted = np.empty(arrays[1].shape)
    others = [arrays[j].astype(np.float32) for j in (0, 2, 3)]
    for train, test in ((np.arange(40, 80), np.arange(40)), (np.arange(40), np.arange(40, 80))):
        space = fit_shared_space([x[train] for x in others], n_components=2)
        scaler = StandardScaler().fit(space.shared)
        ridge = Ridge(10.0).fit(scaler.transform(space.shared), arrays[1][train])
        predicted[test] = ridge.predict(scaler.transform(sum(space.transform([x[test] for x in others])) / 3))
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, arrays[1].T)]
    np.testing.assert_allclose(found.score.values[0, 0, 20:46], r, atol=1e-3)


def test_listeners_to_alice_are_predicted_from_one_another(mirror):
    cleaned = clean(load_responses("alice_fmri"), confounds=load_confounds("alice_fmri"), high_pass=1 / 128)
    few = cleaned.sel(neuroid=np.isin(cleaned.subject.values, np.unique(cleaned.subject.values)[:8]))
    options = {"method": "procrustes", "alphas": [1.0, 100.0], "n_splits": 3, "gap": 8}
    found, apart = (encode_across_subjects(r, **options).score.values.ravel() for r in (few, shift_subjects(few)))
    assert found[few.region.values == "LPTL"].mean() > 0.25 and found.mean() > 0.12
    assert abs(apart.mean()) < 0.06 and apart[few.region.values == "LPTL"].mean() < 0.1


def test_one_run_is_cut_into_blocks_with_a_gap():
    r = labelled(planted()[1]).drop_vars("run")
    found = encode_across_subjects(r, n_components=3, gap=5)
    assert found.score.mean() > 0.4 and "blocks(5, gap=5)" in found.attrs["folds"]
    with pytest.raises(ValueError, match="training and the test set of the same fold"):
        encode_across_subjects(r, cv=Folds(np.ones((2, 160), bool), np.eye(2, 160, dtype=bool), "leaky"))


@pytest.mark.parametrize("call, words", [
    (lambda x: fit_shared_space(labelled(x)), "got one array, expected a list"),
    (lambda x: fit_shared_space(x[:1]), "got 1 subjects, expected at least two"),
    (lambda x: fit_shared_space([x[0], x[1][:-1]]), "same samples for all subjects"),
    (lambda x: fit_shared_space([v[:5] for v in x]), "got 5 samples, expected at least 12"),
    (lambda x: fit_shared_space([x[0], x[1] * np.nan]), r"subjects '1' \(by place\) have neuroids with NaN"),
    (lambda x: fit_shared_space(x, n_components=21), "n_components: got 21, expected 1 to 20"),
    (lambda x: fit_shared_space(x, method="procrustes", n_components=3), "rotations keep all dimensions"),
    (lambda x: fit_shared_space(x, method="pca"), "method: got 'pca'"),
    (lambda x: fit_shared_space(x, n_components=2).transform(x[:2]), "got 2 subjects, the space was fitted on 4"),
    (lambda x: encode_across_subjects(labelled(x[:2])), "got 2 subjects, expected at least three"),
    (lambda x: encode_across_subjects(labelled([*x[:3], x[3] * np.nan])), "neuroids 'p3:68', 'p3:69', 'p3:70' and 21"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(planted()[1])
