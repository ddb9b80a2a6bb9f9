"""Video files to frames: reading, which frames a model sees, and what is wrong with a video."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence

from neuroalign.models.adapter import BadStimuli
from neuroalign.models.waves import has_file

__all__ = ["VideoInput", "pick_frames", "read_frames"]


@dataclass(frozen=True)
class VideoInput:
    """The video side of a model.

    Attributes
    ----------
    process : callable
        List of RGB frames -> tensor (1, frame, 3, height, width).
    count : int
        Frames that the model sees, spread evenly over the video.
    settings : mapping
        What decides the pixels, for the identity.
    """

    process: Callable[[list[Image.Image]], torch.Tensor]
    count: int
    settings: Mapping

    @property
    def identity(self) -> str:
        """What decides the pixels of a video."""
        content = json.dumps({"count": self.count, **self.settings}, sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def check(self, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for a video that is absent; `FileNotFoundError` for a file that is not there."""
        absent = [s["stimulus_id"] for s in stimuli if not has_file(s, "video")]
        if absent:
            raise BadStimuli("no video, and this model sees videos.", absent,
                             "Give a 'video' column, or leave them out.")
        for stimulus in stimuli:
            if not Path(stimulus["video"]).is_file():
                raise FileNotFoundError(
                    f"stimulus {stimulus['stimulus_id']!r}: no video file {str(stimulus['video'])!r}."
                )

    def batch(self, stimuli: Sequence[Mapping], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Read and process the videos: (batch, frame, 3, height, width)."""
        self.check(stimuli)
        clips = []
        for stimulus in stimuli:
            try:
                frames = read_frames(stimulus["video"])
                clips.append(self.process([frames[i] for i in pick_frames(len(frames), self.count)]))
            except ValueError as error:
                raise BadStimuli(str(error), [stimulus["stimulus_id"]], "Replace it, or leave it out.") from None
        return torch.cat(clips).to(device=device, dtype=dtype)


def read_frames(path) -> list[Image.Image]:
    """Read the frames of a video: an ``.npy`` array (frame, height, width, 3) of uint8, or an animated GIF, PNG, WebP.

    Raises
    ------
    ValueError
        Another kind of file.
    """
    if Path(path).suffix == ".npy":
        array = np.load(path, allow_pickle=False)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
            raise ValueError(f"the video {str(path)!r} is {array.dtype} of shape {array.shape}, expected uint8 "
                             "(frame, height, width, 3).")
        return [Image.fromarray(frame) for frame in array]
    try:
        with Image.open(path) as file:
            return [frame.convert("RGB") for frame in ImageSequence.Iterator(file)]
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the video {str(path)!r} cannot be read ({error}). Save its frames as an .npy array (frame, "
                         "height, width, 3) of uint8.") from None


def pick_frames(total: int, count: int) -> list[int]:
    """Return `count` frames spread evenly over a video, each in the middle of its part.

    Examples
    --------
    >>> pick_frames(8, 4)
    [1, 3, 5, 7]
    """
    if total < count:
        raise ValueError(f"the video has {total} frames, the model sees clips of {count}.")
    return [int((i + 0.5) * total / count) for i in range(count)]
