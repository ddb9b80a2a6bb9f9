"""Sound files and the sound tracks of films: reading all of them or a window, one channel."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from neuroalign.data.containers import SLACK, film_end, film_frames, open_film, stated_end, stream_of

__all__ = ["SoundInfo", "count_samples", "probe_sound", "read_sound"]

JITTER = 0.002  # seconds by which rounded time stamps may disagree with counted samples (Matroska rounds to 1 ms)


@dataclass(frozen=True)
class SoundInfo:
    """What a sound file says of itself.

    Attributes
    ----------
    rate : int
        Samples a second.
    duration : float
        Seconds; those of the film where the track does not say its own, NaN where neither does.
    stated : bool
        Whether the track says its own.
    slack : float
        Seconds that it may lack at the end of a window, where silence is given: tracks of films end at different times.
    """

    rate: int
    duration: float
    stated: bool = True
    slack: float = 0.0


def probe_sound(path) -> SoundInfo:
    """Read the rate and the duration of a sound.

    Raises
    ------
    FileNotFoundError, MissingExtra
    ValueError
        The file is damaged, or a film without sound.
    """
    path = _existing(path)
    return _probe(str(path), path.stat().st_mtime_ns)


def read_sound(path, start: float = 0.0, stop: float | None = None) -> tuple[np.ndarray, int]:
    """Read a WAV file (PCM or float), or the sound of any film or sound file that PyAV decodes.

    Parameters
    ----------
    path
    start, stop : float
        Seconds in the file; only what lies between is decoded. Default: all of it. Matroska and WebM round their
        times to milliseconds, so that a window begins within one of `start`.

    Returns
    -------
    wave : array of float32, shape (sample,)
        Between -1 and 1, the mean over channels. Sample i was heard ``i / rate`` seconds after `start`.
    rate : int
        Samples a second.

    Raises
    ------
    FileNotFoundError, MissingExtra
    ValueError
        The file cannot be read, ends before `stop`, is empty, or has values that are not finite.
    """
    path = _existing(path)
    wave, rate = (_read_wav if _is_wav(path) else _read_film)(path, start, stop)
    if not len(wave):
        raise ValueError(f"the sound {str(path)!r} holds no samples.")
    if not np.isfinite(wave).all():
        raise ValueError(f"the sound {str(path)!r} has values that are not finite.")
    return wave, rate


def count_samples(path, start: float = 0.0, stop: float | None = None) -> tuple[int, int]:
    """Return how many samples `read_sound` gives, and their rate, mostly without reading them."""
    info = probe_sound(path)
    if stop is None and not info.stated:
        return len(read_sound(path, start)[0]), info.rate
    stop = info.duration if stop is None else stop
    return round(stop * info.rate) - round(start * info.rate), info.rate


def _existing(path) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"sound: no file {str(path)!r}.")
    return Path(path)


def _is_wav(path: Path) -> bool:
    if path.suffix.lower() in (".wav", ".wave"):
        return True
    with open(path, "rb") as file:
        head = file.read(12)
    return head[:4] in (b"RIFF", b"RIFX") and head[8:] == b"WAVE"


@lru_cache(maxsize=4096)
def _probe(path: str, modified: int) -> SoundInfo:
    if _is_wav(Path(path)):
        rate, data = _open_wav(path)
        return SoundInfo(rate, len(data) / rate)
    with open_film(path) as container:
        stream = stream_of(container, "audio")
        if stream is None:
            raise ValueError(f"the film {path!r} has no sound.")
        end = stated_end(container, stream)
        return SoundInfo(stream.rate, film_end(container) if end is None else end, end is not None, SLACK)


def _open_wav(path) -> tuple[int, np.ndarray]:
    """Return the rate and the samples, as a memory map where their format allows it."""
    from scipy.io import wavfile

    try:
        try:
            rate, data = wavfile.read(path, mmap=True)
        except ValueError:  # samples of three bytes, or a damaged file
            rate, data = wavfile.read(path)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"the sound {str(path)!r} cannot be read as a WAV file ({error}). Convert it to 16-bit PCM "
                         "WAV.") from None
    return int(rate), data


def _read_wav(path, start, stop) -> tuple[np.ndarray, int]:
    rate, data = _open_wav(path)
    last = len(data) if stop is None else round(stop * rate)
    if last > len(data):
        raise ValueError(f"the sound {str(path)!r} ends at {len(data) / rate:g} s, before {stop:g} s.")
    wave = _to_float(np.asarray(data[round(start * rate):last]))
    return (wave.mean(axis=1) if wave.ndim == 2 else wave), rate


def _read_film(path, start, stop) -> tuple[np.ndarray, int]:
    info = probe_sound(path)
    rate, first = info.rate, round(start * info.rate)
    if stop is None and info.stated:
        stop = info.duration
    n = None if stop is None else round(stop * rate) - first
    blocks, after = [], None
    for time, frame in film_frames(path, "audio", start):
        block = _to_float(frame.to_ndarray())
        if not frame.format.is_planar:
            block = block.reshape(-1, frame.layout.nb_channels).T
        at = round(time * rate) - first
        if after is not None and abs(at - after) <= JITTER * rate:
            at = after
        after = at + block.shape[1]
        if after > 0:
            blocks.append((at, block.mean(axis=0)))
        if n is not None and after >= n:
            break
    reached = max((at + len(block) for at, block in blocks), default=0)
    expected = info.duration if stop is None else stop
    if expected - (first + reached) / rate > info.slack:
        raise ValueError(f"the sound {str(path)!r} ends at {(first + reached) / rate:.2f} s, before {expected:.2f} s: "
                         "it is truncated, or shorter than its film or window. Give an earlier 'stop'.")
    wave = np.zeros(reached if n is None else n, np.float32)  # silence where a film has no sound yet, or no more
    for at, block in blocks:
        begin, end = max(at, 0), min(at + len(block), len(wave))
        wave[begin:end] = block[begin - at:end - at]
    return wave, rate


def _to_float(data: np.ndarray) -> np.ndarray:
    if data.dtype.kind == "i":
        return data.astype(np.float32) / -float(np.iinfo(data.dtype).min)
    if data.dtype.kind == "u":
        return (data.astype(np.float32) - 128) / 128
    return data.astype(np.float32)
