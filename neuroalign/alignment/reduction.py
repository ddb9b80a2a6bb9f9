"""Reduction of wide features, fitted in the training rows of each fold."""

import re
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch

from neuroalign.alignment.ridge_inputs import read_blocks
from neuroalign.features.projection import RandomProjector
from neuroalign.linalg import FoldKernel, eigenbasis, kernel_eigenbasis

__all__ = ["Reduction", "parse_reduction", "reduce_features", "standardise"]


@dataclass(frozen=True)
class Reduction:
    """How features become fewer.

    Attributes
    ----------
    kind : {"pca", "random"}
    size : int or float
        Components; for ``pca`` below 1 the share of the variance that they are to explain.
    """

    kind: str
    size: float

    @property
    def name(self) -> str:
        """As a caller gives it."""
        return f"pca:{self.size:g}" if self.kind == "pca" else f"random:{self.size:g}"


def parse_reduction(reduce) -> Reduction | None:
    """Check what a caller gave as `reduce`.

    Examples
    --------
    >>> parse_reduction("pca:0.9"), parse_reduction(300).name
    (Reduction(kind='pca', size=0.9), 'random:300')
    """
    if reduce is None:
        return None
    count = isinstance(reduce, Integral) and not isinstance(reduce, bool)
    text = f"random:{reduce}" if count else str(reduce)
    match = re.fullmatch(r"(pca|random):(\d+|0?\.\d+)", text)
    size = float(match[2]) if match else 0
    if not match or size <= 0 or (size < 1 and match[1] == "random"):
        raise ValueError(f"reduce: got {reduce!r}, expected 'pca:50' (components), 'pca:0.9' (share of the variance), "
                         "a number or 'random:300' (sparse random projection), or None.")
    return Reduction(match[1], size if size < 1 else int(size))


def reduce_features(train, test, reduction: Reduction, random_state: int, device: torch.device):
    """Standardise features by their training rows, and reduce them.

    Parameters
    ----------
    train, test : array of shape (n_train, n_features), (n_test, n_features)
        Read by blocks of columns.
    reduction : Reduction
        Components (Jolliffe 2002) of the training rows alone; a random projection (Li, Hastie & Church 2006) is
        drawn from `random_state`, without a look at the data. Features that are not more than it asks for stay.
    device : torch device

    Returns
    -------
    train, test : float32 array of shape (n_train, n_components), (n_test, n_components)
        Not scaled again: as many components as there are dimensions give the same ridge as no reduction.
    """
    n, p = train.shape
    if reduction.kind == "random":
        return _project(train, test, int(reduction.size), random_state, device)
    rows = torch.arange(n + len(test), device=device)
    if p > n:
        kernel = FoldKernel(rows[:n], rows[n:], True, torch.float32)
        for _, block, _, _ in read_blocks(train, test, True, device, torch.float32):
            kernel.add(block)
        basis = kernel_eigenbasis(kernel)
    else:
        design = torch.cat([block for _, block, _, _ in read_blocks(train, test, True, device, torch.float32)], 1)
        basis = eigenbasis(design, rows[:n], rows[n:], standardize=True, dual=False)
    kept = _count(basis.values.cpu().double().numpy()[::-1], reduction.size)
    return tuple(x[:, -kept:].flip(1).cpu().numpy() for x in (basis.basis, basis.rows))


def standardise(train, test):
    """Centre and scale both sides by the training rows; as float64 arrays."""
    blocks = [block for _, block, _, _ in read_blocks(train, test, True, torch.device("cpu"), torch.float64)]
    whole = torch.cat(blocks, 1).numpy()
    return whole[:len(train)], whole[len(train):]


def _count(variances: np.ndarray, size: float) -> int:
    """Return how many components there are to keep, of variances in falling order."""
    if not len(variances):
        raise ValueError("reduce: the features do not vary in the training rows of a fold.")
    if size >= 1:
        return min(int(size), len(variances))
    return int(np.searchsorted(np.cumsum(variances) / variances.sum(), size - 1e-12) + 1)


def _project(train, test, size, random_state, device):
    n, p = train.shape
    parts = []
    matrix = RandomProjector(size, random_state).matrix(p).to(device) if p > size else None
    total = torch.zeros(n + len(test), size, device=device)
    for part, block, _, _ in read_blocks(train, test, True, device, torch.float32):
        if matrix is None:
            parts.append(block)
        else:
            total += (matrix.narrow_copy(1, part.start, part.stop - part.start) @ block.T).T
    whole = (torch.cat(parts, 1) if matrix is None else total).cpu().numpy()
    return whole[:n], whole[n:]
