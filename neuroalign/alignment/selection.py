"""Layers chosen on half of the subjects and scored on the other half."""

from dataclasses import replace

import numpy as np
import xarray as xr

from neuroalign.alignment import rsa
from neuroalign.alignment.comparison import assemble, check_arguments, describe
from neuroalign.alignment.comparison_inputs import Models, Targets, match
from neuroalign.alignment.metrics import resolve_metrics
from neuroalign.errors import collect_warnings, list_ids, warn_user
from neuroalign.linalg import resolve
from neuroalign.stats import child_rng, row_permutations

__all__ = ["compare_selected"]


def compare_selected(features, targets, *, metric: str = "rsa.spearman", rdm: str = "correlation",
                     n_splits: int = 10, n_permutations: int = 1000, n_bootstraps: int = 0,
                     ceiling: str | None = "rank", on_missing: str = "error", keep=(), random_state: int = 0,
                     device="auto") -> xr.Dataset:
    """Compare models by their best layer, chosen on some subjects and scored on others.

    For each model, target and half of the subjects the layer with the highest mean score in that half is
    scored in the other half; both directions and `n_splits` random splits are averaged, so that every subject
    counts once in each split with a layer that it had no part in choosing.

    Parameters
    ----------
    features : mapping or list of DataArray (stimulus, feature), or RDMs
        Layers; those with the same coord ``model`` compete.
    targets : RDMs or Responses with several subjects a region
    metric : str
        A per-subject RSA metric.
    n_splits : int
        Random splits of the subjects; regions measured in the same subjects share them.
    rdm, n_permutations, n_bootstraps, ceiling, on_missing, keep, random_state, device
        As for `compare`. Layers are chosen anew in every permutation and resample.

    Returns
    -------
    Dataset
        Scores (metric, space, target), one space a model. ``attrs["selected"]`` says how often each layer was
        chosen; a target with fewer than two subjects is NaN.

    Examples
    --------
    >>> from neuroalign.data import make_features, make_rdms
    >>> rng = np.random.default_rng(0)
    >>> ids, x = [f"s{i}" for i in range(10)], rng.standard_normal((10, 8))
    >>> layers = [make_features(x, ids, model="m", layer="good"),
    ...           make_features(rng.standard_normal((10, 8)), ids, model="m", layer="poor")]
    >>> from neuroalign.alignment import rdms
    >>> own = np.repeat(rdms(layers[0]).values, 2, 0)
    >>> brain = make_rdms(own, stimulus_ids=ids, targets=["a", "b"],
    ...                   target_coords={"region": ["IT", "IT"], "subject": ["a", "b"]})
    >>> compare_selected(layers, brain, n_permutations=0).score.round(3).values.ravel().tolist()
    [1.0]
    """
    (chosen,) = resolve_metrics([metric], ("rdm",))
    if not chosen.per_subject or chosen.partial or chosen.method in rsa.SUBSAMPLED:
        raise ValueError(f"metric: got {metric!r}, expected a per-subject metric such as 'rsa.spearman': layers are "
                         "chosen on some subjects and scored on others.")
    if not isinstance(n_splits, (int, np.integer)) or n_splits < 1:
        raise ValueError(f"n_splits: got {n_splits!r}, expected an integer of at least 1.")
    keep = check_arguments([chosen], rdm, None, n_permutations, n_bootstraps, ceiling, keep, features, targets)
    device = resolve(device)
    with collect_warnings() as collected:
        models, side = match(features, targets, on_missing)
        problem = rsa.rdm_problem(chosen, models, side, rdm, None, device)
        halves = _split_subjects(side, problem.weights, n_splits, random_state)
        groups = _layers_of_models(models)
        rows = rsa.correlate_with_rows(problem)
        scores, picks = _select(rows[None], halves, groups)
        part = {"score": scores[0], "n": np.full(scores[0].shape, len(side.first))}
        permutations = None
        if n_permutations:
            permutations = row_permutations(len(side.ids), n_permutations, random_state=random_state)
            part["null"] = _null(problem, permutations, halves, groups)
        if n_bootstraps:
            resamples = rsa.resample_cells(side, n_bootstraps, random_state)
            values = rsa.resample_row_scores(problem, resamples)
            part["bootstrap"] = _select(values, halves, groups, resamples.rows)[0]
            part["interval"] = rsa.interval_of(resamples)
        if chosen.name == "rsa.spearman":
            part |= {k: np.where(np.isnan(part["score"]), np.nan, v)
                     for k, v in rsa.rdm_ceilings(side, rdm, ceiling, device).items()}
    settings = {"permutations": permutations, "n_bootstraps": n_bootstraps, "ceiling": ceiling, "rdm": rdm,
                "random_state": random_state}
    attrs = describe([chosen], side, settings, None, [part], targets)
    attrs |= {"selection": f"layer chosen on half of the subjects and scored on the other half, both ways, mean of "
                           f"{n_splits} random splits", "n_splits": n_splits,
              "selected": _count_picks(picks, groups, models, side, halves), "warnings": collected}
    return assemble([chosen], _model_spaces(groups), side, [part], keep, attrs)


def _split_subjects(side: Targets, weights, n_splits, random_state) -> np.ndarray:
    """Which rows make each half of each cell: bool (n_splits, 2, n_cells, n_rows)."""
    halves = np.zeros((n_splits, 2, side.n_cells, len(side.cell)), bool)
    alone = []
    for c in range(side.n_cells):
        own = np.flatnonzero((side.cell == c) & (side.subject != "") & (np.nan_to_num(weights[c]) > 0))
        if len(own) < 2:
            alone.append(side.cell_name(c))
            continue
        own = own[np.argsort(side.subject[own])]
        rng = child_rng(random_state, "halves of " + " ".join(side.subject[own]))
        for k in range(n_splits):
            order = rng.permutation(len(own))
            halves[k, 0, c, own[order[:len(own) // 2]]] = True
            halves[k, 1, c, own[order[len(own) // 2:]]] = True
    if alone:
        warn_user(f"{list_ids(alone)} have fewer than two subjects, so no layer can be chosen on one half and scored "
                  "on the other: NaN.", "no-subject-split", alone)
    return halves


def _layers_of_models(models: Models) -> dict[str, np.ndarray]:
    names = np.array([str(m) or name for m, name in zip(models.coords["model"], models.names)])
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(names)}


def _select(rows, halves, groups, counts=None):
    """Score each model by the layers chosen on the other half.

    `rows` has shape (n, n_spaces, n_rows), `counts` (n, n_rows) how often a row stands in each resample. Returns
    scores (n, n_models, n_cells) and picks (n_splits, 2, n_models, n_cells) of the first of n.
    """
    counts = np.ones((1, rows.shape[2])) if counts is None else counts
    total, picks = 0, []
    for half in halves:
        sizes = np.einsum("nr,hcr->nhc", counts, half.astype(float))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.einsum("nsr,nr,hcr->nhsc", np.nan_to_num(rows), counts * np.ones((len(rows), 1)),
                              half.astype(float)) / np.where(sizes > 0, sizes, np.nan)[:, :, None]
        lost = np.isnan(rows).all(2)
        means = np.where(lost[:, None, :, None], np.nan, means)
        scores, chosen = _cross(means, sizes, groups)
        total = total + scores
        picks.append(chosen)
    return total / len(halves), np.array(picks)


def _cross(means, sizes, groups):
    """Choose on each half, score on the other, weigh the two by their numbers of subjects."""
    n, _, _, n_cells = means.shape
    scores, picks = np.zeros((n, len(groups), n_cells)), np.zeros((2, len(groups), n_cells), int)
    for m, layers in enumerate(groups.values()):
        for choose, test in ((0, 1), (1, 0)):
            best = np.where(np.isnan(means[:, choose][:, layers]), -np.inf, means[:, choose][:, layers]).argmax(1)
            value = np.take_along_axis(means[:, test][:, layers], best[:, None], 1)[:, 0]
            with np.errstate(invalid="ignore", divide="ignore"):
                scores[:, m] += value * sizes[:, test] / sizes.sum(1)
            picks[choose, m] = layers[best[0]]
    return scores, picks


def _null(problem, permutations, halves, groups):
    sizes = halves.sum(3).astype(float)
    weights = halves / np.where(sizes > 0, sizes, np.nan)[..., None]
    null = rsa.rdm_null(replace(problem, weights=weights.reshape(-1, halves.shape[3])), permutations)
    means = np.moveaxis(null.reshape(*null.shape[:2], *sizes.shape), 1, 3)
    return sum(_cross(means[:, k], np.broadcast_to(sizes[k], (len(null), *sizes.shape[1:])), groups)[0]
               for k in range(len(halves))) / len(halves)


def _count_picks(picks, groups, models: Models, side: Targets, halves) -> dict:
    split = [c for c in range(side.n_cells) if halves[0, :, c].any()]
    return {name: {side.cell_name(c): _shares([models.names[i] for i in picks[:, :, m, c].ravel()]) for c in split}
            for m, name in enumerate(groups)}


def _shares(names) -> dict[str, float]:
    unique, counts = np.unique(names, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(unique[i]): round(float(counts[i] / len(names)), 4) for i in order}


def _model_spaces(groups) -> Models:
    names = list(groups)
    blank = np.full(len(names), "")
    return Models(names, {"model": np.array(names), "layer": blank, "stream": blank,
                          "depth": np.full(len(names), np.nan), "n_features": np.full(len(names), -1)})
