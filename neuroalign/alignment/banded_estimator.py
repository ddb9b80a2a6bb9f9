"""The banded ridge encoder as a scikit-learn estimator."""

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from neuroalign.alignment.banded import banded_ridge_cv
from neuroalign.alignment.estimator import (
    FLOATS,
    RidgeEncoder,
    as_array,
    check_columns,
    check_rows,
    column_labels,
    labels_of,
)
from neuroalign.alignment.ridge import ALPHAS
from neuroalign.stats import make_folds

__all__ = ["BandedRidgeEncoder"]


class BandedRidgeEncoder(RidgeEncoder):
    """Ridge regression of many targets, with a penalty for each band of features and target.

    Parameters
    ----------
    widths : sequence of int, optional
        Number of features of each band, in the order of the columns of X; by default one band.
    alphas : sequence of float, optional
        Penalties; by default 15 from 0.1 to 1e6.
    n_candidates : int, or array of shape (n_candidates, n_bands)
        Gammas that are tried (`band_candidates`).
    refine : int
        Most steps of descent from the best candidate, see `banded_ridge_cv`.
    cv, n_splits, gap, standardize, solver, random_state, device
        As for `RidgeEncoder`, but there is no ``cv="loo"``.

    Attributes
    ----------
    coef_ : array of shape (n_targets, n_features), or (n_features,) for one-dimensional y
    intercept_ : array of shape (n_targets,), or float
    gammas_ : array of shape (n_bands, n_targets), or (n_bands,)
        Share of each band; its penalty is ``best_alpha_ / gammas_``.
    best_alpha_ : array of shape (n_targets,), or float
    cv_loss_ : array of shape (n_candidates, n_targets), or None
        Mean squared error of each candidate over the inner folds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((80, 8))
    >>> model = BandedRidgeEncoder(widths=[5, 3]).fit(X, X[:, :1])
    >>> model.gammas_.round(1).ravel().tolist()
    [1.0, 0.0]
    """

    def __init__(self, widths=None, alphas=None, *, n_candidates=20, refine=0, cv=5, n_splits=5, gap=0,
                 standardize=True, solver="auto", random_state=0, device="auto"):
        super().__init__(alphas, cv=cv, n_splits=n_splits, gap=gap, standardize=standardize, solver=solver,
                         random_state=random_state, device=device)
        self.widths = widths
        self.n_candidates = n_candidates
        self.refine = refine

    def fit(self, X, y, groups=None):
        """Fit features (n_samples, n_features) to targets (n_samples[, n_targets])."""
        check_rows(X, y)
        self._columns = column_labels(X)
        self.target_coords_, self._target_dims = labels_of(y)
        X, y = validate_data(self, as_array(X), as_array(y), multi_output=True, y_numeric=True,
                             dtype=FLOATS, ensure_min_samples=3)
        self._flat = y.ndim == 1
        Y = y.reshape(len(y), -1)
        self._fit = banded_ridge_cv(self._bands(X), Y, alphas=ALPHAS if self.alphas is None else self.alphas,
                                    n_candidates=self.n_candidates, refine=self.refine,
                                    inner_folds=self._banded_folds(len(X), groups), standardize=self.standardize,
                                    solver=self.solver, random_state=self.random_state, device=self.device)
        constant = np.isnan(self._fit.best_alpha)
        coef = np.where(constant[:, None], 0.0, np.vstack(self._fit.coef).T)
        intercept = np.where(constant, Y.mean(0, dtype=np.float64), self._fit.intercept)
        self.coef_, self.intercept_ = (coef[0], float(intercept[0])) if self._flat else (coef, intercept)
        self.best_alpha_ = self._fit.best_alpha[0] if self._flat else self._fit.best_alpha
        self.gammas_ = self._fit.gammas[:, 0] if self._flat else self._fit.gammas
        self.cv_loss_ = self._fit.loss
        return self

    def contributions(self, X, y):
        """Split R² of each target between the bands, see `BandedFit.contributions`.

        Returns
        -------
        array of shape (n_bands + 1, n_targets)
            The last row is of the intercept.
        """
        check_is_fitted(self)
        check_rows(X, y)
        check_columns(X, self._columns)
        X, y = validate_data(self, as_array(X), as_array(y), reset=False, multi_output=True, dtype=np.float64)
        return self._fit.contributions(self._bands(X), y.reshape(len(y), -1))

    def _bands(self, X):
        if isinstance(self.widths, (int, np.integer)):
            raise ValueError(f"widths: got {self.widths!r}, expected the number of features of each band, such as "
                             "[10, 5].")
        widths = [X.shape[1]] if self.widths is None else list(self.widths)
        if sum(widths) != X.shape[1] or min(widths) < 1:
            raise ValueError(f"widths: got {', '.join(map(str, widths))} (sum {sum(widths)}), expected numbers of at "
                             f"least 1 that sum to the {X.shape[1]} features of X.")
        return np.split(X, np.cumsum(widths)[:-1], axis=1)

    def _banded_folds(self, n_samples, groups):
        folds = self._folds(n_samples, (0, 1), groups)
        if isinstance(folds, str) and self.cv != "loo":
            # Too few rows for k folds, and plain ridge alone leaves one out in closed form.
            return make_folds("leave-one-group-out", n_samples, groups=np.arange(n_samples))
        return folds
