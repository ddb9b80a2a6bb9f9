"""Causal language models: GPT-2, Llama and their kin."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Layer, LoadedModel
from neuroalign.models.blocks import block_layers, find_blocks
from neuroalign.models.text import TEXT_STREAMS, load_text_input
from neuroalign.models.text_encoder import TextAdapter

__all__ = ["CausalLM"]

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "olmo", "olmo2", "smollm3")


class CausalLM(TextAdapter):
    """Causal language models; every text begins with the model's begin-of-text token (stream ``special``)."""

    family = "causal_lm"
    version = 1
    auto = "AutoModelForCausalLM"
    blocks: Mapping[str, tuple[str, ...]] = {
        **dict.fromkeys(LLAMA_LIKE, ("model.layers",)),
        "gpt2": ("transformer.h",),
        "opt": ("model.decoder.layers",),
        "gpt_neox": ("gpt_neox.layers",),
        "mamba": ("backbone.layers",),
    }

    def load_processors(self, source, config) -> dict:
        """Return the text side, with the begin-of-text token in front even where the tokenizer adds none."""
        tokenizer = source.tokenizer()
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else config.bos_token_id
        return {"text": load_text_input(tokenizer, config, begin=begin)}

    def bos_id(self, model: LoadedModel) -> int | None:
        """Return the token that every text begins with; None if the model has none."""
        prefix = model.processors["text"].prefix
        return prefix[-1] if prefix else None

    def logits(self, raw: Any) -> torch.Tensor:
        """Return (batch, token, vocabulary) from what `forward` returned: row t predicts token t + 1."""
        return raw.logits

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and the blocks."""
        path, count = find_blocks(model.module, self.blocks[model.module.config.model_type])
        return block_layers(path, count, "text", TEXT_STREAMS)
