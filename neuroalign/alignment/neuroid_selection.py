"""Neuroids kept by the reliability of their repeats, in the training rows of each fold alone."""

import numpy as np
import xarray as xr

from neuroalign.data import sample_dim
from neuroalign.errors import list_ids, warn_user
from neuroalign.stats import Folds, repeat_reliability

__all__ = ["select_neuroids"]


def select_neuroids(threshold: float | None, presented: xr.DataArray, responses: xr.DataArray, outer: Folds,
                    usable: np.ndarray) -> np.ndarray | None:
    """Resolve the argument `select_neuroids` of `neuroalign.encode`.

    Parameters
    ----------
    threshold : float or None
        Least reliability of the mean over the repeats of a stimulus (`neuroalign.stats.repeat_reliability`, by the
        noise-ceiling signal-to-noise ratio).
    presented : DataArray (sample, neuroid[, time_bin])
        The responses before repeats were averaged.
    responses : DataArray (sample, neuroid[, time_bin])
        The rows that the folds were made for.
    outer : Folds
    usable : array of bool, shape (n_neuroids * n_time_bins,)
        Columns that are neither NaN nor constant.

    Returns
    -------
    array of bool, shape (n_folds, n_usable), or None
        Whether a neuroid (and time bin) is as reliable in the training rows of the fold.

    Raises
    ------
    ValueError
        No repeats, repeats of one stimulus on both sides of a fold, or no neuroid that is reliable enough.
    """
    if threshold is None:
        return None
    if isinstance(threshold, bool) or not np.isscalar(threshold) or not 0 < float(threshold) < 1:
        raise ValueError(f"select_neuroids: got {threshold!r}, expected a reliability between 0 and 1, such as 0.2.")
    ids = _ids_of(presented)
    order = [d for d in ("neuroid", "time_bin") if d in presented.dims]
    values = presented.transpose(sample_dim(presented), *order).values.reshape(len(ids), -1)[:, usable]
    reliability = np.stack([_in_training(values, ids, rows, fold) for fold, rows in
                            enumerate(_training_rows(ids, presented, responses, outer))])
    selected = np.nan_to_num(reliability) >= threshold
    _tell(selected, reliability, threshold, responses, usable)
    return selected


def _ids_of(presented) -> np.ndarray:
    dim = sample_dim(presented)
    named = "stimulus_id" in presented.coords and presented["stimulus_id"].dims == (dim,)
    ids = presented["stimulus_id"].values if named else np.arange(presented.sizes[dim])
    if len(np.unique(ids)) == len(ids):
        raise ValueError(f"select_neuroids: the responses on {dim!r} have no repeats to tell reliability by. Give "
                         "presentations (dim 'presentation', a stimulus_id more than once), or for runs on 'time' a "
                         "coord stimulus_id that says what each sample repeats.")
    return ids


def _training_rows(ids, presented, responses, outer):
    """Yield the presentations of each training set."""
    averaged = sample_dim(presented) != sample_dim(responses)
    kept = _kept_rows(ids, presented, responses)
    for fold, (train, test) in enumerate(outer):
        if averaged:
            yield np.flatnonzero(np.isin(ids, responses["stimulus_id"].values[train]))
            continue
        both = np.intersect1d(ids[kept[train]], ids[kept[test]])
        if len(both):
            raise ValueError(f"select_neuroids: in fold {fold} repeats of {list_ids(both)} stand in both training and "
                             "test set. Keep all repeats of a stimulus in one fold: groups=.")
        yield kept[train]


def _kept_rows(ids, presented, responses) -> np.ndarray:
    """Return the rows of `presented` that the rows of `responses` are; alignment drops some, and moves none."""
    if len(ids) == responses.sizes[sample_dim(responses)]:
        return np.arange(len(ids))
    return np.flatnonzero(np.isin(ids, responses["stimulus_id"].values))


def _in_training(values, ids, rows, fold) -> np.ndarray:
    repeats = np.unique(ids[rows], return_counts=True)[1]
    if (repeats > 1).sum() < 3:
        raise ValueError(f"select_neuroids: in the training rows of fold {fold} {int((repeats > 1).sum())} stimuli "
                         "were repeated, expected at least 3. Use more folds, or more repeats.")
    return repeat_reliability(values[rows], ids[rows], method="ncsnr")


def _tell(selected, reliability, threshold, responses, usable) -> None:
    if not selected.any():
        raise ValueError(f"select_neuroids: no neuroid has a reliability of {threshold:g} in the training rows of any "
                         f"fold; the highest is {np.nanmax(reliability):.2g}.")
    shape = [responses.sizes[d] for d in ("neuroid", "time_bin") if d in responses.dims]
    folds = np.zeros(len(usable), int)
    folds[usable] = selected.sum(0)
    known = usable.reshape(shape[0], -1).any(1)
    least, most = (pick.reshape(shape[0], -1) for pick in (np.where(usable, folds, len(selected)), folds))
    never, sometimes = known & (most.max(1) == 0), known & (most.max(1) > 0) & (least.min(1) < len(selected))
    ids = responses["neuroid_id" if "neuroid_id" in responses.coords else "neuroid"].values
    what = f"have a reliability below {threshold:g} in the training rows of"
    if never.any():
        warn_user(f"{never.sum()} of {len(ids)} neuroids {what} every fold and get NaN scores: "
                  f"{list_ids(ids[never])}.", "unselected-neuroid", ids[never])
    if sometimes.any():
        part = " (in some of their time bins)" if len(shape) > 1 else ""
        warn_user(f"{sometimes.sum()} of {len(ids)} neuroids {what} some folds{part}, and are scored on the others "
                  f"alone: {list_ids(ids[sometimes])}.", "partly-selected-neuroid", ids[sometimes])
