"""Projectors between frozen encoders: two small maps into one space, trained on cached features by a contrastive loss.

They say how far two encoders that never met can be brought together (Maniparambil et al. 2025, CVPR).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import nn
from torch.nn.functional import normalize

from neuroalign.alignment.comparison_inputs import match
from neuroalign.alignment.retrieval import retrieval_ranks
from neuroalign.errors import check_option, list_ids
from neuroalign.linalg import resolve, thread_limit, to_numpy, to_tensor
from neuroalign.probes.contrastive_losses import clip
from neuroalign.stats import child_rng, child_seed

__all__ = ["Projector", "train_projector"]

KINDS = ("linear", "mlp", "token")
TOPS = (1, 5, 10)
WARM_UP = 0.1  # share of the steps over which the learning rate rises
LEAST = 20  # pairs


@dataclass(frozen=True)
class Projector:
    """Two trained maps (what `train_projector` returns).

    Attributes
    ----------
    kind : {"linear", "mlp", "token"}
    retrieval : DataFrame
        Of the held-out pairs: a row a direction, with ``top1``, ``top5``, ``top10``, ``median_rank`` and
        ``chance1``, ``chance5``, ``chance10``.
    losses : DataFrame
        ``epoch``, ``trained`` and ``validation``; the maps are those of the smallest validation loss.
    held_out : array of int
        Pairs that neither training nor the choice of the epoch saw.
    """

    kind: str
    retrieval: pd.DataFrame
    losses: pd.DataFrame
    held_out: np.ndarray
    _x: "_Side"
    _y: "_Side"

    def embed_x(self, values) -> np.ndarray:
        """Return unit rows (n, dim) of features of the first encoder."""
        return self._x.embed(values)

    def embed_y(self, values) -> np.ndarray:
        """Return unit rows (n, dim) of features of the second encoder."""
        return self._y.embed(values)

    def zero_shot(self, values, classes, labels, *, ks: Sequence[int] = (1, 5)) -> pd.Series:
        """Classify rows of the first encoder by the nearest class embedding of the second.

        Parameters
        ----------
        values : features of the first encoder, (n, p) or tokens
        classes : features of the second encoder, one row a class ("a photo of a dog"), (n_classes, q) or tokens
        labels : array of int, shape (n,)
            Row of the right class.
        ks : sequence of int

        Returns
        -------
        Series
            ``top1``, ``chance1``, ... : share of rows whose class is among the k nearest.
        """
        similarity = self.embed_x(values) @ self.embed_y(classes).T
        labels, n = np.asarray(labels), similarity.shape[1]
        if labels.shape != (len(similarity),) or labels.min() < 0 or labels.max() >= n:
            raise ValueError(f"labels: expected the row of one of {n} classes for each of {len(similarity)} rows.")
        own = np.take_along_axis(similarity, labels[:, None], 1)
        ranks = (similarity > own).sum(1) + ((similarity == own).sum(1) + 1) / 2
        ks = [k for k in ks if k < n]
        return pd.Series({f"top{k}": (ranks <= k).mean() for k in ks} | {f"chance{k}": k / n for k in ks})


def train_projector(x, y, *, kind: str = "mlp", dim: int = 128, hidden: int = 256, temperature: float = 0.07,
                    epochs: int = 100, batch_size: int = 256, learning_rate: float = 1e-3, weight_decay: float = 0.02,
                    held_out: float = 0.25, random_state: int = 0, device="auto") -> Projector:
    """Train a map of each of two frozen encoders into one space.

    Parameters
    ----------
    x, y : array of shape (n, p), or tokens: a sequence of n arrays (n_tokens, p), an array (n, n_tokens, p) or
        unpooled features
        Pairs, row by row; two labelled arrays (stimulus, feature) are matched by stimulus id.
    kind : {"linear", "mlp", "token"}
        An affine map; the same plus a perceptron with one hidden layer; that for every token, then their mean (of
        the sides that are tokens). For the first two, tokens are averaged before.
    dim, hidden : int
        Dimensions of the shared space and of the hidden layer.
    temperature : float
        Of the symmetric contrastive loss.
    epochs, batch_size, learning_rate, weight_decay
        Of AdamW; the learning rate rises over a tenth of the steps and falls with a cosine.
    held_out : float
        Share of the pairs for `Projector.retrieval`. A tenth of the rest chooses the epoch.
    random_state : int
    device : str

    Returns
    -------
    Projector

    Raises
    ------
    ValueError
        Fewer than 20 pairs, NaN, or rows that do not pair.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 8))
    >>> found = train_projector(x, x @ rng.standard_normal((8, 8)), kind="linear", dim=8, learning_rate=1e-2)
    >>> bool((found.retrieval["top5"] > 0.9).all())
    True
    """
    check_option("kind", kind, KINDS)
    _check_numbers(dim=dim, hidden=hidden, epochs=epochs, batch_size=batch_size)
    if not temperature > 0 or not 0 < held_out < 1:
        raise ValueError(f"temperature, held_out: got {temperature} and {held_out}, expected a number above 0 and a "
                         "share above 0 and below 1.")
    x, y = _paired(x, y)
    device, tokens = resolve(device), kind == "token"
    packs = [_pack(v, name, tokens) for name, v in (("x", x), ("y", y))]
    n = len(packs[0][0])
    if n != len(packs[1][0]) or n < LEAST:
        raise ValueError(f"x, y: got {n} and {len(packs[1][0])} rows, expected the same stimuli in both, at least "
                         f"{LEAST}.")
    test, chosen, train = _split(n, held_out, random_state)
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the host
        torch.default_generator.manual_seed(child_seed(random_state, "projector"))
        sides = [_Side(*pack, train, kind, dim, hidden, device) for pack in packs]
    with thread_limit(6.0 * batch_size * sum(s.n_parameters for s in sides)):
        losses = _fit(sides, packs, train, chosen, temperature, epochs, min(batch_size, len(train)), learning_rate,
                      weight_decay, random_state)
        embedded = [s.embed_packed(_take(pack, test)) for s, pack in zip(sides, packs)]
    return Projector(kind, _retrieval(embedded[0] @ embedded[1].T), losses, test, *sides)


class _Side:
    """One encoder: the scaling by its training rows, and the map."""

    def __init__(self, values, mask, train, kind, dim, hidden, device):
        rows = values[train] if mask is None else values[train][mask[train]]
        self.mean, self.scale, self.device, self.tokens = rows.mean(0), rows.std(0), device, kind == "token"
        self.scale = 1 / np.where(self.scale > 1e-7 * (np.abs(self.mean) + self.scale), self.scale, np.inf)
        width = values.shape[-1]
        self.module = (nn.Linear(width, dim) if kind == "linear" else _Residual(width, hidden, dim)).to(device)

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())

    def __call__(self, values, mask) -> torch.Tensor:
        out = self.module(to_tensor((values - self.mean) * self.scale, self.device))
        if mask is not None:
            weight = to_tensor(mask / mask.sum(1, keepdims=True), self.device)
            out = (out * weight[:, :, None]).sum(1)
        return normalize(out, dim=1)

    def embed_packed(self, pack) -> np.ndarray:
        with torch.no_grad():
            return to_numpy(self(*pack)).astype(float)

    def embed(self, values) -> np.ndarray:
        packed = _pack(values, "values", self.tokens)
        if packed[0].shape[-1] != len(self.mean):
            raise ValueError(f"values: got {packed[0].shape[-1]} features, the map takes {len(self.mean)}.")
        return self.embed_packed(packed)


class _Residual(nn.Module):
    def __init__(self, width, hidden, dim):
        super().__init__()
        self.straight = nn.Linear(width, dim)
        self.bent = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x):
        return self.straight(x) + self.bent(x)


def _check_numbers(**numbers):
    for name, value in numbers.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name}: got {value!r}, expected an integer of at least 1.")


def _paired(x, y):
    """Labelled arrays matched by stimulus id; anything else row by row."""
    labelled = all(isinstance(v, xr.DataArray) and "stimulus" in v.dims and "offsets" not in v.attrs for v in (x, y))
    if not labelled:
        return x, y
    models, side = match(x, y, "error")
    return models.arrays[0], side.arrays[0]


def _pack(values, name, tokens: bool):
    """Rows (n, p) without mask; or padded tokens (n, t, p) with the mask of those that are there, or their means."""
    if isinstance(values, xr.DataArray):
        offsets = values.attrs.get("offsets")
        values = values.values if offsets is None else np.split(values.values, np.asarray(offsets)[1:-1])
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return _finite(np.asarray(values, np.float32), name), None
    parts = [np.asarray(v, np.float32) for v in values]
    if not parts or any(v.ndim != 2 or not len(v) or v.shape[1] != parts[0].shape[1] for v in parts):
        raise ValueError(f"{name}: expected rows (n, p), or for every stimulus an array (n_tokens, p) of at least one "
                         "token.")
    if not tokens:
        return _finite(np.stack([v.mean(0) for v in parts]), name), None
    mask = np.zeros((len(parts), max(map(len, parts))), bool)
    padded = np.zeros((*mask.shape, parts[0].shape[1]), np.float32)
    for row, there, part in zip(padded, mask, parts):
        row[:len(part)], there[:len(part)] = part, True
    return _finite(padded, name), mask


def _finite(values, name):
    lost = ~np.isfinite(values).reshape(len(values), -1).all(1)
    if lost.any():
        raise ValueError(f"{name}: rows {list_ids(np.flatnonzero(lost))} hold NaN or infinite values. Leave these "
                         "stimuli out.")
    return values


def _take(pack, rows):
    return pack[0][rows], None if pack[1] is None else pack[1][rows]


def _split(n, held_out, random_state):
    """Pairs held out, those that choose the epoch, and those trained on."""
    order = child_rng(random_state, "held-out pairs").permutation(n)
    a = min(max(2, round(held_out * n)), n - LEAST // 2)
    b = a + max(2, round(0.1 * (n - a)))
    return np.sort(order[:a]), np.sort(order[a:b]), np.sort(order[b:])


def _fit(sides, packs, train, chosen, temperature, epochs, batch, learning_rate, weight_decay, random_state):
    parameters = [p for s in sides for p in s.module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    per_epoch = len(train) // batch
    total = epochs * per_epoch
    rise = max(1, int(WARM_UP * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (k + 1) / rise if k < rise else
                                                 0.5 * (1 + math.cos(math.pi * (k - rise) / max(1, total - rise))))
    rng, rows, best = child_rng(random_state, "batches of pairs"), [], (np.inf, None)
    for epoch in range(epochs):
        order, value = rng.permutation(train), 0.0
        for k in range(per_epoch):  # whole batches alone: fewer candidates would be another loss
            part = order[k * batch:(k + 1) * batch]
            loss = clip(*(s(*_take(p, part)) for s, p in zip(sides, packs)), temperature=temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            value += loss.item() / per_epoch
        with torch.no_grad():
            held = float(clip(*(s(*_take(p, chosen)) for s, p in zip(sides, packs)), temperature=temperature))
        rows.append((epoch, value, held))
        if held < best[0]:
            best = held, [{k: v.clone() for k, v in s.module.state_dict().items()} for s in sides]
    for side, state in zip(sides, best[1]):
        side.module.load_state_dict(state)
    return pd.DataFrame(rows, columns=["epoch", "trained", "validation"])


def _retrieval(similarity) -> pd.DataFrame:
    n = len(similarity)
    ks, rows = [k for k in TOPS if k < n], {}
    for name, values in (("x to y", similarity), ("y to x", similarity.T)):
        ranks = retrieval_ranks(values)
        rows[name] = {f"top{k}": (ranks <= k).mean() for k in ks} | {"median_rank": float(np.median(ranks))}
        rows[name] |= {f"chance{k}": k / n for k in ks} | {"n": n}
    return pd.DataFrame(rows).T.rename_axis("direction")
