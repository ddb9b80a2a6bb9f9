"""Whether two modalities use the same weights: overlap of the weights that matter most for the tokens of each."""

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import torch
import xarray as xr
from torch import nn

from neuroalign.data import StimulusSet
from neuroalign.data.scores import make
from neuroalign.errors import collect_warnings, list_ids, warn_user
from neuroalign.features.hooks import pinned
from neuroalign.models.adapter import LoadedModel
from neuroalign.probes.batches import each_forward, meeting_layers
from neuroalign.stats import child_rng, fdr, permutation_p

__all__ = ["subnetwork_overlap", "wanda_mask"]


def subnetwork_overlap(model: LoadedModel, stimuli: StimulusSet, *, a: str = "image", b: str = "text",
                       sparsity: float = 0.5, n_random: int = 999, batch_size: int | None = None,
                       random_state: int = 0) -> xr.Dataset:
    """Compare the weights that are kept when a model is pruned for the tokens of one modality and of another.

    Parameters
    ----------
    model : LoadedModel
    stimuli : StimulusSet
        With both modalities; every other one serves one of two halves, so that masks that are compared never come
        from the same stimuli.
    a, b : str
        Streams.
    sparsity : float
        Share of the weights of each output that is pruned.
    n_random : int
        Draws of random masks of the same sparsity: the null.
    batch_size : int, optional
    random_state : int

    Returns
    -------
    Dataset
        Scores (metric, space), metric ``mask.iou``: weights kept by both, as a share of those kept by either, for
        every linear map in the blocks where the modalities meet. Spaces ``a~b``, ``a~a`` and ``b~b``; the last two,
        between halves of the stimuli, say how much masks of one modality agree. p against random masks.

    Notes
    -----
    A weight counts by its size times the length of its input over the tokens (Sun et al. 2024, ICLR, Wanda); the
    overlap of modalities is that of Shukor & Cord 2024, NeurIPS (arXiv 2405.16700). Random masks share
    ``k / (2 - k)`` at a kept share k.

    Examples
    --------
    ``na.probes.subnetwork_overlap(na.models.load_model("llava-1.5-7b"), pairs, sparsity=0.5)``
    """
    if not 0 < sparsity < 1:
        raise ValueError(f"sparsity: got {sparsity!r}, expected a share between 0 and 1.")
    if len(stimuli) < 2:
        raise ValueError(f"stimuli: got {len(stimuli)}, expected at least 2: one for each half.")
    blocks = [x for x in meeting_layers(model, (a, b)) if x.tap == "output"]
    linear = {f"{x.path}.{name}": (part, x) for x in blocks
              for name, part in model.module.get_submodule(x.path).named_modules() if isinstance(part, nn.Linear)}
    if not linear:
        raise ValueError(f"model {model.id!r}: no torch.nn.Linear in its blocks {list_ids(x.path for x in blocks)}.")
    with collect_warnings() as collected:
        squares = _input_squares(model, stimuli, linear, blocks[0].tower, (a, b), batch_size, random_state)
        lost = [name for name in linear if name not in squares]
        if lost:
            warn_user(f"{len(lost)} linear maps do not see the tokens one by one, and are left out: {list_ids(lost)}.",
                      "no-token-input", lost)
    rng = child_rng(random_state, "random masks")
    names, layers, streams, scores, nulls = [], [], [], [], []
    for name, sums in squares.items():
        part, layer = linear[name]
        masks = {key: wanda_mask(part.weight, value.sqrt(), sparsity) for key, value in sums.items()}
        null = _random_overlap(part.weight.shape, sparsity, n_random, rng)
        for one, other in ((a, b), (a, a), (b, b)):
            crossed = [_iou(masks[one, h], masks[other, 1 - h]) for h in (0, 1)]
            scores.append(np.mean(crossed))
            nulls.append(null)
            names.append(f"{model.id}:{name}:{one}~{other}")
            layers.append((name, layer.depth))
            streams.append(f"{one}~{other}")
    score, null = np.array(scores)[None], np.array(nulls).T[:, None]
    p = permutation_p(score, null) if n_random else np.full(score.shape, np.nan)
    mean, sd = (null.mean(0), null.std(0)) if n_random else (np.full(score.shape, np.nan),) * 2
    values = {"score": score, "p": p, "q": fdr(p, axis=1), "null_mean": mean, "null_sd": sd,
              "n": np.full(score.shape, float(len(stimuli)))}
    coords = {"metric": ["mask.iou"], "space": names, "model": ("space", [model.id] * len(names)),
              "layer": ("space", [n for n, _ in layers]), "depth": ("space", [d for _, d in layers]),
              "stream": ("space", streams)}
    attrs = {"kind": "subnetwork_overlap", "streams": [a, b], "sparsity": sparsity, "n_random": n_random,
             "random_state": random_state, "weights": model.weights, "warnings": collected,
             "untrained": model.weights.startswith("random"),
             "aggregation": {"mask.iou": "weights kept by both masks as a share of those kept by either; mean over the "
                                         "two ways to take the masks from different halves of the stimuli"}}
    return make({k: (("metric", "space"), v) for k, v in values.items()}, coords, attrs)


def wanda_mask(weight: torch.Tensor, length: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Return which weights are kept: of each output all but the share whose size times input length is lowest.

    Examples
    --------
    >>> wanda_mask(torch.tensor([[1.0, -2.0, 3.0, 0.5]]), torch.tensor([9.0, 1.0, 1.0, 1.0]), 0.5).tolist()
    [[True, False, True, False]]
    """
    value = weight.detach().abs().float() * length.to(weight.device).float()
    pruned = int(weight.shape[1] * sparsity)
    mask = torch.ones_like(value, dtype=torch.bool)
    return mask.scatter_(1, value.argsort(1)[:, :pruned], False)


def _random_overlap(shape, sparsity: float, count: int, rng) -> np.ndarray:
    """Overlap of random masks, without the masks: what two random sets of an output share is hypergeometric."""
    outputs, inputs = shape
    kept = inputs - int(inputs * sparsity)
    shared = rng.hypergeometric(kept, inputs - kept, kept, (count, 2, outputs)).sum(-1)  # two ways to take the halves
    return (shared / (2 * kept * outputs - shared)).mean(1)


def _iou(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one & other).sum() / (one | other).sum().clamp_min(1))


def _input_squares(model: LoadedModel, stimuli, linear, tower: str, streams, batch_size, seed) -> dict:
    """Return, of each linear map, sums of squares of its inputs over the tokens of a (stream, half)."""
    sums, now = {}, {}

    def watch(name: str) -> Callable:
        def before(_, args):
            masks, half, tokens = now["masks"], now["half"], args[0]
            if tokens.ndim == 2 and len(tokens) == half.numel():  # all tokens of the batch in one line
                tokens = tokens.view(*half.shape, -1)
            if tokens.ndim != 3 or tokens.shape[:2] != half.shape:
                return
            own = sums.setdefault(name, {(s, h): 0 for s in streams for h in (0, 1)})
            for stream in streams:
                for h in (0, 1):
                    picked = masks[stream] & (half == h)
                    own[stream, h] = own[stream, h] + tokens[picked].float().square().sum(0).cpu().double()

        return before

    def use(places, inputs):
        masks = inputs.streams[tower]
        half = torch.as_tensor(places, device=model.device)[:, None] % 2
        now.update(masks=masks, half=half.expand_as(masks[streams[0]]))
        with pinned(model.device, seed):
            model.adapter.forward(model, inputs)

    with ExitStack() as stack:
        for name, (part, _) in linear.items():
            stack.callback(part.register_forward_pre_hook(watch(name)).remove)
        each_forward(model, stimuli, tower, use, batch_size=batch_size)
    return sums
