"""Losses that order dimensions by use: the first m of them must do by themselves, for several m at once.

With a classifier for each m (`mrl`), or one whose leading weights serve all of them (`mrl_e`); Kusupati et al. 2022,
NeurIPS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neuroalign.errors import check_option, list_ids
from neuroalign.linalg import resolve, thread_limit, to_numpy, to_tensor
from neuroalign.stats import child_rng, child_seed

__all__ = ["NestedProjection", "mrl", "mrl_e", "train_nested"]

KINDS = ("mrl", "mrl_e")


def mrl(z: torch.Tensor, labels: torch.Tensor, heads: Mapping[int, nn.Linear], *,
        importance: Mapping[int, float] | None = None) -> torch.Tensor:
    """Sum over m of the cross-entropy of a classifier on the first m dimensions.

    Parameters
    ----------
    z : tensor of shape (n, d)
    labels : tensor of int, shape (n,)
    heads : mapping of m to Linear(m, n_classes)
    importance : mapping of m to float, optional
        Weights of the sum; 1 by default.

    Returns
    -------
    scalar tensor

    Examples
    --------
    >>> z, labels = torch.zeros(3, 4), torch.tensor([0, 1, 1])
    >>> heads = {2: nn.Linear(2, 2, bias=False), 4: nn.Linear(4, 2, bias=False)}
    >>> abs(mrl(z, labels, heads).item() - 2 * float(np.log(2))) < 1e-6
    True
    """
    _check_heads(z, heads)
    return sum((importance or {}).get(m, 1.0) * cross_entropy(head(z[:, :m]), labels) for m, head in heads.items())


def mrl_e(z: torch.Tensor, labels: torch.Tensor, head: nn.Linear, dims: Sequence[int], *,
          importance: Mapping[int, float] | None = None) -> torch.Tensor:
    """Sum over m of the cross-entropy of the leading weights of one classifier on the first m dimensions.

    Parameters
    ----------
    z : tensor of shape (n, d)
    labels : tensor of int, shape (n,)
    head : Linear(d, n_classes)
    dims : sequence of int
    importance : mapping of m to float, optional

    Returns
    -------
    scalar tensor

    Examples
    --------
    >>> z, labels = torch.zeros(3, 4), torch.tensor([0, 1, 1])
    >>> abs(mrl_e(z, labels, nn.Linear(4, 2, bias=False), [2, 4]).item() - 2 * float(np.log(2))) < 1e-6
    True
    """
    _check_heads(z, dict.fromkeys(dims))
    return sum((importance or {}).get(m, 1.0)
               * cross_entropy(nn.functional.linear(z[:, :m], head.weight[:, :m], head.bias), labels) for m in dims)


@dataclass(frozen=True)
class NestedProjection:
    """A linear map whose leading dimensions are trained to do by themselves (what `train_nested` returns).

    Attributes
    ----------
    dims : tuple of int
    classes : array
    accuracy : dict of int to float
        Of the held-out rows, at each m.
    held_out : array of int
        Rows that nothing was fitted on.
    """

    dims: tuple[int, ...]
    classes: np.ndarray
    accuracy: dict[int, float]
    held_out: np.ndarray
    _mean: np.ndarray
    _scale: np.ndarray
    _weights: np.ndarray
    _heads: dict[int, tuple[np.ndarray, np.ndarray]]

    def transform(self, values) -> np.ndarray:
        """Return rows (n, d) whose first m dimensions are the best m."""
        return ((np.asarray(values, np.float64) - self._mean) * self._scale) @ self._weights

    def predict(self, values, m: int) -> np.ndarray:
        """Return the class of each row by its first m dimensions."""
        check_option("m", m, self.dims)
        weight, bias = self._heads[m]
        return self.classes[(self.transform(values)[:, :m] @ weight.T + bias).argmax(1)]


def train_nested(values, labels, *, dims: Sequence[int], kind: str = "mrl", held_out: float = 0.25, epochs: int = 300,
                 learning_rate: float = 1e-2, weight_decay: float = 1e-4, random_state: int = 0,
                 device="auto") -> NestedProjection:
    """Train a linear map of cached features by a nested loss.

    Parameters
    ----------
    values : array of shape (n, p)
        Features; standardised by the rows that are trained on.
    labels : sequence of shape (n,)
    dims : sequence of int
        The m of the loss; the largest is the number of dimensions of the map.
    kind : {"mrl", "mrl_e"}
    held_out : float
        Share of the rows of each class that is left out, and that `accuracy` is measured on.
    epochs, learning_rate, weight_decay
        Of AdamW on all training rows at once.
    random_state : int
    device : str

    Returns
    -------
    NestedProjection

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1, 2, 3], 20)
    >>> x = rng.standard_normal((80, 10)) + 3 * np.eye(4, 10)[labels]
    >>> found = train_nested(x, labels, dims=[1, 2, 4], epochs=100)
    >>> found.transform(x).shape, found.accuracy[4] > 0.8
    ((80, 4), True)
    """
    check_option("kind", kind, KINDS)
    values, labels = np.asarray(values, np.float64), np.asarray(labels)
    dims = sorted({int(m) for m in dims})
    if values.ndim != 2 or labels.shape != (len(values),):
        raise ValueError(f"train_nested: got features of shape {values.shape} and labels of shape {labels.shape}, "
                         "expected one label for each row.")
    if not np.isfinite(values).all():
        raise ValueError(f"values: rows {list_ids(np.flatnonzero(~np.isfinite(values).all(1)))} hold NaN.")
    if not dims or dims[0] < 1:
        raise ValueError(f"dims: got {dims}, expected numbers of at least 1.")
    classes, codes = np.unique(labels, return_inverse=True)
    train, test = _split(codes, held_out, random_state)
    mean, spread = values[train].mean(0), values[train].std(0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-12 * np.abs(values[train]).max(0))
    device = resolve(device)
    x, y = to_tensor((values[train] - mean) * scale, device), torch.as_tensor(codes[train], device=device)
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the host
        torch.default_generator.manual_seed(child_seed(random_state, "nested projection"))
        body = nn.Linear(values.shape[1], dims[-1], bias=False).to(device)
        widths = dims if kind == "mrl" else dims[-1:]
        heads = {m: nn.Linear(m, len(classes)).to(device) for m in widths}
    parameters = [*body.parameters(), *(p for h in heads.values() for p in h.parameters())]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    with thread_limit(6.0 * x.numel() * dims[-1]):
        for _ in range(epochs):
            optimiser.zero_grad()
            z = body(x)
            loss = mrl(z, y, heads) if kind == "mrl" else mrl_e(z, y, heads[dims[-1]], dims)
            loss.backward()
            optimiser.step()
    last = heads[dims[-1]]
    fitted = {m: heads[m] if kind == "mrl" else last for m in dims}
    weights = {m: (to_numpy(h.weight)[:, :m].astype(float), to_numpy(h.bias).astype(float)) for m, h in fitted.items()}
    turn = to_numpy(body.weight).T.astype(float)
    found = NestedProjection(tuple(dims), classes, {}, test, mean, scale, turn, weights)
    for m in dims:
        found.accuracy[m] = float((found.predict(values[test], m) == labels[test]).mean())
    return found


def _check_heads(z, dims) -> None:
    wrong = [m for m in dims if not 1 <= m <= z.shape[1]]
    if wrong or not dims:
        raise ValueError(f"dims: got {list_ids(wrong) or 'none'}, expected numbers from 1 to {z.shape[1]}.")


def _split(codes, held_out, random_state):
    """Rows to train on and rows held out, the same share of each class."""
    if not 0 < held_out < 1:
        raise ValueError(f"held_out: got {held_out}, expected a share above 0 and below 1.")
    counts = np.bincount(codes)
    if len(counts) < 2 or counts.min() < 2:
        raise ValueError(f"labels: got {len(counts)} classes, the smallest of {counts.min()} rows; expected at least "
                         "two classes of two rows.")
    rng, test = child_rng(random_state, "held-out rows"), []
    for k in range(len(counts)):
        rows = rng.permutation(np.flatnonzero(codes == k))
        test.append(rows[:min(max(1, round(held_out * len(rows))), len(rows) - 1)])
    test = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(codes)), test), test
