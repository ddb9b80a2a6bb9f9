"""Several recordings in one study: films, sessions and stimulus sets one below another, subjects side by side."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import sample_dim, validate_responses
from neuroalign.errors import check_option, list_ids

__all__ = ["join"]


def join(recordings: Mapping[str, xr.DataArray], along: str = "presentation") -> xr.DataArray:
    """Join recordings of the same neuroids below one another, or of the same stimuli side by side.

    Parameters
    ----------
    recordings : mapping of name to DataArray
        Names of the sessions (films, stimulus sets), or of the subjects.
    along : {"presentation", "time", "neuroid"}
        ``"presentation"``: rows of stimuli or presentations below one another, with the coord ``session``; a
        stimulus that was shown in several sessions has several presentations. ``"time"``: continuous runs below
        one another. The names of runs become ``SESSION:RUN``, also of presentations with an ``onset``: each session
        has a clock of its own. ``"neuroid"``: neuroids side by side, with the coord
        ``subject``, for rows that are the same in all.

    Returns
    -------
    DataArray
        Coords that some of the recordings lack are left out. What was dropped from any stands in
        ``attrs["dropped"]``.

    Raises
    ------
    ValueError
        Different units, kinds, sampling rates, bins, neuroids or rows: names them.

    Examples
    --------
    >>> from neuroalign.data import make_responses
    >>> one = make_responses([[1.0]], ["cut#0"], ["A1"], kind="seeg")
    >>> two = make_responses([[2.0]], ["cut#0"], ["A1"], kind="seeg")
    >>> both = join({"film1": one, "film2": two})
    >>> both.dims, both.session.values.tolist()
    (('presentation', 'neuroid'), ['film1', 'film2'])
    """
    check_option("along", along, ("presentation", "time", "neuroid"))
    if not isinstance(recordings, Mapping) or not recordings:
        raise ValueError("join: expected a mapping of names to recordings, {'film1': responses, ...}.")
    parts = {str(name): validate_responses(r) for name, r in recordings.items()}
    for attr in ("units", "kind", "sfreq"):
        _check_same(parts, attr, lambda r, attr=attr: r.attrs.get(attr))
    _check_same(parts, "time bins", lambda r: r["time_bin"].values.round(9).tolist() if "time_bin" in r.dims else None)
    work = {"neuroid": _side_by_side, "time": _runs, "presentation": _rows}[along]
    out = work(parts)
    dropped = [d for r in parts.values() for d in np.atleast_1d(r.attrs.get("dropped", [])).tolist()]
    first = next(iter(parts.values())).attrs
    attrs = {k: v for k, v in first.items() if k not in ("dropped", "bad_spans")
             and all(r.attrs.get(k) == v for r in parts.values())}
    spans = _bad_spans(parts, along)
    out.attrs = {**attrs, **({"dropped": list(dict.fromkeys(dropped))} if dropped else {}),
                 **({"bad_spans": json.dumps(spans)} if spans else {})}
    return validate_responses(out)


def _check_same(parts: dict, what: str, of) -> None:
    found = {name: of(r) for name, r in parts.items()}
    first_name, first = next(iter(found.items()))
    odd = [name for name, value in found.items() if value != first]
    if odd:
        short = what == "time bins"
        said = "differ" if short else f"{found[odd[0]]!r} in {odd[0]!r}, {first!r} in {first_name!r}"
        raise ValueError(f"join: {what} of {list_ids(odd)} are not those of {first_name!r}: {said}. Bring them to one "
                         "first.")


def _rows(parts: dict) -> xr.DataArray:
    wrong = [name for name, r in parts.items() if sample_dim(r) == "time"]
    if wrong:
        raise ValueError(f"join: {list_ids(wrong)} stand on 'time'; join them along='time', or bin them around events.")
    parts = _same_neuroids(parts)
    moved = {n: r.rename({"stimulus": "presentation"}).drop_vars("presentation") if "stimulus" in r.dims else r
             for n, r in parts.items()}
    return _concat([_in_session(r, n, "presentation") for n, r in moved.items()], "presentation")


def _runs(parts: dict) -> xr.DataArray:
    wrong = [name for name, r in parts.items() if sample_dim(r) != "time"]
    if wrong:
        raise ValueError(f"join: {list_ids(wrong)} do not stand on 'time'; join them along='presentation'.")
    return _concat([_in_session(r, n, "time") for n, r in _same_neuroids(parts).items()], "time")


def _in_session(r: xr.DataArray, name: str, dim: str) -> xr.DataArray:
    """Say of which session samples are, and name their runs after it, if they are timed."""
    r = r.assign_coords(session=(dim, np.full(r.sizes[dim], name)))
    if dim == "presentation" and "onset" not in r.coords and "run" not in r.coords:
        return r
    runs = r["run"].values.astype(str) if "run" in r.coords else np.full(r.sizes[dim], "0")
    return r.assign_coords(run=(dim, [f"{name}:{k}" for k in runs]))


def _bad_spans(parts: dict, along: str) -> list:
    """Return [run, onset, duration] of what is bad in any recording, under the new names of runs."""
    found = []
    for name, r in parts.items():
        for run, *span in json.loads(r.attrs.get("bad_spans", "[]")):
            found.append([f"{name}:{run}" if along == "time" else run, *span])
    return [span for k, span in enumerate(found) if span not in found[:k]]


def _side_by_side(parts: dict) -> xr.DataArray:
    """Neuroids of subjects; the rows must be the same, and in the order of the first."""
    first_name, first = next(iter(parts.items()))
    dim = sample_dim(first)
    key = "time" if dim == "time" else "stimulus_id"
    aligned = []
    for name, r in parts.items():
        same = sample_dim(r) == dim and r.sizes[dim] == first.sizes[dim]
        if same and dim == "stimulus":
            rows = pd.Index(r[key].values).get_indexer(first[key].values)
            same = (rows >= 0).all()
            r = r.isel({dim: rows}) if same else r
        same = same and bool((r[key].values == first[key].values).all())
        if not same:
            raise ValueError(f"join: the rows of {name!r} are not those of {first_name!r} (coord {key!r}). Average "
                             "repetitions, and keep the stimuli that all have.")
        if "subject" not in r.coords or r["subject"].dims != ("neuroid",):
            r = r.assign_coords(subject=("neuroid", np.full(r.sizes["neuroid"], name)))
        aligned.append(r)
    ids = pd.Index(np.concatenate([r["neuroid_id"].values for r in aligned]))
    if ids.has_duplicates:
        aligned = [_prefixed(r) for r in aligned]
    return _concat(aligned, "neuroid")


def _prefixed(r: xr.DataArray) -> xr.DataArray:
    ids = np.array([f"{s}.{i}" for s, i in zip(r["subject"].values, r["neuroid_id"].values)])
    return r.assign_coords(neuroid=("neuroid", ids), neuroid_id=("neuroid", ids))


def _same_neuroids(parts: dict) -> dict:
    first_name, first = next(iter(parts.items()))
    wanted = first["neuroid_id"].values
    out = {}
    for name, r in parts.items():
        odd = sorted(set(r["neuroid_id"].values.tolist()) ^ set(wanted.tolist()))
        if odd:
            raise ValueError(f"join: neuroids of {name!r} and {first_name!r} differ: {list_ids(odd)}. Keep those that "
                             "all have: r.sel(neuroid=[...]).")
        out[name] = r.isel(neuroid=pd.Index(r["neuroid_id"].values).get_indexer(wanted))
    return out


def _concat(parts: list[xr.DataArray], dim: str) -> xr.DataArray:
    """Join along a dim, with the coords that all have; those of other dims are taken of the first."""
    kept = set.intersection(*(set(r.coords) for r in parts))
    cut = [r.drop_vars(set(r.coords) - kept) for r in parts]
    first = cut[0]
    others = [k for k in kept if dim not in first[k].dims]
    joined = xr.concat([r.drop_vars(others) for r in cut], dim, coords="different", compat="equals", join="override")
    return joined.assign_coords({k: first[k] for k in others}).transpose(*first.dims)
