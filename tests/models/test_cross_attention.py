"""Mllama: layers equal the model's own states, tiles and their padding, the text alone, the cross-attention layers."""

import numpy as np
import pytest
import torch
from PIL import Image

import neuroalign as na

CROSS = "language_model.layers.1"


@pytest.fixture
def pairs(texts, pictures):
    return [t | p for t, p in zip(texts, pictures)]


@pytest.fixture
def wide(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    return {"stimulus_id": "wide", "text": "A man.", "image": str(tmp_path / "wide.png")}


def test_language_model_equals_its_hidden_states(tiny_model, run, pairs):
    model = tiny_model("mllama")
    inputs, caught, _ = run(model, pairs, ("block", "norm"))
    with torch.inference_mode():
        states = model.module(**inputs.tensors, use_cache=False, output_hidden_states=True).hidden_states
    layers = [x for x in model.adapter.layers(model, ("block", "norm")) if x.tower in ("lm", "cross")]
    blocks = [caught[x.name] for x in layers]
    torch.testing.assert_close(blocks[-1], states[-1], rtol=0, atol=0)  # the normed one
    for block, state in zip(blocks[:-2], states[:-1], strict=True):
        torch.testing.assert_close(block, state, rtol=0, atol=0)
    assert [x.name for x in layers if x.tower == "cross"] == [CROSS]


def test_vision_tower_equals_what_the_language_model_is_given(tiny_model, run, pairs):
    model = tiny_model("mllama")
    inputs, caught, _ = run(model, pairs)
    names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
    with torch.inference_mode():
        own = model.module.vision_model(**{n: inputs.tensors[n] for n in names}).last_hidden_state
    parts = ["global_transformer.layers.1", "transformer.layers.0", "transformer.layers.1"]
    blocks = [caught[f"vision_model.{p}"].unflatten(1, (4, -1))[:, :, :17] for p in parts]
    expected = torch.cat([blocks[0], torch.stack(blocks[1:], -1).flatten(-2)], -1)
    torch.testing.assert_close(own[:, 0], expected, rtol=0, atol=0)


def test_tiles_of_a_picture_and_their_padding(tiny_model, pairs, wide):
    model = tiny_model("mllama")
    inputs = model.adapter.prepare(model, [pairs[0], wide])
    masks, tiles = inputs.streams["image"], inputs.tensors["aspect_ratio_mask"][:, 0].sum(1).tolist()
    counts = {name: mask.sum(1).tolist() for name, mask in masks.items()}
    assert tiles == [4, 3]  # two by two, and a row of three
    assert counts == {"image": [64, 48], "special": tiles, "all": [68, 51]}
    assert masks["all"].shape == (2, 4 * 24)  # 17 places filled up to 24 in each of four tiles


def test_pictures_of_other_shapes_in_the_batch_change_nothing(tiny_model, run, pairs, wide):
    model = tiny_model("mllama")
    (inputs, together, _), (own, alone, _) = run(model, [pairs[1], wide]), run(model, [wide])
    for layer in model.adapter.layers(model):
        got, expected = together[layer.name][1][inputs.mask(layer, "all")[1]], alone[layer.name][0]
        torch.testing.assert_close(got, expected[own.mask(layer, "all")[0]], rtol=0, atol=3e-5)


def test_no_text_reads_a_tile_that_is_not_there(tiny_model, wide):
    model = tiny_model("mllama")
    inputs = model.adapter.prepare(model, [wide])
    with torch.inference_mode():
        before = model.adapter.forward(model, inputs).last_hidden_state
        inputs.tensors["cross_attention_mask"] = torch.ones_like(inputs.tensors["cross_attention_mask"])
        after = model.adapter.forward(model, inputs).last_hidden_state
    assert float((before - after).abs().max()) > 1e-4


def test_a_text_alone_skips_the_cross_attention_layers(tiny_model, run, texts, tmp_path):
    model = tiny_model("mllama")
    inputs, caught, _ = run(model, texts)
    assert CROSS not in caught and "cross_attention_mask" not in inputs.tensors
    features = na.extract(model, na.StimulusSet.from_texts([t["text"] for t in texts]), store=tmp_path, progress=False)
    assert features and not any(CROSS in space for space in features)


def test_the_picture_reaches_the_text_through_the_cross_attention_layers(tiny_model, run, pairs):
    model = tiny_model("mllama")
    others = [p | {"image": q["image"]} for p, q in zip(pairs, pairs[1:] + pairs[:1])]
    one, two = run(model, pairs)[1], run(model, others)[1]
    torch.testing.assert_close(one["language_model.layers.0"], two["language_model.layers.0"], rtol=0, atol=0)
    assert float((one[CROSS] - two[CROSS]).abs().max()) > 1e-4


def test_taps_name_the_attention_of_each_layer(tiny_model):
    model = tiny_model("mllama")
    paths = [x.path for x in model.adapter.layers(model, ("attention",)) if x.tower in ("lm", "cross")]
    assert paths == ["language_model.layers.0.self_attn", f"{CROSS}.cross_attn", "language_model.layers.2.self_attn"]
    depths = [x.depth for x in model.adapter.layers(model) if x.tower == "image"]
    assert depths == sorted(depths) and (depths[0], depths[-1]) == (0, 1)
