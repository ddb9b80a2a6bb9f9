"""What a report counts and lists from Scores: tests and effect sizes, warnings, references, provenance."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.alignment import count_sites
from neuroalign.alignment.metrics import METRICS
from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import metric_label, spaces_table

__all__ = ["commit_of", "glance", "provenance_rows", "references", "site_counts", "versions", "warning_rows"]

GENERAL = ("Benjamini & Hochberg 1995, J R Stat Soc B 57:289", "Nili et al. 2014, PLoS Comput Biol 10:e1003553",
           "Phipson & Smyth 2010, Stat Appl Genet Mol Biol 9:39")
SITE_COLUMNS = {"n_sites": "sites", "share_weak": "weak, share", "share_strict": "strict, share",
                "mean_difference": "mean difference"}


def glance(name: str, scores: xr.Dataset, alpha: float = 0.05) -> list[dict]:
    """Return one row a metric, random twins apart: effect sizes, null and ceiling, how many p and q are small."""
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
        for which, column in (("null_mean", "null"), ("ceiling", "ceiling")):
            if which in part and part[which].notnull().any():
                row[column] = float(part[which].median())
        for which in ("p", "q"):
            tested = which in part and np.isfinite(part[which].values).any()
            row[f"{which} < {alpha:g}"] = int((part[which].values < alpha).sum()) if tested else np.nan
        rows.append(row)
    return rows


def site_counts(all_scores: Iterable[xr.Dataset], alpha: float = 0.05) -> list[tuple[str, pd.DataFrame]]:
    """Return tables of the sites where comparisons hold, in any (weak) and in all (strict) of several conditions.

    Site tests of the same comparisons at the same neuroids are conditions of one study: they are counted together.
    """
    studies: dict[tuple, list] = {}
    for scores in all_scores:
        if attrs_of(scores).get("analysis") == "site_tests":
            key = (tuple(map(str, scores["neuroid"].values)), tuple(map(str, scores["space"].values)))
            studies.setdefault(key, []).append(scores)
    found = []
    for tests in studies.values():
        n = f"{len(tests)} conditions" if len(tests) > 1 else "one condition"
        found.append((f"Sites where a comparison holds ({n})", count_sites(tests, alpha=alpha)))
        for by in ("subject", "region"):
            if by in tests[0].coords and len(set(map(str, tests[0][by].values))) > 1:
                found.append((f"The same by {by}", count_sites(tests, by=by, alpha=alpha)))
    return [(caption, frame.rename(columns=SITE_COLUMNS)) for caption, frame in found]


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


def _is_lower(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].direction == "lower"
