"""Predict measured responses from feature spaces, and say how well, against which null and which ceiling."""

import hashlib
from collections.abc import Mapping

import numpy as np
import xarray as xr

from neuroalign.alignment.designs import EventTiming, make_designs, make_nuisance, match_rows
from neuroalign.alignment.metrics import resolve_metrics
from neuroalign.alignment.nulls import Fitter, Tally, null_by_features, null_by_responses
from neuroalign.alignment.reduction import parse_reduction
from neuroalign.alignment.reliability import find_reliability
from neuroalign.alignment.ridge import ALPHAS
from neuroalign.alignment.scoring import fold_scores, score_moments
from neuroalign.alignment.splits import make_layout, make_permutations, nested_folds
from neuroalign.data import sample_dim, scores, validate_responses
from neuroalign.errors import check_option, collect_warnings, list_ids, warn_user
from neuroalign.linalg import resolve
from neuroalign.stats import ceiling_of
from neuroalign.stats import fdr as adjust

__all__ = ["encode"]

KEEP = ("prediction", "null", "fold_score")
EDGE_SHARE = 0.05


def encode(features, responses: xr.DataArray, *, nuisance=None, cv="auto", inner_cv="auto", n_splits: int = 5,
           n_inner_splits: int = 5, groups=None, gap: float | None = None, alphas=None, reduce=None,
           hrf: str | None = None,
           at: str = "onset", high_pass="auto", metric=("r.pooled", "r2.pooled"), n_permutations: int = 0,
           null: str = "auto", min_shift: float = 0.1, block: float | None = None, fdr: str = "bh", ceiling=None,
           repeats: str = "average", on_missing: str = "error", keep=(), random_state: int = 0,
           device="auto") -> xr.Dataset:
    """Score how well feature spaces predict responses by cross-validated ridge regression.

    Every neuroid (and time bin) gets its own penalty by inner cross-validation. Features are standardised by the
    training rows of the fold at hand, the intercept is not penalised, and predictions are of held-out rows only.

    Parameters
    ----------
    features : DataArray (sample, feature), mapping or list of them
        What `extract` returns. Rows are matched with the responses by ``stimulus_id``, or stand on their clock.
    responses : DataArray (sample, neuroid[, time_bin])
    nuisance : str, DataArray, or list of them, optional
        Variables that stand beside every space in one joint ridge: names of coords on the samples,
        ``"word_rate"`` (an impulse for each timed event), or arrays. Their score alone, on the same folds, is
        ``baseline``.
    cv, inner_cv : str, int, splitter, or (cv only) Folds or table
        See `neuroalign.stats.make_folds`. ``"auto"``: contiguous blocks with a purge gap for a time series, groups
        where there are any (presentations of one stimulus are), else shuffled k-fold. ``inner_cv="loo"`` chooses
        penalties by the closed-form leave-one-out error.
    n_splits, n_inner_splits : int
    groups : str or sequence, optional
        Name of a coord of the responses, or a label for each sample: groups never straddle folds.
    gap : float, optional
        Seconds purged on both sides of a test block of a time series; by default 16 for fMRI or with `hrf`, else 1.
    alphas : sequence of float, optional
        Penalties; by default 15 from 0.1 to 1e6.
    reduce : int or str, optional
        Reduce the features, not the nuisance, within the training rows of each outer fold: ``"pca:50"`` components,
        ``"pca:0.9"`` as many as explain that share of the variance, a number or ``"random:300"`` a sparse random
        projection. Models of different width are compared at equal dimensions so.
    hrf : {"glover", "spm"}, optional
        Convolve features that are timed events (coord ``onset``) onto responses on ``time``.
    at : {"onset", "offset", "middle"}
        Where in an event its impulse stands.
    high_pass : "auto", float or None
        Filter (Hz) of the regressors made here from events and named coords: the one that the responses went
        through, ``responses.attrs["high_pass"]`` (`clean` writes it), by default. Time series given as features are
        taken as they are.
    metric : str or sequence of str
        Of ``r.pooled``, ``r.foldmean``, ``r2.pooled``, ``r2.foldmean``.
    n_permutations : int
        Permutations for p-values; each refits everything, the penalty included.
    null : {"auto", "shift", "block", "permute"}
        Circular shift (auto for a time series), order of blocks or groups, or order of rows (auto for independent
        stimuli). Without nuisance the responses are permuted, with nuisance the features (events before they are
        convolved), so that the nuisance keeps what it explains.
    min_shift : float
        Least circular shift, as a share of the series (of events, or of the run).
    block : float, optional
        Seconds of a block of ``null="block"``.
    fdr : {"bh", "by"}
        Adjustment over neuroids (and time bins), within each metric and space.
    ceiling : mapping, DataArray or array of shape (n_neuroids[, n_time_bins]), optional
        Reliability (not its root) of the very responses given, such as `stats.split_half_reliability`. By default
        it comes from the repeats of presentations, where there are any.
    repeats : {"average", "keep"}
        Average the presentations of a stimulus (after their reliability was taken), or keep them as rows.
    on_missing : {"error", "drop"}
        What to do with stimuli that only one side has.
    keep : sequence of {"prediction", "null", "fold_score"}
        Also return these.
    random_state : int
    device : str

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid[, time_bin]); see `neuroalign.data.scores`.

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> rng = np.random.default_rng(0)
    >>> x, noise = rng.standard_normal((60, 4)), rng.standard_normal((60, 2))
    >>> ids = [f"s{i}" for i in range(60)]
    >>> y = make_responses(x @ rng.standard_normal((4, 2)) + noise, ids, ["v1", "v2"])
    >>> found = encode(make_features(x, ids, model="toy"), y)
    >>> found.score.sel(metric="r.pooled").values.round(1).tolist()
    [[0.8, 0.9]]
    """
    metrics = [m.name for m in resolve_metrics(metric, ("encoding",))]
    for name in keep:
        check_option("keep", name, KEEP)
    alphas = np.asarray(ALPHAS if alphas is None else alphas, float)
    with collect_warnings() as said:
        validate_responses(responses)
        reliability = find_reliability(responses, ceiling, repeats, random_state)
        timing = EventTiming(hrf, at, _filter_of(responses, high_pass))
        spaces, responses = match_rows(features, responses, timing, repeats=repeats, on_missing=on_missing)
        layout = make_layout(responses, groups, gap, hrf)
        outer, inner = nested_folds(layout, cv, inner_cv, n_splits, n_inner_splits, random_state)
        columns, names = make_nuisance(nuisance, spaces, responses, timing)
        targets = _Targets(responses)
        reduction = parse_reduction(reduce)
        fitter = Fitter(outer, inner, alphas, resolve(device), columns.shape[1], reduction, random_state)
        options = {"null": null, "min_shift": min_shift, "block": block, "random_state": random_state}
        results = []
        for space, make in make_designs(spaces, responses, columns, timing).items():
            results.append(_encode_space(make(), space, targets, fitter, layout, metrics, keep, n_permutations,
                                         options))
        baseline = None
        if columns.shape[1]:
            sums = fitter.fit(columns, targets.values).sums
            baseline = np.stack([targets.spread(score_moments(m, sums)) for m in metrics])
        _warn_alphas(results, alphas)
    attrs = {"analysis": "encode", "folds": outer.describe(), "warnings": said, "random_state": random_state,
             "inner_folds": next(f if isinstance(f, str) else f.name for f in inner), "alphas": alphas.tolist(),
             "aggregation": {m: m.split(".")[1] for m in metrics}, "gap": layout.gap_seconds, "nuisance": names,
             "reduce": reduction.name if reduction else None,
             "hrf": hrf, "at": at if hrf else None, "high_pass": timing.high_pass, "repeats": repeats,
             "solver": {r["space"]: r["solver"] for r in results}, "fdr": fdr,
             "nulls": results[0]["null_name"] if n_permutations else None,
             "ceiling": reliability.source, "fingerprints": _fingerprints(spaces, responses)}
    return _assemble(results, spaces, responses, targets, metrics, outer, reliability, baseline, fdr, attrs)


def _encode_space(design, space, targets, fitter, layout, metrics, keep, n_permutations, options) -> dict:
    joint, Y = design.joint, targets.values
    _check_finite(joint, space, targets.ids)
    prediction = np.full(Y.shape, np.nan, np.float32) if "prediction" in keep else None
    with fitter.threads(joint, Y):
        fit = fitter.fit(joint, Y, prediction)
        observed = np.stack([score_moments(m, fit.sums) for m in metrics])
        result = {"space": space, "solver": fit.solver, "score": observed, "prediction": prediction,
                  "best_alpha": np.exp(np.log(fit.best_alpha).mean(0)), "at_edge": fit.at_edge.mean(1),
                  "n_features": np.shape(design.values)[1]}
        if "fold_score" in keep:
            result["fold_score"] = np.stack([fold_scores(m, fit.sums) for m in metrics], 1)
        if n_permutations:
            result |= _null(design, joint, Y, observed, fitter, layout, metrics, "null" in keep, n_permutations,
                            options)
    return result


def _null(design, joint, Y, observed, fitter, layout, metrics, keep, n_permutations, options) -> dict:
    by_features = design.nuisance.shape[1] > 0
    events = len(design.events) if by_features and design.events is not None else None
    name, orders = make_permutations(layout, n_permutations=n_permutations, events=events, **options)
    tally = Tally(observed, len(orders) if keep else 0)
    if by_features:
        null_by_features(fitter, design, Y, orders, metrics, tally)
    else:
        null_by_responses(fitter, joint, Y, orders, metrics, tally)
    told = {"name": name, "permuted": "events" if events else "features" if by_features else "responses",
            "n": tally.count, "smallest_p": 1 / (1 + tally.count),
            "min_shift": options["min_shift"] if name == "shift" else None}
    return {"null_name": told, "p": tally.p, "null_mean": tally.mean, "null_sd": tally.sd, "null": tally.kept}


class _Targets:
    """Responses as standardised columns; NaN and constant ones are set aside and come back as NaN."""

    def __init__(self, responses: xr.DataArray):
        dim = sample_dim(responses)
        self.dims = tuple(d for d in ("neuroid", "time_bin") if d in responses.dims)
        named = "stimulus_id" in responses.coords and responses["stimulus_id"].dims == (dim,)
        self.ids = responses["stimulus_id"].values if named else np.arange(responses.sizes[dim])
        ordered = responses.transpose(dim, *self.dims)
        self.shape = ordered.shape[1:]
        flat = np.asarray(ordered.values, dtype=np.float64).reshape(ordered.shape[0], -1)
        finite = np.isfinite(flat).all(0)
        known = np.where(finite, flat, 0.0)
        mean, sd = known.mean(0), known.std(0)
        constant = finite & ~(sd > 1e-7 * np.abs(mean))
        self.usable = finite & ~constant
        self._warn(responses, ~finite, "nan-target", "hold NaN or infinite values")
        self._warn(responses, constant, "constant-target", "are constant")
        if not self.usable.any():
            raise ValueError("responses: every neuroid is NaN or constant; there is nothing to predict.")
        self.mean, self.sd = mean[self.usable], sd[self.usable]
        self.values = ((flat[:, self.usable] - self.mean) / self.sd).astype(np.float32)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Put values of the usable columns (last axis) back in place, shape (..., neuroid[, time_bin])."""
        full = np.full((*values.shape[:-1], len(self.usable)), np.nan, values.dtype)
        full[..., self.usable] = values
        return full.reshape(*values.shape[:-1], *self.shape)

    def in_units(self, prediction: np.ndarray) -> np.ndarray:
        """Predictions in the units of the responses."""
        return self.spread((prediction * self.sd + self.mean).astype(np.float32))

    def _warn(self, responses, bad, code, what):
        per_neuroid = bad.reshape(self.shape[0], -1).any(1)
        if not per_neuroid.any():
            return
        name = "neuroid_id" if "neuroid_id" in responses.coords else "neuroid"
        ids = responses[name].values[per_neuroid]
        warn_user(f"{len(ids)} of {len(per_neuroid)} neuroids {what} and get NaN scores: {list_ids(ids)}.", code, ids)


def _assemble(results, spaces, responses, targets, metrics, outer, reliability, baseline, fdr, attrs):
    where = targets.dims

    def stack(key, axis=1):
        return np.stack([targets.spread(r[key]) for r in results], axis)

    dims = ("metric", "space", *where)
    variables = {"score": (dims, stack("score"))}
    rho = np.broadcast_to(reliability.values, targets.shape)
    bounds = np.stack([ceiling_of(m, rho, reliability.aggregation) for m in metrics])
    variables["ceiling"] = (dims, np.repeat(bounds[:, None], len(results), 1))
    variables["reliability"] = (where, np.array(rho))
    variables["best_alpha"] = (("space", *where), stack("best_alpha", 0))
    counts = np.where(targets.usable, outer.test.any(0).sum(), 0).reshape(targets.shape)
    variables["n"] = (where, counts)
    if baseline is not None:
        variables["baseline"] = (("metric", *where), baseline)
    if "p" in results[0]:
        p = stack("p")
        families = tuple(range(2, p.ndim))
        variables |= {"p": (dims, p), "q": (dims, adjust(p, method=fdr, axis=families)),
                      "null_mean": (dims, stack("null_mean")), "null_sd": (dims, stack("null_sd"))}
    if results[0].get("null") is not None:
        variables["null"] = (("permutation", *dims), stack("null", 2))
    if "fold_score" in results[0]:
        variables["fold_score"] = (("fold", *dims), stack("fold_score", 2))
    dim = sample_dim(responses)
    if results[0]["prediction"] is not None:
        predicted = np.stack([targets.in_units(r["prediction"]) for r in results], 1)
        variables["prediction"] = ((dim, "space", *where), predicted)
    kept_dims = {*where, *([dim] if "prediction" in variables else [])}
    coords = {k: v for k, v in responses.coords.items() if v.dims and set(v.dims) <= kept_dims}
    if "neuroid_id" in coords:
        coords["neuroid"] = ("neuroid", responses["neuroid_id"].values)
    coords |= {"metric": metrics, "space": [r["space"] for r in results],
               "n_features": ("space", [r["n_features"] for r in results])}
    for name in ("model", "layer", "stream", "depth"):
        if all(name in s.coords and s[name].ndim == 0 for s in spaces.values()):
            coords[name] = ("space", [spaces[r["space"]][name].item() for r in results])
    return scores.make(variables, coords, attrs)


def _filter_of(responses, high_pass):
    if isinstance(high_pass, str):
        check_option("high_pass", high_pass, ("auto",))
        high_pass = responses.attrs.get("high_pass")
    if high_pass is not None and not float(high_pass) > 0:
        raise ValueError(f"high_pass: got {high_pass!r}, expected a frequency in Hz above 0, or None.")
    return None if high_pass is None else float(high_pass)


def _check_finite(table, space, ids):
    step, bad = max(1, 2**24 // max(1, len(table))), np.zeros(len(table), bool)
    for start in range(0, table.shape[1], step):
        bad |= ~np.isfinite(table[:, start:start + step]).all(1)
    if bad.any():
        raise ValueError(f"features {space!r}: NaN or infinite values in the rows of {list_ids(ids[bad])}. Leave them "
                         "out of features and responses, or fill the values.")


def _warn_alphas(results, alphas):
    if len(alphas) < 2:
        return
    edges = (("smallest", alphas.min(), "smaller ones"), ("largest", alphas.max(), "larger ones"))
    for k, (word, edge, further) in enumerate(edges):
        hit = {r["space"]: r["at_edge"][k] for r in results if r["at_edge"][k] > EDGE_SHARE}
        if hit:
            worst = max(hit, key=hit.get)
            warn_user(f"the {word} penalty of the grid ({edge:g}) was chosen for more than {EDGE_SHARE:.0%} of the "
                      f"targets in {len(hit)} of {len(results)} spaces (at most {hit[worst]:.0%}, in {worst!r}); "
                      f"{further} may do better. Widen alphas.", "alpha-edge", hit)


def _fingerprints(spaces: Mapping, responses) -> dict:
    def digest(array):
        stored = array.attrs.get("fingerprint")
        return stored or hashlib.sha256(np.ascontiguousarray(array.data)).hexdigest()

    return {"responses": digest(responses), **{name: digest(space) for name, space in spaces.items()}}
