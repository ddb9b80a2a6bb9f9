"""Unpooled features: one row a token, the tokens of a stimulus together, with offsets that say where each begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch

from neuroalign.data import StimulusSet
from neuroalign.features.batching import Budget, Item, run_batches
from neuroalign.features.hooks import Capture
from neuroalign.features.jobs import SHARD_ROWS, Job, Space, StimulusJob
from neuroalign.features.spans import prepare
from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel, refuse_bad

__all__ = ["TokenJob", "find_times", "group_spaces", "make_token_set", "plan_token_jobs"]

COUNTED = 32  # stimuli prepared at a time to count their tokens


@dataclass
class TokenJob(Job):
    """Rows are the tokens of a stream, of layers that have as many.

    Attributes
    ----------
    rows : list of dict
        What the model is given of each stimulus.
    counts : array of shape (n_stimuli,)
        Tokens of each; 0 where it cannot be used.
    left_out : set of str
        Ids of stimuli that cannot be used.
    """

    rows: Sequence[Mapping] = ()
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    left_out: frozenset = frozenset()
    unit = "tokens"
    gap = "have no rows"

    @property
    def offsets(self) -> np.ndarray:
        """Stimulus i has the rows ``offsets[i]`` to ``offsets[i + 1]``."""
        return np.r_[0, np.cumsum(self.counts)]

    def shards(self):
        """Return row ranges of whole stimuli."""
        shards, start = [], 0
        for stop in self.offsets[1:].tolist():
            if stop - start >= SHARD_ROWS:
                shards.append((start, stop))
                start = stop
        return shards + ([(start, int(self.offsets[-1]))] if self.offsets[-1] > start else [])

    def lengths(self):
        """Return the lengths of the stimuli that can be used."""
        return [self.model.adapter.length(self.model, r) for r, n in zip(self.rows, self.counts)
                if n and r["stimulus_id"] not in self.left_out]

    def prepare(self, rows: Sequence[Mapping]) -> Inputs:
        """Prepare a batch of stimuli."""
        return prepare(self.model, rows)

    def reduce(self, layer: Layer, stream: str, tokens: torch.Tensor, inputs: Inputs) -> torch.Tensor:
        """Return the rows that the stimuli of a batch give."""
        mask = inputs.mask(layer, stream)
        return (tokens.flatten(0, 1) if mask is None else tokens[mask.to(tokens.device)]).float()

    def compute(self, start, stop, names, only=None):
        """Yield the rows of a batch of stimuli at a time."""
        wanted = [s for s in self.spaces if s.name in set(names)]
        layers = list(dict.fromkeys(s.source for s in wanted))
        adapter, model, offsets = self.model.adapter, self.model, self.offsets
        items = [Item(i, adapter.length(model, r), adapter.towers(model, r), r) for i, r in enumerate(self.rows)
                 if self.counts[i] and start <= offsets[i] < stop and r["stimulus_id"] not in self.left_out
                 and (only is None or not only.isdisjoint(range(offsets[i], offsets[i + 1])))]
        self.skipped.update(self.left_out)
        read = partial(self.read_or_skip, lambda batch: self.prepare([i.content for i in batch]))

        def reduce(layer, tokens, inputs):
            return {s.name: self.reduce(layer, s.stream, tokens, inputs) for s in wanted if s.source == layer}

        with Capture(model, layers, reduce) as capture:
            def forward(_, inputs):
                values, _ = capture.run(inputs, self.random_state)
                return {name: self.project(name, value).cpu().numpy() for name, value in values.items()}

            for batch, values in run_batches(items, read, forward, self.budget):
                rows = np.concatenate([np.arange(offsets[i.position], offsets[i.position + 1]) for i in batch])
                for name, value in values.items():
                    if len(value) != len(rows):
                        raise ValueError(f"model {model.id!r}, space {name!r}: {len(value)} tokens, expected "
                                         f"{len(rows)}: its stimuli have differing numbers of positions. Use "
                                         "pooling='mean'.")
                yield rows, values


def plan_token_jobs(model: LoadedModel, stimuli: StimulusSet, spaces: Sequence[Space], rows: Sequence[Mapping],
                    bad: frozenset, make_entry: Callable, budget: Budget, random_state: int, skip: bool,
                    projection) -> list[TokenJob]:
    """Count the tokens of all stimuli, and return one job for the spaces that have the same ones.

    All stimuli are prepared once for it (texts tokenised, images opened), without a forward.

    Parameters
    ----------
    make_entry : callable
        ``make_entry(tokens: StimulusSet, group: str, offsets: list) -> Entry``.
    """
    reader = StimulusJob(model, None, stimuli, spaces, budget, random_state, skip, rows=rows, bad=bad)
    groups = group_spaces(spaces)
    counts, left_out = _count(reader, groups, random_state)
    jobs = []
    for group, members in groups.items():
        usable = [r for r, n in zip(rows, counts[group]) if n and r["stimulus_id"] not in left_out]
        try:
            times = find_times(model, members[0], usable)
        except BadStimuli:  # arrays of frames without a rate: their tokens have the time of their stimulus
            times = None
        tokens = make_token_set(stimuli, counts[group], times)
        offsets = np.r_[0, np.cumsum(counts[group])].tolist()
        jobs.append(TokenJob(model, make_entry(tokens, group, offsets), tokens, members, budget, random_state, skip,
                             projection, rows=rows, counts=counts[group], left_out=left_out))
    return jobs


def group_spaces(spaces: Sequence[Space]) -> dict[str, list[Space]]:
    """Group the spaces that have the same tokens."""
    groups: dict[str, list[Space]] = {}
    for space in spaces:
        source = space.source
        groups.setdefault(f"{source.tower}:{space.stream}" if source.masked else space.name, []).append(space)
    return groups


def find_times(model: LoadedModel, space: Space, rows: Sequence[Mapping]) -> dict[str, np.ndarray] | None:
    """Return the seconds of the tokens of stimuli, (token, 2) by id, from the start of each; None where they have none.

    Raises
    ------
    BadStimuli
        Naming those that have no times, such as arrays of frames without a rate.
    """
    find = getattr(model.adapter, "times", None)
    if find is None or space.stream not in ("audio", "video"):
        return None
    found = refuse_bad(rows, lambda row: find(model, space.source, row), "Use pooling='mean', or leave them out.")
    return None if any(t is None for t in found) else {r["stimulus_id"]: t for r, t in zip(rows, found)}


def make_token_set(stimuli: StimulusSet, counts: np.ndarray, times: Mapping[str, np.ndarray] | None) -> StimulusSet:
    """Return one row a token: ``stimulus_id = parent#k``.

    With times, ``since`` says when a token begins, in seconds from the start of its stimulus, ``duration`` how long it
    is, and ``onset`` when it begins on the clock of the recording, if its stimulus has one. Without, these are the
    onset and duration of the stimulus.
    """
    parents = np.repeat(np.asarray(stimuli.ids, dtype=object), counts)
    position = np.concatenate([np.arange(n) for n in counts] or [np.zeros(0, int)])
    table = pd.DataFrame({"text": "", "parent": parents, "position": position},
                         index=[f"{p}#{k}" for p, k in zip(parents, position)])
    for column in ("onset", "duration"):
        if column in stimuli.table.columns:
            table[column] = np.repeat(stimuli.table[column].to_numpy(), counts)
    if times:
        begin, end = np.concatenate([times[i] for i, n in zip(stimuli.ids, counts) if n]).T
        if len(begin) != len(table):
            raise ValueError(f"tokens: {len(table)} of them, and times of {len(begin)}. Use pooling='mean', and report "
                             "this.")
        table["since"], table["duration"] = begin, end - begin
        if "onset" in table.columns:
            table["onset"] = table["onset"] + begin
    return StimulusSet(table, stimuli.name)


def _count(reader: StimulusJob, groups, seed) -> tuple[dict[str, np.ndarray], frozenset]:
    model, adapter = reader.model, reader.model.adapter
    counts = {g: np.zeros(len(reader.rows), int) for g in groups}
    items = [Item(i, 1, adapter.towers(model, r), r) for i, r in enumerate(reader.rows)
             if r["stimulus_id"] not in reader.bad]
    items.sort(key=lambda i: str(i.group))
    loose = [s for members in groups.values() for s in members if not s.source.masked]
    width: dict[str, int] = {}
    start = 0
    while start < len(items):
        batch = [i for i in items[start:start + COUNTED] if i.group == items[start].group]
        start += len(batch)
        ready, inputs = reader.read_or_skip(lambda b: prepare(model, [i.content for i in b]), batch)
        if not ready:
            continue
        if loose and not width:
            width = _positions(model, [ready[0].content], loose, seed)
        at = [i.position for i in ready]
        for group, members in groups.items():
            source = members[0].source
            if source.masked:
                counts[group][at] = inputs.streams[source.tower][members[0].stream].sum(1).cpu().numpy()
            else:
                counts[group][at] = width[members[0].name]
    return counts, frozenset(reader.skipped | reader.bad)


def _positions(model, rows, spaces, seed) -> dict[str, int]:
    """Return how many positions layers without a mask have, as one stimulus shows."""
    def reduce(layer, tokens, inputs):
        return {s.name: tokens.shape[1] for s in spaces if s.source == layer}

    with Capture(model, list(dict.fromkeys(s.source for s in spaces)), reduce) as capture:
        return capture.run(prepare(model, rows), seed)[0]
