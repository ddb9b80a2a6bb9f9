"""The ridge encoder as a scikit-learn estimator."""

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from neuroalign.alignment.ridge import ALPHAS, ridge_cv
from neuroalign.stats import make_folds

__all__ = ["RidgeEncoder", "labels_of"]


class RidgeEncoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression of many targets, each with its own penalty by inner cross-validation.

    Parameters
    ----------
    alphas : sequence of float, optional
        Penalties; by default 15 from 0.1 to 1e6.
    cv : int, str, splitter, table or Folds
        Inner folds that choose the penalties (`neuroalign.stats.make_folds`; an int is shuffled k-fold), or
        ``"loo"``. Time series need ``"blocks"``.
    n_splits : int
        Number of folds where `cv` is a name.
    gap : int
        Samples purged on both sides of a test block, for ``cv="blocks"``.
    standardize : bool
        Scale features by the standard deviation of the training rows.
    solver : {"auto", "primal", "dual"}
    random_state : int
    device : str

    Attributes
    ----------
    coef_ : array of shape (n_targets, n_features), or (n_features,) for one-dimensional y
        Of the features as given.
    intercept_ : array of shape (n_targets,), or float
    best_alpha_ : array of shape (n_targets,), or float
    cv_loss_ : array of shape (n_alphas, n_targets), or None
        Mean squared error of each penalty over the inner folds.
    target_coords_ : dict
        Coords of the targets, if y was labelled; predictions carry them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 5))
    >>> Y = X @ rng.standard_normal((5, 3)) + 0.1 * rng.standard_normal((60, 3))
    >>> RidgeEncoder(alphas=[0.1, 1.0, 10.0]).fit(X, Y).score(X, Y) > 0.95
    True
    """

    def __init__(self, alphas=None, *, cv=5, n_splits=5, gap=0, standardize=True, solver="auto", random_state=0,
                 device="auto"):
        self.alphas = alphas
        self.cv = cv
        self.n_splits = n_splits
        self.gap = gap
        self.standardize = standardize
        self.solver = solver
        self.random_state = random_state
        self.device = device

    def fit(self, X, y, groups=None):
        """Fit features (n_samples, n_features) to targets (n_samples[, n_targets])."""
        self.target_coords_, self._target_dims = labels_of(y)
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        self._flat = y.ndim == 1
        alphas = ALPHAS if self.alphas is None else self.alphas
        fit = ridge_cv(X, y.reshape(len(y), -1), alphas=alphas, inner_folds=self._folds(len(X), alphas, groups),
                       standardize=self.standardize, solver=self.solver, device=self.device)
        # A constant target is no error to an estimator: its best prediction is the constant.
        constant = np.isnan(fit.best_alpha)
        coef = np.where(constant[:, None], 0.0, fit.coef.T)
        intercept = np.where(constant, y.reshape(len(y), -1).mean(0), fit.intercept)
        self.coef_, self.intercept_ = (coef[0], float(intercept[0])) if self._flat else (coef, intercept)
        self.best_alpha_ = fit.best_alpha[0] if self._flat else fit.best_alpha
        self.cv_loss_ = fit.loss
        return self

    def predict(self, X):
        """Predict targets, shape (n_rows[, n_targets]); labelled if y was labelled and X is."""
        check_is_fitted(self)
        labels = X.coords if isinstance(X, xr.DataArray) else None
        rows = X.dims[0] if labels is not None else None
        X = validate_data(self, X, reset=False, dtype=np.float64)
        predicted = X @ self.coef_.T + self.intercept_
        if labels is None or self._target_dims is None:
            return predicted
        own = {k: v for k, v in labels.items() if v.dims == (rows,)}
        return xr.DataArray(predicted, dims=(rows, *self._target_dims), coords={**self.target_coords_, **own})

    def _folds(self, n_samples, alphas, groups):
        if np.size(alphas) == 1:
            return None
        if isinstance(self.cv, str) and self.cv == "loo":
            return "loo"
        cv, n_splits = self.cv, self.n_splits
        if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
            cv, n_splits = "kfold" if groups is None else "groups", int(cv)
        if cv == "kfold" and groups is None and n_samples < 2 * n_splits:
            n_splits = max(2, n_samples // 2)
        if n_samples < 4:
            # Too few rows to hold some out twice over: leave one out.
            return "loo"
        return make_folds(cv, n_samples, groups=groups, n_splits=n_splits, gap=self.gap,
                          random_state=self.random_state)


def labels_of(y):
    """Return the coords of targets given as a DataArray, and their dims."""
    if not isinstance(y, xr.DataArray):
        return {}, None
    dims = tuple(y.dims[1:])
    return {k: v for k, v in y.coords.items() if v.dims and set(v.dims) <= set(dims)}, dims
