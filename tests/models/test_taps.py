"""Parts of a block as layers, in models of several modalities, of sound and of video."""

import numpy as np
import pytest
import tiny_multimodal
import torch
from scipy.io import wavfile

# Blocks that add attention and MLP to the residual stream one after the other, with nothing after the sum: there the
# two parts and the input of a block give its output.
RESIDUAL = {
    "llava": "lm", "llava_next": "lm", "idefics3": "lm", "smolvlm": "lm",
    "internvl": "lm", "janus": "lm", "chameleon": "lm", "qwen2_vl": "lm", "qwen2_5_vl": "lm", "paligemma": "lm",
    "blip": "image", "blip-2": "image",
    "videomae": "video", "vjepa2": "video",
}  # fmt: skip
TYPES = sorted(tiny_multimodal.TYPES)
LACK = {"attention": ("lxmert", "timesformer"), "mlp": ("lxmert", "timesformer"),
        "norm": ("blip", "bridgetower", "lxmert", "timesformer", "visual_bert", "videomae", "wav2vec2",
                 "wav2vec2-layer", "hubert", "wavlm")}  # fmt: skip


@pytest.fixture(scope="module")
def rows(texts, pictures, tmp_path_factory):
    """Return a function from a model to two stimuli with all that it reads."""
    folder, rng = tmp_path_factory.mktemp("taps"), np.random.default_rng(0)
    have = {"text": [t["text"] for t in texts], "image": [p["image"] for p in pictures],
            "audio": [str(folder / f"{i}.wav") for i in range(2)],
            "video": [str(folder / f"{i}.npy") for i in range(2)]}
    for i in range(2):
        wavfile.write(have["audio"][i], 16000, rng.standard_normal(4000 + 2500 * i).astype(np.float32) * 0.1)
        np.save(have["video"][i], rng.integers(0, 255, (8 + i, 40, 48, 3), dtype=np.uint8))
    return lambda model: [{"stimulus_id": str(i)} | {m: have[m][i] for m in model.adapter.modalities} for i in range(2)]


@pytest.mark.parametrize("tap", ["attention", "mlp", "norm"])
@pytest.mark.parametrize("model_type", TYPES)
def test_taps_fit_the_blocks(model_type, tap, tiny_model, run, rows):
    model = tiny_model(model_type)
    layers = model.adapter.layers(model, (tap,))
    assert bool(layers) == (model_type not in LACK[tap])
    if not layers:
        return
    inputs, caught, _ = run(model, rows(model), ("block", tap))
    assert all(0 < x.depth <= 1 for x in layers)
    for layer in layers:
        found = caught[layer.name]
        maps = model_type in tiny_multimodal.TIMED  # unmasked layers of several tokens: feature maps, frames
        expected = inputs.mask(layer, "all").shape if layer.masked else (2, found.shape[1] if maps else 1)
        assert found.shape[:2] == expected and float(found.float().std()) > 0, layer.name


@pytest.mark.parametrize("model_type", sorted(RESIDUAL))
def test_attention_and_mlp_are_what_a_block_adds(model_type, tiny_model, run, rows):
    model = tiny_model(model_type)
    taps = ("block", "attention", "mlp")
    _, caught, _ = run(model, rows(model), taps)
    tower = RESIDUAL[model_type]
    parts = [caught[x.name] for x in model.adapter.layers(model, taps) if x.tower == tower and x.masked]
    before, *rest = parts
    for attention, mlp, after in zip(rest[0::3], rest[1::3], rest[2::3]):
        scale = float(after.abs().max())
        torch.testing.assert_close(before + attention + mlp, after, rtol=0, atol=1e-5 * max(1, scale))
        before = after
