"""Scores of EEG or MEG sensors over the head, along time."""

import warnings

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from neuroalign.data import scores as scores_
from neuroalign.errors import check_option, list_ids
from neuroalign.plots.select import metric_label, picked_spaces, shorten, space_label
from neuroalign.plots.style import Figure, new_figure, styled

__all__ = ["sensor_info", "topomap"]

MOST_SPACES, MOST_TIMES = 4, 8


@styled
def topomap(scores: xr.Dataset, info, metric: str | None = None, *, times=None, spaces=None, alpha: float = 0.05,
            title: str | None = None) -> Figure:
    """Draw the scores of sensors on a head seen from above: one column a time, one row a space.

    Parameters
    ----------
    scores : Dataset
        Of one subject, or averaged over subjects: one neuroid a sensor, whose ``neuroid_id`` is the sensor's name.
    info : mne.Info or str
        Where the sensors are, or the name of a montage that MNE has (``"biosemi64"``). Sensors of one kind alone.
    metric : str, optional
        The first of the Scores by default.
    times : sequence of float, optional
        Seconds from the event, at most 8; the nearest bins are drawn. By default six, evenly spread. Only for Scores
        with a ``time_bin``.
    spaces : sequence of str, optional
        Space ids to draw, at most 4; all by default.
    alpha : float
        Sensors with q below it are marked by a white dot.
    title : str, optional

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a neuroid is no sensor of `info`, or sensors have no position.
    """
    scores_.validate(scores)
    if "neuroid" not in scores["score"].dims:
        raise ValueError("topomap: the Scores have no dim 'neuroid'; expected one neuroid a sensor.")
    names = [str(m) for m in scores["metric"].values]
    metric = check_option("metric", metric or names[0], names)
    data = picked_spaces(scores.sel(metric=metric), spaces, MOST_SPACES, "time_course(scores)")
    sensors = data["neuroid_id" if "neuroid_id" in data.coords else "neuroid"].values.astype(str)
    info = sensor_info(info, sensors)
    data, columns = _at_times(data, times)
    values = data["score"].transpose("space", "neuroid", "time_bin").values
    small = (np.nan_to_num(data["q"].transpose("space", "neuroid", "time_bin").values, nan=1) < alpha
             if "q" in data else np.zeros(values.shape, bool))
    cmap, norm = _colours(values)
    rows, side = data.sizes["space"], 1.45
    figure = new_figure(max(side * len(columns) + 1.5, 3.4), (side + 0.3) * rows + (0.6 if title else 0.25))
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for (i, j), axis in np.ndenumerate(axes):
        _head(axis, values[i, :, j], small[i, :, j], info, cmap, norm)
        if i == 0 and columns[j]:
            axis.set_title(columns[j], loc="center", fontsize=9, fontweight="normal")
        if j == 0 and rows > 1:
            axis.set_ylabel(_stacked(str(data["space"].values[i])), fontsize=8)
    bar = figure.colorbar(ScalarMappable(norm, cmap), ax=axes, shrink=min(1.0, 1.5 / rows + 0.2), aspect=14, pad=0.02)
    bar.outline.set_visible(False)
    bar.locator = mpl.ticker.MaxNLocator(4)
    bar.set_label(metric_label(metric))
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = scores_.to_frame(scores.sel(metric=[metric]))
    figure.caption = _caption(metric, scores, small, alpha, rows)
    figure.alt = _alt(data, values, sensors, columns)
    return figure


def _stacked(space: str) -> str:
    return "\n".join(shorten(part, 20) for part in space_label(space).split(" · "))


def sensor_info(info, sensors):
    """Return the Info of these sensors, in their order."""
    import mne  # a second of import

    if isinstance(info, str):
        montage = mne.channels.make_standard_montage(check_option("info", info, mne.channels.get_builtin_montages()))
        info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    missing = [s for s in sensors if s not in info.ch_names]
    if missing:
        raise ValueError(f"topomap: no sensors {list_ids(missing)} in the info, which has {list_ids(info.ch_names)}. "
                         "Neuroids must carry the sensors' names (coord neuroid_id), of one subject.")
    if len(set(sensors)) < len(sensors):
        raise ValueError(f"topomap: {len(sensors) - len(set(sensors))} sensors stand there more than once. Choose one "
                         "subject, or average over subjects first.")
    picked = mne.pick_info(info, [info.ch_names.index(s) for s in sensors])
    kinds = sorted(set(picked.get_channel_types()))
    if len(kinds) > 1:
        raise ValueError(f"topomap: sensors of several kinds ({', '.join(kinds)}); draw one kind at a time.")
    nowhere = [c["ch_name"] for c in picked["chs"] if not np.isfinite(c["loc"][:3]).all() or not c["loc"][:3].any()]
    if nowhere:
        raise ValueError(f"topomap: sensors {list_ids(nowhere)} have no position. Set a montage: "
                         "info.set_montage('biosemi64').")
    return picked


def _at_times(data: xr.Dataset, times) -> tuple[xr.Dataset, list[str]]:
    if "time_bin" not in data["score"].dims:
        if times is not None:
            raise ValueError("times: the Scores have no time_bin; leave `times` out.")
        return data.expand_dims("time_bin"), [""]
    known = data["time_bin"].values.astype(float)
    if times is None:
        places = np.unique(np.linspace(0, len(known) - 1, min(6, len(known))).round().astype(int))
    else:
        times = np.atleast_1d(np.asarray(times, float))
        beyond = [t for t in times if not known.min() - 1e-9 <= t <= known.max() + 1e-9]
        if beyond:
            raise ValueError(f"times: {list_ids(f'{t:g} s' for t in beyond)} outside the Scores, which run from "
                             f"{known.min():g} to {known.max():g} s.")
        places = np.array([np.abs(known - t).argmin() for t in times])
    if len(places) > MOST_TIMES:
        raise ValueError(f"times: got {len(places)}, expected at most {MOST_TIMES}.")
    return data.isel(time_bin=places), [f"{known[k]:.2f} s".replace("-", "−") for k in places]


def _colours(values):
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if low < -0.25 * max(high, 0):
        most = max(-low, high)
        return mpl.colormaps["RdBu_r"], Normalize(-most, most)
    return mpl.colormaps["viridis"], Normalize(min(low, 0.0), high if high > 0 else 1.0)


def _head(axis, values, small, info, cmap, norm) -> None:
    import mne

    known = np.isfinite(values)
    axis.set(xticks=[], yticks=[])
    if known.sum() < 4:  # too few sensors to fill a head
        axis.text(0.5, 0.5, "no values", transform=axis.transAxes, ha="center", va="center", fontsize=8)
        axis.spines[:].set_visible(False)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne.viz.plot_topomap(values[known], mne.pick_info(info, np.flatnonzero(known)), axes=axis, show=False,
                             cmap=cmap, vlim=(norm.vmin, norm.vmax), sensors=False, contours=0, res=96,
                             mask=small[known],
                             mask_params={"marker": "o", "markerfacecolor": "white", "markeredgecolor": "#1f2430",
                                          "markeredgewidth": 0.4, "markersize": 2.6})


def _caption(metric, scores, small, alpha, rows) -> str:
    said = [f"{metric_label(metric)} of every sensor, interpolated between sensors; the nose points up."]
    if "time_bin" in scores["score"].dims:
        said.append("Columns: seconds from the event." + (" Rows: feature spaces." if rows > 1 else ""))
    if "q" in scores:
        said.append(f"White dots: sensors with q < {alpha:g}." if small.any() else f"No sensor has q < {alpha:g}.")
    return " ".join(said)


def _alt(data, values, sensors, columns) -> str:
    parts = []
    for i, space in enumerate(data["space"].values):
        if np.isfinite(values[i]).any():
            k, j = np.unravel_index(np.nanargmax(values[i]), values[i].shape)
            at = f" at {columns[j]}" if columns[j] else ""
            parts.append(f"{space_label(str(space))}: highest {values[i, k, j]:.2f}, sensor {sensors[k]}{at}")
    return f"Heads with {len(sensors)} sensors. " + "; ".join(parts) + "."
