"""What encoding analyses share: the test against a null, the checks and warnings, and the Scores that they make."""

import numpy as np
import xarray as xr

from neuroalign.alignment.baselines import shuffled_scores
from neuroalign.alignment.nulls import Tally, null_by_features, null_by_responses, residuals_of
from neuroalign.alignment.progress import progress_bar
from neuroalign.alignment.scoring import fold_scores, score_moments
from neuroalign.alignment.splits import NULLS, make_permutations
from neuroalign.data import sample_dim, scores
from neuroalign.errors import check_counts, check_option, list_ids, warn_user
from neuroalign.stats import LEVEL, Folds, autocorrelation, ceiling_of, effective_samples
from neuroalign.stats import fdr as adjust

__all__ = ["KEEP", "LEVEL", "assemble", "check_features", "check_kept", "check_tests", "compare_with_null",
           "fit_design", "geometric_mean", "leftover_of", "measure_leftover", "plan_null", "rows_behind", "warn_alphas",
           "warn_constant", "warn_folds", "warn_independent", "warn_narrow", "width_coords"]

KEEP = ("prediction", "null", "fold_score", "bootstrap")
EDGE_SHARE = 0.05
SOME = 200  # columns that autocorrelation is estimated from
FEW_INDEPENDENT = 30
FEW_SAMPLES = 10
LEAST_TESTED = 3  # a correlation of two samples is 1 or -1
LEAST_BOOTSTRAPS = 20  # of fewer resamples the ends of an interval of 95 % are the extremes


def check_kept(keep, allowed=KEEP, *, n_permutations: int = 0, n_bootstraps: int = 0) -> list[str]:
    """Return `keep` as a list; refuse unknown names, numbers that are none, and draws to be kept that are not made."""
    keep = [check_option("keep", name, allowed) for name in ([keep] if isinstance(keep, str) else keep)]
    check_counts(n_permutations=n_permutations, n_bootstraps=n_bootstraps)
    if 0 < n_bootstraps < LEAST_BOOTSTRAPS:
        raise ValueError(f"n_bootstraps: got {n_bootstraps}, expected 0 (no intervals) or at least {LEAST_BOOTSTRAPS}: "
                         "the ends of an interval of 95 % rest on many. 1000 are usual.")
    draws = (("null", "n_permutations", n_permutations), ("bootstrap", "n_bootstraps", n_bootstraps))
    for name, option, count in draws:
        if name in keep and not count:
            raise ValueError(f"keep: {name!r} was asked for, but {option} is 0, so that there is nothing to keep. Set "
                             f"{option}=1000, say, or leave {name!r} out of keep.")
    return keep


def check_tests(null: str, fdr: str) -> None:
    """Refuse unknown names of the test, also where none is made."""
    check_option("null", null, NULLS)
    check_option("fdr", fdr, ("bh", "by"))


def fit_design(design, space: str, fitter, problem, metrics, keep, n_permutations: int, permuting, resampling,
               shuffled: bool = False, progress: bool = False):
    """Fit and score one design: its part of the Scores, and the fit; `shuffled`: in shuffled orders, too."""
    joint, Y = design.joint, problem.targets.values
    prediction = np.full(Y.shape, np.nan, np.float32) if "prediction" in keep or resampling else None
    with fitter.threads(joint, Y):
        fit = fitter.fit(joint, Y, prediction)
        observed = np.stack([score_moments(m, fit.sums) for m in metrics])
        predicted = np.isfinite(fit.best_alpha).any(0)
        result = {"space": space, "solver": fit.solver, "score": observed,
                  "prediction": prediction if "prediction" in keep else None,
                  "best_alpha": geometric_mean(fit.best_alpha), "at_edge": fit.at_edge[:, predicted].mean(1),
                  "leftover": measure_leftover(fitter, joint), "n_components": fit.n_components}
        if "fold_score" in keep:
            result["fold_score"] = np.stack([fold_scores(m, fit.sums) for m in metrics], 1)
        if resampling:
            drawn = resampling.scores(fitter.measured(joint, Y), prediction, fitter.outer, metrics)
            result["ci_low"], result["ci_high"] = resampling.interval(drawn, LEVEL)
            result["bootstrap"] = drawn if "bootstrap" in keep else None
        if n_permutations:
            with progress_bar(f"{space}: null", progress) as bar:
                result |= compare_with_null(design, joint, Y, observed, fitter, problem.layout, metrics, "null" in keep,
                                            n_permutations, permuting, bar.update)
        if shuffled:
            # A null of permuted features is a mean over many shuffles already.
            told = result.get("null_name")
            result["shuffled"] = (result["null_mean"] if told and told["permuted"] != "responses" else
                                  shuffled_scores(design, fitter, problem.layout, Y, metrics, permuting))
    return result, fit


def compare_with_null(design, joint, Y, observed, fitter, layout, metrics, keep, n_permutations, options,
                      tick) -> dict:
    """Permute and fit again: p, and mean, sd and name of the null. Features are permuted where there is nuisance."""
    name, moved, orders = plan_null(design, fitter, layout, n_permutations, options)
    tally = Tally(observed, len(orders) if keep else 0)
    if moved != "responses":
        null_by_features(fitter, design, Y, orders, metrics, tally, tick)
    else:
        null_by_responses(fitter, joint, Y, orders, metrics, tally, tick)
    told = {"name": name, "permuted": moved,
            "n": tally.count, "smallest_p": 1 / (1 + tally.count),
            "min_shift": options["min_shift"] if name == "shift" else None,
            "independent_samples": _independent(joint, Y) if layout.time_series else None}
    return {"null_name": told, "p": tally.p, "null_mean": tally.mean, "null_sd": tally.sd, "null": tally.kept}


def plan_null(design, fitter, layout, n_permutations: int, options) -> tuple[str, str, np.ndarray]:
    """Return the name of a null, what it permutes, and the orders; features where there is nuisance."""
    # Whether a neuroid is selected depends on where its rows stand: they stay, and the features move.
    by_features = design.nuisance.shape[1] > 0 or fitter.selected is not None
    residual = residuals_of(fitter, design) is not None
    events = len(design.events) if by_features and not residual and design.events is not None else None
    name, orders = make_permutations(layout, n_permutations=n_permutations, events=events, **options)
    what = "events" if events else "features" if by_features else "responses"
    return name, "residual features" if residual else what, orders


def measure_leftover(fitter, joint) -> dict | None:
    """Return how well residualised nuisance still predicts features: mean R² over features, and the highest."""
    if fitter.residuals is None:
        return None
    tables = getattr(joint, "tables", [joint])
    found = np.concatenate([fitter.residuals.leftover(t.split(fitter.n_nuisance)[1][:, :]) for t in tables])
    if np.isnan(found).all():
        raise ValueError("residualize: the nuisance explains every feature altogether; nothing is left to predict "
                         "from.")
    return {"mean": float(np.nanmean(found)), "highest": float(np.nanmax(found))}


def leftover_of(results) -> dict[str, dict]:
    """Return what `measure_leftover` found in each space."""
    return {r["space"]: r["leftover"] for r in results if r["leftover"]}


def assemble(results, problem, members, metrics, baselines, fdr, attrs) -> xr.Dataset:
    """Make Scores of the results of all spaces.

    Parameters
    ----------
    members : dict of str to list of str
        The spaces of each group of layers, if any.
    baselines : dict of array of shape (n_metrics, n_targets)
        ``baseline`` (of the nuisance alone) and ``drift``, where there are any.
    """
    targets, spaces, responses = problem.targets, problem.spaces, problem.responses
    reliability, where = problem.reliability, targets.dims

    def stack(key, axis=1):
        return np.stack([targets.spread(r[key]) for r in results], axis)

    dims = ("metric", "space", *where)
    variables = {"score": (dims, stack("score"))}
    rho = np.broadcast_to(reliability.values, targets.shape)
    bounds = np.stack([ceiling_of(m, rho, reliability.aggregation) for m in metrics])
    variables["ceiling"] = (dims, np.repeat(bounds[:, None], len(results), 1))
    variables["reliability"] = (where, np.array(rho))
    variables["best_alpha"] = (("space", *where), stack("best_alpha", 0))
    if members:
        variables["chosen_depth"] = (("space", *where), stack("chosen_depth", 0))
    variables |= rows_behind(problem)
    variables |= {name: (("metric", *where), targets.spread(values)) for name, values in baselines.items()}
    if "p" in results[0]:
        p = stack("p")
        families = tuple(range(2, p.ndim))
        variables |= {"p": (dims, p), "q": (dims, adjust(p, method=fdr, axis=families)),
                      "null_mean": (dims, stack("null_mean")), "null_sd": (dims, stack("null_sd"))}
    for name in ("ci_low", "ci_high", "shuffled"):
        if name in results[0]:
            variables[name] = (dims, stack(name))
    if results[0].get("bootstrap") is not None:
        variables["bootstrap"] = (("resample", *dims), stack("bootstrap", 2))
    if results[0].get("null") is not None:
        variables["null"] = (("permutation", *dims), stack("null", 2))
    if "fold_score" in results[0]:
        variables["fold_score"] = (("fold", *dims), stack("fold_score", 2))
    dim = sample_dim(responses)
    if results[0].get("prediction") is not None:
        predicted = np.stack([targets.in_units(r["prediction"]) for r in results], 1)
        variables["prediction"] = ((dim, "space", *where), predicted)
    kept_dims = {*where, *([dim] if "prediction" in variables else [])}
    coords = {k: v for k, v in responses.coords.items() if v.dims and set(v.dims) <= kept_dims}
    if "neuroid_id" in coords:
        coords["neuroid"] = ("neuroid", responses["neuroid_id"].values)
    coords |= {"metric": metrics, "space": [r["space"] for r in results], **width_coords(results)}
    for name in ("model", "layer", "stream", "depth"):
        if members:
            coords[name] = ("space", [_group_coords(space)[name] for space in members])
        elif all(name in s.coords and s[name].ndim == 0 for s in spaces.values()):
            coords[name] = ("space", [spaces[r["space"]][name].item() for r in results])
    return scores.make(variables, coords, attrs)


def width_coords(results) -> dict:
    """Return coords: features of each space, and columns they were reduced to, if so (mean over folds)."""
    coords = {"n_features": ("space", [r["n_features"] for r in results])}
    if results[0]["n_components"] is not None:
        coords["n_components"] = ("space", [r["n_components"].sum(1).mean() for r in results])
    return coords


def rows_behind(problem) -> dict:
    """Return variables: rows behind the score of each target, and the share of the folds it was selected in, if any."""
    targets, fitter = problem.targets, problem.fitter
    if fitter.selected is None:
        n = np.where(targets.usable, fitter.outer.test.any(0).sum(), 0).reshape(targets.shape)
        return {"n": (targets.dims, n)}
    n = np.nan_to_num(targets.spread(fitter.outer.test.sum(1) @ fitter.selected * 1.0)).astype(int)
    return {"n": (targets.dims, n), "selected": (targets.dims, targets.spread(fitter.selected.mean(0)))}


def geometric_mean(alphas: np.ndarray) -> np.ndarray:
    """Mean over the folds in which a target was predicted."""
    known = np.isfinite(alphas)
    total = np.log(np.where(known, alphas, 1)).sum(0)
    return np.where(known.any(0), np.exp(total / np.maximum(known.sum(0), 1)), np.nan)


def _group_coords(space: str) -> dict:
    model, _, stream = space.partition(":nested:")
    return {"model": model, "layer": "nested", "stream": stream, "depth": np.nan}


def check_features(table, space: str, ids) -> tuple[int, int]:
    """Return how many of the columns do not vary, and how many there are; they are read in blocks.

    Raises
    ------
    ValueError
        A row is not finite (its id is named), or no column varies.
    """
    step, bad, constant = max(1, 2**24 // max(1, len(table))), np.zeros(len(table), bool), 0
    for start in range(0, table.shape[1], step):
        block = table[:, start:start + step]
        bad |= ~np.isfinite(block).all(1)
        constant += int((block.min(0) == block.max(0)).sum())
    if bad.any():
        raise ValueError(f"features {space!r}: NaN or infinite values in the rows of {list_ids(ids[bad])}. Leave them "
                         "out of features and responses, or fill the values.")
    if constant == table.shape[1]:
        raise ValueError(f"features {space!r}: none of the {constant} columns varies over the {len(table)} samples, so "
                         "they predict nothing. Leave the space out.")
    return constant, table.shape[1]


def warn_constant(counts: dict[str, tuple[int, int]]) -> None:
    """Warn of columns that do not vary, as `check_features` counted them in each space."""
    bad = {space: found for space, found in counts.items() if found[0]}
    if bad:
        worst = max(bad, key=lambda space: bad[space][0])
        warn_user(f"columns that do not vary over the samples contribute nothing: {bad[worst][0]} of "
                  f"{bad[worst][1]} in {worst!r}"
                  + (f", and some in {len(bad) - 1} more of {len(counts)} spaces." if len(bad) > 1 else "."),
                  "constant-feature", bad)


def warn_folds(folds: Folds, metrics=()) -> None:
    """Warn of too few samples, of samples that are not tested once each, of folds too small for a mean over them."""
    n, times, advice = folds.n_samples, folds.test.sum(0), "Use folds that test each sample once (cv='auto')."
    if n < FEW_SAMPLES:
        warn_user(f"there are {n} samples: of fewer than {FEW_SAMPLES}, a score is a matter of chance. Take more "
                  "stimuli.", "few-samples", count=n)
    never, often = int((times == 0).sum()), int((times > 1).sum())
    if never and len(folds) > 1:  # one split is meant to test some samples only
        warn_user(f"cv: {never} of {n} samples are in no test fold ({folds.name}): they are not predicted and do not "
                  f"count. {advice}", "untested-samples", count=never)
    if often:
        warn_user(f"cv: {often} of {n} samples are in several test folds ({folds.name}): they count as often, and the "
                  f"last prediction is kept. {advice}", "samples-tested-twice", count=often)
    sizes, within = folds.test.sum(1), [m for m in metrics if m.endswith(".foldmean")]
    small = int((sizes < LEAST_TESTED).sum())
    if within and small:
        pooled = " and ".join(repr(m.replace("foldmean", "pooled")) for m in within)
        warn_user(f"metric {' and '.join(map(repr, within))}: {small} of {len(folds)} test folds have fewer than "
                  f"{LEAST_TESTED} samples (the smallest {sizes.min()}), and a score within them says nothing (of two, "
                  f"r is 1 or -1; of one, NaN). Use fewer folds, or {pooled}.", "small-test-folds", count=small)


def _independent(joint, Y) -> int:
    """Return about how many independent samples the correlation of a prediction with a target rests on."""
    table = getattr(joint, "tables", [joint])[-1]
    features = table[:, max(0, table.shape[1] - SOME):]  # behind the nuisance
    return round(effective_samples(len(Y), autocorrelation(features), autocorrelation(Y[:, :SOME])))


def warn_independent(results) -> None:
    """Warn where autocorrelation leaves too few independent samples for a null."""
    few = {r["space"]: r["null_name"]["independent_samples"] for r in results if r.get("null_name")}
    few = {space: n for space, n in few.items() if n is not None and n < FEW_INDEPENDENT}
    if few:
        space = min(few, key=few.get)
        warn_user(f"autocorrelation leaves about {few[space]} independent samples in {space!r}, and fewer than "
                  f"{FEW_INDEPENDENT} in {len(few)} of {len(results)} spaces: p-values of shifts and blocks are rough "
                  "there. Record longer, or pool runs.", "few-independent-samples", few)


def warn_alphas(results, alphas) -> None:
    """Warn where many targets chose the smallest or the largest penalty."""
    if len(np.unique(alphas)) < 2:
        return
    edges = (("smallest", alphas.min(), "smaller ones"), ("largest", alphas.max(), "larger ones"))
    for k, (word, edge, further) in enumerate(edges):
        hit = {r["space"]: r["at_edge"][k] for r in results if r["at_edge"][k] > EDGE_SHARE}
        if hit:
            worst = max(hit, key=hit.get)
            warn_user(f"the {word} penalty of the grid ({edge:g}) was chosen for more than {EDGE_SHARE:.0%} of the "
                      f"targets in {len(hit)} of {len(results)} spaces (at most {hit[worst]:.0%}, in {worst!r}); "
                      f"{further} may do better. Widen alphas.", "alpha-edge", hit)


def warn_narrow(results, reduction) -> None:
    """Warn of spaces that have fewer dimensions than they were to be reduced to."""
    if reduction is None or reduction.size < 1:
        return
    fewest = {r["space"]: int(r["n_components"].min()) for r in results}
    narrow = {space: n for space, n in fewest.items() if n < reduction.size}
    if narrow:
        worst = min(narrow, key=narrow.get)
        warn_user(f"reduce={reduction.name!r}: {len(narrow)} of {len(results)} spaces have fewer than {reduction.size} "
                  f"dimensions in the training rows (the fewest {narrow[worst]}, in {worst!r}). They keep what they "
                  "have, and are not compared at equal dimensions (coord n_components). Ask for fewer.",
                  "narrow-features", narrow)
