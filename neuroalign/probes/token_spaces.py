"""Unpooled tokens of two modalities, layer by layer: which rows belong to which stimulus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from neuroalign.data import as_spaces, space_id
from neuroalign.errors import NotAligned, list_ids
from neuroalign.linalg import to_tensor

__all__ = ["TokenLayer", "TokenSide", "stream_coords", "token_layers", "unit_tokens"]


@dataclass(frozen=True)
class TokenSide:
    """Tokens of one stream in one layer.

    Attributes
    ----------
    values : array of shape (n_tokens, n_features)
        The tokens of a stimulus together, as a memory map where it was one.
    counts : int array of shape (n_stimuli,)
    """

    values: np.ndarray
    counts: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        """Stimulus i has the rows ``offsets[i]`` to ``offsets[i + 1]``."""
        return np.r_[0, np.cumsum(self.counts)]


@dataclass(frozen=True)
class TokenLayer:
    """One layer with its streams.

    Attributes
    ----------
    model, layer : str
    depth : float
    ids : array of str, shape (n_stimuli,)
        The same for all streams.
    sides : dict of str to TokenSide
    """

    model: str
    layer: str
    depth: float
    ids: np.ndarray
    sides: dict[str, TokenSide]


def token_layers(features, streams: Sequence[str]) -> list[TokenLayer]:
    """Return the layers that have all of some streams, in the order of the features.

    Parameters
    ----------
    features : mapping or list of DataArray (token, feature)
        What ``extract(..., pooling="none")`` returns.
    streams : sequence of str

    Raises
    ------
    NotAligned
        If the features are pooled, if no layer has all of the streams, or if the streams of a layer are of different
        stimuli.
    """
    found: dict[tuple, dict] = {}
    for name, space in as_spaces(features).items():
        if "parent" not in space.coords:
            raise NotAligned(f"features {name!r} have one row a stimulus; this needs one row a token. Extract with "
                             "pooling='none'.")
        key = (str(space.model.item()), str(space.layer.item()))
        found.setdefault(key, {})[str(space.stream.item())] = space
    layers = []
    for (model, layer), sides in found.items():
        if not set(streams) <= set(sides):
            continue
        ids, ready = None, {}
        for stream in dict.fromkeys(streams):
            space = sides[stream]
            codes, own = pd.factorize(space.parent.values)
            if (np.diff(codes) < 0).any():
                raise NotAligned(f"features {model}:{layer}:{stream}: the rows of a stimulus do not stand together.")
            if ids is not None and not np.array_equal(ids, own):
                wrong = pd.Index(ids).symmetric_difference(pd.Index(own))
                raise NotAligned(f"layer {layer!r} of {model!r}: its streams {' and '.join(streams)} do not have the "
                                 f"same stimuli in the same order: {list_ids(wrong if len(wrong) else own)}. Extract "
                                 "stimuli that have both.")
            ids = np.asarray(own)
            ready[stream] = TokenSide(space.transpose(..., "feature").data, np.bincount(codes))
        depth = float(space.depth.item()) if "depth" in space.coords else np.nan
        layers.append(TokenLayer(model, layer, depth, ids, ready))
    if not layers:
        have = sorted({s for sides in found.values() for s in sides})
        raise NotAligned(f"features: no layer has tokens of {' and '.join(map(repr, streams))}; they have "
                         f"{list_ids(have)}. Extract the layers where the modalities meet, with "
                         f"streams={list(streams)} and pooling='none'.")
    counts = {len(layer.ids) for layer in layers}
    if len(counts) > 1:
        raise NotAligned(f"features: the layers have {sorted(counts)} stimuli, expected the same in each.")
    return layers


def unit_tokens(side: TokenSide, layer: TokenLayer, device: torch.device) -> torch.Tensor:
    """Return the tokens scaled to unit length, float32; tokens that hold NaN are an error."""
    values = to_tensor(np.asarray(side.values, np.float32), device)
    if not torch.isfinite(values).all():
        bad = np.repeat(layer.ids, side.counts)[~torch.isfinite(values).all(1).cpu().numpy()]
        raise ValueError(f"layer {layer.layer!r} of {layer.model!r}: NaN or infinite values in tokens of "
                         f"{list_ids(pd.unique(bad))}. Leave these stimuli out.")
    return torch.nn.functional.normalize(values, eps=torch.finfo(torch.float32).tiny)


def stream_coords(spaces: Sequence[tuple[TokenLayer, str]]) -> dict:
    """Return coords of Scores (space) of layers, each with a stream, or two as ``a~b``.

    Examples
    --------
    >>> stream_coords([(TokenLayer("m", "block.0", 0.5, np.array(["s"]), {}), "image")])["space"]
    ['m:block.0:image']
    """
    return {"space": [space_id(x.model, x.layer, stream) for x, stream in spaces],
            "model": ("space", [x.model for x, _ in spaces]), "layer": ("space", [x.layer for x, _ in spaces]),
            "stream": ("space", [stream for _, stream in spaces]), "depth": ("space", [x.depth for x, _ in spaces])}
