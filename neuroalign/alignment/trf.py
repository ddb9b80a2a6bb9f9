"""Temporal response functions: how responses follow features, delay by delay.

A ridge on features at every delay of a range (Crosse et al. 2016, Front. Hum. Neurosci. 10:604). The matrix of delayed
features is never made; see `neuroalign.alignment.lagged_series`.
"""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from neuroalign.alignment.encode import encode
from neuroalign.alignment.estimator import (
    as_array,
    check_columns,
    check_rows,
    column_labels,
    label_prediction,
    labels_of,
)
from neuroalign.alignment.lagged import plan_lagged
from neuroalign.alignment.lagged_series import LaggedSeries
from neuroalign.alignment.ridge import ALPHAS
from neuroalign.alignment.splits import make_layout
from neuroalign.data import align, as_spaces, scores
from neuroalign.errors import list_ids
from neuroalign.features.delays import delay_range, series_clock, shift_rows
from neuroalign.linalg import thread_limit
from neuroalign.stats import make_folds

__all__ = ["TRFEncoder", "TRFFit", "lag_scores", "trf_cv"]


@dataclass(frozen=True)
class TRFFit:
    """A fitted temporal response function.

    Attributes
    ----------
    weights : DataArray (feature, delay, neuroid)
        Of the features as given; ``delay`` in seconds, positive where responses come later.
    intercept : array of shape (n_targets,)
    best_alpha : array of shape (n_targets,)
        NaN for targets that hold NaN or are constant.
    loss : array of shape (n_alphas, n_targets)
        Mean squared error over the inner folds (None if there was one penalty only).
    samples : array of int
        The delays.
    """

    weights: xr.DataArray
    intercept: np.ndarray
    best_alpha: np.ndarray
    loss: np.ndarray | None
    samples: np.ndarray

    def predict(self, X, runs=None) -> np.ndarray:
        """Predict from a series of features (n_samples, n_features), shape (n_samples, n_targets).

        `runs` as in `trf_cv`. Before its first sample, and after its last, a run is taken for zero. A clock of `X` must
        have the sampling rate of the fit.
        """
        seconds, farthest = self.weights["delay"].values, np.abs(self.samples).argmax()
        if self.samples[farthest]:
            _check_rate(self.samples[farthest] / seconds[farthest], runs, X=X)
        X, runs = _series_of(X, runs)
        if np.ndim(X) != 2 or np.shape(X)[1] != self.weights.sizes["feature"]:
            raise ValueError(f"X: got shape {np.shape(X)}, expected (n_samples, {self.weights.sizes['feature']} "
                             "features).")
        series = LaggedSeries(X, self.samples, runs, torch.device("cpu"))
        # A window goes forwards in time, that is, from the longest delay to the shortest.
        ordered = self.weights.transpose("delay", "feature", "neuroid").values[::-1]
        coef = torch.as_tensor(ordered.reshape(-1, ordered.shape[-1]).copy())
        predicted, intercept = np.empty((series.n, coef.shape[1])), self.intercept + series.centers @ coef.numpy()
        for where, window in series.chunks(np.arange(series.n)):
            predicted[where] = (window @ coef).numpy() + intercept
        return predicted


def trf_cv(X, Y, *, tmin: float, tmax: float, sfreq: float | None = None, alphas=ALPHAS, inner_folds=None, runs=None,
           standardize: bool = True, device="auto") -> TRFFit:
    """Fit temporal response functions, each target with its own penalty.

    It equals `ridge_cv` of the delayed features (`neuroalign.features.delay`), which are zero where a run has no sample
    that long before.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        numpy, torch, or DataArray (time, feature).
    Y : array of shape (n_samples, n_targets)
    tmin, tmax : float
        Seconds of the first and the last delay, to the nearest sample; positive where responses come after features.
    sfreq : float, optional
        Samples a second; by default those of the clock of `X`, and refused where the clock has others.
    alphas : sequence of float
        Penalties, above 0.
    inner_folds : Folds or iterable of (train, test), optional
        How a penalty is chosen: the least mean squared error over these folds. Needed if there is more than one
        penalty; leave a gap of the longest delay between training and test rows.
    runs : array of shape (n_samples,), optional
        Run, trial or segment of each sample; by default the coord ``run`` of `X`, else of `Y`.
    standardize : bool
        Scale each feature at each delay by its standard deviation over the training rows of the fold at hand.
    device : str

    Returns
    -------
    TRFFit

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 1))
    >>> y = shift_rows(x, 2) - 0.5 * shift_rows(x, 3)
    >>> fit = trf_cv(x, y, tmin=0.0, tmax=0.4, sfreq=10, alphas=[1e-3])
    >>> fit.weights.sel(delay=[0.1, 0.2, 0.3]).values.ravel().round(2) + 0.0
    array([ 0. ,  1. , -0.5])
    """
    runs = _runs_of(runs, X, Y)
    if sfreq is None:
        if not isinstance(X, xr.DataArray):
            raise ValueError("sfreq: needed (samples a second) where X is no DataArray with a clock.")
        sfreq = 1 / series_clock(_with_runs(X, runs))[0]
    samples = delay_range(tmin, tmax, sfreq)
    _check_rate(sfreq, runs, X=X, Y=Y)
    if isinstance(X, xr.DataArray) and isinstance(Y, xr.DataArray) and "neuroid" in Y.dims:
        align({"X": X}, Y)
    labels = _labels(X, Y, samples / sfreq)
    X, runs = _series_of(X, runs)
    Y = np.asarray(Y.transpose("time", ...)) if isinstance(Y, xr.DataArray) and "time" in Y.dims else Y
    if np.ndim(X) != 2 or np.ndim(Y) != 2 or len(X) != len(Y):
        raise ValueError(f"X, Y: got shapes {np.shape(X)} and {np.shape(Y)}, expected (n_samples, n_features) and "
                         "(n_samples, n_targets) with equal rows.")
    width = np.shape(X)[1] * len(samples)
    with thread_limit(2.0 * len(X) * width * sum(np.shape(a)[1] for a in (X, Y)) + 10.0 * width**3):
        plan = plan_lagged(X, samples, runs=runs, alphas=alphas, inner_folds=inner_folds, standardize=standardize,
                           device=device)
        coef, intercept, best_alpha, loss = plan.fit(Y)
    weights = xr.DataArray(coef.transpose(1, 0, 2), dims=("feature", "delay", "neuroid"), coords=labels, name="weights")
    return TRFFit(weights, intercept, best_alpha, loss, samples)


class TRFEncoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Temporal response functions of many targets, each with its own penalty by inner cross-validation.

    Rows are the samples of a recording, in order. Series that are labelled by their clock may have no gap within a run:
    cross-validation that cuts samples out of their middle leaves two stretches, which are two runs.

    Parameters
    ----------
    tmin, tmax : float
        Seconds of the first and the last delay.
    sfreq : float
        Samples a second; refused where X or y have a clock with others.
    alphas : sequence of float, optional
        Penalties; by default 15 from 0.1 to 1e6.
    cv : int, str, splitter, table or Folds
        Inner folds that choose the penalties; an int is a number of contiguous blocks.
    n_splits : int
        Number of folds where `cv` is a name.
    gap : float, optional
        Seconds purged on both sides of a test block; by default the longest delay.
    standardize : bool
    device : str

    Attributes
    ----------
    coef_ : array of shape (n_targets, n_features, n_delays), or (n_features, n_delays) for one-dimensional y
    intercept_ : array of shape (n_targets,), or float
    delays_ : array of shape (n_delays,)
        Seconds.
    best_alpha_ : array of shape (n_targets,), or float
    weights_ : DataArray (feature, delay, neuroid)
    target_coords_ : dict
        Coords of the targets, if y was labelled; predictions carry them.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> encoder = TRFEncoder(0.0, 0.3, sfreq=10, alphas=[0.1, 1.0]).fit(x, shift_rows(x, 1))
    >>> encoder.coef_.shape, encoder.score(x, shift_rows(x, 1)) > 0.99
    ((2, 2, 4), True)
    """

    def __init__(self, tmin=0.0, tmax=0.0, sfreq=1.0, alphas=None, *, cv=5, n_splits=5, gap=None, standardize=True,
                 device="auto"):
        self.tmin = tmin
        self.tmax = tmax
        self.sfreq = sfreq
        self.alphas = alphas
        self.cv = cv
        self.n_splits = n_splits
        self.gap = gap
        self.standardize = standardize
        self.device = device

    def fit(self, X, y, runs=None):
        """Fit features (n_samples, n_features) to targets (n_samples[, n_targets]); `runs` as in `trf_cv`."""
        check_rows(X, y)
        self._columns = column_labels(X)
        runs = _runs_of(runs, X, y)
        samples = delay_range(self.tmin, self.tmax, self.sfreq)
        _check_rate(self.sfreq, runs, X=X, y=y)
        self.target_coords_, self._target_dims = labels_of(y)
        labels = _labels(X, y, samples / self.sfreq)
        X, y = validate_data(self, as_array(X), as_array(y), multi_output=True, y_numeric=True, dtype=np.float64,
                             ensure_min_samples=2)
        two = y.reshape(len(y), -1)
        alphas = ALPHAS if self.alphas is None else self.alphas
        longest = int(np.abs(samples).max())
        gap = longest if self.gap is None else int(np.ceil(round(self.gap * self.sfreq, 6)))
        if gap < longest and np.size(alphas) > 1:
            raise ValueError(f"gap: got {self.gap:g} s, shorter than the longest delay, {longest / self.sfreq:g} s. "
                             "Leave gap=None, or give at least as much.")
        folds = None if np.size(alphas) == 1 else make_folds(
            self.cv, len(X), n_splits=min(self.n_splits, len(X)), gap=gap, runs=runs, time_series=True,
            groups=runs if isinstance(self.cv, str) and self.cv in ("groups", "leave-one-group-out") else None)
        fit = trf_cv(X, two, tmin=self.tmin, tmax=self.tmax, sfreq=self.sfreq, alphas=alphas, inner_folds=folds,
                     runs=runs, standardize=self.standardize, device=self.device)
        # A constant target is no error to an estimator: its best prediction is the constant.
        constant = np.isnan(fit.best_alpha)
        values = np.where(constant, 0.0, fit.weights.values)
        intercept = np.where(constant, two.mean(0, dtype=np.float64), fit.intercept)
        self.weights_ = fit.weights.copy(data=values).assign_coords(labels)
        coef = values.transpose(2, 0, 1)
        self.delays_ = samples / self.sfreq
        self.coef_, self.intercept_, self.best_alpha_ = (coef, intercept, fit.best_alpha) if y.ndim > 1 else (
            coef[0], float(intercept[0]), fit.best_alpha[0])
        self._fit = TRFFit(self.weights_, intercept, fit.best_alpha, fit.loss, samples)
        return self

    def predict(self, X, runs=None):
        """Predict targets from a series, shape (n_samples[, n_targets]); labelled if y was labelled and X is."""
        check_is_fitted(self)
        check_columns(X, self._columns)
        runs = _runs_of(runs, X)
        _check_rate(self.sfreq, runs, X=X)
        predicted = self._fit.predict(validate_data(self, as_array(X), reset=False, dtype=np.float64), runs)
        predicted = predicted if self.coef_.ndim == 3 else predicted[:, 0]
        return label_prediction(predicted, X, self.target_coords_, self._target_dims)

    def score(self, X, y, sample_weight=None):
        """Return R² of the predictions, the mean over targets; labelled rows must be those of X, as in `fit`."""
        check_rows(X, y)
        return super().score(X, as_array(y), sample_weight)


def lag_scores(features, responses: xr.DataArray, *, tmin: float, tmax: float, gap: float | None = None,
               **options) -> xr.Dataset:
    """Score each single delay by itself: how well features predict the responses that come so much later.

    Parameters
    ----------
    features : DataArray (time, feature), mapping or list of them
    responses : DataArray (time, neuroid)
    tmin, tmax : float
        Seconds of the first and the last delay, to the nearest sample.
    gap : float, optional
        As in `encode`; the folds of all delays are the same.
    **options
        Of `encode`, but for `delays` and `trf`; `baselines`, the same for all delays, are left out unless asked for.

    Returns
    -------
    Dataset
        Scores in which every space occurs once for each delay, ``SPACE@0.1s``, with a coord ``delay`` (seconds); ``q``
        is over neuroids, within a delay. Neighbouring delays of a smooth series score alike: a delay that scores
        well need not be one of the response.

    Examples
    --------
    >>> from neuroalign.data import make_features, make_responses
    >>> x, clock = np.random.default_rng(0).standard_normal((100, 1)), np.arange(100) * 0.5
    >>> features = make_features(x, clock, model="toy", dim="time")
    >>> responses = make_responses(shift_rows(x, 1), clock, ["v1"], dim="time", kind="eeg")
    >>> found = lag_scores(features, responses, tmin=0.0, tmax=1.0, metric="r.pooled")
    >>> found.delay.values.tolist(), found.score.values.ravel().round(1).tolist()[1]
    ([0.0, 0.5, 1.0], 1.0)
    """
    for name in ("delays", "trf"):
        if name in options:
            raise ValueError(f"{name}: got {options[name]!r}, but lag_scores takes each delay from tmin to tmax by "
                             f"itself. Leave {name} out, or use encode({name}=...) for delays that predict together.")
    spaces = as_spaces(features)
    off = [name for name, space in spaces.items() if "time" not in space.dims]
    if off or "time" not in responses.dims:
        raise ValueError(f"{'features ' + list_ids(off) if off else 'responses'}: not on 'time', so nothing can be "
                         "later. Put events in time by events_to_samples first.")
    step, runs = series_clock(responses)
    samples = delay_range(tmin, tmax, 1 / step)
    longest = float(np.abs(samples).max() * step)
    gap = make_layout(responses, None, gap, options.get("hrf"), longest).gap_seconds
    options = {"baselines": (), **options}
    found = []
    for k in samples:
        seconds = round(float(k * step), 6)
        moved = {f"{name}@{seconds:g}s": space.transpose("time", "feature").copy(
            data=shift_rows(np.asarray(space.transpose("time", "feature").values), int(k), runs))
            for name, space in spaces.items()}
        part = encode(moved, responses, gap=gap, **options)
        found.append(part.assign_coords(delay=("space", np.full(part.sizes["space"], seconds))))
    return scores.concat(found)


def _series_of(X, runs):
    """Return the values of a series and the run of each of its samples."""
    runs = _runs_of(runs, X)
    if not isinstance(X, xr.DataArray):
        return X, runs
    return np.asarray(X.transpose("time", ...) if "time" in X.dims else X), runs


def _runs_of(runs, *series):
    """Return `runs`, or else the run of each sample as the first of the series says that has them."""
    if runs is not None:
        return runs
    return next((a["run"].values for a in series if isinstance(a, xr.DataArray) and "run" in a.coords
                 and a["run"].ndim == 1), None)


def _with_runs(array: xr.DataArray, runs) -> xr.DataArray:
    if "time" not in array.dims or np.shape(runs) != (array.sizes["time"],):
        return array
    return array.assign_coords(run=("time", np.asarray(runs)))


def _check_rate(sfreq, runs, **series) -> None:
    """Refuse series (argument name: array) whose clock has other than `sfreq` samples a second."""
    for name, array in series.items():
        if not (isinstance(array, xr.DataArray) and "time" in array.coords and array["time"].dims == ("time",)
                and array.sizes["time"] > 1):
            continue
        rate = 1 / series_clock(_with_runs(array, runs))[0]
        if abs(rate / sfreq - 1) > 0.01:
            raise ValueError(f"sfreq: got {sfreq:g} samples a second, expected the {rate:.6g} of the clock of {name}: "
                             f"delays in seconds would be wrong. Set sfreq={rate:.6g}.")


def _labels(X, Y, seconds) -> dict:
    labels = {"delay": seconds}
    for array, dim in ((X, "feature"), (Y, "neuroid")):
        if isinstance(array, xr.DataArray):
            labels |= {k: v for k, v in array.coords.items() if v.dims == (dim,)}
    return labels
