"""Dissimilarity matrices side by side."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data import validate_rdms
from neuroalign.errors import list_ids
from neuroalign.plots.select import shorten
from neuroalign.plots.style import FAINT, INK, Figure, grid_shape, new_figure, styled

__all__ = ["picked_targets", "rdm_panel", "square"]

MOST_PANELS = 24


@styled
def rdm_panel(rdms: xr.DataArray, stimuli=None, *, category: str = "category", targets=None, rank: bool = True,
              title: str | None = None) -> Figure:
    """Draw RDMs as squares, one panel a target.

    Parameters
    ----------
    rdms : DataArray of shape (n_targets, n_pairs)
    stimuli : StimulusSet or DataFrame indexed by stimulus_id, optional
        With a column `category`, rows are sorted by it and its groups are named.
    category : str
    targets : sequence of str, optional
        All by default, at most 24.
    rank : bool
        Colour by percentile rank within each RDM, so that their scales do not matter; else by value.
    title : str, optional

    Returns
    -------
    Figure
    """
    rdms = picked_targets(rdms, targets, MOST_PANELS, "rdm_panel")
    ids = pd.unique(np.concatenate([rdms["stimulus_a"].values, rdms["stimulus_b"].values]))
    order, groups = _order(ids, stimuli, category)
    squares = [square(rdms.sel(target=t), ids[order], rank=rank) for t in rdms["target"].values]
    rows, columns = grid_shape(len(squares), 5)
    side = 2.0 if groups and len(squares) > 1 else 2.3
    height = (side + 0.28) * rows + (0.55 if title else 0.15)
    figure = new_figure(side * columns + (2.2 if groups else 1.0), height, layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False)
    cmap = mpl.colormaps["viridis"].with_extremes(bad=FAINT)
    low, high = (0, 100) if rank else (float(np.nanmin(squares)), float(np.nanmax(squares)))
    for i, (axis, values) in enumerate(zip(axes.flat, squares)):
        image = axis.imshow(values, cmap=cmap, vmin=low, vmax=high)
        axis.set_title(shorten(str(rdms["target"].values[i]), 24))
        axis.spines[:].set_visible(False)
        axis.set_xticks([])
        axis.set_yticks([])
        _name_groups(axis, groups, first=i % columns == 0)
    for axis in axes.flat[len(squares):]:
        axis.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.7 if rows == 1 else 0.4, aspect=16, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("dissimilarity (percentile rank)" if rank else "dissimilarity")
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = rdms.to_dataframe("dissimilarity").reset_index()
    figure.caption = (f"Dissimilarity of {len(ids)} stimuli, {'ranked within each matrix' if rank else 'raw values'}"
                      f"{f', sorted by {category}' if groups else ''}.")
    figure.alt = f"Dissimilarity matrices of {', '.join(map(str, rdms['target'].values[:8]))}."
    return figure


def picked_targets(rdms: xr.DataArray, targets, most: int, figure: str) -> xr.DataArray:
    """Return the RDMs of the named targets; more than `most` is an error of this figure."""
    rdms = validate_rdms(rdms)
    if targets is not None:
        known = [str(t) for t in rdms["target"].values]
        targets = [targets] if isinstance(targets, str) else list(targets)
        missing = [t for t in targets if str(t) not in known]
        if missing:
            raise ValueError(f"targets: no {list_ids(missing)} in these RDMs; found {list_ids(known)}.")
        rdms = rdms.isel(target=[known.index(str(t)) for t in targets])
    if rdms.sizes["target"] > most:
        raise ValueError(f"{figure}: got {rdms.sizes['target']} RDMs, expected at most {most}. "
                         "Choose some with targets=[...], or average over subjects first.")
    return rdms


def square(rdm: xr.DataArray, ids, *, rank: bool = False) -> np.ndarray:
    """Return one RDM as a square matrix in the order of `ids`; NaN on the diagonal and at unmeasured pairs."""
    values = np.asarray(rdm.values, dtype=float).copy()
    if rank:
        from scipy.stats import rankdata  # a second of import

        known = np.isfinite(values)
        values[known] = 100 * (rankdata(values[known]) - 1) / max(known.sum() - 1, 1)
    place = pd.Index(ids)
    first, second = place.get_indexer(rdm["stimulus_a"].values), place.get_indexer(rdm["stimulus_b"].values)
    out = np.full((len(place), len(place)), np.nan)
    out[first, second] = out[second, first] = values
    return out


def _order(ids, stimuli, category) -> tuple[np.ndarray, list]:
    if stimuli is None:
        return np.arange(len(ids)), []
    table = getattr(stimuli, "table", stimuli)
    if category not in table:
        return np.arange(len(ids)), []
    missing = [i for i in ids if i not in table.index]
    if missing:
        raise ValueError(f"stimuli: no rows for {list_ids(missing)} of the RDMs.")
    names = table.loc[list(ids), category].astype(str).to_numpy()
    place = {name: k for k, name in enumerate(dict.fromkeys(table[category].astype(str)))}
    order = np.argsort([place[n] for n in names], kind="stable")
    sorted_names = names[order]
    edges = np.flatnonzero(sorted_names[1:] != sorted_names[:-1]) + 1
    starts, stops = [0, *edges], [*edges, len(names)]
    return order, [(str(sorted_names[a]), int(a), int(b)) for a, b in zip(starts, stops)]


def _name_groups(axis, groups, first: bool) -> None:
    for name, start, stop in groups:
        if start:
            axis.axhline(start - 0.5, color="white", lw=0.8)
            axis.axvline(start - 0.5, color="white", lw=0.8)
        if first:
            axis.text(-0.03, (start + stop - 1) / 2, shorten(name, 20), ha="right", va="center", fontsize=7.5,
                      color=INK, transform=axis.get_yaxis_transform())
