"""Percentile ends, half samples and resampled means against pandas and against what is known exactly."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest

from neuroalign.stats import LEVEL, half_sample_deviations, make_resamples, mean_interval, percentile_interval

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("level", [LEVEL, 0.8])
def test_ends_hold_the_middle_of_the_draws(level):
    draws = RNG.standard_normal((101, 3))
    tails = [(1 - level) / 2, (1 + level) / 2]
    np.testing.assert_allclose(percentile_interval(draws, level=level), pd.DataFrame(draws).quantile(tails), rtol=1e-12)
    np.testing.assert_array_equal(percentile_interval(draws.T, axis=-1, level=level),
                                  percentile_interval(draws, level=level))


def test_nan_draws_are_left_out_where_asked_for_and_without_a_warning():
    draws = RNG.standard_normal((60, 3))
    draws[:7, 1] = draws[:, 2] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = percentile_interval(draws, skip_nan=True)
    np.testing.assert_array_equal(found[:, 1], percentile_interval(draws[7:, 1]))
    assert np.isnan(found).tolist() == [[False, False, True]] * 2
    assert np.isnan(percentile_interval(draws)).tolist() == [[False, True, True]] * 2


@pytest.mark.parametrize("n", [8, 9])
def test_all_half_samples_of_a_mean_vary_as_the_mean_does(n):
    x = RNG.standard_normal((n, 2))
    means = np.stack([x[list(rows)].mean(0) for rows in itertools.combinations(range(n), n // 2)])
    deviations = half_sample_deviations(means, n)
    np.testing.assert_allclose(deviations.var(0), x.var(0, ddof=1) / n, rtol=1e-12)
    np.testing.assert_allclose(deviations.mean(0), 0, atol=1e-12)


def test_interval_of_means_over_resampled_units():
    values, units = RNG.standard_normal((2, 4, 12)), list("abcdefghijkl")
    rows = make_resamples(units, 50, random_state=3, purpose="here").indices
    wanted = np.quantile([values[..., r].mean(-1) for r in rows], [0.025, 0.975], axis=0)
    np.testing.assert_allclose(mean_interval(values, units, 50, random_state=3, purpose="here"), wanted, atol=1e-12)
    low, high = mean_interval(values, units, 0)
    assert low.shape == high.shape == (2, 4) and np.isnan([low, high]).all()
