"""The ridge encoder as a scikit-learn estimator."""

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from neuroalign.alignment.ridge import ALPHAS, ridge_cv
from neuroalign.data.dims import same_clock
from neuroalign.errors import NotAligned
from neuroalign.stats import make_folds

__all__ = ["RidgeEncoder", "as_array", "check_columns", "check_rows", "column_labels", "label_prediction", "labels_of"]

DEFAULT_SPLITS = 5
FLOATS = (np.float64, np.float32)  # features that are taken as they are; others become float64


class RidgeEncoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression of many targets, each with its own penalty by inner cross-validation.

    Parameters
    ----------
    alphas : sequence of float, optional
        Penalties; by default 15 from 0.1 to 1e6.
    cv : int, str, splitter, table or Folds
        Inner folds that choose the penalties (`neuroalign.stats.make_folds`; an int is shuffled k-fold), or
        ``"loo"``. Time series need ``"blocks"``. The default 5 is lowered where there are fewer than 10 rows or 5
        groups; any other number is taken as it is.
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

    Raises
    ------
    NotAligned
        If X and y are DataArrays whose rows differ in ``stimulus_id`` (or, for series, in ``time`` or ``run``): rows
        are never matched by position. `neuroalign.align` puts them in one order.

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
        check_rows(X, y)
        self._columns = column_labels(X)
        self.target_coords_, self._target_dims = labels_of(y)
        X, y = validate_data(self, as_array(X), as_array(y), multi_output=True, y_numeric=True,
                             dtype=FLOATS, ensure_min_samples=2)
        self._flat = y.ndim == 1
        alphas = ALPHAS if self.alphas is None else self.alphas
        fit = ridge_cv(X, y.reshape(len(y), -1), alphas=alphas, inner_folds=self._folds(len(X), alphas, groups),
                       standardize=self.standardize, solver=self.solver, device=self.device)
        # A constant target is no error to an estimator: its best prediction is the constant.
        constant = np.isnan(fit.best_alpha)
        coef = np.where(constant[:, None], 0.0, fit.coef.T)
        intercept = np.where(constant, y.reshape(len(y), -1).mean(0, dtype=np.float64), fit.intercept)
        self.coef_, self.intercept_ = (coef[0], float(intercept[0])) if self._flat else (coef, intercept)
        self.best_alpha_ = fit.best_alpha[0] if self._flat else fit.best_alpha
        self.cv_loss_ = fit.loss
        return self

    def predict(self, X):
        """Predict targets, shape (n_rows[, n_targets]); labelled if y was labelled and X is."""
        check_is_fitted(self)
        check_columns(X, self._columns)
        values = validate_data(self, as_array(X), reset=False, dtype=FLOATS)
        return label_prediction(values @ self.coef_.T + self.intercept_, X, self.target_coords_, self._target_dims)

    def score(self, X, y, sample_weight=None):
        """Return R² of the predictions, the mean over targets; labelled rows must be those of X, as in `fit`."""
        check_rows(X, y)
        return super().score(X, as_array(y), sample_weight)

    def _folds(self, n_samples, alphas, groups):
        if np.size(alphas) == 1:
            return None
        if isinstance(self.cv, str) and self.cv == "loo":
            return "loo"
        cv, n_splits = self.cv, self.n_splits
        if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
            cv, n_splits = "kfold" if groups is None else "groups", int(cv)
            if groups is not None and n_splits == DEFAULT_SPLITS:
                n_splits = max(2, min(n_splits, len(np.unique(groups))))
        if isinstance(cv, str) and cv == "kfold" and groups is None:
            # Only the default gives way where rows are few: a number that was asked for does not.
            if n_splits == DEFAULT_SPLITS and n_samples < 4:
                return "loo"
            if n_splits == DEFAULT_SPLITS and n_samples < 2 * n_splits:
                n_splits = n_samples // 2
            if not 2 <= n_splits <= n_samples:
                raise ValueError(f"cv: got {n_splits} inner folds for {n_samples} rows, expected 2 to {n_samples}. "
                                 "Give fewer, or cv='loo' to leave out one row at a time.")
        return make_folds(cv, n_samples, groups=groups, n_splits=n_splits, gap=self.gap,
                          random_state=self.random_state)


def column_labels(X):
    """Return the labels of the features of a DataArray, or None where they have none."""
    if not isinstance(X, xr.DataArray) or X.ndim != 2 or X.dims[1] not in X.coords:
        return None
    return X[X.dims[1]].values.tolist()


def check_columns(X, fitted) -> None:
    """Raise `NotAligned` if features are labelled and are others, or in another order, than those of the fit."""
    labels = column_labels(X)
    if labels is None or fitted is None or labels == fitted or len(labels) != len(fitted):
        return  # another number of features is told by scikit-learn
    first = next(k for k, (a, b) in enumerate(zip(labels, fitted)) if a != b)
    raise NotAligned(f"X: its features are not those of the fit, first in column {first}: got {labels[first]!r}, "
                     f"fitted on {fitted[first]!r}. Features are never matched by position; bring them into the order "
                     f"of the fit: X.sel({X.dims[1]}=...).")


def labels_of(y):
    """Return the coords of targets given as a DataArray, and their dims."""
    if not isinstance(y, xr.DataArray):
        return {}, None
    dims = tuple(y.dims[1:])
    return {k: v for k, v in y.coords.items() if v.dims and set(v.dims) <= set(dims)}, dims


def as_array(values):
    """Return a tensor of any type and device as a float64 array, and everything else but text as it is."""
    if isinstance(values, torch.Tensor):
        return values.detach().to("cpu", torch.float64).numpy()
    if getattr(getattr(values, "dtype", None), "kind", None) in ("U", "S"):
        raise ValueError(f"X, y: got values of type {values.dtype} (text), expected numbers. Where they spell numbers, "
                         "pass values.astype(float).")
    return values


def check_rows(X, y) -> None:
    """Raise `NotAligned` if X and y are both labelled and their rows differ, in what they are or in their order."""
    if not (isinstance(X, xr.DataArray) and isinstance(y, xr.DataArray)):
        return
    dims = [("time" if "time" in a.dims else a.dims[0]) for a in (X, y)]
    if "time" in dims and dims[0] != dims[1] and set(dims) & {"stimulus", "presentation"}:
        raise NotAligned(f"X and y: the rows of X are on {dims[0]!r}, those of y on {dims[1]!r}; expected both on one "
                         "dim. Turn events into a series first, by neuroalign.features.events_to_samples.")
    for name in ("time", "run") if "time" in dims else ("stimulus_id",):
        if not all(name in a.coords and a[name].dims == (dim,) for a, dim in zip((X, y), dims)):
            continue
        ours, theirs = X[name].values, y[name].values
        if len(ours) != len(theirs):
            found = f"X has {len(ours)} rows, y {len(theirs)}"
        else:
            same = np.array([a == b for a, b in zip(ours.tolist(), theirs.tolist())])
            if same.all() or (name == "time" and same_clock(ours, theirs)):
                continue
            first = int(np.argmin(same))
            found = (f"{name} differs in {int((~same).sum())} of {len(same)} rows, first in row {first}: "
                     f"{ours.tolist()[first]!r} in X, {theirs.tolist()[first]!r} in y")
        todo = "Bring both to one clock first" if "time" in dims else (
            "Put them in one order first: spaces, y = neuroalign.align(X, y)")
        raise NotAligned(f"X and y: {found}. Rows are never matched by position. {todo}.")


def label_prediction(predicted, X, target_coords, target_dims):
    """Return predictions with the rows of X and the targets of y, where both were labelled; otherwise as they are."""
    if target_dims is None or not isinstance(X, xr.DataArray):
        return predicted
    rows = X.dims[0]
    own = {k: v for k, v in X.coords.items() if v.dims == (rows,)}
    return xr.DataArray(predicted, dims=(rows, *target_dims), coords={**target_coords, **own})
