"""Means over subjects with units of their own: by brute force, against scipy, and the coverage of their intervals."""

import numpy as np
import pytest
from scipy import stats as theirs

from neuroalign.stats import expanded_interval, hierarchical_means, subject_means

SUBJECTS = np.repeat(list("abcdefg"), [2, 9, 3, 3, 5, 4, 6])


def test_a_subject_with_many_units_does_not_count_for_more():
    means, names = subject_means(np.array([[1.0, np.nan], [3, 4], [9, np.nan]]), ["b", "b", "a"])
    assert names == ["b", "a"]
    np.testing.assert_array_equal(means, [[2, 4], [9, np.nan]])


@pytest.mark.parametrize("draw", ["subjects", "both"])
def test_the_spread_of_resamples_is_that_of_the_formula(draw):
    values = np.random.default_rng(0).standard_normal((32, 3)) + np.unique(SUBJECTS, return_inverse=True)[1][:, None]
    drawn = hierarchical_means(values, SUBJECTS, 40000, draw=draw)
    parts = [values[s == SUBJECTS] for s in "abcdefg"]
    variance = np.var([p.mean(0) for p in parts], axis=0) / 7
    if draw == "both":
        variance = variance + np.mean([p.var(0) / len(p) for p in parts], 0) / 7
    np.testing.assert_allclose(drawn.mean(0), np.mean([p.mean(0) for p in parts], 0), atol=0.02)
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.04)
    assert np.array_equal(drawn[:5], hierarchical_means(values, SUBJECTS, 40000, draw=draw)[:5])


def test_of_normal_means_the_expanded_interval_is_about_that_of_t():
    x = np.random.default_rng(1).standard_normal(30)
    drawn = hierarchical_means(x, np.arange(30), 40000)
    expected = theirs.t.interval(0.95, 29, x.mean(), theirs.sem(x))
    np.testing.assert_allclose(expanded_interval(drawn, 30), expected, atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("n_subjects", [6, 8, 20])
@pytest.mark.parametrize(("between", "within"), [(0.5, 1.0), (0.2, 2.0)])
def test_intervals_hold_the_mean_of_the_population(n_subjects, between, within):
    rng, held = np.random.default_rng(0), {"subjects": [], "both": []}
    for k in range(60):  # 20 studies at once share their numbers of units
        sizes = rng.integers(5, 20, n_subjects)
        subjects = np.repeat(np.arange(n_subjects), sizes)
        values = (between * rng.standard_normal((n_subjects, 20)))[subjects]
        values += within * rng.standard_normal(values.shape)
        for draw, found in held.items():
            low, high = expanded_interval(hierarchical_means(values, subjects, 1000, draw=draw, random_state=k),
                                          n_subjects)
            found.append((low <= 0) & (high >= 0))
    assert 0.92 <= np.mean(held["subjects"]) <= 0.97 and np.mean(held["both"]) >= 0.94, held
