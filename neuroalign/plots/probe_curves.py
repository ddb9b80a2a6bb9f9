"""Curves of what probes measure, against depth, a shift, an epoch or a share of skipped blocks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuroalign.data import scores as scores_
from neuroalign.errors import check_option
from neuroalign.plots.select import shorten, spaces_table
from neuroalign.plots.style import GREY, PALETTE, Figure, grid_shape, new_figure, place_legend, styled
from neuroalign.plots.untrained import is_untrained, mark_untrained

__all__ = ["probe_curves"]

AXES = {"shift": "shift towards each other", "epoch": "epoch", "share": "share of blocks skipped",
        "depth": "relative depth"}
CHANCE = {"separability": 0.5}
MOST_PANELS, MOST_LINES = 12, 14
DASHES = ((), (5, 2), (1.3, 1.6), (6, 2, 1.3, 2))
LABELS = {
    "gap.distance": "distance of centroids",
    "gap.cosine": "cosine of centroids",
    "separability": "linear separability",
    "cosine.pairs": "cosine of pairs",
    "alignment": "squared distance of pairs",
    "uniformity": "uniformity",
    "uniformity.cross": "uniformity across",
    "retrieval.a_to_b": "retrieval, first to second",
    "retrieval.b_to_a": "retrieval, second to first",
    "cone.a": "cone of the first",
    "cone.b": "cone of the second",
    "norm.median": "median token norm",
    "cone": "cone (cosine of tokens)",
    "drift.mean": "token later, mean",
    "drift.median": "token later, median",
    "vocabulary.kl": "KL over words (nats)",
    "vocabulary.entropy": "entropy over words (nats)",
    "skip.kl": "KL after skipping (nats)",
    "skip.agreement": "same likeliest token",
    "loss": "loss (nats)",
    "mask.iou": "overlap of kept weights (IoU)",
}


@styled
def probe_curves(scores: xr.Dataset, metrics: Sequence[str] | None = None, *, against: str | None = None,
                 alpha: float = 0.05, title: str | None = None, untrained: bool | None = None) -> Figure:
    """Draw one panel a metric, one line a model and stream.

    Parameters
    ----------
    scores : Dataset
        Scores of a probe: `modality_gap`, `shift_sweep`, `token_geometry`, `vocabulary_projection`, `skipping_curve`,
        the history of `train_contrastive` ...
    metrics : sequence of str, optional
        The first six by default.
    against : {"depth", "shift", "epoch", "share"}, optional
        Coord of the spaces on the horizontal axis; default: the first of shift, epoch, share and depth that is there.
    alpha : float
        Filled marks have q below it, open ones do not.
    title : str, optional
    untrained : bool, optional
        Mark the figure as one of random weights; by default where the names or attrs of the Scores say so.

    Returns
    -------
    Figure
        Bands are intervals; thin grey lines the mean of the null, or chance. Where several spaces of a line stand at
        one place (the linear maps of a block), marks are these and the line is their mean.
    """
    scores_.validate(scores)
    names = [str(m) for m in scores["metric"].values]
    chosen = names[:6] if metrics is None else [check_option("metrics", m, names) for m in metrics]
    if not 1 <= len(chosen) <= MOST_PANELS:
        raise ValueError(f"metrics: got {len(chosen)}, expected 1 to {MOST_PANELS} panels.")
    known = [a for a in AXES if a in scores.coords and scores[a].dims == ("space",) and scores[a].notnull().any()]
    if not known:
        raise ValueError(f"scores: no coord of the spaces to draw against ({', '.join(AXES)}). Draw na.plot.bars.")
    against = check_option("against", against or known[0], known)
    table = spaces_table(scores).assign(x=scores[against].values.astype(float))
    lines = _lines(table)
    if len(lines) > MOST_LINES:
        raise ValueError(f"scores: {len(lines)} models and streams, expected at most {MOST_LINES} lines. Choose some "
                         "with scores.isel(space=...).")
    styles = _styles(lines)
    rows, columns = grid_shape(len(chosen), 3)
    figure = new_figure(4.4 if columns == 1 else 2.7 * columns + 0.3, 2.15 * rows + 0.9)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    drawn: set[str] = set()
    for i, (axis, metric) in enumerate(zip(axes.flat, chosen)):
        data = scores.sel(metric=metric)
        for label, places in lines.items():
            drawn |= _line(axis, data.isel(space=places), table["x"].to_numpy()[places], styles[label], metric, alpha)
        axis.set_title(_label(metric))
        axis.margins(x=0.04, y=0.12)
        axis.locator_params(axis="y", nbins=5)
        if i + columns >= len(chosen):
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(AXES[against])
    for axis in axes.flat[len(chosen):]:
        axis.set_visible(False)
    handles = [(Line2D([], [], color=s["color"], lw=1.6, marker=s["marker"], ms=4, dashes=s["dashes"] or (None, None)),
                shorten(label, 50)) for label, s in styles.items()] + _extras(drawn, alpha)
    place_legend(figure, [h for h, _ in handles], [t for _, t in handles], most=4)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = _frame(scores.sel(metric=chosen), against)
    figure.caption = _caption(drawn, against, alpha)
    figure.alt = _alt(scores, chosen, lines, table, against)
    return mark_untrained(figure, is_untrained(scores) if untrained is None else untrained)


def _lines(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the places of the spaces of each line, in order along the axis."""
    several = table["model"].nunique() > 1
    found = {}
    for (model, stream), part in table.groupby(["model", "stream"], sort=False):
        label = " · ".join(t for t in (model if several else "", "" if stream == "all" else stream) if t) or model
        found[label] = part.sort_values("x", kind="stable").index.to_numpy()
    return found


def _styles(lines) -> dict[str, dict]:
    return {label: {"color": PALETTE[i % len(PALETTE)], "marker": "osD^vP"[i % 6],
                    "dashes": DASHES[i // len(PALETTE) % len(DASHES)]} for i, label in enumerate(lines)}


def _line(axis, data, x, style, metric: str, alpha: float) -> set:
    drawn, score = set(), data["score"].values.astype(float)
    known = np.isfinite(score) & np.isfinite(x)
    if not known.any():
        return drawn
    x, data, score = x[known], data.isel(space=np.flatnonzero(known)), score[known]
    low, high = (data[n].values if n in data else np.full(len(x), np.nan) for n in ("ci_low", "ci_high"))
    places, owner = np.unique(x, return_inverse=True)
    if len(places) < len(x):
        drawn.add("several")
    elif np.isfinite(low).any():
        axis.fill_between(x, low, high, color=style["color"], alpha=0.15, lw=0, zorder=2)
        drawn.add("interval")
    null = data["null_mean"].values if "null_mean" in data else np.full(len(x), np.nan)
    if np.isfinite(null).any():
        axis.plot(places, _means(null, owner), color=GREY, lw=0.9, zorder=1)
        drawn.add("null")
    elif metric in CHANCE:
        axis.axhline(CHANCE[metric], color=GREY, lw=0.9, zorder=1)
        drawn.add("null")
    axis.plot(places, _means(score, owner), color=style["color"], dashes=style["dashes"] or (None, None), zorder=4)
    q = data["q"].values if "q" in data else np.full(len(x), np.nan)
    size = float(np.clip(60 / len(x), 2.2, 4.5))
    for part, face in ((np.isfinite(q) & (q < alpha), style["color"]), (np.isfinite(q) & (q >= alpha), "white"),
                       (~np.isfinite(q), style["color"])):
        axis.plot(x[part], score[part], ls="", marker=style["marker"], ms=size, mfc=face, mec=style["color"], mew=0.9,
                  zorder=5)
    if np.isfinite(q).any():
        drawn.add("q")
    return drawn


def _means(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    return np.bincount(owner, values) / np.bincount(owner)


def _extras(drawn, alpha: float) -> list[tuple]:
    found = []
    if "interval" in drawn:
        found.append((Patch(fc=GREY, alpha=0.25), "interval"))
    if "null" in drawn:
        found.append((Line2D([], [], color=GREY, lw=0.9), "mean of the null, or chance"))
    if "q" in drawn:
        found.append((Line2D([], [], ls="", marker="o", ms=4.5, mfc="white", mec=GREY), f"open: q ≥ {alpha:g}"))
    return found


def _label(metric: str) -> str:
    base, _, k = metric.partition("@")
    return LABELS.get(base, base) + (f" (@{k})" if k else "")


def _frame(scores, against: str) -> pd.DataFrame:
    frame = scores_.to_frame(scores)
    return frame.merge(pd.DataFrame({"space": scores["space"].values, against: scores[against].values}), on="space") \
        if against not in frame else frame


def _caption(drawn, against: str, alpha: float) -> str:
    said = [f"One panel a metric, against {AXES[against]}."]
    if "interval" in drawn:
        said.append("Bands: intervals.")
    if "null" in drawn:
        said.append("Thin grey lines: mean of the null, or chance.")
    if "q" in drawn:
        said.append(f"Open marks: q ≥ {alpha:g}.")
    if "several" in drawn:
        said.append("Lines are means over the marks at one place.")
    return " ".join(said)


def _alt(scores, chosen, lines, table, against: str) -> str:
    parts = []
    for metric in chosen[:6]:
        for label, places in list(lines.items())[:4]:
            value = scores["score"].sel(metric=metric).values[places]
            if np.isfinite(value).any():
                ends = value[np.isfinite(value)][[0, -1]]
                parts.append(f"{_label(metric)}, {label}: {ends[0]:.2f} to {ends[1]:.2f}")
    return f"Lines against {AXES[against]}. " + "; ".join(parts) + "."
