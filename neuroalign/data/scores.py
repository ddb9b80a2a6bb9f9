"""Scores: the one result type. A plain `xarray.Dataset`, and the functions on it.

Leading dims are ``metric``, ``space`` and ``neuroid`` or ``target`` (or ``space_b`` for model-model
comparisons), optionally ``time_bin``. `SCORE_VARIABLES` says what each variable is.
"""

import datetime
import json
import os
import platform
import sys
import uuid
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.tails import expanded_tail
from neuroalign.errors import check_option, list_ids

__all__ = [
    "KEPT_VARIABLES",
    "SCHEMA_VERSION",
    "SCORE_VARIABLES",
    "attrs_of",
    "concat",
    "diff",
    "load",
    "make",
    "save",
    "to_frame",
    "validate",
]

SCHEMA_VERSION = 1
LEADING_DIMS = ("metric", "space", "neuroid", "target", "space_b", "time_bin")
SCORE_VARIABLES = {
    "score": "the statistic named by `metric`",
    "ceiling": "noise ceiling of a score of the same aggregation (RSA: the upper bound); NaN: unavailable",
    "ceiling_lower": "lower bound of the noise ceiling, where the method gives two",
    "reliability": "reliability of the very array that was predicted; NaN: unavailable",
    "null_mean": "mean of the null distribution",
    "null_sd": "standard deviation of the null distribution",
    "p": "p-value, (1 + b) / (1 + B)",
    "q": "p-value after control of the false discovery rate",
    "p_max": "p-value against the best of all cells of the metric under each permutation: that of a maximum",
    "ci_low": "lower end of the interval",
    "ci_high": "upper end of the interval",
    "n": "number of samples (or pairs) behind the score",
    "best_alpha": "penalty chosen by inner cross-validation (geometric mean over folds)",
    "chosen_depth": "relative depth of the layers chosen within the training rows, mean over folds; NaN: unknown",
    "baseline": "score of the nuisance variables alone, on the same folds",
    "drift": "score of a smooth function of the order of the samples alone, on the same folds",
    "shuffled": "score of the features in another order, mean over refits of several orders",
    "selected": "share of the folds in which a neuroid was reliable enough in the training rows to be predicted",
}
KEPT_VARIABLES = {
    "fold_score": "score of each outer fold (fold, ...)",
    "null": "null distribution (permutation, ...)",
    "bootstrap": "resampled scores (resample, ...), paired across spaces",
    "prediction": "out-of-fold predictions (sample, space, neuroid)",
    "subject_score": "score of each subject (subject, ...)",
    "contribution": "share of each band of features, and of the intercept, in the pooled R² (band, space, ...)",
    "gamma": "share of each band in the prior variance of the weights; its penalty is best_alpha / gamma (band, ...)",
}
# Attrs that say nothing true of a difference between scores: it has no null, no test and no ceiling of its own.
OF_SCORES_ALONE = ("versions", "created", "nulls", "null", "n_permutations", "fdr", "ceiling")


def make(variables: Mapping[str, tuple], coords: Mapping, attrs: Mapping | None = None) -> xr.Dataset:
    """Build and validate Scores.

    Parameters
    ----------
    variables : mapping of str to (dims, array)
        At least ``score``; names of `SCORE_VARIABLES` or `KEPT_VARIABLES`.
    coords : mapping
        Labels of the dims and further coords, as for `xarray.Dataset`.
    attrs : mapping
        JSON-serialisable values; versions, the time and the command are added.

    Examples
    --------
    >>> s = make({"score": (("metric", "space", "neuroid"), np.zeros((1, 1, 2)))},
    ...          {"metric": ["r.pooled"], "space": ["m:l:all"], "neuroid": ["a", "b"]})
    >>> dict(s.sizes)
    {'metric': 1, 'space': 1, 'neuroid': 2}
    """
    scores = xr.Dataset(dict(variables), coords=dict(coords))
    stamped = {**provenance(), **(attrs or {}), "schema_version": SCHEMA_VERSION}
    scores.attrs = {k: json.dumps(v, default=_jsonable) for k, v in stamped.items()}
    return validate(scores)


def provenance() -> dict:
    """Versions, time, platform and command of this process."""
    names = ("neuroalign", "torch", "transformers", "numpy", "scipy", "scikit-learn", "xarray", "mne", "nilearn")
    versions = {name: _version(name) for name in names}
    command = [os.path.basename(sys.argv[0]), *sys.argv[1:]] if sys.argv else []
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(command)[:500],
    }


def validate(scores: xr.Dataset) -> xr.Dataset:
    """Check that a Dataset follows the Scores schema and return it.

    Raises
    ------
    ValueError
        Naming the first departure.
    """
    if not isinstance(scores, xr.Dataset):
        raise TypeError(f"scores: got {type(scores).__name__}, expected an xarray.Dataset.")
    if "score" not in scores:
        raise ValueError(f"scores: no variable 'score'; found {list(scores.data_vars)}.")
    dims = scores["score"].dims
    if dims[:2] != ("metric", "space") or set(dims) - set(LEADING_DIMS):
        raise ValueError(
            f"scores: 'score' has dims {dims}, expected ('metric', 'space', 'neuroid' | 'target' | 'space_b'"
            f"[, 'time_bin']).{_kept_by_list(scores)}"
        )
    unknown = set(scores.data_vars) - set(SCORE_VARIABLES) - set(KEPT_VARIABLES)
    if unknown:
        raise ValueError(
            f"scores: unknown variables {list_ids(sorted(unknown))}; "
            f"known are {', '.join([*SCORE_VARIABLES, *KEPT_VARIABLES])}."
        )
    for name in ("metric", "space"):
        if scores.indexes[name].has_duplicates:
            raise ValueError(f"scores: {name} is not unique: {list_ids(scores[name].values)}.")
    return scores


def _kept_by_list(scores: xr.Dataset) -> str:
    """Say how to keep a dim that was lost by the choice of one label, if one was."""
    lost = [d for d in ("metric", "space") if d in scores.coords and not scores[d].ndim]
    how = ", ".join(f"{d}=[{str(scores[d].item())!r}]" for d in lost)
    return f" Choose with a list, which keeps the dim: scores.sel({how})." if lost else ""


def attrs_of(scores: xr.Dataset) -> dict:
    """Return the attrs of Scores as Python values (they are stored as JSON strings)."""
    return {k: json.loads(v) if isinstance(v, str) else v for k, v in scores.attrs.items()}


def concat(parts, dim: str = "space") -> xr.Dataset:
    """Join Scores along ``space``, ``metric`` or ``target``; warnings and tables are joined, other attrs come
    from the first.

    Variables that only some parts have are NaN in the others.
    """
    check_option("dim", dim, ("space", "metric", "target"))
    parts = [validate(p) for p in parts]
    if not parts:
        raise ValueError("concat: no scores given.")
    for part in parts[1:]:
        if part["score"].dims != parts[0]["score"].dims:
            raise ValueError(f"concat: scores of dims {parts[0]['score'].dims} and {part['score'].dims} cannot be "
                             "joined. Keep them apart (a report takes a list of scores).")
    names = sorted({v for p in parts for v in p.data_vars})
    filled = []
    for part in parts:
        missing = [n for n in names if n not in part]
        for name in missing:
            like = next(p[name] for p in parts if name in p)
            sizes = {d: part.sizes.get(d, like.sizes[d]) for d in like.dims}
            part = part.assign({name: (like.dims, np.full(tuple(sizes.values()), np.nan))})
        filled.append(_fill_coords(part, parts, dim))
    joined = xr.concat(filled, dim=dim, data_vars="minimal", coords="minimal", compat="override",
                       join="outer", combine_attrs="override")
    if dim != "space":
        joined = _restore_spaces(joined, parts)
    about = [attrs_of(p) for p in parts]
    for key, value in about[0].items():  # what is said metric by metric: of all parts, the first has the word
        if isinstance(value, dict):
            joined.attrs[key] = json.dumps({k: v for a in reversed(about) for k, v in (a.get(key) or {}).items()})
    joined.attrs["warnings"] = json.dumps([w for a in about for w in a.get("warnings", [])])
    return validate(joined)


def diff(scores: xr.Dataset, space: str, other: str, *, level: float = 0.95) -> xr.Dataset:
    """Difference between two spaces, with a paired interval where resampled scores were kept.

    Parameters
    ----------
    scores : Dataset
        With ``keep=["bootstrap"]`` for an interval: both spaces then share the resampled stimuli and subjects.
    space, other : str
        Space ids; the result is score(space) - score(other).
    level : float
        Coverage of the interval. Of resampled predictions (`encode`, `encode_banded`, `partition_variance`) it is an
        expanded percentile interval, as theirs are (`neuroalign.stats.expanded_interval`, for the units that were
        resampled: ``attrs["resampled_units"]``), else a percentile interval.

    Returns
    -------
    Dataset
        Scores with one space, ``"space - other"``; ``ci_low``, ``ci_high`` are NaN without resamples.

    Examples
    --------
    >>> s = make({"score": (("metric", "space", "target"), [[[0.5], [0.2]]])},
    ...          {"metric": ["rsa.spearman"], "space": ["m", "n"], "target": ["IT"]})
    >>> round(diff(s, "m", "n").score.item(), 2)
    0.3
    """
    for name in (space, other):
        if name not in scores.indexes["space"]:
            raise KeyError(f"scores: no space {name!r}; found {list_ids(scores['space'].values)}.")
    delta = scores["score"].sel(space=space) - scores["score"].sel(space=other)
    dims = ("metric", "space", *[d for d in delta.dims if d != "metric"])
    shape = [1 if d == "space" else delta.sizes[d] for d in dims]
    low = high = np.full(shape, np.nan)
    interval = "no interval: resamples were not kept (keep=['bootstrap'])"
    if "bootstrap" in scores:
        units = attrs_of(scores).get("resampled_units")
        interval = (f"paired over the resamples that the two spaces share, {level:.0%}"
                    + (f", expanded percentile of {units} units" if units else ""))
        resampled = scores["bootstrap"].sel(space=space) - scores["bootstrap"].sel(space=other)
        tail = expanded_tail(units, level) if units else (1 - level) / 2
        low, high = resampled.quantile([tail, 1 - tail], dim="resample").transpose("quantile", *delta.dims).values
    variables = {"score": (dims, delta.values.reshape(shape)),
                 "ci_low": (dims, np.reshape(low, shape)), "ci_high": (dims, np.reshape(high, shape))}
    coords = {d: scores[d] for d in delta.dims} | {"space": [f"{space} - {other}"]}
    about = attrs_of(scores)
    keep = {k: v for k, v in about.items() if k not in OF_SCORES_ALONE}
    return make(variables, coords, keep | {"analysis": "difference", "of": about.get("analysis") or about.get("kind"),
                                           "difference": [space, other], "interval": interval})


def to_frame(scores: xr.Dataset) -> pd.DataFrame:
    """Return one row a (metric, space, neuroid or target[, time_bin]) with every score variable."""
    validate(scores)
    leading = scores["score"].dims
    keep = [v for v in SCORE_VARIABLES if v in scores and set(scores[v].dims) <= set(leading)]
    flat = scores[keep].drop_dims([d for d in scores.dims if d not in leading], errors="ignore")
    frame = flat.to_dataframe(dim_order=list(leading)).reset_index()
    first = [c for c in (*leading, *keep) if c in frame]
    return frame[first + [c for c in frame if c not in first]]


def save(scores: xr.Dataset, path) -> Path:
    """Write Scores as netCDF (h5netcdf), atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        validate(scores).to_netcdf(part, engine="h5netcdf")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def load(path) -> xr.Dataset:
    """Read Scores that `save` wrote."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"scores: no file {str(path)!r}.")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as stored:
            scores = stored.load()
    except OSError as error:
        raise ValueError(f"scores: {str(path)!r} is no netCDF file, or a damaged one ({error}). Give one that "
                         "neuroalign.scores.save or --out wrote.") from None
    version = attrs_of(scores).get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path.name}: schema_version is {version}, expected {SCHEMA_VERSION}. Compute it again.")
    return validate(scores)


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)  # reads a file; Scores are made often
    except metadata.PackageNotFoundError:
        return "not installed"


def _fill_coords(part: xr.Dataset, parts, dim: str) -> xr.Dataset:
    """Add the coords of `dim` that only other parts have: empty text, or NaN."""
    for other in parts:
        for name in set(other.coords) - set(part.coords):
            values = other.coords[name]
            if values.dims == (dim,):
                empty = np.nan if values.dtype.kind in "fiu" else ""
                part = part.assign_coords({name: (dim, np.full(part.sizes[dim], empty))})
    return part


def _restore_spaces(joined: xr.Dataset, parts) -> xr.Dataset:
    """Put spaces that only some parts have in order of appearance, with their own coords: a join blanks them."""
    joined = joined.sel(space=list(dict.fromkeys(s for p in parts for s in p["space"].values.tolist())))
    names = dict.fromkeys(k for p in parts for k, c in p.coords.items() if c.dims == ("space",) and k != "space")
    for name in names:
        known = {s: v for p in reversed(parts) if name in p.coords for s, v in zip(p["space"].values, p[name].values)}
        joined = joined.assign_coords({name: ("space", np.array([known[s] for s in joined["space"].values]))})
    return joined


def _jsonable(value):
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
