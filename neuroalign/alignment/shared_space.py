"""A space that the responses of subjects share, though no voxel of one corresponds to a voxel of another.

The maps into it are fitted on some runs and tested on others: fitted on the very time they are tested on, they make
subjects agree who have nothing in common. `neuroalign.alignment.shift_subjects` shows whether that happened.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from neuroalign.alignment.metrics import get_metric
from neuroalign.alignment.ridge import ALPHAS, ridge_cv
from neuroalign.alignment.scoring import ENCODING_METRICS, moments, score_moments
from neuroalign.alignment.subjects import runs_of, shift_subjects, split_subjects
from neuroalign.data.scores import make
from neuroalign.errors import check_option, collect_warnings, list_ids
from neuroalign.stats import fdr, make_folds, permutation_p

__all__ = ["METHODS", "SharedSpace", "encode_across_subjects", "fit_shared_space"]

METHODS = ("srm", "procrustes")
ITERATIONS = 100
TOLERANCE = 1e-8  # relative change of the squared error at which the fit has converged
ENOUGH = 12  # samples that a fit needs


@dataclass(frozen=True)
class SharedSpace:
    """Maps from the responses of each subject into one space.

    Attributes
    ----------
    method : {"srm", "procrustes"}
    means : list of array (n_neuroids,)
        Of the samples the maps were fitted on.
    bases : list of array (n_neuroids, n_components)
        Orthonormal columns (srm), or rows where the subject has fewer neuroids than there are components.
    shared : array of shape (n_samples, n_components)
        Mean over subjects of the mapped responses.
    errors : array of shape (n_iterations,)
        Squared distance of the subjects from what is shared, over the total: never rises.
    """

    method: str
    means: list[np.ndarray]
    bases: list[np.ndarray]
    shared: np.ndarray
    errors: np.ndarray

    def transform(self, arrays: Sequence) -> list[np.ndarray]:
        """Map responses of the same subjects, each (n_samples, n_neuroids), to (n_samples, n_components)."""
        if len(arrays) != len(self.bases):
            raise ValueError(f"transform: got {len(arrays)} subjects, the space was fitted on {len(self.bases)}.")
        return [(np.asarray(x, np.float64) - m) @ w for x, m, w in zip(arrays, self.means, self.bases)]


def fit_shared_space(arrays: Sequence, *, method: str = "srm", n_components: int | None = None,
                     n_iterations: int = ITERATIONS) -> SharedSpace:
    """Fit maps of several subjects into a shared space, on responses to the same stimuli.

    Parameters
    ----------
    arrays : sequence of array (n_samples, n_neuroids)
        One a subject, in the same order of time; the number of neuroids may differ.
    method : {"srm", "procrustes"}
        srm is the deterministic shared response model: of all orthonormal maps to `n_components` dimensions, those
        that leave the least squared error ``|X - S W'|^2``, found in turns. procrustes is hyperalignment: rotations
        of all of a subject's dimensions onto the mean of the others.
    n_components : int, optional
        For srm; at most the number of neuroids of any subject. Default: the smallest of 50, that number and half of
        the samples.
    n_iterations : int
        At most; the fit ends where it no longer changes.

    Returns
    -------
    SharedSpace

    Raises
    ------
    ValueError
        One subject, different numbers of samples, NaN, or more components than neuroids.

    Notes
    -----
    Chen et al. 2015, NeurIPS (srm); Haxby et al. 2011, Neuron 72:404 (procrustes). Responses are centred, not
    scaled: z-score neuroids of different units first.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.standard_normal((60, 3))
    >>> arrays = [shared @ np.linalg.qr(rng.standard_normal((8, 3)))[0].T for _ in range(4)]
    >>> bool(fit_shared_space(arrays, n_components=3).errors[-1] < 1e-12)
    True
    """
    check_option("method", method, METHODS)
    arrays = _check_arrays(arrays)
    k = _check_components(arrays, method, n_components)
    means = [x.mean(0) for x in arrays]
    arrays = [x - m for x, m in zip(arrays, means)]
    bases = _start(arrays, k) if method == "srm" else _chain(arrays)
    total = sum((x**2).sum() for x in arrays)
    errors = [np.inf]
    for _ in range(n_iterations):
        mapped = [x @ w for x, w in zip(arrays, bases)]
        shared = sum(mapped) / len(mapped)
        errors.append(_error(arrays, mapped, shared, method) / total)
        if errors[-2] - errors[-1] <= TOLERANCE * errors[-1]:
            break
        if method == "srm":
            bases = [_polar(x.T @ shared) for x in arrays]
            continue
        for j, x in enumerate(arrays):  # one after the other: each step brings a subject nearer to the others
            bases[j] = _polar(x.T @ (sum(mapped) - mapped[j]))
            mapped[j] = x @ bases[j]
    shared = sum(x @ w for x, w in zip(arrays, bases)) / len(arrays)
    return SharedSpace(method, means, bases, shared, np.array(errors[1:]))


def encode_across_subjects(responses: xr.DataArray, *, method: str = "srm", n_components: int | None = None,
                           cv="auto", n_splits: int = 5, gap: int = 10, alphas=ALPHAS, metric: str = "r.foldmean",
                           n_permutations: int = 0, keep=(), random_state: int = 0, device="auto") -> xr.Dataset:
    """Predict each subject from the space that the other subjects share.

    For every subject and fold, the shared space of the *other* subjects is fitted on the training runs, their mean
    in it predicts the left-out subject by ridge regression fitted on the training runs, and the prediction of the
    test run is scored. It says how much of a response is shared, without anatomical correspondence.

    Parameters
    ----------
    responses : DataArray (time, neuroid)
        Cleaned, of at least three subjects (coord ``subject`` on ``neuroid``) on one clock.
    method, n_components
        As for `fit_shared_space`.
    cv : "auto", str, int, Folds or table
        auto leaves out one run at a time (coord ``run``), or blocks where there is one run.
    n_splits : int
        Blocks, where there is one run.
    gap : int
        Samples left out of the training on both sides of a test block: as long as a response lasts.
    alphas : sequence of float
        Penalties; chosen by runs or blocks within the training samples.
    metric : {"r.foldmean", "r.pooled", "r2.foldmean", "r2.pooled"}
        The pooled ones are below 0 for unrelated subjects, where the runs differ in their means.
    n_permutations : int
        Null, and control: every subject's series shifted in a circle by its own amount, everything fitted again.
        Its mean is near 0 unless something was fitted on what it is tested on (0: none).
    keep : sequence of {"null"}
    random_state : int
    device : str

    Returns
    -------
    Dataset
        Scores of one metric, space ``other subjects, METHOD``, with the neuroids of all subjects.

    Examples
    --------
    >>> from neuroalign.data import make_responses
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.standard_normal((120, 2))
    >>> y = np.hstack([shared @ rng.standard_normal((2, 6)) + rng.standard_normal((120, 6)) for _ in "abc"])
    >>> r = make_responses(y, np.arange(120.0), [f"{s}{k}" for s in "abc" for k in range(6)], dim="time",
    ...                    neuroid_coords={"subject": [s for s in "abc" for _ in range(6)]})
    >>> bool(encode_across_subjects(r, n_components=2).score.mean() > 0.4)
    True
    """
    metric = get_metric(check_option("metric", metric, ENCODING_METRICS))
    keep = [check_option("keep", k, ("null",)) for k in ([keep] if isinstance(keep, str) else keep)]
    parts = split_subjects(responses)
    if len(parts) < 3:
        raise ValueError(f"encode_across_subjects: got {len(parts)} subjects, expected at least three: two share a "
                         "space, a third is predicted from it.")
    lost = responses["neuroid"].values[~np.isfinite(responses.transpose("time", "neuroid").values).all(0)]
    if len(lost):
        raise ValueError(f"encode_across_subjects: neuroids {list_ids(lost)} hold NaN. Leave them out.")
    runs = runs_of(responses)
    if isinstance(cv, str) and cv == "auto":
        cv = "leave-one-group-out" if runs.max() else "blocks"
    folds = make_folds(cv, len(runs), groups=runs if cv == "leave-one-group-out" else None, runs=runs,
                       n_splits=n_splits, gap=gap, random_state=random_state, time_series=True)
    options = {"method": method, "n_components": n_components, "alphas": alphas, "gap": gap, "runs": runs,
               "metric": metric.name, "device": device}
    with collect_warnings() as collected:
        series = responses.transpose("time", "neuroid")
        score = _predict(series.values, parts, folds, options)
        found, kept = {"score": score, "n": np.full(len(score), float(folds.test.sum()))}, {}
        if n_permutations:
            null = np.stack([_predict(shift_subjects(series, random_state=random_state + k).values, parts, folds,
                                      options) for k in range(n_permutations)])
            p = permutation_p(score, null)
            found |= {"null_mean": null.mean(0), "null_sd": null.std(0), "p": p, "q": fdr(p)}
            kept = {"null": (("permutation", "metric", "space", "neuroid"), null[:, None, None])} if keep else {}
    coords = {"metric": [metric.name], "space": [f"other subjects, {method}"]}
    coords |= {k: v for k, v in responses.coords.items() if v.dims == ("neuroid",)}
    attrs = {"kind": "encode", "analysis": "encode_across_subjects", "method": method, "n_components": n_components,
             "aggregation": {metric.name: metric.aggregation}, "n_subjects": len(parts), "folds": folds.describe(),
             "alphas": list(map(float, alphas)), "n_permutations": n_permutations, "random_state": random_state,
             "null": "every subject's series shifted in a circle within its runs, by an amount of its own, everything "
                     "fitted again", "fdr": "Benjamini-Hochberg over neuroids", "warnings": collected}
    variables = {k: (("metric", "space", "neuroid"), v[None, None]) for k, v in found.items()}
    return make(variables | kept, coords, attrs)


def _check_arrays(arrays) -> list[np.ndarray]:
    if isinstance(arrays, (xr.DataArray, np.ndarray)) and arrays.ndim == 2:
        raise ValueError("shared space: got one array, expected a list, one (n_samples, n_neuroids) a subject. "
                         "`encode_across_subjects` takes labelled responses of all subjects.")
    arrays = [np.asarray(x, np.float64) for x in arrays]
    if len(arrays) < 2:
        raise ValueError(f"shared space: got {len(arrays)} subjects, expected at least two.")
    shapes = [x.shape for x in arrays]
    if any(len(s) != 2 for s in shapes) or len({s[0] for s in shapes}) > 1:
        raise ValueError(f"shared space: got shapes {list_ids(shapes)}, expected (n_samples, n_neuroids) with the same "
                         "samples for all subjects.")
    if shapes[0][0] < ENOUGH:
        raise ValueError(f"shared space: got {shapes[0][0]} samples, expected at least {ENOUGH}.")
    lost = [k for k, x in enumerate(arrays) if not np.isfinite(x).all()]
    if lost:
        raise ValueError(f"shared space: subjects {list_ids(lost)} (by place) have neuroids with NaN. Drop those "
                         "neuroids.")
    return arrays


def _check_components(arrays, method, n_components) -> int:
    least = min(x.shape[1] for x in arrays)
    if method == "procrustes":
        if n_components is not None:
            raise ValueError("n_components: rotations keep all dimensions; give it for method='srm' alone.")
        return max(x.shape[1] for x in arrays)
    k = min(50, least, len(arrays[0]) // 2) if n_components is None else int(n_components)
    if not 1 <= k <= min(least, len(arrays[0]) - 1):
        raise ValueError(f"n_components: got {k}, expected 1 to {min(least, len(arrays[0]) - 1)} (the neuroids of the "
                         "smallest subject, and fewer than samples).")
    return k


def _start(arrays, k):
    """Maps onto the leading components of all subjects side by side, each scaled to the same size."""
    kernel = sum(x @ x.T / max((x**2).sum(), np.finfo(float).tiny) for x in arrays)
    shared = np.linalg.eigh(kernel)[1][:, ::-1][:, :k]
    return [_polar(x.T @ shared) for x in arrays]


def _chain(arrays):
    """Rotations of one subject after the other onto the mean of those before, the widest first."""
    order = np.argsort([-x.shape[1] for x in arrays], kind="stable")
    bases = [None] * len(arrays)
    bases[order[0]] = np.eye(arrays[order[0]].shape[1])
    total = arrays[order[0]].copy()
    for j in order[1:]:
        bases[j] = _polar(arrays[j].T @ total)
        total += arrays[j] @ bases[j]
    return bases


def _polar(cross) -> np.ndarray:
    """The matrix with orthonormal columns (or rows, where it is wide) nearest to one of inner products."""
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    return left @ right


def _error(arrays, mapped, shared, method) -> float:
    if method == "procrustes":
        return float(sum(((m - shared) ** 2).sum() for m in mapped))
    # |X - S W'|^2 with orthonormal W, without a matrix of the size of X
    return float(sum((x**2).sum() - 2 * (m * shared).sum() + (shared**2).sum() for x, m in zip(arrays, mapped)))


def _predict(values, parts, folds, options) -> np.ndarray:
    """Score of the out-of-fold predictions of all neuroids."""
    sums = np.full((len(folds), 6, values.shape[1]), np.nan)
    names, runs = list(parts), options["runs"]
    for f, (train, test) in enumerate(folds):
        several = len(set(runs[train])) > 1
        inner = make_folds("leave-one-group-out" if several else "blocks", len(train),
                           groups=runs[train] if several else None, runs=runs[train], positions=train, n_splits=3,
                           gap=options["gap"], time_series=True)
        for name in names:
            others = [values[:, parts[o]] for o in names if o != name]
            space = fit_shared_space([x[train] for x in others], method=options["method"],
                                     n_components=options["n_components"])
            fit = ridge_cv(space.shared, values[train][:, parts[name]], alphas=options["alphas"], inner_folds=inner,
                           device=options["device"])
            mapped = space.transform([x[test] for x in others])
            sums[f][:, parts[name]] = moments(values[test][:, parts[name]],
                                              fit.predict(sum(mapped) / len(mapped)))
    return score_moments(options["metric"], sums)
