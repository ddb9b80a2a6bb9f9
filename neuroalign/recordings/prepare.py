"""From a data set's name to the array that an encoding model predicts, with the reliability of that very array."""

import numpy as np
import xarray as xr

from neuroalign.data.manifests import load_manifest
from neuroalign.recordings.clean import clean, group_mean
from neuroalign.recordings.load import load_confounds, load_responses
from neuroalign.recordings.tables import is_table
from neuroalign.stats.ceilings import split_half_reliability

__all__ = ["group_reliability", "prepare_responses"]


def prepare_responses(name, *, high_pass: float | None = None, average_subjects: bool = False,
                      random_state: int = 0, **options):
    """Load the responses of a data set, clean them, and average subjects if asked.

    Parameters
    ----------
    name : str or Path
        Name or manifest of a data set, or a file that `load_responses` reads.
    high_pass : float, optional
        Clean by run: the data set's confounds and a linear trend are regressed out, slower drifts filtered (Hz).
    average_subjects : bool
        Average each region over subjects.
    **options
        What the data set lets choose, see `load_responses`.

    Returns
    -------
    responses : DataArray (sample dim, neuroid)
    reliability : DataArray (neuroid,) or None
        Split-half reliability of the group mean (Spearman-Brown for the number averaged), for
        ``encode(ceiling=...)``; None without averaging.
    """
    responses = load_responses(name, **options)
    if high_pass is not None:
        confounds = None if is_table(name) or load_manifest(name).confounds is None else load_confounds(name)
        responses = clean(responses, confounds=confounds, high_pass=high_pass)
    if not average_subjects:
        return responses, None
    return group_mean(responses), group_reliability(responses, random_state=random_state)


def group_reliability(responses: xr.DataArray, *, n_splits: int = 200, random_state: int = 0) -> xr.DataArray:
    """Reliability of `group_mean`: halves of the subjects, stepped up to all of them by Spearman-Brown.

    Parameters
    ----------
    responses : DataArray (sample dim, neuroid)
        With coords ``subject`` and ``region``; every subject has every region.

    Returns
    -------
    DataArray (neuroid,)
        One value a region; ``attrs["n_averaged"]`` subjects.
    """
    regions = list(dict.fromkeys(responses["region"].values.tolist()))
    subjects = list(dict.fromkeys(responses["subject"].values.tolist()))
    stacked = np.full((len(subjects), responses.shape[0], len(regions)), np.nan)
    moved = responses.transpose(..., "neuroid")
    for column, (subject, region) in enumerate(zip(responses["subject"].values, responses["region"].values)):
        stacked[subjects.index(subject), :, regions.index(region)] = moved.values[:, column]
    values = split_half_reliability(stacked, n_splits=n_splits, random_state=random_state)
    return xr.DataArray(values, dims="neuroid", name="reliability",
                        coords={"neuroid": regions, "neuroid_id": ("neuroid", regions)},
                        attrs={"n_averaged": len(subjects), "method": f"split-half over subjects, {n_splits} splits"})
