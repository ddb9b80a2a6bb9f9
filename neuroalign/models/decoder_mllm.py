"""Decoder MLLMs: the tokens of a picture stand in the sequence of a language model (LLaVA, SmolVLM and their kin)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import Multimodal, Piece, images_alone, join_pieces, prefixed_masks, regroup
from neuroalign.models.text import load_text_input

__all__ = ["DecoderMLLM", "Frame", "picture_pieces"]

FUSED = ("image", "text", "special", "all")


@dataclass(frozen=True)
class Frame:
    """Where the parts of an architecture are, and what stands around a picture.

    Attributes
    ----------
    vision, decoder : str
        Prefixes of the vision tower ("" if there is none of blocks) and of the language model.
    special : int
        Special tokens before the patches in the vision tower.
    before, after : tuple of str
        Tokens around the placeholders, put there where the tokenizer knows them.
    image_first : bool
        Whether the picture stands even before the begin-of-text token.
    settings : mapping
        Settings of the image processor that give one tile a picture.
    """

    vision: str
    decoder: str
    special: int = 0
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    image_first: bool = False
    settings: Mapping = ()


FRAMES = {
    "llava": Frame("vision_tower.", "language_model.", 1),
    "llava_next": Frame("vision_tower.", "language_model.", 1),
    "idefics3": Frame("vision_model.", "text_model.", 0, ("<fake_token_around_image>", "<global-img>"),
                      ("<fake_token_around_image>",), settings={"do_image_splitting": False}),
    "smolvlm": Frame("vision_model.", "text_model.", 0, ("<fake_token_around_image>", "<global-img>"),
                     ("<fake_token_around_image>",), settings={"do_image_splitting": False}),
    "paligemma": Frame("vision_tower.", "language_model.", 0, image_first=True),
    "internvl": Frame("vision_tower.", "language_model.", 1, ("<img>",), ("</img>",),
                      settings={"crop_to_patches": False}),
    "janus": Frame("vision_model.", "language_model.", 0, ("<begin_of_image>",), ("<end_of_image>",)),
    "chameleon": Frame("", "", 0, ("<racm3:break>",), ("<eoss>",)),
}  # fmt: skip


class DecoderMLLM(Multimodal):
    """Towers ``image`` (the vision tower) and ``lm`` (the language model, where both modalities meet).

    The picture comes first, then the text; nothing else (no chat template) is around them. A text alone is the
    language-only run of the same weights, a picture alone the image-only run. Of Janus this is the path by which it
    understands pictures, not that by which it draws them. Chameleon has no vision tower: its pictures are tokens of its
    vocabulary, and the stream ``image`` of ``lm`` holds them.
    """

    family = "decoder_mllm"
    version = 1
    model_types = tuple(FRAMES)
    routes: Mapping = {("image", "text"): ("image", "lm"), ("text",): ("lm",), ("image",): ("image", "lm")}

    def load_processors(self, source, config) -> dict:
        """Return the text side, with the begin-of-text token in front, and the image side, one tile a picture."""
        tokenizer, text = source.tokenizer(), config.get_text_config()
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else text.bos_token_id
        settings = dict(FRAMES[config.model_type].settings)
        return {
            "text": load_text_input(tokenizer, text, begin=begin),
            "image": load_image_input(source.folder, **settings),
        }

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the towers that a stimulus runs through."""
        vision = FRAMES[model.module.config.model_type].vision
        return tuple(t for t in super().towers(model, stimulus) if t != "image" or vision)

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and blocks of the vision tower, then those of the language model."""
        config = model.module.config
        frame = FRAMES[config.model_type]
        layers = []
        if frame.vision:
            special = _count_special(config)
            streams = ("image", "special", "all") if special else ("image", "all")
            vision = tower_layers(model.module, config.vision_config.model_type, "image", streams, taps=taps,
                                  prefix=frame.vision)
            layers += [x for x in vision if x.masked]  # a pooled vector is one a tile, and not used
        return layers + tower_layers(model.module, "decoder", "lm", FUSED, taps=taps, prefix=frame.decoder)

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Expand each picture to its placeholders, tokenise, pad on the right."""
        config, present = model.module.config, self.present(stimuli[0])
        has_image = "image" in present
        streams, pictures, counts = {}, [], [0] * len(stimuli)
        if has_image:
            pictures = images_alone(model, stimuli)
            counts = [count_tokens(config, f) for f in pictures]
        pieces = picture_pieces(model, stimuli, counts, FRAMES[config.model_type], config.image_token_id)
        side = model.processors["text"]
        tensors, streams["lm"], offsets = join_pieces(pieces, side.pad_id, model.device, FUSED[:-1])
        if has_image:
            tensors |= _stack(config, pictures, model)
            if FRAMES[config.model_type].vision:
                streams["image"] = self.vision_masks(config, pictures, model.device)
        if config.model_type == "paligemma":  # the prompt attends to all of the picture and itself
            tensors["token_type_ids"] = torch.zeros_like(tensors["input_ids"])
        return Inputs(tensors, streams, {"lm": offsets})

    def vision_masks(self, config, pictures: Sequence[Mapping], device) -> dict[str, torch.Tensor]:
        """Return the streams of the vision tower; the tiles of a picture stand one after the other."""
        size, patch, special = pictures[0]["pixel_values"].shape[-2:], _patch(config), _count_special(config)
        tiles = [prod(f["pixel_values"].shape[:-3]) for f in pictures]
        one = prefixed_masks(1, special, (size[0] // patch) * (size[1] // patch), device)
        rows = {name: [mask[0].repeat(n) for n in tiles] for name, mask in one.items()}
        return {k: torch.nn.utils.rnn.pad_sequence(v, batch_first=True) for k, v in rows.items()}

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model; nothing is cached for generation."""
        pixels = inputs.tensors.get("pixel_values")
        self._tiles = None
        if "image" in inputs.streams and pixels is not None:
            special = _count_special(model.module.config)
            patches = prod(s // _patch(model.module.config) for s in pixels.shape[-2:])
            self._tiles = (inputs.streams["image"]["all"].sum(1) // (special + patches)).tolist()
        return model.module(**inputs.tensors, use_cache=False)

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature); the tiles of a picture are joined."""
        tokens = super().tokens(model, layer, raw)
        return regroup(tokens, self._tiles) if layer.tower == "image" else tokens


def picture_pieces(model: LoadedModel, stimuli: Sequence[Mapping], counts: Sequence[int], frame: Frame,
                   image_id: int) -> list[list[Piece]]:
    """Return the sequence of each stimulus: begin of text, picture with what is around it, text, end."""
    side = model.processors["text"]
    known = side.tokenizer.get_vocab()
    before, after = ([known[t] for t in names if t in known] for names in (frame.before, frame.after))
    with_text = "text" in stimuli[0]
    coded = side.encode(stimuli) if with_text else [([], [])] * len(stimuli)
    sequences = []
    for (ids, offsets), count in zip(coded, counts):
        begin = [Piece("special", side.prefix)]
        picture = [Piece("special", before), Piece("image", [image_id] * count), Piece("special", after)]
        front = [*picture, *begin] if frame.image_first else [*begin, *picture]
        sequences.append([*(front if count else begin), Piece("text", ids, offsets), Piece("special", side.suffix)])
    return sequences


def count_tokens(config, features: Mapping) -> int:
    """Return how many tokens of the language model a processed picture takes."""
    kind, vision = config.model_type, getattr(config, "vision_config", None)
    if kind == "chameleon":
        return (config.vq_config.resolution // 2 ** (len(config.vq_config.channel_multiplier) - 1)) ** 2
    height, width = (s // _patch(config) for s in features["pixel_values"].shape[-2:])
    if kind in ("llava", "llava_next"):
        one = height * width + (_count_special(config) if config.vision_feature_select_strategy == "full" else 0)
        return one if kind == "llava" else one + _next_tokens(config, features, height, width)
    if kind in ("idefics3", "smolvlm"):
        return prod(features["pixel_values"].shape[:-3]) * height * width // config.scale_factor**2
    if kind == "internvl":
        return int(height * width * config.downsample_ratio**2)
    return (vision.image_size // _patch(config)) ** 2


def _next_tokens(config, features: Mapping, height: int, width: int) -> int:
    """Return how many tokens the tiles of a LLaVA-NeXT picture give: unpadded, one newline a row."""
    from transformers.image_processing_utils import select_best_resolution

    if features["pixel_values"].shape[1] == 1:
        return 1
    own_height, own_width = (int(s) for s in features["image_sizes"][0])
    best = select_best_resolution([own_height, own_width], config.image_grid_pinpoints)
    rows, columns = (s // config.vision_config.image_size * n for s, n in zip(best, (height, width)))
    if own_width / own_height > columns / rows:
        rows -= (rows - int(round(own_height * (columns / own_width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(own_width * (rows / own_height), 7))) // 2 * 2
    return rows * (columns + 1)


def _count_special(config) -> int:
    special = FRAMES[config.model_type].special
    return 0 if "siglip" in config.vision_config.model_type else special


def _patch(config) -> int:
    patch = config.vision_config.patch_size
    return patch if isinstance(patch, int) else patch[0]


def _stack(config, pictures: Sequence[Mapping], model: LoadedModel) -> dict[str, torch.Tensor]:
    """Return the tensors of the pictures of a batch; tiles that are missing are filled up with zeros."""
    pixels = [f["pixel_values"] for f in pictures]
    if pixels[0].ndim == 5:
        stacked = torch.nn.utils.rnn.pad_sequence([p[0] for p in pixels], batch_first=True)
    else:
        stacked = torch.cat(pixels)
    tensors = {"pixel_values": stacked.to(model.device, model.dtype)}
    if config.model_type == "llava_next":
        tensors["image_sizes"] = torch.cat([f["image_sizes"] for f in pictures])
    if "pixel_attention_mask" in pictures[0]:
        tensors["pixel_attention_mask"] = torch.cat([f["pixel_attention_mask"] for f in pictures]).to(model.device)
    return tensors
