"""Regressors on the rows of the responses: matched features, convolved events, nuisance variables."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr

from neuroalign.alignment.lags import LaggedTable, Lags
from neuroalign.alignment.table import Table
from neuroalign.data import align, as_spaces, sample_dim
from neuroalign.errors import NeuroalignWarning, NotAligned, check_option, list_ids, suggest, warn_user
from neuroalign.features.delays import run_rows

__all__ = ["Design", "EventTiming", "make_designs", "make_nuisance", "match_rows", "sample_step"]

LONG = 5.0  # seconds after which the haemodynamic response peaks: a longer event is no impulse
ROUNDED = 0.1  # share of a step by which the steps of a clock in rounded seconds may differ from it


@dataclass(frozen=True)
class EventTiming:
    """How events become samples: haemodynamic response or downsampling, edge of the event, high-pass filter."""

    hrf: str | None = None
    at: str = "onset"
    high_pass: float | None = None
    downsample: str | None = None

    def __post_init__(self):
        check_option("at", self.at, ("onset", "middle", "offset", "whole"))
        if self.downsample is not None:
            check_option("downsample", self.downsample, ("mean", "lanczos"))
            if self.hrf is not None:
                raise ValueError("hrf, downsample: give one of them: events are convolved, or only brought to the "
                                 "samples.")
            if self.at == "whole":
                raise ValueError(f"at: got 'whole' with downsample={self.downsample!r}, where events are points in "
                                 "time. Use onset, middle or offset, or hrf=.")

    @property
    def places_events(self) -> bool:
        """Whether events are put in time."""
        return self.hrf is not None or self.downsample is not None

    def place(self, events: xr.DataArray, times) -> xr.DataArray:
        """Turn events into series at the samples."""
        from neuroalign.features.timing import events_to_samples

        whole = self.at == "whole"
        return events_to_samples(events, times, hrf=self.hrf, at="onset" if whole else self.at, boxcar=whole,
                                 how=self.downsample or "hrf")


@dataclass(frozen=True)
class Design:
    """One feature space on the rows of the responses, beside the nuisance columns.

    Attributes
    ----------
    series : array of shape (n_samples, n_features)
        The features, before any delays.
    nuisance : array of shape (n_samples, n_nuisance)
        At all delays.
    lags : Lags, optional
        Delays of the features.
    events : DataArray (stimulus, feature), optional
        The events that `series` was made from.
    """

    series: np.ndarray
    nuisance: np.ndarray
    lags: Lags | None = None
    events: xr.DataArray | None = None
    responses: xr.DataArray | None = field(default=None, repr=False)
    timing: EventTiming | None = None

    @property
    def values(self):
        """The features, at all delays."""
        return self.series if self.lags is None else self.lags.delayed(self.series)

    @property
    def joint(self) -> Table:
        """Nuisance and features side by side."""
        if self.lags is not None:
            return LaggedTable(self.nuisance, self.series, self.lags)
        return Table([self.nuisance, self.values])

    def permuted(self, order: np.ndarray, residuals=None) -> "Design":
        """Take the features in another order: the event series before convolution, or the rows.

        With `Residuals`: the rows of what the nuisance does not explain of them.
        """
        if residuals is not None:
            explained, left = residuals.parts(self.series)
            return replace(self, series=explained + left[order], events=None)
        if self.events is None:
            return replace(self, series=Table([self.series]).take(order))
        moved = self.events.copy(data=self.events.values[order])
        return replace(self, series=convolve(moved, self.responses, self.timing), events=moved)


def match_rows(features, responses: xr.DataArray, timing: EventTiming, *, repeats: str, on_missing: str):
    """Match feature spaces and responses by id, or by the clock, leaving events to `make_designs`.

    Returns
    -------
    spaces : dict of DataArray
    responses : DataArray
    """
    spaces = as_spaces(features)
    if not timing.places_events:
        return align(spaces, responses, repeats=repeats, on_missing=on_missing)
    if sample_dim(responses) != "time":
        name, got = ("hrf", timing.hrf) if timing.hrf else ("downsample", timing.downsample)
        raise ValueError(f"{name}: got {got!r} with responses on {sample_dim(responses)!r}; "
                         f"events are put in time for responses on 'time' only. Leave {name}=None.")
    on_clock = {name: space for name, space in spaces.items() if sample_dim(space) == "time"}
    if on_clock:
        align(on_clock, responses)
    for name, space in spaces.items():
        if name in on_clock:
            continue
        if "onset" not in space.coords:
            raise NotAligned(f"features {name!r}: no coord 'onset' (seconds) on {sample_dim(space)!r}, so the events "
                             "have no place in time. Use timed stimuli, or assign_coords(onset=('stimulus', ...)).")
        spaces[name] = space = _within_runs(name, space, responses, on_missing)
        if timing.hrf is not None and timing.at != "whole":
            _warn_long(name, space, timing.at)
    return spaces, responses


def make_designs(spaces: Mapping[str, xr.DataArray], responses: xr.DataArray, nuisance: np.ndarray,
                 timing: EventTiming, lags: Lags | None = None) -> dict:
    """Return a function that makes the `Design` of each space: they are made one at a time."""
    return {name: _design_maker(space, responses, nuisance, timing, lags) for name, space in spaces.items()}


def make_nuisance(nuisance, spaces, responses: xr.DataArray, timing: EventTiming) -> tuple[np.ndarray, list[str]]:
    """Stack the nuisance columns.

    Parameters
    ----------
    nuisance : None, name, DataArray, or list of them
        A name is a coord of the responses on their sample dim, or of the features on theirs, or ``"word_rate"``:
        one impulse an event, convolved or downsampled as the features are (where those are averaged, it is counted).
        A DataArray stands on the sample dim of the responses, or holds events with ``onset``.

    Returns
    -------
    values : array of shape (n_samples, n_columns)
    names : list of str
        Name of each column.

    Raises
    ------
    ValueError
        If events are to be put in time and neither the spaces nor the nuisance hold any.
    """
    items = [] if nuisance is None else [nuisance] if isinstance(nuisance, (str, xr.DataArray)) else list(nuisance)
    _require_events(items, spaces, timing)
    columns, names = [], []
    for item in items:
        block, name = _nuisance_block(item, spaces, responses, timing)
        block = np.asarray(block, dtype=np.float64).reshape(responses.sizes[sample_dim(responses)], -1)
        if not np.isfinite(block).all():
            raise ValueError(f"nuisance {name!r}: it holds NaN or infinite values. Fill or drop those samples.")
        columns.append(block)
        names += [name] if block.shape[1] == 1 else [f"{name}.{k}" for k in range(block.shape[1])]
    n = responses.sizes[sample_dim(responses)]
    return np.concatenate([np.zeros((n, 0)), *columns], 1), names


def convolve(events: xr.DataArray, responses: xr.DataArray, timing: EventTiming) -> np.ndarray:
    """Turn events into regressors at the samples of the responses, filtered as those were.

    Where both have a coord ``run``, each run is convolved by itself, on its own clock. Runs are matched as text.
    """
    events = _within_runs(str(events.name or "events"), events, responses)
    times = responses["time"].values
    if "run" not in responses.coords or "run" not in events.coords:
        series = timing.place(events, times)
    else:
        runs, named, dim = _runs_of(responses), _runs_of(events), sample_dim(events)
        parts, rows = [], run_rows(runs, len(runs))
        for own in rows:
            of_run = events.isel({dim: np.flatnonzero(named == runs[own[0]])})
            parts.append(timing.place(of_run, times[own]))
        series = xr.concat(parts, "time", coords="minimal", compat="override")
        series = series.isel(time=np.argsort(np.concatenate(rows)))
    if "run" in responses.coords:
        series = series.assign_coords(run=("time", responses["run"].values))
    return filter_like(series, responses, timing).values


def filter_like(series: xr.DataArray, responses: xr.DataArray, timing: EventTiming) -> xr.DataArray:
    """High-pass a regressor with the filter that the responses went through; what is constant in a run becomes 0."""
    if not timing.high_pass:
        return series
    from neuroalign.recordings import clean

    with warnings.catch_warnings():  # a run without events of one kind is no fault
        warnings.filterwarnings("ignore", "clean: .* columns are constant", NeuroalignWarning)
        filtered = clean(series, high_pass=timing.high_pass, detrend=False, standardize=False)
    return filtered.where(np.isfinite(filtered) | ~np.isfinite(series), 0)


def sample_step(responses: xr.DataArray) -> float:
    """Return the seconds between samples.

    From ``attrs['sfreq']``, but where the clock says otherwise (every fourth sample was taken since) from the clock.
    """
    stated = 1 / float(responses.attrs["sfreq"]) if responses.attrs.get("sfreq") else None
    if "time" in responses.coords and responses.sizes["time"] > 1:
        step = float(np.median(np.diff(responses["time"].values)))
        if stated is None or (step > 0 and abs(step / stated - 1) > ROUNDED):
            return step
    if stated is not None:
        return stated
    raise ValueError("responses: neither attrs['sfreq'] nor a coord 'time' (seconds); the gap of folds needs one.")


def _runs_of(array: xr.DataArray) -> np.ndarray:
    """Return the names of runs as text; 1.0 is run 1."""
    runs = array["run"].values
    whole = runs.dtype.kind == "f" and np.isfinite(runs).all() and (runs == runs.round()).all()
    return (runs.astype(int) if whole else runs).astype(str)


def _within_runs(name: str, events: xr.DataArray, responses: xr.DataArray, on_missing: str = "error") -> xr.DataArray:
    """Return the events of the runs that the responses have; others are an error, or dropped with a warning.

    One run on either side is the same run, whatever its name: readers call a single one 0.
    """
    if "run" not in events.coords:
        return events
    named = _runs_of(events)
    several = len(np.unique(named)) > 1
    if "run" not in responses.coords:
        if several:
            raise NotAligned(f"features {name!r}: their events are of {len(np.unique(named))} runs, but the responses "
                             "do not say of which run their samples are. Give them a coord 'run' on 'time'.")
        return events
    if not several and len(np.unique(_runs_of(responses))) == 1:
        return events.drop_vars("run")
    lost = ~np.isin(named, _runs_of(responses))
    if not lost.any():
        return events
    said = (f"{int(lost.sum())} of {len(lost)} events are of runs {list_ids(np.unique(named[lost]))}, which the "
            f"responses do not have (they have {list_ids(dict.fromkeys(_runs_of(responses).tolist()))})")
    if on_missing == "error" or lost.all():
        raise NotAligned(f"features {name!r}: {said}. Name runs alike on both sides, or leave these events out.")
    warn_user(f"features {name!r}: {said}, and are dropped.", "dropped-stimuli", named[lost])
    return events.isel({sample_dim(events): np.flatnonzero(~lost)})


def _in_order(events: xr.DataArray, responses: xr.DataArray) -> xr.DataArray:
    """Sort events by run, as the responses go, and by onset: nulls permute neighbours together."""
    order = np.argsort(events["onset"].values, kind="stable")
    if "run" in events.coords and "run" in responses.coords:
        place = {run: k for k, run in enumerate(dict.fromkeys(_runs_of(responses).tolist()))}
        run = np.array([place[r] for r in _runs_of(events)[order]])
        order = order[np.argsort(run, kind="stable")]
    return events.isel({sample_dim(events): order})


def _require_events(items, spaces, timing) -> None:
    """Refuse hrf or downsample where everything is a series already: they would do nothing, and be reported as done."""
    arrays = [*spaces.values(), *(item for item in items if isinstance(item, xr.DataArray))]
    if not timing.places_events or any("time" not in array.dims for array in arrays):
        return
    name, got, did = (("hrf", timing.hrf, "convolved") if timing.hrf else
                      ("downsample", timing.downsample, "downsampled"))
    raise ValueError(f"{name}: got {got!r}, but features {list_ids(spaces)} stand on 'time' already, where it does "
                     f"nothing; expected timed events (dim 'stimulus' or 'presentation', coord 'onset'). Leave {name} "
                     f"out if the series are {did} (gap= sets the seconds between training and test), or give the "
                     "events.")


def _warn_long(name, space, at) -> None:
    if "duration" not in space.coords:
        return
    duration = np.asarray(space["duration"].values, float)
    long = duration > LONG
    if long.any():
        warn_user(f"features {name!r}: {long.sum()} of {len(long)} events last longer than {LONG:g} s (up to "
                  f"{duration[long].max():g} s), but are taken for impulses at their {at}. Blocks: at='whole'.",
                  "long-events", count=int(long.sum()))


def _design_maker(space, responses, nuisance, timing, lags):
    if sample_dim(responses) == "time" and sample_dim(space) != "time":
        events = _in_order(space.transpose(sample_dim(space), "feature"), responses)
        return lambda: Design(convolve(events, responses, timing), nuisance, lags, events, responses, timing)
    return lambda: Design(space.transpose(sample_dim(space), "feature").data, nuisance, lags)


def _nuisance_block(item, spaces, responses, timing):
    from neuroalign.features.confounds import word_rate

    dim = sample_dim(responses)
    if not isinstance(item, (str, xr.DataArray)):
        raise TypeError(f"nuisance: got {type(item).__name__}, expected names of coords on the samples, or labelled "
                        "arrays (make_features labels a plain one), one or several.")
    if isinstance(item, xr.DataArray):
        name = str(item.name or "nuisance")
        own = sample_dim(item, f"nuisance {name!r}")
        if own == dim and dim == "time":
            align({f"nuisance {name}": item.drop_vars("run", errors="ignore")}, responses)
            return item.transpose("time", ...).values, name
        if dim == "time":
            events = item if "feature" in item.dims else item.expand_dims("feature", -1)
            if not timing.places_events or "onset" not in item.coords:
                raise NotAligned(f"nuisance {name!r}: it stands on {own!r}, the responses on 'time'. Give its events "
                                 "a coord 'onset' and say hrf='glover' or downsample='lanczos'.")
            return convolve(events.sortby("onset"), responses, timing), name
        two = item if "feature" in item.dims else item.expand_dims("feature", -1)
        return align({name: two}, responses)[0][name].transpose(dim, ...).values, name
    if item in responses.coords and responses[item].dims == (dim,):
        if dim != "time":
            return responses[item].values, item
        series = responses[item].drop_vars(item).expand_dims("feature", -1).astype(np.float64)
        return filter_like(series, responses, timing).values, item
    for space in spaces.values():
        own = sample_dim(space)
        if own == dim and item in space.coords and space[item].dims == (own,):
            return space[item].values, item
        if dim == "time" and own != "time" and timing.places_events:
            if item == "word_rate":
                # The mean of ones is one: a rate counts the events of a sample.
                counted = replace(timing, downsample=None) if timing.downsample == "mean" else timing
                return convolve(word_rate(space).sortby("onset"), responses, counted), item
            if item in space.coords and space[item].dims == (own,):
                values = np.asarray(space[item].values, float)[:, None]
                events = space.isel(feature=[0]).transpose(own, "feature").copy(data=values)
                return convolve(events.sortby("onset"), responses, timing), item
    known = sorted({c for a in (responses, *spaces.values()) for c in a.coords if a[c].dims == (sample_dim(a),)})
    if item == "word_rate":
        raise ValueError("nuisance: 'word_rate' is counted from timed events that are brought to a series. Give events "
                         "with onsets and hrf= or downsample=, or a coord 'word_rate' on the samples.")
    raise ValueError(f"nuisance: no coord {item!r} on the samples; found {', '.join(known)}."
                     f"{suggest(item, [*known, 'word_rate'])}")
