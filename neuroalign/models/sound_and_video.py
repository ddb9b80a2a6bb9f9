"""Dual encoders of sound and text (CLAP), and of video and text (X-CLIP)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from neuroalign.models.adapter import BadStimuli, Layer, LoadedModel
from neuroalign.models.blocks import join_stacks, tower_layers
from neuroalign.models.dual_encoder import DualEncoder
from neuroalign.models.multimodal import prefixed_masks
from neuroalign.models.text import load_text_input
from neuroalign.models.video import load_video_input
from neuroalign.models.waves import load_audio_input

__all__ = ["Clap", "XClip"]


class Clap(DualEncoder):
    """Towers ``audio`` (a Swin over the spectrogram, whose grid of tokens has no padding) and ``text``.

    The feature extractor of transformers draws at random which part of a long sound is heard, and marks one sound of a
    batch as long where none is. Here no sound is: a sound that is longer than the model hears at once is refused, and
    a shorter one is repeated until its length is reached, as the model was trained.
    """

    family = "sound_text_encoder"
    version = 1
    modalities = ("audio", "text")
    model_types = ("clap",)

    def load_processors(self, source, config) -> dict:
        """Return the text and the sound side."""
        text = load_text_input(source.tokenizer(), config.text_config)
        return {"text": text, "audio": load_audio_input(source.folder)}

    def perceive(self, model: LoadedModel, stimuli: Sequence[Mapping]):
        """Return the spectrograms; the tower has no masks."""
        side = model.processors["audio"]
        waves = side.open(stimuli)
        long = [s["stimulus_id"] for s, w in zip(stimuli, waves) if len(w) > side.settings["nb_max_samples"]]
        if long:
            seconds = side.settings["max_length_s"]
            raise BadStimuli(f"the sound is longer than the {seconds:g} s that the model hears at once.", long,
                             "Cut it into clips.")
        features = side.process(waves)["input_features"].to(model.device, model.dtype)
        none = torch.zeros(len(waves), 1, dtype=torch.bool, device=model.device)
        return {"input_features": features, "is_longer": none}, {}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, blocks and projection of the sound tower, then of the text tower."""
        text = model.processors["text"].streams
        audio = tower_layers(model.module, "clap_audio", "audio", ("audio", "all"), taps=taps, prefix="audio_model.",
                             masked=False)
        words = tower_layers(model.module, "bert", "text", text, taps=taps, prefix="text_model.")
        if "block" not in taps:
            return audio + words
        return [*audio, Layer("audio_projection", 1.0, "audio", ("audio", "all"), masked=False),
                *words, Layer("text_projection", 1.0, "text", ("text", "all"), masked=False)]  # fmt: skip


class XClip(DualEncoder):
    """Towers ``video`` (frames that send each other messages, then a transformer over frames) and ``text``.

    The tokens of the frames stand in order of time, each frame with its CLS (stream ``special``). In the layers of
    ``mit`` one token is one frame; the mean over those of ``mit`` itself is the embedding of the video.
    """

    family = "video_text_encoder"
    version = 1
    modalities = ("video", "text")
    model_types = ("xclip",)

    def load_processors(self, source, config) -> dict:
        """Return the text and the video side."""
        from transformers import VideoMAEImageProcessorPil

        frames = VideoMAEImageProcessorPil.from_pretrained(source.folder, local_files_only=True)
        return {
            "text": load_text_input(source.tokenizer(), config.text_config),
            "video": load_video_input(config.vision_config.num_frames, frames),
        }

    def perceive(self, model: LoadedModel, stimuli: Sequence[Mapping]):
        """Return the frames that the model sees."""
        config = model.module.config.vision_config
        pixels = model.processors["video"].batch(stimuli, model.device, model.dtype)
        patches = (pixels.shape[-2] // config.patch_size) * (pixels.shape[-1] // config.patch_size)
        one = prefixed_masks(len(pixels), 1, patches, model.device, "video")
        return {"pixel_values": pixels}, {name: mask.repeat(1, config.num_frames) for name, mask in one.items()}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the layers over patches, over frames and the embedding of the video, then those of the text."""
        module, vision, text = model.module, model.module.config.vision_config, model.processors["text"].streams
        over_patches = tower_layers(module, "xclip_vision", "video", ("video", "special", "all"), taps=taps,
                                    prefix="vision_model.")
        over_frames = tower_layers(module, "xclip_vision", "video", ("video", "all"), taps=taps, prefix="mit.",
                                   masked=False)
        video = join_stacks([(vision.num_hidden_layers, over_patches), (vision.mit_num_hidden_layers, over_frames)])
        words = tower_layers(module, "clip_text_model", "text", text, taps=taps, prefix="text_model.")
        if "block" not in taps:
            return video + words
        return [*video, Layer("mit", 1.0, "video", ("video", "all"), masked=False),
                *words, Layer("text_projection", 1.0, "text", ("text", "all"), masked=False)]  # fmt: skip

    def times(self, model: LoadedModel, layer: Layer, stimulus: Mapping) -> np.ndarray | None:
        """Return the seconds that the patches of each frame stand for, or each frame in the layers of ``mit``."""
        if layer.tower != "video" or layer.path == "mit":
            return None
        config = model.module.config.vision_config
        patches = (config.image_size // config.patch_size) ** 2 if layer.path.startswith("vision_model.") else 1
        return model.processors["video"].times(stimulus, 1, patches)

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature); the frames of a video are joined."""
        tokens = super().tokens(model, layer, raw)
        if not layer.path.startswith("vision_model."):
            return tokens
        if layer.path.endswith(".self_attn"):  # it sees the message of the frame as a last token, then dropped
            tokens = tokens[:, :-1]
        return tokens.unflatten(0, (-1, model.module.config.vision_config.num_frames)).flatten(1, 2)
