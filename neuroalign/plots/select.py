"""From Scores to what a figure needs: one metric, named units, model series and readable labels."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data import scores as scores_
from neuroalign.errors import check_option, list_ids, suggest

__all__ = ["Series", "along_delays", "drawn_frame", "metric_label", "model_series", "picked_spaces", "select",
           "shorten", "space_label", "spaces_table"]

UNIT_DIMS = ("neuroid", "target", "space_b")
MOST_UNITS = 12
METRIC_LABELS = {
    "r.pooled": "Pearson r (pooled over folds)",
    "r.foldmean": "Pearson r (mean over folds)",
    "r2.pooled": "R² (pooled over folds)",
    "r2.foldmean": "R² (mean over folds)",
    "r.stimulus": "Pearson r over neuroids (mean over stimuli)",
    "2v2": "pairs of stimuli told apart",
    "rsa.spearman": "RSA, Spearman ρ",
    "rsa.spearman.group": "RSA, Spearman ρ (group-mean RDM)",
    "rsa.spearman.partial": "partial RSA, Spearman ρ",
    "rsa.spearman.partial.group": "partial RSA, Spearman ρ (group-mean RDM)",
    "rsa.pearson": "RSA, Pearson r",
    "rsa.pearson.group": "RSA, Pearson r (group-mean RDM)",
    "rsa.r2": "RSA, R² of ranks",
    "rsa.cosine": "RSA, cosine",
    "rsa.cosine.group": "RSA, cosine (group-mean RDM)",
    "cka.debiased": "linear CKA (debiased)",
    "cka.biased": "linear CKA (biased)",
    "rsa.tau_a": "RSA, Kendall τ-a",
    "rsa.tau_a.group": "RSA, Kendall τ-a (group-mean RDM)",
    "rsa.rho_a": "RSA, ρ-a",
    "rsa.rho_a.group": "RSA, ρ-a (group-mean RDM)",
    "rsa.cosine.whitened": "RSA, whitened cosine",
    "rsa.cosine.whitened.group": "RSA, whitened cosine (group-mean RDM)",
    "rsa.pearson.whitened": "RSA, whitened Pearson r",
    "rsa.pearson.whitened.group": "RSA, whitened Pearson r (group-mean RDM)",
    "svcca": "SVCCA",
    "pwcca.features": "PWCCA (weighted by the features)",
    "pwcca.targets": "PWCCA (weighted by the targets)",
    "cca.heldout": "held-out canonical correlation",
    "cca.deep": "held-out canonical correlation, deep",
    "shape.procrustes": "Procrustes distance",
    "shape.angular": "angular shape distance (rad)",
    "shape.angular.half": "angular shape distance, α = 0.5 (rad)",
    "shape.angular.whitened": "angular shape distance, whitened (rad)",
    "predictivity.forward": "targets predicted from features, R²",
    "predictivity.reverse": "features predicted from targets, R²",
    "flow.relative": "change of p(predicted token) (%)",
    "flow.logp": "change of log p(predicted token) (nats)",
    "lens.p.predicted": "p(predicted token), read off this layer",
    "lens.rank": "rank of the predicted token, read off this layer",
    "lens.entropy": "entropy, read off this layer (bits)",
    "lens.p.lower": "p(answer in lower case), read off this layer",
    "lens.p.capitalised": "p(Answer), read off this layer",
    "knn.mutual": "mutual k-NN (k = 10)",
    "knn.cycle.forward": "cycle k-NN, features first (k = 10)",
    "knn.cycle.reverse": "cycle k-NN, targets first (k = 10)",
    "cknna": "CKNNA (k = 10)",
    "cka.minibatch": "linear CKA (debiased, minibatches)",
    "cka.rbf": "Gaussian CKA (debiased)",
    "units.one_to_one": "units matched one to one, r",
    "units.soft": "units matched softly, r",
    "bures": "Bures distance",
    "wasserstein.sliced": "sliced Wasserstein distance",
    "gw.distance": "Gromov-Wasserstein distance",
    "gw.matching": "stimuli matched by Gromov-Wasserstein",
    "choice.2afc": "answers given too, 2AFC",
    "choice.odd": "answers given too, odd one out",
    "isc.loo": "inter-subject correlation (leave one out)",
    "link.top1": "nearest stimulus has the same label",
    "link.ari": "clusters and labels, adjusted Rand index",
}
_MATCHINGS = {"affine": "affine map", "procrustes": "rotation", "local_cka": "local CKA"}
_PAIRINGS = {"assignment": "pairs assigned rightly", "top1": "partner is nearest",
             "top5": "partner among 5 nearest", "top10": "partner among 10 nearest"}
METRIC_LABELS |= {f"match.{m}.{p}": f"{said} ({how})" for m, how in _MATCHINGS.items() for p, said in _PAIRINGS.items()}
TWIN = re.compile(r"^(?P<base>.+)@random(\.(?P<seed>\d+))?$")


def select(scores: xr.Dataset, metric: str | None = None, targets=None, by: str | None = None, *,
           timed: bool = False) -> xr.Dataset:
    """Return the Scores of one metric with dims ``space``, ``unit``[, ``time_bin``].

    Parameters
    ----------
    scores : Dataset
    metric : str, optional
        Needed where the Scores hold several; the first is taken otherwise.
    targets : sequence of str, optional
        Names of the units (neuroids, targets) to keep, in this order.
    by : str, optional
        Coord of the units (``region``, ``subject``); units that share its value are averaged, and
        ``spread_low`` and ``spread_high`` hold their quartiles. Default: none for up to twelve units,
        then ``region`` if the Scores have it, then the mean over all.
    timed : bool
        Whether the figure has an axis of time: the Scores must then have ``time_bin``, or a space for each delay
        (`along_delays`), and must not have ``time_bin`` otherwise.
    """
    scores_.validate(scores)
    scores = along_delays(scores) if timed else scores
    if timed != ("time_bin" in scores["score"].dims):
        if timed:
            raise ValueError("scores: no dim 'time_bin', this figure draws time. Draw layer_profile, matrix or bars.")
        raise ValueError(f"scores: {scores.sizes['time_bin']} time bins, this figure draws one. Choose it with "
                         "scores.sel(time_bin=0.3, method='nearest'), or draw time_course or layer_time.")
    names = [str(m) for m in scores["metric"].values]
    if metric is None:
        metric = names[0]
    check_option("metric", metric, names)
    dim = next((d for d in scores["score"].dims if d in UNIT_DIMS), None)
    picked = scores.sel(metric=metric)
    picked = picked.expand_dims(unit=["all"], axis=1) if dim is None else picked.rename({dim: "unit"})
    if "unit" not in picked.coords:
        picked = picked.assign_coords(unit=[str(i) for i in range(picked.sizes["unit"])])
    picked = picked.assign_coords(unit=[str(u) for u in picked["unit"].values])
    if targets is not None:
        picked = picked.sel(unit=_known_units(targets, picked["unit"].values))
    picked.attrs = {**scores.attrs, "_metric": metric, "_unit": dim or ""}
    if by is None and targets is None and dim != "space_b" and picked.sizes["unit"] > MOST_UNITS:
        regions = picked["region"].values if "region" in picked.coords else ()
        by = "region" if 0 < len(set(map(str, regions))) <= MOST_UNITS else "all"
    return picked if by is None else _average(picked, by)


def along_delays(scores: xr.Dataset) -> xr.Dataset:
    """Turn spaces that differ in their delay alone (`neuroalign.lag_scores`) into curves over ``time_bin``.

    Scores without a ``delay`` of their spaces are returned as they are.
    """
    if "delay" not in scores.coords or scores["delay"].dims != ("space",):
        return scores
    own = [str(s).rpartition("@")[0] or str(s) for s in scores["space"].values]  # SPACE@0.1s
    dims = scores["score"].dims
    keep = [v for v in scores.data_vars if scores[v].dims == dims]
    labels = [c for c in scores.coords if scores[c].dims == ("space",)]
    curves = []
    for name in dict.fromkeys(own):
        one = scores[keep].isel(space=np.flatnonzero(np.array(own) == name))
        about = {c: ("space", one[c].values[:1]) for c in labels if c not in ("space", "delay")}
        one = one.assign_coords(space=one["delay"].values).drop_vars([c for c in labels if c != "space"])
        one = one.rename(space="time_bin").sortby("time_bin").expand_dims(space=[name]).assign_coords(about)
        curves.append(one)
    joined = xr.concat(curves, "space").transpose("metric", "space", *dims[2:], "time_bin").assign_attrs(scores.attrs)
    joined["time_bin"].attrs["long_name"] = "delay of the response (s)"
    return joined


def drawn_frame(data: xr.Dataset) -> pd.DataFrame:
    """Return what `select` chose, or averaged, as a table: one row a space and unit[, time bin]."""
    dims = [d for d in ("space", "unit", "time_bin") if d in data["score"].dims]
    keep = [v for v in data.data_vars if set(data[v].dims) <= set(dims)]
    flat = data[keep].drop_dims([d for d in data.dims if d not in dims], errors="ignore")
    frame = flat.to_dataframe(dim_order=dims).reset_index().assign(metric=data.attrs["_metric"])
    first = ["metric", *dims, *[v for v in keep if v in frame]]
    return frame[first + [c for c in frame if c not in first]]


def picked_spaces(data: xr.Dataset, spaces, most: int, instead: str) -> xr.Dataset:
    """Return the data of the named spaces; more than `most` is an error that names another figure."""
    known = [str(s) for s in data["space"].values]
    if spaces is not None:
        spaces = [spaces] if isinstance(spaces, str) else list(spaces)
        missing = [s for s in spaces if s not in known]
        if missing:
            raise ValueError(f"spaces: no {list_ids(missing)} in these Scores; found {list_ids(known)}."
                             f"{suggest(missing[0], known)}")
        data = data.sel(space=spaces)
    if data.sizes["space"] > most:
        raise ValueError(f"scores: got {data.sizes['space']} spaces, expected at most {most} in this figure. Choose "
                         f"some with spaces=[...], or draw {instead}.")
    return data


def _known_units(targets, known) -> list[str]:
    targets = [targets] if isinstance(targets, str) else [str(t) for t in targets]
    known = [str(k) for k in known]
    missing = [t for t in targets if t not in known]
    if missing:
        raise ValueError(f"targets: no {list_ids(missing)} in these Scores; found {list_ids(known)}."
                         f"{suggest(missing[0], known)}")
    return targets


def _average(picked: xr.Dataset, by: str) -> xr.Dataset:
    if by == "all":
        groups = np.full(picked.sizes["unit"], f"mean of {picked.sizes['unit']:,}")
    elif by in picked.coords and picked[by].dims == ("unit",):
        groups = picked[by].values.astype(str)
    else:
        coords = [c for c in picked.coords if picked[c].dims == ("unit",) and c != "unit"]
        raise ValueError(f"by: got {by!r}, expected a coord of the units: {', '.join(map(repr, coords)) or 'none'}.")
    numeric = [v for v in scores_.SCORE_VARIABLES if v in picked and v not in ("p", "q", "p_max", "ci_low", "ci_high")]
    out = []
    for name in pd.unique(groups):
        part = picked[numeric].isel(unit=np.flatnonzero(groups == name))
        mean = part.mean("unit", skipna=True)
        quartiles = part["score"].quantile([0.25, 0.75], dim="unit", skipna=True)
        mean = mean.assign(spread_low=quartiles.isel(quantile=0, drop=True),
                           spread_high=quartiles.isel(quantile=1, drop=True))
        out.append(mean.drop_vars("quantile", errors="ignore").expand_dims(unit=[str(name)]))
    averaged = xr.concat(out, dim="unit")
    averaged.attrs = {**picked.attrs, "_by": by, "_n_units": picked.sizes["unit"]}
    return averaged


def spaces_table(scores: xr.Dataset) -> pd.DataFrame:
    """Return one row a space: space, model, layer, stream, depth, base, seed, twin (in the Scores' order)."""
    rows = []
    for i, space in enumerate(map(str, scores["space"].values)):
        parts = space.rsplit(":", 2)
        model, layer, stream = parts if len(parts) == 3 and not _is_difference(space) else (space, "", "")
        row = {"space": space, "model": model, "layer": layer, "stream": stream, "depth": np.nan}
        for key in ("model", "layer", "stream", "depth"):
            if key in scores.coords and scores[key].dims == ("space",):
                row[key] = scores[key].values[i].item()
        match = None if _is_difference(space) else TWIN.match(str(row["model"]))
        row["twin"] = match is not None
        row["base"] = match["base"] if match else str(row["model"])
        row["seed"] = int(match["seed"] or 0) if match else -1
        rows.append(row)
    table = pd.DataFrame(rows)
    table["depth"] = pd.to_numeric(table["depth"], errors="coerce")
    return table


@dataclass(frozen=True)
class Series:
    """The spaces of one model and stream along depth; for twins, of all seeds of one model."""

    label: str
    spaces: tuple[tuple[int, ...], ...]  # for each depth, the places in `space` (one, or one a seed)
    depth: np.ndarray
    twin: bool
    n_seeds: int


def model_series(scores: xr.Dataset) -> list[Series]:
    """Group the spaces into series: models first, in their order, then their random twins."""
    table = spaces_table(scores).rename_axis("place").reset_index()
    several = table.groupby("base")["stream"].nunique()
    found = []
    for (twin, base, stream), part in table.groupby(["twin", "base", "stream"], sort=False):
        part = part.sort_values("depth", kind="stable")
        label = f"{base} · {stream}" if several[base] > 1 and stream else base
        seeds = part["seed"].nunique()
        if twin:
            label += f", random weights ({seeds} seeds)" if seeds > 1 else ", random weights"
        layers = part.groupby("layer", sort=False)
        spaces = tuple(tuple(rows["place"]) for _, rows in layers)
        depth = layers["depth"].first().to_numpy(dtype=float)
        found.append(Series(label, spaces, depth, bool(twin), seeds))
    return [s for s in found if not s.twin] + [s for s in found if s.twin]


def metric_label(metric: str) -> str:
    """Spell a metric for an axis."""
    return METRIC_LABELS.get(metric, metric)


def space_label(space: str) -> str:
    """Spell a space id for readers: ``model · layer · stream`` without what says nothing.

    Examples
    --------
    >>> space_label("vit-b16:blocks.3:all")
    'vit-b16 · blocks.3'
    """
    if _is_difference(str(space)):
        return " − ".join(map(space_label, str(space).split(" - ")))
    parts = str(space).rsplit(":", 2)
    if len(parts) != 3:
        return str(space)
    return " · ".join(p for p in (*parts[:2], "" if parts[2] == "all" else parts[2]) if p)


def _is_difference(space: str) -> bool:
    """Whether an id names the difference of two spaces (`neuroalign.scores.diff`)."""
    return " - " in space


def shorten(name: str, most: int = 28) -> str:
    """Cut a long name in its middle.

    Examples
    --------
    >>> shorten("a-rather-long-name-of-a-model", 15)
    'a-rathe…a-model'
    """
    name = str(name)
    if len(name) <= most:
        return name
    left = (most - 1) // 2
    return f"{name[:left]}…{name[-(most - 1 - left):]}"


def format_p(value: float, name: str = "q") -> str:
    """Spell a probability: ``q = 0.012``, ``q < 0.001``."""
    if not np.isfinite(value):
        return ""
    return f"{name} < 0.001" if value < 0.001 else f"{name} = {value:.3f}"
