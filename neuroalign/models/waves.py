"""Sound files to waves: reading, one channel, the sampling rate of a model, and what is wrong with a sound."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from neuroalign.models.adapter import BadStimuli

__all__ = ["AudioInput", "has_file", "load_audio_input", "open_waves", "read_wave", "resample"]


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
    waves = []
    for stimulus in stimuli:
        path = Path(stimulus["audio"])
        if not path.is_file():
            raise FileNotFoundError(f"stimulus {stimulus['stimulus_id']!r}: no sound file {str(path)!r}.")
        try:
            wave, own_rate = read_wave(path)
        except ValueError as error:
            raise BadStimuli(str(error), [stimulus["stimulus_id"]], "Replace the file, or leave them out.") from None
        waves.append(resample(wave, own_rate, rate))
    return waves


def read_wave(path) -> tuple[np.ndarray, int]:
    """Read a WAV file (PCM or float).

    Returns
    -------
    wave : array of float32, shape (sample,)
        Between -1 and 1, the mean over channels.
    rate : int
        Samples a second.

    Raises
    ------
    ValueError
        The file cannot be read, is empty, or has values that are not finite.
    """
    from scipy.io import wavfile

    try:
        rate, data = wavfile.read(path)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"the sound {str(path)!r} cannot be read as a WAV file ({error}). Convert it to 16-bit PCM WAV."
        ) from None
    if data.dtype.kind == "i":
        wave = data.astype(np.float32) / -float(np.iinfo(data.dtype).min)
    elif data.dtype.kind == "u":
        wave = (data.astype(np.float32) - 128) / 128
    else:
        wave = data.astype(np.float32)
    wave = wave.mean(axis=1) if wave.ndim == 2 else wave
    if not len(wave):
        raise ValueError(f"the sound {str(path)!r} holds no samples.")
    if not np.isfinite(wave).all():
        raise ValueError(f"the sound {str(path)!r} has values that are not finite.")
    return wave, int(rate)


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
