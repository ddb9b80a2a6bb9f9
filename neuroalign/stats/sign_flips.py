"""Tests over subjects: sign flips of their values, with the largest statistic against many units at once."""

import itertools
from dataclasses import dataclass

import numpy as np

from neuroalign.errors import check_option, warn_user
from neuroalign.stats.pvalues import at_least
from neuroalign.stats.random import child_rng

__all__ = ["SignFlipTest", "conjunction_p", "draw_signs", "flipped_statistic", "holm", "sign_flip_test"]

FEW_SUBJECTS = 6
STATISTICS = ("mean", "t")


@dataclass(frozen=True)
class SignFlipTest:
    """Result of `sign_flip_test`.

    Attributes
    ----------
    statistic : array of shape (...)
    p : array of shape (...)
        For each unit alone.
    p_max : array of shape (...)
        Against the largest statistic of all units: the chance of one false discovery among them is held.
    smallest_p : float
        What p can be at least.
    n_positive : array of shape (...)
        Subjects above 0: how often the finding replicates.
    """

    statistic: np.ndarray
    p: np.ndarray
    p_max: np.ndarray
    smallest_p: float
    n_positive: np.ndarray


def sign_flip_test(values, *, statistic: str = "mean", alternative: str = "greater", n_permutations: int = 10000,
                   random_state: int = 0) -> SignFlipTest:
    """Test whether the values of subjects lie above 0 (or differ from it), by flipping their signs.

    Exchangeability: under the null each subject's value is as likely to be positive as negative. All 2^n flips are
    taken where they are no more than `n_permutations`; the units of a subject flip together, so that their
    dependence is kept, also for the largest statistic (Nichols & Holmes 2002, Hum Brain Mapp 15:1).

    Parameters
    ----------
    values : array of shape (n_subjects, ...)
        One value a subject and unit: a score minus that of the null or of another model.
    statistic : {"mean", "t"}
    alternative : {"greater", "two-sided"}
    n_permutations : int
    random_state : int

    Returns
    -------
    SignFlipTest

    Raises
    ------
    ValueError
        Fewer than two subjects, or values that are not finite.

    Examples
    --------
    >>> found = sign_flip_test(np.array([0.2, 0.1, 0.3, 0.2, 0.1]), n_permutations=100)
    >>> found.p.item(), found.smallest_p
    (0.03125, 0.03125)
    """
    check_option("statistic", statistic, STATISTICS)
    check_option("alternative", alternative, ("greater", "two-sided"))
    values = np.asarray(values, dtype=float)
    if values.ndim < 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values: got shape {values.shape}, expected finite values of at least 2 subjects. Leave out "
                         "units that some subjects lack.")
    n, shape = len(values), values.shape[1:]
    both = alternative == "two-sided"
    flat, signs = values.reshape(n, -1), draw_signs(n, n_permutations, random_state, two_sided=both)
    null = flipped_statistic(signs, flat, statistic)
    observed = flipped_statistic(np.ones((1, n)), flat, statistic)[0]
    side = np.abs if both else (lambda x: x)
    extreme, largest = side(null), side(null).max(1, initial=-np.inf)[:, None]
    p, p_max = ((1 + at_least(x, side(observed)).sum(0)) / (1 + len(signs)) for x in (extreme, largest))
    return SignFlipTest(observed.reshape(shape), p.reshape(shape), p_max.reshape(shape),
                        _smallest_p(n, n_permutations, both), (values > 0).sum(0))


def holm(p) -> np.ndarray:
    """Adjust p-values for the chance of any false discovery (Holm 1979, Scand J Stat 6:65); NaN stay NaN.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    adjusted, tested = np.full(p.shape, np.nan), np.isfinite(p)
    order = np.argsort(p[tested])
    steps = p[tested][order] * np.arange(len(order), 0, -1)
    found = np.empty(len(order))
    found[order] = np.minimum(np.maximum.accumulate(steps), 1)
    adjusted[tested] = found
    return adjusted


def conjunction_p(p, axis: int = 0) -> np.ndarray:
    """Return the p-value that all of several effects are there: the largest (Nichols et al. 2005, NeuroImage 25:653).

    Examples
    --------
    >>> conjunction_p([[0.01, 0.2], [0.03, 0.01]]).tolist()
    [0.03, 0.2]
    """
    return np.asarray(p, dtype=float).max(axis)


def draw_signs(n_subjects: int, n_permutations: int, random_state: int, *, two_sided: bool = False) -> np.ndarray:
    """Return sign flips (n_flips, n_subjects): all but the identity if they are no more than asked for, else drawn.

    Warns where the subjects are few.
    """
    n = n_subjects
    if n < FEW_SUBJECTS:
        warn_user(f"{n} subjects: the smallest p is {_smallest_p(n, n_permutations, two_sided):.3g}. Report each "
                  "subject, and how many replicate; a claim about the population rests on more.", "few-subjects",
                  count=n)
    if 2**n <= n_permutations:
        return np.array(list(itertools.product((1.0, -1.0), repeat=n)))[1:]
    return child_rng(random_state, "sign-flips").choice((1.0, -1.0), size=(n_permutations, n))


def _smallest_p(n_subjects: int, n_permutations: int, two_sided: bool) -> float:
    if 2**n_subjects > n_permutations:
        return 1 / (1 + n_permutations)
    return (2 if two_sided else 1) * 2.0**-n_subjects  # flipping all is as extreme as flipping none


def flipped_statistic(signs: np.ndarray, values: np.ndarray, statistic: str) -> np.ndarray:
    """Return the statistic of each flip and unit, (n_flips, n_units)."""
    n = len(values)
    mean = signs @ values / n
    if statistic == "mean":
        return mean
    squares = (values**2).mean(0)
    error = np.sqrt(np.maximum(squares - mean**2, 0) / (n - 1))
    flat = np.where(mean == 0, 0, np.copysign(np.inf, mean))
    return np.divide(mean, error, out=flat, where=error > 1e-12 * np.sqrt(squares))
