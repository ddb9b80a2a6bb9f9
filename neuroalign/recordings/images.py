"""Volumes and surfaces through nilearn's maskers: images in, Responses out, and scores painted back."""

import json
import re
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_responses
from neuroalign.errors import list_ids, warn_user
from neuroalign.recordings.coordinates import is_mni, position_coords
from neuroalign.recordings.painting import as_surface, describe_grid

__all__ = ["from_nilearn", "read_confounds", "space_of"]

OVERLAP = 0.5  # part of an atlas that must lie within the field of view of the images
SFORM_MNI = 4  # code of the NIfTI header


def from_nilearn(images, masker, *, tr: float | None = None, stimulus_ids: Sequence | None = None, runs=None,
                 subject: str = "", space: str | None = None, units: str = "a.u.", skip: int = 0) -> xr.DataArray:
    """Read fMRI through a masker: time courses, or the patterns (betas) of single trials.

    Parameters
    ----------
    images : path, image, dict, or list of them
        4-D NIfTI, one a run; ``SurfaceImage``, or ``{"left": "l.func.gii", "right": "r.func.gii"}``.
    masker : path, image or nilearn masker
        A mask, or ``NiftiMasker``, ``NiftiLabelsMasker``, ``NiftiSpheresMasker`` (``allow_overlap=True`` for the
        contacts of depth electrodes), ``NiftiMapsMasker``, ``SurfaceMasker``, ``SurfaceLabelsMasker``; fitted to the
        first run if it is not fitted. What it does beside masking (smoothing) is kept.
    tr : float, optional
        Seconds between volumes; by default what the header of the NIfTI says.
    stimulus_ids : sequence, optional
        What each volume is a response to: the images are then betas, on the dim ``presentation``.
    runs : sequence, optional
        Run of each volume, where one image holds several runs; by default each image is a run, numbered from 0.
    subject : str
    space : str, optional
        Template of the images, for example ``"MNI152NLin2009cAsym"``; by default what the file name (``space-...``)
        or the header says. Positions are called ``x``, ``y``, ``z`` only if it is MNI.
    units : str
    skip : int
        Volumes to leave out at the start of each run; `time` still counts from the first volume.

    Returns
    -------
    DataArray (time | presentation, neuroid)
        ``time`` counts from the first volume of each run. Nothing is detrended or standardised; see `clean`. The
        coord ``unit`` counts the outputs of the masker, and ``attrs["painting"]`` holds the grid, for `paint`.
        Voxels, regions or vertices that are not finite somewhere are averaged over their finite parts, or become
        NaN, with a warning that names them.

    Raises
    ------
    ValueError
        Atlas and images in different spaces; ids or runs that do not fit the volumes; several units of one name.

    Examples
    --------
    >>> bold = from_nilearn(["run-1_bold.nii.gz", "run-2_bold.nii.gz"], "mask.nii.gz")  # doctest: +SKIP
    >>> bold = clean(bold, high_pass=1 / 128)                                           # doctest: +SKIP
    """
    listed = images if isinstance(images, (list, tuple)) else [images]
    if not listed:
        raise ValueError("images: the list is empty, expected one image a run.")
    space = space or space_of(listed[0]) or "unknown"
    opened = [_open(image) for image in listed]
    masker = _fitted(masker, opened[0], space)
    with _quiet():
        parts, lost = zip(*(_extract(masker, image, _name(source)) for image, source in zip(opened, listed)))
    lost = np.any(lost, axis=0)
    grid, coords, ids = describe_grid(masker, subject, opened[0])
    _warn_lost_regions(masker, coords)
    if lost.any():
        warn_user(f"images: {int(lost.sum())} of {len(lost)} units have values that are not finite; these are left out "
                  f"of means, and a voxel or vertex without a value is NaN: {list_ids(np.asarray(ids)[lost])}.",
                  "not-finite", np.asarray(ids)[lost])
    lengths = [len(p) for p in parts]
    run = _run_labels(runs, lengths)
    position = _count_within(run)
    kept = position >= skip
    values = np.concatenate(parts)[kept]
    xyz = coords.pop("xyz", None)
    if xyz is not None:
        coords |= position_coords(xyz, space)
    if subject:
        coords["subject"] = np.full(len(ids), subject)
    samples = {"run": run[kept]}
    if stimulus_ids is not None:
        flat = np.asarray(list(stimulus_ids))
        if len(flat) != len(run):
            raise ValueError(f"stimulus_ids: got {len(flat)} for {len(run)} volumes (runs of {lengths}).")
        out = make_responses(values, flat[kept], ids, dim="presentation", kind="fmri", units=units,
                             sample_coords=samples, neuroid_coords=coords)
    else:
        tr = _common_tr(tr, listed, opened)
        out = make_responses(values, position[kept] * tr, ids, dim="time", kind="fmri", units=units, sfreq=1 / tr,
                             sample_coords=samples, neuroid_coords=coords)
    return out.assign_attrs(space=space, painting=json.dumps(grid), source=_source(listed))


def read_confounds(tables, columns: Sequence[str] | None = None, *, skip: int = 0) -> xr.DataArray:
    """Read tables of confounds, one a run, as fMRIPrep writes them, for `clean`.

    Parameters
    ----------
    tables : path or list of paths
        TSV or CSV with a header.
    columns : sequence of str, optional
        Which columns; all by default.
    skip : int
        As for `from_nilearn`.

    Returns
    -------
    DataArray (time, confound)
        A missing first value of a column (a derivative has none) is 0. Any other missing value is an error.
    """
    listed = tables if isinstance(tables, (list, tuple)) else [tables]
    parts = []
    for path in map(Path, listed):
        table = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",")
        columns = list(table.columns) if columns is None else list(columns)
        absent = [c for c in columns if c not in table]
        if absent:
            raise ValueError(f"{path.name}: no columns {list_ids(absent)}; it has {list_ids(table.columns)}.")
        values = table[columns].to_numpy(float, copy=True)
        values[0] = np.where(np.isnan(values[0]), 0, values[0])
        bad = ~np.isfinite(values).all(0)
        if bad.any():
            raise ValueError(f"{path.name}: missing values after the first row in {list_ids(np.array(columns)[bad])}. "
                             "Fill them, or choose other columns.")
        parts.append(values[skip:])
    run = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    return xr.DataArray(np.concatenate(parts), dims=("time", "confound"), name="confounds",
                        coords={"confound": columns, "run": ("time", run)})


def _open(image):
    """Return a NIfTI or surface image."""
    from nilearn.surface import SurfaceImage

    if isinstance(image, (SurfaceImage, dict)):
        return as_surface(image)
    from nilearn.image import check_niimg

    if isinstance(image, (str, Path)) and not Path(image).expanduser().is_file():
        raise FileNotFoundError(f"images: no file {str(image)!r}.")
    try:
        return check_niimg(str(image) if isinstance(image, Path) else image, atleast_4d=True)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"images: {_name(image)} cannot be read: {error}") from None


def _fitted(masker, image, space: str):
    from nilearn.maskers import NiftiMasker

    if isinstance(masker, (str, Path)) and not Path(masker).expanduser().is_file():
        raise FileNotFoundError(f"masker: no file {str(masker)!r}.")
    if isinstance(masker, (str, Path)) or not hasattr(masker, "transform"):
        masker = NiftiMasker(mask_img=str(masker) if isinstance(masker, Path) else masker, standardize=None)
    atlas = next((a for k in ("labels_img", "maps_img", "mask_img") if (a := getattr(masker, k, None)) is not None),
                 None)
    if hasattr(image, "affine") and atlas is not None:
        _check_spaces(atlas, image, space)
    _check_names(masker)
    if not masker.__sklearn_is_fitted__():
        with _quiet():
            masker.fit(image if atlas is None or hasattr(masker, "labels_img") else None)
    return masker


def _check_names(masker) -> None:
    """Refuse a list of names that does not fit the labels: nilearn would drop the last and shift the others."""
    from nilearn.image import check_niimg

    names = getattr(masker, "labels", None)
    if not names or not hasattr(masker, "labels_img") or hasattr(masker.labels_img, "data"):
        return
    found = np.unique(np.asanyarray(check_niimg(masker.labels_img).dataobj))
    count = int((found != masker.background_label).sum())
    named = [n for n in names if str(n).lower() != "background"]
    if len(named) != count:
        raise ValueError(f"masker: {len(named)} names ({list_ids(named)}) for {count} labels of the image. Give a name "
                         "to each label, in order of their numbers, and none to the background (or call it "
                         "'Background').")


def _check_spaces(atlas, image, space: str) -> None:
    """Refuse an atlas of another template, and one of which little lies within the images."""
    from nilearn.image import check_niimg

    named = space_of(atlas)
    if named and space != "unknown" and named.lower() != space.lower() and not (is_mni(named) and is_mni(space)):
        raise ValueError(f"masker: the atlas is in space {named!r}, the images are in {space!r}. Transform one of "
                         "them, or pass space= if the name of the file is wrong.")
    atlas = check_niimg(atlas)
    inside = np.argwhere(np.asanyarray(atlas.dataobj).reshape(*atlas.shape[:3], -1).any(-1))
    if not len(inside):
        raise ValueError("masker: the atlas or mask is empty, all of it is zero.")
    world = inside @ atlas.affine[:3, :3].T + atlas.affine[:3, 3]
    voxel = (world - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    share = float(((voxel > -1) & (voxel < np.array(image.shape[:3]))).all(1).mean())
    if share < OVERLAP:
        raise ValueError(f"masker: only {share:.0%} of the atlas or mask lies within the field of view of the images: "
                         "they are in different spaces, or one has a wrong affine. Compare both affines.")


def _extract(masker, image, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the series of a run (n_volumes, n_units), and which units are not finite somewhere."""
    try:
        holes = _finite_mask(image)
    except (OSError, EOFError) as error:
        raise ValueError(f"images: {name} is truncated or damaged: {error}") from None
    if holes is None:
        values = np.asarray(masker.transform(image), np.float32)
        return np.atleast_2d(values), np.zeros(values.shape[-1], bool)
    filled, present = holes
    strategy = getattr(masker, "strategy", "mean")
    changed = [k for k in ("standardize", "detrend", "high_pass", "low_pass") if getattr(masker, k, None)]
    if strategy != "mean" or changed or hasattr(masker, "maps_img"):
        raise ValueError(f"images: values are not finite, and the masker ({type(masker).__name__}, strategy "
                         f"{strategy!r}, {', '.join(changed) or 'maps'}) would spread them. Mask these voxels out, or "
                         "let the masker only average and use `clean`.")
    weight = np.atleast_2d(masker.transform(present))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(weight > 1e-6, np.atleast_2d(masker.transform(filled)) / weight, np.nan)
    return values.astype(np.float32), (weight < 1 - 1e-6).any(0)


def _warn_lost_regions(masker, coords: dict) -> None:
    """Name the labels that vanished when the atlas was resampled to the images, or lie outside the masker's mask."""
    from nilearn.image import check_niimg

    if "label" not in coords or hasattr(masker.labels_img, "data"):
        return
    present = np.unique(np.asanyarray(check_niimg(masker.labels_img).dataobj)).tolist()
    wanted = set(present) - {masker.background_label}
    lost = sorted(wanted - set(coords["label"].tolist()))
    if lost:
        warn_user(f"masker: {len(lost)} of {len(wanted)} labels of the atlas have no voxel in the images: "
                  f"{list_ids(lost)}.", "lost-regions", lost)


@contextmanager
def _quiet():
    """Keep from the user what nilearn says of labels (said here by name) and of its own defaults."""
    with warnings.catch_warnings():
        for words in ("(?s).*[Rr]esampling (the )?label", "boolean values for 'standardize'"):
            warnings.filterwarnings("ignore", words)
        yield


def _finite_mask(image):
    """Return the image with zeros where it is not finite, and an image of ones and zeros; None if all is finite."""
    from nilearn.image import new_img_like
    from nilearn.surface import SurfaceImage

    if isinstance(image, SurfaceImage):
        parts = {k: np.asarray(v, np.float32) for k, v in image.data.parts.items()}
        good = {k: np.isfinite(v) for k, v in parts.items()}
        if all(g.all() for g in good.values()):
            return None
        return (SurfaceImage(image.mesh, {k: np.where(good[k], v, 0) for k, v in parts.items()}),
                SurfaceImage(image.mesh, {k: g.astype(np.float32) for k, g in good.items()}))
    data = np.asanyarray(image.dataobj)  # read as a whole: a truncated file shows here
    good = np.isfinite(data)
    if good.all():
        return None
    return new_img_like(image, np.where(good, data, 0)), new_img_like(image, good.astype(np.float32))


def _run_labels(runs, lengths: list[int]) -> np.ndarray:
    if runs is None:
        return np.repeat(np.arange(len(lengths)), lengths)
    runs = np.asarray(runs)
    if runs.shape != (sum(lengths),):
        raise ValueError(f"runs: got shape {runs.shape}, expected the run of each of the {sum(lengths)} volumes.")
    return runs


def _count_within(run: np.ndarray) -> np.ndarray:
    """Number the volumes of each run from 0."""
    return pd.Series(np.zeros(len(run))).groupby(run).cumcount().to_numpy()


def _common_tr(tr, listed, opened) -> float:
    every = [_tr(tr, source, image) for source, image in zip(listed, opened)]
    if np.ptp(every) > 1e-3 * every[0]:
        raise ValueError(f"tr: the runs have different seconds between volumes: {', '.join(f'{t:g}' for t in every)}. "
                         "Read them apart, or pass tr= if the headers are wrong.")
    return every[0]


def _tr(tr, source, image) -> float:
    header = getattr(image, "header", None)
    if tr is None and header is not None:
        zooms = header.get_zooms()
        scale = {"msec": 1e-3, "usec": 1e-6}.get(header.get_xyzt_units()[1], 1.0)
        tr = float(zooms[3]) * scale if len(zooms) > 3 else None
    if not tr or not np.isfinite(tr) or tr <= 0:
        raise ValueError(f"tr: the header of {_name(source)} does not say the seconds between volumes. Pass tr=.")
    if not 0.05 < tr < 30:
        raise ValueError(f"tr: got {tr:g} s between volumes, expected about 0.1 to 10. Milliseconds? Pass tr=.")
    return float(tr)


def space_of(source) -> str | None:
    """Return the template that a file name or a header names."""
    found = re.search(r"space-([A-Za-z0-9]+)", _name(source))
    if found:
        return found[1]
    header = getattr(source, "header", None)
    if header is None and isinstance(source, (str, Path)) and str(source).endswith((".nii", ".nii.gz")):
        import nibabel

        header = nibabel.load(source).header if Path(source).is_file() else None
    code = int(header["sform_code"]) if header is not None and "sform_code" in header else 0
    return "MNI152" if code == SFORM_MNI else None


def _name(source) -> str:
    if isinstance(source, dict):
        return ", ".join(Path(str(p)).name for p in source.values())
    if isinstance(source, (str, Path)):
        return Path(source).name
    return Path(getattr(source, "get_filename", lambda: None)() or "the image").name


def _source(listed) -> str:
    return ", ".join(dict.fromkeys(map(_name, listed)))[:500]
