"""Deep CCA: a small network for each side, trained to correlate, and scored on held-out stimuli.

What the networks say of the stimuli they were trained on is worth nothing, since they can make any two spaces
correlate there. Only correlations of held-out stimuli are returned, found as those of `cca.held_out_cca` are.
"""

import itertools
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from neuroalign.alignment.cca import (
    COMPONENTS,
    FOLDS,
    SHRINKAGE,
    HeldOutCca,
    check_test,
    fold_sums,
    pooled_correlations,
    whiten,
)
from neuroalign.alignment.feature_basis import check_pair, feature_basis, host_of
from neuroalign.linalg import resolve, thread_limit
from neuroalign.stats import block_permutations, child_seed, make_folds, permutation_p, row_permutations

__all__ = ["DeepCca", "cca_loss", "deep_null", "deep_score", "held_out_deep_cca"]

RIDGE = 1e-3
VARIANCE = 0.99
MIN_STIMULI = 20
CHECK_EVERY = 5  # epochs between two looks at the validation rows


def cca_loss(u: torch.Tensor, v: torch.Tensor, n_components: int, *, reg: float = RIDGE) -> torch.Tensor:
    """Minus the sum of the leading canonical correlations of two embeddings, to be trained on.

    Parameters
    ----------
    u, v : tensor of shape (n, d), (n, e)
        Embeddings of the same stimuli.
    n_components : int
    reg : float
        Added to the diagonal of both covariances, and to the squared correlations under the root, whose gradient
        is infinite at 0 without it.

    Returns
    -------
    scalar tensor

    Notes
    -----
    Andrew et al. 2013, ICML, in the form that released code made common: ``-sum sqrt(eig(T'T) + r)`` with ``T =
    Suu^-1/2 Suv Svv^-1/2``, covariances over n - 1. Triangular roots give the same singular values as symmetric ones,
    and their gradient has no division by differences of eigenvalues, so that no floor for these is needed.

    Examples
    --------
    >>> u = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    >>> round(cca_loss(u, 3 * u + 1, 1, reg=1e-9).item(), 4)
    -1.0
    """
    centred = [w - w.mean(0) for w in (u, v)]
    roots = [torch.linalg.cholesky(w.T @ w / (len(w) - 1) + reg * torch.eye(w.shape[1], dtype=w.dtype, device=w.device))
             for w in centred]
    cross = centred[0].T @ centred[1] / (len(u) - 1)
    half = torch.linalg.solve_triangular(roots[0], cross, upper=False)
    whole = torch.linalg.solve_triangular(roots[1], half.T, upper=False)
    return -(torch.linalg.svdvals(whole)[:n_components] ** 2 + reg).sqrt().sum()


@dataclass(frozen=True)
class DeepCca(HeldOutCca):
    """Canonical correlations of held-out stimuli after two networks.

    Attributes
    ----------
    epochs : array of int, shape (n_folds,)
        After how many the networks of each fold were kept.
    null : array of shape (n_permutations,)
        Scores with the stimuli of x permuted, everything fitted again.
    p : float
        NaN without permutations.
    """

    epochs: np.ndarray
    null: np.ndarray
    p: float


def held_out_deep_cca(x, y, *, n_components: int = COMPONENTS, hidden=(64,), reg: float = RIDGE, epochs: int = 200,
             patience: int = 30, learning_rate: float = 1e-2, weight_decay: float = 1e-2, cv=FOLDS, groups=None,
             n_permutations: int = 0, random_state: int = 0, device="auto") -> DeepCca:
    """Deep CCA, fitted on training stimuli and scored on held-out ones.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
        Means, components (those with 99 % of the variance, whitened as in `held_out_cca` with a shrinkage of 0.1)
        and networks are those of the training rows.
    n_components : int
        Outputs of each network, and canonical directions; at most the components of either side.
    hidden : sequence of int
        Widths of the hidden layers (GELU) of both networks. They add to a linear map that starts as regularised
        CCA, and start by adding nothing: where no epoch gains, what is scored is linear.
    reg : float
        As in `cca_loss`, and the shrinkage of the covariances of the embeddings in the CCA that follows.
    epochs, patience : int
        At most so many, and so many without a gain on the validation rows: a fifth of the training rows (whole
        groups), which the networks do not see. The networks of the best epoch are kept.
    learning_rate, weight_decay : float
        Of AdamW on all training rows at once.
    cv : int, str, Folds or table
        As in `neuroalign.stats.make_folds`.
    groups : sequence, optional
        Label of each stimulus; a group never straddles folds, and moves as a whole under permutation.
    n_permutations : int
        Each fits all folds again and takes as long as the score itself, seconds: hence none unless asked for.
    random_state : int
    device : str

    Returns
    -------
    DeepCca

    Raises
    ------
    ValueError
        If the features hold NaN or are constant, stimuli are fewer than 20, or a fold has fewer than three test
        stimuli.

    Notes
    -----
    Andrew et al. 2013, ICML. After training, CCA of the embeddings of all training rows gives the directions; test
    rows are correlated along them, over all folds, as in `held_out_cca`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1, 1, (200, 1))
    >>> held_out_deep_cca(x, np.abs(x), n_components=1, hidden=(16,), cv=2).score > 0.9
    True
    """
    x, y = check_pair(x, y)
    if not 0 < reg <= 1:
        raise ValueError(f"reg: got {reg}, expected a number above 0 and at most 1.")
    settings = _Settings(_whole("n_components", n_components), tuple(_whole("hidden", h) for h in hidden), reg,
                         _whole("epochs", epochs), _whole("patience", patience), learning_rate, weight_decay,
                         random_state, host_of(resolve(device)))
    if not (_usable(x, settings.device) and _usable(y, settings.device)):
        raise ValueError("held_out_deep_cca: one side is constant or holds NaN. Drop those stimuli or features.")
    folds = make_folds(cv, len(x), groups=groups, random_state=random_state)
    correlations, counts, kept = _held_out(x, y, folds, groups, settings)
    found = HeldOutCca(correlations, counts, np.full(len(counts), reg))
    if not n_permutations:
        return DeepCca(**vars(found), epochs=kept, null=np.empty(0), p=float("nan"))
    orders = (row_permutations(len(x), n_permutations, random_state=random_state) if groups is None else
              block_permutations(len(x), n_permutations, groups=groups, random_state=random_state))
    null = np.array([HeldOutCca(*_held_out(x[o], y, folds, groups, settings)).score for o in orders])
    return DeepCca(**vars(found), epochs=kept, null=null, p=float(permutation_p(found.score, null)))


def deep_score(x, y, device) -> float:
    """Mean held-out correlation at the defaults, which `compare` uses; NaN for features that cannot be used."""
    return float(deep_null(x, y, np.arange(len(x))[None], device)[0])


def deep_null(x, y, permutations, device, tick=lambda n: None) -> np.ndarray:
    """Scores with the stimuli of x in other orders, everything fitted again: shape (n_permutations,)."""
    x, y = np.asarray(x), np.asarray(y)
    if not (_usable(x, device) and _usable(y, device)):
        return np.full(len(permutations), np.nan)
    found = np.empty(len(permutations))
    for k, order in enumerate(permutations):
        found[k] = held_out_deep_cca(x[order], y, device=device).score
        tick(1)
    return found


@dataclass(frozen=True)
class _Settings:
    n_components: int
    hidden: tuple[int, ...]
    reg: float
    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float
    random_state: int
    device: torch.device


def _whole(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}: got {value!r}, expected whole numbers of at least 1.")
    return int(value)


def _usable(values, device) -> bool:
    """Whether features vary and hold no NaN; too few stimuli for networks raise."""
    if len(values) < MIN_STIMULI:
        raise ValueError(f"deep CCA: got {len(values)} stimuli, expected at least {MIN_STIMULI} to train, stop and "
                         "test on. Use 'cca.heldout'. (An interval by subsampling takes half of them: n_bootstraps=0 "
                         "asks for none.)")
    return feature_basis(values, device).usable


def _held_out(x, y, folds, groups, settings):
    """Pooled correlations of the test rows, and components and epochs of each fold."""
    sums, kept = [], []
    with thread_limit(6.0 * len(x) * max(x.shape[1], y.shape[1]) * max(settings.hidden, default=1)):
        for train, test in folds:
            check_test(test)
            embeddings, epoch = _fit_fold(x, y, train, groups, settings)
            sums.append(fold_sums(*(whiten(e, train, test, settings.reg) for e in embeddings), settings.n_components))
            kept.append(epoch)
    return pooled_correlations(sums), np.array([s.shape[-1] for s in sums]), np.array(kept)


def _fit_fold(x, y, train, groups, settings):
    """Embeddings of all rows by networks of the training rows, each (n, n_components); epochs trained."""
    own = None if groups is None else np.asarray(groups)[train]
    splits = min(5, len(train) // 3 if own is None else len(set(own.tolist())))
    fit, stop = next(iter(make_folds("kfold" if own is None else "groups", len(train), n_splits=splits, groups=own,
                                     random_state=settings.random_state)))
    fit, stop = train[fit], train[stop]
    inputs = [_whitened_components(v, train, settings.device) for v in (x, y)]
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the host
        torch.default_generator.manual_seed(child_seed(settings.random_state, "deep cca"))
        nets = _networks(inputs, fit, settings)
    epoch = _train(nets, inputs, fit, stop, settings)
    return _embed(nets, inputs), epoch


def _whitened_components(values, train, device) -> torch.Tensor:
    """All rows on the principal axes of the training rows, in float32: (n, n_axes)."""
    basis = feature_basis(values[train], device, loadings=True).keep(VARIANCE)
    variance = basis.singular**2 / len(train)
    scale = ((1 - SHRINKAGE) * variance + SHRINKAGE * variance.mean()).rsqrt() / basis.singular
    rows = np.asarray(values, np.float64)
    rows = torch.as_tensor(rows - rows[train].mean(0), device=device)
    return (rows @ (basis.loadings.T * scale)).float()


class _Network(nn.Module):
    """Linear maps that start as given, and hidden layers that add to them and start by adding nothing."""

    def __init__(self, start: torch.Tensor, hidden):
        super().__init__()
        self.linear = nn.Linear(*start.shape, bias=False)
        widths = (len(start), *hidden, start.shape[1])
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.GELU())]
        self.added = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            self.linear.weight.copy_(start.T)
            self.added[-1].weight.zero_()
            self.added[-1].bias.zero_()

    def forward(self, rows):
        return self.linear(rows) + self.added(rows)


def _networks(inputs, fit, settings) -> nn.ModuleList:
    """Networks that start as regularised CCA of the rows to fit."""
    rows = [i[torch.as_tensor(fit, device=i.device)] for i in inputs]
    left, _, right = torch.linalg.svd((rows[0] - rows[0].mean(0)).T @ (rows[1] - rows[1].mean(0)),
                                      full_matrices=False)
    starts = left[:, :settings.n_components], right.T[:, :settings.n_components]
    return nn.ModuleList(_Network(s, settings.hidden) for s in starts).to(settings.device)


def _train(nets, inputs, fit, stop, settings) -> int:
    """Train on the rows to fit until those to stop by gain no more; leave the networks at their best epoch."""
    # Fused: the networks are so small that calls cost more than sums.
    optimiser = torch.optim.AdamW(nets.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay,
                                  fused=True)
    rows = [i[torch.as_tensor(fit, device=i.device)] for i in inputs]
    best, kept, best_epoch = _reached(nets, inputs, fit, stop, settings), deepcopy(nets.state_dict()), 0
    for epoch in range(1, settings.epochs + 1):
        optimiser.zero_grad()
        cca_loss(*(net(r).double() for net, r in zip(nets, rows)), settings.n_components, reg=settings.reg).backward()
        optimiser.step()
        if epoch % CHECK_EVERY and epoch < settings.epochs:
            continue
        found = _reached(nets, inputs, fit, stop, settings)
        if found > best:
            best, kept, best_epoch = found, deepcopy(nets.state_dict()), epoch
        elif epoch - best_epoch >= settings.patience:
            break
    nets.load_state_dict(kept)
    return best_epoch


def _reached(nets, inputs, fit, stop, settings) -> float:
    """Sum of the correlations of the rows to stop by, along directions of the rows to fit."""
    sides = (whiten(e, fit, stop, settings.reg) for e in _embed(nets, inputs))
    return float(np.nansum(pooled_correlations([fold_sums(*sides, settings.n_components)])))


def _embed(nets, inputs) -> list[torch.Tensor]:
    with torch.no_grad():
        return [net(i).double() for net, i in zip(nets, inputs)]
