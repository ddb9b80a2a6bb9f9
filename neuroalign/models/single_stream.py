"""Single-stream fusion: text and patches in one sequence (ViLT), or after towers of their own (FLAVA)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import interpolate

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import Multimodal, images_alone, prefixed_masks
from neuroalign.models.text import load_text_input

__all__ = ["Flava", "Vilt"]

FUSED = ("image", "text", "special", "all")


class Vilt(Multimodal):
    """ViLT: [text, image CLS, patches] in one encoder; its patches stay in row order.

    transformers draws the order of the patches anew in each forward; here they are embedded in row order, each with
    the position it has, so that nothing depends on a draw or on the neighbours in the batch.
    """

    family = "single_stream"
    version = 1
    model_types = ("vilt",)
    routes: Mapping = {("image", "text"): ("fusion",)}

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side."""
        return {"text": load_text_input(source.tokenizer(), config), "image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, the blocks, and the pooled vector where it was trained."""
        layers = tower_layers(model.module, "vilt", "fusion", FUSED, taps=taps)
        has_pooler = model.module.pooler is not None and "pooler" not in model.untrained and "block" in taps
        return [*layers, Layer("pooler", 1.0, "fusion", ("all",), masked=False)] if has_pooler else layers

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Tokenise; process each picture by itself, and fill up to the largest."""
        side = model.processors["text"]
        tensors, text, offsets = side.batch(side.encode(stimuli), model.device)
        pixels = [f["pixel_values"][0] for f in images_alone(model, stimuli)]
        patch = model.module.config.patch_size
        counts = [(p.shape[1] // patch) * (p.shape[2] // patch) for p in pixels]
        real = torch.zeros(len(pixels), max(counts), dtype=torch.bool)
        for row, count in zip(real, counts):
            row[:count] = True
        image = torch.cat([torch.zeros_like(text["text"]), torch.zeros(len(pixels), 1, dtype=torch.bool,
                                                                       device=model.device),
                           real.to(model.device)], dim=1)
        width = image.shape[1] - text["text"].shape[1]
        words, special = (torch.nn.functional.pad(text[k], (0, width)) for k in ("text", "special"))
        special[:, text["text"].shape[1]] = True  # the CLS of the image
        masks = {"image": image, "text": words, "special": special, "all": image | words | special}
        tensors |= {f"pixels{i}": p[None].to(model.device, model.dtype) for i, p in enumerate(pixels)}
        return Inputs(tensors, {"fusion": masks}, {"fusion": offsets})

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Embed the patches in row order, then run the model."""
        tensors = dict(inputs.tensors)
        pixels = [tensors.pop(k) for k in list(tensors) if k.startswith("pixels")]
        rows = [_embed(model.module.embeddings, p)[0] for p in pixels]
        mask = inputs.streams["fusion"]["all"][:, tensors["input_ids"].shape[1]:].long()
        embedded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return model.module(**tensors, image_embeds=embedded, pixel_mask=mask)


class Flava(Multimodal):
    """FLAVA: towers ``image`` and ``text``, and ``fusion`` over [CLS, image CLS, patches, text] for pairs."""

    family = "two_towers_and_fusion"
    version = 1
    model_types = ("flava",)
    routes: Mapping = {
        ("image", "text"): ("image", "text", "fusion"), ("image",): ("image",), ("text",): ("text",),
    }  # fmt: skip

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side."""
        text = load_text_input(source.tokenizer(), config.text_config)
        return {"text": text, "image": load_image_input(source.folder, return_codebook_pixels=False)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and blocks of the image tower, the text tower and the fusion encoder."""
        text = model.processors["text"].streams
        streams = {"image": ("image", "special", "all"), "text": text, "multimodal": FUSED}
        return [
            layer
            for part, names in streams.items()
            for layer in tower_layers(model.module, "flava", "fusion" if part == "multimodal" else part, names,
                                      taps=taps, prefix=f"{part}_model.")
        ]

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Prepare the towers that run."""
        tensors, streams, offsets = {}, {}, {}
        present = self.present(stimuli[0])
        if "text" in present:
            side = model.processors["text"]
            tensors, streams["text"], offsets["text"] = side.batch(side.encode(stimuli), model.device)
        if "image" in present:
            pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
            patch = model.module.config.image_config.patch_size
            count = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
            streams["image"] = prefixed_masks(len(stimuli), 1, count, model.device)
            tensors["pixel_values"] = pixels
        if len(present) == 2:
            before = int(model.module.config.multimodal_config.use_cls_token)
            streams["fusion"] = _join(streams["image"], streams["text"], before)
            lead = [(0, 0)] * (before + streams["image"]["all"].shape[1])
            offsets["fusion"] = [lead + spans for spans in offsets["text"]]
        return Inputs(tensors, streams, offsets)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the towers that have input, and the fusion encoder if both have."""
        return model.module(**inputs.tensors)


def _embed(embeddings, pixels: torch.Tensor) -> torch.Tensor:
    """Return CLS and patches of a picture in row order, with their positions: (1, 1 + patch, feature)."""
    config = embeddings.config
    grid = embeddings.patch_embeddings(pixels)
    side = config.image_size // config.patch_size
    positions = embeddings.position_embeddings[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    positions = interpolate(positions, size=grid.shape[2:], mode="bilinear", align_corners=True)
    patches = (grid + positions).flatten(2).transpose(1, 2)
    return torch.cat([embeddings.cls_token + embeddings.position_embeddings[:, :1], patches], dim=1)


def _join(image: Mapping, text: Mapping, before: int) -> dict[str, torch.Tensor]:
    """Return the streams of [CLS, image tower, text tower]."""
    lead = torch.ones(len(image["all"]), before, dtype=torch.bool, device=image["all"].device)
    no_image, no_text = torch.zeros_like(image["all"]), torch.zeros_like(text["all"])
    return {
        "image": torch.cat([~lead, image["image"], no_text], 1),
        "text": torch.cat([~lead, no_image, text["text"]], 1),
        "special": torch.cat([lead, image["special"], text["special"]], 1),
        "all": torch.cat([lead, image["all"], text["all"]], 1),
    }

