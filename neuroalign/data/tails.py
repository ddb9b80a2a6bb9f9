"""Tails of intervals: on this floor, since both differences of Scores and the statistics above take them."""

import numpy as np

__all__ = ["expanded_tail"]


def expanded_tail(n: int, level: float = 0.95) -> float:
    """Return the share of resampled means of `n` units beyond each end of an interval as wide as one of so few is.

    ``Phi(-sqrt(n / (n - 1)) t)`` with the quantile t of n - 1 degrees of freedom (Hesterberg 2015, Am Stat 69:371).

    Parameters
    ----------
    n : int
        Independent units, at least 2.
    level : float
        Coverage.

    Examples
    --------
    >>> round(expanded_tail(10), 4), round(expanded_tail(1000), 4)
    (0.0086, 0.0248)
    """
    from scipy.stats import norm
    from scipy.stats import t as student

    return float(norm.cdf(-np.sqrt(n / (n - 1)) * student.ppf((1 + level) / 2, n - 1)))
