"""Knockout: what is blocked carries nothing, what is not is as it was, and what cannot be is said."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import neuroalign as na
from neuroalign.data import StimulusSet
from neuroalign.models import BadStimuli, load_model
from neuroalign.probes.edges import Reader, parse_edges, window_blocks
from neuroalign.probes.knockout import knockout

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny
import tiny_multimodal

TEXTS = ["Who is playing the old guitar here? me", "A fox? it"]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    made = {}

    def model(model_type):
        if model_type not in made:
            folder = tmp_path_factory.mktemp("tiny") / model_type
            folder.mkdir()
            builder = tiny_multimodal if model_type in tiny_multimodal.TYPES else tiny
            made[model_type] = load_model(str(builder.build(model_type, folder)), device="cpu")
        return made[model_type]

    return model


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory):
    """Return a function: seed of the pictures to two pictures with questions; the texts are always the same."""
    def make(seed=0):
        folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(seed)
        paths = [str(folder / f"{i}.png") for i in range(2)]
        for path in paths:
            Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((64, 64), 3).save(path)
        return StimulusSet(pd.DataFrame({
            "stimulus_id": ["a", "b"], "image": paths, "text": TEXTS, "question": [t[:t.index("?") + 1] for t in TEXTS],
            "word": ["Who", "A"], "box": [(0, 0, 16, 32), (32, 32, 64, 64)]}).set_index("stimulus_id"), "asked")

    return make


def features(model, stimuli, tmp_path, **options):
    found = na.extract(model, stimuli, store=tmp_path, progress=False, **options)
    return {key.split(":", 1)[1]: found[key].values for key in found}


def test_edges_and_windows_are_read():
    assert [e.name for e in parse_edges("image[~box] -> question")] == ["image[~box]->question"]
    with pytest.raises(ValueError, match="expected 'SPAN->SPAN'"):
        parse_edges("image")
    with pytest.raises(ValueError, match="given more than once"):
        parse_edges(["a->b", "a->b"])
    assert window_blocks(None, 3) == (0, 1, 2) and window_blocks((1, 3), 3) == (1, 2)
    with pytest.raises(ValueError, match="expected blocks from 0 to 2"):
        window_blocks((1, 4), 3)
    with pytest.raises(ValueError, match=r"layers: got 1, expected blocks from 0 to 2: a pair"):
        window_blocks(1, 3)


@pytest.mark.parametrize("call", [
    lambda m, s: na.probes.knockout(m, s, "image->text"), na.probes.information_flow, na.probes.ablation,
    na.probes.logit_lens, na.probes.subnetwork_overlap, na.probes.skipping_curve])  # fmt: skip
def test_a_model_that_is_only_named_is_explained(call, pairs):
    with pytest.raises(TypeError, match=r"model: got str, .* neuroalign.models.load_model\('llava-1.5-7b'\)"):
        call("llava-1.5-7b", pairs)


@pytest.mark.parametrize("model_type", ["llava", *(pytest.param(t, marks=pytest.mark.slow) for t in (
    "vilt", "flava", "llava_next", "idefics3", "paligemma", "internvl", "qwen2_vl", "qwen2_5_vl", "janus", "chameleon",
    "git", "visual_bert", "bridgetower", "blip", "instructblip"))])
def test_text_kept_from_the_picture_is_the_same_with_another(load, stimuli, tmp_path, model_type):
    model, one, other = load(model_type), stimuli(0), stimuli(1)
    special = "special->text"
    edges = {"blip": "encoder->all", "bridgetower": "encoder->all"}.get(model_type, ["image->text", special])
    layer = {"bridgetower": "cross_modal_text_layers.*", "blip": "text_decoder.*"}.get(model_type, "*")
    last = [x.name for x in model.adapter.layers(model) if x.masked and "text" in x.streams][-1]
    pick = {"layers": [layer], "streams": ["text"]}
    whole = [features(model, s, tmp_path, **pick)[f"{last}:text"] for s in (one, other)]
    cut = [features(knockout(model, s, edges), s, tmp_path, **pick)[f"{last}:text"] for s in (one, other)]
    assert np.abs(whole[0] - whole[1]).max() > 0.05
    np.testing.assert_allclose(cut[0], cut[1], rtol=0, atol=1e-5)
    assert np.abs(cut[0] - whole[0]).max() > 0.05


def test_no_edge_is_the_model_and_a_window_leaves_what_lies_below(load, stimuli, tmp_path):
    model, asked = load("llava"), stimuli()
    base = features(model, asked, tmp_path)
    for name, values in features(knockout(model, asked, []), asked, tmp_path).items():
        np.testing.assert_allclose(values, base[name], rtol=0, atol=1e-5)
    cut = features(knockout(model, asked, "image->question", layers=(1, 2)), asked, tmp_path, batch_size=1)
    together = features(knockout(model, asked, "image->question", layers=(1, 2)), asked, tmp_path / "other")
    for name, values in cut.items():
        np.testing.assert_allclose(values, together[name], rtol=0, atol=1e-5)  # batch aware
    lm = [f"language_model.layers.{i}" for i in range(3)]
    for stream in ("image", "text"):
        np.testing.assert_allclose(cut[f"{lm[0]}:{stream}"], base[f"{lm[0]}:{stream}"], rtol=0, atol=1e-6)
        changed = np.abs(cut[f"{lm[1]}:{stream}"] - base[f"{lm[1]}:{stream}"]).max()
        assert changed < 1e-6 if stream == "image" else changed > 1e-3


def test_boxes_in_pixels_become_patches(load, stimuli):
    asked = stimuli()
    for model_type, across in (("llava", 4), ("idefics3", 2)):
        model = load(model_type)
        reader = Reader(model, asked, parse_edges(["image[box]->question", "image[~box]->last"]))
        inputs = reader.prepare(reader.rows())
        masks = inputs.streams["lm"]
        inside = masks["image[box]"][masks["image"]].reshape(2, across, across)
        expected = torch.zeros(2, 32, 32, dtype=torch.bool)  # the model sees 64 x 64 pixels at half the size
        expected[0, :16, :8] = expected[1, 16:, 16:] = True
        expected = expected.reshape(2, across, 32 // across, across, 32 // across).any(4).any(2)
        assert torch.equal(inside, expected)
        assert torch.equal(masks["image[~box]"], masks["image"] & ~masks["image[box]"])


def test_what_cannot_be_blocked_is_said(load, stimuli, tmp_path):
    model, asked = load("llava"), stimuli()

    def run(edges, layers=None, model=model, table=None):
        given = asked if table is None else StimulusSet(table, "changed")
        return na.extract(knockout(model, given, edges, layers=layers), given, store=tmp_path, progress=False)

    with pytest.raises(BadStimuli, match="forbids it already, so that its effect is zero by construction"):
        run("question->image")
    with pytest.raises(BadStimuli, match="'question->image': the mask"):
        run(["image->question", "question->image"])
    with pytest.raises(BadStimuli, match=r"its spans overlap \(both hold"):
        run("word->question")
    with pytest.raises(BadStimuli, match="'a'.*image box: .*picture of 64 x 64 pixels"):
        run("image[box]->question", table=asked.table.assign(box=[(0, 0, 80, 20)] * 2))
    with pytest.raises(BadStimuli, match="'nothing here' is not in the text"):
        run("image->question", table=asked.table.assign(question="nothing here"))
    with pytest.raises(ValueError, match="no span 'qestion'.*Did you mean 'question'"):
        run("image->qestion")
    with pytest.raises(ValueError, match="expected blocks from 0 to 2"):
        run("image->question", layers=(2, 9))
    with pytest.raises(ValueError, match="nothing of model .* lets 'question' read 'encoder'"):
        run("encoder->question")
    with pytest.raises(ValueError, match="boxes are of pictures"):
        run("question[box]->last")
    texts = StimulusSet(asked.table[["text", "question"]], "texts")
    with pytest.raises(ValueError, match="cannot be intervened on. Families whose can"):
        na.extract(knockout(load("mamba"), texts, "text->last"), texts, store=tmp_path, progress=False)
