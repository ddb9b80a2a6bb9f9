"""Which words the tokens of each modality are near, layer by layer: states through the unembedding of the model."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from neuroalign.data.scores import make
from neuroalign.errors import list_ids
from neuroalign.linalg import rows_per_chunk
from neuroalign.models.adapter import LoadedModel
from neuroalign.models.vocabulary import VocabularyHead, vocabulary_head
from neuroalign.probes.token_spaces import TokenSide, stream_coords, token_layers
from neuroalign.stats import LEVEL, half_sample_deviations, make_resamples, percentile_interval

__all__ = ["vocabulary_projection"]



def vocabulary_projection(model: LoadedModel, features, *, a: str = "image", b: str = "text", norm: bool = True,
                          top: int = 10, n_bootstraps: int = 100, random_state: int = 0) -> xr.Dataset:
    """Project tokens onto the vocabulary of their model.

    Parameters
    ----------
    model : LoadedModel
        That the features were extracted with.
    features : mapping or list of DataArray (token, feature)
        Residual streams of ``na.extract(model, stimuli, streams=[a, b], pooling="none")``.
    a, b : str
    norm : bool
        Through the final normalisation first, as the last block goes.
    top : int
        Words to keep of each layer and stream.
    n_bootstraps : int
        Half samples of the stimuli for the interval.
    random_state : int

    Returns
    -------
    Dataset
        Scores (metric, space): ``vocabulary.kl``, divergence of the mean distribution of `b` from that of `a` (nats),
        in spaces ``a~b``; ``vocabulary.entropy``, mean entropy of the distribution of a token (nats), in spaces ``a``
        and ``b``. ``attrs["top_words"]`` has, of each layer and stream, the likeliest words with the share of tokens
        whose likeliest word they are.

    Notes
    -----
    Shukor & Cord 2024, NeurIPS (arXiv 2405.16700).

    Examples
    --------
    ``na.probes.vocabulary_projection(model, na.extract(model, pairs, streams=["image", "text"], pooling="none"))``
    """
    head, layers = vocabulary_head(model), token_layers(features, (a, b))
    foreign = sorted({x.model for x in layers} - {model.id})
    if foreign:
        raise ValueError(f"features: of {list_ids(foreign)}, expected of {model.id!r}, whose vocabulary this is.")
    layers = [x for x in layers if x.layer.startswith(f"{head.stack}.")]
    if not layers:
        raise ValueError(f"features: no layer of {head.stack!r}, whose states model {model.id!r} turns into words.")
    ids, halves = layers[0].ids, None
    if n_bootstraps:
        halves = make_resamples(ids, n_bootstraps, kind="subsample", random_state=random_state).counts()
    decode = model.processors["text"].tokenizer.convert_ids_to_tokens
    cells, words = [], {}
    for layer in layers:
        sums = {}
        for stream in (a, b):
            side = layer.sides[stream]
            sums[stream], entropy, best = _project(head, model, side, norm)
            share = np.bincount(best, minlength=sums[stream].shape[1]) / len(best)
            chosen = np.argsort(-share, kind="stable")[:top]
            name = f"{model.id}:{layer.layer}:{stream}"
            words[name] = [[str(decode(int(k))), float(share[k])] for k in chosen if share[k]]
            cells.append(("vocabulary.entropy", layer, stream, *_mean_entropy(entropy, side, halves)))
        counts = [layer.sides[s].counts for s in (a, b)]
        cells.append(("vocabulary.kl", layer, f"{a}~{b}", *_divergence(sums[a], sums[b], *counts, halves)))
    attrs = {"kind": "vocabulary_projection", "streams": [a, b], "norm": norm, "top_words": words,
             "n_bootstraps": n_bootstraps, "random_state": random_state, "weights": model.weights,
             "untrained": model.weights.startswith("random"),
             "aggregation": {"vocabulary.kl": f"KL({a} || {b}) of mean distributions over the vocabulary, nats",
                             "vocabulary.entropy": "mean entropy of the distribution of a token, nats"},
             "interval": f"delete-half jackknife over stimuli, {LEVEL:.0%}" if n_bootstraps else None}
    return _assemble(cells, len(ids), attrs)


def _project(head: VocabularyHead, model: LoadedModel, side: TokenSide, norm: bool):
    """Return sums of distributions by stimulus, the entropy of each token, and its likeliest word."""
    owner, sums, entropy, best, step = np.repeat(np.arange(len(side.counts)), side.counts), None, [], [], None
    start = 0
    while start < len(side.values):
        rows = np.array(side.values[start:start + (step or 1)], np.float32)
        with torch.inference_mode():
            states = torch.from_numpy(rows).to(model.device, model.dtype)
            logp = head.logits(states[None], norm)[0].log_softmax(-1)
            entropy.append(-(logp.exp() * logp).sum(-1).cpu().numpy())
            best.append(logp.argmax(-1).cpu().numpy())
            if sums is None:
                sums = torch.zeros((len(side.counts), logp.shape[1]), dtype=torch.float64)
                step = rows_per_chunk(16 * logp.shape[1], model.device)
            places = torch.as_tensor(owner[start:start + len(rows)])
            sums.index_add_(0, places, logp.exp().cpu().double())
        start += len(rows)
    return sums.numpy(), np.concatenate(entropy).astype(float), np.concatenate(best)


def _mean_entropy(entropy, side: TokenSide, halves) -> tuple:
    owner = np.repeat(np.arange(len(side.counts)), side.counts)
    half = None if halves is None else halves @ np.bincount(owner, entropy) / (halves @ side.counts)
    return entropy.mean(), half


def _divergence(p, q, n_p, n_q, halves) -> tuple:
    def measure(weights):
        one, other = weights @ p / (weights @ n_p), weights @ q / (weights @ n_q)
        tiny = np.finfo(float).tiny
        return float((one * (np.log(one + tiny) - np.log(other + tiny))).sum())

    return measure(np.ones(len(p))), None if halves is None else np.array([measure(h) for h in halves])


def _assemble(cells: Sequence[tuple], n: int, attrs) -> xr.Dataset:
    metrics = ["vocabulary.kl", "vocabulary.entropy"]
    values = {name: np.full((2, len(cells)), np.nan) for name in ("score", "ci_low", "ci_high", "n")}
    for j, (metric, _, _, score, half) in enumerate(cells):
        i = metrics.index(metric)
        values["score"][i, j], values["n"][i, j] = score, n
        if half is not None:
            ends = percentile_interval(score + half_sample_deviations(half, n))
            values["ci_low"][i, j], values["ci_high"][i, j] = ends
    coords = {"metric": metrics, **stream_coords([(layer, stream) for _, layer, stream, *_ in cells])}
    return make({k: (("metric", "space"), v) for k, v in values.items()}, coords, attrs)
