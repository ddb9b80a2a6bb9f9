"""p-values against counting by hand, false discovery rates against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, permutation_test

from neuroalign.stats import fdr, max_permutation_p, permutation_p


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=30), st.floats(-2, 2))
def test_p_counts_the_statistics_that_reach_the_score(null, score):
    null = np.array(null)
    reached = (null >= score - 1e-9 * abs(score)).sum()
    assert permutation_p(score, null) == (1 + reached) / (1 + len(null))
    assert permutation_p(-score, -null, alternative="less") == permutation_p(score, null)


def test_p_agrees_with_scipy_on_all_permutations():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 6))
    peer = permutation_test((x,), lambda a: np.corrcoef(a, y)[0, 1], permutation_type="pairings",
                            alternative="greater", n_resamples=np.inf)
    # scipy's exact null holds the identity, ours leaves it out and counts it once.
    null = np.sort(peer.null_distribution)
    without = np.delete(null, np.abs(null - peer.statistic).argmin())
    assert permutation_p(peer.statistic, without) == pytest.approx(peer.pvalue)


def test_p_is_never_zero_and_nan_stays_nan():
    null = np.zeros((99, 3))
    null[:, 2] = np.nan
    np.testing.assert_array_equal(permutation_p(np.array([1.0, np.nan, 1.0]), null), [0.01, np.nan, np.nan])


def test_two_sided_p_is_about_the_mean_of_the_null():
    null = np.linspace(-1, 1, 199) - 0.5
    assert permutation_p(0.4, null, alternative="two-sided") == pytest.approx(permutation_p(0.4, null) * 2, abs=0.01)


def test_two_sided_p_holds_its_level_where_permutations_are_few():
    # The score is one of them: about the mean of the null alone, .063 of p were at or below .05.
    x = np.random.default_rng(0).standard_normal((20, 40000))
    assert (permutation_p(x[0], x[1:], alternative="two-sided") <= 0.05).mean() == pytest.approx(0.05, abs=0.004)


def test_an_infinite_score_is_reached_by_infinite_statistics_alone():
    assert permutation_p(np.inf, np.array([1.0, 2.0, np.inf])) == 0.5
    assert permutation_p(-np.inf, np.array([1.0, 2.0, 3.0]), alternative="less") == 0.25


@pytest.mark.parametrize("method", ["bh", "by"])
def test_fdr_equals_scipy_within_each_family(method):
    p = np.random.default_rng(1).uniform(size=(2, 3, 5, 4)) ** 2
    q = fdr(p, method=method, axis=(2, 3))
    for k in np.ndindex(2, 3):
        np.testing.assert_allclose(q[k], false_discovery_control(p[k].ravel(), method=method).reshape(5, 4))
    np.testing.assert_allclose(fdr(p, method=method).ravel(), false_discovery_control(p.ravel(), method=method))
    np.testing.assert_allclose(fdr(p, axis=0)[:, 1, 2, 3], false_discovery_control(p[:, 1, 2, 3]))


def test_nan_are_no_tests():
    p = np.array([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(fdr(p)[[0, 2, 3]], false_discovery_control([0.01, 0.04, 0.03]))
    assert np.isnan(fdr(p)[1]) and np.isnan(fdr([np.nan, np.nan])).all()


def test_unknown_words_and_shapes_are_explained():
    with pytest.raises(ValueError, match="'bh', 'by'"):
        fdr([0.1], method="bonferroni")
    with pytest.raises(ValueError, match="'greater', 'less'"):
        permutation_p(0.1, [0.2], alternative="more")
    with pytest.raises(ValueError, match="expected \\(n_permutations"):
        permutation_p([0.1, 0.2], [[0.2], [0.3]])


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_p_of_a_maximum_equals_a_loop_over_families(alternative):
    rng = np.random.default_rng(0)
    null, score = rng.standard_normal((50, 2, 3, 4)), rng.standard_normal((2, 3, 4)) + 1
    null[:, 0, 1, 2] = np.nan
    sign = 1 if alternative == "greater" else -1
    found = max_permutation_p(score, null, alternative=alternative, axis=(1, 2))
    for k in range(2):
        best = np.nanmax(sign * null[:, k], axis=(1, 2))
        expected = (1 + (best[:, None, None] >= sign * score[k]).sum(0)) / 51
        known = ~np.isnan(null[0, k])
        np.testing.assert_allclose(found[k][known], expected[known])
    assert np.isnan(found[0, 1, 2]) and np.isfinite(found).sum() == 23
    assert (found[0] >= permutation_p(score, null, alternative=alternative)[0] - 1e-12)[~np.isnan(null[0, 0])].all()
