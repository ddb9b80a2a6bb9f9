"""Electrode to region: by the nearest label of an image, or the nearest point of a list, within some millimetres."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.recordings.coordinates import check_millimetres, is_mni
from neuroalign.recordings.images import space_of

__all__ = ["assign_regions", "bundled_points", "list_atlases"]

UNKNOWN = "unknown"
BUNDLED = {"power_2011": "264 points, without names", "dosenbach_2010": "160 points with names and networks",
           "seitzman_2018": "300 points with networks, subcortical ones too"}
DOWNLOADS = {"aal": "fetch_atlas_aal", "destrieux_2009": "fetch_atlas_destrieux_2009",
             "harvard_oxford": "fetch_atlas_harvard_oxford", "juelich": "fetch_atlas_juelich",
             "pauli_2017": "fetch_atlas_pauli_2017", "schaefer_2018": "fetch_atlas_schaefer_2018",
             "talairach": "fetch_atlas_talairach", "yeo_2011": "fetch_atlas_yeo_2011",
             "surf_destrieux": "fetch_atlas_surf_destrieux"}


def assign_regions(neuroids, atlas, *, names: Mapping | Sequence | str | Path | None = None, radius: float = 5.0):
    """Give each neuroid the region that it lies in, or that is nearest to it.

    Parameters
    ----------
    neuroids : DataArray with dim neuroid, or DataFrame
        With ``x``, ``y``, ``z`` in MNI space, mm.
    atlas : image, path, DataFrame or str
        A label image (0: nothing) in MNI space; a table of points with ``x``, ``y``, ``z`` and ``region``; or the
        name of points that come with nilearn (`list_atlases`).
    names : mapping of label to name, sequence of names in order of the labels, or path of a table, optional
        A table has the columns ``index`` and ``name`` (BIDS ``dseg.tsv``), or ``label``.
    radius : float
        Millimetres. Neuroids farther than this from every label (or point) are ``"unknown"``.

    Returns
    -------
    DataArray or DataFrame
        With ``region`` and ``region_distance`` (mm to the centre of the nearest labelled voxel, or to the point).
        Neuroids without position, and those that are unknown, are counted in a warning.

    Examples
    --------
    >>> sites = pd.DataFrame({"neuroid_id": ["a", "b"], "x": [30.0, 90], "y": [0.0, 0], "z": [0.0, 0]})
    >>> points = pd.DataFrame({"x": [31.0], "y": [0.0], "z": [0.0], "region": ["here"]})
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     assign_regions(sites, points)["region"].tolist()
    ['here', 'unknown']
    """
    from scipy.spatial import cKDTree

    xyz = _positions(neuroids)
    if not radius > 0:
        raise ValueError(f"radius: got {radius:g}, expected millimetres above 0.")
    places, regions = _places(atlas, names)
    known = np.isfinite(xyz).all(1)
    distance, found = np.full(len(xyz), np.nan), np.full(len(xyz), UNKNOWN, dtype=object)
    distance[known], nearest = cKDTree(places).query(xyz[known])
    found[known] = np.where(distance[known] <= radius, regions[nearest], UNKNOWN)
    lost = found == UNKNOWN
    if lost.any():
        ids = _ids(neuroids)[lost]
        warn_user(f"regions: {int(lost.sum())} of {len(xyz)} neuroids are farther than {radius:g} mm from every label, "
                  f"or have no position, and are 'unknown': {list_ids(ids)}.", "unknown-region", ids)
    found = found.astype(str)
    if isinstance(neuroids, pd.DataFrame):
        return neuroids.assign(region=found, region_distance=distance)
    return neuroids.assign_coords(region=("neuroid", found), region_distance=("neuroid", distance))


def bundled_points(name: str) -> pd.DataFrame:
    """Return points that come with nilearn (no download): ``x``, ``y``, ``z`` (MNI, mm), ``region``, ``network``."""
    from nilearn import datasets

    check_option("points", name, BUNDLED)
    data = getattr(datasets, f"fetch_coords_{name}")()
    points = pd.DataFrame(data["rois"])[list("xyz")].reset_index(drop=True).astype(float)
    labels = data.get("labels", data.get("regions"))
    if labels is None:
        labels = [f"{name}-{k}" for k in range(1, len(points) + 1)]
    points["region"] = np.asarray(labels).astype(str)
    if "networks" in data:
        points["network"] = np.asarray(data["networks"]).astype(str)
        if name == "seitzman_2018":
            points["region"] = points["region"] + ", " + points["network"]
    return points


def list_atlases() -> pd.DataFrame:
    """List atlases: which come with nilearn and which have to be downloaded.

    Returns
    -------
    DataFrame
        ``name``, ``kind``, ``bundled`` and ``how`` to get it.
    """
    rows = [(name, "points", True, f"assign_regions(..., {name!r}): {what}") for name, what in BUNDLED.items()]
    rows.append(("fsaverage5", "surface", True, "nilearn.datasets.load_fsaverage('fsaverage5'); no labels"))
    rows += [(name, "surface" if "surf" in name else "volume", False, f"nilearn.datasets.{function}() downloads it")
             for name, function in DOWNLOADS.items()]
    return pd.DataFrame(rows, columns=["name", "kind", "bundled", "how"])


def _positions(neuroids) -> np.ndarray:
    held = neuroids.columns if isinstance(neuroids, pd.DataFrame) else neuroids.coords
    if not set("xyz") <= set(held):
        native = " Those in another frame (native_x, ...) must be transformed first." if "native_x" in held else ""
        raise ValueError(f"regions: the neuroids have no 'x', 'y', 'z' (MNI, mm).{native}")
    xyz = np.stack([np.asarray(neuroids[a], float) for a in "xyz"], 1)
    check_millimetres(xyz, "regions")
    return xyz


def _places(atlas, names) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in mm and the region of each."""
    if isinstance(atlas, str) and atlas in BUNDLED:
        atlas = bundled_points(atlas)
    if isinstance(atlas, pd.DataFrame):
        lacking = [c for c in (*"xyz", "region") if c not in atlas]
        if lacking:
            raise ValueError(f"atlas: the table of points has no columns {list_ids(lacking)}.")
        check_millimetres(atlas[list("xyz")].to_numpy(float), "atlas")
        return atlas[list("xyz")].to_numpy(float), atlas["region"].to_numpy(str)
    from nilearn.image import check_niimg

    if isinstance(atlas, (str, Path)) and not Path(atlas).expanduser().is_file():
        raise FileNotFoundError(f"atlas: no file {str(atlas)!r}, and no bundled points of that name; those are "
                                f"{', '.join(map(repr, BUNDLED))}. See list_atlases().")
    space = space_of(atlas)
    if space is not None and not is_mni(space):
        raise ValueError(f"atlas: it is in space {space!r}, the electrodes are in MNI space. Transform one of them.")
    image = check_niimg(str(atlas) if isinstance(atlas, Path) else atlas, ensure_ndim=3)
    labels = np.asanyarray(image.dataobj)
    if labels.dtype.kind == "f" and (labels != np.round(labels)).any():
        raise ValueError("atlas: the image has values that are no whole numbers: a map, not labels.")
    voxels = np.argwhere(labels != 0)
    if not len(voxels):
        raise ValueError("atlas: the image is empty.")
    values = labels[tuple(voxels.T)].astype(int)
    lookup = _lookup(names, np.unique(values))
    return voxels @ image.affine[:3, :3].T + image.affine[:3, 3], np.array([lookup[v] for v in values.tolist()])


def _lookup(names, labels: np.ndarray) -> dict[int, str]:
    if names is None:
        return {int(k): str(k) for k in labels}
    if isinstance(names, (str, Path)):
        table = pd.read_csv(names, sep="\t" if str(names).endswith(".tsv") else ",", keep_default_na=False)
        column = next((c for c in ("name", "label") if c in table), None)
        if "index" not in table or column is None:
            raise ValueError(f"names: columns are {list_ids(table.columns)}, expected 'index' and 'name'.")
        names = dict(zip(table["index"], table[column]))
    if not isinstance(names, Mapping):
        if len(names) != len(labels):
            raise ValueError(f"names: got {len(names)} for {len(labels)} labels of the image. Leave out the "
                             "background.")
        names = dict(zip(labels.tolist(), names))
    lacking = [int(k) for k in labels if int(k) not in names]
    if lacking:
        raise ValueError(f"names: none for the labels {list_ids(lacking)} of the image.")
    return {int(k): str(names[int(k)]) for k in labels}


def _ids(neuroids) -> np.ndarray:
    if isinstance(neuroids, xr.DataArray):
        return neuroids["neuroid_id"].values.astype(str)
    return neuroids["neuroid_id"].to_numpy(str) if "neuroid_id" in neuroids else np.arange(len(neuroids)).astype(str)
