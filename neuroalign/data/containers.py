"""Films and sounds in containers (mp4, mkv, webm, avi, mp3 ...) through PyAV: their clock, frames from a second on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuroalign.errors import MissingExtra

__all__ = ["SLACK", "film_end", "film_frames", "open_film", "stated_end", "stream_of"]

SLACK = 0.1  # seconds that a track may end before its film does
PREROLL = 0.5  # seconds decoded before a window of sound: the first packets after a jump sound of those before them
NO_INDEX = ("mp3", "aac")  # bare streams, in which a jump lands at a guess


@contextmanager
def open_film(path):
    """Open a file; what its decoder says against it is a `ValueError`.

    Raises
    ------
    MissingExtra
        PyAV is not installed.
    FileNotFoundError, ValueError
    """
    try:
        import av
    except ImportError:
        raise MissingExtra(f"the film {str(path)!r} needs PyAV. Run: pip install 'neuroalign[video]'") from None
    if not Path(path).is_file():
        raise FileNotFoundError(f"film: no file {str(path)!r}.")
    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        raise ValueError(f"the film {str(path)!r} cannot be read, it is truncated or damaged ({error.strerror})."
                         ) from None


def stream_of(container, kind: str):
    """Return the first track of a kind, ``video`` or ``audio``, or None; a cover picture is no film."""
    tracks = getattr(container.streams, kind)
    return next((t for t in tracks if not (kind == "video" and "attached_pic" in str(t.disposition))), None)


def origin(container) -> float:
    """Return the time stamp at which the film begins: second 0."""
    return max(0.0, (container.start_time or 0) / 1e6)


def stated_end(container, stream) -> float | None:
    """Return the second at which a track ends, as it says itself; bare streams only guess."""
    if stream.duration is None or container.format.name in NO_INDEX:
        return None
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - origin(container)


def film_end(container) -> float:
    """Return the second at which the longest track ends; NaN where the film does not say."""
    unknown = container.duration is None or container.format.name in NO_INDEX
    return float("nan") if unknown else container.duration / 1e6


def film_frames(path, kind: str, start: float = 0.0, *, jump: bool = True) -> Iterator[tuple[float, object]]:
    """Yield the decoded frames of a track with their seconds, from one that begins at or before `start` on."""
    with open_film(path) as container:
        stream, zero = stream_of(container, kind), origin(container)
        if stream is None:
            raise ValueError(f"the film {str(path)!r} has no {'pictures' if kind == 'video' else 'sound'}.")
        # AVI stamps packets alone, and those of B-frames are out of order: such frames are counted from the first on.
        if kind == "video" and container.format.name == "avi" and stream.codec_context.has_b_frames:
            yield from ((k / float(stream.average_rate), frame) for k, frame in enumerate(container.decode(stream)))
            return
        target = start - (PREROLL if kind == "audio" else 0)
        jump = jump and target > 0 and container.format.name not in NO_INDEX
        if jump:
            container.seek(int((zero + target) / stream.time_base), stream=stream)
        frames = (f for f in container.decode(stream) if f.time is not None)
        first = next(frames, None)
        if first is not None and (not jump or first.time - zero <= start):
            yield first.time - zero, first
            for frame in frames:
                yield frame.time - zero, frame
            return
    if jump:  # the jump went too far
        yield from film_frames(path, kind, start, jump=False)
