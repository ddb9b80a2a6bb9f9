"""Files of the store: npy headers, checksums, atomic writes, locks."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from neuroalign.features.storage import disk_dtype

try:
    import fcntl
except ImportError:  # no advisory locks on Windows: two processes may repeat work there
    fcntl = None

__all__ = ["check_header", "create_array", "read_header", "sha256_rows", "take_lock", "write_json", "write_text"]

CHUNK = 2**24  # bytes hashed at a time


def take_lock(f, wait: bool) -> bool:
    """Lock an open file among processes and threads; returns whether it was got."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(f, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        # a file system without locks: two processes may repeat work there, and then write the same
    return True


def create_array(file: Path, shape: tuple[int, int], dtype: str) -> None:
    """Make an ``.npy`` file of zeros, all at once."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    array = np.lib.format.open_memmap(temporary, mode="w+", dtype=disk_dtype(dtype), shape=shape)
    del array
    os.replace(temporary, file)  # the caller holds the entry's lock


def read_header(f) -> tuple[tuple, np.dtype, int]:
    """Return shape, dtype and the offset of the data of an open ``.npy`` file."""
    version = np.lib.format.read_magic(f)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(f)
    return shape, dtype, f.tell()


def check_header(file: Path, n_rows: int, info: Mapping | None) -> str:
    """Say what is wrong with the file as a whole, or nothing."""
    if info is None:
        return f"{file.name}: is in the ledger but not in entry.json"
    if not file.is_file():
        return f"{file.name}: is gone"
    try:
        with open(file, "rb") as f:
            shape, dtype, offset = read_header(f)
    except (ValueError, EOFError, OSError) as error:
        return f"{file.name}: has no npy header ({error})"
    if shape != (n_rows, info["n_features"]) or dtype != disk_dtype(info["dtype"]):
        return f"{file.name}: holds {shape} {dtype}, expected ({n_rows}, {info['n_features']}) {info['dtype']}"
    expected = offset + int(np.prod(shape)) * dtype.itemsize
    size = file.stat().st_size
    return "" if size == expected else f"{file.name}: has {size} bytes, expected {expected}"


def sha256_rows(rows: np.ndarray) -> str:
    """Return the sha256 of the bytes of rows, read a piece at a time."""
    digest = hashlib.sha256()
    step = max(1, CHUNK // max(1, rows.shape[1] * rows.itemsize))
    for start in range(0, len(rows), step):
        digest.update(np.ascontiguousarray(rows[start:start + step]).data.cast("B"))
    return digest.hexdigest()


def write_json(path: Path, record: Mapping) -> None:
    """Write a record so that it is there whole or not at all."""
    write_text(path, json.dumps(record, indent=1, default=str))


def write_text(path: Path, text: str) -> None:
    """Write a text so that it is there whole or not at all."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=path.name, suffix=".tmp", delete=False) as f:
        f.write(text)
    os.replace(f.name, path)
