"""The adapter protocol: what the extractor knows of a model, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from neuroalign.data import MODALITIES
from neuroalign.errors import list_ids

__all__ = ["TAPS", "Adapter", "BadStimuli", "Inputs", "Layer", "LoadedModel", "attach", "check_loaded",
           "refuse_bad"]

TAPS = ("block", "attention", "router", "mlp", "norm")


class BadStimuli(ValueError):
    """Stimuli that a model cannot be given; ``ids`` are theirs, so that a caller may drop them and go on."""

    def __init__(self, problem: str, ids: Sequence[str], remedy: str = ""):
        self.ids = tuple(map(str, ids))
        super().__init__(f"stimuli {list_ids(self.ids)}: {problem}{' ' + remedy if remedy else ''}")


def refuse_bad(stimuli: Sequence[Mapping], look: Callable[[Mapping], Any], remedy: str) -> list:
    """Return what `look` gives for each stimulus; raise one `BadStimuli` for all for which it raises a `ValueError`."""
    found, problems = [], {}
    for stimulus in stimuli:
        try:
            found.append(look(stimulus))
        except ValueError as error:
            problems[stimulus["stimulus_id"]] = str(error)
    if problems:
        raise BadStimuli(next(iter(problems.values())), list(problems), remedy)
    return found


@dataclass(frozen=True)
class Layer:
    """A place in the model that is hooked.

    Attributes
    ----------
    path : str
        Module path in the real model, so that a user can look the module up.
    depth : float
        0 (the embedding, which is the input of block 0) to 1 (last block), sortable within a tower.
    tower : str
        Which part of the model: ``text``, ``image``; selects the stream masks of `Inputs`.
    streams : tuple of str
        The streams that exist here, the default one first.
    tap : {"output", "input"}
        What is taken: the output of the module (the residual stream after a block), or its input.
    masked : bool
        False where all tokens are real and belong to every stream: feature maps, pooled and projected vectors
        (one token a stimulus).
    """

    path: str
    depth: float
    tower: str
    streams: tuple[str, ...] = ("all",)
    tap: str = "output"
    masked: bool = True

    @property
    def name(self) -> str:
        """The name in ``space_id``: the path, with ``.input`` where the input of the module is taken."""
        return self.path if self.tap == "output" else f"{self.path}.input"

    @property
    def default_streams(self) -> tuple[str, ...]:
        """The tokens of each modality, where there are such streams; else the first stream."""
        return tuple(s for s in self.streams if s in MODALITIES) or self.streams[:1]


@dataclass
class Inputs:
    """One batch, ready for `Adapter.forward`.

    Attributes
    ----------
    tensors : mapping of str to tensor
        Arguments of the model, on its device.
    streams : mapping of tower to mapping of stream to tensor of bool, shape (batch, token)
        Computed once here; hooks only index them. Padding is in no stream. Only the towers that run are there.
    offsets : mapping of tower to list of list of (start, end), optional
        Character offsets of each token in its text, for words; leading white space is trimmed, special tokens
        have (0, 0), padding has none (the lists are as long as the text is in tokens).
    """

    tensors: dict[str, torch.Tensor]
    streams: Mapping[str, Mapping[str, torch.Tensor]]
    offsets: Mapping[str, list[list[tuple[int, int]]]] = field(default_factory=dict)

    def mask(self, layer: Layer, stream: str) -> torch.Tensor | None:
        """Return which tokens of a layer belong to a stream, (batch, token); None where all of them do."""
        return self.streams[layer.tower][stream] if layer.masked else None


@dataclass
class LoadedModel:
    """A model in memory.

    Attributes
    ----------
    id : str
        Zoo id, hub id or name of the folder; with ``@random`` or ``@random.SEED`` of a random twin and ``@text`` (or
        another modality) of a run of it alone, as it was asked for.
    module : torch.nn.Module
        In eval mode, on `device`.
    adapter : Adapter
    processors : mapping
        ``text``, ``image``: what turns stimuli into tensors.
    device, dtype
    weights : str
        What identifies the weights: sha256 of the file, hub commit, or ``random(SEED)`` and the architecture.
    preprocessing : str
        What identifies the processors (a sha256 over their settings).
    attention : str
        Attention implementation of the module, "" where it has none.
    entry : ZooEntry or None
        What the zoo says about the model.
    untrained : tuple of str
        Modules that the checkpoint has no weights for (a pooler): they give no layers.
    run : str or None
        The one modality that it is given; None for all that a stimulus has.
    """

    id: str
    module: torch.nn.Module
    adapter: "Adapter"
    processors: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype
    weights: str
    preprocessing: str = ""
    attention: str = ""
    entry: Any = None
    untrained: tuple[str, ...] = ()
    run: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that it is given."""
        return self.adapter.modalities if self.run is None else (self.run,)


def check_loaded(model) -> None:
    """Raise if a model is only named: what intervenes on a model needs it in memory."""
    if not isinstance(model, LoadedModel):
        named = model if isinstance(model, str) else "ID"
        raise TypeError(f"model: got {type(model).__name__}, expected a model in memory: "
                        f"neuroalign.models.load_model({named!r}).")


class Adapter(Protocol):
    """One architecture family. Implementations live in `neuroalign.models`, one file a family.

    Where the tokens of sounds and videos have their places in time, an adapter has a method more,
    ``times(model, layer, stimulus)``: an array (token, 2) of the seconds, from the start of the stimulus, where the
    tokens of the layer's stream ``audio`` or ``video`` begin and end; None for layers whose tokens have none. A
    `ValueError` says why a stimulus has none. Where attention is to be intervened on at other modules than those that
    `neuroalign.models.attention.attention_sites` finds in the blocks, it has ``attention(model)``, which returns a list
    of `AttentionSite`.
    """

    family: str
    version: int  # bumped when numerics change: part of the store key
    modalities: tuple[str, ...]  # what a stimulus must have (of a dual encoder: at least one of them)

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the layers in order of computation."""

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the towers that a stimulus runs through; the stimuli of one batch have the same."""

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for a missing modality, an empty or too long text, before any forward."""

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return a cheap estimate of the tokens of a stimulus, for bucketing batches."""

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Turn rows of a StimulusSet (dicts with ``stimulus_id`` and modality columns) into a batch."""

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run one forward; the extractor's hooks see the activations."""

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Turn what a module returned (or took) into (batch, token, feature)."""


def attach(model: LoadedModel, layer: Layer, receive: Callable[[torch.Tensor], None]):
    """Hook a layer: `receive` gets its activations, (batch, token, feature), in each forward.

    Returns
    -------
    handle
        Its ``remove()`` takes the hook away.
    """
    module = model.module.get_submodule(layer.path)
    if layer.tap == "input":

        def before(_, args, kwargs):
            receive(model.adapter.tokens(model, layer, args[0] if args else next(iter(kwargs.values()))))

        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(lambda _, args, output: receive(model.adapter.tokens(model, layer, output)))
