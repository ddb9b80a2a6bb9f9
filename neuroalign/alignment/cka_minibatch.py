"""CKA by minibatches: unbiased HSIC of small batches, averaged, in the memory of one batch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from neuroalign.alignment.cka_kernels import MIN_STIMULI, centre_kernels
from neuroalign.alignment.feature_basis import check_pair, check_rows, compact_rows, host_of
from neuroalign.linalg import resolve, to_numpy, to_tensor
from neuroalign.stats import child_rng

__all__ = ["BATCH", "BatchedRows", "minibatch_cka", "minibatch_score", "stream_cka"]

BATCH = 256


def minibatch_cka(x, y, *, batch: int = BATCH, random_state: int = 0, device="auto") -> float:
    """Linear CKA from the unbiased HSIC of random batches of stimuli, each averaged before the ratio.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    batch : int
        Most stimuli in a batch; all batches are about equal. With one batch it is debiased CKA.
    random_state : int
        Order in which the stimuli fall into batches.
    device : str

    Returns
    -------
    float
        NaN if either side is constant or holds NaN.

    Notes
    -----
    Nguyen, Raghu & Kornblith 2021, ICLR. Pairs of stimuli that share no batch are not looked at, so that it scatters
    a little more than debiased CKA, about the same value.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((300, 10))
    >>> round(minibatch_cka(x, 3 * x[:, ::-1] + 1, batch=50), 5)
    1.0
    """
    x, y = check_pair(x, y)
    if not isinstance(batch, (int, np.integer)) or batch < MIN_STIMULI:
        raise ValueError(f"batch: got {batch!r}, expected an integer of at least {MIN_STIMULI}.")
    device = resolve(device)
    a, b = (BatchedRows.of(v, device, batch=batch, random_state=random_state) for v in (x, y))
    return float(minibatch_score(a, b))


def stream_cka(batches: Iterable, *, device="auto") -> np.ndarray:
    """CKA of every space of one model with every space of another, from batches that come one after the other.

    Parameters
    ----------
    batches : iterable of (sequence of array (m, p_i), sequence of array (m, q_j))
        Activations of the same m stimuli (at least 4) in all spaces; nothing is kept but sums.
    device : str

    Returns
    -------
    float64 array of shape (n_spaces, n_other_spaces)
        NaN for a space that is constant or holds NaN.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((60, 4))
    >>> stream_cka(([x[s:s + 20]], [2 * x[s:s + 20], -x[s:s + 20]]) for s in (0, 20, 40)).round(5).tolist()
    [[1.0, 1.0]]
    """
    device, total, sizes = host_of(resolve(device)), None, None
    for xs, ys in batches:
        arrays = [to_numpy(v) for v in (*xs, *ys)]
        rows = {len(v) for v in arrays}
        here = (len(xs), len(ys))
        if len(rows) != 1 or min(rows) < MIN_STIMULI or (sizes and here != sizes):
            raise ValueError(f"stream_cka: got a batch of {here[0]} and {here[1]} spaces with {sorted(rows)} stimuli, "
                             f"expected {sizes or 'the same number of'} spaces in each batch, and the same stimuli "
                             f"(at least {MIN_STIMULI}) in all of them.")
        sizes, n = here, rows.pop()
        kernels = [_batch_kernel(check_rows(v), device) for v in arrays]
        left, right = torch.stack(kernels[:len(xs)]), torch.stack(kernels[len(xs):])
        weight = n * (n - 3)
        found = [torch.einsum("aij,bij->ab", left, right) / weight, *((k * k).sum((1, 2)) / weight
                                                                     for k in (left, right))]
        total = found if total is None else [t + f for t, f in zip(total, found)]
    if total is None:
        raise ValueError("stream_cka: no batch was given.")
    cross, own, other = (to_numpy(t) for t in total)
    scale = np.outer(own, other)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, cross / np.sqrt(scale), np.nan)


@dataclass(frozen=True)
class BatchedRows:
    """Features with the batches their stimuli fall into.

    Attributes
    ----------
    rows : float64 tensor of shape (..., n_stimuli, n_columns)
        Centred; leading dims hold orders of the stimuli.
    batches : tuple of int tensor
    usable : bool
    """

    rows: torch.Tensor
    batches: tuple
    usable: bool

    @classmethod
    def of(cls, values, device, *, batch: int = BATCH, random_state: int = 0) -> "BatchedRows":
        """Prepare features; wide ones are rotated into as many columns as there are stimuli."""
        device, n = host_of(device), len(values)
        rows = np.asarray(compact_rows(np.asarray(values), device), np.float64)
        size = np.abs(rows).max(initial=0)
        usable = bool(np.isfinite(size)) and size > 0
        centred = (rows / size if usable else np.zeros_like(rows))
        centred = centred - centred.mean(0)
        usable = usable and bool(np.square(centred).mean() > 1e-14)
        order = child_rng(random_state, "minibatches").permutation(n)
        parts = np.array_split(order, -(-n // batch))
        return cls(torch.as_tensor(centred, device=device),
                   tuple(torch.as_tensor(p, device=device) for p in parts), usable)

    def take(self, orders: torch.Tensor) -> "BatchedRows":
        """Return the features of stimuli in several orders, (n_orders, n_stimuli), in the same batches of places."""
        return replace(self, rows=self.rows[orders])

    def kernels(self):
        """Yield the centred kernels of each batch, (..., m, m)."""
        for part in self.batches:
            rows = self.rows[..., part, :]
            yield centre_kernels(rows @ rows.mT, "debiased")


def minibatch_score(a: BatchedRows, b: BatchedRows) -> torch.Tensor:
    """CKA by minibatches of prepared features, one value an order of the stimuli."""
    if not (a.usable and b.usable):
        return torch.tensor(torch.nan)
    cross = own = other = 0
    for k, l in zip(a.kernels(), b.kernels()):  # noqa: E741
        weight = k.shape[-1] * (k.shape[-1] - 3)
        cross = cross + (k * l).sum((-1, -2)) / weight
        own, other = own + (k * k).sum((-1, -2)) / weight, other + (l * l).sum((-1, -2)) / weight
    return cross / (own * other).sqrt()


def _batch_kernel(values, device):
    rows = to_tensor(np.ascontiguousarray(values, np.float64), device, torch.float64)
    size, rows = rows.abs().max(), rows - rows.mean(0)
    if rows.abs().max() <= 1e-7 * size:
        rows = torch.zeros_like(rows)  # what is left of a constant is rounding
    return centre_kernels(rows @ rows.T, "debiased")
