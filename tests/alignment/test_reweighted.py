"""Feature-reweighted RSA against scipy's bounded least squares, on planted weights, and under no relation."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear

import neuroalign as na
from neuroalign.alignment import reweighted_rsa
from neuroalign.alignment.reweighted import reweighted_distances
from neuroalign.data import make_features

N = 36
IDS = [f"s{k:02d}" for k in range(N)]
FIRST, SECOND = np.triu_indices(N, 1)


def space(seed, model, p=6):
    return make_features(np.random.default_rng(seed).standard_normal((N, p)), IDS, model=model)


def test_weights_equal_bounded_least_squares():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((N, 5)), rng.random(len(FIRST))
    target += 0.3 * (x[FIRST, 0] - x[SECOND, 0]) ** 2
    train, test = np.arange(24), np.arange(24, N)
    predicted, pairs = reweighted_distances(x, target, FIRST, SECOND, train, test, penalty=0.05)
    axes = np.linalg.svd(x[train] - x[train].mean(0), full_matrices=False)[2].T
    squares = ((x[FIRST] - x[SECOND]) @ axes) ** 2
    own = (FIRST < 24) & (SECOND < 24)
    unit = np.sqrt((squares[own] ** 2).mean(0))
    design = squares[own] / unit
    stacked = np.concatenate([design - design.mean(0), np.sqrt(0.05 * own.sum()) * np.eye(5)])
    wanted = np.concatenate([target[own] - target[own].mean(), np.zeros(5)])
    weights = lsq_linear(stacked, wanted, (0, np.inf), tol=1e-12).x / unit
    assert np.array_equal(pairs, np.flatnonzero((FIRST >= 24) & (SECOND >= 24)))
    np.testing.assert_allclose(predicted, squares[pairs] @ weights, atol=1e-5)


def test_planted_weights_are_found_where_the_plain_rdm_misses_them():
    x = space(0, "x")
    y = make_features(x.values * np.array([3, 2, 1, 0.1, 0.1, 0.1]), IDS, model="y")
    options = {"rdm": "sqeuclidean", "device": "cpu"}
    assert reweighted_rsa(x, y, n_permutations=0, **options).score < 0.8  # components are not the features
    plain = na.compare(x, y, n_permutations=0, **options).score.item()
    found = reweighted_rsa([x, space(5, "z")], y, n_components=None, n_permutations=9, n_splits=4, **options)
    good, other = found.sel(space="x::all").squeeze(), found.sel(space="z::all").squeeze()
    assert good.score > 0.8 > plain + 0.1 and good.p == 0.1
    assert abs(other.score) < 0.3 and other.p > 0.1
    assert "weights fitted again" in na.scores.attrs_of(found)["null"]


def test_unrelated_features_score_about_zero():
    found = reweighted_rsa([space(k, f"m{k}") for k in range(10, 22)], space(0, "y"), n_permutations=0, n_splits=4,
                           penalties=[0.01], device="cpu")
    assert abs(found.score.mean()) < 0.08


@pytest.mark.parametrize("options, words", [
    ({"n_splits": 12}, "12 folds of 36 stimuli leave 3 in one, expected at least 4"),
    ({"n_components": 0}, "n_components: got 0"), ({"penalties": [0]}, "penalties: got .* above 0"),
    ({"metric": "rsa.spearman.group"}, "expected a per-subject RSA metric"),
])
def test_wrong_arguments_are_explained(options, words):
    with pytest.raises(ValueError, match=words):
        reweighted_rsa(space(0, "x"), space(1, "y"), **options)
