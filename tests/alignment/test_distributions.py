"""Bures and sliced Wasserstein distances against scipy, closed forms and assignment, and the null of swapped sides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment

import neuroalign as na
from neuroalign.alignment import bures_distance, sliced_wasserstein
from neuroalign.alignment.distributions import _directions, bures_swaps, sliced_swaps
from neuroalign.data import make_features
from neuroalign.errors import NeuroalignWarning


def clouds(n=40, m=30, p=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, p)) @ rng.standard_normal((p, p)) + 3, 2 * rng.standard_normal((m, p)) - 1


def gaussian_distance(x, y):
    """The textbook formula with scipy's matrix root."""
    s, t = (np.cov(v.T, bias=True) for v in (x, y))
    root = sqrtm(s)
    cross = np.trace(np.real(sqrtm(root @ t @ root)))
    return np.sqrt(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * cross)


def transport_1d(x, y):
    """Squared cost of the best assignment of copies, so that both sides have as many points."""
    n, m = len(x), len(y)
    cost = (np.repeat(x, m)[:, None] - np.repeat(y, n)[None, :]) ** 2
    return cost[linear_sum_assignment(cost)].mean()


@pytest.mark.parametrize("sizes", [(40, 30, 5), (40, 40, 5), (30, 8, 3)])
def test_bures_equals_the_formula(sizes):
    x, y = clouds(*sizes)
    assert bures_distance(x, y, device="cpu") == pytest.approx(gaussian_distance(x, y), abs=1e-6)
    swap = np.random.default_rng(1).random((3, min(len(x), len(y)))) < 0.5
    n = swap.shape[1]
    x, y = x[:n], y[:n]
    expected = [gaussian_distance(np.where(s[:, None], y, x), np.where(s[:, None], x, y)) for s in swap]
    np.testing.assert_allclose(bures_swaps(x, y, swap, device="cpu"), expected, atol=1e-6)


def test_wide_clouds_are_rotated_first():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 8, 60))
    swap = np.zeros((1, 8), bool)
    assert bures_swaps(x, y, swap, device="cpu")[0] == pytest.approx(bures_distance(x, y, device="cpu"), abs=1e-9)


@pytest.mark.parametrize("sizes", [(12, 12), (12, 9), (5, 14)])
def test_sliced_wasserstein_equals_assignment_along_each_direction(sizes):
    x, y = clouds(*sizes)
    directions = _directions(torch.zeros((1, 5), dtype=torch.float64), 7, 3).numpy()
    expected = np.sqrt(np.mean([transport_1d(x @ d, y @ d) for d in directions.T]))
    found = sliced_wasserstein(x, y, n_directions=7, random_state=3, device="cpu")
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_shift_has_a_closed_form():
    """Mean of (v.u)^2 over the sphere: |v|^2 / p."""
    x = clouds()[0]
    v = np.array([3.0, 0, -4, 0, 0])
    assert sliced_wasserstein(x, x + v, n_directions=20000) == pytest.approx(np.sqrt(25 / 5), rel=0.02)
    assert bures_distance(x, x + v) == pytest.approx(5, abs=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_distances_are_symmetric_zero_for_equal_clouds_and_blind_to_order(seed):
    x, y = clouds(seed=seed)
    order = np.random.default_rng(seed).permutation(len(x))
    for call in (bures_distance, sliced_wasserstein):
        value = call(x, y, device="cpu")
        assert call(y, x, device="cpu") == pytest.approx(value, abs=1e-9)
        assert call(x[order], y, device="cpu") == pytest.approx(value, abs=1e-9)
        assert call(x, x[order], device="cpu") < 1e-6 and value >= 0


def test_swapped_sides_equal_distances_of_swapped_clouds():
    x, y = clouds(20, 20)
    swap = np.random.default_rng(1).random((4, 20)) < 0.5
    expected = [sliced_wasserstein(np.where(s[:, None], y, x), np.where(s[:, None], x, y), device="cpu") for s in swap]
    np.testing.assert_allclose(sliced_swaps(x, y, swap, device="cpu"), expected, atol=1e-9)


def test_compare_says_that_two_sides_differ_and_not_that_equal_ones_do():
    rng, ids = np.random.default_rng(0), [f"s{k:02d}" for k in range(30)]
    x = rng.standard_normal((30, 4))
    spaces = [make_features(x + d, ids, model=m) for m, d in (("same", 0.5 * rng.standard_normal((30, 4))), ("far", 2))]
    names = ["bures", "wasserstein.sliced"]
    found = na.compare(spaces, make_features(x[rng.permutation(30)], ids, model="x"), metric=names, n_permutations=39,
                       n_bootstraps=20, device="cpu")
    assert (found.p.sel(space="far::all") == 1 / 40).all() and (found.p.sel(space="same::all") > 0.05).all()
    assert "sides of single stimuli swapped" in na.scores.attrs_of(found)["null"]


def test_sides_without_shared_features_are_nan_and_named():
    ids = [f"s{k:02d}" for k in range(10)]
    a, b, c = (make_features(np.random.default_rng(p).random((10, p)), ids, model=str(p)) for p in (3, 4, 3))
    with pytest.warns(NeuroalignWarning, match=r"bures of '4::all' is NaN: .*do not share their features"):
        found = na.compare([a, b], c, metric="bures", n_permutations=9, device="cpu")
    assert np.isnan(found.score.values.ravel()).tolist() == [False, True]


@pytest.mark.parametrize("call, words", [
    (lambda x, y: bures_distance(x, y[:, :2]), "got 5 and 2, expected the same features"),
    (lambda x, y: sliced_wasserstein(x, y, n_directions=0), "n_directions: got 0"),
    (lambda x, y: bures_distance(x[:3], y), "got 3 stimuli, expected at least 4"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(*clouds())


def test_nan_gives_nan():
    x, y = clouds()
    x[0, 0] = np.nan
    assert np.isnan(bures_distance(x, y)) and np.isnan(sliced_wasserstein(x, y))
