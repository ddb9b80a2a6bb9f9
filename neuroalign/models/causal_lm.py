"""Causal language models: GPT-2, Llama and their kin."""

from collections.abc import Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import LAYOUTS, tower_layers
from neuroalign.models.text import load_text_input
from neuroalign.models.text_encoder import TextAdapter

__all__ = ["CausalLM"]


class CausalLM(TextAdapter):
    """Causal language models; every text begins with the model's begin-of-text token (stream ``special``).

    In mixtures of experts (Mixtral, Qwen2-MoE, OLMoE) the tap ``router`` gives the logits of the experts at each token.
    """

    family = "causal_lm"
    version = 1
    model_types = (
        "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "olmo", "phi3", "opt", "gpt_neox", "mamba",
        "mixtral", "qwen2_moe", "olmoe",
    )  # fmt: skip

    def auto_class(self, config) -> str:
        """Return the class of transformers that loads a configuration."""
        return "AutoModelForCausalLM"

    def load_processors(self, source, config) -> dict:
        """Return the text side, with the begin-of-text token in front even where the tokenizer adds none."""
        tokenizer = source.tokenizer()
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else config.bos_token_id
        return {"text": load_text_input(tokenizer, config, begin=begin)}

    def bos_id(self, model: LoadedModel) -> int | None:
        """Return the token that every text begins with; None if the model has none."""
        prefix = model.processors["text"].prefix
        return prefix[-1] if prefix else None

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model; nothing is cached for generation."""
        self._rows = len(inputs.tensors["input_ids"])
        return model.module(**inputs.tensors, use_cache=False)

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature); routers see the tokens of a batch in one line."""
        router = LAYOUTS[model.module.config.model_type].router
        if router and layer.path.endswith(f".{router}"):
            return raw[0].unflatten(0, (self._rows, -1))
        return super().tokens(model, layer, raw)

    def logits(self, raw: Any) -> torch.Tensor:
        """Return (batch, token, vocabulary) from what `forward` returned: row t predicts token t + 1."""
        return raw.logits

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and the blocks."""
        streams = model.processors["text"].streams
        return tower_layers(model.module, model.module.config.model_type, "text", streams, taps=taps)
