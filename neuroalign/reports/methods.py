"""The words of a report that are written from the attrs of Scores: methods, warnings, references, provenance."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.alignment.metrics import METRICS
from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import metric_label, spaces_table

__all__ = ["glance", "methods", "provenance_rows", "references", "versions", "warning_rows"]

GENERAL = ("Benjamini & Hochberg 1995, J R Stat Soc B 57:289", "Nili et al. 2014, PLoS Comput Biol 10:e1003553",
           "Phipson & Smyth 2010, Stat Appl Genet Mol Biol 9:39")
CORRECTIONS = {"bh": "Benjamini-Hochberg over the targets of each metric and space",
               "by": "Benjamini-Yekutieli over the targets of each metric and space"}
NULLS = {"shift": "circular shifts", "block": "permutations of contiguous blocks or whole groups",
         "permute": "permutations"}


def glance(name: str, scores: xr.Dataset, alpha: float = 0.05) -> list[dict]:
    """Return one row a metric, random twins apart: tests, weak (p) and strict (q) counts, effect sizes."""
    twin = spaces_table(scores)["twin"].to_numpy()
    groups = [(label, mask) for label, mask in (("models", ~twin), ("random twins", twin)) if mask.any()]
    rows = []
    for metric, (label, mask) in itertools.product(map(str, scores["metric"].values), groups):
        part = scores.sel(metric=metric).isel(space=np.flatnonzero(mask))
        score = part["score"].values
        row = {"part": name, "of": label, "metric": metric_label(metric), "scores": int(np.isfinite(score).sum()),
               "median": float(np.nanmedian(score)) if np.isfinite(score).any() else np.nan,
               "highest": float(np.nanmax(score)) if np.isfinite(score).any() else np.nan}
        if "p_max" in part and part["p_max"].notnull().any() and np.isfinite(score).any() and not _is_lower(metric):
            row["p of highest"] = float(part["p_max"].values.flat[np.nanargmax(score)])
        for which, column in (("p", "weak"), ("q", "strict")):
            tested = which in part and np.isfinite(part[which].values).any()
            row[column] = int((part[which].values < alpha).sum()) if tested else np.nan
        rows.append(row)
    return rows


def _is_lower(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].direction == "lower"


def methods(scores: xr.Dataset) -> str:
    """Write the methods paragraph of Scores from their attrs; what an attr does not say is not said."""
    attrs = attrs_of(scores)
    table = spaces_table(scores)
    models = list(dict.fromkeys(table.loc[~table["twin"], "base"]))
    bands = attrs.get("bands")
    said = [f"Bands of features: {len(bands)}, {_and(bands)}." if bands else
            f"Feature spaces: {len(table):,}, of {_and(models) or 'random networks alone'}."]
    if table["twin"].any():
        seeds = table.loc[table["twin"]].groupby("base")["seed"].nunique()
        said.append("Untrained twins (same architecture, random weights): "
                    + _and(f"{name} ({n} seed{'s' if n > 1 else ''})" for name, n in seeds.items()) + ".")
    by_ridge = str(attrs.get("analysis")).startswith(("encode", "partition_variance"))
    said += _encoding(attrs) if by_ridge else _comparison(attrs)
    for metric in map(str, scores["metric"].values):
        if metric in METRICS:
            said.append(f"`{metric}`: {METRICS[metric].aggregation}.")
    said += _ceiling(attrs, scores) + _inference(attrs, scores)
    if attrs.get("random_state") is not None:
        said.append(f"Random state {attrs['random_state']}.")
    return " ".join(said)


def _encoding(attrs: dict) -> list[str]:
    said = ["Responses were predicted by ridge regression with a penalty for each target"]
    alphas = attrs.get("alphas")
    if alphas:
        said[0] += f", chosen from {len(alphas)} values between {min(alphas):.3g} and {max(alphas):.3g}"
    inner = attrs.get("inner_folds")
    said[0] += f" by inner cross-validation ({inner})." if inner else "."
    said += _bands(attrs)
    folds = attrs.get("folds") or {}
    if folds:
        purged = max(folds.get("n_purged", [0]), default=0)
        said.append(f"Outer folds: {folds['name']}, {folds['n_folds']} in all, with {_span(folds.get('n_train'))} "
                    f"training and {_span(folds.get('n_test'))} test samples"
                    + (f"; up to {purged} samples near each test block were purged." if purged else "."))
    if attrs.get("gap"):
        said.append(f"Gap between training and test samples: {attrs['gap']:g} s.")
    if attrs.get("hrf"):
        said.append(f"Events were convolved with the {attrs['hrf']} haemodynamic response, at their "
                    f"{attrs.get('at') or 'onset'}.")
    if attrs.get("downsample"):
        by = {"mean": "the mean of those nearest to each", "lanczos": "a Lanczos filter of three lobes"}
        said.append(f"Events were brought to the samples by {by[attrs['downsample']]}, at their "
                    f"{attrs.get('at') or 'onset'}.")
    if attrs.get("delays"):
        shown = [f"{d:g}" for d in attrs["delays"]]
        shown = _and(shown) if len(shown) < 6 else f"each of {len(shown)} from {shown[0]} to {shown[-1]}"
        said.append(f"Features and nuisance stood in the model delayed by {shown} s, within runs.")
    if attrs.get("high_pass"):
        said.append(f"Regressors passed the same high-pass filter as the responses ({attrs['high_pass']:.3g} Hz).")
    if attrs.get("nuisance"):
        said.append(f"Nuisance variables in every model, and alone as the baseline: {_and(attrs['nuisance'])}.")
    if attrs.get("repeats") == "average":
        said.append("Repeated presentations were averaged after the ceiling was computed.")
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


def _comparison(attrs: dict) -> list[str]:
    said = []
    if attrs.get("n_stimuli"):
        pairs = f", {attrs['n_pairs']:,} pairs" if attrs.get("n_pairs") else ""
        said.append(f"Both sides were matched by stimulus id: {attrs['n_stimuli']:,} stimuli{pairs}.")
    if attrs.get("rdm"):
        said.append(f"Model dissimilarities: {attrs['rdm']} distance between the features of stimuli.")
    if attrs.get("control"):
        control = attrs["control"]
        said.append(f"Controlled for: {_and(control) if isinstance(control, list) else control}.")
    return said


def _ceiling(attrs: dict, scores: xr.Dataset) -> list[str]:
    known = "ceiling" in scores and bool(np.isfinite(scores["ceiling"]).any())
    source = attrs.get("ceiling")
    if not known:
        return ["No noise ceiling is available" + (f" ({source})." if isinstance(source, str) and source else ".")]
    return ["Noise ceilings have the same aggregation as the scores beside them"
            + (f": {source}." if isinstance(source, str) and source else ".")]


def _inference(attrs: dict, scores: xr.Dataset) -> list[str]:
    said = []
    null, n = attrs.get("nulls") or attrs.get("null"), attrs.get("n_permutations")
    if isinstance(null, dict) and null.get("n"):
        what, n = NULLS.get(null.get("name"), null.get("name", "permutations")), null["n"]
        moved = f" of the {null['permuted']}" if null.get("permuted") else ""
        said.append(f"Null: {n:,} {what}{moved}, the analysis repeated for each"
                    + (f"; shortest shift {_shift(null['min_shift'])}." if null.get("min_shift") else "."))
    elif n:
        said.append(f"Null: {n:,} permutations" + (f" ({null})." if isinstance(null, str) else "."))
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


def warning_rows(named: Iterable[tuple[str, xr.Dataset]]) -> list[dict]:
    """Return one row a distinct warning: code, how often, how many ids, message, where."""
    rows = {}
    for name, scores in named:
        for warning in attrs_of(scores).get("warnings") or []:
            key = (warning.get("code", ""), warning.get("message", ""))
            row = rows.setdefault(key, {"code": key[0], "said": 0, "concerns": 0, "message": key[1], "in": []})
            row["said"] += 1
            row["concerns"] = max(row["concerns"], int(warning.get("count") or 0))
            if name not in row["in"]:
                row["in"].append(name)
    return [row | {"in": "; ".join(row["in"])} for row in rows.values()]


def references(all_scores: Iterable[xr.Dataset]) -> list[str]:
    """Return the sources of the metrics and procedures used, sorted."""
    found = set()
    for scores in all_scores:
        attrs = attrs_of(scores)
        for metric in map(str, scores["metric"].values):
            if metric in METRICS:
                found |= {part.strip() for part in METRICS[metric].reference.split(";")}
        if attrs.get("fdr") == "bh" or "Benjamini-Hochberg" in str(attrs.get("fdr")):
            found.add(GENERAL[0])
        if "ceiling_lower" in scores:
            found.add(GENERAL[1])
        if "p" in scores:
            found.add(GENERAL[2])
        found |= {str(r) for r in attrs.get("references") or []}
    return sorted(found)


def versions(all_scores: Iterable[xr.Dataset]) -> pd.DataFrame:
    """Return the versions that the Scores were made with; where they differ, all of them."""
    found: dict[str, list] = {}
    for scores in all_scores:
        attrs = attrs_of(scores)
        said = {"python": attrs.get("python"), "platform": attrs.get("platform"), **(attrs.get("versions") or {})}
        for name, version in said.items():
            if version and version not in found.setdefault(name, []):
                found[name].append(version)
    return pd.DataFrame([(k, ", ".join(map(str, v))) for k, v in found.items() if v], columns=["what", "version"])


def provenance_rows(named: Iterable[tuple[str, xr.Dataset]]) -> pd.DataFrame:
    """Return when, how and from what each of the Scores was made."""
    rows = []
    for name, scores in named:
        attrs = attrs_of(scores)
        prints = attrs.get("fingerprints") or {}
        for what, key in (("created", "created"), ("command", "command"), ("random state", "random_state"),
                          ("commit", "commit"), ("device", "device")):
            if attrs.get(key) not in (None, ""):
                rows.append((name, what, str(attrs[key])))
        if isinstance(prints, dict):
            rows += [(name, f"fingerprint, {key}", str(value)) for key, value in prints.items()]
    return pd.DataFrame(rows, columns=["part", "what", "value"])


def commit_of(folder: Path) -> str | None:
    """Return the commit of the git checkout that `folder` lies in, read from its files; None without one."""
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        if not (git / "HEAD").is_file():
            continue
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = git / head[5:]
        if ref.is_file():
            return ref.read_text().strip()
        packed = git / "packed-refs"
        lines = packed.read_text().splitlines() if packed.is_file() else []
        return next((line.split()[0] for line in lines if line.endswith(" " + head[5:])), None)
    return None


def _span(counts) -> str:
    if not counts:
        return "an unknown number of"
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _and(words) -> str:
    words = [str(w) for w in words]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""
