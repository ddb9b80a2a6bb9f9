"""Encoding scores from sums over test rows: one small array a fold serves every metric, pooled or by fold."""

import numpy as np
import torch

from neuroalign.errors import check_option
from neuroalign.linalg import to_numpy, to_tensor, widest

__all__ = ["ENCODING_METRICS", "fold_scores", "moments", "score_moments"]


def moments(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Sums that Pearson correlation and R² need.

    Parameters
    ----------
    target, prediction : array or tensor of shape (n_rows, n_targets)
        Tensors are summed up where they lie.

    Returns
    -------
    float64 array of shape (6, n_targets)
        Number of rows, sums of y, y², p, p² and yp.
    """
    if torch.is_tensor(prediction):
        y, p = (to_tensor(a, prediction.device, widest(prediction.device)) for a in (target, prediction))
        sums = torch.stack([y.sum(0), (y * y).sum(0), p.sum(0), (p * p).sum(0), (y * p).sum(0)])
        return np.concatenate([np.full((1, y.shape[1]), len(y), float), to_numpy(sums)])
    y, p = np.asarray(target, np.float64), np.asarray(prediction, np.float64)
    return np.stack([np.full(y.shape[1], len(y), float), y.sum(0), np.einsum("ij,ij->j", y, y), p.sum(0),
                     np.einsum("ij,ij->j", p, p), np.einsum("ij,ij->j", y, p)])


def score_moments(metric: str, parts: np.ndarray) -> np.ndarray:
    """Score of the out-of-fold predictions from the `moments` of each fold.

    Parameters
    ----------
    metric : str
        Name in `ENCODING_METRICS`.
    parts : array of shape (n_folds, 6, ...)

    Returns
    -------
    array of shape (...)
        NaN for a target that is NaN or constant, or has no rows. A prediction that is constant scores r = 0.

    Examples
    --------
    >>> y = np.array([[1.0], [2.0], [3.0], [5.0]])
    >>> score_moments("r.pooled", np.stack([moments(y[:2], 2 * y[:2]), moments(y[2:], 2 * y[2:])])).round(6).item()
    1.0
    """
    kind, aggregation = ENCODING_METRICS[check_option("metric", metric, ENCODING_METRICS)]
    if aggregation == "pooled":
        return kind(parts.sum(0))
    scores = np.stack([kind(part) for part in parts])
    scored = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        return np.where(scored, scores, 0).sum(0) / np.where(scored.any(0), scored.sum(0), np.nan)


def fold_scores(metric: str, parts: np.ndarray) -> np.ndarray:
    """Score of each fold alone, shape (n_folds, ...)."""
    kind, _ = ENCODING_METRICS[check_option("metric", metric, ENCODING_METRICS)]
    return np.stack([kind(part) for part in parts])


def _pearson(sums):
    n, y, yy, p, pp, yp = sums
    rows = np.where(n > 0, n, np.nan)
    spread_y, spread_p = yy - y * y / rows, pp - p * p / rows
    known_y = spread_y > 1e-12 * np.abs(yy)
    known_p = spread_p > 1e-12 * np.abs(pp)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (yp - y * p / n) / np.sqrt(spread_y * spread_p)
    flat = np.where(np.isfinite(pp), 0.0, np.nan)
    return np.where(known_y, np.where(known_p, r, flat), np.nan)


def _r2(sums):
    n, y, yy, _, pp, yp = sums
    spread = yy - y * y / np.where(n > 0, n, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12 * np.abs(yy), 1 - (yy - 2 * yp + pp) / spread, np.nan)


# Pooled: over all out-of-fold predictions at once. Fold mean: each fold scored alone, then averaged. The first
# is biased downward where the means of the folds differ, so the two never share a name.
ENCODING_METRICS = {
    "r.pooled": (_pearson, "pooled"),
    "r.foldmean": (_pearson, "foldmean"),
    "r2.pooled": (_r2, "pooled"),
    "r2.foldmean": (_r2, "foldmean"),
}
