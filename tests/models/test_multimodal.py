"""What holds for every multimodal family: streams, batches, runs by modality, extraction and verification."""

import re

import numpy as np
import pytest
import tiny_multimodal
import torch

import neuroalign as na
from neuroalign.models import BadStimuli
from neuroalign.models.multimodal import HAS

TYPES = sorted(tiny_multimodal.CONFIGS)
BOTH = [t for t in TYPES if t not in ("vilt",)]


@pytest.fixture
def pairs(texts, pictures):
    return [t | p for t, p in zip(texts, pictures)]


@pytest.mark.parametrize("model_type", TYPES)
def test_streams_part_the_tokens_and_fit_the_activations(model_type, tiny_model, run, pairs):
    model = tiny_model(model_type)
    inputs, caught, _ = run(model, pairs)
    layers = model.adapter.layers(model)
    assert {x.tower for x in layers} == set(inputs.streams) == set(model.adapter.towers(model, pairs[0]))
    for layer in (x for x in layers if x.masked):
        masks = inputs.streams[layer.tower]
        parts = [masks[s] for s in layer.streams if s != "all"]
        assert torch.equal(sum(p.int() for p in parts), masks["all"].int())  # each token in one stream, padding in none
        assert masks["all"].shape == caught[layer.name].shape[:2]
        assert all(masks[s].any(1).all() for s in layer.streams)
    for tower, offsets in inputs.offsets.items():
        for row, pair in enumerate(pairs):
            spans = [s for s, of_text in zip(offsets[row], inputs.streams[tower]["text"][row]) if of_text]
            covered = {i for start, end in spans for i in range(start, end)}
            assert covered == {i for i, letter in enumerate(pair["text"]) if not letter.isspace()}


@pytest.mark.parametrize("model_type", TYPES)
def test_neighbours_change_nothing(model_type, tiny_model, run, pairs):
    model = tiny_model(model_type)
    inputs, together, _ = run(model, pairs)
    for row, pair in enumerate(pairs):
        own, single, _ = run(model, [pair], seed=row + 7)
        for layer in model.adapter.layers(model):
            got, expected = together[layer.name][row], single[layer.name][0]
            if layer.masked:
                got, expected = got[inputs.mask(layer, "all")[row]], expected[own.mask(layer, "all")[0]]
            scale = float(expected.abs().max())
            torch.testing.assert_close(got, expected, rtol=0, atol=3e-5 * max(1, scale))


@pytest.mark.parametrize("model_type", TYPES)
def test_extract_and_verify(model_type, tiny_model, pairs, tmp_path):
    model = tiny_model(model_type)
    table = na.StimulusSet.from_texts([p["text"] for p in pairs]).table.assign(image=[p["image"] for p in pairs])
    stimuli = na.StimulusSet(table)
    features = na.extract(model, stimuli, store=tmp_path, progress=False)
    fused = [s for s in features if s.endswith(":text")]
    assert fused and any(s.endswith(":image") for s in features)
    assert all(np.isfinite(features[s].values).all() for s in features)
    verdict = na.verify(model, store=tmp_path)
    assert verdict.attrs["passed"], verdict.to_string()


@pytest.mark.parametrize("model_type", BOTH)
def test_runs_of_one_modality(model_type, tiny_model, run, pairs, tmp_path):
    model = tiny_model(model_type)
    for modality in ("text", "image"):
        alone = [{k: v for k, v in p.items() if k in ("stimulus_id", modality)} for p in pairs]
        if (modality,) not in model.adapter.routes:
            with pytest.raises(BadStimuli, match="Runs that work"):
                model.adapter.check(model, alone)
            continue
        stimuli = na.StimulusSet(na.StimulusSet.from_texts([p["text"] for p in pairs]).table[[]].assign(
            **{modality: [p[modality] for p in pairs]}))
        features = na.extract(model, stimuli, store=tmp_path, progress=False)
        assert {s.rsplit(":", 1)[1] for s in features} == {modality}
        assert all(np.isfinite(features[s].values).all() for s in features)


def test_vilt_needs_both_and_names_the_run(tiny_model, texts):
    with pytest.raises(BadStimuli, match=r"text alone.*Runs that work: image with text") as error:
        tiny_model("vilt").adapter.check(tiny_model("vilt"), texts)
    assert error.value.ids == tuple(t["stimulus_id"] for t in texts)
    assert set(HAS) == {"image", "text", "audio", "video"}


def test_vilt_keeps_its_patches_in_order_and_equals_transformers(tiny_model, run, pairs):
    model = tiny_model("vilt")
    inputs, caught, _ = run(model, pairs[:1], seed=1)
    _, again, _ = run(model, pairs[:1], seed=2)
    for name in caught:
        torch.testing.assert_close(caught[name], again[name], rtol=0, atol=0)
    tensors = inputs.tensors
    given = {"input_ids": tensors["input_ids"], "attention_mask": tensors["attention_mask"],
             "pixel_values": tensors["pixels0"],
             "pixel_mask": torch.ones(1, *tensors["pixels0"].shape[2:], dtype=torch.long)}
    with torch.inference_mode():
        shuffled = model.module(**given, output_hidden_states=True).hidden_states
    blocks = [caught[x.name] for x in model.adapter.layers(model) if x.masked]
    for block, state in zip(blocks, shuffled):  # the same tokens, in the order that transformers drew
        distance = torch.cdist(block[0], state[0]).min(1)
        assert float(distance.values.max()) < 1e-3
        assert sorted(distance.indices.tolist()) == list(range(block.shape[1]))


@pytest.mark.parametrize("model_type", (*tiny_multimodal.DECODERS, "blip-2", "mllama"))
def test_a_placeholder_in_a_text_is_refused_by_name(model_type, tiny_model, pairs):
    model = tiny_model(model_type)
    mark = model.processors["text"].tokenizer.convert_ids_to_tokens(model.module.config.image_token_id)
    wrong = [pairs[0], pairs[1] | {"text": f"{mark} what is it"}]
    with pytest.raises(BadStimuli, match=f"the text holds '{re.escape(mark)}'.*put before the text by itself") as error:
        model.adapter.check(model, wrong)
    assert error.value.ids == (pairs[1]["stimulus_id"],)


@pytest.mark.parametrize("model_type", tiny_multimodal.DECODERS)
def test_language_model_blocks_equal_hidden_states(model_type, tiny_model, run, pairs):
    model = tiny_model(model_type)
    inputs, caught, _ = run(model, pairs, ("block", "norm") if "qwen" not in model_type else ("block",))
    model.module.rope_deltas = None
    with torch.inference_mode():
        states = model.module(**inputs.tensors, use_cache=False, output_hidden_states=True).hidden_states
    blocks = [caught[x.name] for x in model.adapter.layers(model) if x.tower == "lm"]
    assert len(states) == len(blocks)
    for block, state in zip(blocks[:-1], states[:-1]):  # the last state is normed
        torch.testing.assert_close(block, state, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model_type", tiny_multimodal.DECODERS)
def test_placeholders_and_their_number(model_type, tiny_model, pairs):
    model = tiny_model(model_type)
    inputs = model.adapter.prepare(model, pairs)
    ids, masks = inputs.tensors["input_ids"], inputs.streams["lm"]
    assert torch.equal(ids == tiny_multimodal.IMAGE_ID, masks["image"])
    inputs.tensors["input_ids"] = ids.masked_fill(masks["image"].cumsum(1) == 1, 5)  # one too few
    with pytest.raises((ValueError, RuntimeError), match="do not match|divisible|same size|shape"):
        model.adapter.forward(model, inputs)


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl"])
def test_qwen_patches_are_split_and_in_order(model_type, tiny_model, run, pairs):
    model = tiny_model(model_type)
    inputs, caught, _ = run(model, pairs)
    first = next(x for x in model.adapter.layers(model) if x.tower == "image")
    with torch.inference_mode():
        embedded = model.module.visual.patch_embed(inputs.tensors["pixel_values"])
    mask = inputs.streams["image"]["image"]
    assert len(set(mask.sum(1).tolist())) > 1  # pictures of different size
    torch.testing.assert_close(caught[first.name][mask], embedded, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl"])
def test_qwen_needs_to_be_told_which_tokens_are_the_pictures(model_type, tiny_model, pairs):
    model = tiny_model(model_type)
    inputs = model.adapter.prepare(model, pairs)
    with torch.inference_mode():
        told = model.adapter.forward(model, inputs).last_hidden_state
        del inputs.tensors["mm_token_type_ids"]
        if model_type == "qwen2_vl":
            with pytest.raises(ValueError, match="mm_token_type_ids"):
                model.adapter.forward(model, inputs)
        else:
            try:
                other = model.adapter.forward(model, inputs).last_hidden_state
            except ValueError:
                return
            assert float((told - other).abs().max()) > 1e-4


def test_chameleon_reads_the_codes_of_the_picture(tiny_model, run, pairs):
    model = tiny_model("chameleon")
    inputs, caught, _ = run(model, pairs)
    with torch.inference_mode():
        codes = model.module.get_image_tokens(inputs.tensors["pixel_values"])
        expected = model.module.embed_tokens(codes)
    assert set(codes.unique().tolist()) <= set(tiny_multimodal.CODES.values()) and len(codes.unique()) > 1
    given = caught["layers.0.input"][inputs.streams["lm"]["image"]]
    torch.testing.assert_close(given, expected.flatten(0, 1), rtol=0, atol=0)
    assert {x.tower for x in model.adapter.layers(model)} == {"lm"}


def test_janus_understands_by_its_vision_tower(tiny_model, run, pairs):
    model = tiny_model("janus")
    inputs, caught, _ = run(model, pairs)
    last = [caught[x.name] for x in model.adapter.layers(model) if x.tower == "image"][-1]
    with torch.inference_mode():
        expected = model.module.aligner(model.module.vision_model.post_layernorm(last))
    given = caught["language_model.layers.0.input"][inputs.streams["lm"]["image"]]
    torch.testing.assert_close(given, expected.flatten(0, 1), rtol=0, atol=1e-6)
    ids = inputs.tensors["input_ids"][0].tolist()
    start, end = (model.processors["text"].tokenizer.convert_tokens_to_ids(f"<{n}_of_image>") for n in ("begin", "end"))
    assert ids[1] == start and ids[2 + 16] == end  # after the begin of text


def test_flava_fused_streams_are_in_the_order_of_the_model(tiny_model, run, pairs):
    model = tiny_model("flava")
    inputs, caught, _ = run(model, pairs)
    first = next(x for x in model.adapter.layers(model) if x.tower == "fusion")
    image = caught[[x.name for x in model.adapter.layers(model) if x.tower == "image"][-1]]
    text = caught[[x.name for x in model.adapter.layers(model) if x.tower == "text"][-1]]
    with torch.inference_mode():
        image, text = model.module.image_to_mm_projection(image), model.module.text_to_mm_projection(text)
    streams = inputs.streams
    torch.testing.assert_close(caught[first.name][streams["fusion"]["image"]], image[streams["image"]["image"]])
    torch.testing.assert_close(caught[first.name][streams["fusion"]["text"]], text[streams["text"]["text"]])


def test_a_stream_that_only_some_stimuli_have_is_refused(tiny_model, pairs, tmp_path):
    model, ids = tiny_model("llava"), [p["stimulus_id"] for p in pairs]
    table = na.StimulusSet.from_texts([p["text"] for p in pairs], ids).table
    some = na.StimulusSet(table.assign(image=["", *[p["image"] for p in pairs[1:]]]))
    with pytest.raises(BadStimuli, match="no image, which other stimuli have") as error:
        na.extract(model, some, layers="language_model.*", store=tmp_path, progress=False)
    assert error.value.ids == (ids[0],)
    with pytest.raises(BadStimuli, match=r"none has what the streams asked for .* hold \(image\)"):
        na.extract(model, na.StimulusSet(table), streams=["image"], layers="language_model.*", store=tmp_path)
    features = na.extract(model, some, layers="language_model.*", streams=["text"], store=tmp_path, progress=False)
    assert all(np.isfinite(f.values).all() for f in features.values())
