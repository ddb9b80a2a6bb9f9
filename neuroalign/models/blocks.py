"""The blocks of a module: where they are, the layers they give, and one shape for what they return."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from neuroalign.models.adapter import Layer

__all__ = ["block_layers", "find_blocks", "has_module", "to_tokens"]


def find_blocks(module: nn.Module, candidates: Sequence[str]) -> tuple[str, int]:
    """Return the first of the candidate paths that is a list of blocks, and how many blocks it has.

    Raises
    ------
    ValueError
        None is there: the module is of another layout than its family.
    """
    for path in candidates:
        if has_module(module, path):
            blocks = module.get_submodule(path)
            if isinstance(blocks, nn.ModuleList | nn.Sequential) and len(blocks):
                return path, len(blocks)
    raise ValueError(
        f"{type(module).__name__} has no blocks at {' or '.join(map(repr, candidates))}. "
        "Use neuroalign.models.wrap(module, preprocess, layers) and name its layers."
    )


def has_module(module: nn.Module, path: str) -> bool:
    """Return whether a path leads to a submodule."""
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def block_layers(path: str, count: int, tower: str, streams: Iterable[str], *, masked: bool = True,
                 embedding: bool = True, inner: Sequence[str] = ()) -> list[Layer]:
    """Return the embedding (input of block 0) and the output of each block, with depths 0 to 1.

    `inner` are paths inside a block whose outputs are taken too, just before the block's own.
    """
    streams = tuple(streams)
    layers = [Layer(f"{path}.0", 0.0, tower, streams, "input", masked)] if embedding else []
    for i in range(count):
        depth = (i + 1) / count
        layers += [Layer(f"{path}.{i}.{part}", depth, tower, streams, masked=masked) for part in inner]
        layers.append(Layer(f"{path}.{i}", depth, tower, streams, masked=masked))
    return layers


def to_tokens(raw) -> torch.Tensor:
    """Turn what a module returned into (batch, token, feature).

    The first of a tuple is taken; the positions of a feature map (batch, channel, height, width) are its
    tokens in row order; a vector (batch, feature) is one token.

    Examples
    --------
    >>> to_tokens(torch.zeros(2, 8, 3, 5)).shape
    torch.Size([2, 15, 8])
    """
    if isinstance(raw, dict):
        raw = next(iter(raw.values()))
    if isinstance(raw, tuple | list):
        raw = raw[0]
    if raw.ndim == 4:
        return raw.flatten(2).transpose(1, 2)
    if raw.ndim == 2:
        return raw[:, None]
    if raw.ndim != 3:
        raise ValueError(f"layer: activations of shape {tuple(raw.shape)}, expected 2, 3 or 4 dimensions.")
    return raw
