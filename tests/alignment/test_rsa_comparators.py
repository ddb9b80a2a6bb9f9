"""`compare` by tau-a, rho-a and whitened RSA: scores, null and intervals against loops."""

import numpy as np
import pytest
from scipy.stats import rankdata

import neuroalign as na
from neuroalign.alignment import rdms
from neuroalign.alignment.rdm import square
from neuroalign.alignment.rdm_bootstrap import bootstrap_rdms
from neuroalign.data import make_features, make_rdms
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import make_resamples, row_permutations

N = 9
IDS = [f"s{i}" for i in range(N)]
FIRST, SECOND = np.triu_indices(N, 1)
NAMES = ["rsa.tau_a", "rsa.rho_a", "rsa.cosine.whitened", "rsa.pearson.whitened"]


def brute(method, x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    n = round((1 + np.sqrt(1 + 8 * len(x))) / 2)
    if method == "tau_a":
        return (np.sign(x[:, None] - x) * np.sign(y[:, None] - y)).sum() / len(x) / (len(x) - 1)
    if method == "rho_a":
        a, b = (rankdata(v) - (len(v) + 1) / 2 for v in (x, y))
        return 12 * a @ b / (len(x) ** 3 - len(x))
    contrasts = np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in zip(*np.triu_indices(n, 1))])
    inverse = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    if method == "pearson.whitened":
        x, y = x - x.mean(), y - y.mean()
    return x @ inverse @ y / np.sqrt((x @ inverse @ x) * (y @ inverse @ y))


@pytest.fixture
def model():
    return make_features(np.random.default_rng(0).standard_normal((N, 6)), IDS, model="m")


@pytest.fixture
def brain(model):
    rng = np.random.default_rng(1)
    values = np.round(rdms(model).values + 0.4 * rng.random((3, 36)), 1)  # with ties
    return make_rdms(values, stimulus_ids=IDS, targets=["a", "b", "c"],
                     target_coords={"region": ["IT", "IT", "EVC"], "subject": ["a", "b", "a"]})


@pytest.mark.parametrize("name", NAMES)
def test_scores_null_and_interval_equal_loops(model, brain, name):
    method = name[4:]
    found = na.compare(model, brain, metric=[name, f"{name}.group"], n_permutations=19, n_bootstraps=10,
                       keep=["null", "bootstrap"], device="cpu")
    own, rows = rdms(model).values[0], brain.values
    expected = [np.mean([brute(method, own, r) for r in rows[:2]]), brute(method, own, rows[2])]
    np.testing.assert_allclose(found.score.sel(metric=name).values[0], expected, atol=1e-5)
    assert found.score.sel(metric=f"{name}.group")[0, 0].item() == pytest.approx(
        brute(method, own, rows[:2].mean(0)), abs=1e-5)
    moved = [square(own)[o][:, o][FIRST, SECOND] for o in row_permutations(N, 19)]
    np.testing.assert_allclose(found.null.sel(metric=name, target="EVC")[:, 0],
                               [brute(method, m, rows[2]) for m in moved], atol=1e-5)
    if method == "rho_a":
        return
    assert "delete-half" in attrs_of(found)["interval"][name]["method"]
    drawn = make_resamples(IDS, 10, kind="subsample").indices
    subs = []
    for rows_of in drawn:
        i = np.sort(rows_of)
        a, b = np.triu_indices(len(i), 1)
        subs.append(brute(method, square(own)[i[a], i[b]], square(rows[2])[i[a], i[b]]))
    spread = np.sqrt(4 / 5) * (np.array(subs) - np.mean(subs))
    np.testing.assert_allclose(found.bootstrap.sel(metric=name, target="EVC")[:, 0], expected[1] + spread, atol=1e-4)


def test_resampled_rho_a_is_spearmans_where_nothing_is_tied():
    rng = np.random.default_rng(0)
    models, rows = rng.random((2, 36)).astype(np.float32), rng.random((3, 36)).astype(np.float32)
    counts = make_resamples(IDS, 6).counts()
    one, two = (bootstrap_rdms(models, rows, FIRST, SECOND, counts, m, device="cpu") for m in ("rho_a", "spearman"))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_model_that_ties_is_favoured_by_spearman_alone():
    """A step model and one that breaks its ties at random predict equally well: equal tau-a and rho-a on average."""
    rng = np.random.default_rng(0)
    true = np.sort(rng.random(36))
    step = (np.arange(36) >= 18).astype(float)
    broken = np.array([step + 1e-3 * rng.random(36) for _ in range(60)])
    models = make_rdms(np.concatenate([step[None], broken]), stimulus_ids=IDS, targets=[f"m{k}" for k in range(61)])
    found = na.compare(models, make_rdms(true[None], stimulus_ids=IDS), n_permutations=0, device="cpu",
                       metric=["rsa.spearman", "rsa.tau_a", "rsa.rho_a"])
    gain = (found.score[:, 0] - found.score[:, 1:].mean("space")).values.ravel()
    assert gain[0] > 0.05 and np.abs(gain[1:]).max() < 0.02


def test_judged_pairs_alone_have_tau_a_but_no_whitening(model):
    judged = rdms(model).isel(pair=np.random.default_rng(0).permutation(36)[:25])
    target = make_rdms(judged.values, pairs=(judged.stimulus_b.values, judged.stimulus_a.values), targets=["rated"])
    found = na.compare(model, target, metric=["rsa.tau_a", "rsa.rho_a"], n_permutations=19, n_bootstraps=5,
                       device="cpu")
    np.testing.assert_allclose(found.score.values.ravel(), 1, atol=1e-5)
    assert (found.p == 0.05).all()
    with pytest.raises(ValueError, match=r"needs every pair of the 9 stimuli, but the targets lack 11 of 36"):
        na.compare(model, target, metric="rsa.cosine.whitened", n_permutations=0)


def test_pairs_in_another_order_are_whitened_all_the_same(model, brain):
    straight, turned = (na.compare(model, b, metric=NAMES, n_permutations=9, device="cpu")
                        for b in (brain, brain.isel(pair=slice(None, None, -1))))
    np.testing.assert_allclose(turned.score, straight.score, atol=1e-6)
    assert turned.null_mean.notnull().all()


def test_a_stimulus_with_nan_costs_its_own_pairs_and_keeps_its_null(model, brain):
    broken = model.copy(deep=True)
    broken[3, 0] = np.nan
    with pytest.warns(NeuroalignWarning, match=r"'s3' hold NaN"):
        found = na.compare(broken, brain, metric="rsa.tau_a", n_permutations=19, device="cpu")
    kept = (FIRST != 3) & (SECOND != 3)
    expected = brute("tau_a", rdms(model).values[0][kept], brain.values[2][kept])
    assert found.score.sel(target="EVC").item() == pytest.approx(expected, abs=1e-6) and found.p.notnull().all()
    with pytest.warns(NeuroalignWarning), pytest.raises(ValueError, match="the models lack 8 of 36"):
        na.compare(broken, brain, metric="rsa.pearson.whitened", n_permutations=0)


def test_layers_are_not_chosen_by_metrics_that_cannot_be_resampled(model, brain):
    with pytest.raises(ValueError, match=r"got 'rsa.tau_a', expected a per-subject metric"):
        na.alignment.compare_selected([model], brain, metric="rsa.tau_a")
