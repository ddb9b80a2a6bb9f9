"""Confounds of sound: speech on or off, envelope, mel spectrogram, pitch; by scipy alone."""

import numpy as np
import xarray as xr

from neuroalign.data.sounds import read_sound
from neuroalign.errors import list_ids
from neuroalign.features.moments import event_coords, intervals, place

__all__ = ["envelope", "mel_spectrogram", "pitch", "read_sound", "sound_on", "speech_on"]

HOP = 0.01  # seconds between frames
BLOCK = 4096  # frames in memory at a time
# What an octave down costs a peak: at 0.01 half of the frames of a noisy glide fell to half of their pitch, from 0.05
# on none did.
OCTAVE = 0.05


def speech_on(words, times) -> xr.DataArray:
    """Return which part of the time around each of `times` is filled by words; space ``confound:speech_on:audio``.

    Parameters
    ----------
    words : StimulusSet or DataArray
        With onset and duration (seconds). Where no transcript is at hand, `sound_on` takes the sound itself.
    times : array of shape (n_samples,)
        Seconds, increasing; each stands for the time nearer to it than to the others.
    """
    ids, coords = event_coords(words)
    if not {"onset", "duration"} <= set(coords):
        raise ValueError("speech_on: the words have no onset and duration (seconds). Use timed words, or sound_on.")
    onset, offset = intervals(ids, coords)
    times = np.asarray(times, dtype=float)
    around = np.diff(times).max(initial=0.0)
    beyond = (onset > times[-1] + around) | (offset < times[0] - around)
    if beyond.any():
        raise ValueError(f"speech_on: {int(beyond.sum())} of {len(beyond)} words lie outside of the seconds from "
                         f"{times[0]:g} to {times[-1]:g}: {list_ids(ids[beyond])}. Check that both are in seconds on "
                         "one clock, or drop these words.")
    step = float(np.diff(times).min()) / 50 if len(times) > 1 else HOP
    half = np.diff(times).max() / 2 if len(times) > 1 else step
    moments = np.arange(times[0] - half, times[-1] + half, step) + step / 2
    inside = np.zeros(len(moments) + 1)
    np.add.at(inside, np.searchsorted(moments, onset), 1)
    np.add.at(inside, np.searchsorted(moments, offset), -1)
    return place((np.cumsum(inside)[:-1] > 0)[:, None].astype(float), moments, times, "speech_on", "audio")


def sound_on(sound, sfreq: float, at, *, threshold: float = -40.0, start: float = 0.0) -> xr.DataArray:
    """Return which part of each event or sample is louder than a threshold; space ``confound:sound_on:audio``.

    Parameters
    ----------
    sound : array of shape (n,)
    sfreq : float
        Samples per second.
    at : StimulusSet or DataArray with onset and duration, or array of seconds
        Where the confound is wanted: means over each event, or around each second. Seconds before and after the sound
        are silent; an event there is an error.
    threshold : float
        Decibels below the loudest 10 ms.
    start : float
        Second, on the clock of `at`, of the first sample of the sound.
    """
    power = np.concatenate([(f**2).mean(1) for f in _frames(_check(sound, sfreq), sfreq, HOP)])
    on = power > power.max() * 10 ** (threshold / 10)
    return place(on[:, None].astype(float), _moments(len(power), start), at, "sound_on", "audio")


def envelope(sound, sfreq: float, at, *, start: float = 0.0) -> xr.DataArray:
    """Return the amplitude of the sound, the modulus of its analytic signal; space ``confound:envelope:audio``.

    Parameters are those of `sound_on`. The analytic signal is that of Gabor 1946 (J. IEE 93:429), by the Hilbert
    transform.
    """
    from scipy.fft import next_fast_len
    from scipy.signal import hilbert

    sound = _check(sound, sfreq)
    amplitude = np.abs(hilbert(sound, next_fast_len(len(sound)))[: len(sound)])
    values = np.concatenate([f.mean(1) for f in _frames(amplitude, sfreq, HOP)])
    return place(values[:, None], _moments(len(values), start), at, "envelope", "audio")


def mel_spectrogram(sound, sfreq: float, at, *, n_bands: int = 32, low: float = 50.0, high: float | None = None,
                    floor: float = -80.0, start: float = 0.0) -> xr.DataArray:
    """Return the power in bands that are evenly spaced in mel, in decibels; space ``confound:mel_spectrogram:audio``.

    Windows of 25 ms (Hann) every 10 ms, triangular bands of unit height that overlap by half (Davis and Mermelstein
    1980, IEEE TASSP 28:357), mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, Speech Communication).

    Parameters
    ----------
    sound, sfreq, at, start
        As in `sound_on`.
    n_bands : int
    low, high : float
        Hz; `high` defaults to half of `sfreq`, at most 8000.
    floor : float
        Decibels, relative to the strongest band and frame, below which all counts as silence.

    Returns
    -------
    DataArray of shape (n, n_bands)
        Coord ``frequency`` (Hz) on the feature dim: the centres.
    """
    sound = _check(sound, sfreq)
    high = min(8000.0, sfreq / 2) if high is None else high
    if not 0 <= low < high <= sfreq / 2:
        raise ValueError(f"mel_spectrogram: got {low:g} to {high:g} Hz, expected a range within 0 to {sfreq / 2:g}.")
    length = round(0.025 * sfreq)
    n_fft = 2 ** int(np.ceil(np.log2(4 * length)))  # padded, so that narrow low bands hold bins
    filters, centres = _mel_filters(n_bands, low, high, np.fft.rfftfreq(n_fft, 1 / sfreq))
    window = np.hanning(length + 1)[:-1]
    power = np.concatenate([np.abs(np.fft.rfft(f * window, n_fft)) ** 2 @ filters.T
                            for f in _frames(sound, sfreq, 0.025)])
    reference = power.max() or 1.0
    decibels = 10 * np.log10(np.maximum(power / reference, 10 ** (floor / 10)))
    return place(decibels, _moments(len(power), start), at, "mel_spectrogram", "audio",
                 feature_coords={"frequency": centres}, outside=floor)


def pitch(sound, sfreq: float, at, *, low: float = 75.0, high: float = 500.0, threshold: float = 0.45,
          silence: float = -40.0, start: float = 0.0) -> xr.DataArray:
    """Estimate the fundamental frequency by autocorrelation; space ``confound:pitch:audio``.

    In each window, three periods of `low` long, the autocorrelation of the Hann-windowed sound is divided by that of
    the window, and its highest peak between the two periods is taken, interpolated by a parabola (Boersma 1993, Proc.
    Institute of Phonetic Sciences Amsterdam 17:97, with a higher octave cost, without his search of a best path
    over frames).

    Parameters
    ----------
    sound, sfreq, at, start
        As in `sound_on`.
    low, high : float
        Range of the pitch in Hz.
    threshold : float
        Height of the peak (1: periodic) from which a frame is voiced.
    silence : float
        Decibels below the loudest frame from which on a frame is unvoiced.

    Returns
    -------
    DataArray of shape (n, 2)
        Mean Hz of the voiced frames (0 where there are none), and which part of the frames is voiced; coord ``kind``
        on the feature dim.
    """
    sound = _check(sound, sfreq)
    if not 0 < low < high <= sfreq / 4:
        raise ValueError(f"pitch: got {low:g} to {high:g} Hz, expected a range within 0 to {sfreq / 4:g}.")
    found = [_pitch(f, sfreq, low, high) for f in _frames(sound, sfreq, 3 / low)]
    hertz, strength, power = (np.concatenate(v) for v in zip(*found))
    voiced = (strength >= threshold) & (power > power.max() * 10 ** (silence / 10))
    moments = _moments(len(hertz), start)
    mean = place(hertz[:, None], moments, at, "pitch", "audio", weights=voiced)
    part = place(voiced[:, None].astype(float), moments, at, "pitch", "audio")
    return xr.concat([mean, part], "feature").assign_coords(kind=("feature", ["hertz", "voiced"]))


def _pitch(frames, sfreq, low, high):
    length = frames.shape[1]
    n_fft = 2 ** int(np.ceil(np.log2(2 * length)))
    window = np.hanning(length)
    frames = (frames - frames.mean(1, keepdims=True)) * window

    def correlate(x):
        return np.fft.irfft(np.abs(np.fft.rfft(x, n_fft)) ** 2, n_fft)[..., :length]

    first, last = int(np.floor(sfreq / high)), int(np.ceil(sfreq / low))
    own, power = correlate(window), (frames**2).mean(1)
    raw = correlate(frames)
    r = raw[:, : last + 2] / np.maximum(raw[:, :1], 1e-20) / (own[: last + 2] / own[0])
    peaks = r[:, first : last + 1]
    # of peaks that are about as high, the shortest period: multiples of it are as periodic
    inner = (peaks >= r[:, first - 1 : last]) & (peaks >= r[:, first + 1 : last + 2])
    height = np.where(inner, peaks - OCTAVE * np.log2(np.arange(first, last + 1) / first), -np.inf)
    lag = height.argmax(1) + first
    rows = np.arange(len(r))
    a, b, c = r[rows, lag - 1], r[rows, lag], r[rows, lag + 1]
    bend = a - 2 * b + c
    shift = np.where(np.abs(bend) > 1e-12, 0.5 * (a - c) / np.where(np.abs(bend) > 1e-12, bend, 1), 0)
    return sfreq / (lag + np.clip(shift, -0.5, 0.5)), np.where(inner.any(1), b, 0), power


def _mel_filters(n_bands, low, high, frequencies):
    edges = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([low, high]) / 700)), n_bands + 2) / 2595) - 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return np.maximum(0, np.minimum(rise, fall)), edges[1:-1]


def _frames(signal, sfreq, seconds):
    """Yield blocks of frames, (frame, sample): every 10 ms, centred there, zeros beyond the ends."""
    length = max(1, round(seconds * sfreq))
    n = int(np.ceil(len(signal) / sfreq / HOP))
    starts = np.round((np.arange(n) + 0.5) * HOP * sfreq).astype(int)  # centre - length // 2, plus the padding before
    padded = np.concatenate([np.zeros(length // 2), signal, np.zeros(length + int(HOP * sfreq) + 1)])
    for block in range(0, n, BLOCK):
        yield padded[starts[block : block + BLOCK, None] + np.arange(length)]


def _moments(n: int, start: float) -> np.ndarray:
    return start + (np.arange(n) + 0.5) * HOP


def _check(sound, sfreq) -> np.ndarray:
    sound = np.asarray(sound, dtype=np.float64)
    if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all():
        raise ValueError(f"sound: got an array of shape {sound.shape}, expected finite samples of one channel.")
    if not sfreq >= 1000:
        raise ValueError(f"sound: got {sfreq:g} samples per second, expected at least 1000.")
    return sound
