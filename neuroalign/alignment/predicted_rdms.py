"""Encoding-based RSA: the geometry of cross-validated predictions against that of the responses."""

import numpy as np
import xarray as xr

from neuroalign.alignment.comparison import compare
from neuroalign.alignment.comparison_inputs import MIN_STIMULI
from neuroalign.alignment.encode import encode
from neuroalign.alignment.metrics import resolve_metrics
from neuroalign.data import average_repetitions, make_features, sample_dim
from neuroalign.data.scores import attrs_of, make
from neuroalign.errors import NotAligned, collect_warnings, list_ids, warn_user
from neuroalign.stats import LEVEL, fdr, max_permutation_p, percentile_interval, permutation_p

__all__ = ["encoding_rsa"]

LEAST = {"correlation": 3, "cosine": 2}  # neuroids


def encoding_rsa(features, responses: xr.DataArray, *, metric="rsa.spearman", rdm: str = "correlation",
                 n_permutations: int = 1000, n_bootstraps: int = 0, on_missing: str = "error", random_state: int = 0,
                 device="auto", **encoding) -> xr.Dataset:
    """Compare the geometry that a model predicts for a region with the geometry of that region.

    Features are first mapped to every neuroid by cross-validated ridge regression (`encode`), so that dimensions that
    the region does not share have no say. The RDM of the held-out predictions of a region is then compared with the
    RDM of its responses, subject by subject, among the stimuli of one test fold at a time: of two stimuli in
    different folds each was in the other's training set, which alone makes the two RDMs alike.

    Parameters
    ----------
    features : DataArray (stimulus, feature), mapping or list of them
    responses : Responses (stimulus or presentation, neuroid)
        Coords ``region`` and ``subject`` on neuroids split them.
    metric : str or sequence of str
        Per-subject RSA metrics that are not partial.
    rdm : {"correlation", "cosine", "euclidean", "sqeuclidean"}
    n_permutations, n_bootstraps, on_missing, random_state, device
        As for `compare`. Labels of the predictions are permuted within test folds, and stimuli resampled; nothing is
        fitted again.
    **encoding
        For `encode`: ``cv``, ``alphas``, ``reduce``, ``groups``, ... Few folds (``n_splits=2``) leave many pairs.

    Returns
    -------
    Dataset
        Scores (metric, space, target), one target a region, mean over test folds and subjects. Regions of
        too few neuroids for the distance are left out of that subject, with a warning.

    Notes
    -----
    The voxelwise-encoding RSA of Conwell et al. 2024, Nat Commun 15:9383, who hold out one half of the stimuli.

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> rng = np.random.default_rng(0)
    >>> ids, x = [f"s{k:02d}" for k in range(60)], rng.standard_normal((60, 5))
    >>> y = make_responses(x @ rng.standard_normal((5, 8)), ids, [f"v{k}" for k in range(8)])
    >>> encoding_rsa(make_features(x, ids, model="m"), y, n_permutations=0, n_splits=3).score.item() > 0.9
    True
    """
    metrics = resolve_metrics(metric, ("rdm",))
    wrong = [m.name for m in metrics if not m.per_subject or m.partial]
    if wrong:
        raise ValueError(f"metric: got {list_ids(wrong)}, expected per-subject RSA metrics such as 'rsa.spearman'.")
    if "time_bin" in responses.dims:
        raise NotAligned("responses have time bins; encoding_rsa takes one at a time: responses.isel(time_bin=0).")
    encoding = {"metric": "r.pooled", "random_state": random_state, "device": device} | encoding
    with collect_warnings() as said:
        encoded = encode(features, responses, on_missing=on_missing, keep=("prediction",), **encoding)
        observed = average_repetitions(responses)
        if sample_dim(observed) != "stimulus":
            raise NotAligned(f"responses stand on {sample_dim(observed)!r}; a geometry needs stimuli.")
        predicted = encoded["prediction"].transpose("stimulus", "space", "neuroid")
        observed = observed.isel(stimulus=np.isin(observed["stimulus_id"].values, predicted["stimulus_id"].values))
        options = {"metric": [m.name for m in metrics], "rdm": rdm, "n_permutations": n_permutations, "ceiling": None,
                   "n_bootstraps": n_bootstraps, "keep": [k for k, n in (("null", n_permutations),
                                                                         ("bootstrap", n_bootstraps)) if n],
                   "random_state": random_state, "device": device}
        parts = _parts(encoded, predicted, observed, options, rdm)
    regions = list(dict.fromkeys(region for region, _ in parts))
    found = [_mean([_mean(p) for (r, _), p in parts.items() if r == region]) for region in regions]
    for region, mean in zip(regions, found):
        mean["n_subjects"] = sum(r == region for r, _ in parts)
    return _scores(found, regions, metrics, encoded, {
        "kind": "compare", "analysis": "encoding_rsa", "targets": "responses", "rdm": rdm,
        "aggregation": {m.name: "mean over test folds; " + m.aggregation + ", with the RDM of its held-out predictions"
                        for m in metrics},
        "n_stimuli": observed.sizes["stimulus"], "n_permutations": n_permutations, "n_bootstraps": n_bootstraps,
        "null": "stimulus labels of the predictions permuted within test folds; nothing is fitted again",
        "random_state": random_state,
        "fdr": "Benjamini-Hochberg over the targets of each metric and space", "warnings": said,
        "folds": attrs_of(encoded).get("folds"),
        "p_max": "against the best of all spaces and targets of the metric under the same permutation"})


def _parts(encoded, predicted, observed, options, rdm) -> dict:
    """Scores of each test fold, for every region and subject that has enough neuroids."""
    rows = {str(s): k for k, s in enumerate(predicted["stimulus_id"].values)}
    order = [rows[str(s)] for s in observed["stimulus_id"].values]
    predicted = predicted.values[order]
    fold_of = np.asarray(attrs_of(encoded)["folds"]["fold_of_sample"])[order]
    folds = [np.flatnonzero(fold_of == k) for k in range(fold_of.max() + 1)]
    if min(map(len, folds)) < MIN_STIMULI:
        raise ValueError(f"encoding_rsa: a test fold has {min(map(len, folds))} stimuli, expected at least "
                         f"{MIN_STIMULI}: only pairs within a fold are compared. Use fewer folds (n_splits=2).")
    n = observed.sizes["neuroid"]
    labels = [np.asarray(observed[c].values, str) if c in observed.coords else np.full(n, empty)
              for c, empty in (("region", "all"), ("subject", ""))]
    parts, few = {}, []
    for region, subject in dict.fromkeys(zip(*labels)):
        own = np.flatnonzero((labels[0] == region) & (labels[1] == subject))
        # A neuroid that has no prediction (constant, NaN) stands on neither side.
        own = own[np.isfinite(predicted[:, :, own]).all((0, 1)) & np.isfinite(observed.values[:, own]).all(0)]
        if len(own) < LEAST.get(rdm, 1):
            few.append(f"{region} of {subject}" if subject else region)
            continue
        parts[region, subject] = []
        for rows in folds:
            held_out = observed.isel(neuroid=own, stimulus=rows)
            ids = list(held_out["stimulus_id"].values)
            spaces = {str(s): make_features(predicted[rows, k][:, own], ids, model=str(s))
                      for k, s in enumerate(encoded["space"].values)}
            found = compare(spaces, held_out, **options)
            parts[region, subject].append({v: found[v].values[..., 0] for v in ("score", "n", "null", "bootstrap")
                                           if v in found})
    if few:
        warn_user(f"{list_ids(few)} are left out: fewer than {LEAST.get(rdm, 1)} neuroids with predictions, too few "
                  f"for the {rdm} distance.", "few-neuroids", few)
    if not parts:
        raise ValueError("encoding_rsa: no region is left that has enough neuroids; see the warning.")
    return parts


def _mean(parts) -> dict:
    """Mean of what folds or subjects have in common; nulls of few stimuli may differ in length."""
    found = {}
    for name in parts[0]:
        least = min(len(p[name]) for p in parts)
        found[name] = np.mean([p[name][:least] for p in parts], 0)
    return found


def _scores(found, regions, metrics, encoded, attrs) -> xr.Dataset:
    dims = ("metric", "space", "target")
    score = np.stack([f["score"] for f in found], -1)
    variables = {"score": score, "n": np.stack([f["n"] for f in found], -1)}
    if "null" in found[0]:
        null = np.stack([f["null"] for f in found], -1)
        p = permutation_p(score.astype(np.float32), null)
        variables |= {"null_mean": null.mean(0), "null_sd": null.std(0), "p": p, "q": fdr(p, axis=2),
                      "p_max": max_permutation_p(score.astype(np.float32), null, axis=(1, 2))}
    if "bootstrap" in found[0]:
        drawn = np.stack([f["bootstrap"] for f in found], -1)
        low, high = percentile_interval(drawn, skip_nan=True)
        variables |= {"ci_low": low, "ci_high": high}
        attrs["interval"] = f"{LEVEL:.0%}, resampling stimuli, the mean over the subjects of each target"
    coords = {"metric": [m.name for m in metrics], "space": encoded["space"].values, "target": regions,
              "n_subjects": ("target", [f["n_subjects"] for f in found])}
    coords |= {k: c for k, c in encoded.coords.items() if c.dims == ("space",) and k != "space"}
    return make({k: (dims, v) for k, v in variables.items()}, coords, attrs)
