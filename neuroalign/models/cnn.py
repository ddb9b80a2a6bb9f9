"""Convolutional networks: their feature maps, and the pooled vector."""

from collections.abc import Mapping, Sequence

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.base import Family
from neuroalign.models.blocks import has_module, tower_layers
from neuroalign.models.images import load_image_input

__all__ = ["CNN", "FeatureMaps"]


class FeatureMaps(Family):
    """What models of images without special tokens share: all positions are in ``image`` and in ``all``."""

    modalities = ("image",)

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


class CNN(FeatureMaps):
    """ResNet, ConvNeXt, RegNet, EfficientNet: every block of every stage, and the pooled vector."""

    family = "cnn"
    version = 1
    model_types = ("resnet", "regnet", "convnext", "convnextv2", "efficientnet")

    def load_processors(self, source, config) -> dict:
        """Return the image side."""
        return {"image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, the blocks and the pooled vector."""
        module, streams = model.module, ("image", "all")
        layers = tower_layers(module, module.config.model_type, "image", streams, taps=taps, masked=False)
        pooled = [p for p in ("pooler", "layernorm") if has_module(module, p) and p not in model.untrained]
        return layers + [Layer(p, 1.0, "image", streams, masked=False) for p in pooled[:1] if "block" in taps]
