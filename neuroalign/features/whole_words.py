"""Words of stimuli that go through a model whole: a caption beside its picture, a transcript beside its sound."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neuroalign.data import StimulusSet
from neuroalign.features.tokens import TokenJob
from neuroalign.features.words import pool_words
from neuroalign.models.adapter import Inputs, Layer

__all__ = ["WholeWordJob", "count_words"]


@dataclass
class WordInputs(Inputs):
    """A batch of stimuli, and where the tokens of their words are.

    Attributes
    ----------
    n_words : int
        Of all stimuli together.
    index : mapping of tower to tensor of int, shape (3, n_tokens)
        Stimulus, position and word of each token that belongs to a word.
    """

    n_words: int = 0
    index: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class WholeWordJob(TokenJob):
    """Rows are the words of stimuli, each in its whole stimulus; `counts` are the words of each.

    Attributes
    ----------
    pooling : {"mean", "max", "last"}
        How the tokens of a word become its row.
    """

    pooling: str = "mean"
    unit = "words"
    gap = "have NaN rows"

    def prepare(self, rows: Sequence[Mapping]) -> WordInputs:
        """Prepare a batch, and find the tokens of its words."""
        inputs = super().prepare(rows)
        index = {tower: _index(rows, offsets, inputs.streams[tower]["text"])
                 for tower, offsets in inputs.offsets.items()}
        n_words = sum(len(_spans(r["text"])) for r in rows)
        return WordInputs(inputs.tensors, inputs.streams, inputs.offsets, n_words, index)

    def reduce(self, layer: Layer, stream: str, tokens: torch.Tensor, inputs: WordInputs) -> torch.Tensor:
        """Pool the tokens of each word."""
        batch, position, word = inputs.index[layer.tower].to(tokens.device)
        return pool_words(tokens[batch, position].float(), word, inputs.n_words, self.pooling)


def count_words(stimuli: StimulusSet) -> np.ndarray:
    """Return the number of words of each stimulus."""
    return np.array([len(str(text).split()) for text in stimuli.table["text"]])


def _spans(text: str) -> list[tuple[int, int]]:
    return [m.span() for m in re.finditer(r"\S+", text)]


def _index(rows, offsets, text: torch.Tensor) -> torch.Tensor:
    """Return stimulus, position and word of each token; a token belongs to the word where it begins."""
    found, before = [], 0
    for b, (row, spans, real) in enumerate(zip(rows, offsets, text.cpu().numpy())):
        ends = np.array([end for _, end in _spans(row["text"])])
        position = np.flatnonzero(real[: len(spans)])
        begins = np.array([spans[p][0] for p in position], dtype=np.int64)
        word = before + np.minimum(np.searchsorted(ends, begins, side="right"), len(ends) - 1)
        found.append(np.stack([np.full(len(position), b), position, word]))
        before += len(ends)
    return torch.from_numpy(np.concatenate(found, axis=1).astype(np.int64))
