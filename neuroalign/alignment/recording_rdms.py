"""RDMs of noisy recordings: cross-validated over runs, and whitened by the covariance of the noise.

Crossnobis is the mean, over pairs of different runs, of the product of the pattern difference in the one with that
in the other: noise that is independent between runs adds nothing, so that equal patterns have a distance of 0 on
average, negative values included (Walther et al. 2016, NeuroImage 137:188).
"""

import numpy as np
import xarray as xr

from neuroalign.alignment.rdm import condensed_distances, positions
from neuroalign.data import make_rdms
from neuroalign.errors import NotAligned, check_option, list_ids, warn_user

__all__ = ["crossnobis", "mahalanobis", "noise_covariance", "response_rdms"]

DISTANCES = ("crossnobis", "mahalanobis")
NOISES = ("shrinkage", "diagonal", None)


def response_rdms(responses, distance: str = "crossnobis", *, noise="shrinkage") -> xr.DataArray:
    """RDMs of every region and subject, from single presentations.

    Parameters
    ----------
    responses : Responses (presentation, neuroid[, time_bin])
        With coords ``stimulus_id`` and, on presentations, ``run``; ``region`` and ``subject`` on neuroids split them.
        Stimuli may be absent from runs and be repeated unequally. A presentation with NaN is left out of that
        region.
    distance : {"crossnobis", "mahalanobis"}
        Both squared and divided by the number of neuroids.
    noise : {"shrinkage", "diagonal", None} or array (neuroid, neuroid)
        Covariance of the noise (see `noise_covariance`); None does not whiten.

    Returns
    -------
    DataArray (target, pair)
        Ready for `compare`. Time bins are targets of their own, with coord ``time_bin``. NaN for pairs that do not
        stand together in two runs.

    Examples
    --------
    >>> from neuroalign.data import make_responses
    >>> rng = np.random.default_rng(0)
    >>> patterns, ids = 3 * rng.standard_normal((5, 8)), [f"s{k}" for k in range(5)]
    >>> values = np.tile(patterns, (4, 1)) + rng.standard_normal((20, 8))
    >>> r = make_responses(values, ids * 4, [f"v{k}" for k in range(8)], dim="presentation",
    ...                    sample_coords={"run": np.repeat(range(4), 5)})
    >>> response_rdms(r, noise=None).sizes["pair"]
    10
    """
    check_option("distance", distance, DISTANCES)
    if "presentation" not in responses.dims:
        raise NotAligned(f"responses stand on {responses.dims[0]!r}; {distance} needs single presentations, with a "
                         "coord 'run' (neuroalign.data.make_responses(..., dim='presentation')).")
    if distance == "crossnobis" and "run" not in responses.coords:
        raise NotAligned("responses have no coord 'run', and crossnobis is cross-validated over runs.")
    stimuli = responses.stimulus_id.values
    runs = responses.run.values if "run" in responses.coords else None
    labels = [[str(v) for v in responses[c].values] if c in responses.coords else [""] * responses.sizes["neuroid"]
              for c in ("region", "subject")]
    owners = list(dict.fromkeys(zip(*labels)))
    if not isinstance(noise, (str, type(None))) and len(owners) > 1:
        raise ValueError(f"noise: one covariance was given for {len(owners)} targets. Select one region and subject, "
                         "or use 'shrinkage'.")
    parts = responses.transpose("presentation", "neuroid", ...)
    timed = "time_bin" in responses.dims
    parts = [parts.isel(time_bin=k) for k in range(parts.sizes["time_bin"])] if timed else [parts]
    ids, rows, coords = list(dict.fromkeys(stimuli)), [], {"region": [], "subject": [], "time_bin": []}
    for part in parts:
        for region, subject in owners:
            own = [k for k, owner in enumerate(zip(*labels)) if owner == (region, subject)]
            at = f" at {float(part.time_bin):g} s" if timed else ""
            name = f"{region or 'all'}{at}"
            rows.append(_distances(np.asarray(part.values[:, own], np.float64), stimuli, runs, ids, distance, noise,
                                   f"{name} of {subject}" if subject else name))
            coords["region"].append(name)
            coords["subject"].append(subject)
            coords["time_bin"].append(float(part.time_bin) if timed else np.nan)
    if not timed:
        del coords["time_bin"]
    names = [f"{r}:{s}" if s else r for r, s in zip(coords["region"], coords["subject"])]
    about = noise if isinstance(noise, (str, type(None))) else "given"
    return make_rdms(np.stack(rows), stimulus_ids=ids, targets=names, target_coords=coords,
                     attrs={"distance": distance, "noise": str(about)})


def crossnobis(values, stimuli, runs, *, noise="shrinkage", ids=None, name: str = "responses") -> np.ndarray:
    """Cross-validated squared Mahalanobis distances of all pairs of stimuli.

    Parameters
    ----------
    values : array of shape (n_presentations, n_neuroids)
    stimuli, runs : sequence of shape (n_presentations,)
        Presentations of a stimulus within a run are averaged. Every pair of runs that both have both stimuli counts
        the same, so that what is common to a run cancels also where stimuli are missing.
    noise : {"shrinkage", "diagonal", None} or array (n_neuroids, n_neuroids)
    ids : sequence, optional
        Order of the stimuli; by first appearance else.
    name : str
        For messages.

    Returns
    -------
    float64 array of shape (n_stimuli * (n_stimuli - 1) / 2,)
        Divided by the number of neuroids; NaN for pairs that fewer than two runs have.

    Examples
    --------
    >>> x = np.array([[0.0, 0], [2, 0], [1, 0], [3, 0]])
    >>> crossnobis(x, ["a", "b", "a", "b"], [1, 1, 2, 2], noise=None).tolist()
    [2.0]
    """
    values, stimuli, runs = _checked(values, stimuli, runs, name)
    ids = list(dict.fromkeys(stimuli.tolist())) if ids is None else list(ids)
    found = np.unique(runs)
    if len(found) < 2:
        raise ValueError(f"{name}: {len(found)} run, expected at least 2: crossnobis is cross-validated over runs.")
    white = values if noise is None else values @ _whitening(values, stimuli, runs, noise, name)
    means, there = _run_means(white, stimuli, runs, ids, found)
    out = np.full(len(ids) * (len(ids) - 1) // 2, np.nan)
    patterns, group = np.unique(there, axis=1, return_inverse=True)
    members = [np.flatnonzero(group.ravel() == g) for g in range(patterns.shape[1])]
    for g in range(len(members)):
        for h in range(g, len(members)):
            shared = np.flatnonzero(patterns[:, g] & patterns[:, h])
            if len(shared) > 1:
                _fill(out, means[shared], members[g], members[h], len(ids))
    lost = int(np.isnan(out).sum())
    if lost:
        warn_user(f"{name}: {lost} of {len(out)} pairs of stimuli do not stand together in two runs; they are NaN.",
                  "unpaired-stimuli", count=lost)
    return out / values.shape[1]


def mahalanobis(values, stimuli, runs=None, *, noise="shrinkage", ids=None, name: str = "responses") -> np.ndarray:
    """Squared Mahalanobis distances of the mean patterns of all pairs of stimuli; noise adds to every one of them.

    Parameters and result as for `crossnobis`; runs only serve the covariance of the noise.

    Examples
    --------
    >>> mahalanobis([[0.0, 0], [2, 0], [0, 0], [2, 0]], ["a", "b", "a", "b"], noise=None).tolist()
    [2.0]
    """
    values, stimuli, runs = _checked(values, stimuli, runs, name)
    ids = list(dict.fromkeys(stimuli.tolist())) if ids is None else list(ids)
    white = values @ _whitening(values, stimuli, runs, noise, name)
    means, there = _run_means(white, stimuli, np.zeros(len(white), int), ids, np.array([0]))
    means[0, ~there[0]] = np.nan
    return condensed_distances(means[0], "sqeuclidean", ids=ids, name=name, device="cpu",
                               dtype="float64") / values.shape[1]


def noise_covariance(values, stimuli, runs=None, *, method: str = "shrinkage") -> np.ndarray:
    """Covariance of single presentations about the mean of their stimulus.

    Parameters
    ----------
    values : array of shape (n_presentations, n_neuroids)
    stimuli, runs : sequence of shape (n_presentations,)
        What is common to a run is removed too.
    method : {"shrinkage", "diagonal"}
        Towards a multiple of the identity by the optimal amount (Ledoit & Wolf 2004, J Multivariate Anal 88:365,
        as in scikit-learn), or variances alone.

    Returns
    -------
    float64 array of shape (n_neuroids, n_neuroids)

    Raises
    ------
    ValueError
        If no stimulus is repeated, or a neuroid does not vary.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((40, 3))
    >>> noise_covariance(x, np.arange(40) % 10, method="diagonal").shape
    (3, 3)
    """
    from sklearn.covariance import ledoit_wolf

    check_option("method", method, NOISES[:2])
    values, stimuli, runs = _checked(values, stimuli, runs, "responses")
    rest, freedom = _residuals(values, stimuli, runs)
    if freedom < 1:
        raise ValueError("noise: no stimulus is repeated, so that the noise cannot be estimated. Pass noise=None, or a "
                         "covariance (for example of the residuals of the model that made the responses).")
    flat = rest.std(0) <= 1e-7 * np.abs(values).max(0)
    if flat.any():
        raise ValueError(f"noise: neuroids {list_ids(np.flatnonzero(flat))} do not vary between presentations of a "
                         "stimulus. Drop them.")
    if method == "diagonal":
        return np.diag(np.square(rest).sum(0) / freedom)
    return ledoit_wolf(rest, assume_centered=True)[0] * len(rest) / freedom


def _distances(values, stimuli, runs, ids, distance, noise, name):
    broken = ~np.isfinite(values).all(1)
    if broken.any():
        warn_user(f"{name}: {int(broken.sum())} presentations hold NaN and are left out: "
                  f"{list_ids(np.unique(stimuli[broken]))}.", "nan-presentations", count=int(broken.sum()))
        values, stimuli = values[~broken], stimuli[~broken]
        runs = None if runs is None else runs[~broken]
    if not len(values):
        return np.full(len(ids) * (len(ids) - 1) // 2, np.nan)
    return (crossnobis if distance == "crossnobis" else mahalanobis)(values, stimuli, runs, noise=noise, ids=ids,
                                                                     name=name)


def _checked(values, stimuli, runs, name):
    values, stimuli = np.asarray(values, np.float64), np.asarray(stimuli)
    runs = np.zeros(len(stimuli), int) if runs is None else np.asarray(runs)
    if values.ndim != 2 or not len(values) == len(stimuli) == len(runs):
        raise ValueError(f"{name}: got values of shape {values.shape}, {len(stimuli)} stimuli and {len(runs)} runs, "
                         "expected (n_presentations, n_neuroids) and a label a presentation.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {int((~np.isfinite(values)).any(1).sum())} presentations hold NaN. Leave them out, "
                         "or use response_rdms, which does.")
    if len(np.unique(stimuli)) < 2:
        raise ValueError(f"{name}: {len(np.unique(stimuli))} stimulus, expected at least 2.")
    return values, stimuli, runs


def _whitening(values, stimuli, runs, noise, name):
    """A matrix W with W W' the inverse of the covariance of the noise."""
    p = values.shape[1]
    if noise is None:
        return np.eye(p)
    if isinstance(noise, str):
        check_option("noise", noise, NOISES[:2])
        noise = noise_covariance(values, stimuli, runs, method=noise)
    noise = np.asarray(noise, np.float64)
    if noise.shape != (p, p) or not np.allclose(noise, noise.T):
        raise ValueError(f"noise: got a matrix of shape {noise.shape} for {name} of {p} neuroids, expected a symmetric "
                         f"covariance ({p}, {p}).")
    squared, vectors = np.linalg.eigh(noise)
    if squared[0] <= 1e-12 * squared[-1]:
        raise ValueError(f"noise: the covariance of {name} is singular. Use 'shrinkage'.")
    return vectors / np.sqrt(squared)


def _residuals(values, stimuli, runs):
    """What stimulus and run leave of each presentation, by least squares, and its degrees of freedom."""
    codes = [np.unique(v, return_inverse=True)[1].ravel() for v in (stimuli, runs)]
    design = np.concatenate([np.eye(c.max() + 1)[c] for c in codes], 1)
    basis, singular, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, singular > 1e-9 * singular[0]]
    return values - basis @ (basis.T @ values), len(values) - basis.shape[1]


def _run_means(values, stimuli, runs, ids, found):
    """Mean pattern of each stimulus in each run, (n_runs, n_stimuli, n_neuroids), and which there are."""
    place = {s: k for k, s in enumerate(ids)}
    column = np.array([place[s] for s in stimuli.tolist()])
    row = np.searchsorted(found, runs)
    cell = row * len(ids) + column
    counts = np.bincount(cell, minlength=len(found) * len(ids))
    there = counts.reshape(len(found), len(ids)) > 0
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    means = np.zeros((len(counts), values.shape[1]))
    if counts.max() == 1:
        means[cell] = values
    else:
        means[cell[order][starts]] = np.add.reduceat(values[order], starts, axis=0)
        means /= np.maximum(counts, 1)[:, None]
    means = means.reshape(*there.shape, -1)
    # A constant of a run cancels in every difference; taking the mean off keeps digits.
    means -= means.sum(1, keepdims=True) / np.maximum(there.sum(1), 1)[:, None, None]
    if not there.all():
        means[~there] = 0
    return means, there


def _fill(out, means, left, right, n):
    """Distances between two sets of stimuli that all stand in the given runs."""
    m = len(means)
    total = means.sum(0)
    own = np.einsum("ij,ij->i", total, total) - sum(np.einsum("ij,ij->i", run, run) for run in means)
    whole = left is right and len(left) == n
    cross = _inner(total, left, right, whole)
    for run in means:
        cross -= _inner(run, left, right, whole)
    found = (own[left][:, None] + own[right][None, :] - 2 * cross) / (m * (m - 1))
    if whole:
        out[:] = found[np.triu_indices(n, 1)]
        return
    a, b = np.repeat(left, len(right)), np.tile(right, len(left))
    different = a != b
    out[positions(a[different], b[different], n)] = found.ravel()[different]


def _inner(rows, left, right, whole):
    """Inner products of two sets of rows; of all rows with all, which BLAS makes by one half."""
    return rows @ rows.T if whole else rows[left] @ rows[right].T
