"""Video encoders: VideoMAE, TimeSformer, V-JEPA 2; tokens in order of time, then of place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.base import Family
from neuroalign.models.blocks import tower_layers
from neuroalign.models.frames import VideoInput
from neuroalign.models.multimodal import prefixed_masks

__all__ = ["VideoEncoder", "load_video_input"]


class VideoEncoder(Family):
    """One tower, ``video``; TimeSformer, whose tokens go place by place, is put in order of time like the others."""

    family = "video_encoder"
    version = 2  # the frames of animated pictures are taken by their times
    modalities = ("video",)
    model_types = ("videomae", "timesformer", "vjepa2")

    def load_processors(self, source, config) -> dict:
        """Return the video side; the processors of videos need torchvision, that of VideoMAE's frames does not."""
        from transformers import VideoMAEImageProcessorPil

        if config.model_type == "vjepa2":
            side = config.crop_size
            processor = VideoMAEImageProcessorPil(
                size={"shortest_edge": side * 256 // 224}, crop_size={"height": side, "width": side},
                image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
            )  # fmt: skip
            return {"video": load_video_input(config.frames_per_clip, processor)}
        processor = VideoMAEImageProcessorPil.from_pretrained(source.folder, local_files_only=True)
        return {"video": load_video_input(config.num_frames, processor)}

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the one tower."""
        return ("video",)

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise for absent videos and missing files."""
        model.processors["video"].check(stimuli)

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return about how many tokens a video has, all alike."""
        return 196 * model.processors["video"].count

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and the blocks."""
        kind = model.module.config.model_type
        streams = ("video", "special", "all") if kind == "timesformer" else ("video", "all")
        return tower_layers(model.module, kind, "video", streams, taps=taps)

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Read the frames that the model sees."""
        config = model.module.config
        pixels = model.processors["video"].batch(stimuli, model.device, model.dtype)
        tokens = pixels.shape[1] // _depth(config) * _places(config, *pixels.shape[-2:])
        special = int(config.model_type == "timesformer")
        name = "pixel_values_videos" if config.model_type == "vjepa2" else "pixel_values"
        masks = prefixed_masks(len(pixels), special, tokens, model.device, "video")
        return Inputs({name: pixels}, {"video": masks})

    def times(self, model: LoadedModel, layer: Layer, stimulus: Mapping) -> np.ndarray:
        """Return the seconds that the patches of each tubelet stand for."""
        config = model.module.config
        side = config.crop_size if config.model_type == "vjepa2" else config.image_size
        return model.processors["video"].times(stimulus, _depth(config), _places(config, side, side))

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the encoder (of V-JEPA 2 without its predictor)."""
        more = {"skip_predictor": True} if model.module.config.model_type == "vjepa2" else {}
        return model.module(**inputs.tensors, **more)

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature), frame by frame."""
        tokens = super().tokens(model, layer, raw)
        if model.module.config.model_type != "timesformer":
            return tokens
        frames = model.module.config.num_frames
        patches = tokens[:, 1:].unflatten(1, (-1, frames)).transpose(1, 2).flatten(1, 2)
        return torch.cat([tokens[:, :1], patches], 1)


def load_video_input(count: int, processor) -> VideoInput:
    """Return the video side of a model that sees `count` frames, from the processor of frames."""

    def process(frames):
        return processor(frames, return_tensors="pt")["pixel_values"]

    return VideoInput(process, count, processor.to_dict())


def _depth(config) -> int:
    """Return how many frames one token holds."""
    return getattr(config, "tubelet_size", 1)


def _places(config, height: int, width: int) -> int:
    """Return how many patches a frame has."""
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    return (height // patch) * (width // patch)
