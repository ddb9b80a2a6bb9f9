"""When, and at which neighbouring sites: clusters of encoding scores over time and space, against a refitted null."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.alignment.sites import as_of_many, paired_differences, warn_few_units
from neuroalign.data import scores as results
from neuroalign.errors import collect_warnings, list_ids
from neuroalign.stats import cluster_test, neighbours_within

__all__ = ["cluster_scores", "list_clusters"]


def cluster_scores(scores: xr.Dataset, comparisons: Mapping[str, tuple] | None = None, *, metric: str | None = None,
                   threshold: float = 2.0, radius: float | None = None) -> xr.Dataset:
    """Find clusters of neuroids and time bins where spaces predict, or one predicts better than another.

    Each score becomes a z-value against its own null; connected z-values above the threshold are a cluster, and p is
    the share of permutations whose largest cluster, at any site and time, is as large (see
    `neuroalign.stats.cluster_test`). Neighbours are successive time bins of a neuroid and, with `radius`, neuroids of
    one subject: contacts in different heads are never neighbours.

    Parameters
    ----------
    scores : Dataset
        Of `neuroalign.encode` for responses with time bins: with ``n_permutations`` and ``keep=["null"]``, each of
        which refits everything; for comparisons with ``n_bootstraps`` and ``keep=["bootstrap"]``.
    comparisons : mapping of str to (space, space), optional
        Test differences, as in `site_tests`, whose resamples and widening serve as the null (and whose z are made
        smaller where few units were resampled). By default each space is tested against its own null.
    metric : str, optional
        The first of the Scores by default.
    threshold : float
        z above which a point may belong to a cluster. It decides what kind of cluster is found (low: wide and weak,
        high: narrow and strong), not how often chance makes one; fix it before looking.
    radius : float, optional
        Largest distance (mm) of neighbouring neuroids, by their coords ``x``, ``y``, ``z``. By default clusters
        extend over time alone.

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid, time_bin) with ``p`` of the cluster that a point belongs to (1 outside) and
        its number in the coord ``cluster`` (-1: none). `list_clusters` makes a table of them.

    Raises
    ------
    ValueError
        There are no time bins, the null was not kept, it is too small for p to reach .05, or coordinates are missing.

    Warns
    -----
    NeuroalignWarning
        ``few-units``: as in `site_tests`.

    Examples
    --------
    ``tests = cluster_scores(scores, radius=6.0); list_clusters(tests)``
    """
    metric = str(scores["metric"].values[0]) if metric is None else metric
    if "neuroid" not in scores.dims or "time_bin" not in scores.dims:
        raise ValueError(f"scores: dims {tuple(scores['score'].dims)}, expected neuroids and time bins to cluster "
                         "over.")
    adjacency = None if radius is None else _adjacency(scores, radius)
    about = results.attrs_of(scores)
    with collect_warnings() as said:
        if comparisons is None:
            values, pairs = _against_null(scores, metric), {}
        else:
            units = about.get("resampled_units")
            warn_few_units("clusters of differences", units)
            values = {k: _difference(scores, metric, pair, units) for k, pair in comparisons.items()}
            pairs = {k: list(pair) for k, pair in comparisons.items()}
    found = {k: cluster_test(z, null, adjacency=adjacency, threshold=threshold)
             for k, (_, z, null) in values.items()}
    smallest = next(iter(found.values())).smallest_p
    if smallest > 0.05:
        raise ValueError(f"scores: the smallest attainable p is {smallest:.2g}, so nothing can be found at .05. Keep "
                         "at least 19 permutations, better 1,000.")
    dims = ("metric", "space", "neuroid", "time_bin")
    coords = {k: v for k, v in scores.coords.items() if v.dims and set(v.dims) <= {"neuroid", "time_bin"}}
    coords |= {"metric": [metric], "space": list(values),
               "cluster": (dims, np.stack([f.label for f in found.values()])[None])}
    sites, times = scores["neuroid"].values, scores["time_bin"].values
    table = [row for k, f in found.items() for row in _describe(k, f, sites, times)]
    attrs = {"analysis": "cluster_scores", "comparisons": pairs, "threshold": threshold, "radius": radius,
             "clusters": table, "smallest_p": smallest, "warnings": [*about.get("warnings", []), *said],
             "inference": _inference(about, pairs, threshold, radius, smallest),
             "folds": about.get("folds"), "fingerprints": about.get("fingerprints")}
    variables = {"score": (dims, np.stack([v[0] for v in values.values()])[None]),
                 "p": (dims, np.stack([f.p for f in found.values()])[None])}
    return results.make(variables, coords, attrs)


def list_clusters(tests: xr.Dataset, *, alpha: float = 0.05) -> pd.DataFrame:
    """List the clusters that `cluster_scores` found, the largest of each space first.

    Parameters
    ----------
    tests : Dataset
    alpha : float
        List those with p of at most this; 1 lists all.

    Returns
    -------
    DataFrame
        One row a cluster: space, cluster, p, mass, n_points, n_neuroids, first and last time bin (s), neuroids.
    """
    names = ["space", "cluster", "p", "mass", "n_points", "n_neuroids", "first", "last", "neuroids"]
    table = pd.DataFrame(results.attrs_of(tests)["clusters"], columns=names)
    return table[table["p"] <= alpha].reset_index(drop=True)


def _against_null(scores, metric) -> dict:
    if "null" not in scores:
        raise ValueError("scores: the null was not kept. Make them by na.encode(..., n_permutations=1000, "
                         "keep=['null']), or give comparisons of resampled scores.")
    found = {}
    for space in scores["space"].values:
        one = scores[["score", "null"]].sel(metric=metric, space=space)
        score, null = one["score"].values.astype(float), one["null"].transpose("permutation", ...).values
        n = 1 + len(null)  # the score is one of them, if nothing is to be found
        mean = (score + null.sum(0, dtype=float)) / n
        squares = (score - mean)**2 + sum((part - mean)**2 for part in null)
        with np.errstate(invalid="ignore", divide="ignore"):
            sd = np.sqrt(squares / n)
            found[str(space)] = (score, (score - mean) / sd,
                                 (null - mean.astype(null.dtype)) / sd.astype(null.dtype))  # large: no copy in float64
    return found


def _difference(scores, metric, pair, units):
    if "bootstrap" not in scores:
        raise ValueError("scores: the resampled scores were not kept. Make them by na.encode(..., n_bootstraps=1000, "
                         "keep=['bootstrap']).")
    gain, deviation = paired_differences(scores, metric, pair)
    if len(gain) > 1:
        raise ValueError(f"comparisons: {list_ids(map(str, pair))}: clusters are of one pair of spaces each.")
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = deviation[0].std(0)
        return gain[0], as_of_many(gain[0] / spread, units)[0], deviation[0] / spread


def _adjacency(scores, radius):
    missing = [c for c in "xyz" if c not in scores.coords or scores[c].dims != ("neuroid",)]
    if missing:
        raise ValueError(f"radius: the neuroids have no coords {list_ids(missing)} (mm). Leave radius=None to cluster "
                         "over time alone.")
    xyz = np.column_stack([scores[c].values for c in "xyz"]).astype(float)
    placed = np.isfinite(xyz).all(1)
    if not placed.all():
        raise ValueError(f"radius: no place is known of {list_ids(scores['neuroid'].values[~placed])}. Drop them, or "
                         "leave radius=None to cluster over time alone.")
    return neighbours_within(xyz, radius, scores["subject"].values if "subject" in scores.coords else None)


def _inference(about, pairs, threshold, radius, smallest) -> str:
    null = about.get("nulls") or {}
    against = (f"resampled differences ({about.get('interval')}), widened for what other training rows would change"
               if pairs else f"{null.get('n', 0):,} permutations ({null.get('name')}), each fitted again")
    near = "" if radius is None else f" and neuroids of one subject within {radius:g} mm"
    return (f"Clusters: z above {threshold:g}, linked over successive time bins{near}; their masses were held against "
            f"the largest, at any site and time, of {against}. The smallest possible p is {smallest:.2g}. It is of the "
            "cluster as a whole, not of any point in it.")


def _describe(space, found, sites, times):
    for k, (mass, p) in enumerate(zip(found.mass, found.cluster_p)):
        units, bins = np.nonzero(found.label == k)
        own = sites[np.unique(units)]
        yield {"space": space, "cluster": k, "p": float(p), "mass": float(mass), "n_points": len(units),
               "n_neuroids": len(own), "first": float(times[bins.min()]), "last": float(times[bins.max()]),
               "neuroids": [str(s) for s in own]}
