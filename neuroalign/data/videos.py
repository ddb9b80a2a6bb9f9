"""Video files: frames by second, decoded one at a time; films, arrays of frames, animated pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from neuroalign.data.containers import SLACK, film_end, film_frames, open_film, stated_end, stream_of

__all__ = ["VideoInfo", "frames_at", "iter_frames", "probe_video"]

PICTURES = (".gif", ".png", ".apng", ".webp", ".tif", ".tiff")
STAMP = 1e-6  # seconds: a frame stamped this little after a moment is the one shown then


@dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself.

    Attributes
    ----------
    n_frames : int
        Of a film, as many as its duration and its rate make.
    frame_rate : float
        Frames a second, on average; NaN where frames have no times.
    duration : float
        Seconds; where frames have no times their number, so that one is a second.
    """

    n_frames: int
    frame_rate: float
    duration: float

    @property
    def timed(self) -> bool:
        """Whether its frames have times."""
        return self.frame_rate == self.frame_rate


def probe_video(path, frame_rate: float | None = None) -> VideoInfo:
    """Read how many frames a video has, and when.

    Parameters
    ----------
    path
        A film (mp4, mkv, webm, avi ...) that PyAV decodes, an ``.npy`` array (frame, height, width, 3) of uint8, or an
        animated GIF, PNG or WebP.
    frame_rate : float, optional
        Frames a second of arrays, and of pictures whose file does not say how long each is shown.

    Raises
    ------
    FileNotFoundError, MissingExtra
    ValueError
        The file is damaged, or a film without pictures.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"video: no file {str(path)!r}.")
    return _probe(str(path), Path(path).stat().st_mtime_ns, frame_rate)


def frames_at(path, moments: Sequence[float], frame_rate: float | None = None) -> list[np.ndarray]:
    """Return the frames that are shown at some moments; only the part of the film around them is decoded.

    Parameters
    ----------
    path, frame_rate
        As in `probe_video`.
    moments : sequence of float
        Seconds in the file, increasing.

    Returns
    -------
    list of array of uint8, shape (height, width, 3)

    Raises
    ------
    ValueError
        The file cannot be read, or ends before the last moment.
    """
    info = probe_video(path, frame_rate)
    found, shown, time = [], None, 0.0
    for time, read in _stream(path, moments[0], frame_rate):
        while len(found) < len(moments) and moments[len(found)] < time - STAMP:
            found.append((shown or read)())
        if len(found) == len(moments):
            return found
        shown = read
    last = 1 / info.frame_rate if info.timed else 1.0
    if shown is None or moments[-1] > time + last + SLACK:
        reached = "has no frames" if shown is None else f"ends at {time + last:.2f} s"
        raise ValueError(f"the video {str(path)!r} {reached}, and a frame at {moments[-1]:.2f} s was asked for: it is "
                         "truncated, or shorter than it says.")
    return found + [shown() for _ in moments[len(found):]]


def iter_frames(path, frame_rate: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the frames of a video with their seconds, one at a time; parameters are those of `probe_video`."""
    for time, read in _stream(path, 0.0, frame_rate):
        yield time, read()


@lru_cache(maxsize=4096)
def _probe(path: str, modified: int, frame_rate: float | None) -> VideoInfo:
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        count = len(_open_array(path))
        return VideoInfo(count, frame_rate or np.nan, count / (frame_rate or 1))
    if suffix in PICTURES:
        times, end, timed = _page_times(path, frame_rate)
        return VideoInfo(len(times), len(times) / end if timed else np.nan, end)
    with open_film(path) as container:
        stream = stream_of(container, "video")
        if stream is None:
            raise ValueError(f"the film {path!r} has no pictures.")
        rate = float(stream.average_rate or stream.guessed_rate or frame_rate or np.nan)
        end = stated_end(container, stream)
        end = film_end(container) if end is None else end
        known = np.isfinite(end * rate)
        return VideoInfo(round(end * rate) if known else stream.frames, rate, end)


def _stream(path, start: float, frame_rate) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
    """Yield the seconds of frames, from the one shown at `start` on, each with a function that returns it."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        array, rate = _open_array(path), frame_rate or 1.0
        for i in range(max(0, int(start * rate)), len(array)):
            yield i / rate, lambda i=i: np.array(array[i])
    elif suffix in PICTURES:
        yield from _pages(path, frame_rate)
    else:
        for time, frame in film_frames(path, "video", start):
            yield time, lambda frame=frame: _upright(frame)


def _upright(frame) -> np.ndarray:
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def _open_array(path) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise ValueError(f"the video {str(path)!r} is {array.dtype} of shape {array.shape}, expected uint8 "
                         "(frame, height, width, 3).")
    return array


def _pages(path, frame_rate) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
    from PIL import Image, ImageSequence

    times = _page_times(path, frame_rate)[0]
    try:
        with Image.open(path) as file:
            for time, page in zip(times, ImageSequence.Iterator(file)):
                pixels = np.asarray(page.convert("RGB"))
                yield time, lambda pixels=pixels: pixels
    except (OSError, SyntaxError) as error:
        raise _unreadable(path, error) from None


def _page_times(path, frame_rate) -> tuple[list[float], float, bool]:
    """Return the seconds of the pages of a picture, that of its end, and whether it or `frame_rate` said them."""
    from PIL import Image, ImageSequence

    try:
        with Image.open(path) as file:
            shown = []
            for page in ImageSequence.Iterator(file):
                page.load()
                shown.append(page.info.get("duration", 0) / 1000)
    except (OSError, SyntaxError) as error:
        raise _unreadable(path, error) from None
    timed = all(shown) or frame_rate is not None
    if not all(shown):
        shown = [1 / (frame_rate or 1.0)] * len(shown)
    ends = np.cumsum(shown)
    return [0.0, *ends[:-1].tolist()], float(ends[-1]), timed


def _unreadable(path, error) -> ValueError:
    return ValueError(f"the video {str(path)!r} cannot be read ({error}). Save its frames as an .npy array (frame, "
                      "height, width, 3) of uint8.")
