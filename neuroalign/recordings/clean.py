"""Cleaning of time series run by run: confounds and trend regressed out, filtered, standardised."""

import json

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import same_clock, sample_dim
from neuroalign.errors import list_ids, warn_user

__all__ = ["clean", "group_mean"]

ORDER = 2  # of the Butterworth filter
BLOCK = 4096  # columns worked on at a time, in float64
FLAT = 1e-6  # a column whose standard deviation is below this part of its size is constant


def clean(array: xr.DataArray, *, confounds=None, high_pass: float | None = None, low_pass: float | None = None,
          detrend: bool = True, standardize: bool = True) -> xr.DataArray:
    """Clean responses or feature series, each run by itself.

    In this order: confounds (z-scored), a constant and a linear trend are regressed out by least squares; a
    Butterworth filter of order 2 is run forwards and backwards (no shift in time); every column is z-scored.

    Parameters
    ----------
    array : DataArray (time, ...)
        Responses (time, neuroid) or features (time, feature); ``time`` in seconds, evenly spaced in a run.
    confounds : DataArray (time, confound[, subject]), DataFrame or array (n_time, n_confounds), optional
        With a ``subject`` dim every neuroid gets the confounds of its own subject.
    high_pass, low_pass : float, optional
        Cut-off frequencies in Hz.
    detrend : bool
        Regress out a constant and a linear trend.
    standardize : bool
        Scale to mean 0 and standard deviation 1.

    Returns
    -------
    DataArray (time, ...)
        As float32. Columns that are constant or not finite in a run become NaN there, with a warning that names
        them; the others are not touched by them. Coords stay as they are. ``attrs["high_pass"]`` and
        ``attrs["low_pass"]`` keep the narrowest cut-offs of all calls (regressors should pass the same filter),
        ``attrs["cleaning"]`` all steps as a JSON list, one entry a call.

    Notes
    -----
    `nilearn.signal.clean` has a filter of order 5 and filters data and confounds before it regresses. On the Alice
    recordings that gives other inter-subject correlations (LPTL .425 instead of .449) than the recipe of the
    reference values, which regresses first and filters with order 2. So the recipe is written out here.

    Examples
    --------
    >>> from neuroalign.data import make_responses
    >>> t = np.arange(200) * 2.0
    >>> r = make_responses((np.sin(t / 3) + 0.01 * t)[:, None], t, ["v1"], dim="time")
    >>> out = clean(r, high_pass=1 / 128)
    >>> bool(abs(out.mean()) < 1e-6), round(float(out.std()), 4)
    (True, 1.0)
    """
    if sample_dim(array) != "time":
        raise ValueError(f"clean: got sample dim {sample_dim(array)!r}, expected 'time' (a continuous recording).")
    moved = array.transpose("time", ...)
    data = moved.values.reshape(moved.shape[0], -1)
    out = np.empty(data.shape, np.float32)
    lost = np.zeros(data.shape[1], bool)
    design = _Confounds(confounds, moved, data.shape[1])
    for rows in _runs(array):
        coefficients = _filter(array, rows, high_pass, low_pass)
        for columns, own in design.groups(rows):
            block = data[np.ix_(rows, columns)].astype(np.float64)
            cleaned, bad = _clean_run(block, own, detrend, coefficients, standardize)
            out[np.ix_(rows, columns)] = cleaned
            lost[columns] |= bad
    if lost.any():
        ids = _column_names(moved)[lost]
        warn_user(f"clean: {int(lost.sum())} columns are constant or not finite in at least one run and become NaN "
                  f"there: {list_ids(ids)}.", "constant-signal", ids)
    result = moved.copy(data=out.reshape(moved.shape)).transpose(*array.dims)
    steps = {"confounds": design.count, "detrend": detrend, "high_pass": high_pass, "low_pass": low_pass,
             "filter_order": ORDER, "standardize": standardize}
    history = [*json.loads(array.attrs.get("cleaning", "[]")), steps]
    # What an earlier call took out stays out.
    cuts = {k: float(narrower(v, array.attrs.get(k, v))) for k, v, narrower in (
        ("high_pass", high_pass, max), ("low_pass", low_pass, min)) if v is not None}
    units = {"units": "z"} if standardize and "units" in array.attrs else {}
    return result.assign_attrs(array.attrs, cleaning=json.dumps(history), **cuts, **units)


def group_mean(responses: xr.DataArray, over: str = "subject", by: str = "region") -> xr.DataArray:
    """Average the neuroids of all subjects that share a region.

    Parameters
    ----------
    responses : DataArray (sample dim, neuroid[, time_bin])
    over : str
        Coord of `neuroid` that is averaged over; each of its values may occur once in a region.
    by : str
        Coord of `neuroid` that remains.

    Returns
    -------
    DataArray (sample dim, neuroid)
        One neuroid a region, in order of first appearance. The number averaged stands in the coord
        ``n_averaged`` (and in ``attrs["n_averaged"]`` if it is the same for all): the ceiling of this array is the
        reliability of a mean over that many subjects. Neuroids that are all NaN are not counted.
    """
    for coord in (over, by):
        if coord not in responses.coords or responses[coord].dims != ("neuroid",):
            raise ValueError(f"group_mean: the responses have no coord {coord!r} on 'neuroid'.")
    moved = responses.transpose(..., "neuroid")
    pairs = pd.MultiIndex.from_arrays([responses[by].values, responses[over].values])
    if pairs.has_duplicates:
        twice = [f"{b}, {o}" for b, o in pairs[pairs.duplicated()].unique()]
        raise ValueError(f"group_mean: more than once: {list_ids(twice)}; average them first.")
    usable = ~np.isnan(moved.values).all(axis=tuple(range(moved.ndim - 1)))
    codes, names = pd.factorize(responses[by].values)
    counts = np.array([int((usable & (codes == k)).sum()) for k in range(len(names))])
    if (counts == 0).any():
        warn_user(f"group_mean: no finite neuroid in {list_ids(names[counts == 0])}; the mean is NaN.",
                  "empty-group", names[counts == 0])
    values = np.stack([moved.values[..., usable & (codes == k)].mean(-1, dtype=np.float64) if counts[k]
                       else np.full(moved.shape[:-1], np.nan) for k in range(len(names))], axis=-1)
    coords = {k: v for k, v in responses.coords.items() if "neuroid" not in v.dims}
    names = np.asarray(names)
    coords.update({"neuroid": ("neuroid", names), "neuroid_id": ("neuroid", names), by: ("neuroid", names),
                   "n_averaged": ("neuroid", counts)})
    if "hemisphere" in responses.coords:
        sides = [set(responses["hemisphere"].values[codes == k]) for k in range(len(names))]
        if all(len(s) == 1 for s in sides):
            coords["hemisphere"] = ("neuroid", [s.pop() for s in sides])
    out = xr.DataArray(values.astype(np.float32), dims=moved.dims, coords=coords, attrs=dict(responses.attrs),
                       name=responses.name)
    if len(set(counts)) == 1:
        out.attrs["n_averaged"] = int(counts[0])
    return out.transpose(*responses.dims)


class _Confounds:
    """The confounds of every column: one matrix for all, or one a subject."""

    def __init__(self, confounds, array: xr.DataArray, n_columns: int):
        self.columns = np.arange(n_columns)
        self.subject_of, self.tables = None, {None: None}
        if confounds is None:
            return
        if isinstance(confounds, xr.DataArray):
            _check_clock(confounds, array)
            if "subject" in confounds.dims:
                self._by_subject(confounds.transpose("time", "confound", "subject"), array)
                return
            confounds = confounds.transpose("time", ...)
        table = np.asarray(confounds, np.float64)
        if table.ndim != 2 or len(table) != array.sizes["time"]:
            raise ValueError(f"clean: confounds have shape {table.shape}, expected ({array.sizes['time']} samples, "
                             "number of confounds).")
        self.tables = {None: table}

    def _by_subject(self, confounds: xr.DataArray, array: xr.DataArray) -> None:
        if "subject" not in array.coords or array["subject"].dims != ("neuroid",):
            raise ValueError("clean: the confounds differ by subject, but the array has no coord 'subject' on "
                             "'neuroid'. Select one subject's confounds: confounds.sel(subject='...').")
        subjects = array["subject"].values
        missing = sorted(set(subjects) - set(confounds["subject"].values))
        if missing:
            raise ValueError(f"clean: no confounds of subjects {list_ids(missing)}.")
        self.subject_of = np.repeat(subjects, len(self.columns) // len(subjects))
        self.tables = {s: confounds.sel(subject=s).values.astype(np.float64) for s in dict.fromkeys(subjects)}

    @property
    def count(self) -> int:
        """Number of confounds of a column."""
        table = next(iter(self.tables.values()))
        return 0 if table is None else table.shape[1]

    def groups(self, rows: np.ndarray):
        """Yield blocks of columns that share confounds, and these confounds in a run."""
        for subject, table in self.tables.items():
            columns = self.columns if self.subject_of is None else np.flatnonzero(self.subject_of == subject)
            for start in range(0, len(columns), BLOCK):
                yield columns[start:start + BLOCK], None if table is None else table[rows]


def _clean_run(data: np.ndarray, confounds, detrend: bool, coefficients, standardize: bool):
    """Clean the columns of one run; return them and which of them are constant or not finite."""
    from scipy.signal import filtfilt

    size = np.abs(data).max(0)
    bad = ~np.isfinite(data).all(0)
    bad[~bad] = np.ptp(data[:, ~bad], axis=0) <= FLAT * size[~bad]
    out = np.full_like(data, np.nan)
    good = data[:, ~bad]
    design = _design(len(data), confounds, detrend)
    if design is not None and good.size:
        good = good - design @ np.linalg.lstsq(design, good, rcond=None)[0]
    if coefficients is not None and good.size:
        good = filtfilt(*coefficients, good, axis=0)
    if good.size:
        flat = good.std(0) <= FLAT * data[:, ~bad].std(0)  # nothing but confounds, trend and slow drift
        good[:, flat] = np.nan
        if standardize:
            good = (good - good.mean(0)) / good.std(0)
        out[:, ~bad] = good
        bad[~bad] = flat
    return out, bad


def _design(length: int, confounds, detrend: bool):
    parts = []
    if confounds is not None:
        if not np.isfinite(confounds).all():
            raise ValueError(f"clean: confounds {list_ids(np.flatnonzero(~np.isfinite(confounds).all(0)))} are not "
                             "finite. Fill or drop them.")
        deviation = confounds.std(0)
        parts.append((confounds - confounds.mean(0)) / np.where(deviation > 0, deviation, 1))
    if detrend:
        parts += [np.ones((length, 1)), np.linspace(-1, 1, length)[:, None]]
    design = np.concatenate(parts, axis=1) if parts else None
    if design is not None and design.shape[1] >= length:
        raise ValueError(f"clean: {design.shape[1]} confounds and trends for a run of {length} samples: nothing is "
                         "left. Take fewer confounds.")
    return design


def _filter(array: xr.DataArray, rows: np.ndarray, high_pass, low_pass):
    """Return the (b, a) coefficients for a run, or None."""
    if high_pass is None and low_pass is None:
        return None
    from scipy.signal import butter

    step = _time_step(array, rows)
    nyquist = 0.5 / step
    cuts = [c for c in (high_pass, low_pass) if c is not None]
    if any(not 0 < c < nyquist for c in cuts) or sorted(cuts) != cuts:
        raise ValueError(f"clean: high_pass={high_pass}, low_pass={low_pass} Hz, expected 0 < high_pass < low_pass < "
                         f"{nyquist:.4g} Hz (half of the sampling rate).")
    kind = "bandpass" if len(cuts) == 2 else "highpass" if low_pass is None else "lowpass"
    b, a = butter(ORDER, np.array(cuts) / nyquist if len(cuts) == 2 else cuts[0] / nyquist, kind)
    padding = 3 * max(len(a), len(b))
    if len(rows) <= padding:
        raise ValueError(f"clean: a run has {len(rows)} samples, this filter needs more than {padding}.")
    return b, a


def _time_step(array: xr.DataArray, rows: np.ndarray) -> float:
    if "time" not in array.coords:
        raise ValueError("clean: filtering needs the coord 'time' in seconds.")
    steps = np.diff(array["time"].values[rows])
    if not len(steps) or steps.min() <= 0 or np.ptp(steps) > 1e-3 * np.median(steps):
        raise ValueError("clean: 'time' is not evenly spaced within a run; give a 'run' coord, or resample.")
    return float(np.median(steps))


def _runs(array: xr.DataArray) -> list[np.ndarray]:
    if "run" not in array.coords:
        return [np.arange(array.sizes["time"])]
    codes, _ = pd.factorize(array["run"].values)
    return [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]


def _check_clock(confounds: xr.DataArray, array: xr.DataArray) -> None:
    if not {"time", "confound"} <= set(confounds.dims) <= {"time", "confound", "subject"}:
        raise ValueError(f"clean: confounds have dims {confounds.dims}, expected (time, confound[, subject]).")
    if confounds.sizes["time"] != array.sizes["time"]:
        raise ValueError(f"clean: confounds have {confounds.sizes['time']} samples, the array {array.sizes['time']}.")
    if "time" in confounds.coords and "time" in array.coords and not same_clock(
            confounds["time"].values, array["time"].values):
        raise ValueError("clean: confounds and array stand on different clocks (coord 'time').")


def _column_names(moved: xr.DataArray) -> np.ndarray:
    rest = moved.dims[1:]
    if not rest:
        return np.array([str(moved.name or "series")])
    names = moved[rest[0]].values if rest[0] in moved.coords else np.arange(moved.sizes[rest[0]])
    return np.repeat(names.astype(str), int(np.prod(moved.shape[2:])))
