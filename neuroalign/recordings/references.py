"""Re-referencing and the choice of channels: common average, bipolar, Laplacian along a shaft, bad channels."""

import re
from collections.abc import Mapping

import numpy as np
import xarray as xr

from neuroalign.errors import list_ids, suggest, warn_user
from neuroalign.recordings.history import note, note_dropped

__all__ = ["bipolar", "common_average", "drop_channels", "laplacian", "split_contact"]


def split_contact(label: str) -> tuple[str, int] | None:
    """Split the label of a contact into its shaft and number; None where it has no number.

    Examples
    --------
    >>> split_contact("T1aIc12"), split_contact("Cz")
    (('T1aIc', 12), None)
    """
    found = re.fullmatch(r"(.*\D)(\d+)", label.strip())
    return (found[1], int(found[2])) if found else None


def drop_channels(responses: xr.DataArray, reasons: Mapping[str, str]) -> xr.DataArray:
    """Leave out channels; ids and reasons are kept in ``attrs["dropped"]``.

    Parameters
    ----------
    responses : DataArray (time, neuroid)
    reasons : mapping of neuroid id (or label) to reason

    Raises
    ------
    KeyError
        A channel that is not there.
    """
    ids, labels = responses["neuroid_id"].values.astype(str), _labels(responses)
    absent = [c for c in reasons if c not in ids and c not in labels]
    if absent:
        raise KeyError(f"drop_channels: no channels {list_ids(absent)}.{suggest(absent[0], [*ids, *labels])}")
    gone = np.isin(ids, list(reasons)) | np.isin(labels, list(reasons))
    why = [f"{i}: {reasons.get(i, reasons.get(name))}" for i, name in zip(ids[gone], labels[gone])]
    return _without(responses, gone, why, "drop_channels", channels=ids[gone].tolist())


def common_average(responses: xr.DataArray, *, by: str | None = None) -> xr.DataArray:
    """Subtract from each sample the mean over neuroids: of the same subject, or of the same value of another coord.

    Parameters
    ----------
    responses : DataArray (time, neuroid)
    by : str, optional
        Coord of `neuroid` whose values are averaged apart, for example ``"shaft"``; ``subject`` where it is known.
    """
    by = by or ("subject" if "subject" in responses.coords else None)
    groups = np.zeros(responses.sizes["neuroid"], int) if by is None else responses[by].values
    moved = responses.transpose("time", "neuroid")
    values = moved.values.copy()
    for group in dict.fromkeys(groups.tolist()):
        own = groups == group
        if own.sum() < 2:
            raise ValueError(f"common_average: one neuroid alone in {by} {group!r}; it would become zero.")
        values[:, own] -= np.nanmean(values[:, own], axis=1, keepdims=True, dtype=np.float64)
    return note(moved.copy(data=values), responses, "common_average", by=by)


def laplacian(responses: xr.DataArray) -> xr.DataArray:
    """Subtract from each contact the mean of its two neighbours on the same shaft (number - 1 and + 1).

    Contacts that lack a neighbour are left out, as in the released code of the Brain Treebank; they are named in
    ``attrs["dropped"]`` and in a warning.
    """
    places = _contacts(responses)
    index = {place: k for k, place in enumerate(places) if place is not None}
    pairs = [None if p is None else [index.get((*p[:2], p[2] + d)) for d in (-1, 1)] for p in places]
    kept = np.array([p is not None and None not in p for p in pairs])
    if not kept.any():
        raise ValueError("laplacian: no contact has both neighbours on its shaft. Are the labels like 'LA1', 'LA2'? "
                         f"Got {list_ids(_labels(responses))}.")
    moved = responses.transpose("time", "neuroid")
    left, right = np.array([p for p, k in zip(pairs, kept) if k]).T
    values = moved.values
    out = moved.isel(neuroid=kept).copy(data=values[:, kept] - (values[:, left] + values[:, right]) / 2)
    lost = responses["neuroid_id"].values[~kept]
    if len(lost):
        warn_user(f"laplacian: {len(lost)} of {len(kept)} contacts lack a neighbour on their shaft and are left out: "
                  f"{list_ids(lost)}.", "no-neighbours", lost)
    why = [f"{i}: no two neighbours on the shaft" for i in lost]
    return note_dropped(note(out, responses, "laplacian"), responses, why)


def bipolar(responses: xr.DataArray) -> xr.DataArray:
    """Subtract from each contact the next one of its shaft (number + 1), and put the result half-way between.

    Returns
    -------
    DataArray (time, neuroid)
        Ids ``A1-A2``; positions are means, other coords those of the first contact.
    """
    places = _contacts(responses)
    index = {place: k for k, place in enumerate(places) if place is not None}
    pairs = [(k, index[(*p[:2], p[2] + 1)]) for k, p in enumerate(places)
             if p is not None and (*p[:2], p[2] + 1) in index]
    if not pairs:
        raise ValueError("bipolar: no two neighbouring contacts on a shaft. Are the labels like 'LA1', 'LA2'? Got "
                         f"{list_ids(_labels(responses))}.")
    first, second = np.array(pairs).T
    moved, ids, labels = responses.transpose("time", "neuroid"), responses["neuroid_id"].values, _labels(responses)
    out = moved.isel(neuroid=first).copy(data=moved.values[:, first] - moved.values[:, second])
    names = np.array([f"{ids[a]}-{labels[b]}" for a, b in pairs])
    coords = {"neuroid": ("neuroid", names), "neuroid_id": ("neuroid", names)}
    for prefix in ("", "native_"):
        for axis in "xyz":
            if (key := prefix + axis) in responses.coords:
                coords[key] = ("neuroid", (responses[key].values[first] + responses[key].values[second]) / 2)
    alone = np.setdiff1d(np.arange(len(ids)), [first, second])
    if len(alone):
        warn_user(f"bipolar: {len(alone)} of {len(ids)} contacts have no neighbour on their shaft and are left out: "
                  f"{list_ids(ids[alone])}.", "no-neighbours", ids[alone])
    why = [f"{i}: no neighbour on the shaft" for i in ids[alone]]
    return note_dropped(note(out.assign_coords(coords), responses, "bipolar"), responses, why)


def _labels(responses: xr.DataArray) -> np.ndarray:
    name = "label" if "label" in responses.coords else "neuroid_id"
    return responses[name].values.astype(str)


def _contacts(responses: xr.DataArray) -> list[tuple | None]:
    """Return (subject, shaft, number) of each neuroid."""
    subjects = responses["subject"].values if "subject" in responses.coords else np.zeros(responses.sizes["neuroid"])
    found = [split_contact(label) for label in _labels(responses)]
    places = [None if f is None else (s, *f) for s, f in zip(subjects.tolist(), found)]
    seen = [p for p in places if p is not None]
    twice = [f"{p[1]}{p[2]}" for p in dict.fromkeys(seen) if seen.count(p) > 1]
    if twice:
        raise ValueError(f"contacts {list_ids(twice)} occur more than once in a subject; rename them.")
    return places


def _without(responses, gone, why, step, **options) -> xr.DataArray:
    return note_dropped(note(responses.isel(neuroid=~gone), responses, step, **options), responses, why)

