"""p-values of arrays of statistics, and control of the false discovery rate."""

import numpy as np

from neuroalign.errors import check_option

__all__ = ["at_least", "fdr", "max_permutation_p", "permutation_p"]


def permutation_p(score, null, *, alternative: str = "greater") -> np.ndarray:
    """Return the permutation p-value, (1 + b) / (1 + B).

    b counts the null statistics at least as extreme as the score, so that p is never 0 (Phipson & Smyth 2010,
    Stat Appl Genet Mol Biol).

    Parameters
    ----------
    score : array of shape (...)
    null : array of shape (n_permutations, ...)
    alternative : {"greater", "less", "two-sided"}
        two-sided counts absolute values about the mean of the null and the score, which is one of them if nothing is
        to be found.

    Returns
    -------
    array of shape (...)
        NaN where the score or all of its null is NaN; single NaN in a null count as extreme.

    Examples
    --------
    >>> permutation_p(0.9, np.linspace(-1, 0.8, 19)).item()
    0.05
    """
    check_option("alternative", alternative, ("greater", "less", "two-sided"))
    score, null = np.asarray(score, float), np.asarray(null, float)
    if null.ndim != score.ndim + 1 or null.shape[1:] != score.shape:
        raise ValueError(f"null: got shape {null.shape}, expected (n_permutations, *{score.shape}).")
    if alternative == "less":
        score, null = -score, -null
    elif alternative == "two-sided":
        centre = (score + np.nansum(null, 0)) / (1 + (~np.isnan(null)).sum(0))
        score, null = np.abs(score - centre), np.abs(null - centre)
    p = (1 + at_least(null, score).sum(0)) / (1 + len(null))
    unknown = np.isnan(score) | np.isnan(null).all(0)
    return np.where(unknown, np.nan, p)


def max_permutation_p(score, null, *, alternative: str = "greater", axis=None) -> np.ndarray:
    """Return the p-value of each statistic against the most extreme of a family under each permutation.

    That of the best of the family is the p-value of a maximum; below a level, the chance of one false discovery in
    the family is held (Westfall & Young 1993, Resampling-Based Multiple Testing). The same permutation must stand in
    the same row of the null for the whole family.

    Parameters
    ----------
    score : array of shape (...)
    null : array of shape (n_permutations, ...)
        Statistics that are NaN in all permutations do not take part.
    alternative : {"greater", "less"}
    axis : int or tuple of int, optional
        Axes of `score` that make one family; all by default.

    Returns
    -------
    array of shape (...)

    Examples
    --------
    >>> null = np.array([[0.1, 0.5], [0.3, 0.0], [0.2, 0.1]])
    >>> max_permutation_p([0.4, 0.2], null).tolist()
    [0.5, 1.0]
    """
    check_option("alternative", alternative, ("greater", "less"))
    score, null = np.asarray(score, float), np.asarray(null, float)
    axes = tuple(range(score.ndim)) if axis is None else tuple(np.atleast_1d(axis) % score.ndim)
    known = ~np.isnan(null).all(0) & ~np.isnan(score)
    worst = -np.inf if alternative == "greater" else np.inf
    # A single NaN counts as extreme, as in permutation_p.
    filled = np.where(known, np.where(np.isnan(null), -worst, null), worst)
    best = filled.max if alternative == "greater" else filled.min
    extreme = np.broadcast_to(best(axis=tuple(a + 1 for a in axes), keepdims=True), null.shape)
    return np.where(known, permutation_p(score, extreme, alternative=alternative), np.nan)


def at_least(null, score) -> np.ndarray:
    """Whether null statistics reach a score: equal ones and NaN count; 1e-9 keeps rounding from deciding."""
    return ~(null < score - np.where(np.isfinite(score), 1e-9 * np.abs(score), 0))


def fdr(p, *, method: str = "bh", axis=None) -> np.ndarray:
    """Adjust p-values for the false discovery rate; NaN stay NaN and do not count as tests.

    Parameters
    ----------
    p : array
    method : {"bh", "by"}
        Benjamini-Hochberg (independent or positively dependent tests), Benjamini-Yekutieli (any dependence).
    axis : int or tuple of int, optional
        Axes of one family of tests; the others are separate families. All axes by default.

    Examples
    --------
    >>> fdr([0.01, np.nan, 0.02]).tolist()
    [0.02, nan, 0.02]
    """
    from scipy.stats import false_discovery_control

    check_option("fdr", method, ("bh", "by"))
    p = np.asarray(p, float)
    axes = tuple(range(p.ndim)) if axis is None else tuple(np.atleast_1d(axis) % p.ndim)
    kept = [a for a in range(p.ndim) if a not in axes]
    families = p.transpose(*kept, *axes).reshape(int(np.prod([p.shape[a] for a in kept])), -1)
    q = np.full(families.shape, np.nan)
    for row, values in zip(q, families):
        tested = np.isfinite(values)
        if tested.any():
            row[tested] = false_discovery_control(values[tested], method=method)
    back = np.argsort([*kept, *axes])
    return q.reshape([p.shape[a] for a in (*kept, *axes)]).transpose(back) if p.ndim else q.reshape(())
