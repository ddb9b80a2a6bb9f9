"""Ridge on every delay within a range, without the matrix of delayed features.

Sums over rows add up, so each fold is a sum over stretches of the recording; errors of held-out rows come from the
Gram matrix of the test rows, with no prediction made.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from neuroalign.alignment.lagged_series import LaggedSeries, Part, Sums
from neuroalign.alignment.ridge import ALPHAS, SMALL
from neuroalign.alignment.ridge_inputs import TargetBlock, check_alphas, check_inner, check_targets, empty_like_targets
from neuroalign.linalg import eigh_psd, needs_float64, resolve, rows_per_chunk, to_numpy

__all__ = ["LaggedPlan", "plan_lagged"]

WIDE = 256  # columns from which decompositions are made in float32, where that is precise enough
CONSTANT = 1e-6  # a column whose spread is below this share of its size is taken for constant


@dataclass(frozen=True)
class _Basis:
    """The training rows of a fold in their eigenbasis: ``(D - mean) @ axes``, and what they say of the test rows.

    For one penalty there is instead the Cholesky factor of the penalised Gram matrix, and the scale of its columns.
    """

    values: torch.Tensor
    axes: torch.Tensor
    mean: torch.Tensor
    n: int
    factor: torch.Tensor | None = None
    test_columns: torch.Tensor | None = None
    test_gram: torch.Tensor | None = None

    @classmethod
    def of(cls, train: Sums, standardize: bool, dtype: torch.dtype = torch.float64,
           only: float | None = None) -> "_Basis":
        """Decompose the training rows, for the one penalty `only` if that is given."""
        mean = train.columns / train.n
        moment = train.gram()
        size = moment.diagonal().sqrt()
        moment.addr_(mean, mean, alpha=-train.n)
        spread = moment.diagonal().clamp_min(0).sqrt()
        constant = spread <= CONSTANT * size
        scale = torch.where(constant, 0.0, train.n**0.5 / spread if standardize else 1.0).to(spread)[:, None]
        moment.mul_(scale).mul_(scale.T)
        if only is not None:
            shifted = moment.clone()
            shifted.diagonal().add_(only)
            factor, failed = torch.linalg.cholesky_ex(shifted)
            if not failed:
                return cls(factor[0, :0], scale, mean, train.n, factor)
        values, vectors = eigh_psd(moment.to(dtype))
        kept = values > torch.finfo(dtype).eps * len(values) * values[-1:].clamp_min(1e-30)
        return cls(values[kept], scale.to(dtype) * vectors[:, kept], mean, train.n)

    def beside(self, test: Sums) -> "_Basis":
        """Add what the errors of test rows need."""
        columns = test.columns - test.n * self.mean
        moment = test.gram().addr_(self.mean, self.mean, alpha=-test.n)
        moment -= torch.outer(self.mean, columns) + torch.outer(columns, self.mean)
        gram = self.axes.T @ (moment.to(self.axes.dtype) @ self.axes)
        return replace(self, test_columns=columns, test_gram=gram)

    def weights(self, cross: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
        """Return the weights of targets, from their products with the centred columns."""
        if self.factor is not None:
            return self.axes * torch.cholesky_solve(self.axes * cross, self.factor)
        return self.axes @ (self.axes.T @ cross / (self.values[:, None] + penalties))


@dataclass(frozen=True)
class LaggedPlan:
    """The decompositions of delayed features, ready for any number of targets (what `plan_lagged` returns).

    It stands in for a `RidgePlan`: the same `predict`, `limits`, `solver` and `nbytes`.
    """

    alphas: np.ndarray
    solver: str
    n_samples: int
    _series: LaggedSeries
    _test_rows: np.ndarray
    _parts: tuple
    _inner: tuple
    _whole: _Basis

    @property
    def nbytes(self) -> int:
        """Bytes that the decompositions take."""
        bases = [self._whole, *(basis for basis, _, _ in self._inner)]
        return sum(m.nbytes for b in bases for m in (b.axes, b.factor, b.test_gram) if m is not None)

    @property
    def limits(self) -> tuple[float, float]:
        """Penalties beyond which nothing changes; see `RidgePlan`."""
        if not len(self._whole.values):
            return np.inf, 0.0
        return 0.01 * float(self._whole.values[0]), 100 * float(self._whole.values[-1])

    def predict(self, Y, rows=None) -> tuple[np.ndarray, np.ndarray]:
        """Fit the targets and predict the test rows that the plan was made with; see `RidgePlan.predict`."""
        return self.predict_with_loss(Y, rows)[:2]

    def predict_with_loss(self, Y, rows=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `predict`, and the inner error of each target at its best penalty; see `RidgePlan`."""
        n_targets = np.shape(Y)[1]
        prediction = empty_like_targets(Y, len(self._test_rows))
        best, least = np.empty(n_targets), np.full(n_targets, np.nan)
        for part, block, weights, alpha, loss in self._solve(Y, rows):
            offset = -(self._whole.mean @ weights)
            for where, window in self._series.chunks(self._test_rows):
                prediction[where, part] = block.restore(torch.addmm(offset, window, weights), prediction)
            best[part] = np.where(block.valid, alpha, np.nan)
            if loss is not None:
                least[part] = np.where(block.valid, loss.min(0), np.nan)
        return prediction, best, least

    def fit(self, Y):
        """Fit the targets.

        Returns
        -------
        coef : array of shape (n_delays, n_features, n_targets)
            From the shortest delay to the longest.
        intercept, best_alpha : array of shape (n_targets,)
        loss : array of shape (n_alphas, n_targets), or None
        """
        fits = []
        for _, block, weights, alpha, loss in self._solve(Y, None):
            coef = np.where(block.valid, to_numpy(weights) * block.sd, np.nan)
            intercept = block.mean - (to_numpy(self._whole.mean) + self._series.centers) @ coef
            loss = None if loss is None else np.where(block.valid, loss * block.sd**2, np.nan)
            fits.append((coef, intercept, np.where(block.valid, alpha, np.nan), loss))
        coef, intercept, alpha, losses = zip(*fits)
        coef = np.concatenate(coef, 1).reshape(self._series.n_lags, self._series.p, -1)[::-1].copy()
        return (coef, np.concatenate(intercept), np.concatenate(alpha),
                None if losses[0] is None else np.concatenate(losses, 1))

    def _solve(self, Y, rows):
        """Yield for each chunk of targets: columns, `TargetBlock`, weights of the delayed columns, penalties, loss."""
        n_targets = check_targets(Y, rows, self.n_samples)
        width = self._series.width
        size = rows_per_chunk(8 * (4 * self.n_samples + (len(self._parts) + 16) * width), self._whole.values.device)
        for start in range(0, n_targets, size):
            part = slice(start, min(start + size, n_targets))
            block = TargetBlock.of(Y[:, part] if rows is None else Y[rows, part], self._whole.values)
            sums = self._target_sums(block.values)
            loss = None if len(self.alphas) == 1 else self._loss(sums)
            best = torch.zeros(block.values.shape[1], dtype=torch.long) if loss is None else loss.argmin(0).cpu()
            alpha = self.alphas[best.numpy()]
            whole = _add_targets(sums)
            weights = self._whole.weights(whole.cross - torch.outer(self._whole.mean, whole.total),
                                          torch.as_tensor(alpha, device=whole.cross.device))
            yield part, block, weights, alpha, None if loss is None else to_numpy(loss)

    def _target_sums(self, values) -> list["_TargetSums"]:
        sums = []
        for part in self._parts:
            own = values if len(part.places) == len(values) else values[part.places]
            sums.append(_TargetSums(len(own), part.correlate(own).T, own.sum(0), own.square().sum(0)))
        return sums

    def _loss(self, sums):
        """Return the mean squared error of every penalty and target over the inner folds."""
        n_targets = sums[0].total.shape[0]
        loss = torch.zeros(len(self.alphas), n_targets, dtype=torch.float64, device=sums[0].total.device)
        tested = 0
        alphas = torch.as_tensor(self.alphas, device=loss.device)[:, None]
        for basis, train, test in self._inner:
            train, test = (_add_targets([sums[k] for k in side]) for side in (train, test))
            mean = train.total / train.n
            cross = test.cross - torch.outer(basis.mean, test.total) - torch.outer(basis.test_columns, mean)
            projected, cross = (basis.axes.T @ c.to(basis.axes.dtype) for c in (
                train.cross - torch.outer(basis.mean, train.total), cross))
            loss += test.squares - 2 * mean * test.total + test.n * mean**2
            filters = 1 / (basis.values + alphas.to(basis.values.dtype))
            loss -= 2 * filters @ (cross * projected)
            at_once = max(1, SMALL // max(projected.numel(), 1))
            for k in range(0, len(filters), at_once):
                shrunk = filters[k:k + at_once, :, None] * projected
                loss[k:k + at_once] += (shrunk * (basis.test_gram @ shrunk)).sum(1)
            tested += test.n
        return loss / tested


@dataclass(frozen=True)
class _TargetSums:
    n: int
    cross: torch.Tensor
    total: torch.Tensor
    squares: torch.Tensor


def _add_targets(parts) -> _TargetSums:
    return _TargetSums(*(sum(getattr(s, name) for s in parts) for name in ("n", "cross", "total", "squares")))


def plan_lagged(X, samples, *, runs=None, train=None, test=None, alphas=ALPHAS, inner_folds=None,
                standardize: bool = True, device="auto") -> LaggedPlan:
    """Decompose features at every delay of a range, for any number of targets.

    Parameters
    ----------
    X : array of shape (n, n_features)
        All rows of the recording: a training row may see a row before it that is not one.
    samples : array of int
        Delays, consecutive.
    runs : array of shape (n,), optional
    train, test : array of int, optional
        Rows to fit (by default all) and to predict, ascending.
    alphas, standardize, device
        As in `ridge_cv`; a column is a feature at a delay.
    inner_folds : Folds or iterable of (train, test), optional
        Over the training rows.
    """
    alphas = check_alphas(alphas)
    if isinstance(inner_folds, str):
        raise ValueError(f"inner_folds: got {inner_folds!r}; delays have no leave-one-out error in closed form. Pass "
                         "folds (neuroalign.stats.make_folds).")
    device = resolve(device)
    if device.type == "mps":  # it has no float64
        device = torch.device("cpu")
    series = LaggedSeries(X, np.asarray(samples), runs, device)
    train = np.arange(series.n) if train is None else np.asarray(train)
    folds = check_inner(inner_folds, len(train), len(alphas))
    places, sides = _split_rows(len(train), folds)
    parts = [Part(series, train[place], place) for place in places]
    sums = [part.sums() for part in parts]
    whole = _Basis.of(Sums.add(sums), standardize, only=alphas[0] if len(alphas) == 1 else None)
    dtype = torch.float64
    if series.width >= WIDE and len(whole.values):
        # The largest eigenvalue stands for the matrix: it says what float32 would lose beside the penalty.
        dtype = torch.float64 if needs_float64(whole.values[-1:].float(), alphas.min()) else torch.float32
    inner = []
    for pair in sides:
        fit, held_out = (Sums.add([sums[k] for k in side]) for side in pair)
        inner.append((_Basis.of(fit, standardize, dtype).beside(held_out), *pair))
    test = np.zeros(0, int) if test is None else np.asarray(test)
    return LaggedPlan(alphas, "delays, float64 decomposition", len(train), series, test, tuple(parts), tuple(inner),
                      whole)


def _split_rows(n: int, folds):
    """Split rows into parts that stand in the same sets of the folds, and are summed once.

    Returns
    -------
    places : list of array of int
        Rows of each part.
    sides : list of (train, test)
        Parts of each fold.
    """
    label = np.zeros(n, int)
    for rows in (rows for pair in folds for rows in pair):
        inside = np.zeros(n, int)
        inside[rows] = 1
        label = np.unique(2 * label + inside, return_inverse=True)[1]
    places = [np.flatnonzero(label == k) for k in range(label.max(initial=0) + 1)]
    return places, [tuple(np.unique(label[rows]) for rows in pair) for pair in folds]
