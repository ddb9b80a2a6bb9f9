"""Confounds of films: frame difference, scene cuts, motion energy."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from neuroalign.data import StimulusSet
from neuroalign.data.videos import iter_frames, probe_video
from neuroalign.features.moments import place

__all__ = ["LUMINANCE", "frame_difference", "linear_luminance", "motion_energy", "read_frames", "scene_cuts"]

# Weights of linear red, green and blue in relative luminance (ITU-R BT.709).
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
BINS = 64
SIDE = 64  # pixels of the squares that motion is measured on


def linear_luminance(pixels: np.ndarray) -> np.ndarray:
    """Return relative luminance, 0 to 1, of sRGB values 0 to 1, (..., 3)."""
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    return linear @ LUMINANCE


def read_frames(source) -> Iterator[np.ndarray]:
    """Yield the luminance of the frames of a film, one at a time: (height, width), 0 to 1.

    Parameters
    ----------
    source : array, or path
        Array (frame, height, width[, 3]): unsigned bytes or floats 0 to 1 are sRGB; without a last axis of three they
        are grey. Or a film (mp4, mkv, avi, webm ...), a GIF or TIFF of several pages, an ``.npy`` array of frames, or a
        folder of images, in order of their names.
    """
    return (frame for _, frame in _timed(source, 1.0))


def frame_difference(frames, rate: float | None, at, *, start: float = 0.0) -> xr.DataArray:
    """Return the mean absolute change of luminance from the frame before; space ``confound:frame_difference:video``.

    Parameters
    ----------
    frames : array or path
        As in `read_frames`.
    rate : float or None
        Frames per second. None: each frame stands where the file says.
    at : StimulusSet or DataArray with onset and duration, or array of seconds
        Where the confound is wanted: means over each event, or around each second. It is 0 at seconds before and
        after the film; an event there is an error.
    start : float
        Second, on the clock of `at`, of the first frame.
    """
    values, moments, before = [], [], None
    for second, frame in _timed(frames, rate):
        values.append(0.0 if before is None else np.abs(frame - before).mean())
        moments.append(start + second)
        before = frame
    return place(np.array(values)[:, None], np.array(moments), at, "frame_difference", "video")


def scene_cuts(frames, rate: float | None, at, *, threshold: float = 0.5, start: float = 0.0) -> xr.DataArray:
    """Count the cuts: frames whose histogram of luminance differs from the one before; ``confound:scene_cuts:video``.

    Half of the summed absolute difference of two histograms of 64 bins, 0 to 1 (Zhang, Kankanhalli and Smoliar 1993,
    Multimedia Systems 1:10), is compared with a threshold. Values are cuts per frame: the mean over an event.

    Parameters
    ----------
    frames, rate, at, start
        As in `frame_difference`.
    threshold : float
        Part of the pixels that must have changed their bin.
    """
    values, moments, before = [], [], None
    for second, frame in _timed(frames, rate):
        histogram = np.histogram(frame, BINS, (0, 1))[0] / frame.size
        values.append(before is not None and np.abs(histogram - before).sum() / 2 > threshold)
        moments.append(start + second)
        before = histogram
    return place(np.array(values, float)[:, None], np.array(moments), at, "scene_cuts", "video")


def motion_energy(frames, rate: float | None, at, *, spatial: Sequence[float] = (2, 4, 8), directions: int = 8,
                  temporal: Sequence[float] = (0, 2, 4), grid: int = 3, start: float = 0.0) -> xr.DataArray:
    """Return the energy of motion in Gabor filters of space and time; space ``confound:motion_energy:video``.

    Frames are squeezed to squares of 64 pixels. Each filter is a pair in quadrature, so that its energy, the sum of
    two squares, does not depend on phase (Adelson and Bergen 1985, J. Opt. Soc. Am. A 2:284; on films, Nishimoto et
    al. 2011, Current Biology 21:1641).

    Parameters
    ----------
    frames, rate, at, start
        As in `frame_difference`.
    spatial : sequence of float
        Cycles per picture.
    directions : int
        Directions of motion, evenly spaced over the circle; 0 is to the right, then counter-clockwise.
    temporal : sequence of float
        Hz; 0 is what does not move, for which half of the directions suffice.
    grid : int
        Filters stand on a grid of `grid` times `grid` places.

    Returns
    -------
    DataArray of shape (n, n_filters)
        Coords ``spatial``, ``direction`` (degrees), ``temporal``, ``x``, ``y`` (0 to 1, from the upper left) on the
        feature dim.
    """
    given, rate = rate, _rate(frames) if rate is None else rate
    if directions < 2 or directions % 2 or min(spatial) <= 0 or max(spatial) > SIDE / 4 or max(temporal) > rate / 2:
        raise ValueError(f"motion_energy: got {directions} directions, spatial={tuple(spatial)}, "
                         f"temporal={tuple(temporal)}; expected an even number of directions, at most {SIDE // 4} "
                         f"cycles per picture, and at most {rate / 2:g} Hz (half of the frame rate).")
    places = [(f, d, x, y) for f in spatial for d in range(directions)
              for y in (np.arange(grid) + 0.5) / grid for x in (np.arange(grid) + 0.5) / grid]
    bank = np.stack([_gabor(f, 2 * np.pi * d / directions, x, y) for f, d, x, y in places])
    seconds, responses = zip(*((t, bank @ _square(frame).ravel()) for t, frame in _timed(frames, given)))
    seconds, responses = np.array(seconds), np.stack(responses)
    _check_even(seconds)
    values, about = [], []
    for hertz in temporal:
        kept = [i for i, p in enumerate(places) if hertz > 0 or p[1] < directions // 2]
        values.append(np.abs(_in_time(responses[:, kept], hertz, rate)) ** 2)
        about += [(places[i][0], 360 * places[i][1] / directions, hertz, *places[i][2:]) for i in kept]
    coords = dict(zip(("spatial", "direction", "temporal", "x", "y"), zip(*about)))
    return place(np.concatenate(values, axis=1), start + seconds, at, "motion_energy", "video",
                 feature_coords=coords)


def _gabor(frequency: float, angle: float, x: float, y: float) -> np.ndarray:
    column, row = np.meshgrid((np.arange(SIDE) + 0.5) / SIDE, (np.arange(SIDE) + 0.5) / SIDE)
    dx, dy = column - x, y - row  # upwards is positive
    sd = 0.5 / frequency
    bell = np.exp(-(dx**2 + dy**2) / (2 * sd**2))
    wave = np.exp(-2j * np.pi * frequency * (dx * np.cos(angle) + dy * np.sin(angle)))
    wave = wave - (bell * wave).sum() / bell.sum()  # uniform light gives nothing
    return ((bell * wave) / bell.sum()).ravel()


def _in_time(responses: np.ndarray, hertz: float, rate: float) -> np.ndarray:
    """Filter by a complex Gabor in time: motion in the direction of the wave turns its phase backwards."""
    from scipy.signal import fftconvolve

    sd = 0.5 / hertz if hertz else 0.25
    half = max(1, round(2.5 * sd * rate))
    time = np.arange(-half, half + 1) / rate
    bell = np.exp(-(time**2) / (2 * sd**2))
    wave = np.exp(-2j * np.pi * hertz * time)
    if hertz:
        wave = wave - (bell * wave).sum() / bell.sum()  # what stands still gives nothing
    padded = np.pad(responses, ((half, half), (0, 0)), mode="edge")
    return fftconvolve(padded, (bell * wave / bell.sum())[:, None], mode="valid", axes=0)


def _square(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(frame.astype(np.float32))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)


def _timed(source, rate: float | None) -> Iterator[tuple[float, np.ndarray]]:
    """Yield seconds and luminance of frames: those of the file without a rate, else one frame after the other."""
    if rate is None:
        _rate(source)
    for i, (second, pixels) in enumerate(_pixels(source)):
        yield second if rate is None else i / rate, linear_luminance(pixels)


def _rate(source) -> float:
    """Return the frames per second of a film whose file says when they are."""
    rate = probe_video(source).frame_rate if isinstance(source, (str, Path)) and Path(source).is_file() else np.nan
    if np.isnan(rate):
        raise ValueError("frames: rate=None, and these frames have no times. Give frames per second.")
    return rate


def _pixels(source) -> Iterator[tuple[float, np.ndarray]]:
    """Yield seconds and sRGB values 0 to 1, (height, width, 3)."""
    if not isinstance(source, (str, Path)):
        source = np.asarray(source)
        if source.ndim not in (3, 4) or (source.ndim == 4 and source.shape[-1] != 3) or not len(source):
            raise ValueError(f"frames: got an array of shape {source.shape}, expected (frame, height, width) or "
                             "(frame, height, width, 3).")
        scale = 255 if source.dtype == np.uint8 else 1
        for i, frame in enumerate(source):
            frame = np.asarray(frame, dtype=np.float64) / scale
            yield i, frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=-1)
        return
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"frames: no file or folder {str(path)!r}.")
    files = StimulusSet.from_folder(path).table["image"] if path.is_dir() else [path]
    for file in files:
        for second, frame in iter_frames(file):
            yield second, frame / 255


def _check_even(seconds: np.ndarray) -> None:
    steps = np.diff(seconds)
    if len(steps) and steps.max() > 1.5 * np.median(steps):
        raise ValueError(f"motion_energy: the frames of this film are {np.median(steps):.3g} to {steps.max():.3g} s "
                         "apart, expected evenly spaced ones. Give an array of frames that are, and their rate.")
