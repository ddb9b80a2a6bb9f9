"""What all families of transformers share."""

from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import to_tokens

__all__ = ["Family", "widen_initialisation"]

USUAL = 0.02  # standard deviation of random weights


class Family:
    """Defaults of an adapter."""

    version = 1
    model_types: tuple[str, ...] = ()

    def auto_class(self, config) -> str:
        """Return the class of transformers that loads a configuration."""
        return "AutoModel"

    def configure(self, config) -> None:
        """Change a configuration before the module is made."""

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model."""
        return model.module(**inputs.tensors)

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature)."""
        return to_tokens(raw)


def widen_initialisation(config) -> None:
    """Let random weights have the usual size where the configuration makes them next to nothing, as BLIP's vision does.

    With its 1e-10 all layers of a random twin would be the same, and its values too small for half precision.
    """
    config.initializer_range = max(config.initializer_range, USUAL)
