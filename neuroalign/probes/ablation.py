"""Ablation of the residual stream: what an answer loses when the tokens of a span are replaced by their mean."""

import numpy as np
import torch
import xarray as xr

from neuroalign.data import StimulusSet, space_id
from neuroalign.errors import check_option, collect_warnings, warn_user
from neuroalign.models.adapter import BadStimuli, LoadedModel
from neuroalign.models.vocabulary import vocabulary_head
from neuroalign.probes.answers import each_batch, flow_scores
from neuroalign.probes.edges import ENCODER, Edge, parse_edges
from neuroalign.probes.information_flow import window_around

__all__ = ["ablation"]


def ablation(model: LoadedModel, stimuli: StimulusSet, spans=("image",), *, how: str = "suffix", value: str = "mean",
             window: int = 9, answer: str | None = None, n_bootstraps: int = 1000, batch_size: int | None = None,
             random_state: int = 0) -> xr.Dataset:
    """Measure how much an answer loses when a span says nothing, from a layer on or in a window of layers.

    A check on `information_flow` by other means: nothing is taken from attention, the states of the tokens are
    replaced where they enter a block, so that whatever reads them reads what all stimuli share.

    Parameters
    ----------
    model, stimuli, answer, n_bootstraps, batch_size, random_state
        As in `information_flow`.
    spans : str or sequence of str
        Streams or columns; see `neuroalign.probes.knockout`.
    how : {"suffix", "window"}
        Replace the states in all blocks from each layer on, or in the window around it. Once the suffix no longer
        matters, what the answer needs has left the span. (A prefix would tell nothing: its end decides alone.)
    value : {"mean", "zero"}
        What the states become: their mean over the tokens of the span of all stimuli in that layer, or zeros.
    window : int
        As in `information_flow`.

    Returns
    -------
    Dataset
        Scores as those of `information_flow`, with the span as ``stream``.

    Examples
    --------
    >>> gone = ablation(model, stimuli, "image", how="suffix")  # doctest: +SKIP
    """
    check_option("how", how, ("suffix", "window"))
    check_option("value", value, ("mean", "zero"))
    names = [spans] if isinstance(spans, str) else list(spans)
    edges = [e for name in names for e in parse_edges(f"{name}->last")]
    head = vocabulary_head(model)
    if ENCODER in names:
        raise ValueError("spans: 'encoder' has no tokens in the layers that answer; block 'encoder->text' instead.")
    n_blocks = len(list(model.module.get_submodule(head.stack).children()))
    means = _means(model, stimuli, edges, head, batch_size, random_state) if value == "mean" else {}
    logp = np.full((len(edges), n_blocks, len(stimuli)), np.nan)

    def use(replay, rows, tokens):
        for e, edge in enumerate(edges):
            mask = _span(replay, edge, head)
            for layer in range(n_blocks):
                blocks = range(layer, n_blocks) if how == "suffix" else window_around(layer, window, n_blocks)

                def edit(block, states, mask=mask, blocks=blocks, edge=edge):
                    if block not in blocks:
                        return states
                    fill = means[edge][block] if means else torch.zeros_like(states[0, 0])
                    return torch.where(mask[..., None], fill.to(states), states)

                changed = replay.run(start=blocks[0], edit=edit).log_softmax(-1)
                logp[e, layer, rows] = changed.gather(1, tokens[:, None])[:, 0].double().cpu().numpy()

    with collect_warnings() as said:
        if value == "mean" and len(stimuli) < 2:
            warn_user("the mean over one stimulus holds what the stimulus says. Give more.", "few-stimuli", stimuli.ids)
        answers = each_batch(model, stimuli, edges, answer, use, batch_size=batch_size, random_state=random_state)
    answers.require_some(stimuli.ids)
    paths = [f"{head.stack}.{i}" for i in range(n_blocks)]
    spaces = {"space": [space_id(model.id, path, name) for name in names for path in paths],
              "layer": paths * len(names), "stream": [name for name in names for _ in paths],
              "depth": [i / n_blocks for i in range(n_blocks)] * len(names)}
    about = {"analysis": "ablation", "warnings": said, "how": how, "value": value, "answer": answer,
             "window": window if how == "window" else None, "stimuli": stimuli.fingerprint}
    return flow_scores(model, head, answers, logp.reshape(len(spaces["space"]), -1), spaces, stimuli.ids, n_bootstraps,
                       random_state, about)


def _means(model, stimuli, edges, head, batch_size, random_state) -> dict[Edge, list[torch.Tensor]]:
    """Return the mean state of the tokens of each span where they enter each block."""
    sums: dict = {}

    def use(replay, rows, tokens):
        for edge in edges:
            mask = _span(replay, edge, head)
            for block, states in enumerate(replay.states[:-1]):
                total, count = sums.get((edge, block), (0.0, 0))
                sums[edge, block] = (total + states[mask].double().sum(0), count + int(mask.sum()))

    each_batch(model, stimuli, edges, None, use, batch_size=batch_size, random_state=random_state)
    blocks = sorted({block for _, block in sums})
    return {edge: [sums[edge, b][0] / sums[edge, b][1] for b in blocks] for edge in edges}


def _span(replay, edge: Edge, head) -> torch.Tensor:
    """Return which tokens a span holds, the answering one aside."""
    streams = replay.inputs.streams[head.tower]
    if edge.source not in streams:
        raise ValueError(f"spans: {edge.source!r} has no tokens where the model answers; {head.tower!r} has "
                         f"{', '.join(streams)}.")
    mask = streams[edge.source] & ~streams[edge.target]
    empty = [i for i, there in zip(replay.inputs.ids, mask.any(1).tolist()) if not there]
    if empty:
        raise BadStimuli(f"the span {edge.source!r} is empty.", empty, "Leave them out, or name another span.")
    return mask
