"""Pairs of towers of your own: a model of images, sounds or videos and one of texts, side by side as one model.

They were not trained together and nothing joins them: the control for a dual encoder, whose towers were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.dual_encoder import TEXT_TENSORS, DualEncoder

__all__ = ["Pair", "load_pair"]


class PairModule(nn.Module):
    """The towers: ``image_model`` (``audio_model``, ``video_model``) and ``text_model``."""

    def __init__(self, towers: Mapping[str, nn.Module]):
        super().__init__()
        for modality, module in towers.items():
            self.add_module(f"{modality}_model", module)


class Pair(DualEncoder):
    """Each tower is read by the adapter of its own family, its layers are named ``image_model.`` and ``text_model.``.

    Parameters
    ----------
    parts : mapping of modality to LoadedModel
    """

    family = "pair"
    version = 1
    model_types = ()

    def __init__(self, parts: Mapping[str, LoadedModel]):
        self.parts, self.modalities = dict(parts), tuple(parts)

    def part(self, model: LoadedModel, tower: str) -> LoadedModel:
        """Return one tower as a model of its own, where the pair is now."""
        module = model.module.get_submodule(f"{tower}_model")
        return replace(self.parts[tower], module=module, device=model.device, dtype=model.dtype)

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the layers of each tower, in order."""
        return [
            replace(layer, path=f"{tower}_model.{layer.path}")
            for tower in self.modalities
            for layer in self.parts[tower].adapter.layers(self.part(model, tower), taps)
        ]

    def read(self, model: LoadedModel, tower: str, stimuli: Sequence[Mapping]) -> Inputs:
        """Prepare one tower."""
        part = self.part(model, tower)
        return part.adapter.prepare(part, stimuli)

    def times(self, model: LoadedModel, layer: Layer, stimulus: Mapping) -> np.ndarray | None:
        """Return the seconds of the tokens of a tower whose family knows them."""
        part = self.part(model, layer.tower)
        find = getattr(part.adapter, "times", None)
        return find and find(part, replace(layer, path=layer.path.partition(".")[2]), stimulus)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run each tower that has input; returns {tower: output of the tower}."""
        outputs = {}
        for tower, masks in inputs.streams.items():
            part = self.part(model, tower)
            own = {n: t for n, t in inputs.tensors.items() if (n in TEXT_TENSORS) == (tower == "text")}
            outputs[tower] = part.adapter.forward(part, Inputs(own, {tower: masks}))
        return outputs

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature), as the adapter of the tower does."""
        part = self.part(model, layer.tower)
        return part.adapter.tokens(part, replace(layer, path=layer.path.partition(".")[2]), raw)


def load_pair(entry, load_part: Callable[[str], LoadedModel]):
    """Return module, adapter, processors and identity of the weights of a pair.

    `load_part` loads a model by its zoo id, folder or hub id.
    """
    senses = [m for m in entry.parts or {} if m != "text"]
    if "text" not in (entry.parts or {}) or len(senses) != 1:
        raise ValueError(
            f"zoo entry {entry.id!r}: a pair has a tower of 'image', 'audio' or 'video' and one of 'text', got "
            f"{sorted(entry.parts or {})}. Write parts: {{image: MODEL, text: MODEL}}."
        )
    parts = {modality: load_part(entry.parts[modality]) for modality in (*senses, "text")}
    for modality, part in parts.items():
        if tuple(part.adapter.modalities) != (modality,):
            raise ValueError(
                f"zoo entry {entry.id!r}: its part {entry.parts[modality]!r} ({part.adapter.family}) reads "
                f"{' and '.join(part.adapter.modalities)}, expected a model of {modality} alone."
            )
    module = PairModule({modality: part.module for modality, part in parts.items()})
    processors = {modality: part.processors[modality] for modality, part in parts.items()}
    identity = "+".join(f"{p.weights}:{p.adapter.family}.{p.adapter.version}" for p in parts.values())
    return module, Pair(parts), processors, identity, ()
