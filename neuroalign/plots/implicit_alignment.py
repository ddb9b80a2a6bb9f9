"""Implicit alignment along the layers: between modalities, within each, and of the same stimulus."""

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuroalign.data import scores as scores_
from neuroalign.errors import check_option
from neuroalign.plots.select import shorten
from neuroalign.plots.style import FAINT, GREY, PALETTE, Figure, grid_shape, new_figure, place_legend, styled
from neuroalign.plots.untrained import is_untrained, mark_untrained

__all__ = ["alignment_curves"]


@styled
def alignment_curves(scores: xr.Dataset, mode: str | None = None, *, alpha: float = 0.05, title: str | None = None,
                     untrained: bool | None = None) -> Figure:
    """Draw the similarity of tokens against depth, one panel a model.

    Parameters
    ----------
    scores : Dataset
        Of `neuroalign.probes.implicit_alignment`.
    mode : str, optional
        The first of the Scores by default.
    alpha : float
        Of the dashed line (one stimulus with itself) marks are filled where q is below it.
    title : str, optional
    untrained : bool, optional
        Mark the figure as one of random weights; by default where the names of the models say so.

    Returns
    -------
    Figure
        Solid: different stimuli, between the modalities and within each, with intervals. Dashed: the two modalities
        of one stimulus.
    """
    scores_.validate(scores)
    about = scores_.attrs_of(scores)
    if about.get("kind") != "implicit_alignment":
        raise ValueError("scores: not of neuroalign.probes.implicit_alignment. Draw probe_curves.")
    a, b = about["streams"]
    modes = [str(m).removeprefix("similarity.") for m in scores["metric"].values if str(m).count(".") == 1]
    mode = check_option("mode", mode or modes[0], modes)
    models = list(dict.fromkeys(scores["model"].values.tolist()))
    curves = {f"{a}~{b}": PALETTE[0], f"{a}~{a}": PALETTE[4], f"{b}~{b}": PALETTE[2]}
    rows, columns = grid_shape(len(models), 3)
    figure = new_figure(4.8 if columns == 1 else 2.9 * columns + 0.3, 2.5 * rows + 1.1)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    said = []
    for axis, model in zip(axes.flat, models):
        own = scores.isel(space=np.flatnonzero(scores["model"].values == model))
        axis.axhline(0, color=FAINT, lw=0.8, zorder=0)
        for stream, color in curves.items():
            part = own.isel(space=np.flatnonzero(own["stream"].values == stream)).sortby("depth")
            data, depth = part.sel(metric=f"similarity.{mode}"), part["depth"].values
            axis.fill_between(depth, data["ci_low"].values, data["ci_high"].values, color=color, alpha=0.15, lw=0)
            axis.plot(depth, data["score"].values, color=color, marker="o", ms=3.2)
            said.append(f"{model}, {stream}: {data['score'].values[0]:.2f} to {data['score'].values[-1]:.2f}")
            if stream == f"{a}~{b}":
                _paired(axis, part.sel(metric=f"similarity.{mode}.paired"), depth, color, alpha)
        axis.set_title(shorten(model, 30))
        axis.set_xlim(-0.03, 1.03)
        axis.set_xlabel("relative depth")
    for axis in axes.flat[len(models):]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"cosine of tokens ({mode})")
    lines = [(Line2D([], [], color=c, marker="o", ms=3.2), t.replace("~", " – ")) for t, c in curves.items()]
    lines.append((Line2D([], [], color=PALETTE[0], marker="D", ms=3.2, dashes=(4, 2)), "the same stimulus"))
    if np.isfinite(scores["q"]).any():
        lines.append((Line2D([], [], ls="", marker="D", ms=3.6, mfc="white", mec=GREY), f"open: q ≥ {alpha:g}"))
    if np.isfinite(scores["ci_low"]).any():
        lines.append((Patch(fc=GREY, alpha=0.25), "interval"))
    place_legend(figure, [h for h, _ in lines], [t for _, t in lines], most=3)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = scores_.to_frame(scores.sel(metric=[f"similarity.{mode}", f"similarity.{mode}.paired"]))
    reference = about.get("reference")
    figure.caption = (f"Solid: different stimuli. Dashed: {a} and {b} of the same stimulus; open marks: q ≥ {alpha:g} "
                      "against new partners. Bands: intervals over stimuli."
                      + (f" Tokens of {a} against {b} are those of one layer ({', '.join(reference.values())})."
                         if reference else ""))
    figure.alt = "Similarity of tokens against depth. " + "; ".join(said[:9]) + "."
    return mark_untrained(figure, is_untrained(scores) if untrained is None else untrained)


def _paired(axis, data, depth, color, alpha: float) -> None:
    score, q = data["score"].values, data["q"].values
    axis.plot(depth, score, color=color, dashes=(4, 2), zorder=3)
    clear = ~(q >= alpha)
    for part, face in ((clear, color), (~clear, "white")):
        axis.plot(depth[part], score[part], ls="", marker="D", ms=3.6, mfc=face, mec=color, zorder=4)
