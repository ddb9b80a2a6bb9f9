"""Painting: from one value a neuroid back to a volume or a surface.

What a masker did travels with the Responses as coords of `neuroid` (``unit``, and ``i, j, k`` of a voxel, ``vertex``
of a surface, ``label`` of a region) and as a short description of the grid, ``attrs["painting"]``. Both survive
netCDF, selection and `encode`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from neuroalign.errors import list_ids
from neuroalign.recordings.cifti import paint_cifti

__all__ = ["as_surface", "describe_grid", "paint"]

FSAVERAGE5 = 10242  # vertices of a hemisphere


def paint(values: xr.DataArray, like, *, fill: float = np.nan):
    """Paint values of neuroids into the image that they came from.

    Parameters
    ----------
    values : DataArray (neuroid,) or (anything, neuroid)
        For example ``scores["score"].sel(metric="r.pooled", space=...)``; a second dim becomes the fourth axis.
    like : DataArray or nilearn masker
        The Responses that `from_nilearn` or `from_cifti` made, or the masker that was used. Regions of a label image
        that was not a file, of maps and of surface parcels need the masker.
    fill : float
        Where there is no neuroid.

    Returns
    -------
    Nifti1Image, SurfaceImage or Cifti2Image

    Examples
    --------
    >>> image = paint(scores["score"].isel(metric=0, space=0), bold)      # doctest: +SKIP
    >>> nilearn.plotting.plot_stat_map(image)                             # doctest: +SKIP
    """
    if "neuroid" not in values.dims or values.ndim > 2:
        raise ValueError(f"paint: values have dims {values.dims}, expected ('neuroid',) or one more. Select a metric, "
                         "a space, ...: scores['score'].sel(metric=..., space=...).")
    if "unit" not in values.coords:
        raise ValueError("paint: values have no coord 'unit' on 'neuroid'; only what `from_nilearn` or "
                         "`from_cifti` read can be painted.")
    table = np.atleast_2d(values.transpose(..., "neuroid").values.astype(np.float32))
    unit = values["unit"].values
    if len(set(unit.tolist())) < len(unit):
        raise ValueError("paint: several neuroids stand at one place: of several subjects? Select one, "
                         "values[:, values.subject == 'sub-01'].")
    if hasattr(like, "inverse_transform"):
        return _by_masker(like, table, unit, fill)
    if "painting" not in getattr(like, "attrs", {}):
        raise ValueError("paint: `like` must be the Responses of `from_nilearn` (with attrs['painting']), or a masker.")
    grid = json.loads(like.attrs["painting"])
    if grid["kind"] not in _PAINTERS:
        raise ValueError(f"paint: {grid['kind']} need the masker itself: paint(values, masker).")
    return _PAINTERS[grid["kind"]](grid, values, table, fill)


def describe_grid(masker, subject: str = "", image=None) -> tuple[dict, dict, list[str]]:
    """Return the description of a fitted masker's grid, the coords and the ids of its outputs.

    Spheres without a mask are painted on the grid of `image`.
    """
    from nilearn import maskers

    prefix = f"{subject}." if subject else ""
    if isinstance(masker, maskers.SurfaceMasker):
        return _describe_vertices(masker, prefix)
    if isinstance(masker, maskers.NiftiSpheresMasker):
        xyz = np.array(masker.seeds_, float)
        reference = getattr(masker, "mask_img_", None)
        reference = image if reference is None else reference
        grid = {"kind": "spheres", "radius": masker.radius, **(_grid_of(reference) if reference is not None else {})}
        coords = {"unit": np.arange(len(xyz)), "xyz": xyz, **{f"seed_{a}": xyz[:, k] for k, a in enumerate("xyz")}}
        return grid, coords, [f"{prefix}sphere{k}" for k in range(len(xyz))]
    if isinstance(masker, (maskers.NiftiLabelsMasker, maskers.SurfaceLabelsMasker)):
        return _describe_labels(masker, prefix, isinstance(masker, maskers.NiftiLabelsMasker))
    if isinstance(masker, maskers.NiftiMapsMasker):
        count = masker.n_elements_
        return {"kind": "maps"}, {"unit": np.arange(count)}, [f"{prefix}map{k}" for k in range(count)]
    mask = masker.mask_img_
    ijk = np.argwhere(np.asanyarray(mask.dataobj) != 0)
    xyz = ijk @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    coords = {"unit": np.arange(len(ijk)), "xyz": xyz, **{a: ijk[:, k] for k, a in enumerate("ijk")}}
    return {"kind": "voxels", **_grid_of(mask)}, coords, [f"{prefix}{i}-{j}-{k}" for i, j, k in ijk.tolist()]


def as_surface(source):
    """Make a `SurfaceImage` of a dict of GIfTI files or arrays, on nilearn's fsaverage5 where the sizes fit."""
    from nilearn import datasets
    from nilearn.surface import SurfaceImage

    if isinstance(source, SurfaceImage):
        return source
    if not isinstance(source, Mapping) or not set(source) <= {"left", "right"} or not source:
        raise ValueError("surface: expected {'left': ..., 'right': ...}, files or arrays.")
    for path in source.values():
        if isinstance(path, (str, Path)) and not Path(path).is_file():
            raise FileNotFoundError(f"surface: no file {str(path)!r}.")
    from nilearn.surface import load_surf_data

    data = {k: np.asarray(load_surf_data(str(v)) if isinstance(v, (str, Path)) else v, np.float32)
            for k, v in source.items()}
    odd = {k: len(v) for k, v in data.items() if len(v) != FSAVERAGE5}
    if odd:
        raise ValueError(f"surface: {odd} vertices, but only the mesh of fsaverage5 ({FSAVERAGE5} a hemisphere) is at "
                         "hand. Pass a nilearn SurfaceImage with its own mesh.")
    mesh = datasets.load_fsaverage("fsaverage5")["pial"]
    return SurfaceImage({k: mesh.parts[k] for k in data}, data)


def _describe_vertices(masker, prefix: str):
    parts = masker.mask_img_.data.parts
    hemisphere = np.concatenate([np.full(int(np.sum(p)), side[0].upper()) for side, p in parts.items()])
    vertex = np.concatenate([np.flatnonzero(p) for p in parts.values()])
    grid = {"kind": "vertices", "n": {side: len(p) for side, p in parts.items()}}
    coords = {"unit": np.arange(len(vertex)), "vertex": vertex, "hemisphere": hemisphere}
    return grid, coords, [f"{prefix}{h}{v}" for h, v in zip(hemisphere, vertex.tolist())]


def _describe_labels(masker, prefix: str, volume: bool):
    from neuroalign.data.stimuli import file_sha256

    names = {k: str(v) for k, v in masker.region_names_.items()}
    label = np.array([masker.region_ids_[k] for k in names], int)
    source = masker.labels_img
    path = str(source) if isinstance(source, (str, Path)) else getattr(source, "get_filename", lambda: None)()
    grid = {"kind": "regions of a label image that is no file" if volume else "parcels of a surface"}
    if volume and path:
        grid = {"kind": "labels", "file": str(path), "sha256": file_sha256(path)}
    repeated = len(set(names.values())) < len(names)
    ids = [f"{prefix}{n}" + (f"#{k}" if repeated else "") for n, k in zip(names.values(), label)]
    return grid, {"unit": np.arange(len(label)), "label": label, "region": np.array(list(names.values()))}, ids


def _grid_of(image) -> dict:
    return {"shape": [int(s) for s in image.shape[:3]], "affine": np.asarray(image.affine, float).tolist()}


def _paint_voxels(grid, values, table, fill):
    data = np.full((*grid["shape"], len(table)), fill, np.float32)
    i, j, k = (values[a].values for a in "ijk")
    data[i, j, k] = table.T
    return _image(data, grid["affine"])


def _paint_spheres(grid, values, table, fill):
    """Mark the voxels within the radius of each seed; where spheres overlap, their mean."""
    shape, affine = tuple(grid["shape"]), np.array(grid["affine"])
    world = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    total, count = np.zeros((len(world), len(table))), np.zeros(len(world))
    seeds = np.stack([values[f"seed_{a}"].values for a in "xyz"], 1)
    for seed, column in zip(seeds, table.T):
        distance = np.linalg.norm(world - seed, axis=1)
        inside = distance <= grid["radius"] if grid["radius"] else distance == distance.min()
        total[inside] += column
        count[inside] += 1
    data = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], fill)
    return _image(data.reshape(*shape, len(table)).astype(np.float32), affine)


def _paint_labels(grid, values, table, fill):
    import nibabel

    from neuroalign.data.stimuli import file_sha256

    path = Path(grid["file"])
    if not path.is_file() or file_sha256(path) != grid["sha256"]:
        raise ValueError(f"paint: the label image {grid['file']!r} is gone or has changed. Pass the masker instead.")
    atlas = nibabel.load(path)
    labels = np.asanyarray(atlas.dataobj).squeeze()
    data = np.full((*labels.shape, len(table)), fill, np.float32)
    for label, column in zip(values["label"].values, table.T):
        data[labels == label] = column
    return _image(data, atlas.affine)


def _paint_vertices(grid, values, table, fill):
    data = {side: np.full((n, len(table)), fill, np.float32) for side, n in grid["n"].items()}
    for side, part in data.items():
        own = values["hemisphere"].values == side[0].upper()
        part[values["vertex"].values[own]] = table[:, own].T
    return as_surface({side: part[:, 0] if len(table) == 1 else part for side, part in data.items()})


_PAINTERS = {"grayordinates": paint_cifti, "voxels": _paint_voxels, "spheres": _paint_spheres,
             "labels": _paint_labels, "vertices": _paint_vertices}


def _by_masker(masker, table, unit, fill):
    """Fill a row of all outputs of the masker and invert it; outputs that are not there get `fill`."""
    if not masker.__sklearn_is_fitted__():
        masker.fit()
    count = len(describe_grid(masker)[2])
    if unit.max() >= count:
        raise ValueError(f"paint: unit {unit.max()} but the masker has {count} outputs: not the masker that was used "
                         f"({list_ids(unit[unit >= count])}).")
    full = np.full((len(table), count), fill, np.float32)
    full[:, unit] = table
    return masker.inverse_transform(full[0] if len(full) == 1 else full)


def _image(data: np.ndarray, affine):
    import nibabel

    return nibabel.Nifti1Image(data[..., 0] if data.shape[-1] == 1 else data, np.asarray(affine, float))
