"""Kendall's tau-a, and the whitening of dissimilarities by the covariance that shared stimuli give them."""

import numpy as np

__all__ = ["tau_a", "tied_pairs", "whiten_dissimilarities"]


def tau_a(x, y, x_ties: int | None = None, y_ties: int | None = None) -> float:
    """Kendall's tau-a: concordant minus discordant pairs, over all pairs, tied ones included.

    Of two models of which one ties what the other orders at random, both have the same expectation; tau-b and
    Spearman favour the one that ties (Nili et al. 2014, PLoS Comput Biol 10:e1003553).

    Parameters
    ----------
    x, y : array of shape (n,)
        Without NaN.
    x_ties, y_ties : int, optional
        `tied_pairs` of each, where known.

    Returns
    -------
    float
        NaN if either is constant.

    Examples
    --------
    >>> round(tau_a([1, 2, 3, 4], [1, 2, 2, 3]), 4)
    0.8333
    """
    from scipy.stats import kendalltau

    x, y = np.asarray(x), np.asarray(y)
    total = len(x) * (len(x) - 1) // 2
    x_ties = tied_pairs(x) if x_ties is None else x_ties
    y_ties = tied_pairs(y) if y_ties is None else y_ties
    if x_ties == total or y_ties == total:
        return float("nan")
    tau_b = kendalltau(x, y, method="asymptotic").statistic
    return float(tau_b * np.sqrt((total - x_ties) / total) * np.sqrt((total - y_ties) / total))


def tied_pairs(x) -> int:
    """Return how many pairs of values are equal.

    Examples
    --------
    >>> tied_pairs([1, 2, 2, 2])
    3
    """
    counts = np.unique(np.asarray(x), return_counts=True)[1].astype(np.int64)
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
    first, second = np.triu_indices(n, 1)
    mean = rows.mean(1, keepdims=True)
    out = np.empty_like(rows)
    for row, centre, found in zip(rows, mean, out):
        rest = row - centre
        sums = np.bincount(first, rest, n) + np.bincount(second, rest, n)
        effect = sums / (n - 2)
        single = effect[first] + effect[second]
        found[:] = centre / np.sqrt(2 * n) + single / np.sqrt(n) + (rest - single) / np.sqrt(2)
    return out
