"""CoCa as open_clip trains and publishes it: an image tower, a text tower, and a captioner that reads both.

The modules have the names that they have in open_clip. The head over the vocabulary is left out.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.images import ImageInput
from neuroalign.models.multimodal import Multimodal, prefixed_masks
from neuroalign.models.published import count_blocks, count_heads, fill, read_state, rename
from neuroalign.models.slip import MERGES, clip_tokenizer
from neuroalign.models.text import TextInput

__all__ = ["Coca", "CocaModule", "load_coca"]

MEAN, SD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
POOLER_HEADS = 8
PROJECTIONS = {"visual.projection.weight": "visual.proj", "text.projection.weight": "text.text_projection"}
IGNORED = ("logit_scale", "logit_bias", "text.attn_mask", "text_decoder.attn_mask", "text_decoder.text_projection")
SIZES = ("visual.conv1.weight", "visual.positional_embedding", "visual.attn_pool.query", "text.token_embedding.weight",
         "text.positional_embedding")  # fmt: skip


class Block(nn.Module):
    """A block of open_clip; a crossing one takes keys and values from a picture."""

    def __init__(self, width: int, crossing: bool = False):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, count_heads(width), batch_first=True)
        if crossing:
            self.ln_1_kv = nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": nn.GELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: torch.Tensor, picture: torch.Tensor | None = None, hidden: torch.Tensor | None = None):
        """Return the residual stream after the block; `hidden` is True where a query does not see a key."""
        query = self.ln_1(x)
        seen = query if picture is None else self.ln_1_kv(picture)
        x = x + self.attn(query, seen, seen, need_weights=False, attn_mask=hidden)[0]
        return x + self.mlp(self.ln_2(x))


class Stack(nn.Module):
    """Blocks one after the other."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """Run them."""
        for block in self.resblocks:
            x = block(x, hidden=hidden)
        return x


class Pooler(nn.Module):
    """Learned queries that read the patches."""

    def __init__(self, queries: int, width: int, seen: int):
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, width))
        self.attn = nn.MultiheadAttention(width, POOLER_HEADS, kdim=seen, vdim=seen, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(seen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, query, feature)."""
        seen = self.ln_k(x)
        return self.attn(self.ln_q(self.query).expand(len(x), -1, -1), seen, seen, need_weights=False)[0]


class Visual(nn.Module):
    """The image tower."""

    def __init__(self, c):
        super().__init__()
        width = c.vision_width
        self.conv1 = nn.Conv2d(3, width, c.patch_size, c.patch_size, bias=False)
        scale, patches = width**-0.5, (c.image_size // c.patch_size) ** 2
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(patches + 1, width))
        self.ln_pre, self.transformer = nn.LayerNorm(width), Stack(width, c.vision_layers)
        self.attn_pool, self.ln_post = Pooler(c.queries, c.projection_dim, width), nn.LayerNorm(c.projection_dim)
        self.projection = nn.Linear(c.projection_dim, c.projection_dim, bias=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what the captioner reads, and run the projection of the first query."""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_post(self.attn_pool(self.transformer(self.ln_pre(x))))
        self.projection(x[:, 0])
        return x[:, 1:]


class Text(nn.Module):
    """The text tower: texts filled up with zeros to a fixed length, and a [CLS] after them."""

    def __init__(self, c):
        super().__init__()
        width = c.text_width
        self.token_embedding = nn.Embedding(c.vocab_size, width)
        self.cls_emb = nn.Parameter(0.01 * torch.randn(width))
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(c.context + 1, width))
        self.transformer, self.ln_final = Stack(width, c.text_layers), nn.LayerNorm(width)
        self.projection = nn.Linear(width, c.projection_dim, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return what the captioner reads, and run the projection of [CLS]."""
        x = torch.cat([self.token_embedding(ids), self.cls_emb.expand(len(ids), 1, -1)], 1) + self.positional_embedding
        # The published weights were trained with the mask of the filling shifted by one place.
        filled = torch.cat([torch.zeros_like(ids[:, :1], dtype=torch.bool), ids == 0], 1)
        hidden = (_later(x.shape[1], x.device) | filled[:, None]).repeat_interleave(count_heads(x.shape[2]), 0)
        x = self.transformer(x, hidden)
        self.projection(self.ln_final(x[:, -1]))
        return x[:, :-1]


class Captioner(nn.Module):
    """The captioner: in turn a block over the text and one that reads the picture."""

    def __init__(self, c):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(c.text_width) for _ in range(c.caption_layers))
        self.cross_attn = nn.ModuleList(Block(c.text_width, crossing=True) for _ in range(c.caption_layers))
        self.ln_final = nn.LayerNorm(c.text_width)

    def forward(self, picture: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Return the states that the head over the vocabulary would read."""
        hidden = _later(text.shape[1], text.device)
        for block, crossing in zip(self.resblocks, self.cross_attn):
            text = crossing(block(text, hidden=hidden), picture)
        return self.ln_final(text)


class CocaModule(nn.Module):
    """Towers ``visual`` and ``text``, and the captioner ``text_decoder``."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.visual, self.text, self.text_decoder = Visual(config), Text(config), Captioner(config)


class Coca(Multimodal):
    """Towers ``image``, ``text`` and ``fusion`` (the text, which reads the picture); each modality runs alone too."""

    family = "coca"
    version = 1
    model_types = ()
    routes: Mapping = {("image", "text"): ("image", "text", "fusion"), ("image",): ("image",), ("text",): ("text",)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return embedding, blocks and projection of both towers, what the captioner reads, and its blocks."""
        layers, streams = [], {"image": ("image", "special", "all"), "text": ("text", "special", "all")}
        ends = {"image": ("visual.", "visual.ln_post", "visual.projection"), "text": ("text.", "text.projection")}
        for tower, (prefix, *pooled) in ends.items():
            layers += tower_layers(model.module, "coca", tower, streams[tower], taps=taps, prefix=prefix)
            if "block" in taps:
                layers += [Layer(path, 1.0, tower, (tower, "all"), masked=False) for path in pooled]
        return layers + self._captioner(model, streams["text"], taps)

    def _captioner(self, model: LoadedModel, streams: Sequence[str], taps: Sequence[str]) -> list[Layer]:
        depth, layers = model.module.config.caption_layers, []
        for half, layout in enumerate(("coca", "coca_crossing")):
            for layer in tower_layers(model.module, layout, "fusion", streams, taps=taps, prefix="text_decoder."):
                block = int(layer.path.split(".")[2])
                within = layer.depth * depth - block
                if half and layer.tap == "input":  # what the first half gives
                    continue
                layers.append(replace(layer, depth=(block + (half + within) / 2) / depth))
        norm = [Layer("text_decoder.ln_final", 1.0, "fusion", streams)] if "norm" in taps else []
        return sorted(layers, key=lambda layer: layer.depth) + norm

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Prepare the towers that run."""
        tensors, streams, offsets, present = {}, {}, {}, self.present(stimuli[0])
        if "image" in present:
            pixels = tensors["pixel_values"] = model.processors["image"].batch(stimuli, model.device, model.dtype)
            patches = len(model.module.visual.positional_embedding) - 1
            streams["image"] = prefixed_masks(len(pixels), 1, patches, model.device)
        if "text" in present:
            side = model.processors["text"]
            coded, text, offsets["text"] = side.batch(side.encode(stimuli), model.device)
            tensors |= coded
            last = torch.ones(len(stimuli), 1, dtype=torch.bool, device=model.device)
            streams["text"] = {k: torch.cat([v, last if k != "text" else ~last], 1) for k, v in text.items()}
            if "image" in present:
                streams["fusion"], offsets["fusion"] = text, offsets["text"]
        return Inputs(tensors, streams, offsets)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the towers that have input, and the captioner if both have."""
        module, states = model.module, {}
        if "image" in inputs.streams:
            states["image"] = module.visual(inputs.tensors["pixel_values"])
        if "text" in inputs.streams:
            states["text"] = module.text(inputs.tensors["input_ids"])
        if "fusion" in inputs.streams:
            states["fusion"] = module.text_decoder(states["image"], states["text"])
        return states


def load_coca(path: Path, seed_with: Callable | None = None):
    """Return module, adapter and processors of a checkpoint of CoCa by open_clip.

    The merges of its tokenizer, which are a file of open_clip, lie beside the checkpoint.

    Parameters
    ----------
    path : path
    seed_with : callable, optional
        A function of a function that makes the module; gives the random twin instead.

    Raises
    ------
    BadCheckpoint
        See `read_state` and `rename`.
    """
    state = read_state(path)
    rename(state, {key: (key,) for key in SIZES}, ("",), path)  # what tells the sizes is there
    config = _config(state)
    make = partial(CocaModule, config)
    with torch.device("meta"):
        ours = list(make().state_dict())
    weights = rename(state, {PROJECTIONS.get(key, key): (key,) for key in ours}, IGNORED, path)
    weights |= {key: weights[key].T for key in PROJECTIONS}  # they multiply from the right
    module = seed_with(make) if seed_with else fill(make, weights, path)
    tokenizer = clip_tokenizer(path.with_name(MERGES), config.vocab_size)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    text = TextInput(tokenizer, (begin,), (end,), 0, config.context, pad_to=config.context)
    return module, Coca(), {"text": text, "image": _image_input(config.image_size)}


def _config(state: Mapping[str, torch.Tensor]):
    """Return all sizes, from the shapes of the weights."""
    import transformers

    width, _, patch, _ = state["visual.conv1.weight"].shape
    queries, projection = state["visual.attn_pool.query"].shape
    size, text_width = state["text.token_embedding.weight"].shape
    side = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    return transformers.PretrainedConfig(
        vision_width=width, patch_size=patch, image_size=side * patch, queries=queries, projection_dim=projection,
        vision_layers=count_blocks(state, "visual.transformer.resblocks."), vocab_size=size, text_width=text_width,
        text_layers=count_blocks(state, "text.transformer.resblocks."),
        caption_layers=count_blocks(state, "text_decoder.resblocks."),
        context=len(state["text.positional_embedding"]) - 1,
    )  # fmt: skip


def _later(tokens: int, device: torch.device) -> torch.Tensor:
    """Return which keys come after a query, (query, key)."""
    return torch.ones(tokens, tokens, dtype=torch.bool, device=device).triu(1)


def _image_input(size: int) -> ImageInput:
    """Return the image side: the shorter edge to the size, the middle, colours as for CLIP."""
    import transformers

    square = {"height": size, "width": size}
    return ImageInput.of(transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size=square, resample=3, image_mean=MEAN, image_std=SD,
    ))  # fmt: skip
