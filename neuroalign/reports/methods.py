"""The methods paragraph of a report, written from the attrs of Scores."""

import numpy as np
import xarray as xr

from neuroalign.alignment.metrics import METRICS
from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import spaces_table

__all__ = ["methods"]

CORRECTIONS = {"bh": "Benjamini-Hochberg over the targets of each metric and space",
               "by": "Benjamini-Yekutieli over the targets of each metric and space"}
SITE_CORRECTIONS = {"bh": "Benjamini-Hochberg over the sites of a comparison",
                    "by": "Benjamini-Yekutieli over the sites of a comparison"}
NULLS = {"shift": "circular shifts", "block": "permutations of contiguous blocks or whole groups",
         "permute": "permutations"}


def methods(scores: xr.Dataset) -> str:
    """Write the methods paragraph of Scores from their attrs; what an attr does not say is not said.

    Parameters
    ----------
    scores : Dataset
        Of any analysis. What `encode`, `encode_banded`, `encode_stimuli`, `partition_variance`, `site_tests`,
        `compare`, matchings, judgements and the probes write into their attrs is put into words.
    """
    attrs = attrs_of(scores)
    analysis = str(attrs.get("analysis") or attrs.get("kind") or "")
    said = _spaces(scores, attrs, analysis)
    is_difference = analysis == "difference"
    analysis = str(attrs.get("of") or "") if is_difference else analysis
    if analysis.startswith(("encode", "partition_variance", "validation_scores")):
        said += _encoding(attrs, scores)
    elif analysis == "site_tests":
        said += _site_tests(attrs)
    else:
        said += _comparison(attrs, scores)
    words = attrs.get("aggregation") if isinstance(attrs.get("aggregation"), dict) else {}
    for metric in map(str, scores["metric"].values):
        about = METRICS[metric].aggregation if metric in METRICS else words.get(metric)
        if about:
            said.append(f"`{metric}`: {about}.")
    said += _remarks(attrs)
    if analysis == "site_tests":
        said += _site_inference(attrs)
    elif attrs.get("inference"):
        said.append(_sentence(str(attrs["inference"])))
    else:
        said += ([] if is_difference else _ceiling(attrs, scores)) + _inference(attrs, scores)
    if isinstance(attrs.get("inference"), str):
        said.append(attrs["inference"])
    if isinstance(attrs.get("paper_compat"), str):
        said.append(f"Made {attrs['paper_compat']}")
    if attrs.get("random_state") is not None:
        said.append(f"Random state {attrs['random_state']}.")
    return " ".join(said)


def _spaces(scores, attrs, analysis) -> list[str]:
    table, bands = spaces_table(scores), attrs.get("bands")
    models = list(dict.fromkeys(table.loc[~table["twin"], "base"]))
    if analysis == "site_tests":
        pairs = attrs.get("comparisons") or {}
        return ["Comparisons at each site: " + "; ".join(
            name if f"{a} > {b}" == name else f"{name} ({a} better than {b})" for name, (a, b) in pairs.items()) + "."]
    if analysis == "difference":
        return ["Difference: " + " less ".join(f"the score of `{space}`" for space in attrs["difference"]) + "."]
    if bands:
        return [f"Bands of features: {len(bands)}, {_and(bands)}."]
    said = [f"Feature spaces: {len(table):,}, of {_and(models) or 'random networks alone'}."]
    if table["twin"].any():
        seeds = table.loc[table["twin"]].groupby("base")["seed"].nunique()
        said.append("Untrained twins (same architecture, random weights): "
                    + _and(f"{name} ({n} seed{'s' if n > 1 else ''})" for name, n in seeds.items()) + ".")
    return said


def _encoding(attrs: dict, scores) -> list[str]:
    said = ["Responses were predicted by ridge regression with a penalty for each target"]
    alphas = attrs.get("alphas")
    if alphas:
        said[0] += f", chosen from {len(alphas)} values between {min(alphas):.3g} and {max(alphas):.3g}"
    inner = attrs.get("inner_folds")
    said[0] += f" by inner cross-validation ({inner})." if inner else "."
    said += _bands(attrs)
    if attrs.get("analysis") == "encode_stimuli":
        by = f", for each {attrs['by']} by itself" if attrs.get("by") else ""
        said.append(f"Scored were the predicted patterns over neuroids{by}, stimulus by stimulus.")
    if "chosen_depth" in scores or set(scores["layer"].values.astype(str) if "layer" in scores.coords else ()) == {
            "nested"}:
        said.append("Layers, and models within a group, were chosen by inner cross-validation within the training rows "
                    "of each fold.")
    if attrs.get("reduce"):
        said.append(f"Features were reduced within the training rows ({attrs['reduce']}).")
    if attrs.get("select_neuroids") is not None:
        said.append("Neuroids were selected in each fold by the reliability of the repeats in its training rows, at "
                    f"least {attrs['select_neuroids']:g}.")
    folds = attrs.get("folds") or {}
    purged = max(folds.get("n_purged") or [0])
    if folds:
        said.append(f"Outer folds: {folds['name']}, {folds['n_folds']} in all, with {_span(folds.get('n_train'))} "
                    f"training and {_span(folds.get('n_test'))} test samples"
                    + (f"; up to {purged} samples near each test block were purged." if purged else "."))
    if attrs.get("gap") and (purged or not folds):  # folds of groups purge nothing
        said.append(f"Gap between training and test samples: {attrs['gap']:g} s.")
    if attrs.get("hrf"):
        said.append(f"Events were convolved with the {attrs['hrf']} haemodynamic response, "
                    + ("from onset to offset." if attrs.get("at") == "whole" else
                       f"at their {attrs.get('at') or 'onset'}."))
    if attrs.get("downsample"):
        by = {"mean": "the mean of those nearest to each", "lanczos": "a Lanczos filter of three lobes"}
        said.append(f"Events were brought to the samples by {by[attrs['downsample']]}, at their "
                    f"{attrs.get('at') or 'onset'}.")
    if attrs.get("delays"):
        shown = [f"{d:g}" for d in attrs["delays"]]
        shown = _and(shown) if len(shown) < 6 else f"each of {len(shown)} from {shown[0]} to {shown[-1]}"
        said.append(f"Features and nuisance stood in the model delayed by {shown} s, within runs.")
    if attrs.get("high_pass") and (attrs.get("hrf") or attrs.get("downsample")):
        # Features that were given as series are taken as they are.
        said.append("Regressors made of events passed the same high-pass filter as the responses "
                    f"({attrs['high_pass']:.3g} Hz).")
    if attrs.get("nuisance"):
        said.append(_nuisance(attrs))
    if attrs.get("repeats") == "average":
        said.append("Repeated presentations were averaged after the ceiling was computed.")
    return said + _beside(scores)


def _nuisance(attrs: dict) -> str:
    names, out_of = _and(attrs["nuisance"]), attrs.get("residualize")
    if not out_of:
        return f"Nuisance variables in every model, and alone as the baseline: {names}."
    what = {"both": "features and responses"}.get(out_of, out_of)
    said = f"Nuisance variables were regressed out of the {what} within the training rows of each fold: {names}."
    if attrs.get("leftover"):
        most = max(found["mean"] for found in attrs["leftover"].values())
        said += f" What they still predicted of held-out residual features: R² {most:.2g} at most (mean over features)."
    return said


def _beside(scores) -> list[str]:
    said = []
    if "drift" in scores:
        said.append("Beside the scores stands what a smooth function of the order of the samples reached on the same "
                    "folds.")
    if "shuffled" in scores:
        said.append("Beside the scores stand those of the same features in other orders, fitted again.")
    return said


def _bands(attrs: dict) -> list[str]:
    said, bands = [], attrs.get("bands")
    if bands and attrs.get("method") != "ridge":
        said.append("Banded ridge: bands stood in one model, each with a penalty of its own; "
                    f"{attrs.get('n_candidates')} shares of the bands were tried for each target"
                    + (f" and refined by up to {attrs['refine']} steps of descent." if attrs.get("refine") else "."))
    if attrs.get("analysis") == "partition_variance":
        said.append("Every combination of the bands was fitted on the same folds; unique and shared parts are those of "
                    "a commonality analysis of the held-out R², and negative parts were kept.")
    return said


def _comparison(attrs: dict, scores) -> list[str]:
    said = []
    if attrs.get("n_stimuli"):
        pairs = f", {attrs['n_pairs']:,} pairs" if attrs.get("n_pairs") else ""
        said.append(f"Both sides were matched by stimulus id: {attrs['n_stimuli']:,} stimuli{pairs}.")
    elif attrs.get("n_pairs"):
        said.append(f"Pairs of the two modalities, matched by stimulus id: {attrs['n_pairs']:,}.")
    kinds = {METRICS[m].kind for m in map(str, scores["metric"].values) if m in METRICS}
    if attrs.get("rdm") and (not kinds or kinds & {"rdm", "partition", "judgement"}):
        said.append(f"Model dissimilarities: {attrs['rdm']} distance between the features of stimuli.")
    if attrs.get("n_answers"):
        said.append(f"People gave {attrs['n_answers']:,} answers to {attrs['n_trials']:,} trials.")
    if attrs.get("n_anchors"):
        said.append(f"Maps were fitted on {attrs['n_anchors']:,} anchors and scored on {attrs['n_queries']:,} held-out "
                    f"rows, mean of {attrs['n_draws']:,} draws.")
    if attrs.get("selection"):
        said.append(_sentence(attrs["selection"]))
    if attrs.get("sides") and isinstance(attrs["sides"], dict):
        pairs = [" and ".join(map(str, side)) for side in list(attrs["sides"].values())[:3]]
        more = len(attrs["sides"]) - len(pairs)
        said.append(f"Sides: {'; '.join(pairs)}" + (f" and {more} more." if more else "."))
    if attrs.get("analysis") == "information_flow":
        token = "first token of the answer" if attrs.get("share_correct") is not None else "predicted token"
        said.append(f"Attention along each edge was blocked in a window of {attrs.get('window')} blocks around each "
                    f"layer, and the change of the probability of the {token} measured.")
    if attrs.get("control"):
        control = attrs["control"]
        said.append(f"Controlled for: {_and(control) if isinstance(control, list) else control}.")
    return said


def _site_tests(attrs: dict) -> list[str]:
    bins, over = attrs.get("n_bins"), {"mean": "mean", "max": "highest"}.get(attrs.get("over"), "mean")
    said = ["The statistic is the difference of the held-out scores"
            + (f", its {over} over {bins} time bins." if bins else ".")]
    if isinstance(attrs.get("bins"), str):
        said.append(f"Time bins: {attrs['bins']}.")
    folds = attrs.get("folds") or {}
    if folds:
        said.append(f"Scores come from {folds['n_folds']} outer folds ({folds['name']}).")
    return said


def _remarks(attrs: dict) -> list[str]:
    """What a reader must know before believing a number."""
    said = []
    if attrs.get("radius_mm") is not None or attrs.get("n_neighbours") is not None:
        reach = (f"within {attrs['radius_mm']:g} mm" if attrs.get("radius_mm") is not None else
                 f"the {attrs['n_neighbours']} nearest")
        said.append(f"Each site was taken together with its neighbours ({reach}).")
    if attrs.get("analysis") == "group_scores":
        said.append("Scores were averaged over the neuroids of each subject, then over subjects.")
    if isinstance(attrs.get("paper_compat"), str):
        said.append(_sentence(attrs["paper_compat"]))
    if attrs.get("untrained") is True:
        said.append("The weights of the model were random: scores show that the machinery runs, and are no finding.")
    return said


def _site_inference(attrs: dict) -> list[str]:
    said = []
    if attrs.get("paper_compat") is True:
        said.append("p comes from a bootstrap over time bins, as Subramaniam et al. 2024 had it. Bins overlap: it is "
                    "not calibrated: for comparison with published counts only.")
    elif attrs.get("interval") and attrs.get("widening"):
        least = f"; the smallest possible p is {attrs['smallest_p']:.2g}" if attrs.get("smallest_p") else ""
        said.append("p is the share of resamples, of the same stimuli for both spaces, whose deviation from the "
                    f"difference reaches it; deviations were widened by {attrs['widening']:.2f} for what other "
                    f"training rows would change{least}. One-sided: the first named is better. Resamples: "
                    f"{attrs['interval']}.")
    if attrs.get("fdr"):
        said.append(f"q controls the false discovery rate: {SITE_CORRECTIONS.get(attrs['fdr'], attrs['fdr'])}.")
    return said


def _ceiling(attrs: dict, scores: xr.Dataset) -> list[str]:
    known = "ceiling" in scores and bool(np.isfinite(scores["ceiling"]).any())
    source = attrs.get("ceiling")
    source = source.removeprefix("unavailable: ") if isinstance(source, str) else ""
    if not known:
        return ["No noise ceiling is available" + (f" ({source})." if source else ".")]
    return ["Noise ceilings have the same aggregation as the scores beside them" + (f": {source}." if source else ".")]


def _inference(attrs: dict, scores: xr.Dataset) -> list[str]:
    said = []
    null, n = attrs.get("nulls") or attrs.get("null"), attrs.get("n_permutations")
    if isinstance(null, dict) and null.get("n"):
        what, n = NULLS.get(null.get("name"), null.get("name", "permutations")), null["n"]
        moved = f" of the {null['permuted']}" if null.get("permuted") else ""
        said.append(f"Null: {n:,} {what}{moved}, the analysis repeated for each"
                    + (f"; shortest shift {_shift(null['min_shift'])}." if null.get("min_shift") else "."))
    elif n:
        ways = dict.fromkeys(null.values()) if isinstance(null, dict) else {null: None} if null else {}
        said.append(f"Null: {n:,} permutations" + (f" ({'; '.join(map(str, ways))})." if ways else "."))
    if "p" not in scores:
        said.append("Nothing was tested for significance.")
    elif n:
        said.append(f"p = (1 + b) / (1 + {n:,}), one-sided, where b counts the null scores that reach the observed "
                    f"one; the smallest possible p is {1 / (1 + n):.2g}.")
    if "q" in scores:
        how = str(attrs.get("fdr") or "")
        said.append("q controls the false discovery rate" + (f": {CORRECTIONS.get(how, how)}." if how else "."))
    if "p_max" in scores and scores["p_max"].notnull().any():
        said.append("The p of a highest score is taken against the highest of all spaces and targets of its metric "
                    "under each permutation.")
    intervals = attrs.get("interval")
    for metric, how in (intervals.items() if isinstance(intervals, dict) else [("", intervals)]):
        if how:
            said.append(f"Intervals{f' of `{metric}`' if metric else ''}: {_interval(how)}.")
    return said


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(".") + "."


def _shift(least: float) -> str:
    """A number below 1 is a share of the series (`stats.shift_permutations`)."""
    return f"{least:.0%} of the series" if least < 1 else f"{least:g}"


def _interval(how) -> str:
    if not isinstance(how, dict):
        return str(how)
    resampled = how.get("resampled")
    units: dict[str, list] = {}
    for cell, unit in (resampled.items() if isinstance(resampled, dict) else [("", resampled)] if resampled else []):
        units.setdefault(str(unit), []).append(str(cell))
    words = [unit + (f" ({', '.join(cells)})" if len(units) > 1 else "") for unit, cells in units.items()]
    return str(how.get("method", "")) + (f", resampling {'; '.join(words)}" if words else "")


def _span(counts) -> str:
    if not counts:
        return "an unknown number of"
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _and(words) -> str:
    words = [str(w) for w in words]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""
