"""Do embeddings of one label lie together? Pictures and texts alone, and pooled into one vector."""

import numpy as np
import torch
import xarray as xr

from neuroalign.alignment.comparison_inputs import Models, match
from neuroalign.alignment.metrics import get_metric
from neuroalign.data import as_spaces
from neuroalign.data.scores import make
from neuroalign.errors import collect_warnings, list_ids
from neuroalign.linalg import resolve, rows_per_chunk, thread_limit
from neuroalign.stats import child_seed, fdr, permutation_p, row_permutations

__all__ = ["link_pooled", "pool_embeddings"]


def link_pooled(features, labels, *, n_permutations: int = 1000, on_missing: str = "error", random_state: int = 0,
                device="auto") -> xr.Dataset:
    """Link stimuli of one label by nearest neighbours and by clustering, in each modality and in their pool.

    Parameters
    ----------
    features : mapping or list of DataArrays (stimulus, feature)
        Embeddings of the same stimuli in one shared space, a modality each (of CLIP-like models, or projected).
    labels : mapping of str to label, or Series
        Label of each stimulus id.
    n_permutations : int
        Permutations of the labels (0: no p).
    on_missing : {"error", "drop"}
        What to do with stimuli that a space lacks.
    random_state : int
        Starts of the clustering, and the permutations.
    device : str

    Returns
    -------
    Dataset
        Scores (metric, space, target), the spaces being those given and their ``pool``: ``link.top1`` is the share of
        stimuli whose nearest other stimulus (cosine) has their label, ``link.ari`` the adjusted Rand index of as many
        k-means clusters of unit rows as there are labels. ``null_mean`` is chance.

    Raises
    ------
    ValueError
        Different numbers of features, stimuli without a label, one label alone, rows of zeros or NaN.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> rng = np.random.default_rng(0)
    >>> ids, kind = [f"s{k:02d}" for k in range(30)], np.arange(30) % 3
    >>> image, text = (make_features(np.eye(3, 5)[kind] + rng.normal(0, 0.1, (30, 5)), ids, model=m) for m in "it")
    >>> link_pooled([image, text], dict(zip(ids, kind)), n_permutations=0).score.sel(space="pool").values.tolist()
    [[1.0], [1.0]]
    """
    metrics = [get_metric("link.top1"), get_metric("link.ari")]
    with collect_warnings() as collected:
        models, side = match(as_spaces(features), as_spaces(features), on_missing)
    codes = _codes(labels, side.ids)
    names, arrays = list(models.names), [np.asarray(a, np.float64) for a in models.arrays]
    if len(arrays) > 1:
        arrays.append(pool_embeddings(arrays, names=names))
        names.append("pool")
    units = [_unit(a, name) for a, name in zip(arrays, names)]
    device = resolve(device)
    n, n_labels = len(codes), codes.max() + 1
    with thread_limit(2.0 * n * n * units[0].shape[1]):
        near = [_nearest(u, device) for u in units]
        clusters = [_clusters(u, n_labels, random_state) for u in units]
    score = _agreement(near, clusters, codes)
    found = {"score": score, "n": np.full(score.shape, float(n))}
    if n_permutations:
        orders = row_permutations(n, n_permutations, random_state=random_state)
        null = np.stack([_agreement(near, clusters, codes[order]) for order in orders])
        p = permutation_p(score, null)
        found |= {"null_mean": null.mean(0), "null_sd": null.std(0), "p": p, "q": fdr(p, axis=1)}
    dims = ("metric", "space", "target")
    coords = {"metric": [m.name for m in metrics], "space": names, "target": ["labels"]}
    coords |= {k: ("space", v) for k, v in _coords(models, names, units).items()}
    attrs = {"kind": "linking", "aggregation": {m.name: m.aggregation for m in metrics}, "n_stimuli": n,
             "n_labels": int(n_labels), "n_permutations": n_permutations, "random_state": random_state,
             "null": "labels permuted", "fdr": "Benjamini-Hochberg over the spaces of each metric",
             "warnings": collected}
    return make({k: (dims, v[:, :, None]) for k, v in found.items()}, coords, attrs)


def pool_embeddings(arrays, *, names=None) -> np.ndarray:
    """Mean of the unit rows of several embeddings of the same stimuli.

    Parameters
    ----------
    arrays : sequence of array (n_stimuli, n_features)
    names : sequence of str, optional
        For messages.

    Returns
    -------
    float64 array of shape (n_stimuli, n_features)

    Examples
    --------
    >>> pool_embeddings([[[3.0, 0.0]], [[0.0, 5.0]]]).tolist()
    [[0.5, 0.5]]
    """
    arrays = [np.asarray(a, np.float64) for a in arrays]
    names = [f"array {k}" for k in range(len(arrays))] if names is None else list(names)
    if len({a.shape for a in arrays}) > 1:
        raise ValueError(f"pool: got shapes {', '.join(f'{a.shape} ({n})' for a, n in zip(arrays, names))}, expected "
                         "embeddings of the same stimuli in one space. Project them into one first.")
    return np.mean([_unit(a, name) for a, name in zip(arrays, names)], axis=0)


def _codes(labels, ids) -> np.ndarray:
    known = dict(labels)
    lost = [i for i in ids if i not in known]
    if lost:
        raise ValueError(f"labels: none for {list_ids(lost)}.")
    codes = np.unique([str(known[i]) for i in ids], return_inverse=True)[1]
    if not 1 < codes.max() + 1 < len(ids):
        raise ValueError(f"labels: got {codes.max() + 1} different ones of {len(ids)} stimuli, expected at least two, "
                         "and some that several stimuli share.")
    return codes


def _unit(values, name) -> np.ndarray:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    bad = ~(np.isfinite(length[:, 0]) & (length[:, 0] > 0))
    if bad.any():
        raise ValueError(f"features {name!r}: rows {list_ids(np.flatnonzero(bad))} are zero or hold NaN. Leave these "
                         "stimuli out.")
    return values / length


def _nearest(units, device) -> np.ndarray:
    """The nearest other row of each."""
    rows = torch.as_tensor(units, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
    step = rows_per_chunk(16 * len(rows), rows.device)
    out = []
    for start in range(0, len(rows), step):
        block = rows[start:start + step] @ rows.T
        block[torch.arange(len(block)), torch.arange(start, start + len(block))] = -torch.inf
        out.append(block.argmax(1).cpu().numpy())
    return np.concatenate(out)


def _clusters(units, k, random_state) -> np.ndarray:
    from sklearn.cluster import KMeans

    return KMeans(int(k), n_init=10, random_state=child_seed(random_state, "clusters")).fit_predict(units)


def _agreement(near, clusters, codes) -> np.ndarray:
    """link.top1 and link.ari of every space, (2, n_spaces)."""
    from sklearn.metrics import adjusted_rand_score

    return np.array([[(codes[rows] == codes).mean() for rows in near],
                     [adjusted_rand_score(codes, found) for found in clusters]])


def _coords(models: Models, names, units) -> dict:
    """Coords of the spaces, with those of the pool."""
    if len(names) == len(models.names):
        return models.coords
    pool = {"model": "pool", "layer": "", "stream": "", "depth": np.nan, "n_features": units[-1].shape[1]}
    return {k: np.append(v, pool[k]) for k, v in models.coords.items()}
