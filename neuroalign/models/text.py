"""Text to tokens: special tokens, right padding, streams, character offsets, and what is wrong with a text."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neuroalign.models.adapter import BadStimuli

__all__ = ["TextInput", "has_text", "load_text_input"]

UNLIMITED = 10**6  # tokenizers without a limit state 1e30


@dataclass(frozen=True)
class TextInput:
    """The text side of a model.

    Attributes
    ----------
    tokenizer
        A fast tokenizer of transformers.
    prefix, suffix : tuple of int
        Special tokens put around the tokens of a text.
    pad_id : int
        Token that fills up a batch on the right; it is masked.
    max_tokens : int or None
        Longest sequence with its special tokens; None has no limit.
    pad_to : int or None
        Fixed length that all texts are padded to (models that attend to the padding); None pads to the longest.
    """

    tokenizer: Any
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad_id: int
    max_tokens: int | None
    pad_to: int | None = None

    @property
    def identity(self) -> str:
        """What decides the tokens of a text."""
        rest = json.dumps([self.prefix, self.suffix, self.pad_id, self.pad_to])
        return hashlib.sha256((self.tokenizer.backend_tokenizer.to_str() + rest).encode()).hexdigest()

    def tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return token ids without special tokens, and their character spans without leading white space."""
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(coded["input_ids"]), [_trim(text, *span) for span in coded["offset_mapping"]]

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams there are, the default one first: without ``special`` where nothing is put around a text."""
        return ("text", "special", "all") if self.prefix or self.suffix else ("text", "all")

    def length(self, stimulus: Mapping) -> int:
        """Return a cheap estimate of the number of tokens."""
        return len(str(stimulus.get("text") or "")) // 4 + 1

    def check(self, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for a text that is absent, empty, or longer than the context."""
        self.encode(stimuli)

    def encode(self, stimuli: Sequence[Mapping]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Check and tokenise the texts of stimuli: ids and spans of each, as `tokenize` gives them."""
        absent = [s["stimulus_id"] for s in stimuli if not has_text(s)]
        if absent:
            raise BadStimuli("no text, and this model reads text.", absent, "Give a 'text', or leave them out.")
        coded = [self.tokenize(s["text"]) for s in stimuli]
        empty = [s["stimulus_id"] for s, (ids, _) in zip(stimuli, coded) if not (ids and s["text"].strip())]
        if empty:
            raise BadStimuli("the text is empty, or has nothing that the tokenizer keeps.", empty,
                             "Leave them out, or give a text.")
        if self.max_tokens is not None:
            room = self.max_tokens - len(self.prefix) - len(self.suffix)
            long = {s["stimulus_id"]: len(ids) for s, (ids, _) in zip(stimuli, coded) if len(ids) > room}
            if long:
                raise BadStimuli(
                    f"the text is longer than the context of the model ({next(iter(long.values()))} tokens, "
                    f"room for {room}).", tuple(long), "Shorten the text, or split it into stimuli of its own.",
                )
        return coded

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[tuple[int, int]]]], device: torch.device):
        """Put special tokens around tokenised texts and pad them on the right.

        Parameters
        ----------
        sequences : sequence of (ids, offsets)
            As `tokenize` gives them, or windows of them.

        Returns
        -------
        tensors : dict
            ``input_ids`` and ``attention_mask``, (batch, token).
        masks : dict
            Streams ``text``, ``special``, ``all``: bool, (batch, token).
        offsets : list of list of (start, end)
        """
        before, after = len(self.prefix), len(self.suffix)
        counts = [len(ids) for ids, _ in sequences]
        width = max(max(counts) + before + after, self.pad_to or 0)
        ids = torch.full((len(sequences), width), self.pad_id)
        real = torch.zeros(ids.shape, dtype=torch.bool)
        text = torch.zeros(ids.shape, dtype=torch.bool)
        for row, (tokens, _) in enumerate(sequences):
            whole = [*self.prefix, *tokens, *self.suffix]
            ids[row, : len(whole)] = torch.tensor(whole)
            real[row, : len(whole)] = True
            text[row, before : before + len(tokens)] = True
        masks = {"text": text, "special": real & ~text, "all": real}
        offsets = [[(0, 0)] * before + list(spans) + [(0, 0)] * after for _, spans in sequences]
        tensors = {"input_ids": ids.to(device)}
        if self.pad_to is None:
            tensors["attention_mask"] = real.long().to(device)
        return tensors, {name: mask.to(device) for name, mask in masks.items()}, offsets


def has_text(stimulus: Mapping) -> bool:
    """Return whether a stimulus has a text, be it empty."""
    return isinstance(stimulus.get("text"), str)


def load_text_input(tokenizer, config, *, begin: int | None = None, pad_to: int | None = None) -> TextInput:
    """Return the text side of a model from its tokenizer and text configuration.

    `begin` is put first where the tokenizer itself adds nothing in front.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"tokenizer {type(tokenizer).__name__}: it gives no character offsets. Save it as a fast tokenizer "
            "(tokenizer.json)."
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    prefix, suffix = _affixes(tokenizer)
    if begin is not None and not prefix:
        prefix = (begin,)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return TextInput(tokenizer, prefix, suffix, pad if pad is not None else 0, _max_tokens(tokenizer, config), pad_to)


def _affixes(tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    coded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = coded["input_ids"], coded["special_tokens_mask"]
    inner = [i for i, flag in enumerate(special) if not flag]
    return tuple(ids[: inner[0]]), tuple(ids[inner[-1] + 1 :])


def _max_tokens(tokenizer, config) -> int | None:
    limits = [tokenizer.model_max_length]
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if getattr(config, name, None):
            limits.append(getattr(config, name) - _reserved_positions(config))
    limit = min(limits)
    return int(limit) if limit < UNLIMITED else None


def _reserved_positions(config) -> int:
    # These count positions from the padding index on, so that the first ones are never used.
    if config.model_type in ("roberta", "xlm-roberta", "bridgetower_text_model", "clap_text_model"):
        return (config.pad_token_id or 0) + 1
    return 2 if config.model_type == "mpnet" else 0


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    return start, end
