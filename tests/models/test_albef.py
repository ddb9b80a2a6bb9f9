"""ALBEF: three towers, equal to the published forward in float64, each modality alone, text as it was trained on."""

import numpy as np
import pytest
import tiny_published as tiny
import torch
import yaml
from PIL import Image

import neuroalign as na
from neuroalign.models import BadStimuli, get_entry, list_twins, load_model
from neuroalign.models.albef import load_albef
from neuroalign.models.published import BadCheckpoint

KINDS = {"pretrained": "text_encoder.bert.", "retrieval": "text_encoder."}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Return a zoo of one's own with both kinds of files."""
    folder, rows = tmp_path_factory.mktemp("albef"), []
    for kind in KINDS:
        path = tiny.save_albef(folder, kind == "retrieval")
        rows.append({"id": kind, "family": "albef", "file": path.name, "modalities": ["image", "text"],
                     "objective": "fused"})  # fmt: skip
    (folder / "zoo.yaml").write_text(yaml.safe_dump({"models": rows}))
    return folder / "zoo.yaml"


@pytest.fixture(scope="module")
def models(zoo):
    """Return both models."""
    return {kind: load_model(kind, zoo=zoo, device="cpu") for kind in KINDS}


@pytest.fixture
def pairs(texts, pictures):
    return [t | p for t, p in zip(texts, pictures)]


def agree(got, expected):
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("kind", "prefix"), KINDS.items())
def test_all_towers_equal_the_published_forward(kind, prefix, models, run, pairs):
    model, state = models[kind], tiny.doubled(tiny.albef_state(kind == "retrieval"))
    inputs, caught, _ = run(model, pairs)
    pictures = tiny.vit_forward(state, "visual_encoder.", inputs.tensors["pixel_values"].double(), heads=2)
    for name, expected in zip(["0.input", *map(str, range(tiny.DEPTH))], pictures):
        agree(caught[f"vision_model.layers.{name}"], expected)
    agree(caught["vision_proj"][:, 0], tiny.affine(state, "vision_proj", pictures[-1][:, 0]))
    for row, (ids, real) in enumerate(zip(inputs.tensors["input_ids"], inputs.streams["text"]["all"])):
        embedded = tiny.bert_embedding(state, prefix, ids[real])
        lower = tiny.bert_forward(state, prefix, embedded, range(tiny.FUSION))
        upper = tiny.bert_forward(state, prefix, lower[-1], range(tiny.FUSION, 4), pictures[-1][row])
        agree(caught["text_model.encoder.layer.0.input"][row][real], embedded)
        for i, expected in enumerate(lower):
            agree(caught[f"text_model.encoder.layer.{i}"][row][real], expected)
        agree(caught["text_proj"][row, 0], tiny.affine(state, "text_proj", lower[-1][0]))
        for i, expected in enumerate(upper):
            agree(caught[f"fusion_model.encoder.layer.{i}"][row][real], expected)


def test_neighbours_change_nothing(models, run, pairs):
    model = models["pretrained"]
    inputs, together, _ = run(model, pairs)
    for row, pair in enumerate(pairs):
        own, single, _ = run(model, [pair])
        for layer in model.adapter.layers(model):
            got, expected = together[layer.name][row], single[layer.name][0]
            if layer.masked:
                got, expected = got[inputs.mask(layer, "all")[row]], expected[own.mask(layer, "all")[0]]
            torch.testing.assert_close(got, expected, rtol=0, atol=3e-5 * max(1, float(expected.abs().max())))


def test_the_fusion_reads_the_picture_and_the_text_tower_does_not(models, run, pairs):
    _, caught, _ = run(models["pretrained"], pairs)
    swapped = [t | {"image": p["image"]} for t, p in zip(pairs, pairs[::-1])]
    _, other, _ = run(models["pretrained"], swapped)
    text, fused = "text_model.encoder.layer.1", "fusion_model.encoder.layer.0"
    torch.testing.assert_close(caught[text][0], other[text][0], rtol=0, atol=1e-5)
    assert float((caught[fused][0, 0] - other[fused][0, 0]).abs().max()) > 1e-2


def test_extract_and_verify(zoo, pairs, tmp_path):
    table = na.StimulusSet.from_texts([p["text"] for p in pairs]).table.assign(image=[p["image"] for p in pairs])
    features = na.extract("pretrained", na.StimulusSet(table), zoo=zoo, store=tmp_path, device="cpu", progress=False)
    assert {space.rsplit(":", 1)[1] for space in features} == {"image", "text"}
    assert all(np.isfinite(f.values).all() for f in features.values())
    verdict = na.verify("pretrained", zoo=zoo, store=tmp_path, device="cpu")
    assert verdict.attrs["passed"], verdict.to_string()


@pytest.mark.parametrize("modality", ["text", "image"])
def test_runs_of_one_modality(modality, models, run, pairs):
    model = models["pretrained"]
    alone = [{k: v for k, v in p.items() if k in ("stimulus_id", modality)} for p in pairs]
    assert model.adapter.towers(model, alone[0]) == (modality,)
    _, caught, _ = run(model, alone)
    _, together, _ = run(model, pairs)
    for name, tokens in caught.items():
        torch.testing.assert_close(tokens, together[name], rtol=0, atol=1e-5)
    assert not any(name.startswith("fusion") for name in caught)


def test_text_is_read_without_punctuation_and_offsets_hold(models):
    side = models["pretrained"].processors["text"]
    words = side.tokenizer.convert_ids_to_tokens
    text = "A man, (he): doesn't look-back!"
    ids, spans = side.tokenize(text)
    assert words(ids) == ["a", "man", "he", "doesnt", "look", "back"]
    assert [text[start:end] for start, end in spans] == ["A", "man", "he", "doesn't", "look", "back"]
    model = models["pretrained"]
    inputs = model.adapter.prepare(model, [{"stimulus_id": "a", "text": text}])
    assert words(inputs.tensors["input_ids"][0].tolist()) == ["[CLS]", *words(ids)]  # no [SEP], as published
    with pytest.raises(BadStimuli, match="'x': the text is empty"):
        side.check([{"stimulus_id": "x", "text": "..."}])


def test_pixels_are_those_of_the_published_transform(models, pictures):
    size = tiny.SIDE * tiny.PATCH
    image = Image.open(pictures[2]["image"]).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    values = np.asarray(image, dtype=np.float64) / 255
    expected = (values - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    got = models["pretrained"].processors["image"].batch(pictures[2:3], torch.device("cpu"), torch.float32)[0]
    np.testing.assert_allclose(got.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_what_is_left_out_and_what_is_missing(tmp_path, models):
    assert not any("_m." in name or "queue" in name for name in models["pretrained"].module.state_dict())
    state = tiny.albef_state()
    path = tiny.save_albef(tmp_path, model={k: v for k, v in state.items() if "crossattention" not in k})
    with pytest.raises(BadCheckpoint, match="0 of 4 layers of the text encoder have cross-attention"):
        load_albef(path)
    path = tiny.save_albef(tmp_path, model=state | {"text_decoder.bert.x": torch.zeros(1)})
    with pytest.raises(BadCheckpoint, match=r"it has also 'text_decoder\.bert\.x'"):
        load_albef(path)
    path = tiny.save_albef(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match="put the one of bert-base-uncased there"):
        load_albef(path)


def test_random_twin_and_zoo_entries(zoo):
    twin, trained = load_model("pretrained@random", zoo=zoo, device="cpu"), load_model("pretrained", zoo=zoo)
    assert twin.weights.startswith("random(0)+config:") and twin.weights != trained.weights
    weight = "fusion_model.encoder.layer.0.crossattention.self.query.weight"
    assert 0.01 < float(twin.module.state_dict()[weight].std()) < 0.03  # as BERT is initialised
    assert list_twins("albef-14m")[:3] == ["albef-14m@image", "albef-14m@text", "albef-4m"]
    alone = load_model("pretrained@text", zoo=zoo, device="cpu")
    assert alone.run == "text" and alone.weights == trained.weights
    assert get_entry("albef-14m").url.endswith("ALBEF.pth") and get_entry("albef-4m").family == "albef"
