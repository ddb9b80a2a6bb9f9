"""Means over subjects, each of whom has units of its own: resamples and intervals."""

import numpy as np

from neuroalign.data.tails import expanded_tail
from neuroalign.errors import check_option
from neuroalign.stats.random import child_rng

__all__ = ["expanded_interval", "hierarchical_means", "subject_means"]

DRAWS = ("subjects", "both")


def subject_means(values, subjects) -> tuple[np.ndarray, list[str]]:
    """Average the units of each subject, in order of first appearance; NaN units do not count.

    Parameters
    ----------
    values : array of shape (n_units, ...)
    subjects : sequence of length n_units

    Returns
    -------
    means : array of shape (n_subjects, ...)
    names : list of str

    Examples
    --------
    >>> subject_means(np.array([1.0, 3.0, 5.0]), ["a", "a", "b"])[0].tolist()
    [2.0, 5.0]
    """
    values, subjects = np.asarray(values, float), np.asarray(subjects).astype(str)
    names = list(dict.fromkeys(subjects.tolist()))
    return np.stack([_mean(values[subjects == name]) for name in names]), names


def hierarchical_means(values, subjects, n_resamples: int, *, draw: str = "subjects",
                       random_state: int = 0) -> np.ndarray:
    """Resample the mean over subjects of the mean over their units.

    Parameters
    ----------
    values : array of shape (n_units, ...)
        Without NaN.
    subjects : sequence of length n_units
    n_resamples : int
    draw : {"subjects", "both"}
        Draw subjects, each with its units as they are, or also units anew within each subject drawn. How units vary
        is part of how the means of subjects vary; ``both`` counts it twice (Davison & Hinkley 1997, Bootstrap
        Methods, 3.8) and gives intervals that are too wide where subjects have few units.
    random_state : int

    Returns
    -------
    array of shape (n_resamples, ...)

    Examples
    --------
    >>> drawn = hierarchical_means(np.arange(6.0), list("aabbcc"), 100)
    >>> sorted(set(drawn.round(2).tolist()))
    [0.5, 1.17, 1.83, 2.5, 3.17, 3.83, 4.5]
    """
    check_option("draw", draw, DRAWS)
    values, subjects = np.asarray(values, float), np.asarray(subjects).astype(str)
    means, names = subject_means(values, subjects)
    rng = child_rng(random_state, "hierarchical bootstrap")
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), n_resamples)
    if draw == "subjects":
        return np.tensordot(counts, means, 1) / len(names)
    total = np.zeros((n_resamples, *values.shape[1:]))
    for name, drawn in zip(names, counts.T):
        own = values[subjects == name]
        times = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), drawn.sum())
        np.add.at(total, np.repeat(np.arange(n_resamples), drawn), np.tensordot(times, own, 1) / len(own))
    return total / len(names)


def expanded_interval(drawn, n: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of a resampled mean of `n`, its tails moved out as those of a t interval of so few are.

    A percentile interval of a mean of n is too narrow by ``sqrt((n - 1) / n)``, and knows nothing of the uncertainty
    of the spread. The tails are therefore taken at ``Phi(-sqrt(n / (n - 1)) t)`` (Hesterberg 2015, Am Stat 69:371).

    Parameters
    ----------
    drawn : array of shape (n_resamples, ...)
    n : int
        Independent units, at least 2.
    level : float

    Returns
    -------
    low, high : array of shape (...)

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((10000, 1))
    >>> low, high = expanded_interval(x, 10)
    >>> round(float(high[0] - low[0]), 1)  # 3.9 for many
    4.8
    """
    tail = expanded_tail(n, level)
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return low, high


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
