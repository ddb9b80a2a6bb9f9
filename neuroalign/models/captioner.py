"""Captioners: BLIP (the text reads the picture by cross-attention) and GIT (the picture stands before the text)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.base import widen_initialisation
from neuroalign.models.blocks import tower_layers
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import Multimodal, prefixed_masks
from neuroalign.models.text import load_text_input

__all__ = ["BlipCaptioner", "Git"]

FUSED = ("image", "text", "special", "all")


class BlipCaptioner(Multimodal):
    """Towers ``image`` (the vision encoder) and ``decoder`` (the text, which reads the picture)."""

    family = "blip_captioner"
    version = 1
    model_types = ("blip",)
    routes: Mapping = {("image", "text"): ("image", "decoder"), ("image",): ("image",)}

    def auto_class(self, config) -> str:
        """Return the class of transformers that loads a configuration."""
        return "BlipForConditionalGeneration"

    def configure(self, config) -> None:
        """Let the vision encoder of a random twin have weights."""
        widen_initialisation(config.vision_config)

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side."""
        text = load_text_input(source.tokenizer(), config.text_config)
        return {"text": text, "image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and blocks of the vision encoder, then of the decoder."""
        image = tower_layers(model.module, "blip_vision_model", "image", ("image", "special", "all"), taps=taps,
                             prefix="vision_model.")
        streams = model.processors["text"].streams
        return image + tower_layers(model.module, "bert", "decoder", streams, taps=taps, prefix="text_decoder.bert.")

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Prepare the towers that run."""
        pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
        tensors, streams, offsets = {"pixel_values": pixels}, {"image": _patches(model, pixels)}, {}
        if "text" in self.present(stimuli[0]):
            side = model.processors["text"]
            text, streams["decoder"], offsets["decoder"] = side.batch(side.encode(stimuli), model.device)
            tensors |= text
        return Inputs(tensors, streams, offsets)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the vision encoder, and the decoder if there is a text."""
        if "decoder" in inputs.streams:
            return model.module(**inputs.tensors)
        return model.module.vision_model(inputs.tensors["pixel_values"])


class Git(Multimodal):
    """Towers ``image`` (the vision encoder) and ``fusion`` over [picture, text]; no placeholders in the text."""

    family = "git"
    version = 1
    model_types = ("git",)
    routes: Mapping = {("image", "text"): ("image", "fusion"), ("text",): ("fusion",)}

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side."""
        return {"text": load_text_input(source.tokenizer(), config), "image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and blocks of the vision encoder, then of the decoder over both."""
        image = tower_layers(model.module, "git_vision_model", "image", ("image", "special", "all"), taps=taps,
                             prefix="image_encoder.")
        return image + tower_layers(model.module, "bert", "fusion", FUSED, taps=taps)

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Tokenise, process the pictures; all tokens of the vision encoder, its CLS too, precede the text."""
        side = model.processors["text"]
        tensors, text, offsets = side.batch(side.encode(stimuli), model.device)
        none = torch.zeros(len(stimuli), 0, dtype=torch.bool, device=model.device)
        picture, streams = {"image": none, "special": none, "all": none}, {}
        if "image" in self.present(stimuli[0]):
            tensors["pixel_values"] = model.processors["image"].batch(stimuli, model.device, model.dtype)
            picture = streams["image"] = _patches(model, tensors["pixel_values"])
        lead = picture["all"].shape[1]
        streams["fusion"] = {
            "image": torch.cat([picture["image"], torch.zeros_like(text["text"])], 1),
            "text": torch.cat([torch.zeros_like(picture["all"]), text["text"]], 1),
            "special": torch.cat([picture["special"], text["special"]], 1),
            "all": torch.cat([picture["all"], text["all"]], 1),
        }
        return Inputs(tensors, streams, {"fusion": [[(0, 0)] * lead + spans for spans in offsets]})

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model; nothing is cached for generation."""
        return model.module(**inputs.tensors, use_cache=False)


def _patches(model: LoadedModel, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the streams of a vision encoder with one CLS."""
    patch = model.module.config.vision_config.patch_size
    return prefixed_masks(len(pixels), 1, (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch), model.device)
