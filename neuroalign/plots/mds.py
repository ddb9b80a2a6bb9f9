"""Dissimilarities as distances on a page."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.lines import Line2D

from neuroalign.errors import list_ids
from neuroalign.plots.rdms import picked_targets, square
from neuroalign.plots.select import shorten
from neuroalign.plots.style import GREY, INK, PALETTE, Figure, grid_shape, new_figure, place_legend, styled

__all__ = ["mds", "scale"]

MOST_PANELS, MOST_GROUPS, MOST_NAMES = 12, len(PALETTE), 12
MARKERS = "os^Dv<P"


@styled
def mds(rdms: xr.DataArray, stimuli=None, *, category: str = "category", targets=None, names: bool | None = None,
        title: str | None = None) -> Figure:
    """Draw stimuli so that their distances are as near to the dissimilarities as two dimensions allow.

    Parameters
    ----------
    rdms : DataArray of shape (n_targets, n_pairs)
        Every pair must have a value.
    stimuli : StimulusSet or DataFrame indexed by stimulus_id, optional
        With a column `category` of at most 7 values, stimuli are coloured and marked by it.
    category : str
    targets : sequence of str, optional
        All by default, at most 12. Panels are rotated and reflected to lie as the first one.
    names : bool, optional
        Write the ids beside the points; by default for up to 12 stimuli.
    title : str, optional

    Returns
    -------
    Figure
        The stress below each panel is the root of the residual over the total sum of squares of dissimilarities
        (Kruskal's stress 1: .05 good, .2 poor). Axes have no unit, their orientation no meaning.

    Notes
    -----
    Metric scaling by majorisation (SMACOF; Borg & Groenen 2005, Modern Multidimensional Scaling) from the classical
    solution (Torgerson 1952, Psychometrika 17:401), so nothing is drawn by chance.
    """
    rdms = picked_targets(rdms, targets, MOST_PANELS, "mds")
    ids = pd.unique(np.concatenate([rdms["stimulus_a"].values, rdms["stimulus_b"].values]))
    places, stress = [], []
    for target in rdms["target"].values:
        square_ = square(rdms.sel(target=target), ids)
        np.fill_diagonal(square_, 0.0)
        at, residual = scale(square_, str(target))
        places.append(_turn(at, places[0]) if places else at)
        stress.append(residual)
    groups = _groups(ids, stimuli, category)
    rows, columns = grid_shape(len(places), 4)
    side = 2.5 if len(places) > 1 else 3.6
    extra = (0.7 if len(groups) > 1 else 0.3) + (0.2 if title else 0)
    figure = new_figure(side * columns + 0.4, (side + 0.15) * rows + extra)
    axes = figure.subplots(rows, columns, squeeze=False)
    names = len(ids) <= MOST_NAMES if names is None else names
    for axis, at, target, residual in zip(axes.flat, places, rdms["target"].values, stress):
        _panel(axis, at, groups, ids if names else None)
        axis.set_title(shorten(str(target), 24))
        axis.set_xlabel(f"stress {residual:.2f}", loc="left", fontsize=8, labelpad=2)
    for axis in axes.flat[len(places):]:
        axis.set_visible(False)
    if len(groups) > 1:
        handles = [Line2D([], [], ls="", marker=m, ms=5, mfc=c, mec="none", label=shorten(g, 24))
                   for (g, _), c, m in zip(groups, PALETTE, MARKERS)]
        place_legend(figure, handles, [h.get_label() for h in handles])
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = pd.concat([pd.DataFrame({"target": str(t), "stimulus_id": ids, "x": at[:, 0], "y": at[:, 1]})
                             for t, at in zip(rdms["target"].values, places)], ignore_index=True)
    figure.caption = (f"Multidimensional scaling of the dissimilarities of {len(ids)} stimuli: near points are alike. "
                      "Stress is the share of dissimilarity that two dimensions cannot show (.05 good, .2 poor); "
                      "axes have neither unit nor direction" + (", panels are turned to match the first."
                                                                if len(places) > 1 else "."))
    figure.alt = "Maps of stimuli by dissimilarity: " + ", ".join(
        f"{t} (stress {s:.2f})" for t, s in zip(rdms["target"].values[:8], stress)) + "."
    return figure


def scale(dissimilarities: np.ndarray, name: str = "RDM") -> tuple[np.ndarray, float]:
    """Return places on a plane whose distances are nearest to the dissimilarities, and the stress.

    Parameters
    ----------
    dissimilarities : array of shape (n, n)
        Symmetric with a zero diagonal.
    name : str
        For messages.

    Returns
    -------
    places : array of shape (n, 2)
    stress : float
        Kruskal's stress 1.

    Examples
    --------
    >>> places, stress = scale(np.array([[0.0, 3.0, 4.0], [3.0, 0.0, 5.0], [4.0, 5.0, 0.0]]))
    >>> bool(stress < 1e-4), round(float(np.linalg.norm(places[1] - places[2])), 3)
    (True, 5.0)
    """
    from sklearn.manifold import smacof  # a second of import

    missing = int(np.isnan(dissimilarities[np.triu_indices(len(dissimilarities), 1)]).sum())
    if missing:
        raise ValueError(f"mds: {name} lacks the dissimilarity of {missing:,} pairs; expected every pair. Draw "
                         "rdm_panel(rdms), or leave out the stimuli concerned.")
    if (dissimilarities < 0).any():
        raise ValueError(f"mds: {name} has negative dissimilarities (crossnobis?), which no distance can show. Draw "
                         "rdm_panel(rdms, rank=False).")
    centre = np.eye(len(dissimilarities)) - 1 / len(dissimilarities)
    values, vectors = np.linalg.eigh(-0.5 * centre @ dissimilarities**2 @ centre)
    start = vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0))
    start *= np.where(start[np.abs(start).argmax(0), [0, 1]] < 0, -1, 1)  # the sign of an eigenvector is arbitrary
    if not np.any(start):
        raise ValueError(f"mds: all dissimilarities of {name} are zero.")
    places, _ = smacof(dissimilarities, n_components=2, init=start, n_init=1, max_iter=500, eps=1e-9,
                       normalized_stress=False)
    upper = np.triu_indices(len(places), 1)
    distances = np.linalg.norm(places[:, None] - places, axis=-1)[upper]
    total = dissimilarities[upper]
    return places, float(np.sqrt(((total - distances) ** 2).sum() / (distances**2).sum()))


def _turn(places, onto) -> np.ndarray:
    """Rotate, reflect and scale a map so that it lies on another (their sizes do not compare)."""
    from scipy.linalg import orthogonal_procrustes

    moved, fixed = places - places.mean(0), onto - onto.mean(0)
    rotation, _ = orthogonal_procrustes(moved, fixed)
    return moved @ rotation * np.linalg.norm(fixed) / np.linalg.norm(moved) + onto.mean(0)


def _groups(ids, stimuli, category) -> list[tuple[str, np.ndarray]]:
    table = getattr(stimuli, "table", stimuli)
    if table is None or category not in table:
        return [("", np.arange(len(ids)))]
    missing = [i for i in ids if i not in table.index]
    if missing:
        raise ValueError(f"stimuli: no rows for {list_ids(missing)} of the RDMs.")
    own = table.loc[list(ids), category].astype(str).to_numpy()
    found = list(dict.fromkeys(table[category].astype(str)))
    found = [g for g in found if g in set(own)]
    if len(found) > MOST_GROUPS:
        raise ValueError(f"category: {category!r} has {len(found)} values ({list_ids(found)}), expected at most "
                         f"{MOST_GROUPS}. Name a coarser column.")
    return [(g, np.flatnonzero(own == g)) for g in found]


def _panel(axis, places, groups, names) -> None:
    size = float(np.clip(55 / np.sqrt(len(places)), 3, 6.5))
    for (_, rows), color, marker in zip(groups, PALETTE, MARKERS):
        axis.plot(*places[rows].T, ls="", marker=marker, ms=size, mfc=color, mec="white", mew=0.3, alpha=0.9)
    middle = places.mean(0)
    reach = 1.12 * np.abs(places - middle).max() + 1e-12
    axis.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach), xticks=[],
             yticks=[], aspect="equal")
    axis.spines[:].set_visible(True)
    axis.spines[:].set_color(GREY)
    axis.spines[:].set_linewidth(0.5)
    for k, name in enumerate(names if names is not None else ()):
        left = places[k, 0] > middle[0]
        axis.annotate(shorten(str(name), 14), places[k], xytext=(-5 if left else 5, 0), textcoords="offset points",
                      ha="right" if left else "left", va="center", fontsize=7, color=INK)
