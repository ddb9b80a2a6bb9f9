"""Cross-validated fits of one design, and nulls that refit everything, the penalty included."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from neuroalign.alignment.designs import Design
from neuroalign.alignment.lagged import LaggedPlan, plan_lagged
from neuroalign.alignment.lags import LaggedTable
from neuroalign.alignment.nested_layer import LayerPlans, LayerTables
from neuroalign.alignment.reduction import Reduction, reduce_features, standardise
from neuroalign.alignment.residuals import Residuals
from neuroalign.alignment.ridge import RidgePlan, operations, plan_ridge
from neuroalign.alignment.scoring import moments, score_moments
from neuroalign.alignment.table import Table
from neuroalign.linalg import free_memory, thread_limit, to_numpy, to_tensor
from neuroalign.stats import Folds, at_least

__all__ = ["Fit", "Fitter", "Tally", "fill_flat", "null_by_features", "null_by_responses", "residuals_of"]

BUDGET = 2**29  # bytes of sums that a batch of permutations may hold


@dataclass(frozen=True)
class Fit:
    """A cross-validated fit.

    Attributes
    ----------
    sums : array of shape (n_folds, 6, n_targets)
        `moments` of each fold.
    best_alpha : array of shape (n_folds, n_targets)
        NaN where a target was not selected.
    at_edge : array of bool, shape (2, n_targets)
        Whether the smallest, the largest penalty was chosen in most folds, and going on would have made a difference.
    solver : str
    n_components : array of int, shape (n_folds, n_parts), or None
        Columns that each space (layer, band) was reduced to; None without a reduction.
    """

    sums: np.ndarray
    best_alpha: np.ndarray
    at_edge: np.ndarray
    solver: str
    n_components: np.ndarray | None


@dataclass(frozen=True)
class Fitter:
    """The nested folds and settings that all spaces and permutations share.

    Attributes
    ----------
    outer : Folds
    inner : sequence of Folds or "loo"
        Over the training rows of each outer fold.
    alphas : array of float
    device : torch device
    n_nuisance : int
        Columns of a design that are nuisance; they come first.
    reduction : Reduction, optional
    random_state : int
    residuals : Residuals, optional
        Takes the nuisance out of the features, instead of a place beside them.
    selected : array of bool, shape (n_folds, n_targets), optional
        Targets that are predicted in each fold; all by default.
    """

    outer: Folds
    inner: Sequence
    alphas: np.ndarray
    device: torch.device
    n_nuisance: int = 0
    reduction: Reduction | None = None
    random_state: int = 0
    residuals: Residuals | None = None
    selected: np.ndarray | None = None
    _held: dict = field(default_factory=dict, repr=False, compare=False)

    def threads(self, X, Y):
        """Limit the threads to what a fit of this size deserves, for a block of many."""
        return thread_limit(operations(X.shape, Y.shape, len(self.alphas)))

    def plan(self, X, fold: int) -> RidgePlan | LaggedPlan | LayerPlans:
        """Decompose a design, whose first columns are the nuisance, for one outer fold."""
        if isinstance(X, LayerTables):
            return LayerPlans(tuple(self.plan(table, fold) for table in X.tables))
        X = X if isinstance(X, Table) else Table([X])
        train, test = (np.flatnonzero(side[fold]) for side in (self.outer.train, self.outer.test))
        options = {"alphas": self.alphas, "inner_folds": self.inner[fold], "device": self.device}
        if self._by_structure(X):
            return plan_lagged(X.series, X.lags.samples, runs=X.lags.runs, train=train, test=test, **options)
        train, test = X.take(train), X.take(test)
        if self._is_nuisance(X) or (self.reduction is None and self.residuals is None):
            return plan_ridge(train, test, **options)
        (nuisance, features), (test_nuisance, test_features) = train.split(self.n_nuisance), test.split(self.n_nuisance)
        if self.residuals is not None:
            features, test_features = self.residuals.remove(features[:, :], test_features[:, :], fold)
            if self.reduction is None:
                return plan_ridge(features, test_features, **options)
        parts = [reduce_features(features, test_features, self.reduction, self.random_state, self.device)]
        if self.n_beside:
            parts.insert(0, standardise(nuisance, test_nuisance))
        train, test = (np.concatenate(side, 1) for side in zip(*parts))
        return plan_ridge(train, test, standardize=False, **options)  # components are not to be equally large

    def fit(self, X, Y: np.ndarray, prediction: np.ndarray | None = None) -> Fit:
        """Predict every fold of targets (n_samples, n_targets); `prediction`, if given, is filled with it."""
        n_folds, n_targets = len(self.outer), Y.shape[1]
        sums, best = np.empty((n_folds, 6, n_targets)), np.empty((n_folds, n_targets))
        at_edge, components = np.zeros((2, n_targets)), []
        smallest, largest = self.alphas.min(), self.alphas.max()
        for fold, (train, test) in enumerate(self.outer):
            plan, y = self.plan(X, fold), self.on_device(self.targets(X, Y, fold))
            predicted, best[fold] = plan.predict(y, train)
            predicted = fill_flat(predicted, y, train)
            sums[fold] = moments(y[test], predicted)
            predicted = to_numpy(predicted)
            self.leave_out(fold, sums[fold], predicted, best[fold])
            components.append(self.components(plan))
            low, high = plan.limits
            at_edge[0] += (best[fold] == smallest) & (smallest > low)
            at_edge[1] += (best[fold] == largest) & (largest < high)
            if prediction is not None:
                prediction[test] = predicted
        reduced = None if self.reduction is None or self._is_nuisance(X) else np.array(components)
        return Fit(sums, best, at_edge > n_folds / 2, plan.solver, reduced)

    def components(self, plan) -> list[int] | None:
        """Return how many columns each space (layer) was reduced to in the fold of a plan; None if not reduced."""
        if self.reduction is None:
            return None
        return [p.n_features - self.n_beside for p in getattr(plan, "plans", [plan])]

    @property
    def n_beside(self) -> int:
        """Nuisance columns that stand in the model beside the features."""
        return 0 if self.residuals is not None else self.n_nuisance

    @property
    def unadjusted(self) -> "Fitter":
        """The same folds and targets for a design without nuisance, as it is."""
        return replace(self, n_nuisance=0, reduction=None, residuals=None)

    def targets(self, X, Y: np.ndarray, fold: int) -> np.ndarray:
        """Return the targets that a fold is fitted to and scored by: residuals, where those were asked for."""
        return Y if self.residuals is None or self._is_nuisance(X) else self.residuals.targets(Y, fold)

    def on_device(self, Y: np.ndarray):
        """Return targets on the GPU, where there is one, with room: there they are permuted, fitted and scored."""
        if self.device.type != "cuda" or 4 * Y.nbytes > free_memory(self.device):
            return Y
        if self._held.get("host") is not Y:  # layer after layer and fold after fold ask for the same
            dtype = torch.float64 if Y.dtype == np.float64 else torch.float32
            self._held.update(host=Y, device=to_tensor(Y, self.device, dtype))
        return self._held["device"]

    def measured(self, X, Y: np.ndarray) -> np.ndarray:
        """Return the targets that the predictions of all folds are held against."""
        if self.residuals is None or not self.residuals.responses:
            return Y
        held = Y.copy()
        for fold, (_, test) in enumerate(self.outer):
            held[test] = self.targets(X, Y, fold)[test]
        return held

    def leave_out(self, fold: int, sums: np.ndarray, predicted: np.ndarray, best_alpha: np.ndarray) -> None:
        """Blank, in place, what a fold says of targets that were not selected in it: they do not count there."""
        if self.selected is not None:
            out = ~self.selected[fold]
            sums[..., out], predicted[:, out], best_alpha[out] = 0, np.nan, np.nan

    def plans_of(self, X) -> list[RidgePlan | LayerPlans] | None:
        """Return the decompositions of all folds where they may be held at once, else None."""
        return [self.plan(X, fold) for fold in range(len(self.outer))] if self.plans_fit_in_memory(X) else None

    def plans_fit_in_memory(self, X) -> bool:
        """Whether the decompositions of all folds may be held at once (a quarter of the free memory)."""
        tables = X.tables if isinstance(X, LayerTables) else [X]
        one = sum(16 * t.shape[1]**2 if self._by_structure(t) else 4 * t.shape[0] * min(t.shape) for t in tables)
        one *= 1 if self.inner[0] == "loo" else 1 + len(self.inner[0])
        return one * len(self.outer) < free_memory(self.device) / 4

    def _is_nuisance(self, X) -> bool:
        return X.shape[1] == self.n_nuisance

    def _by_structure(self, X) -> bool:
        """Whether the delayed features are not made, but their Gram matrix is, from the series."""
        return (isinstance(X, LaggedTable) and X.lags.structured and self.reduction is None and self.residuals is None
                and X.shape[1] <= self.outer.train.sum(1).min() and not isinstance(self.inner[0], str))


class Tally:
    """Counts a null distribution as it comes, so that it need not be held.

    Parameters
    ----------
    score : array of shape (n_metrics, n_targets)
        The observed scores.
    keep : int
        Number of permutations to hold (0: none).
    """

    def __init__(self, score: np.ndarray, keep: int = 0):
        self.score, self.count = score, 0
        self.reached, self.total, self.squares = (np.zeros(score.shape) for _ in range(3))
        self.kept = np.full((keep, *score.shape), np.nan, np.float32) if keep else None

    def add(self, null: np.ndarray) -> None:
        """Count the scores of one permutation."""
        if self.kept is not None:
            self.kept[self.count] = null
        self.count += 1
        self.reached += at_least(null, self.score)
        self.total += null
        self.squares += null**2

    @property
    def p(self) -> np.ndarray:
        """p-values, (1 + b) / (1 + B)."""
        return np.where(np.isnan(self.score), np.nan, (1 + self.reached) / (1 + self.count))

    @property
    def mean(self) -> np.ndarray:
        """Mean of the null."""
        return self.total / self.count

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation of the null."""
        spread = (self.squares - self.total**2 / self.count) / max(self.count - 1, 1)
        return np.sqrt(np.maximum(spread, 0))


def null_by_responses(fitter: Fitter, X, Y: np.ndarray, orders: np.ndarray, metrics, tally: Tally, tick) -> None:
    """Permute the rows of the responses; the decompositions of the design serve every permutation.

    `tick` is told which share of all is done.
    """
    n_folds, n_targets = len(fitter.outer), Y.shape[1]
    plans, Y = fitter.plans_of(X), fitter.on_device(Y)
    size = 1 if plans else max(1, BUDGET // (n_folds * 6 * n_targets * 8))
    for start in range(0, len(orders), size):
        batch = orders[start:start + size]
        sums = np.empty((len(batch), n_folds, 6, n_targets))
        for fold, (train, test) in enumerate(fitter.outer):
            plan = plans[fold] if plans else fitter.plan(X, fold)
            for k, order in enumerate(batch):
                predicted = fill_flat(plan.predict(Y, order[train])[0], Y, order[train])
                sums[k, fold] = moments(Y[order[test]], predicted)
            tick(len(batch) / (len(orders) * n_folds))
        for one in sums:
            tally.add(np.stack([score_moments(metric, one) for metric in metrics]))


def null_by_features(fitter: Fitter, design: Design, Y: np.ndarray, orders: np.ndarray, metrics,
                     tally: Tally, tick) -> None:
    """Permute the rows, or the events, of the features; the nuisance, and what it explains of them, stay."""
    residuals = residuals_of(fitter, design)
    for order in orders:
        sums = fitter.fit(design.permuted(order, residuals).joint, Y).sums
        tally.add(np.stack([score_moments(metric, sums) for metric in metrics]))
        tick(1 / len(orders))


def residuals_of(fitter: Fitter, design: Design) -> Residuals | None:
    """Return what parts features into what the nuisance explains of them, which stays, and the rest, which moves.

    Features that are permuted whole lose what they share with the nuisance. Beside it in one ridge, that is a second
    way to the same weights, and its loss lowers the null (8.6 % false positives at .05 where all that features share
    with the responses is nuisance). None without nuisance, for events, and for more nuisance than training rows.
    """
    if fitter.residuals is not None:
        return fitter.residuals
    n_nuisance = design.nuisance.shape[1]
    if not n_nuisance or design.events is not None or n_nuisance >= fitter.outer.train.sum(1).min():
        return None
    return Residuals(design.nuisance, fitter.outer, fitter.inner, fitter.device, False)


def fill_flat(predicted, Y, train):
    """Predict the training mean of a target that does not vary in the training rows of this fold."""
    flat = predicted[0] != predicted[0]  # NaN, of an array or a tensor
    if flat.any():
        mean = Y[train][:, flat].mean(0)
        predicted[:, flat] = mean.to(predicted.dtype) if torch.is_tensor(mean) else mean
    return predicted
