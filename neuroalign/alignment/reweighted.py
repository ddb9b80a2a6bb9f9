"""Feature-reweighted RSA: how well the geometry fits once the model's dimensions may be weighted anew."""

import numpy as np
import xarray as xr

from neuroalign.alignment import rsa
from neuroalign.alignment.comparison import assemble, check_arguments, describe
from neuroalign.alignment.comparison_inputs import MIN_STIMULI, match
from neuroalign.alignment.metrics import resolve_metrics
from neuroalign.errors import collect_warnings
from neuroalign.linalg import resolve
from neuroalign.stats import make_folds, row_permutations
from neuroalign.stats.correlations import correlate_rows

__all__ = ["reweighted_distances", "reweighted_rsa"]

PENALTIES = (1e-4, 1e-2, 1.0)  # in units of the mean square of a column
INNER = 3


def reweighted_rsa(features, targets, *, metric: str = "rsa.spearman", n_components: int | None = 50,
                   penalties=PENALTIES, n_splits: int = 5, rdm: str = "correlation", n_permutations: int = 100,
                   on_missing: str = "error", random_state: int = 0, device="auto") -> xr.Dataset:
    """Compare geometries after weighting the components of the features, on stimuli that had no part in it.

    In each fold the squared differences along the leading principal components of the training stimuli (or along the
    features themselves), with weights of at least 0, are fitted to the target's dissimilarities among the training
    stimuli. What they predict among the held-out stimuli is correlated with the target there.

    Parameters
    ----------
    features : DataArray (stimulus, feature), mapping or list of them
    targets : RDMs (target, pair), Responses or features, as for `compare`
    metric : str
        A per-subject RSA metric that is not partial; each subject has weights of its own.
    n_components : int, optional
        Most components; None weights the features themselves (slow where these are many: some seconds a thousand
        features and fit).
    penalties : sequence of float
        Ridge penalties of the weights, in units of the mean square of a column, chosen by inner folds.
    n_splits : int
        Folds of the stimuli. Pairs of stimuli in different folds are not looked at.
    rdm : {"correlation", "cosine", "euclidean", "sqeuclidean"}
        Distance of responses, where targets are responses.
    n_permutations : int
        Permutations of the models' stimulus labels; everything is fitted again for each.
    on_missing, random_state, device
        As for `compare`.

    Returns
    -------
    Dataset
        Scores (metric, space, target[, time_bin]), as `compare` gives them, without ceiling and interval.

    Notes
    -----
    Non-negative weights keep it a distance. Kaniuth & Hebart 2022, NeuroImage 257:119294, weight features themselves;
    principal components keep the fit small, and blind to rotations of the features.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> rng = np.random.default_rng(0)
    >>> x, ids = rng.standard_normal((40, 4)), [f"s{k:02d}" for k in range(40)]
    >>> a, b = (make_features(v, ids, model=m) for m, v in (("a", x), ("b", x * [4, 2, 0.5, 0.1])))
    >>> found = reweighted_rsa(a, b, rdm="sqeuclidean", n_components=None, n_permutations=0)
    >>> found.score.item() > 0.95
    True
    """
    (chosen,) = resolve_metrics([metric], ("rdm",))
    if not chosen.per_subject or chosen.partial or chosen.method.endswith(".whitened"):
        raise ValueError(f"metric: got {metric!r}, expected a per-subject RSA metric, neither partial nor whitened.")
    check_arguments([chosen], rdm, None, n_permutations, 0, None, (), features, targets)
    if n_components is not None and (not isinstance(n_components, (int, np.integer)) or n_components < 1):
        raise ValueError(f"n_components: got {n_components!r}, expected None or an integer of at least 1.")
    penalties = tuple(float(v) for v in np.atleast_1d(penalties))
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"penalties: got {penalties}, expected numbers above 0.")
    device = resolve(device)
    with collect_warnings() as said:
        models, side = match(features, targets, on_missing)
        if models.arrays is None:
            raise ValueError("features: got RDMs, expected features, whose dimensions can be weighted.")
        problem = rsa.rdm_problem(chosen, models, side, rdm, None, device)
        folds = make_folds("kfold", len(side.ids), n_splits=n_splits, random_state=random_state)
        if folds.test.sum(1).min() < MIN_STIMULI:
            raise ValueError(f"n_splits: {n_splits} folds of {len(side.ids)} stimuli leave {folds.test.sum(1).min()} "
                             f"in one, expected at least {MIN_STIMULI}.")
        fit = {"n_components": n_components, "penalties": penalties, "method": chosen.method}
        arrays = [np.asarray(a, np.float64) for a in models.arrays]
        rows = _score(arrays, problem, folds, fit)
        part = {"score": rows @ problem.weights.T, "rows": rows}
        part["n"] = np.full(part["score"].shape, sum(t * (t - 1) // 2 for t in folds.test.sum(1)))
        permutations = None
        if n_permutations:
            permutations = row_permutations(len(side.ids), n_permutations, random_state=random_state)
            part["null"] = np.stack([_score([a[o] for a in arrays], problem, folds, fit) @ problem.weights.T
                                     for o in permutations])
    settings = {"permutations": permutations, "n_bootstraps": 0, "ceiling": None, "rdm": rdm,
                "random_state": random_state}
    attrs = describe([chosen], side, settings, None, [part], targets)
    attrs |= {"analysis": "reweighted_rsa", "folds": folds.describe(), "n_components": n_components,
              "aggregation": {chosen.name: f"mean over {len(folds)} folds of held-out stimuli; {chosen.aggregation}, "
                                           "components weighted by the training stimuli"},
              "null": "stimulus labels of the models permuted, weights fitted again", "warnings": said}
    return assemble([chosen], models, side, [part], (), attrs)


def reweighted_distances(values, target, first, second, train, test, *, n_components: int | None = 50,
                         penalty: float = 1e-2):
    """Predict dissimilarities among test stimuli from weighted components of the features.

    Parameters
    ----------
    values : array of shape (n_stimuli, n_features)
    target : array of shape (n_pairs,)
        NaN where not measured.
    first, second : int array of shape (n_pairs,)
        Stimuli of the pairs.
    train, test : int array
        Stimuli.
    n_components : int, optional
    penalty : float
        In units of the mean square of a column.

    Returns
    -------
    predicted : float64 array of shape (n_test_pairs,)
        Up to a constant.
    pairs : int array of shape (n_test_pairs,)
        Which pairs these are.
    """
    weights, axes, mean = _weights(values, target, first, second, train, n_components, [penalty])
    pairs = np.flatnonzero(np.isin(first, test) & np.isin(second, test) & ~np.isnan(target))
    components = (values - mean) @ axes
    return (components[first[pairs]] - components[second[pairs]]) ** 2 @ weights[0], pairs


def _score(arrays, problem, folds, fit):
    """Mean over folds of held-out correlations, (n_spaces, n_rows)."""
    out = np.full((len(arrays), len(problem.rows), len(folds)), np.nan)
    for s, values in enumerate(arrays):
        if not np.isfinite(values).all():
            continue
        for r, target in enumerate(problem.rows.astype(np.float64)):
            for k, (train, test) in enumerate(folds):
                penalty = _choose(values, target, problem, train, fit)
                out[s, r, k] = _held_out(values, target, problem, train, test, penalty, fit)
    return out.mean(2)


def _choose(values, target, problem, train, fit):
    if len(fit["penalties"]) == 1:
        return fit["penalties"][0]
    inner = make_folds("kfold", len(train), n_splits=INNER)
    scores = [[_held_out(values, target, problem, train[a], train[b], p, fit) for a, b in inner]
              for p in fit["penalties"]]
    return fit["penalties"][int(np.argmax(np.nan_to_num(np.mean(scores, 1), nan=-1.0)))]


def _held_out(values, target, problem, train, test, penalty, fit):
    predicted, pairs = reweighted_distances(values, target, problem.first, problem.second, train, test,
                                            n_components=fit["n_components"], penalty=penalty)
    if len(pairs) < 3 or not np.ptp(predicted):
        return 0.0 if len(pairs) >= 3 else np.nan  # no component has a weight: nothing is predicted
    return correlate_rows(predicted[None], target[pairs][None], fit["method"], device="cpu")[0, 0]


def _weights(values, target, first, second, train, n_components, penalties):
    """Non-negative ridge weights of the components of the training stimuli, one set a penalty."""
    from scipy.optimize import nnls

    mean = values[train].mean(0)
    if n_components is None:
        axes = np.eye(values.shape[1])[:, np.ptp(values[train], axis=0) > 0]
    else:
        _, singular, axes = np.linalg.svd(values[train] - mean, full_matrices=False)
        axes = axes[:n_components][singular[:n_components] > 1e-9 * singular[0]].T
    pairs = np.isin(first, train) & np.isin(second, train) & ~np.isnan(target)
    components = (values - mean) @ axes
    design = (components[first[pairs]] - components[second[pairs]]) ** 2
    unit = np.sqrt(np.square(design).mean(0)).clip(1e-300)
    design = design / unit - (design / unit).mean(0)
    wanted = target[pairs] - target[pairs].mean()
    gram, cross = design.T @ design, design.T @ wanted
    found = []
    for penalty in penalties:
        root = np.linalg.cholesky(gram + penalty * len(wanted) * np.eye(len(gram)))
        found.append(nnls(root.T, np.linalg.solve(root, cross))[0] / unit)
    return found, axes, mean
