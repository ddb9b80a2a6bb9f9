"""Features at the rate of frames: one row a moment of a sound or video, the mean over its tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neuroalign.data import StimulusSet
from neuroalign.features.batching import Budget
from neuroalign.features.jobs import Space
from neuroalign.features.tokens import TokenJob, find_times, group_spaces, make_token_set
from neuroalign.features.words import pool_words
from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel

__all__ = ["MomentJob", "plan_moment_jobs"]


@dataclass
class MomentInputs(Inputs):
    """A batch of stimuli, and which moment each of their tokens belongs to (counted over all of them)."""

    n_moments: int = 0
    moment: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))


@dataclass
class MomentJob(TokenJob):
    """Rows are the moments of stimuli, means over the tokens that begin and end together: the patches of a frame.

    `counts` are the moments of each stimulus.
    """

    unit = "moments"
    gap = "have NaN rows"

    def prepare(self, rows: Sequence[Mapping]) -> MomentInputs:
        """Prepare a batch, and find the moments of its tokens."""
        inputs, source = super().prepare(rows), self.spaces[0].source
        index, before = [], 0
        for row in rows:
            moments, inverse = _moments(self.model.adapter.times(self.model, source, row))
            index.append(inverse + before)
            before += len(moments)
        return MomentInputs(inputs.tensors, inputs.streams, inputs.offsets, before,
                            torch.from_numpy(np.concatenate(index)))

    def reduce(self, layer: Layer, stream: str, tokens: torch.Tensor, inputs: MomentInputs) -> torch.Tensor:
        """Return the mean of the tokens of each moment."""
        rows = super().reduce(layer, stream, tokens, inputs)
        if len(rows) != len(inputs.moment):
            raise ValueError(f"model {self.model.id!r}, layer {layer.name!r}: {len(rows)} tokens, and times of "
                             f"{len(inputs.moment)}. Use pooling='mean', and report this.")
        return pool_words(rows, inputs.moment.to(rows.device), inputs.n_moments, "mean")


def plan_moment_jobs(model: LoadedModel, stimuli: StimulusSet, spaces: Sequence[Space], rows: Sequence[Mapping],
                     bad: frozenset, make_entry: Callable, budget: Budget, random_state: int, skip: bool,
                     projection) -> list[MomentJob]:
    """Return one job for the spaces whose tokens are at the same moments; those without times are left out.

    Parameters are those of `plan_token_jobs`.
    """
    fine = [r for r in rows if r["stimulus_id"] not in bad]
    jobs = []
    for group, members in group_spaces(spaces).items():
        try:
            times = find_times(model, members[0], fine)
        except BadStimuli as error:
            if not skip:
                raise
            bad |= set(error.ids)
            fine = [r for r in fine if r["stimulus_id"] not in bad]
            times = find_times(model, members[0], fine)
        if times is None:
            continue
        moments = {i: _moments(t)[0] for i, t in times.items()}
        counts = np.array([len(moments.get(i, ())) for i in stimuli.ids])
        table = make_token_set(stimuli, counts, moments)
        entry = make_entry(table, group, np.r_[0, np.cumsum(counts)].tolist())
        jobs.append(MomentJob(model, entry, table, members, budget, random_state, skip, projection, rows=rows,
                              counts=counts, left_out=bad))
    if not jobs:
        streams = ", ".join(sorted({s.stream for s in spaces}))
        raise ValueError(f"pooling='moment': the tokens of model {model.id!r} ({model.adapter.family}) have no times "
                         f"in the streams {streams}. Use pooling='mean', or a model of sounds or videos on its stream "
                         "'audio' or 'video'.")
    return jobs


def _moments(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments of tokens, (moment, 2), in order, and which of them each token belongs to."""
    moments, inverse = np.unique(times, axis=0, return_inverse=True)
    return moments, inverse.ravel()
