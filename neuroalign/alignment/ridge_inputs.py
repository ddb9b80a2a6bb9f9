"""What a ridge regression is given: features read by blocks of columns, targets by blocks, and their checks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from neuroalign.errors import list_ids
from neuroalign.linalg import standardisation, to_numpy, to_tensor, widest

__all__ = ["TargetBlock", "check_alphas", "check_inner", "check_targets", "empty_like_targets", "prepare_design",
           "read_blocks"]

COLUMNS = 4096  # columns of a memory map that are read at a time


@dataclass(frozen=True)
class TargetBlock:
    """Some targets, centred and scaled, with what brings them back.

    Attributes
    ----------
    values : tensor of shape (n_rows, n_targets)
    mean, sd : array of shape (n_targets,)
    valid : array of bool, shape (n_targets,)
    """

    values: torch.Tensor
    mean: np.ndarray
    sd: np.ndarray
    valid: np.ndarray
    _mean: torch.Tensor
    _sd: torch.Tensor

    @classmethod
    def of(cls, block, like: torch.Tensor) -> "TargetBlock":
        """Centre and scale a block of targets; those with NaN or without spread become zeros, not valid."""
        wide = to_tensor(block, like.device, widest(like.device))
        mean = wide.mean(0)
        finite = torch.isfinite(mean)  # one value that is not shows in the mean of its column
        if not finite.all():
            wide, mean = torch.where(finite, wide, 0.0), torch.where(finite, mean, 0.0)
        centred = wide - mean
        sd = (_sum_of_squares(centred) / len(centred)).sqrt()
        valid = finite & (sd > _resolution(block) * mean.abs()) & (sd > 0)
        centred /= torch.where(valid, sd, torch.inf)
        values = centred.to(like.dtype)
        host = (to_numpy(x).astype(np.float64) for x in (mean, sd))
        return cls(values, *host, to_numpy(valid), mean, torch.where(valid, sd, torch.nan))

    def restore(self, values: torch.Tensor, into):
        """Bring predictions back into the units of the targets, in float32; NaN for those that are not valid.

        They are a tensor where `into`, what they are to be written into, is one, else an array.
        """
        restored = torch.addcmul(self._mean, values.to(self._sd.dtype), self._sd).float()
        return restored if torch.is_tensor(into) else to_numpy(restored)


def _resolution(block) -> float:
    """Return the share of its mean below which the spread of a target may be rounding of the numbers as given."""
    coarse = block.dtype.is_floating_point if torch.is_tensor(block) else block.dtype.kind == "f"
    return 1e-7 if coarse and block.dtype.itemsize < 8 else 1e-10


def _sum_of_squares(columns: torch.Tensor) -> torch.Tensor:
    if columns.device.type != "cpu":
        return columns.square().sum(0)
    held = columns.numpy()
    return torch.from_numpy(np.einsum("ij,ij->j", held, held))  # no array of squares, which takes longer to make


def prepare_design(X, X_test, standardize, device, dtype):
    """Stack training and test rows, centred (and scaled) by the training rows; columns are read in chunks."""
    n, p = np.shape(X)
    n_all = n + (0 if X_test is None else len(X_test))
    design = torch.empty(n_all, p, dtype=dtype, device=device)
    shift, factor = (torch.empty(p, dtype=widest(device), device=device) for _ in range(2))
    for part, block, shift[part], factor[part] in read_blocks(X, X_test, standardize, device, dtype):
        design[:, part] = block
    return design, shift, factor


def read_blocks(X, X_test, standardize, device, dtype):
    """Yield blocks of columns, training rows then test rows, centred (and scaled) by the training rows.

    Yields
    ------
    part : slice of columns
    block : tensor of shape (n_train + n_test, some)
    shift, factor : tensor of shape (some,)
    """
    p = np.shape(X)[1]
    if p == 0:
        raise ValueError("X: it has no features.")
    for start in range(0, p, COLUMNS):
        part = slice(start, min(start + COLUMNS, p))
        block = _as_tensor(X, part, device, widest(device))
        if not torch.isfinite(block).all():
            bad = start + torch.nonzero(~torch.isfinite(block).all(0)).ravel().cpu().numpy()
            raise ValueError(f"X: NaN or infinite values in features {list_ids(bad)}. Remove or fill them.")
        shift, factor = standardisation(block, standardize)
        if X_test is not None:
            block = torch.cat([block, _as_tensor(X_test, part, device, block.dtype)])
        yield part, ((block - shift) * factor).to(dtype), shift, factor


def check_targets(Y, rows, n_samples) -> int:
    """Return the number of targets; raise where they do not stand on the rows of the design."""
    if np.ndim(Y) != 2:
        raise ValueError(f"Y: got {np.ndim(Y)} dims, expected (n_samples, n_targets).")
    n_rows = len(Y) if rows is None else len(rows)
    if n_rows != n_samples:
        raise ValueError(f"Y: {n_rows} rows, X has {n_samples}.")
    return np.shape(Y)[1]


def empty_like_targets(Y, n_rows: int):
    """Return room for predictions of the targets: a float32 array, or a tensor where `Y` is one."""
    shape = (n_rows, np.shape(Y)[1])
    return torch.empty(shape, device=Y.device) if torch.is_tensor(Y) else np.empty(shape, np.float32)


def check_alphas(alphas) -> np.ndarray:
    """Return the penalties as a float64 array; raise if one is not above 0."""
    alphas = list(alphas) if isinstance(alphas, Iterator) else alphas
    try:
        alphas = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"alphas: got {alphas!r}, expected finite penalties above 0.") from None
    if alphas.ndim != 1 or not len(alphas) or not (np.isfinite(alphas) & (alphas > 0)).all():
        raise ValueError(f"alphas: got {alphas.tolist()}, expected finite penalties above 0.")
    return alphas


def check_inner(inner_folds, n, n_alphas) -> list:
    """Return the inner folds as a list; raise where a choice of penalties lacks them."""
    if isinstance(inner_folds, str) or n_alphas == 1:
        return []
    if inner_folds is None:
        raise ValueError(f"inner_folds: needed to choose between {n_alphas} alphas. Pass folds "
                         "(neuroalign.stats.make_folds) or 'loo', or a single alpha.")
    if not isinstance(inner_folds, Iterable):
        raise TypeError(f"inner_folds: got {type(inner_folds).__name__}, expected Folds or (train, test) pairs.")
    folds = [tuple(_row_numbers(side) for side in pair) for pair in inner_folds]
    if len(folds) < 2:
        raise ValueError(f"inner_folds: got {len(folds)}, expected at least 2.")
    for train, test in folds:
        if not len(train) or not len(test):
            raise ValueError("inner_folds: a fold has no training or no test rows.")
        if max(np.max(train), np.max(test)) >= n:
            raise ValueError(f"inner_folds: they index row {max(np.max(train), np.max(test))}, X has {n} rows.")
    return folds


def _row_numbers(side) -> np.ndarray:
    side = to_numpy(side)
    return np.flatnonzero(side) if side.dtype == bool else side


def _as_tensor(X, columns, device, dtype):
    block = X[:, columns]
    # A copy, which nobody else changes, and of a memory map the part alone.
    return to_tensor(block if isinstance(block, torch.Tensor) else np.array(block), device, dtype)
