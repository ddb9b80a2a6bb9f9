"""Retrieval from a table of similarities: the right partners, and what chance would find."""

from collections.abc import Sequence

import numpy as np

from neuroalign.errors import warn_user

__all__ = ["chance_level", "matching_accuracy", "retrieval_ranks", "warn_few"]

FEW = 20  # queries, below which a high score is no surprise


def matching_accuracy(similarity) -> float:
    """Share of rows that the one-to-one assignment of the largest total similarity pairs with their own column.

    Parameters
    ----------
    similarity : array of shape (n, n)
        Row i and column i belong together.

    Returns
    -------
    float
        1 / n by chance.

    Examples
    --------
    >>> matching_accuracy([[0.9, 0.8, 0.0], [0.9, 0.7, 0.1], [0.0, 0.1, 0.2]])
    0.3333333333333333
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.asarray(similarity), maximize=True)
    return float((rows == columns).mean())


def retrieval_ranks(similarity) -> np.ndarray:
    """Rank of the partner of each row among all columns: 1 is the most similar, ties take the middle.

    Parameters
    ----------
    similarity : array of shape (n, n)
        Row i and column i belong together; transpose it for the other direction.

    Returns
    -------
    array of shape (n,)

    Examples
    --------
    >>> retrieval_ranks([[0.9, 0.8, 0.0], [0.9, 0.7, 0.1], [0.2, 0.2, 0.2]]).tolist()
    [1.0, 2.0, 2.0]
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarity: got shape {similarity.shape}, expected a square matrix of paired rows.")
    own = similarity.diagonal()[:, None]
    return (similarity > own).sum(1) + ((similarity == own).sum(1) + 1) / 2


def chance_level(n: int, tops: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Chance and its standard error with n queries: of `matching_accuracy`, then of a rank of at most each of `tops`.

    A random one-to-one assignment has one right pair on average, and a variance of one; a partner is among the k most
    similar of n with probability k / n.

    Returns
    -------
    chance, error : array of shape (1 + n_tops,)

    Examples
    --------
    >>> [v.round(2).tolist() for v in chance_level(10, [1, 5])]
    [[0.1, 0.1, 0.5], [0.1, 0.09, 0.16]]
    """
    p = np.array([k / n for k in tops])
    return np.array([1 / n, *p]), np.array([1 / n, *np.sqrt(p * (1 - p) / n)])


def warn_few(n: int, tops: Sequence[int]) -> None:
    """Warn of fewer than 20 queries, and say what chance finds with so few."""
    if n < FEW:
        said = ", ".join(f"{name} {c:.3g} ± {e:.2g}" for name, c, e in
                         zip(["assignment", *(f"top{k}" for k in tops)], *chance_level(n, tops)))
        warn_user(f"match: {n} queries a draw tell little: chance (± its standard error) is {said}. Give more stimuli, "
                  f"or n_queries of at least {FEW}.", "few-queries", count=n)
