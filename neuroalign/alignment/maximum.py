"""The best layer of a model, or the best pair of layers of two, with the p-value of a maximum."""

import numpy as np
import xarray as xr

from neuroalign.alignment.metrics import METRICS
from neuroalign.data.scores import attrs_of, make, validate
from neuroalign.stats import permutation_p

__all__ = ["max_over_layers"]


def max_over_layers(scores: xr.Dataset) -> xr.Dataset:
    """Return the best score over the layers of each model (and of the other model), with the null of that maximum.

    The best of many layers exceeds what one layer reaches by chance. Each permutation is therefore searched as the
    scores were: p compares the maximum with the maxima of all permutations, over the same layers or layer pairs.

    Parameters
    ----------
    scores : Dataset
        Of `compare` with ``keep=["null"]``. Spaces of one ``model`` compete, and with the dim ``space_b`` those of
        one ``model_b``; a space that has no model stands alone. The best is the smallest where lower is better.

    Returns
    -------
    Dataset
        Scores (metric, space, target or space_b[, time_bin]), one space a model: score, null_mean, null_sd and p of
        the maximum, n of the winner, and coords ``best`` (and ``best_b``): which spaces it was. `p_max` of
        `compare` answers the same over everything at once.

    Raises
    ------
    ValueError
        If the null was not kept.

    Notes
    -----
    The maximum over layer pairs is what Huh et al. 2024, ICML, report, without a null.

    Examples
    --------
    >>> from neuroalign.alignment import compare
    >>> from neuroalign.data import make_features
    >>> rng = np.random.default_rng(0)
    >>> ids, x = [f"s{i:02d}" for i in range(20)], rng.standard_normal((20, 5))
    >>> a = [make_features(rng.standard_normal((20, 5)), ids, model="a", layer="l1"),
    ...      make_features(x, ids, model="a", layer="l2")]
    >>> b = make_features(x, ids, model="b", layer="l1")
    >>> found = max_over_layers(compare(a, b, metric="cka.debiased", n_permutations=99, keep=["null"]))
    >>> found.best.item(), found.best_b.item(), found.p.item()
    ('a:l2:all', 'b:l1:all', 0.01)
    """
    validate(scores)
    if "null" not in scores:
        raise ValueError("max_over_layers: the null was not kept. Compare with keep=['null'], n_permutations above 0.")
    unit = scores["score"].dims[2]
    dims = ("metric", "space", unit, *[d for d in scores["score"].dims if d == "time_bin"])
    value = scores["score"].transpose(*dims).values
    null = scores["null"].transpose("permutation", *dims).values
    lower = np.array([m in METRICS and METRICS[m].direction == "lower" for m in map(str, scores["metric"].values)])
    sign = np.where(lower, -1.0, 1.0).reshape(-1, *[1] * (len(dims) - 1))
    # A pair whose score or null does not exist takes part in neither maximum.
    known = ~np.isnan(value) & ~np.isnan(null).all(0)
    value, null = np.where(known, sign * value, -np.inf), np.where(known, sign * null, -np.inf)
    own = _groups(scores, "space", "model")
    others = _groups(scores, unit, "model_b") if unit == "space_b" else {str(v): np.array([k]) for k, v in
                                                                         enumerate(scores[unit].values)}
    shape = (len(value), len(own), len(others), *value.shape[3:])
    best, where = np.empty(shape), np.empty((2, *shape), int)
    best_null = np.empty((len(null), *shape))
    for i, rows in enumerate(own.values()):
        for j, columns in enumerate(others.values()):
            part = value[:, rows][:, :, columns].reshape(len(value), -1, *value.shape[3:])
            place = part.argmax(1)
            best[:, i, j] = part.max(1)
            where[:, :, i, j] = rows[place // len(columns)], columns[place % len(columns)]
            best_null[:, :, i, j] = np.nanmax(
                null[:, :, rows][:, :, :, columns].reshape(*null.shape[:2], -1, *value.shape[3:]), 2)
    # A null of equal sides asks whether the two differ; it has no best.
    unasked = np.array([m in METRICS and METRICS[m].null == "sides" for m in map(str, scores["metric"].values)])
    lost = np.isneginf(best)
    best, best_null = np.where(lost, np.nan, best), np.where(lost, np.nan, best_null)
    p = permutation_p(best.astype(np.float32), best_null)  # the null was kept in float32: ties stay ties
    p[unasked] = np.nan
    sign = sign.reshape(-1, *[1] * (best.ndim - 1))
    variables = {"score": sign * best, "null_mean": sign * best_null.mean(0), "null_sd": best_null.std(0), "p": p}
    if "n" in scores:
        n = scores["n"].transpose(*dims).values
        variables["n"] = np.where(lost, np.nan, _at(n, where))
    coords = {"metric": scores["metric"].values, "space": list(own), unit: list(others)}
    coords |= {"model": ("space", list(own)), "best": (dims, np.where(lost, "", scores["space"].values[where[0]]))}
    if unit == "space_b":
        coords["best_b"] = (dims, np.where(lost, "", scores["space_b"].values[where[1]]))
    if "time_bin" in dims:
        coords["time_bin"] = scores["time_bin"].values
    coords |= {k: c for k, c in scores.coords.items() if c.dims == (unit,) and unit != "space_b" and k != unit}
    kept = {k: v for k, v in attrs_of(scores).items() if k not in ("versions", "created", "interval", "fdr", "p_max",
                                                                   "ceiling")}
    return make({k: (dims, v) for k, v in variables.items()}, coords,
                kept | {"p": "of the best layer (pair), against the best in each permutation; (1 + b) / (1 + B)"})


def _groups(scores: xr.Dataset, dim: str, coord: str) -> dict[str, np.ndarray]:
    names = [str(v) for v in scores[dim].values]
    models = [str(v) for v in scores[coord].values] if coord in scores.coords else [""] * len(names)
    owner = np.array([m or name for m, name in zip(models, names)])
    return {name: np.flatnonzero(owner == name) for name in dict.fromkeys(owner.tolist())}


def _at(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Take values (metric, space, unit[, bin]) at the winners (metric, model, other[, bin])."""
    m = np.arange(len(values)).reshape(-1, *[1] * (where.ndim - 2))
    if values.ndim == 3:
        return values[m, where[0], where[1]]
    return values[m, where[0], where[1], np.arange(values.shape[3])]
