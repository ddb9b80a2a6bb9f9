"""Videos to frames: which ones a model sees, when they are shown, and what is wrong with a video."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from neuroalign.data.stimuli import clip_window
from neuroalign.data.videos import VideoInfo, frames_at, probe_video
from neuroalign.models.adapter import BadStimuli, refuse_bad
from neuroalign.models.waves import has_file

__all__ = ["VideoInput"]

ROUNDING = 1e-3  # seconds that a window may pass the end of its film by, and parts of a frame that it may lack


@dataclass(frozen=True)
class VideoInput:
    """The video side of a model.

    Attributes
    ----------
    process : callable
        List of RGB frames -> tensor (1, frame, 3, height, width).
    count : int
        Frames that the model sees: the clip is cut into as many parts, and each gives what is shown in its middle.
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
        """Raise `BadStimuli` for a video that is absent, damaged, shorter than its window or than what the model sees.

        Raises
        ------
        BadStimuli
        FileNotFoundError
            For a file that is not there.
        """
        absent = [s["stimulus_id"] for s in stimuli if not has_file(s, "video")]
        if absent:
            raise BadStimuli("no video, and this model sees videos.", absent,
                             "Give a 'video' column, or leave them out.")
        for stimulus in stimuli:
            if not Path(stimulus["video"]).is_file():
                raise FileNotFoundError(
                    f"stimulus {stimulus['stimulus_id']!r}: no video file {str(stimulus['video'])!r}."
                )
        refuse_bad(stimuli, self._clip, "Give longer ones, or leave them out.")

    def batch(self, stimuli: Sequence[Mapping], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Read and process the videos: (batch, frame, 3, height, width)."""
        self.check(stimuli)
        clips = refuse_bad(stimuli, self._read, "Replace it, or leave it out.")
        return torch.cat(clips).to(device=device, dtype=dtype)

    def times(self, stimulus: Mapping, frames: int, tokens: int) -> np.ndarray:
        """Return the seconds, from the start of the clip, of tokens that stand for some frames each.

        Parameters
        ----------
        stimulus : mapping
        frames : int
            Frames to a token.
        tokens : int
            Tokens of the same frames, which follow one another.

        Returns
        -------
        array of shape (token, 2)

        Raises
        ------
        ValueError
            The frames have no times.
        """
        start, stop, info = self._clip(stimulus)
        if not info.timed:
            raise ValueError("the frames of the video have no times. Give frames a second in a column 'frame_rate'.")
        edges = np.linspace(0, stop - start, self.count + 1)[::frames]
        return np.repeat(np.stack([edges[:-1], edges[1:]], axis=1), tokens, axis=0)

    def _read(self, stimulus: Mapping) -> torch.Tensor:
        start, stop, _ = self._clip(stimulus)
        moments = start + (np.arange(self.count) + 0.5) * (stop - start) / self.count
        frames = frames_at(stimulus["video"], moments.tolist(), _own_rate(stimulus))
        return self.process([Image.fromarray(frame) for frame in frames])

    def _clip(self, stimulus: Mapping) -> tuple[float, float, VideoInfo]:
        """Return the window of a stimulus in its file, in seconds (in frames, where they have no times)."""
        info = probe_video(stimulus["video"], _own_rate(stimulus))
        start, stop = clip_window(stimulus)
        whole = start == 0 and stop is None
        if not whole and not info.timed:
            raise ValueError("a window is given by 'start' and 'stop', and the frames of the video have no times. Give "
                             "frames a second in a column 'frame_rate'.")
        stop = info.duration if stop is None else stop
        if not np.isfinite(stop):
            raise ValueError("the video does not say how long it is. Give its window by 'start' and 'stop', or convert "
                             "it to mp4.")
        if start >= info.duration or stop > info.duration + ROUNDING:
            raise ValueError(f"the window from {start:g} to {stop:g} s lies beyond the end of the video, "
                             f"{info.duration:g} s.")
        count = info.n_frames if whole else int((stop - start) * info.frame_rate + ROUNDING)
        if count < self.count:
            what = "the video" if whole else f"the window from {start:g} to {stop:g} s"
            raise ValueError(f"{what} has {count} frames, the model sees clips of {self.count}.")
        return start, stop, info


def _own_rate(stimulus: Mapping) -> float | None:
    rate = stimulus.get("frame_rate")
    return rate if isinstance(rate, (int, float)) and rate == rate else None
