"""Checkpoints that authors publish and transformers does not read: opened safely, renamed, nothing dropped unsaid."""

import argparse
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from neuroalign.data import home
from neuroalign.errors import NeuroalignError, list_ids

__all__ = ["BadCheckpoint", "count_blocks", "count_heads", "fill", "find_checkpoint", "pairs", "read_state", "rename",
           "timm_names", "vit_config"]  # fmt: skip

# What may stand beside the weights: settings of a training script, and its learning rates, which are numpy scalars.
# numpy renamed its module in version 2, and old files carry the old name.
SCALAR = np.float64(0).__reduce__()[0]
ALLOWED = [argparse.Namespace, np.dtype, type(np.dtype("float64")), (SCALAR, "numpy.core.multiarray.scalar"),
           (SCALAR, "numpy._core.multiarray.scalar")]  # fmt: skip
SECTIONS = ("state_dict", "model")


class BadCheckpoint(NeuroalignError, ValueError):
    """A checkpoint that is not opened, or is not of the architecture that its zoo entry names."""


def find_checkpoint(entry) -> Path:
    """Return the checkpoint file of a zoo entry; a relative path is below the folder ``models`` of NEUROALIGN_HOME.

    Raises
    ------
    FileNotFoundError
        It is not there; says where it is published, and where to put it.
    """
    path = home() / "models" / entry.file
    if path.is_file():
        return path
    published = f" from {entry.url}" if entry.url else ""
    raise FileNotFoundError(
        f"model {entry.id!r}: no checkpoint {str(path)!r}. It has no verified hash, so it is not downloaded by itself: "
        f"get it{published} and put it there, or give its path as 'file' in a zoo of your own. {entry.notes}"
    )


def read_state(path) -> dict[str, torch.Tensor]:
    """Read the weights of a published checkpoint, without running code that is in the file.

    The weights are the file itself, or what it has under ``state_dict`` or ``model``; ``module.``, which training on
    several devices puts before each name, is taken away.

    Parameters
    ----------
    path : path

    Raises
    ------
    BadCheckpoint
        The file holds objects beyond tensors, plain values and `argparse.Namespace` (says how to save the weights
        alone), or is damaged, or has no weights.
    """
    name = f"checkpoint {str(path)!r}"
    if Path(path).suffix == ".safetensors":
        from safetensors.torch import load_file

        return {key.removeprefix("module."): value for key, value in load_file(path).items()}
    try:
        with torch.serialization.safe_globals(ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        if found is None:
            raise BadCheckpoint(f"{name}: it is not a file of torch.save, or is damaged.") from None
        raise BadCheckpoint(
            f"{name}: it holds {found[1]!r}, and making that would run code, so the file is not opened. If you trust "
            "it, save its weights alone and use the new file: c = torch.load(OLD, map_location='cpu', "
            "weights_only=False); torch.save({'state_dict': c['state_dict']}, NEW)   (or c['model'])."
        ) from None
    except (RuntimeError, EOFError) as error:
        raise BadCheckpoint(f"{name}: it cannot be read, it is truncated or damaged ({error}).") from None
    if isinstance(content, Mapping):
        content = next((content[s] for s in SECTIONS if isinstance(content.get(s), Mapping)), content)
    if not (isinstance(content, Mapping) and content and all(isinstance(v, torch.Tensor) for v in content.values())):
        raise BadCheckpoint(f"{name}: no weights in it. Expected tensors by name, or a dict with "
                            f"{' or '.join(map(repr, SECTIONS))}.")
    return {key.removeprefix("module."): value for key, value in content.items()}


def rename(
    state: Mapping[str, torch.Tensor], names: Mapping[str, tuple[str, ...]], ignored: tuple[str, ...], path
) -> dict[str, torch.Tensor]:
    """Give weights the names that they have in transformers.

    Parameters
    ----------
    state : mapping of str to tensor
    names : mapping of str to tuple of str
        Published name -> our name; with several, the tensor is cut into as many equal parts (a joint projection of
        queries, keys and values).
    ignored : tuple of str
        What published names that are left out start with.
    path
        Of the checkpoint, for the message.

    Raises
    ------
    BadCheckpoint
        Names are missing, or there are others.

    Examples
    --------
    >>> rename({"qk": torch.arange(4.0), "head": torch.ones(1)}, {"qk": ("q", "k")}, ("head",), "x.pt")
    {'q': tensor([0., 1.]), 'k': tensor([2., 3.])}
    """
    missing = [key for key in names if key not in state]
    others = [key for key in state if key not in names and not key.startswith(ignored)]
    problems = [f"{what} {list_ids(keys)}" for what, keys in (("it lacks", missing), ("it has also", others)) if keys]
    if problems:
        raise BadCheckpoint(
            f"checkpoint {str(path)!r}: it is not of this architecture, {'; '.join(problems)}. Give the checkpoint "
            "that the zoo entry names, as published."
        )
    return {our: part for key, ours in names.items() for our, part in zip(ours, state[key].chunk(len(ours)))}


def pairs(names: Mapping[str, str | tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return names of weights and biases from names of modules.

    Examples
    --------
    >>> pairs({"qk": ("q", "k")})
    {'qk.weight': ('q.weight', 'k.weight'), 'qk.bias': ('q.bias', 'k.bias')}
    """
    listed = {key: (ours,) if isinstance(ours, str) else ours for key, ours in names.items()}
    return {f"{key}.{part}": tuple(f"{our}.{part}" for our in ours)
            for key, ours in listed.items() for part in ("weight", "bias")}  # fmt: skip


def count_blocks(state: Mapping, prefix: str) -> int:
    """Return how many blocks there are: one more than the largest number after the prefix.

    Examples
    --------
    >>> count_blocks({"blocks.0.w": 0, "blocks.11.w": 0}, "blocks.")
    12
    """
    found = [re.match(re.escape(prefix) + r"(\d+)\.", key) for key in state]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def count_heads(width: int) -> int:
    """Return the number of heads, which no weight tells: 64 units each; the small ViT of MoCo v3 has twelve of 32.

    Examples
    --------
    >>> count_heads(768), count_heads(384), count_heads(1024)
    (12, 12, 16)
    """
    if width % 64:
        raise BadCheckpoint(f"checkpoint: width {width}, expected a multiple of 64 (a head has 64 units).")
    return 12 if width == 384 else width // 64


def timm_names(depth: int, theirs: str, ours: str) -> dict[str, tuple[str, ...]]:
    """Return the names of a vision transformer of timm, and of `transformers.ViTModel`."""
    names = {f"{theirs}cls_token": (f"{ours}embeddings.cls_token",),
             f"{theirs}pos_embed": (f"{ours}embeddings.position_embeddings",)}  # fmt: skip
    modules = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
    for i in range(depth):
        attention = tuple(f"{ours}layers.{i}.attention.{part}_proj" for part in "qkv")
        names |= pairs({f"{theirs}blocks.{i}.attn.qkv": attention})
        inner = {"norm1": "layernorm_before", "attn.proj": "attention.o_proj", "norm2": "layernorm_after",
                 "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}  # fmt: skip
        modules |= {f"blocks.{i}.{key}": f"layers.{i}.{our}" for key, our in inner.items()}
    return names | pairs({theirs + key: ours + our for key, our in modules.items()})


def vit_config(state: Mapping[str, torch.Tensor], prefix: str, depth: int):
    """Return the configuration of a vision transformer of timm, from the shapes of its weights."""
    import transformers

    width, _, patch, _ = state[f"{prefix}patch_embed.proj.weight"].shape
    positions = state[f"{prefix}pos_embed"].shape[1] - 1
    side = math.isqrt(positions)
    if side * side != positions:
        raise BadCheckpoint(f"checkpoint: {positions} positions of patches in '{prefix}pos_embed', expected a square.")
    return transformers.ViTConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=count_heads(width), image_size=side * patch,
        patch_size=patch, intermediate_size=len(state[f"{prefix}blocks.0.mlp.fc1.weight"]), layer_norm_eps=1e-6,
    )  # fmt: skip


def fill(make: Callable[[], nn.Module], weights: Mapping[str, torch.Tensor], path) -> nn.Module:
    """Make a module and put renamed weights into it.

    Raises
    ------
    BadCheckpoint
        A tensor has another shape than the others imply.
    """
    module = make()
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise BadCheckpoint(f"checkpoint {str(path)!r}: its tensors do not fit together. {error}") from None
    return module
