"""Ridge regression of many targets, the penalty of each chosen by inner cross-validation.

One eigendecomposition a fold, in the smaller of the space of features and of rows, serves all penalties and all
targets; predictions for all penalties then cost one matrix product each, and the refit is one pass in which every
target has its own penalty. The objective is ``|y - Xw - b|^2 + alpha |w|^2`` with an intercept that is never
penalised (Hoerl & Kennard 1970, Technometrics).
"""

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import torch

from neuroalign.alignment.ridge_inputs import (
    TargetBlock,
    check_alphas,
    check_inner,
    check_targets,
    empty_like_targets,
    prepare_design,
    read_blocks,
)
from neuroalign.errors import check_option
from neuroalign.linalg import (
    Eigenbasis,
    FoldKernel,
    eigenbasis,
    kernel_eigenbasis,
    needs_float64,
    resolve,
    rows_per_chunk,
    second_moment,
    surely_needs_float64,
    thread_limit,
    to_numpy,
    widest,
)

__all__ = ["ALPHAS", "RidgeFit", "RidgePlan", "add_squared_errors", "centre_of", "operations", "plan_ridge", "ridge_cv"]

ALPHAS = np.logspace(-1, 6, 15)
CACHE = 2**24  # bytes of targets that go together on a processor: more would leave its cache at every penalty
SMALL_ERROR = 0.01  # share of the variance: sums of float32 tell smaller errors to fewer than four digits
SMALL = 2**18  # numbers that stay in the processor's cache: below, penalties go together rather than one by one


@dataclass(frozen=True)
class RidgeFit:
    """A fitted ridge, kept in the eigenbasis of its design.

    Attributes
    ----------
    best_alpha : array of shape (n_targets,)
        NaN for targets that hold NaN or are constant.
    loss : array of shape (n_alphas, n_targets)
        Mean squared error over the inner folds (None if there was one penalty only).
    intercept : array of shape (n_targets,)
    """

    best_alpha: np.ndarray
    loss: np.ndarray | None
    intercept: np.ndarray
    _axes: tuple[torch.Tensor, ...]
    _weights: np.ndarray

    @property
    def coef(self) -> np.ndarray:
        """Weights of the features as given, shape (n_features, n_targets)."""
        return np.linalg.multi_dot([*self._host_axes, self._weights])

    def predict(self, X) -> np.ndarray:
        """Predict from rows of features, shape (n_rows, n_targets)."""
        X = to_numpy(X).astype(np.float64, copy=False)
        n_features = len(self._axes[0])
        if X.ndim != 2 or X.shape[1] != n_features:
            raise ValueError(f"X: got shape {X.shape}, expected (n_rows, {n_features} features).")
        return np.linalg.multi_dot([X, *self._host_axes, self._weights]) + self.intercept

    @cached_property
    def _host_axes(self):
        # As large as the design: they leave its device when they are first needed.
        return [to_numpy(factor).astype(np.float64, copy=False) for factor in self._axes]


def ridge_cv(X, Y, *, alphas=ALPHAS, inner_folds=None, standardize: bool = True, solver: str = "auto",
             device="auto") -> RidgeFit:
    """Fit ridge regressions, each target with its own penalty.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        numpy, torch or xarray; a memory map is read in columns.
    Y : array of shape (n_samples, n_targets)
    alphas : sequence of float
        Penalties, above 0.
    inner_folds : Folds, iterable of (train, test) or "loo", optional
        How a penalty is chosen: the least mean squared error over these folds, or the leave-one-out error
        (in closed form, of the design as it is standardised over all rows). Needed if there is more than one
        penalty.
    standardize : bool
        Scale each feature by its standard deviation over the training rows of the fold at hand.
    solver : {"auto", "primal", "dual"}
        Decompose the Gram matrix of features or of rows; auto takes the smaller.
    device : str

    Returns
    -------
    RidgeFit

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((50, 3))
    >>> fit = ridge_cv(X, X @ [[1.0], [0.0], [-1.0]], alphas=[1e-3])
    >>> fit.coef.ravel().round(2).tolist()
    [1.0, 0.0, -1.0]
    """
    alphas = check_alphas(alphas)
    with thread_limit(operations(np.shape(X), np.shape(Y), len(alphas))):
        plan = plan_ridge(X, alphas=alphas, inner_folds=inner_folds, standardize=standardize, solver=solver,
                          device=device, axes=True)
        return plan.fit(Y)


def operations(shape_X, shape_Y, n_alphas: int) -> float:
    """Floating-point operations of one inner fold, about: the Gram matrix, its eigenbasis, the predictions."""
    n, p = shape_X[0], shape_X[-1]
    m, t = min(n, p), shape_Y[-1]
    return 2.0 * n * p * m + 10.0 * m**3 + 2.0 * n_alphas * m * t * min(m, n)


@dataclass(frozen=True)
class RidgePlan:
    """The decompositions of one design, ready for any number of targets (what `plan_ridge` returns).

    Attributes
    ----------
    alphas : array of shape (n_alphas,)
    solver : str
        "primal" or "dual", and the dtype of the decomposition.
    n_samples, n_features : int
        Of the training rows.
    """

    alphas: np.ndarray
    solver: str
    n_samples: int
    n_features: int
    _inner: tuple
    _whole: Eigenbasis
    _loo: bool
    _shift: torch.Tensor | None = None
    _factor: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the decompositions take."""
        parts = [self._whole, *(basis for basis, _, _ in self._inner)]
        return sum(b.basis.nbytes + b.rows.nbytes for b in parts)

    @property
    def limits(self) -> tuple[float, float]:
        """Penalties beyond which nothing changes: below the first no shrinking, above the second no prediction.

        They shrink the weakest direction, or leave of the strongest, one percent.
        """
        if not len(self._whole.values):
            return np.inf, 0.0
        return 0.01 * float(self._whole.values[0]), 100 * float(self._whole.values[-1])

    def predict(self, Y, rows=None) -> tuple[np.ndarray, np.ndarray]:
        """Fit the targets and predict the test rows that the plan was made with.

        Parameters
        ----------
        Y : array or tensor of shape (n_samples, n_targets)
            A tensor may lie on any device.
        rows : array of int, optional
            Use ``Y[rows]``.

        Returns
        -------
        prediction : float32 array, or tensor on the device of `Y`, of shape (n_test, n_targets)
            NaN for targets that hold NaN or are constant.
        best_alpha : array of shape (n_targets,)
        """
        return self.predict_with_loss(Y, rows)[:2]

    def predict_with_loss(self, Y, rows=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `predict`, and the inner error of each target at its best penalty, as a share of its variance.

        NaN where there was no choice, of one penalty, and for targets that hold NaN or are constant.
        """
        n_targets = np.shape(Y)[1]
        prediction = empty_like_targets(Y, len(self._whole.rows))
        best_alpha, least = np.empty(n_targets), np.full(n_targets, np.nan)
        for part, block in self._chunks(Y, rows):
            weights, best, loss = self._solve(block.values)
            prediction[:, part] = block.restore(self._whole.rows @ weights, prediction)
            best_alpha[part] = np.where(block.valid, self.alphas[to_numpy(best)], np.nan)
            if loss is not None:
                least[part] = np.where(block.valid, to_numpy(loss.amin(0)), np.nan)
        return prediction, best_alpha, least

    def fit(self, Y) -> RidgeFit:
        """Fit the targets and return the model; the plan must have been made with ``axes=True``."""
        n_targets, n_alphas = check_targets(Y, None, self.n_samples), len(self.alphas)
        best_alpha, mean = np.empty(n_targets), np.empty(n_targets)
        weights = np.empty((len(self._whole.values), n_targets))
        losses = np.empty((n_alphas, n_targets)) if n_alphas > 1 else None
        for part, block in self._chunks(Y, None):
            found, best, loss = self._solve(block.values)
            best_alpha[part] = np.where(block.valid, self.alphas[to_numpy(best)], np.nan)
            np.multiply(to_numpy(found), np.where(block.valid, block.sd, np.nan), out=weights[:, part])
            mean[part] = block.mean
            if losses is not None:
                losses[:, part] = to_numpy(loss) * np.where(block.valid, block.sd**2, np.nan)
        whole, factor = self._whole, self._factor
        first, *rest = whole.axes
        axes = ((whole.scale * factor.to(whole.scale))[:, None] * first, *rest)
        centre = centre_of(self._shift, factor, whole.mean)
        projected = reduce(torch.matmul, (axis.to(centre.dtype) for axis in axes), centre)
        return RidgeFit(best_alpha, losses, mean - to_numpy(projected).astype(np.float64) @ weights, axes, weights)

    def _chunks(self, Y, rows):
        n_targets = check_targets(Y, rows, self.n_samples)
        widest = max([len(self._whole.rows), *(len(b.rows) for b, _, _ in self._inner)])
        device = self._whole.values.device
        size = rows_per_chunk(4 * (3 * self.n_samples + 4 * len(self._whole.values) + 2 * widest), device,
                              limit=CACHE if device.type == "cpu" else 2**29)
        for start in range(0, n_targets, size):
            part = slice(start, min(start + size, n_targets))
            block = Y[:, part] if rows is None else Y[rows, part]
            yield part, TargetBlock.of(block, self._whole.values)

    def _solve(self, Y):
        """Return the weights in the eigenbasis (component, target), index of the best penalty, and loss."""
        loss = None if len(self.alphas) == 1 else self._loss(Y)
        best = torch.zeros(Y.shape[1], dtype=torch.long, device=Y.device) if loss is None else loss.argmin(0)
        penalties = torch.as_tensor(self.alphas, dtype=Y.dtype, device=Y.device)[best]
        weights = (self._whole.basis.T @ Y) / (self._whole.values[:, None] + penalties)
        return weights, best, loss

    def _loss(self, Y):
        if self._loo:
            return self._leave_one_out(Y)
        total = torch.zeros(len(self.alphas), Y.shape[1], dtype=Y.dtype, device=Y.device)
        n_tested = 0
        for basis, train, test in self._inner:
            trained = Y[train]  # not centred: the basis is
            add_squared_errors(total, basis, basis.basis.T @ trained, Y[test] - trained.mean(0), self.alphas)
            n_tested += len(test)
        return total / n_tested

    def _leave_one_out(self, Y):
        basis = self._whole
        projected = basis.basis.T @ Y
        loss = torch.empty(len(self.alphas), Y.shape[1], dtype=Y.dtype, device=Y.device)
        for k, alpha in enumerate(self.alphas):
            shrunk = basis.basis / (basis.values + alpha)
            leverage = (shrunk * basis.basis).sum(1) + 1 / self.n_samples
            residual = torch.addmm(Y, shrunk, projected, alpha=-1)
            residual /= (1 - leverage).clamp_min(torch.finfo(Y.dtype).eps)[:, None]
            loss[k] = residual.square_().mean(0)
        return loss


def plan_ridge(X, X_test=None, *, alphas=ALPHAS, inner_folds=None, standardize: bool = True,
               solver: str = "auto", device="auto", axes: bool = False) -> RidgePlan:
    """Decompose a design once, for any number of targets.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    X_test : array of shape (n_test, n_features), optional
        Rows that `RidgePlan.predict` predicts.
    alphas, inner_folds, standardize, solver, device
        As in `ridge_cv`.
    axes : bool
        Keep what `RidgePlan.fit` needs.
    """
    alphas = check_alphas(alphas)
    check_option("solver", solver, ("auto", "primal", "dual"))
    if np.ndim(X) != 2:
        raise ValueError(f"X: got {np.ndim(X)} dims, expected (n_samples, n_features).")
    n, p = np.shape(X)
    n_test = 0 if X_test is None else len(X_test)
    loo = isinstance(inner_folds, str)
    if loo:
        check_option("inner_folds", inner_folds, ("loo",))
    folds = check_inner(inner_folds, n, len(alphas))
    device = resolve(device)
    dual = solver == "dual" or (solver == "auto" and p > n)
    if dual and not axes:
        return _plan_streaming(X, X_test, alphas, folds, standardize, device, loo)
    for dtype in _precisions(loo, device):
        design, shift, factor = prepare_design(X, X_test, standardize, device, dtype)
        if dtype == torch.float32 and surely_needs_float64(design[:n], alphas.min()):
            continue
        total, kernel = _shared_grams(design, n, dual, standardize)
        if not needs_float64(total if total is not None else kernel, alphas.min()):
            break
    options = {"standardize": standardize, "dual": dual, "kernel": None if standardize else kernel}
    index = torch.arange(n + n_test, device=device)
    inner = []
    for train, test in folds:
        train, test = (torch.as_tensor(i, device=device) for i in (train, test))
        inner.append((eigenbasis(design[:n], train, test, total=total, **options), train, test))
    options["kernel"] = None if n_test or kernel is None else options["kernel"]
    whole = eigenbasis(design, index[:n], index[n:], total=None if n_test else total, axes=axes,
                       dtype=_precisions(loo, device)[0], **options)
    name = f"{'dual' if dual else 'primal'}, {_name_of(dtype)} decomposition"
    return RidgePlan(alphas, name, n, p, tuple(inner), whole, loo, shift, factor)


def _plan_streaming(X, X_test, alphas, folds, standardize, device, loo) -> RidgePlan:
    """Decompose the Gram matrices of rows, added up over blocks of features: wide features are never held at once."""
    n, n_all = len(X), len(X) + (0 if X_test is None else len(X_test))
    rows = torch.arange(n_all, device=device)
    pairs = [tuple(torch.as_tensor(i, device=device) for i in pair) for pair in folds] + [(rows[:n], rows[n:])]
    for dtype in _precisions(loo, device):
        kernels = [FoldKernel(train, test, standardize, dtype) for train, test in pairs]
        for _, block, _, _ in read_blocks(X, X_test, standardize, device, dtype):
            for kernel in kernels:
                kernel.add(block)
        if not needs_float64(kernels[-1].gram, alphas.min()):
            break
    name = f"dual, {_name_of(dtype)} decomposition"
    *inner, whole = [kernel_eigenbasis(kernel, _precisions(loo, device)[0]) for kernel in kernels]
    inner = tuple((basis, *pair) for basis, pair in zip(inner, pairs))
    return RidgePlan(alphas, name, n, X.shape[1], inner, whole, loo)


def add_squared_errors(total, basis, projected, target, alphas):
    """Add the squared errors of every penalty: one product of matrices a penalty, in the smaller size."""
    filters = 1 / (basis.values + torch.as_tensor(alphas, dtype=target.dtype, device=target.device)[:, None])
    if len(basis.rows) <= len(basis.values):
        total += _squared_residuals(basis.rows, filters, projected, target)
        return
    size = target.square().sum(0)
    errors = size - 2 * filters @ ((basis.rows.T @ target) * projected)
    gram = basis.rows.T @ basis.rows
    at_once = max(1, SMALL // max(1, projected.numel()))
    for k in range(0, len(filters), at_once):
        shrunk = filters[k:k + at_once, :, None] * projected
        errors[k:k + at_once] += (shrunk * (gram @ shrunk)).sum(1)
    # Errors much smaller than the targets are a difference of sums, and rounding what is left of it.
    small = torch.nonzero(errors.amin(0) < SMALL_ERROR * size).ravel()
    if len(small):
        errors[:, small] = _squared_residuals(basis.rows, filters, projected[:, small], target[:, small])
    total += errors


def _squared_residuals(rows, filters, projected, target):
    errors = torch.empty(len(filters), target.shape[1], dtype=target.dtype, device=target.device)
    for k, shrinking in enumerate(filters):
        errors[k] = torch.addmm(target, rows * shrinking, projected, alpha=-1).square_().sum(0)
    return errors


def centre_of(shift, factor, mean) -> torch.Tensor:
    """Return the centre of the features as given, from that of the design ``(X - shift) * factor``."""
    return shift + torch.where(factor > 0, mean / factor, 0.0)


def _shared_grams(design, n, dual, standardize):
    if dual:
        # With standardisation each fold needs its own; this one then only tells the size of the eigenvalues.
        return None, design[:n] @ design[:n].T
    return second_moment(design[:n], torch.arange(n, device=design.device)), None


def _precisions(loo, device) -> tuple[torch.dtype, ...]:
    """Return the types to decompose in, until one does; the first is that of the basis and of what is done in it."""
    # What is left of one where a row nearly predicts itself has few digits in float32.
    return (widest(device),) if loo else (torch.float32, torch.float64)


def _name_of(dtype) -> str:
    return str(dtype).removeprefix("torch.")
