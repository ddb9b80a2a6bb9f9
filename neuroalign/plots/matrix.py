"""Heat maps of spaces against targets."""

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import Normalize, TwoSlopeNorm

from neuroalign.plots.select import drawn_frame, metric_label, select, shorten, spaces_table
from neuroalign.plots.style import FAINT, GREY, Figure, new_figure, styled, text_on

__all__ = ["matrix"]

MOST_NUMBERS = 500


@styled
def matrix(scores: xr.Dataset, metric: str | None = None, targets=None, *, by: str | None = None,
           alpha: float = 0.05, numbers: bool | None = None, title: str | None = None) -> Figure:
    """Draw a heat map: one row a space, grouped by model, one column a target.

    The random twins of a model are one group: the mean over their seeds, without marks of significance.

    Parameters
    ----------
    scores : Dataset
    metric : str, optional
        The first of the Scores by default.
    targets, by
        As for `layer_profile`.
    alpha : float
        Cells with q below it carry a dot.
    numbers : bool, optional
        Write the values into the cells; by default where there is room.
    title : str, optional

    Returns
    -------
    Figure
    """
    data = select(scores, metric, targets, by)
    groups = _groups(data)
    labels = [label for _, rows in groups for label, _ in rows]
    spaces = [names for _, rows in groups for _, names in rows]
    units = [str(u) for u in data["unit"].values]
    values = np.array([_mean(data["score"], names) for names in spaces])
    marked = np.array([_marks(data, names, alpha) for names in spaces])
    numbers = len(spaces) * len(units) <= MOST_NUMBERS if numbers is None else numbers
    cell = 0.62 if numbers else 0.36
    long_names = max(len(shorten(u)) for u in units) > cell * 15
    height = 0.25 if len(spaces) <= 40 else 0.145
    left = 0.075 * max(len(shorten(label, 44)) for label in labels)
    figure = new_figure(max(left + cell * len(units) + 1.6, 3.6),
                        max(height * len(spaces) + (1.7 if long_names else 1.1), 2.9 if long_names else 2.4))
    axis = figure.subplots()
    cmap, norm = _colours(values)
    image = axis.imshow(np.ma.masked_invalid(values), cmap=cmap, norm=norm, aspect="auto")
    axis.set_yticks(range(len(labels)), [shorten(label, 44) for label in labels])
    axis.set_xticks(range(len(units)), [shorten(u) for u in units], rotation=35 if long_names else 0,
                    ha="left" if long_names else "center", rotation_mode="anchor")
    axis.tick_params(axis="y", labelsize=8 if len(spaces) <= 40 else 6.5)
    axis.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    _cells(axis, values, marked, numbers, cmap, norm)
    _separate(axis, groups, len(units))
    bar = figure.colorbar(image, ax=axis, aspect=14, pad=0.03, anchor=(0, 1),
                          shrink=min(1.0, 2.2 / figure.get_figheight()))
    bar.outline.set_visible(False)
    bar.set_label(metric_label(data.attrs["_metric"]))
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = drawn_frame(data)
    figure.caption = _caption(data, groups, marked, alpha)
    figure.alt = _alt(data, labels, units, values)
    return figure


def _groups(data: xr.Dataset) -> list[tuple[str, list]]:
    """Return (model, [(row label, spaces of the row)]), trained models first."""
    table = spaces_table(data)
    several_models = table["model"].nunique() > 1
    groups = []
    for (twin, base), part in table.groupby(["twin", "base"], sort=False):
        seeds = part["seed"].nunique()
        name = base if not twin else f"{base}\nrandom weights" + (f"\nmean of {seeds}" if seeds > 1 else "")
        part = part.sort_values("depth", kind="stable")
        streams = part["stream"].nunique() > 1
        rows = []
        for (layer, stream), same in part.groupby(["layer", "stream"], sort=False):
            label = f"{layer} · {stream}" if streams and stream else str(layer)
            if twin or len(same) == 1:
                rows.append((label, list(same["space"])))
            else:  # spaces that differ in something else (a delay, a part): a row each
                rows += [(str(space), [space]) for space in same["space"]]
        if len(rows) == 1 and several_models:
            label, names = rows[0]
            rows = [(name.replace("\n", ", ") + (f" · {label}" if label else ""), names)]
            name = ""
        groups.append((twin, name, rows))
    return [g[1:] for g in sorted(groups, key=lambda g: g[0])]


def _mean(values: xr.DataArray, names) -> np.ndarray:
    picked = values.sel(space=list(names)).transpose("space", "unit").values
    known = np.isfinite(picked).any(0)
    return np.where(known, np.nansum(picked, 0) / np.maximum(np.isfinite(picked).sum(0), 1), np.nan)


def _marks(data, names, alpha) -> np.ndarray:
    if "q" not in data or len(names) > 1:
        return np.zeros(data.sizes["unit"], bool)
    return np.nan_to_num(data["q"].sel(space=names[0]).values, nan=1.0) < alpha


def _colours(values: np.ndarray):
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if low < 0:
        most = max(abs(low), abs(high)) or 1.0
        cmap = mpl.colormaps["RdBu_r"].with_extremes(bad=FAINT)
        return cmap, TwoSlopeNorm(0, -most, most)
    return mpl.colormaps["viridis"].with_extremes(bad=FAINT), Normalize(0, high or 1.0)


def _cells(axis, values, marked, numbers, cmap, norm) -> None:
    dots = {}
    for (row, column), value in np.ndenumerate(values):
        color = text_on(cmap(norm(value))) if np.isfinite(value) else GREY
        if numbers:
            said = f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−") if np.isfinite(value) else "–"
            axis.text(column, row, said, ha="center", va="center", color=color,
                      fontsize=7.5 if len(values) <= 40 else 6.5)
        if marked[row, column]:
            place = (column + 0.38, row - 0.22) if numbers else (column, row)
            dots.setdefault(color, []).append(place)
    for color, places in dots.items():
        axis.plot(*np.transpose(places), ls="", marker="o", ms=2.8, color=color, mec="none")


def _separate(axis, groups, n_units: int) -> None:
    """White lines between models, and the name of each model on the far left."""
    ticks = axis.get_yticklabels()
    widest = max(ticks, key=lambda t: t.get_window_extent().width)
    start, row_height = 0, axis.figure.get_figheight() / sum(len(rows) for _, rows in groups)
    for i, (name, rows) in enumerate(groups):
        if i:
            axis.axhline(start - 0.5, color="white", lw=4)
        if name and len(groups) > 1 and len(rows) > 1:
            axis.annotate(_fit(name, len(rows) * row_height), (0, start + (len(rows) - 1) / 2), rotation=90,
                          xycoords=(widest, "data"), textcoords="offset points",
                          xytext=(-10, 0), ha="right", va="center", fontsize=8.5, fontweight="bold")
        start += len(rows)


def _fit(name: str, inches: float) -> str:
    return "\n".join(shorten(line, max(4, int(inches / 0.08))) for line in name.split("\n"))


def _caption(data, groups, marked, alpha) -> str:
    said = [f"{metric_label(data.attrs['_metric'])} of every space (rows) with every target (columns)."]
    if marked.any():
        said.append(f"Dot: q < {alpha:g}.")
    if any("random" in name for name, _ in groups):
        said.append("Rows of random networks are means over their seeds, where there are several.")
    if "_by" in data.attrs:
        said.append(f"Columns are means over units ({data.attrs['_n_units']:,} in all).")
    return " ".join(said)


def _alt(data, labels, units, values) -> str:
    parts = []
    for j, unit in enumerate(units[:10]):
        if np.isfinite(values[:, j]).any():
            best = int(np.nanargmax(values[:, j]))
            parts.append(f"{unit}: highest {values[best, j]:.2f} ({labels[best]})")
    return f"Heat map of {len(labels)} spaces by {len(units)} targets. " + "; ".join(parts) + "."
