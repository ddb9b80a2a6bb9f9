"""Logit lens: what a model would answer if its blocks ended here."""

import numpy as np
import xarray as xr

from neuroalign.data import StimulusSet, scores, space_id
from neuroalign.errors import collect_warnings
from neuroalign.models.adapter import LoadedModel
from neuroalign.models.vocabulary import vocabulary_head
from neuroalign.probes.answers import answer_tokens, each_batch

__all__ = ["logit_lens"]


def logit_lens(model: LoadedModel, stimuli: StimulusSet, *, norm: bool = True, answer: str | None = None,
               batch_size: int | None = None, random_state: int = 0) -> xr.Dataset:
    """Read the answer off the residual stream of the last token, layer by layer.

    Parameters
    ----------
    model : LoadedModel
        One that predicts tokens.
    stimuli : StimulusSet
        Each with a text that the answer follows, and whatever else the model reads.
    norm : bool
        Apply the final normalisation before the unembedding. Without it, as some published code does, layers before
        the last are read in a scale that the unembedding was not trained for.
    answer : str, optional
        Column with the right answers: their probabilities in lower case and capitalised come beside, and only
        stimuli answered correctly count.
    batch_size : int, optional
    random_state : int

    Returns
    -------
    Dataset
        Scores (metric, space, target): a space is the embedding or the output of a block (``stream="last"``).
        ``lens.p.predicted`` is the mean probability of the token that the whole model predicts, ``lens.rank`` its mean
        rank (0: first), ``lens.entropy`` that of the distribution (bits); with `answer` also ``lens.p.lower`` and
        ``lens.p.capitalised``, summed over the tokens that such an answer may begin with. ``n`` are the stimuli.

    Notes
    -----
    nostalgebraist (2020); Zhang et al. (2025, CVPR, arXiv 2411.18620) follow lower case and capitalised answers so.

    Examples
    --------
    >>> lens = logit_lens(model, stimuli, answer="answer")  # doctest: +SKIP
    """
    head = vocabulary_head(model)
    n_blocks = len(list(model.module.get_submodule(head.stack).children()))
    metrics = ["lens.p.predicted", "lens.rank", "lens.entropy"]
    words = None
    if answer is not None and answer in stimuli.table:
        metrics += ["lens.p.lower", "lens.p.capitalised"]
        words = [answer_tokens(model, str(text)) for text in stimuli.table[answer]]
    values = np.full((len(metrics), n_blocks + 1, len(stimuli)), np.nan)

    def use(replay, rows, tokens):
        for layer, states in enumerate(replay.states):
            at = states[range(len(rows)), replay.places]
            logp = head.logits(at, norm).log_softmax(-1)
            own = logp.gather(1, tokens[:, None])
            values[0, layer, rows] = own[:, 0].exp().cpu().numpy()
            values[1, layer, rows] = (logp > own).sum(1).cpu().numpy()
            values[2, layer, rows] = (-(logp.exp() * logp).sum(1) / np.log(2)).cpu().numpy()
            for k, kind in enumerate(("lower", "capitalised") if words else ()):
                values[3 + k, layer, rows] = [logp[i, words[row][kind]].exp().sum().item()
                                              for i, row in enumerate(rows)]

    with collect_warnings() as said:
        answers = each_batch(model, stimuli, [], answer, use, batch_size=batch_size, random_state=random_state)
    answers.require_some(stimuli.ids)
    layers = [f"{head.stack}.0.input", *(f"{head.stack}.{i}" for i in range(n_blocks))]
    coords = {"metric": metrics, "space": [space_id(model.id, x, "last") for x in layers], "target": ["answer"],
              "model": ("space", [model.id] * len(layers)), "layer": ("space", layers),
              "stream": ("space", ["last"] * len(layers)), "depth": ("space", np.arange(n_blocks + 1) / n_blocks)}
    kept = values[:, :, answers.used]
    about = {"analysis": "logit_lens", "warnings": said, "norm": norm, "answer": answer,
             "stimuli": stimuli.fingerprint, "weights": model.weights, "random_state": random_state,
             "untrained": model.weights.startswith("random"),
             **answers.describe()}
    return scores.make({"score": (("metric", "space", "target"), kept.mean(2)[..., None]),
                        "n": (("target",), [kept.shape[2]])}, coords, about)
