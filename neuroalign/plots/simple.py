"""Small figures: a scatter, and differences with their intervals."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.patheffects import withStroke

from neuroalign.data import scores as scores_
from neuroalign.errors import check_option, list_ids
from neuroalign.plots.select import metric_label, shorten, space_label
from neuroalign.plots.style import FAINT, GREY, INK, PALETTE, Figure, new_figure, styled

__all__ = ["difference", "scatter"]

MOST_ROWS = 60


@styled
def scatter(x, y, *, xlabel: str, ylabel: str, ids=None, name_extremes: int = 0, title: str | None = None) -> Figure:
    """Draw y against x with their Spearman correlation, for instance human rating against model similarity.

    Parameters
    ----------
    x, y : array of shape (n,)
        Pairs with a NaN are left out and counted in the corner.
    xlabel, ylabel : str
        With units where there are any.
    ids : sequence of str, optional
    name_extremes : int
        How many points to name by their `ids`: those whose ranks in x and y differ most.
    title : str, optional

    Returns
    -------
    Figure
    """
    x, y = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    from scipy.stats import spearmanr  # a second of import

    if x.shape != y.shape:
        raise ValueError(f"scatter: x has {x.size} values and y has {y.size}; expected as many.")
    known = np.isfinite(x) & np.isfinite(y)
    figure = new_figure(4.2, 3.9)
    axis = figure.subplots()
    axis.plot(x[known], y[known], ls="", marker="o", mec="none", color=PALETTE[0],
              ms=float(np.clip(60 / np.sqrt(max(known.sum(), 1)), 2.4, 6)),
              alpha=float(np.clip(150 / max(known.sum(), 1), 0.25, 0.85)))
    rho = spearmanr(x[known], y[known]).statistic if known.sum() > 2 else np.nan
    said = f"ρ = {rho:.2f}   n = {known.sum():,}"
    if not known.all():
        said += f"   ({(~known).sum():,} without a value)"
    axis.text(0, 1.01, said, transform=axis.transAxes, ha="left", va="bottom", fontsize=9, fontweight="bold")
    if ids is not None and name_extremes:
        _name(axis, x, y, known, [str(i) for i in ids], name_extremes)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.margins(0.05)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    named = {"id": [str(i) for i in ids]} if ids is not None else {}
    figure.data = pd.DataFrame(named | {xlabel: x, ylabel: y})
    figure.caption = f"{ylabel} against {xlabel}; ρ is Spearman's rank correlation."
    figure.alt = f"Scatter of {known.sum()} points, {ylabel} against {xlabel}, Spearman correlation {rho:.2f}."
    return figure


def _name(axis, x, y, known, ids, n) -> None:
    """Name the n points whose ranks differ most, skipping a name that would lie on another."""
    at = np.flatnonzero(known)
    gap = np.abs(x[at].argsort().argsort() - y[at].argsort().argsort())
    width, height = np.ptp(x[at]) or 1.0, np.ptp(y[at]) or 1.0
    placed = []
    for i in at[np.argsort(-gap, kind="stable")]:
        if len(placed) == n:
            return
        if any(abs(x[i] - a) < 0.25 * width and abs(y[i] - b) < 0.05 * height for a, b in placed):
            continue
        placed.append((x[i], y[i]))
        left = x[i] < np.median(x[at])
        if min(x[i] - x[at].min(), x[at].max() - x[i]) < 0.2 * width:  # no room beside the frame
            left = not left
        axis.plot(x[i], y[i], marker="o", ms=4, mfc="none", mec=INK, mew=0.8)
        words = axis.annotate(shorten(ids[i], 24), (x[i], y[i]), xytext=(-6 if left else 6, 0),
                              fontsize=7.5, color=INK, textcoords="offset points", va="center",
                              ha="right" if left else "left")
        words.set_path_effects([withStroke(linewidth=2, foreground="white")])


@styled
def difference(diffs: xr.Dataset, metric: str | None = None, *, title: str | None = None) -> Figure:
    """Draw paired differences with their intervals, one row a target (a forest plot).

    Parameters
    ----------
    diffs : Dataset
        What `neuroalign.scores.diff` returns, or several of them joined with `concat`.
    metric : str, optional
        The first by default.
    title : str, optional

    Returns
    -------
    Figure
        Rows whose interval excludes zero are filled and coloured; nothing else may be called a lead.
    """
    scores_.validate(diffs)
    plain = [str(s) for s in diffs["space"].values if " - " not in str(s)]
    if plain or "ci_low" not in diffs:
        raise ValueError(f"difference: {list_ids(plain or ['the Scores'])} are no differences of two spaces with their "
                         "intervals. Make them with neuroalign.scores.diff(scores, space, other).")
    names = [str(m) for m in diffs["metric"].values]
    metric = check_option("metric", metric or names[0], names)
    frame = scores_.to_frame(diffs.sel(metric=[metric]))
    if len(frame) > MOST_ROWS:
        raise ValueError(f"difference: got {len(frame)} rows, expected at most {MOST_ROWS}. Choose some targets "
                         "or spaces with .sel first.")
    unit = next((c for c in ("target", "neuroid", "space_b") if c in frame), None)
    several = frame["space"].nunique() > 1
    figure = new_figure(5.6, 0.27 * len(frame) + (0.5 * frame["space"].nunique() if several else 0) + 1.2)
    axis = figure.subplots()
    axis.axvline(0, color="#6b7079", lw=0.8, zorder=1)
    ticks, labels, at = [], [], 0.0
    for space, part in frame.groupby("space", sort=False):
        if several:
            axis.text(0.005, at + 0.2, _versus(space), fontsize=8.5, fontweight="bold", va="center", ha="left",
                      transform=axis.get_yaxis_transform(), bbox={"fc": "white", "ec": "none", "pad": 1.5})
            at += 1.6
        for _, row in part.iterrows():
            _interval(axis, row, at)
            ticks.append(at)
            labels.append(shorten(str(row[unit]), 26) if unit else "")
            at += 1
    axis.set_yticks(ticks, labels)
    axis.set_ylim(at - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=FAINT, lw=0.6)
    axis.margins(x=0.08)
    axis.set_xlabel(f"difference, {metric_label(metric)}")
    if not several:
        axis.set_title(_versus(frame["space"].iloc[0]))
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    clear = _clear(frame)
    how = scores_.attrs_of(diffs).get("interval", "interval")
    figure.data = frame
    figure.caption = (f"Paired differences ({how}). Filled: the interval excludes zero ({int(clear.sum())} of "
                      f"{len(frame)}); open: it does not, and no lead is claimed.")
    figure.alt = "Differences with intervals. " + "; ".join(
        f"{label} {v:.2f}" for label, v in zip(labels[:12], frame["score"])) + "."
    return figure


def _versus(space: str) -> str:
    return "\n− ".join(shorten(space_label(part), 64) for part in str(space).split(" - "))


def _clear(frame):
    return (frame["ci_low"] > 0) | (frame["ci_high"] < 0)


def _interval(axis, row, at) -> None:
    clear = row["ci_low"] > 0 or row["ci_high"] < 0
    color = (PALETTE[0] if row["score"] > 0 else PALETTE[1]) if clear else GREY
    axis.plot([row["ci_low"], row["ci_high"]], [at, at], color=color, lw=1.8, zorder=2)
    axis.plot(row["score"], at, marker="o", ms=6, mfc=color if clear else "white", mec=color, mew=1.2, zorder=3)
