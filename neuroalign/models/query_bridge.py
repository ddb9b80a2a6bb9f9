"""Query bridges: a few queries carry the picture to the language model (BLIP-2, InstructBLIP)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.base import widen_initialisation
from neuroalign.models.blocks import tower_layers
from neuroalign.models.decoder_mllm import Frame, picture_pieces
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import HAS, Multimodal, join_pieces, prefixed_masks
from neuroalign.models.text import load_text_input

__all__ = ["InstructBlip", "QueryBridge"]

FUSED = ("image", "text", "special", "all")


class QueryBridge(Multimodal):
    """Towers ``image`` (patches), ``qformer`` (queries, stream ``image``) and ``lm`` (queries, then the text).

    It has no language-only run: the model takes its queries from a picture.
    """

    family = "query_bridge"
    version = 1
    model_types = ("blip-2",)
    routes: Mapping = {("image", "text"): ("image", "qformer", "lm"), ("image",): ("image", "qformer")}
    qformer = "qformer"
    read_by_queries: tuple[str, ...] = ("image", "all")  # the streams of the query transformer

    def configure(self, config) -> None:
        """Let the vision tower of a random twin have weights."""
        widen_initialisation(config.vision_config)

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side."""
        tokenizer, text = source.tokenizer(), config.get_text_config()
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else text.bos_token_id
        return {"text": load_text_input(tokenizer, text, begin=begin), "image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and blocks of the vision tower, the query transformer, the language model."""
        kind = model.module.config.text_config.model_type
        decoder = "opt" if kind == "opt" else "llama"
        return [
            *tower_layers(model.module, "blip_vision_model", "image", ("image", "special", "all"), taps=taps,
                          prefix="vision_model."),
            *tower_layers(model.module, self.qformer, "qformer", self.read_by_queries, taps=taps, prefix="qformer."),
            *tower_layers(model.module, decoder, "lm", FUSED, taps=taps, prefix="language_model."),
        ]  # fmt: skip

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Process the pictures, put a placeholder a query before each text."""
        config, n = model.module.config, len(stimuli)
        pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
        patch = config.vision_config.patch_size
        count = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
        inputs = Inputs({"pixel_values": pixels}, {"image": prefixed_masks(n, 1, count, model.device)}, {})
        if "qformer" in self.towers(model, stimuli[0]):
            self.add_queries(model, stimuli, inputs)
        if "text" in self.present(stimuli[0]):
            frame = Frame("vision_model.", "language_model.", 1, image_first=True)
            pieces = picture_pieces(model, stimuli, [config.num_query_tokens] * n, frame, config.image_token_id)
            text, inputs.streams["lm"], inputs.offsets["lm"] = join_pieces(
                pieces, model.processors["text"].pad_id, model.device, FUSED[:-1])
            inputs.tensors |= text
        return inputs

    def add_queries(self, model: LoadedModel, stimuli: Sequence[Mapping], inputs: Inputs) -> None:
        """Add what the query transformer reads to a batch: the queries."""
        queries = model.module.config.num_query_tokens
        inputs.streams["qformer"] = prefixed_masks(len(stimuli), 0, queries, model.device)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the towers that have input."""
        if "lm" in inputs.streams:
            return model.module(**inputs.tensors, use_cache=False)
        return model.module.get_qformer_features(inputs.tensors["pixel_values"])


class InstructBlip(QueryBridge):
    """InstructBLIP: the query transformer reads the text too, so that the queries ask for what the text is about.

    Its stream ``text`` has tokens of its own, from the tokenizer in the subfolder ``qformer_tokenizer``. A picture
    alone runs through the vision tower only.
    """

    family = "instruct_blip"
    model_types = ("instructblip",)
    routes: Mapping = {("image", "text"): ("image", "qformer", "lm"), ("image",): ("image",)}
    qformer = "instructblip_qformer"
    read_by_queries = FUSED

    def auto_class(self, config) -> str:
        """Return the class of transformers that loads a configuration."""
        return "InstructBlipForConditionalGeneration"

    def load_processors(self, source, config) -> dict:
        """Return the text side, that of the query transformer, and the image side."""
        own = replace(source, folder=source.folder / "qformer_tokenizer").tokenizer()
        return super().load_processors(source, config) | {"qformer": load_text_input(own, config.qformer_config)}

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise as the base does, and for a text that is too long for the query transformer."""
        super().check(model, stimuli)
        model.processors["qformer"].check([s for s in stimuli if HAS["text"](s)])

    def add_queries(self, model: LoadedModel, stimuli: Sequence[Mapping], inputs: Inputs) -> None:
        """Add what the query transformer reads to a batch: the queries, then the text."""
        side, queries = model.processors["qformer"], model.module.config.num_query_tokens
        tensors, text, spans = side.batch(side.encode(stimuli), model.device)
        inputs.tensors |= {f"qformer_{name}": tensor for name, tensor in tensors.items()}
        none = torch.zeros(len(stimuli), queries, dtype=torch.bool, device=model.device)
        before = {"image": ~none, "text": none, "special": none, "all": ~none}
        text["image"] = torch.zeros_like(text["all"])
        inputs.streams["qformer"] = {name: torch.cat([before[name], text[name]], 1) for name in FUSED}
        inputs.offsets["qformer"] = [[(0, 0)] * queries + s for s in spans]

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model, or its vision tower for a picture alone."""
        if "lm" in inputs.streams:
            return model.module(**inputs.tensors, use_cache=False)
        return model.module.vision_model(inputs.tensors["pixel_values"])
