"""Information flow: in which layers does what the answer needs go from one span to another?"""

import numpy as np
import xarray as xr

from neuroalign.data import StimulusSet, space_id
from neuroalign.errors import collect_warnings
from neuroalign.models.adapter import LoadedModel
from neuroalign.models.vocabulary import vocabulary_head
from neuroalign.probes.answers import each_batch, flow_scores
from neuroalign.probes.edges import edge_mask, edge_sites, parse_edges

__all__ = ["information_flow", "window_around"]


def information_flow(model: LoadedModel, stimuli: StimulusSet, edges=("image->last", "text->last", "image->text"), *,
                     window: int = 9, layers=None, answer: str | None = None, n_bootstraps: int = 1000,
                     batch_size: int | None = None, random_state: int = 0) -> xr.Dataset:
    """Measure how much an answer loses when one span cannot read another, in a window of layers around each layer.

    Parameters
    ----------
    model : LoadedModel
        One that predicts tokens (a language model, an MLLM, a captioner, a Whisper).
    stimuli : StimulusSet
        Each with a text that the answer follows, and whatever else the model reads; with a column for each span.
    edges : str or sequence of str
        See `neuroalign.probes.knockout`. Each is blocked by itself.
    window : int
        k: around layer l the blocks from max(0, l - floor(k / 2)) to before min(N, l + ceil(k / 2)).
    layers : sequence of int, optional
        Centres; all blocks by default.
    answer : str, optional
        Column with the right answers. Only stimuli whose first predicted token begins the right answer count then
        (as it is written, in lower case or capitalised). By default all count, whatever is predicted.
    n_bootstraps : int
        Resamples of stimuli for the intervals (95 %, percentile); 0 for none.
    batch_size : int, optional
    random_state : int

    Returns
    -------
    Dataset
        Scores (metric, space, target): a space is an edge (``stream``) around a ``layer``, its target the answer.
        ``flow.relative`` is 100 (p - p0) / p0, the mean over stimuli of the change in percent of the probability of
        the token that the model as it is predicts; ``flow.logp`` the change of its natural logarithm. ``n`` are the
        stimuli that count; attrs say how many there were and the share answered correctly. NaN where no block of a
        window holds the edge (layers without cross-attention).

    Raises
    ------
    BadStimuli
        A span is empty, spans overlap, the mask forbids an edge already, or no answer is right.
    ValueError
        The model predicts no tokens, or its attention cannot be intervened on.

    Notes
    -----
    Zhang et al. (2025, CVPR, arXiv 2411.18620), after Geva et al. (2023, EMNLP); window and relative change are theirs.
    Blocks below a window run once, and so do the tokens before the first that changes, where the mask is causal. Later
    layers may make up for what is missing, so that a change is a lower bound; compare `ablation`.

    Examples
    --------
    >>> flow = information_flow(model, stimuli, ["image->question", "question->last"])  # doctest: +SKIP
    >>> na.plot.knockout_curves(flow)                                                   # doctest: +SKIP
    """
    parsed, head = parse_edges(edges), vocabulary_head(model)
    n_blocks = len(list(model.module.get_submodule(head.stack).children()))
    centres = list(range(n_blocks)) if layers is None else [int(i) for i in layers]
    if window < 1 or not centres or min(centres) < 0 or max(centres) >= n_blocks:
        raise ValueError(f"window, layers: got {window} and {layers}, expected a window of at least 1 and layers from "
                         f"0 to {n_blocks - 1}.")
    logp = np.full((len(parsed), len(centres), len(stimuli)), np.nan)

    def use(replay, rows, tokens):
        for e, edge in enumerate(parsed):
            sites = [s for s in edge_sites(model, replay.inputs, edge) if s.stack == head.stack]
            if not sites:
                raise ValueError(f"edges: {edge.name!r} lies outside {head.stack!r}, where model {model.id!r} answers.")
            masks = {s: edge_mask(replay.inputs, s, edge) for s in sites}
            first = min(int(m.any(2).int().argmax(1).min()) for m in masks.values())
            if edge not in checked:
                replay.check(first)
                checked.add(edge)
            for c, centre in enumerate(centres):
                inside = {s: m for s, m in masks.items() if s.block in window_around(centre, window, n_blocks)}
                if inside:
                    start = min(s.block for s in inside)
                    changed = replay.run(inside, start=start, first_place=first, name=edge.name).log_softmax(-1)
                    logp[e, c, rows] = changed.gather(1, tokens[:, None])[:, 0].double().cpu().numpy()

    checked: set = set()
    with collect_warnings() as said:
        answers = each_batch(model, stimuli, parsed, answer, use, batch_size=batch_size, random_state=random_state)
    answers.require_some(stimuli.ids)
    paths = [f"{head.stack}.{c}" for c in centres]
    spaces = {"space": [space_id(model.id, path, e.name) for e in parsed for path in paths],
              "layer": paths * len(parsed), "stream": [e.name for e in parsed for _ in paths],
              "depth": [(c + 1) / n_blocks for c in centres] * len(parsed)}
    about = {"analysis": "information_flow", "warnings": said, "window": window, "answer": answer,
             "stimuli": stimuli.fingerprint}
    return flow_scores(model, head, answers, logp.reshape(len(spaces["space"]), -1), spaces, stimuli.ids, n_bootstraps,
                       random_state, about)


def window_around(centre: int, width: int, n_blocks: int) -> range:
    """Return the blocks of a window.

    Examples
    --------
    >>> list(window_around(1, 4, 10)), list(window_around(9, 5, 10))
    ([0, 1, 2], [7, 8, 9])
    """
    return range(max(0, centre - width // 2), min(n_blocks, centre - (-width // 2)))

