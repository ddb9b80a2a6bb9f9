"""What numbers are stored as: float32, float16, or bfloat16, which numpy lacks and which lies on disk as uint16."""

import numpy as np
import torch
import xarray as xr
from xarray.core import indexing

__all__ = ["STORAGE_DTYPES", "decode", "decoded_lazily", "disk_dtype", "encode"]

STORAGE_DTYPES = ("float32", "float16", "bfloat16")


def disk_dtype(dtype: str) -> np.dtype:
    """Return the dtype of the ``.npy`` file.

    Examples
    --------
    >>> disk_dtype("bfloat16")
    dtype('uint16')
    """
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return float values as they lie on disk; bfloat16 is rounded to the nearest, ties to even."""
    if dtype != "bfloat16":
        return values
    values = np.ascontiguousarray(values, dtype=np.float32)
    return torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)


def decode(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Return what lies on disk as floats: bfloat16 is the upper half of a float32, exactly.

    Examples
    --------
    >>> decode(encode(np.array([[1.0, -2.5]], np.float32), "bfloat16"), "bfloat16").tolist()
    [[1.0, -2.5]]
    """
    return (stored.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else stored


def decoded_lazily(stored: np.ndarray):
    """Return bfloat16 bits as an array for xarray that decodes, to float32, the part that is read and no more."""
    return indexing.LazilyIndexedArray(_Decoded(stored))


class _Decoded(xr.backends.BackendArray):
    def __init__(self, stored: np.ndarray):
        self.stored, self.shape, self.dtype = stored, stored.shape, np.dtype("float32")

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key):
        rows, *rest = key
        part = self.stored[rows]  # basic or fancy along one axis at a time: an outer product of both
        if rest:
            part = part[..., rest[0]]
        return decode(np.asarray(part), "bfloat16")
