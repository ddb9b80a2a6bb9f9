"""Intervals of resampled statistics: their coverage, percentile ends, half samples, and means over units."""

import warnings

import numpy as np

from neuroalign.stats.resamples import make_resamples

__all__ = ["LEVEL", "half_sample_deviations", "mean_interval", "percentile_interval"]

LEVEL = 0.95  # coverage of intervals


def percentile_interval(draws, *, axis: int = 0, level: float = LEVEL, skip_nan: bool = False) -> np.ndarray:
    """Return the ends between which the middle `level` of the draws lies.

    Parameters
    ----------
    draws : array of shape (n_resamples, ...)
        Statistics of the resamples, along `axis`.
    axis : int
    level : float
    skip_nan : bool
        Leave NaN draws out; ends are NaN only where all draws are. Otherwise one NaN makes both ends NaN.

    Returns
    -------
    array of shape (2, ...)
        Low and high ends.

    Examples
    --------
    >>> percentile_interval(np.arange(101.0), level=0.9).round(1).tolist()
    [5.0, 95.0]
    """
    ends = [(1 - level) / 2, (1 + level) / 2]
    if not skip_nan:
        return np.quantile(draws, ends, axis=axis)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all draws NaN: so are the ends
        return np.nanquantile(draws, ends, axis=axis)


def half_sample_deviations(values, n: int) -> np.ndarray:
    """Turn statistics of half samples into deviations as large as those of the whole sample (delete-half jackknife).

    A sample of ``m = n // 2`` of n units drawn without replacement varies about the statistic of all n with
    ``(n - m) / m`` times the variance that the statistic of all n itself has (Shao & Wu 1989, Ann Stat 17:1176);
    deviations from the mean of the half samples are scaled by the root of the inverse. Add them to the statistic of
    all n.

    Parameters
    ----------
    values : array of shape (n_resamples, ...)
        Statistic of each half sample, of ``n // 2`` units.
    n : int
        Units of the whole sample.

    Returns
    -------
    array of shape (n_resamples, ...)

    Examples
    --------
    >>> half_sample_deviations([1.0, 2.0, 3.0], 10).tolist()
    [-1.0, 0.0, 1.0]
    """
    values, half = np.asarray(values), n // 2
    return np.sqrt(half / (n - half)) * (values - values.mean(0))


def mean_interval(values, units, n_resamples: int, *, random_state: int = 0,
                  purpose: str = "stimuli") -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of means over units, which are resampled with replacement, the same units for all rows.

    Parameters
    ----------
    values : array of shape (..., n_units)
    units : sequence of str, of length n_units
    n_resamples : int
        0 for none: the ends are NaN.
    random_state : int
    purpose : str
        See `make_resamples`.

    Returns
    -------
    low, high : array of shape (...)

    Examples
    --------
    >>> low, high = mean_interval(np.array([[1.0, 1.0, 1.0], [0.0, 0.5, 1.0]]), ["a", "b", "c"], 200)
    >>> low.round(1).tolist(), high.round(1).tolist()
    ([1.0, 0.0], [1.0, 1.0])
    """
    values = np.asarray(values)
    if not n_resamples:
        return (np.full(values.shape[:-1], np.nan),) * 2
    weights = make_resamples(units, n_resamples, random_state=random_state, purpose=purpose).counts() / len(units)
    low, high = percentile_interval(values @ weights.T, axis=-1)
    return low, high
