"""Dims and coords: the words that every labelled array of neuroalign uses, and their validation.

Features are ``(sample dim, feature)`` arrays, one per space; Responses ``(sample dim, neuroid[, time_bin])``;
RDMs ``(target, pair)``. The sample dim is exactly one of `SAMPLE_DIMS`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.errors import list_ids

__all__ = [
    "RESPONSE_KINDS",
    "SAMPLE_DIMS",
    "make_features",
    "make_rdms",
    "make_responses",
    "pair_ids",
    "same_clock",
    "sample_dim",
    "space_id",
    "validate_features",
    "validate_rdms",
    "validate_responses",
]

SAMPLE_DIMS = ("stimulus", "presentation", "time")
RESPONSE_KINDS = ("seeg", "ecog", "eeg", "meg", "fmri", "behaviour", "simulated")


def sample_dim(array: xr.DataArray, what: str = "array") -> str:
    """Return the one sample dim (`stimulus`, `presentation` or `time`) of an array, which errors call `what`.

    Raises
    ------
    ValueError
        If the array has none or more than one of them.
    """
    found = [d for d in array.dims if d in SAMPLE_DIMS]
    if len(found) != 1:
        hint = (f"Select from or average over all but one of {', '.join(found)}." if found else
                "Rename the axis of samples, for example "
                f".rename({next(iter(array.dims), 'image')}='stimulus'), and give it a coord 'stimulus_id'.")
        raise ValueError(f"{what}: got dims {tuple(array.dims)}, expected exactly one of {', '.join(SAMPLE_DIMS)}. "
                         f"{hint}")
    return found[0]


def same_clock(first, second) -> bool:
    """Return whether two series of seconds are the same, to a hundredth of a step and what their types can hold.

    Examples
    --------
    >>> same_clock([0.0, 0.1, 0.2], [0.0, 0.1, 0.3 - 0.1]), same_clock([5e3, 5e3 + 0.1], [5e3 + 0.02, 5e3 + 0.12])
    (True, False)
    """
    first, second = np.asarray(first), np.asarray(second)
    if len(first) != len(second):
        return False
    if not len(first):
        return True
    held = max((np.spacing(np.abs(t).max()) for t in (first, second) if t.dtype.kind == "f"), default=0.0)
    first, second = first.astype(float), second.astype(float)
    step = np.median(np.abs(np.diff(second))) if len(second) > 1 else 0.0
    return bool((np.abs(first - second) <= max(1e-6, 0.01 * step) + held).all())


def space_id(model: str, layer: str, stream: str) -> str:
    """Spell the id of a feature space, ``model:layer:stream``."""
    return f"{model}:{layer}:{stream}"


def make_features(values, sample_ids, *, model: str, layer: str = "", stream: str = "all",
                  depth: float = np.nan, dim: str = "stimulus", coords: Mapping | None = None) -> xr.DataArray:
    """Label one feature space.

    Parameters
    ----------
    values : array of shape (n_samples, n_features)
        Kept as it is (a memory map stays one).
    sample_ids : sequence of str, or of float seconds if `dim` is ``"time"``
    model, layer, stream : str
        The three parts of the space id.
    depth : float
        Relative depth of the layer, 0 (input) to 1 (last block).
    coords : mapping, optional
        Further coords of the sample dim (for instance ``onset``).

    Returns
    -------
    DataArray of shape (n_samples, n_features)
        With scalar coords ``space_id``, ``model``, ``layer``, ``stream``, ``depth``.

    Examples
    --------
    >>> make_features(np.eye(2), ["a", "b"], model="toy", layer="block1").space_id.item()
    'toy:block1:all'
    """
    name = space_id(model, layer, stream)
    main = dim if dim == "time" else "stimulus_id" if dim == "presentation" else "stimulus"
    labels = {main: (dim, np.asarray(sample_ids))}
    if dim == "stimulus":
        labels = {"stimulus": ("stimulus", np.asarray(sample_ids)),
                  "stimulus_id": ("stimulus", np.asarray(sample_ids))}
    for key, value in (coords or {}).items():
        labels[key] = (dim, np.asarray(value))
    scalars = {"space_id": name, "model": model, "layer": layer, "stream": stream, "depth": float(depth)}
    array = xr.DataArray(values, dims=(dim, "feature"), coords={**labels, **scalars}, name=name)
    return validate_features(array)


def make_responses(values, sample_ids, neuroid_ids, *, dim: str = "stimulus", kind: str = "fmri",
                   units: str = "a.u.", sfreq: float | None = None, sample_coords: Mapping | None = None,
                   neuroid_coords: Mapping | None = None, time_bins=None) -> xr.DataArray:
    """Label a matrix of responses.

    Parameters
    ----------
    values : array of shape (n_samples, n_neuroids[, n_time_bins])
    sample_ids : sequence
        Stimulus ids; for `dim` ``"time"`` the seconds of the samples.
    neuroid_ids : sequence of str
        Unique names of the measured units.
    dim : {"stimulus", "presentation", "time"}
    kind, units, sfreq
        Stored as attrs.
    sample_coords, neuroid_coords : mapping of str to sequence, optional
        Further coords, for example ``run``; ``subject``, ``region``, ``x``, ``y``, ``z`` (MNI, mm).
    time_bins : sequence of float, optional
        Centres of the time bins in seconds from the event.

    Examples
    --------
    >>> make_responses([[1.0, 2.0], [3.0, 4.0]], ["a", "b"], ["v1", "v2"]).dims
    ('stimulus', 'neuroid')
    """
    values = np.asarray(values, dtype=np.float32)
    dims = (dim, "neuroid") if time_bins is None else (dim, "neuroid", "time_bin")
    ids = np.asarray(sample_ids)
    expected = (len(ids), len(neuroid_ids), *(() if time_bins is None else (len(time_bins),)))
    if values.shape != expected:
        turned = " They look transposed: pass values.T." if values.shape == expected[::-1] else ""
        bins = "" if time_bins is None else f", {len(time_bins)} time bins"
        raise ValueError(f"make_responses: values have shape {values.shape}, expected {expected}: {len(ids)} sample "
                         f"ids, {len(neuroid_ids)} neuroid ids{bins}.{turned}")
    coords = {"neuroid": ("neuroid", np.asarray(neuroid_ids)),
              "neuroid_id": ("neuroid", np.asarray(neuroid_ids))}
    if dim in ("stimulus", "time"):
        coords[dim] = (dim, ids)
    if dim != "time":
        coords["stimulus_id"] = (dim, ids)
    if time_bins is not None:
        coords["time_bin"] = ("time_bin", np.asarray(time_bins, dtype=float))
    coords.update({k: (dim, np.asarray(v)) for k, v in (sample_coords or {}).items()})
    coords.update({k: ("neuroid", np.asarray(v)) for k, v in (neuroid_coords or {}).items()})
    attrs = {"kind": kind, "units": units}
    if sfreq is not None:
        attrs["sfreq"] = float(sfreq)
    return validate_responses(xr.DataArray(values, dims=dims, coords=coords, attrs=attrs, name="responses"))


def pair_ids(ids: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Return the two ids of every pair of the condensed upper triangle, in row order.

    Examples
    --------
    >>> a, b = pair_ids(["x", "y", "z"])
    >>> list(zip(a.tolist(), b.tolist()))
    [('x', 'y'), ('x', 'z'), ('y', 'z')]
    """
    ids = np.asarray(ids)
    first, second = np.triu_indices(len(ids), 1)
    return ids[first], ids[second]


def make_rdms(values, stimulus_ids=None, *, pairs=None, targets=None, target_coords: Mapping | None = None,
              attrs: Mapping | None = None) -> xr.DataArray:
    """Label dissimilarities.

    Parameters
    ----------
    values : array of shape (n_targets, n_pairs), (n_pairs,), (n, n) or (n_targets, n, n)
        Dissimilarities; NaN where a pair was not measured. Of square matrices, which need `stimulus_ids` and must
        be symmetric, the upper triangle is taken.
    stimulus_ids : sequence of str, optional
        Ids of the rows of the square matrix: pairs are its upper triangle in row order.
    pairs : tuple of two sequences of str, optional
        The ids of each pair, where only some pairs were judged.
    targets : sequence of str, optional
        Names of the owners (unique).
    target_coords : mapping, optional
        ``subject``, ``region``, ``session``, ...

    Examples
    --------
    >>> make_rdms([[0.1, 0.2, 0.3]], stimulus_ids=["x", "y", "z"], targets=["IT"]).dims
    ('target', 'pair')
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float32))
    if stimulus_ids is not None and values.shape[-2:] == (len(stimulus_ids),) * 2:
        values = _condense(values)
    if (stimulus_ids is None) == (pairs is None):
        raise ValueError("make_rdms: give either stimulus_ids (a full triangle) or pairs, not both or none.")
    first, second = pair_ids(stimulus_ids) if pairs is None else map(np.asarray, pairs)
    names = np.asarray([f"target{i}" for i in range(len(values))] if targets is None else targets)
    if values.shape != (len(names), len(first)):
        raise ValueError(
            f"make_rdms: values have shape {values.shape}, expected ({len(names)} targets, {len(first)} pairs)."
        )
    coords = {"target": ("target", names), "stimulus_a": ("pair", first), "stimulus_b": ("pair", second)}
    coords.update({k: ("target", np.asarray(v)) for k, v in (target_coords or {}).items()})
    rdms = xr.DataArray(values, dims=("target", "pair"), coords=coords, attrs=dict(attrs or {}), name="rdms")
    return validate_rdms(rdms)


def validate_features(array: xr.DataArray) -> xr.DataArray:
    """Check the dims and ids of one feature space and return it."""
    dim = sample_dim(array, "features")
    if set(array.dims) != {dim, "feature"}:
        hint = ""
        if "neuroid" in array.dims:
            hint = " These are responses: `compare` and `encode` take them beside features."
        raise ValueError(f"features: got dims {tuple(array.dims)}, expected ({dim!r}, 'feature').{hint}")
    _require_unique(array, "stimulus", "features")
    return array


def validate_responses(array: xr.DataArray) -> xr.DataArray:
    """Check the dims, ids and kind of Responses and return them."""
    if not isinstance(array, xr.DataArray):
        raise TypeError(f"responses: got {type(array).__name__}, expected a labelled DataArray. Make one by "
                        "neuroalign.data.make_responses(values, stimulus_ids, neuroid_ids).")
    dim = sample_dim(array, "responses")
    extra = set(array.dims) - {dim, "neuroid", "time_bin"}
    if "neuroid" not in array.dims or extra:
        raise ValueError(
            f"responses: got dims {tuple(array.dims)}, expected ({dim!r}, 'neuroid') or "
            f"({dim!r}, 'neuroid', 'time_bin')."
        )
    if dim != "time" and "stimulus_id" not in array.coords:
        raise ValueError(f"responses: no coord 'stimulus_id' on {dim!r}; rows are matched by it. Add it.")
    if array.attrs.get("kind", "fmri") not in RESPONSE_KINDS:
        raise ValueError(
            f"responses: attrs['kind'] is {array.attrs['kind']!r}, expected one of {', '.join(RESPONSE_KINDS)}."
        )
    _require_unique(array, "stimulus", "responses")
    _require_unique(array, "neuroid_id", "responses")
    return array


def validate_rdms(array: xr.DataArray) -> xr.DataArray:
    """Check the dims and pair ids of RDMs and return them."""
    if set(array.dims) != {"target", "pair"}:
        raise ValueError(f"RDMs: got dims {tuple(array.dims)}, expected ('target', 'pair').")
    for coord in ("stimulus_a", "stimulus_b"):
        if coord not in array.coords:
            raise ValueError(f"RDMs: no coord {coord!r} on 'pair'; pairs are matched by the ids of both stimuli.")
    same = array.stimulus_a.values == array.stimulus_b.values
    if same.any():
        raise ValueError(f"RDMs: pairs of a stimulus with itself: {list_ids(array.stimulus_a.values[same])}. "
                         "Drop the diagonal.")
    _require_unique(array, "target", "RDMs")
    return array


def _condense(squares: np.ndarray) -> np.ndarray:
    """Return the upper triangles, in row order, of one or several symmetric matrices."""
    if not np.allclose(squares, np.swapaxes(squares, -1, -2), equal_nan=True):
        raise ValueError("make_rdms: a square matrix of dissimilarities is not symmetric. Average it with its "
                         "transpose, or pass its upper triangle.")
    first, second = np.triu_indices(squares.shape[-1], 1)
    return np.atleast_2d(squares[..., first, second])


def _require_unique(array: xr.DataArray, coord: str, what: str) -> None:
    if coord not in array.coords:
        return
    ids = pd.Index(array[coord].values)
    if ids.has_duplicates:
        presented = (", or use dim 'presentation' with a stimulus_id coord for repetitions" if coord == "stimulus"
                     else "")
        raise ValueError(f"{what}: {coord} is not unique; more than once: {list_ids(ids[ids.duplicated()].unique())}. "
                         f"Rename them{presented}.")
