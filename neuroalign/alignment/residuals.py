"""Nuisance taken out of features, and of responses, by regression within the training rows of each fold."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler

from neuroalign.alignment.ridge import RidgePlan, plan_ridge
from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.stats import Folds

__all__ = ["LEFTOVER", "RESIDUALIZE", "Residuals", "make_residuals", "warn_leftover"]

RESIDUALIZE = ("features", "both")
PENALTY = 1e-4  # near least squares
ALPHAS = np.logspace(-4, 6, 11)  # of the regression that tells what is left
NOTHING = 1e-8  # share of the variance below which a residual is what rounding and the penalty left of nothing
LANDMARKS = 100  # most Gaussian functions that tell what is left
LEFTOVER = 0.01  # cross-validated R² of residual features from the nuisance that passes for none, mean over features
HIGHEST = 0.1  # that of any single feature, where there are samples enough
CHANCE = 20  # over the number of samples: what the highest of 2,000 features that keep nothing reaches at most


class Residuals:
    """Regressions of features, and of responses, on the nuisance, by least squares: one decomposition a fold.

    Parameters
    ----------
    nuisance : array of shape (n_samples, n_columns)
    outer : Folds
    inner : sequence of Folds or "loo"
        Over the training rows of each outer fold; only to tell what is left.
    device : torch device
    responses : bool
        Whether the responses become residuals, too.
    """

    def __init__(self, nuisance: np.ndarray, outer: Folds, inner: Sequence, device: torch.device, responses: bool):
        self.nuisance, self.outer, self.inner, self.device = nuisance, outer, inner, device
        self.responses = responses
        self._plans: dict[int | None, RidgePlan] = {}  # of each fold; None: of all rows

    def remove(self, train: np.ndarray, test: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what the nuisance does not explain, of the training and the test rows of a fold.

        Parameters
        ----------
        train, test : array of shape (n_train, n_columns), (n_test, n_columns)
            The regression is fitted to the training rows alone.

        Returns
        -------
        train, test : float32 array
            Zero for a column that the nuisance explains altogether, and for a constant one.
        """
        mean = np.asarray(train, np.float64).mean(0)
        train, test = train - mean, test - mean
        explained = self._plan(fold).predict(train)[0]
        explained = np.where(np.isnan(explained), 0, explained)  # constant in the training rows
        left = np.concatenate([train, test]) - explained
        left[:, left[:len(train)].var(0) <= NOTHING * train.var(0)] = 0
        return left[:len(train)].astype(np.float32), left[len(train):].astype(np.float32)

    def parts(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the nuisance explains of features over all rows, mean included, and what it does not.

        Only for a null, which leaves the first part in place and permutes the second: features that are permuted whole
        are no longer like those that were tested, once the nuisance is taken out (2 % false positives at .05).
        """
        if None not in self._plans:
            self._plans[None] = plan_ridge(self.nuisance, self.nuisance, alphas=[PENALTY], device=self.device)
        mean = np.mean(values, axis=0, dtype=np.float64)
        centred = (values - mean).astype(np.float32)  # far from zero, float32 would hold no differences
        explained = self._plans[None].predict(centred)[0]
        explained = np.where(np.isnan(explained), centred, explained)  # constant
        return (explained + mean).astype(np.result_type(values.dtype, np.float32)), centred - explained

    def targets(self, Y: np.ndarray, fold: int) -> np.ndarray:
        """Return the responses (n_samples, n_targets) as residuals in the training and test rows of a fold."""
        if not self.responses:
            return Y
        train, test = (np.flatnonzero(side[fold]) for side in (self.outer.train, self.outer.test))
        left = Y.copy()
        left[train], left[test] = self.remove(Y[train], Y[test], fold)
        return left

    def leftover(self, features: np.ndarray) -> np.ndarray:
        """Return how well the nuisance still predicts the held-out residuals of each feature: R², shape (n_features,).

        Residuals of test rows, each from the regression of its fold, are predicted on the same folds from the nuisance
        and from Gaussian functions of it, about some of the training rows: another linear predictor would find what the
        first one left, and so nothing. NaN for a feature of which nothing is left.
        """
        left = np.zeros(features.shape, np.float32)
        for fold, (train, test) in enumerate(self.outer):
            own, left[test] = self.remove(features[train], features[test], fold)
            untested = ~self.outer.test.any(0)[train]
            left[train[untested]] = own[untested]
        errors, total = 0.0, 0.0
        for fold, (train, test) in enumerate(self.outer):
            plan = plan_ridge(*self._bent(train, test), alphas=ALPHAS, inner_folds=self.inner[fold],
                              device=self.device)
            mean = left[train].mean(0)
            guess = plan.predict(left[train])[0]
            errors = errors + ((left[test] - np.where(np.isnan(guess), mean, guess)).astype(np.float64) ** 2).sum(0)
            total = total + ((left[test] - mean).astype(np.float64) ** 2).sum(0)
        return 1 - np.divide(errors, total, out=np.full(len(total), np.nan), where=total > 0)

    def _bent(self, train, test) -> list[np.ndarray]:
        """Return the nuisance of training and test rows, and Gaussian functions of it."""
        scaler = StandardScaler().fit(self.nuisance[train])
        scaled = [scaler.transform(self.nuisance[rows]) for rows in (train, test)]
        centres = scaled[0][:: -(-len(train) // LANDMARKS)]
        return [np.concatenate([x, rbf_kernel(x, centres)], 1) for x in scaled]

    def _plan(self, fold: int) -> RidgePlan:
        if fold not in self._plans:
            train, test = (self.nuisance[side[fold]] for side in (self.outer.train, self.outer.test))
            self._plans[fold] = plan_ridge(train, np.concatenate([train, test]), alphas=[PENALTY], device=self.device)
        return self._plans[fold]


def make_residuals(residualize: str | None, nuisance: np.ndarray, outer: Folds, inner: Sequence,
                   device: torch.device) -> Residuals | None:
    """Resolve the argument `residualize` of `neuroalign.encode`."""
    if residualize is None:
        return None
    check_option("residualize", residualize, (None, *RESIDUALIZE))
    if not nuisance.shape[1]:
        raise ValueError(f"residualize: got {residualize!r}, but there is no nuisance to take out. Name it: nuisance=.")
    fewest = int(outer.train.sum(1).min())
    if nuisance.shape[1] >= fewest:
        raise ValueError(f"residualize: {nuisance.shape[1]} columns of nuisance, and {fewest} training samples: such a "
                         "regression explains any feature, and leaves none. Reduce the nuisance (a few components) or "
                         "let it stand in the model (residualize=None).")
    return Residuals(nuisance, outer, inner, device, residualize == "both")


def warn_leftover(leftover: dict[str, dict], n_samples: int) -> None:
    """Warn of feature spaces that the nuisance still predicts: R² above .01 in the mean over features, or .1 in one.

    With under 200 samples chance alone lets one of many features reach more, and ``20 / n_samples`` passes.
    """
    most = max(HIGHEST, CHANCE / n_samples)
    bad = [space for space, found in leftover.items() if found["mean"] > LEFTOVER or found["highest"] > most]
    if bad:
        worst = max(bad, key=lambda s: max(leftover[s]["mean"] / LEFTOVER, leftover[s]["highest"] / most))
        mean, highest = (leftover[worst][k] for k in ("mean", "highest"))
        warn_user(f"the nuisance still predicts the residual features of {list_ids(bad)} (cross-validated R² in "
                  f"{worst!r}: mean over features {mean:.2g}, of which at most {LEFTOVER} passes for none, and highest "
                  f"of one feature {highest:.2g}, of which {most:.2g} does): scores may be those of the nuisance. Add "
                  "what it relates to them by (its squares, its logarithm) to the nuisance.", "nuisance-left", bad)
