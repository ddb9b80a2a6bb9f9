"""Images to pixels: opening them, and what is wrong with an image."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from neuroalign.models.adapter import BadStimuli

__all__ = ["ImageInput", "has_image", "load_image_input", "open_image"]


@dataclass(frozen=True)
class ImageInput:
    """The image side of a model.

    Attributes
    ----------
    process : callable
        List of RGB images -> tensor (batch, 3, height, width).
    settings : mapping
        What decides the pixels, for the identity.
    process_all : callable, optional
        List of RGB images -> all tensors that a processor gives, for models that take more than pixels.
    """

    process: Callable[[list[Image.Image]], torch.Tensor]
    settings: Mapping
    process_all: Callable[[list[Image.Image]], Mapping] | None = None

    @classmethod
    def of(cls, processor) -> "ImageInput":
        """Return the image side of an image processor of transformers."""

        def process_all(images):
            return processor(images=images, return_tensors="pt")

        return cls(lambda images: process_all(images)["pixel_values"], processor.to_dict(), process_all)

    @property
    def identity(self) -> str:
        """What decides the pixels of an image."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True, default=str).encode()).hexdigest()

    def check(self, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for an image that is absent; `FileNotFoundError` for a file that is not there."""
        absent = [s["stimulus_id"] for s in stimuli if not has_image(s)]
        if absent:
            raise BadStimuli(
                "no image, and this model sees images.", absent, "Give an 'image' column of paths, or leave them out."
            )
        for stimulus in stimuli:
            if not Path(stimulus["image"]).is_file():
                raise FileNotFoundError(
                    f"stimulus {stimulus['stimulus_id']!r}: no image file {str(stimulus['image'])!r}."
                )

    def batch(self, stimuli: Sequence[Mapping], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Open and process images: (batch, 3, height, width)."""
        return self.process(self.open(stimuli)).to(device=device, dtype=dtype)

    def features(self, images: list[Image.Image]) -> dict[str, torch.Tensor]:
        """Return all that the processor of the model gives for images: pixels, masks, grids."""
        return dict(self.process_all(images))

    def open(self, stimuli: Sequence[Mapping]) -> list[Image.Image]:
        """Open images, naming those that cannot be read."""
        self.check(stimuli)
        images, broken, reasons = [], [], []
        for stimulus in stimuli:
            try:
                images.append(open_image(stimulus["image"]))
            except ValueError as error:
                broken.append(stimulus["stimulus_id"])
                reasons.append(str(error))
        if broken:
            raise BadStimuli(reasons[0], broken, "Replace the file, or leave them out.")
        return images


def has_image(stimulus: Mapping) -> bool:
    """Return whether a stimulus has a path to an image."""
    return isinstance(stimulus.get("image"), str | Path) and str(stimulus["image"]) != ""


def open_image(path) -> Image.Image:
    """Open an image upright and in RGB.

    Raises
    ------
    ValueError
        The file is truncated, is no image, or has more than eight bits a channel.
    """
    try:
        with Image.open(path) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise ValueError(f"{str(path)!r} is not an image that can be read.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {str(path)!r} cannot be read, it is truncated or damaged ({error}).") from None
    if image.mode.startswith("I") or image.mode == "F":
        raise ValueError(f"the image {str(path)!r} has mode {image.mode!r}; save it with eight bits a channel.")
    return image.convert("RGB")


def load_image_input(folder: Path, **changes) -> ImageInput:
    """Return the image side of a model from the image processor in its folder (the PIL one, on every machine).

    `changes` are settings of the processor that are other than those in the folder.
    """
    import transformers

    # The processor of DINOv3 exists for torchvision alone; that of ViT does the same with the same settings.
    with_torchvision = _processor_type(folder).startswith("DINOv3ViT")
    make = transformers.ViTImageProcessorPil if with_torchvision else transformers.AutoImageProcessor
    options = {} if with_torchvision else {"backend": "pil"}
    return ImageInput.of(make.from_pretrained(folder, local_files_only=True, **options, **changes))


def _processor_type(folder: Path) -> str:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            return str(content.get("image_processor_type") or content.get("feature_extractor_type") or "")
    raise FileNotFoundError(
        f"model folder {str(folder)!r}: no 'preprocessor_config.json', so images cannot be prepared for it. Save the "
        "image processor of the model there (processor.save_pretrained)."
    )
