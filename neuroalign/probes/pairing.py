"""Two sides of paired embeddings: which space of one goes with which of the other, rows matched by id, and checked."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr

from neuroalign.alignment.comparison_inputs import match
from neuroalign.data import as_spaces, make_features
from neuroalign.errors import NotAligned, list_ids
from neuroalign.linalg import rows_per_chunk

__all__ = ["PairedSpaces", "match_pairs", "unit_rows_of"]

PARTS = ("model", "layer", "stream")


@dataclass(frozen=True)
class PairedSpaces:
    """Pairs of spaces with equal rows.

    Attributes
    ----------
    names : list of str
        One a pair of spaces: the parts of ``model:layer:stream`` that differ are joined by ``~``.
    ids : array of str
        Stimuli, the same for all pairs.
    arrays : list of (array, array)
        Each of shape (n_stimuli, n_features); memory maps stay such.
    coords : dict of str to array
        ``model``, ``layer``, ``stream``, ``depth``, ``n_features`` of each pair.
    sides : list of (str, str)
        Ids of the two spaces.
    """

    names: list[str]
    ids: np.ndarray
    arrays: list
    coords: dict
    sides: list


def match_pairs(a, b, on_missing: str = "error") -> PairedSpaces:
    """Pair the spaces of two sides, and their rows.

    Parameters
    ----------
    a, b : DataArray (stimulus, feature), mapping or list of them, or array of shape (n_pairs, n_features)
        Labelled sides are matched by ``stimulus_id``. Of several spaces those go together that have the same model and
        layer; where no two do, those at the same place in order of depth. Of arrays row i of one side belongs to row i
        of the other.
    on_missing : {"error", "drop"}
        What to do with stimuli that one side lacks.

    Raises
    ------
    NotAligned
        If spaces or rows have no partner.
    ValueError
        If the two sides differ in width, or rows are zero or hold NaN.
    """
    left, right = _labelled(a, b)
    pairs = _pair_names(left, right)
    models, side = match({x: left[x] for x, _ in pairs}, {y: right[y] for _, y in pairs}, on_missing)
    of_left, of_right = (dict(zip(m.names, m.arrays)) for m in (models, side))
    arrays = [(of_left[x], of_right[y]) for x, y in pairs]
    for (x, y), (first, second) in zip(pairs, arrays):
        if first.shape[1] != second.shape[1]:
            raise ValueError(f"spaces {x!r} and {y!r}: {first.shape[1]} and {second.shape[1]} features, expected one "
                             "space that both modalities share (projected embeddings, or layers of one model). To "
                             "compare geometries use neuroalign.compare.")
    about = [[_about(left[x], x), _about(right[y], y)] for x, y in pairs]
    joined = [{p: _join(one[p], other[p]) for p in PARTS} for one, other in about]
    coords = {p: np.array([j[p] for j in joined]) for p in PARTS}
    coords["depth"] = np.array([np.mean([one["depth"], other["depth"]]) for one, other in about])
    coords["n_features"] = np.array([first.shape[1] for first, _ in arrays])
    names = [":".join(j[p] for p in PARTS) for j in joined]
    return PairedSpaces(names, side.ids, arrays, coords, pairs)


def unit_rows_of(values, ids, name: str, device: torch.device) -> torch.Tensor:
    """Return float32 rows of unit length on a device; a row that has none is an error that names its stimulus."""
    out = np.empty(values.shape, np.float32)
    step = rows_per_chunk(24 * values.shape[1], torch.device("cpu"), limit=2**26)
    bad, empty = [], []
    for start in range(0, len(values), step):
        block = np.asarray(values[start:start + step], np.float64)
        length = np.linalg.norm(block, axis=1)
        here = np.asarray(ids[start:start + step])
        bad += here[~np.isfinite(length)].tolist()
        empty += here[length == 0].tolist()
        with np.errstate(invalid="ignore", divide="ignore"):
            out[start:start + step] = block / length[:, None]
    for wrong, what in ((bad, "hold NaN or infinite values"), (empty, "are zero and have no direction")):
        if wrong:
            raise ValueError(f"space {name!r}: {len(wrong)} rows {what}: {list_ids(wrong)}. Leave these stimuli out on "
                             "both sides, for example by .drop_sel(stimulus=[...]) and on_missing='drop'.")
    return torch.from_numpy(out).to(device)


def _labelled(a, b) -> tuple[Mapping, Mapping]:
    plain = [isinstance(side, (np.ndarray, torch.Tensor, pd.DataFrame)) for side in (a, b)]
    if not any(plain):
        return as_spaces(a), as_spaces(b)
    if not all(plain):
        raise NotAligned("a and b: one is a plain array and the other labelled, so rows cannot be matched by id. Give "
                         "two plain arrays whose rows are pairs, or label both with neuroalign.data.make_features.")
    values = [np.asarray(side) for side in (a, b)]
    for name, value in zip("ab", values):
        if value.ndim != 2:
            raise ValueError(f"{name}: got an array of shape {value.shape}, expected (n_pairs, n_features).")
    if len(values[0]) != len(values[1]):
        raise NotAligned(f"a and b: {len(values[0])} and {len(values[1])} rows, expected pairs: row i of one belongs "
                         "to row i of the other. Label them with neuroalign.data.make_features to match by id.")
    ids = [f"pair{i}" for i in range(len(values[0]))]
    return tuple(as_spaces(make_features(v, ids, model="embeddings", stream=s)) for v, s in zip(values, "ab"))


def _pair_names(left: Mapping, right: Mapping) -> list[tuple[str, str]]:
    for name, side in (("a", left), ("b", right)):
        if not side:
            raise NotAligned(f"{name}: no space given.")
    if len(left) == len(right) == 1:
        return [(next(iter(left)), next(iter(right)))]
    abouts = [{n: _about(s, n) for n, s in side.items()} for side in (left, right)]
    places = [{} for _ in abouts]
    for place, side in zip(places, abouts):
        for name, about in side.items():
            place.setdefault((about["model"], about["layer"]), []).append(name)
        twice = [n for names in place.values() if len(names) > 1 for n in names]
        if twice:
            raise NotAligned(f"spaces {list_ids(twice)} are of one layer and stand on the same side. Choose one stream "
                             "a side: features.select(streams='image') and features.select(streams='text').")
    shared = [key for key in places[0] if key in places[1]]
    if not shared and len(left) == len(right):
        ordered = [sorted(side, key=lambda n: side[n]["depth"]) for side in abouts]
        return list(zip(*ordered))
    alone = [n for p, q in (places, places[::-1]) for key, (n,) in p.items() if key not in q]
    if alone:
        raise NotAligned(f"spaces {list_ids(alone)} have no partner of the same model and layer on the other side. "
                         "Give the same layers of both modalities, for example by features.select(layers=...).")
    return [(places[0][key][0], places[1][key][0]) for key in shared]


def _about(space: xr.DataArray, name: str) -> dict:
    """Return the parts of a space's id and its depth; a bare name stands for the model."""
    about = {p: str(space.coords[p].item()) if p in space.coords else "" for p in PARTS}
    about["depth"] = float(space.coords["depth"].item()) if "depth" in space.coords else np.nan
    return about if about["model"] else about | {"model": name}


def _join(one: str, other: str) -> str:
    return one if one == other else f"{one}~{other}"
