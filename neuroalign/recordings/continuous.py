"""Runs of a continuous recording: what reads a stretch of one by seconds, whether it lies in memory or in a file."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr

from neuroalign.data.dims import sample_dim, validate_responses
from neuroalign.recordings.sensors import bad_spans, from_mne, open_mne
from neuroalign.recordings.signals import preprocess

__all__ = ["Run", "as_runs", "raw_run"]


@dataclass
class Run:
    """One run: its clock, and how a stretch of it is read.

    Parameters
    ----------
    name
        Value of the coord ``run``.
    sfreq, start, stop : float
        Hz; seconds of the first sample, and one step after the last.
    fetch : callable
        ``(first, last) -> DataArray (time, neuroid)``, samples counted from 0, `last` excluded.
    in_memory : bool
        Whether the samples are at hand already.
    bad_spans : list of (onset, duration)
    """

    name: object
    sfreq: float
    start: float
    n_samples: int
    fetch: Callable[[int, int], xr.DataArray]
    in_memory: bool = False
    bad_spans: list = field(default_factory=list)
    _ready: dict = field(default_factory=dict, repr=False)

    @property
    def stop(self) -> float:
        """Second at which the run ends."""
        return self.start + self.n_samples / self.sfreq

    def read(self, start: float, stop: float, whole: int = 1) -> xr.DataArray:
        """Return the samples between two seconds, as far as there are any, from a multiple of `whole` samples on."""
        first = max(0, int(np.floor((start - self.start) * self.sfreq)) // whole * whole)
        last = min(self.n_samples, int(np.ceil((stop - self.start) * self.sfreq)) + 1)
        return self.fetch(first, last)

    def prepared(self, steps) -> xr.DataArray:
        """Return the whole run after `steps`; kept for the next call with the same steps."""
        key = json.dumps(steps)
        if key not in self._ready:
            self._ready = {key: preprocess(self.fetch(0, self.n_samples), steps)}
        return self._ready[key]


def as_runs(recording) -> list[Run]:
    """Return the runs of a recording: a DataArray, an MNE Raw or its file, anything with ``runs()``, or a list."""
    if isinstance(recording, (list, tuple)):
        runs = [run for part in recording for run in as_runs(part)]
        if len({r.name for r in runs}) < len(runs):
            runs = [replace(run, name=k) for k, run in enumerate(runs)]
        rates = sorted({r.sfreq for r in runs})
        if len(rates) > 1:
            raise ValueError(f"recording: sampling rates differ between runs: {', '.join(f'{r:g}' for r in rates)} Hz. "
                             "Bring them to one first.")
        return runs
    if hasattr(recording, "runs"):
        return recording.runs()
    if isinstance(recording, xr.DataArray):
        return _array_runs(recording)
    return [raw_run(open_mne(recording))]


def raw_run(raw, name=0, **options) -> Run:
    """Return an MNE Raw as a run that is read a stretch at a time; `options` are those of `from_mne`."""
    def fetch(first, last):
        part = from_mne(raw.copy().crop(raw.times[first], raw.times[min(last, len(raw.times)) - 1]), **options)
        return part.assign_coords(time=("time", np.arange(first, last) / raw.info["sfreq"]))

    return Run(name, float(raw.info["sfreq"]), 0.0, raw.n_times, fetch, False, bad_spans(raw))


def _array_runs(responses: xr.DataArray) -> list[Run]:
    validate_responses(responses)
    if sample_dim(responses) != "time" or not responses.attrs.get("sfreq"):
        raise ValueError(f"recording: got sample dim {sample_dim(responses)!r}, sfreq {responses.attrs.get('sfreq')}; "
                         "expected 'time' and a sampling rate in attrs['sfreq'].")
    names = responses["run"].values if "run" in responses.coords else np.zeros(responses.sizes["time"], int)
    spans = json.loads(responses.attrs.get("bad_spans", "[]"))
    runs = []
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        part = responses.isel(time=rows)
        _check_steps(part, name)
        own = [(onset, length) for run, onset, length in spans if run == name]
        runs.append(Run(name, float(responses.attrs["sfreq"]), float(part["time"][0]), len(rows),
                        lambda first, last, part=part: part.isel(time=slice(first, last)), True, own))
    return runs


def _check_steps(part: xr.DataArray, name) -> None:
    step, want = np.diff(part["time"].values), 1 / part.attrs["sfreq"]
    if len(step) and np.abs(np.cumsum(step - want)).max() > want:
        raise ValueError(f"recording: the times of run {name!r} are not {want:g} s apart, as attrs['sfreq'] says. Give "
                         "each stretch without gaps its own 'run', or resample.")
