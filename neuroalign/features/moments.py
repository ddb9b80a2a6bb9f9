"""From frames of a sound or a film to events or samples: the means of what lies within each."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from neuroalign.data import StimulusSet, make_features
from neuroalign.errors import list_ids

__all__ = ["event_coords", "intervals", "mean_within", "place"]

SLACK = 0.1  # seconds by which an event may begin after the sound or film has ended, or end before it has begun
TIMING = ("onset", "duration", "run", "parent", "position")


def event_coords(events: StimulusSet | xr.DataArray) -> tuple[np.ndarray, dict]:
    """Return the ids of events and the coords that say where and when they are."""
    if isinstance(events, StimulusSet):
        table = events.table
        found = {c: table[c].to_numpy() for c in TIMING if c in table.columns}
        return np.asarray(events.ids), {k: v.astype(str) if v.dtype == object else v for k, v in found.items()}
    return events["stimulus_id"].values, {c: events[c].values for c in TIMING if c in events.coords}


def place(values: np.ndarray, moments: np.ndarray, at, layer: str, stream: str, *, weights: np.ndarray | None = None,
          feature_coords: Mapping[str, Sequence] | None = None, outside: float = 0.0) -> xr.DataArray:
    """Return a confound at events (StimulusSet or features with onset and duration) or at seconds, as a space.

    An event gets the mean of the frames between its onset and offset; a second the mean of the frames that are nearer
    to it than to the other seconds. Where there are none between frames, it gets the nearest. Seconds before the first
    frame and after the last get `outside`; an event there is an error.

    Parameters
    ----------
    values : array of shape (n_frames, n_features)
    moments : array of shape (n_frames,)
        Seconds of the frames, increasing.
    weights : array of shape (n_frames,), optional
        Weights of the frames in the means; where all are zero the mean is zero.
    """
    if isinstance(at, (StimulusSet, xr.DataArray)) and "time" not in getattr(at, "dims", ()):
        ids, coords = event_coords(at)
        start, stop = intervals(ids, coords)
        beyond = _beyond(moments, start, stop)
        if beyond.any():
            raise ValueError(f"{layer}: {int(beyond.sum())} of {len(beyond)} events lie outside of the {stream}, which "
                             f"lasts from {moments[0]:.4g} to {moments[-1]:.4g} s: {list_ids(ids[beyond])}. Say at "
                             "which second of their clock it begins (start=), or leave them out.")
        array = make_features(mean_within(values, moments, start, stop, weights), ids, model="confound", layer=layer,
                              stream=stream, coords=coords)
    else:
        times = np.asarray(at.time.values if isinstance(at, xr.DataArray) else at, dtype=float)
        if times.ndim != 1 or len(times) < 2 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError(f"{layer}: got times of shape {times.shape}, expected events with onset and duration, or "
                             "at least two finite seconds that increase.")
        middle = (times[1:] + times[:-1]) / 2
        edges = np.r_[2 * times[0] - middle[0], middle, 2 * times[-1] - middle[-1]]
        beyond = _beyond(moments, edges[:-1], edges[1:], slack=0.0)
        if beyond.all():
            raise ValueError(f"{layer}: the {stream} lasts from {moments[0]:.4g} to {moments[-1]:.4g} s, and all "
                             f"seconds ({times[0]:.4g} to {times[-1]:.4g}) lie outside of it. Say at which second of "
                             "their clock it begins (start=).")
        means = mean_within(values, moments, edges[:-1], edges[1:], weights)
        means[beyond] = outside
        array = make_features(means, times, dim="time", model="confound", layer=layer, stream=stream)
    return array.assign_coords({k: ("feature", np.asarray(v)) for k, v in (feature_coords or {}).items()})


def mean_within(values, moments, start, stop, weights=None) -> np.ndarray:
    """Return the means of frames from `start` to before `stop`; (n, n_features), float32.

    Examples
    --------
    >>> mean_within(np.array([[1.0], [3.0], [8.0]]), np.array([0.0, 1.0, 2.0]), [0.0, 1.9], [2.0, 1.95]).tolist()
    [[2.0], [8.0]]
    """
    start, stop = np.asarray(start, float), np.asarray(stop, float)
    weights = np.ones(len(moments)) if weights is None else np.asarray(weights, float)
    first, last = np.searchsorted(moments, start), np.searchsorted(moments, stop)
    centre = (start + stop) / 2
    after = np.clip(np.searchsorted(moments, centre), 1, max(1, len(moments) - 1))
    before = after - 1
    after = np.minimum(after, len(moments) - 1)
    nearest = np.where(centre - moments[before] <= moments[after] - centre, before, after)
    alone = last <= first
    first, last = np.where(alone, nearest, first), np.where(alone, nearest + 1, last)
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values * weights[:, None], axis=0)])
    counts = np.r_[0.0, np.cumsum(weights)]
    total = (counts[last] - counts[first])[:, None]
    return np.where(total > 0, (sums[last] - sums[first]) / np.where(total > 0, total, 1), 0).astype(np.float32)


def _beyond(moments, start, stop, slack: float = SLACK) -> np.ndarray:
    """Return which intervals lie before the first frame or after the last; a frame lasts until the next."""
    frame = max(slack, float(np.median(np.diff(moments))) if len(moments) > 1 else np.inf)
    return (start > moments[-1] + frame) | (stop < moments[0] - frame)


def intervals(ids, coords) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds at which events begin and end; they must be known, and in this order."""
    lacking = [c for c in ("onset", "duration") if c not in coords]
    if lacking:
        raise ValueError(f"events: no {' and no '.join(lacking)} (seconds), so they have no place in the recording. "
                         "Use timed stimuli, or give seconds.")
    onset, duration = (np.asarray(coords[c], dtype=float) for c in ("onset", "duration"))
    bad = ~(np.isfinite(onset) & np.isfinite(duration))
    if bad.any():
        raise ValueError(f"events: onset or duration is not finite for {list_ids(ids[bad])}.")
    if (duration < 0).any():
        raise ValueError(f"events: durations of {list_ids(ids[duration < 0])} are below 0 s. Mend them.")
    return onset, onset + duration
