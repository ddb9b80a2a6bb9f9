"""Noise ceiling of RSA: how well the subjects' own mean RDM predicts each subject."""

import warnings

import numpy as np

from neuroalign.errors import check_option
from neuroalign.stats.correlations import correlate_rows, rank_rows

__all__ = ["AVERAGING", "rdm_ceiling"]

AVERAGING = ("rank", "raw")


def rdm_ceiling(rdms, *, averaging: str = "rank", method: str = "spearman") -> tuple[float, float]:
    """Return the lower and the upper bound of the mean over subjects of a correlation with their RDMs.

    The upper bound is the mean correlation of each subject's RDM with the mean of all (which it helped to
    make); the lower bound leaves the subject out of that mean (Nili et al. 2014, PLoS Comput Biol 10:e1003553).
    Both hold for per-subject scores alone, never for a correlation with the mean RDM.

    Parameters
    ----------
    rdms : array of shape (n_subjects, n_pairs)
        NaN where a pair was not measured.
    averaging : {"rank", "raw"}
        Average the ranks of each subject's dissimilarities (stretched to all pairs where some are missing), or
        the dissimilarities. Only for ranks is the upper bound the best that any RDM can do, up to ties.
    method : {"spearman", "pearson", "cosine"}

    Returns
    -------
    lower, upper : float
        NaN with fewer than two subjects (unavailable). Not clipped.

    Examples
    --------
    >>> low, high = rdm_ceiling([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    >>> round(low, 6), round(high, 6)
    (1.0, 1.0)
    """
    check_option("ceiling", averaging, AVERAGING)
    rdms = np.atleast_2d(np.asarray(rdms, np.float64))
    if len(rdms) < 2:
        return float("nan"), float("nan")
    present = ~np.isnan(rdms)
    # Ranks of a subject with fewer pairs end sooner, and are stretched to all pairs.
    stretch = (1 + rdms.shape[1]) / (1 + present.sum(1, keepdims=True))
    averaged = rank_rows(rdms) * stretch if averaging == "rank" else rdms
    total, count = np.where(present, averaged, 0).sum(0), present.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        everyone = (total / count)[None]
        upper = [correlate_rows(rdm, everyone, method, device="cpu") for rdm in rdms]
        lower = [
            correlate_rows(rdm, ((total - np.where(here, mean, 0)) / (count - here))[None], method, device="cpu")
            for rdm, mean, here in zip(rdms, averaged, present)
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN: the answer is NaN
        return float(np.nanmean(lower)), float(np.nanmean(upper))
