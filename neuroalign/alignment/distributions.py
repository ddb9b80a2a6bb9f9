"""Distances of two clouds of stimuli that share their feature axes: rows need not be the same stimuli.

Of two embeddings in one space (images and texts of CLIP), of one layer before and after training. Where rows are the
same stimuli, swapping the sides of single stimuli is the null: neither side is special.
"""

import numpy as np
import torch

from neuroalign.alignment.feature_basis import check_rows, host_of
from neuroalign.linalg import resolve, rows_per_chunk, to_numpy, to_tensor
from neuroalign.stats import child_rng

__all__ = ["bures_distance", "bures_swaps", "sliced_swaps", "sliced_wasserstein"]

DIRECTIONS = 200


def bures_distance(x, y, *, device="auto") -> float:
    """Wasserstein distance of the Gaussians that have the mean and covariance of each side.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_other_stimuli, p)
        The same features, of the same or of other stimuli.
    device : str

    Returns
    -------
    float
        In the units of the features; NaN if either side holds NaN.

    Notes
    -----
    ``d^2 = |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x^1/2 S_y S_x^1/2)^1/2)`` with covariances S over n (Bures 1969;
    Dowson & Landau 1982, J Multivariate Anal 12:450): the square is the Fréchet distance of image generation.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 4))
    >>> round(bures_distance(x, x + [3, 4, 0, 0]), 5)
    5.0
    """
    a, b = _pair(x, y, device)
    return float("nan") if a is None else float(_bures(a, b))


def sliced_wasserstein(x, y, *, n_directions: int = DIRECTIONS, random_state: int = 0, device="auto") -> float:
    """Root mean square, over random directions, of the 2-Wasserstein distance of the projections of two clouds.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_other_stimuli, p)
        The same features, of the same or of other stimuli.
    n_directions : int
    random_state : int
        Of the directions.
    device : str

    Returns
    -------
    float
        In the units of the features; NaN if either side holds NaN. Bonneel et al. 2015, J Math Imaging Vis 51:22.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 1))
    >>> round(sliced_wasserstein(x, x[::-1] + 2), 5)
    2.0
    """
    if not isinstance(n_directions, (int, np.integer)) or n_directions < 1:
        raise ValueError(f"n_directions: got {n_directions!r}, expected an integer of at least 1.")
    a, b = _pair(x, y, device)
    if a is None:
        return float("nan")
    directions = _directions(a, n_directions, random_state)
    return float(_sliced(a @ directions, b @ directions))


def bures_swaps(x, y, swaps, *, device="auto") -> np.ndarray:
    """Bures distance with the sides of some stimuli swapped.

    Parameters
    ----------
    x, y : array of shape (n_stimuli, p)
    swaps : bool array of shape (n_draws, n_stimuli)

    Returns
    -------
    float64 array of shape (n_draws,)
    """
    a, b = _pair(x, y, device)
    if a is None:
        return np.full(len(swaps), np.nan)
    # Rotating both clouds together changes nothing: no more columns than rows of the two.
    if a.shape[1] > 2 * len(a):
        both = torch.linalg.qr(torch.cat([a, b]).T, mode="r")[1].T
        a, b = both[:len(a)], both[len(a):]
    moved = (torch.where(torch.as_tensor(s, device=a.device)[:, None], other, own) for s in swaps
             for own, other in ((a, b), (b, a)))
    return np.array([float(_bures(left, right)) for left, right in zip(moved, moved)])


def sliced_swaps(x, y, swaps, *, n_directions: int = DIRECTIONS, random_state: int = 0, device="auto") -> np.ndarray:
    """Sliced Wasserstein distance with the sides of some stimuli swapped; arguments as for `bures_swaps`."""
    a, b = _pair(x, y, device)
    out = np.full(len(swaps), np.nan)
    if a is None:
        return out
    directions = _directions(a, n_directions, random_state)
    left, right = a @ directions, b @ directions
    step = rows_per_chunk(64 * left.numel(), a.device, limit=2**28)
    for start in range(0, len(swaps), step):
        chosen = torch.as_tensor(swaps[start:start + step], device=a.device)[..., None]
        out[start:start + step] = to_numpy(_sliced(torch.where(chosen, right, left), torch.where(chosen, left, right)))
    return out


def _pair(x, y, device):
    x, y = check_rows(x), check_rows(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features: got {x.shape[1]} and {y.shape[1]}, expected the same features on both sides: a "
                         "distance of clouds needs shared axes. Without, use 'gw.distance'.")
    device = host_of(resolve(device))
    a, b = (to_tensor(np.ascontiguousarray(v, np.float64), device, torch.float64) for v in (x, y))
    return (a, b) if torch.isfinite(a).all() and torch.isfinite(b).all() else (None, None)


def _bures(a, b):
    means = a.mean(0), b.mean(0)
    a, b = ((v - m) / len(v) ** 0.5 for v, m in zip((a, b), means))
    total = ((means[0] - means[1]) ** 2).sum() + (a**2).sum() + (b**2).sum()
    # The trace of the root is the nuclear norm of a b', and that of the triangles of their QR.
    r, s = (torch.linalg.qr(v, mode="r")[1] if len(v) > v.shape[1] else v for v in (a, b))
    return (total - 2 * torch.linalg.svdvals(r @ s.T).sum()).clamp_min(0).sqrt()


def _directions(like, count, random_state):
    drawn = child_rng(random_state, "directions").standard_normal((like.shape[1], count))
    return torch.as_tensor(drawn / np.linalg.norm(drawn, axis=0), device=like.device)


def _sliced(a, b):
    """Distance of projections (..., n, directions) and (..., m, directions)."""
    a, b = a.sort(-2).values, b.sort(-2).values
    n, m = a.shape[-2], b.shape[-2]
    if n == m:
        return ((a - b) ** 2).mean((-1, -2)).sqrt()
    # Both quantile functions are constant between the merged levels.
    levels = np.unique(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))
    widths = torch.as_tensor(np.diff(levels, prepend=0) / (n * m), device=a.device)
    left, right = (torch.as_tensor(-(-levels // k) - 1, device=a.device) for k in (m, n))
    return (((a[..., left, :] - b[..., right, :]) ** 2) * widths[:, None]).sum(-2).mean(-1).sqrt()
