"""What was done to a recording, and what was left out of it and why: both travel in its attrs."""

import json

import numpy as np
import xarray as xr

__all__ = ["note", "note_dropped"]


def note(out: xr.DataArray, before: xr.DataArray, step: str, **options) -> xr.DataArray:
    """Add a step with its options to ``attrs["steps"]``, a JSON list; other attrs are those of `before`."""
    history = [*json.loads(before.attrs.get("steps", "[]")), {"step": step, **options}]
    return out.assign_attrs({**before.attrs, "steps": json.dumps(history)})


def note_dropped(out: xr.DataArray, before: xr.DataArray, reasons: list[str]) -> xr.DataArray:
    """Add to ``attrs["dropped"]``, a list of ``id: reason``; an empty one is not kept, netCDF cannot hold it."""
    listed = [*np.atleast_1d(before.attrs.get("dropped", [])).tolist(), *reasons]
    return out.assign_attrs(dropped=listed) if listed else out
