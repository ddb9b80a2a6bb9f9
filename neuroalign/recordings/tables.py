"""A user's own tables and saved arrays: responses and dissimilarities from .csv, .tsv and .nc."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_rdms, make_responses, validate_rdms, validate_responses
from neuroalign.errors import list_ids
from neuroalign.recordings.rdms import condense

__all__ = ["is_table", "read_rdms", "read_responses"]

SUFFIXES = (".csv", ".tsv", ".nc")
MISSING = ("", "NaN", "NA", "n/a")  # and nan: a value that was not measured
SAMPLE_COLUMNS = ("run", "repetition", "onset", "duration")


def is_table(name) -> bool:
    """Return whether a name is the path of a table or of a saved array."""
    return isinstance(name, (str, Path)) and Path(name).suffix.lower() in SUFFIXES


def read_responses(path) -> xr.DataArray:
    """Read responses from a table or a saved array.

    Parameters
    ----------
    path : str or Path
        ``.csv`` or ``.tsv``: a column ``stimulus_id`` (a stimulus in several rows makes them presentations) or
        ``time`` (seconds); ``run``, ``repetition``, ``onset``, ``duration`` where known; every other column is a
        neuroid. ``.nc``: a DataArray saved by xarray.
    """
    path = _existing(path)
    if path.suffix.lower() == ".nc":
        return validate_responses(_saved(path))
    table = _table(path)
    key = "stimulus_id" if "stimulus_id" in table else "time"
    if key not in table:
        raise ValueError(f"{path.name}: columns are {list_ids(table.columns)}, expected 'stimulus_id' or 'time'.")
    ids = table[key].to_numpy(str) if key == "stimulus_id" else _numbers(path, table[[key]])[:, 0]
    dim = "time" if key == "time" else "presentation" if pd.Index(ids).has_duplicates else "stimulus"
    coords = {c: _numbers(path, table[[c]])[:, 0] for c in SAMPLE_COLUMNS if c in table}
    neuroids = [c for c in table if c != key and c not in SAMPLE_COLUMNS]
    if not neuroids:
        raise ValueError(f"{path.name}: no column of responses beside {', '.join(map(repr, table.columns))}.")
    return make_responses(_numbers(path, table[neuroids]), ids, neuroids, dim=dim, sample_coords=coords)


def read_rdms(path) -> xr.DataArray:
    """Read dissimilarities from a table or a saved array.

    Parameters
    ----------
    path : str or Path
        ``.csv`` or ``.tsv``, one of: columns ``stimulus_a``, ``stimulus_b`` and one column a target; the same with
        ``dissimilarity`` and ``region`` and/or ``subject`` (one row a pair and owner); or a square matrix with the
        ids in the first column and in the header. ``.nc``: a DataArray saved by xarray.
    """
    path = _existing(path)
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


def _existing(path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}.")
    return path


def _saved(path: Path) -> xr.DataArray:
    return xr.load_dataarray(path, engine="h5netcdf")


def _table(path: Path) -> pd.DataFrame:
    """Read all as text: an id may be spelled 'null' or '007'."""
    return pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",", dtype=str, keep_default_na=False)


def _numbers(path: Path, table: pd.DataFrame) -> np.ndarray:
    numbers = table.replace(dict.fromkeys(MISSING, "nan")).apply(pd.to_numeric, errors="coerce")
    text = [c for c in table if (numbers[c].isna() & ~table[c].isin((*MISSING, "nan"))).any()]
    if text:
        raise ValueError(f"{path.name}: columns {list_ids(text)} are not numbers. Drop them, or mend their values.")
    return numbers.to_numpy(np.float64)


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
