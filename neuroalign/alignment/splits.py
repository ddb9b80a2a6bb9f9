"""Outer and inner folds of an encoding analysis, and the ways to permute it."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import xarray as xr

from neuroalign.alignment.designs import sample_step
from neuroalign.data import sample_dim
from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.stats import (
    Folds,
    autocorrelation,
    block_permutations,
    effective_samples,
    make_folds,
    row_permutations,
    shift_permutations,
)
from neuroalign.stats.folds import NAMES as FOLD_NAMES

__all__ = ["Layout", "block_samples", "describe_blocks", "make_layout", "make_permutations", "memory_of",
           "nested_folds", "permutation_orders"]

HRF_SECONDS = 16.0  # most of a haemodynamic response has passed
NEURAL_SECONDS = 1.0
SMALLEST_P = 0.05  # below this many permutations no p can reach it
NEAR_SHARE = 0.1  # of the training samples: more of them near a test sample than the borders of blocks make
SOME = 200  # columns that autocorrelation is estimated from
LEAST_BLOCK = 50  # samples; nulls of shorter blocks were not calibrated
MEMORIES = 5  # autocorrelation times in a block: what stands in two of them is then nearly independent
NULLS = ("auto", "shift", "block", "permute")


@dataclass(frozen=True)
class Layout:
    """What folds and permutations must respect of the samples.

    Attributes
    ----------
    time_series : bool
    n_samples : int
    gap : int
        Samples purged on both sides of a test block.
    gap_seconds : float or None
    groups, runs : array of shape (n_samples,), or None
    onsets : array of shape (n_samples,), or None
        Seconds of the samples that are timed events (words of a film): they are a time series without a fixed step.
    step : float or None
        Seconds between samples (events: their median).
    ids : array of shape (n_samples,), or None
        Ids of independent stimuli.
    memory : float
        Autocorrelation time of the responses, in samples; 1 where the samples are no time series.
    """

    time_series: bool
    n_samples: int
    gap: int
    gap_seconds: float | None
    groups: np.ndarray | None
    runs: np.ndarray | None
    onsets: np.ndarray | None = None
    step: float | None = None
    ids: np.ndarray | None = None
    memory: float = 1.0

    def purge(self, rows=None) -> dict:
        """Return the arguments of `make_folds` for these rows: where they stand, and the gap in the same units."""
        if self.onsets is None:
            return {"positions": rows, "gap": self.gap}
        return {"positions": self.onsets if rows is None else self.onsets[rows], "gap": self.gap_seconds}


def make_layout(responses: xr.DataArray, groups, gap: float | None, hrf: str | None,
                longest_delay: float = 0.0) -> Layout:
    """Read groups, runs and the purge gap off the responses (gap in seconds; see `encode`)."""
    dim = sample_dim(responses)
    groups = _find_groups(responses, groups)
    onsets = _find_onsets(responses, dim)
    timed = dim == "time" or onsets is not None
    runs = responses["run"].values if timed and "run" in responses.coords else None
    if not timed:
        if gap:
            raise ValueError(f"gap: got {gap!r} s, but the samples are on {dim!r} and have no clock (a coord 'onset' "
                             "in seconds). Leave gap=None.")
        ids = responses["stimulus_id"].values if groups is None else None
        return Layout(False, responses.sizes[dim], 0, None, groups, None, ids=ids)
    if gap is None:
        slow = hrf is not None or responses.attrs.get("kind") == "fmri"
        gap = max(HRF_SECONDS if slow else NEURAL_SECONDS, longest_delay)
    if gap < 0:
        raise ValueError(f"gap: got {gap!r}, expected seconds of at least 0.")
    if gap < longest_delay - 1e-6:
        raise ValueError(f"gap: got {gap!r} s, shorter than the longest delay, {longest_delay:g} s, so that test rows "
                         f"would be made of the same features as training rows. Leave gap=None, or give at least "
                         f"{longest_delay:g}.")
    step = sample_step(responses) if onsets is None else max(np.median(np.diff(onsets)), 1e-9)
    samples = int(np.ceil(round(gap / step, 6)))
    return Layout(True, responses.sizes[dim], samples, float(gap), groups, runs, onsets, step,
                  memory=memory_of(responses.transpose(dim, ...).values, runs))


def nested_folds(layout: Layout, cv, inner_cv, n_splits: int, n_inner_splits: int, random_state: int):
    """Resolve the outer folds, and for each the inner folds over its training rows.

    Returns
    -------
    outer : Folds
    inner : list of Folds or "loo"
    """
    seed = {"random_state": random_state, "time_series": layout.time_series}
    outer = _make_folds(_auto(cv, layout), layout.ids, layout.n_samples, groups=layout.groups, runs=layout.runs,
                        n_splits=n_splits, **seed, **layout.purge())
    _warn_scattered(layout, outer)
    if isinstance(inner_cv, str):
        check_option("inner_cv", inner_cv, ("auto", "loo", *FOLD_NAMES))
    if isinstance(inner_cv, str) and inner_cv == "loo":
        return outer, ["loo"] * len(outer)
    if isinstance(inner_cv, Folds) or (not isinstance(inner_cv, (str, Integral)) and not hasattr(inner_cv, "split")):
        raise ValueError("inner_cv: each training set needs its own folds. Pass a name, a number of splits or a "
                         "scikit-learn splitter, not a table.")
    inner = []
    for train, _ in outer:
        groups = None if layout.groups is None else layout.groups[train]
        runs = None if layout.runs is None else layout.runs[train]
        splits = min(n_inner_splits, len(train))
        if groups is not None:
            if len(np.unique(groups)) < 2:
                raise ValueError(f"groups: a training set holds one group, {list_ids(groups[:1])}, which inner folds "
                                 "cannot divide to choose penalties. Give three groups or more, or inner_cv='loo'.")
            splits = max(2, min(splits, len(np.unique(groups))))
        ids = None if layout.ids is None else layout.ids[train]
        inner.append(_make_folds(_auto(inner_cv, layout), ids, len(train), groups=groups, runs=runs, n_splits=splits,
                                 **seed, **layout.purge(train)))
    return outer, inner


def _make_folds(cv, ids, n_samples: int, **options) -> Folds:
    """Make folds; the shuffled folds of independent stimuli follow their ids, not the order of their rows."""
    if ids is not None and isinstance(cv, Integral) and not isinstance(cv, bool):
        cv, options["n_splits"] = "kfold", int(cv)
    if ids is None or not (isinstance(cv, str) and cv in ("kfold", "shuffled")):
        return make_folds(cv, n_samples, **options)
    place = np.argsort(np.argsort(ids, kind="stable"))
    folds = make_folds(cv, n_samples, **options)
    return Folds(folds.train[:, place], folds.test[:, place], folds.name)


def memory_of(values: np.ndarray, runs=None) -> float:
    """Return the autocorrelation time of a series, in samples: 1 plus twice the sum of its autocorrelation.

    Parameters
    ----------
    values : array of shape (n_samples, ...)
        Mean over the first columns that hold no NaN.
    runs : array of shape (n_samples,), optional
        The mean of each run is taken off.

    Examples
    --------
    >>> memory_of(np.repeat(np.random.default_rng(0).standard_normal((300, 50)), 4, axis=0)).__round__()
    4
    """
    values = np.asarray(values).reshape(len(values), -1)
    values = values[:, np.flatnonzero(np.isfinite(values).all(0))[:SOME]].astype(float)
    if len(values) < 6 or not values.shape[1]:
        return 1.0
    for run in () if runs is None else np.unique(runs):
        values[runs == run] -= values[runs == run].mean(0)
    own = autocorrelation(values)
    return max(1.0, len(values) / effective_samples(len(values), own, np.ones_like(own)))


def make_permutations(layout: Layout, null: str, n_permutations: int, **options) -> tuple[str, np.ndarray]:
    """Make the index rows of the null as `permutation_orders` does; warn where too few exist for a p of .05."""
    null, orders = permutation_orders(layout, null, n_permutations, **options)
    if (1 + len(orders)) * SMALLEST_P < 1:
        warn_user(f"{len(orders)} permutations: the smallest attainable p is {1 / (1 + len(orders)):.3g}, so nothing "
                  f"can be found at {SMALLEST_P}. Ask for more (n_permutations=1000).", "few-permutations",
                  count=len(orders))
    elif len(orders) < n_permutations:
        warn_user(f"only {len(orders)} of {n_permutations} permutations exist ({null}); the smallest attainable p is "
                  f"{1 / (1 + len(orders)):.3g}.", "few-permutations", count=len(orders))
    return null, orders


def permutation_orders(layout: Layout, null: str, n_permutations: int, *, min_shift: float, block: float | None,
                       events, random_state: int) -> tuple[str, np.ndarray]:
    """Make the index rows of the null.

    Parameters
    ----------
    events : int or None
        Number of events if it is the series of events that is permuted, else None.
    block : float or None
        Seconds of a block; by default see `block_samples`.

    Returns
    -------
    null : str
        Its name, resolved.
    orders : int32 array of shape (n_permutations, n_samples or n_events)
    """
    check_option("null", null, NULLS)
    if null == "auto":
        null = "shift" if layout.time_series else "block" if layout.groups is not None else "permute"
    n = layout.n_samples if events is None else events
    runs = layout.runs if events is None else None
    seed = {"random_state": random_state}
    if null == "shift":
        if not layout.time_series:
            raise ValueError("null='shift': the samples have no order in time. Use null='permute' or 'block'.")
        orders = shift_permutations(n, n_permutations, min_shift=min_shift, runs=runs, **seed)
    elif null == "permute":
        if layout.time_series:
            warn_user("null='permute' shuffles the samples of a time series: it destroys their autocorrelation, and "
                      "p-values are too small. Use null='shift' or 'block'.", "shuffled-null", count=n)
        orders = row_permutations(n, n_permutations, **seed)
    elif layout.groups is not None and events is None:
        orders = block_permutations(n, n_permutations, groups=layout.groups, **seed)
    else:
        size = block_samples(layout, block, n)
        orders = block_permutations(n, n_permutations, block=size, runs=runs, **seed)
    return null, orders


def _auto(cv, layout):
    if not (isinstance(cv, str) and cv == "auto"):
        return cv
    if layout.groups is not None:
        return "groups"
    return "blocks" if layout.time_series else "kfold"


def _warn_scattered(layout: Layout, outer: Folds) -> None:
    """Warn where groups are scattered over a time series, so that neighbours stand in training and test set."""
    if not layout.time_series or layout.groups is None or not outer.name.endswith(("groups", "group-out")):
        return
    codes = np.unique(layout.groups, return_inverse=True)[1]
    if (np.diff(codes) != 0).sum() + 1 <= codes.max() + 1:
        return
    runs = np.zeros(layout.n_samples, int) if layout.runs is None else np.unique(layout.runs, return_inverse=True)[1]
    place, reach = (np.arange(layout.n_samples) * 1.0, layout.gap) if layout.onsets is None else \
        (layout.onsets, layout.gap_seconds)
    place = place + runs * (np.ptp(place) + 2 * reach + 1)  # runs are far apart
    near = 0.0
    for train, test in outer:
        others = np.sort(place[test])
        after = np.searchsorted(others, place[train])
        distance = np.minimum(np.abs(place[train] - others[np.maximum(after - 1, 0)]),
                              np.abs(place[train] - others[np.minimum(after, len(others) - 1)]))
        near = max(near, float((distance <= reach).mean()))
    if near > NEAR_SHARE:
        warn_user(f"groups are scattered in time: up to {near:.0%} of the training samples lie within "
                  f"{layout.gap_seconds:g} s of a test sample, and what neighbours share looks predicted. Use "
                  "cv='blocks', groups of whole runs or films, or compare with the score of 'drift'.",
                  "scattered-groups", count=len(outer))


def _find_onsets(responses, dim):
    """Onsets of stimuli that are timed events and occur once; None for others."""
    if dim == "time" or "onset" not in responses.coords or responses["onset"].dims != (dim,):
        return None
    repeated = dim == "presentation" and len(np.unique(responses["stimulus_id"].values)) < responses.sizes[dim]
    if repeated:
        return None
    onsets = responses["onset"].values.astype(float)
    runs = responses["run"].values if "run" in responses.coords else np.zeros(len(onsets))
    back = (np.diff(onsets) < 0) & (runs[1:] == runs[:-1])
    if back.any() or np.isnan(onsets).any():
        raise ValueError(f"responses: the onsets of {dim!r} do not ascend within a run ({int(back.sum())} steps "
                         f"back, {int(np.isnan(onsets).sum())} missing). Sort the events, "
                         "responses.sortby('onset'), or give recordings with clocks of their own a coord 'run'.")
    return onsets


def _find_groups(responses, groups):
    dim = sample_dim(responses)
    if groups is None:
        # Presentations of one stimulus never straddle folds.
        ids = responses["stimulus_id"].values if dim == "presentation" else ()
        return ids if len(np.unique(ids)) < len(ids) else None
    if isinstance(groups, str):
        if groups not in responses.coords or responses[groups].dims != (dim,):
            have = [c for c in responses.coords if responses[c].dims == (dim,)]
            raise ValueError(f"groups: no coord {groups!r} on {dim!r}; found {list_ids(have)}.")
        return responses[groups].values
    groups = np.asarray(groups)
    if groups.shape != (responses.sizes[dim],):
        raise ValueError(f"groups: got shape {groups.shape}, expected one label for each of the "
                         f"{responses.sizes[dim]} samples.")
    return groups


def block_samples(layout: Layout, block: float | None, n: int) -> int:
    """Return the samples of a block of a series of `n` (samples, or events).

    Of so many seconds; by default five autocorrelation times of the responses, at least 50 samples, and at most a
    tenth of the series.
    """
    if block is not None:
        if layout.step is None:
            raise ValueError("block: seconds are meant, but the samples have no clock. Pass groups instead.")
        return max(1, round(block / layout.step * n / layout.n_samples))
    if not layout.time_series:
        raise ValueError("null='block' needs groups (the label of each sample) where samples are not a time series.")
    return max(1, min(max(LEAST_BLOCK, int(np.ceil(MEMORIES * layout.memory))), n // 10))


def describe_blocks(layout: Layout, block: float | None) -> dict | None:
    """Return what attrs say of the blocks of a time series that is not divided into groups."""
    if not layout.time_series or layout.groups is not None:
        return None
    size = block_samples(layout, block, layout.n_samples)
    return {"samples": size, "seconds": round(size * layout.step, 6),
            "autocorrelation_seconds": round(layout.memory * layout.step, 6), "given": block is not None}
