"""How much of a target's geometry two models explain together, and how much each explains alone."""

from dataclasses import replace

import numpy as np
import xarray as xr

from neuroalign.alignment import rsa
from neuroalign.alignment.comparison import assemble, check_arguments, describe
from neuroalign.alignment.comparison_inputs import Models, match
from neuroalign.alignment.metrics import get_metric
from neuroalign.alignment.rdm_bootstrap import bootstrap_rdms
from neuroalign.errors import collect_warnings
from neuroalign.linalg import resolve
from neuroalign.stats import row_permutations
from neuroalign.stats.correlations import correlate_rows, valid_patterns

__all__ = ["partition_rsa"]

PARTS = ("both", "unique first", "unique second", "shared")


def partition_rsa(features, targets, *, rdm: str = "correlation", n_permutations: int = 1000, n_bootstraps: int = 0,
                  on_missing: str = "error", keep=(), random_state: int = 0, device="auto") -> xr.Dataset:
    """Split the explained variance of each subject's ranked RDM between two models.

    The ranks of a subject's dissimilarities are regressed on those of the first model, of the second and of both
    (a commonality analysis; Groen et al. 2018, eLife 7:e32962, for RDMs); R² is averaged over subjects.

    Parameters
    ----------
    features : mapping or list of two DataArrays (stimulus, feature), or RDMs with two targets
        The two models, in order.
    targets : RDMs, Responses or features, as for `compare`
    n_permutations : int
        Null of a unique share: labels of that model permuted; of both: labels of both permuted together. The
        shared part is a difference of the others and has no p.
    rdm, n_bootstraps, on_missing, keep, random_state, device
        As for `compare`.

    Returns
    -------
    Dataset
        Scores with metric ``rsa.r2`` and the spaces ``"A + B"``, ``"A, unique"``, ``"B, unique"``, ``"A & B,
        shared"`` (negative where the two suppress each other). unique + unique + shared = both. A coord
        ``part`` names them.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> rng = np.random.default_rng(0)
    >>> a, b = (make_features(rng.standard_normal((20, 6)), [f"s{i}" for i in range(20)], model=m) for m in "ab")
    >>> partition_rsa([a, b], a, n_permutations=0).score.round(2).values.ravel()[0].item()
    1.0
    """
    metric = get_metric("rsa.r2")
    keep = check_arguments([metric], rdm, None, n_permutations, n_bootstraps, None, keep, features, targets)
    device = resolve(device)
    with collect_warnings() as collected:
        models, side = match(features, targets, on_missing)
        if len(models.names) != 2:
            raise ValueError(f"partition_rsa: got {len(models.names)} models ({', '.join(models.names[:5])}), "
                             "expected two.")
        problem = rsa.rdm_problem(metric, models, side, rdm, None, device)
        r = rsa.correlate_with_rows(problem)
        between = _between(problem)
        shares = _shares(r[None, 0], r[None, 1], between[None])
        part = {"score": (shares @ problem.weights.T)[0], "rows": shares[0]}
        part["n"] = np.full(part["score"].shape, len(side.first))
        permutations = None
        if n_permutations:
            permutations = row_permutations(len(side.ids), n_permutations, random_state=random_state)
            part["null"] = _null(problem, permutations, r, between)
        if n_bootstraps:
            resamples = rsa.resample_cells(side, n_bootstraps, random_state)
            values = rsa.resample_row_scores(problem, resamples)
            moved = _resample_between(problem, resamples)
            weights = problem.weights[None] * resamples.rows[:, None, :]
            part["bootstrap"] = rsa.weighted_means(_shares(values[:, 0], values[:, 1], moved), weights)
            part["interval"] = rsa.interval_of(resamples)
    settings = {"permutations": permutations, "n_bootstraps": n_bootstraps, "ceiling": None, "rdm": rdm,
                "random_state": random_state}
    attrs = describe([metric], side, settings, None, [part], targets)
    attrs |= {"null": "labels of the model whose unique share it is permuted; of both models together for their sum",
              "warnings": collected}
    scores = assemble([metric], _part_spaces(models.names), side, [part], keep, attrs)
    return scores.assign_coords(part=("space", list(PARTS)))


def _shares(first, second, between):
    """Both, unique first, unique second, shared: (n, 4, n_rows) from three correlations of shape (n, n_rows)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        gone = 1 - between**2
        both = (first**2 + second**2 - 2 * first * second * between) / np.where(gone > 1e-6, gone, np.nan)
    # Two models with the same ranks explain what one of them does.
    both = np.where(gone > 1e-6, both, np.where(np.isnan(gone), np.nan, np.maximum(first**2, second**2)))
    return np.stack([both, both - second**2, both - first**2, first**2 + second**2 - both], axis=1)


def _between(problem) -> np.ndarray:
    """Correlation of the two models over the pairs that each row has, shape (n_rows,)."""
    out = np.full(len(problem.rows), np.nan)
    for group, valid in valid_patterns(problem.rows):
        a, b = problem.models[:, valid]
        out[group] = correlate_rows(a, b, problem.method, device=problem.device)[0, 0]
    return out


def _null(problem, permutations, r, between):
    """Null of the four parts, shape (n_permutations, 4, n_cells)."""
    alone = replace(problem, weights=np.eye(len(problem.rows)))
    moved = rsa.rdm_null(alone, permutations)
    second, first = (_null_between(problem, permutations, fixed) for fixed in (0, 1))
    still = np.broadcast_to(between, moved[:, 0].shape)
    fixed = [np.broadcast_to(r[k], moved[:, 0].shape) for k in (0, 1)]
    parts = [_shares(moved[:, 0], moved[:, 1], still)[:, 0], _shares(moved[:, 0], fixed[1], first)[:, 1],
             _shares(fixed[0], moved[:, 1], second)[:, 2], np.full(moved[:, 0].shape, np.nan)]
    return np.stack(parts, axis=1) @ problem.weights.T


def _null_between(problem, permutations, fixed: int):
    """Correlation of one model, permuted, with the other over each row's pairs: (n_permutations, n_rows)."""
    other = np.where(np.isnan(problem.rows), np.nan, problem.models[fixed])
    alone = replace(problem, rows=other, weights=np.eye(len(other)), names=[problem.names[1 - fixed]],
                    condensed=problem.condensed[[1 - fixed]], models=problem.models[[1 - fixed]])
    return rsa.rdm_null(alone, permutations)[:, 0]


def _resample_between(problem, resamples):
    other = np.where(np.isnan(problem.rows), np.nan, problem.models[1])
    return bootstrap_rdms(problem.models[:1], other, problem.first, problem.second, resamples.stimuli,
                          problem.method, device=problem.device)[:, 0]


def _part_spaces(names) -> Models:
    a, b = names
    labels = [f"{a} + {b}", f"{a}, unique", f"{b}, unique", f"{a} & {b}, shared"]
    blank = np.full(4, "")
    return Models(labels, {"model": np.array(labels), "layer": blank, "stream": blank, "depth": np.full(4, np.nan),
                           "n_features": np.full(4, -1)})
