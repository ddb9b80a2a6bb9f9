"""Models of regions (VisualBERT, LXMERT), given a grid of regions: the last feature map of a vision backbone.

These models were trained on regions of an object detector. No detector comes with them, so each position of the last
feature map of a backbone is one region, its box the cell of the grid. What comes out is named so: ``+grid`` in the id.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel, attach
from neuroalign.models.blocks import tower_layers
from neuroalign.models.multimodal import Multimodal
from neuroalign.models.text import load_text_input

__all__ = ["GridLxmert", "GridRegions", "GridVisualBert"]

FUSED = ("image", "text", "special", "all")


@dataclass(frozen=True)
class GridRegions:
    """The image side: a backbone whose last feature map gives the regions.

    Attributes
    ----------
    backbone : LoadedModel
        A convolutional network; its feature maps are square.
    """

    backbone: LoadedModel

    @property
    def identity(self) -> str:
        """What decides the regions of an image."""
        net = self.backbone
        parts = (net.weights, net.preprocessing, self._layer.name, str(net.adapter.version))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def check(self, stimuli: Sequence[Mapping]) -> None:
        """Raise for absent images and missing files."""
        self.backbone.processors["image"].check(stimuli)

    def regions(self, stimuli: Sequence[Mapping]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the regions (batch, region, feature) and their boxes (region, 4): x0, y0, x1, y1 from 0 to 1."""
        caught: list[torch.Tensor] = []
        handle = attach(self.backbone, self._layer, caught.append)
        try:
            with torch.inference_mode():
                self.backbone.adapter.forward(self.backbone, self.backbone.adapter.prepare(self.backbone, stimuli))
        finally:
            handle.remove()
        return caught[0], grid_boxes(round(caught[0].shape[1] ** 0.5))

    @property
    def _layer(self) -> Layer:
        layers = self.backbone.adapter.layers(self.backbone)
        return [x for x in layers if "pool" not in x.path and x.path != "layernorm"][-1]


def grid_boxes(side: int) -> torch.Tensor:
    """Return the boxes of the cells of a square grid in row order, (side * side, 4): x0, y0, x1, y1.

    Examples
    --------
    >>> grid_boxes(2)[1].tolist()
    [0.5, 0.0, 1.0, 0.5]
    """
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([x, y, x + 1, y + 1], -1).reshape(-1, 4) / side


class OnRegions(Multimodal):
    """What models of regions share."""

    suffix = "+grid"
    width = ""  # the setting that says how wide a region is

    def load_processors(self, source, config) -> dict:
        """Return the text side, and the backbone that gives the regions."""
        regions = GridRegions(source.backbone())
        return {"text": load_text_input(source.tokenizer(), config), "image": regions}

    def read(self, model: LoadedModel, stimuli: Sequence[Mapping]):
        """Return tensors, streams and offsets of the texts, regions and boxes of the pictures."""
        side, expected = model.processors["text"], getattr(model.module.config, self.width)
        text = side.batch(side.encode(stimuli), model.device)
        regions, boxes = model.processors["image"].regions(stimuli)
        if regions.shape[2] != expected:
            raise ValueError(
                f"model {model.id!r}: regions of {regions.shape[2]} features from the backbone "
                f"{model.processors['image'].backbone.id!r}, the model wants {expected}. Name another backbone by "
                "'parts: {regions: ...}' in a zoo entry."
            )
        return *text, regions.to(model.device, model.dtype), boxes.to(model.device, model.dtype)


class GridVisualBert(OnRegions):
    """VisualBERT on grid regions: [text, regions] in one encoder."""

    family = "grid_visual_bert"
    version = 1
    model_types = ("visual_bert",)
    width = "visual_embedding_dim"
    routes: Mapping = {("image", "text"): ("fusion",), ("text",): ("fusion",)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and the blocks."""
        return tower_layers(model.module, "visual_bert", "fusion", FUSED, taps=taps)

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Tokenise, and put the regions behind."""
        if "image" not in self.present(stimuli[0]):
            side = model.processors["text"]
            tensors, text, offsets = side.batch(side.encode(stimuli), model.device)
            return Inputs(tensors, {"fusion": {"image": torch.zeros_like(text["all"]), **text}}, {"fusion": offsets})
        tensors, text, offsets, regions, _ = self.read(model, stimuli)
        ones = torch.ones(regions.shape[:2], dtype=torch.long, device=model.device)
        tensors |= {"visual_embeds": regions, "visual_token_type_ids": ones, "visual_attention_mask": ones.float()}
        masks = {k: torch.nn.functional.pad(m, (0, ones.shape[1]), value=k == "all") for k, m in text.items()}
        masks["image"] = torch.cat([torch.zeros_like(text["all"]), ones.bool()], 1)
        return Inputs(tensors, {"fusion": masks}, {"fusion": offsets})


class GridLxmert(OnRegions):
    """LXMERT on grid regions: towers ``language`` and ``vision``, which meet in the cross-modality layers."""

    family = "grid_lxmert"
    version = 1
    model_types = ("lxmert",)
    width = "visual_feat_dim"
    routes: Mapping = {("image", "text"): ("language", "vision")}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return embedding, own blocks and cross-modality layers of language, then of vision."""
        config, layers = model.module.config, []
        if "block" not in taps:
            return layers
        for tower, own, count, part, streams in (
            ("language", "layer", config.l_layers, "lang_output", model.processors["text"].streams),
            ("vision", "r_layers", config.r_layers, "visn_output", ("image", "all")),
        ):
            total = count + config.x_layers
            paths = [f"encoder.{own}.{i}" for i in range(count)]
            paths += [f"encoder.x_layers.{i}.{part}" for i in range(config.x_layers)]
            layers.append(Layer(paths[0], 0.0, tower, streams, "input"))
            layers += [Layer(path, (i + 1) / total, tower, streams) for i, path in enumerate(paths)]
        return layers

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Tokenise, and give the regions with their boxes."""
        tensors, text, offsets, regions, boxes = self.read(model, stimuli)
        tensors |= {"visual_feats": regions, "visual_pos": boxes.expand(len(regions), -1, -1)}
        every = torch.ones(regions.shape[:2], dtype=torch.bool, device=model.device)
        return Inputs(tensors, {"language": text, "vision": {"image": every, "all": every}}, {"language": offsets})

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model."""
        return model.module(**inputs.tensors)
