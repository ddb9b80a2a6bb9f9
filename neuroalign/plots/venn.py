"""Unique and shared parts of explained variance as overlapping circles."""

from itertools import combinations

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke

from neuroalign.data.scores import attrs_of
from neuroalign.plots.partition import said_of_nuisance
from neuroalign.plots.select import drawn_frame, select, shorten
from neuroalign.plots.style import INK, Figure, grid_shape, new_figure, styled, text_on

__all__ = ["venn"]

MOST_PANELS = 6
NEGATIVE, HATCH = "#f0e6d8", "#c9ae88"
# Centres of circles of radius 1, and where the name of each stands.
CENTRES = {2: np.array([[-0.55, 0.0], [0.55, 0.0]]), 3: np.array([[-0.55, 0.35], [0.55, 0.35], [0.0, -0.6]])}
NAMES = {2: [(-0.75, 1.06, "center"), (0.75, 1.06, "center")],
         3: [(-0.75, 1.42, "center"), (0.75, 1.42, "center"), (0.0, -1.68, "center")]}


@styled
def venn(scores: xr.Dataset, targets=None, *, by: str | None = None, title: str | None = None) -> Figure:
    """Draw what two or three bands of features explain alone and together, one panel a target.

    The circles are all of one size: three areas and four overlaps cannot all be true to scale, and a negative part has
    no area at all. Each region says its part in numbers and by its colour.

    Parameters
    ----------
    scores : Dataset
        What `neuroalign.partition_variance` returns for two or three bands; for more draw `partition`.
    targets, by
        As for `layer_profile`; at most 6 panels.
    title : str, optional

    Returns
    -------
    Figure
        A star marks parts whose interval excludes zero, where the Scores have intervals.
    """
    bands = sorted(attrs_of(scores).get("bands") or {})
    if "part" not in scores.coords or not bands:
        raise ValueError("venn: these Scores have no parts. Make them with neuroalign.partition_variance.")
    if len(bands) not in CENTRES:
        raise ValueError(f"venn: got {len(bands)} bands, expected 2 or 3. Draw partition(scores).")
    data = select(scores, None, targets, by)
    data = data.isel(unit=data["score"].notnull().any("space").values)  # a neuroid may have no score
    units = [str(u) for u in data["unit"].values]
    if not units:
        raise ValueError("venn: no target has a score; every one is NaN. Choose others with targets=[...].")
    if len(units) > MOST_PANELS:
        raise ValueError(f"venn: got {len(units)} targets, expected at most {MOST_PANELS}. Choose some with "
                         "targets=[...], or average with by='region' or by='all'.")
    whole = data["score"].sel(space=" + ".join(bands))
    parts = data.isel(space=np.isin(data["part"].values, ["unique", "shared"]))
    values = {unit: _members(parts.sel(unit=unit), bands) for unit in units}
    most = max(max(v for v, _ in one.values() if np.isfinite(v)) for one in values.values())
    cmap, norm = mpl.colormaps["Blues"], Normalize(0, most if most > 0 else 1.0)
    rows, columns = grid_shape(len(units), 3)
    side = 2.5 if len(bands) == 2 else 2.7
    figure = new_figure(side * columns + 1.3, (side + (0.1 if len(bands) == 3 else -0.4)) * rows + 0.35)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, unit in zip(axes.flat, units):
        _circles(axis, values[unit], bands, cmap, norm)
        axis.set_title(f"{shorten(unit, 22)}   R² {float(whole.sel(unit=unit)):.3f}".replace("-", "−"))
    for axis in axes.flat[len(units):]:
        axis.set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, cmap), ax=axes, shrink=0.6 if rows == 1 else 0.35, aspect=14, pad=0.03)
    bar.outline.set_visible(False)
    bar.locator = mpl.ticker.MaxNLocator(4)
    bar.set_label("part of the R²")
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = drawn_frame(data)
    figure.caption = _caption(data, any(s for one in values.values() for _, s in one.values()))
    figure.alt = "Circles of unique and shared variance. " + "; ".join(
        f"{unit}: " + ", ".join(f"{' & '.join(m)} {v:.3f}" for m, (v, _) in values[unit].items())
        for unit in units) + "."
    return figure


def _members(part: xr.Dataset, bands) -> dict[tuple, tuple[float, bool]]:
    """Return the value of each part, and whether its interval excludes zero, by the bands that share it."""
    found = {}
    for members in (c for k in range(1, len(bands) + 1) for c in combinations(bands, k)):
        name = f"{members[0]}, unique" if len(members) == 1 else f"{' & '.join(members)}, shared"
        one = part.sel(space=name)
        clear = "ci_low" in one and bool((one["ci_low"] > 0) | (one["ci_high"] < 0))
        found[members] = (float(one["score"]), clear)
    return found


def _circles(axis, values, bands, cmap, norm) -> None:
    centres = CENTRES[len(bands)]
    for members, (value, clear) in values.items():  # single bands first: overlaps are painted over them
        inside = [bands.index(b) for b in members]
        color = cmap(norm(value)) if value >= 0 else mpl.colors.to_rgba(NEGATIVE)
        outline = _overlap(centres[inside])
        axis.add_patch(Polygon(outline, fc=color, ec=HATCH, hatch="///" if value < 0 else None, lw=0, zorder=2))
        said = f"{value:.3f}".replace("-", "−") + ("*" if clear else "")
        words = axis.text(*_middle(inside, centres), said, ha="center", va="center", fontsize=8.5,
                          color=text_on(color), zorder=5)
        if value < 0:
            words.set_path_effects([withStroke(linewidth=2.5, foreground=NEGATIVE)])
    for k, (name, (x, y, ha)) in enumerate(zip(bands, NAMES[len(bands)])):
        axis.add_patch(mpl.patches.Circle(centres[k], 1.0, fill=False, ec=INK, lw=1.0, zorder=4))
        axis.text(x, y, shorten(name, 16), ha=ha, va="bottom" if y > 0 else "top", fontsize=9)
    high, low = (1.3, -1.1) if len(bands) == 2 else (1.65, -1.95)
    axis.set(xlim=(-1.7, 1.7), ylim=(low, high), aspect="equal")
    axis.set_axis_off()


def _overlap(centres: np.ndarray) -> np.ndarray:
    """Return the outline of what unit circles around `centres` have in common (a convex shape)."""
    angle = np.linspace(0, 2 * np.pi, 721)
    rim = (centres[:, None] + np.stack([np.cos(angle), np.sin(angle)], -1)).reshape(-1, 2)
    rim = rim[(np.linalg.norm(rim[:, None] - centres, axis=-1) <= 1 + 1e-9).all(1)]
    around = rim - rim.mean(0)
    return rim[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]


def _middle(inside, centres) -> np.ndarray:
    """Return the point farthest from all rims within the region that lies in these circles alone."""
    grid = np.stack(np.meshgrid(np.linspace(-1.6, 1.6, 161), np.linspace(-1.7, 1.5, 161)), -1).reshape(-1, 2)
    depth = 1 - np.linalg.norm(grid[:, None] - centres, axis=-1)
    depth[:, [k for k in range(len(centres)) if k not in inside]] *= -1
    return grid[depth.min(1).argmax()]


def _caption(data, stars) -> str:
    said = ("Parts of the held-out R² that all bands explain together (R² beside the name). Circles are not to scale: "
            "numbers and colour say how large a part is; hatched parts are negative.")
    if stars:
        said += " Star: its interval excludes zero."
    return said + said_of_nuisance(data) + (" Means over units." if "spread_low" in data else "")
