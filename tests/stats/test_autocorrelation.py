"""Autocorrelation against its definition, effective samples against the closed form of autoregressive noise."""

import numpy as np
import pytest
from scipy.signal import lfilter

from neuroalign.stats import autocorrelation, effective_samples


def ar(n, rho, columns, rng):
    return lfilter([1], [1, -rho], rng.standard_normal((n + 500, columns)), axis=0)[500:]


def test_autocorrelation_equals_its_definition_and_leaves_out_constant_columns():
    values = np.random.default_rng(0).standard_normal((40, 3))
    centred = values - values.mean(0)
    expected = [((centred[k:] * centred[: 40 - k]).sum(0) / (centred**2).sum(0)).mean() for k in range(11)]
    np.testing.assert_allclose(autocorrelation(values, 10), expected, atol=1e-12)
    np.testing.assert_allclose(autocorrelation(np.c_[values, np.full(40, 7.3)], 10), expected, atol=1e-12)
    np.testing.assert_allclose(autocorrelation(1e-13 * values, 10), expected, atol=1e-12)  # teslas
    assert autocorrelation(np.ones((9, 2)), 2).tolist() == [1, 0, 0]
    assert autocorrelation(np.full((9, 2), 1e6 + 0.1), 2).tolist() == [1, 0, 0]


@pytest.mark.parametrize(("n", "rho"), [(2000, 0.0), (2000, 0.5), (2000, 0.9), (4000, 0.95)])
def test_effective_samples_of_autoregressive_series(n, rho):
    rng = np.random.default_rng(1)
    found = effective_samples(n, autocorrelation(ar(n, rho, 60, rng)), autocorrelation(ar(n, rho, 60, rng)))
    assert found == pytest.approx(n * (1 - rho**2) / (1 + rho**2), rel=0.2)


def test_the_spread_of_correlations_is_that_of_the_effective_samples():
    rng = np.random.default_rng(2)
    a, b = ar(1000, 0.9, 3000, rng), ar(1000, 0.9, 3000, rng)
    r = ((a - a.mean(0)) * (b - b.mean(0))).mean(0) / a.std(0) / b.std(0)
    assert 1 / r.var() == pytest.approx(effective_samples(1000, autocorrelation(a), autocorrelation(b)), rel=0.2)
