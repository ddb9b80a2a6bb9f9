"""Cross-attention MLLMs: some layers of the language model read the picture, whose tokens stand nowhere in the text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import join_stacks, tower_layers
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import Multimodal, Piece, images_alone, join_pieces
from neuroalign.models.text import load_text_input

__all__ = ["Mllama"]

PICTURE = ("image", "special", "all")
TEXT = ("text", "special", "all")


class Mllama(Multimodal):
    """Towers ``image`` (tiles), ``lm``, and ``cross``: the layers of the language model that read the picture.

    A text alone skips the layers of ``cross``; it is the language-only run of the same weights. In a pair one token,
    stream ``special``, stands for the picture before the text. The tiles of a picture stand one after the other; the
    model always sees as many as it can have, and those that a picture lacks are in no stream. What attention and MLP
    give is scaled by a trained gate before it is added in ``cross`` and in the global layers of ``image``. In a random
    twin the gates of ``cross`` are closed, as the architecture is initialised: no picture reaches its text.
    """

    family = "cross_attention_mllm"
    version = 1
    model_types = ("mllama",)
    routes: Mapping = {("image", "text"): ("image", "lm", "cross"), ("image",): ("image",), ("text",): ("lm",)}

    def load_processors(self, source, config) -> dict:
        """Return the text side, with the begin-of-text token in front, and the image side."""
        tokenizer, text = source.tokenizer(), config.get_text_config()
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else text.bos_token_id
        return {"text": load_text_input(tokenizer, text, begin=begin), "image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the local and the global layers of the vision tower, then the layers of the language model."""
        module, vision, crossing = model.module, model.module.config.vision_config, _cross_paths(model)
        above = [tap for tap in taps if tap != "norm"]  # the norm is that of the local layers
        image = join_stacks([
            (count, tower_layers(module, kind, "image", PICTURE, taps=chosen, prefix="vision_model."))
            for kind, count, chosen in (("mllama_vision", vision.num_hidden_layers, taps),
                                        ("mllama_vision_global", vision.num_global_layers, above))
        ])  # fmt: skip
        layers = []
        for layer in tower_layers(module, "decoder", "lm", TEXT, taps=taps, prefix="language_model."):
            if any(layer.path == path or layer.path.startswith(f"{path}.") for path in crossing):
                layer = replace(layer, tower="cross", path=layer.path.replace(".self_attn", ".cross_attn"))
            layers.append(layer)
        return image + layers

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Process each picture by itself; put one token for the picture before each text."""
        present, config = self.present(stimuli[0]), model.module.config
        tensors, streams, offsets, tiles = {}, {}, {}, None
        if "image" in present:
            pictures = images_alone(model, stimuli)
            tiles = torch.tensor([int(f["num_tiles"][0][0]) for f in pictures], device=model.device)
            for name in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask"):
                tensors[name] = torch.cat([f[name] for f in pictures]).to(model.device)
            tensors["pixel_values"] = tensors["pixel_values"].to(model.dtype)
            streams["image"] = _tile_masks(config.vision_config, tiles)
        if "text" in present:
            side = model.processors["text"]
            mark = [Piece("special", [config.image_token_id])] if tiles is not None else []
            rows = [[*mark, Piece("special", side.prefix), Piece("text", ids, spans), Piece("special", side.suffix)]
                    for ids, spans in side.encode(stimuli)]  # fmt: skip
            text, streams["lm"], offsets["lm"] = join_pieces(rows, side.pad_id, model.device, TEXT[:-1])
            tensors |= text
        if len(present) == 2:
            streams["cross"], offsets["cross"] = streams["lm"], offsets["lm"]
            seen = torch.arange(config.vision_config.max_num_tiles, device=model.device) < tiles[:, None]
            tensors["cross_attention_mask"] = (
                seen[:, None, None].expand(-1, tensors["input_ids"].shape[1], -1, -1).long())
        return Inputs(tensors, streams, offsets)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model, or the vision tower for a picture alone; nothing is cached for generation."""
        if "lm" in inputs.streams:
            return model.module(**inputs.tensors, use_cache=False)
        return model.module.vision_model(**inputs.tensors)


def _cross_paths(model: LoadedModel) -> list[str]:
    """Return the paths of the layers of the language model that read the picture."""
    return [f"language_model.layers.{i}" for i in model.module.config.text_config.cross_attention_layers]


def _tile_masks(vision, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the streams of the vision tower: a CLS, the patches, and padding to a multiple of eight in each tile."""
    patches = (vision.image_size // vision.patch_size) ** 2
    width = -(-(1 + patches) // 8) * 8
    place = torch.arange(width, device=tiles.device)
    there = torch.arange(vision.max_num_tiles, device=tiles.device) < tiles[:, None]
    rows = {"image": (place > 0) & (place <= patches), "special": place == 0, "all": place <= patches}
    return {name: (there[:, :, None] & row).flatten(1) for name, row in rows.items()}
