"""Dual encoders: an image tower and a text tower that meet in one space (CLIP, SigLIP, ALIGN)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel
from neuroalign.models.base import Family
from neuroalign.models.blocks import has_module, tower_layers
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import HAS
from neuroalign.models.text import has_text, load_text_input
from neuroalign.models.vision_transformer import count_special, image_streams, patch_masks

__all__ = ["DualEncoder"]

NAMES = {"image": "an image", "audio": "a sound", "video": "a video", "text": "a text"}
TEXT_TENSORS = ("input_ids", "attention_mask")


class DualEncoder(Family):
    """Towers ``image`` and ``text``; a stimulus that lacks one modality runs through the other tower alone.

    The pooled and projected vectors of both towers are layers too (``visual_projection``, ``text_projection``).
    """

    family = "dual_encoder"
    version = 1
    modalities = ("image", "text")
    model_types = ("clip", "siglip", "align", "vision-text-dual-encoder")
    pooled: Mapping[str, tuple[str, ...]] = {
        "image": ("visual_projection", "vision_model.head", "vision_model.pooler"),
        "text": ("text_projection", "text_model.head"),
    }

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side."""
        text = config.text_config
        # SigLIP was trained on captions padded to a fixed length, attends to the padding and pools the last token.
        pad_to = text.max_position_embeddings if config.model_type == "siglip" else None
        return {
            "text": load_text_input(source.tokenizer(), text, pad_to=pad_to),
            "image": load_image_input(source.folder),
        }

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the towers whose modality the stimulus has."""
        return tuple(m for m in self.modalities if HAS[m](stimulus))

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for stimuli with neither modality, and for what is wrong with an image or a text."""
        neither = [s["stimulus_id"] for s in stimuli if not self.towers(model, s)]
        if neither:
            both = " nor ".join(NAMES[m] for m in self.modalities)
            raise BadStimuli(f"neither {both}, and this model reads both.", neither, "Leave them out.")
        for tower in self.modalities:
            model.processors[tower].check([s for s in stimuli if tower in self.towers(model, s)])

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return about how many tokens the text has; images have one size."""
        return model.processors["text"].length(stimulus) if has_text(stimulus) else 1

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Prepare both towers; the stimuli of a batch must have the same modalities."""
        towers = {self.towers(model, s) for s in stimuli}
        if len(towers) > 1:
            raise ValueError(
                f"prepare: the stimuli of one batch have different modalities {sorted(towers)}; batch those with the "
                "same `towers` together."
            )
        inputs = Inputs({}, {}, {})
        for tower in next(iter(towers)):
            own = self.read(model, tower, stimuli)
            inputs.tensors |= own.tensors
            inputs.streams |= own.streams
            inputs.offsets |= own.offsets
        return inputs

    def read(self, model: LoadedModel, tower: str, stimuli: Sequence[Mapping]) -> Inputs:
        """Prepare one tower."""
        if tower == "text":
            coded = model.processors["text"].encode(stimuli)
            tensors, masks, offsets = model.processors["text"].batch(coded, model.device)
            return Inputs(tensors, {"text": masks}, {"text": offsets})
        tensors, masks = self.perceive(model, stimuli)
        return Inputs(tensors, {tower: masks})

    def perceive(self, model: LoadedModel, stimuli: Sequence[Mapping]):
        """Return the tensors and the streams of the tower that is not the text's."""
        pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
        return {"pixel_values": pixels}, self.image_masks(model, pixels)

    def image_masks(self, model: LoadedModel, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the streams of a batch of images."""
        return patch_masks(model.module.config.vision_config, pixels)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run each tower that has input, with its projection; returns {tower: output of the tower}."""
        outputs = {}
        for tower in inputs.streams:
            names = [n for n in inputs.tensors if (n in TEXT_TENSORS) == (tower == "text")]
            features = getattr(model.module, f"get_{tower}_features")
            outputs[tower] = features(**{n: inputs.tensors[n] for n in names})
        return outputs

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, blocks and projection of the image tower, then of the text tower."""
        module, vision, text = model.module, model.module.config.vision_config, model.module.config.text_config
        towers = {
            "image": (vision, image_streams(vision), count_special(vision) is not None, "vision_model."),
            "text": (text, model.processors["text"].streams, True, "text_model."),
        }
        layers = []
        for tower, (config, streams, masked, prefix) in towers.items():
            options = {"taps": taps, "prefix": prefix, "masked": masked}
            layers += tower_layers(module, config.model_type, tower, streams, **options)
            pooled = next((p for p in self.pooled[tower] if has_module(module, p)), None)
            if pooled is not None and "block" in taps:
                layers.append(Layer(pooled, 1.0, tower, (tower, "all"), masked=False))
        return layers
