"""Qwen2-VL and Qwen2.5-VL: pictures at their own resolution, positions in three dimensions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.decoder_mllm import DecoderMLLM, Frame, picture_pieces
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import images_alone, join_pieces, regroup
from neuroalign.models.text import load_text_input

__all__ = ["QwenVL"]

FRAME = Frame("visual.", "language_model.", 0, ("<|vision_start|>",), ("<|vision_end|>",))
FUSED = ("image", "text", "special", "all")


class QwenVL(DecoderMLLM):
    """Towers ``image`` (patches in one line for all pictures, here split by picture) and ``lm``.

    Which tokens are a picture's goes to the model as ``mm_token_type_ids``: without it Qwen2-VL refuses and
    Qwen2.5-VL gives other numbers. The windows of Qwen2.5-VL are put back into the order of the patches.
    """

    family = "qwen_vl"
    version = 1
    model_types = ("qwen2_vl", "qwen2_5_vl")

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side; the processor of the whole needs torchvision and is not used."""
        text = config.get_text_config()
        return {"text": load_text_input(source.tokenizer(), text), "image": load_image_input(source.folder)}

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the towers that a stimulus runs through."""
        return self.routes[self.present(stimulus)]

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and blocks of the vision tower, then those of the language model."""
        vision = tower_layers(model.module, "qwen_vision", "image", ("image", "all"), taps=taps, prefix=FRAME.vision)
        return vision + tower_layers(model.module, "decoder", "lm", FUSED, taps=taps, prefix=FRAME.decoder)

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Expand each picture to its placeholders, tokenise, pad on the right."""
        config, has_image = model.module.config, "image" in self.present(stimuli[0])
        pictures = images_alone(model, stimuli) if has_image else []
        merge = config.vision_config.spatial_merge_size**2
        patches = [int(f["image_grid_thw"].prod()) for f in pictures]
        counts = [n // merge for n in patches] or [0] * len(stimuli)
        pieces = picture_pieces(model, stimuli, counts, FRAME, config.image_token_id)
        tensors, masks, offsets = join_pieces(pieces, model.processors["text"].pad_id, model.device, FUSED[:-1])
        tensors["mm_token_type_ids"] = masks["image"].long()
        streams = {"lm": masks}
        if has_image:
            pixels = torch.cat([f["pixel_values"] for f in pictures])
            tensors["pixel_values"] = pixels.to(model.device, model.dtype)
            tensors["image_grid_thw"] = torch.cat([f["image_grid_thw"] for f in pictures]).to(model.device)
            real = [torch.ones(n, dtype=torch.bool, device=model.device) for n in patches]
            mask = torch.nn.utils.rnn.pad_sequence(real, batch_first=True)
            streams["image"] = {"image": mask, "all": mask}
        return Inputs(tensors, streams, {"lm": offsets})

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model, remembering which patches are whose."""
        model.module.rope_deltas = None  # the model keeps those of its last forward
        if "image" in inputs.streams:
            grid = inputs.tensors["image_grid_thw"]
            self._patches, self._order = grid.prod(1).tolist(), _patch_order(model.module.config, grid)
        return model.module(**inputs.tensors, use_cache=False)

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature), patches split by picture and out of their windows."""
        if layer.tower != "image":
            return super().tokens(model, layer, raw)
        line = raw[0] if isinstance(raw, tuple | list) else raw
        return regroup(line if self._order is None else line[self._order], self._patches)


def _patch_order(config, grid: torch.Tensor) -> torch.Tensor | None:
    """Return where each patch stands in the windows of Qwen2.5-VL; None for Qwen2-VL, which has none."""
    vision = config.vision_config
    if not hasattr(vision, "window_size"):
        return None
    merge, rows, start = vision.spatial_merge_size, [], 0
    side = vision.window_size // merge // vision.patch_size
    for t, h, w in grid.tolist():
        units = torch.arange(t * (h // merge) * (w // merge)).reshape(t, h // merge, w // merge)
        for frame in units:
            for window in (band.split(side, 1) for band in frame.split(side, 0)):
                rows += [part.flatten() + start for part in window]
        start += units.numel()
    back = torch.argsort(torch.cat(rows))
    each = torch.arange(merge**2)
    return (back[:, None] * merge**2 + each).flatten().to(grid.device)
