"""Running the upper blocks of a model again: what lies below an intervention is computed once."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import torch

from neuroalign.features.hooks import pinned
from neuroalign.models.adapter import LoadedModel
from neuroalign.models.attention import AttentionSite, Interception, attention_sites
from neuroalign.models.vocabulary import VocabularyHead
from neuroalign.probes.edges import Marked
from neuroalign.probes.knockout import refuse_forbidden

__all__ = ["Replay"]

ROWS = {"attention_mask": -2, "cross_attention_mask": -2, "full_text_row_masked_out_mask": -2,
        "position_embeddings": -2, "position_ids": -1, "cache_position": -1}  # the dim of the queries in what is given
CACHES = {"cache", "past_key_values", "layer_past"}
TOLERANCE = 1e-4  # of logits, relative to their spread


class Replay:
    """One forward whose blocks can be run again, from any of them on, with attention blocked or states changed.

    Where the mask is causal, a token that comes before all that is changed stays as it was: only the tokens from
    there on run again, and read the keys and values that the first forward left.

    Parameters
    ----------
    model : LoadedModel
    head : VocabularyHead
        Its stack is what runs again.
    inputs : Marked
    places : tensor of int, shape (batch,)
        Where the answer is predicted.
    random_state : int

    Attributes
    ----------
    logits : tensor of shape (batch, vocabulary)
        Of the first forward, at `places`.
    states : list of tensor (batch, token, feature)
        The input of each block, and the output of the last.
    """

    def __init__(self, model: LoadedModel, head: VocabularyHead, inputs: Marked, places: torch.Tensor,
                 random_state: int = 0):
        self.model, self.head, self.inputs, self.places = model, head, inputs, places
        self.random_state = random_state
        self.blocks = list(model.module.get_submodule(head.stack).children())
        self.sites = [s for s in attention_sites(model) if s.stack == head.stack]
        self._given: list[dict] = [{} for _ in self.blocks]
        self._base = Interception(model, self.sites, keep=all(s.through == "interface" for s in self.sites))
        last: dict[str, torch.Tensor] = {}
        with ExitStack() as stack:
            stack.enter_context(self._base)
            for i, block in enumerate(self.blocks):
                handle = block.register_forward_pre_hook(
                    lambda block, args, kwargs, i=i: self._remember(i, block, args, kwargs), with_kwargs=True)
                stack.callback(handle.remove)
                handle = block.register_forward_hook(lambda *call: last.__setitem__("output", _first(call[2])))
                stack.callback(handle.remove)
            with pinned(model.device, random_state):
                model.adapter.forward(model, inputs)
        ran = [i for i, given in enumerate(self._given) if given]
        self.skipped = set(range(len(self.blocks))) - set(ran)  # layers that read a picture, without one
        self.states = [next(iter(given.values())) if given else None for given in self._given]
        self.states = self._filled([*self.states, last["output"]])
        self.logits = self._read(last["output"], 0)

    def run(self, blocked: Mapping[AttentionSite, torch.Tensor] | None = None, *, start: int = 0,
            edit: Callable[[int, torch.Tensor], torch.Tensor] | None = None, first_place: int = 0,
            name: str = "") -> torch.Tensor:
        """Return the logits at `places` after running the blocks from `start` on again.

        Parameters
        ----------
        blocked : mapping of AttentionSite to tensor (batch, query, key), optional
        start : int
            The first block that runs; below it nothing must be changed.
        edit : callable, optional
            ``edit(block, states)`` gives the states that enter a block (after the last: n_blocks).
        first_place : int
            No token before this one is changed; it is used where the mask lets none of them read later ones.
        name : str
            Of the edge, for messages.
        """
        blocked = dict(blocked or {})
        begin = first_place if edit is None and self.unchanged_before(first_place) else 0
        states = self.states[start][:, begin:]
        with Interception(self.model, self.sites, {s.path: m for s, m in blocked.items()}, start=begin,
                          kept=self._base.kept) as inside, pinned(self.model.device, self.random_state):
            for i in range(start, len(self.blocks)):
                states = states if edit is None else edit(i, states)
                if i not in self.skipped:
                    states = _first(self.blocks[i](**self._arguments(i, states, begin)))
            states = states if edit is None else edit(len(self.blocks), states)
            inside.check(s.path for s in blocked)
            refuse_forbidden(self.inputs.ids, {s: {name: m[:, begin:]} for s, m in blocked.items()}, inside.allowed)
            return self._read(states, begin)

    def check(self, first_place: int = 0) -> None:
        """Raise a `RuntimeError` unless running all blocks again, with nothing changed, gives what the forward gave."""
        again = self.run(first_place=first_place)
        spread = self.logits.std().clamp(min=1e-6)
        off = ((again - self.logits).abs().max() / spread).item()
        if not off < TOLERANCE:
            raise RuntimeError(
                f"model {self.model.id!r} ({self.model.adapter.family}): running its blocks again gave other logits "
                f"(by {off:.2g} of their sd), so its information flow cannot be measured this way. Use knockout() and "
                "extract() instead.")

    def unchanged_before(self, place: int) -> bool:
        """Return whether tokens before a place read none from it on, and what the blocks are given can be cut there."""
        if place == 0 or not self._base.keep:
            return False
        tokens = self.states[0].shape[1]
        for given in self._given:
            for name, value in list(given.items())[1:]:
                parts = value if isinstance(value, tuple) else (value,)
                sized = any(isinstance(p, torch.Tensor) and tokens in p.shape for p in parts)
                if sized and name not in ROWS and name != "encoder_hidden_states":
                    return False
        masks = {id(g["attention_mask"]): g["attention_mask"] for g in self._given if "attention_mask" in g}
        return bool(masks) and all(
            isinstance(m, torch.Tensor) and m.ndim == 4
            and bool((m[:, :, :place, place:] < torch.finfo(m.dtype).min / 2).all()) for m in masks.values())

    def _remember(self, i: int, block, args: tuple, kwargs: dict) -> None:
        names = [n for n in inspect.signature(inspect.unwrap(type(block).forward)).parameters if n != "self"]
        given = dict(zip(names, args)) | kwargs
        self._given[i] = given | dict.fromkeys(CACHES & set(given))  # what was cached would be read twice

    def _arguments(self, i: int, states: torch.Tensor, begin: int) -> dict:
        """Return what a block is given, for the tokens from `begin` on."""
        (first, _), *rest = self._given[i].items()
        return {first: states} | {name: _cut(value, ROWS.get(name), begin) for name, value in rest}

    def _read(self, states: torch.Tensor, begin: int) -> torch.Tensor:
        at = states[torch.arange(len(states), device=states.device), self.places - begin]
        with torch.inference_mode():
            return self.head.logits(at)

    def _filled(self, states: Sequence) -> list:
        """Let blocks that did not run pass on what the next one was given."""
        filled = list(states)
        for i in reversed(range(len(filled) - 1)):
            filled[i] = filled[i + 1] if filled[i] is None else filled[i]
        return filled


def _first(output) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def _cut(value, dim: int | None, begin: int):
    """Return what belongs to the tokens from `begin` on."""
    if dim is None or begin == 0 or value is None:
        return value
    if isinstance(value, tuple):
        return tuple(_cut(part, dim, begin) for part in value)
    return value.narrow(value.ndim + dim, begin, value.shape[dim] - begin) if value.shape[dim] > 1 else value
