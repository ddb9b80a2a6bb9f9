"""Banded ridge: a penalty for each feature space (band), chosen for each target by inner cross-validation.

The columns of band s are scaled by sqrt(gamma_s), gamma on the simplex, and one penalty alpha stands on all: band s
is shrunk by alpha / gamma_s (Nunez-Elizalde, Huth & Gallant 2019, NeuroImage 197:482). Gammas are searched at random
on the simplex (Dupré la Tour et al. 2022, NeuroImage 264:119728), and may be refined by descent. One Gram matrix a
fold serves all candidates, penalties and targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neuroalign.alignment.band_fit import BandedFit
from neuroalign.alignment.band_grams import DualGram, PrimalGram, Spectrum
from neuroalign.alignment.band_refine import refine_deltas, solves_at_once
from neuroalign.alignment.ridge import ALPHAS, CACHE, add_squared_errors, centre_of, operations
from neuroalign.alignment.ridge_inputs import (
    TargetBlock,
    check_alphas,
    check_inner,
    check_targets,
    empty_like_targets,
    prepare_design,
)
from neuroalign.errors import check_option
from neuroalign.linalg import needs_float64, resolve, rows_per_chunk, surely_needs_float64, thread_limit, to_numpy
from neuroalign.stats import child_rng

__all__ = ["BandedPlan", "band_candidates", "banded_ridge_cv", "plan_banded"]

DOUBT = 1.01  # an error in float32 that is so near to the least may be less in truth
CONCENTRATIONS = (0.1, 1.0)  # of the Dirichlet draws, in turn: few bands at a time, all of them


def banded_ridge_cv(Xs: Sequence, Y, *, alphas=ALPHAS, n_candidates=20, inner_folds=None, refine: int = 0,
                    tolerance: float = 1e-4, standardize: bool = True, solver: str = "auto", random_state: int = 0,
                    device="auto") -> BandedFit:
    """Fit ridge regressions of several feature spaces at once, with a penalty for each space and target.

    Parameters
    ----------
    Xs : sequence of arrays of shape (n_samples, n_features)
        The bands; numpy, torch or xarray.
    Y : array of shape (n_samples, n_targets)
    alphas : sequence of float
        Penalties, above 0.
    n_candidates : int, or array of shape (n_candidates, n_bands)
        How many gammas are tried, or the gammas themselves (`band_candidates`): all equal, each band alone, then
        draws from the Dirichlet distribution.
    inner_folds : Folds or iterable of (train, test)
        Choose the gammas and the penalty of each target by the least mean squared error over these folds.
    refine : int
        Most steps of descent (Gauss-Newton, damped) of each target from the best candidate. Each step solves every
        target by itself in every fold, so it costs about as much as one target a candidate.
    tolerance : float
        A target stops once a step lowers its error by less than this share.
    standardize : bool
        Scale each feature by its standard deviation over the training rows of the fold at hand.
    solver : {"auto", "primal", "dual"}
        Gram matrices of features or of rows; auto takes the smaller.
    random_state : int
        Of the draws.
    device : str

    Returns
    -------
    BandedFit

    Examples
    --------
    >>> from neuroalign.stats import make_folds
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.standard_normal((2, 80, 5))
    >>> fit = banded_ridge_cv([a, b], a[:, :1], inner_folds=make_folds("kfold", 80))
    >>> fit.gammas.round(2).ravel().tolist()
    [1.0, 0.0]
    """
    alphas = check_alphas(alphas)
    n, p = np.shape(Y)[0], sum(np.shape(X)[-1] for X in Xs)
    with thread_limit(operations((n, p), np.shape(Y), len(alphas))):
        plan = plan_banded(Xs, alphas=alphas, n_candidates=n_candidates, inner_folds=inner_folds, refine=refine,
                           tolerance=tolerance, standardize=standardize, solver=solver, random_state=random_state,
                           device=device)
        return plan.fit(Y)


def band_candidates(n_bands: int, n_candidates: int = 20, random_state: int = 0) -> np.ndarray:
    """Gammas to try, shape (n_candidates, n_bands): the centre of the simplex, its corners, then random draws.

    The draws have concentration 0.1 and 1 in turn; for one band there is one candidate.

    Examples
    --------
    >>> band_candidates(2, 4).round(1)[:3].tolist()
    [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]
    """
    if not isinstance(n_candidates, (int, np.integer)) or isinstance(n_candidates, bool) or n_candidates < 1:
        raise ValueError(f"n_candidates: got {n_candidates!r}, expected an integer of at least 1, or gammas of shape "
                         "(n_candidates, n_bands).")
    if n_bands == 1:
        return np.ones((1, 1))
    fixed = np.concatenate([np.full((1, n_bands), 1 / n_bands), np.eye(n_bands)])
    rng = child_rng(random_state, "gammas of banded ridge")
    draws = [rng.dirichlet(np.full(n_bands, CONCENTRATIONS[k % 2])) for k in range(n_candidates - len(fixed))]
    return np.concatenate([fixed, np.reshape(draws, (-1, n_bands))])[:n_candidates]


def plan_banded(Xs: Sequence, X_tests: Sequence | None = None, *, alphas=ALPHAS, n_candidates=20, inner_folds=None,
                refine: int = 0, tolerance: float = 1e-4, standardize: bool = True, solver: str = "auto",
                random_state: int = 0, device="auto", hold: bool = False) -> "BandedPlan":
    """Make the Gram matrices of a design of several bands once, for any number of targets.

    Parameters
    ----------
    Xs : sequence of arrays of shape (n_samples, n_features)
    X_tests : sequence of arrays of shape (n_test, n_features), optional
        Rows that `BandedPlan.predict` predicts.
    alphas, n_candidates, inner_folds, refine, tolerance, standardize, solver, random_state, device
        As in `banded_ridge_cv`.
    hold : bool
        Keep the decompositions of all candidates, for many calls of `BandedPlan.predict`.
    """
    alphas = check_alphas(alphas)
    check_option("solver", solver, ("auto", "primal", "dual"))
    Xs, n = _check_bands(Xs)
    X_tests = [None] * len(Xs) if X_tests is None else list(X_tests)
    candidates = _check_candidates(n_candidates, len(Xs), random_state)
    if not isinstance(refine, (int, np.integer)) or refine < 0:
        raise ValueError(f"refine: got {refine!r}, expected a number of steps of at least 0.")
    if isinstance(inner_folds, str):
        raise ValueError(f"inner_folds: got {inner_folds!r}; the leave-one-out error in closed form is of plain ridge "
                         "only. Pass folds (neuroalign.stats.make_folds).")
    n_choices = len(alphas) * len(candidates)
    if inner_folds is None and (n_choices > 1 or refine):
        raise ValueError(f"inner_folds: needed to choose between {len(candidates)} candidates and {len(alphas)} alphas"
                         f"{' and to refine them' if refine else ''}. Pass folds (neuroalign.stats.make_folds).")
    folds = check_inner(inner_folds, n, n_choices + bool(refine))
    device = resolve(device)
    widths = [np.shape(X)[1] for X in Xs]
    ends = np.cumsum(widths)
    slices = [slice(int(end - width), int(end)) for end, width in zip(ends, widths)]
    dual = solver == "dual" or (solver == "auto" and ends[-1] > n)
    design, shift, factor = _stack(Xs, X_tests, standardize, device, torch.float32)
    rows = design[:n]
    wide = (surely_needs_float64(rows, alphas.min())
            or needs_float64(rows @ rows.T if dual else rows.T @ rows, alphas.min()))
    if wide:
        design, shift, factor = _stack(Xs, X_tests, standardize, device, torch.float64)
    total = _total(design[:n], slices, dual, standardize)
    make = DualGram if dual else PrimalGram
    index = torch.arange(len(design), device=device)
    inner = []
    for train, test in folds:
        train, test = (torch.as_tensor(i, device=device) for i in (train, test))
        inner.append((make(design[:n], train, test, slices, standardize, total), train, test))
    whole = make(design, index[:n], index[n:], slices, standardize)
    name = f"banded, {'dual' if dual else 'primal'}, {'float64' if wide else 'float32'} decomposition"
    return BandedPlan(alphas, candidates, name, n, int(refine), float(tolerance), hold, tuple(inner), whole, shift,
                      factor)


@dataclass(frozen=True)
class BandedPlan:
    """The Gram matrices of a design of several bands, ready for any number of targets (see `plan_banded`).

    Attributes
    ----------
    alphas : array of shape (n_alphas,)
    candidates : array of shape (n_candidates, n_bands)
    solver : str
    """

    alphas: np.ndarray
    candidates: np.ndarray
    solver: str
    n_samples: int
    refine: int
    tolerance: float
    hold: bool
    _inner: tuple = field(repr=False)
    _whole: PrimalGram | DualGram = field(repr=False)
    _shift: torch.Tensor = field(repr=False)
    _factor: torch.Tensor = field(repr=False)
    _held: dict = field(default_factory=dict, repr=False)

    @property
    def widths(self) -> list[int]:
        """Columns of each band."""
        return [s.stop - s.start for s in self._whole.slices]

    @property
    def limits(self) -> tuple[float, float]:
        """Penalties beyond which nothing changes, as `RidgePlan.limits`, for the first candidate."""
        values = self._spectrum(None, 0).values
        values = values[values > 1e-6 * values[-1]]
        return (0.01 * float(values[0]), 100 * float(values[-1])) if len(values) else (np.inf, 0.0)

    def predict(self, Y, rows=None) -> tuple[np.ndarray, np.ndarray]:
        """Fit the targets and predict the test rows, as `RidgePlan.predict`."""
        prediction, best_alpha, _, _ = self._predict(Y, rows, bands=False)
        return prediction, best_alpha

    def predict_bands(self, Y, rows=None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Fit the targets and predict the test rows, by all bands and by each.

        Returns
        -------
        prediction : float32 array of shape (n_test, n_targets)
        best_alpha : array of shape (n_targets,)
        gammas : array of shape (n_bands, n_targets)
        bands : float32 array of shape (n_bands, n_test, n_targets)
            What each band adds to the mean of the training targets.
        """
        return self._predict(Y, rows, bands=True)

    def fit(self, Y) -> BandedFit:
        """Fit the targets and return the model."""
        found = []
        for _, block in self._chunks(Y, None):
            weights, gammas, alpha, loss, best_loss = self._solve(block.values)
            coef = to_numpy(self._whole.coef(weights, gammas)) * block.sd
            losses = [None if x is None else np.where(block.valid, to_numpy(x) * block.sd**2, np.nan)
                      for x in (loss, best_loss)]
            found.append((np.where(block.valid, to_numpy(gammas), np.nan), np.where(block.valid, alpha, np.nan),
                          *losses, np.where(block.valid, coef, np.nan), block.mean))
        gammas, alpha, loss, best_loss, coef, mean = (None if x[0] is None else np.concatenate(x, -1)
                                                      for x in zip(*found))
        coef *= to_numpy(self._factor)[:, None]
        centre = to_numpy(centre_of(self._shift, self._factor, self._whole.mean)).astype(np.float64)
        slices = self._whole.slices
        return BandedFit(gammas.astype(np.float64), alpha, loss, best_loss, self.candidates, [coef[s] for s in slices],
                         mean - centre @ coef, [centre[s] for s in slices])

    def _predict(self, Y, rows, bands):
        n_targets, n_bands, n_test = np.shape(Y)[1], len(self._whole.slices), len(self._whole.test)
        prediction, best_alpha = empty_like_targets(Y, n_test), np.empty(n_targets)
        gammas = np.empty((n_bands, n_targets))
        parts = np.empty((n_bands, n_test, n_targets), np.float32) if bands else None
        for part, block in self._chunks(Y, rows):
            weights, own, alpha, _, _ = self._solve(block.values)
            added = self._whole.predict(weights, own)
            prediction[:, part] = block.restore(added.sum(0), prediction)
            best_alpha[part] = np.where(block.valid, alpha, np.nan)
            gammas[:, part] = np.where(block.valid, to_numpy(own), np.nan)
            if bands:
                parts[..., part] = np.where(block.valid, to_numpy(added) * block.sd, np.nan)
        return prediction, best_alpha, gammas, parts

    def _chunks(self, Y, rows):
        n_targets = check_targets(Y, rows, self.n_samples)
        numbers = 3 * self.n_samples + 3 * self._whole.size + len(self.candidates) * len(self.alphas)
        size = rows_per_chunk(4 * numbers, self._shift.device)
        for start in range(0, n_targets, size):
            part = slice(start, min(start + size, n_targets))
            block = Y[:, part] if rows is None else Y[rows, part]
            yield part, TargetBlock.of(block, torch.empty(0, device=self._shift.device))

    def _solve(self, Y):
        """Return the weights, gammas, penalties, the loss of each candidate, and the loss of what was chosen."""
        n_targets, gammas = Y.shape[1], torch.as_tensor(self.candidates, dtype=torch.float32, device=Y.device)
        loss = chosen = None
        flat = torch.zeros(n_targets, dtype=torch.long, device=Y.device)
        if self._inner:
            losses = self._search(Y)
            chosen, flat = losses.flatten(0, 1).min(0)
            loss = losses.amin(1)
        which, alphas = flat // len(self.alphas), self.alphas[to_numpy(flat % len(self.alphas))]
        weights = self._refit(Y, which, torch.as_tensor(alphas, dtype=Y.dtype, device=Y.device))
        gammas = gammas[which].T
        if self.refine:
            penalties = torch.as_tensor(alphas, dtype=gammas.dtype, device=Y.device)
            folds = [(g, g.reduce(Y[i] - Y[i].mean(0)), Y[j] - Y[i].mean(0)) for g, i, j in self._inner]
            bounds = (-np.log(self.alphas.max()) - 3, -np.log(self.alphas.min()) + 3)
            deltas, better, lower = refine_deltas(folds, (gammas / penalties).log(), self.refine, self.tolerance,
                                                  bounds)
            if len(better):
                gammas, alphas = gammas.clone(), alphas.copy()
                alphas[to_numpy(better)] = to_numpy((-deltas.logsumexp(0)).exp())
                gammas[:, better] = deltas.softmax(0).to(gammas)
                chosen[better] = lower.to(chosen)
                reduced = self._whole.reduce(Y)
                for part in torch.arange(len(better), device=Y.device).split(solves_at_once(self._whole.size, Y)):
                    own = better[part]
                    weights[:, own] = self._whole.solve(deltas[:, part], reduced[:, own])[0]
        return weights, gammas, alphas, loss, chosen

    def _search(self, Y):
        """Mean squared error of every candidate, penalty and target, (n_candidates, n_alphas, n_targets).

        Decompositions in float32 take half the time, but are in doubt for penalties that are small beside the
        largest eigenvalues. Targets that such a penalty may serve best are searched again in float64.
        """
        if self._whole.mean.dtype == torch.float32:
            return self._losses(Y, torch.float32)
        norm = max(map(self._norm, range(len(self.candidates))))
        small = torch.as_tensor(self.alphas < 100 * torch.finfo(torch.float32).eps * norm, device=Y.device)
        if small.all():
            return self._losses(Y, torch.float64)
        losses = self._losses(Y, torch.float32)
        if small.any():
            least, place = losses[:, ~small].amin(0).min(0)
            at_edge = place == int(self.alphas[~to_numpy(small)].argmin())
            near = losses[:, small].amin((0, 1)) < DOUBT * least
            doubtful = torch.nonzero(at_edge | near).ravel()
            if len(doubtful):
                losses[..., doubtful] = self._losses(Y[:, doubtful], torch.float64)
        return losses

    def _losses(self, Y, dtype):
        total = torch.zeros(len(self.candidates), len(self.alphas), Y.shape[1], dtype=Y.dtype, device=Y.device)
        n_tested = 0
        for fold, (gram, train, test) in enumerate(self._inner):
            mean = Y[train].mean(0)
            reduced, target = gram.reduce(Y[train] - mean), Y[test] - mean
            size = rows_per_chunk(4 * (3 * gram.size + 2 * len(test)), Y.device,
                                  limit=CACHE if Y.device.type == "cpu" else 2**29)
            for k in range(len(self.candidates)):
                spectrum = self._spectrum(fold, k, dtype)
                for start in range(0, Y.shape[1], size):
                    part = slice(start, start + size)
                    add_squared_errors(total[k, :, part], spectrum, spectrum.project(reduced[:, part]),
                                        target[:, part], self.alphas)
            n_tested += len(test)
        return total / n_tested

    def _refit(self, Y, which, penalties):
        reduced = self._whole.reduce(Y)
        weights = torch.empty_like(reduced, dtype=self._whole.mean.dtype)
        for k in which.unique().tolist():
            own = torch.nonzero(which == k).ravel()
            rounding = torch.finfo(torch.float32).eps * self._norm(k)
            dtype = torch.float32 if 1e4 * rounding < penalties[own].min() else None
            weights[:, own] = self._spectrum(None, k, dtype).weights(reduced[:, own], penalties[own]).to(weights)
        return weights

    def _norm(self, k) -> float:
        return self._whole.norm(torch.as_tensor(self.candidates[k], device=self._shift.device))

    def _spectrum(self, fold, k, dtype=None) -> Spectrum:
        dtype = self._whole.mean.dtype if dtype is None else dtype
        if (fold, k, dtype) in self._held:
            return self._held[fold, k, dtype]
        gram = self._whole if fold is None else self._inner[fold][0]
        found = gram.spectrum(torch.as_tensor(self.candidates[k], device=self._shift.device), dtype)
        if self.hold:
            self._held[fold, k, dtype] = found
        return found


def _stack(Xs, X_tests, standardize, device, dtype):
    """Stack the bands side by side, training and test rows centred (and scaled) by the training rows."""
    parts = []
    for k, (X, test) in enumerate(zip(Xs, X_tests)):
        try:
            parts.append(prepare_design(X, test, standardize, device, dtype))
        except ValueError as error:
            raise ValueError(f"band {k}: {error}") from None
    return tuple(torch.cat(list(p), -1) for p in zip(*parts))


def _total(rows, slices, dual, standardize):
    """What folds start from; Gram matrices of rows serve them only if nothing is scaled by its own training rows."""
    if dual:
        return None if standardize else torch.stack([rows[:, s] @ rows[:, s].T for s in slices])
    return rows.T @ rows


def _check_bands(Xs):
    Xs = list(Xs)
    if not Xs:
        raise ValueError("Xs: got no bands, expected arrays of shape (n_samples, n_features).")
    for k, X in enumerate(Xs):
        if np.ndim(X) != 2:
            raise ValueError(f"Xs[{k}]: got {np.ndim(X)} dims, expected (n_samples, n_features). Pass a list of "
                             "arrays.")
        if len(X) != len(Xs[0]):
            raise ValueError(f"Xs[{k}]: {len(X)} rows, Xs[0] has {len(Xs[0])}.")
    return Xs, len(Xs[0])


def _check_candidates(n_candidates, n_bands, random_state) -> np.ndarray:
    if np.ndim(n_candidates) == 0:
        return band_candidates(n_bands, n_candidates, random_state)
    gammas = np.asarray(n_candidates, dtype=np.float64)
    usable = gammas.ndim == 2 and len(gammas) and gammas.shape[1] == n_bands and np.isfinite(gammas).all()
    if not usable or (gammas < 0).any() or not np.allclose(gammas.sum(1), 1, atol=1e-6):
        raise ValueError(f"n_candidates: got gammas of shape {gammas.shape}, expected (n_candidates, {n_bands} bands), "
                         "none below 0, each row summing to 1.")
    return gammas
