"""Correlations between the rows of two matrices: ranks once a row, one product, gaps compared where both exist."""

from functools import lru_cache

import numpy as np
import torch

from neuroalign.errors import check_option
from neuroalign.linalg import resolve, to_numpy, to_tensor
from neuroalign.stats.rank_agreement import order_codes, tau_of_codes

__all__ = ["CORRELATIONS", "correlate_rows", "rank_rows", "unit_rows"]

CORRELATIONS = ("spearman", "pearson", "cosine", "rho_a", "tau_a")
RANKED = ("spearman", "rho_a")
MIN_PAIRS = 3
_EXACT = 2**22  # average ranks (halves) up to this are exact in float32
_SPARE = 29  # bits of a float64 that no float32 needs
_CHUNK = 2**18  # columns of one float32 product; the parts are summed in float64


def rank_rows(values) -> np.ndarray:
    """Return the ranks of each row, from 1, with the average rank for ties; NaN stay NaN and are not counted.

    Parameters
    ----------
    values : array of shape (n_rows, n_columns)

    Returns
    -------
    array of shape (n_rows, n_columns)
        float32 up to four million columns, float64 beyond (where float32 no longer holds a half).

    Examples
    --------
    >>> rank_rows([[10.0, 30.0, 20.0, 20.0]]).tolist()
    [[1.0, 4.0, 2.5, 2.5]]
    """
    values = np.atleast_2d(np.asarray(values))
    ranks = np.empty(values.shape, np.float32 if values.shape[1] < _EXACT else np.float64)
    for row, out in zip(values, ranks):
        order, ordered = _sorted(row)
        n = int(np.searchsorted(np.isnan(ordered), True)) if np.isnan(ordered[-1:]).any() else len(row)
        out[order[:n]] = _sorted_ranks(ordered[:n])
        out[order[n:]] = np.nan
    return ranks


def unit_rows(values, method: str) -> np.ndarray:
    """Return rows whose inner products are correlations: ranked, centred and scaled as the method asks.

    rho-a is Spearman's where nothing is tied; where it is, it is the expectation when ties are broken at random, so
    that rows with ties have less than unit length (Schütt et al. 2023, eLife 12:e82566).

    Parameters
    ----------
    values : array of shape (n_rows, n_columns)
        Without NaN.
    method : {"spearman", "pearson", "cosine", "rho_a"}

    Returns
    -------
    float32 array of shape (n_rows, n_columns)
        NaN rows where all values are equal (zero, for cosine).
    """
    check_option("method", method, CORRELATIONS[:4])
    values = np.atleast_2d(values)
    unit = np.empty(values.shape, np.float32)
    for row, out in zip(values, unit):  # one row at a time stays in the cache
        if method in RANKED:
            _unit_ranks(row, out, method)
        else:
            _unit_values(row, out, centred=method != "cosine")
    return unit


def correlate_rows(a, b, method: str = "spearman", *, device="auto") -> np.ndarray:
    """Correlate every row of `a` with every row of `b`.

    Parameters
    ----------
    a : array of shape (n_a, n_columns)
    b : array of shape (n_b, n_columns)
        A column is left out of a comparison where either row is NaN; ranks are taken over what is compared.
    method : {"spearman", "pearson", "cosine", "rho_a", "tau_a"}
    device : str

    Returns
    -------
    float64 array of shape (n_a, n_b)
        NaN for constant rows and where fewer than 3 columns are shared.

    Examples
    --------
    >>> correlate_rows([[1.0, 2.0, 3.0, np.nan]], [[1.0, 8.0, 27.0, 0.0]]).round(6).tolist()
    [[1.0]]
    """
    check_option("method", method, CORRELATIONS)
    a, b = np.atleast_2d(np.asarray(a)), np.atleast_2d(np.asarray(b))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"correlate_rows: rows of {a.shape[1]} and {b.shape[1]} values, expected the same number.")
    device = resolve(device)
    out = np.full((len(a), len(b)), np.nan)
    for rows_a, valid_a in valid_patterns(a):
        for rows_b, valid_b in valid_patterns(b):
            common = valid_a & valid_b
            if common.sum() < MIN_PAIRS:
                continue
            left, right = a[rows_a], b[rows_b]
            if not common.all():
                left, right = left[:, common], right[:, common]
            if method == "tau_a":
                out[np.ix_(rows_a, rows_b)] = _tau_rows(left, right)
            else:
                out[np.ix_(rows_a, rows_b)] = product(unit_rows(left, method), unit_rows(right, method), device)
    return out


def valid_patterns(rows: np.ndarray):
    """Yield the groups of rows that have values in the same columns: (row numbers, column mask)."""
    valid = ~np.isnan(rows)
    if valid.all():
        yield np.arange(len(rows)), valid[0] if len(rows) else np.ones(rows.shape[1], bool)
        return
    packed = np.packbits(valid, axis=1)
    _, first, group = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    for k, example in enumerate(first):
        yield np.flatnonzero(group.ravel() == k), valid[example]


def product(a: np.ndarray, b: np.ndarray, device: torch.device) -> np.ndarray:
    """Return a @ b.T; long float32 sums are cut and added in float64, since they drift."""
    out = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        left, right = to_tensor(a[:, part], device), to_tensor(b[:, part], device)
        out += to_numpy(left @ right.T)
    return out


def _tau_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    left, right = [order_codes(row) for row in a], [order_codes(row) for row in b]
    return np.array([[tau_of_codes(x, y) for y in right] for x in left])


def _sorted(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of a row, NaN last, and numbers in that order that are equal where its values are."""
    if row.dtype != np.float32 or len(row) >= 2**_SPARE or not np.isfinite(row).all():
        order = np.argsort(row)
        return order, row[order]
    # A float64 holds a float32 and, in the bits that this leaves, its place: sorting is faster than argsort.
    packed = (row + np.float32(0)).astype(np.float64)  # no negative zeros
    bits = packed.view(np.int64)
    bits |= _places(len(row))
    packed.sort()
    return bits & (2**_SPARE - 1), bits >> _SPARE


@lru_cache(maxsize=4)
def _places(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int64)


@lru_cache(maxsize=4)
def _untied_unit(n: int) -> np.ndarray:
    """Ranks of n different values in their order, centred and of unit length."""
    return ((np.arange(1, n + 1) - (n + 1) / 2) / np.sqrt((float(n) ** 3 - n) / 12)).astype(np.float32)


def _unit_ranks(row: np.ndarray, out: np.ndarray, method: str) -> None:
    order, ordered = _sorted(row)
    n, (members, ranks, sizes) = len(row), _tied(ordered)
    if not len(sizes):
        out[order] = _untied_unit(n)
        return
    whole = (float(n) ** 3 - n) / 12
    norm = np.sqrt(whole - (sizes.astype(float) ** 3 - sizes).sum() / 12)
    if len(sizes) == 1 and sizes[0] == n:
        out[:] = np.nan
        return
    scale = np.sqrt(whole) / (np.sqrt(whole) if method == "rho_a" else norm)
    unit = _untied_unit(n) * np.float32(scale)
    unit[members] = (ranks - (n + 1) / 2) * (scale / np.sqrt(whole))
    out[order] = unit


def _unit_values(row: np.ndarray, out: np.ndarray, centred: bool) -> None:
    row = row.astype(np.float64)
    size = np.abs(row).max(initial=0)
    if centred:
        row -= row.mean()
    norm = np.sqrt((row * row).sum())
    out[:] = row * (np.nan if norm <= 1e-7 * size * np.sqrt(len(row)) else 1 / norm)


def _sorted_ranks(ordered: np.ndarray) -> np.ndarray:
    found = np.arange(1.0, len(ordered) + 1)
    members, ranks, _ = _tied(ordered)
    found[members] = ranks
    return found


def _tied(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where sorted values are tied: their places, their average ranks (from 1), and the sizes of the ties."""
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    if not len(same):
        return same, same, same
    ends = np.flatnonzero(np.diff(same) > 1)
    first, last = same[np.concatenate([[0], ends + 1])], same[np.concatenate([ends, [len(same) - 1]])] + 1
    sizes = last - first + 1
    before = np.cumsum(sizes) - sizes
    members = np.repeat(first - before, sizes) + np.arange(sizes.sum())
    return members, np.repeat((first + last) / 2 + 1, sizes), sizes
