"""RSA around every site: the RDM of a site and its neighbours, for all sites, in blocks of centres."""

from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr

from neuroalign.alignment.comparison_inputs import Models
from neuroalign.alignment.label_null import label_null, tau_null
from neuroalign.alignment.metrics import get_metric
from neuroalign.alignment.rdm import DISTANCES, space_coords, square
from neuroalign.data import align, sample_dim
from neuroalign.data.scores import make
from neuroalign.errors import NotAligned, check_option, collect_warnings, list_ids, warn_user
from neuroalign.linalg import resolve, rows_per_chunk, to_numpy, to_tensor
from neuroalign.stats import fdr, max_permutation_p, permutation_p, row_permutations
from neuroalign.stats.correlations import CORRELATIONS, correlate_rows

__all__ = ["neighbourhoods", "searchlight_rdms", "searchlight_rsa"]

MIN_SITES = {"correlation": 3, "cosine": 2, "euclidean": 1, "sqeuclidean": 1}


def searchlight_rsa(features, responses: xr.DataArray, *, radius: float | None = None, n_neighbours: int | None = None,
                    metric: str = "rsa.spearman", rdm: str = "correlation", n_permutations: int = 0,
                    on_missing: str = "error", random_state: int = 0, device="auto") -> xr.Dataset:
    """Compare the geometry of feature spaces with that of the responses around every site.

    Parameters
    ----------
    features : DataArray (stimulus, feature), mapping or list of them
    responses : Responses (stimulus or presentation, neuroid)
        With coords ``x``, ``y``, ``z`` (mm) on neuroids; neighbours are sought within a ``subject``.
    radius : float, optional
        Neighbours within this distance (mm). Give either this or `n_neighbours`.
    n_neighbours : int, optional
        As many nearest sites, besides the centre.
    metric : str
        An RSA metric that is neither partial nor whitened; a site has one subject, so that the mean over subjects
        and the group score are the same.
    rdm : {"correlation", "cosine", "euclidean", "sqeuclidean"}
        Distance of features and of response patterns.
    n_permutations : int
        Permutations of the models' stimulus labels (0: no p), the same for all spaces and sites.
    on_missing, random_state, device
        As for `compare`.

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid) with coord ``n_sites``; q is adjusted over the sites of a space, p_max taken
        against the best of all sites and spaces. Sites with too few neighbours for the distance are NaN; a
        site that holds NaN has no score and stands in no neighbourhood.

    Raises
    ------
    NotAligned
        If the stimuli differ, or responses have no coordinates.

    Notes
    -----
    Kriegeskorte, Goebel & Bandettini 2006, PNAS 103:3863. Neighbouring scores share sites: they are not independent.

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> rng = np.random.default_rng(0)
    >>> ids, x = [f"s{k:02d}" for k in range(12)], rng.standard_normal((12, 6))
    >>> y = make_responses(x, ids, [f"v{k}" for k in range(6)],
    ...                    neuroid_coords={a: np.arange(6.0) for a in "xyz"})
    >>> searchlight_rsa(make_features(x, ids, model="m"), y, n_neighbours=5).score.round(3).values.ravel().tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    chosen = get_metric(metric)
    if chosen.kind != "rdm" or chosen.partial or chosen.method not in CORRELATIONS:
        raise ValueError(f"metric: got {chosen.name!r}, expected an RSA metric that is neither partial nor whitened.")
    check_option("rdm", rdm, DISTANCES)
    device = resolve(device)
    with collect_warnings() as said:
        spaces, responses = align(features, responses, on_missing=on_missing)
        if sample_dim(responses) != "stimulus" or "time_bin" in responses.dims:
            raise NotAligned(f"responses have dims {responses.dims}; a searchlight needs (stimulus, neuroid). Average "
                             "presentations, select a time bin.")
        values = np.asarray(responses.transpose("stimulus", "neuroid").values)
        around = _neighbourhoods_of(responses, np.isfinite(values).all(0), radius, n_neighbours)
        models = Models(list(spaces), space_coords(spaces), arrays=[
            s.transpose(sample_dim(s), "feature").data for s in spaces.values()])
        condensed = models.dissimilarities(np.asarray(responses.stimulus_id), rdm, device)
        permutations = None
        if n_permutations:
            permutations = row_permutations(len(values), n_permutations, random_state=random_state)
        found = _score_blocks(condensed, values, around, chosen.method, rdm, permutations, models.names, device)
        _warn_lost(found["score"], responses, around, rdm)
    dims = ("metric", "space", "neuroid")
    variables = {name: (dims, v[None]) for name, v in found.items()}
    coords = {"metric": [chosen.name], "space": models.names, "neuroid": responses["neuroid"].values}
    coords |= {k: ("space", v) for k, v in models.coords.items()}
    coords |= {k: c for k, c in responses.coords.items() if c.dims == ("neuroid",) and k != "neuroid"}
    coords["n_sites"] = ("neuroid", np.array([len(a) for a in around]))
    about = {"kind": "compare", "analysis": "searchlight", "targets": "responses", "rdm": rdm,
             "aggregation": {chosen.name: f"{chosen.method} of the RDM of a site and its neighbours"},
             "radius_mm": radius, "n_neighbours": n_neighbours, "n_stimuli": len(values),
             "n_permutations": n_permutations, "random_state": random_state, "warnings": said,
             "null": "stimulus labels of the models permuted, the same permutations for all spaces and sites",
             "fdr": "Benjamini-Hochberg over the sites of each space"}
    return make(variables, coords, about)


def neighbourhoods(xyz, *, radius: float | None = None, n_neighbours: int | None = None,
                   groups=None) -> list[np.ndarray]:
    """Return the sites around every site, itself first.

    Parameters
    ----------
    xyz : array of shape (n_sites, 3)
        In mm. A site with NaN has no neighbours.
    radius : float, optional
    n_neighbours : int, optional
        One of the two. At most as many as there are.
    groups : sequence, optional
        Neighbours are of the same group (subject).

    Examples
    --------
    >>> [a.tolist() for a in neighbourhoods([[0, 0, 0], [3, 0, 0], [9, 0, 0]], radius=5)]
    [[0, 1], [1, 0], [2]]
    """
    from scipy.spatial import cKDTree

    xyz = np.asarray(xyz, float)
    if (radius is None) == (n_neighbours is None):
        raise ValueError("searchlight: give either radius (mm) or n_neighbours.")
    if radius is not None and not radius > 0:
        raise ValueError(f"radius: got {radius}, expected mm above 0.")
    if n_neighbours is not None and (not isinstance(n_neighbours, (int, np.integer)) or n_neighbours < 1):
        raise ValueError(f"n_neighbours: got {n_neighbours!r}, expected an integer of at least 1.")
    labels = np.zeros(len(xyz), int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    out = [np.array([k]) for k in range(len(xyz))]
    there = np.isfinite(xyz).all(1)
    for group in np.unique(labels[there]):
        own = np.flatnonzero((labels == group) & there)
        tree = cKDTree(xyz[own])
        if radius is not None:
            found = tree.query_ball_point(xyz[own], radius, return_sorted=True)
        else:
            found = tree.query(xyz[own], min(n_neighbours + 1, len(own)))[1].reshape(len(own), -1)
        for k, near in zip(own, found):
            near = own[np.asarray(near)]
            out[k] = np.concatenate([[k], near[near != k]])[:None if n_neighbours is None else n_neighbours + 1]
    return out


def searchlight_rdms(values, around, metric: str = "correlation", *, device="auto") -> Iterator:
    """Yield the RDMs of sites and their neighbours, block by block.

    Parameters
    ----------
    values : array of shape (n_stimuli, n_sites)
    around : sequence of array of int
        Sites of each neighbourhood (`neighbourhoods`).
    metric : {"correlation", "cosine", "euclidean", "sqeuclidean"}
    device : str

    Yields
    ------
    centres : slice
    rdms : float32 array of shape (n_centres, n_stimuli * (n_stimuli - 1) / 2)
        NaN for pairs whose distance is not defined, and for neighbourhoods too small for the distance.

    Examples
    --------
    >>> x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    >>> [rows.round(2).tolist() for _, rows in searchlight_rdms(x, [[0, 1]], "sqeuclidean")]
    [[[25.0, 1.0, 18.0]]]
    """
    check_option("rdm", metric, DISTANCES)
    device = resolve(device)
    values = np.asarray(values, np.float64)
    # What changes no distance would drown the digits of float32.
    if "euclid" in metric:
        values = values - values.mean(0)
    elif metric == "correlation":
        known = np.isfinite(values)
        values = values - (np.where(known, values, 0).sum(1) / np.maximum(known.sum(1), 1))[:, None]
    sites = to_tensor(values.astype(np.float32), device)
    sites = torch.cat([sites, torch.zeros_like(sites[:, :1])], 1).T.contiguous()
    n, most = len(values), max(map(len, around), default=1)
    first, second = (torch.as_tensor(i, device=device) for i in np.triu_indices(n, 1))
    flat = first * n + second
    step = rows_per_chunk(4 * n * (2 * n + 3 * most), device, limit=2**26)
    for start in range(0, len(around), step):
        part = around[start:start + step]
        index = np.full((len(part), max(map(len, part))), len(sites) - 1)
        for row, near in zip(index, part):
            row[:len(near)] = near
        counts = torch.as_tensor([len(a) for a in part], device=device)
        patterns = sites[torch.as_tensor(index, device=device)].transpose(1, 2)  # (centres, stimuli, sites)
        found = _distances(patterns, counts, metric).flatten(1)[:, flat]
        found[counts < MIN_SITES[metric]] = torch.nan
        yield slice(start, start + len(part)), to_numpy(found)


def _distances(patterns, counts, metric):
    """Distances of all pairs of rows of (centres, n, sites), sites beyond the count of a centre being 0."""
    if metric == "correlation":
        there = torch.arange(patterns.shape[2], device=patterns.device)[None, :] < counts[:, None]
        patterns = (patterns - patterns.sum(2, keepdim=True) / counts[:, None, None]) * there[:, None]
    if metric in ("correlation", "cosine"):
        size = patterns.abs().amax((1, 2), keepdim=True)
        norms = (patterns * patterns).sum(2, keepdim=True).sqrt()
        patterns = patterns / norms.masked_fill(norms <= 1e-6 * size, torch.nan)
        # Squared distances of unit rows, without what all have in common: 1 - r of nearly equal rows has no digits.
        patterns = patterns - patterns.nanmean(1, keepdim=True)
    squares = (patterns * patterns).sum(2)
    found = (squares[:, :, None] + squares[:, None] - 2 * torch.bmm(patterns, patterns.transpose(1, 2))).clamp_min(0)
    if metric in ("correlation", "cosine"):
        return found / 2
    return found.sqrt() if metric == "euclidean" else found


def _neighbourhoods_of(responses, usable, radius, n_neighbours):
    lost = [c for c in "xyz" if c not in responses.coords]
    if lost:
        raise NotAligned(f"responses have no coord {list_ids(lost)} on neuroids (mm), so that neighbours are unknown.")
    groups = responses["subject"].values if "subject" in responses.coords else None
    xyz = np.where(usable[:, None], np.stack([responses[c].values for c in "xyz"], 1), np.nan)
    found = neighbourhoods(xyz, radius=radius, n_neighbours=n_neighbours, groups=groups)
    return [near if ok else near[:0] for near, ok in zip(found, usable)]


def _score_blocks(condensed, values, around, method, rdm, permutations, names, device):
    n, shape = len(values), (len(condensed), len(around))
    first, second = np.triu_indices(n, 1)
    found = {"score": np.full(shape, np.nan), "n": np.full(shape, np.nan)}
    null = None if permutations is None else np.full((len(permutations), *shape), np.nan, np.float32)
    squares = None if permutations is None else square(condensed)
    for centres, rows in searchlight_rdms(values, around, rdm, device=device):
        usable = np.flatnonzero((~np.isnan(rows)).sum(1) >= 3)
        if not len(usable):
            continue
        at = np.arange(centres.start, centres.stop)[usable]
        found["score"][:, at] = correlate_rows(condensed, rows[usable], method, device=device)
        found["n"][:, at] = (~np.isnan(condensed)).astype(float) @ (~np.isnan(rows[usable])).astype(float).T
        if null is None:
            continue
        args = (squares, first, second, rows[usable], np.eye(len(usable)))
        null[:, :, at] = (tau_null(*args, permutations, names=names) if method == "tau_a" else
                          label_null(*args, method, permutations, device, names=names))
    if null is not None:
        p = permutation_p(found["score"].astype(np.float32), null)
        found |= {"null_mean": null.mean(0), "null_sd": null.std(0), "p": p, "q": fdr(p, axis=1),
                  "p_max": max_permutation_p(found["score"].astype(np.float32), null)}
    return found


def _warn_lost(score, responses, around, rdm):
    lost = np.flatnonzero(np.isnan(score).all(0))
    if len(lost):
        ids = responses["neuroid_id" if "neuroid_id" in responses.coords else "neuroid"].values[lost]
        sizes = np.array([len(around[k]) for k in lost])
        few = int(((sizes > 0) & (sizes < MIN_SITES[rdm])).sum())
        warn_user(f"{list_ids(ids)} have no score: {int((sizes == 0).sum())} hold NaN (they stand in no "
                  f"neighbourhood), {few} have too few neighbours for the {rdm} distance (at least "
                  f"{MIN_SITES[rdm]} sites).", "lost-searchlights", ids)
