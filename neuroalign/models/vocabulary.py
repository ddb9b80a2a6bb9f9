"""From states to words: the final normalisation and the unembedding of a model that predicts tokens."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from neuroalign.models.adapter import LoadedModel, check_loaded
from neuroalign.models.base import USUAL

__all__ = ["SPEAK", "VocabularyHead", "vocabulary_head"]

WEIGHTS = ("lm_head.weight", "language_model.lm_head.weight", "text_model.lm_head.weight", "output.weight")
SPEAK = ("causal_lm", "decoder_mllm", "qwen_vl", "cross_attention_mllm", "query_bridge", "instruct_blip", "whisper",
         "blip_captioner", "git")  # fmt: skip


@dataclass(frozen=True)
class VocabularyHead:
    """What turns the residual stream of a model into scores of the next token.

    Attributes
    ----------
    norm : callable
        The final normalisation; gives back what it is given where there is none.
    unembed : callable
        Normed states (..., feature) -> logits (..., vocabulary).
    tower : str
        Whose tokens these states are.
    stack : str
        Path of the list of blocks of that tower.
    """

    norm: Callable[[torch.Tensor], torch.Tensor]
    unembed: Callable[[torch.Tensor], torch.Tensor]
    tower: str
    stack: str

    def logits(self, states: torch.Tensor, norm: bool = True) -> torch.Tensor:
        """Return logits of states of the residual stream, float32."""
        return self.unembed(self.norm(states) if norm else states).float()


def vocabulary_head(model: LoadedModel) -> VocabularyHead:
    """Return the final normalisation and unembedding of a model that predicts tokens.

    Multimodal models are loaded without their unembedding: it is read from their checkpoint (safetensors), or is the
    embedding of their tokens where the two are tied. That of a random twin is drawn, seeded by nothing but its width.
    What a generator forbids beside (Chameleon: to answer by a token of a picture) is not forbidden here.

    Raises
    ------
    ValueError
        The model predicts no tokens, or its checkpoint has no unembedding; names the families that predict some.
    """
    check_loaded(model)
    if model.adapter.family not in SPEAK:
        raise ValueError(f"model {model.id!r} ({model.adapter.family}): it predicts no tokens, so it gives no answer. "
                         f"Families that do: {', '.join(SPEAK)}.")
    towers = [x for x in model.adapter.layers(model, ("block",)) if "text" in x.streams and x.masked]
    last = [x for x in towers if x.tap == "output"][-1]
    stack = last.path.rpartition(".")[0]
    tower = next(x.tower for x in towers if x.path.startswith(f"{stack}.") and x.tower != "cross")
    norms = [x for x in model.adapter.layers(model, ("norm",)) if x.tower == tower]
    norm = model.module.get_submodule(norms[-1].path) if norms else nn.Identity()
    return VocabularyHead(norm, _unembedding(model), tower, stack)


def _unembedding(model: LoadedModel) -> Callable:
    module = model.module
    if model.adapter.family == "blip_captioner":
        return module.text_decoder.cls  # a transform, then the unembedding
    for part in (module, getattr(module, "language_model", None)):
        found = part.get_output_embeddings() if hasattr(part, "get_output_embeddings") else None
        if found is not None:
            return found
    weight, bias = _stored(model)
    return lambda states: nn.functional.linear(states, weight, bias)


def _stored(model: LoadedModel) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return weight and bias of an unembedding that the module was loaded without."""
    config, embeddings = model.module.config, model.module.get_input_embeddings().weight
    tied = any(getattr(c, "tie_word_embeddings", False) for c in (config, config.get_text_config()))
    if model.weights.startswith("random"):
        if tied:
            return embeddings, None
        generator = torch.Generator().manual_seed(embeddings.shape[1])
        drawn = USUAL * torch.randn(embeddings.shape, generator=generator)
        return drawn.to(embeddings.device, embeddings.dtype), None
    tensors = _read(Path(config._name_or_path), [*WEIGHTS, *(w.replace(".weight", ".bias") for w in WEIGHTS)])
    name = next((w for w in WEIGHTS if w in tensors), None)
    if name is None:
        if tied:
            return embeddings, None
        raise ValueError(f"model {model.id!r}: its checkpoint has none of {', '.join(WEIGHTS)} in safetensors, so "
                         "there is no unembedding. Save the whole model for conditional generation (save_pretrained).")
    bias = tensors.get(name.replace(".weight", ".bias"))
    return tuple(None if t is None else t.to(embeddings.device, embeddings.dtype) for t in (tensors[name], bias))


def _read(folder: Path, names) -> dict[str, torch.Tensor]:
    """Read named tensors from the safetensors of a folder."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {placed[name] for name in names if name in placed}
    else:
        files = {path.name for path in folder.glob("*.safetensors")}
    found = {}
    for file in sorted(files):
        with safe_open(folder / file, "pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in set(names) & set(tensors.keys())}
    return found
