"""Reliability of the responses that an encoding analysis predicts, from repeats or as given."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from neuroalign.data import sample_dim
from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.stats import repeat_reliability
from neuroalign.stats.ceilings import FLOOR

__all__ = ["Reliability", "find_reliability"]

METHODS = {"split-half": "split halves of the repeats, Spearman-Brown",
           "ncsnr": "noise-ceiling signal-to-noise ratio of the repeats"}


@dataclass(frozen=True)
class Reliability:
    """Reliability of each neuroid (and time bin), and what it is of.

    Attributes
    ----------
    values : array of shape (n_neuroids[, n_time_bins]) or ()
        NaN: unavailable.
    aggregation : {"pooled", "foldmean"}
    source : str
    """

    values: np.ndarray
    aggregation: str
    source: str


def find_reliability(responses: xr.DataArray, ceiling, repeats: str, random_state: int) -> Reliability:
    """Resolve the argument `ceiling` of `encode`."""
    if isinstance(ceiling, str):
        check_option("ceiling", ceiling, tuple(METHODS))
    repeated = sample_dim(responses) == "presentation"
    if ceiling is None or isinstance(ceiling, str):
        if repeated and repeats == "average":
            method = ceiling or "split-half"
            found = _from_repeats(responses, method, random_state)
            if np.isfinite(found).any():
                return _checked(responses, found, "pooled", METHODS[method])
        if ceiling is not None:
            raise ValueError(f"ceiling={ceiling!r}: the responses have no repeats to split (dim 'presentation' with "
                             "repeats='average'). Give the reliability, such as stats.split_half_reliability of the "
                             "subjects that were averaged.")
        return Reliability(np.array(np.nan), "pooled", f"unavailable: {_why_none(responses, repeats)}, none given")
    return _given(responses, ceiling)


def _why_none(responses, repeats) -> str:
    if sample_dim(responses) != "presentation":
        return "no repeats"
    n_repeated = int((np.unique(responses["stimulus_id"], return_counts=True)[1] > 1).sum())
    if n_repeated and repeats == "keep":
        return "repeats='keep' predicts single presentations"
    few = {0: "no repeats", 1: "only 1 stimulus was repeated", 2: "only 2 stimuli were repeated"}
    return few.get(n_repeated, "the repeats give no reliability")


def _from_repeats(responses, method, random_state):
    dims = [d for d in ("neuroid", "time_bin") if d in responses.dims]
    ordered = responses.transpose("presentation", *dims)
    flat = np.asarray(ordered.values, np.float64).reshape(ordered.shape[0], -1)
    rho = repeat_reliability(flat, ordered["stimulus_id"].values, method=method, random_state=random_state)
    return rho.reshape(ordered.shape[1:])


def _given(responses, ceiling):
    shape = tuple(responses.sizes[d] for d in ("neuroid", "time_bin") if d in responses.dims)
    aggregation, source = "pooled", "given"
    if isinstance(ceiling, xr.DataArray):
        aggregation = check_option("ceiling.attrs['aggregation']", ceiling.attrs.get("aggregation", "pooled"),
                                   ("pooled", "foldmean"))
        source = str(ceiling.attrs.get("method", "given"))
        if "neuroid_id" in ceiling.coords and "neuroid_id" in responses.coords:
            ceiling = ceiling.set_index(neuroid="neuroid_id").reindex(neuroid=responses["neuroid_id"].values)
        ceiling = ceiling.transpose(*[d for d in ("neuroid", "time_bin") if d in ceiling.dims]).values
    elif isinstance(ceiling, Mapping):
        ids = responses["neuroid_id"].values
        unknown = set(ceiling) - set(ids)
        if unknown:
            raise ValueError(f"ceiling: unknown neuroids {list_ids(sorted(map(str, unknown)))}; the responses have "
                             f"{list_ids(ids)}.")
        ceiling = np.array([ceiling.get(i, np.nan) for i in ids], float)
    values = np.asarray(ceiling, float)
    if values.ndim == 1 and len(shape) == 2 and len(values) == shape[0]:
        values = np.repeat(values[:, None], shape[1], 1)
    if values.shape != shape:
        raise ValueError(f"ceiling: got shape {values.shape}, expected {shape} (one reliability a neuroid).")
    return _checked(responses, values, aggregation, source)


def _checked(responses, rho, aggregation, source):
    with np.errstate(invalid="ignore"):
        low = (rho <= FLOOR).reshape(len(rho), -1).all(1)
    if low.any():
        ids = responses["neuroid_id"].values[low] if "neuroid_id" in responses.coords else np.flatnonzero(low)
        warn_user(f"{len(ids)} of {len(rho)} neuroids are unreliable (reliability at most {FLOOR}) and get no "
                  f"ceiling: {list_ids(ids)}.", "unreliable-target", ids)
    return Reliability(rho, aggregation, source)
