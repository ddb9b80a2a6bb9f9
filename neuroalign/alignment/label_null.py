"""The null of a comparison of geometries: stimulus labels of the model permuted, the same for all spaces and targets.

The model is permuted once and multiplied with all targets: the targets are prepared once, and where all pairs
of stimuli are compared, ranks of a permuted model are the permuted ranks.
"""

import numpy as np
import torch

from neuroalign.alignment.progress import part_of
from neuroalign.errors import list_ids, warn_user
from neuroalign.linalg import rows_per_chunk, to_numpy, to_tensor
from neuroalign.stats.correlations import unit_rows, valid_patterns
from neuroalign.stats.rank_agreement import order_codes, tau_of_codes

__all__ = ["label_null", "permuted_products", "restrict_permutations", "tau_null"]

_FEW = 64  # vectors up to which copying whole matrices costs less than looking pairs up


def label_null(squares, first, second, rows, weights, method, permutations, device, *, controls=None, names=(),
               tick=lambda share: None):
    """Null distribution of weighted means of RDM correlations.

    Parameters
    ----------
    squares : array of shape (n_spaces, n_stimuli, n_stimuli)
        Dissimilarities of the models; a stimulus whose pairs are all NaN is left out of that space.
    first, second : array of int, shape (n_pairs,)
        Stimuli of the pairs that the targets have.
    rows : array of shape (n_rows, n_pairs)
        RDMs of the targets, NaN where not measured.
    weights : array of shape (n_cells, n_rows)
        The score of a cell is ``weights @ correlations``.
    method : {"spearman", "pearson", "cosine", "rho_a"}
    permutations : int array of shape (n_permutations, n_stimuli)
    device : torch.device
    controls : array of shape (n_controls, n_pairs), optional
        RDMs regressed out of both sides; they keep their labels, as the targets do.
    names : sequence of str
        Names of the spaces, for the warning.
    tick : callable
        Told which share of all was just done.

    Returns
    -------
    float64 array of shape (n_permutations, n_spaces, n_cells)
        NaN for a space that lacks the distance of some pairs, since it cannot be permuted.
    """
    out = np.full((len(permutations), len(squares), len(weights)), np.nan)
    broken = []
    for spaces, kept in _by_missing(squares):
        inner = squares[np.ix_(spaces, kept, kept)]
        off = ~np.eye(len(kept), dtype=bool)
        whole = ~np.isnan(inner[:, off]).any(1)
        broken += list(spaces[~whole])
        spaces, inner = spaces[whole], inner[whole]
        if len(spaces) and len(kept) > 2:
            place = np.full(squares.shape[1], -1)
            place[kept] = np.arange(len(kept))
            a, b = place[first], place[second]
            usable = (a >= 0) & (b >= 0)
            out[:, spaces] = _null_of_complete(
                inner, a[usable], b[usable], rows[:, usable], weights, method,
                restrict_permutations(permutations, kept), device, None if controls is None else controls[:, usable],
                part_of(tick, len(spaces) / len(squares)))
    _warn_broken(broken, names)
    return out


def tau_null(squares, first, second, rows, weights, permutations, *, names=(), tick=lambda share: None) -> np.ndarray:
    """Null distribution of weighted means of Kendall's tau-a; arguments and result as for `label_null`."""
    out = np.full((len(permutations), len(squares), len(weights)), np.nan)
    broken = []
    for spaces, kept in _by_missing(squares):
        place = np.full(squares.shape[1], -1)
        place[kept] = np.arange(len(kept))
        a, b = place[first], place[second]
        usable = (a >= 0) & (b >= 0)
        there = ~np.isnan(rows) & usable
        codes = [(t, order_codes(row[t])) for row, t in zip(rows, there)]
        orders = restrict_permutations(permutations, kept)
        for s in spaces:
            inner = squares[s][np.ix_(kept, kept)]
            if np.isnan(inner[~np.eye(len(kept), dtype=bool)]).any():
                broken.append(s)
                continue
            inner = order_codes(inner).reshape(inner.shape)
            for k, order in enumerate(orders):
                moved = inner[order[a], order[b]]
                out[k, s] = weights @ [tau_of_codes(moved[t], y) if len(y) > 2 else 0.0 for t, y in codes]
                tick(1 / (len(orders) * len(squares)))
    _warn_broken(broken, names)
    return out


def permuted_products(squares, vectors, first, second, permutations, device, transform=None,
                      tick=lambda share: None) -> np.ndarray:
    """Inner products of permuted square matrices with fixed vectors over pairs.

    Parameters
    ----------
    squares : array of shape (n_spaces, n, n)
    vectors : array of shape (n_vectors, n_pairs)
    first, second : array of int, shape (n_pairs,)
    permutations : int array of shape (n_permutations, n)
    transform : callable, optional
        Applied to the permuted rows, array of shape (k, n_pairs), before the product.
    tick : callable
        Told which share of all was just done.

    Returns
    -------
    float64 array of shape (n_permutations, n_spaces, n_vectors)
    """
    if transform is None and device.type == "cpu" and len(vectors) <= _FEW:
        return _taken_products(squares, vectors, first, second, permutations, tick)
    n = squares.shape[1]
    flat = to_tensor(np.ascontiguousarray(squares.reshape(len(squares), n * n)), device)
    right = to_tensor(vectors, device).T
    a, b = (torch.as_tensor(np.asarray(i), dtype=torch.int64, device=device) for i in (first, second))
    order = torch.as_tensor(np.asarray(permutations), dtype=torch.int64, device=device)
    out = np.empty((len(order), len(flat), len(vectors)))
    step = rows_per_chunk(24 * max(len(first), 1), device, limit=2**27)
    for start in range(0, len(order), step):
        part = order[start:start + step]
        index = (part[:, a] * n + part[:, b]).ravel()
        for k in range(len(flat)):
            moved = flat[k].index_select(0, index).view(len(part), -1)
            if transform is not None:
                moved = to_tensor(transform(to_numpy(moved)), device)
            out[start:start + step, k] = to_numpy(moved @ right)
            tick(len(part) / (len(order) * len(flat)))
    return out


def restrict_permutations(permutations: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the permutations of a subset that follow the order in which the full ones place it.

    Examples
    --------
    >>> restrict_permutations(np.array([[3, 0, 2, 1]]), np.array([0, 2, 3])).tolist()
    [[2, 1, 0]]
    """
    if len(kept) == permutations.shape[1]:
        return permutations
    return np.argsort(np.argsort(permutations[:, kept], axis=1), axis=1)


def orthonormal_rows(units: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the row space of a few long rows."""
    _, singular, basis = np.linalg.svd(np.asarray(units, np.float64), full_matrices=False)
    return basis[singular > 1e-6 * singular.max(initial=0)]


def residual_rows(units: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return unit rows with a basis projected out, scaled to unit length again; NaN where nothing is left."""
    rest = units - (units @ basis.T) @ basis
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norms > 1e-5, rest / norms, np.nan).astype(np.float32)


def _warn_broken(broken, names):
    if broken:
        ids = [names[i] for i in broken] if len(names) else broken
        warn_user(f"{list_ids(ids)} lack the distance of some pairs, so labels cannot be permuted: p is unavailable.",
                  "no-label-null", ids)


def _null_of_complete(squares, first, second, rows, weights, method, permutations, device, controls, tick):
    n = squares.shape[1]
    total = np.zeros((len(permutations), len(squares), len(weights)))
    for group, valid in valid_patterns(rows):
        own = part_of(tick, len(group) / len(rows))
        if valid.sum() < 3:
            continue  # such rows have no score either; the caller gives them no weight
        a, b = first[valid], second[valid]
        units = unit_rows(rows[group][:, valid], method)
        basis = None
        if controls is not None:
            basis = orthonormal_rows(unit_rows(controls[:, valid], method))
            units = residual_rows(units, basis)
        share = _weighted(weights[:, group], units)
        every_pair = len(a) == n * (n - 1) // 2
        if every_pair:
            prepared, transform = _unit_squares(squares, a, b, method), None
        else:
            prepared, transform = squares, lambda moved: unit_rows(moved, method)
        if basis is None:
            total += _cheaper_side(prepared, share, a, b, permutations, device, transform, every_pair, own)
            continue
        both = permuted_products(prepared, np.concatenate([share, basis]), a, b, permutations, device, transform, own)
        left = np.sqrt(np.maximum(1 - (both[..., len(share):] ** 2).sum(-1, keepdims=True), 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            total += np.where(left > 1e-3, both[..., :len(share)] / left, np.nan)
    return total


def _weighted(weights, rows):
    """Weighted sums of rows; where every cell has few of many rows, the zeros are not multiplied."""
    if np.count_nonzero(weights) > 0.1 * weights.size:
        return weights @ rows
    from scipy.sparse import csr_array

    return csr_array(weights.astype(np.float32)) @ rows


def _cheaper_side(squares, vectors, first, second, permutations, device, transform, every_pair, tick):
    """Permute whichever side has fewer matrices: permuting one is permuting the other by the inverse."""
    if not every_pair or len(vectors) >= len(squares):
        return permuted_products(squares, vectors, first, second, permutations, device, transform, tick)
    n = squares.shape[1]
    turned = np.zeros((len(vectors), n, n), np.float32)
    turned[:, first, second] = vectors
    turned[:, second, first] = vectors
    inverse = np.argsort(permutations, axis=1)
    return permuted_products(turned, squares[:, first, second], first, second, inverse, device,
                             tick=tick).transpose(0, 2, 1)


def _unit_squares(squares, first, second, method):
    out = np.zeros(squares.shape, np.float32)
    units = unit_rows(squares[:, first, second], method)
    out[:, first, second] = units
    out[:, second, first] = units
    return out


def _taken_products(squares, vectors, first, second, permutations, tick):
    """As `permuted_products`: whole matrices are permuted by rows, then columns, without an index of pairs."""
    n = squares.shape[1]
    placed = np.zeros((len(vectors), n, n), np.float32)
    placed[:, first, second] = vectors
    right = torch.from_numpy(placed.reshape(len(vectors), n * n)).T
    out = np.empty((len(permutations), len(squares), len(vectors)))
    step = min(len(permutations), rows_per_chunk(4 * n * n, torch.device("cpu"), limit=2**25))
    moved = np.empty((step, n, n), np.float32)
    for k, matrix in enumerate(np.ascontiguousarray(squares, np.float32)):
        for start in range(0, len(permutations), step):
            part = permutations[start:start + step]
            for order, space in zip(part, moved):
                np.take(matrix[order], order, axis=1, out=space, mode="clip")
            out[start:start + step, k] = (torch.from_numpy(moved[:len(part)]).view(len(part), n * n) @ right).numpy()
            tick(len(part) / (len(permutations) * len(squares)))
    return out


def _by_missing(squares):
    """Yield groups of spaces that lack the same stimuli: (spaces, stimuli that they have)."""
    off = ~np.eye(squares.shape[1], dtype=bool)
    present = (~np.isnan(squares) & off).any(2)
    unique, group = np.unique(present, axis=0, return_inverse=True)
    for k, stimuli in enumerate(unique):
        yield np.flatnonzero(group.ravel() == k), np.flatnonzero(stimuli)
