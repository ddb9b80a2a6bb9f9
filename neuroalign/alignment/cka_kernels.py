"""The kernels of one set of features that CKA compares, and their HSIC.

With centred kernels K, L the sum over pairs i != j of their product gives the unbiased HSIC of Song et al. 2012 in
closed form. A linear kernel of fewer features than stimuli is never made: ``|X'Y|^2`` is the same sum.
"""

import numpy as np
import torch

from neuroalign.linalg import rows_per_chunk, to_numpy, to_tensor

__all__ = ["MIN_STIMULI", "Kernel", "array_key", "centre_kernels", "check_count", "hsic", "linear_kernel", "rbf_kernel",
           "unit_kernels"]

MIN_STIMULI = 4


class Kernel:
    """A centred kernel: the features themselves where these are fewer than stimuli, else a matrix.

    Attributes
    ----------
    n : int
        Number of stimuli.
    rows : tensor of shape (n, n_features), or None
        Centred features, up to a scale.
    gram : tensor of shape (n, n), or None
        The kernel, up to a scale, where there are no rows.
    lengths : float64 array of shape (n,)
        Its diagonal.
    usable : bool
        False for features that are constant or hold NaN.
    """

    def __init__(self, lengths, usable, *, rows=None, gram=None):
        self.n, self.lengths, self.usable, self.rows, self.gram = len(lengths), lengths, usable, rows, gram

    @property
    def narrow(self) -> bool:
        """Whether the kernel is kept as rows."""
        return self.rows is not None

    def square(self, rows=None) -> torch.Tensor:
        """Return the kernel, shape (1, n, n), or those of several selections of rows, (batch, m, m)."""
        if self.narrow:
            x = self.rows[None] if rows is None else self.rows[rows]
            x = x - x.mean(1, keepdim=True)
            k = x @ x.transpose(1, 2)
        else:
            k = self.gram[None] if rows is None else self.gram[rows[:, :, None], rows[:, None, :]]
        return k if self.usable else torch.full_like(k, torch.nan)

    def off_diagonal(self) -> torch.Tensor:
        """Return the matrix with a zero diagonal."""
        return self.gram - torch.diag(self.gram.diagonal())


def linear_kernel(values, device: torch.device) -> Kernel:
    """Prepare inner products of centred features; a memory map is read in blocks of features where these are many."""
    values = _checked(values)
    n, n_features = values.shape
    narrow = n_features < n
    step = n_features if narrow else rows_per_chunk(16 * n, device)
    sums, gram, usable, size = np.zeros(n), 0, True, 0.0
    for start in range(0, n_features, step):
        block = np.asarray(values[:, start:start + step], np.float64)
        size = max(size, float(np.abs(block).max(initial=0)))
        if not np.isfinite(block).all():
            usable, block = False, np.nan_to_num(block, posinf=0, neginf=0)
        block = block - block.mean(0)
        sums += np.einsum("ij,ij->i", block, block)
        # A common scale leaves CKA as it is and keeps float32 products in range.
        scale = size or 1
        rows = to_tensor((block / scale).astype(np.float32), device)
        if not narrow:
            gram = gram + to_numpy(rows @ rows.T).astype(np.float64) * scale**2
    usable = usable and bool(sums.sum() > (1e-7 * size) ** 2 * n * n_features)
    if narrow:
        return Kernel(sums / scale**2, usable, rows=rows)
    scale = max(float(sums.mean()), np.finfo(float).tiny)
    np.fill_diagonal(gram, sums)
    return Kernel(sums / scale, usable, gram=to_tensor((gram / scale).astype(np.float32), device))


def rbf_kernel(values, device: torch.device) -> Kernel:
    """Prepare a Gaussian kernel whose width is the median distance between stimuli, centred."""
    values = _checked(values)
    n, n_features = values.shape
    step, squared, usable = rows_per_chunk(16 * n, device), np.zeros((n, n)), True
    for start in range(0, n_features, step):
        block = np.asarray(values[:, start:start + step], np.float64)
        if not np.isfinite(block).all():
            usable, block = False, np.nan_to_num(block, posinf=0, neginf=0)
        block = block - block.mean(0)  # distances do not see it; products keep their digits
        sums = np.einsum("ij,ij->i", block, block)
        squared += sums[:, None] + sums[None, :] - 2 * (block @ block.T)
    np.fill_diagonal(squared, 0)
    width = float(np.median(squared[np.triu_indices(n, 1)]))
    usable = usable and width > 1e-14 * n_features * float(np.square(np.nan_to_num(values)).mean())
    kernel = np.exp(np.maximum(squared, 0) / (-2 * width)) if usable else np.zeros((n, n))
    kernel -= kernel.mean(0)
    kernel -= kernel.mean(1, keepdims=True)
    return Kernel(kernel.diagonal().copy(), usable, gram=to_tensor(kernel.astype(np.float32), device))


def array_key(values) -> tuple:
    """Return what two views of the same numbers have in common: each array is then prepared once."""
    if isinstance(values, np.ndarray):
        about = values.__array_interface__
        return about["data"], values.shape, values.strides, values.dtype.str
    return (id(values),)


def hsic(a: Kernel, b: Kernel, estimator: str) -> float:
    """Hilbert-Schmidt independence criterion, up to a factor of n that CKA does not see."""
    n, both = a.n, float(a.lengths @ b.lengths)
    off = _off_diagonal_product(a, b, both)
    if estimator == "biased":
        return off + both
    totals = float(a.lengths.sum() * b.lengths.sum())
    return off + totals / ((n - 1) * (n - 2)) - 2 * both / (n - 2)


def unit_kernels(k: torch.Tensor, estimator: str) -> torch.Tensor:
    """Centre kernels, shape (batch, n, n), and scale them so that CKA is the sum of their product."""
    k = centre_kernels(k, estimator)
    wide = torch.float32 if k.device.type == "mps" else torch.float64
    norm = (k * k).sum((-1, -2), dtype=wide).sqrt().to(k.dtype)
    return k / torch.where(norm > 0, norm, torch.nan)[..., None, None]


def centre_kernels(k: torch.Tensor, estimator: str) -> torch.Tensor:
    """Centre kernels, shape (..., n, n), so that the sum of the product of two is their HSIC, up to a factor."""
    n = k.shape[-1]
    if estimator == "biased":
        k = k - k.mean(-1, keepdim=True)
        return k - k.mean(-2, keepdim=True)
    k = k - torch.diag_embed(k.diagonal(dim1=-2, dim2=-1))
    rows = k.sum(-1, keepdim=True) / (n - 2)
    k = k - rows - rows.transpose(-1, -2) + k.sum((-1, -2), keepdim=True) / ((n - 1) * (n - 2))
    return k - torch.diag_embed(k.diagonal(dim1=-2, dim2=-1))


def check_count(n: int) -> None:
    """Refuse fewer stimuli than the unbiased estimate needs."""
    if n < MIN_STIMULI:
        raise ValueError(f"cka: got {n} stimuli, expected at least {MIN_STIMULI}.")


def _checked(values) -> np.ndarray:
    values = to_numpy(values)
    if values.ndim != 2:
        raise ValueError(f"cka: got an array of shape {values.shape}, expected (n_stimuli, n_features).")
    check_count(len(values))
    return values


def _off_diagonal_product(a: Kernel, b: Kernel, both: float) -> float:
    """Sum over i != j of the product of two centred kernels, added in float64."""
    if a.narrow and b.narrow:
        return _sum(a.rows.T @ b.rows, None) - both
    if not a.narrow and not b.narrow:
        return _sum(a.off_diagonal(), b.gram)
    rows, wide = (a.rows, b) if a.narrow else (b.rows, a)
    return _sum(wide.off_diagonal() @ rows, rows)


def _sum(x: torch.Tensor, y: torch.Tensor | None) -> float:
    x = x * (x if y is None else y)
    return float(x.sum(1, dtype=torch.float32 if x.device.type == "mps" else torch.float64).sum())
