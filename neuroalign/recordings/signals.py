"""Preparation of continuous recordings (SEEG, ECoG, EEG, MEG) by declared steps, each noted in ``attrs["steps"]``.

Every function takes and returns Responses ``(time, neuroid)``. Filters run forwards and backwards (no shift in time)
and never across the border of two runs.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import xarray as xr

from neuroalign.data.dims import sample_dim
from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.recordings.history import note
from neuroalign.recordings.references import bipolar, common_average, drop_channels, laplacian

__all__ = [
    "STEPS",
    "band_pass",
    "band_power",
    "despike",
    "filter_reach",
    "grid_of",
    "high_gamma",
    "normal_steps",
    "notch",
    "preprocess",
    "resample",
    "zscore",
]

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 45)}
BLOCK = 64  # neuroids filtered at a time, in float64
CYCLES = 3  # of the lowest frequency that a filter reaches on either side


def preprocess(responses: xr.DataArray, steps: Sequence) -> xr.DataArray:
    """Apply steps in order.

    Parameters
    ----------
    responses : DataArray (time, neuroid)
    steps : sequence
        Names of `STEPS`, or ``(name, options)``: ``["laplacian", ("notch", {"freq": 60}), "high_gamma"]``.

    Returns
    -------
    DataArray (time, neuroid)

    Examples
    --------
    >>> from neuroalign.data import make_responses
    >>> t = np.arange(2000) / 500
    >>> hum = make_responses(np.sin(2 * np.pi * 60 * t)[:, None], t, ["A1"], dim="time", kind="seeg", sfreq=500)
    >>> out = preprocess(hum, [("notch", {"freq": 60})])
    >>> bool(abs(out[500:-500]).max() < 0.01), out.attrs["steps"][:16]
    (True, '[{"step": "notch')
    """
    for name, options in normal_steps(steps):
        responses = STEPS[name](responses, **options)
    return responses


def normal_steps(steps: Sequence) -> list[tuple[str, dict]]:
    """Return steps as (name, options) and check both."""
    out = []
    for step in steps:
        name, options = (step, {}) if isinstance(step, str) else step
        check_option("step", name, STEPS)
        allowed = list(inspect.signature(STEPS[name]).parameters)[1:]
        for key in options:
            check_option(f"option of step {name!r}", key, allowed)
        out.append((name, dict(options)))
    return out


def filter_reach(steps: Sequence) -> float:
    """Return how many seconds on either side of a window its prepared signal depends on."""
    reach = 0.0
    for name, options in normal_steps(steps):
        if name == "notch":
            reach = max(reach, CYCLES * options.get("quality", 30.0) / options["freq"])
        elif name in ("band_pass", "high_gamma"):
            edges = [options.get(k, d) for k, d in (("low", 70.0 if name == "high_gamma" else None),
                                                    ("high", 250.0 if name == "high_gamma" else None))]
            reach = max(reach, 2 * CYCLES / min(e for e in edges if e is not None))
        elif name == "band_power":
            reach = max(reach, 2 * CYCLES / min(low for low, _ in (options.get("bands") or BANDS).values()))
        elif name == "resample":
            reach = max(reach, 20 / options["sfreq"])
    return reach


def grid_of(steps: Sequence, sfreq: float) -> int:
    """Return the number of samples between two at which the samples of all later rates stand, too.

    Examples
    --------
    >>> grid_of(["common_average", ("resample", {"sfreq": 200})], 2048.0)
    256
    """
    whole, step = 1, Fraction(1)  # in samples of the recording
    for name, options in normal_steps(steps):
        if name == "resample":
            ratio = _ratio(options["sfreq"], sfreq)
            sfreq, whole = options["sfreq"], math.lcm(whole, (ratio.denominator * step).numerator)
            step /= ratio
    return whole


def notch(responses: xr.DataArray, freq: float, *, harmonics: int = 6, quality: float = 30.0) -> xr.DataArray:
    """Take out the hum of the mains.

    Parameters
    ----------
    responses : DataArray (time, neuroid)
    freq : float
        50 or 60 Hz.
    harmonics : int
        How many multiples of it, from 1; those above half of the sampling rate are left alone.
    quality : float
        Frequency over bandwidth of the second-order notch.
    """
    from scipy.signal import iirnotch, tf2sos

    sfreq = _rate(responses)
    _check_edge("notch", freq, sfreq)
    freqs = [k * freq for k in range(1, harmonics + 1) if k * freq < sfreq / 2]
    sections = np.concatenate([tf2sos(*iirnotch(f, quality, sfreq)) for f in freqs])
    return note(_filtered(responses, sections), responses, "notch", freqs=freqs, quality=quality)


def band_pass(responses: xr.DataArray, low: float | None, high: float | None, *, order: int = 5) -> xr.DataArray:
    """Pass a band by a Butterworth filter; None leaves an edge open.

    Parameters
    ----------
    responses : DataArray (time, neuroid)
    low, high : float or None
        Hz.
    order : int
        Of the filter that is run in each direction.
    """
    return note(_filtered(responses, _butterworth(_rate(responses), low, high, order)), responses, "band_pass",
                 low=low, high=high, order=order)


def high_gamma(responses: xr.DataArray, low: float = 70.0, high: float = 250.0, *, order: int = 5) -> xr.DataArray:
    """Return the amplitude of a high band: band-pass, then the absolute value of the analytic signal.

    The sampling rate stays; `resample` afterwards. Units stay those of the signal.
    """
    from scipy.signal import hilbert

    def envelope(block):
        return np.abs(hilbert(block, axis=0))

    banded = _filtered(responses, _butterworth(_rate(responses), low, high, order))
    return note(_by_run(banded, envelope), responses, "high_gamma", low=low, high=high, order=order)


def band_power(responses: xr.DataArray, bands: Mapping[str, tuple[float, float]] | None = None, *,
               order: int = 4) -> xr.DataArray:
    """Return the power of each sensor in each band over time, as features or targets.

    Parameters
    ----------
    responses : DataArray (time, neuroid)
    bands : mapping of name to (low, high), optional
        Hz; delta, theta, alpha, beta, gamma by default. Bands above half of the sampling rate are an error.

    Returns
    -------
    DataArray (time, neuroid)
        One neuroid a sensor and band, ``SENSOR.BAND``, with coords ``band`` and ``sensor``: the squared amplitude of
        the analytic signal, in squared units. `bin_events` averages it over windows.
    """
    from scipy.signal import hilbert

    bands = dict(BANDS if bands is None else bands)
    sfreq, parts = _rate(responses), []
    for name, (low, high) in bands.items():
        banded = _filtered(responses, _butterworth(sfreq, low, high, order))
        power = _by_run(banded, lambda block: np.abs(hilbert(block, axis=0))**2)
        sensor = responses["neuroid_id"].values
        ids = np.array([f"{s}.{name}" for s in sensor])
        parts.append(power.assign_coords(neuroid=("neuroid", ids), neuroid_id=("neuroid", ids),
                                         sensor=("neuroid", sensor), band=("neuroid", np.full(len(ids), name))))
    out = xr.concat(parts, "neuroid", coords="different", compat="equals")
    units = f"({responses.attrs.get('units', 'a.u.')})^2"
    return note(out, responses, "band_power", bands={k: list(v) for k, v in bands.items()}).assign_attrs(units=units)


def despike(responses: xr.DataArray, *, threshold: float = 4.0, dilate: float = 0.06,
            factor: float = 0.05) -> xr.DataArray:
    """Shrink what stands out: samples more than `threshold` standard deviations from the mean of their run.

    Parameters
    ----------
    responses : DataArray (time, neuroid)
    threshold : float
        Standard deviations (of the whole run).
    dilate : float
        Seconds on either side of such a sample that are shrunk too.
    factor : float
        What the deviation from the mean is multiplied by.

    Returns
    -------
    DataArray (time, neuroid)
        The part of samples that was shrunk stands in the coord ``despiked`` of `neuroid`.

    Notes
    -----
    After the released code of the Brain Treebank (|z| > 4, 125 samples at 2,048 Hz, times 0.05).
    """
    from scipy.ndimage import maximum_filter1d

    reach = round(dilate * _rate(responses))
    shrunk = np.zeros(responses.sizes["neuroid"])

    def shrink(block, columns):
        center, spread = np.nanmean(block, 0), np.nanstd(block, 0)
        spikes = np.abs(block - center) > threshold * spread
        near = maximum_filter1d(spikes, 2 * reach + 1, axis=0) if reach else spikes
        shrunk[columns] += near.sum(0)
        return np.where(near, center + factor * (block - center), block)

    out = _by_run(responses, shrink, with_columns=True)
    out = note(out, responses, "despike", threshold=threshold, dilate=dilate, factor=factor)
    return out.assign_coords(despiked=("neuroid", shrunk / responses.sizes["time"]))


def zscore(responses: xr.DataArray) -> xr.DataArray:
    """Scale each run of each neuroid to mean 0 and standard deviation 1; a constant one becomes NaN."""
    def scale(block):
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = block.std(0)
            return np.where(spread > 0, (block - block.mean(0)) / spread, np.nan)

    return note(_by_run(responses, scale), responses, "zscore").assign_attrs(units="z")


def resample(responses: xr.DataArray, sfreq: float) -> xr.DataArray:
    """Bring each run to another sampling rate, with an anti-alias filter (scipy's polyphase method).

    Coords of `time` that are the same in a whole run (``run``, ``session``) stay; others have no value at new samples.
    """
    from scipy.signal import resample_poly

    ratio, parts = _ratio(sfreq, _rate(responses)), []
    moved = responses.transpose("time", "neuroid")
    for rows in _runs(responses):
        run = moved.isel(time=rows)
        # Zeros beyond the ends would pull the ends of a signal that is not around zero (an envelope) to zero.
        values = resample_poly(run.values.astype(np.float64), ratio.numerator, ratio.denominator, axis=0,
                               padtype="reflect")
        coords = {k: v for k, v in run.coords.items() if "time" not in v.dims}
        times = float(run["time"][0]) + np.arange(len(values)) / sfreq
        for name, coord in run.coords.items():
            if name != "time" and coord.dims == ("time",) and (coord.values == coord.values[0]).all():
                coords[name] = ("time", np.repeat(coord.values[:1], len(values)))
        parts.append(xr.DataArray(values.astype(np.float32), dims=("time", "neuroid"),
                                  coords={**coords, "time": times}, name=responses.name))
    out = xr.concat(parts, "time", coords="different", compat="equals") if len(parts) > 1 else parts[0]
    return note(out, responses, "resample", sfreq=float(sfreq)).assign_attrs(sfreq=float(sfreq))


def _ratio(sfreq: float, old: float) -> Fraction:
    ratio = Fraction(sfreq / old).limit_denominator(2000)
    if abs(float(ratio) * old / sfreq - 1) > 1e-6:
        raise ValueError(f"resample: {old:g} Hz to {sfreq:g} Hz is no ratio of whole numbers below 2000; choose a near "
                         "rate.")
    return ratio


STEPS = {f.__name__: f for f in (notch, band_pass, high_gamma, band_power, despike, zscore, resample, drop_channels,
                                 common_average, bipolar, laplacian)}


def _filtered(responses: xr.DataArray, sections: np.ndarray) -> xr.DataArray:
    from scipy.signal import sosfiltfilt

    short = [len(rows) for rows in _runs(responses) if len(rows) <= 3 * (2 * len(sections) + 1)]
    if short:
        raise ValueError(f"filter: a run has {min(short)} samples, this filter needs more than "
                         f"{3 * (2 * len(sections) + 1)}.")
    return _by_run(responses, lambda block: sosfiltfilt(sections, block, axis=0))


def _by_run(responses: xr.DataArray, work, with_columns: bool = False) -> xr.DataArray:
    """Work on the runs of some neuroids at a time, in float64."""
    runs = _runs(responses)
    moved = responses.transpose("time", "neuroid")
    data, out = moved.values, np.empty(moved.shape, np.float32)
    holes = ~np.isfinite(data).all(0)
    if holes.any():
        ids = responses["neuroid_id"].values[holes]
        warn_user(f"signals: {len(ids)} of {len(holes)} neuroids have samples that are not finite, and become NaN in "
                  f"the runs where they do: {list_ids(ids)}.", "not-finite", ids)
    for rows in runs:
        span = slice(rows[0], rows[-1] + 1)
        for start in range(0, data.shape[1], BLOCK):
            columns = slice(start, start + BLOCK)
            block = data[span, columns].astype(np.float64)
            worked = work(block, columns) if with_columns else work(block)
            out[span, columns] = np.where(np.isfinite(block).all(0), worked, np.nan)
    return moved.copy(data=out)


def _runs(responses: xr.DataArray) -> list[np.ndarray]:
    if sample_dim(responses) != "time":
        raise ValueError(f"signals: got sample dim {sample_dim(responses)!r}, expected 'time' (continuous).")
    n = responses.sizes["time"]
    if "run" not in responses.coords:
        return [np.arange(n)]
    run = responses["run"].values
    edges = np.flatnonzero(run[1:] != run[:-1]) + 1
    if len(edges) + 1 != len(dict.fromkeys(run.tolist())):
        raise ValueError("signals: the samples of a run are not together. Sort the recording by run first.")
    return np.split(np.arange(n), edges)


def _rate(responses: xr.DataArray) -> float:
    sfreq = responses.attrs.get("sfreq")
    if not sfreq:
        raise ValueError("signals: attrs['sfreq'] (Hz) is not known; make_responses(..., sfreq=...) sets it.")
    for rows in _runs(responses) if "time" in responses.coords else ():
        steps = np.diff(responses["time"].values[rows].astype(float)) * sfreq
        if len(steps) and (np.abs(steps - 1).max() > 0.5 or abs(steps.mean() - 1) > 0.01):
            raise ValueError(f"signals: attrs['sfreq'] says {sfreq:g} Hz, but samples of a run are "
                             f"{steps.min() / sfreq:g} to {steps.max() / sfreq:g} s apart. Set attrs['sfreq'] to the "
                             "rate of the clock (samples were left out since?), or give each stretch without gaps its "
                             "own 'run'.")
    return float(sfreq)


def _butterworth(sfreq: float, low, high, order: int) -> np.ndarray:
    from scipy.signal import butter

    edges = [e for e in (low, high) if e is not None]
    if not edges or sorted(edges) != edges or len(set(edges)) < len(edges):
        raise ValueError(f"band_pass: got low={low}, high={high} Hz, expected low < high, or one of them.")
    for edge in edges:
        _check_edge("band_pass", edge, sfreq)
    kind = "bandpass" if len(edges) == 2 else "highpass" if high is None else "lowpass"
    return butter(order, edges if len(edges) == 2 else edges[0], kind, fs=sfreq, output="sos")


def _check_edge(what: str, freq: float, sfreq: float) -> None:
    if not 0 < freq < sfreq / 2:
        raise ValueError(f"{what}: got {freq:g} Hz at a sampling rate of {sfreq:g} Hz, expected more than 0 and less "
                         f"than half of it, {sfreq / 2:g} Hz.")

