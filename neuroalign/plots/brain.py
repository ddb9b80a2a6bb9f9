"""Recording sites on a glass brain."""

import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D

from neuroalign.errors import list_ids, warn_user
from neuroalign.plots.select import metric_label
from neuroalign.plots.style import ACCENT, PALETTE, Figure, new_figure, styled

__all__ = ["check_millimetres", "sites"]

# From blue on: the greens before it are those of planted sites.
_DARK = LinearSegmentedColormap.from_list("dark_viridis", mpl.colormaps["viridis_r"](np.linspace(0.55, 1, 256)))
SILENT = "#b4bac4"
PLANTED = PALETTE[2]


@styled
def sites(scores, values=None, *, truth=None, found=None, metric: str | None = None, space: str | None = None,
          alpha: float = 0.05, display: str = "lyrz", label: str | None = None, title: str | None = None) -> Figure:
    """Draw sites on a glass brain; with `truth`, planted sites above the sites that were found.

    Parameters
    ----------
    scores : Dataset or DataFrame
        Scores with neuroid coords ``x``, ``y``, ``z``, or a table with these columns (MNI, mm).
    values : str or array of shape (n_sites,), optional
        Colour of the sites that were found: a column of the table, or numbers. For Scores: the score.
    truth : str or bool array of shape (n_sites,), optional
        Which sites truly respond, where that was planted; a name is a neuroid coord or a column.
    found : bool array of shape (n_sites,), optional
        Which sites were declared; for Scores by default those with q below `alpha`, else all.
    metric, space : str, optional
        Which scores; the first of each by default.
    alpha : float
    display : str
        nilearn's display mode: ``l`` left, ``r`` right, ``x`` both from the side, ``y`` front, ``z`` top.
    label : str, optional
        Name of the colour bar.
    title : str, optional

    Returns
    -------
    Figure
        With `truth`, the title of the lower row gives the false-discovery proportion and the power.

    Raises
    ------
    ValueError
        If the coordinates look like metres, or lie outside any head.
    """
    table, label = _table(scores, values, truth, found, metric, space, alpha, label)
    check_millimetres(table[["x", "y", "z"]].to_numpy())
    known = np.isfinite(table[["x", "y", "z"]].to_numpy(dtype=float)).all(1)
    if not known.all():
        warn_user(f"sites: {(~known).sum()} sites have no coordinates and are not drawn: "
                  f"{list_ids(table.index[~known])}.", "no-coordinates", table.index[~known])
    planted = "truth" in table
    rows = 2 if planted else 1
    figure = new_figure(8.6, 2.45 * rows + 0.55, layout=None)
    drawn = table[known]
    tops = np.linspace(0.93 if title else 0.97, 0.13 if planted else 0.16, rows + 1)
    if planted:
        color = np.where(drawn["truth"], PLANTED, SILENT)
        said = f"Planted: {int(table['truth'].sum())} of {len(table)} sites respond"
        _row(figure, (tops[0], tops[1]), drawn, color, drawn["truth"], display, said)
    mapper = _mapper(drawn.loc[drawn["found"], "value"])
    color = np.array([mapper.to_rgba(v) if f else SILENT for v, f in zip(drawn["value"], drawn["found"])], object)
    rings = {}
    if planted:
        rings = {ACCENT: drawn["found"] & ~drawn["truth"], PLANTED: drawn["truth"] & ~drawn["found"]}
    _row(figure, (tops[-2], tops[-1]), drawn, color, drawn["found"], display, _verdict(table, planted), rings)
    _legend(figure, mapper, label, planted, rings)
    if title:
        figure.suptitle(title, x=0.02, y=0.985, ha="left")
    figure.data = table.rename_axis("site").reset_index()
    figure.caption = _caption(planted, scores, space)
    figure.alt = f"Glass brain with {len(drawn)} sites. {_verdict(table, planted)}."
    return figure


def check_millimetres(xyz: np.ndarray) -> None:
    """Raise if coordinates cannot be MNI millimetres: by their extent, metres are told from millimetres."""
    extent = np.nanmax(np.abs(xyz)) if np.isfinite(xyz).any() else np.nan
    if not np.isfinite(extent):
        raise ValueError("sites: no site has coordinates x, y, z; expected MNI millimetres.")
    if extent < 1:
        raise ValueError(f"sites: coordinates reach only {extent:.3g}; they look like metres, expected MNI "
                         "millimetres. Multiply x, y and z by 1000.")
    if extent > 200:
        raise ValueError(f"sites: coordinates reach {extent:.4g}, outside any head; expected MNI millimetres. "
                         "Check their units and space (voxel indices? micrometres?).")


def _table(scores, values, truth, found, metric, space, alpha, label):
    """One row a site: x, y, z, value, found[, truth]."""
    if isinstance(scores, xr.Dataset):
        if "time_bin" in scores["score"].dims:
            raise ValueError(f"sites: {scores.sizes['time_bin']} time bins, this figure draws one. Choose it with "
                             "scores.sel(time_bin=0.3, method='nearest').")
        dim = "neuroid" if "neuroid" in scores.dims else "target"
        picked = scores.sel(metric=metric or scores["metric"].values[0], space=space or scores["space"].values[0])
        missing = [c for c in "xyz" if c not in picked.coords]
        if missing:
            raise ValueError(f"sites: the Scores have no coords {', '.join(missing)} on {dim!r}; expected x, y, z "
                             "(MNI, mm). Give them with the responses: make_responses(..., neuroid_coords=...).")
        table = pd.DataFrame({c: picked[c].values for c in "xyz"}, index=picked[dim].values.astype(str))
        table["value"] = picked["score"].values
        if found is None:
            found = picked["q"].values < alpha if "q" in picked else np.isfinite(picked["score"].values)
        if isinstance(truth, str):
            truth = picked[truth].values
        label = label or metric_label(str(picked["metric"].values))
    else:
        missing = [c for c in "xyz" if c not in scores]
        if missing:
            raise ValueError(f"sites: the table has no columns {', '.join(missing)}; expected x, y, z (MNI, mm).")
        table = scores[["x", "y", "z"]].copy()
        if isinstance(truth, str):
            truth = scores[truth].to_numpy()
        if isinstance(values, str):
            label, values = label or values, scores[values].to_numpy()
        table["value"] = 1.0 if values is None else np.nan
        found = np.ones(len(table), bool) if found is None else found
    if values is not None:
        table["value"] = np.asarray(values, dtype=float)
    table["found"] = np.asarray(found, dtype=bool)
    if truth is not None:
        table["truth"] = np.asarray(truth, dtype=bool)
    return table, label or "value"


def _mapper(values) -> ScalarMappable:
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    low, high = (min(0.0, values.min()), values.max()) if values.size else (0.0, 1.0)
    return ScalarMappable(Normalize(low, high if high > low else low + 1), _DARK)


def _row(figure, span, table, color, front, display, said, rings=None) -> None:
    from nilearn import plotting  # two seconds of import

    top, bottom = span
    height = top - bottom
    axis = figure.add_axes((0.01, bottom, 0.98, height - 0.065))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nilearn warns of empty views
        shown = plotting.plot_glass_brain(None, display_mode=display, figure=figure, axes=axis,
                                          annotate=False, alpha=0.4)
        xyz = table[["x", "y", "z"]].to_numpy(dtype=float)
        size = float(np.clip(4500 / max(len(table), 1), 9, 34))
        front = np.asarray(front, dtype=bool)
        for mask, scale, zorder in ((~front, 0.7, 2), (front, 1.0, 3)):
            if mask.any():
                shown.add_markers(xyz[mask], marker_color=list(color[mask]), marker_size=size * scale,
                                  edgecolors="none", zorder=zorder)
        for ring, mask in (rings or {}).items():
            if np.any(mask):
                shown.add_markers(xyz[np.asarray(mask)], marker_color="none", zorder=4, edgecolors=ring,
                                  marker_size=size * (2 if ring == ACCENT else 1), linewidths=1.1)
    figure.text(0.02, top - 0.005, said, ha="left", va="top", fontsize=10, fontweight="bold")


def _verdict(table, planted: bool) -> str:
    found = table["found"].to_numpy()
    said = f"Found: {int(found.sum())} of {len(table)} sites"
    if planted:
        truth = table["truth"].to_numpy()
        hits, false = int((found & truth).sum()), int((found & ~truth).sum())
        said += (f" · false-discovery proportion {false / max(int(found.sum()), 1):.2f} ({false} false)"
                 f" · power {hits / max(int(truth.sum()), 1):.2f} ({hits} of {int(truth.sum())})")
    return said


def _legend(figure, mapper, label, planted, rings) -> None:
    axis = figure.add_axes((0.64, 0.075 if planted else 0.11, 0.26, 0.02 if planted else 0.035))
    bar = figure.colorbar(mapper, cax=axis, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=4)
    bar.ax.tick_params(length=2, labelsize=7.5)
    bar.set_label(label, fontsize=8, labelpad=1)
    handles = []
    if planted:
        handles.append(Line2D([], [], ls="", marker="o", ms=5, mfc=PLANTED, mec="none", label="planted"))
    handles.append(Line2D([], [], ls="", marker="o", ms=4, mfc=SILENT, mec="none",
                          label="silent / not found" if planted else "not found"))
    for ring, said in ((PLANTED, "planted, missed"), (ACCENT, "found, not planted")):
        if np.any(rings.get(ring, False)):
            handles.append(Line2D([], [], ls="", marker="o", ms=5 if ring == PLANTED else 7, mfc="none", mec=ring,
                                  label=said))
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.01, 0.01), ncols=2, columnspacing=1.4)


def _caption(planted, scores, space) -> str:
    said = "Sites at their MNI coordinates (mm), seen through the brain."
    if isinstance(scores, xr.Dataset):
        of, n = space or scores["space"].values[0], scores.sizes["space"]
        said += f" Space: {of}{f', one of {n}' if n > 1 else ''}."
    if planted:
        said += (" Above: where a response was planted. Below: where it was found, coloured by value; orange "
                 "rings: false discoveries; green rings: planted sites that were missed.")
    return said
