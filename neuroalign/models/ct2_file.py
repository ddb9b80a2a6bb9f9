"""CTranslate2 model files (binary version 6): a table of named arrays, and Whisper's names in transformers."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["read_ct2", "whisper_state"]

DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
VERSION = 6


def read_ct2(path) -> dict[str, np.ndarray]:
    """Read the arrays of a CTranslate2 file.

    The file (little endian) is: version, name of the specification, its revision, number of arrays; each array has
    a name, a shape, a data type and its bytes; then aliases, pairs of a name and the name of an array. A name is its
    length with the closing zero, in two bytes, then its characters.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to array
        Views of the bytes of the file, with the aliases.

    Raises
    ------
    ValueError
        Another version, an unknown data type, or a file that ends too early.
    """
    reader = _Reader(Path(path).read_bytes(), Path(path).name)
    version = reader.number("<I")
    if version != VERSION:
        raise ValueError(f"CTranslate2 file {reader.name!r}: binary version {version}, expected {VERSION}.")
    reader.string()
    reader.number("<I")
    arrays = {}
    for _ in range(reader.number("<I")):
        name = reader.string()
        shape = [reader.number("<I") for _ in range(reader.number("<B"))]
        kind = reader.number("<B")
        if kind not in DTYPES:
            raise ValueError(f"CTranslate2 file {reader.name!r}: array {name!r} has data type {kind}, expected 0 to 4.")
        data = np.frombuffer(reader.take(reader.number("<I")), DTYPES[kind])
        if data.size != int(np.prod(shape)):
            raise ValueError(f"CTranslate2 file {reader.name!r}: array {name!r} has {data.size} values, its shape "
                             f"{shape} wants {int(np.prod(shape))}.")
        arrays[name] = data.reshape(shape)
    for _ in range(reader.number("<I")):
        alias, name = reader.string(), reader.string()
        if name not in arrays:
            raise ValueError(f"CTranslate2 file {reader.name!r}: alias {alias!r} of the unknown array {name!r}.")
        arrays[alias] = arrays[name]
    return arrays


def whisper_state(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict]:
    """Return the state dict of a WhisperForConditionalGeneration, and what its configuration must be.

    The file joins query, key and value of self-attention (key has no bias), and key and value of cross-attention.
    """
    vocabulary, width = arrays["decoder/embeddings/weight"].shape
    parts = ("encoder", "decoder")
    counts = {p: sum(f"{p}/layer_{i}/ffn/linear_0/weight" in arrays for i in range(100)) for p in parts}
    mels = arrays["encoder/conv1/weight"].shape[1]
    heads = width // 64  # of all sizes of Whisper
    settings = {
        "vocab_size": vocabulary, "d_model": width, "num_mel_bins": mels,
        "encoder_layers": counts["encoder"], "decoder_layers": counts["decoder"],
        "encoder_attention_heads": heads, "decoder_attention_heads": heads,
        "encoder_ffn_dim": arrays["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        "decoder_ffn_dim": arrays["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        "max_source_positions": arrays["encoder/position_encodings/encodings"].shape[0],
        "max_target_positions": arrays["decoder/position_encodings/encodings"].shape[0],
    }
    state = {}
    for name in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            state[f"model.encoder.{name}.{part}"] = arrays[f"encoder/{name}/{part}"]
    state["model.decoder.embed_tokens.weight"] = state["proj_out.weight"] = arrays["decoder/embeddings/weight"]
    for part, count in counts.items():
        state[f"model.{part}.embed_positions.weight"] = arrays[f"{part}/position_encodings/encodings"]
        _norm(state, arrays, f"model.{part}.layer_norm", f"{part}/layer_norm")
        for i in range(count):
            _block(state, arrays, f"model.{part}.layers.{i}.", f"{part}/layer_{i}/")
    return {k: np.asarray(v, np.float32) for k, v in state.items()}, settings


def _block(state, arrays, own: str, theirs: str) -> None:
    _attention(state, arrays, own + "self_attn.", theirs + "self_attention/", ("q", "k", "v"), 0)
    _linear(state, arrays, own + "self_attn.out_proj", theirs + "self_attention/linear_1")
    _norm(state, arrays, own + "self_attn_layer_norm", theirs + "self_attention/layer_norm")
    if theirs + "attention/linear_0/weight" in arrays:
        _attention(state, arrays, own + "encoder_attn.", theirs + "attention/", ("q",), 0)
        _attention(state, arrays, own + "encoder_attn.", theirs + "attention/", ("k", "v"), 1)
        _linear(state, arrays, own + "encoder_attn.out_proj", theirs + "attention/linear_2")
        _norm(state, arrays, own + "encoder_attn_layer_norm", theirs + "attention/layer_norm")
    _linear(state, arrays, own + "fc1", theirs + "ffn/linear_0")
    _linear(state, arrays, own + "fc2", theirs + "ffn/linear_1")
    _norm(state, arrays, own + "final_layer_norm", theirs + "ffn/layer_norm")


def _attention(state, arrays, own: str, theirs: str, parts: tuple[str, ...], number: int) -> None:
    for kind in ("weight", "bias"):
        joined = np.split(arrays[f"{theirs}linear_{number}/{kind}"], len(parts))
        state.update({f"{own}{p}_proj.{kind}": x for p, x in zip(parts, joined) if (p, kind) != ("k", "bias")})


def _linear(state, arrays, own: str, theirs: str) -> None:
    state[f"{own}.weight"], state[f"{own}.bias"] = arrays[f"{theirs}/weight"], arrays[f"{theirs}/bias"]


def _norm(state, arrays, own: str, theirs: str) -> None:
    state[f"{own}.weight"], state[f"{own}.bias"] = arrays[f"{theirs}/gamma"], arrays[f"{theirs}/beta"]


class _Reader:
    """Bytes, read from the front."""

    def __init__(self, content: bytes, name: str):
        self.content, self.name, self.at = memoryview(content), name, 0

    def take(self, size: int) -> memoryview:
        if self.at + size > len(self.content):
            raise ValueError(f"CTranslate2 file {self.name!r}: it ends at byte {len(self.content)}, within an array. "
                             "Install the package again.")
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def string(self) -> str:
        return bytes(self.take(self.number("<H"))).rstrip(b"\0").decode()
