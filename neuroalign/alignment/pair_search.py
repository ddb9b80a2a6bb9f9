"""Which two encoders fit together? All pairs of two zoos by their geometry, and whether that foretells retrieval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.alignment.comparison import compare
from neuroalign.alignment.matching import match_spaces
from neuroalign.alignment.metrics import METRICS
from neuroalign.data.scores import concat, validate
from neuroalign.errors import list_ids
from neuroalign.stats import make_resamples, percentile_interval
from neuroalign.stats.correlations import unit_rows

__all__ = ["foretell", "search_pairs"]

LEAST = 4  # pairs that a rank correlation needs


def search_pairs(first, second, *, metric: Sequence[str] = ("cka.biased", "cka.debiased", "knn.mutual"),
                 matching: Mapping | None = None, n_permutations: int = 0, on_missing: str = "error",
                 random_state: int = 0, device="auto") -> xr.Dataset:
    """Score every pair of encoders of two zoos by their geometries, and by retrieval through a map fitted on anchors.

    Parameters
    ----------
    first, second : mapping or list of DataArrays (stimulus, feature), for example stores of two modalities
        On the same stimuli: images and their captions under one id. Each layer is a space of its own.
    metric : sequence of str
        Metrics of two arrays of features, by which a pair could be chosen without a fit.
    matching : mapping, optional
        Options of `neuroalign.alignment.match_spaces`, which measures retrieval; by default the affine map alone.
    n_permutations : int
        Null of the geometries (0: none).
    on_missing, random_state, device
        As for `neuroalign.compare`.

    Returns
    -------
    Dataset
        Scores (metric, space, space_b): the geometries and ``match.*``. ``scores.score.sel(metric=...)`` has its
        largest value at the pair to take; see `foretell` for how far to trust it.

    Notes
    -----
    Maniparambil et al. 2025, CVPR, choose the pair with the largest biased CKA. It is inflated where features
    outnumber stimuli, and more so for wide encoders: the debiased one stands beside it.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> rng = np.random.default_rng(0)
    >>> x, ids = rng.standard_normal((80, 6)), [f"s{k:02d}" for k in range(80)]
    >>> seen = [make_features(x + s * rng.standard_normal(x.shape), ids, model=f"v{s}") for s in (0.1, 3)]
    >>> read = make_features(x @ rng.standard_normal((6, 9)), ids, model="t")
    >>> found = search_pairs(seen, read, metric=["cka.debiased"]).score.squeeze("space_b")
    >>> found.idxmax("space").values.tolist()[:2]
    ['v0.1::all', 'v0.1::all']
    """
    options = {"random_state": random_state, "device": device, "on_missing": on_missing}
    geometry = compare(first, second, metric=metric, n_permutations=n_permutations, **options)
    retrieval = match_spaces(first, second, **{"method": "affine"} | options | dict(matching or {}))
    found = concat([geometry, retrieval], dim="metric")
    found.attrs |= {k: retrieval.attrs[k] for k in ("chosen", "n_anchors", "n_queries", "n_draws")}
    return found


def foretell(scores: xr.Dataset, *, outcome: str = "match.affine.top5", n_bootstraps: int = 2000,
             random_state: int = 0) -> pd.DataFrame:
    """Rank correlation of every metric with an outcome, over pairs of encoders.

    Parameters
    ----------
    scores : Dataset
        Of `search_pairs`, with at least two models on each side and four pairs.
    outcome : str
        Metric that is to be foretold.
    n_bootstraps : int
        Resamples of the models of either side, with all their layers, for the interval: pairs share encoders, so that
        they are no independent observations.
    random_state : int

    Returns
    -------
    DataFrame
        A row for each other metric: ``metric``, ``spearman`` (negated where lower is better), ``ci_low``,
        ``ci_high``, ``n_pairs``, ``n_first``, ``n_second`` (models), ``best`` and ``best_b`` (the pair it chooses),
        ``regret`` (the best outcome minus that of this pair).

    Examples
    --------
    >>> from neuroalign.data.scores import make
    >>> grid = np.arange(6.0).reshape(2, 3)
    >>> scores = make({"score": (("metric", "space", "space_b"), [grid, grid**2])},
    ...               {"metric": ["cka.debiased", "match.affine.top5"], "space": ["a", "b"], "space_b": list("xyz")})
    >>> foretell(scores, n_bootstraps=20).round(3)[["metric", "spearman", "best", "regret"]].values.tolist()
    [['cka.debiased', 1.0, 'b', 0.0]]
    """
    validate(scores)
    if "space_b" not in scores.dims or outcome not in scores["metric"].values:
        raise ValueError(f"foretell: expected scores of pairs with the metric {outcome!r}; found "
                         f"{list_ids(scores['metric'].values)}.")
    sides = [_models(scores, "space", "model"), _models(scores, "space_b", "model_b")]
    counts = [len(set(s)) for s in sides]
    grid = scores["score"].transpose("metric", "space", "space_b")
    if min(counts) < 2 or grid[0].size < LEAST:
        raise ValueError(f"foretell: got {counts[0]} and {counts[1]} models, {grid[0].size} pairs; expected at least 2 "
                         f"models on each side and {LEAST} pairs.")
    wanted = grid.sel(metric=outcome).values
    draws = [_drawn(side, n_bootstraps, random_state, name) for side, name in zip(sides, ("first", "second"))]
    rows = []
    for metric in map(str, scores["metric"].values):
        if metric == outcome or metric.startswith("match."):
            continue
        sign = -1 if metric in METRICS and METRICS[metric].direction == "lower" else 1
        value = sign * grid.sel(metric=metric).values
        spread = [_spearman(value[np.ix_(a, b)], wanted[np.ix_(a, b)]) for a, b in zip(*draws)]
        known = np.array(spread)[np.isfinite(spread)] if spread else []
        low, high = percentile_interval(known) if len(known) else (np.nan, np.nan)
        i, j = np.unravel_index(np.nanargmax(value), value.shape)
        rows.append({"metric": metric, "spearman": _spearman(value, wanted), "ci_low": low, "ci_high": high,
                     "n_pairs": value.size, "n_first": counts[0], "n_second": counts[1],
                     "best": str(grid["space"].values[i]), "best_b": str(grid["space_b"].values[j]),
                     "regret": float(np.nanmax(wanted) - wanted[i, j])})
    return pd.DataFrame(rows)


def _models(scores, dim, coord) -> np.ndarray:
    """Model of each space, or the space itself where Scores do not say."""
    spaces = scores[dim].values.astype(str)
    return scores[coord].values.astype(str) if coord in scores.coords else spaces


def _drawn(models, n_bootstraps, random_state, name) -> list[np.ndarray]:
    """Spaces of resampled models, (n_bootstraps,) arrays of positions."""
    if not n_bootstraps:
        return []
    names = list(dict.fromkeys(models.tolist()))
    place = [np.flatnonzero(models == m) for m in names]
    indices = make_resamples(names, n_bootstraps, random_state=random_state, purpose=f"models, {name}").indices
    return [np.concatenate([place[k] for k in row]) for row in indices]


def _spearman(a, b) -> float:
    kept = ~(np.isnan(a) | np.isnan(b))
    first, second = unit_rows(np.stack([a[kept], b[kept]]), "spearman").astype(float)
    return float(first @ second)
