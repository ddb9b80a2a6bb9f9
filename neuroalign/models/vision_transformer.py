"""Vision transformers: ViT and its kin."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.cnn import FeatureMaps
from neuroalign.models.images import load_image_input

__all__ = ["VisionTransformer", "count_special", "image_streams", "patch_masks"]

# How many special tokens stand before the patches; None where the grid of patches changes from stage to stage.
SPECIAL = {"vit": 1, "deit": 2, "beit": 1, "vit_mae": 1, "dinov2": 1, "clip_vision_model": 1,
           "siglip_vision_model": 0, "swin": None}  # fmt: skip


class VisionTransformer(FeatureMaps):
    """Streams ``image`` (patches), ``special`` ([CLS], distillation and register tokens), ``all``."""

    family = "vision_transformer"
    version = 1
    model_types = ("vit", "deit", "beit", "vit_mae", "dinov2", "dinov2_with_registers", "dinov3_vit", "swin")

    def configure(self, config) -> None:
        """Let a masked autoencoder see all patches; its default hides three in four at random."""
        if config.model_type == "vit_mae":
            config.mask_ratio = 0.0

    def load_processors(self, source, config) -> dict:
        """Return the image side."""
        return {"image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, the blocks, and the pooled vector where it was trained."""
        module, config = model.module, model.module.config
        streams = image_streams(config)
        masked = count_special(config) is not None
        layers = tower_layers(module, config.model_type, "image", streams, taps=taps, masked=masked)
        has_pooler = masked and getattr(module, "pooler", None) is not None and "pooler" not in model.untrained
        return [*layers, Layer("pooler", 1.0, "image", ("image", "all"), masked=False)] if has_pooler else layers

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Open and process the images; the streams follow from their size."""
        pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
        return Inputs({"pixel_values": pixels}, {"image": patch_masks(model.module.config, pixels)})

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model."""
        if model.module.config.model_type == "vit_mae":
            # It sorts the patches by this noise: an increasing row keeps their order.
            patches = inputs.streams["image"]["image"].sum(1).max()
            order = torch.arange(patches, device=model.device, dtype=model.dtype)
            return model.module(**inputs.tensors, noise=order.expand(len(inputs.tensors["pixel_values"]), -1))
        return model.module(**inputs.tensors)


def count_special(config) -> int | None:
    """Return how many special tokens stand before the patches; None where there are no streams."""
    if config.model_type in SPECIAL:
        return SPECIAL[config.model_type]
    return 1 + config.num_register_tokens if hasattr(config, "num_register_tokens") else None


def image_streams(config) -> tuple[str, ...]:
    """Return the streams of an image tower, the default one first: without ``special`` where it has none."""
    return ("image", "special", "all") if count_special(config) else ("image", "all")


def patch_masks(config, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the streams of a batch of images, each (batch, token); none for feature maps."""
    special = count_special(config)
    if special is None:
        return {}
    patches = (pixels.shape[-2] // config.patch_size) * (pixels.shape[-1] // config.patch_size)
    everything = torch.ones(len(pixels), special + patches, dtype=torch.bool, device=pixels.device)
    image = everything.clone()
    image[:, :special] = False
    return {"image": image, "special": ~image, "all": everything}
