"""Ranks and row correlations against scipy, with ties and gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr, rankdata, spearmanr

from neuroalign.stats.correlations import correlate_rows, rank_rows, unit_rows

NUMBERS = st.floats(-100, 100, width=32)


VALUES = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)),
                elements=st.sampled_from(range(6)) | NUMBERS)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_ranks_equal_scipys_with_ties(values):
    np.testing.assert_array_equal(rank_rows(values), rankdata(values, axis=1))


def test_nan_are_not_ranked():
    assert rank_rows([[3.0, np.nan, 1.0, 3.0]])[0].tolist()[2:] == [1.0, 2.5]
    assert np.isnan(rank_rows([[3.0, np.nan, 1.0]])[0, 1])
    assert np.isnan(rank_rows([[np.nan, np.nan]])).all()


@pytest.mark.parametrize("method, reference", [("spearman", spearmanr), ("pearson", pearsonr)])
def test_correlations_equal_scipys_where_pairs_are_missing(method, reference):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (3, 60)).astype(float), rng.standard_normal((4, 60))
    a[1, :7] = np.nan
    b[2, 3:30] = np.nan
    found = correlate_rows(a, b, method, device="cpu")
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            both = ~np.isnan(x) & ~np.isnan(y)
            assert found[i, j] == pytest.approx(reference(x[both], y[both])[0], abs=2e-6)


def test_a_large_mean_does_not_drown_a_pearson_correlation():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 500))
    found = correlate_rows(a + 1e5, b - 1e4, "pearson", device="cpu")[0, 0]
    assert found == pytest.approx(pearsonr(a, b)[0], abs=1e-6)


def test_cosine_is_not_centred():
    a, b = np.array([3.0, 4.0, 0.0]), np.array([4.0, 3.0, 0.0])
    assert correlate_rows(a, b, "cosine", device="cpu")[0, 0] == pytest.approx(24 / 25, abs=1e-6)


def test_constant_rows_and_too_few_shared_columns_give_nan():
    rows = np.array([[2.0, 2.0, 2.0, 2.0], [1.0, 2.0, np.nan, np.nan], [1.0, 2.0, 3.0, 5.0]])
    for method in ("spearman", "pearson"):
        found = correlate_rows(rows, rows[2:], method, device="cpu")[:, 0]
        assert np.isnan(found[:2]).all() and found[2] == pytest.approx(1)
    assert np.isnan(unit_rows(np.full((1, 5), 0.1), "pearson")).all()


def test_many_columns_do_not_drift():
    rng = np.random.default_rng(2)
    a = rng.standard_normal(1_500_000).astype(np.float32)
    b = (0.7 * a + rng.standard_normal(a.size)).astype(np.float32)
    expected = np.corrcoef(a.astype(np.float64), b.astype(np.float64))[0, 1]
    assert correlate_rows(a, b, "pearson", device="cpu")[0, 0] == pytest.approx(expected, abs=1e-6)


def test_rows_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"3 and 4 values.*same number"):
        correlate_rows(np.zeros((1, 3)), np.zeros((1, 4)))


@pytest.mark.parametrize("values", [
    [0.0, -0.0, 1.0, -1.0, 0.0], [1e-42, -1e-42, 3e38, -3e38, 1e-42], [np.inf, 1.0, -np.inf, 1.0, 2.0],
    [np.nan, 2.0, 1.0, np.nan, 2.0], [5.0, 5.0, 5.0, 5.0, 5.0], [-3.0, -3.0, -1.0, -2.0, 7.0],
])
def test_ranks_of_float32_by_packed_sorting_equal_scipys(values):
    row = np.array(values, np.float32)
    expected = rankdata(row, nan_policy="omit")
    np.testing.assert_array_equal(rank_rows(row)[0], expected)
    np.testing.assert_array_equal(rank_rows(row.astype(np.float64))[0], expected)
    if np.isfinite(row).all() and (row != row[0]).any():
        ranks = expected - expected.mean()
        np.testing.assert_allclose(unit_rows(row, "spearman")[0], ranks / np.linalg.norm(ranks), atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, st.integers(3, 60), elements=st.integers(-4, 4).map(float)))
def test_unit_ranks_with_many_ties_equal_scipys(row):
    unit = unit_rows(row, "spearman")[0]
    if (row == row[0]).all():
        assert np.isnan(unit).all()
        return
    ranks = rankdata(row) - (len(row) + 1) / 2
    np.testing.assert_allclose(unit, ranks / np.linalg.norm(ranks), atol=1e-6)
    whole = np.sqrt((len(row) ** 3 - len(row)) / 12)
    np.testing.assert_allclose(unit_rows(row, "rho_a")[0], ranks / whole, atol=1e-6)
