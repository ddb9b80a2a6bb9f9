"""Assemblies as Brain-Score wants them, and back."""

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_responses, sample_dim
from neuroalign.errors import list_ids

__all__ = ["from_brainscore", "to_brainscore"]


def to_brainscore(array: xr.DataArray, *, bin_width: float | None = None) -> xr.DataArray:
    """Turn Responses or features into an array that Brain-Score's ``NeuroidAssembly`` takes.

    Parameters
    ----------
    array : DataArray (stimulus | presentation, neuroid[, time_bin]) or (stimulus, feature)
        Features become neuroids named ``model.layer.number``.
    bin_width : float, optional
        Seconds of a time bin; by default the step between bins.

    Returns
    -------
    DataArray (presentation, neuroid[, time_bin])
        Coords of a dim are levels of its MultiIndex, as Brain-Score has them: ``stimulus_id`` on presentations,
        ``neuroid_id`` and ``neuroid_num`` on neuroids, ``time_bin_start`` and ``time_bin_end`` (ms) on time bins.
        netCDF cannot hold a MultiIndex: save what `from_brainscore` returns.

    Raises
    ------
    ValueError
        If samples are points in time instead of stimuli.

    Notes
    -----
    The coords and dims are those that ``NeuroidAssembly`` of brainscore_core checks; wrap the result in it.

    Examples
    --------
    >>> y = make_responses(np.zeros((2, 2)), ["a", "b"], ["v1", "v2"])
    >>> to_brainscore(y).indexes["neuroid"].names
    FrozenList(['neuroid_id', 'neuroid_num'])
    """
    dim = sample_dim(array)
    if dim == "time":
        raise ValueError("to_brainscore: samples are points in time; expected stimuli or presentations. Cut the "
                         "recording into events first.")
    out = array.rename({dim: "presentation"}) if dim != "presentation" else array
    if "stimulus_id" not in out.coords:
        out = out.assign_coords(stimulus_id=("presentation", out["presentation"].values.astype(str)))
    if "feature" in out.dims:
        out = _features_as_neuroids(out)
    elif "neuroid_id" not in out.coords:
        out = out.assign_coords(neuroid_id=("neuroid", out["neuroid"].values.astype(str)))
    out = out.assign_coords(neuroid_num=("neuroid", np.arange(out.sizes["neuroid"])))
    bins = {}
    if "time_bin" in out.dims:
        centre = 1000 * out["time_bin"].values.astype(float)
        width = _width(centre, bin_width)
        bins = {"time_bin_start": ("time_bin", centre - width / 2), "time_bin_end": ("time_bin", centre + width / 2)}
    plain = out.drop_vars([d for d in out.dims if d in out.coords]).assign_coords(bins)
    plain = plain.transpose("presentation", "neuroid", ...)
    first = {"presentation": "stimulus_id", "neuroid": "neuroid_id", "time_bin": "time_bin_start"}
    levels = {d: [str(c) for c in plain.coords if plain[c].dims == (d,)] for d in plain.dims}
    plain = plain.drop_vars([c for c in plain.coords if plain[c].dims not in {(d,) for d in plain.dims}])
    for d, names in levels.items():
        names = sorted(names, key=lambda c: (c != first[d], c != "neuroid_num", c))
        index = pd.MultiIndex.from_arrays([plain[c].values for c in names], names=names)
        plain = plain.drop_vars(names).assign_coords(xr.Coordinates.from_pandas_multiindex(index, d))
    return plain


def from_brainscore(assembly: xr.DataArray, *, kind: str = "simulated", units: str = "a.u.") -> xr.DataArray:
    """Turn a Brain-Score assembly into Responses.

    Parameters
    ----------
    assembly : DataArray (presentation, neuroid[, time_bin])
    kind, units : str
        What was recorded, which assemblies do not say; see `make_responses`.

    Returns
    -------
    DataArray
        On ``presentation``, or on ``stimulus`` where every stimulus was shown once. ``time_bin`` is the centre of each
        bin in seconds; a single bin is dropped, as assemblies of firing rates have one.

    Examples
    --------
    >>> y = make_responses([[1.0, 2.0], [3.0, 4.0]], ["a", "b"], ["v1", "v2"])
    >>> bool((from_brainscore(to_brainscore(y)) == y).all())
    True
    """
    missing = {"presentation", "neuroid"} - set(assembly.dims)
    if missing or set(assembly.dims) - {"presentation", "neuroid", "time_bin"}:
        raise ValueError(f"from_brainscore: got dims {assembly.dims}, expected presentation, neuroid[, time_bin].")
    plain = xr.DataArray(assembly)
    plain = plain.reset_index([d for d in plain.dims if d in plain.indexes])
    absent = [c for c in ("stimulus_id", "neuroid_id") if c not in plain.coords]
    if absent:
        raise ValueError(f"from_brainscore: no coords {list_ids(absent)}; found {list_ids(plain.coords)}.")
    of = {d: {str(c): plain[c].values for c in plain.coords if plain[c].dims == (d,) and c != d} for d in plain.dims}
    bins = None
    if "time_bin" in plain.dims:
        known = of["time_bin"]
        bins = (np.asarray(known["time_bin_start"], float) + np.asarray(known["time_bin_end"], float)) / 2000
        if len(bins) == 1:
            plain, bins = plain.isel(time_bin=0), None
    plain = plain.transpose("presentation", "neuroid", ...)
    stimulus, neuroid = of["presentation"].pop("stimulus_id").astype(str), of["neuroid"].pop("neuroid_id").astype(str)
    of["neuroid"].pop("neuroid_num", None)
    once = len(set(stimulus)) == len(stimulus)
    return make_responses(plain.values, stimulus, neuroid, dim="stimulus" if once else "presentation", kind=kind,
                          units=units, sample_coords=of["presentation"], neuroid_coords=of["neuroid"], time_bins=bins)


def _features_as_neuroids(features: xr.DataArray) -> xr.DataArray:
    about = {c: str(features.coords[c].item()) if c in features.coords else "" for c in ("model", "layer", "stream")}
    n = features.sizes["feature"]
    out = features.rename(feature="neuroid")
    names = [f"{about['model']}.{about['layer']}.{k}" for k in range(n)]
    out = out.drop_vars([c for c in out.coords if not out[c].dims] + (["neuroid"] if "neuroid" in out.coords else []))
    return out.assign_coords({"neuroid_id": ("neuroid", names)}
                             | {c: ("neuroid", np.full(n, v)) for c, v in about.items()})


def _width(centre: np.ndarray, bin_width: float | None) -> float:
    """Return the width of bins in ms."""
    if bin_width is not None:
        return 1000 * bin_width
    if len(centre) < 2:
        raise ValueError("bin_width: one time bin has no step to other bins; say how many seconds it spans.")
    return float(np.median(np.diff(centre)))
