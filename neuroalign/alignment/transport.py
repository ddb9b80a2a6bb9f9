"""Optimal transport between stimuli or units: Sinkhorn in the log domain, and the Gromov-Wasserstein problem.

All marginals are uniform. Potentials are carried from one problem to the next, so that a few steps suffice.
"""

import numpy as np
import torch

from neuroalign.alignment.feature_basis import check_rows, host_of
from neuroalign.linalg import resolve, to_numpy, to_tensor

__all__ = ["REGULARISATION", "gromov_wasserstein", "gromov_wasserstein_plan", "gromov_wasserstein_value",
           "mean_one_distances", "sinkhorn"]

REGULARISATION = 0.01  # of the Gromov-Wasserstein problem, for distances of mean 1
COOLING = (0.1, 0.05, 0.025)  # stronger regularisation first: fewer local optima
OUTER, INNER, FINAL = 100, 10, 500
TOLERANCE = 1e-5


def gromov_wasserstein(x, y, *, regularisation: float = REGULARISATION,
                       device="auto") -> tuple[float, np.ndarray]:
    """Distance of two geometries under the best coupling of their stimuli, which need not be the same.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_other_stimuli, q)
    regularisation : float
        Weight of the entropy of the coupling, where distances have a mean of 1.
    device : str

    Returns
    -------
    distance : float
        Root of the mean of ``(d_x(i, k) - d_y(j, l))^2`` under the coupling; 0 for equal geometries only without
        regularisation. Scale, rotation and shift of either side change nothing. NaN as the plan, if a side is constant
        or holds NaN.
    plan : float64 array of shape (n_stimuli, n_other_stimuli)
        The coupling: rows sum to 1 / n_stimuli.

    Notes
    -----
    Entropic Gromov-Wasserstein with the square loss (Peyré, Cuturi & Solomon 2016, ICML) from the uniform coupling,
    with stronger regularisation first. The problem is not convex: what is found is a local optimum.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((12, 3))
    >>> distance, plan = gromov_wasserstein(x, -2 * x[::-1])
    >>> plan.argmax(1).tolist() == list(range(12))[::-1]
    True
    """
    if not regularisation > 0:
        raise ValueError(f"regularisation: got {regularisation}, expected a number above 0.")
    device = host_of(resolve(device))
    a, b = (mean_one_distances(check_rows(v), device) for v in (x, y))
    if a is None or b is None:
        return float("nan"), np.full((len(x), len(y)), np.nan)
    plan = gromov_wasserstein_plan(a, b, regularisation)
    return float(gromov_wasserstein_value(a, b, plan)), to_numpy(plan)


def mean_one_distances(values, device: torch.device) -> torch.Tensor | None:
    """Return Euclidean distances of all pairs of rows over their mean, (n, n); None for constant rows or NaN."""
    rows = to_tensor(np.ascontiguousarray(values, np.float64), device, torch.float64)
    if not torch.isfinite(rows).all():
        return None
    rows, size = rows - rows.mean(0), rows.abs().max()
    if rows.abs().max() <= 1e-7 * size:
        return None
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    n = len(rows)
    return distances * (n * (n - 1) / distances.sum())


def gromov_wasserstein_plan(a: torch.Tensor, b: torch.Tensor, regularisation: float = REGULARISATION) -> torch.Tensor:
    """Couple the rows of distances (..., n, n) with those of distances (m, m): shape (..., n, m)."""
    n, m = a.shape[-1], b.shape[-1]
    plan = torch.full((*a.shape[:-1], m), 1 / (n * m), dtype=a.dtype, device=a.device)
    start, last = None, None
    for level in (*(c for c in COOLING if c > regularisation), regularisation):
        start = None if start is None else tuple(s * (last / level) for s in start)
        last, enough = level, TOLERANCE if level == regularisation else 1e-3
        for _ in range(OUTER):
            # The loss changes with the plan: few steps on each suffice.
            found, start = sinkhorn(2 * _cost(a, b, plan), level, start=start, max_iter=INNER)
            moved = float((found - plan).abs().max()) * min(n, m)
            plan = found
            if moved < enough:
                break
    return sinkhorn(2 * _cost(a, b, plan), regularisation, start=start, max_iter=FINAL)[0]


def gromov_wasserstein_value(a: torch.Tensor, b: torch.Tensor, plan: torch.Tensor) -> torch.Tensor:
    """Distance of two geometries under a coupling, without the entropy."""
    return (_cost(a, b, plan) * plan).sum((-1, -2)).clamp_min(0).sqrt()


def sinkhorn(cost: torch.Tensor, regularisation: float, *, start=None, tolerance: float = 1e-9,
             max_iter: int = FINAL):
    """Solve optimal transport with entropy between uniform marginals, in the log domain.

    Parameters
    ----------
    cost : float64 tensor of shape (..., n, m)
    regularisation : float
    start : pair of tensors, optional
        Potentials to begin with.
    tolerance : float
        Largest relative error of a row sum.
    max_iter : int

    Returns
    -------
    plan : tensor of shape (..., n, m)
        Columns sum to 1 / m, rows to 1 / n within the tolerance.
    potentials : pair of tensors of shapes (..., n) and (..., m)
    """
    n, m = cost.shape[-2:]
    scaled = cost / -regularisation
    f, g = (torch.zeros(cost.shape[:-1], dtype=cost.dtype, device=cost.device),
            torch.zeros((*cost.shape[:-2], m), dtype=cost.dtype, device=cost.device)) if start is None else start
    for step in range(max_iter):
        before = f
        f = -torch.logsumexp(scaled + g[..., None, :], -1) - np.log(n)
        g = -torch.logsumexp(scaled + f[..., :, None], -2) - np.log(m)
        # Row sums were right before g moved; f says by how much they are off.
        if step and float((f - before).abs().max()) < tolerance:
            break
    return torch.exp(scaled + f[..., :, None] + g[..., None, :]), (f, g)


def _cost(a, b, plan):
    """Mean square loss of coupling row i with row j under a plan, (..., n, m)."""
    return ((a**2).mean(-1)[..., :, None] + (b**2).mean(-1)[None, :]) - 2 * (a @ plan @ b)
