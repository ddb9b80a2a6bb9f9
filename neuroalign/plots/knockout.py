"""Interventions: what an answer loses layer by layer, and which sites of the brain lose prediction."""

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuroalign.data import scores as scores_
from neuroalign.errors import check_option, list_ids
from neuroalign.plots.select import metric_label, shorten
from neuroalign.plots.style import FAINT, GREY, INK, PALETTE, Figure, grid_shape, new_figure, place_legend, styled
from neuroalign.plots.untrained import is_untrained, mark_untrained

__all__ = ["knockout_curves", "site_effects"]

FLOWS = ("flow.relative", "flow.logp")
MARKERS = "osD^vPX"
NAMED = 40  # sites whose names can be read on an axis
MOST_PANELS = 12


@styled
def knockout_curves(scores: xr.Dataset, metric: str = "flow.relative", *, title: str | None = None,
                    untrained: bool | None = None) -> Figure:
    """Draw what the probability of the predicted token loses, over the layers, one line an edge (or an ablated span).

    Parameters
    ----------
    scores : Dataset
        Of `neuroalign.probes.information_flow` or `neuroalign.probes.ablation`.
    metric : {"flow.relative", "flow.logp"}
    title : str, optional
    untrained : bool, optional
        Mark the figure as one of random weights; by default where the Scores say so.

    Returns
    -------
    Figure
        Bands: intervals over stimuli.
    """
    scores_.validate(scores)
    about = scores_.attrs_of(scores)
    if about.get("analysis") not in ("information_flow", "ablation"):
        raise ValueError("scores: not of neuroalign.probes.information_flow or ablation.")
    check_option("metric", metric, FLOWS)
    data = scores.sel(metric=metric, target="answer")
    models = list(dict.fromkeys(data["model"].values.tolist()))
    edges = list(dict.fromkeys(data["stream"].values.tolist()))
    rows, columns = grid_shape(len(models), 3)
    figure = new_figure(5.2 if columns == 1 else 3.1 * columns + 0.3, 2.7 * rows + 0.9)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    said = []
    for axis, model in zip(axes.flat, models):
        axis.axhline(0, color=FAINT, lw=0.8, zorder=0)
        for i, edge in enumerate(edges):
            part = data.isel(space=np.flatnonzero((data["model"] == model) & (data["stream"] == edge)))
            place, value = _blocks(part), part["score"].values
            color = PALETTE[i % len(PALETTE)]
            if "ci_low" in part:
                axis.fill_between(place, part["ci_low"].values, part["ci_high"].values, color=color, alpha=0.16, lw=0)
            axis.plot(place, value, color=color, marker=MARKERS[i % len(MARKERS)], ms=3.4, zorder=3)
            if np.isfinite(value).any():
                least = int(np.nanargmin(value))
                said.append(f"{model}, {edge}: lowest {value[least]:.3g} at block {place[least]}")
        axis.set_title(shorten(model, 40))
        axis.set_xlabel(_layer_label(about))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.margins(x=0.03, y=0.08)
    for axis in axes.flat[len(models):]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel(metric_label(metric))
    lines = [(Line2D([], [], color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], ms=3.4),
              edge.replace("->", " → ")) for i, edge in enumerate(edges)]
    if "ci_low" in data and np.isfinite(data["ci_low"]).any():
        lines.append((Patch(fc=GREY, alpha=0.25), "interval"))
    place_legend(figure, [h for h, _ in lines], [t for _, t in lines], most=4)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = scores_.to_frame(scores.sel(metric=[metric]))
    figure.caption = _flow_caption(about, scores, metric)
    figure.alt = f"{_flow_of(about, metric)} over layers. " + "; ".join(said[:9]) + "."
    return mark_untrained(figure, is_untrained(scores) if untrained is None else untrained)


@styled
def site_effects(scores: xr.Dataset, *, kind: str = "effect", alpha: float = 0.05, title: str | None = None,
                 untrained: bool | None = None) -> Figure:
    """Draw what each site loses when a flow is cut, as the difference from a control, one panel an edge and window.

    Parameters
    ----------
    scores : Dataset
        Of `neuroalign.probes.interventional_encoding`; select a time bin first, if there are several.
    kind : str
        ``effect`` (cut minus matched random reads), ``effect.irrelevant``, ``change`` or ``control``.
    alpha : float
        Sites with q below it are filled, others open.
    title : str, optional
    untrained : bool, optional

    Returns
    -------
    Figure
        Sites in the order of the first panel; bars are paired intervals. Grey lines: what the cut alone changed,
        which the control is taken from.
    """
    scores_.validate(scores)
    about = scores_.attrs_of(scores)
    if about.get("analysis") != "interventional_encoding":
        raise ValueError("scores: not of neuroalign.probes.interventional_encoding.")
    if "time_bin" in scores["score"].dims:
        raise ValueError("scores: they have time bins, and this figure draws one. Select it: "
                         "scores.sel(time_bin=0.3, method='nearest').")
    base = str(scores["metric"].values[0]).removesuffix(".intact")
    metric = f"{base}.{kind}"
    check_option("kind", metric, [str(m) for m in scores["metric"].values])
    data = scores.sel(metric=metric)
    data = data.isel(space=np.flatnonzero(np.isfinite(data["score"]).any("neuroid")))
    if data.sizes["space"] > MOST_PANELS:
        raise ValueError(f"scores: {data.sizes['space']} panels, at most {MOST_PANELS} can be read; choose spaces of "
                         f"{list_ids(data['space'].values)}.")
    if not data.sizes["space"]:
        raise ValueError(f"scores: no {metric!r}: there was no such control. Draw kind='change'.")
    change = scores["score"].sel(metric=f"{base}.change", space=data["space"].values).values
    order = np.argsort(data["score"].values[0], kind="stable")
    names = [str(n) for n in data["neuroid"].values[order]]
    rows, columns = grid_shape(data.sizes["space"], 2 if len(names) > 15 else 3)
    width = (min(7.5, 2.2 + 0.09 * len(names))) * columns + 0.4
    figure = new_figure(max(width, 4.6), 2.3 * rows + 1.3)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    place, said = np.arange(len(names)), []
    for i, axis in enumerate(axes.flat[:data.sizes["space"]]):
        one = data.isel(space=i)
        value, q = one["score"].values[order], one["q"].values[order]
        axis.axhline(0, color=FAINT, lw=0.8, zorder=0)
        axis.vlines(place, *(one[end].values[order] for end in ("ci_low", "ci_high")), color=PALETTE[0], alpha=0.45,
                    lw=1)
        if kind != "change":
            axis.plot(place, change[i][order], ls="", marker="_", ms=5, color=GREY, zorder=2)
        clear = q < alpha
        for part, face in ((clear, PALETTE[0]), (~clear, "white")):
            axis.plot(place[part], value[part], ls="", marker="o", ms=3.8, mfc=face, mec=PALETTE[0], zorder=3)
        edge = str(one["edge"].values).replace("->", " → ")
        axis.set_title(f"{edge}, {one['window'].item()}\n{shorten(one['layer'].item(), 26)} · {one['stream'].item()}",
                       fontsize=8.5)
        said.append(f"{edge}, {one['window'].item()}, {one['stream'].item()}: {int((clear & (value < 0)).sum())} of "
                    f"{len(names)} sites lose, mean {np.nanmean(value):.3f}")
    for axis in axes.flat[data.sizes["space"]:]:
        axis.set_visible(False)
    for axis in axes[-1]:
        if len(names) <= NAMED:
            axis.set_xticks(place, [shorten(n, 14) for n in names], rotation=90, fontsize=6.5)
        else:
            axis.set_xticks([])
            axis.set_xlabel(f"{len(names):,} sites, in the order of the first panel")
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{base}: {KINDS[kind]}")
    handles = [(Line2D([], [], ls="", marker="o", ms=4, color=PALETTE[0]), f"q < {alpha:g}"),
               (Line2D([], [], ls="", marker="o", ms=4, mfc="white", mec=PALETTE[0]), "not significant"),
               (Line2D([], [], color=PALETTE[0], alpha=0.45, lw=1), "paired interval")]
    if kind != "change":
        handles.append((Line2D([], [], ls="", marker="_", ms=6, color=GREY), "cut minus whole model"))
    place_legend(figure, [h for h, _ in handles], [t for _, t in handles], most=4)
    if title:
        figure.suptitle(title, x=0.01, ha="left", color=INK)
    figure.data = scores_.to_frame(scores.sel(metric=list(dict.fromkeys([metric, f"{base}.change"]))))
    figure.caption = (f"{KINDS[kind][0].upper()}{KINDS[kind][1:]}, site by site. Filled: q < {alpha:g} over sites. "
                      f"Encoder: {'frozen' if base.endswith('.frozen') else 'refitted to each model'}."
                      + _control_caption(about, kind))
    figure.alt = "What sites lose when a flow is cut. " + "; ".join(said[:8]) + "."
    return mark_untrained(figure, is_untrained(scores) if untrained is None else untrained)


KINDS = {"effect": "cut minus random reads", "effect.irrelevant": "cut minus irrelevant edge",
         "change": "cut minus whole model", "control": "random reads minus whole model"}


def _blocks(part: xr.Dataset) -> np.ndarray:
    """Return the number of the block of each layer."""
    return np.array([int(str(layer).rpartition(".")[2]) for layer in part["layer"].values])


def _layer_label(about: dict) -> str:
    if about["analysis"] == "ablation" and about.get("how") == "suffix":
        return "replaced from this block on"
    return f"block in the middle of a window of {about['window']}"


def _control_caption(about: dict, kind: str) -> str:
    """Say what the random reads match, and how well."""
    mass = [m for found in about["attention_mass_of_controls"].values() for m in found]
    if kind not in ("effect", "control") or not mass:
        return ""
    carried = f"{min(mass):.2f}" if max(mass) - min(mass) < 0.005 else f"{min(mass):.2f} to {max(mass):.2f}"
    return (f" Random reads ({about['n_controls']} sets) match the edge in number and layers, and carry {carried} "
            "times its attention.")


def _flow_of(about: dict, metric: str) -> str:
    """Say what changes, and of which token: what is predicted is an answer only where the right ones are known."""
    token = "first token of the answer" if about.get("share_correct") is not None else "token that the model predicts"
    return f"Change of the {'log ' if metric == 'flow.logp' else ''}probability of the {token}"


def _flow_caption(about: dict, scores: xr.Dataset, metric: str) -> str:
    when = ("a read is blocked" if about["analysis"] == "information_flow" else
            f"a span is replaced by {'zeros' if about['value'] == 'zero' else 'its mean'}")
    said = [f"{_flow_of(about, metric)} when {when}; mean over {int(scores['n'].values[0])} stimuli."]
    if about.get("share_correct") is not None:
        said.append(f"{about['n_answered_correctly']} of {about['n_stimuli']} were answered correctly, and only they "
                    "count.")
    if about.get("interval"):
        said.append(f"Bands: {about['interval']}.")
    return " ".join(said)
