"""Which figures plain Scores get, by their analysis and shape."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neuroalign import plots
from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import along_delays, metric_label, select, space_label, spaces_table

__all__ = ["Picture", "comparison_pictures", "default_pictures"]

MOST_BARS, MOST_SITES, MOST_PANELS = 4, 3, 6
PROBED = ("shift", "epoch", "share", "depth")  # what curves of probes are drawn against


@dataclass(frozen=True)
class Picture:
    """A figure with its words and its data.

    Attributes
    ----------
    figure : matplotlib Figure, or path of a PNG
    caption : str
        Stands before the figure's own, which says how to read it (`neuroalign.plots` figures carry one).
    alt : str
        What it shows, for those who cannot see it; by default the figure's own, else the caption.
    data : DataFrame, optional
        The numbers drawn, offered as CSV; by default the figure's own (`neuroalign.plots` figures carry them).
    """

    figure: Figure | str | Path
    caption: str = ""
    alt: str = ""
    data: pd.DataFrame | None = None


def default_pictures(scores: xr.Dataset) -> list[Picture]:
    """Decide the figures of plain Scores, for each metric.

    A depth profile where a model has several layers, bars where spaces are few, a matrix where there are several spaces
    and targets, a map of sites where neuroids have coordinates; along time, curves or a heat map of the layers; circles
    and bars of the parts of a partition; maps of the sites of site tests.
    """
    if "part" in scores.coords and attrs_of(scores).get("bands"):
        return [Picture(f) for f in _parts(scores)]
    if attrs_of(scores).get("analysis") == "site_tests":
        metric = str(scores["metric"].values[0])
        return [Picture(f) for f in _maps(scores, metric, f"difference, {metric_label(metric)}")]
    if attrs_of(scores).get("analysis") in ("information_flow", "ablation", "interventional_encoding"):
        return [Picture(f) for f in _interventions(scores)]
    if scores["score"].dims == ("metric", "space"):
        return [Picture(f) for f in _probes(scores)]
    pictures = []
    scores = along_delays(scores)
    for metric in map(str, scores["metric"].values):
        timed = "time_bin" in scores["score"].dims
        data = select(scores, metric, timed=timed)
        layers = spaces_table(scores).groupby(["model", "stream"])["layer"].nunique().max()
        if timed:
            few = scores.sizes["space"] <= MOST_BARS
            pictures.append((plots.time_course if few else plots.layer_time)(scores, metric))
        elif data.attrs["_unit"] == "space_b":
            pictures.append(plots.matrix(scores, metric))
        else:
            if layers > 1:
                pictures.append(plots.layer_profile(scores, metric))
            if scores.sizes["space"] <= MOST_BARS:
                pictures.append(plots.bars(scores, metric))
            elif data.sizes["unit"] > 1:
                pictures.append(plots.matrix(scores, metric))
            if metric == str(scores["metric"].values[0]):  # the sites are the same for every metric
                pictures += _maps(scores, metric)
    return [Picture(p) for p in pictures]


def comparison_pictures(tests: xr.Dataset, others: Sequence[xr.Dataset]) -> list[Picture]:
    """Draw space against space for site tests, from whichever of the other Scores hold what was tested."""
    if attrs_of(tests).get("analysis") != "site_tests":
        return []
    metric, ids = str(tests["metric"].values[0]), list(tests["neuroid"].values)
    drawn, pictures = set(), []
    for better, other in (attrs_of(tests).get("comparisons") or {}).values():
        source = next((s for s in others if _holds(s, metric, ids, better, other)), None)
        if source is not None and frozenset((better, other)) not in drawn:
            drawn.add(frozenset((better, other)))
            pictures.append(Picture(plots.versus(source, other, better, tests, metric=metric)))
    return pictures


def _holds(scores, metric, ids, *spaces) -> bool:
    return ("neuroid" in scores["score"].dims and list(scores["neuroid"].values) == ids
            and {metric} <= set(map(str, scores["metric"].values))
            and set(spaces) <= set(map(str, scores["space"].values)))


def _interventions(scores) -> list[Figure]:
    """Curves over blocks; or site by site the difference from a control, or from the whole model if there is none."""
    if "neuroid" not in scores.dims:
        return [plots.knockout_curves(scores)]
    if "time_bin" in scores["score"].dims:
        return []
    effect = next(m for m in map(str, scores["metric"].values) if m.endswith(".effect"))
    controlled = np.isfinite(scores["score"].sel(metric=effect)).any()
    return [plots.site_effects(scores, kind="effect" if controlled else "change")]


def _probes(scores) -> list[Figure]:
    """Curves of what is measured of models alone: token by token similarity, or any other statistic."""
    if attrs_of(scores).get("kind") == "implicit_alignment":
        return [plots.alignment_curves(scores)]
    places = [c for c in PROBED if c in scores.coords and scores[c].dims == ("space",) and scores[c].notnull().any()]
    if places and scores.sizes["space"] > 1:
        metrics = [str(m) for m in scores["metric"].values]
        return [plots.probe_curves(scores, metrics[k:k + 6]) for k in range(0, len(metrics), 6)]
    few = scores.sizes["space"] <= MOST_BARS
    return [(plots.bars if few else plots.matrix)(scores, m) for m in map(str, scores["metric"].values)]


def _parts(scores) -> list[Figure]:
    """Bars, and circles for two or three bands: of all units, or averaged where there are many; along time, curves."""
    if "time_bin" in scores["score"].dims:
        drawn = ["unique", "shared"] if len(attrs_of(scores)["bands"]) <= 3 else ["unique"]
        return [plots.time_course(scores.isel(space=scores["part"].isin(drawn).values))]
    dim = next((d for d in ("neuroid", "target") if d in scores["score"].dims), None)
    few = dim is None or scores.sizes[dim] <= MOST_PANELS
    regions = set(map(str, scores["region"].values)) if "region" in scores.coords else set()
    by = None if few else "region" if 0 < len(regions) <= MOST_PANELS else "all"
    circles = [plots.venn(scores, by=by)] if len(attrs_of(scores)["bands"]) <= 3 else []
    return [plots.partition(scores, by=by), *circles]


def _maps(scores, metric, label: str | None = None) -> list[Figure]:
    if not {"x", "y", "z", "q"} <= {*scores.coords, *scores.data_vars} or "neuroid" not in scores.dims:
        return []
    if not np.isfinite([scores[c].values for c in "xyz"]).all(0).any():
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sites without coordinates: said once, by the section's own table
        return [plots.sites(scores, metric=metric, space=space, title=space_label(space), label=label)
                for space in _best_of_models(scores, metric)]


def _best_of_models(scores, metric) -> list[str]:
    """Return the space with the highest mean of each model, at most three, the best first."""
    table = spaces_table(scores).assign(mean=scores["score"].sel(metric=metric).mean("neuroid").values)
    best = table.sort_values("mean", ascending=False, kind="stable").drop_duplicates("model")
    return best["space"].tolist()[:MOST_SITES]
