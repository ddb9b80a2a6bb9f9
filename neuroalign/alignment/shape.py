"""Shape distances and linear predictivity: how well one space is a rotation, or a linear map, of another.

Shape distances (Williams et al. 2021, NeurIPS) are proper metrics: 0 for spaces that a rotation maps on each
other, symmetric, with the triangle inequality. Predictivity is cross-validated, and has a direction.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from neuroalign.alignment.feature_basis import FeatureBasis, check_pair, compact_rows, feature_basis, host_of
from neuroalign.linalg import eigh_psd, free_memory, resolve
from neuroalign.stats import Folds, make_folds

__all__ = ["RidgeSide", "angular_distance", "angular_score", "linear_predictivity", "predictivity_score",
           "procrustes_distance", "procrustes_score"]

PENALTIES = tuple(10.0**k for k in range(-4, 4))
FOLDS = 5
LIMIT = 2**31  # bytes of the matrices of all folds that are kept


def procrustes_distance(x, y, *, scale: bool = True, device="auto") -> float:
    """Euclidean distance of two centred feature spaces after the best rotation (and reflection) of one.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
        The narrower one is padded with zeros.
    scale : bool
        Scale both to unit norm first; the distance is then at most sqrt(2).
    device : str

    Returns
    -------
    float
        NaN if either side is constant or holds NaN.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((20, 3))
    >>> procrustes_distance(x, 2 * x[:, ::-1] + 1) < 1e-7
    True
    """
    a, b = _bases(x, y, device)
    return float(procrustes_score(a, b) if scale else _distance(a, b, a.singular, b.singular))


def angular_distance(x, y, *, alpha: float = 1.0, device="auto") -> float:
    """Angle between two centred feature spaces after the best rotation of one, in radians.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    alpha : float
        1 keeps the spaces as they are (Procrustes), 0 whitens both (a CCA distance), between them singular
        values become ``alpha s + (1 - alpha)``.
    device : str

    Returns
    -------
    float
        0 to pi / 2; NaN if either side is constant or holds NaN.

    Notes
    -----
    The angle itself (``arccos``) is returned, as netrep's ``score_method="angular"`` does; the cosine of it is a
    similarity, not a metric. Partial whitening mixes lengths with units, so that its meaning depends on the
    scale of the features: here singular values are first scaled to a mean square of 1, so that features in other
    units give the same distance. At alpha 0 and 1 this changes nothing.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((20, 3))
    >>> angular_distance(x, -x) < 1e-6
    True
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: got {alpha}, expected 0 (whitened) to 1 (as they are).")
    return float(angular_score(*_bases(x, y, device), alpha))


def procrustes_score(a: FeatureBasis, b: FeatureBasis) -> torch.Tensor:
    """Procrustes distance of prepared features of unit norm, one value an order of the stimuli."""
    return _distance(a, b, a.singular / a.singular.norm(), b.singular / b.singular.norm())


def angular_score(a: FeatureBasis, b: FeatureBasis, alpha: float) -> torch.Tensor:
    """Angular distance of prepared features, one value an order of the stimuli."""
    s, t = (alpha * v.singular / (v.singular**2).mean().sqrt() + (1 - alpha) for v in (a, b))
    return torch.arccos(_overlap(a, b, s / s.norm(), t / t.norm()).clamp(max=1))


def linear_predictivity(x, y, *, penalties=PENALTIES, cv=FOLDS, groups=None, random_state: int = 0,
                        device="auto") -> float:
    """Share of the variance of y that ridge regression on x predicts in held-out stimuli.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    penalties : sequence of float
        In units of the mean squared length of the centred training rows; chosen in each fold by the
        leave-one-out error of its training rows.
    cv, groups, random_state
        As in `neuroalign.stats.make_folds`.
    device : str

    Returns
    -------
    float
        1 - SSE / SST over all features of y and all folds, where SST is the error of the training mean: at most
        1, below 0 where x misleads. Swap the arguments for the other direction.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((80, 4))
    >>> y = x[:, :2] @ rng.standard_normal((2, 6))
    >>> linear_predictivity(x, y) > 0.99, linear_predictivity(y, x) < 0.7
    (True, True)
    """
    x, y = check_pair(x, y)
    penalties = tuple(float(v) for v in np.atleast_1d(penalties))
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"penalties: got {penalties}, expected numbers above 0.")
    device = host_of(resolve(device))
    folds = make_folds(cv, len(x), groups=groups, random_state=random_state)
    a, b = (replace(RidgeSide.of(v, device), folds=folds, penalties=penalties) for v in (x, y))
    return float(predictivity_score(a, b))


@dataclass(frozen=True)
class RidgeSide:
    """Features as predictors or as what is predicted; only inner products of rows count for either.

    The squared error of a ridge prediction is ``sum(M * K)``, where K is the Gram matrix of what is predicted and
    M follows from predictor, fold and penalty alone: K in another order of the stimuli needs no new fit.

    Attributes
    ----------
    rows : tensor of shape (n_stimuli, n_columns)
    usable : bool
    orders : tensor of int, shape (n_orders, n_stimuli), or None
    """

    rows: torch.Tensor
    usable: bool
    orders: torch.Tensor | None = None
    folds: Folds | None = None
    penalties: tuple[float, ...] = PENALTIES

    @classmethod
    def of(cls, values, device) -> "RidgeSide":
        """Prepare features."""
        device = host_of(device)
        basis = feature_basis(compact_rows(np.asarray(values), device), device)
        n = basis.n_stimuli
        rows = basis.left * (basis.singular / basis.singular.norm().clamp_min(1e-300))
        return cls(rows, basis.usable, folds=make_folds("kfold", n, n_splits=min(FOLDS, n // 2)))

    def take(self, orders: torch.Tensor) -> "RidgeSide":
        """Return the features of stimuli in several orders; folds move with the rows of the predictor."""
        moved = replace(self, orders=orders)
        moved.__dict__["moments"] = self.moments
        return moved

    @property
    def gram(self) -> torch.Tensor:
        """Inner products of the rows."""
        return self.rows @ self.rows.T

    @cached_property
    def moments(self) -> list:
        """Matrices M of each fold: left-out training rows, test rows (a penalty each), and the training mean."""
        n = len(self.rows)
        size = 8 * n * n * (2 * len(self.penalties) + 1) * len(self.folds)
        fits = size <= min(LIMIT, free_memory(self.rows.device) / 4)
        return [_fold_moments(self, *ends) if fits else ends for ends in self.folds]

    def moments_of(self, fold: int):
        """Return those of one fold; made anew where all of them together would not fit."""
        found = self.moments[fold]
        return _fold_moments(self, *found) if isinstance(found[0], np.ndarray) else found


def predictivity_score(predictor: RidgeSide, predicted: RidgeSide) -> torch.Tensor:
    """Cross-validated R² of prepared features, one value an order of the stimuli."""
    if not (predictor.usable and predicted.usable):
        return torch.tensor(torch.nan)
    gram = predicted.gram
    # A predictor in another order is the predicted side in the inverse order.
    orders = predicted.orders if predictor.orders is None else torch.argsort(predictor.orders, dim=1)
    if orders is not None:
        gram = gram[orders[:, :, None], orders[:, None, :]]
    flat = gram.reshape(-1, gram.shape[-1]**2)
    error = total = 0
    for fold in range(len(predictor.folds)):
        inner, outer, mean = predictor.moments_of(fold)
        best = (flat @ inner.T).argmin(1, keepdim=True)
        error = error + (flat @ outer.T).gather(1, best)[:, 0]
        total = total + flat @ mean
    found = 1 - error / total
    return found if orders is not None else found[0]


def _bases(x, y, device):
    device = resolve(device)
    return [feature_basis(v, device) for v in check_pair(x, y)]


def _distance(a, b, s, t):
    """Distance of spaces with the given singular values after the best rotation."""
    return ((s**2).sum() + (t**2).sum() - 2 * _overlap(a, b, s, t)).clamp_min(0).sqrt()


def _overlap(a, b, s, t):
    """Inner product of the same: the nuclear norm of the product of the two."""
    if not (a.usable and b.usable):
        return torch.tensor(torch.nan)
    return torch.linalg.svdvals(s[:, None] * (a.left.mT @ b.left) * t).sum(-1)


def _fold_moments(side: RidgeSide, train, test):
    """The matrices M of one fold, flat: (n_penalties, n * n) twice, and (n * n,)."""
    n, m = len(side.rows), len(train)
    train, test = (torch.as_tensor(i, device=side.rows.device) for i in (train, test))
    part = side.rows[train]
    centred, others = part - part.mean(0), side.rows[test] - part.mean(0)
    values, vectors = eigh_psd(centred @ centred.T)
    kept = values > 1e-12 * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    # Coefficients of the test rows on the training rows are coords @ diag(1 / (values + penalty)) @ vectors.T.
    coords = others @ (centred.T @ vectors)
    unit = float((centred * centred).sum() / m)
    inner, outer = (torch.zeros((len(side.penalties), n * n), dtype=torch.float64, device=side.rows.device)
                    for _ in range(2))
    identity = torch.eye(m, dtype=torch.float64, device=side.rows.device)
    for k, penalty in enumerate(side.penalties):
        shrink = 1 / (values + penalty * unit)
        hat = (vectors * (values * shrink)) @ vectors.T + 1 / m
        left_out = (identity - hat) / (1 - hat.diagonal())[:, None]
        inner[k].view(n, n)[train[:, None], train[None, :]] = left_out.T @ left_out
        weights = torch.zeros((len(test), n), dtype=torch.float64, device=side.rows.device)
        weights[:, train] = -(coords * shrink) @ vectors.T - 1 / m
        weights[torch.arange(len(test)), test] = 1
        outer[k] = (weights.T @ weights).flatten()
    mean = torch.zeros((len(test), n), dtype=torch.float64, device=side.rows.device)
    mean[:, train] = -1 / m
    mean[torch.arange(len(test)), test] = 1
    return inner, outer, (mean.T @ mean).flatten()
