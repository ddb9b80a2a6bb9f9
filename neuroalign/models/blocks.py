"""Where the blocks of an architecture are, the layers they give, and one shape for what they return."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from neuroalign.errors import check_option
from neuroalign.models.adapter import TAPS, Layer

__all__ = ["LAYOUTS", "Layout", "find_blocks", "has_module", "join_stacks", "to_tokens", "tower_layers"]

WITHIN = {"attention": 1 / 3, "router": 1 / 2, "mlp": 2 / 3}  # depth of the parts of a block, in order of computation


@dataclass(frozen=True)
class Layout:
    """Module paths of an architecture.

    Attributes
    ----------
    blocks : tuple of str
        Candidate paths of the list of blocks (they moved between versions of transformers).
    attention, mlp : str
        Inside a block: what these add to the residual stream, before it is added. "" if there is no such part.
    norm : str
        The final normalisation, "" if there is none.
    norm_of_pooled : bool
        The final normalisation sees the pooled vector alone.
    inner : str
        Inside a stage: its list of blocks, for architectures in stages.
    router : str
        Inside a block: what weighs the experts for each token, in the blocks that have experts.
    """

    blocks: tuple[str, ...]
    attention: str = ""
    mlp: str = ""
    norm: str = ""
    inner: str = ""
    norm_of_pooled: bool = False
    router: str = ""


BERT = Layout(("encoder.layer",), "attention.output.dense", "output.dense")
LLAMA = Layout(("model.layers",), "self_attn", "mlp", "model.norm")
EXPERTS = Layout(("model.layers",), "self_attn", "mlp", "model.norm", router="mlp.gate")
VIT = Layout(("layers", "encoder.layer"), "attention", "mlp", "layernorm")
CLIP_TEXT = Layout(("encoder.layers", "text_model.encoder.layers"), "self_attn", "mlp", "final_layer_norm")
SIGLIP_VISION = Layout(("encoder.layers", "vision_model.encoder.layers"), "self_attn", "mlp", "post_layernorm")
CLIP_VISION = replace(SIGLIP_VISION, norm_of_pooled=True)
STAGES = Layout(("encoder.stages",), inner="layers")
OLD_VIT = Layout(("encoder.layer",), "attention", "output.dense", "layernorm")

LAYOUTS = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "align_text_model": BERT,
    "deberta-v2": BERT,
    "distilbert": Layout(("transformer.layer",), "attention", "ffn"),
    "mpnet": Layout(("encoder.layer",), "attention.attn", "output.dense"),
    "modernbert": Layout(("layers",), "attn", "mlp", "final_norm"),
    "t5": Layout(("encoder.block",), "layer.0.SelfAttention", "layer.1.DenseReluDense", "encoder.final_layer_norm"),
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "olmo": LLAMA,
    "phi3": LLAMA,
    "mixtral": EXPERTS,
    "qwen2_moe": EXPERTS,
    "olmoe": EXPERTS,
    "gpt2": Layout(("transformer.h",), "attn", "mlp", "transformer.ln_f"),
    "opt": Layout(("model.decoder.layers",), "self_attn", norm="model.decoder.final_layer_norm"),
    "gpt_neox": Layout(("gpt_neox.layers",), "attention", "mlp", "gpt_neox.final_layer_norm"),
    "mamba": Layout(("backbone.layers",), norm="backbone.norm_f"),
    "vit": VIT,
    "deit": VIT,
    "beit": VIT,
    "vit_mae": VIT,
    "dinov2": VIT,
    "dinov2_with_registers": VIT,
    "dinov3_vit": Layout(("model.layer", "layer"), "attention", "mlp", "norm"),
    "clip_vision_model": CLIP_VISION,
    "coca": Layout(("transformer.resblocks", "resblocks"), "attn", "mlp"),
    "coca_crossing": Layout(("cross_attn",), "attn", "mlp"),
    "git_vision_model": Layout(("vision_model.encoder.layers",), "self_attn", "mlp", "vision_model.post_layernorm"),
    "siglip_vision_model": SIGLIP_VISION,
    "clip_text_model": CLIP_TEXT,
    "siglip_text_model": CLIP_TEXT,
    "swin": Layout(("encoder.layers",), "attention", "mlp", "layernorm", "blocks"),
    "resnet": STAGES,
    "regnet": STAGES,
    "convnext": STAGES,
    "convnextv2": STAGES,
    "efficientnet": Layout(("encoder.blocks",)),
    "align_vision_model": Layout(("encoder.blocks",)),
    "vilt": OLD_VIT,
    "flava": OLD_VIT,
    "visual_bert": BERT,
    "decoder": Layout(("layers", "model.layers"), "self_attn", "mlp", "norm"),
    "qwen_vision": Layout(("blocks",), "attn", "mlp"),
    "videomae": Layout(("layers", "encoder.layer"), "attention", "output.dense"),
    "timesformer": Layout(("encoder.layer",)),
    "vjepa2": Layout(("encoder.layer",), "attention", "mlp", "encoder.layernorm"),
    "wav2vec2": Layout(("encoder.layers",), "attention", "feed_forward"),
    "hubert": Layout(("encoder.layers",), "attention", "feed_forward"),
    "wavlm": Layout(("encoder.layers",), "attention", "feed_forward"),
    "blip_vision_model": Layout(("encoder.layers",), "self_attn", "mlp"),  # its norm runs twice: tokens, then CLS
    "qformer": Layout(("encoder.layer",), "attention.output.dense", "output_query.dense"),
    # queries and text have MLPs of their own, so that no one module gives what is added to all tokens
    "instructblip_qformer": Layout(("encoder.layer",), "attention.output.dense"),
    "whisper": Layout(("layers",), "self_attn", "fc2", "layer_norm"),
    "idefics3_vision": SIGLIP_VISION,
    "smolvlm_vision": SIGLIP_VISION,
    "janus_vision_model": Layout(("encoder.layers",), "self_attn", "mlp"),  # its norm runs twice, as that of BLIP
    "clap_audio": Layout(("audio_encoder.layers",), mlp="output", norm="audio_encoder.norm", inner="blocks"),
    "xclip_vision": Layout(("encoder.layers",), "self_attn", "mlp"),
    "mllama_vision": Layout(("transformer.layers",), "self_attn", "mlp", "layernorm_post"),
    "mllama_vision_global": Layout(("global_transformer.layers",), "self_attn", "mlp"),
    "bridgetower_vision": Layout(("transformer.resblocks",), "attn", "mlp.c_proj"),
    "bridgetower_cross_image": Layout(("cross_modal_image_layers",), "attention.output.dense", "output.dense"),
    "bridgetower_cross_text": Layout(("cross_modal_text_layers",), "attention.output.dense", "output.dense"),
    "internvl_vision": Layout(("encoder.layer",), "attention", "mlp", "layernorm"),
}


def tower_layers(
    module: nn.Module,
    model_type: str,
    tower: str,
    streams: Sequence[str],
    *,
    taps: Sequence[str] = ("block",),
    prefix: str = "",
    masked: bool = True,
) -> list[Layer]:
    """Return the layers of a tower, in order of computation, with depths 0 to 1.

    Parameters
    ----------
    module : nn.Module
        The whole module.
    model_type : str
        Key of `LAYOUTS`.
    tower, streams, masked
        See `Layer`.
    taps : sequence of {"block", "attention", "router", "mlp", "norm"}
        ``block``: the embedding (input of block 0) and the residual stream after each block; ``attention`` and
        ``mlp``: what these parts of a block add to it; ``router``: the logits of the experts, in the blocks that have
        any; ``norm``: the output of the final normalisation. A tap that the architecture lacks gives no layers.
    prefix : str
        Path of the tower within the module, with its dot.

    Raises
    ------
    ValueError
        An unknown tap.
    """
    layout = LAYOUTS[model_type]
    for tap in taps:
        check_option("taps", tap, TAPS)
    blocks = _block_paths(module, layout, prefix)
    streams = tuple(streams)
    layers = [Layer(blocks[0], 0.0, tower, streams, "input", masked)] if "block" in taps else []
    for i, block in enumerate(blocks):
        for part, within in WITHIN.items():
            path = f"{block}.{getattr(layout, part)}"
            if part in taps and getattr(layout, part) and (part != "router" or has_module(module, path)):
                layers.append(Layer(path, (i + within) / len(blocks), tower, streams, masked=masked))
        if "block" in taps:
            layers.append(Layer(block, (i + 1) / len(blocks), tower, streams, masked=masked))
    if "norm" in taps and layout.norm:
        whole = masked and not layout.norm_of_pooled
        layers.append(Layer(prefix + layout.norm, 1.0, tower, streams if whole else ("all",), masked=whole))
    return layers


def join_stacks(stacks: Sequence[tuple[int, Sequence[Layer]]]) -> list[Layer]:
    """Return the layers of stacks of blocks that follow one another as those of one tower, with depths 0 to 1.

    Parameters
    ----------
    stacks : sequence of (n_blocks, layers)
        As `tower_layers` gives the layers of each.

    Examples
    --------
    >>> one, two = [Layer("a", 0.0, "image"), Layer("b", 1.0, "image")], [Layer("c", 1.0, "image")]
    >>> [layer.depth for layer in join_stacks([(1, one), (3, two)])]
    [0.0, 0.25, 1.0]
    """
    total, before, joined = sum(count for count, _ in stacks), 0, []
    for count, layers in stacks:
        joined += [replace(layer, depth=(before + layer.depth * count) / total) for layer in layers]
        before += count
    return joined


def find_blocks(module: nn.Module, candidates: Sequence[str]) -> str:
    """Return the first of the candidate paths that is a list of blocks.

    Raises
    ------
    ValueError
        None is there: the module is of another layout than its family.
    """
    for path in candidates:
        if has_module(module, path) and len(list(module.get_submodule(path).children())):
            return path
    raise ValueError(
        f"{type(module).__name__} has no blocks at {' or '.join(map(repr, candidates))}. "
        "Use neuroalign.models.wrap(module, preprocess, layers) and name its layers."
    )


def has_module(module: nn.Module, path: str) -> bool:
    """Return whether a path leads to a submodule."""
    try:
        return isinstance(module.get_submodule(path), nn.Module)
    except AttributeError:
        return False


def to_tokens(raw) -> torch.Tensor:
    """Turn what a module returned into (batch, token, feature).

    The first of a tuple is taken; the positions of a feature map (batch, channel, height, width), or of one over
    time or depth too, are its tokens in row order; a vector (batch, feature) is one token.

    Examples
    --------
    >>> to_tokens(torch.zeros(2, 8, 3, 5)).shape
    torch.Size([2, 15, 8])
    """
    if isinstance(raw, dict):
        raw = next(iter(raw.values()))
    if isinstance(raw, tuple | list):
        raw = raw[0]
    if raw.ndim in (4, 5):
        return raw.flatten(2).transpose(1, 2)
    if raw.ndim == 2:
        return raw[:, None]
    if raw.ndim != 3:
        raise ValueError(f"layer: activations of shape {tuple(raw.shape)}, expected 2 to 5 dimensions.")
    return raw


def _block_paths(module: nn.Module, layout: Layout, prefix: str) -> list[str]:
    path = find_blocks(module, [prefix + c for c in layout.blocks])
    paths = [f"{path}.{i}" for i in range(len(list(module.get_submodule(path).children())))]
    if not layout.inner:
        return paths
    stages = [f"{p}.{layout.inner}" for p in paths]
    return [f"{s}.{i}" for s in stages for i in range(len(list(module.get_submodule(s).children())))]
