"""Convolutional networks: their feature maps, and the pooled vector."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import find_blocks, has_module, to_tokens
from neuroalign.models.images import load_image_input

__all__ = ["CNN", "FeatureMaps"]


class FeatureMaps:
    """What models of images without special tokens share: all positions are in ``image`` and in ``all``."""

    modalities = ("image",)

    def auto_class(self, config) -> str:
        """Return the class of transformers that loads a configuration."""
        return "AutoModel"

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the one tower."""
        return ("image",)

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise for absent images and missing files."""
        model.processors["image"].check(stimuli)

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return 1: images have one size."""
        return 1

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Open and process the images."""
        pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
        return Inputs({"pixel_values": pixels}, {"image": {}})

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model."""
        return model.module(**inputs.tensors)

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, position, channel)."""
        return to_tokens(raw)


class CNN(FeatureMaps):
    """ResNet, ConvNeXt, RegNet, EfficientNet: every block of every stage, and the pooled vector."""

    family = "cnn"
    version = 1
    blocks: Mapping[str, tuple[str, ...]] = {
        "resnet": ("encoder.stages",),
        "regnet": ("encoder.stages",),
        "convnext": ("encoder.stages",),
        "convnextv2": ("encoder.stages",),
        "efficientnet": ("encoder.blocks",),
    }

    def load_processors(self, source, config) -> dict:
        """Return the image side."""
        return {"image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, the blocks and the pooled vector."""
        return map_layers(model, self.blocks[model.module.config.model_type])


def map_layers(model: LoadedModel, candidates: Sequence[str], prefix: str = "") -> list[Layer]:
    """Return the layers of a convolutional network, which may be a tower of a larger module."""
    path, count = find_blocks(model.module, [prefix + c for c in candidates])
    paths = [f"{path}.{i}" for i in range(count)]
    if has_module(model.module, f"{path}.0.layers"):
        paths = [f"{p}.layers.{i}" for p in paths for i in range(len(model.module.get_submodule(f"{p}.layers")))]
    streams = ("image", "all")
    layers = [Layer(f"{path}.0", 0.0, "image", streams, "input", masked=False)]
    layers += [Layer(p, (i + 1) / len(paths), "image", streams, masked=False) for i, p in enumerate(paths)]
    for pooled in ("pooler", "layernorm"):
        if has_module(model.module, prefix + pooled) and prefix + pooled not in model.untrained:
            layers.append(Layer(prefix + pooled, 1.0, "image", streams, masked=False))
            break
    return layers
