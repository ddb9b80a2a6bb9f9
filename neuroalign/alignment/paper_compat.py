"""Encoding as it was done in two papers, for comparison with their figures alone: `neuroalign.encode` is better.

Neither is calibrated. What each does that `encode` would not is said where it is done.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr
from sklearn.model_selection import KFold

from neuroalign.alignment.problem import Targets
from neuroalign.alignment.scoring import moments, score_moments
from neuroalign.alignment.stimulus_scores import pattern_correlation, patterns_by, two_versus_two
from neuroalign.data import align, sample_dim, scores
from neuroalign.errors import collect_warnings, warn_user
from neuroalign.stats import child_rng

__all__ = ["oota2022", "subramaniam2024"]

WARNING = ("as in {paper}, for comparison with its figures: not calibrated, and not for claims of one's own. Report "
           "neuroalign.encode beside it.")


def subramaniam2024(features, responses: xr.DataArray, *, n_bootstraps: int = 0, on_missing: str = "error",
                    keep=(), random_state: int = 0) -> xr.Dataset:
    """Encode as Subramaniam et al. (2024, arXiv 2406.14481) did.

    Five contiguous folds without a gap, each split into halves: validation, then test. Features are standardised by
    the training rows, responses are not; the penalty, of ``10 ** [-1 .. 5]``, is on the intercept too, and is chosen
    for each neuroid and time bin by the mean validation correlation over folds; the score is the mean test correlation.

    Parameters
    ----------
    features : mapping or list of DataArrays (sample, feature)
    responses : DataArray (sample, neuroid[, time_bin])
        Events in their order in time.
    n_bootstraps : int
        Resamples of events, drawn with replacement, sorted, the same for all spaces and neuroids; everything is
        fitted again, so that copies of an event can stand in training and test at the borders of folds.
    on_missing : {"error", "drop"}
    keep : sequence of {"bootstrap"}
        Also return the resampled scores, which ``neuroalign.site_tests(..., paper_compat=True)`` compares.
    random_state : int

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid[, time_bin]) of ``r.foldmean`` (test) and ``r.foldmean.validation``, whose
        ``ci_low`` above 0 is what the paper keeps bins by.

    Examples
    --------
    ``na.alignment.subramaniam2024(features, responses, n_bootstraps=1000)``
    """
    with collect_warnings() as said:
        warn_user(f"subramaniam2024: {WARNING.format(paper='Subramaniam et al. 2024')}", "paper-compat")
        spaces, responses = align(features, responses, on_missing=on_missing)
        targets = Targets(responses)
    Y = targets.values * targets.sd + targets.mean
    alphas, folds = np.logspace(-1, 5, 7), _halved_folds(len(Y))
    rng = child_rng(random_state, "paper_compat")
    orders = [np.sort(rng.integers(len(Y), size=len(Y))) for _ in range(n_bootstraps)]
    found, best, drawn = [], [], []
    for space in spaces.values():
        X = space.transpose(sample_dim(space), "feature").values.astype(np.float64)
        score, chosen = _validated(X, Y, folds, alphas)
        found.append(score)
        best.append(alphas[chosen])
        drawn.append([_validated(X[order], Y[order], folds, alphas)[0] for order in orders])
    dims = ("metric", "space", *targets.dims)
    variables = {"score": (dims, targets.spread(np.stack(found, 1))),
                 "best_alpha": (dims[1:], targets.spread(np.stack(best))),
                 "n": (targets.dims, np.where(targets.usable, sum(len(f[2]) for f in folds), 0).reshape(targets.shape))}
    if n_bootstraps:
        resampled = targets.spread(np.stack(drawn, 2))  # (resample, metric, space, ...)
        for end, level in (("ci_low", 0.025), ("ci_high", 0.975)):
            variables[end] = (dims, np.quantile(resampled, level, axis=0))
        if "bootstrap" in keep:
            variables["bootstrap"] = (("resample", *dims), resampled.astype(np.float32))
    attrs = {"analysis": "paper_compat", "warnings": said, "n_stimuli": len(Y), "alphas": alphas.tolist(),
             "folds": {"name": "contiguous, half validation and half test", "n_folds": len(folds)},
             "paper_compat": WARNING.format(paper="Subramaniam et al. 2024, arXiv 2406.14481"),
             "interval": f"95 % percentile interval over {n_bootstraps} sorted resamples of events, fitted again"
             if n_bootstraps else None, "random_state": random_state}
    return scores.make(variables, _coords(spaces, responses, targets.dims)
                       | {"metric": ["r.foldmean", "r.foldmean.validation"]}, attrs)


def oota2022(features, responses: xr.DataArray, *, by: str | None = None, n_splits: int = 10,
             on_missing: str = "error") -> xr.Dataset:
    """Encode as Oota et al. (2022, arXiv 2204.08261) did.

    Contiguous folds, no intercept, nothing standardised; the penalty of each neuroid, of ``10 ** [-6 .. 9]``, has
    the highest sum of R² over ten inner folds. Patterns keep the mean of the training rows, so that a predictor which
    knows that mean alone scores above chance: it is the ``baseline``.

    Parameters
    ----------
    features : mapping or list of DataArrays (sample, feature)
    responses : DataArray (sample, neuroid)
    by : str, optional
        Coord of the neuroids whose values (regions) each have a score.
    n_splits : int
        Outer and inner folds.
    on_missing : {"error", "drop"}

    Returns
    -------
    Dataset
        Scores (metric, space, target) of ``r.stimulus`` (mean over the stimuli of a fold, then over folds) and
        ``2v2`` (all pairs of stimuli, pooled over folds).

    Examples
    --------
    ``na.alignment.oota2022(features, bold, by="region")``
    """
    with collect_warnings() as said:
        warn_user(f"oota2022: {WARNING.format(paper='Oota et al. 2022')}", "paper-compat")
        spaces, responses = align(features, responses, on_missing=on_missing)
        targets = Targets(responses)
        if "time_bin" in targets.dims:
            raise ValueError("responses: they have time bins, and the patterns of oota2022 none. Take one, or a mean.")
        groups = {label: columns for label, (columns,) in patterns_by(responses, targets.usable, by).items()}
    Y = targets.values * targets.sd + targets.mean
    alphas, folds = 10.0 ** np.arange(-6, 10), list(KFold(n_splits).split(Y))
    found = []
    for space in spaces.values():
        X = space.transpose(sample_dim(space), "feature").values.astype(np.float64)
        predicted = np.empty(Y.shape)
        for train, test in folds:
            loss = 0.0
            for fit, held in KFold(n_splits).split(train):
                predict = _ridge(X[train[fit]], Y[train[fit]])
                guesses = [predict(X[train[held]], alpha) for alpha in alphas]
                loss = loss - np.stack([score_moments("r2.pooled", moments(Y[train[held]], g)[None]) for g in guesses])
            predict, best = _ridge(X[train], Y[train]), np.nan_to_num(loss, nan=np.inf).argmin(0)
            for k in np.unique(best):
                predicted[np.ix_(test, best == k)] = predict(X[test], alphas[k])[:, best == k]
        found.append(_patterns(Y, predicted, folds, groups))
    mean = np.empty(Y.shape)
    for train, test in folds:
        mean[test] = Y[train].mean(0)
    attrs = {"analysis": "paper_compat", "warnings": said, "n_stimuli": len(Y), "alphas": alphas.tolist(), "by": by,
             "folds": {"name": "contiguous", "n_folds": len(folds)},
             "paper_compat": WARNING.format(paper="Oota et al. 2022, arXiv 2204.08261")}
    variables = {"score": (("metric", "space", "target"), np.stack(found, 1)),
                 "baseline": (("metric", "target"), _patterns(Y, mean, folds, groups)),
                 "n": (("target",), np.full(len(groups), len(Y)))}
    return scores.make(variables, _coords(spaces, responses, ())
                       | {"metric": ["r.stimulus", "2v2"], "target": list(groups)}, attrs)


def _halved_folds(n: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return training, validation and test rows of each fold."""
    return [(train, held[:len(held) // 2], held[len(held) // 2:]) for train, held in KFold(5).split(np.zeros(n))]


def _validated(X, Y, folds, alphas) -> tuple[np.ndarray, np.ndarray]:
    """Return test and validation score (2, n_targets), and which penalty was chosen."""
    parts = {1: [], 2: []}
    for rows in folds:
        train = rows[0]
        mean, sd = X[train].mean(0), X[train].std(0)
        Z = np.c_[(X - mean) / np.where(sd > 0, sd, 1), np.ones(len(X))]  # the intercept is penalised as any column
        predict = _ridge(Z[train], Y[train])
        for side in parts:
            parts[side].append([moments(Y[rows[side]], predict(Z[rows[side]], alpha)) for alpha in alphas])
    validation, test = (np.stack([score_moments("r.foldmean", np.stack(p)[:, k]) for k in range(len(alphas))])
                        for p in parts.values())
    best = np.nan_to_num(validation, nan=-np.inf).argmax(0)
    return np.stack([side[best, np.arange(len(best))] for side in (test, validation)]), best


def _ridge(X, Y) -> Callable:
    """Return a function of rows and penalty that predicts by ridge regression without an intercept."""
    left, size, right = np.linalg.svd(X, full_matrices=False)
    projected = left.T @ Y
    return lambda rows, alpha: (rows @ right.T) @ (size[:, None] / (size[:, None] ** 2 + alpha) * projected)


def _patterns(Y, predicted, folds, groups) -> np.ndarray:
    r = [[pattern_correlation(Y[np.ix_(test, c)], predicted[np.ix_(test, c)]).mean() for _, test in folds]
         for c in groups.values()]
    return np.stack([np.mean(r, 1), [two_versus_two(Y[:, c], predicted[:, c]) for c in groups.values()]])


def _coords(spaces, responses, where) -> dict:
    """Return the coords of the neuroids (those on `where`) and of the spaces."""
    coords = {k: v for k, v in responses.coords.items() if v.dims and set(v.dims) <= set(where)}
    if "neuroid_id" in coords:
        coords["neuroid"] = ("neuroid", responses["neuroid_id"].values)
    coords |= {"space": list(spaces), "n_features": ("space", [s.sizes["feature"] for s in spaces.values()])}
    for name in ("model", "layer", "stream", "depth"):
        if all(name in s.coords and s[name].ndim == 0 for s in spaces.values()):
            coords[name] = ("space", [s[name].item() for s in spaces.values()])
    return coords
