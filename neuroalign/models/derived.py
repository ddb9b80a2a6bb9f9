"""A vision-language dual encoder derived from two pretrained models that packages carry; it is not CLIP.

The image tower is EfficientNet-Lite0 up to its pooled vector. The text tower is MiniLM, whose sentence embedding a
ridge regression takes to the vectors that the classifier of EfficientNet-Lite0 has for the 1,000 ImageNet classes,
from the names of these classes: the idea of DeViSE (Frome et al. 2013), with the sides of the regression exchanged
so that no image is needed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from neuroalign.data.packages import find_file
from neuroalign.models.adapter import Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.dual_encoder import DualEncoder
from neuroalign.models.efficientnet_lite import EfficientNetLite0, lite_layers
from neuroalign.models.text import TextInput

__all__ = ["Derived", "DerivedModule", "class_names", "fit_projection", "load_derived", "sentence_embedding"]

ALPHA = 1.0
BATCH = 100


class DerivedModule(nn.Module):
    """Two towers, ``image_model`` and ``text_model``; ``text_projection`` leads to the space of ``image_model.pool``.

    The embeddings of the two towers are compared by their cosine.
    """

    def __init__(self, image_model: EfficientNetLite0, text_model: nn.Module):
        super().__init__()
        self.image_model, self.text_model = image_model, text_model
        self.text_projection = nn.Linear(text_model.config.hidden_size, image_model.classifier.in_features)

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return pooled vectors (batch, 1280)."""
        return self.image_model.pool(self.image_model.features(pixel_values))

    def get_text_features(self, **tensors) -> torch.Tensor:
        """Return projected sentence embeddings (batch, 1280)."""
        return self.text_projection(sentence_embedding(self.text_model, tensors))


class Derived(DualEncoder):
    """Adapter of the derived dual encoder."""

    family = "derived"
    version = 1
    model_types = ()

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return stem, blocks, head and pool of the image tower, then blocks and projection of the text tower."""
        text, streams = model.module.text_model, model.processors["text"].streams
        layers = lite_layers(model.module.image_model, "image_model.", last="pool")
        layers += tower_layers(model.module, text.config.model_type, "text", streams, taps=taps, prefix="text_model.")
        return [*layers, Layer("text_projection", 1.0, "text", ("text", "all"), masked=False)]

    def image_masks(self, model: LoadedModel, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return none: feature maps have no special tokens."""
        return {}


def load_derived(entry, seed: int | None, load_part: Callable[[str], LoadedModel]):
    """Return module, adapter, processors and identity of the weights.

    `load_part` loads a model by its zoo id. With a seed, both towers and the projection are random.
    """
    image, text = load_part(entry.parts["image"]), load_part(entry.parts["text"])
    processors = {"image": image.processors["image"], "text": text.processors["text"]}
    with torch.random.fork_rng():
        torch.manual_seed(0 if seed is None else seed)
        module = DerivedModule(image.module, text.module)
    identity = f"{image.weights}+{text.weights}+projection:{Derived.version}"
    if seed is None:
        package = entry.package
        names = class_names(find_file(package.distribution, package.path, package.sha256, pip=package.pip))
        weight, bias = fit_projection(
            embed_sentences(module.text_model, processors["text"], names),
            functional.normalize(module.image_model.classifier.weight.detach(), dim=1),
        )
        module.text_projection.weight.data, module.text_projection.bias.data = weight, bias
        identity += f"+names:{package.sha256}"
    return module, Derived(), processors, identity, ()


def class_names(path: Path) -> list[str]:
    """Return the first of the names of each ImageNet class, in the order of the classes."""
    names = json.loads(path.read_text(encoding="utf-8"))
    return [names[str(i)].split(",")[0] for i in range(len(names))]


def fit_projection(x: torch.Tensor, y: torch.Tensor, alpha: float = ALPHA) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression of y (sample, target) on x (sample, feature) with an intercept.

    Returns
    -------
    weight : tensor (target, feature)
    bias : tensor (target,)

    Examples
    --------
    >>> weight, bias = fit_projection(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [3.0]]), alpha=0.0)
    >>> round(weight.item(), 4), round(bias.item(), 4)
    (2.0, 1.0)
    """
    x, y = x.double(), y.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = x - x_mean
    gram = centred.T @ centred + alpha * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (y - y_mean)).T
    return weight.float().contiguous(), (y_mean - weight @ x_mean).float()


def sentence_embedding(text_model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean over all tokens of the last layer, at unit length: (batch, feature)."""
    states = text_model(**tensors).last_hidden_state
    weight = tensors["attention_mask"][..., None].to(states.dtype)
    return functional.normalize((states * weight).sum(1) / weight.sum(1), dim=1)


def embed_sentences(text_model: nn.Module, text: TextInput, sentences: Sequence[str]) -> torch.Tensor:
    """Return the sentence embeddings of texts: (text, feature)."""
    device = next(text_model.parameters()).device
    coded = [text.tokenize(sentence) for sentence in sentences]
    batches = [text.batch(coded[i : i + BATCH], device)[0] for i in range(0, len(coded), BATCH)]
    with torch.inference_mode():
        return torch.cat([sentence_embedding(text_model, tensors) for tensors in batches]).clone()
