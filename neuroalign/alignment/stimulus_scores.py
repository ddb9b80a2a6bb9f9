"""Encoding scored by stimulus: does the predicted pattern over neuroids tell this stimulus from others?"""

from itertools import combinations_with_replacement

import numpy as np
import xarray as xr

from neuroalign.alignment.encoding_scores import (
    check_features,
    check_tests,
    leftover_of,
    measure_leftover,
    plan_null,
    warn_constant,
    warn_folds,
    warn_narrow,
    width_coords,
)
from neuroalign.alignment.metrics import resolve_metrics
from neuroalign.alignment.nulls import Fitter, Tally, residuals_of
from neuroalign.alignment.problem import Problem, check_settings, set_up
from neuroalign.alignment.progress import progress_bar
from neuroalign.alignment.residuals import warn_leftover
from neuroalign.alignment.splits import describe_blocks
from neuroalign.alignment.table import Table
from neuroalign.data import scores
from neuroalign.errors import check_counts, check_option, collect_warnings, list_ids, warn_user
from neuroalign.stats import fdr as adjust

__all__ = ["encode_stimuli", "pattern_correlation", "patterns_by", "two_versus_two"]

ROWS = 1024  # rows of the matrix of similarities that are held at a time
LEAST = 3  # neuroids of a pattern


def encode_stimuli(features, responses: xr.DataArray, *, by: str | None = None, metric=("r.stimulus", "2v2"),
                   centre: str = "train", n_permutations: int = 0, null: str = "auto", min_shift: float = 0.1,
                   block: float | None = None, fdr: str = "bh", random_state: int = 0, progress: bool = True,
                   **options) -> xr.Dataset:
    """Score how well the predicted pattern of each stimulus over neuroids matches the measured one.

    Ridge regressions as in `neuroalign.encode`; predictions of all held-out stimuli are pooled over folds. The mean
    of the training rows is taken off each neuroid, from measurement and prediction: what all stimuli share is easily
    predicted and tells nothing of them. A predictor that knows this mean alone is the ``baseline``: it scores 0, and
    .5 of the pairs.

    Parameters
    ----------
    features, responses
        As in `encode`; a pattern needs at least three neuroids.
    by : str, optional
        Coord of the neuroids (``"region"``, ``"subject"``) whose values each have a score; default: all together.
    metric : {"r.stimulus", "2v2"} or both
        ``r.stimulus``: Pearson correlation over neuroids, mean over stimuli. ``2v2``: share of the pairs of stimuli
        whose cosine distances are smaller to their own predictions than swapped, ties as a half (Mitchell et al.
        2008, Science 320:1191).
    centre : {"train", "none"}
        ``none`` leaves the mean in, as some papers do; only for comparison with them.
    n_permutations, null, min_shift, block, fdr
        As in `encode`: stimuli (with nuisance, or neuroids selected by fold, those of the features) are permuted and
        everything is fitted again. Pairs share stimuli, so that a binomial test over them would be wrong, and is not
        offered.
    random_state : int
    progress : bool
        Show a progress bar for permutations that take longer than two seconds.
    **options
        nuisance, cv, inner_cv, n_splits, n_inner_splits, groups, gap, alphas, reduce, hrf, at, high_pass, repeats,
        on_missing, residualize, select_neuroids, device of `encode`. With `select_neuroids` the pattern of a
        stimulus is over the neuroids that were selected in its fold; two stimuli are told apart by those selected in
        both folds. Fewer than three are no pattern: such stimuli, and pairs, do not count (``n``), and a target
        without any is NaN.

    Returns
    -------
    Dataset
        Scores (metric, space, target[, time_bin]).

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> rng = np.random.default_rng(0)
    >>> x, ids = rng.standard_normal((60, 4)), [f"s{i}" for i in range(60)]
    >>> y = make_responses(x @ rng.standard_normal((4, 8)), ids, [f"v{k}" for k in range(8)])
    >>> encode_stimuli(make_features(x, ids, model="toy"), y, alphas=[0.1]).score.values.round(2).ravel().tolist()
    [1.0, 1.0]
    """
    metrics = [m.name for m in resolve_metrics(metric, ("stimulus",))]
    check_option("centre", centre, ("train", "none"))
    check_tests(null, fdr)
    check_counts(n_permutations=n_permutations)
    check_settings(encode_stimuli, options)
    with collect_warnings() as said:
        problem = set_up(features, responses, random_state=random_state, **options)
        warn_folds(problem.fitter.outer)
        groups = patterns_by(problem.responses, problem.targets.usable, by)
        _tell_unselected(problem, groups)
        permuting = {"null": null, "min_shift": min_shift, "block": block, "random_state": random_state}
        Y = problem.targets.values
        results, constant, told = {}, {}, None
        for space, make in problem.designs().items():
            design = make()
            table = design.joint
            constant[space] = check_features(getattr(table, "series", table), space, problem.targets.ids)
            with problem.fitter.threads(table, Y):
                if n_permutations:
                    told, moved, orders = plan_null(design, problem.fitter, problem.layout, n_permutations, permuting)
                plans = problem.fitter.plans_of(table) if n_permutations and moved == "responses" else None
                observed, baseline, components = _score(problem, table, Y, groups, metrics, centre, plans)
                results[space] = {"space": space, "score": observed,
                                  "leftover": measure_leftover(problem.fitter, table),
                                  "n_features": table.shape[1] - problem.nuisance.shape[1],
                                  "n_components": components}
                if n_permutations:
                    tally, residuals = Tally(observed), residuals_of(problem.fitter, design)
                    with progress_bar(f"{space}: null", progress, len(orders)) as bar:
                        for order in orders:
                            one = ((table, Y[order]) if moved == "responses" else
                                   (design.permuted(order, residuals).joint, Y))
                            tally.add(_score(problem, *one, groups, metrics, centre, plans)[0])
                            bar.update()
                    results[space] |= {"p": tally.p, "null_mean": tally.mean, "null_sd": tally.sd}
        warn_constant(constant)
        warn_narrow(results.values(), problem.fitter.reduction)
        leftover = leftover_of(results.values())
        warn_leftover(leftover, problem.layout.n_samples)
    attrs = {"analysis": "encode_stimuli", "warnings": said, **problem.describe(), "centre": centre, "by": by,
             "leftover": leftover or None, "blocks": describe_blocks(problem.layout, block),
             "aggregation": dict.fromkeys(metrics, "over neuroids, pooled over folds"), "fdr": fdr,
             "nulls": {"name": told, "permuted": moved, "n": tally.count, "smallest_p": 1 / (1 + tally.count)}
             if n_permutations else None}
    return _assemble(results, baseline, problem, groups, metrics, fdr, attrs)


def pattern_correlation(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation of each row of two arrays (n_stimuli, n_neuroids); 0 for a flat prediction.

    Examples
    --------
    >>> pattern_correlation(np.array([[1.0, 2.0, 4.0]]), np.array([[2.0, 4.0, 8.0]])).round(6).tolist()
    [1.0]
    """
    y, p = (x - x.mean(1, keepdims=True) for x in (np.asarray(target, float), np.asarray(prediction, float)))
    norm = np.linalg.norm(y, axis=1) * np.linalg.norm(p, axis=1)
    return np.divide((y * p).sum(1), norm, out=np.zeros(len(y)), where=norm > 0)


def two_versus_two(target: np.ndarray, prediction: np.ndarray) -> float:
    """Return the share of pairs of stimuli that their predictions tell apart, by cosine distance; ties are a half.

    The matrix of similarities is made by blocks of rows: n² operations, not n² memory.

    Parameters
    ----------
    target, prediction : array of shape (n_stimuli, n_neuroids)

    Examples
    --------
    >>> two_versus_two(np.eye(3), np.eye(3)), two_versus_two(np.eye(3), np.zeros((3, 3)))
    (1.0, 0.5)
    """
    return _told_apart(np.asarray(target, float), np.asarray(prediction, float))


def patterns_by(responses: xr.DataArray, usable: np.ndarray, by: str | None) -> dict[str, list[np.ndarray]]:
    """Return the columns of the targets that make a pattern: for each value of `by`, one array a time bin.

    Parameters
    ----------
    responses : DataArray (sample, neuroid[, time_bin])
    usable : array of bool, shape (n_neuroids * n_time_bins,)
        Columns that count; the arrays number these alone.
    by : str, optional
        Coord of the neuroids; by default all make one pattern, ``"all"``.
    """
    if by is None:
        labels = np.full(responses.sizes["neuroid"], "all", dtype=object)
    elif by not in responses.coords or responses[by].dims != ("neuroid",):
        have = [c for c in responses.coords if responses[c].dims == ("neuroid",)]
        raise ValueError(f"by: no coord {by!r} on 'neuroid'; found {', '.join(have)}.")
    else:
        labels = responses[by].values.astype(str)
    place = np.full(usable.shape, -1)
    place[usable] = np.arange(usable.sum())
    place = place.reshape(len(labels), -1)  # (neuroid, time bin)
    groups = {}
    for label in dict.fromkeys(labels.tolist()):
        columns = [c[c >= 0] for c in place[labels == label].T]
        if min(map(len, columns)) < LEAST:
            raise ValueError(f"responses: {label!r} has {min(map(len, columns))} usable neuroids, and a pattern needs "
                             f"at least {LEAST}. Leave it out, or group by another coord.")
        groups[label] = columns
    return groups


def _told_apart(y: np.ndarray, p: np.ndarray, fold=None, known=None) -> float:
    """As `two_versus_two`, of stimuli in folds (n_stimuli,) whose neuroids are known there (n_folds, n_neuroids)."""
    if known is None:
        known, fold = np.ones((1, y.shape[1]), bool), np.zeros(len(y), int)
    won = pairs = 0.0
    for a, b in combinations_with_replacement(range(len(known)), 2):
        both = known[a] & known[b]
        if both.sum() >= min(LEAST, y.shape[1]):
            sides = [x[fold == side][:, both] for side in (a, b) for x in (y, p)]
            more = _wins(*sides, within=a == b)
            won, pairs = won + more[0], pairs + more[1]
    return won / pairs if pairs else np.nan


def _wins(y, p, other_y, other_p, within: bool) -> tuple[float, int]:
    """Return how many pairs of a stimulus and one of the others are told apart, ties as a half, and of how many."""
    y, p, other_y, other_p = map(_unit, (y, p, other_y, other_p))
    own, others = np.einsum("ij,ij->i", y, p), np.einsum("ij,ij->i", other_y, other_p)
    won, pairs = 0.0, 0
    for start in range(0, len(y), ROWS):
        rows = slice(start, start + ROWS)
        right = own[rows, None] + others[None]
        wrong = y[rows] @ other_p.T + p[rows] @ other_y.T
        tie = np.abs(right - wrong) <= 1e-12
        counted = np.ones(right.shape, bool)
        if within:
            counted = np.arange(len(others))[None] > np.arange(len(own))[rows, None]
        won += float(np.where(tie, 0.5, right > wrong)[counted].sum())
        pairs += int(counted.sum())
    return won, pairs


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)


def _correlation(y: np.ndarray, p: np.ndarray, fold=None, known=None) -> float:
    """Return the mean of `pattern_correlation`; arguments as in `_told_apart`."""
    if known is None:
        return float(pattern_correlation(y, p).mean())
    r = [pattern_correlation(*(x[fold == k][:, c] for x in (y, p))) for k, c in enumerate(known) if c.sum() >= LEAST]
    return float(np.concatenate(r).mean()) if r else np.nan


STATISTICS = {"r.stimulus": _correlation, "2v2": _told_apart}


def _scored(fitter: Fitter, columns: np.ndarray) -> np.ndarray:
    """Return the folds, (n_folds,), in which enough of the neuroids of a pattern were selected."""
    return fitter.selected[:, columns].sum(1) >= LEAST


def _tell_unselected(problem: Problem, groups) -> None:
    """Warn of patterns that are not scored in some folds, or in none."""
    fitter = problem.fitter
    if fitter.selected is None:
        return
    scored = {label: np.stack([_scored(fitter, c) for c in columns]) for label, columns in groups.items()}
    never = [label for label, folds in scored.items() if not folds.any()]
    partly = [label for label, folds in scored.items() if folds.any() and not folds.all()]
    what = f"fewer than {LEAST} neuroids selected in"
    if never:
        warn_user(f"{len(never)} of {len(groups)} patterns have {what} every fold and get NaN scores: "
                  f"{list_ids(never)}.", "unselected-pattern", never)
    if partly:
        part = " (in some of their time bins)" if "time_bin" in problem.targets.dims else ""
        warn_user(f"{len(partly)} of {len(groups)} patterns have {what} some folds{part}, whose stimuli do not count: "
                  f"{list_ids(partly)}.", "partly-selected-pattern", partly)


def _score(problem: Problem, table: Table, values: np.ndarray, groups, metrics, centre, plans=None):
    """Return scores and those of the mean of the training rows, (metric, group[, time bin]), and reduced widths."""
    fitter: Fitter = problem.fitter
    tested, measured, predicted, mean, components = [], [], [], [], []
    for fold, (train, test) in enumerate(fitter.outer):
        plan, Y = fitter.plan(table, fold) if plans is None else plans[fold], fitter.targets(table, values, fold)
        level = Y[train].mean(0, dtype=np.float64)
        guess = plan.predict(Y, train)[0]
        guess = np.where(np.isnan(guess), level, guess)  # flat in the training rows of this fold
        tested.append(np.full(len(test), fold))
        measured.append(Y[test])
        predicted.append(guess)
        mean.append(np.broadcast_to(level, guess.shape))
        components.append(fitter.components(plan))
    tested, sd = np.concatenate(tested), problem.targets.sd
    measured, predicted, mean = (np.concatenate(x) * sd for x in (measured, predicted, mean))
    if centre == "train":
        measured, predicted, mean = measured - mean, predicted - mean, np.zeros_like(mean)
    else:
        measured, predicted, mean = (x + problem.targets.mean for x in (measured, predicted, mean))
    def score(metric, side, columns):
        known = None if fitter.selected is None else fitter.selected[:, columns]
        return STATISTICS[metric](measured[:, columns], side[:, columns], tested, known)

    scored = (np.stack([[[score(m, side, c) for c in columns] for columns in groups.values()] for m in metrics])
              for side in (predicted, mean))
    return *scored, None if fitter.reduction is None else np.array(components)


def _rows_behind(fitter: Fitter, groups, where) -> dict:
    """Return variables: stimuli behind the scores of each target, and the share of its neuroids selected, if any."""
    if fitter.selected is None:
        return {"n": (("target",), np.full(len(groups), fitter.outer.test.any(0).sum()))}
    tested = fitter.outer.test.sum(1)
    n = np.array([[tested @ _scored(fitter, c) for c in columns] for columns in groups.values()])
    share = np.array([[fitter.selected[:, c].mean() for c in columns] for columns in groups.values()])
    return {k: (where, v if len(where) > 1 else v[:, 0]) for k, v in (("n", n), ("selected", share))}


def _assemble(results, baseline, problem, groups, metrics, fdr, attrs):
    binned = "time_bin" in problem.targets.dims
    where = ("target", "time_bin") if binned else ("target",)
    dims = ("metric", "space", *where)

    def stack(key):
        whole = np.stack([r[key] for r in results.values()], 1)
        return whole if binned else whole[..., 0]

    variables = {"score": (dims, stack("score")),
                 "baseline": (("metric", *where), baseline if binned else baseline[..., 0]),
                 **_rows_behind(problem.fitter, groups, where)}
    if "p" in next(iter(results.values())):
        p = stack("p")
        variables |= {"p": (dims, p), "q": (dims, adjust(p, method=fdr, axis=tuple(range(2, p.ndim)))),
                      "null_mean": (dims, stack("null_mean")), "null_sd": (dims, stack("null_sd"))}
    coords = {"metric": metrics, "space": list(results), "target": list(groups),
              "n_neuroids": ("target", [len(columns[0]) for columns in groups.values()]),
              **width_coords(list(results.values()))}
    if binned:
        coords["time_bin"] = problem.responses["time_bin"].values
    spaces = problem.spaces
    for name in ("model", "layer", "stream", "depth"):
        if all(name in s.coords and s[name].ndim == 0 for s in spaces.values()):
            coords[name] = ("space", [spaces[s][name].item() for s in results])
    return scores.make(variables, coords, attrs)
