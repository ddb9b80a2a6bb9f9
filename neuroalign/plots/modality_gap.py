"""The modality gap: two clouds in the plane of their centroids, and its numbers along the layers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.errors import check_option
from neuroalign.plots.probe_curves import probe_curves
from neuroalign.plots.select import shorten
from neuroalign.plots.style import FAINT, INK, PALETTE, Figure, new_figure, place_legend, styled
from neuroalign.plots.untrained import is_untrained, mark_untrained
from neuroalign.stats import child_rng

__all__ = ["gap_curves", "gap_plane"]

PANELS = ("gap.distance", "separability", "cosine.pairs", "retrieval.a_to_b@1", "uniformity.cross", "cone.a")
MOST_POINTS, MOST_LINKS = 1000, 60


@styled
def gap_plane(a, b, *, axes: str = "centroids", names: Sequence[str] | None = None, on_missing: str = "error",
              random_state: int = 0, title: str | None = None, untrained: bool | None = None) -> Figure:
    """Draw paired embeddings of two modalities in a plane, with their centroids and some of the pairs.

    Parameters
    ----------
    a, b : DataArray (stimulus, feature), or array of shape (n_pairs, n_features)
        One space of each modality, as for `neuroalign.probes.modality_gap`; rows are scaled to unit length.
    axes : {"centroids", "pca"}
        ``centroids``: horizontally the line through both centroids, vertically the first principal component of what
        is left; no other plane shows the gap wider. ``pca``: the first two components of both together.
    names : (str, str), optional
        Of the two modalities; default: their streams.
    on_missing : {"error", "drop"}
    random_state : int
        Of the stimuli that are drawn where there are more than 1,000, and the pairs that are linked.
    title : str, optional
    untrained : bool, optional
        Mark the figure as one of random weights; by default where the names of the spaces say so.

    Returns
    -------
    Figure
    """
    from neuroalign.linalg import resolve, to_numpy  # torch: a figure of Scores needs none
    from neuroalign.probes.pairing import match_pairs, unit_rows_of

    check_option("axes", axes, ("centroids", "pca"))
    pairs = match_pairs(a, b, on_missing)
    if len(pairs.names) != 1:
        raise ValueError(f"gap_plane: got {len(pairs.names)} pairs of spaces, expected one. Choose a layer, or draw "
                         "gap_curves.")
    sides = [to_numpy(unit_rows_of(v, pairs.ids, name, resolve("cpu"))).astype(float)
             for v, name in zip(pairs.arrays[0], pairs.sides[0])]
    names = [side.rsplit(":", 1)[-1] for side in pairs.sides[0]] if names is None else list(names)
    if names[0] == names[1]:
        names = [shorten(side, 40) for side in pairs.sides[0]]
    (x, y), share = _project(sides, axes)
    rng = child_rng(random_state, "gap plane")
    shown = rng.permutation(len(x))[:MOST_POINTS]
    figure = new_figure(4.8, 4.2)
    axis = figure.subplots()
    for one, other in zip(x[shown[:MOST_LINKS]], y[shown[:MOST_LINKS]]):
        axis.plot(*np.transpose([one, other]), color=FAINT, lw=0.6, zorder=1)
    for cloud, color, name in zip((x, y), PALETTE, names):
        axis.plot(*cloud[shown].T, ls="", marker="o", ms=float(np.clip(60 / np.sqrt(len(shown)), 2.2, 5)), mec="none",
                  mfc=color, alpha=0.6, zorder=2, label=name)
    centres = [cloud.mean(0) for cloud in (x, y)]
    axis.plot(*np.transpose(centres), color=INK, lw=1.2, zorder=3)
    for centre, color in zip(centres, PALETTE):
        axis.plot(*centre, marker="D", ms=8, mfc=color, mec="white", mew=1.2, zorder=4)
    distance = float(np.linalg.norm(sides[0].mean(0) - sides[1].mean(0)))
    axis.text(0, 1.01, f"distance of centroids {distance:.3f}   n = {len(x):,} pairs", transform=axis.transAxes,
              ha="left", va="bottom", fontsize=9, fontweight="bold")
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_xlabel("along the line through the centroids" if axes == "centroids" else f"component 1 ({share[0]:.0%})")
    axis.set_ylabel(f"main direction of the rest ({share[1]:.0%} of the variance)" if axes == "centroids"
                    else f"component 2 ({share[1]:.0%})")
    handles, labels = axis.get_legend_handles_labels()
    place_legend(figure, handles, labels)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = pd.DataFrame({"stimulus": np.tile(pairs.ids, 2), "modality": np.repeat(names, len(x)),
                                "x": np.r_[x[:, 0], y[:, 0]], "y": np.r_[x[:, 1], y[:, 1]]})
    links, part = min(MOST_LINKS, len(shown)), f" {MOST_POINTS:,} of {len(x):,} pairs are shown."
    figure.caption = (f"Unit vectors of {names[0]} and {names[1]}; diamonds are centroids, {links} pairs are linked by "
                      "thin lines." + (part if len(x) > MOST_POINTS else ""))
    figure.alt = (f"Two clouds of {len(x)} points, {names[0]} and {names[1]}; their centroids are {distance:.2f} apart "
                  f"in the whole space and {np.linalg.norm(centres[0] - centres[1]):.2f} in this plane.")
    return mark_untrained(figure, is_untrained(list(pairs.sides[0])) if untrained is None else untrained)


def gap_curves(scores: xr.Dataset, metrics: Sequence[str] | None = None, **options) -> Figure:
    """Draw the numbers of the gap along the layers, the shifts or the epochs.

    Parameters
    ----------
    scores : Dataset
        Of `neuroalign.probes.modality_gap`, `neuroalign.probes.shift_sweep`, or the history of
        `neuroalign.probes.train_contrastive`.
    metrics : sequence of str, optional
        Default: distance, separability, cosine of pairs, retrieval, uniformity across, cone of the first side.
    **options
        Of `probe_curves`.
    """
    known = [str(m) for m in scores["metric"].values]
    return probe_curves(scores, [m for m in PANELS if m in known] or None if metrics is None else metrics, **options)


def _project(sides, axes: str):
    """Return both clouds in the plane, and the share of the variance on each axis."""
    both = np.concatenate(sides)
    centred = both - both.mean(0)
    total = (centred**2).sum()
    if axes == "centroids":
        line = sides[0].mean(0) - sides[1].mean(0)
        line = line / max(np.linalg.norm(line), np.finfo(float).tiny)
        rest = centred - np.outer(centred @ line, line)
        basis = np.stack([line, np.linalg.svd(rest, full_matrices=False)[2][0]])
    else:
        basis = np.linalg.svd(centred, full_matrices=False)[2][:2]
    plane = centred @ basis.T
    return np.split(plane, 2), (plane**2).sum(0) / total
