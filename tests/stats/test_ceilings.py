"""Reliability against its known value in simulated data, and the ceilings that follow."""

import numpy as np
import pytest

from neuroalign.stats import ceiling_of, ncsnr, repeat_reliability, spearman_brown, split_half_reliability


def test_spearman_brown_agrees_with_its_definition():
    # The mean of k parallel measures with signal share s of each: k s / (k s + 1 - s).
    for share in (0.1, 0.5, 0.9):
        for k in (0.5, 2, 27 / 13):
            assert spearman_brown(share, k) == pytest.approx(k * share / (k * share + 1 - share))


@pytest.mark.parametrize("n_subjects", [6, 7, 27])
def test_split_half_finds_the_reliability_of_the_mean(n_subjects):
    rng = np.random.default_rng(0)
    noise = np.array([0.5, 1.0, 3.0, 10.0])
    signal = rng.standard_normal((1, 4000, 4))
    arrays = signal + noise * rng.standard_normal((n_subjects, 4000, 4))
    expected = 1 / (1 + noise**2 / n_subjects)
    np.testing.assert_allclose(split_half_reliability(arrays, n_splits=50), expected, atol=0.05)
    # It is the squared correlation of the mean with the signal: what a perfect model would reach.
    reached = [np.corrcoef(arrays.mean(0)[:, k], signal[0, :, k])[0, 1] for k in range(4)]
    np.testing.assert_allclose(np.sqrt(expected), reached, atol=0.03)


def test_repeats_of_unequal_number_count_by_their_noise():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 7, 3000)
    ids = rng.permutation(np.repeat(np.arange(3000), counts))
    signal, noise = rng.standard_normal((3000, 3)), np.array([0.5, 1.0, 2.0])
    values = signal[ids] + noise * rng.standard_normal((len(ids), 3))
    expected = 1 / (1 + noise**2 * (1 / counts).mean())
    np.testing.assert_allclose(repeat_reliability(values, ids, n_splits=30), expected, atol=0.04)


def test_repeats_in_equal_number_agree_with_subjects():
    rng = np.random.default_rng(2)
    arrays = rng.standard_normal((1, 500, 2)) + rng.standard_normal((4, 500, 2))
    rho = repeat_reliability(arrays.reshape(-1, 2), np.tile(np.arange(500), 4), n_splits=100)
    np.testing.assert_allclose(rho, split_half_reliability(arrays, n_splits=100), atol=0.04)


def test_without_repeats_nothing_is_known():
    assert np.isnan(repeat_reliability(np.ones((5, 2)), ["a", "b", "c", "d", "d"])).all()
    with pytest.raises(ValueError, match="at least 2 subjects"):
        split_half_reliability(np.ones((1, 5, 2)))


def test_nan_and_constant_units_concern_themselves_alone():
    arrays = np.random.default_rng(3).standard_normal((6, 50, 3))
    arrays[2, 3, 0], arrays[:, :, 1] = np.nan, 1.0
    assert np.isnan(split_half_reliability(arrays, n_splits=5)).tolist() == [True, True, False]


def test_a_ceiling_belongs_to_its_aggregation():
    rho = np.array([0.81, 0.04, -0.2, np.nan, 1.21])
    # Values above 1 are reported, not clipped.
    np.testing.assert_allclose(ceiling_of("r.pooled", rho), [0.9, np.nan, np.nan, np.nan, 1.1])
    np.testing.assert_allclose(ceiling_of("r2.pooled", rho), [0.81, np.nan, np.nan, np.nan, 1.21])
    assert np.isnan(ceiling_of("r.foldmean", rho)).all()
    np.testing.assert_allclose(ceiling_of("r.foldmean", rho, "foldmean")[0], 0.9)
    assert np.isnan(ceiling_of("rsa.spearman", rho)).all()


def test_ncsnr_finds_the_planted_ratio_and_gives_the_reliability_of_the_mean():
    rng, n = np.random.default_rng(0), 3
    planted = np.array([0.6, 1.0, 2.0, 0.0])
    signal = np.repeat(rng.standard_normal((3000, 4)) * planted, n, 0)
    values, ids = signal + rng.standard_normal(signal.shape), np.repeat(np.arange(3000), n)
    np.testing.assert_allclose(ncsnr(values, ids)[:3], planted[:3], atol=0.06)
    assert ncsnr(values, ids)[3] < 0.2
    rho = repeat_reliability(values, ids, method="ncsnr")
    np.testing.assert_allclose(rho[:3], planted[:3] ** 2 / (planted[:3] ** 2 + 1 / n), atol=0.04)
    np.testing.assert_allclose(rho[:3], repeat_reliability(values, ids, n_splits=20)[:3], atol=0.04)
    assert np.isnan(ncsnr(values[:6], np.repeat([0, 1], 3))).all()
