"""Indices of permutations: arrays of int32 (permutation, sample), each row the sample to take.

The identity is never among them: it is the observed statistic, which `permutation_p` counts itself. Where fewer
permutations exist than were asked for, all of them come, each once.
"""

import itertools
import math

import numpy as np

from neuroalign.stats.random import child_rng

__all__ = ["block_permutations", "cut_blocks", "row_permutations", "shift_permutations"]

FEWEST = 5  # groups of similar size that change places among themselves


def shift_permutations(n_samples: int, n_permutations: int, *, min_shift: float = 0.1, runs=None,
                       random_state: int = 0) -> np.ndarray:
    """Circular shifts of a time series, which keep its autocorrelation.

    Parameters
    ----------
    min_shift : float
        Least shift in either direction: a share of the run if below 1, else samples.
    runs : sequence, optional
        Run of each sample; every run is shifted in itself, by its own amount.

    Returns
    -------
    int32 array of shape (at most n_permutations, n_samples)

    Examples
    --------
    >>> shift_permutations(5, 100, min_shift=2).tolist()
    [[2, 3, 4, 0, 1], [3, 4, 0, 1, 2]]
    """
    _check_count(n_permutations)
    labels = np.zeros(n_samples, int) if runs is None else np.unique(np.asarray(runs), return_inverse=True)[1]
    places = [np.flatnonzero(labels == run) for run in range(labels.max() + 1)]
    least = [math.ceil(min_shift * len(place)) if min_shift < 1 else math.ceil(min_shift) for place in places]
    choices = [np.arange(max(low, 1), len(place) - max(low, 1) + 1) for low, place in zip(least, places)]
    for place, choice in zip(places, choices):
        if not len(choice):
            raise ValueError(f"min_shift: no shift of at least {min_shift} exists in a run of {len(place)} samples. "
                             "Use a smaller one.")
    rng = child_rng(random_state, "shift")
    shifts = _draw([len(choice) for choice in choices], n_permutations, rng)
    rows = np.empty((len(shifts), n_samples), np.int32)
    for place, choice, drawn in zip(places, choices, shifts.T):
        moved = (np.arange(len(place)) + choice[drawn][:, None]) % len(place)
        rows[:, place] = place[moved]
    return rows


def block_permutations(n_samples: int, n_permutations: int, *, block: int | None = None, groups=None, runs=None,
                       random_state: int = 0) -> np.ndarray:
    """Contiguous blocks, or groups, put in another order.

    Parameters
    ----------
    block : int, optional
        Samples in a block; a shorter rest is spread over the blocks. Blocks end where a run ends.
    groups : sequence, optional
        Instead of `block`: samples of one label move together, to the place of a group of the same size or, where
        fewer than five groups have it, of the next sizes. What finds no room in a smaller group fills up larger ones.
    runs : sequence, optional

    Returns
    -------
    int32 array of shape (at most n_permutations, n_samples)

    Notes
    -----
    Groups of many sizes that were only put one behind another would be cut anew, and a null that tears them apart is
    too narrow: with words that occur 1 to 60 times, and features and responses that are alike within a word, 14 % of
    p-values were at or below .05 (6 to 7 % as it is, 5 % where sizes are common).

    Examples
    --------
    >>> block_permutations(4, 10, block=2).tolist()
    [[2, 3, 0, 1]]
    """
    _check_count(n_permutations)
    if (block is None) == (groups is None):
        raise ValueError("block_permutations: give either block (samples) or groups, not both or none.")
    blocks = _label_blocks(groups) if block is None else cut_blocks(n_samples, block, runs)
    if len(blocks) < 2:
        raise ValueError(f"block: {len(blocks)} block of {n_samples} samples cannot be permuted. Use shorter blocks.")
    rng = child_rng(random_state, "block")
    if block is None:
        return _exchange(blocks, _orders_within(_similar(blocks), n_permutations, rng))
    orders = _orders(len(blocks), n_permutations, rng)
    # Blocks of unequal size: what is taken is the sequence of blocks in their new order.
    target = np.concatenate(blocks)
    rows = np.empty((len(orders), n_samples), np.int32)
    for row, order in zip(rows, orders):
        row[target] = np.concatenate([blocks[k] for k in order])
    return rows


def row_permutations(n_samples: int, n_permutations: int, *, random_state: int = 0) -> np.ndarray:
    """Permute independent samples freely.

    Returns
    -------
    int32 array of shape (at most n_permutations, n_samples)

    Examples
    --------
    >>> row_permutations(2, 10).tolist()
    [[1, 0]]
    """
    _check_count(n_permutations)
    return _orders(n_samples, n_permutations, child_rng(random_state, "rows")).astype(np.int32)


def _check_count(n_permutations):
    if not isinstance(n_permutations, (int, np.integer)) or n_permutations < 1:
        raise ValueError(f"n_permutations: got {n_permutations!r}, expected an integer of at least 1.")


def _draw(sizes, n_draws, rng):
    """Draw distinct tuples of indices below `sizes`; all of them, in order, if there are no more."""
    total = math.prod(sizes)
    if total <= n_draws:
        return np.array(list(itertools.product(*map(range, sizes))))
    if len(sizes) == 1:
        return np.sort(rng.choice(sizes[0], n_draws, replace=False))[:, None]
    seen = {}
    while len(seen) < n_draws:
        seen.setdefault(tuple(int(rng.integers(size)) for size in sizes))
    return np.array(list(seen))


def _orders(n, n_permutations, rng):
    """Draw distinct orders of n things, never the identity; all of them if there are no more."""
    if n < 13 and math.factorial(n) - 1 <= n_permutations:
        return np.array(list(itertools.permutations(range(n)))[1:]).reshape(-1, n)
    if n >= 21:  # more than 5e19 orders: a repeat does not happen
        return np.stack([rng.permutation(n) for _ in range(n_permutations)])
    seen, identity = {}, tuple(range(n))
    while len(seen) < n_permutations:
        order = tuple(rng.permutation(n).tolist())
        if order != identity:
            seen.setdefault(order)
    return np.array(list(seen))


def _similar(blocks) -> list[np.ndarray]:
    """Sort groups into strata of one size, largest first; fewer than `FEWEST` are joined by those of the next sizes."""
    sizes = np.array([len(block) for block in blocks])
    strata, waiting = [], np.empty(0, int)
    for size in np.unique(sizes)[::-1]:
        waiting = np.r_[waiting, np.flatnonzero(sizes == size)]
        if len(waiting) >= FEWEST:
            strata.append(waiting)
            waiting = np.empty(0, int)
    if len(waiting):
        strata.append(np.r_[strata.pop(), waiting] if strata else waiting)
    return strata


def _orders_within(strata, n_permutations, rng):
    """Draw distinct orders that keep strata, never the identity; all of them if there are no more."""
    place = np.concatenate(strata)

    def whole(parts):
        order = np.empty(len(place), int)
        order[place] = np.concatenate(parts)
        return order

    if math.prod(math.factorial(len(s)) for s in strata) - 1 <= n_permutations:
        return np.array([whole(parts) for parts in itertools.product(*map(itertools.permutations, strata))][1:])
    seen, identity = {}, tuple(range(len(place)))
    while len(seen) < n_permutations:
        order = tuple(whole([rng.permutation(s) for s in strata]).tolist())
        if order != identity:
            seen.setdefault(order)
    return np.array(list(seen))


def _exchange(blocks, orders):
    """Give each group the rows of another, as far as they reach; rows and places that are left over come together."""
    rows, sizes = np.concatenate(blocks), np.array([len(block) for block in blocks])
    start, owner = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(blocks)), sizes)
    rank = np.arange(len(rows)) - start[owner]
    found = np.empty((len(orders), len(rows)), np.int32)
    for row, order in zip(found, orders):
        giver = order[owner]
        fits = rank < sizes[giver]
        taken = (start[giver] + rank)[fits]
        row[rows[fits]] = rows[taken]
        row[rows[~fits]] = np.delete(rows, taken)
    return found


def cut_blocks(n_samples: int, block: int, runs=None) -> list[np.ndarray]:
    """Cut every run into contiguous blocks of at least so many samples (a shorter run is one block)."""
    if not 1 <= block <= n_samples:
        raise ValueError(f"block: got {block} samples, expected 1 to {n_samples}.")
    labels = np.zeros(n_samples, int) if runs is None else np.unique(np.asarray(runs), return_inverse=True)[1]
    blocks = []
    for run in range(labels.max() + 1):
        place = np.flatnonzero(labels == run)
        blocks += np.array_split(place, max(1, len(place) // int(block)))
    return blocks


def _label_blocks(groups):
    labels = np.asarray(groups)
    order = np.unique(labels, return_index=True)[1]
    return [np.flatnonzero(labels == labels[first]) for first in np.sort(order)]
