"""One call on two devices, and results of any kind compared value by value."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr

FEW = 0.06  # a count among 19 permutations may differ by one where two statistics are equal within rounding
COUNTED = ("p", "q", "p_max", "significant")


def same(call, *, atol=1e-4, rtol=1e-4):
    """Return ``call("cuda")`` after comparing it with ``call("cpu")``."""
    expected, found = call("cpu"), call("cuda")
    close(found, expected, atol, rtol)
    return found


def close(found, expected, atol, rtol=1e-4, where="result"):
    """Compare numbers at a tolerance, everything else exactly; private fields of results are their own affair."""
    if isinstance(expected, xr.Dataset):
        assert set(found.data_vars) == set(expected.data_vars), where
        for name in expected.data_vars:
            close(found[name].values, expected[name].values, FEW if name in COUNTED else atol, rtol,
                  f"{where}.{name}")
    elif isinstance(expected, pd.DataFrame):
        assert list(found) == list(expected), where
        for name in expected:
            close(found[name].to_numpy(), expected[name].to_numpy(), FEW if name in COUNTED else atol, rtol,
                  f"{where}.{name}")
    elif isinstance(expected, Mapping):
        assert list(found) == list(expected), where
        for key in expected:
            close(found[key], expected[key], atol, rtol, f"{where}[{key!r}]")
    elif is_dataclass(expected):
        for name in (f.name for f in fields(expected) if not f.name.startswith("_")):
            close(getattr(found, name), getattr(expected, name), atol, rtol, f"{where}.{name}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), where
        for k, (a, b) in enumerate(zip(found, expected)):
            close(a, b, atol, rtol, f"{where}[{k}]")
    else:
        _close_values(found, expected, atol, rtol, where)


def _close_values(found, expected, atol, rtol, where):
    found, expected = (np.asarray(v.detach().cpu() if isinstance(v, torch.Tensor) else v) for v in (found, expected))
    if expected.dtype.kind in "fc":
        np.testing.assert_allclose(found, expected, atol=atol, rtol=rtol, err_msg=where)
    else:
        np.testing.assert_array_equal(found, expected, err_msg=where)
