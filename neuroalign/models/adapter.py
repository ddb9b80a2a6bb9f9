"""The adapter protocol: what the extractor knows of a model, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

__all__ = ["Adapter", "Inputs", "Layer", "LoadedModel"]


@dataclass(frozen=True)
class Layer:
    """A place in the model that is hooked.

    Attributes
    ----------
    path : str
        Module path in the real model, so that a user can look the module up.
    depth : float
        0 (input, the embedding) to 1 (last block), sortable within a tower.
    tower : str
        Which part of the model: ``text``, ``image``; selects the stream masks of `Inputs`.
    tap : {"output", "input"}
        What is taken: the output of the module (the residual stream after a block), or its input
        (the embedding is the input of block 0).
    """

    path: str
    depth: float
    tower: str
    tap: str = "output"


@dataclass
class Inputs:
    """One batch, ready for `forward`.

    Attributes
    ----------
    tensors : mapping of str to tensor
        Arguments of the model.
    streams : mapping of tower to mapping of stream to tensor of bool, shape (batch, token)
        Computed once here; hooks only index them. Padding is in no stream. A tower whose masks are None
        has no padding: all its tokens are in ``all`` (feature maps of a CNN).
    offsets : mapping of tower to list of list of (start, end), optional
        Character offsets of each token in its text, for words; (0, 0) for special tokens.
    """

    tensors: dict[str, torch.Tensor]
    streams: Mapping[str, Mapping[str, torch.Tensor] | None]
    offsets: Mapping[str, list] = field(default_factory=dict)


@dataclass
class LoadedModel:
    """A model in memory.

    Attributes
    ----------
    id : str
        Zoo id or path, with ``@random`` for a random twin.
    module : torch.nn.Module
        In eval mode, on `device`.
    adapter : Adapter
    processors : mapping
        Tokenizer, image processor.
    device, dtype
    weights : str
        What identifies the weights: sha256 of the file, hub commit, or ``random(seed)``.
    """

    id: str
    module: torch.nn.Module
    adapter: "Adapter"
    processors: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype
    weights: str


class Adapter(Protocol):
    """One architecture family. Subclasses live in `neuroalign.models`, one file a family."""

    family: str
    version: int  # bumped when numerics change: part of the store key
    modalities: tuple[str, ...]  # what a stimulus must have

    def layers(self, model: LoadedModel) -> list[Layer]:
        """Return the layers in order of computation."""

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return a cheap estimate of the tokens of a stimulus, for bucketing batches."""

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Turn rows of a StimulusSet (dicts with ``stimulus_id`` and modality columns) into a batch."""

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run one forward; the extractor's hooks see the activations."""

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Turn what a module returned (or took) into (batch, token, feature)."""
