"""The setting of an encoding analysis: matched rows, targets as columns, folds, nuisance, and what fits them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, signature

import numpy as np
import torch
import xarray as xr

from neuroalign.alignment.designs import Design, EventTiming, make_designs, make_nuisance, match_rows
from neuroalign.alignment.lags import Lags
from neuroalign.alignment.neuroid_selection import select_neuroids as select
from neuroalign.alignment.nulls import Fitter
from neuroalign.alignment.reduction import parse_reduction
from neuroalign.alignment.reliability import Reliability, find_reliability
from neuroalign.alignment.residuals import make_residuals
from neuroalign.alignment.ridge import ALPHAS
from neuroalign.alignment.ridge_inputs import TargetBlock, check_alphas
from neuroalign.alignment.splits import Layout, make_layout, nested_folds
from neuroalign.data import sample_dim, validate_responses
from neuroalign.errors import check_keywords, check_option, list_ids, warn_user
from neuroalign.features.delays import delay_range, delay_samples, series_clock
from neuroalign.linalg import resolve, to_numpy

__all__ = ["Problem", "Targets", "check_settings", "set_up"]

COLUMNS = 4096  # targets that are standardised at a time


@dataclass(frozen=True)
class Problem:
    """Feature spaces and responses on the same rows, and how they are fitted.

    Attributes
    ----------
    spaces : dict of DataArray
    responses : DataArray
    targets : Targets
    layout : Layout
    timing : EventTiming
    nuisance : array of shape (n_samples, n_columns)
        At all delays.
    nuisance_names : list of str
    fitter : Fitter
        With the nested folds.
    reliability : Reliability
    lags : Lags, optional
    residualize : {"features", "both"}, optional
    select_neuroids : float, optional
    """

    spaces: Mapping[str, xr.DataArray]
    responses: xr.DataArray
    targets: "Targets"
    layout: Layout
    timing: EventTiming
    nuisance: np.ndarray
    nuisance_names: list[str]
    fitter: Fitter
    reliability: Reliability
    lags: Lags | None = None
    residualize: str | None = None
    select_neuroids: float | None = None

    def designs(self) -> dict[str, Callable[[], Design]]:
        """Return a function that makes the design of each space: they are made one at a time."""
        return make_designs(self.spaces, self.responses, self.nuisance, self.timing, self.lags)

    def describe(self) -> dict:
        """Return what goes into the attrs of Scores."""
        fitter, timing = self.fitter, self.timing
        return {"folds": fitter.outer.describe(),
                "inner_folds": next(f if isinstance(f, str) else f.name for f in fitter.inner),
                "random_state": fitter.random_state, "alphas": fitter.alphas.tolist(),
                "reduce": fitter.reduction.name if fitter.reduction else None, "nuisance": self.nuisance_names,
                "residualize": self.residualize, "select_neuroids": self.select_neuroids,
                "delays": None if self.lags is None else self.lags.seconds.tolist(),
                "gap": self.layout.gap_seconds, "hrf": timing.hrf, "downsample": timing.downsample,
                "at": timing.at if timing.places_events else None,
                "high_pass": timing.high_pass, "ceiling": self.reliability.source,
                "fingerprints": _fingerprints(self.spaces, self.responses)}


def set_up(features, responses: xr.DataArray, *, nuisance=None, cv="auto", inner_cv="auto", n_splits: int = 5,
           n_inner_splits: int = 5, groups=None, gap: float | None = None, alphas=None, reduce=None,
           hrf: str | None = None, at: str = "onset", downsample: str | None = None, delays=None, trf=None,
           high_pass="auto", ceiling=None, repeats: str = "average", on_missing: str = "error", residualize=None,
           select_neuroids: float | None = None, random_state: int = 0, device="auto") -> Problem:
    """Match rows, resolve folds and nuisance; the parameters are those of `neuroalign.encode`."""
    _check_numbers(validate_responses(responses))
    reliability = _find_reliability(responses, ceiling, repeats, residualize, random_state)
    presented = responses
    timing = EventTiming(hrf, at, _filter_of(responses, high_pass), downsample)
    spaces, responses = match_rows(features, responses, timing, repeats=repeats, on_missing=on_missing)
    lags = _find_lags(responses, delays, trf)
    layout = make_layout(responses, groups, gap, hrf, 0.0 if lags is None else float(np.abs(lags.seconds).max()))
    outer, inner = nested_folds(layout, cv, inner_cv, n_splits, n_inner_splits, random_state)
    columns, names = make_nuisance(nuisance, spaces, responses, timing)
    if lags is not None:
        lags = replace(lags, nuisance=columns)
        columns = lags.delayed(columns)[:, :]
    targets, device = Targets(responses), resolve(device)
    alphas = check_alphas(ALPHAS if alphas is None else alphas)
    fitter = Fitter(outer, inner, alphas, device, columns.shape[1],
                    parse_reduction(reduce), random_state, make_residuals(residualize, columns, outer, inner, device),
                    select(select_neuroids, presented, responses, outer, targets.usable))
    return Problem(spaces, responses, targets, layout, timing, columns, names, fitter, reliability, lags, residualize,
                   select_neuroids)


def check_settings(function: Callable, settings: Mapping) -> None:
    """Raise a `TypeError` where the keywords that a public function hands on are none of `set_up`."""
    own = {name: p.kind for name, p in signature(function).parameters.items()}
    named = [name for name, kind in own.items() if kind is Parameter.KEYWORD_ONLY]
    others = [name for name, p in signature(set_up).parameters.items()
              if p.kind is Parameter.KEYWORD_ONLY and name not in own]
    check_keywords(function.__name__, settings, [*named, *others])


class Targets:
    """Responses as standardised columns; NaN and constant ones are set aside and come back as NaN."""

    def __init__(self, responses: xr.DataArray):
        _check_numbers(responses)
        dim = sample_dim(responses)
        self.dims = tuple(d for d in ("neuroid", "time_bin") if d in responses.dims)
        named = "stimulus_id" in responses.coords and responses["stimulus_id"].dims == (dim,)
        self.ids = responses["stimulus_id"].values if named else np.arange(responses.sizes[dim])
        ordered = responses.transpose(dim, *self.dims)
        self.shape = ordered.shape[1:]
        flat = ordered.values.reshape(ordered.shape[0], -1)
        # Blocks of columns, so that float64 copies of all targets are never held.
        parts = [flat[:, start:start + COLUMNS] for start in range(0, flat.shape[1], COLUMNS)]
        finite = np.concatenate([np.isfinite(part).all(0) for part in parts])
        blocks = [TargetBlock.of(part, torch.empty(0)) for part in parts]
        self.usable = np.concatenate([block.valid for block in blocks])
        self._warn(responses, ~finite, "nan-target", "hold NaN or infinite values")
        self._warn(responses, finite & ~self.usable, "constant-target", "are constant")
        if not self.usable.any():
            raise ValueError("responses: every neuroid is NaN or constant; there is nothing to predict."
                             + _say_lost_rows(responses, flat, dim))
        self.mean, self.sd = (np.concatenate([getattr(block, name)[block.valid] for block in blocks])
                              for name in ("mean", "sd"))
        self.values = np.empty((len(flat), int(self.usable.sum())), np.float32)
        start = 0
        for block in blocks:
            columns = to_numpy(block.values)
            columns = columns if block.valid.all() else columns[:, block.valid]
            self.values[:, start:start + columns.shape[1]] = columns
            start += columns.shape[1]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Put values of the usable columns (last axis) back in place, shape (..., neuroid[, time_bin])."""
        full = np.full((*values.shape[:-1], len(self.usable)), np.nan, values.dtype)
        full[..., self.usable] = values
        return full.reshape(*values.shape[:-1], *self.shape)

    def in_units(self, prediction: np.ndarray) -> np.ndarray:
        """Predictions in the units of the responses."""
        return self.spread((prediction * self.sd + self.mean).astype(np.float32))

    def _warn(self, responses, bad, code, what):
        per_neuroid = bad.reshape(self.shape[0], -1).any(1)
        if not per_neuroid.any():
            return
        name = "neuroid_id" if "neuroid_id" in responses.coords else "neuroid"
        ids = responses[name].values[per_neuroid]
        warn_user(f"{len(ids)} of {len(per_neuroid)} neuroids {what} and get NaN scores: {list_ids(ids)}.", code, ids)


def _say_lost_rows(responses, flat, dim) -> str:
    """Name the samples that no neuroid has: one of them makes every neuroid unusable."""
    lost = ~np.isfinite(flat).any(1)
    if not lost.any() or lost.all():
        return ""
    rows = responses["stimulus_id" if dim != "time" else "time"].values[lost].tolist()
    return (f" No neuroid has a number in {len(rows)} of {len(lost)} samples: {list_ids(rows)}. Leave them out: "
            f"responses.dropna({dim!r}).")


def _check_numbers(responses) -> None:
    if responses.dtype.kind not in "fiub":
        raise ValueError(f"responses: got values of type {responses.dtype}, expected real numbers. Numbers that are "
                         "stored as text or objects: responses.astype(float). Categories: one neuroid of 0 and 1 for "
                         "each.")


def _find_reliability(responses, ceiling, repeats, residualize, random_state) -> Reliability:
    if residualize != "both":
        return find_reliability(responses, ceiling, repeats, random_state)
    if ceiling is not None:
        raise ValueError("ceiling: with residualize='both' residuals are predicted, whose reliability is not that of "
                         "the responses. Leave ceiling=None.")
    return Reliability(np.array(np.nan), "pooled", "unavailable: the predicted residuals have no known reliability")


def _find_lags(responses, delays, trf) -> Lags | None:
    if delays is None and trf is None:
        return None
    if delays is not None and trf is not None:
        raise ValueError("delays, trf: give either some delays or a range of which all are taken, not both.")
    if sample_dim(responses) != "time":
        raise ValueError(f"{'trf' if delays is None else 'delays'}: the responses stand on {sample_dim(responses)!r}; "
                         "only those on 'time' can be later than features.")
    if trf is not None and np.shape(trf) != (2,):
        raise ValueError(f"trf: got {trf!r}, expected two numbers, the first and the last delay in seconds.")
    step, runs = series_clock(responses)
    samples = delay_samples(delays, 1 / step) if trf is None else delay_range(*trf, 1 / step)
    return Lags(samples, samples * step, runs, np.zeros((responses.sizes["time"], 0)))


def _filter_of(responses, high_pass):
    if isinstance(high_pass, str):
        check_option("high_pass", high_pass, ("auto",))
        high_pass = responses.attrs.get("high_pass")
    if high_pass is not None and not float(high_pass) > 0:
        raise ValueError(f"high_pass: got {high_pass!r}, expected a frequency in Hz above 0, or None.")
    return None if high_pass is None else float(high_pass)


def _fingerprints(spaces: Mapping, responses) -> dict:
    def digest(array):
        stored = array.attrs.get("fingerprint")
        return stored or hashlib.sha256(np.ascontiguousarray(array.data)).hexdigest()

    return {"responses": digest(responses), **{name: digest(space) for name, space in spaces.items()}}
