"""Predict measured responses from feature spaces, and say how well, against which null and which ceiling."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from neuroalign.alignment.baselines import drift_scores, resolve_baselines
from neuroalign.alignment.encoding_scores import (
    LEVEL,
    assemble,
    check_features,
    check_kept,
    check_tests,
    fit_design,
    leftover_of,
    warn_alphas,
    warn_constant,
    warn_folds,
    warn_independent,
    warn_narrow,
)
from neuroalign.alignment.metrics import resolve_metrics
from neuroalign.alignment.nested_layer import group_layers
from neuroalign.alignment.problem import set_up
from neuroalign.alignment.resampling import Resampling
from neuroalign.alignment.residuals import warn_leftover
from neuroalign.alignment.scoring import score_moments
from neuroalign.alignment.splits import describe_blocks
from neuroalign.data import sample_dim
from neuroalign.errors import check_option, collect_warnings

__all__ = ["encode"]



def encode(features, responses: xr.DataArray, *, nuisance=None, cv="auto", inner_cv="auto", n_splits: int = 5,
           n_inner_splits: int = 5, groups=None, gap: float | None = None, alphas=None, reduce=None,
           layer="each", hrf: str | None = None, at: str = "onset", downsample: str | None = None, delays=None,
           trf=None, high_pass="auto", metric=("r.pooled", "r2.pooled"), n_permutations: int = 0,
           n_bootstraps: int = 0, null: str = "auto", min_shift: float = 0.1, block: float | None = None,
           baselines="auto", fdr: str = "bh", ceiling=None, repeats: str = "average", on_missing: str = "error",
           residualize: str | None = None, select_neuroids: float | None = None, keep=(), random_state: int = 0,
           device="auto", progress: bool = True) -> xr.Dataset:
    """Score how well feature spaces predict responses by cross-validated ridge regression.

    Every neuroid (and time bin) gets its own penalty by inner cross-validation. Features are standardised by the
    training rows of the fold at hand, the intercept is not penalised, and predictions are of held-out rows only.

    Parameters
    ----------
    features : DataArray (sample, feature), mapping or list of them
        What `extract` returns. Rows are matched with the responses by ``stimulus_id``, or stand on their clock.
    responses : DataArray (sample, neuroid[, time_bin])
    nuisance : str, DataArray, or list of them, optional
        Variables that stand beside every space in one joint ridge: names of coords on the samples,
        ``"word_rate"`` (an impulse for each timed event), or arrays. Their score alone, on the same folds, is
        ``baseline``.
    cv, inner_cv : str, int, splitter, or (cv only) Folds or table
        See `neuroalign.stats.make_folds`; (train, test) of each fold are a table, too. ``"auto"``: contiguous blocks
        with a purge gap for a time series, groups where there are any (presentations of one stimulus are), else
        shuffled k-fold. ``inner_cv="loo"`` chooses penalties by the closed-form leave-one-out error.
    n_splits, n_inner_splits : int
    groups : str or sequence, optional
        Name of a coord of the responses, or a label for each sample: groups never straddle folds.
    gap : float, optional
        Seconds purged on both sides of a test block of a time series; by default 16 for fMRI or with `hrf`, else 1,
        and never less than the longest delay.
    alphas : float or sequence of float, optional
        Penalties; by default 15 from 0.1 to 1e6.
    reduce : int or str, optional
        Reduce the features, not the nuisance, within the training rows of each outer fold: ``"pca:50"`` components,
        ``"pca:0.9"`` as many as explain that share of the variance, a number or ``"random:300"`` a sparse random
        projection. Models of different width are compared at equal dimensions so; those that have fewer keep what
        they have, with a warning. Coord ``n_components`` has the width (of all layers together), mean over folds.
    layer : {"each", "nested"} or mapping of str to sequence of str
        ``nested``: one score a model and stream, of predictions from the layer that does best within the training
        rows of each fold, for each neuroid (``MODEL:nested:STREAM``); ``attrs["chosen_layers"]``
        counts which, over folds and neuroids, and ``chosen_depth`` is their mean depth over folds. The best of the
        scores of each layer is too good: it was chosen by the test rows. A mapping names groups of spaces (ids, or
        patterns such as ``"flava:*"``), the best of which is chosen so: of all multimodal models, say, and of all
        unimodal ones.
    hrf : {"glover", "spm"}, optional
        Convolve features that are timed events (coord ``onset``) onto responses on ``time``.
    at : {"onset", "offset", "middle", "whole"}
        Where in an event its impulse stands; ``"whole"``: it lasts from onset to offset (coord ``duration``), as a
        block of stimuli does. Events that last longer than 5 s and are taken for impulses are warned of.
    downsample : {"mean", "lanczos"}, optional
        Instead of `hrf`: bring features that are timed events to the samples of the responses, and no more
        (`neuroalign.features.events_to_samples`), for delays to follow.
    delays : sequence of float, optional
        Seconds by which responses on ``time`` may be later than features (finite impulse response): features and
        nuisance stand in the model once for each delay (`neuroalign.features.delay`), within runs.
    trf : (float, float), optional
        All delays from the first to the second (a temporal response function), of features and nuisance; the delayed
        features are never held in memory where there are more samples than columns.
    high_pass : "auto", float or None
        Filter (Hz) of the regressors made here from events and named coords: the one that the responses went
        through, ``responses.attrs["high_pass"]`` (`clean` writes it), by default. Time series given as features are
        taken as they are.
    metric : str or sequence of str
        Of ``r.pooled``, ``r.foldmean``, ``r2.pooled``, ``r2.foldmean``.
    n_permutations : int
        Permutations for p-values; each refits everything, the penalty included.
    n_bootstraps : int
        Resamples (none, or at least 20) of the held-out predictions for intervals (95 %,
        `neuroalign.stats.expanded_interval`): groups, blocks of a time series, or stimuli, the same for all spaces,
        so that `neuroalign.data.scores.diff` can compare spaces in pairs (keep ``"bootstrap"``). Nothing is fitted
        again: a refit would put copies of a stimulus into training and test.
    null : {"auto", "shift", "block", "permute"}
        Circular shift (auto for a time series), order of blocks or groups, or order of rows (auto for independent
        stimuli). Without nuisance the responses are permuted, with nuisance what it does not explain of the features
        (of events, the events before they are convolved), so that the nuisance keeps what it explains of both.
    min_shift : float
        Least circular shift, as a share of the series (of events, or of the run).
    block : float, optional
        Seconds of a block of ``null="block"`` and of the resamples; by default five autocorrelation times of the
        responses, at least 50 samples, and at most a tenth of the series (``attrs["blocks"]``).
    baselines : "auto" or sequence of {"drift", "shuffled"}
        Scores to stand beside the table. ``drift`` (auto: of a time series): a smooth function of the order of the
        samples, cosines to a period of 20 samples, on the same folds. What it reaches needs no stimulus. ``shuffled``:
        the same features in another order, as in `null`, fitted again; mean of five orders (of all, where features
        are permuted for p-values).
    fdr : {"bh", "by"}
        Adjustment over neuroids (and time bins), within each metric and space.
    ceiling : mapping, str, DataArray or array of shape (n_neuroids[, n_time_bins]), optional
        Reliability (not its root) of the very responses given, such as `stats.split_half_reliability`. By default
        it comes from the repeats of presentations, where there are any, by split halves; ``"ncsnr"`` takes the
        noise-ceiling signal-to-noise ratio instead.
    repeats : {"average", "keep"}
        Average the presentations of a stimulus (after their reliability was taken), or keep them as rows.
    on_missing : {"error", "drop"}
        What to do with stimuli that only one side has.
    residualize : {"features", "both"}, optional
        Instead of a place beside every space, take the nuisance out of the features by least squares within the
        training rows of each outer fold; ``both``: out of the responses, too, and score their residuals (without a
        ceiling). How well the nuisance, bent by Gaussian functions, still predicts held-out residual features is
        ``attrs["leftover"]``, with a warning above an R² of .01 in the mean over features or .1 in any
        (more, where there are under 200 samples).
    select_neuroids : float, optional
        Predict, in each fold, only neuroids (and time bins) whose repeats have at least this reliability in the
        training rows: the mean over the repeats of a stimulus, by the noise-ceiling signal-to-noise ratio. A neuroid
        is scored on the folds that it was selected in (``n`` rows, share ``selected`` of the folds), and NaN if in
        none. Needs presentations with repeats, or a coord ``stimulus_id`` on ``time``.
    keep : str or sequence of {"prediction", "null", "fold_score", "bootstrap"}
        Also return these.
    random_state : int
    device : str
    progress : bool
        Show a progress bar for permutations that take longer than two seconds.

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid[, time_bin]); see `neuroalign.data.scores`.

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> rng = np.random.default_rng(0)
    >>> x, noise = rng.standard_normal((60, 4)), rng.standard_normal((60, 2))
    >>> ids = [f"s{i}" for i in range(60)]
    >>> y = make_responses(x @ rng.standard_normal((4, 2)) + noise, ids, ["v1", "v2"])
    >>> found = encode(make_features(x, ids, model="toy"), y)
    >>> found.score.sel(metric="r.pooled").values.round(1).tolist()
    [[0.8, 0.9]]
    """
    metrics = [m.name for m in resolve_metrics(metric, ("encoding",))]
    keep = check_kept(keep, n_permutations=n_permutations, n_bootstraps=n_bootstraps)
    check_tests(null, fdr)
    if not isinstance(layer, Mapping):
        check_option("layer", layer, ("each", "nested"))
    with collect_warnings() as said:
        problem = set_up(features, responses, nuisance=nuisance, cv=cv, inner_cv=inner_cv, n_splits=n_splits,
                         n_inner_splits=n_inner_splits, groups=groups, gap=gap, alphas=alphas, reduce=reduce, hrf=hrf,
                         at=at, downsample=downsample, delays=delays, trf=trf, high_pass=high_pass, ceiling=ceiling,
                         repeats=repeats, on_missing=on_missing, residualize=residualize,
                         select_neuroids=select_neuroids, random_state=random_state, device=device)
        warn_folds(problem.fitter.outer, metrics)
        targets, fitter, columns = problem.targets, problem.fitter, problem.nuisance
        resampling = Resampling(problem, n_bootstraps, block, random_state) if n_bootstraps else None
        options = {"null": null, "min_shift": min_shift, "block": block, "random_state": random_state}
        beside = resolve_baselines(baselines, problem)
        makers, members, results, constant = problem.designs(), {}, [], {}
        if layer != "each":
            makers, members = group_layers(problem.spaces, makers, layer)
            if len(fitter.alphas) < 2:
                raise ValueError("layer='nested': layers are compared by their inner folds; give at least two alphas.")
        for space, make in makers.items():
            design = make()
            tables = getattr(design.joint, "tables", [design.joint])
            for name, table in zip(members.get(space, [space]), tables):
                constant[name] = check_features(getattr(table, "series", table), name, targets.ids)
            found, _ = fit_design(design, space, fitter, problem, metrics, keep, n_permutations, options, resampling,
                                  "shuffled" in beside, progress)
            found["n_features"] = sum(t.shape[1] - design.nuisance.shape[1] for t in tables)
            if members:
                found["chosen_depth"], found["chosen_layers"] = _chosen_layers(design, members[space], problem)
            results.append(found)
        alone = {"drift": drift_scores(problem, metrics)} if "drift" in beside else {}
        if columns.shape[1]:
            sums = fitter.fit(columns, targets.values).sums
            alone["baseline"] = np.stack([score_moments(m, sums) for m in metrics])
        warn_constant(constant)
        warn_alphas(results, fitter.alphas)
        warn_narrow(results, fitter.reduction)
        warn_independent(results)
        warn_leftover(leftover_of(results), problem.layout.n_samples)
    attrs = {"analysis": "encode", "warnings": said, **problem.describe(),
             "aggregation": {m: m.split(".")[1] for m in metrics},
             "repeats": repeats if sample_dim(responses) == "presentation" else None,
             "solver": {r["space"]: r["solver"] for r in results}, "fdr": fdr,
             "nulls": results[0]["null_name"] if n_permutations else None, "n_bootstraps": n_bootstraps,
             "interval": resampling.describe(LEVEL) if resampling else None,
             "resampled_units": resampling.n_units if resampling else None,
             "chosen_layers": {r["space"]: r["chosen_layers"] for r in results} if members else None,
             "blocks": describe_blocks(problem.layout, block), "leftover": leftover_of(results) or None}
    return assemble(results, problem, members, metrics, alone, fdr, attrs)


def _chosen_layers(design, names, problem) -> tuple[np.ndarray, dict[str, int]]:
    """Return the mean depth over folds for each target, and how often each layer was chosen, over both."""
    depths = np.array([float(problem.spaces[n]["depth"]) if "depth" in problem.spaces[n].coords else np.nan
                       for n in names])
    Y, fitter, tables = problem.targets.values, problem.fitter, design.joint
    chosen = np.stack([fitter.plan(tables, fold).choose(fitter.targets(tables, Y, fold), train)
                       for fold, (train, _) in enumerate(fitter.outer)])
    counts = np.bincount(chosen.ravel(), minlength=len(names)).tolist()
    return depths[chosen].mean(0), dict(zip(names, counts))
