"""Scores of targets as bars."""

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import (
    drawn_frame,
    format_p,
    metric_label,
    picked_spaces,
    select,
    shorten,
    space_label,
    spaces_table,
)
from neuroalign.plots.style import GREY, INK, PALETTE, Figure, new_figure, place_legend, styled

__all__ = ["bars"]

MOST_TARGETS, MOST_SPACES = 24, 8
NULL, CEILING = "#c3c8d0", "#59606b"


@styled
def bars(scores: xr.Dataset, metric: str | None = None, targets=None, *, spaces=None, by: str | None = None,
         alpha: float = 0.05, title: str | None = None) -> Figure:
    """Draw one group of bars a target, one bar a space.

    Parameters
    ----------
    scores : Dataset
        Drawn where present: interval (``ci_low``, ``ci_high``) as whiskers, ``subject_score`` (or, with
        ``by="region"``, the units of each subject) as points, ``baseline`` (nuisance variables alone) as a black
        mark, null mean +- sd as a grey box behind the bar, ``ceiling`` as a dashed mark.
    metric : str, optional
        The first of the Scores by default.
    targets, by
        As for `layer_profile`; at most 24 targets.
    spaces : sequence of str, optional
        Space ids to draw, at most 8; all by default.
    alpha : float
        Bars with q below it are filled, others pale.
    title : str, optional

    Returns
    -------
    Figure
    """
    data = picked_spaces(select(scores, metric, targets, by), spaces, MOST_SPACES, "matrix(scores)")
    names, units = [str(s) for s in data["space"].values], [str(u) for u in data["unit"].values]
    if len(units) > MOST_TARGETS:
        raise ValueError(f"bars: got {len(units)} targets, expected at most {MOST_TARGETS}. Choose some with "
                         "targets=[...], average with by='region', or draw matrix(scores).")
    figure = new_figure(max(1.5 + len(units) * max(0.95, 0.34 * len(names) + 0.3), 4.4), 3.6)
    axis = figure.subplots()
    step = 0.78 / len(names)
    drawn = set()
    for i, name in enumerate(names):
        at = np.arange(len(units)) + (i - (len(names) - 1) / 2) * step
        drawn |= _series(axis, data.sel(space=name), at, step, PALETTE[i % len(PALETTE)], alpha)
    drawn |= _subjects(axis, scores, data, names, units, step)
    _annotate(axis, data, names, step, alpha)
    axis.axhline(0, color="#6b7079", lw=0.7, zorder=4)
    axis.set_xticks(range(len(units)), [shorten(u, 18) for u in units],
                    rotation=30 if max(map(len, units)) > 9 and len(units) > 5 else 0,
                    ha="right" if max(map(len, units)) > 9 and len(units) > 5 else "center", rotation_mode="anchor")
    axis.tick_params(axis="x", length=0, labelsize=9)
    axis.set_xlim(-0.6, len(units) - 0.4)
    differs = attrs_of(scores).get("analysis") == "difference"
    measured = ("difference, " if differs else "") + metric_label(data.attrs["_metric"])
    axis.set_ylabel(measured)
    handles = _handles(drawn, data, names)
    place_legend(figure, handles, [h.get_label() for h in handles])
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = drawn_frame(data)
    figure.caption = _caption(drawn, measured, data, names, alpha)
    figure.alt = "Bars of scores. " + "; ".join(
        f"{u}: {', '.join(f'{v:.2f}' for v in data['score'].sel(unit=u).values)}" for u in units[:12]) + "."
    return figure


def _series(axis, data, at, step, color, alpha) -> set:
    drawn = set()
    has_null = {"null_mean", "null_sd"} <= set(data.data_vars) and np.isfinite(data["null_sd"]).any()
    width = step * (0.68 if has_null else 0.86)
    beside = at + 0.4 * step  # the null stands beside the bar, not on it
    at = at - (0.06 * step if has_null else 0)
    score = data["score"].values
    q = data["q"].values if "q" in data else np.full(score.shape, np.nan)
    pale = np.isfinite(q) & (q >= alpha)
    if np.isfinite(q).any():
        drawn.add("q")
    for x, value, weak in zip(at, score, pale):
        axis.bar(x, value, width, color=color, alpha=0.3 if weak else 0.9, lw=0, zorder=2)
    if has_null:
        mean, sd = data["null_mean"].values, data["null_sd"].values
        axis.vlines(beside, mean - sd, mean + sd, color=NULL, lw=float(np.clip(40 * step / 5, 3, 6)), zorder=2)
        axis.plot(beside, mean, ls="", marker="_", color=CEILING, ms=float(np.clip(40 * step / 5, 3, 6)), zorder=3)
        drawn.add("null")
    if "baseline" in data and np.isfinite(data["baseline"]).any():
        axis.hlines(data["baseline"].values, at - width / 2, at + width / 2, color=INK, lw=2, zorder=5)
        drawn.add("baseline")
    if "ceiling" in data and np.isfinite(data["ceiling"]).any():
        axis.hlines(data["ceiling"].values, at - step / 2, at + step / 2, color=CEILING, lw=1.1, ls=(0, (3, 1.5)),
                    zorder=3)
        drawn.add("ceiling")
    for low, high in (("ci_low", "ci_high"), ("spread_low", "spread_high")):
        if low in data and np.isfinite(data[low]).any():
            axis.vlines(at, data[low].values, data[high].values, color=INK, lw=1.1, zorder=4)
            drawn.add(low)
            break
    return drawn


def _subjects(axis, scores, data, names, units, step) -> set:
    """Points of single subjects, from `subject_score` or from the averaged units of each subject."""
    points = _subject_points(scores, data, names)
    if points is None:
        return set()
    for i, name in enumerate(names):
        for j, unit in enumerate(units):
            values = points(name, unit)
            values = values[np.isfinite(values)]
            x = j + (i - (len(names) - 1) / 2) * step + np.linspace(-0.22, 0.22, len(values) + 2)[1:-1] * step
            axis.plot(x, values, ls="", marker="o", ms=3, mfc="white", mec=INK, mew=0.7, alpha=0.9, zorder=6)
    return {"subjects"}


def _subject_points(scores, data, names):
    metric, by = data.attrs["_metric"], data.attrs.get("_by")
    if "subject_score" in data and by is None:
        return lambda name, unit: data["subject_score"].sel(space=name, unit=unit).values.ravel()
    dim = data.attrs["_unit"]
    if by not in (None, "subject", "all") and {"subject", by} <= set(scores.coords):
        frame = scores["score"].sel(metric=metric, space=names).to_dataframe().reset_index()
        frame = frame[[d for d in ("space", by, "subject", dim, "score") if d in frame]]
        means = frame.groupby(["space", by, "subject"])["score"].mean()
        return lambda name, unit: means[name].xs(unit, level=by).to_numpy() if (name in means) else np.array([])
    return None


def _annotate(axis, data, names, step, alpha) -> None:
    """Write q (or p) above the bars while there is room for words, else a star."""
    which = "q" if "q" in data else "p" if "p" in data else None
    if which is None:
        return
    tops = [v for v in ("score", "ci_high", "spread_high", "baseline", "subject_score") if v in data]
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.09 * (high - low))
    for i, name in enumerate(names):
        part = data.sel(space=name)
        for j in range(data.sizes["unit"]):
            value = float(part[which].values[j])
            if not np.isfinite(value):
                continue
            said = format_p(value, which) if len(names) <= 1 else ("*" if value < alpha else "")
            stack = [np.nanmax(np.atleast_1d(part[v].isel(unit=j).values)) for v in tops
                     if np.isfinite(part[v].isel(unit=j).values).any()]
            x, top = j + (i - (len(names) - 1) / 2) * step, _above(max(0, *stack, 0), part, j, high - low)
            axis.annotate(said, (x, top), xytext=(0, 3), textcoords="offset points", ha="center", va="bottom",
                          fontsize=7.5, color=INK if value < alpha else GREY)


def _above(top: float, part, j: int, span: float) -> float:
    """Step over the ceiling's mark where the words would lie on it."""
    ceiling = float(part["ceiling"].values[j]) if "ceiling" in part else np.nan
    return ceiling if top - 0.02 * span < ceiling < top + 0.08 * span else top


def _handles(drawn, data, names) -> list:
    table = spaces_table(data).set_index("space")
    layers = table["layer"].nunique() > 1 or table["model"].nunique() < len(table)
    handles = []
    for i, name in enumerate(names):
        row = table.loc[name]
        label = space_label(row["model"]) + (f" · {row['layer']}" if layers and row["layer"] else "")
        handles.append(Patch(fc=PALETTE[i % len(PALETTE)], alpha=0.9, label=shorten(label, 44)))
    if "baseline" in drawn:
        handles.append(Line2D([], [], color=INK, lw=2, label="nuisance variables alone"))
    if "ceiling" in drawn:
        handles.append(Line2D([], [], color=CEILING, lw=1.1, ls=(0, (3, 1.5)), label="noise ceiling"))
    if "null" in drawn:
        handles.append(Line2D([], [], ls="", marker="s", ms=7, mfc=NULL, mec="none", label="null mean ± sd"))
    if "subjects" in drawn:
        handles.append(Line2D([], [], ls="", marker="o", ms=3.5, mfc="white", mec=INK, label="single subjects"))
    return handles


def _caption(drawn, measured, data, names, alpha) -> str:
    said = [f"{measured} of every target."]
    if "q" in drawn:
        star = " and a star" if len(names) > 1 else ""
        said.append(f"Full colour{star}: q < {alpha:g}; pale: not significant.")
    if "baseline" in drawn:
        said.append("Black mark: score of the nuisance variables alone, on the same folds.")
    if "null" in drawn:
        said.append("Grey, beside the bar: mean ± sd of the null.")
    if "ci_low" in drawn:
        said.append("Whiskers: interval of the score.")
    if "spread_low" in drawn:
        said.append(f"Bars are means over units ({data.attrs['_n_units']:,} in all), whiskers their quartiles.")
    if "ceiling" in drawn:
        said.append("Dashed mark: noise ceiling of the same aggregation.")
    if "subjects" in drawn:
        said.append("Points: single subjects.")
    return " ".join(said)
