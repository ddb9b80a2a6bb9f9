"""Kendall's tau-a, and the whitening of dissimilarities by the covariance that shared stimuli give them."""

from functools import cache, lru_cache

import numpy as np

__all__ = ["order_codes", "tau_a", "tau_of_codes", "whiten_dissimilarities"]

_ROWS = 16  # RDMs whitened together: they stay in the cache


def tau_a(x, y) -> float:
    """Kendall's tau-a: concordant minus discordant pairs, over all pairs, tied ones included.

    Of two models of which one ties what the other orders at random, both have the same expectation; tau-b and
    Spearman favour the one that ties (Nili et al. 2014, PLoS Comput Biol 10:e1003553).

    Parameters
    ----------
    x, y : array of shape (n,)
        Without NaN.

    Returns
    -------
    float
        NaN if either is constant.

    Examples
    --------
    >>> round(tau_a([1, 2, 3, 4], [1, 2, 2, 3]), 4)
    0.8333
    """
    return tau_of_codes(order_codes(x), order_codes(y))


def order_codes(x) -> np.ndarray:
    """Return integers from 1 in the order of the values, equal where they are.

    Examples
    --------
    >>> order_codes([0.5, 0.1, 0.5]).tolist()
    [2, 1, 2]
    """
    return np.unique(np.asarray(x), return_inverse=True)[1].ravel().astype(np.int64) + 1


def tau_of_codes(x: np.ndarray, y: np.ndarray) -> float:
    """Return tau-a of values given by `order_codes`, also of a part of them: gaps in the codes do no harm."""
    total = len(x) * (len(x) - 1) // 2
    x_ties, y_ties = _tied_pairs(np.bincount(x)), _tied_pairs(np.bincount(y))
    if x_ties == total or y_ties == total:
        return float("nan")
    # One sort puts them in the order of y and, where y is tied, of x: what is out of order in x is discordant.
    base = int(x.max()) + 1
    key = np.sort(y * base + x)
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    both = _tied_pairs(np.diff(starts, append=len(key))) if len(starts) < len(key) else 0
    ordered = key // base
    agreed = total - x_ties - y_ties + both - 2 * int(_discordant()(ordered, key - ordered * base))
    return agreed / total


@cache
def _discordant():
    """The function that counts discordant pairs: scipy's own where it is found, else from its tau-b."""
    from scipy import stats

    try:
        from scipy.stats._stats import _kendall_dis

        return _kendall_dis  # codes from 1 alone: with a 0 it does not end
    except ImportError:
        return lambda y, x: _discordant_by_tau_b(stats.kendalltau, y, x)


def _discordant_by_tau_b(kendalltau, y, x) -> int:
    total = len(x) * (len(x) - 1) // 2
    x_ties, y_ties = _tied_pairs(np.bincount(x)), _tied_pairs(np.bincount(y))
    both = _tied_pairs(np.unique(np.stack([x, y]), axis=1, return_counts=True)[1])
    tau_b = kendalltau(x, y, method="asymptotic").statistic
    agreed = tau_b * np.sqrt(float(total - x_ties)) * np.sqrt(float(total - y_ties))
    return round((total - x_ties - y_ties + both - agreed) / 2)


def _tied_pairs(counts) -> int:
    counts = np.asarray(counts, np.int64)
    return int((counts * (counts - 1) // 2).sum())


def whiten_dissimilarities(rows) -> np.ndarray:
    """Whiten condensed RDMs of all pairs by the covariance of squared distances estimated with equal noise.

    Distances that share a stimulus are correlated. With noise that is independent and equal across stimuli their
    covariance is, up to a factor, 4 for a pair with itself, 1 for pairs that share a stimulus, 0 else
    (Diedrichsen et al. 2021, Neurons Behav Data Anal Theory 5(3)). Its eigenspaces are known: the mean, effects of
    single stimuli, and the rest, with eigenvalues 2 n, n and 2; so its inverse root takes no matrix.

    Parameters
    ----------
    rows : array of shape (n_rows, n_stimuli * (n_stimuli - 1) / 2)
        Upper triangles in row order, at least 3 stimuli.

    Returns
    -------
    float64 array of the same shape
        Cosine and Pearson correlation of these are the whitened ones.

    Examples
    --------
    >>> whiten_dissimilarities([[1.0, 1.0, 1.0]]).round(4).tolist()
    [[0.4082, 0.4082, 0.4082]]
    """
    rows = np.atleast_2d(np.asarray(rows, np.float64))
    n = round((1 + np.sqrt(1 + 8 * rows.shape[1])) / 2)
    of_pair = _pairs_of_stimuli(n)
    out = np.empty_like(rows)
    for start in range(0, len(rows), _ROWS):
        part = np.ascontiguousarray(rows[start:start + _ROWS].T)
        centre = part.mean(0)
        part -= centre
        single = of_pair @ ((of_pair.T @ part) / (n - 2))
        # The rest, part - single, over sqrt(2), the effects of single stimuli over sqrt(n).
        single *= 1 / np.sqrt(n) - 1 / np.sqrt(2)
        part *= 1 / np.sqrt(2)
        part += single
        part += centre / np.sqrt(2 * n)
        out[start:start + _ROWS] = part.T
    return out


@lru_cache(maxsize=2)
def _pairs_of_stimuli(n: int):
    """Which two stimuli make each pair: a sparse matrix (pairs, n)."""
    from scipy.sparse import csr_array

    columns = np.stack(np.triu_indices(n, 1), 1).ravel()
    return csr_array((np.ones(len(columns)), columns, np.arange(0, len(columns) + 1, 2)), shape=(len(columns) // 2, n))
