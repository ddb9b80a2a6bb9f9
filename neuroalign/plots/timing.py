"""Scores along time: curves with significant spans, and heat maps of layer by time."""

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuroalign.data.scores import attrs_of
from neuroalign.errors import check_option
from neuroalign.plots.select import drawn_frame, metric_label, picked_spaces, select, shorten, space_label, spaces_table
from neuroalign.plots.style import FAINT, GREY, INK, PALETTE, Figure, grid_shape, new_figure, place_legend, styled

__all__ = ["layer_time", "time_course"]

MOST_CURVES = len(PALETTE)
NULL = "#eceef1"


@styled
def time_course(scores: xr.Dataset, metric: str | None = None, targets=None, *, spaces=None, by: str | None = None,
                alpha: float = 0.05, title: str | None = None) -> Figure:
    """Draw the score against time from the event, one panel a target, one curve a space.

    Parameters
    ----------
    scores : Dataset
        With the dim ``time_bin`` (seconds), or of `neuroalign.lag_scores`: time is then the delay.
    metric, targets, by
        As for `layer_profile`.
    spaces : sequence of str, optional
        Space ids to draw, at most seven; all by default.
    alpha : float
        Spans of time with q below it (of `neuroalign.alignment.cluster_scores`: in clusters with p below it) are bars
        under the curves, in their colours.
    title : str, optional

    Returns
    -------
    Figure
        Bands: interval of each curve; null mean +- sd and noise ceiling in grey, where the Scores have them.
    """
    data = picked_spaces(select(scores, metric, targets, by, timed=True), spaces, MOST_CURVES, "layer_time(scores)")
    time, units = data["time_bin"].values.astype(float), [str(u) for u in data["unit"].values]
    rows, columns = grid_shape(len(units), 3)
    figure = new_figure((5.2 if columns == 1 else 3.1 * columns) + 0.5, (2.8 if columns == 1 else 2.2) * rows + 0.7)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    drawn = set()
    for i, (axis, unit) in enumerate(zip(axes.flat, units)):
        part = data.sel(unit=unit)
        drawn |= _background(axis, part, time)
        drawn |= _curves(axis, part, time)
        axis.set_title(shorten(unit, 30))
        axis.locator_params(axis="y", nbins=5)
        if i + columns >= len(units):
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(_time_label(data))
        if i % columns == 0:
            axis.set_ylabel(metric_label(data.attrs["_metric"]))
    for axis in axes.flat[len(units):]:
        axis.set_visible(False)
    tested = "p" if attrs_of(scores).get("analysis") == "cluster_scores" else "q"  # p of clusters is over all of them
    drawn |= _spans(axes, data, time, alpha, tested)
    handles = _handles(data, drawn, alpha)
    place_legend(figure, handles, [h.get_label() for h in handles])
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = drawn_frame(data)
    figure.caption = _caption(data, drawn, alpha)
    figure.alt = "Curves of score against time. " + _peaks(data, time)
    return figure


@styled
def layer_time(scores: xr.Dataset, metric: str | None = None, targets=None, *, model: str | None = None,
               stream: str | None = None, by: str | None = None, alpha: float = 0.05,
               title: str | None = None) -> Figure:
    """Draw a heat map of layer (upwards) by time for one model, one panel a target.

    Parameters
    ----------
    scores : Dataset
        With the dim ``time_bin`` (seconds), or of `neuroalign.lag_scores`: time is then the delay.
    metric, targets, by
        As for `layer_profile`.
    model, stream : str, optional
        The first of the Scores by default.
    alpha : float
        A line surrounds the cells with q below it.
    title : str, optional

    Returns
    -------
    Figure
    """
    data = select(scores, metric, targets, by, timed=True)
    table = spaces_table(data)
    model = check_option("model", model or table["model"].iloc[0], map(str, table["model"].unique()))
    own = table[table["model"] == model]
    stream = own["stream"].iloc[0] if stream is None else stream
    check_option("stream", stream, map(str, own["stream"].unique()))
    own = own[own["stream"] == stream].sort_values("depth", kind="stable")
    data = data.isel(space=own.index.to_numpy())
    time, units = data["time_bin"].values.astype(float), [str(u) for u in data["unit"].values]
    rows, columns = grid_shape(len(units), 3)
    height = float(np.clip(0.16 * len(own), 1.6, 5))
    figure = new_figure((4.6 if columns == 1 else 2.9 * columns) + 1.4, (height + 0.35) * rows + 0.6)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    cmap, norm, mark = _colours(data["score"].values)
    for i, (axis, unit) in enumerate(zip(axes.flat, units)):
        part = data.sel(unit=unit).transpose("space", "time_bin", ...)
        values = np.ma.masked_invalid(part["score"].values)
        mesh = axis.pcolormesh(_edges(time), np.arange(len(own) + 1) - 0.5, values, cmap=cmap, norm=norm,
                               rasterized=True)
        if "q" in part:
            _surround(axis, np.nan_to_num(part["q"].values, nan=1) < alpha, _edges(time), mark)
        if time.min() < 0 < time.max():
            axis.axvline(0, color=mark, lw=0.8, ls=(0, (3, 2)))
        axis.set_title(shorten(unit, 30))
        axis.spines[:].set_visible(False)
        _name_layers(axis, list(own["layer"]), height)
        if i + columns >= len(units):
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(_time_label(data))
    for axis in axes.flat[len(units):]:
        axis.set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.8 if rows == 1 else 0.5, aspect=16, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label(metric_label(data.attrs["_metric"]))
    figure.suptitle(title or shorten(model, 60), x=0.01, ha="left")
    figure.data = drawn_frame(data)
    outlined = f" A line surrounds q < {alpha:g}." if "q" in data else ""
    figure.caption = f"Score of the layers of {model} (input below, output above) against time.{outlined}"
    figure.alt = f"Heat maps of layer by time for {model}. " + _peaks(data, time)
    return figure


def _time_label(data) -> str:
    """Axes say what time is of: from the event, unless the coord has another ``long_name`` (delays)."""
    return data["time_bin"].attrs.get("long_name", "time from the event (s)")


def _background(axis, part, time) -> set:
    drawn = set()
    axis.axhline(0, color=FAINT, lw=0.8, zorder=0)
    if time.min() < 0 < time.max():
        axis.axvline(0, color=GREY, lw=0.8, ls=(0, (3, 2)), zorder=0)
    if {"null_mean", "null_sd"} <= set(part.data_vars) and np.isfinite(part["null_sd"]).any():
        mean = part["null_mean"].transpose("space", "time_bin").values
        sd = part["null_sd"].transpose("space", "time_bin").values
        axis.fill_between(time, np.nanmin(mean - sd, 0), np.nanmax(mean + sd, 0), color=NULL, lw=0, zorder=0.5)
        drawn.add("null")
    if "ceiling" in part and np.isfinite(part["ceiling"]).any():
        ceiling = part["ceiling"].mean("space") if "space" in part["ceiling"].dims else part["ceiling"]
        axis.plot(time, np.broadcast_to(ceiling.values, time.shape), color="#7d8591", lw=1, dashes=(2, 2), zorder=0.6)
        drawn.add("ceiling")
    return drawn


def _pens(data) -> list[tuple]:
    """Colour and dashes of every space: random twins are grey."""
    twin = spaces_table(data)["twin"].to_numpy()
    greys = ("#6f757f", "#9a9fa8", "#565b64", "#b0b4bb")
    place = np.where(twin, np.cumsum(twin), np.cumsum(~twin)) - 1
    return [(greys[k % 4], (4, 2)) if t else (PALETTE[k], (None, None)) for t, k in zip(twin, place)]


def _curves(axis, part, time) -> set:
    drawn, pens = set(), _pens(part)
    ends = ("ci_low", "ci_high") if "ci_low" in part else ("spread_low", "spread_high")
    for i, space in enumerate(part["space"].values):
        one = part.sel(space=space)
        if ends[0] in one and np.isfinite(one[ends[0]]).any():
            axis.fill_between(time, one[ends[0]].values, one[ends[1]].values, color=pens[i][0], alpha=0.15, lw=0)
            drawn.add(ends[0])
        axis.plot(time, one["score"].values, color=pens[i][0], dashes=pens[i][1], zorder=3)
    return drawn


def _spans(axes, data, time, alpha, tested) -> set:
    """Bars under the curves of all panels, where q (p of clusters) is below alpha: one line a space."""
    if tested not in data or not np.isfinite(data[tested]).any():
        return set()
    low, high = axes.flat[0].get_ylim()
    pens = _pens(data)
    step, edges = 0.045 * (high - low), _edges(time)
    for axis, unit in zip(axes.flat, data["unit"].values):
        for i, space in enumerate(data["space"].values):
            small = np.nan_to_num(data[tested].sel(unit=unit, space=space).values, nan=1) < alpha
            for start, stop in _runs(small):
                axis.plot([edges[start], edges[stop]], [low - (i + 0.5) * step] * 2, color=pens[i][0], lw=3,
                          solid_capstyle="butt")
    axes.flat[0].set_ylim(low - (data.sizes["space"] + 0.3) * step, high)
    return {tested}


def _runs(mask) -> list[tuple[int, int]]:
    """Return (start, stop) of every run of True."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, int), [0]])))
    return list(zip(change[::2].tolist(), change[1::2].tolist()))


def _edges(time) -> np.ndarray:
    """Return the edges of bins from their centres."""
    if len(time) == 1:
        return np.array([time[0] - 0.5, time[0] + 0.5])
    middle = (time[1:] + time[:-1]) / 2
    return np.concatenate([[2 * time[0] - middle[0]], middle, [2 * time[-1] - middle[-1]]])


def _surround(axis, mask, edges, color) -> None:
    """Draw the outline of the cells where mask is true."""
    padded = np.pad(mask, 1)
    for row, column in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        axis.plot([edges[column]] * 2, [row - 0.5, row + 0.5], color=color, lw=1.1)
    for row, column in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        axis.plot([edges[column], edges[column + 1]], [row - 0.5] * 2, color=color, lw=1.1)


def _name_layers(axis, layers, height) -> None:
    step = int(np.ceil(len(layers) * 0.14 / height))
    at = list(range(0, len(layers), step))
    axis.set_yticks(at, [shorten(str(layers[k]), 22) for k in at])
    axis.tick_params(axis="y", length=0, labelsize=7.5)


def _colours(values):
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if low < -0.1 * max(high, 0):
        most = max(abs(low), abs(high))
        return mpl.colormaps["RdBu_r"].with_extremes(bad=FAINT), TwoSlopeNorm(0, -most, most), INK
    return mpl.colormaps["viridis"].with_extremes(bad=FAINT), Normalize(min(low, 0), high or 1.0), "white"


def _handles(data, drawn, alpha) -> list:
    table = spaces_table(data)
    names = [space_label(s) for s in table["space"]] if table["model"].duplicated().any() else list(table["model"])
    handles = [Line2D([], [], color=color, dashes=dashes, label=shorten(name, 50))
               for name, (color, dashes) in zip(names, _pens(data))]
    for tested, label in (("q", f"q < {alpha:g}"), ("p", f"clusters, p < {alpha:g}")):
        if tested in drawn:
            handles.append(Line2D([], [], color=GREY, lw=3, solid_capstyle="butt", label=label))
    if "ceiling" in drawn:
        handles.append(Line2D([], [], color="#7d8591", lw=1, ls=(0, (2, 2)), label="noise ceiling"))
    if "null" in drawn:
        handles.append(Patch(fc=NULL, label="null mean ± sd"))
    return handles


def _caption(data, drawn, alpha) -> str:
    said = [f"{metric_label(data.attrs['_metric'])} against {_time_label(data).removesuffix(' (s)')}."]
    if "q" in drawn:
        said.append(f"Bars: spans of time with q < {alpha:g}.")
    if "p" in drawn:
        said.append(f"Bars: spans of time in clusters with p < {alpha:g}, corrected for all sites and times.")
    if "ci_low" in drawn:
        said.append("Coloured band: interval of the score.")
    if "spread_low" in drawn:
        said.append(f"Curves are means over units ({data.attrs['_n_units']:,} in all), bands their quartiles.")
    if "ceiling" in drawn:
        said.append("Dashed: noise ceiling of the same aggregation.")
    if "null" in drawn:
        said.append("Lightest band: mean ± sd of the null.")
    return " ".join(said)


def _peaks(data, time) -> str:
    parts = []
    for unit in data["unit"].values[:8]:
        score = data["score"].sel(unit=unit).transpose("space", "time_bin").values
        if np.isfinite(score).any():
            space, at = np.unravel_index(np.nanargmax(score), score.shape)
            name = space_label(str(data["space"].values[space]))
            parts.append(f"{unit}: highest {score[space, at]:.2f} at {time[at]:.2f} s ({name})")
    return "; ".join(parts) + "."
