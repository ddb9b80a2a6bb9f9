"""Events to time bins: the mean of a recording over windows around each onset, read a stretch at a time."""

import json

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_responses
from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.recordings.continuous import as_runs
from neuroalign.recordings.events import check_inside, read_events
from neuroalign.recordings.history import note_dropped
from neuroalign.recordings.signals import filter_reach, normal_steps, preprocess

__all__ = ["bin_centres", "bin_events"]

WHOLE = ("despike", "zscore")  # steps that need a whole run


def bin_events(recording, events, *, tmin: float = -2.0, tmax: float = 2.0, window: float = 0.2, step: float = 0.025,
               steps=(), on_outside: str = "error", block: float = 60.0) -> xr.DataArray:
    """Average a continuous recording over windows around the onsets of events.

    Parameters
    ----------
    recording : DataArray (time, neuroid), Raw, `TreebankRecording`, or list of them (runs)
        Not read as a whole, unless `steps` need it: a stretch of `block` seconds at a time.
    events : DataFrame, StimulusSet or path
        As `read_events` takes; with a column ``run`` where there are several runs.
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
    check_option("on_outside", on_outside, ("error", "drop"))
    centres = bin_centres(tmin, tmax, step)
    runs, steps = as_runs(recording), normal_steps(steps)
    if window * runs[0].sfreq < 1:
        raise ValueError(f"window: got {window:g} s, less than a sample ({1 / runs[0].sfreq:g} s).")
    table = _with_runs(read_events(events), runs)
    parts, kept, dropped, template, holes = [], [], [], None, False
    for run in runs:
        own = table[table["run"].to_numpy() == run.name] if "run" in table else table
        own, reasons = check_inside(own, run.start, run.stop, window / 2 - tmin, tmax + window / 2,
                                    on_outside=on_outside, bad_spans=run.bad_spans)
        dropped += reasons
        for rows in _stretches(own, run, steps, block):
            signal = _read(run, own["onset"].to_numpy()[rows], steps, window / 2 - tmin, tmax + window / 2)
            template = signal if template is None else template
            means, missing = _means(signal, own["onset"].to_numpy()[rows], centres, window)
            parts.append(means)
            holes = holes | missing
        kept.append(own)
    if not parts:
        raise ValueError("events: none is left.")
    if np.any(holes):
        ids = template["neuroid_id"].values[holes]
        warn_user(f"bins: {len(ids)} of {len(holes)} neuroids have samples that are not finite; these are left out of "
                  f"means, and a bin without any is NaN: {list_ids(ids)}.", "not-finite", ids)
    used = pd.concat(kept, ignore_index=True)
    out = _labelled(np.concatenate(parts), used, template, centres)
    out = note_dropped(out.assign_attrs(template.attrs), template, dropped)
    about = {"tmin": tmin, "tmax": tmax, "window": window, "step": step, "reference": "bin centre"}
    for key in ("bad_spans", "sfreq"):  # they were those of the continuous recording
        out.attrs.pop(key, None)
    return out.assign_attrs(bins=json.dumps(about))


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


def _stretches(events: pd.DataFrame, run, steps, block: float):
    """Yield the rows of events that are read together."""
    onset = events["onset"].to_numpy()
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
    return preprocess(run.read(onsets[0] - before - reach, onsets[-1] + after + reach), steps)


def _means(signal: xr.DataArray, onsets, centres, window: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over windows, (event, neuroid, bin), by differences of cumulative sums; and who has holes."""
    values, times = signal.transpose("time", "neuroid").values, signal["time"].values.astype(float)
    sfreq = float(signal.attrs["sfreq"])
    edges = np.stack([centres - window / 2, centres + window / 2])
    out = np.empty((len(onsets), values.shape[1], len(centres)), np.float32)
    holes = np.zeros(values.shape[1], bool)
    for k, onset in enumerate(onsets):
        first, last = np.ceil((onset + edges - times[0]) * sfreq - 1e-6).astype(int)
        low, high = first[0], last[-1]
        part = values[low:high].astype(np.float64)
        there = np.isfinite(part)
        total, count = _running(np.where(there, part, 0)), _running(there)
        found = count[last - low] - count[first - low]
        with np.errstate(invalid="ignore"):
            out[k] = ((total[last - low] - total[first - low]) / np.where(found > 0, found, np.nan)).T
        holes |= (found < (last - first)[:, None]).any(0)
    return out, holes


def _running(table: np.ndarray) -> np.ndarray:
    """Return cumulative sums down the rows, from a row of zeros on."""
    return np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)])


def _labelled(values, events: pd.DataFrame, template, centres) -> xr.DataArray:
    ids = events["stimulus_id"].to_numpy(str)
    more = {c: _plain(events[c]) for c in events if c != "stimulus_id"}
    dim = "stimulus" if len(set(ids)) == len(ids) else "presentation"
    neuroids = {k: v.values for k, v in template.coords.items()
                if v.dims == ("neuroid",) and k not in ("neuroid", "neuroid_id")}
    return make_responses(values, ids, template["neuroid_id"].values, dim=dim, kind=template.attrs["kind"],
                          units=template.attrs.get("units", "a.u."), sample_coords=more, neuroid_coords=neuroids,
                          time_bins=centres)


def _plain(column: pd.Series) -> np.ndarray:
    return column.to_numpy() if column.dtype.kind in "fiub" else column.fillna("").astype(str).to_numpy(str)
