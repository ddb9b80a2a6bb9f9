"""Scores along the depth of models."""

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import Series, drawn_frame, metric_label, model_series, select, shorten
from neuroalign.plots.style import FAINT, GREY, INK, PALETTE, Figure, grid_shape, new_figure, place_legend, styled

__all__ = ["layer_profile"]

TWIN_DASHES = ((4, 2), (1.2, 1.6), (5, 1.5, 1, 1.5), (7, 2))
CEILING = "#b9bfc9"
NULL = "#eceef1"


@styled
def layer_profile(scores: xr.Dataset, metric: str | None = None, targets=None, *, by: str | None = None,
                  alpha: float = 0.05, title: str | None = None) -> Figure:
    """Draw the score against relative depth, one panel a target, one line a model.

    Parameters
    ----------
    scores : Dataset
        Scores of several layers of one or more models. A model with one space (or without a depth) is a
        horizontal line. Random twins (``MODEL@random.SEED``) are grey: several seeds as their range and mean.
    metric : str, optional
        The first of the Scores by default.
    targets : sequence of str, optional
        Targets or neuroids to draw, in this order.
    by : str, optional
        Coord of the units to average over (``region``, ``subject``); see `neuroalign.plots.select.select`.
    alpha : float
        Layers with q below it get filled marks, others open ones.
    title : str, optional

    Returns
    -------
    Figure
        Bands: interval of each layer in the model's colour; null mean +- sd and noise ceiling in grey; a dotted
        line is the score of the nuisance variables alone: each where the Scores have it.

    Raises
    ------
    ValueError
        If the Scores have time bins or delays, which are no depth: draw `time_course` or `layer_time`.
    """
    data = select(scores, metric, targets, by)
    if "delay" in scores.coords and scores["delay"].dims == ("space",):
        raise ValueError("scores: their spaces differ in the delay of the response (lag_scores), which is no depth. "
                         "Draw time_course(scores) or layer_time(scores).")
    series = model_series(data)
    units = [str(u) for u in data["unit"].values]
    named = {u: _panel_title(attrs_of(scores), u) for u in units}
    rows, columns = grid_shape(len(units))
    width = 4.6 if columns == 1 else 2.35 * columns + 0.7
    figure = new_figure(width, (2.7 if columns == 1 else 2.2) * rows + 0.8)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    styles = _styles(series)
    drawn = set()
    for axis, unit in zip(axes.flat, units):
        drawn |= _panel(axis, data.sel(unit=unit), series, styles, alpha)
        axis.set_title(shorten(named[unit], 30 if columns == 1 else 22))
    for axis in axes.flat[len(units):]:
        axis.set_visible(False)
    _finish_axes(axes, len(units), metric_label(data.attrs["_metric"]))
    handles = [_handle(s, styles[s.label]) for s in series] + _band_handles(drawn, alpha)
    place_legend(figure, [h for h, _ in handles], [label for _, label in handles])
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = drawn_frame(data)
    figure.caption = _caption(drawn, data, series, alpha)
    figure.alt = _alt(data, series, named)
    return figure


def _panel_title(about: dict, unit: str) -> str:
    """Name a panel: a target, or for a lens, which has one alone, the stimuli that count."""
    if about.get("analysis") != "logit_lens":
        return unit
    return "stimuli answered correctly" if about.get("share_correct") is not None else "all stimuli"


def _styles(series: list[Series]) -> dict:
    styles, trained, twins = {}, 0, 0
    for one in series:
        if one.twin:
            shade = ("#6f757f", "#9a9fa8", "#565b64", "#b0b4bb")[twins % 4]
            styles[one.label] = {"color": shade, "dashes": TWIN_DASHES[twins % 4], "marker": ""}
            twins += 1
        else:
            marker = "osD^vP"[trained // len(PALETTE) % 6]
            styles[one.label] = {"color": PALETTE[trained % len(PALETTE)], "dashes": (), "marker": marker}
            trained += 1
    return styles


def _panel(axis, data: xr.Dataset, series: list[Series], styles: dict, alpha: float) -> set:
    drawn = set()
    axis.axhline(0, color=FAINT, lw=0.8, zorder=0)
    drawn |= _null_band(axis, data, series)
    drawn |= _ceiling(axis, data) | _baseline(axis, data)
    for one in reversed(series):  # the first model lies on top
        depth = _depth(one)
        if one.twin:
            drawn |= _twin(axis, data, one, depth, styles[one.label])
        else:
            drawn |= _model(axis, data, one, depth, styles[one.label], alpha)
    return drawn


def _depth(one: Series) -> np.ndarray:
    """Depth of each layer; the order stands in where no depth is known."""
    if len(one.spaces) > 1 and np.isnan(one.depth).any():
        return np.linspace(0, 1, len(one.spaces))
    return one.depth


def _values(data: xr.Dataset, one: Series, name: str) -> np.ndarray:
    """Array of shape (n_depths, n_seeds), NaN where the variable or a seed is absent."""
    out = np.full((len(one.spaces), max(len(s) for s in one.spaces)), np.nan)
    if name in data:
        values = data[name].values
        for i, places in enumerate(one.spaces):
            out[i, : len(places)] = values[list(places)] if values.ndim else values
    return out


def _model(axis, data, one, depth, style, alpha) -> set:
    drawn = set()
    score, q = _values(data, one, "score")[:, 0], _values(data, one, "q")[:, 0]
    ends = ("ci_low", "ci_high") if "ci_low" in data else ("spread_low", "spread_high")
    low, high = (_values(data, one, name)[:, 0] for name in ends)
    band = np.isfinite(low) & np.isfinite(high)
    color = style["color"]
    if len(score) == 1:
        axis.axhline(score[0], color=color, lw=1.4, ls=(0, (6, 2)), zorder=3)
        if band.any():
            axis.axhspan(low[0], high[0], color=color, alpha=0.12, lw=0, zorder=1)
            drawn.add(ends[0])
        return drawn
    if band.any():
        axis.fill_between(depth, low, high, color=color, alpha=0.14, lw=0, zorder=2)
        drawn.add(ends[0])
    axis.plot(depth, score, color=color, zorder=4)
    size = float(np.clip(70 / len(score), 2.2, 5))
    significant = np.isfinite(q) & (q < alpha)
    if np.isfinite(q).any():
        axis.plot(depth[~significant], score[~significant], ls="", marker=style["marker"], ms=size, mfc="white",
                  mec=color, mew=1, zorder=5)
        axis.plot(depth[significant], score[significant], ls="", marker=style["marker"], ms=size, mfc=color,
                  mec=color, mew=1, zorder=5)
        drawn.add("q")
    return drawn


def _twin(axis, data, one, depth, style) -> set:
    score = _values(data, one, "score")
    mean = np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in score])
    if len(mean) == 1:
        axis.axhline(mean[0], color=style["color"], lw=1.2, dashes=style["dashes"], zorder=2)
        return set()
    if one.n_seeds > 1:
        axis.fill_between(depth, np.nanmin(score, 1), np.nanmax(score, 1), color=style["color"], alpha=0.28, lw=0,
                          zorder=1.5)
    axis.plot(depth, mean, color=style["color"], lw=1.2, dashes=style["dashes"], zorder=3)
    return {"twins"} if one.n_seeds > 1 else set()


def _null_band(axis, data, series) -> set:
    """One grey band: the envelope, over models, of null mean +- sd."""
    if not {"null_mean", "null_sd"} <= set(data.data_vars):
        return set()
    grid, low, high = np.linspace(0, 1, 201), [], []
    for one in series:
        if one.twin:
            continue
        mean, sd = _values(data, one, "null_mean")[:, 0], _values(data, one, "null_sd")[:, 0]
        known = np.isfinite(mean) & np.isfinite(sd)
        if not known.any():
            continue
        depth = np.zeros(1) if len(mean) == 1 else _depth(one)
        beyond = {} if len(mean) == 1 else {"left": np.nan, "right": np.nan}  # no layer there
        low.append(np.interp(grid, depth[known], (mean - sd)[known], **beyond))
        high.append(np.interp(grid, depth[known], (mean + sd)[known], **beyond))
    if not low:
        return set()
    there = np.isfinite(low).any(0)
    axis.fill_between(grid[there], np.nanmin(np.array(low)[:, there], 0), np.nanmax(np.array(high)[:, there], 0),
                      color=NULL, lw=0, zorder=0.5)
    return {"null"}


def _ceiling(axis, data) -> set:
    if "ceiling" not in data:
        return set()
    upper = float(np.nanmean(data["ceiling"])) if np.isfinite(data["ceiling"]).any() else np.nan
    if not np.isfinite(upper):
        return set()
    lower = data["ceiling_lower"].values if "ceiling_lower" in data else np.nan
    if np.isfinite(lower).any():
        axis.axhspan(float(np.nanmean(lower)), upper, color=CEILING, alpha=0.45, lw=0, zorder=0.6)
        return {"ceiling band"}
    axis.axhline(upper, color="#7d8591", lw=1, dashes=(2, 2), zorder=0.6)
    return {"ceiling line"}


def _baseline(axis, data) -> set:
    if "baseline" not in data or not np.isfinite(data["baseline"]).any():
        return set()
    axis.axhline(float(np.nanmean(data["baseline"])), color=INK, lw=1, dashes=(1, 1.5), zorder=1)
    return {"baseline"}


def _finish_axes(axes, n: int, label: str) -> None:
    columns = axes.shape[1]
    for i, axis in enumerate(axes.flat):
        axis.set_xlim(-0.03, 1.03)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.margins(y=0.08)
        axis.locator_params(axis="y", nbins=5)
        if i + columns >= n:  # nothing below it
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("relative depth")
        if i % columns == 0:
            axis.set_ylabel(label)


def _handle(one: Series, style: dict) -> tuple:
    flat = len(one.spaces) == 1 and not one.twin
    line = Line2D([], [], color=style["color"], lw=1.2 if one.twin else 1.6, ms=4,
                  marker="" if flat or one.twin else style["marker"])
    dashes = style["dashes"] or ((6, 2) if flat else None)
    if dashes:
        line.set_linestyle((0, dashes))
    band = one.twin and one.n_seeds > 1
    return (Patch(fc=style["color"], alpha=0.28), line) if band else line, shorten(one.label, 60)


def _band_handles(drawn: set, alpha: float) -> list[tuple]:
    handles = []
    if "ceiling band" in drawn:
        handles.append((Patch(fc=CEILING, alpha=0.45), "noise ceiling (lower to upper)"))
    if "ceiling line" in drawn:
        handles.append((Line2D([], [], color="#7d8591", lw=1, ls=(0, (2, 2))), "noise ceiling"))
    if "baseline" in drawn:
        handles.append((Line2D([], [], color=INK, lw=1, ls=(0, (1, 1.5))), "nuisance variables alone"))
    if "ci_low" in drawn:
        handles.append((Patch(fc=GREY, alpha=0.25), "interval of the score"))
    if "spread_low" in drawn:
        handles.append((Patch(fc=GREY, alpha=0.25), "quartiles over units"))
    if "null" in drawn:
        handles.append((Patch(fc=NULL), "null mean ± sd"))
    if "q" in drawn:
        handles.append((Line2D([], [], ls="", marker="o", ms=4.5, color=GREY), f"q < {alpha:g}"))
        handles.append((Line2D([], [], ls="", marker="o", ms=4.5, mfc="white", mec=GREY), "not significant"))
    return handles


def _caption(drawn: set, data, series, alpha) -> str:
    said, layers = [], [len(one.spaces) for one in series]
    if max(layers) == 1:
        said.append("Level lines: scores of spaces that have no depth.")
    elif min(layers) == 1:
        said.append("Score of each layer against its relative depth; level lines are of spaces that have no depth.")
    else:
        said.append("Score of each layer against its relative depth.")
    if "q" in drawn:
        said.append(f"Filled marks: q < {alpha:g}; open marks: not significant.")
    if "ci_low" in drawn:
        said.append("Coloured band: interval of the score.")
    if "spread_low" in drawn:
        said.append(f"Each line is a mean over units ({data.attrs['_n_units']:,} in all); coloured band: their "
                    "quartiles.")
    if "twins" in drawn:
        said.append("Grey band: range over the random initialisations, with their mean.")
    if {"ceiling band", "ceiling line"} & drawn:
        said.append("Noise ceiling: of the same aggregation as the score.")
    if "baseline" in drawn:
        said.append("Dotted: score of the nuisance variables alone, on the same folds.")
    if "null" in drawn:
        said.append("Lightest band: mean ± sd of the null.")
    return " ".join(said)


def _alt(data, series, named) -> str:
    parts = []
    for unit, name in list(named.items())[:8]:
        top = []
        for one in series[:4]:
            score = _values(data.sel(unit=unit), one, "score").mean(1)
            if np.isfinite(score).any():
                best = int(np.nanargmax(score))
                depth = _depth(one)[best]
                top.append(f"{one.label} " + (f"{score[best]:.2f}, one level line" if len(score) == 1 or np.isnan(depth)
                                              else f"highest {score[best]:.2f} at depth {depth:.2f}"))
        parts.append(f"{name}: {', '.join(top)}")
    return "Lines of score against layer depth. " + "; ".join(parts) + "."
