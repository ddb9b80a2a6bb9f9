"""Losses that bring paired embeddings together, differentiable, and what they are bounds of.

All take rows of unit length; row i of every argument belongs to one stimulus.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from neuroalign.errors import check_option

__all__ = ["LOSSES", "alignment", "clip", "cross_uniformity", "cua", "cuaxu", "multimodal_retrieval", "symile",
           "total_correlation_bound", "uniformity"]

TEMPERATURE = 0.01
NEGATIVES = ("shuffled", "all")


def clip(x: torch.Tensor, y: torch.Tensor, *, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Symmetric contrastive loss: each row must find its partner among those of the other side.

    Parameters
    ----------
    x, y : tensor of shape (n, n_features)
        Unit rows.
    temperature : float
        Fixed; a low one punishes the most similar strangers above all.

    Returns
    -------
    tensor
        A number in nats; log n where nothing is known.

    Notes
    -----
    Radford et al. 2021, ICML.

    Examples
    --------
    >>> x = torch.eye(4)
    >>> float(clip(x, x)) < 1e-6, round(float(clip(x, torch.ones(4, 4) / 2)), 4) == round(math.log(4), 4)
    (True, True)
    """
    _check(x, y)
    logits = x @ y.T / temperature
    own = torch.arange(len(x), device=x.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def cua(x: torch.Tensor, y: torch.Tensor, *, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Return `clip` plus the uniformity of each side (their mean) plus the alignment: it leaves less of a gap.

    Notes
    -----
    Fahim et al. 2024, arXiv 2405.18570; all weights are 1.
    """
    return clip(x, y, temperature=temperature) + (uniformity(x) + uniformity(y)) / 2 + alignment(x, y)


def cuaxu(x: torch.Tensor, y: torch.Tensor, *, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Return `cua` plus the uniformity across the two sides (Fahim et al. 2024, arXiv 2405.18570)."""
    return cua(x, y, temperature=temperature) + cross_uniformity(x, y)


def alignment(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of pairs (Wang & Isola 2020, ICML)."""
    _check(x, y)
    return (x - y).square().sum(1).mean()


def uniformity(x: torch.Tensor) -> torch.Tensor:
    """Log of the mean of exp(-2 |x_i - x_j|²) over i < j (Wang & Isola 2020, ICML)."""
    return torch.pdist(x).square().mul(-2).logsumexp(0) - math.log(len(x) * (len(x) - 1) / 2)


def cross_uniformity(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Log of the mean of exp(-2 |x_i - y_j|²) over i != j (Fahim et al. 2024, arXiv 2405.18570)."""
    _check(x, y)
    n = len(x)
    strangers = ~torch.eye(n, dtype=torch.bool, device=x.device)
    squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    return (-2 * squared[strangers]).logsumexp(0) - math.log(n * (n - 1))


def symile(*sides: torch.Tensor, temperature: float = TEMPERATURE, negatives: str = "shuffled",
           generator: torch.Generator | None = None) -> torch.Tensor:
    """Contrast products of all modalities at once, which sees what no pair of them shows.

    Parameters
    ----------
    *sides : tensors of shape (n, n_features)
        At least two modalities; the score of rows is the sum over features of their product. With two it is `clip`
        with the negatives of `negatives`.
    temperature : float
    negatives : {"shuffled", "all"}
        For each modality as the anchor: the others shuffled independently (n candidates), or every combination of
        them (n to the power of their number).
    generator : torch.Generator, optional
        Of the shuffles; needed for ``"shuffled"`` and more than two modalities.

    Returns
    -------
    tensor
        Mean over anchors, in nats.

    Notes
    -----
    Saporta et al. 2024, NeurIPS.

    Examples
    --------
    >>> x = torch.eye(4)
    >>> float(symile(x, x, x, negatives="all")) < 1e-6
    True
    """
    _check(*sides)
    check_option("negatives", negatives, NEGATIVES)
    if negatives == "shuffled" and len(sides) > 2 and generator is None:
        raise ValueError("symile: negatives='shuffled' of three or more modalities draws orders. Pass "
                         "generator=torch.Generator().manual_seed(0).")
    losses = []
    for k, anchor in enumerate(sides):
        others = [side for j, side in enumerate(sides) if j != k]
        losses.append((_all_losses if negatives == "all" else _shuffled_losses)(anchor, others, temperature, generator))
    return torch.stack(losses).mean()


def total_correlation_bound(*sides: torch.Tensor, temperature: float = TEMPERATURE,
                            generator: torch.Generator | None = None) -> float:
    """Lower bound, in nats, of the total correlation of modalities, from their embeddings of held-out stimuli.

    Parameters
    ----------
    *sides : tensors of shape (n, n_features)
        Of stimuli that the embeddings were not trained on: otherwise it is no bound.
    temperature, generator
        As for `symile`.

    Returns
    -------
    float
        ``log n - symile(...)``: never above ``log n``, however much the modalities share. A value near log n says that
        more stimuli are needed, not how much is shared. It may be negative.

    Notes
    -----
    Saporta et al. 2024, NeurIPS; with two modalities it is the InfoNCE bound of their mutual information (van den Oord
    et al. 2018, arXiv 1807.03748).
    """
    with torch.no_grad():
        return math.log(len(sides[0])) - float(symile(*sides, temperature=temperature, generator=generator))


def multimodal_retrieval(query: Sequence[torch.Tensor], candidates: torch.Tensor, *, score: str = "product") -> float:
    """Share of stimuli whose row in one modality is found from their rows in the others.

    Parameters
    ----------
    query : sequence of tensors of shape (n, n_features)
    candidates : tensor of shape (n, n_features)
    score : {"product", "sum"}
        ``product``: sum over features of the product of all (Symile); ``sum``: sum of the similarities with each
        modality of the query (pairwise contrast).

    Returns
    -------
    float
        1 / n by chance. Candidates that score as high as the right one share its place.
    """
    check_option("score", score, ("product", "sum"))
    _check(*query, candidates)
    asked = _product(query) if score == "product" else torch.stack(tuple(query)).sum(0)
    logits = asked.double() @ candidates.double().T
    right = logits.diagonal()[:, None]
    near = 1e-9 * logits.abs().max()
    better, equal = (logits > right + near).sum(1), ((logits - right).abs() <= near).sum(1)
    return float(((better == 0) / equal).mean())


LOSSES = {"clip": clip, "cua": cua, "cuaxu": cuaxu, "symile": symile}


def _check(*sides) -> None:
    if len(sides) < 2:
        raise ValueError(f"contrastive loss: got {len(sides)} modality, expected at least two.")
    shapes = {tuple(side.shape) for side in sides}
    if len(shapes) > 1 or len(next(iter(shapes))) != 2 or len(sides[0]) < 2:
        raise ValueError(f"contrastive loss: got shapes {sorted(shapes)}, expected one shape (n, n_features) for all, "
                         "n at least 2.")


def _shuffled_losses(anchor, others, temperature, generator):
    n = len(anchor)
    moved = others
    if len(others) > 1:
        moved = [side[torch.randperm(n, generator=generator, device=generator.device).to(side.device)]
                 for side in others]
    logits = anchor @ _product(moved).T
    own = torch.arange(n, device=anchor.device)
    right = (anchor * _product(others)).sum(1)
    return cross_entropy(torch.where(torch.eye(n, dtype=torch.bool, device=anchor.device), right, logits)
                         / temperature, own)


def _all_losses(anchor, others, temperature, generator):
    n, combined = len(anchor), others[0]
    own = torch.arange(n, device=anchor.device)
    for side in others[1:]:
        combined = (combined[:, None] * side[None]).flatten(0, 1)
    place = sum(n**power for power in range(len(others))) * own  # row i of every modality
    return cross_entropy(anchor @ combined.T / temperature, place)


def _product(sides):
    found = sides[0]
    for side in sides[1:]:
        found = found * side
    return found
