"""Gram matrices in the smaller space, with standardisation by training rows, and their eigenbases."""

from dataclasses import dataclass

import torch

from neuroalign.linalg.device import widest
from neuroalign.linalg.solve import eigh_psd

__all__ = [
    "Eigenbasis",
    "FoldKernel",
    "centred_moment",
    "eigenbasis",
    "fold_scale",
    "kernel_eigenbasis",
    "needs_float64",
    "second_moment",
    "standardisation",
    "surely_needs_float64",
]

# A column whose spread is below this share of its spread over all rows is taken for constant.
CONSTANT = 1e-6
STEEP = 30.0  # one over the share from which on its moment is not taken from that of all rows, in float32


@dataclass(frozen=True)
class Eigenbasis:
    """The training rows of a design in their eigenbasis: ``X_train = basis @ axes.T``, with the product of `axes`.

    Attributes
    ----------
    values : tensor of shape (n_components,)
        Eigenvalues of the Gram matrix of the centred (and scaled) training rows.
    basis : tensor of shape (n_train, n_components)
    rows : tensor of shape (n_test, n_components)
        Test rows, centred and scaled as the training rows.
    axes : tuple of tensors, or None
        Factors of the orthonormal axes (n_features, n_components), where asked for: one matrix, or the training rows
        and their weights. Their product takes as long as the Gram matrix, and few rows are projected without it.
    mean, scale : tensor of shape (n_features,), or None
        ``(X - mean) * scale`` is what was decomposed; the scale of a constant column is 0. None with a kernel.
    """

    values: torch.Tensor
    basis: torch.Tensor
    rows: torch.Tensor
    axes: tuple[torch.Tensor, ...] | None
    mean: torch.Tensor | None
    scale: torch.Tensor | None


def standardisation(X: torch.Tensor, standardize: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the factor 1 / standard deviation of each column, in float64 where there is one.

    The factor of a constant column is 0, so that it contributes nothing; it is 1 everywhere else if
    `standardize` is False.

    Examples
    --------
    >>> mean, scale = standardisation(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> mean.tolist(), scale.tolist()
    ([2.0, 5.0], [1.0, 0.0])
    """
    var, mean = torch.var_mean(X.to(widest(X.device)), dim=0, correction=0)
    sd = var.sqrt()
    # Rounding of a constant column of size |mean| leaves a spread of that order of machine precision.
    constant = sd <= 1e-10 * mean.abs()
    scale = torch.where(constant, 0.0, 1.0 / sd.clamp_min(torch.finfo(sd.dtype).tiny) if standardize else 1.0)
    return mean, scale


def second_moment(X: torch.Tensor, rows: torch.Tensor, total: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``X[rows].T @ X[rows]``; from the moment of all rows by downdating where that is less work."""
    if total is not None and len(rows) > len(X) / 2:
        left_out = torch.ones(len(X), dtype=torch.bool, device=X.device)
        left_out[rows] = False
        rest = X[left_out]
        return total - rest.T @ rest
    part = X[rows]
    return part.T @ part


def centred_moment(X: torch.Tensor, rows: torch.Tensor, part: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor,
                   total: torch.Tensor | None = None) -> torch.Tensor:
    """Return the second moment of ``part = X[rows]`` about its mean, both sides times `scale`.

    From the moment of all rows where that serves: a column that varies much less in these rows than in all (a far
    outlier was left out) would be what rounding leaves of a difference, and is made of the rows themselves.
    """
    if X.dtype == torch.float32 and bool((scale > STEEP).any()):
        scaled = (part - mean) * scale
        return scaled.T @ scaled
    moment = second_moment(X, rows, total) - len(rows) * torch.outer(mean, mean)
    return moment * scale[:, None] * scale


def needs_float64(gram: torch.Tensor, smallest: float) -> bool:
    """Whether rounding of a float32 Gram matrix would show beside the smallest penalty.

    Rounding moves eigenvalues by about machine precision times the largest; that must stay below one percent
    of the penalty that is added to them. MPS has no float64.
    """
    if gram.device.type == "mps":
        return False
    if gram.dtype == torch.float64:
        return True
    return _shows(gram.double().square().sum().sqrt(), smallest)


def surely_needs_float64(rows: torch.Tensor, smallest: float) -> bool:
    """Whether the trace alone tells that `needs_float64` holds of the Gram matrix of these rows, before it is made."""
    if rows.device.type == "mps":
        return False
    trace = rows.square().sum(dtype=torch.float64)
    return _shows(trace / min(rows.shape) ** 0.5, smallest)


def _shows(norm: torch.Tensor, smallest: float) -> bool:
    # Where the user lets torch trade digits for speed, products of float32 keep ten or seven bits.
    eps = {"highest": torch.finfo(torch.float32).eps, "high": 2.0**-11, "medium": 2.0**-8}
    return bool(eps[torch.get_float32_matmul_precision()] * norm > 0.01 * smallest)


def eigenbasis(X: torch.Tensor, train: torch.Tensor, test: torch.Tensor, *, standardize: bool, dual: bool,
               total: torch.Tensor | None = None, kernel: torch.Tensor | None = None, axes: bool = False,
               dtype: torch.dtype = torch.float32) -> Eigenbasis:
    """Decompose the training rows of a design whose columns are about centred.

    Parameters
    ----------
    X : tensor of shape (n, n_features)
        float32, or float64 where `needs_float64` says so.
    train, test : tensor of int
    standardize : bool
        Scale the columns by the standard deviation of the training rows (they are always centred by their mean).
    dual : bool
        Decompose the Gram matrix of rows (n_train x n_train), else that of columns.
    total : tensor of shape (n_features, n_features), optional
        ``X.T @ X``, to downdate from.
    kernel : tensor of shape (n, n), optional
        ``X @ X.T``, which serves every fold of the dual form where nothing is standardised.
    axes : bool
        Also return the factors of the axes.
    dtype : torch dtype
        Of the result.
    """
    if dual and kernel is not None and not standardize and not axes:
        values, _, basis, rows = _of_kernel(*_centred_kernels(kernel, train, test))
        return Eigenbasis(values.to(dtype), basis.to(dtype), rows.to(dtype), None, None, None)
    part = X[train]
    mean = part.mean(0)
    scale = fold_scale(part, mean, standardize)
    if not dual:
        values, vectors = eigh_psd(centred_moment(X, train, part, mean, scale, total))
        values, vectors = _leading(values, vectors)
        scaled = scale[:, None] * vectors
        basis, rows = (part - mean) @ scaled, (X[test] - mean) @ scaled
        factors = (vectors,)
    else:
        part = (part - mean) * scale
        if kernel is not None and not standardize:
            gram, cross = _centred_kernels(kernel, train, test)
        else:
            gram, cross = part @ part.T, ((X[test] - mean) * scale) @ part.T
        values, vectors, basis, rows = _of_kernel(gram, cross)
        factors = (part.T, vectors / values.sqrt())
    return Eigenbasis(values.to(dtype), basis.to(dtype), rows.to(dtype), factors if axes else None, mean, scale)


class FoldKernel:
    """The Gram matrix of one fold's rows, added up over blocks of features, so that all of them are never held.

    Parameters
    ----------
    train, test : tensor of int
    standardize : bool
        As in `eigenbasis`.
    dtype : torch dtype
        float64 where `needs_float64` says so of ``gram``.
    """

    def __init__(self, train: torch.Tensor, test: torch.Tensor, standardize: bool, dtype: torch.dtype):
        self.train, self.test, self.standardize = train, test, standardize
        zeros = {"dtype": dtype, "device": train.device}
        self.gram = torch.zeros(len(train), len(train), **zeros)
        self.cross = torch.zeros(len(test), len(train), **zeros)

    def add(self, block: torch.Tensor) -> None:
        """Add a block of features (n, some) whose columns are about centred."""
        part = block[self.train]
        mean = part.mean(0)
        scale = fold_scale(part, mean, self.standardize)
        part = (part - mean) * scale
        self.gram.addmm_(part, part.T)
        self.cross.addmm_((block[self.test] - mean) * scale, part.T)


def kernel_eigenbasis(kernel: FoldKernel, dtype: torch.dtype = torch.float32) -> Eigenbasis:
    """Decompose the training rows of a fold by its kernel; there are no axes."""
    values, _, basis, rows = _of_kernel(kernel.gram, kernel.cross)
    return Eigenbasis(values.to(dtype), basis.to(dtype), rows.to(dtype), None, None, None)


def _of_kernel(gram, cross):
    values, vectors = _leading(*eigh_psd(gram))
    root = values.sqrt()
    return values, vectors, vectors * root, cross @ (vectors / root)


def fold_scale(part: torch.Tensor, mean: torch.Tensor, standardize: bool) -> torch.Tensor:
    """Return one over the standard deviation of each column about its mean, 0 for a constant one."""
    if not standardize:
        return torch.ones_like(mean)
    sd = (part - mean).square().mean(0).sqrt()
    # Columns were scaled to unit spread over all rows beforehand: what hardly varies here is constant here. So is what
    # rounding of a mean far from that of all rows lets vary.
    constant = sd <= CONSTANT * mean.abs().clamp_min(1)
    return torch.where(constant, 0.0, 1.0 / sd.clamp_min(CONSTANT)).to(part.dtype)


def _leading(values, vectors):
    """Drop the directions that are zero within rounding."""
    kept = values > torch.finfo(values.dtype).eps * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    return values[kept], vectors[:, kept]


def _centred_kernels(kernel, train, test):
    own, cross = kernel[train][:, train], kernel[test][:, train]
    column = own.mean(0)
    grand = column.mean()
    return (own - column - column[:, None] + grand,
            cross - cross.mean(1, keepdim=True) - column + grand)
