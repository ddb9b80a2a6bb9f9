"""EfficientNet-Lite0: the module itself, its weights, its preprocessing.

The architecture is that of Tan & Le 2019 without squeeze-and-excitation and with ReLU6, as TensorFlow's TPU
models define its Lite variants; stem and head keep their widths.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from neuroalign.models.adapter import Layer, LoadedModel
from neuroalign.models.cnn import FeatureMaps
from neuroalign.models.images import ImageInput

__all__ = ["EfficientNetLite", "EfficientNetLite0", "lite_layers", "rename_checkpoint"]

# repeats, kernel, stride, expansion, channels in, channels out
STAGES = (
    (1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320),
)  # fmt: skip
CROP, SHORT_SIDE = 224, 256


class EfficientNetLite0(nn.Module):
    """The network: ``stem``, ``blocks``, ``head``, ``pool``, ``classifier`` (1,000 ImageNet classes).

    Input (batch, 3, 224, 224), scaled to about -1..1; output logits (batch, 1000).
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, 32, 3, 2), _norm(32), nn.ReLU6())
        self.blocks = nn.ModuleList(
            InvertedResidual(c_in if i == 0 else c_out, c_out, kernel, stride if i == 0 else 1, expansion)
            for repeats, kernel, stride, expansion, c_in, c_out in STAGES
            for i in range(repeats)
        )
        self.head = nn.Sequential(SameConv(320, 1280, 1), _norm(1280), nn.ReLU6())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(1280, 1000)
        self.apply(_initialise)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, 1000)."""
        return self.classifier(self.pool(self.features(pixel_values)))

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the feature maps of the head (batch, 1280, 7, 7)."""
        x = self.stem(pixel_values)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear projection; a residual where the shape allows it."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = c_in * expansion
        self.residual = stride == 1 and c_in == c_out
        self.expand = None
        if expansion != 1:
            self.expand = nn.Sequential(SameConv(c_in, width, 1), _norm(width), nn.ReLU6())
        self.depthwise = nn.Sequential(SameConv(width, width, kernel, stride, groups=width), _norm(width), nn.ReLU6())
        self.project = nn.Sequential(SameConv(width, c_out, 1), _norm(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes to the right and to the bottom."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(c_in, c_out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad and convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        across, down = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in (x.shape[3], x.shape[2]))
        if across or down:
            x = functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(x)


class EfficientNetLite(FeatureMaps):
    """Adapter of `EfficientNetLite0`: feature maps of stem, blocks and head; pooled vector; logits."""

    family = "efficientnet_lite"
    version = 1

    def load_processors(self, source=None, config=None) -> dict:
        """Return the image side."""
        settings = {"short_side": SHORT_SIDE, "crop": CROP, "resample": "bicubic", "shift": 127, "scale": 128}
        return {"image": ImageInput(preprocess, settings)}

    def layers(self, model: LoadedModel, taps=("block",)) -> list[Layer]:
        """Return stem, blocks, head, pool and classifier, equally spaced in depth."""
        return lite_layers(model.module)


def lite_layers(module: EfficientNetLite0, prefix: str = "", last: str = "classifier") -> list[Layer]:
    """Return the layers from stem to `last`, equally spaced in depth; `prefix` is the path of the module."""
    paths = ["stem", *(f"blocks.{i}" for i in range(len(module.blocks))), "head", "pool", "classifier"]
    paths = paths[: paths.index(last) + 1]
    streams, end = ("image", "all"), len(paths) - 1
    return [Layer(prefix + p, i / end, "image", streams, masked=False) for i, p in enumerate(paths)]


def preprocess(images: list[Image.Image]) -> torch.Tensor:
    """Resize the short side to 256 (bicubic), crop the centre to 224 x 224, scale to (x - 127) / 128."""
    return torch.stack([_preprocess_one(image) for image in images])


def _preprocess_one(image: Image.Image) -> torch.Tensor:
    scale = SHORT_SIDE / min(image.size)
    image = image.resize([round(n * scale) for n in image.size], Image.Resampling.BICUBIC)
    left, top = ((n - CROP) // 2 for n in image.size)
    pixels = np.asarray(image.crop((left, top, left + CROP, top + CROP)), dtype=np.float32)
    return torch.from_numpy(((pixels - 127) / 128).transpose(2, 0, 1).copy())


def rename_checkpoint(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the keys of the published checkpoint to those of `EfficientNetLite0`."""
    outer = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1", "_fc": "classifier"}
    inner = {
        "_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0", "_bn1": "depthwise.1",
        "_project_conv": "project.0", "_bn2": "project.1",
    }  # fmt: skip
    renamed = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if first == "_blocks":
            number, part, rest = rest.split(".", 2)
            first = f"blocks.{number}.{inner[part]}"
        else:
            first = outer[first]
        renamed[f"{first}.{rest}"] = value
    return renamed


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _initialise(module: nn.Module) -> None:
    # The initialisation of the EfficientNet paper's own code: fan-out normal, uniform for the classifier.
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
    elif isinstance(module, nn.Linear):
        bound = 1.0 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -bound, bound)
        nn.init.zeros_(module.bias)
