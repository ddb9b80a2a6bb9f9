"""How long a time series remembers, and how many independent samples that leaves."""

import numpy as np

__all__ = ["autocorrelation", "effective_samples"]

NEGLIGIBLE = 0.05  # lags from the first at which the product of autocorrelations falls below this are noise


def autocorrelation(values, n_lags: int | None = None) -> np.ndarray:
    """Return the autocorrelation of a time series, mean over columns; constant columns do not count.

    Parameters
    ----------
    values : array of shape (n_samples, n_columns)
    n_lags : int, optional
        Default: a third of the samples.

    Returns
    -------
    array of shape (n_lags + 1,)
        The first is 1; biased towards 0 at long lags, as usual.

    Examples
    --------
    >>> autocorrelation(np.tile([[1.0], [-1.0]], (50, 1)), 2).round(2).tolist()
    [1.0, -0.99, 0.98]
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    n_lags = n // 3 if n_lags is None else min(n_lags, n - 1)
    centred = values - values.mean(0)
    power = np.abs(np.fft.rfft(centred, 2 * n, axis=0)) ** 2
    lagged = np.fft.irfft(power, axis=0)[: n_lags + 1]
    varies = lagged[0] > 1e-12 * (values * values).sum(0)  # whatever the unit
    if not varies.any():
        return np.r_[1.0, np.zeros(n_lags)]
    return (lagged[:, varies] / lagged[0, varies]).mean(1)


def effective_samples(n: int, first: np.ndarray, second: np.ndarray) -> float:
    """Return how many independent samples a correlation of two time series rests on.

    ``n / (1 + 2 sum_k a_k b_k)`` with their autocorrelations at lag k (Bartlett 1935, J R Stat Soc 98:536), summed to
    the first lag at which the product is negligible.

    Parameters
    ----------
    n : int
    first, second : array of shape (n_lags + 1,)
        As `autocorrelation` gives them.

    Examples
    --------
    >>> ar = 0.9 ** np.arange(100)
    >>> round(effective_samples(1000, ar, ar))
    110
    """
    product = (first * second)[1:]
    small = np.flatnonzero(product < NEGLIGIBLE)
    kept = product[: small[0]] if len(small) else product
    return n / (1 + 2 * kept.sum())
