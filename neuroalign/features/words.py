"""Words in context: passages tokenised once, windows that serve every word they own, surprisal and entropy."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from neuroalign.data import StimulusSet
from neuroalign.features.batching import Item, run_batches
from neuroalign.features.hooks import Capture
from neuroalign.features.jobs import SHARD_ROWS, Job
from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel

__all__ = ["OUTPUTS", "WORD_POOLINGS", "Window", "WordJob", "plan_windows", "pool_words", "word_table"]

OUTPUTS = ("hidden", "surprisal", "entropy")
WORD_POOLINGS = ("mean", "max", "last")
POSITIONS = 256  # positions whose distribution over the vocabulary is in memory at a time


@dataclass(frozen=True)
class Passage:
    """A running text, tokenised once.

    Attributes
    ----------
    parent : str
    first_row : int
        Row of its first word in the table.
    text : str
    spans : array of shape (n_words, 2)
        Characters of each word in `text`.
    tokens : list of int
        With what a causal model reads before the text.
    offsets : list of (start, end)
        Characters of each token.
    bounds : array of shape (n_words + 1,)
        Word k owns tokens ``bounds[k]`` to ``bounds[k + 1]``.
    """

    parent: str
    first_row: int
    text: str
    spans: np.ndarray
    tokens: list[int]
    offsets: list[tuple[int, int]]
    bounds: np.ndarray


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `stop` of a passage, of which it serves the words `first` to `last` (exclusive)."""

    passage: Passage
    start: int
    stop: int
    first: int
    last: int

    @property
    def rows(self) -> np.ndarray:
        """Rows of its words in the table."""
        return self.passage.first_row + np.arange(self.first, self.last)


@dataclass
class WindowInputs(Inputs):
    """A batch of windows, and where the tokens of its words are.

    Attributes
    ----------
    rows : array of shape (n_words,)
        Rows of the words in the table.
    batch, position, word, token : tensor of int, shape (n_tokens,)
        Of each token of these words: its window, its position there, its word (an index into `rows`), its id.
    """

    rows: np.ndarray | None = None
    batch: torch.Tensor | None = None
    position: torch.Tensor | None = None
    word: torch.Tensor | None = None
    token: torch.Tensor | None = None


def word_table(model: LoadedModel, stimuli: StimulusSet, *, context: int = 512) -> pd.DataFrame:
    """List every word with its tokens and the window that serves it.

    Parameters
    ----------
    model : LoadedModel
    stimuli : StimulusSet
        Words with a ``parent`` column, or texts, which are split at white space.
    context : int
        Tokens of a window.

    Returns
    -------
    DataFrame
        Indexed by stimulus_id: text, parent, start, end (characters in the passage), tokens (tuple of str),
        token_ids, n_tokens, window (number within the passage), n_context (tokens before the word in its window),
        onset (NaN where the set is not timed).
    """
    words = stimuli.words()
    tokenizer = model.processors["text"].tokenizer
    rows, numbers = [], {}
    for window in plan_windows(model, words, context):
        p = window.passage
        number = numbers[p.parent] = numbers.get(p.parent, -1) + 1
        for k in range(window.first, window.last):
            ids = p.tokens[p.bounds[k]:p.bounds[k + 1]]
            rows.append({
                "text": p.text[p.spans[k, 0]:p.spans[k, 1]], "parent": p.parent, "start": p.spans[k, 0],
                "end": p.spans[k, 1], "tokens": tuple(tokenizer.convert_ids_to_tokens(ids)), "token_ids": tuple(ids),
                "n_tokens": len(ids), "window": number, "n_context": int(p.bounds[k]) - window.start})
    table = pd.DataFrame(rows, index=pd.Index(words.ids, name="stimulus_id"))
    table["onset"] = words.table["onset"].astype(float) if "onset" in words.table.columns else np.nan
    return table


def plan_windows(model: LoadedModel, words: StimulusSet, context: int) -> list[Window]:
    """Cut the passages into windows, in order of the table's rows.

    A causal model reads windows of `context` tokens: the first starts with the passage (after the model's own
    beginning-of-text token, if it has one), and each further one begins ``context // 2`` tokens before the first
    word that it serves, so that every word but the first ones has between half and all of the context before it. A
    bidirectional encoder gets a margin of a quarter of the window on both sides instead. A word is served by one
    window, which holds all of its tokens.

    Raises
    ------
    BadStimuli
        A word is empty, or has more tokens than fit a window; the words of a passage do not stand together or in
        order.
    """
    causal, text = is_causal(model), model.processors["text"]
    limit = context if text.max_tokens is None else min(context, text.max_tokens)
    if context < 4:
        raise ValueError(f"context: got {context}, expected at least 4 tokens.")
    room = limit if causal else limit - len(text.prefix) - len(text.suffix)
    left, right = (room // 2, 0) if causal else (room // 4, room // 4)
    windows = []
    for passage in _passages(model, words):
        if causal and limit < context and len(passage.tokens) > limit:
            raise ValueError(
                f"context: got {context} tokens, but model {model.id!r} takes at most {text.max_tokens}, and passage "
                f"{passage.parent!r} has {len(passage.tokens)}. Use context={text.max_tokens} or less."
            )
        windows += _cut(passage, room, left, right, words.ids)
    return windows


def is_causal(model: LoadedModel) -> bool:
    """Return whether a model predicts the next token."""
    return hasattr(model.adapter, "logits")


@dataclass
class WordJob(Job):
    """Rows are words in context.

    Attributes
    ----------
    pooling : {"mean", "max", "last"}
        How the tokens of a word become its row.
    context : int
        Tokens of a window.
    """

    pooling: str = "mean"
    context: int = 512
    unit = "words"

    def __post_init__(self):
        self.windows = plan_windows(self.model, self.stimuli, self.context)

    def shards(self) -> list[tuple[int, int]]:
        """Return row ranges of whole windows."""
        shards, start, stop = [], 0, 0
        for window in self.windows:
            stop = int(window.rows[-1]) + 1
            if stop - start >= SHARD_ROWS:
                shards.append((start, stop))
                start = stop
        return shards + ([(start, stop)] if stop > start else [])

    def lengths(self):
        """Return the lengths of the windows."""
        return [w.stop - w.start for w in self.windows]

    def compute(self, start, stop, names, only=None):
        """Yield the rows of words, a batch of windows at a time."""
        wanted = [s for s in self.spaces if s.name in set(names)]
        layers = list(dict.fromkeys(s.source for s in wanted if s.source is not None))
        outputs = [s for s in wanted if s.source is None]
        items = [Item(n, w.stop - w.start, "text", w) for n, w in enumerate(self.windows)
                 if start <= w.rows[0] < stop and (only is None or not only.isdisjoint(w.rows.tolist()))]
        reduce = partial(self._reduce, wanted)
        with Capture(self.model, layers, reduce, logits=bool(outputs)) as capture:
            def forward(_, inputs):
                values, raw = capture.run(inputs, self.random_state)
                if outputs:
                    values = {**values, **self._predict(raw, inputs, outputs)}
                return inputs.rows, {name: self.project(name, value).cpu().numpy() for name, value in values.items()}

            def prepare(batch):
                return batch, self._prepare([i.content for i in batch])

            for _, (rows, values) in run_batches(items, prepare, forward, self.budget):
                yield rows, values

    def _prepare(self, windows: Sequence[Window]) -> WindowInputs:
        model, causal = self.model, is_causal(self.model)
        text = model.processors["text"]
        if causal:  # what precedes the text is part of the passage's tokens, at its very start alone
            text = replace(text, prefix=(), suffix=())
        sequences = [(w.passage.tokens[w.start:w.stop], w.passage.offsets[w.start:w.stop]) for w in windows]
        tensors, masks, offsets = text.batch(sequences, model.device)
        shift = len(text.prefix)
        batch, position, word, token, rows = [], [], [], [], []
        for b, w in enumerate(windows):
            first, last = w.passage.bounds[w.first], w.passage.bounds[w.last]
            counts = np.diff(w.passage.bounds[w.first:w.last + 1])
            batch.append(np.full(last - first, b))
            position.append(np.arange(first, last) - w.start + shift)
            word.append(sum(map(len, rows)) + np.repeat(np.arange(len(counts)), counts))
            token.append(np.asarray(w.passage.tokens[first:last]))
            rows.append(w.rows)
        index = [torch.from_numpy(np.concatenate(v).astype(np.int64)).to(model.device)
                 for v in (batch, position, word, token)]
        return WindowInputs(tensors, {"text": masks}, {"text": offsets}, np.concatenate(rows), *index)

    def _reduce(self, wanted, layer: Layer, tokens: torch.Tensor, inputs: WindowInputs) -> dict:
        picked = tokens[inputs.batch, inputs.position].float()
        pooled = pool_words(picked, inputs.word, len(inputs.rows), self.pooling)
        return {s.name: pooled for s in wanted if s.source == layer}

    def _predict(self, raw, inputs: WindowInputs, outputs) -> dict[str, torch.Tensor]:
        logits = self.model.adapter.logits(raw)
        surprisal, entropy = _surprisal(logits, inputs)
        n = len(inputs.rows)
        sums = pool_words(surprisal[:, None], inputs.word, n, "sum")
        first = torch.ones_like(inputs.word, dtype=torch.bool)
        first[1:] = inputs.word[1:] != inputs.word[:-1]
        before = pool_words(entropy[first][:, None], inputs.word[first], n, "sum")
        values = {"surprisal": sums, "entropy": before}
        return {s.name: values[s.layer] for s in outputs}


def _passages(model: LoadedModel, words: StimulusSet) -> Iterator[Passage]:
    table, causal = words.table, is_causal(model)
    parents = table["parent"].astype(str).to_numpy()
    texts = [str(t).strip() for t in table["text"]]
    empty = [i for i, t in zip(words.ids, texts) if not t]
    if empty:
        raise BadStimuli("the word is empty.", empty, "Leave it out, or give its text.")
    edges = np.flatnonzero(np.r_[True, parents[1:] != parents[:-1], True])
    names = parents[edges[:-1]]
    apart = pd.Index(names)[pd.Index(names).duplicated()].unique()
    if len(apart):
        raise BadStimuli("its words do not stand together in the table.", apart,
                         "Sort the table by parent, position.")
    if "position" in table.columns:
        position = pd.to_numeric(table["position"], errors="coerce").to_numpy(dtype=float)
        back = np.flatnonzero((np.diff(position) <= 0) & (parents[1:] == parents[:-1])) + 1
        if len(back):
            raise BadStimuli("stands before the words that 'position' puts ahead of it.",
                             [words.ids[i] for i in back], "Sort the table by parent, position.")
    for parent, a, b in zip(names, edges[:-1], edges[1:]):
        yield _tokenize(model, parent, a, texts[a:b], causal)


def _tokenize(model, parent, first_row, texts, causal) -> Passage:
    lengths = np.array([len(t) for t in texts])
    starts = np.r_[0, np.cumsum(lengths + 1)[:-1]]
    spans = np.c_[starts, starts + lengths]
    text = " ".join(texts)
    ids, offsets = model.processors["text"].tokenize(text)
    # A token belongs to the word where it begins; a token of white space alone to the word that follows.
    begins = np.array([start for start, _ in offsets], dtype=np.int64)
    owner = np.minimum(np.searchsorted(spans[:, 1], begins, side="right"), len(texts) - 1)
    head = list(model.processors["text"].prefix) if causal else []
    bounds = len(head) + np.searchsorted(owner, np.arange(len(texts) + 1))
    return Passage(str(parent), int(first_row), text, spans, head + list(ids), [(0, 0)] * len(head) + list(offsets),
                   bounds)


def _cut(passage: Passage, room: int, left: int, right: int, ids: Sequence[str]) -> list[Window]:
    bounds, n_tokens, n_words = passage.bounds, len(passage.tokens), len(passage.bounds) - 1
    windows, word = [], 0
    while word < n_words:
        start = max(0, int(bounds[word]) - left) if word else 0
        stop = min(start + room, n_tokens)
        limit = n_tokens if stop == n_tokens else stop - right
        following = int(np.searchsorted(bounds, limit, side="right")) - 1
        if following <= word:
            count = int(bounds[word + 1] - bounds[word])
            raise BadStimuli(f"the word has {count} tokens, which do not fit a window of {room} with what goes "
                             "before.", [ids[passage.first_row + word]], "Use a larger context=.")
        windows.append(Window(passage, start, stop, word, following))
        word = following
    return windows


def pool_words(values: torch.Tensor, word: torch.Tensor, n_words: int, how: str) -> torch.Tensor:
    """Pool the tokens of each word: (token, feature) to (word, feature); NaN for a word without tokens."""
    count = torch.zeros(n_words, device=values.device).index_add_(0, word, torch.ones_like(word, dtype=torch.float32))
    if how == "last":
        last = torch.ones_like(word, dtype=torch.bool)
        last[:-1] = word[1:] != word[:-1]
        values, word = values[last], word[last]
    pooled = torch.zeros(n_words, values.shape[1], device=values.device)
    if how == "max":
        index = word[:, None].expand_as(values)
        pooled = pooled.scatter_reduce(0, index, values, "amax", include_self=False)
    else:
        pooled = pooled.index_add_(0, word, values)
    if how == "mean":
        pooled = pooled / count.clamp(min=1)[:, None]
    return pooled.masked_fill((count == 0)[:, None], torch.nan)


def _surprisal(logits: torch.Tensor, inputs: WindowInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bits of each token given what precedes it, and the entropy (bits) of that prediction.

    NaN for a token that nothing precedes.
    """
    surprisal = torch.full(inputs.word.shape, torch.nan, device=logits.device)
    entropy = surprisal.clone()
    known = torch.nonzero(inputs.position > 0)[:, 0]
    for some in known.split(POSITIONS):
        logp = logits[inputs.batch[some], inputs.position[some] - 1].float().log_softmax(-1)
        surprisal[some] = -logp.gather(1, inputs.token[some][:, None])[:, 0] / math.log(2)
        entropy[some] = -(logp.exp() * logp).nansum(-1) / math.log(2)
    return surprisal, entropy
