"""Descent of the penalties of banded ridge, each target by itself, from where the random search ended."""

import torch

from neuroalign.linalg import rows_per_chunk

__all__ = ["refine_deltas", "solves_at_once"]

LONGEST = 3.0  # of a step, in log units
HOPELESS = 1e4  # damping beyond which a target is left where it is


def refine_deltas(folds, deltas: torch.Tensor, steps: int, tolerance: float, bounds):
    """Lower the cross-validated error by damped Gauss-Newton steps (Levenberg-Marquardt).

    Parameters
    ----------
    folds : list of (gram, reduced, target)
        A `PrimalGram` or `DualGram`, the reduced training targets, and the centred test targets of each fold.
    deltas : tensor of shape (n_bands, n_targets)
        ``log(gamma / alpha)`` to begin with.
    steps : int
        Most steps.
    tolerance : float
        A target stops once an accepted step lowers its error by less than this share.
    bounds : pair of float
        Least and greatest delta.

    Returns
    -------
    deltas : tensor of shape (n_bands, n_better)
    better : tensor of int, shape (n_better,)
        The targets whose error was lowered.
    loss : tensor of shape (n_better,)
        Their mean squared error.
    """
    # Sums of float32 would hide the small gains of the last steps.
    deltas = deltas.to(_wide(deltas)).clamp(*bounds)
    first, gradient, curvature = _evaluate(folds, deltas)
    loss, damping = first.clone(), torch.full_like(first, 1e-2)
    active = torch.ones_like(first, dtype=torch.bool)
    for _ in range(steps):
        own = torch.nonzero(active).ravel()
        if not len(own):
            break
        moved = (deltas[:, own] + _step(gradient[own], curvature[own], damping[own])).clamp(*bounds)
        new, new_gradient, new_curvature = _evaluate(folds, moved, own)
        lower = new < loss[own]
        done = lower & (loss[own] - new < tolerance * loss[own])
        damping[own] = torch.where(lower, damping[own] / 5, damping[own] * 10)
        active[own] = ~done & (damping[own] < HOPELESS)
        kept = own[lower]
        deltas[:, kept], loss[kept] = moved[:, lower], new[lower]
        gradient[kept], curvature[kept] = new_gradient[lower], new_curvature[lower]
    better = torch.nonzero(loss < first).ravel()
    return deltas[:, better], better, loss[better]


def solves_at_once(size: int, like: torch.Tensor) -> int:
    """How many targets are solved together: each has a matrix of its own."""
    return rows_per_chunk(3 * 8 * size**2, like.device)


def _step(gradient, curvature, damping):
    scale = curvature.diagonal(dim1=1, dim2=2)
    floor = 1e-12 * scale.amax(1, keepdim=True).clamp_min(1e-30)
    system = curvature + torch.diag_embed(damping[:, None] * scale + floor)
    step = -torch.linalg.solve(system, gradient[..., None])[..., 0]
    return step.nan_to_num(0).clamp(-LONGEST, LONGEST).T


def _evaluate(folds, deltas, targets=None):
    """Mean squared error, its gradient and the Gauss-Newton curvature, (n,), (n, bands), (n, bands, bands)."""
    n_bands, n = deltas.shape
    targets = torch.arange(n, device=deltas.device) if targets is None else targets
    kind = {"dtype": _wide(deltas), "device": deltas.device}
    loss, gradient = torch.zeros(n, **kind), torch.zeros(n, n_bands, **kind)
    curvature = torch.zeros(n, n_bands, n_bands, **kind)
    n_tested = sum(len(target) for _, _, target in folds)
    for gram, reduced, target in folds:
        for part in torch.arange(n, device=deltas.device).split(solves_at_once(gram.size, deltas)):
            own = targets[part]
            weights, slopes = gram.solve(deltas[:, part], reduced[:, own], derivatives=True)
            gammas = deltas[:, part].softmax(0)
            residual = (gram.predict(weights, gammas.to(weights)).sum(0) - target[:, own]).to(**kind)
            slopes = slopes.to(**kind)
            loss[part] += residual.square().sum(0)
            gradient[part] += torch.einsum("bit,it->tb", slopes, residual)
            curvature[part] += torch.einsum("bit,cit->tbc", slopes, slopes)
    return loss / n_tested, gradient / n_tested, curvature / n_tested


def _wide(like):
    return torch.float32 if like.device.type == "mps" else torch.float64
