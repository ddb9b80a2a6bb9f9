"""What a model loses when the tokens of one modality skip some of its blocks."""

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from neuroalign.data import StimulusSet
from neuroalign.data.scores import make
from neuroalign.errors import check_option, list_ids
from neuroalign.features.hooks import Capture
from neuroalign.features.spans import LAST
from neuroalign.models.adapter import Layer, LoadedModel
from neuroalign.models.vocabulary import vocabulary_head
from neuroalign.probes.batches import each_forward
from neuroalign.stats import LEVEL, mean_interval

__all__ = ["skipping_curve"]

PARTS = ("block", "mlp", "attention")


@dataclass(frozen=True)
class _Condition:
    every: int
    start: int
    skipped: tuple[int, ...]


def skipping_curve(model: LoadedModel, stimuli: StimulusSet, *, stream: str = "image", every: Sequence[int] = (4, 2, 1),
                   start: Sequence[int] = (0,), part: str = "block", n_bootstraps: int = 1000,
                   batch_size: int | None = None, random_state: int = 0) -> xr.Dataset:
    """Let the tokens of one stream skip every k-th block, and see what is predicted after the stimulus.

    Parameters
    ----------
    model : LoadedModel
        One that predicts tokens.
    stimuli : StimulusSet
    stream : str
        Whose tokens skip.
    every : sequence of int
        2 skips every other block from `start` on, 1 all of them.
    start : sequence of int
        First block that is skipped.
    part : {"block", "mlp", "attention"}
        The whole block (its tokens leave as they came), or what this part of it adds.
    n_bootstraps : int
        Resamples of the stimuli for the interval.
    batch_size : int, optional
    random_state : int

    Returns
    -------
    Dataset
        Scores (metric, space), one space a condition with coords ``every``, ``start`` and ``share`` (of blocks that
        are skipped): ``skip.kl``, divergence of what is predicted after skipping from what is predicted without
        (nats, 0: nothing is lost), and ``skip.agreement``, share of stimuli with the same likeliest token.

    Raises
    ------
    RuntimeError
        If a block that should be skipped did not run.

    Notes
    -----
    Shukor & Cord 2024, NeurIPS (arXiv 2405.16700).

    Examples
    --------
    ``na.probes.skipping_curve(na.models.load_model("llava-1.5-7b"), pairs, every=(4, 2, 1), start=(0, 16))``
    """
    check_option("part", part, PARTS)
    head = vocabulary_head(model)
    layers = [x for x in model.adapter.layers(model, (part,)) if x.tap == "output"
              and x.path.startswith(f"{head.stack}.")]
    blocks = [x for x in model.adapter.layers(model, ("block",)) if x.tap == "output"
              and x.path.startswith(f"{head.stack}.")]
    if stream not in blocks[-1].streams:
        raise ValueError(f"stream: got {stream!r}, expected one of {', '.join(blocks[-1].streams)}: the tokens of "
                         f"model {model.id!r} in {head.stack!r}.")
    if len(layers) != len(blocks):
        raise ValueError(f"part: model {model.id!r} ({model.adapter.family}) has no {part!r} of its own in each of its "
                         f"{len(blocks)} blocks. Use part='block'.")
    conditions = _conditions(every, start, len(blocks))
    kl, same = (np.full((len(conditions), len(stimuli)), np.nan) for _ in range(2))

    def predict(inputs, skipped):
        def reduce(layer, tokens, given):
            return {"last": tokens[given.streams[head.tower][LAST]]}

        # Hooks see a block in the order in which they were set: what skips comes before what reads.
        with _skipping(model, [layers[k] for k in skipped], inputs.streams[head.tower][stream], part) as ran:
            with Capture(model, blocks[-1:], reduce) as capture:
                states = capture.run(inputs, random_state)[0]["last"]
        if sorted(ran) != sorted(layers[k].path for k in skipped):
            raise RuntimeError(f"model {model.id!r}: blocks {list_ids(layers[k].path for k in skipped)} should be "
                               f"skipped once each, and {list_ids(ran)} were.")
        with torch.inference_mode():
            return head.logits(states).log_softmax(-1)

    def use(places, inputs):
        base = predict(inputs, ())
        for c, condition in enumerate(conditions):
            changed = predict(inputs, condition.skipped)
            kl[c, places] = (base.exp() * (base - changed)).sum(-1).cpu().numpy()
            same[c, places] = (base.argmax(-1) == changed.argmax(-1)).cpu().numpy()

    each_forward(model, stimuli, head.tower, use, batch_size=batch_size)
    attrs = {"kind": "skipping_curve", "stream": stream, "part": part, "n_blocks": len(blocks),
             "weights": model.weights, "untrained": model.weights.startswith("random"), "random_state": random_state,
             "aggregation": {"skip.kl": "KL(without skipping || with it) of what is predicted, nats; mean over stimuli",
                             "skip.agreement": "share of stimuli with the same likeliest token"},
             "interval": f"{LEVEL:.0%} percentile interval over resamples of stimuli" if n_bootstraps else None}
    return _assemble(model, stream, conditions, len(blocks), np.stack([kl, same]), stimuli.ids, n_bootstraps,
                     random_state, attrs)


def _conditions(every, start, n_blocks: int) -> list[_Condition]:
    found = []
    for first in start:
        for k in every:
            if not 0 <= first < n_blocks or not isinstance(k, (int, np.integer)) or k < 1:
                raise ValueError(f"every, start: got {k!r} and {first!r}, expected at least 1, and a block from 0 to "
                                 f"{n_blocks - 1}.")
            found.append(_Condition(int(k), int(first), tuple(range(first, n_blocks, k))))
    return found


@contextmanager
def _skipping(model: LoadedModel, layers: Sequence[Layer], mask: torch.Tensor, part: str):
    """Hook layers so that the tokens of a mask leave as they came; yields the paths that did."""
    ran: list[str] = []

    def hook(path):
        def after(module, args, kwargs, output):
            tokens = output[0] if isinstance(output, tuple) else output
            came = args[0] if args else kwargs["hidden_states"]
            kept = torch.where(mask[..., None], came if part == "block" else torch.zeros_like(tokens), tokens)
            ran.append(path)
            return (kept, *output[1:]) if isinstance(output, tuple) else kept

        return after

    with ExitStack() as stack:
        for layer in layers:
            module = model.module.get_submodule(layer.path)
            stack.callback(module.register_forward_hook(hook(layer.path), with_kwargs=True).remove)
        yield ran


def _assemble(model, stream, conditions, n_blocks, values, ids, n_bootstraps, random_state, attrs) -> xr.Dataset:
    dims, shape = ("metric", "space"), values.shape[:2]
    low, high = mean_interval(values, ids, n_bootstraps, random_state=random_state, purpose="skipping")
    names = [f"every {c.every} from {c.start}" for c in conditions]
    coords = {"metric": ["skip.kl", "skip.agreement"], "space": [f"{model.id}:{name}:{stream}" for name in names],
              "model": ("space", [model.id] * len(names)), "layer": ("space", names),
              "stream": ("space", [stream] * len(names)), "every": ("space", [c.every for c in conditions]),
              "start": ("space", [c.start for c in conditions]),
              "share": ("space", [len(c.skipped) / n_blocks for c in conditions])}
    return make({"score": (dims, values.mean(-1)), "ci_low": (dims, low), "ci_high": (dims, high),
                 "n": (dims, np.full(shape, float(len(ids))))}, coords, attrs)
