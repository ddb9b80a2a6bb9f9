"""Vision transformers: ViT and its kin."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import block_layers, find_blocks
from neuroalign.models.cnn import FeatureMaps
from neuroalign.models.images import IMAGE_STREAMS, load_image_input

__all__ = ["VisionTransformer", "count_special", "patch_masks"]


class VisionTransformer(FeatureMaps):
    """Streams ``image`` (patches), ``special`` ([CLS], distillation and register tokens), ``all``."""

    family = "vision_transformer"
    version = 1
    blocks: Mapping[str, tuple[str, ...]] = {
        "vit": ("layers", "encoder.layer"),
        "deit": ("layers", "encoder.layer"),
        "beit": ("layers", "encoder.layer"),
        "dinov2": ("encoder.layer", "layers"),
        "dinov2_with_registers": ("encoder.layer", "layers"),
    }

    def load_processors(self, source, config) -> dict:
        """Return the image side."""
        return {"image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, the blocks, and the pooled vector where it was trained."""
        config = model.module.config
        path, count = find_blocks(model.module, self.blocks[config.model_type])
        layers = block_layers(path, count, "image", image_streams(config))
        if getattr(model.module, "pooler", None) is not None and "pooler" not in model.untrained:
            layers.append(Layer("pooler", 1.0, "image", ("image", "all"), masked=False))
        return layers

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Open and process the images; the streams follow from their size."""
        pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
        return Inputs({"pixel_values": pixels}, {"image": patch_masks(model.module.config, pixels)})

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model."""
        return model.module(**inputs.tensors)


def count_special(config) -> int:
    """Return how many special tokens stand before the patches."""
    fixed = {"vit": 1, "deit": 2, "beit": 1, "dinov2": 1, "clip_vision_model": 1, "siglip_vision_model": 0}
    if config.model_type in fixed:
        return fixed[config.model_type]
    return 1 + config.num_register_tokens


def image_streams(config) -> tuple[str, ...]:
    """Return the streams of a vision transformer: without ``special`` where it has no such token."""
    return IMAGE_STREAMS if count_special(config) else ("image", "all")


def patch_masks(config, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the streams of a batch of images, each (batch, token)."""
    special = count_special(config)
    patches = (pixels.shape[-2] // config.patch_size) * (pixels.shape[-1] // config.patch_size)
    everything = torch.ones(len(pixels), special + patches, dtype=torch.bool, device=pixels.device)
    image = everything.clone()
    image[:, :special] = False
    return {"image": image, "special": ~image, "all": everything}
