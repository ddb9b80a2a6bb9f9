"""Sound files to waves: reading, one channel, the sampling rate of a model, and what is wrong with a sound."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from neuroalign.data.sounds import count_samples, probe_sound, read_sound
from neuroalign.data.stimuli import clip_window
from neuroalign.models.adapter import BadStimuli, refuse_bad

__all__ = ["AudioInput", "count_heard", "has_file", "load_audio_input", "open_waves", "resample", "tile_times"]


@dataclass(frozen=True)
class AudioInput:
    """The sound side of a model.

    Attributes
    ----------
    process : callable
        List of waves at `rate` -> tensors of the model.
    rate : int
        Samples a second that the model wants; sounds of another rate are resampled.
    settings : mapping
        What decides the tensors, for the identity.
    """

    process: Callable[[list[np.ndarray]], Mapping]
    rate: int
    settings: Mapping

    @classmethod
    def of(cls, extractor, **options) -> "AudioInput":
        """Return the sound side around a feature extractor of transformers."""

        def process(waves):
            return extractor(waves, sampling_rate=extractor.sampling_rate, return_tensors="pt", **options)

        return cls(process, extractor.sampling_rate, {**extractor.to_dict(), **options})

    @property
    def identity(self) -> str:
        """What decides the tensors of a sound."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True, default=str).encode()).hexdigest()

    def check(self, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for a sound that is absent; `FileNotFoundError` for a file that is not there."""
        absent = [s["stimulus_id"] for s in stimuli if not has_file(s, "audio")]
        if absent:
            raise BadStimuli("no sound, and this model hears.", absent, "Give an 'audio' column, or leave them out.")
        for stimulus in stimuli:
            if not Path(stimulus["audio"]).is_file():
                raise FileNotFoundError(
                    f"stimulus {stimulus['stimulus_id']!r}: no sound file {str(stimulus['audio'])!r}."
                )
        windows = [s for s in stimuli if clip_window(s) != (0, None)]
        refuse_bad(windows, _check_window, "Give other windows, or leave them out.")

    def open(self, stimuli: Sequence[Mapping]) -> list[np.ndarray]:
        """Read the sounds at the rate of the model."""
        return open_waves(stimuli, self.rate)


def load_audio_input(folder: Path, **options) -> AudioInput:
    """Return the sound side of a model from the feature extractor in its folder."""
    from transformers import AutoFeatureExtractor

    return AudioInput.of(AutoFeatureExtractor.from_pretrained(folder, local_files_only=True), **options)


def has_file(stimulus: Mapping, modality: str) -> bool:
    """Return whether a stimulus has a path for a modality."""
    return isinstance(stimulus.get(modality), str | Path) and str(stimulus[modality]) != ""


def open_waves(stimuli: Sequence[Mapping], rate: int) -> list[np.ndarray]:
    """Read the sounds of stimuli at a sampling rate.

    Raises
    ------
    BadStimuli
        Naming those whose file is damaged or holds no samples.
    FileNotFoundError
    """
    for stimulus in stimuli:
        if not Path(stimulus["audio"]).is_file():
            raise FileNotFoundError(f"stimulus {stimulus['stimulus_id']!r}: no sound file {str(stimulus['audio'])!r}.")

    def read(stimulus):
        wave, own_rate = read_sound(stimulus["audio"], *clip_window(stimulus))
        return resample(wave, own_rate, rate)

    return refuse_bad(stimuli, read, "Replace the file, or leave them out.")


def count_heard(stimulus: Mapping, rate: int) -> int:
    """Return how many samples `open_waves` gives for a stimulus, mostly without reading them."""
    count, own_rate = count_samples(stimulus["audio"], *clip_window(stimulus))
    return -(-count * rate // own_rate)  # as the polyphase filter counts


def tile_times(count: int, step: float, middle: float) -> np.ndarray:
    """Return where tokens begin and end that are one `step` long and follow one another; (token, 2), in seconds.

    Parameters
    ----------
    count : int
    step : float
    middle : float
        The middle of the first.

    Examples
    --------
    >>> tile_times(2, 0.5, 1.0).tolist()
    [[0.75, 1.25], [1.25, 1.75]]
    """
    edges = middle + (np.arange(count + 1) - 0.5) * step
    return np.stack([edges[:-1], edges[1:]], axis=1)


def resample(wave: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Change the sampling rate (polyphase filter).

    Examples
    --------
    >>> len(resample(np.zeros(441, np.float32), 44100, 16000))
    160
    """
    if rate == target:
        return wave
    from scipy.signal import resample_poly

    factor = gcd(rate, target)
    return resample_poly(wave, target // factor, rate // factor).astype(np.float32)


def _check_window(stimulus: Mapping) -> None:
    (start, stop), info = clip_window(stimulus), probe_sound(stimulus["audio"])
    stop = info.duration if stop is None else stop
    if start >= info.duration or stop > info.duration + info.slack + 0.5 / info.rate:
        raise ValueError(f"the window from {start:g} to {stop:g} s lies beyond the end of the sound, "
                         f"{info.duration:g} s.")
