"""Alignment by nearest neighbours: which stimuli are near each stimulus, in one space and in the other.

Neighbours are those of the largest cosine similarity, never the stimulus itself; where several are equally near, as
within a category, chance decides which are taken. They are found in blocks of rows; what is kept is n x k.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from neuroalign.alignment.feature_basis import check_pair, check_rows, host_of
from neuroalign.linalg import resolve, rows_per_chunk, to_numpy

__all__ = ["Neighbours", "cknna", "cknna_score", "cycle_knn", "cycle_score", "mutual_knn", "mutual_score", "nearest"]

K = 10
_EQUAL = 2.0**-48  # difference of two cosines that is rounding


def mutual_knn(x, y, *, k: int = K, device="auto") -> float:
    """Mean share of the nearest neighbours of a stimulus that two spaces have in common.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    k : int
        Neighbours, fewer than ``n_stimuli - 1``.
    device : str

    Returns
    -------
    float
        0 to 1; k / (n_stimuli - 1) by chance. NaN if either side is constant, holds NaN or a row of zeros.
        Huh et al. 2024, ICML.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((30, 5))
    >>> mutual_knn(x, 2 * x[:, ::-1], k=3)
    1.0
    """
    return float(mutual_score(*_both(x, y, k, device)))


def cknna(x, y, *, k: int = K, device="auto") -> float:
    """Debiased CKA of two cosine kernels, restricted to pairs that are neighbours in both spaces.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    k : int
        Neighbours, fewer than ``n_stimuli - 1``.
    device : str

    Returns
    -------
    float
        1 for equal kernels; NaN as for `mutual_knn`. For unrelated data it is not 0 but about the share of
        neighbours in common by chance, k / (n_stimuli - 1): compare with a null. Neighbourhood is not mutual within
        a space, so that swapping the sides changes the value a little. Huh et al. 2024, ICML, as in their released
        code.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((30, 5))
    >>> round(cknna(x, 2 * x[:, ::-1]), 6)
    1.0
    """
    return float(cknna_score(*_both(x, y, k, device)))


def cycle_knn(x, y, *, k: int = K, device="auto") -> float:
    """Share of stimuli that are reached again by a step to a neighbour in x and a step to a neighbour of it in y.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    k : int
        Neighbours, fewer than ``n_stimuli - 1``.
    device : str

    Returns
    -------
    float
        0 to 1; NaN as for `mutual_knn`. Swap the arguments for the other direction.

    Examples
    --------
    >>> x = np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    >>> cycle_knn(x, x, k=1), cycle_knn(x, x[[0, 2, 1, 3]], k=1)
    (1.0, 0.0)
    """
    return float(cycle_score(*_both(x, y, k, device)))


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours in one space.

    Attributes
    ----------
    index : tensor of int, shape (..., n_stimuli, k)
        In no order among them; leading dims hold orders of the stimuli.
    similarity : tensor of shape (..., n_stimuli, k)
    usable : bool
    """

    index: torch.Tensor
    similarity: torch.Tensor
    usable: bool

    def take(self, orders: torch.Tensor) -> "Neighbours":
        """Return the neighbours of stimuli in several orders, (n_orders, n_stimuli)."""
        inverse = torch.argsort(orders, dim=1)
        moved = self.index[orders]
        index = torch.gather(inverse, 1, moved.flatten(1)).view_as(moved)
        return replace(self, index=index, similarity=self.similarity[orders])


def nearest(values, device: torch.device, k: int = K) -> Neighbours:
    """Find the neighbours of every row.

    Parameters
    ----------
    values : array of shape (n_stimuli, n_features)
        Read in blocks of features where these are many.
    device : torch.device
    k : int
    """
    values, device = check_rows(values), host_of(device)
    n = len(values)
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or not 1 <= k < n - 1:
        raise ValueError(f"k: got {k!r} neighbours of {n} stimuli, expected an integer from 1 to {n - 2}: all others "
                         "are neighbours in any space.")
    scale = _inverse_lengths(values)
    index = torch.zeros((n, k), dtype=torch.int64, device=device)
    similarity = torch.zeros((n, k), dtype=torch.float64, device=device)
    if scale is None:
        return Neighbours(index, similarity, False)
    rows = rows_per_chunk(32 * n, device)
    columns = rows_per_chunk(32 * n, device)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        # float64: the cosines of features with a large common mean differ in their last digits.
        product = torch.zeros((stop - start, n), dtype=torch.float64, device=device)
        for first in range(0, values.shape[1], columns):
            block = np.asarray(values[:, first:first + columns], np.float64) * scale[:, None]
            block = torch.as_tensor(block, device=device)
            product.addmm_(block[start:stop], block.T)
        product[torch.arange(stop - start), torch.arange(start, stop)] = -torch.inf
        similarity[start:stop], index[start:stop] = _largest(product, k)
    return Neighbours(index, similarity, True)


def mutual_score(a: Neighbours, b: Neighbours) -> torch.Tensor:
    """Mutual k-NN of prepared features, one value an order of the stimuli."""
    if not (a.usable and b.usable):
        return torch.tensor(torch.nan)
    return _same(a, b).any(-1).double().mean((-1, -2))


def cycle_score(a: Neighbours, b: Neighbours) -> torch.Tensor:
    """Cycle k-NN of prepared features: a step in the first, a step in the second."""
    if not (a.usable and b.usable):
        return torch.tensor(torch.nan)
    index, other = torch.broadcast_tensors(a.index, b.index)
    reached = _rows_at(other, index)
    own = torch.arange(index.shape[-2], device=index.device)[:, None, None]
    return (reached == own).flatten(-2).any(-1).double().mean(-1)


def cknna_score(a: Neighbours, b: Neighbours) -> torch.Tensor:
    """CKNNA of prepared features, one value an order of the stimuli."""
    if not (a.usable and b.usable):
        return torch.tensor(torch.nan)
    same = _same(a, b)
    k = a.similarity * same.any(-1)
    l = (same * b.similarity[..., None, :]).sum(-1)  # noqa: E741
    index = a.index.expand(k.shape)
    own = _sparse_hsic(a.index, a.similarity, a.similarity) * _sparse_hsic(b.index, b.similarity, b.similarity)
    return _sparse_hsic(index, k, l) / torch.where(own > 0, own, torch.nan).sqrt()


def _both(x, y, k, device):
    device = resolve(device)
    return [nearest(v, device, k) for v in check_pair(x, y)]


def _largest(product, k):
    """Largest values of each row and where they stand; chance decides among those that are equal at the last place.

    The first ones would favour the same stimuli in every space, so that unrelated categories had neighbours in common.
    The draw follows from the row itself: the same geometry has the same neighbours.
    """
    best, index = torch.topk(product, k + 1, dim=1)
    tied = torch.nonzero(best[:, k - 1] - best[:, k] <= _EQUAL)[:, 0]
    if len(tied):
        rows, last = product[tied], best[tied, k - 1, None]
        coarse = to_numpy(torch.round(rows * 2**20) + 0.0)
        order = np.stack([np.random.default_rng(zlib.crc32(row.tobytes())).random(len(row)) for row in coarse])
        order = torch.as_tensor(order, device=product.device).masked_fill(rows < last - _EQUAL, -1)
        found = torch.topk(order.masked_fill(rows > last + _EQUAL, 2), k, dim=1).indices
        index[tied, :k], best[tied, :k] = found, rows.gather(1, found)
    return best[:, :k], index[:, :k]


def _inverse_lengths(values):
    """One over the length of each row; None for rows that are not finite, zero, or all the same."""
    n, p = values.shape
    step = rows_per_chunk(32 * n, torch.device("cpu"))
    squares, largest, spread = np.zeros(n), 0.0, 0.0
    for start in range(0, p, step):
        block = np.asarray(values[:, start:start + step], np.float64)
        if not np.isfinite(block).all():
            return None
        squares += np.einsum("ij,ij->i", block, block)
        largest = max(largest, float(np.abs(block).max()))
        spread = max(spread, float(np.ptp(block, axis=0).max()))
    if not squares.all() or spread <= 1e-7 * largest:
        return None
    return 1 / np.sqrt(squares)


def _same(a, b):
    """Whether neighbours of the first are those of the second: (..., n, k, k)."""
    return a.index[..., :, None] == b.index[..., None, :]


def _rows_at(values, index):
    """Rows of (..., n, k) at the rows named by (..., n, k): (..., n, k, k)."""
    k = values.shape[-1]
    flat = index.flatten(-2)[..., None].expand(*index.shape[:-2], -1, k)
    return torch.gather(values, -2, flat).view(*index.shape, k)


def _sparse_hsic(index, k, l):  # noqa: E741
    """Unbiased HSIC, up to a factor, of two kernels that are zero but at (row, index[row])."""
    n = index.shape[-2]
    own = torch.arange(n, device=index.device)[:, None, None]
    mirrored = (_rows_at(l, index) * (_rows_at(index, index) == own)).sum(-1)
    columns = torch.zeros(k.shape[:-1], dtype=k.dtype, device=k.device)
    columns.scatter_add_(-1, index.flatten(-2), k.flatten(-2))
    product = (columns * l.sum(-1)).sum(-1)
    totals = k.sum((-1, -2)) * l.sum((-1, -2))
    return (k * mirrored).sum((-1, -2)) + totals / ((n - 1) * (n - 2)) - 2 * product / (n - 2)
