"""A user's own tables and saved arrays: responses, dissimilarities and judgements."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_rdms, make_responses, validate_rdms, validate_responses
from neuroalign.errors import list_ids
from neuroalign.recordings.files import read_array, read_numbers
from neuroalign.recordings.rdms import condense, numbered_ids

__all__ = ["is_array", "is_table", "read_ratings_table", "read_rdms", "read_responses", "read_triplets"]

ARRAYS = (".npy", ".npz", ".mat", ".h5", ".hdf5")
SUFFIXES = (".csv", ".tsv", ".nc", *ARRAYS)
MISSING = ("", "NaN", "NA", "n/a")  # and nan: a value that was not measured
SAMPLE_COLUMNS = ("run", "repetition", "onset", "duration")


def is_table(name) -> bool:
    """Return whether a name is the path of a table or of a saved array."""
    return isinstance(name, (str, Path)) and Path(name).suffix.lower() in SUFFIXES


def is_array(name) -> bool:
    """Return whether a name is the path of a saved array, which needs ids or a clock beside it."""
    return is_table(name) and Path(name).suffix.lower() in ARRAYS


def read_responses(path, *, variable: str | None = None, stimulus_ids=None, tr: float | None = None,
                   neuroid_ids=None, kind: str = "fmri") -> xr.DataArray:
    """Read responses from a table or a saved array.

    Parameters
    ----------
    path : str or Path
        ``.npy``, ``.npz``, ``.mat`` (v7.3 too) or ``.h5``: an array (n_samples, n_neuroids), with either
        `stimulus_ids` or `tr`. ``.csv`` or ``.tsv``: a column ``stimulus_id`` (a stimulus in several rows makes them
        presentations) or ``time`` (seconds); ``run`` and ``repetition`` (names or numbers), ``onset``, ``duration``
        where known; every other column is a neuroid. ``.nc``: a DataArray saved by xarray.
    variable : str, optional
        Its name inside .npz and .mat; may be left out where there is only one.
    stimulus_ids : sequence of str, optional
        What each row of an array is a response to; an id in several rows makes them presentations.
    tr : float, optional
        Seconds between the rows of an array, which are then a time series from 0.
    neuroid_ids : sequence of str, optional
        Of the columns of an array; ``v0``, ``v1``, ... by default.
    kind : str
        Of an array.
    """
    path = _existing(path)
    if path.suffix.lower() in ARRAYS:
        return _array_responses(path, variable, stimulus_ids, tr, neuroid_ids, kind)
    if path.suffix.lower() == ".nc":
        return validate_responses(_saved(path))
    table = _table(path)
    key = "stimulus_id" if "stimulus_id" in table else "time"
    if key not in table:
        raise ValueError(f"{path.name}: columns are {list_ids(table.columns)}, expected 'stimulus_id' or 'time'.")
    ids = table[key].to_numpy(str) if key == "stimulus_id" else _numbers(path, table[[key]])[:, 0]
    dim = "time" if key == "time" else "presentation" if pd.Index(ids).has_duplicates else "stimulus"
    coords = {c: _names(table[c]) if c in ("run", "repetition") else _numbers(path, table[[c]])[:, 0]
              for c in SAMPLE_COLUMNS if c in table}
    neuroids = [c for c in table if c != key and c not in SAMPLE_COLUMNS]
    if not neuroids:
        raise ValueError(f"{path.name}: no column of responses beside {', '.join(map(repr, table.columns))}.")
    return make_responses(_numbers(path, table[neuroids]), ids, neuroids, dim=dim, sample_coords=coords)


def read_rdms(path, *, variable: str | None = None, stimulus_ids=None, targets=None) -> xr.DataArray:
    """Read dissimilarities from a table or a saved array.

    Parameters
    ----------
    path : str or Path
        ``.csv`` or ``.tsv``, one of: columns ``stimulus_a``, ``stimulus_b`` and one column a target; the same with
        ``dissimilarity`` and ``region`` and/or ``subject`` (one row a pair and owner); or a square matrix with the
        ids in the first column and in the header. ``.nc``: a DataArray saved by xarray. ``.npy``, ``.npz``,
        ``.mat`` (v7.3 too) or ``.h5``: a square matrix, several of shape (n_targets, n, n), or upper triangles in
        row order.
    variable : str, optional
        Its name inside .npz and .mat; may be left out where there is only one.
    stimulus_ids, targets : sequence of str, optional
        Of an array; by default the stimuli are numbered, ``stimulus_00``, ...
    """
    path = _existing(path)
    if path.suffix.lower() in ARRAYS:
        return _array_rdms(path, variable, stimulus_ids, targets)
    if path.suffix.lower() == ".nc":
        return validate_rdms(_saved(path))
    table = _table(path)
    if not {"stimulus_a", "stimulus_b"} <= set(table.columns):
        return _square(path, table)
    if "dissimilarity" in table.columns:
        return _long(path, table)
    targets = [c for c in table if c not in ("stimulus_a", "stimulus_b")]
    if not targets:
        raise ValueError(f"{path.name}: no column of dissimilarities beside 'stimulus_a' and 'stimulus_b'.")
    return make_rdms(_numbers(path, table[targets]).T, pairs=_pairs(table), targets=targets)


def read_ratings_table(path) -> pd.DataFrame:
    """Read rated pairs: the columns ``stimulus_a``, ``stimulus_b``, ``rating`` and what else there is.

    Ids are text as they are spelled; an empty rating is a missing one. For `neuroalign.alignment.ratings_to_rdms`.
    """
    path = _existing(path)
    table = _table(path)
    _require(path, table, ("stimulus_a", "stimulus_b", "rating"))
    return table.assign(rating=_numbers(path, table[["rating"]])[:, 0])


def read_triplets(path, *, stimulus_ids=None) -> pd.DataFrame:
    """Read odd-one-out choices: the columns ``a``, ``b``, ``c`` and ``odd``, for `neuroalign.alignment.odd_one_out`.

    Parameters
    ----------
    path : str or Path
        ``.csv`` or ``.tsv`` with these columns. Or three columns of numbers (``.npy``, ``.npz``, ``.mat``, or text
        without a header): the first two belong together, the third is the odd one out, as the triplets of THINGS
        (Hebart et al. 2020, Nat Hum Behav 4:1173) are saved.
    stimulus_ids : sequence of str, optional
        Ids of the numbers, which count from 0; by default the numbers themselves.
    """
    path = _existing(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        table = _table(path)
        _require(path, table, ("a", "b", "c", "odd"))
        return table
    values = read_array(path) if path.suffix.lower() in ARRAYS else read_numbers(path, columns=3)
    if values.ndim != 2 or values.shape[1] != 3 or (values != np.round(values)).any() or (values < 0).any():
        raise ValueError(f"{path.name}: got {values.shape} of {values.dtype}, expected three columns of whole numbers.")
    values = values.astype(int)
    if stimulus_ids is not None and values.max() >= len(stimulus_ids):
        raise ValueError(f"{path.name}: numbers up to {values.max()}, but {len(stimulus_ids)} stimulus ids (they count "
                         "from 0).")
    names = values.astype(str) if stimulus_ids is None else np.asarray(stimulus_ids, str)[values]
    return pd.DataFrame({"a": names[:, 0], "b": names[:, 1], "c": names[:, 2], "odd": names[:, 2]})


def _array_responses(path: Path, variable, stimulus_ids, tr, neuroid_ids, kind) -> xr.DataArray:
    values = read_array(path, variable)
    if (stimulus_ids is None) == (tr is None):
        raise ValueError(f"{path.name}: an array does not say what its rows are. Pass stimulus_ids=, or tr= (seconds) "
                         "for a time series.")
    if values.ndim != 2:
        raise ValueError(f"{path.name}: got an array of shape {values.shape}, expected (n_samples, n_neuroids).")
    names = [f"v{k}" for k in range(values.shape[1])] if neuroid_ids is None else list(neuroid_ids)
    if tr is not None:
        return make_responses(values, np.arange(len(values)) * tr, names, dim="time", kind=kind, sfreq=1 / tr)
    ids = [str(i) for i in stimulus_ids]
    return make_responses(values, ids, names, dim="presentation" if len(set(ids)) < len(ids) else "stimulus", kind=kind)


def _array_rdms(path: Path, variable, stimulus_ids, targets) -> xr.DataArray:
    values = np.asarray(read_array(path, variable), float)
    square = values.ndim > 1 and values.shape[-1] == values.shape[-2]
    values = np.atleast_2d(condense(values, path.name) if square else np.squeeze(values))
    n = round((1 + np.sqrt(1 + 8 * values.shape[-1])) / 2)
    if values.ndim != 2 or n * (n - 1) // 2 != values.shape[-1]:
        raise ValueError(f"{path.name}: got shape {values.shape}, expected square matrices or upper triangles.")
    ids = numbered_ids("stimulus", n) if stimulus_ids is None else list(stimulus_ids)
    if targets is None:
        targets = [path.stem] if len(values) == 1 else [f"{path.stem}-{k}" for k in range(len(values))]
    return make_rdms(values, stimulus_ids=ids, targets=list(targets))


def _require(path: Path, table: pd.DataFrame, columns) -> None:
    lacking = [c for c in columns if c not in table]
    if lacking:
        raise ValueError(f"{path.name}: no columns {list_ids(lacking)}, it has {list_ids(table.columns)}.")


def _existing(path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}.")
    return path


def _saved(path: Path) -> xr.DataArray:
    return xr.load_dataarray(path, engine="h5netcdf")


def _table(path: Path) -> pd.DataFrame:
    """Read all as text: an id may be spelled 'null' or '007'. pandas would rename a column that stands twice."""
    sep = "\t" if path.suffix.lower() == ".tsv" else ","
    head = pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False, header=None, nrows=1).iloc[0]
    twice = head[head.duplicated() & (head != "")].unique()
    if len(twice):
        raise ValueError(f"{path.name}: columns {list_ids(twice)} stand there more than once. Rename them.")
    return pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False)


def _numbers(path: Path, table: pd.DataFrame) -> np.ndarray:
    numbers = table.replace(dict.fromkeys(MISSING, "nan")).apply(pd.to_numeric, errors="coerce")
    text = [c for c in table if (numbers[c].isna() & ~table[c].isin((*MISSING, "nan"))).any()]
    if text:
        raise ValueError(f"{path.name}: columns {list_ids(text)} are not numbers. Drop them, or mend their values.")
    return numbers.to_numpy(np.float64)


def _names(column: pd.Series) -> np.ndarray:
    """Return whole numbers as such, and other names (``film1``, ``01``) as text."""
    names, whole = column.to_numpy(str), column.str.fullmatch(r"(0|[1-9]\d*)(\.0*)?").all()
    return names.astype(float).astype(int) if whole else names


def _pairs(table: pd.DataFrame):
    return table["stimulus_a"].to_numpy(str), table["stimulus_b"].to_numpy(str)


def _long(path: Path, table: pd.DataFrame) -> xr.DataArray:
    owners = [c for c in ("region", "subject") if c in table]
    if not owners:
        table, owners = table.assign(region="all"), ["region"]
    keys = [*owners, "stimulus_a", "stimulus_b"]
    if table.duplicated(keys).any():
        raise ValueError(f"{path.name}: {int(table.duplicated(keys).sum())} rows repeat a pair of the same owner.")
    table = table.assign(dissimilarity=_numbers(path, table[["dissimilarity"]])[:, 0])
    wide = table.set_index(keys)["dissimilarity"].unstack(owners, sort=False)
    names = [n if isinstance(n, tuple) else (n,) for n in wide.columns]
    coords = {o: [n[k] for n in names] for k, o in enumerate(owners)}
    pairs = _pairs(wide.index.to_frame(index=False))
    return make_rdms(wide.to_numpy().T, pairs=pairs, targets=[":".join(n) for n in names], target_coords=coords)


def _square(path: Path, table: pd.DataFrame) -> xr.DataArray:
    ids = table.iloc[:, 0].tolist()
    if ids != list(table.columns[1:]):
        raise ValueError(f"{path.name}: expected columns 'stimulus_a' and 'stimulus_b', or a square matrix whose "
                         f"header repeats the ids of its first column; got the columns {list_ids(table.columns)}.")
    return make_rdms(condense(_numbers(path, table.iloc[:, 1:]), path.name)[None], stimulus_ids=ids,
                     targets=[path.stem])
