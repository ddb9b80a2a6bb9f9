"""The one place where rows of features and responses are matched: by id, never by position."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import same_clock, sample_dim, validate_features, validate_rdms, validate_responses
from neuroalign.errors import NotAligned, check_option, list_ids, warn_user

__all__ = ["align", "align_pairs", "as_spaces", "average_repetitions"]


def as_spaces(features) -> dict[str, xr.DataArray]:
    """Return feature spaces as a plain dict ``space_id -> DataArray``.

    Accepts one labelled array, a mapping of them (what `extract` returns), or a list of either.
    """
    if isinstance(features, xr.DataArray):
        name = features.coords["space_id"].item() if "space_id" in features.coords else features.name
        return {str(name or "features"): validate_features(features)}
    if isinstance(features, Mapping):
        spaces = {str(k): v for k, v in features.items()}
        plain = [name for name, space in spaces.items() if not isinstance(space, xr.DataArray)]
        if plain:
            raise TypeError(f"features: {list_ids(plain)} got {type(spaces[plain[0]]).__name__}, expected a "
                            "DataArray (sample, feature). Label a plain array by neuroalign.data.make_features(values, "
                            "stimulus_ids, model='name').")
        return spaces
    if isinstance(features, (list, tuple)):
        merged: dict[str, xr.DataArray] = {}
        for part in features:
            for key, value in as_spaces(part).items():
                if key in merged:
                    raise ValueError(f"features: space {key!r} occurs twice. Rename one of them.")
                merged[key] = value
        return merged
    raise TypeError(
        f"features: got {type(features).__name__}, expected a DataArray (sample, feature) or a mapping of them. "
        "Label a plain array by neuroalign.data.make_features(values, stimulus_ids, model='name')."
    )


def align(features, responses: xr.DataArray, *, repeats: str = "average", on_missing: str = "error"):
    """Match the rows of feature spaces and responses.

    Parameters
    ----------
    features : DataArray (sample, feature), or mapping of them
    responses : DataArray (sample, neuroid[, time_bin])
        With sample dim ``stimulus`` or ``presentation`` rows are matched by ``stimulus_id``; with ``time``
        both must stand on the same clock (equal ``time``, and ``run`` where both have it).
    repeats : {"average", "keep"}
        Average the presentations of a stimulus, or keep them (feature rows are then repeated).
    on_missing : {"error", "drop"}
        What to do with stimuli that only one side has; ``"drop"`` warns of them.

    Returns
    -------
    features : dict of DataArray (sample, feature)
    responses : DataArray
        With equal rows, in the order of the responses.

    Raises
    ------
    NotAligned
        If ids are missing on one side and `on_missing` is ``"error"``, or nothing is shared.

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> f = make_features([[1.0], [2.0]], ["a", "b"], model="toy")
    >>> r = make_responses([[20.0], [10.0]], ["b", "a"], ["v1"])
    >>> spaces, r = align(f, r)
    >>> spaces["toy::all"].values.ravel().tolist(), r.stimulus_id.values.tolist()
    ([2.0, 1.0], ['b', 'a'])
    """
    check_option("repeats", repeats, ("average", "keep"))
    check_option("on_missing", on_missing, ("error", "drop"))
    spaces = as_spaces(features)
    if not spaces:
        raise NotAligned("features: no space given.")
    validate_responses(responses)
    dim = sample_dim(responses)
    if dim == "time":
        for name, space in spaces.items():
            _check_same_clock(name, space, responses)
        return dict(spaces), responses
    if dim == "presentation" and repeats == "average":
        responses, dim = average_repetitions(responses), "stimulus"
    wanted = pd.Index(responses["stimulus_id"].values)
    if dim == "stimulus":
        _check_once("responses", wanted)
    if not len(wanted):
        raise NotAligned("responses: got no samples at all, expected at least one.")
    keep = np.ones(len(wanted), bool)
    rows, unused_ids = {}, []
    for name, space in spaces.items():
        if sample_dim(space) == "time":
            raise NotAligned(
                f"features {name!r} stand on 'time' but the responses on {dim!r}; rows cannot be matched by id."
            )
        have = pd.Index(space["stimulus_id"].values)
        _check_once(f"features {name!r}", have)
        rows[name] = have.get_indexer(wanted)
        lost = rows[name] < 0
        unused = ~have.isin(wanted)
        unused_ids += have[unused].tolist()
        if lost.all():
            raise NotAligned(
                f"features {name!r} and responses share no stimulus_id: features have {list_ids(have)}, "
                f"responses {list_ids(wanted.unique())}.{_say_types(features=have, responses=wanted)}"
            )
        if on_missing == "error" and (lost.any() or unused.any()):
            side = "features" if lost.any() else "responses"
            ids = wanted[lost].unique() if lost.any() else have[unused]
            raise NotAligned(
                f"features {name!r} and responses do not cover the same stimuli: {list_ids(ids)} missing in the "
                f"{side}. Pass on_missing='drop' to use what both have."
            )
        keep &= ~lost
    if not keep.any():
        raise NotAligned(f"features {list_ids(spaces)} and responses share no stimulus_id that all of them have.")
    if not keep.all():
        lost_ids = wanted[~keep].unique()
        warn_user(f"{len(lost_ids)} stimuli dropped, missing in the features: {list_ids(lost_ids)}.",
                  "dropped-stimuli", lost_ids)
    if unused_ids:
        unused_ids = list(dict.fromkeys(unused_ids))
        warn_user(f"{len(unused_ids)} stimuli dropped, missing in the responses: {list_ids(unused_ids)}.",
                  "dropped-stimuli", unused_ids)
    kept = responses.isel({dim: np.flatnonzero(keep)})
    return {n: _take_rows(spaces[n], rows[n][keep], dim) for n in spaces}, kept


def align_pairs(stimulus_ids, rdms: xr.DataArray, *, on_missing: str = "error"):
    """Match the pairs of RDMs with rows of features.

    Parameters
    ----------
    stimulus_ids : sequence of str
        Ids of the feature rows.
    rdms : DataArray (target, pair)
    on_missing : {"error", "drop"}

    Returns
    -------
    first, second : array of int, shape (n_pairs,)
        Feature rows of the two stimuli of every kept pair.
    rdms : DataArray (target, pair)
        The kept pairs.
    """
    check_option("on_missing", on_missing, ("error", "drop"))
    validate_rdms(rdms)
    have = pd.Index(np.asarray(stimulus_ids))
    if have.has_duplicates:
        raise NotAligned(f"features: stimulus_id more than once: {list_ids(have[have.duplicated()])}.")
    first, second = have.get_indexer(rdms.stimulus_a.values), have.get_indexer(rdms.stimulus_b.values)
    lost = (first < 0) | (second < 0)
    if lost.any():
        ids = pd.Index(np.concatenate([rdms.stimulus_a.values[first < 0], rdms.stimulus_b.values[second < 0]]))
        if on_missing == "error" or lost.all():
            raise NotAligned(
                f"RDMs and features do not cover the same stimuli: {list_ids(ids.unique())} missing in the features"
                f" ({list_ids(have)}). Pass on_missing='drop' to use the pairs both have."
                + (_say_types(features=have, RDMs=ids) if lost.all() else "")
            )
        warn_user(f"{int(lost.sum())} pairs dropped: {list_ids(ids.unique())} missing in the features.",
                  "dropped-pairs", ids.unique())
    kept = np.flatnonzero(~lost)
    return first[kept], second[kept], rdms.isel(pair=kept)


def average_repetitions(responses: xr.DataArray, min_reps: int = 1) -> xr.DataArray:
    """Average the presentations of each stimulus: ``(presentation, ...)`` to ``(stimulus, ...)``.

    Parameters
    ----------
    min_reps : int
        Drop stimuli shown fewer times than this.

    Returns
    -------
    DataArray (stimulus, ...)
        With the coord ``n_repetitions``, and the coords that all presentations of each stimulus share (its film, its
        category; onset and duration only where no stimulus was shown twice); stimuli in order of first appearance.
    """
    validate_responses(responses)
    if sample_dim(responses) != "presentation":
        return responses
    ids = responses["stimulus_id"].values
    codes, unique = pd.factorize(ids)
    counts = np.bincount(codes)
    kept = np.flatnonzero(counts >= min_reps)
    if not len(kept):
        raise ValueError(f"no stimulus was shown at least min_reps={min_reps} times (most: {counts.max()}).")
    moved = responses.transpose("presentation", ...)
    sums = np.zeros((len(unique), *moved.shape[1:]), np.float64)
    np.add.at(sums, codes, moved.values)
    means = (sums / counts.reshape(-1, *[1] * (sums.ndim - 1)))[kept].astype(np.float32)
    coords = {k: v for k, v in moved.coords.items() if "presentation" not in v.dims}
    out = xr.DataArray(means, dims=("stimulus", *moved.dims[1:]), coords=coords, attrs=responses.attrs,
                       name=responses.name)
    return out.assign_coords(stimulus=("stimulus", np.asarray(unique)[kept]),
                             stimulus_id=("stimulus", np.asarray(unique)[kept]),
                             n_repetitions=("stimulus", counts[kept]), **_shared_coords(moved, codes, kept))


def _shared_coords(responses, codes, kept) -> dict:
    """Return the coords that are the same for all presentations of each stimulus, one value a stimulus."""
    first = np.unique(codes, return_index=True)[1]
    found, once = {}, len(first) == len(codes)
    for name, coord in responses.coords.items():
        of_one = name in ("onset", "duration") and not once
        if coord.dims == ("presentation",) and name not in ("presentation", "stimulus_id") and not of_one:
            values = coord.values
            if (values == values[first][codes]).all():
                found[name] = ("stimulus", values[first][kept])
    return found


def _check_once(what: str, ids: pd.Index) -> None:
    if ids.has_duplicates:
        raise NotAligned(f"{what}: stimulus_id more than once: {list_ids(ids[ids.duplicated()].unique())}. "
                         "Repeats of a stimulus stand on the dim 'presentation' of the responses; features have one "
                         "row each.")


def _say_types(**ids: pd.Index) -> str:
    """Ids of two types are never equal, though messages spell them alike."""
    types = {side: " and ".join(sorted({type(i).__name__ for i in of.tolist()})) for side, of in ids.items()}
    if len(set(types.values())) == 1:
        return ""
    said = ", ".join(f"{kind} in the {side}" for side, kind in types.items())
    return f" The ids differ in type: {said}. Make both strings, for example by stimulus_id.astype(str)."


def _take_rows(space: xr.DataArray, rows: np.ndarray, dim: str) -> xr.DataArray:
    own = sample_dim(space)
    if own == dim and len(rows) == space.sizes[own] and np.array_equal(rows, np.arange(len(rows))):
        return space  # the same rows in the same order: no copy, a memory map stays one
    if dim == "presentation" and own == "stimulus":
        space = space.drop_vars("stimulus", errors="ignore").rename(stimulus="presentation")
        own = "presentation"
    return space.isel({own: rows})


def _check_same_clock(name: str, space: xr.DataArray, responses: xr.DataArray) -> None:
    if sample_dim(space) != "time":
        raise NotAligned(
            f"features {name!r} stand on {sample_dim(space)!r} but the responses on 'time'. Put the events in time: by "
            "encode(..., hrf='glover'), by downsample='lanczos' or 'mean' where the model has delays (delays=, trf=), "
            "or beforehand by neuroalign.features.events_to_samples."
        )
    for coord in ("time", "run"):
        if coord not in responses.coords or coord not in space.coords:
            continue
        a, b = space[coord].values, responses[coord].values
        same = len(a) == len(b) and (same_clock(a, b) if coord == "time" else (a == b).all())
        if not same:
            span = f"{a[0]} to {a[-1]} ({len(a)} samples) and {b[0]} to {b[-1]} ({len(b)} samples)"
            raise NotAligned(f"features {name!r} and responses differ in {coord!r}: {span}. Nothing is cut to fit.")
    if space.sizes["time"] != responses.sizes["time"]:
        raise NotAligned(f"features {name!r}: {space.sizes['time']} samples, the responses have "
                         f"{responses.sizes['time']}. Nothing is cut to fit.")
