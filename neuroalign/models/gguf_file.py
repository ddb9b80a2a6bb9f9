"""GGUF files: unpacked once into a folder in the layout of transformers, so that later loads are quick."""

import math
import os
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import torch

from neuroalign.data.home import home
from neuroalign.errors import MissingExtra, list_ids

__all__ = ["read_gguf", "unpack_gguf"]

FORMAT = 1  # raised when unpacking changes the numbers


def unpack_gguf(path: Path, sha256: str) -> Path:
    """Return the folder with the unpacked model of a GGUF file of a causal language model, in float32.

    It lies under ``models`` in `neuroalign.data.home.home` and is made at the first call: the 135 million weights
    of SmolLM2 take seconds and 0.5 GB. It appears whole or not at all, also with several processes.

    Raises
    ------
    MissingExtra
        The package that knows the quantisations of GGUF files is not installed.
    OSError
        The folder cannot be written.
    """
    folder = home() / "models" / f"{sha256[:16]}-{FORMAT}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    except OSError as error:
        raise OSError(
            f"{str(path)!r} cannot be unpacked into {str(folder.parent)!r} ({error}). Set NEUROALIGN_HOME to a "
            "folder that can be written."
        ) from None
    try:
        _unpack(path, partial)
        os.rename(partial, folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def read_gguf(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Return the metadata and the tensors (float32) of a GGUF file.

    The format is that of the GGUF specification, versions 2 and 3. Blocks are dequantised by the gguf package.
    """
    from gguf import GGMLQuantizationType, quants
    from gguf.constants import GGML_QUANT_SIZES

    raw = np.memmap(path, dtype=np.uint8, mode="r")
    reader = _Reader(memoryview(raw))
    magic, version, n_tensors, n_values = reader.take("<4sIQQ")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"{str(path)!r} is not a GGUF file of version 2 or 3.")
    metadata = {}
    for _ in range(n_values):
        key = reader.string()
        metadata[key] = reader.value(*reader.take("<I"))
    infos = []
    for _ in range(n_tensors):
        name, (n_dims,) = reader.string(), reader.take("<I")
        infos.append((name, reader.take(f"<{n_dims}Q")[::-1], *reader.take("<IQ")))
    alignment = metadata.get("general.alignment", 32)
    start = -(-reader.at // alignment) * alignment
    tensors = {}
    for name, shape, kind, offset in infos:
        per_block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        rows = (*shape[:-1], shape[-1] // per_block * n_bytes)
        block = np.asarray(raw[start + offset : start + offset + math.prod(rows)]).reshape(rows)
        values = quants.dequantize(block, GGMLQuantizationType(kind))
        tensors[name] = torch.from_numpy(np.array(values, dtype=np.float32)).reshape(shape)
    return metadata, tensors


class _Reader:
    """A position in the bytes of a GGUF file."""

    NUMBERS = ("B", "b", "H", "h", "I", "i", "f", "?", None, None, "Q", "q", "d")  # by their code in the format

    def __init__(self, raw: memoryview):
        self.raw, self.at = raw, 0

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from(layout, self.raw, self.at)
        self.at += struct.calcsize(layout)
        return values

    def string(self) -> str:
        (length,) = self.take("<Q")
        self.at += length
        return bytes(self.raw[self.at - length : self.at]).decode("utf-8")

    def value(self, kind: int):
        if kind == 8:
            return self.string()
        if kind == 9:
            inner, count = self.take("<IQ")
            if self.NUMBERS[inner] is None:
                return [self.value(inner) for _ in range(count)]
            return list(self.take(f"<{count}{self.NUMBERS[inner]}"))
        return self.take(f"<{self.NUMBERS[kind]}")[0]


def _unpack(path: Path, folder: Path) -> None:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    try:
        metadata, tensors = read_gguf(path)
    except ImportError as error:
        raise MissingExtra(f"a GGUF file needs {error.name!r}. Run: pip install gguf") from None
    architecture = metadata["general.architecture"]
    if architecture != "llama":
        raise ValueError(f"{str(path)!r} holds a {architecture!r} model; of GGUF files only 'llama' models are read.")
    config = _llama_config(metadata, tied="output.weight" not in tensors)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(_llama_state(tensors, config), strict=False, assign=True)
    model.tie_weights()
    lost = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if lost:
        raise ValueError(f"{str(path)!r} has no weights for {list_ids(lost)}.")
    model.save_pretrained(folder)
    options = {"gguf_file": path.name, "local_files_only": True}
    PreTrainedTokenizerFast.from_pretrained(path.parent, **options).save_pretrained(folder)


def _llama_config(metadata: dict, tied: bool):
    from transformers import LlamaConfig

    def get(key, default=None):
        return metadata.get(f"llama.{key}", default)

    heads = get("attention.head_count")
    return LlamaConfig(
        vocab_size=get("vocab_size", len(metadata["tokenizer.ggml.tokens"])),
        hidden_size=get("embedding_length"),
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=get("attention.head_count_kv", heads),
        head_dim=get("rope.dimension_count", get("embedding_length") // heads),
        max_position_embeddings=get("context_length"),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": get("rope.freq_base", 10000.0)},
        bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=metadata.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=metadata.get("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=tied,
        dtype="float32",
    )


def _llama_state(tensors: dict[str, torch.Tensor], config) -> dict[str, torch.Tensor]:
    outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    inner = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = {}
    for name, tensor in tensors.items():
        part, _, kind = name.rpartition(".")
        if part.startswith("blk."):
            _, number, part = part.split(".")
            if part in heads:  # GGUF pairs the rotary dimensions as neighbours, transformers as halves
                tensor = tensor.unflatten(0, (heads[part], -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()
            state[f"model.layers.{number}.{inner[part]}.{kind}"] = tensor
        elif part in outer:
            state[f"{outer[part]}.{kind}"] = tensor
    return state
