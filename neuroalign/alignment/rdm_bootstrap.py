"""Correlations of RDMs over resampled stimuli, without building a resample.

A stimulus that stands c times in a resample gives its pairs the weight c_a * c_b; pairs of a stimulus with
itself are left out. The correlation over the resampled pairs is that of weighted ranks, and these follow from
the order of the original dissimilarities by one cumulative sum.
"""

from dataclasses import dataclass

import numpy as np
import torch

from neuroalign.linalg import resolve, rows_per_chunk, to_numpy, to_tensor
from neuroalign.stats.correlations import RANKED, valid_patterns

__all__ = ["bootstrap_rdms"]


def bootstrap_rdms(models, rows, first, second, counts, method, *, controls=None, row_weights=None,
                   device="auto") -> np.ndarray:
    """Correlate RDMs over resampled stimuli.

    Parameters
    ----------
    models : array of shape (n_spaces, n_pairs)
    rows : array of shape (n_rows, n_pairs)
        NaN where not measured: such pairs are left out.
    first, second : array of int, shape (n_pairs,)
    counts : int array of shape (n_resamples, n_stimuli)
        How often each stimulus stands in each resample.
    method : {"spearman", "pearson", "cosine", "rho_a"}
        Copies of a pair do not count as ties for rho-a: without ties in the RDMs it is Spearman's.
    controls : array of shape (n_controls, n_pairs), optional
        RDMs regressed out of both sides, in each resample anew.
    row_weights : array of shape (n_resamples, n_groups, n_rows), optional
        The rows are averaged by these weights in each resample, before they are correlated (group-mean RDMs).

    Returns
    -------
    float64 array of shape (n_resamples, n_spaces, n_rows or n_groups)
        NaN where fewer than 3 distinct pairs were drawn, or a side is constant over them.

    Examples
    --------
    >>> models, rows = np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 4.0, 9.0]])
    >>> bootstrap_rdms(models, rows, [0, 0, 1], [1, 2, 2], np.array([[1, 1, 1]]), "spearman").round(4).tolist()
    [[[1.0]]]
    """
    device, first, second = resolve(device), np.asarray(first), np.asarray(second)
    n_out = len(rows) if row_weights is None else row_weights.shape[1]
    out = np.full((len(counts), len(models), n_out), np.nan)
    for spaces, valid_a in valid_patterns(models):
        # Means over rows have a value where any row has one; their own gaps make patterns of weights below.
        patterns = valid_patterns(rows) if row_weights is None else [(np.arange(n_out), (~np.isnan(rows)).any(0))]
        for group, valid_b in patterns:
            kept = np.flatnonzero(valid_a & valid_b)
            if len(kept) < 3:
                continue
            left = _prepare(models[spaces][:, kept], method, device)
            right = _prepare(rows[group][:, kept], method, device) if row_weights is None else None
            extra = None if controls is None else _prepare(controls[:, kept], method, device)
            step = rows_per_chunk(40 * (len(spaces) + len(group)) * len(kept), device, limit=2**28)
            for start in range(0, len(counts), step):
                part = slice(start, start + step)
                drawn = counts[part].astype(np.float32)
                weights = to_tensor(drawn[:, first[kept]] * drawn[:, second[kept]], device)
                if row_weights is not None:
                    means = _weighted_means(rows[:, kept], row_weights[part], device)
                    right = _prepare(means, method, device)
                found = _correlate(left, right, extra, weights)
                out[start:start + step, spaces[:, None], group] = to_numpy(found)
    return out


@dataclass
class _Prepared:
    """Rows (values, ...) with what their weighted ranks need; a leading batch dim where each resample has its own."""

    values: torch.Tensor
    method: str
    order: torch.Tensor | None = None
    inverse: torch.Tensor | None = None
    ends: tuple | None = None


def _prepare(values, method: str, device: torch.device) -> _Prepared:
    values = to_tensor(np.asarray(values, np.float32), device) if isinstance(values, np.ndarray) else values
    if method not in RANKED:
        # A common shift and scale of a row changes no correlation and keeps float32 sums exact enough.
        if method == "pearson":
            values = values - values.nanmean(-1, keepdim=True)
        return _Prepared(values, method)
    order = values.argsort(-1)
    return _Prepared(values, method, order, order.argsort(-1), _tie_ends(values.gather(-1, order)))


def _correlate(left: _Prepared, right: _Prepared, extra: _Prepared | None, weights: torch.Tensor) -> torch.Tensor:
    if right.values.dim() == 3 and right.values.isnan().any():
        return _correlate_with_gaps(left, right, extra, weights)
    a, b = _unit(left, weights), _unit(right, weights)
    if extra is not None:
        basis, _ = torch.linalg.qr(_unit(extra, weights).transpose(1, 2))
        a, b = _residual(a, basis), _residual(b, basis)
    found = a @ b.transpose(1, 2)
    few = (weights > 0).sum(1) < 3
    return found.masked_fill(few[:, None, None], torch.nan)


def _correlate_with_gaps(left, right, extra, weights):
    """Mean RDMs that have no value for some pairs in some resamples: one resample and one mean at a time."""
    found = torch.full((len(weights), left.values.shape[0], right.values.shape[1]), torch.nan, device=weights.device)
    for b in range(len(weights)):
        for k in range(right.values.shape[1]):
            there = ~right.values[b, k].isnan()
            if there.sum() < 3:
                continue
            parts = [None if s is None else _prepare(v[..., there], left.method, weights.device)
                     for s, v in ((left, left.values), (right, right.values[b:b + 1, k:k + 1]),
                                  (extra, None if extra is None else extra.values))]
            found[b, :, k] = _correlate(*parts, weights[b:b + 1, there])[0, :, 0]
    return found


def _unit(rows: _Prepared, weights: torch.Tensor) -> torch.Tensor:
    """Rows times the square root of the weights, whose products are weighted correlations: (batch, rows, pairs)."""
    total = weights.sum(1)[:, None, None]
    if rows.method in RANKED:
        centred = _ranks(rows, weights) - (total + 1) / 2
    elif rows.method == "pearson":
        centred = rows.values - (rows.values * weights[:, None]).sum(-1, keepdim=True) / total
    else:
        centred = rows.values
    scaled = centred * weights.sqrt()[:, None]
    norms = (scaled * scaled).sum(-1, keepdim=True).sqrt()
    if rows.method == "rho_a":
        wide = weights.double() if weights.device.type != "mps" else weights
        untied = ((wide.sum(1) ** 3 - (wide**3).sum(1)) / 12).sqrt()[:, None, None].to(norms.dtype)
        norms = torch.where(norms > 0, untied, norms)
    return scaled / norms.masked_fill(norms <= 1e-6 * total.sqrt() * centred.abs().amax(-1, keepdim=True), torch.nan)


def _ranks(rows: _Prepared, weights: torch.Tensor) -> torch.Tensor:
    shape = (len(weights), *rows.order.shape[-2:])
    ordered = weights[:, None].expand(shape).gather(-1, rows.order.expand(shape))
    exact = torch.float32 if weights.sum(1).max() < 2**23 else torch.float64
    until = ordered.cumsum(-1, dtype=exact)
    if rows.ends is None:
        middle = until - ordered / 2 + 0.5
    else:
        first, last = (e.expand(shape) for e in rows.ends)
        middle = ((until - ordered).gather(-1, first) + until.gather(-1, last) + 1) / 2
    return middle.gather(-1, rows.inverse.expand(shape))


def _tie_ends(ordered: torch.Tensor):
    """Positions of the first and the last of each run of equal values; None where there are no ties."""
    new = ordered[..., 1:] != ordered[..., :-1]
    if new.all():
        return None
    n = ordered.shape[-1]
    places = torch.arange(n, device=ordered.device).expand(ordered.shape)
    edge = torch.ones_like(new[..., :1])
    starts, ends = torch.cat([edge, new], -1), torch.cat([new, edge], -1)
    first = torch.where(starts, places, 0).cummax(-1).values
    last = torch.where(ends, places, n - 1).flip(-1).cummin(-1).values.flip(-1)
    return first, last


def _residual(units: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    rest = units - (units @ basis) @ basis.transpose(1, 2)
    norms = (rest * rest).sum(-1, keepdim=True).sqrt()
    return rest / norms.masked_fill(norms <= 1e-3, torch.nan)


def _weighted_means(rows: np.ndarray, weights: np.ndarray, device: torch.device) -> torch.Tensor:
    """Mean RDMs of each resample, (batch, groups, pairs)."""
    present = ~np.isnan(rows)
    weights = to_tensor(weights.astype(np.float32), device)
    sums = weights @ to_tensor(np.where(present, rows, 0).astype(np.float32), device)
    return sums / (weights @ to_tensor(present.astype(np.float32), device))
