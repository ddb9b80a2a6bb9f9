"""Scores of the first m dimensions against direct calls; the one-standard-error rule; the funnel against a loop."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import neuroalign as na
from neuroalign.alignment import funnel_retrieval, linear_cka, nested_scores, smallest_dimension
from neuroalign.data import make_features, make_responses

IDS = [f"s{k:03d}" for k in range(120)]


def features(p=16, seed=0):
    return make_features(np.random.default_rng(seed).standard_normal((120, p)), IDS, model="toy")


def responses(x, used, noise=0.3, n=4):
    rng = np.random.default_rng(1)
    signal = x.values[:, :used] @ rng.choice([-1, 1], (used, n)) / np.sqrt(used)
    return make_responses(signal + noise * rng.standard_normal((120, n)), IDS, [f"v{k}" for k in range(n)])


def test_prefixes_equal_direct_calls_of_any_score():
    x = features()
    y, other = responses(x, 4), features(9, seed=5)

    def encoding(part):
        return na.encode(part, y, cv=3, alphas=[1.0])

    found = nested_scores(x, encoding, dims=[2, 4])
    assert found.space.values.tolist() == ["toy::all[:2]", "toy::all[:4]", "toy::all[:16]"]
    assert found.n_dimensions.values.tolist() == [2, 4, 16]
    for m in (2, 4, 16):
        np.testing.assert_allclose(found.score.sel(space=f"toy::all[:{m}]"), encoding(x[:, :m]).score[:, 0], atol=1e-6)
    geometry = nested_scores(x, lambda part: na.compare(part, other, metric="cka.debiased", n_permutations=0))
    number = nested_scores(x, lambda part: linear_cka(part.values, other.values))
    np.testing.assert_allclose(geometry.score.values.ravel(), number.score.values.ravel(), atol=1e-6)
    assert geometry.n_dimensions.values.tolist() == [1, 2, 4, 8, 16]
    assert na.scores.concat([geometry, geometry.assign_coords(space=geometry.space + "again")]).sizes["space"] == 10


def test_components_are_fitted_on_the_training_stimuli_and_the_others_are_scored():
    x, seen = features(), []
    nested_scores(x, lambda part: seen.append(part) or 0.0, dims=[3], order="pca", train=IDS[:80])
    scaler = StandardScaler().fit(x.values[:80])
    pca = PCA(3).fit(scaler.transform(x.values[:80]))
    expected = pca.transform(scaler.transform(x.values[80:]))
    part = seen[0]
    assert part.stimulus_id.values.tolist() == IDS[80:]
    np.testing.assert_allclose(part.values * np.sign((part.values * expected).sum(0)), expected, atol=2e-4)
    moved = x.copy()
    moved.values[80:] += 100  # what is held out has no part in the fit
    nested_scores(moved, lambda part: seen.append(part) or 0.0, dims=[3], order="pca", train=IDS[:80])
    shift = seen[2].values - part.values
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-3)


def test_random_orders_are_drawn_and_averaged():
    x, seen = features(), []
    found = nested_scores(x, lambda part: seen.append(part.values) or part.values[0, 0], dims=[4], order="random",
                          n_orders=3)
    assert found.sizes["space"] == 6 and found.space.values[0] == "toy::all[random.0:4]"
    columns = [{int(np.flatnonzero((x.values == c[:, None]).all(0))[0]) for c in part.T} for part in seen]
    assert [len(c) for c in columns] == [4, 16] * 3 and columns[0] != columns[2]
    assert smallest_dimension(found, standard_error=100).item() == 4


def test_the_planted_number_of_dimensions_is_found():
    """Responses follow the first 4 of 16 features: 4 suffice in order, and hardly fewer in random orders."""
    x = features()
    y = responses(x, 4)

    def encoding(part):
        return na.encode(part, y, cv=4, alphas=[1.0], n_bootstraps=50, keep=["bootstrap"])

    found = nested_scores(x, encoding, dims=[1, 2, 3, 4, 8])
    best = smallest_dimension(found)
    assert (best == 4).all() and best.dims == ("metric", "neuroid")
    assert best.attrs["standard_error"] == "standard deviation over resamples"
    mixed = smallest_dimension(nested_scores(x, encoding, dims=[4], order="random", n_orders=2))
    assert (mixed == 16).all()


def curve(values, direction="cka.debiased", **more):
    spaces = [f"m[:{k}]" for k in (1, 2, 4)]
    return na.scores.make({"score": (("metric", "space", "target"), np.reshape(values, (1, 3, 1)))} | more,
                          {"metric": [direction], "space": spaces, "target": ["t"],
                           "n_dimensions": ("space", [1, 2, 4])})


@pytest.mark.parametrize("metric, values, error, m", [
    ("cka.debiased", [0.5, 0.8, 0.9], 0.15, 2), ("cka.debiased", [0.5, 0.8, 0.9], 0.05, 4),
    ("cka.debiased", [0.95, 0.8, 0.9], 0.0, 1), ("shape.procrustes", [0.5, 0.8, 0.9], 0.0, 1),
    ("shape.procrustes", [1.4, 1.0, 0.9], 0.1, 2), ("cka.debiased", [0.5, 0.8, np.nan], 0.1, np.nan)])
def test_the_rule_written_out(metric, values, error, m):
    found = smallest_dimension(curve(values, metric), standard_error=error + 1e-12)
    np.testing.assert_equal(found.item(), m)


def test_the_standard_error_is_that_of_what_was_kept():
    rng = np.random.default_rng(0)
    subjects = rng.standard_normal((9, 1, 3, 1))
    own = (("subject", "metric", "space", "target"), subjects)
    error = subjects[:, 0, 2, 0].std(ddof=1) / 3
    for margin, m in ((0.99, 2), (1.01, 4)):
        found = smallest_dimension(curve([0.0, 1 - margin * error, 1.0], subject_score=own))
        assert found.item() == m and found.attrs["standard_error"] == "spread over subjects"
    with pytest.raises(ValueError, match="hold no standard error.*standard_error="):
        smallest_dimension(curve([0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="no coord 'n_dimensions'"):
        smallest_dimension(curve([0.1, 0.2, 0.3]).drop_vars("n_dimensions"))


def test_funnel_equals_a_loop():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 32)) * np.linspace(2, 0.3, 32)
    q = x[:50] + rng.standard_normal((50, 32))
    found = funnel_retrieval(q, x, dims=[4, 8], shortlist=[20, 5])

    def near(v, rows, m):
        return [float(v[:m] @ x[r, :m] / np.linalg.norm(v[:m]) / np.linalg.norm(x[r, :m])) for r in rows]

    first = []
    for v in q:
        rows = np.arange(80)
        for m, count in ((4, 20), (8, 5), (32, 1)):
            rows = rows[np.argsort(-np.array(near(v, rows, m)), kind="stable")[:count]]
        first.append(rows[0])
    full = [int(np.argmax(near(v, range(80), 32))) for v in q]
    assert found.first.tolist() == first
    assert found.accuracy == np.mean(np.array(first) == np.arange(50))
    assert found.full_accuracy == np.mean(np.array(full) == np.arange(50))
    assert found.same == np.mean(np.array(full) == first)
    assert found.cost == (80 * 4 + 20 * 8 + 5 * 32) / (80 * 32)
    assert funnel_retrieval(q, x, dims=[1], shortlist=[80]).same == 1


def test_published_embeddings_need_few_of_their_dimensions_to_shortlist(mirror):
    image, text = np.load(mirror / "modality_gap" / "features_clip.npy")
    image, text = image - image.mean(0), text - text.mean(0)
    found = funnel_retrieval(image, text, dims=[128], shortlist=[100])
    assert found.cost < 0.5 and abs(found.full_accuracy - found.accuracy) < 0.03 and found.accuracy > 0.5


@pytest.mark.parametrize("call, words", [
    (lambda x: nested_scores([x, features(seed=1).rename("b").assign_coords(space_id="b")], len), "got 2 spaces"),
    (lambda x: nested_scores(x, len, dims=[0, 4, 99]), "dims: got '0', '99', expected numbers from 1 to 16"),
    (lambda x: nested_scores(x, len, order="pca"), "train: give the ids"),
    (lambda x: nested_scores(x, len, train=IDS[:9]), "train: give the ids"),
    (lambda x: nested_scores(x, len, order="pca", train=["nobody"]), "'nobody' not among the stimuli"),
    (lambda x: nested_scores(x, len, order="pca", train=IDS), "120 of 120 stimuli, expected at least 3, and others"),
    (lambda x: nested_scores(x, lambda part: na.compare({"a": part, "b": part}, part, metric="cka.debiased",
                                                       n_permutations=0)), "Scores of 2 spaces"),
    (lambda x: funnel_retrieval(x.values, x.values[:, :3]), "queries have 16 features, candidates 3"),
    (lambda x: funnel_retrieval(x.values, x.values, dims=[8, 4], shortlist=[9, 5]), "dims: got"),
    (lambda x: funnel_retrieval(x.values, x.values, dims=[8], shortlist=[500]), "shortlist: got"),
    (lambda x: funnel_retrieval(x.values, x.values, dims=[8], shortlist=[9], target=[3]), "target: expected"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(features())
