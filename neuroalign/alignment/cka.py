"""Linear CKA, debiased and biased, without a stimulus x stimulus matrix where features are fewer than stimuli.

With centred features X, Y and the squared row lengths k, l, the sum over pairs i != j of the two kernels is
``|X'Y|^2 - sum(k l)``; the unbiased HSIC of Song et al. 2012 follows from it in closed form.
"""

import numpy as np
import torch

from neuroalign.alignment.label_null import permuted_products
from neuroalign.errors import check_option
from neuroalign.linalg import resolve, rows_per_chunk, to_numpy, to_tensor

__all__ = ["cka_grid", "cka_null", "cka_subsamples", "kernel_cka", "linear_cka"]

ESTIMATORS = ("debiased", "biased")
MIN_STIMULI = 4


def linear_cka(x, y, *, estimator: str = "debiased", device="auto") -> float:
    """Centred kernel alignment of two sets of features of the same stimuli.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
        Rows are the same stimuli in the same order.
    estimator : {"debiased", "biased"}
        debiased (Song et al. 2012; Kornblith et al. 2019) is about 0 for unrelated data whatever the sizes and
        can be negative; biased tends to 1 when features outnumber stimuli.
    device : str

    Returns
    -------
    float
        At most 1; NaN if either side is constant or holds NaN.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 10))
    >>> round(linear_cka(x, 3 * x[:, ::-1] + 1), 5)
    1.0
    >>> unrelated = np.random.default_rng(1).standard_normal((50, 10))
    >>> linear_cka(x, unrelated, estimator="biased") > 0.1 > linear_cka(x, unrelated)
    True
    """
    return float(cka_grid([x], [y], estimator=estimator, device=device)[0, 0])


def kernel_cka(k, l, *, estimator: str = "debiased") -> float:  # noqa: E741
    """CKA of two kernels (similarity matrices) of the same stimuli, in float64.

    Parameters
    ----------
    k, l : array of shape (n_stimuli, n_stimuli)
        Symmetric; they need not be centred.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((20, 5))
    >>> abs(kernel_cka(x @ x.T, x @ x.T) - 1) < 1e-12
    True
    """
    check_option("estimator", estimator, ESTIMATORS)
    a, b = (torch.as_tensor(np.asarray(m, np.float64))[None] for m in (k, l))
    if a.shape != b.shape or a.shape[1] != a.shape[2]:
        raise ValueError(f"kernel_cka: got shapes {tuple(a.shape[1:])} and {tuple(b.shape[1:])}, expected two square "
                         "matrices of one size.")
    _check_count(a.shape[1])
    a, b = _unit_kernels(a, estimator), _unit_kernels(b, estimator)
    return float((a * b).sum())


def cka_grid(xs, ys, *, estimator: str = "debiased", device="auto") -> np.ndarray:
    """CKA of every array of one list with every array of another.

    Parameters
    ----------
    xs, ys : sequence of arrays of shape (n_stimuli, n_features)
        All with the same stimuli; memory maps are read in blocks of features where these are many.
    estimator : {"debiased", "biased"}

    Returns
    -------
    float64 array of shape (len(xs), len(ys))
    """
    check_option("estimator", estimator, ESTIMATORS)
    device = resolve(device)
    left = [_Kernel(x, device) for x in xs]
    known = {id(x): kernel for x, kernel in zip(xs, left)}
    right = [known.get(id(y)) or _Kernel(y, device) for y in ys]
    if len({k.n for k in (*left, *right)}) > 1:
        raise ValueError(f"cka: the arrays have {sorted({k.n for k in (*left, *right)})} rows, expected the same "
                         "stimuli in each.")
    own = {id(k): _hsic(k, k, estimator) for k in (*left, *right)}
    out = np.full((len(left), len(right)), np.nan)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            scale = own[id(a)] * own[id(b)]
            if a.usable and b.usable and scale > 0:
                out[i, j] = _hsic(a, b, estimator) / np.sqrt(scale)
    return out


def cka_null(xs, ys, permutations, *, estimator: str = "debiased", weights=None, device="auto") -> np.ndarray:
    """CKA with the stimuli of `xs` permuted, the same way for all of them.

    Parameters
    ----------
    xs, ys : sequence of arrays of shape (n_stimuli, n_features)
    permutations : int array of shape (n_permutations, n_stimuli)
    weights : array of shape (n_cells, len(ys)), optional
        Means over `ys` (subjects) to return instead of each.

    Returns
    -------
    float64 array of shape (n_permutations, len(xs), len(ys) or n_cells)
    """
    check_option("estimator", estimator, ESTIMATORS)
    device = resolve(device)
    n = len(permutations[0])
    first, second = np.triu_indices(n, 0 if estimator == "biased" else 1)
    twice = np.where(first == second, 1.0, 2.0).astype(np.float32)
    units = np.stack([to_numpy(_unit_kernels(_Kernel(y, device).square(), estimator))[0][first, second] for y in ys])
    vectors = (units if weights is None else weights.astype(np.float32) @ units) * twice
    out = np.empty((len(permutations), len(xs), len(vectors)))
    step = rows_per_chunk(8 * n * n, device)
    for start in range(0, len(xs), step):
        part = [_unit_kernels(_Kernel(x, device).square(), estimator) for x in xs[start:start + step]]
        out[:, start:start + step] = permuted_products(to_numpy(torch.cat(part)), vectors, first, second,
                                                       permutations, device)
    return out


def cka_subsamples(xs, ys, indices, *, estimator: str = "debiased", device="auto") -> np.ndarray:
    """CKA of subsamples of the stimuli (none twice).

    Parameters
    ----------
    xs, ys : sequence of arrays of shape (n_stimuli, n_features)
    indices : int array of shape (n_resamples, size)

    Returns
    -------
    float64 array of shape (n_resamples, len(xs), len(ys))
    """
    check_option("estimator", estimator, ESTIMATORS)
    device = resolve(device)
    left, right = [_Kernel(x, device) for x in xs], [_Kernel(y, device) for y in ys]
    out = np.full((len(indices), len(xs), len(ys)), np.nan)
    rows = torch.as_tensor(np.asarray(indices), dtype=torch.int64, device=device)
    step = rows_per_chunk(16 * (len(xs) + len(ys)) * rows.shape[1] ** 2, device, limit=2**27)
    for start in range(0, len(rows), step):
        part = rows[start:start + step]
        a, b = (torch.stack([_unit_kernels(k.square(part), estimator).flatten(1) for k in side], 1)
                for side in (left, right))
        out[start:start + step] = to_numpy(a @ b.transpose(1, 2))
    return out


class _Kernel:
    """One set of features: itself where features are fewer than stimuli, else its Gram matrix."""

    def __init__(self, values, device: torch.device):
        values = values if isinstance(values, np.ndarray) else np.asarray(values)
        if values.ndim != 2:
            raise ValueError(f"cka: got an array of shape {values.shape}, expected (n_stimuli, n_features).")
        self.n, n_features = values.shape
        _check_count(self.n)
        self.device = device
        self.narrow = n_features < self.n
        self.rows = self.gram = None
        step = n_features if self.narrow else rows_per_chunk(16 * self.n, device)
        parts = [slice(s, min(s + step, n_features)) for s in range(0, n_features, step)]
        sums, gram, self.usable, size = np.zeros(self.n), 0, True, 0.0
        for part in parts:
            block = np.asarray(values[:, part], np.float64)
            size = max(size, float(np.abs(block).max(initial=0)))
            if not np.isfinite(block).all():
                self.usable, block = False, np.nan_to_num(block, posinf=0, neginf=0)
            block = block - block.mean(0)
            sums += np.einsum("ij,ij->i", block, block)
            # A common scale leaves CKA as it is and keeps float32 products in range.
            tensor = to_tensor((block / (size or 1)).astype(np.float32), device)
            if self.narrow:
                self.rows, self.scale = tensor, size or 1
            else:
                gram = gram + to_numpy(tensor @ tensor.T).astype(np.float64) * (size or 1) ** 2
        if self.narrow:
            self.lengths = sums / self.scale**2
        else:
            scale = max(float(sums.mean()), np.finfo(float).tiny)
            self.lengths = sums / scale
            np.fill_diagonal(gram, sums)
            self.gram = to_tensor((gram / scale).astype(np.float32), device)
        if not sums.sum() > (1e-7 * size) ** 2 * self.n * n_features:
            self.usable = False

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
        return self.gram - torch.diag(self.gram.diagonal())


def _hsic(a: _Kernel, b: _Kernel, estimator: str) -> float:
    """Hilbert-Schmidt independence criterion, up to a factor that CKA does not see."""
    n, both = a.n, float(a.lengths @ b.lengths)
    off = _off_diagonal_product(a, b, both)
    if estimator == "biased":
        return off + both
    totals = float(a.lengths.sum() * b.lengths.sum())
    return off + totals / ((n - 1) * (n - 2)) - 2 * both / (n - 2)


def _off_diagonal_product(a: _Kernel, b: _Kernel, both: float) -> float:
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


def _unit_kernels(k: torch.Tensor, estimator: str) -> torch.Tensor:
    """Centre kernels, shape (batch, n, n), and scale them so that CKA is the sum of their product."""
    n = k.shape[-1]
    if estimator == "biased":
        k = k - k.mean(-1, keepdim=True)
        k = k - k.mean(-2, keepdim=True)
    else:
        k = k - torch.diag_embed(k.diagonal(dim1=-2, dim2=-1))
        rows = k.sum(-1, keepdim=True) / (n - 2)
        k = k - rows - rows.transpose(-1, -2) + k.sum((-1, -2), keepdim=True) / ((n - 1) * (n - 2))
        k = k - torch.diag_embed(k.diagonal(dim1=-2, dim2=-1))
    wide = torch.float32 if k.device.type == "mps" else torch.float64
    norm = (k * k).sum((-1, -2), dtype=wide).sqrt().to(k.dtype)
    return k / torch.where(norm > 0, norm, torch.nan)[:, None, None]


def _check_count(n: int) -> None:
    if n < MIN_STIMULI:
        raise ValueError(f"cka: got {n} stimuli, expected at least {MIN_STIMULI}.")
