"""`compare`: the geometry of feature spaces against that of recordings, judgements or other spaces."""

import hashlib

import numpy as np
import xarray as xr

from neuroalign.alignment import rsa
from neuroalign.alignment.comparison_inputs import Models, Targets, match, select_controls, target_kind
from neuroalign.alignment.metrics import Metric, resolve_metrics
from neuroalign.alignment.progress import progress_bar
from neuroalign.alignment.rdm import DISTANCES
from neuroalign.alignment.similarity import draw_null, measure_grid, measure_null, measure_subsamples
from neuroalign.data.scores import make
from neuroalign.errors import check_counts, check_option, collect_warnings, list_ids, warn_user
from neuroalign.linalg import resolve
from neuroalign.stats import (
    LEVEL,
    fdr,
    half_sample_deviations,
    make_resamples,
    max_permutation_p,
    percentile_interval,
    permutation_p,
    row_permutations,
)
from neuroalign.stats.rdm_ceilings import AVERAGING

__all__ = ["compare"]

KEEP = ("null", "bootstrap", "subject_score")
NULLS = {"sides": "sides of single stimuli swapped (p: that the two sides differ)",
         "clouds": "the model replaced by Gaussian clouds of its covariance"}
_VARIABLES = ("score", "ceiling", "ceiling_lower", "null_mean", "null_sd", "p", "q", "p_max", "ci_low", "ci_high",
              "n")


def compare(features, targets, *, metric=("rsa.spearman",), rdm: str = "correlation", control=None,
            n_permutations: int = 1000, n_bootstraps: int = 0, ceiling: str | None = "rank",
            on_missing: str = "error", keep=(), random_state: int = 0, device="auto",
            progress: bool = True) -> xr.Dataset:
    """Compare the geometry of feature spaces with that of targets.

    Parameters
    ----------
    features : DataArray (stimulus, feature), mapping or list of them, or RDMs (target, pair)
        The models; given as RDMs, each is a space.
    targets : RDMs (target, pair), Responses (stimulus or presentation, neuroid[, time_bin]), or features
        RDMs of the subjects of one ``region`` make one target. Responses are taken region by region (and
        subject by subject, bin by bin). Against features, the result has the dim ``space_b``.
    metric : str or sequence of str
        Names of `neuroalign.alignment.METRICS`: ``rsa.spearman`` (mean over subjects), ``rsa.spearman.group``
        (mean RDM), ``rsa.spearman.partial`` (needs `control`), ``cka.debiased``, ...
    rdm : {"correlation", "cosine", "euclidean", "sqeuclidean"}
        Distance of features and of response patterns; RDMs that are given are taken as they are.
    control : str, list of str, features or RDMs, optional
        What the partial metrics regress out of both sides: spaces of `features` by name, or others.
    n_permutations : int
        Permutations of the models' stimulus labels (0: no p); the same for all spaces and targets.
    n_bootstraps : int
        Resamples for the interval (0: none). RSA: stimuli, and subjects where a target has several, with
        replacement; pairs of a stimulus with itself are left out. Metrics of two arrays (CKA, CCA, ...), tau-a and
        whitened RSA: half of the stimuli, without replacement, since duplicated stimuli distort them.
    ceiling : {"rank", "raw", None}
        How the subjects' RDMs are averaged for the noise ceiling, which stands beside ``rsa.spearman`` alone.
    on_missing : {"error", "drop"}
        What to do with stimuli that one side lacks.
    keep : sequence of {"null", "bootstrap", "subject_score"}
        Arrays to keep; ``"bootstrap"`` lets `neuroalign.data.scores.diff` give a paired interval.
    random_state : int
    device : str
    progress : bool
        Show a progress bar for each null, and for half samples of two arrays, that take longer than two seconds.

    Returns
    -------
    Dataset
        Scores (metric, space, target[, time_bin]) or (metric, space, space_b). p is one-sided (better than the
        null: greater, or less for a metric where lower is better), q is adjusted over the targets of each metric
        and space. p_max is taken against the best of all spaces and targets under each permutation: that of the best
        cell is the p of a maximum, also over layer pairs (`max_over_layers` gives it for each pair of models).

    Raises
    ------
    NotAligned
        If the stimuli differ and `on_missing` is ``"error"``.

    Notes
    -----
    Per-subject scores and ceilings: Nili et al. 2014, PLoS Comput Biol 10:e1003553. The bootstrap over stimuli
    and subjects is conservative (Schütt et al. 2023, eLife 12:e82566). The interval of CKA and its like is a
    delete-half jackknife: deviations of half samples from their mean, scaled by sqrt(m / (n - m)), about the full
    estimate.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> rng = np.random.default_rng(0)
    >>> f = make_features(rng.standard_normal((12, 5)), [f"s{i}" for i in range(12)], model="toy")
    >>> compare(f, f, metric="cka.debiased", n_permutations=99).score.round(3).values.ravel().tolist()
    [1.0]
    """
    metrics = resolve_metrics(metric, ("rdm", "features"))
    keep = check_arguments(metrics, rdm, control, n_permutations, n_bootstraps, ceiling, keep, features, targets)
    device = resolve(device)
    with collect_warnings() as collected:
        models, side = match(features, targets, on_missing)
        permutations = None
        if n_permutations:
            permutations = row_permutations(len(side.ids), n_permutations, random_state=random_state)
        controls = None if control is None else select_controls(control, features, models, side, rdm, device)
        settings = {"permutations": permutations, "n_bootstraps": n_bootstraps, "ceiling": ceiling, "rdm": rdm,
                    "controls": controls, "random_state": random_state, "device": device, "progress": progress}
        parts = [(_rdm_part if m.kind == "rdm" else _feature_part)(m, models, side, settings) for m in metrics]
    attrs = describe(metrics, side, settings, control, parts, targets) | {"warnings": collected}
    return assemble(metrics, models, side, parts, keep, attrs)


def check_arguments(metrics, rdm, control, n_permutations, n_bootstraps, ceiling, keep, features, targets) -> list:
    """Check the arguments that `compare` and `compare_selected` share; return what to keep as a list."""
    check_option("rdm", rdm, DISTANCES)
    check_option("ceiling", ceiling, (*AVERAGING, None))
    check_counts(n_permutations=n_permutations, n_bootstraps=n_bootstraps)
    partial_metrics = [m.name for m in metrics if m.partial]
    if bool(partial_metrics) != (control is not None):
        what = f"metric {partial_metrics[0]!r} needs it" if partial_metrics else "no partial metric was asked for"
        raise ValueError(f"control: got {'none' if control is None else 'one'}, but {what}. Give both or neither.")
    arrays = [m.name for m in metrics if m.kind == "features"]
    rdms_given = [side for side, value in (("features", features), ("targets", targets))
                  if isinstance(value, xr.DataArray) and "pair" in value.dims]
    if arrays and rdms_given:
        raise ValueError(f"metric: {arrays[0]!r} needs features or responses, but the {rdms_given[0]} are RDMs. Use "
                         "an 'rsa' metric.")
    return [check_option("keep", k, KEEP) for k in ([keep] if isinstance(keep, str) else keep)]


def _rdm_part(metric: Metric, models: Models, side: Targets, settings) -> dict:
    device = settings["device"]
    problem = rsa.rdm_problem(metric, models, side, settings["rdm"], settings["controls"], device)
    rows = rsa.correlate_with_rows(problem)
    part = {"score": rows @ problem.weights.T, "n": _pair_counts(problem)}
    if metric.per_subject:
        part["rows"] = rows
    if metric.name == "rsa.spearman":
        part |= rsa.rdm_ceilings(side, settings["rdm"], settings["ceiling"], device)
    if settings["permutations"] is not None:
        with progress_bar(f"{metric.name}: null", settings["progress"]) as bar:
            part["null"] = rsa.rdm_null(problem, settings["permutations"], bar.update)
    if settings["n_bootstraps"] and metric.method in rsa.SUBSAMPLED:
        drawn = _half_samples(side, settings)
        part |= _jackknife(part["score"], rsa.subsample_scores(problem, drawn), side)
    elif settings["n_bootstraps"]:
        resamples = rsa.resample_cells(side, settings["n_bootstraps"], settings["random_state"])
        part["bootstrap"] = rsa.resample_rows(metric, problem, side, resamples)
        part["interval"] = rsa.interval_of(resamples)
    return part


def _feature_part(metric: Metric, models: Models, side: Targets, settings) -> dict:
    device, n = settings["device"], len(side.ids)
    rows, degenerate = measure_grid(metric.method, models.arrays, side.arrays, device=device)
    _warn_undefined(metric, rows, models, side)
    _warn_degenerate(metric, degenerate, models, side)
    weights = (side.cell[None, :] == np.arange(side.n_cells)[:, None]).astype(float)
    weights /= weights.sum(1, keepdims=True)
    part = {"score": rows @ weights.T, "n": np.full((len(rows), side.n_cells), n), "rows": rows}
    if settings["permutations"] is not None:
        drawn = draw_null(metric.null, settings["permutations"], settings["random_state"])
        part["null"] = measure_null(metric.method, models.arrays, side.arrays, drawn, weights=weights, device=device,
                                    progress=settings["progress"])
    if settings["n_bootstraps"]:
        drawn = _half_samples(side, settings)
        values = measure_subsamples(metric.method, models.arrays, side.arrays, drawn, device=device,
                                    progress=settings["progress"]) @ weights.T
        part |= _jackknife(part["score"], values, side)
    return part


def _half_samples(side: Targets, settings) -> np.ndarray:
    return make_resamples(side.ids, settings["n_bootstraps"], kind="subsample",
                          random_state=settings["random_state"]).indices


def _jackknife(score, values, side: Targets) -> dict:
    """Deviations of half samples about the full estimate, and what they are."""
    n = len(side.ids)
    about = {"method": f"delete-half jackknife ({n // 2} of {n} stimuli), {LEVEL:.0%}",
             "resampled": {side.cell_name(c): "stimuli" for c in range(side.n_cells)}}
    return {"bootstrap": score + half_sample_deviations(values, n), "interval": about}


def _warn_undefined(metric: Metric, rows, models: Models, side: Targets):
    lost = [name for name, row in zip(models.names, rows) if np.isnan(row).all()]
    if len(lost) < len(models.names):
        lost += [side.label(r) for r in range(len(side.cell)) if np.isnan(rows[:, r]).all()]
    if lost:
        family = "cka" if metric.name.startswith("cka.") else metric.name
        rows = " or rows of zeros" if "knn" in family or family == "cknna" else ""
        rows += ", or the two sides do not share their features" if metric.null == "sides" else ""
        warn_user(f"{'CKA' if family == 'cka' else family} of {list_ids(lost)} is NaN: the features are constant or "
                  f"hold NaN{rows}.", f"undefined-{family}", lost)


def _warn_degenerate(metric: Metric, degenerate, models: Models, side: Targets):
    lost = [name for name, row in zip(models.names, degenerate) if row.any()]
    if lost:
        warn_user(f"{metric.name} of {list_ids(lost)} says little: with {len(side.ids)} stimuli the components of the "
                  "two sides meet by counting alone, so some correlations are 1 for any data. Use 'cca.heldout', or "
                  "more stimuli.", "degenerate-cca", lost)


def _pair_counts(problem) -> np.ndarray:
    both = (~np.isnan(problem.models)).astype(np.float64) @ (~np.isnan(problem.rows)).astype(np.float64).T
    counts = both @ np.nan_to_num(problem.weights).T
    return np.where(np.isnan(problem.weights).any(1), 0, counts)


def _finish(metric: Metric, part: dict) -> dict:
    """Turn the null and the resamples of one metric into p, q and interval."""
    shape, null = part["score"].shape, part.get("null")
    done = {name: np.broadcast_to(part.get(name, np.nan), shape).astype(float) for name in _VARIABLES[:3] + ("n",)}
    empty = np.full(shape, np.nan)
    done |= dict.fromkeys(("null_mean", "null_sd", "p", "q", "p_max", "ci_low", "ci_high"), empty)
    if null is not None:
        p = permutation_p(part["score"], null, alternative=metric.tail)
        done |= {"null_mean": null.mean(0), "null_sd": null.std(0), "p": p, "q": fdr(p, axis=1),
                 "p_max": max_permutation_p(part["score"], null, alternative=metric.tail)}
    if "bootstrap" in part:
        done["ci_low"], done["ci_high"] = percentile_interval(part["bootstrap"], skip_nan=True)
    return done


def assemble(metrics, models: Models, side: Targets, parts, keep, attrs) -> xr.Dataset:
    """Make Scores of the parts, one a metric."""
    bins = () if side.time_bins is None else (len(side.time_bins),)
    cells = (side.dim,) if side.time_bins is None else (side.dim, "time_bin")
    dims = ("metric", "space", *cells)

    def shaped(values):
        return values.reshape(*values.shape[:-1], len(side.names), *bins)

    finished = [_finish(m, part) for m, part in zip(metrics, parts)]
    variables = {name: (dims, shaped(np.stack([f[name] for f in finished]))) for name in _VARIABLES}
    for name, dim in (("null", "permutation"), ("bootstrap", "resample")):
        if name in keep and any(name in part for part in parts):
            like = next(part[name] for part in parts if name in part)
            stacked = np.stack([part.get(name, np.full_like(like, np.nan)) for part in parts], axis=1)
            variables[name] = ((dim, *dims), shaped(stacked).astype(np.float32))
    coords = {"metric": [m.name for m in metrics], "space": models.names, side.dim: side.names}
    coords |= {k: ("space", v) for k, v in models.coords.items()}
    coords |= {k: (side.dim, v) for k, v in side.coords.items()}
    coords["n_subjects"] = (side.dim, _subject_counts(side))
    if bins:
        coords["time_bin"] = side.time_bins
    if "subject_score" in keep:
        subjects = sorted(set(side.subject) - {""})
        coords["subject"] = subjects
        values = np.stack([_by_subject(part, side, subjects) for part in parts], axis=1)
        variables["subject_score"] = (("subject", *dims), shaped(values))
    return make(variables, coords, attrs)


def _subject_counts(side: Targets) -> np.ndarray:
    name_of = side.cell if side.time_bins is None else side.cell // len(side.time_bins)
    return np.array([len(set(side.subject[name_of == k]) - {""}) for k in range(len(side.names))])


def _by_subject(part, side: Targets, subjects) -> np.ndarray:
    out = np.full((len(subjects), len(part["score"]), side.n_cells), np.nan)
    if "rows" in part:
        for r, (cell, subject) in enumerate(zip(side.cell, side.subject)):
            if subject:
                out[subjects.index(subject), :, cell] = part["rows"][:, r]
    return out


def describe(metrics, side: Targets, settings, control, parts, targets) -> dict:
    """Return the attrs of Scores: what was compared with what, and how."""
    drawn = settings["permutations"]
    attrs = {
        "kind": "compare", "targets": target_kind(targets), "aggregation": {m.name: m.aggregation for m in metrics},
        "rdm": settings["rdm"], "n_stimuli": len(side.ids), "n_pairs": len(side.first),
        "n_permutations": 0 if drawn is None else len(drawn), "n_bootstraps": settings["n_bootstraps"],
        "null": "stimulus labels of the models permuted, the same permutations for all spaces and targets",
        "p": "one-sided: the score is better than under permuted labels (greater, or less where lower is better); "
             "(1 + b) / (1 + B)",
        "fdr": "Benjamini-Hochberg over the targets of each metric and space",
        "p_max": "against the best of all spaces and targets of the metric under the same permutation",
        "random_state": settings["random_state"], "fingerprints": {"targets": _fingerprint(side)},
    }
    if any(m.name == "rsa.spearman" for m in metrics) and settings["ceiling"]:
        attrs["ceiling"] = (f"subjects' RDMs averaged by {settings['ceiling']}; beside rsa.spearman alone; NaN: "
                            "fewer than two subjects, or unreliable (lower bound at most 0)")
    others = {m.name: NULLS[m.null] for m in metrics if m.null in NULLS}
    if others:
        attrs["null"] += "; " + "; ".join(f"{name}: {what}" for name, what in others.items())
    if control is not None:
        attrs["control"] = control if isinstance(control, (str, list, tuple)) else "given RDMs or features"
    intervals = {m.name: part["interval"] for m, part in zip(metrics, parts) if "interval" in part}
    if intervals:
        attrs["interval"] = intervals
    return attrs


def _fingerprint(side: Targets) -> str:
    """Sha256 over the values of the targets and the ids of their stimuli."""
    digest = hashlib.sha256("\n".join(map(str, side.ids)).encode())
    for array in [side.rows] if side.arrays is None else side.arrays:
        digest.update(np.ascontiguousarray(array, np.float32))
    return digest.hexdigest()
