"""Correlations of RDMs over resampled stimuli, without building a resample.

A stimulus that stands c times in a resample gives its pairs the weight c_a * c_b; pairs of a stimulus with
itself are left out. The correlation over the resampled pairs is that of weighted ranks, and these follow from
the order of the original dissimilarities by one cumulative sum.
"""

import numpy as np

from neuroalign.alignment.label_null import orthonormal_rows, residual_rows
from neuroalign.stats.correlations import valid_patterns

__all__ = ["WeightedRows", "bootstrap_rdms"]


def bootstrap_rdms(models, rows, first, second, counts, method, *, controls=None, row_weights=None) -> np.ndarray:
    """Correlate RDMs over resampled stimuli.

    Parameters
    ----------
    models : array of shape (n_spaces, n_pairs)
    rows : array of shape (n_rows, n_pairs)
    first, second : array of int, shape (n_pairs,)
    counts : int array of shape (n_resamples, n_stimuli)
        How often each stimulus stands in each resample.
    method : {"spearman", "pearson", "cosine"}
    controls : array of shape (n_controls, n_pairs), optional
    row_weights : array of shape (n_resamples, n_groups, n_rows), optional
        The rows are averaged by these weights in each resample, before they are correlated (group-mean RDMs).

    Returns
    -------
    float64 array of shape (n_resamples, n_spaces, n_rows or n_groups)
    """
    n_out = len(rows) if row_weights is None else row_weights.shape[1]
    out = np.full((len(counts), len(models), n_out), np.nan)
    if row_weights is not None:
        for b, weights in enumerate(row_weights):
            means = _weighted_means(rows, weights)
            out[b] = bootstrap_rdms(models, means, first, second, counts[b:b + 1], method, controls=controls)[0]
        return out
    for spaces, valid_a in valid_patterns(models):
        for group, valid_b in valid_patterns(rows):
            kept = np.flatnonzero(valid_a & valid_b)
            if len(kept) < 3:
                continue
            left = WeightedRows(models[spaces][:, kept], method)
            right = WeightedRows(rows[group][:, kept], method)
            extra = None if controls is None else WeightedRows(controls[:, kept], method)
            place = np.ix_(spaces, group)
            for b, count in enumerate(counts.astype(np.float64)):
                out[b][place] = _one(left, right, extra, count[first[kept]] * count[second[kept]])
    return out


class WeightedRows:
    """Rows that can be turned to unit length under any weights of their columns.

    Parameters
    ----------
    values : array of shape (n_rows, n_columns)
        Without NaN.
    method : {"spearman", "pearson", "cosine"}
    """

    def __init__(self, values, method: str):
        self.method = method
        self.values = np.asarray(values, np.float64)
        if method == "spearman":
            self.order = np.argsort(values, axis=1).astype(np.int32)
            ordered = np.take_along_axis(self.values, self.order, 1)
            self.first, self.last = _tie_ends(ordered)
            self.inverse = np.empty_like(self.order)
            places = np.broadcast_to(np.arange(values.shape[1], dtype=np.int32), self.order.shape)
            np.put_along_axis(self.inverse, self.order, places, 1)

    def unit(self, weights: np.ndarray) -> np.ndarray:
        """Return rows, scaled by the square root of the weights, whose products are weighted correlations."""
        total = weights.sum()
        if self.method == "spearman":
            centred = self._ranks(weights) - (total + 1) / 2
        elif self.method == "pearson":
            centred = self.values - (self.values @ weights)[:, None] / total
        else:
            centred = self.values
        scaled = centred * np.sqrt(weights)
        norms = np.sqrt((scaled * scaled).sum(1, keepdims=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(norms > 1e-9 * np.sqrt(total), scaled / norms, np.nan)

    def _ranks(self, weights):
        ordered = weights[self.order]
        until = np.cumsum(ordered, axis=1)
        if self.first is None:
            middle = until - ordered + (ordered + 1) / 2
        else:
            before = np.take_along_axis(until - ordered, self.first, 1)
            middle = (before + np.take_along_axis(until, self.last, 1) + 1) / 2
        return np.take_along_axis(middle, self.inverse, 1)


def _one(left, right, extra, weights):
    if (weights > 0).sum() < 3:
        return np.nan
    a, b = left.unit(weights), right.unit(weights)
    if extra is not None:
        basis = orthonormal_rows(extra.unit(weights))
        a, b = residual_rows(a, basis), residual_rows(b, basis)
    return a @ b.T


def _tie_ends(ordered):
    """Positions of the first and the last of each run of equal values; None where there are no ties."""
    new = ordered[:, 1:] != ordered[:, :-1]
    if new.all():
        return None, None
    n = ordered.shape[1]
    places = np.broadcast_to(np.arange(n), ordered.shape)
    starts = np.concatenate([np.ones((len(new), 1), bool), new], axis=1)
    ends = np.concatenate([new, np.ones((len(new), 1), bool)], axis=1)
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, places, n - 1)[:, ::-1], axis=1)[:, ::-1]
    return first, last


def _weighted_means(rows, weights):
    present = ~np.isnan(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights @ np.where(present, rows, 0)) / (weights @ present)
