"""Delays of time series: a response to a feature comes later than the feature, by one or more delays.

A finite impulse response model gives every delay a weight of its own, and assumes no shape of the response.
"""

import numpy as np
import xarray as xr

from neuroalign.data import sample_dim
from neuroalign.errors import list_ids

__all__ = ["Shifted", "delay", "delay_range", "delay_samples", "run_rows", "series_clock", "shift_rows"]


def delay(series: xr.DataArray, delays, sfreq: float | None = None) -> xr.DataArray:
    """Put copies of a time series side by side, each later by one of the delays.

    Parameters
    ----------
    series : DataArray (time, feature)
        With a coord ``run`` each run is delayed by itself: nothing passes from one to the next.
    delays : sequence of float
        Seconds, whole samples of the series; a negative one takes the series before its time.
    sfreq : float, optional
        Samples a second; by default those of the clock, and refused where the clock has others.

    Returns
    -------
    DataArray (time, feature)
        All features at the first delay, then all at the second, and so on; coords ``delay`` (seconds) and ``source``
        (the feature) say which is which. It is zero where a run has no sample that long before: take the mean of
        a feature off beforehand where zero is not its resting value.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> series = make_features([[1.0], [2.0], [3.0]], [0.0, 2.0, 4.0], model="toy", dim="time")
    >>> delay(series, [0, 2, 4]).values.tolist()
    [[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [3.0, 2.0, 1.0]]
    """
    if sample_dim(series) != "time":
        raise ValueError(f"series: it stands on {sample_dim(series)!r}, expected dims ('time', 'feature'). Put events "
                         "in time by events_to_samples first.")
    series = series.transpose("time", "feature")
    step, runs = series_clock(series)
    samples = delay_samples(delays, 1 / step if sfreq is None else sfreq)
    if sfreq is not None and abs(sfreq * step - 1) > 0.01:
        raise ValueError(f"sfreq: got {sfreq:g} samples a second, expected the {1 / step:.6g} of the clock: delays in "
                         "seconds would be wrong. Leave sfreq out.")
    values = np.asarray(series.values)
    columns = np.concatenate([shift_rows(values, k, runs) for k in samples], 1)
    coords = {k: v for k, v in series.coords.items() if "feature" not in v.dims}
    for name, coord in series.coords.items():
        if coord.dims == ("feature",) and name != "feature":
            coords[name] = ("feature", np.tile(coord.values, len(samples)))
    source = series["feature"].values if "feature" in series.coords else np.arange(values.shape[1])
    coords["source"] = ("feature", np.tile(source, len(samples)))
    coords["delay"] = ("feature", np.repeat(np.asarray(delays, dtype=float).ravel(), values.shape[1]))
    return xr.DataArray(columns, dims=("time", "feature"), coords=coords, name=series.name, attrs=series.attrs)


def delay_samples(delays, sfreq: float) -> np.ndarray:
    """Return delays in seconds as whole samples.

    Examples
    --------
    >>> delay_samples([0, 2, 4], sfreq=0.5).tolist()
    [0, 1, 2]
    """
    seconds = np.atleast_1d(np.asarray(delays, dtype=float))
    if seconds.ndim != 1 or not len(seconds) or not np.isfinite(seconds).all():
        raise ValueError(f"delays: got {delays!r}, expected one or more seconds.")
    if not (np.isfinite(sfreq) and sfreq > 0):
        raise ValueError(f"sfreq: got {sfreq!r}, expected samples a second, above 0.")
    exact = seconds * sfreq
    whole = np.round(exact).astype(int)
    off = np.abs(exact - whole) > 0.01
    if off.any():
        raise ValueError(f"delays: {list_ids(seconds[off])} s are not whole samples, of which one takes "
                         f"{1 / sfreq:g} s; the nearest are {list_ids((whole[off] / sfreq).round(6))} s.")
    if len(np.unique(whole)) < len(whole):
        raise ValueError(f"delays: got {seconds.tolist()}, expected each only once.")
    return whole


def delay_range(tmin: float, tmax: float, sfreq: float) -> np.ndarray:
    """Return every delay from `tmin` to `tmax` seconds (to the nearest sample) as whole samples.

    Examples
    --------
    >>> delay_range(-0.1, 0.25, sfreq=10).tolist()
    [-1, 0, 1, 2]
    """
    if not (np.isfinite(sfreq) and sfreq > 0):
        raise ValueError(f"sfreq: got {sfreq!r}, expected samples a second, above 0.")
    if not (np.isfinite([tmin, tmax]).all() and tmin <= tmax):
        raise ValueError(f"tmin, tmax: got {tmin!r} and {tmax!r}, expected seconds in ascending order.")
    return np.arange(round(tmin * sfreq), round(tmax * sfreq) + 1)


def shift_rows(values: np.ndarray, samples: int, runs=None) -> np.ndarray:
    """Return rows `samples` later within each run, zeros where there were none.

    Examples
    --------
    >>> shift_rows(np.array([1, 2, 3, 4]), 1, runs=[0, 0, 1, 1]).tolist()
    [0, 1, 0, 3]
    """
    shifted = np.zeros_like(values)
    for rows in run_rows(runs, len(values)):
        if abs(samples) < len(rows):
            shifted[rows[max(samples, 0):len(rows) + min(samples, 0)]] = \
                values[rows[max(-samples, 0):len(rows) - max(samples, 0)]]
    return shifted


def run_rows(runs, n: int) -> list[np.ndarray]:
    """Return the rows of each run, in order; all of them where there is but one."""
    if runs is None:
        return [np.arange(n)]
    runs = np.asarray(runs)
    if runs.shape != (n,):
        raise ValueError(f"runs: got shape {runs.shape}, expected the run of each of the {n} samples.")
    return [np.flatnonzero(runs == run) for run in dict.fromkeys(runs.tolist())]


def series_clock(series: xr.DataArray) -> tuple[float, np.ndarray | None]:
    """Return the seconds between samples, and the run of each sample, of an array on ``time``.

    Raises
    ------
    ValueError
        If samples of a run are missing or out of order: delays count samples.
    """
    runs = series["run"].values if "run" in series.coords and series["run"].dims == ("time",) else None
    times = series["time"].values.astype(float) if "time" in series.coords else None
    if times is None or len(times) < 2:
        raise ValueError("series: no coord 'time' (seconds) of at least two samples; delays need a clock.")
    steps = [np.diff(times[rows]) for rows in run_rows(runs, len(times))]
    every = np.concatenate(steps)
    step = float(np.median(every)) if len(every) else 0.0
    if not (np.isfinite(every).all() and step > 0 and np.abs(every - step).max() < 0.5 * step):
        raise ValueError(f"series: the samples of a run do not follow each other by one step (from {every.min():g} to "
                         f"{every.max():g} s, usually {step:g} s), so a delay is no number of samples. Fill samples "
                         "that are missing, or give each continuous stretch its own 'run'." if len(every) else
                         "series: every run has but one sample; delays need a series.")
    # A clock that counts in rounded seconds is a little off at every sample, and right over many.
    longest = max(steps, key=len)
    return float(longest.mean()), runs


class Shifted:
    """A table whose rows are later by some samples, of which only the columns that are asked for are read."""

    ndim = 2

    def __init__(self, values, samples: int, runs=None):
        self.values, self.samples, self.runs, self.shape = values, samples, runs, values.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> np.ndarray:
        return shift_rows(np.asarray(self.values[key]), self.samples, self.runs)
