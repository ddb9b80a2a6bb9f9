"""ALBEF: an image tower, a text tower, and a fusion encoder over the text that reads the picture.

The checkpoints of salesforce/ALBEF. The published text encoder is one stack: its lower layers are ``text_model`` here,
its upper layers, which have cross-attention, ``fusion_model``. The momentum copies, the queues and the heads of the
losses on words and on matching are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, normalizers, processors
from torch import nn

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.images import ImageInput
from neuroalign.models.multimodal import Multimodal
from neuroalign.models.published import (
    BadCheckpoint,
    count_blocks,
    count_heads,
    fill,
    pairs,
    read_state,
    rename,
    timm_names,
    vit_config,
)
from neuroalign.models.text import load_text_input
from neuroalign.models.vision_transformer import image_streams, patch_masks

__all__ = ["Albef", "AlbefModule", "load_albef"]

MEAN, SD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IGNORED = ("visual_encoder_m.", "text_encoder_m.", "vision_proj_m.", "text_proj_m.", "image_queue", "text_queue",
           "idx_queue", "queue_ptr", "temp", "itm_head.", "text_encoder.cls.")  # fmt: skip


class AlbefModule(nn.Module):
    """``vision_model``, ``text_model`` and ``fusion_model``; both projections lead to the space where towers meet."""

    def __init__(self, config):
        import transformers
        from transformers.models.bert.modeling_bert import BertEncoder

        super().__init__()
        self.config = config
        vision, text = config.vision_config, config.text_config
        self.vision_model = transformers.ViTModel(vision, add_pooling_layer=False)
        lower = _bert_config(text, num_hidden_layers=config.fusion_layer)
        self.text_model = transformers.BertModel(lower, add_pooling_layer=False)
        # transformers has cross-attention in decoders alone; the mask given in `fuse` lets each token see all.
        upper = _bert_config(text, num_hidden_layers=text.num_hidden_layers - config.fusion_layer, is_decoder=True,
                             add_cross_attention=True)
        upper._attn_implementation = self.text_model.config._attn_implementation
        self.fusion_model = nn.ModuleDict({"encoder": BertEncoder(upper)})
        self.fusion_model.apply(self.text_model._init_weights)
        self.vision_proj = nn.Linear(vision.hidden_size, config.projection_dim)
        self.text_proj = nn.Linear(text.hidden_size, config.projection_dim)

    def see(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the states of the picture, (batch, token, feature), and run the projection of its [CLS]."""
        states = self.vision_model(pixel_values).last_hidden_state
        self.vision_proj(states[:, 0])
        return states

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the states of the text, and run the projection of its [CLS]."""
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        self.text_proj(states[:, 0])
        return states

    def fuse(self, text: torch.Tensor, attention_mask: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """Return the states of the text that has read the picture."""
        hidden = (1 - attention_mask[:, None, None].to(text.dtype)) * torch.finfo(text.dtype).min
        return self.fusion_model["encoder"](text, attention_mask=hidden, encoder_hidden_states=picture)[0]


class Albef(Multimodal):
    """Towers ``image``, ``text`` and ``fusion`` (the text, which reads the picture); each modality runs alone too."""

    family = "albef"
    version = 1
    model_types = ()
    routes: Mapping = {("image", "text"): ("image", "text", "fusion"), ("image",): ("image",), ("text",): ("text",)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, blocks and projection of the image and of the text tower, then the fusion blocks."""
        streams = {"image": image_streams(model.module.config.vision_config),
                   "text": model.processors["text"].streams}  # fmt: skip
        towers = (("image", "vit", "vision_model.", "vision_proj"), ("text", "bert", "text_model.", "text_proj"))
        layers = []
        for tower, layout, prefix, projection in towers:
            layers += tower_layers(model.module, layout, tower, streams[tower], taps=taps, prefix=prefix)
            if "block" in taps:
                layers.append(Layer(projection, 1.0, tower, (tower, "all"), masked=False))
        return layers + tower_layers(model.module, "bert", "fusion", streams["text"], taps=taps, prefix="fusion_model.")

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Prepare the towers that run."""
        tensors, streams, offsets, present = {}, {}, {}, self.present(stimuli[0])
        if "image" in present:
            pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
            tensors["pixel_values"] = pixels
            streams["image"] = patch_masks(model.module.config.vision_config, pixels)
        if "text" in present:
            side = model.processors["text"]
            text, streams["text"], offsets["text"] = side.batch(side.encode(stimuli), model.device)
            tensors |= text
        if len(present) == 2:
            streams["fusion"], offsets["fusion"] = streams["text"], offsets["text"]
        return Inputs(tensors, streams, offsets)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the towers that have input, and the fusion if both have."""
        tensors, module, states = inputs.tensors, model.module, {}
        if "image" in inputs.streams:
            states["image"] = module.see(tensors["pixel_values"])
        if "text" in inputs.streams:
            states["text"] = module.read(tensors["input_ids"], tensors["attention_mask"])
        if "fusion" in inputs.streams:
            states["fusion"] = module.fuse(states["text"], tensors["attention_mask"], states["image"])
        return states


def load_albef(path: Path, seed_with: Callable | None = None):
    """Return module, adapter and processors of a checkpoint of the ALBEF repository (pretraining or retrieval).

    The vocabulary of its tokenizer, that of BERT (``vocab.txt`` or ``tokenizer.json``), lies beside the checkpoint.

    Parameters
    ----------
    path : path
    seed_with : callable, optional
        A function of a function that makes the module; gives the random twin instead.

    Raises
    ------
    BadCheckpoint
        See `read_state` and `rename`.
    """
    state = read_state(path)
    prefix = "text_encoder.bert." if any(k.startswith("text_encoder.bert.") for k in state) else "text_encoder."
    depth = count_blocks(state, f"{prefix}encoder.layer.")
    lower = sum(f"{prefix}encoder.layer.{i}.crossattention.self.query.weight" not in state for i in range(depth))
    names = timm_names(count_blocks(state, "visual_encoder.blocks."), "visual_encoder.", "vision_model.")
    names |= _text_names(prefix, depth, lower) | pairs({"vision_proj": "vision_proj", "text_proj": "text_proj"})
    weights = rename(state, names, (*IGNORED, f"{prefix}embeddings.position_ids"), path)
    if not 0 < lower < depth:
        raise BadCheckpoint(f"checkpoint {str(path)!r}: {depth - lower} of {depth} layers of the text encoder have "
                            "cross-attention, expected some, the upper ones.")
    config = _config(state, prefix, depth, lower)
    make = partial(AlbefModule, config)
    module = seed_with(make) if seed_with else fill(make, weights, path)
    text = load_text_input(_tokenizer(path.parent), config.text_config)
    return module, Albef(), {"text": text, "image": _image_input(config.vision_config.image_size)}


def _text_names(prefix: str, depth: int, lower: int) -> dict[str, tuple[str, ...]]:
    """Return the names of the text encoder, parted into the text tower and the fusion."""
    tables = {f"{prefix}embeddings.{table}.weight": (f"text_model.embeddings.{table}.weight",)
              for table in ("word_embeddings", "position_embeddings", "token_type_embeddings")}  # fmt: skip
    attention = ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
    plain = [f"attention.{part}" for part in attention]
    plain += ["intermediate.dense", "output.dense", "output.LayerNorm"]
    crossing = [f"crossattention.{part}" for part in attention]
    modules = {f"{prefix}embeddings.LayerNorm": "text_model.embeddings.LayerNorm"}
    for i in range(depth):
        ours = f"text_model.encoder.layer.{i}" if i < lower else f"fusion_model.encoder.layer.{i - lower}"
        parts = plain if i < lower else plain + crossing
        modules |= {f"{prefix}encoder.layer.{i}.{part}": f"{ours}.{part}" for part in parts}
    return tables | pairs(modules)


def _config(state: Mapping[str, torch.Tensor], prefix: str, depth: int, lower: int):
    """Return the configuration of all towers, from the shapes of the weights."""
    import transformers

    vision = vit_config(state, "visual_encoder.", count_blocks(state, "visual_encoder.blocks."))
    size, width = state[f"{prefix}embeddings.word_embeddings.weight"].shape
    text = transformers.BertConfig(
        vocab_size=size, hidden_size=width, num_hidden_layers=depth, num_attention_heads=count_heads(width),
        intermediate_size=len(state[f"{prefix}encoder.layer.0.intermediate.dense.weight"]),
        max_position_embeddings=len(state[f"{prefix}embeddings.position_embeddings.weight"]),
        type_vocab_size=len(state[f"{prefix}embeddings.token_type_embeddings.weight"]), layer_norm_eps=1e-12,
    )  # fmt: skip
    make = transformers.VisionTextDualEncoderConfig.from_vision_text_configs
    return make(vision, text, projection_dim=len(state["vision_proj.weight"]), fusion_layer=lower)


def _bert_config(config, **changes):
    return type(config).from_dict(config.to_dict() | changes)


def _tokenizer(folder: Path):
    """Return the tokenizer of BERT as ALBEF was trained with: no punctuation, [CLS] before a text, no [SEP] after."""
    import transformers

    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise FileNotFoundError(
            f"no 'vocab.txt' or 'tokenizer.json' in {str(folder)!r}: put the one of bert-base-uncased there, beside "
            "the checkpoint."
        )
    tokenizer = transformers.BertTokenizer.from_pretrained(folder, local_files_only=True)
    backend = tokenizer.backend_tokenizer
    rid = [normalizers.Replace(Regex(r"""[,.'!?"()*#:;~]"""), ""), normalizers.Replace(Regex("[-/]"), " ")]
    backend.normalizer = normalizers.Sequence([*rid, backend.normalizer])
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A",
                                                           special_tokens=[("[CLS]", tokenizer.cls_token_id)])
    return tokenizer


def _image_input(size: int) -> ImageInput:
    """Return the image side: the whole picture squeezed into a square, colours as for CLIP."""
    import transformers

    square = {"height": size, "width": size}
    return ImageInput.of(transformers.BlipImageProcessorPil(size=square, resample=3, image_mean=MEAN, image_std=SD))
