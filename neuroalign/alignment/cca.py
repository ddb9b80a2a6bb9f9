"""Canonical correlations: SVCCA, PWCCA, and regularised CCA scored on held-out stimuli. All in float64.

With left singular vectors U and V of the two centred feature spaces, the canonical correlations are the singular
values of ``U'V``. Where the ranks add up to more than ``n - 1`` the spaces meet by counting alone and some
correlations are 1 for any data: such scores are warned of, and held-out correlations are the answer.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from neuroalign.alignment.feature_basis import FeatureBasis, check_pair, compact_rows, feature_basis, host_of
from neuroalign.errors import check_option, warn_user
from neuroalign.linalg import resolve, to_numpy
from neuroalign.stats import make_folds

__all__ = ["HeldOutCca", "HeldOutRows", "canonical_correlations", "check_test", "degenerate", "fold_sums",
           "held_out_cca", "held_out_score", "pooled_correlations", "pwcca", "pwcca_score", "svcca", "svcca_score",
           "whiten"]

VARIANCE = 0.99
COMPONENTS = 10
SHRINKAGE = 0.1
FOLDS = 5


def canonical_correlations(x, y, *, variance: float = 1.0, device="auto") -> np.ndarray:
    """Canonical correlations of two sets of features of the same stimuli, in the sample itself.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    variance : float
        Share of the variance of each side whose leading principal components are used.
    device : str

    Returns
    -------
    float64 array, descending
        NaN (one value) if either side is constant or holds NaN.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((30, 3))
    >>> canonical_correlations(x, x @ np.array([[1.0, 2], [0, 1], [3, 1]])).round(6).tolist()
    [1.0, 1.0]
    """
    a, b = _bases(x, y, variance, device)
    return to_numpy(_correlations(a, b, a.overlap(b))) if a.usable and b.usable else np.array([np.nan])


def svcca(x, y, *, variance: float = VARIANCE, device="auto") -> float:
    """Mean canonical correlation of the principal components that hold most of the variance of each side.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    variance : float
        Share of variance to keep.
    device : str

    Returns
    -------
    float
        Raghu et al. 2017, NeurIPS. Inflated where stimuli are few (1 for unrelated data where components
        outnumber them): compare with a null, or use `held_out_cca`.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 4))
    >>> round(svcca(x, 3 * x[:, ::-1] + 1), 6)
    1.0
    """
    a, b = _bases(x, y, variance, device)
    return float(_correlations(a, b, a.overlap(b)).mean())


def pwcca(x, y, *, weights: str = "x", device="auto") -> float:
    """Mean of the canonical correlations, weighted by how much of one side each direction accounts for.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    weights : {"x", "y"}
        The side that weighs: the two differ, and neither is "the" PWCCA.
    device : str

    Returns
    -------
    float
        Morcos, Raghu & Bengio 2018, NeurIPS. The weight of a direction is the sum of the absolute inner products
        of its canonical variate with the features of that side, so that it depends on their axes.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 4))
    >>> round(pwcca(x, x[:, :2]), 6)
    1.0
    """
    check_option("weights", weights, ("x", "y"))
    a, b = _bases(x, y, 1.0, device, loadings=True)
    return float(pwcca_score(a, b) if weights == "x" else pwcca_score(b, a))


def svcca_score(a: FeatureBasis, b: FeatureBasis) -> torch.Tensor:
    """SVCCA of prepared features, one value an order of the stimuli."""
    return _correlations(a, b, a.left.mT @ b.left).mean(-1)


def pwcca_score(a: FeatureBasis, b: FeatureBasis) -> torch.Tensor:
    """PWCCA of prepared features, weighted by the first."""
    if not (a.usable and b.usable):
        return torch.tensor(torch.nan)
    directions, rho, _ = torch.linalg.svd(a.left.mT @ b.left, full_matrices=False)
    weights = (directions.mT @ a.loadings).abs().sum(-1)
    return (weights * rho.clamp(max=1)).sum(-1) / weights.sum(-1)


def degenerate(a: FeatureBasis, b: FeatureBasis) -> bool:
    """Whether some canonical correlations are 1 whatever the data."""
    return a.usable and b.usable and a.rank + b.rank > a.n_stimuli - 1


@dataclass(frozen=True)
class HeldOutCca:
    """Canonical correlations of held-out stimuli.

    Attributes
    ----------
    correlations : array of shape (n_components,)
        Of the test rows of all folds that use the component, each fold centred by itself.
    n_components : array of int, shape (n_folds,)
    reg : array of shape (n_folds,)
        What each fold used, chosen within its training rows where several were given.
    """

    correlations: np.ndarray
    n_components: np.ndarray
    reg: np.ndarray

    @property
    def score(self) -> float:
        """Mean over the components that every fold uses."""
        return float(self.correlations[:self.n_components.min()].mean())


def held_out_cca(x, y, *, n_components=COMPONENTS, reg=SHRINKAGE, cv=FOLDS, groups=None, random_state: int = 0,
                 device="auto") -> HeldOutCca:
    """Regularised CCA, fitted on training stimuli and scored on held-out ones.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
        Means, covariances and directions are those of the training rows.
    n_components : int or sequence of int
        Canonical directions, at most the rank of either side. Of several, the number with the largest sum of
        held-out correlations is chosen within the training rows; each counts by how far it is above 2 / sqrt(n),
        twice the standard error of an empty one, so that chance adds no directions.
    reg : float or sequence of float
        Shrinkage of each covariance S towards a multiple of the identity, ``(1 - reg) S + reg mean(eigenvalues)
        I``: 0 is CCA, 1 partial least squares. Of several, chosen likewise.
    cv : int, str, Folds or table
        As in `neuroalign.stats.make_folds`; inner folds are of the same kind.
    groups : sequence, optional
        Label of each stimulus; a group never straddles folds.
    random_state : int
    device : str

    Returns
    -------
    HeldOutCca

    Raises
    ------
    ValueError
        If the features hold NaN or are constant, or a fold has fewer than three test stimuli.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((60, 5))
    >>> y = np.hstack([x[:, :2], rng.standard_normal((60, 3))])
    >>> bool(held_out_cca(x, y, n_components=2, reg=0.01).correlations.min() > 0.9)
    True
    """
    x, y = check_pair(x, y)
    ks, regs = _candidates("n_components", n_components, 1, np.inf), _candidates("reg", reg, 0, 1)
    device = host_of(resolve(device))
    a, b = (_held_rows(v, device) for v in (x, y))
    if not (a.usable and b.usable):
        raise ValueError("held_out_cca: one side is constant or holds NaN. Drop those stimuli or features.")
    folds = make_folds(cv, len(x), groups=groups, random_state=random_state)
    sums, chosen = [], []
    for train, test in folds:
        check_test(test)
        k, r = (ks[0], regs[0]) if len(ks) == len(regs) == 1 else _choose(a, b, train, ks, regs, groups, random_state)
        found = fold_sums(whiten(a.rows, train, test, r), whiten(b.rows, train, test, r), int(k))
        sums.append(found)
        chosen.append((found.shape[-1], r))
    return HeldOutCca(pooled_correlations(sums), np.array([c[0] for c in chosen]), np.array([c[1] for c in chosen]))


@dataclass(frozen=True)
class HeldOutRows:
    """Features for held-out correlations at the settings that `compare` uses.

    Attributes
    ----------
    rows : tensor of shape (..., n_stimuli, n_columns)
    """

    rows: torch.Tensor
    usable: bool

    @classmethod
    def of(cls, values, device) -> "HeldOutRows":
        """Prepare features."""
        return _held_rows(values, host_of(device))

    def take(self, orders: torch.Tensor) -> "HeldOutRows":
        """Return the features of stimuli in several orders; the folds stay where they are."""
        return replace(self, rows=self.rows[orders])

    @cached_property
    def whitened(self) -> list:
        """Training and test rows of each fold, whitened by the training rows."""
        folds = make_folds("kfold", self.rows.shape[-2], n_splits=min(FOLDS, self.rows.shape[-2] // 3))
        return [whiten(self.rows, train, test, SHRINKAGE) for train, test in folds]


def held_out_score(a: HeldOutRows, b: HeldOutRows) -> torch.Tensor:
    """Mean held-out canonical correlation of prepared features, one value an order of the stimuli."""
    if not (a.usable and b.usable):
        return torch.tensor(torch.nan)
    parts = [fold_sums(p, q, COMPONENTS) for p, q in zip(a.whitened, b.whitened)]
    shared = min(p.shape[-1] for p in parts)
    return _pooled(sum(p[..., :shared] for p in parts)).mean(-1)


def whiten(rows, train, test, reg):
    """Put rows on axes where the covariance of the training rows, shrunk, is the identity.

    Parameters
    ----------
    rows : tensor of shape (..., n_rows, n_columns)
    train, test : array of int
        The mean and the covariance are those of the training rows.
    reg : float
        Shrinkage, 0 to 1, as in `held_out_cca`.

    Returns
    -------
    train, test : tensor of shape (..., n, n_columns)
        Columns of directions without variance are zero.
    rank : int
    """
    train, test = (torch.as_tensor(i, device=rows.device) for i in (train, test))
    part = rows[..., train, :]
    mean = part.mean(-2, keepdim=True)
    part = part - mean
    values, vectors = torch.linalg.eigh(part.mT @ part / len(train))
    largest = values[..., -1:].clamp_min(torch.finfo(values.dtype).tiny)
    there = values > 1e-10 * largest
    average = (values * there).sum(-1, keepdim=True) / there.sum(-1, keepdim=True)
    scale = torch.where(there, ((1 - reg) * values + reg * average).clamp_min(1e-300).rsqrt(), 0.0)
    axes = vectors * scale[..., None, :]
    return part @ axes, (rows[..., test, :] - mean) @ axes, int(there.sum(-1).min())


def fold_sums(a, b, k: int) -> torch.Tensor:
    """Sums of products of the test variates of one fold: (..., 3, k), of x with y, x with x, y with y.

    Parameters
    ----------
    a, b : tuple
        What `whiten` returns of the two sides; the directions are those of the training rows.
    k : int
        Components, at most as many as either side has.
    """
    left, _, right = torch.linalg.svd(a[0].mT @ b[0], full_matrices=False)
    k = min(k, a[2], b[2])
    u, v = a[1] @ left[..., :k], b[1] @ right.mT[..., :k]
    u, v = u - u.mean(-2, keepdim=True), v - v.mean(-2, keepdim=True)
    return torch.stack([(u * v).sum(-2), (u * u).sum(-2), (v * v).sum(-2)], -2)


def pooled_correlations(sums) -> np.ndarray:
    """Correlations of the test rows of all folds, of a list of `fold_sums`; each of the folds that have it."""
    widest = max(s.shape[-1] for s in sums)
    return to_numpy(_pooled(sum(torch.nn.functional.pad(s, (0, widest - s.shape[-1])) for s in sums)))


def check_test(test) -> None:
    """Refuse a fold whose test rows are too few to correlate over."""
    if len(test) < 3:
        raise ValueError(f"cv: a fold has {len(test)} test stimuli, expected at least 3 to correlate over. Use fewer "
                         "folds.")


def _bases(x, y, variance, device, loadings=False):
    if not 0 < variance <= 1:
        raise ValueError(f"variance: got {variance}, expected a share above 0 and at most 1.")
    device = resolve(device)
    a, b = (feature_basis(v, device, loadings=loadings).keep(variance) for v in check_pair(x, y))
    if degenerate(a, b):
        warn_user(f"CCA: {a.rank} and {b.rank} components of {a.n_stimuli} stimuli meet by counting alone, so some "
                  "correlations are 1 for any data. Use fewer components (variance=) or held_out_cca.",
                  "degenerate-cca")
    return a, b


def _correlations(a: FeatureBasis, b: FeatureBasis, overlap: torch.Tensor) -> torch.Tensor:
    if not (a.usable and b.usable):
        return torch.full((1,), torch.nan)
    return torch.linalg.svdvals(overlap).clamp(max=1)


def _held_rows(values, device) -> HeldOutRows:
    values = compact_rows(np.asarray(values), device)
    rows = torch.as_tensor(np.asarray(values, np.float64), device=device)
    finite = bool(torch.isfinite(rows).all())
    size = float(rows.abs().max()) if finite else 0.0
    return HeldOutRows(rows / (size or 1), finite and bool((rows.std(0) > 1e-7 * size).any()))


def _pooled(sums: torch.Tensor) -> torch.Tensor:
    return sums[..., 0, :] / (sums[..., 1, :] * sums[..., 2, :]).sqrt()


def _choose(a, b, train, ks, regs, groups, random_state):
    """Components and shrinkage with the largest sum of correlations held out within the training rows."""
    own = None if groups is None else np.asarray(groups)[train]
    splits = min(FOLDS, len(train) // 3) if own is None else min(FOLDS, len(set(own.tolist())))
    inner = make_folds("kfold" if own is None else "groups", len(train), n_splits=splits, groups=own,
                       random_state=random_state)
    best, found = -np.inf, None
    for reg in regs:
        parts = [fold_sums(whiten(a.rows, train[t], train[v], reg), whiten(b.rows, train[t], train[v], reg),
                            int(max(ks))) for t, v in inner]
        shared = min(p.shape[-1] for p in parts)
        own_noise = 2 / np.sqrt(len(train))
        reached = to_numpy(torch.cumsum(_pooled(sum(p[..., :shared] for p in parts)) - own_noise, -1))
        for k in ks:
            value = reached[min(int(k), shared) - 1]
            if value > best + 1e-12:
                best, found = value, (k, reg)
    return found


def _candidates(name, value, low, high):
    found = np.atleast_1d(np.asarray(value, float))
    if found.ndim != 1 or not len(found) or not ((found >= low) & (found <= high)).all():
        limits = f"at least {low}" if high == np.inf else f"from {low} to {high}"
        raise ValueError(f"{name}: got {value!r}, expected one or several numbers {limits}.")
    return found
