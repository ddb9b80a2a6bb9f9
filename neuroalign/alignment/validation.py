"""Validation scores: how well the inner folds predict, by which time bins are chosen without the test rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from neuroalign.alignment.joint import BandedFitter, check_bands, joint_designs
from neuroalign.alignment.nested_layer import group_layers
from neuroalign.alignment.problem import check_settings, set_up
from neuroalign.data import scores as results
from neuroalign.errors import collect_warnings

__all__ = ["validation_scores"]

METRIC = "r2.validation"


def validation_scores(features, responses: xr.DataArray, *, layer="each", joint: Sequence[Sequence[str]] | None = None,
                      bands: Mapping[str, Sequence[str]] | None = None, n_candidates=20, refine: int = 0,
                      random_state: int = 0, **options) -> xr.Dataset:
    """Score, by the inner folds alone, how well spaces predict in the training rows of each outer fold.

    Give the arguments of the encoding: spaces get the same names. `site_tests` takes the bins where these scores are
    above 0 in every fold.

    Parameters
    ----------
    features : DataArray (sample, feature), mapping or list of them
    responses : DataArray (sample, neuroid[, time_bin])
    layer : {"each", "nested"} or mapping
        As in `neuroalign.encode`.
    joint : sequence of sequences of str, optional
        Sets of bands to score together, as `neuroalign.encode_banded` fits them, instead of single spaces.
    bands : mapping, optional
        Of `encode_banded`; by default every space is a band.
    n_candidates, refine
        Of `encode_banded`.
    random_state : int
    **options
        nuisance, cv, inner_cv, n_splits, n_inner_splits, groups, gap, alphas, reduce, hrf, delays, trf, ... of
        `encode`.

    Returns
    -------
    Dataset
        Scores (``r2.validation``, space, neuroid[, time_bin]), mean over outer folds, and ``fold_score`` of each: the
        share of the variance in the training rows that the inner folds predict at the penalty chosen. Being the best
        over penalties, it is a little high.

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> rng = np.random.default_rng(0)
    >>> x, ids = rng.standard_normal((60, 4)), [f"s{i}" for i in range(60)]
    >>> y = make_responses(np.column_stack([x.sum(1), rng.standard_normal(60)]), ids, ["driven", "noise"])
    >>> found = validation_scores(make_features(x, ids, model="toy"), y)
    >>> (found.fold_score > 0.1).all("fold").values.ravel().tolist()
    [True, False]
    """
    check_settings(validation_scores, options)
    with collect_warnings() as said:
        problem = set_up(features, responses, random_state=random_state, **options)
        if joint is None:
            found = _single(problem, layer)
        else:
            found = _joint(problem, joint, check_bands(bands, problem.spaces), n_candidates, refine)
    if any(np.isnan(x).all() for x in found.values()):
        raise ValueError("alphas: one penalty leaves nothing to choose by inner folds; give at least two.")
    targets, dims = problem.targets, ("metric", "space", *problem.targets.dims)
    folds = np.stack([targets.spread(x) for x in found.values()], 1)[:, None]
    coords = {k: v for k, v in problem.responses.coords.items() if v.dims and set(v.dims) <= set(targets.dims)}
    if "neuroid_id" in coords:
        coords["neuroid"] = ("neuroid", problem.responses["neuroid_id"].values)
    attrs = {"analysis": "validation_scores", "warnings": said, **problem.describe()}
    return results.make({"score": (dims, folds.mean(0)), "fold_score": (("fold", *dims), folds)},
                        {**coords, "metric": [METRIC], "space": list(found)}, attrs)


def _single(problem, layer) -> dict[str, np.ndarray]:
    makers, Y, found = problem.designs(), problem.targets.values, {}
    if layer != "each":
        makers, _ = group_layers(problem.spaces, makers, layer)
    for space, make in makers.items():
        design, fitter = make().joint, problem.fitter
        with fitter.threads(design, Y):
            folds = []
            for fold, (train, _) in enumerate(fitter.outer):
                plan = fitter.plan(design, fold)  # of several layers the best counts, as it does in the encoding
                loss = [p.predict_with_loss(Y, train)[2] for p in getattr(plan, "plans", [plan])]
                folds.append(1 - np.min(loss, 0))
        found[space] = np.array(folds)
    return found


def _joint(problem, sets, named, n_candidates, refine) -> dict[str, np.ndarray]:
    Y, found = problem.targets.values, {}
    for label, design, widths in joint_designs(problem, sets, named):
        fitter = BandedFitter.of(problem.fitter, widths, n_candidates, refine)
        with fitter.threads(design.joint, Y):
            found[label] = np.array([1 - fitter.plan(design.joint, fold).fit(Y[train]).best_loss / Y[train].var(0)
                                     for fold, (train, _) in enumerate(fitter.outer)])
    return found
