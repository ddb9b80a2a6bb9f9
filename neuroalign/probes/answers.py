"""The answer of a model: the token that it predicts first after a stimulus, and whether that is right."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuroalign.data import StimulusSet, scores
from neuroalign.errors import list_ids, suggest
from neuroalign.features.batching import Item, run_batches
from neuroalign.features.planning import make_budget
from neuroalign.features.spans import LAST
from neuroalign.models.adapter import BadStimuli, LoadedModel
from neuroalign.models.vocabulary import VocabularyHead, vocabulary_head
from neuroalign.probes.edges import Reader
from neuroalign.probes.replay import Replay
from neuroalign.stats import LEVEL, mean_interval

__all__ = ["Answers", "answer_tokens", "each_batch", "flow_scores"]

METRICS = ("flow.relative", "flow.logp")


@dataclass
class Answers:
    """What a model answers.

    Attributes
    ----------
    token : int array of shape (n_stimuli,)
        The token that it gives most probability.
    logp : array of shape (n_stimuli,)
        Natural logarithm of that probability.
    correct : bool array of shape (n_stimuli,) or None
        Whether it is the first token of the right answer; None where that is not known.
    """

    token: np.ndarray
    logp: np.ndarray
    correct: np.ndarray | None

    @property
    def used(self) -> np.ndarray:
        """Which stimuli are answered correctly, or all where that is not known."""
        return np.ones(len(self.token), bool) if self.correct is None else self.correct

    def describe(self) -> dict:
        """Return what goes into the attrs of Scores."""
        known = self.correct is not None
        return {"n_stimuli": len(self.token), "n_answered_correctly": int(self.correct.sum()) if known else None,
                "share_correct": float(self.correct.mean()) if known else None}

    def require_some(self, ids: Sequence[str]) -> None:
        """Raise where no stimulus is answered correctly."""
        if not self.used.any():
            raise BadStimuli("none of them is answered correctly, and the flow of information is that of correct "
                             "answers.", ids, "Look at the answers, or leave answer= out to follow whatever is "
                             "predicted.")


def answer_tokens(model: LoadedModel, answer: str) -> dict[str, list[int]]:
    """Return the tokens that an answer may begin with, as it is written, in lower case and capitalised.

    Each with and without a space before it; a token of white space alone is none.
    """
    side = model.processors["text"]
    found = {}
    for kind, text in (("as given", answer), ("lower", answer.lower()), ("capitalised", answer.capitalize())):
        firsts = [side.tokenize(lead + text)[0] for lead in ("", " ")]
        found[kind] = list(dict.fromkeys(ids[0] for ids in firsts if ids and side.tokenizer.decode(ids[:1]).strip()))
    if not any(found.values()):
        raise ValueError(f"answer: {answer!r} has no token of its own in the vocabulary of model {model.id!r}.")
    return found


def each_batch(model: LoadedModel, stimuli: StimulusSet, edges, answer: str | None, use: Callable, *,
               batch_size: int | None = None, random_state: int = 0) -> Answers:
    """Run a model batch by batch, keep its answers, and let `use` do the rest.

    Parameters
    ----------
    edges : sequence of Edge
        Whose spans are marked.
    answer : str or None
        Column with the right answers.
    use : callable
        ``use(replay, rows, tokens)`` with the places of the rows among the stimuli, and the answered tokens.
    """
    right = _right_tokens(model, stimuli, answer)
    head = vocabulary_head(model)
    found = Answers(np.zeros(len(stimuli), int), np.zeros(len(stimuli)),
                    None if right is None else np.zeros(len(stimuli), bool))
    for rows, replay in _batches(model, Reader(model, stimuli, edges), head, batch_size, random_state):
        logp, token = replay.logits.log_softmax(-1).max(-1)
        found.token[rows], found.logp[rows] = token.cpu().numpy(), logp.cpu().numpy()
        if right is not None:
            found.correct[rows] = [t in right[i] for i, t in zip(rows, token.tolist())]
        use(replay, rows, token)
    return found


def flow_scores(model: LoadedModel, head: VocabularyHead, answers: Answers, logp: np.ndarray, spaces: Mapping,
                ids: Sequence[str], n_bootstraps: int, random_state: int, attrs: Mapping):
    """Return Scores of the change of the answer's probability, from log-probabilities (space, stimulus)."""
    used = answers.used
    change = logp[:, used] - answers.logp[used]
    values = np.stack([100 * np.expm1(change), change])
    low, high = mean_interval(values, np.asarray(ids)[used], n_bootstraps, random_state=random_state,
                              purpose="answers")
    dims = ("metric", "space", "target")
    variables = {"score": (dims, values.mean(-1)[..., None]), "n": (("target",), [int(used.sum())]),
                 "ci_low": (dims, low[..., None]), "ci_high": (dims, high[..., None])}
    coords = {"metric": list(METRICS), "target": ["answer"], "model": ("space", [model.id] * len(logp)),
              **{k: v if k == "space" else ("space", v) for k, v in spaces.items()}}
    interval = f"{LEVEL:.0%} percentile interval over {n_bootstraps:,} resamples of stimuli" if n_bootstraps else None
    said = {"interval": interval, "n_blocks": len(list(model.module.get_submodule(head.stack).children())),
            "random_state": random_state, "weights": model.weights,
            "untrained": model.weights.startswith("random"), **answers.describe(), **attrs}
    return scores.make(variables, coords, said)


def _right_tokens(model: LoadedModel, stimuli: StimulusSet, answer: str | None) -> list[set] | None:
    if answer is None:
        return None
    if answer not in stimuli.table:
        raise ValueError(f"answer: no column {answer!r} in the stimuli; they have {list_ids(stimuli.table.columns)}."
                         f"{suggest(answer, stimuli.table.columns)}")
    texts = stimuli.table[answer]
    absent = [i for i, t in zip(stimuli.ids, texts) if not (isinstance(t, str) and t.strip())]
    if absent:
        raise BadStimuli("no answer.", absent, f"Give one in the column {answer!r}, or leave them out.")
    return [{t for tokens in answer_tokens(model, text).values() for t in tokens} for text in texts]


def _batches(model, reader: Reader, head, batch_size, random_state) -> Iterator[tuple[list[int], Replay]]:
    rows, adapter = reader.rows(), model.adapter
    items = [Item(i, adapter.length(model, row), adapter.towers(model, row), row) for i, row in enumerate(rows)]
    mute = [i.content["stimulus_id"] for i in items if head.tower not in i.group]
    if mute:
        raise BadStimuli(f"they do not run through the part of model {model.id!r} that answers.", mute,
                         "Give each a text.")

    def forward(batch, inputs):
        places = inputs.streams[head.tower][LAST].int().argmax(1)
        return Replay(model, head, inputs, places, random_state)

    def read(batch):
        return batch, reader.prepare([i.content for i in batch])

    for batch, replay in run_batches(items, read, forward, make_budget(model, batch_size)):
        yield [i.position for i in batch], replay
