"""Unique and shared parts of explained variance, as bars over a table of which bands take part."""

from itertools import combinations

import numpy as np
import xarray as xr

from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import drawn_frame, metric_label, select, shorten
from neuroalign.plots.style import FAINT, GREY, INK, PALETTE, Figure, new_figure, styled

__all__ = ["partition"]

MOST_PANELS = 6


@styled
def partition(scores: xr.Dataset, targets=None, *, by: str | None = None, title: str | None = None) -> Figure:
    """Draw the unique and shared parts of what bands of features explain, one panel a target.

    Parameters
    ----------
    scores : Dataset
        What `neuroalign.partition_variance` returns.
    targets, by
        As for `layer_profile`; at most 6 panels.
    title : str, optional

    Returns
    -------
    Figure
        Bars of the parts, negative ones too, with their intervals (of averages: quartiles over units); below, filled
        dots in one column are the bands that share the part.
    """
    attrs = attrs_of(scores)
    if "part" not in scores.coords or not attrs.get("bands"):
        raise ValueError("partition: these Scores have no parts. Make them with neuroalign.partition_variance.")
    data = select(scores, None, targets, by)
    units, bands = [str(u) for u in data["unit"].values], sorted(attrs["bands"])
    if len(units) > MOST_PANELS:
        raise ValueError(f"partition: got {len(units)} targets, expected at most {MOST_PANELS}. Choose some with "
                         "targets=[...], or average with by='region' or by='all'.")
    parts = data.isel(space=np.isin(data["part"].values, ["unique", "shared"]))
    whole = data.sel(space=" + ".join(bands))["score"].values
    members = [c for k in range(1, len(bands) + 1) for c in combinations(bands, k)]  # in the order of the parts
    width = max(2.6, 0.42 * len(members) + 0.5) * len(units) + 1.6
    figure = new_figure(width, 2.7 + 0.26 * len(bands))
    axes = figure.subplots(2, len(units), sharex=True, sharey="row", squeeze=False,
                           gridspec_kw={"height_ratios": [2.3, 0.24 * len(bands)]})
    colours = [PALETTE[bands.index(m[0]) % len(PALETTE)] if len(m) == 1 else GREY for m in members]
    for k, unit in enumerate(units):
        _bars(axes[0, k], parts.sel(unit=unit), colours)
        axes[0, k].set_title(f"{shorten(unit, 22)}   R² {whole[:, k].item() if whole.ndim > 1 else whole[k]:.2f}")
        _dots(axes[1, k], bands, members, colours)
    axes[0, 0].set_ylabel(metric_label(data.attrs["_metric"]))
    axes[1, 0].set_yticks(range(len(bands)), [shorten(b, 30) for b in bands])
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = drawn_frame(data)
    averaged = " Bars are means over units, whiskers their quartiles." if "spread_low" in parts else (
        " Whiskers: interval of the part." if "ci_low" in parts else "")
    figure.caption = ("Parts of the variance that all bands explain together (R² beside the name): what is lost "
                      "without a band is unique to it (its colour), what is lost only without all of several is shared "
                      "by them (grey); filled dots say by which. Negative parts are drawn as they are."
                      + said_of_nuisance(data) + averaged)
    figure.alt = "Bars of unique and shared parts of variance. " + "; ".join(
        f"{unit}: " + _words(members, parts["score"].sel(unit=unit).values) for unit in units) + "."
    return figure


def said_of_nuisance(data) -> str:
    """What a caption says of nuisance variables, which stand in every model and explain a part of its R²."""
    alone = data["score"].isel(space=data["part"].values == "nuisance").values
    if not np.isfinite(alone).any():
        return ""
    values = [f"{v:.2f}".replace("-", "−") for v in (np.nanmin(alone), np.nanmax(alone))]
    much = values[0] if values[0] == values[1] else " to ".join(values)
    return f" The nuisance variables explain {much} of the R² beside the name; that part is not drawn."


def _words(members, values) -> str:
    return ", ".join(f"{' & '.join(m)} {v:.2f}" for m, v in zip(members, values))


def _bars(axis, part, colours) -> None:
    values, at = part["score"].values, np.arange(len(colours))
    axis.bar(at, values, 0.66, color=colours, alpha=0.9, lw=0, zorder=2)
    for low, high in (("ci_low", "ci_high"), ("spread_low", "spread_high")):
        if low in part and np.isfinite(part[low]).any():
            axis.vlines(at, part[low].values, part[high].values, color=INK, lw=1.1, zorder=3)
            break
    axis.axhline(0, color="#6b7079", lw=0.7, zorder=4)
    axis.tick_params(axis="x", length=0, labelbottom=False)
    axis.margins(x=0.04)


def _dots(axis, bands, members, colours) -> None:
    for column, (own, colour) in enumerate(zip(members, colours)):
        axis.plot([column] * len(bands), range(len(bands)), ls="", marker="o", ms=6, mfc=FAINT, mec="none", zorder=1)
        rows = [bands.index(b) for b in own]
        axis.plot([column, column], [min(rows), max(rows)], color=colour, lw=1.6, zorder=2)
        axis.plot([column] * len(rows), rows, ls="", marker="o", ms=6.5, mfc=colour, mec="none", zorder=3)
    axis.set_ylim(len(bands) - 0.5, -0.5)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0, labelbottom=False)
