"""Centred features in their eigenbasis, in float64, from the Gram matrix of whichever side is shorter.

Canonical correlations and shape distances need no more of a feature space than its left singular vectors and
singular values: an eigendecomposition of one Gram gives both, and features are read in blocks.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from neuroalign.linalg import eigh_psd, rows_per_chunk, to_numpy

__all__ = ["FeatureBasis", "check_pair", "check_rows", "compact_rows", "feature_basis",
           "host_of"]

MIN_STIMULI = 4
# Eigenvalues of a Gram below this share of the largest are rounding of float32 features.
_NEGLIGIBLE = 1e-10


@dataclass(frozen=True)
class FeatureBasis:
    """Centred features, ``left @ diag(singular) @ right.T``.

    Attributes
    ----------
    singular : tensor of shape (n_components,)
        Descending.
    loadings : tensor of shape (n_components, n_features), or None
        ``left.T @ features``, where asked for.
    usable : bool
        False for features that are constant or hold NaN.
    vectors : tensor of shape (..., n_stimuli, n_components), or None
        `left` where it is known already.
    rows : tensor of shape (n_stimuli, n_features), or None
        Centred features, where fewer than stimuli.
    axes : tensor of shape (n_features, n_components), or None
        ``left = rows @ axes``.
    """

    singular: torch.Tensor
    loadings: torch.Tensor | None
    usable: bool
    vectors: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    axes: torch.Tensor | None = None

    @cached_property
    def left(self) -> torch.Tensor:
        """Orthonormal columns (..., n_stimuli, n_components); leading dims hold orders of the stimuli."""
        return self.rows @ self.axes if self.vectors is None else self.vectors

    @property
    def n_stimuli(self) -> int:
        """Number of stimuli."""
        return (self.rows if self.vectors is None else self.vectors).shape[-2]

    @property
    def rank(self) -> int:
        """Number of components."""
        return len(self.singular)

    def overlap(self, other: "FeatureBasis") -> torch.Tensor:
        """Return ``left' left`` of two sides that are met once: without making `left`, where both are narrow."""
        if self.vectors is None and other.vectors is None:
            return self.axes.T @ (self.rows.T @ other.rows) @ other.axes
        return self.left.mT @ other.left

    def take(self, orders: torch.Tensor) -> "FeatureBasis":
        """Return the features of stimuli in several orders, (n_orders, n_stimuli)."""
        return replace(self, vectors=self.left[orders], rows=None, axes=None)

    def keep(self, variance: float) -> "FeatureBasis":
        """Return the leading components that hold a share of the variance."""
        if variance >= 1 or not self.usable:
            return self
        held = torch.cumsum(self.singular**2, 0) / (self.singular**2).sum()
        count = int((held < variance - 1e-12).sum()) + 1
        loadings = None if self.loadings is None else self.loadings[:count]
        parts = {"singular": self.singular[:count], "loadings": loadings}
        if self.vectors is None:
            return replace(self, axes=self.axes[:, :count], **parts)
        return replace(self, vectors=self.vectors[..., :count], **parts)


def feature_basis(values, device: torch.device, *, loadings: bool = False) -> FeatureBasis:
    """Decompose centred features.

    Parameters
    ----------
    values : array of shape (n_stimuli, n_features)
        Read in blocks of features where these are many.
    device : torch.device
    loadings : bool
        Also keep ``left.T @ features``.
    """
    values = check_rows(values)
    device = host_of(device)
    n, p = values.shape
    gram, size, usable = _gram(values, device)
    if not usable:
        empty = torch.zeros((n, 1), dtype=torch.float64, device=device)
        return FeatureBasis(empty[0], empty.new_zeros((1, p)) if loadings else None, False, empty)
    squared, vectors = (t.flip(-1) for t in eigh_psd(gram))
    kept = squared > _NEGLIGIBLE * squared[0]
    singular, vectors = squared[kept].sqrt(), vectors[:, kept]
    if p < n:
        loaded = (singular * vectors).T * size if loadings else None
        return FeatureBasis(singular * size, loaded, True, rows=_centred(values, 0, p, device, size),
                            axes=vectors / singular)
    loaded = _loadings(values, vectors, device, size) * size if loadings else None
    return FeatureBasis(singular * size, loaded, True, vectors)


def compact_rows(values, device: torch.device) -> np.ndarray:
    """Return features with the same centred inner products in at most as many columns as there are stimuli."""
    if values.shape[1] <= values.shape[0]:
        return values
    basis = feature_basis(values, device)
    return to_numpy(basis.left * basis.singular) if basis.usable else np.full((len(values), 1), np.nan)


def check_rows(values) -> np.ndarray:
    """Return features as an array of shape (n_stimuli, n_features), or say what is wrong."""
    values = to_numpy(values)
    if values.ndim != 2:
        raise ValueError(f"features: got an array of shape {values.shape}, expected (n_stimuli, n_features).")
    if len(values) < MIN_STIMULI:
        raise ValueError(f"features: got {len(values)} stimuli, expected at least {MIN_STIMULI}.")
    return values


def check_pair(x, y) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of features of the same stimuli."""
    x, y = check_rows(x), check_rows(y)
    if len(x) != len(y):
        raise ValueError(f"features: got {len(x)} and {len(y)} rows, expected the same stimuli in both.")
    return x, y


def host_of(device: torch.device) -> torch.device:
    """Return the device that has float64: MPS has none, so its work is done on the host."""
    return torch.device("cpu") if device.type == "mps" else device


def _gram(values, device):
    """Gram matrix of the shorter side of the centred features, over their largest size."""
    n, p = values.shape
    step = p if p < n else rows_per_chunk(32 * n, device)
    size, finite = 0.0, True
    for start in range(0, p, step):
        block = np.asarray(values[:, start:start + step], np.float64)
        finite &= bool(np.isfinite(block).all())
        size = max(size, float(np.abs(block).max(initial=0)))
    if not finite or not size:
        return None, 1.0, False
    total = 0
    for start in range(0, p, step):
        block = _centred(values, start, start + step, device, size)
        total = total + _product(block.T if p < n else block)
    # What is left of constant columns after centring is rounding of float32 values.
    usable = float(total.diagonal().sum()) > 1e-14 * n * p
    return total, size, usable


def _centred(values, start, stop, device, size):
    block = torch.as_tensor(np.asarray(values[:, start:stop], np.float64) / size, device=device)
    return block - block.mean(0)


def _product(block):
    """``block @ block.T``: numpy sees the symmetry and does half of the work."""
    if block.device.type != "cpu":
        return block @ block.T
    return torch.from_numpy(block.numpy() @ block.numpy().T)


def _loadings(values, left, device, size):
    step = rows_per_chunk(32 * len(values), device)
    parts = [left.T @ _centred(values, s, s + step, device, size) for s in range(0, values.shape[1], step)]
    return torch.cat(parts, 1)
