"""The numbers of a modality gap, with what their nulls and intervals need, by blocks of similarities."""

from dataclasses import dataclass

import numpy as np
import torch

from neuroalign.linalg import rows_per_chunk, thread_limit, to_numpy, to_tensor
from neuroalign.stats import Folds

__all__ = ["GAP_METRICS", "Draws", "GapMetric", "Statistic", "gap_statistics", "separability"]


@dataclass(frozen=True)
class GapMetric:
    """What a metric of the gap is.

    Attributes
    ----------
    words : str
    null : {"swap", "pairing", ""}
        Modality labels exchanged within random pairs, or rows paired anew; "": a description without a null.
    alternative : {"greater", "less", ""}
        Which way the gap, or the match of the pairs, shows.
    """

    words: str
    null: str = ""
    alternative: str = ""


GAP_METRICS = {
    "gap.distance": GapMetric("distance of the two centroids of unit vectors, 0 to 2", "swap", "greater"),
    "gap.cosine": GapMetric("cosine of the two centroids of unit vectors", "swap", "less"),
    "separability": GapMetric("accuracy of a logistic regression of the modality, on held-out pairs (chance .5)",
                              "swap", "greater"),
    "cosine.pairs": GapMetric("mean cosine of a pair", "pairing", "greater"),
    "alignment": GapMetric("mean squared distance of a pair of unit vectors, 0 to 4", "pairing", "less"),
    "uniformity": GapMetric("mean of the uniformity of the two modalities"),
    "uniformity.a": GapMetric("log of the mean of exp(-2 |x - y|²) over pairs of stimuli of the first modality"),
    "uniformity.b": GapMetric("log of the mean of exp(-2 |x - y|²) over pairs of stimuli of the second modality"),
    "uniformity.cross": GapMetric("log of the mean of exp(-2 |x - y|²) over the two modalities of unlike stimuli"),
    "cone.a": GapMetric("mean cosine of two stimuli of the first modality"),
    "cone.b": GapMetric("mean cosine of two stimuli of the second modality"),
    "retrieval.a_to_b": GapMetric("share of stimuli whose partner is among the k nearest of the second modality",
                                  "pairing", "greater"),
    "retrieval.b_to_a": GapMetric("share of stimuli whose partner is among the k nearest of the first modality",
                                  "pairing", "greater"),
    "cka.debiased": GapMetric("linear CKA of the two modalities, debiased", "pairing", "greater"),
    "cka.biased": GapMetric("linear CKA of the two modalities, biased", "pairing", "greater"),
    "knn.mutual": GapMetric("share of the 10 nearest stimuli (cosine) that both modalities have in common", "pairing",
                            "greater"),
}


@dataclass(frozen=True)
class Draws:
    """What is drawn once and serves all layers.

    Attributes
    ----------
    swaps : int array of shape (n_permutations, n_pairs), or None
        -1 where a pair exchanges its modality labels, else 1.
    orders : int array of shape (n_permutations, n_pairs), or None
        New partners.
    halves : float32 array of shape (n_resamples, n_pairs), or None
        1 for the pairs of a half sample.
    folds : Folds
    refits : int array of shape (n_refits, n_pairs)
        Swaps for which the classifier is fitted again.
    k : tuple of int
    """

    swaps: np.ndarray | None
    orders: np.ndarray | None
    halves: np.ndarray | None
    folds: Folds
    refits: np.ndarray
    k: tuple[int, ...]


@dataclass(frozen=True)
class Statistic:
    """A number, its null (n_permutations,) and its values in half samples (n_resamples,), where there are such."""

    score: float
    null: np.ndarray | None = None
    half: np.ndarray | None = None


def gap_statistics(x: torch.Tensor, y: torch.Tensor, draws: Draws) -> dict[str, Statistic]:
    """Measure the gap between paired unit vectors.

    Parameters
    ----------
    x, y : tensor of shape (n_pairs, n_features)
        float32 rows of unit length; row i of one belongs to row i of the other.
    draws : Draws

    Returns
    -------
    dict of str to Statistic
        By the names of `GAP_METRICS`, those of retrieval with ``@k``.

    Notes
    -----
    Liang et al. 2022, NeurIPS (centroids, cone); Wang & Isola 2020, ICML (alignment, uniformity); Fahim et al. 2024,
    arXiv 2405.18570 (separability, uniformity across modalities). Uniformity is over pairs i < j, without the
    stimulus itself.
    """
    n = len(x)
    halves = None if draws.halves is None else to_tensor(draws.halves, x.device)
    with thread_limit(2.0 * n * n * x.shape[1]):
        found = _centroids(x, y, draws.swaps, halves)
        found |= _cones(x, y, halves)
        within = [_uniformity(_within(side, halves), n * (n - 1) / 2, halves, 0.5) for side in (x, y)]
        found |= {"uniformity.a": within[0], "uniformity.b": within[1], "uniformity": _mean(*within)}
        found |= _across(x, y, draws, halves)
    found["separability"] = separability(to_numpy(x), to_numpy(y), draws)
    return found


def separability(x: np.ndarray, y: np.ndarray, draws: Draws) -> Statistic:
    """Accuracy with which a logistic regression tells modalities apart, on pairs that it was not fitted on.

    Both members of a pair are in the same fold. The null fits it anew for each exchange of labels; half samples are
    of the held-out pairs, with the fits as they are.
    """
    right = _held_out(x, y, np.ones(len(x)), draws.folds)
    null = [_held_out(x, y, swap, draws.folds).mean() for swap in draws.refits]
    half = None if draws.halves is None else draws.halves @ right / draws.halves.sum(1)
    return Statistic(right.mean(), np.array(null) if null else None, half)


def _held_out(x, y, swap, folds: Folds) -> np.ndarray:
    """Return the share (0, .5, 1) of each pair that is told right."""
    from sklearn.linear_model import LogisticRegression

    first = np.where(swap[:, None] > 0, x, y)
    second = np.where(swap[:, None] > 0, y, x)
    right = np.zeros(len(x))
    for train, test in folds:
        model = LogisticRegression(max_iter=1000)
        model.fit(np.concatenate([first[train], second[train]]), np.repeat([0, 1], len(train)))
        right[test] = ((model.predict(first[test]) == 0) * 0.5 + (model.predict(second[test]) == 1) * 0.5)
    return right


def _centroids(x, y, swaps, halves) -> dict[str, Statistic]:
    n, means = len(x), [side.sum(0, dtype=torch.float64) / len(x) for side in (x, y)]
    total, apart = means[0] + means[1], means[0] - means[1]

    def measure(total, apart):
        first, second = (total + apart) / 2, (total - apart) / 2
        return apart.norm(dim=-1), torch.nn.functional.cosine_similarity(first, second, dim=-1)

    score = measure(total, apart)
    null = half = (None, None)
    if swaps is not None:
        moved = _products(to_tensor(swaps, x.device), x - y) / n
        null = measure(total.expand_as(moved), moved)
    if halves is not None:
        weights = halves / halves.sum(1, keepdim=True)
        half = measure(_products(weights, x + y), _products(weights, x - y))
    return {name: Statistic(float(s), _array(p), _array(h))
            for name, s, p, h in zip(("gap.distance", "gap.cosine"), score, null, half)}


def _cones(x, y, halves) -> dict[str, Statistic]:
    found = {}
    for name, side in (("cone.a", x), ("cone.b", y)):
        n = len(side)
        score = float((side.sum(0, dtype=torch.float64).square().sum() - n) / (n * (n - 1)))
        half = None
        if halves is not None:
            m = halves.sum(1).double()
            half = (_products(halves, side).square().sum(1) - m) / (m * (m - 1))
        found[name] = Statistic(score, None, _array(half))
    return found


def _within(side, halves):
    """Sum of exp(-2 |x - y|²) over pairs i < j of one modality, of all and of half samples."""
    n, total = len(side), 0.0
    quadratic = 0 if halves is None else torch.zeros(len(halves), dtype=torch.float64, device=side.device)
    step = _block(n, side.device)
    for start in range(0, n, step):
        kernel = _kernel(side[start:start + step] @ side[start:].T).triu(1)
        total += float(kernel.sum(1).double().sum())
        if halves is not None:
            quadratic += ((halves[:, start:start + step] @ kernel) * halves[:, start:]).sum(1).double()
    return total, quadratic


def _across(x, y, draws: Draws, halves) -> dict[str, Statistic]:
    """What needs the similarities of every stimulus of one modality with every one of the other."""
    n, device, most = len(x), x.device, max(draws.k)
    cosine, total = torch.empty(n, device=device), 0.0
    quadratic = 0 if halves is None else torch.zeros(len(halves), dtype=torch.float64, device=device)
    orders = None if draws.orders is None else torch.as_tensor(draws.orders, dtype=torch.int64, device=device)
    moved = 0 if orders is None else torch.zeros(len(orders), dtype=torch.float64, device=device)
    forward = torch.empty((n, most), dtype=torch.int64, device=device)
    backward = torch.empty((0, n), dtype=torch.int64, device=device)
    nearest = torch.empty((0, n), device=device)
    step = _block(n, device, 0 if orders is None else len(orders))
    for start in range(0, n, step):
        stop = min(start + step, n)
        own = torch.arange(stop - start, device=device)
        similarity = x[start:stop] @ y.T
        cosine[start:stop] = similarity[own, start + own]
        forward[start:stop] = similarity.topk(most, 1).indices
        values, index = similarity.topk(min(most, stop - start), 0)
        nearest, backward = torch.cat([nearest, values]), torch.cat([backward, index + start])
        nearest, kept = nearest.topk(min(most, len(nearest)), 0)
        backward = backward.gather(0, kept)
        if orders is not None:
            moved += similarity.gather(1, orders[:, start:stop].T).sum(0).double()
        kernel = _kernel(similarity)
        kernel[own, start + own] = 0
        total += float(kernel.sum(1).double().sum())
        if halves is not None:
            quadratic += ((halves[:, start:stop] @ kernel) * halves).sum(1).double()
    pairs = Statistic(float(cosine.double().mean()), None if orders is None else _array(moved / n),
                      _half_means(cosine, halves))
    found = {"cosine.pairs": pairs,
             "alignment": Statistic(*(None if v is None else 2 - 2 * v for v in (pairs.score, pairs.null, pairs.half))),
             "uniformity.cross": _uniformity((total, quadratic), n * (n - 1), halves, 1)}
    return found | _retrieval(forward, backward.T.contiguous(), orders, draws.k, halves)


def _retrieval(forward, backward, orders, ks, halves) -> dict[str, Statistic]:
    """Whether the partner is among the nearest; a new pairing asks it of the new partners."""
    n = len(forward)
    own = torch.arange(n, device=forward.device)
    found = {}
    hits = {"a_to_b": forward == own[:, None], "b_to_a": backward == own[:, None]}
    null = {name: torch.zeros((0 if orders is None else len(orders), forward.shape[1]), dtype=torch.float64)
            for name in hits}
    if orders is not None:
        step = rows_per_chunk(40 * n * forward.shape[1], forward.device, limit=2**27)
        for start in range(0, len(orders), step):
            part = orders[start:start + step]
            null["a_to_b"][start:start + step] = (forward[None] == part[..., None]).double().mean(1).cpu()
            null["b_to_a"][start:start + step] = (backward[part] == own[None, :, None]).double().mean(1).cpu()
    for name, hit in hits.items():
        for k in ks:
            within = hit[:, :k].any(1).float()
            found[f"retrieval.{name}@{k}"] = Statistic(
                float(within.double().mean()), None if orders is None else to_numpy(null[name][:, :k].sum(1)),
                _half_means(within, halves))
    return found


def _uniformity(sums, count: float, halves, share: float) -> Statistic:
    total, quadratic = sums
    half = None
    if halves is not None:
        m = halves.sum(1).double()
        half = torch.log(quadratic / (share * m * (m - 1)))
    return Statistic(float(np.log(total / count)), None, _array(half))


def _mean(one: Statistic, other: Statistic) -> Statistic:
    return Statistic((one.score + other.score) / 2, None, None if one.half is None else (one.half + other.half) / 2)


def _half_means(values, halves):
    return None if halves is None else _array((halves / halves.sum(1, keepdim=True)) @ values)


def _kernel(similarity):
    """Return exp(-2 |x - y|²) of unit vectors; the block of similarities is left as it is."""
    return torch.exp(4 * similarity - 4)


def _products(weights, values):
    """Return weights @ values; sums of products of float32, as float64 for what follows."""
    return (weights @ values).double()


def _array(values):
    return None if values is None else to_numpy(values).astype(np.float64)


def _block(n: int, device, extra: int = 0) -> int:
    return rows_per_chunk(16 * n + 16 * extra, device, limit=2**26)
