"""SLIP, CLIP and SimCLR trained alike on one data set: the checkpoints of facebookresearch/SLIP.

Vision transformers of timm, beside the text transformer of CLIP. SimCLR has no text tower. The head that the
self-supervised loss was computed on (``image_mlp``) is left out: it is no part of the encoder.
"""

import gzip
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.cnn import FeatureMaps
from neuroalign.models.dual_encoder import DualEncoder
from neuroalign.models.images import ImageInput
from neuroalign.models.published import (
    BadCheckpoint,
    count_blocks,
    count_heads,
    fill,
    pairs,
    read_state,
    rename,
    timm_names,
    vit_config,
)
from neuroalign.models.text import load_text_input
from neuroalign.models.vision_transformer import image_streams, patch_masks

__all__ = ["SimCLR", "Slip", "SlipModule", "clip_tokenizer", "load_slip"]

MERGES = "bpe_simple_vocab_16e6.txt.gz"
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IGNORED = ("logit_scale", "image_mlp.")


class SlipModule(nn.Module):
    """Towers ``vision_model`` and ``text_model``, and the projections into the space where they meet.

    SimCLR has the vision tower alone.
    """

    def __init__(self, config):
        import transformers

        super().__init__()
        self.config = config
        vision = getattr(config, "vision_config", config)
        self.vision_model = transformers.ViTModel(vision, add_pooling_layer=False)
        if vision is not config:
            text = config.text_config
            self.text_model = transformers.CLIPTextModel(text)
            self.visual_projection = nn.Linear(vision.hidden_size, config.projection_dim, bias=False)
            self.text_projection = nn.Linear(text.hidden_size, config.projection_dim, bias=False)
            nn.init.normal_(self.visual_projection.weight, std=vision.hidden_size**-0.5)
            nn.init.normal_(self.text_projection.weight, std=text.hidden_size**-0.5)

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return projected [CLS] vectors, (batch, projection)."""
        return self.visual_projection(self.vision_model(pixel_values).last_hidden_state[:, 0])

    def get_text_features(self, **tensors) -> torch.Tensor:
        """Return projected vectors of the end of the text, (batch, projection)."""
        return self.text_projection(self.text_model(**tensors).pooler_output)


class Slip(DualEncoder):
    """SLIP and CLIP: towers ``image`` and ``text``."""

    family = "slip"
    version = 1
    model_types = ()


class SimCLR(FeatureMaps):
    """SimCLR: the image tower, with the layer names that it has in SLIP and CLIP."""

    family = "slip"
    version = 1

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and the blocks."""
        streams = image_streams(model.module.config)
        return tower_layers(model.module, "vit", "image", streams, taps=taps, prefix="vision_model.")

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Open and process the images."""
        pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
        return Inputs({"pixel_values": pixels}, {"image": patch_masks(model.module.config, pixels)})

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the vision tower."""
        return model.module.vision_model(**inputs.tensors)


def load_slip(path: Path, seed_with: Callable | None = None):
    """Return module, adapter and processors of a checkpoint of the SLIP repository.

    The merges of its tokenizer, which are a file of that repository, lie beside the checkpoint.

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
    depth, has_text = count_blocks(state, "visual.blocks."), any(k.startswith("transformer.") for k in state)
    names = timm_names(depth, "visual.", "vision_model.")
    if has_text:
        names |= _text_names(count_blocks(state, "transformer.resblocks."))
    weights = rename(state, names, IGNORED, path)
    config = _config(state, depth, has_text)
    if has_text:  # they multiply from the right
        weights |= {f"{our}_projection.weight": state[f"{their}_projection"].T
                    for our, their in (("visual", "image"), ("text", "text"))}  # fmt: skip
    make = partial(SlipModule, config)
    module = seed_with(make) if seed_with else fill(make, weights, path)
    size = getattr(config, "vision_config", config).image_size
    processors = {"image": _image_input(size)}
    if not has_text:
        return module, SimCLR(), processors
    tokenizer = clip_tokenizer(path.with_name(MERGES), config.text_config.vocab_size)
    return module, Slip(), {"text": load_text_input(tokenizer, config.text_config), **processors}


def clip_tokenizer(path: Path, size: int):
    """Return the tokenizer of CLIP from the file of its merges.

    Parameters
    ----------
    path : path
        A gzipped text: one line about the file, then one merge a line, the most frequent first.
    size : int
        Size of the vocabulary: 256 bytes, the same at the end of a word, the merges, and two special tokens.
    """
    import transformers

    if not path.is_file():
        raise FileNotFoundError(
            f"no file {str(path)!r}: put {path.name!r} of the SLIP repository beside the checkpoint."
        )
    with gzip.open(path, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : size - 513]]
    if len(merges) != size - 514 or not all(len(merge) == 2 for merge in merges):
        raise BadCheckpoint(f"{str(path)!r}: {len(merges)} merges, expected {size - 514} for the {size} tokens of the "
                            "checkpoint. It is the file of another tokenizer.")
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that are letters by themselves
    letters = [*map(chr, plain), *(chr(256 + i) for i in range(256 - len(plain)))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    ids = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return transformers.CLIPTokenizer(vocab=ids, merges=merges)


def _text_names(depth: int) -> dict[str, tuple[str, ...]]:
    """Return the names of the text transformer of CLIP, and of `transformers.CLIPTextModel`."""
    names = {
        "token_embedding.weight": ("text_model.embeddings.token_embedding.weight",),
        "positional_embedding": ("text_model.embeddings.position_embedding.weight",),
        "image_projection": ("visual_projection.weight",),
        "text_projection": ("text_projection.weight",),
    }
    modules = {"ln_final": "text_model.final_layer_norm"}
    for i in range(depth):
        theirs, ours = f"transformer.resblocks.{i}.", f"text_model.encoder.layers.{i}."
        joint = {part: tuple(f"{ours}self_attn.{x}_proj.{part}" for x in "qkv") for part in ("weight", "bias")}
        names |= {f"{theirs}attn.in_proj_{part}": parts for part, parts in joint.items()}
        inner = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2",
                 "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}  # fmt: skip
        modules |= {theirs + key: ours + our for key, our in inner.items()}
    return names | pairs(modules)


def _config(state: Mapping[str, torch.Tensor], depth: int, has_text: bool):
    """Return the configuration of the vision tower, or of both."""
    import transformers

    vision = vit_config(state, "visual.", depth)
    if not has_text:
        return vision
    size, width = state["token_embedding.weight"].shape
    text = transformers.CLIPTextConfig(
        vocab_size=size, hidden_size=width, num_hidden_layers=count_blocks(state, "transformer.resblocks."),
        num_attention_heads=count_heads(width), max_position_embeddings=len(state["positional_embedding"]),
        intermediate_size=len(state["transformer.resblocks.0.mlp.c_fc.weight"]), hidden_act="quick_gelu",
        layer_norm_eps=1e-5, bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
    )  # fmt: skip
    make = transformers.VisionTextDualEncoderConfig.from_vision_text_configs
    return make(vision, text, projection_dim=state["text_projection"].shape[1])


def _image_input(size: int) -> ImageInput:
    """Return the image side: the shorter edge to the size, the middle, colours as for ImageNet."""
    import transformers

    square = {"height": size, "width": size}
    return ImageInput.of(transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size=square, resample=2, image_mean=MEAN, image_std=SD,
    ))  # fmt: skip
