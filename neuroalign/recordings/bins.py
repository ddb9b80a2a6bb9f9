"""Events to means of a recording, over time bins around each onset or over each event, read a stretch at a time."""

import json
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_responses
from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.recordings.continuous import as_runs
from neuroalign.recordings.events import check_inside, read_events
from neuroalign.recordings.history import note_dropped
from neuroalign.recordings.signals import filter_reach, grid_of, normal_steps, preprocess

__all__ = ["average_events", "bin_centres", "bin_events"]

WHOLE = ("despike", "zscore")  # steps that need a whole run


def bin_events(recording, events, *, tmin: float = -2.0, tmax: float = 2.0, window: float = 0.2, step: float = 0.025,
               steps=(), on_outside: str = "error", block: float = 60.0) -> xr.DataArray:
    """Average a continuous recording over windows around the onsets of events.

    Parameters
    ----------
    recording : DataArray (time, neuroid), Raw, `TreebankRecording`, or list of them (runs)
        Not read as a whole, unless `steps` need it: a stretch of `block` seconds at a time.
    events : DataFrame, StimulusSet or path
        As `read_events` takes, with onsets in seconds on the clock of the recording (an MNE Raw counts from its first
        sample), and with a column ``run`` where there are several runs.
    tmin, tmax : float
        Centres of the first and the last bin, seconds from the onset.
    window, step : float
        Length of a bin and distance of bins, seconds: by default 161 bins of 200 ms, 25 ms apart.
    steps : sequence
        Preparation, as `preprocess` takes it. Each stretch is read with as much on either side as the filters need.
    on_outside : {"error", "drop"}
        What to do with events whose windows leave the recording.
    block : float
        Seconds.

    Returns
    -------
    DataArray (presentation, neuroid, time_bin)
        ``time_bin`` is the centre of a bin: the mean of the samples with ``centre - window / 2 <= t < centre + window /
        2``, on the exact clock (onsets are not rounded to samples). Coords ``stimulus_id``, ``onset``, ``run`` and the
        other columns of the events; on ``stimulus`` instead if every id occurs once. Events that were left out stand
        with the reason in ``attrs["dropped"]``.

    Raises
    ------
    ValueError
        Events outside of the recording; a window shorter than a sample.

    Notes
    -----
    Bins as in Subramaniam et al. 2024, ICML (arXiv:2406.14481).

    Examples
    --------
    >>> from neuroalign.data import make_responses
    >>> ramp = make_responses(np.arange(1000.0)[:, None] / 100, np.arange(1000) / 100, ["A1"], dim="time", sfreq=100)
    >>> out = bin_events(ramp, pd.DataFrame({"onset": [5.0], "stimulus_id": ["w"]}))
    >>> out.shape, round(float(out.sel(time_bin=0.0).item()), 3)
    ((1, 1, 161), 4.995)
    """
    centres = bin_centres(tmin, tmax, step)
    edges = np.stack([centres - window / 2, centres + window / 2])
    values, used, template, dropped = _averages(recording, events, lambda table: edges, steps, on_outside, block)
    about = {"tmin": tmin, "tmax": tmax, "window": window, "step": step, "reference": "bin centre"}
    return _labelled(values, used, template, dropped, centres).assign_attrs(bins=json.dumps(about))


def average_events(recording, events, *, start: float = 0.0, stop: float | None = None, steps=(),
                   on_outside: str = "error", block: float = 60.0) -> xr.DataArray:
    """Average a continuous recording over each event: one value a neuroid, for example band power over a sentence.

    Parameters
    ----------
    recording, events, steps, on_outside, block
        As for `bin_events`.
    start, stop : float
        Seconds from the onset at which the mean begins and ends; by default it ends where the event does (its
        ``duration``).

    Returns
    -------
    DataArray (presentation, neuroid)
        On ``stimulus`` instead if every id occurs once.

    Examples
    --------
    >>> from neuroalign.data import make_responses
    >>> ramp = make_responses(np.arange(1000.0)[:, None] / 100, np.arange(1000) / 100, ["A1"], dim="time", sfreq=100)
    >>> average_events(ramp, pd.DataFrame({"onset": [5.0], "duration": [1.0]})).values.round(3).tolist()
    [[5.494999885559082]]
    """
    def spans(table):
        if stop is not None:
            return np.array([[start], [stop]])
        if "duration" not in table:
            raise ValueError(f"events: columns are {list_ids(table.columns)}; without 'duration' (s), pass stop=.")
        length = table["duration"].to_numpy(float)
        bad = ~(length > start)
        if bad.any():
            raise ValueError(f"events: durations of {list_ids(table['stimulus_id'][bad])} are missing or not above "
                             f"start={start:g} s.")
        return np.stack([np.full(len(table), start), length], 1)[:, :, None]

    values, used, template, dropped = _averages(recording, events, spans, steps, on_outside, block)
    about = {"start": start, "stop": "end of the event" if stop is None else stop}
    return _labelled(values[..., 0], used, template, dropped, None).assign_attrs(bins=json.dumps(about))


def bin_centres(tmin: float, tmax: float, step: float) -> np.ndarray:
    """Return the centres of bins from `tmin` to `tmax`, both included.

    Examples
    --------
    >>> len(bin_centres(-2, 2, 0.025))
    161
    """
    if not step > 0 or tmax < tmin:
        raise ValueError(f"bins: got tmin={tmin:g}, tmax={tmax:g}, step={step:g}, expected tmin <= tmax and step > 0.")
    return np.round(tmin + step * np.arange(int(np.floor((tmax - tmin) / step + 1e-6)) + 1), 9)


def _averages(recording, events, spans, steps, on_outside: str, block: float):
    """Return means (event, neuroid, bin), the events that are left, a stretch as template, and reasons for the others.

    `spans` makes of a table of events the edges of their bins in seconds from the onset: (2, n_bins), or one such
    array an event.
    """
    check_option("on_outside", on_outside, ("error", "drop"))
    runs, steps = as_runs(recording), normal_steps(steps)
    table = _with_runs(read_events(events), runs)
    parts, kept, dropped, template, holes = [], [], [], None, False
    with _said_once():
        for run in runs:
            own = table[table["run"].to_numpy() == run.name] if "run" in table else table
            edges = spans(own)
            _check_windows(edges, run.sfreq)
            before, after = -edges[..., 0, :].min(initial=0), edges[..., 1, :].max(initial=0)
            own, reasons = check_inside(own, run.start, run.stop, before, after, on_outside=on_outside,
                                        bad_spans=run.bad_spans)
            edges, onset = np.broadcast_to(spans(own), (len(own), *edges.shape[-2:])), own["onset"].to_numpy()
            for rows in _stretches(onset, run, steps, block):
                signal = _read(run, onset[rows], steps, before, after)
                template = signal if template is None else template
                means, missing = _means(signal, onset[rows], edges[rows])
                parts.append(means)
                holes = holes | missing
            kept.append(own)
            dropped += reasons
        if not parts:
            raise ValueError("events: none is left.")
    if np.any(holes):
        ids = template["neuroid_id"].values[holes]
        warn_user(f"bins: {len(ids)} of {len(holes)} neuroids have samples that are not finite; these are left out of "
                  f"means, and a bin without any is NaN: {list_ids(ids)}.", "not-finite", ids)
    return np.concatenate(parts), pd.concat(kept, ignore_index=True), template, dropped


@contextmanager
def _said_once():
    """Say what every stretch says only once."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in {str(w.message): w for w in said}.values():
        warnings.warn(warning.message, warning.category, stacklevel=4)


def _check_windows(edges: np.ndarray, sfreq: float) -> None:
    length = edges[..., 1, :] - edges[..., 0, :]
    if (length * sfreq < 1).any():
        raise ValueError(f"window: got {length.min():.4g} s, less than a sample ({1 / sfreq:.4g} s).")


def _with_runs(table: pd.DataFrame, runs) -> pd.DataFrame:
    names = [r.name for r in runs]
    if "run" not in table:
        if len(runs) > 1:
            raise ValueError(f"events: the recording has {len(runs)} runs ({list_ids(names)}), so the events need a "
                             "column 'run'.")
        return table
    if len(runs) == 1 and table["run"].nunique() == 1:
        return table.drop(columns="run")
    as_text = {str(n): n for n in names}
    unknown = sorted({str(r) for r in table["run"]} - set(as_text))
    if unknown:
        raise ValueError(f"events: no runs {list_ids(unknown)} in the recording, it has {list_ids(names)}.")
    return table.assign(run=[as_text[str(r)] for r in table["run"]])


def _stretches(onset: np.ndarray, run, steps, block: float):
    """Yield the rows of events that are read together."""
    if run.in_memory or any(name in WHOLE for name, _ in steps):
        if len(onset):
            yield slice(0, len(onset))
        return
    first = 0
    while first < len(onset):
        last = max(int(np.searchsorted(onset, onset[first] + block)), first + 1)
        yield slice(first, last)
        first = last


def _read(run, onsets, steps, before: float, after: float) -> xr.DataArray:
    """Read and prepare what some events need."""
    if run.in_memory or any(name in WHOLE for name, _ in steps):
        return run.prepared(steps)
    reach = filter_reach(steps) + 2 / run.sfreq
    whole = grid_of(steps, run.sfreq)  # each stretch is resampled to the same samples as the whole run
    return preprocess(run.read(onsets[0] - before - reach, onsets[-1] + after + reach, whole), steps)


def _means(signal: xr.DataArray, onsets, edges) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over windows, (event, neuroid, bin), by differences of cumulative sums; and who has holes."""
    values, times = signal.transpose("time", "neuroid").values, signal["time"].values.astype(float)
    sfreq = float(signal.attrs["sfreq"])
    out = np.empty((len(onsets), values.shape[1], edges.shape[-1]), np.float32)
    holes = np.zeros(values.shape[1], bool)
    for k, (onset, edge) in enumerate(zip(onsets, edges)):
        first, last = np.ceil((onset + edge - times[0]) * sfreq - 1e-6).astype(int)
        part = values[first[0]:last[-1]].astype(np.float64)
        there, low = np.isfinite(part), first[0]
        found = (last - first)[:, None]
        if not there.all():
            part, count = np.where(there, part, 0), _running(there)
            found = count[last - low] - count[first - low]
            holes |= (found < (last - first)[:, None]).any(0)
        total = _running(part)
        out[k] = ((total[last - low] - total[first - low]) / np.where(found > 0, found, np.nan)).T
    return out, holes


def _running(table: np.ndarray) -> np.ndarray:
    """Return cumulative sums down the rows, from a row of zeros on."""
    return np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)])


def _labelled(values, events: pd.DataFrame, template, dropped: list[str], centres) -> xr.DataArray:
    ids = events["stimulus_id"].to_numpy(str)
    more = {c: _plain(events[c]) for c in events if c != "stimulus_id"}
    dim = "stimulus" if len(set(ids)) == len(ids) else "presentation"
    neuroids = {k: v.values for k, v in template.coords.items()
                if v.dims == ("neuroid",) and k not in ("neuroid", "neuroid_id")}
    out = make_responses(values, ids, template["neuroid_id"].values, dim=dim, kind=template.attrs["kind"],
                         units=template.attrs.get("units", "a.u."), sample_coords=more, neuroid_coords=neuroids,
                         time_bins=centres)
    out = note_dropped(out.assign_attrs(template.attrs), template, dropped)
    for key in ("bad_spans", "sfreq"):  # they were those of the continuous recording
        out.attrs.pop(key, None)
    return out


def _plain(column: pd.Series) -> np.ndarray:
    return column.to_numpy() if column.dtype.kind in "fiub" else column.fillna("").astype(str).to_numpy(str)
