"""CIFTI-2 files: cortical vertices and subcortical voxels, or parcels, over time or over trials."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from neuroalign.data.dims import make_responses
from neuroalign.data.stimuli import file_sha256
from neuroalign.errors import list_ids, warn_user
from neuroalign.recordings.coordinates import position_coords

__all__ = ["from_cifti", "paint_cifti"]


def from_cifti(files, *, tr: float | None = None, stimulus_ids: Sequence | None = None, subject: str = "",
               space: str = "unknown", units: str = "a.u.") -> xr.DataArray:
    """Read ``.dtseries.nii``, ``.ptseries.nii``, ``.dscalar.nii`` or ``.pscalar.nii``.

    Parameters
    ----------
    files : path or list of paths
        One a run; all with the same grayordinates or parcels.
    tr : float, optional
        Seconds between samples; by default what the file says.
    stimulus_ids : sequence, optional
        What each row is a response to: the rows are then betas, on the dim ``presentation``. Needed for scalars.
    subject : str
    space : str
        Template of the subcortical voxels: positions are called ``x``, ``y``, ``z`` if it is MNI.
    units : str

    Returns
    -------
    DataArray (time | presentation, neuroid)
        Coords of grayordinates: ``structure``, ``hemisphere``, ``vertex`` (-1: a voxel) and positions of voxels (NaN:
        a vertex); of parcels: ``region``. `paint` puts values back into a ``.dscalar`` (or ``.pscalar``) image.
    """
    import nibabel

    listed = [Path(f).expanduser() for f in (files if isinstance(files, (list, tuple)) else [files])]
    values, runs, axis, step = [], [], None, None
    for k, path in enumerate(listed):
        image = _open(nibabel, path)
        rows, columns = (image.header.get_axis(a) for a in (0, 1))
        if axis is not None and columns != axis:
            raise ValueError(f"{path.name}: its grayordinates are not those of {listed[0].name}.")
        axis = columns
        step = getattr(rows, "step", None) if step is None else step
        try:
            values.append(np.asarray(image.dataobj, np.float32))
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"{path.name}: truncated or damaged: {error}") from None
        runs.append(np.full(len(rows), k))
    values, run = np.concatenate(values), np.concatenate(runs)
    ids, coords = _neuroids(nibabel, axis, subject, space)
    bad = ~np.isfinite(values).all(0)
    if bad.any():
        warn_user(f"{listed[0].name}: {int(bad.sum())} of {len(ids)} neuroids have values that are not finite: "
                  f"{list_ids(np.array(ids)[bad])}.", "not-finite", np.array(ids)[bad])
    grid = {"kind": "grayordinates", "file": str(listed[0]), "sha256": file_sha256(listed[0])}
    about = {"space": space, "painting": json.dumps(grid), "source": ", ".join(p.name for p in listed)[:500]}
    if stimulus_ids is not None:
        stimulus_ids = [str(i) for i in stimulus_ids]
        if len(stimulus_ids) != len(values):
            raise ValueError(f"stimulus_ids: got {len(stimulus_ids)} for {len(values)} rows.")
        return make_responses(values, stimulus_ids, ids, dim="presentation", units=units, sample_coords={"run": run},
                              neuroid_coords=coords).assign_attrs(about)
    tr = step if tr is None else tr
    if not tr:
        raise ValueError(f"{listed[0].name}: it does not say what its rows are. Pass stimulus_ids=, or tr= (seconds).")
    times = np.concatenate([np.arange(len(r)) for r in runs]) * float(tr)
    return make_responses(values, times, ids, dim="time", units=units, sfreq=1 / float(tr), sample_coords={"run": run},
                          neuroid_coords=coords).assign_attrs(about)


def paint_cifti(grid: dict, values, table: np.ndarray, fill: float):
    """Make an image of scalars with the grayordinates of the file that was read."""
    import nibabel

    path = Path(grid["file"])
    if not path.is_file() or file_sha256(path) != grid["sha256"]:
        raise ValueError(f"paint: the file {grid['file']!r}, whose grayordinates are needed, is gone or has changed.")
    axis = nibabel.load(path).header.get_axis(1)
    data = np.full((len(table), len(axis)), fill, np.float32)
    data[:, values["unit"].values] = table
    names = nibabel.cifti2.ScalarAxis([f"value {k}" for k in range(len(table))])
    return nibabel.Cifti2Image(data, (names, axis))


def _open(nibabel, path: Path):
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}.")
    try:
        image = nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, OSError, ValueError) as error:
        raise ValueError(f"{path.name}: cannot be read: {error}") from None
    if not isinstance(image, nibabel.Cifti2Image):
        raise ValueError(f"{path.name}: a {type(image).__name__}, not CIFTI; read it by from_nilearn.")
    return image


def _neuroids(nibabel, axis, subject: str, space: str):
    prefix = f"{subject}." if subject else ""
    coords = {"unit": np.arange(len(axis))}
    if subject:
        coords["subject"] = np.full(len(axis), subject)
    if isinstance(axis, nibabel.cifti2.ParcelsAxis):
        names = axis.name.astype(str)
        return [f"{prefix}{n}" for n in names], {**coords, "region": names}
    if not isinstance(axis, nibabel.cifti2.BrainModelAxis):
        raise ValueError(f"cifti: the columns are a {type(axis).__name__}, expected grayordinates or parcels.")
    structure = np.array([n.removeprefix("CIFTI_STRUCTURE_") for n in axis.name.astype(str)])
    vertex, voxel = axis.vertex, axis.voxel
    side = np.where(np.char.endswith(structure, "_LEFT"), "L", np.where(np.char.endswith(structure, "_RIGHT"), "R", ""))
    xyz = np.full((len(axis), 3), np.nan)
    deep = ~axis.surface_mask
    if deep.any():
        xyz[deep] = voxel[deep] @ axis.affine[:3, :3].T + axis.affine[:3, 3]
        coords |= position_coords(xyz, space)
    coords |= {"structure": structure, "hemisphere": side, "vertex": np.where(deep, -1, vertex)}
    ids = [f"{prefix}{s}.{'-'.join(map(str, v)) if d else n}" for s, d, n, v in
           zip(structure, deep, vertex.tolist(), voxel.tolist())]
    return ids, coords
