"""Named spans: the tokens of a part of a text as a stream, and the last token of a sequence."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from neuroalign.data import StimulusSet
from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel

__all__ = ["LAST", "find_spans", "prepare", "span_streams", "spans_identity"]

LAST = "last"  # the stream of the last token, which has read all of a sequence in a causal model


def find_spans(stimuli: StimulusSet, names: Sequence[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """Find the characters of named spans: stimulus id -> name -> (start, stop).

    Parameters
    ----------
    stimuli : StimulusSet
        Each name is a column that holds, for each stimulus, a part of its text or the (start, stop) of its characters.
    names : sequence of str

    Raises
    ------
    BadStimuli
        A span is absent, not in the text, there more than once, or beyond its ends.

    Examples
    --------
    >>> texts = StimulusSet.from_texts(["Q: who? A: me"])
    >>> find_spans(StimulusSet(texts.table.assign(question="who?")), ["question"])
    {'text0': {'question': (3, 7)}}
    """
    found: dict[str, dict[str, tuple[int, int]]] = {i: {} for i in stimuli.ids}
    for name in names:
        for stimulus, text, value in zip(stimuli.ids, stimuli.table["text"], stimuli.table[name]):
            try:
                found[stimulus][name] = _find(str(text), value)
            except ValueError as error:
                raise BadStimuli(f"span {name!r}: {error}.", [stimulus],
                                 f"Give in the column {name!r} a part of the text, or (start, stop) in characters."
                                 ) from None
    return found


def span_streams(layer: Layer) -> bool:
    """Return whether spans of text are streams of a layer."""
    return layer.masked and "text" in layer.streams


def spans_identity(spans: Mapping) -> str:
    """Return a sha256 over spans, for the key of an entry."""
    return hashlib.sha256(json.dumps(spans, sort_keys=True).encode()).hexdigest()


def prepare(model: LoadedModel, rows: Sequence[Mapping]) -> Inputs:
    """Prepare a batch with the streams of the spans that its rows carry (``spans``), and of the last token.

    Raises
    ------
    BadStimuli
        No token begins in a span.
    """
    inputs = model.adapter.prepare(model, rows)
    streams = {}
    for tower, masks in inputs.streams.items():
        streams[tower] = dict(masks)
        if "text" not in masks:
            continue
        whole = masks["all"]
        streams[tower][LAST] = whole & (whole.flip(1).cumsum(1).flip(1) == 1)
        for name in rows[0].get("spans", {}):
            streams[tower][name] = _mask(rows, name, masks["text"], inputs.offsets[tower])
    return replace(inputs, streams=streams)


def _find(text: str, value) -> tuple[int, int]:
    if isinstance(value, str) and value.strip():
        count = text.count(value)
        if count != 1:
            raise ValueError(f"{value!r} is {f'{count} times' if count else 'not'} in the text {_short(text)!r}")
        start = text.index(value)
        return start, start + len(value)
    try:
        start, stop = (int(v) for v in value)
    except (TypeError, ValueError):
        raise ValueError(f"got {value!r}") from None
    if not 0 <= start < stop <= len(text):
        raise ValueError(f"characters {start} to {stop} of a text of {len(text)}")
    return start, stop


def _mask(rows, name, text: torch.Tensor, offsets) -> torch.Tensor:
    mask = torch.zeros(text.shape, dtype=torch.bool)
    for row, (stimulus, spans) in enumerate(zip(rows, offsets)):
        start, stop = stimulus["spans"][name]
        for k, (a, b) in enumerate(spans):
            mask[row, k] = a < stop and b > start
    mask = mask.to(text.device) & text
    empty = [s["stimulus_id"] for s, there in zip(rows, mask.any(1).tolist()) if not there]
    if empty:
        raise BadStimuli(f"span {name!r} holds no token.", empty, "Give a longer span.")
    return mask


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
