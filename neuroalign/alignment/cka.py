"""CKA, debiased and biased, of linear and of Gaussian kernels; every array is prepared once, whatever it meets."""

import numpy as np
import torch

from neuroalign.alignment.cka_kernels import (
    Kernel,
    array_key,
    check_count,
    hsic,
    linear_kernel,
    rbf_kernel,
    unit_kernels,
)
from neuroalign.alignment.label_null import permuted_products
from neuroalign.alignment.progress import part_of
from neuroalign.errors import check_option
from neuroalign.linalg import resolve, rows_per_chunk, to_numpy

__all__ = ["cka_grid", "cka_null", "cka_subsamples", "kernel_cka", "linear_cka", "rbf_cka"]

ESTIMATORS = ("debiased", "biased")
KERNELS = {"linear": linear_kernel, "rbf": rbf_kernel}


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


def rbf_cka(x, y, *, estimator: str = "debiased", device="auto") -> float:
    """CKA of Gaussian kernels, whose width is the median distance between the stimuli of each side.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    estimator : {"debiased", "biased"}
    device : str

    Returns
    -------
    float
        NaN if either side is constant, holds NaN, or has more than half of its pairs at distance 0.

    Notes
    -----
    ``k(a, b) = exp(-|a - b|^2 / (2 s^2))`` with s the median over pairs, so that the scale of the features does not
    matter (Kornblith et al. 2019, ICML). Takes n x n memory.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 10))
    >>> round(rbf_cka(x, 3 * x[:, ::-1] + 1), 5)
    1.0
    """
    return float(cka_grid([x], [y], estimator=estimator, kernel="rbf", device=device)[0, 0])


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
    check_count(a.shape[1])
    a, b = unit_kernels(a, estimator), unit_kernels(b, estimator)
    return float((a * b).sum())


def cka_grid(xs, ys, *, estimator: str = "debiased", kernel: str = "linear", device="auto") -> np.ndarray:
    """CKA of every array of one list with every array of another.

    Parameters
    ----------
    xs, ys : sequence of arrays of shape (n_stimuli, n_features)
        All with the same stimuli; memory maps are read in blocks of features where these are many.
    estimator : {"debiased", "biased"}
    kernel : {"linear", "rbf"}

    Returns
    -------
    float64 array of shape (len(xs), len(ys))
    """
    check_option("estimator", estimator, ESTIMATORS)
    left, right = _prepare(xs, ys, kernel, resolve(device))
    if len({k.n for k in (*left, *right)}) > 1:
        raise ValueError(f"cka: the arrays have {sorted({k.n for k in (*left, *right)})} rows, expected the same "
                         "stimuli in each.")
    found = {(id(k), id(k)): hsic(k, k, estimator) for k in {id(k): k for k in (*left, *right)}.values()}
    out = np.full((len(left), len(right)), np.nan)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            scale = found[id(a), id(a)] * found[id(b), id(b)]
            if not (a.usable and b.usable and scale > 0):
                continue
            if (id(a), id(b)) not in found:
                found[id(a), id(b)] = found[id(b), id(a)] = hsic(a, b, estimator)
            out[i, j] = found[id(a), id(b)] / np.sqrt(scale)
    return out


def cka_null(xs, ys, permutations, *, estimator: str = "debiased", kernel: str = "linear", weights=None,
             device="auto", tick=lambda share: None) -> np.ndarray:
    """CKA with the stimuli of `xs` permuted, the same way for all of them.

    Parameters
    ----------
    xs, ys : sequence of arrays of shape (n_stimuli, n_features)
    permutations : int array of shape (n_permutations, n_stimuli)
    weights : array of shape (n_cells, len(ys)), optional
        Means over `ys` (subjects) to return instead of each.
    tick : callable
        Told which share of all was just done.

    Returns
    -------
    float64 array of shape (n_permutations, len(xs), len(ys) or n_cells)
    """
    check_option("estimator", estimator, ESTIMATORS)
    device = resolve(device)
    n = len(permutations[0])
    first, second = np.triu_indices(n, 0 if estimator == "biased" else 1)
    twice = np.where(first == second, 1.0, 2.0).astype(np.float32)
    make = KERNELS[kernel]
    units = np.stack([to_numpy(unit_kernels(make(y, device).square(), estimator))[0][first, second] for y in ys])
    vectors = (units if weights is None else weights.astype(np.float32) @ units) * twice
    out = np.empty((len(permutations), len(xs), len(vectors)))
    step = rows_per_chunk(8 * n * n, device)
    for start in range(0, len(xs), step):
        part = [unit_kernels(make(x, device).square(), estimator) for x in xs[start:start + step]]
        out[:, start:start + step] = permuted_products(to_numpy(torch.cat(part)), vectors, first, second, permutations,
                                                       device, tick=part_of(tick, len(part) / len(xs)))
    return out


def cka_subsamples(xs, ys, indices, *, estimator: str = "debiased", kernel: str = "linear", device="auto",
                   tick=lambda n: None) -> np.ndarray:
    """CKA of subsamples of the stimuli (none twice); the width of a Gaussian kernel is that of all stimuli.

    Parameters
    ----------
    xs, ys : sequence of arrays of shape (n_stimuli, n_features)
    indices : int array of shape (n_resamples, size)
    tick : callable
        Told how many resamples were just done.

    Returns
    -------
    float64 array of shape (n_resamples, len(xs), len(ys))
    """
    check_option("estimator", estimator, ESTIMATORS)
    device = resolve(device)
    left, right = _prepare(xs, ys, kernel, device)
    out = np.full((len(indices), len(xs), len(ys)), np.nan)
    rows = torch.as_tensor(np.asarray(indices), dtype=torch.int64, device=device)
    step = rows_per_chunk(16 * (len(xs) + len(ys)) * rows.shape[1] ** 2, device, limit=2**27)
    for start in range(0, len(rows), step):
        part = rows[start:start + step]
        a, b = (torch.stack([unit_kernels(k.square(part), estimator).flatten(1) for k in side], 1)
                for side in (left, right))
        out[start:start + step] = to_numpy(a @ b.transpose(1, 2))
        tick(len(part))
    return out


def _prepare(xs, ys, kernel: str, device) -> tuple[list[Kernel], list[Kernel]]:
    known = {}
    for values in (*xs, *ys):
        if array_key(values) not in known:
            known[array_key(values)] = KERNELS[kernel](values, device)
    return [known[array_key(x)] for x in xs], [known[array_key(y)] for y in ys]
