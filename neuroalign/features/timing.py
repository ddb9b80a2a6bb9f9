"""Timing: from events (words, images) to the samples of a recording."""

import numpy as np
import xarray as xr
from scipy import sparse

from neuroalign.data import make_features, sample_dim
from neuroalign.errors import check_option, list_ids

__all__ = ["HRFS", "events_to_samples"]

HRFS = ("glover", "spm", None)
LOBES = 3  # lobes of the Lanczos filter on either side
LENGTH = 32.0  # seconds of haemodynamic response
CHUNK_VALUES = 2**24  # output values made in float64 at a time


def events_to_samples(features: xr.DataArray, times, *, hrf: str | None = "glover", at: str = "onset",
                      boxcar: bool = False, oversampling: int = 100, how: str = "hrf") -> xr.DataArray:
    """Turn the features of timed events into time series at the samples of a recording.

    Each event is an impulse at its time, as high as its feature value; the sum of all of them is convolved with
    the haemodynamic response and read at `times`. The response has the shape that nilearn gives it, scaled to an
    integral of one over seconds, so that the result does not depend on `oversampling`: it is in units of the
    feature per second. The sum is evaluated at the exact lags between events and samples; nothing is rounded to
    a grid.

    For a model that has delays of its own (`delay`), events are not convolved but only brought to the samples:
    ``how="mean"`` or ``how="lanczos"``.

    Parameters
    ----------
    features : DataArray of shape (n_events, n_features)
        With a coord ``onset`` (seconds) on the dim of events, and ``duration`` where `at` or `boxcar` need it.
    times : array of shape (n_samples,)
        Seconds of the samples, on the clock of the onsets, increasing.
    hrf : {"glover", "spm", None}
        None: no convolution; each event is added to the sample nearest to it.
    at : {"onset", "middle", "offset"}
        Where in an event its impulse stands.
    boxcar : bool
        Let an event last from its onset to its offset, instead of an impulse.
    oversampling : int
        Values of the response per second, between which it is interpolated.
    how : {"hrf", "mean", "lanczos"}
        Convolve as `hrf` says; or, whatever `hrf` is, take for each sample the mean of the events that are nearer to
        it than to other samples (0 where there is none); or pass the impulses through a Lanczos filter of three
        lobes that cuts off at half the sampling rate, and read it at the samples: the sum over events of
        ``sinc(x) sinc(x / 3)``, x being the lag in samples (Duchon 1979, J. Appl. Meteorol.).

    Returns
    -------
    DataArray of shape (n_samples, n_features)
        float32, dim ``time``, with the coords of the space.

    Raises
    ------
    ValueError
        Events without onset or with a duration below 0 (with `boxcar`: of 0), events that begin after the recording
        has ended or leave no trace in it, features that are not finite.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> events = make_features([[1.0]], ["a"], model="toy", coords={"onset": [0.0]})
    >>> series = events_to_samples(events, np.arange(0.0, 30.0, 0.5))
    >>> float(series.time[series.values[:, 0].argmax()])
    5.0
    """
    check_option("hrf", hrf, HRFS)
    check_option("at", at, ("onset", "middle", "offset"))
    check_option("how", how, ("hrf", "mean", "lanczos"))
    if boxcar and how != "hrf":
        raise ValueError(f"boxcar: events are points in time with how={how!r}. Leave boxcar=False.")
    hrf = hrf if how == "hrf" else None
    dim = sample_dim(features)
    features = features.transpose(dim, "feature")
    times = _check_times(times)
    start, stop = _event_times(features, dim, at, boxcar)
    step = float(np.median(np.diff(times)))
    _check_inside(features, dim, start, stop, times, LENGTH if hrf else LOBES * step if how == "lanczos" else step)
    if how == "lanczos":
        weights = _lanczos(start, times, step)
    elif hrf is None:
        weights = _nearest(start, stop, times, boxcar)
    else:
        weights = _response(start, stop, times, hrf, boxcar, oversampling)
    if how == "mean":
        weights = sparse.diags_array(1 / np.maximum(weights.sum(1), 1)) @ weights
    series = np.empty((len(times), features.sizes["feature"]), np.float32)
    step = max(1, CHUNK_VALUES // max(len(times), len(start), 1))
    for first in range(0, series.shape[1], step):
        block = np.asarray(features.data[:, first:first + step], dtype=np.float64)
        _check_finite(block, features, dim)
        series[:, first:first + step] = weights @ block
    named = {k: features.coords[k].item() if k in features.coords else default
             for k, default in (("model", "events"), ("layer", ""), ("stream", "all"), ("depth", np.nan))}
    return make_features(series, times, dim="time", **named).assign_attrs(
        hrf=str(hrf), at="whole" if boxcar else at, how=how)


def _check_times(times) -> np.ndarray:
    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or len(times) < 2 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError(f"times: got an array of shape {times.shape}, expected at least two finite seconds that "
                         "increase. With several runs, call once for each run.")
    return times


def _event_times(features, dim, at, boxcar) -> tuple[np.ndarray, np.ndarray]:
    """Return where each event starts and stops; for impulses both are its time."""
    needed = ["onset"] + (["duration"] if boxcar or at != "onset" else [])
    lacking = [c for c in needed if c not in features.coords]
    if lacking:
        why = "events have no place in time" if "onset" in lacking else f"at={at!r}, boxcar={boxcar} need it"
        raise ValueError(f"features {features.name!r}: no coord {lacking[0]!r} (seconds) on {dim!r}: {why}. Use "
                         f"timed stimuli, or features.assign_coords({lacking[0]}=({dim!r}, seconds)).")
    found = {c: np.asarray(features[c].values, dtype=float) for c in needed}
    for coord, values in found.items():
        unknown = ~np.isfinite(values)
        if unknown.any():
            raise ValueError(f"features {features.name!r}: no {coord} for {list_ids(_ids(features, dim)[unknown])}. "
                             "Give it, or drop these events.")
    onset = found["onset"]
    if "duration" in found:
        short = found["duration"] <= 0 if boxcar else found["duration"] < 0
        if short.any():
            raise ValueError(f"features {features.name!r}: durations of {list_ids(_ids(features, dim)[short])} are "
                             + ("not above 0 s, so these events would leave no trace. Give their durations, or take "
                                "events for impulses (at='onset')." if boxcar else "below 0 s. Mend them."))
    if boxcar:
        return onset, onset + found["duration"]
    shift = {"onset": 0.0, "middle": 0.5, "offset": 1.0}[at]
    moment = onset + shift * found["duration"] if shift else onset
    return moment, moment


def _check_inside(features, dim, start, stop, times, reach) -> None:
    late = start > times[-1] + float(np.median(np.diff(times)))
    early = stop < times[0] - reach
    for outside, words in ((late, "after the recording has ended"), (early, "so long before it that they leave no "
                                                                          "trace")):
        if outside.any():
            raise ValueError(
                f"features {features.name!r}: {int(outside.sum())} of {len(start)} events are {words} (samples from "
                f"{times[0]:g} to {times[-1]:g} s, events from {start.min():g} to {start.max():g} s): "
                f"{list_ids(_ids(features, dim)[outside])}. Check that both are in seconds on one clock, or drop "
                "them."
            )


def _check_finite(block, features, dim) -> None:
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        raise ValueError(f"features {features.name!r}: not finite at {list_ids(_ids(features, dim)[bad])}; one NaN "
                         "would spread over half a minute. Drop or fill these events.")


def _ids(features, dim) -> np.ndarray:
    return np.asarray(features["stimulus_id"].values if "stimulus_id" in features.coords
                      else np.arange(features.sizes[dim]))


def _nearest(start, stop, times, boxcar) -> sparse.csr_array:
    """Return (sample, event) weights: 1 at the sample nearest to an event, or at all samples within it."""
    if boxcar:
        first, last = np.searchsorted(times, start), np.searchsorted(times, stop)
        counts = np.maximum(last - first, 0)
        rows = np.repeat(first - np.r_[0, np.cumsum(counts)[:-1]], counts) + np.arange(counts.sum())
        events = np.repeat(np.arange(len(start)), counts)
    else:
        events = np.arange(len(start))
        after = np.clip(np.searchsorted(times, start), 1, len(times) - 1)
        rows = np.where(start - times[after - 1] <= times[after] - start, after - 1, after)
    return sparse.csr_array((np.ones(len(rows)), (rows, events)), shape=(len(times), len(start)))


def _lanczos(start, times, step) -> sparse.csr_array:
    """Return (sample, event) weights: the Lanczos filter at the lag between them."""
    first = np.searchsorted(times, start - LOBES * step)
    counts = np.searchsorted(times, start + LOBES * step, side="right") - first
    rows = np.repeat(first - np.r_[0, np.cumsum(counts)[:-1]], counts) + np.arange(counts.sum())
    events = np.repeat(np.arange(len(start)), counts)
    lag = (times[rows] - start[events]) / step
    return sparse.csr_array((np.sinc(lag) * np.sinc(lag / LOBES), (rows, events)), shape=(len(times), len(start)))


def _response(start, stop, times, hrf, boxcar, oversampling) -> sparse.csr_array:
    """Return (sample, event) weights: the response at the lag between them; for a boxcar its integral."""
    from nilearn.glm.first_level.hemodynamic_models import glover_hrf, spm_hrf

    kernel = {"glover": glover_hrf, "spm": spm_hrf}[hrf](1.0, oversampling=oversampling, time_length=LENGTH)
    lags = np.linspace(0.0, LENGTH, len(kernel))
    # nilearn's response sums to one over its samples and is delayed by one of them; undo both.
    lags = lags - 1.0 / oversampling
    kernel = kernel * oversampling
    integral = np.r_[0.0, np.cumsum((kernel[1:] + kernel[:-1]) / 2 * np.diff(lags))]

    first = np.searchsorted(times, start)
    last = np.searchsorted(times, stop + LENGTH)
    counts = np.maximum(last - first, 0)
    rows = np.repeat(first - np.r_[0, np.cumsum(counts)[:-1]], counts) + np.arange(counts.sum())
    events = np.repeat(np.arange(len(start)), counts)
    since = times[rows] - start[events]
    if boxcar:
        values = np.interp(since, lags, integral) - np.interp(times[rows] - stop[events], lags, integral, left=0.0)
    else:
        values = np.interp(since, lags, kernel, left=0.0, right=0.0)
    return sparse.csr_array((values, (rows, events)), shape=(len(times), len(start)))
