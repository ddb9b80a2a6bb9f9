"""What every reader needs: the files of a manifest by a pattern, and arrays out of .mat, .npz, .npy and text."""

import re
from pathlib import Path

import numpy as np

from neuroalign.data.manifests import FileEntry, Manifest
from neuroalign.errors import check_option, list_ids, suggest

__all__ = ["match_files", "provenance", "read_array", "read_numbers", "read_structs"]


def match_files(manifest: Manifest, pattern: str, **known) -> list[tuple[dict[str, str], FileEntry]]:
    """Return the files whose name fits a pattern, with the fields that the names fill.

    Parameters
    ----------
    manifest : Manifest
    pattern : str
        With ``{field}`` (no slash) and ``*``: ``"{radius}/{subject}-timecourses.txt"``.
    **known : str
        Fields that are given already.

    Raises
    ------
    ValueError
        If no file fits.

    Examples
    --------
    >>> from neuroalign.data.manifests import load_manifest
    >>> found = match_files(load_manifest("alice_fmri"), "alice_data_shared/{subject}-rate.txt")
    >>> len(found), found[0][0]
    (28, {'subject': 's18'})
    """
    def part(text: str) -> str:
        if text == "*":
            return "[^/]*"
        field = text[1:-1]
        if not (text.startswith("{") and field.isidentifier()):
            return re.escape(text)
        return re.escape(str(known[field])) if field in known else f"(?P<{field}>[^/]+)"

    expression = re.compile("".join(part(t) for t in re.split(r"(\*|\{\w+\})", pattern)))
    fits = [(m.groupdict(), f) for f in manifest.files if (m := expression.fullmatch(f.name))]
    if not fits:
        raise ValueError(f"data set {manifest.name!r}: no file fits {pattern!r} with {known}.")
    return fits


def provenance(manifest: Manifest, **more) -> dict:
    """Return the attrs that say where an array comes from; empty lists are left out (netCDF cannot hold them)."""
    attrs = {"dataset": manifest.name, "citation": " ".join(manifest.citation.split()),
             "licence": " ".join(manifest.licence.split()), **more}
    return {k: v for k, v in attrs.items() if not isinstance(v, list) or v}


def read_array(path, variable: str | None = None) -> np.ndarray:
    """Read an array from .npy, .npz, .mat (v7.3 too) or .h5, without unpickling anything.

    Parameters
    ----------
    path : str or Path
    variable : str, optional
        Its name inside .npz, .mat and .h5 (there ``group/name``); may be left out where there is only one.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as content:
            return content[_pick(path, variable, content.files)]
    if suffix == ".mat":
        from scipy.io import loadmat

        try:
            content = loadmat(path)
        except NotImplementedError:
            return _read_mat73(path, variable)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path.name}: truncated, or no MATLAB file: {error}") from None
        return content[_pick(path, variable, [k for k in content if not k.startswith("__")])]
    if suffix in (".h5", ".hdf5"):
        return _read_hdf5(path, variable)
    raise ValueError(f"{path.name}: got suffix {suffix!r}, expected .npy, .npz, .mat or .h5.")


def read_structs(path, variable: str, fields) -> list[dict]:
    """Read a MATLAB struct array: one dict of field to value an element, in MATLAB's (column-major) order.

    Character fields become str, 1 x 1 numbers become numbers.
    """
    array = read_array(path, variable)
    if array.dtype.names is None:
        raise ValueError(f"{Path(path).name}: {variable!r} is an array of {array.dtype}, expected a struct array.")
    for field in fields:
        check_option(f"{Path(path).name}: field of {variable!r}", field, array.dtype.names)
    return [{f: _plain(element[f]) for f in fields} for element in array.ravel(order="F")]


def read_numbers(path, columns: int | None = None) -> np.ndarray:
    """Read a table of numbers separated by white space, shape (n_rows, n_columns), as float64."""
    path = Path(path)
    try:
        values = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path.name}: not a table of numbers: {error}") from None
    if columns is not None and values.shape[1] != columns:
        raise ValueError(f"{path.name}: got {values.shape[1]} columns, expected {columns}.")
    return values


def _read_hdf5(path: Path, variable: str | None) -> np.ndarray:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []
            file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
            return file[_pick(path, variable, names)][()]
    except OSError as error:
        raise ValueError(f"{path.name}: truncated, or no HDF5 file: {error}") from None


def _read_mat73(path: Path, variable: str | None) -> np.ndarray:
    """Read a numeric array of a MATLAB v7.3 file, with its axes in MATLAB's order."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = file[_pick(path, variable, [k for k in file if not k.startswith("#")])]
            if isinstance(found, h5py.Group) or found.dtype.kind not in "fiub":
                raise ValueError(f"{path.name}: {found.name.strip('/')!r} is a struct, cell or text, which is not read "
                                 "out of v7.3 files. Save it by save(..., '-v7').")
            return found[()].T  # HDF5 keeps the axes the other way round
    except OSError as error:
        raise ValueError(f"{path.name}: truncated, or no MATLAB file: {error}") from None


def _pick(path: Path, variable: str | None, names: list[str]) -> str:
    if variable is None and len(names) == 1:
        return names[0]
    if variable not in names:
        hint = suggest(variable, names) if variable else ""
        raise ValueError(f"{path.name}: variable {variable!r} not found, it has {list_ids(names)}.{hint}")
    return variable


def _plain(value):
    value = np.asarray(value)
    if value.dtype.kind == "U":
        return str(value.ravel()[0]) if value.size else ""
    return value.item() if value.size == 1 and value.dtype.kind in "biuf" else value
