"""Co-attention: two towers whose last layers read each other, as in BridgeTower."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import Multimodal, prefixed_masks
from neuroalign.models.text import load_text_input

__all__ = ["BridgeTower"]

PICTURE = ("image", "special", "all")


class BridgeTower(Multimodal):
    """Towers ``image`` and ``text``, and above them ``cross_image`` and ``cross_text``, where each reads the other.

    Nothing flows back from the cross-modal layers, so that a tower gives the same with and without the other modality.
    In the cross-modal layers the tap ``attention`` is the attention within the own modality.
    """

    family = "bridge_tower"
    version = 1
    model_types = ("bridgetower",)
    routes: Mapping = {
        ("image", "text"): ("image", "text", "cross_image", "cross_text"), ("image",): ("image",), ("text",): ("text",),
    }  # fmt: skip

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side."""
        text = load_text_input(source.tokenizer(), config.text_config)
        return {"text": text, "image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the layers of both towers, of both cross-modal stacks, and the pooled vectors of these."""
        text = model.processors["text"].streams
        layers = []
        for kind, tower, streams, prefix in (
            ("bridgetower_vision", "image", PICTURE, "vision_model.visual."),
            ("bert", "text", text, "text_model."),
            ("bridgetower_cross_image", "cross_image", PICTURE, ""),
            ("bridgetower_cross_text", "cross_text", text, ""),
        ):
            layers += tower_layers(model.module, kind, tower, streams, taps=taps, prefix=prefix)
        pooled = [Layer(f"cross_modal_{m}_pooler", 1.0, f"cross_{m}", (m, "all"), masked=False)
                  for m in self.modalities]  # fmt: skip
        return layers + (pooled if "block" in taps else [])

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Prepare the towers that run; pictures are cut to one size."""
        tensors, streams, offsets = {}, {}, {}
        present, vision = self.present(stimuli[0]), model.module.config.vision_config
        if "image" in present:
            tensors["pixel_values"] = model.processors["image"].batch(stimuli, model.device, model.dtype)
            count = (vision.image_size // vision.patch_size) ** 2
            streams["image"] = prefixed_masks(len(stimuli), 1, count, model.device)
        if "text" in present:
            side = model.processors["text"]
            text, streams["text"], offsets["text"] = side.batch(side.encode(stimuli), model.device)
            tensors |= text
        if len(present) == 2:
            streams |= {f"cross_{m}": streams[m] for m in present}
            offsets["cross_text"] = offsets["text"]
        return Inputs(tensors, streams, offsets)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the whole model, or the one tower that has input."""
        if "cross_text" in inputs.streams:
            return model.module(**inputs.tensors)
        if "text" in inputs.streams:
            return model.module.text_model(**inputs.tensors)
        return model.module.vision_model(inputs.tensors["pixel_values"])

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature); the image tower works on (token, batch, feature)."""
        tokens = super().tokens(model, layer, raw)
        return tokens.transpose(0, 1) if layer.tower == "image" else tokens
