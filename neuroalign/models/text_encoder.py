"""Text encoders: BERT and its kin, sentence encoders."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import block_layers, find_blocks, to_tokens
from neuroalign.models.text import TEXT_STREAMS, load_text_input

__all__ = ["TextAdapter", "TextEncoder"]


class TextAdapter:
    """What text encoders and causal language models share."""

    modalities = ("text",)
    auto = "AutoModel"
    classes: Mapping[str, str] = {}  # model type -> class, where the automatic one would load another

    def auto_class(self, config) -> str:
        """Return the class of transformers that loads a configuration."""
        return self.classes.get(config.model_type, self.auto)

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the one tower."""
        return ("text",)

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for absent, empty and too long texts."""
        model.processors["text"].check(stimuli)

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return about how many tokens the text has."""
        return model.processors["text"].length(stimulus)

    def tokenize(self, model: LoadedModel, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return token ids without special tokens, and their character spans."""
        return model.processors["text"].tokenize(text)

    def batch(self, model: LoadedModel, sequences) -> Inputs:
        """Turn tokenised texts, or windows of them, (ids, offsets) each, into a batch with special tokens."""
        tensors, masks, offsets = model.processors["text"].batch(sequences, model.device)
        return Inputs(tensors, {"text": masks}, {"text": offsets})

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Tokenise, add special tokens, pad on the right."""
        return self.batch(model, model.processors["text"].encode(stimuli))

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model."""
        return model.module(**inputs.tensors)

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature)."""
        return to_tokens(raw)


class TextEncoder(TextAdapter):
    """Bidirectional encoders; streams ``text`` (real tokens), ``special`` ([CLS], [SEP]), ``all``."""

    family = "text_encoder"
    version = 1
    blocks: Mapping[str, tuple[str, ...]] = {
        "bert": ("encoder.layer",),
        "roberta": ("encoder.layer",),
        "xlm-roberta": ("encoder.layer",),
        "distilbert": ("transformer.layer",),
    }

    def load_processors(self, source, config) -> dict:
        """Return the text side."""
        return {"text": load_text_input(source.tokenizer(), config)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, the blocks, and the pooled vector where it was trained."""
        path, count = find_blocks(model.module, self.blocks[model.module.config.model_type])
        layers = block_layers(path, count, "text", TEXT_STREAMS)
        if getattr(model.module, "pooler", None) is not None and "pooler" not in model.untrained:
            layers.append(Layer("pooler", 1.0, "text", ("text", "all"), masked=False))
        return layers
