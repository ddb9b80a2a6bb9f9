"""Encoding by several feature spaces at once, with a penalty for each: banded ridge on labelled arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import xarray as xr

from neuroalign.alignment.band_fit import band_moments, contributions
from neuroalign.alignment.banded import BandedPlan, plan_banded
from neuroalign.alignment.baselines import drift_scores, resolve_baselines
from neuroalign.alignment.designs import Design
from neuroalign.alignment.encoding_scores import (
    assemble,
    check_features,
    check_kept,
    check_tests,
    fit_design,
    leftover_of,
    warn_alphas,
    warn_constant,
    warn_folds,
    warn_narrow,
)
from neuroalign.alignment.metrics import resolve_metrics
from neuroalign.alignment.nulls import Fit, Fitter, fill_flat
from neuroalign.alignment.problem import Problem, check_settings, set_up
from neuroalign.alignment.reduction import reduce_features, standardise
from neuroalign.alignment.resampling import Resampling
from neuroalign.alignment.residuals import warn_leftover
from neuroalign.alignment.scoring import moments, score_moments
from neuroalign.alignment.splits import describe_blocks
from neuroalign.alignment.table import Table
from neuroalign.data import scores
from neuroalign.errors import collect_warnings, list_ids
from neuroalign.linalg import free_memory
from neuroalign.stats import LEVEL

__all__ = ["BandFit", "BandedFitter", "JointDesign", "check_bands", "encode_banded", "joint_designs"]

EVEN = 0.05  # share of a band that is not small


def encode_banded(features, responses: xr.DataArray, *, bands: Mapping[str, Sequence[str]] | None = None,
                  n_candidates=20, refine: int = 0, metric=("r.pooled", "r2.pooled"), n_permutations: int = 0,
                  n_bootstraps: int = 0, null: str = "auto", min_shift: float = 0.1, block: float | None = None,
                  baselines="auto", fdr: str = "bh", keep=(), random_state: int = 0, progress: bool = True,
                  **options) -> xr.Dataset:
    """Score how well several feature spaces together predict responses, by banded ridge.

    All spaces stand in one model. Each is a band with its own penalty, chosen for every neuroid (and time bin) by
    inner cross-validation; so a space of many features cannot drown a small one, and one that does not help is
    switched off.

    Parameters
    ----------
    features : mapping or list of DataArrays (sample, feature)
    responses : DataArray (sample, neuroid[, time_bin])
    bands : mapping of str to sequence of str, optional
        Name of each band and the ids of its spaces; by default every space is a band.
    n_candidates : int, or array of shape (n_candidates, n_bands)
        Shares of the bands that are tried, see `banded_ridge_cv`. Bands are in order of their names, behind the
        nuisance, which is a band where there is any.
    refine : int
        Most steps of descent from the best candidate.
    metric, n_permutations, n_bootstraps, null, min_shift, block, baselines, fdr, keep, random_state, progress
        As in `encode`. Every permutation searches the penalties again. Resamples depend on the samples alone: kept
        (``keep=["bootstrap"]``) and joined (`neuroalign.data.scores.concat`), models with and without a space are
        compared in pairs by `neuroalign.data.scores.diff`.
    **options
        nuisance, cv, inner_cv (not ``"loo"``), n_splits, n_inner_splits, groups, gap, alphas, reduce, hrf, at,
        downsample, delays, trf, high_pass, ceiling, repeats, on_missing, residualize, select_neuroids, device of
        `encode`. `reduce` reduces each band; the delays of a space are in one band; residualised nuisance is no band.

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid[, time_bin]) of one space, ``"a + b"``, with ``contribution (band, space,
        neuroid)``: the share of each band in ``r2.pooled`` by the product measure, with that of the nuisance and of
        the intercept it sums to it; and ``gamma (band, space, neuroid)``, the share of each band in the prior
        variance of the weights (mean over folds; the penalty of a band is ``best_alpha / gamma``).

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> rng = np.random.default_rng(0)
    >>> ids = [f"s{i}" for i in range(80)]
    >>> a, b = (make_features(rng.standard_normal((80, 5)), ids, model=m) for m in "ab")
    >>> y = make_responses(a.values @ rng.standard_normal((5, 1)), ids, ["v1"])
    >>> found = encode_banded([a, b], y)
    >>> found.space.item(), found.contribution.sel(band="a::all").round(1).item()
    ('a::all + b::all', 1.0)
    """
    metrics = [m.name for m in resolve_metrics(metric, ("encoding",))]
    keep = check_kept(keep, n_permutations=n_permutations, n_bootstraps=n_bootstraps)
    check_tests(null, fdr)
    check_settings(encode_banded, options)
    with collect_warnings() as said:
        problem = set_up(features, responses, random_state=random_state, **options)
        warn_folds(problem.fitter.outer, metrics)
        named = check_bands(bands, problem.spaces)
        label, design, widths = next(iter(joint_designs(problem, [list(named)], named)))
        fitter = BandedFitter.of(problem.fitter, widths, n_candidates, refine)
        permuting = {"null": null, "min_shift": min_shift, "block": block, "random_state": random_state}
        resampling = Resampling(problem, n_bootstraps, block, random_state) if n_bootstraps else None
        beside = resolve_baselines(baselines, problem)
        result = _fit(design, label, fitter, problem, metrics, keep, n_permutations, permuting, resampling,
                      "shuffled" in beside, progress)
        alone = {"drift": drift_scores(problem, metrics)} if "drift" in beside else {}
        if problem.nuisance.shape[1]:
            sums = fitter.fit(problem.nuisance, problem.targets.values).sums
            alone["baseline"] = np.stack([score_moments(m, sums) for m in metrics])
        warn_alphas([result], fitter.alphas)
        warn_narrow([result], fitter.reduction)
        warn_leftover(leftover_of([result]), problem.layout.n_samples)
    attrs = {"analysis": "encode_banded", "warnings": said, **problem.describe(),
             "aggregation": {m: m.split(".")[1] for m in metrics}, "solver": {label: result["solver"]}, "fdr": fdr,
             "bands": named, "n_candidates": fitter.n_tried(bool(fitter.n_beside)), "refine": refine,
             "leftover": leftover_of([result]) or None,
             "nulls": result["null_name"] if n_permutations else None, "n_bootstraps": n_bootstraps,
             "blocks": describe_blocks(problem.layout, block),
             "interval": resampling.describe(LEVEL) if resampling else None,
             "resampled_units": resampling.n_units if resampling else None}
    whole = replace(problem, spaces={label: xr.DataArray(0, coords={"model": label, "layer": "", "stream": "",
                                                                    "depth": np.nan})})
    found = assemble([result], whole, {}, metrics, alone, fdr, attrs)
    dims = ("band", "space", *problem.targets.dims)
    shares = {"contribution": (dims, problem.targets.spread(result["contribution"])[:, None]),
              "gamma": (dims, problem.targets.spread(result["gamma"])[:, None])}
    nuisance = ["nuisance"] if fitter.n_beside else []
    return scores.validate(found.assign(shares).assign_coords(band=[*nuisance, *named, "intercept"]))


def joint_designs(problem: Problem, sets: Sequence[Sequence[str]], bands: Mapping[str, Sequence[str]]):
    """Yield label, `JointDesign` and widths of sets of bands: each space is made (convolved) once for all.

    Bands stand in order of their names, so that the order in which they were given changes nothing.
    """
    made = {space: make() for space, make in problem.designs().items() if any(space in b for b in bands.values())}
    warn_constant({space: check_features(Table([design.series]), space, problem.targets.ids)
                   for space, design in made.items()})
    for names in sets:
        names = sorted(names)
        parts = [[made[space] for space in bands[name]] for name in names]
        widths = [sum(np.shape(d.values)[1] for d in part) for part in parts]
        yield " + ".join(names), JointDesign([d for part in parts for d in part]), tuple(widths)


@dataclass(frozen=True)
class JointDesign:
    """Designs of several spaces side by side, used as one `Design`."""

    parts: Sequence[Design]

    @property
    def nuisance(self) -> np.ndarray:
        """The nuisance columns, which all spaces share."""
        return self.parts[0].nuisance

    @property
    def values(self) -> Table:
        """The features of all spaces."""
        return Table([d.values for d in self.parts])

    @property
    def joint(self) -> Table:
        """Nuisance and features side by side."""
        return Table([self.nuisance, *(d.values for d in self.parts)])

    @property
    def events(self) -> xr.DataArray | None:
        """The events that are permuted: those of the first space, which the others must share."""
        counts = {None if d.events is None else len(d.events) for d in self.parts}
        if len(counts) > 1:
            raise ValueError("features: with nuisance the features are permuted, all in one order, but some are time "
                             "series and some events, or their numbers of events differ. Leave n_permutations=0.")
        return self.parts[0].events

    def permuted(self, order: np.ndarray, residuals=None) -> "JointDesign":
        """Take the features of all spaces in another order."""
        return JointDesign([d.permuted(order, residuals) for d in self.parts])


@dataclass(frozen=True)
class BandFit(Fit):
    """A cross-validated fit of several bands.

    Attributes
    ----------
    gammas : array of shape (n_bands, n_targets)
        Mean over folds.
    contributions : array of shape (n_bands + 1, n_targets)
        Of each band, and of the intercept, to the pooled R².
    """

    gammas: np.ndarray
    contributions: np.ndarray


@dataclass(frozen=True)
class BandedFitter(Fitter):
    """A `Fitter` of several bands: the nuisance, if any, then features of these widths."""

    widths: tuple[int, ...] = ()
    n_candidates: int | np.ndarray = 20
    refine: int = 0

    @classmethod
    def of(cls, fitter: Fitter, widths, n_candidates=20, refine: int = 0) -> "BandedFitter":
        """Take the folds and settings of another fitter."""
        if any(isinstance(folds, str) for folds in fitter.inner):
            raise ValueError("inner_cv: the leave-one-out error in closed form is of plain ridge only. Use 'auto', a "
                             "name or a number of splits.")
        settings = {f.name: getattr(fitter, f.name) for f in fields(Fitter)}
        return cls(**settings, widths=tuple(widths), n_candidates=n_candidates, refine=refine)

    def n_tried(self, nuisance: bool) -> int:
        """Number of candidates."""
        if np.ndim(self.n_candidates):
            return len(self.n_candidates)
        return 1 if len(self.widths) + nuisance == 1 else int(self.n_candidates)

    def plan(self, X, fold: int, hold: bool = False) -> BandedPlan:
        """Make the Gram matrices of a design, whose first columns are the nuisance, for one outer fold."""
        X = X if isinstance(X, Table) else Table([X])
        train, test = (_split(X.take(np.flatnonzero(side[fold])), self._widths(X))
                       for side in (self.outer.train, self.outer.test))
        if self.residuals is not None and not self._is_nuisance(X):
            left = [self.residuals.remove(a[:, :], b[:, :], fold) for a, b in zip(train[1:], test[1:])]
            train, test = (list(side) for side in zip(*left))
        if self.reduction is not None:
            first = 1 if self.n_beside or self._is_nuisance(X) else 0
            reduced = [standardise(a, b) for a, b in zip(train[:first], test[:first])]
            reduced += [reduce_features(a, b, self.reduction, self.random_state, self.device)
                        for a, b in zip(train[first:], test[first:])]
            train, test = (list(side) for side in zip(*reduced))
        candidates = self.n_candidates if len(train) > 1 or np.ndim(self.n_candidates) == 0 else 1
        return plan_banded(train, test, alphas=self.alphas, n_candidates=candidates, inner_folds=self.inner[fold],
                           refine=self.refine, standardize=self.reduction is None, random_state=self.random_state,
                           device=self.device, hold=hold)

    def fit(self, X, Y: np.ndarray, prediction: np.ndarray | None = None) -> BandFit:
        """Predict every fold of targets (n_samples, n_targets); `prediction`, if given, is filled with it."""
        n_folds, n_targets = len(self.outer), Y.shape[1]
        sums, best = np.empty((n_folds, 6, n_targets)), np.empty((n_folds, n_targets))
        at_edge, gammas, band_sums, components = np.zeros((2, n_targets)), [], 0.0, []
        smallest, largest = self.alphas.min(), self.alphas.max()
        for fold, (train, test) in enumerate(self.outer):
            plan, y = self.plan(X, fold), self.targets(X, Y, fold)
            predicted, best[fold], own, bands = plan.predict_bands(y, train)
            predicted = fill_flat(predicted, y, train)
            sums[fold] = moments(y[test], predicted)
            own_sums = band_moments(y[test], np.nan_to_num(bands, copy=False), predicted)
            for part in (sums[fold], own_sums):
                self.leave_out(fold, part, predicted, best[fold])
            band_sums = band_sums + own_sums
            gammas.append(own)
            components.append(self.components(plan))
            low, high = plan.limits
            # Beside a much larger share, a small one means a larger penalty: other candidates reach below it.
            even = ((own == 0) | (own > EVEN)).all(0)
            at_edge[0] += (best[fold] == smallest) & (smallest > low) & even
            at_edge[1] += (best[fold] == largest) & (largest < high)
            if prediction is not None:
                prediction[test] = predicted
        reduced = None if self.reduction is None or self._is_nuisance(X) else np.array(components)
        return BandFit(sums, best, at_edge > n_folds / 2, plan.solver, reduced, np.mean(gammas, 0),
                       contributions(band_sums, sums.sum(0)))

    def components(self, plan: BandedPlan) -> list[int]:
        """Return how many columns each band of features has in the fold of a plan."""
        return plan.widths[bool(self.n_beside):]

    def plans_of(self, X) -> list[BandedPlan] | None:
        """Return the plans of all folds, with the decompositions of all candidates, if they may be held at once."""
        n, p = X.shape
        n_bands = len(self._widths(X)) - (self.residuals is not None)
        size = min(n, p)
        grams = size * (size if p <= n else n * n_bands)
        one = 8 * (1 + len(self.inner[0])) * (grams + 2 * n * size * self.n_tried(self.n_beside > 0))
        if one * len(self.outer) > free_memory(self.device) / 4:
            return None
        return [self.plan(X, fold, hold=True) for fold in range(len(self.outer))]

    def _widths(self, X):
        nuisance = [self.n_nuisance] if self.n_nuisance else []
        return nuisance if X.shape[1] == self.n_nuisance else [*nuisance, *self.widths]


def _fit(design, label, fitter, *args) -> dict:
    result, fit = fit_design(design, label, fitter, *args)
    gamma = np.concatenate([fit.gammas, np.full((1, fit.gammas.shape[1]), np.nan)])
    return result | {"n_features": sum(fitter.widths), "contribution": fit.contributions, "gamma": gamma}


def check_bands(bands, spaces) -> dict[str, list[str]]:
    """Return the spaces of each band, bands in order of their names."""
    if bands is None:
        return {name: [name] for name in sorted(spaces)}
    if not isinstance(bands, Mapping):
        raise ValueError(f"bands: got {bands!r}, expected a mapping from the name of each band to the ids of its "
                         f"spaces, such as bands={{'mine': [{next(iter(spaces))!r}]}}. Leave it out for a band of each "
                         "space.")
    named = {str(k): [bands[k]] if isinstance(bands[k], str) else list(bands[k]) for k in sorted(bands, key=str)}
    used = [space for members in named.values() for space in members]
    unknown = [s for s in used if s not in spaces]
    if not used or unknown or len(set(used)) < len(used) or not all(named.values()):
        what = f"unknown spaces {list_ids(unknown)}" if unknown else "an empty band, or a space in two bands"
        raise ValueError(f"bands: {what}; expected names with lists of spaces among {list_ids(list(spaces))}, each in "
                         "one band.")
    return named


def _split(table: Table, widths) -> list[Table]:
    parts = []
    for width in widths[:-1]:
        first, table = table.split(width)
        parts.append(first)
    return [*parts, table]
