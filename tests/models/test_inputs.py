"""Streams, padding, offsets and special tokens; a stimulus does not depend on its batch; bad stimuli are named."""

from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image

from neuroalign.models import BadStimuli, attach
from neuroalign.models.images import open_image

TEXT = "The quick brown fox,  he doesn't look\tback."


def alone(model, run, stimuli):
    return [run(model, [s])[1] for s in stimuli]


@pytest.mark.parametrize("model_type", tiny.TEXT_TYPES)
def test_padding_changes_nothing(model_type, tiny_model, run, texts):
    model = tiny_model(model_type)
    inputs, together, _ = run(model, texts)
    for row, single in enumerate(alone(model, run, texts)):
        for layer in model.adapter.layers(model):
            got = together[layer.name][row]
            if layer.masked:
                got = got[inputs.mask(layer, "all")[row]]
            torch.testing.assert_close(got, single[layer.name][0], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("model_type", [*tiny.IMAGE_TYPES, *tiny.DUAL_TYPES])
def test_a_stimulus_does_not_depend_on_its_batch(model_type, tiny_model, run, texts, pictures):
    model = tiny_model(model_type)
    stimuli = [t | p for t, p in zip(texts, pictures)] if model_type in tiny.DUAL_TYPES else pictures
    inputs, together, _ = run(model, stimuli)
    single = run(model, [stimuli[0]], seed=5)[1]
    for layer in model.adapter.layers(model):
        got = together[layer.name][0]
        if layer.masked:
            got = got[inputs.mask(layer, "all")[0]]
        expected = single[layer.name][0][: len(got)]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("model_type", tiny.TEXT_TYPES)
def test_tokens_are_those_of_the_tokenizer(model_type, tiny_model, texts):
    model = tiny_model(model_type)
    tokenizer = model.processors["text"].tokenizer
    inputs = model.adapter.prepare(model, texts)
    masks = inputs.streams["text"]
    assert torch.equal(masks["text"] | masks["special"], masks["all"])
    assert not (masks["text"] & masks["special"]).any()
    for row, stimulus in enumerate(texts):
        expected = tokenizer(stimulus["text"])["input_ids"]
        if model_type in tiny.CAUSAL_TYPES:
            expected = [tokenizer.bos_token_id, *expected]
        assert inputs.tensors["input_ids"][row][masks["all"][row]].tolist() == expected
        assert inputs.tensors["attention_mask"][row].bool().tolist() == masks["all"][row].tolist()
        assert masks["all"][row].tolist() == sorted(masks["all"][row].tolist(), reverse=True)  # right padding
        assert len(inputs.offsets["text"][row]) == len(expected)


def test_offsets_point_at_the_characters_of_tokens(tiny_model):
    model = tiny_model("gpt2")
    ids, offsets = model.adapter.tokenize(model, TEXT)
    tokenizer = model.processors["text"].tokenizer
    for token, (start, end) in zip(ids, offsets):
        assert TEXT[start:end] == tokenizer.decode([token]).lstrip()
    covered = {i for start, end in offsets for i in range(start, end)}
    assert covered == {i for i, letter in enumerate(TEXT) if not letter.isspace()}
    inputs = model.adapter.prepare(model, [{"stimulus_id": "a", "text": TEXT}])
    assert inputs.offsets["text"] == [[(0, 0), *offsets]]


def test_windows_of_tokens_get_special_tokens(tiny_model):
    model = tiny_model("llama")
    ids, offsets = model.adapter.tokenize(model, TEXT)
    inputs = model.adapter.batch(model, [(ids[:3], offsets[:3]), (ids[2:9], offsets[2:9])])
    assert inputs.tensors["input_ids"][1].tolist() == [model.adapter.bos_id(model), *ids[2:9]]
    assert inputs.streams["text"]["text"].sum(1).tolist() == [3, 7]
    assert inputs.tensors["attention_mask"].sum(1).tolist() == [4, 8]


def test_logits_are_the_models_own(tiny_model, run, texts):
    model = tiny_model("gpt2")
    inputs, _, output = run(model, texts)
    logits = model.adapter.logits(output)
    with torch.inference_mode():
        expected = model.module(input_ids=inputs.tensors["input_ids"][:1]).logits
    count = int(inputs.streams["text"]["all"][0].sum())
    torch.testing.assert_close(logits[0, :count], expected[0, :count], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "special", "patches"),
    [("vit", 1, 16), ("deit", 2, 16), ("dinov2_with_registers", 5, 16), ("dinov3_vit", 5, 16), ("vit_mae", 1, 16)],
)
def test_streams_of_vision_transformers(model_type, special, patches, tiny_model, run, pictures):
    model = tiny_model(model_type)
    inputs, caught, _ = run(model, pictures)
    layer = model.adapter.layers(model)[0]
    assert inputs.mask(layer, "special").sum(1).tolist() == [special] * len(pictures)
    assert inputs.mask(layer, "image").sum(1).tolist() == [patches] * len(pictures)
    assert caught[layer.name].shape[1] == special + patches
    assert not inputs.mask(layer, "image")[:, :special].any()


def test_masked_autoencoder_keeps_all_patches_in_order(tiny_model, run, pictures):
    model = tiny_model("vit_mae")
    first, second = run(model, pictures, seed=0)[1], run(model, pictures, seed=1)[1]
    embedding = first["layers.0.input"]
    torch.testing.assert_close(embedding, second["layers.0.input"], rtol=0, atol=0)
    pixels = model.adapter.prepare(model, pictures).tensors["pixel_values"]
    embeddings = model.module.embeddings
    expected = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]
    torch.testing.assert_close(embedding[:, 1:], expected, rtol=1e-5, atol=1e-6)


def test_siglip_pads_to_its_fixed_length(tiny_model, texts):
    model = tiny_model("siglip")
    inputs = model.adapter.prepare(model, texts)
    assert inputs.tensors["input_ids"].shape == (3, 40) and "attention_mask" not in inputs.tensors
    assert inputs.streams["text"]["all"].sum(1).max() < 40


def test_one_modality_runs_its_own_tower_alone(tiny_model, run, texts, pictures):
    model = tiny_model("clip")
    both = [t | p for t, p in zip(texts, pictures)]
    _, expected, _ = run(model, both)
    for stimuli, tower in ((texts, "text"), (pictures[:3], "image")):
        assert model.adapter.towers(model, stimuli[0]) == (tower,)
        inputs, caught, output = run(model, stimuli)
        assert set(inputs.streams) == set(output) == {tower}
        assert set(caught) == {x.name for x in model.adapter.layers(model) if x.tower == tower}
        for name, value in caught.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)


def test_mixed_modalities_in_a_batch_are_refused(tiny_model, texts, pictures):
    model = tiny_model("clip")
    with pytest.raises(ValueError, match="different modalities"):
        model.adapter.prepare(model, [texts[0], pictures[0]])
    with pytest.raises(BadStimuli, match="'nothing': neither an image nor a text"):
        model.adapter.check(model, [texts[0], {"stimulus_id": "nothing", "image": "", "text": None}])


def test_bad_texts_are_named(tiny_model):
    model = tiny_model("bert")
    with pytest.raises(BadStimuli, match=r"'b': no text") as caught:
        model.adapter.check(model, [{"stimulus_id": "a", "text": "fine"}, {"stimulus_id": "b", "image": "x.png"}])
    assert caught.value.ids == ("b",)
    with pytest.raises(BadStimuli, match=r"'c', 'd': the text is empty"):
        model.adapter.prepare(model, [{"stimulus_id": "c", "text": ""}, {"stimulus_id": "d", "text": " \n"}])
    long = {"stimulus_id": "long", "text": "fox " * 100}
    with pytest.raises(BadStimuli, match=r"'long': the text is longer than the context .* room for 62"):
        model.adapter.check(model, [{"stimulus_id": "a", "text": "fine"}, long])


@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2", "opt"])
def test_the_longest_text_that_is_let_through_runs(model_type, tiny_model, run):
    model = tiny_model(model_type)
    text = model.processors["text"]
    room = text.max_tokens - len(text.prefix) - len(text.suffix)
    word = next(w for w in ("a", "b", "o") if len(text.tokenize(w + w)[0]) == 2)
    _, caught, _ = run(model, [{"stimulus_id": "full", "text": word * room}])
    assert next(iter(caught.values())).shape[1] == 64
    with pytest.raises(BadStimuli, match="longer than the context"):
        run(model, [{"stimulus_id": "over", "text": word * (room + 1)}])


def test_bad_images_are_named(tiny_model, tmp_path, pictures):
    model = tiny_model("vit")
    whole = Path(pictures[0]["image"]).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    cut, text = ({"stimulus_id": n, "image": str(tmp_path / f"{n}.png")} for n in ("cut", "text"))
    with pytest.raises(BadStimuli, match=r"'cut': .*truncated") as caught:
        model.adapter.prepare(model, [pictures[0], cut])
    assert caught.value.ids == ("cut",)
    with pytest.raises(BadStimuli, match=r"'text': .*not an image"):
        model.adapter.prepare(model, [text])
    with pytest.raises(BadStimuli, match=r"'a': no image, and this model sees images"):
        model.adapter.check(model, [{"stimulus_id": "a", "text": "words"}])
    with pytest.raises(FileNotFoundError, match=r"'lost': no image file"):
        model.adapter.check(model, [{"stimulus_id": "lost", "image": str(tmp_path / "lost.png")}])


def test_images_are_opened_upright_and_in_rgb(tmp_path):
    grey = Image.new("LA", (4, 6), (100, 255))
    grey.save(tmp_path / "grey.png")
    assert open_image(tmp_path / "grey.png").getpixel((0, 0)) == (100, 100, 100)
    turned = Image.new("RGB", (4, 6))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").size == (6, 4)
    Image.new("I;16", (4, 4), 40000).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="eight bits"):
        open_image(tmp_path / "deep.png")


def test_a_handle_removes_its_hook(tiny_model, texts):
    model, seen = tiny_model("bert"), []
    layer = model.adapter.layers(model)[1]
    attach(model, layer, seen.append).remove()
    model.adapter.forward(model, model.adapter.prepare(model, texts))
    assert not seen
