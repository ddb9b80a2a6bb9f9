"""Confounds: what an event is apart from any model, as feature spaces like any other."""

import numpy as np
import xarray as xr

from neuroalign.data import StimulusSet, make_features

__all__ = ["word_rate"]

TIMING = ("onset", "duration", "parent", "position")


def word_rate(events: StimulusSet | xr.DataArray) -> xr.DataArray:
    """Return one for every event: convolved, it is the rate of events.

    Parameters
    ----------
    events : StimulusSet or DataArray
        Words, or features of words.

    Returns
    -------
    DataArray of shape (n_events, 1)
        Space ``confound:word_rate:word``.

    Examples
    --------
    >>> word_rate(StimulusSet.from_texts(["two words"]).words()).values.ravel().tolist()
    [1.0, 1.0]
    """
    ids, coords = _events(events)
    return make_features(np.ones((len(ids), 1), np.float32), ids, model="confound", layer="word_rate", stream="word",
                         coords=coords)


def _events(events) -> tuple[np.ndarray, dict]:
    """Return the ids of events and the coords that say where and when they are."""
    if isinstance(events, StimulusSet):
        table = events.table
        found = {c: table[c].to_numpy() for c in TIMING if c in table.columns}
        return np.asarray(events.ids), {k: v.astype(str) if v.dtype == object else v for k, v in found.items()}
    return events["stimulus_id"].values, {c: events[c].values for c in TIMING if c in events.coords}
