"""Reliability of measured arrays, and the noise ceilings that follow from it.

A ceiling belongs to the very array that was predicted: the reliability of a mean is that of the number averaged.
"""

import numpy as np

from neuroalign.errors import check_option
from neuroalign.stats.random import child_rng

__all__ = ["FLOOR", "ceiling_of", "ncsnr", "repeat_reliability", "spearman_brown", "split_half_reliability"]

FLOOR = 0.05  # a reliability of at most this is no ground to normalise on


def spearman_brown(r, factor: float):
    """Reliability of a measure made `factor` times longer (Spearman 1910; Brown 1910, Br J Psychol).

    Examples
    --------
    >>> spearman_brown(0.5, 2)
    0.6666666666666666
    """
    return factor * r / (1 + (factor - 1) * r)


def split_half_reliability(arrays, *, n_splits: int = 200, random_state: int = 0) -> np.ndarray:
    """Reliability of the mean over subjects (or repeats), by correlating the means of random halves.

    Parameters
    ----------
    arrays : array of shape (n_subjects, n_samples, n_units)
        What was averaged.
    n_splits : int
        Random splits; the correlations are averaged, then stepped up to all subjects by Spearman-Brown.

    Returns
    -------
    array of shape (n_units,)
        The reliability rho of ``arrays.mean(0)``; the ceiling of a correlation with it is its square root.
        It can be negative, or near 1 at most; NaN where a unit is constant or holds NaN.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.standard_normal((1, 500, 1))
    >>> split_half_reliability(signal + rng.standard_normal((8, 500, 1))).round(1).tolist()
    [0.9]
    """
    arrays = np.asarray(arrays, dtype=np.float64)
    if arrays.ndim != 3 or len(arrays) < 2:
        raise ValueError(f"arrays: got shape {arrays.shape}, expected (at least 2 subjects, n_samples, n_units).")
    rng = child_rng(random_state, "split-half")
    half = len(arrays) // 2
    total = 0
    for _ in range(n_splits):
        order = rng.permutation(len(arrays))
        total = total + _columns_r(arrays[order[:half]].mean(0), arrays[order[half:2 * half]].mean(0))
    return spearman_brown(total / n_splits, len(arrays) / half)


def ncsnr(values, stimulus_ids) -> np.ndarray:
    """Noise-ceiling signal-to-noise ratio: sd of the signal over sd of the noise of one presentation.

    The variance of the noise is that of the presentations of a stimulus, pooled over repeated stimuli; that of the
    signal is what remains of the variance over all presentations, 0 at least (Allen et al. 2022, Nat Neurosci
    25:116). The share of one presentation that can be explained is ``ncsnr**2 / (ncsnr**2 + 1)``, that of a mean of
    n ``ncsnr**2 / (ncsnr**2 + 1 / n)``.

    Parameters
    ----------
    values : array of shape (n_presentations, n_units)
    stimulus_ids : sequence of str

    Returns
    -------
    array of shape (n_units,)
        NaN if fewer than 3 stimuli were repeated; infinite where repeats are equal.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = np.repeat(rng.standard_normal((500, 1)), 4, 0)
    >>> ncsnr(2 * signal + rng.standard_normal((2000, 1)), np.repeat(np.arange(500), 4)).round(1).tolist()
    [2.0]
    """
    values = np.asarray(values, dtype=np.float64)
    codes = np.unique(np.asarray(stimulus_ids), return_inverse=True)[1]
    counts = np.bincount(codes)
    if (counts > 1).sum() < 3:
        return np.full(values.shape[1], np.nan)
    means = _means(values, codes, np.arange(len(codes)))
    deviations = (values - means[codes]) ** 2
    noise = deviations[counts[codes] > 1].sum(0) / (counts[counts > 1] - 1).sum()
    signal = np.maximum(values.var(0, ddof=1) - noise, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(signal / noise)


def repeat_reliability(values, stimulus_ids, *, method: str = "split-half", n_splits: int = 200,
                       random_state: int = 0) -> np.ndarray:
    """Reliability of the mean over the presentations of each stimulus.

    Parameters
    ----------
    values : array of shape (n_presentations, n_units)
    stimulus_ids : sequence of str
    method : {"split-half", "ncsnr"}
        Correlation of random halves with Spearman-Brown, or ``ncsnr**2 / (ncsnr**2 + 1 / n)``, see `ncsnr`.

    Returns
    -------
    array of shape (n_units,)
        Stepped up from halves to the number averaged; with unequal numbers the harmonic mean counts, since
        noise falls with 1 / number. NaN if fewer than 3 stimuli were repeated.
    """
    check_option("method", method, ("split-half", "ncsnr"))
    values = np.asarray(values, dtype=np.float64)
    codes = np.unique(np.asarray(stimulus_ids), return_inverse=True)[1]
    counts = np.bincount(codes)
    if (counts > 1).sum() < 3:
        return np.full(values.shape[1], np.nan)
    if method == "ncsnr":
        with np.errstate(divide="ignore"):
            noise = 1 / ncsnr(values, stimulus_ids) ** 2  # infinite where there is no signal: a reliability of 0
        return 1 / (1 + noise / _harmonic(counts))
    halves = counts[counts > 1] // 2
    rng = child_rng(random_state, "split-half")
    total = 0
    for _ in range(n_splits):
        first, second = _random_halves(codes, counts, rng)
        total = total + _columns_r(_means(values, codes, first), _means(values, codes, second))
    return spearman_brown(total / n_splits, _harmonic(counts) / _harmonic(halves))


def ceiling_of(metric: str, reliability, aggregation: str = "pooled") -> np.ndarray:
    """Ceiling of an encoding score from the reliability of the array that was predicted.

    Parameters
    ----------
    metric : str
        ``"r.pooled"``, ``"r2.pooled"``, ``"r.foldmean"``, ...
    reliability : array
    aggregation : {"pooled", "foldmean"}
        Over which samples the reliability was estimated: all of them, or within folds.

    Returns
    -------
    array
        sqrt(rho) for correlations, rho for R²; NaN (unavailable) for a metric of another aggregation, where the
        reliability is unknown, and where it is at most `FLOOR` (unreliable).

    Examples
    --------
    >>> ceiling_of("r.pooled", [0.64, 0.01, np.nan]).tolist()
    [0.8, nan, nan]
    """
    rho = np.asarray(reliability, float)
    kind, _, how = metric.partition(".")
    if how != aggregation or kind not in ("r", "r2"):
        return np.full(rho.shape, np.nan)
    usable = np.where(rho > FLOOR, rho, np.nan)
    return np.sqrt(usable) if kind == "r" else usable


def _columns_r(a, b):
    a, b = a - a.mean(0), b - b.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(0) / np.sqrt((a * a).sum(0) * (b * b).sum(0))


def _random_halves(codes, counts, rng):
    """Presentations of the two halves: of each stimulus the same number in both."""
    order = np.lexsort((rng.random(len(codes)), codes))
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    half = (counts // 2)[codes[order]]
    return order[rank < half], order[(rank >= half) & (rank < 2 * half)]


def _means(values, codes, rows):
    unique, labels = np.unique(codes[rows], return_inverse=True)
    sums = np.zeros((len(unique), values.shape[1]))
    np.add.at(sums, labels, values[rows])
    return sums / np.bincount(labels)[:, None]


def _harmonic(counts):
    return len(counts) / (1 / counts).sum()
