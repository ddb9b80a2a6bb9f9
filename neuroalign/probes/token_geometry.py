"""What tokens of a modality do through the layers: how long they are, how narrow their cone, how far they move."""

import re
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from neuroalign.alignment.feature_basis import host_of
from neuroalign.data.scores import make
from neuroalign.errors import list_ids
from neuroalign.linalg import resolve, to_numpy, to_tensor
from neuroalign.probes.token_spaces import TokenLayer, stream_coords, token_layers, unit_tokens
from neuroalign.stats import LEVEL, half_sample_deviations, make_resamples, percentile_interval

__all__ = ["token_geometry"]



def token_geometry(features, *, streams: Sequence[str] = ("image", "text"), steps: Sequence[int] = (1, 2, 4, 8),
                   n_bootstraps: int = 200, random_state: int = 0, device="auto") -> xr.Dataset:
    """Describe the tokens of each stream in each layer.

    Parameters
    ----------
    features : mapping or list of DataArray (token, feature)
        Of ``na.extract(model, stimuli, streams=[...], pooling="none")``, layers in order.
    streams : sequence of str
    steps : sequence of int
        Layers apart for the drift.
    n_bootstraps : int
        Half samples of the stimuli for the interval.
    random_state : int
    device : str

    Returns
    -------
    Dataset
        Scores (metric, space): ``norm.median``, median length of a token; ``cone``, mean cosine of two tokens of
        different stimuli; ``drift.mean@K`` and ``drift.median@K``, cosine of a token with itself K layers later (NaN
        where there is none in the same list of blocks).

    Notes
    -----
    Shukor & Cord 2024, NeurIPS (arXiv 2405.16700); the cone as in Liang et al. 2022, NeurIPS. The interval is a
    delete-half jackknife over stimuli.

    Examples
    --------
    ``na.probes.token_geometry(na.extract("llava-1.5-7b", pairs, streams=["image", "text"], pooling="none"))``
    """
    streams = [streams] if isinstance(streams, str) else list(streams)
    if any(not isinstance(k, (int, np.integer)) or k < 1 for k in steps):
        raise ValueError(f"steps: got {list_ids(steps)}, expected numbers of layers of at least 1.")
    device, layers = host_of(resolve(device)), token_layers(features, streams)
    ids, halves = layers[0].ids, None
    if n_bootstraps:
        halves = make_resamples(ids, n_bootstraps, kind="subsample", random_state=random_state).counts()
    metrics = ["norm.median", "cone", *(f"drift.{how}@{k}" for k in steps for how in ("mean", "median"))]
    found, spaces = [], []
    for model in dict.fromkeys(layer.model for layer in layers):
        own = [layer for layer in layers if layer.model == model]
        for stream in streams:
            units = [unit_tokens(layer.sides[stream], layer, device) for layer in own]
            for i, layer in enumerate(own):
                later = {k: units[i + k] for k in steps
                         if i + k < len(own) and _stack(own[i + k].layer) == _stack(layer.layer)}
                found.append(_describe(layer, stream, units[i], later, halves))
                spaces.append((layer, stream))
    return _assemble(metrics, found, spaces, n_bootstraps, random_state)


def _stack(layer: str) -> str:
    """Return the list of blocks that a layer is of: tokens of another tower are not the same tokens later.

    Examples
    --------
    >>> _stack("language_model.layers.3.mlp"), _stack("norm")
    ('language_model.layers', 'norm')
    """
    return re.split(r"\.\d+(?:\.|$)", layer)[0]


def _describe(layer: TokenLayer, stream: str, unit: torch.Tensor, later, halves) -> dict[str, tuple]:
    """Return (score, half samples) of each metric."""
    side = layer.sides[stream]
    owner = np.repeat(np.arange(len(side.counts)), side.counts)
    found = {"norm.median": _median(to_numpy(to_tensor(side.values, unit.device).norm(dim=1)), owner, halves),
             "cone": _cone(unit, owner, side.counts, halves)}
    for k, other in later.items():
        if other.shape != unit.shape:
            raise ValueError(f"layers {layer.layer!r} and the one {k} later have tokens of shapes {tuple(unit.shape)} "
                             f"and {tuple(other.shape)}; drift needs the same. Select the layers of one tower.")
        cosine = to_numpy((unit * other).sum(1)).astype(np.float64)
        found[f"drift.median@{k}"] = _median(cosine, owner, halves)
        sums, half = np.bincount(owner, cosine), None
        if halves is not None:
            half = halves @ sums / (halves @ side.counts)
        found[f"drift.mean@{k}"] = cosine.mean(), half
    return found


def _median(values, owner, halves) -> tuple:
    half = None if halves is None else np.array([np.median(values[row[owner] > 0]) for row in halves])
    return np.median(values), half


def _cone(unit, owner, counts, halves) -> tuple:
    """Mean over pairs of tokens of different stimuli: squares of sums, less those of each stimulus."""
    sums = torch.zeros((len(counts), unit.shape[1]), dtype=torch.float64, device=unit.device)
    sums.index_add_(0, torch.as_tensor(owner, device=unit.device), unit.double())
    sums = to_numpy(sums)
    weights = np.ones((1, len(counts))) if halves is None else np.vstack([np.ones(len(counts)), halves])
    total = ((weights @ sums) ** 2).sum(1) - weights @ (sums**2).sum(1)
    values = total / ((weights @ counts) ** 2.0 - weights @ counts**2.0)
    return values[0], None if halves is None else values[1:]


def _assemble(metrics, found, spaces, n_bootstraps, random_state) -> xr.Dataset:
    shape, n = (len(metrics), len(found)), len(spaces[0][0].ids)
    values = {name: np.full(shape, np.nan) for name in ("score", "ci_low", "ci_high")}
    for j, one in enumerate(found):
        for metric, (score, half) in one.items():
            i = metrics.index(metric)
            values["score"][i, j] = score
            if half is not None:
                ends = percentile_interval(score + half_sample_deviations(half, n))
                values["ci_low"][i, j], values["ci_high"][i, j] = ends
    values["n"] = np.full(shape, float(n))
    coords = {"metric": metrics, **stream_coords(spaces),
              "n_tokens": ("space", [int(x.sides[s].counts.sum()) for x, s in spaces])}
    words = {"norm.median": "median length of a token", "cone": "mean cosine of two tokens of different stimuli"}
    words |= {m: "cosine of a token with itself that many layers later" for m in metrics if m.startswith("drift")}
    attrs = {"kind": "token_geometry", "aggregation": words, "n_bootstraps": n_bootstraps,
             "interval": f"delete-half jackknife over stimuli, {LEVEL:.0%}" if n_bootstraps else None,
             "random_state": random_state}
    return make({k: (("metric", "space"), v) for k, v in values.items()}, coords, attrs)
