"""Spans of a text as streams, the last token, and words of stimuli that go through a model whole."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import tiny_multimodal
import torch

from neuroalign.data import StimulusSet
from neuroalign.errors import NeuroalignWarning
from neuroalign.features import extract
from neuroalign.features.spans import find_spans
from neuroalign.models import BadStimuli, attach, load_model

QUIET = {"progress": False}
TEXTS = ["Is the man old? Yes, he is old.", "Who plays the guitar? The man, they said.", "What is it? A fox"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a function from a model type to its tiny multimodal model."""
    made = {}

    def model(model_type):
        if model_type not in made:
            folder = tmp_path_factory.mktemp("whole") / model_type
            folder.mkdir()
            made[model_type] = load_model(str(tiny_multimodal.build(model_type, folder)), device="cpu")
        return made[model_type]

    return model


@pytest.fixture
def questions(pictures):
    table = pd.DataFrame({"text": TEXTS, "question": [t[: t.index("?") + 1] for t in TEXTS],
                          "image": list(pictures.table.image[:3])}, index=["a", "b", "c"])
    return StimulusSet(table)


def states(model, row, layer):
    """Return tokens of a layer in a forward of one stimulus, with its offsets and text mask."""
    caught = []
    inputs = model.adapter.prepare(model, [row])
    handle = attach(model, layer, caught.append)
    with torch.inference_mode():
        model.adapter.forward(model, inputs)
    handle.remove()
    masks = inputs.streams[layer.tower]
    return caught[0][0].numpy(), inputs.offsets[layer.tower][0], masks["text"][0].numpy(), masks["all"][0].numpy()


@pytest.mark.parametrize("model_type", ["llava", "qwen2_vl", "git", "flava", "lxmert", "paligemma"])
def test_spans_and_words_equal_the_tokens_of_one_stimulus_alone(model_type, models, questions, tmp_path):
    model = models(model_type)
    layers = [x for x in model.adapter.layers(model) if x.masked and "text" in x.streams]
    features = extract(model, questions, layers=[x.name for x in layers], streams=["question", "last", "text"],
                       store=tmp_path, **QUIET)
    words = extract(model, questions, layers=[x.name for x in layers], streams=["word"], store=tmp_path, **QUIET)
    rows = questions.table[["text", "image"]].reset_index().to_dict("records")
    for layer in (layers[0], layers[-1]):
        expected = {"question": [], "last": [], "text": []}
        by_word = []
        for row, question in zip(rows, questions.table.question):
            tokens, offsets, text, real = states(model, row, layer)
            spans = np.array([(o if t else (-1, -1)) for o, t in zip(offsets, text)])
            asked = (spans[:, 0] >= 0) & (spans[:, 0] < len(question))
            expected["question"].append(tokens[: len(spans)][asked].mean(0))
            expected["last"].append(tokens[np.flatnonzero(real)[-1]])
            expected["text"].append(tokens[text].mean(0))
            at = 0
            for word in row["text"].split():
                start = row["text"].index(word, at)
                at = start + len(word)
                inside = (spans[:, 0] >= start) & (spans[:, 0] < at)
                by_word.append(tokens[: len(spans)][inside].mean(0))
        for stream, values in expected.items():
            got = features[f"{model.id}:{layer.name}:{stream}"].values
            np.testing.assert_allclose(got, np.stack(values), atol=2e-5)
        got = words[f"{model.id}:{layer.name}:word"]
        np.testing.assert_allclose(got.values, np.stack(by_word), atol=2e-5)
        assert got.stimulus.values.tolist() == [f"{i}#{k}" for i, t in zip("abc", TEXTS) for k in range(len(t.split()))]
        assert got.parent.values[-1] == "c"


def test_spans_of_text_models_with_every_token_apart(tiny_model, questions, tmp_path):
    model = tiny_model("gpt2")
    pooled = extract(model, questions, streams=["question", "last"], store=tmp_path, **QUIET)
    tokens = extract(model, questions, streams=["question"], pooling="none", store=tmp_path, **QUIET)
    whole = extract(model, questions, pooling="last", store=tmp_path, **QUIET)
    for name, rows in tokens.items():
        cuts = rows.attrs["offsets"]
        means = [rows.values[a:b].mean(0) for a, b in pairwise(cuts)]
        np.testing.assert_allclose(pooled[name].values, means, atol=1e-5)
        np.testing.assert_allclose(pooled[name.replace(":question", ":last")].values,
                                   whole[name.replace(":question", ":text")].values, atol=1e-5)


def test_other_spans_of_the_same_texts_are_another_entry(tiny_model, questions, tmp_path):
    model = tiny_model("bert")
    first = extract(model, questions, streams=["question"], layers="encoder.layer.1", store=tmp_path, **QUIET)
    moved = StimulusSet(questions.table.assign(question=[(0, 3)] * 3))
    second = extract(model, moved, streams=["question"], layers="encoder.layer.1", store=tmp_path, **QUIET)
    assert all(np.abs(a.values - b.values).max() > 1e-3 for a, b in zip(first.values(), second.values()))


@pytest.mark.parametrize(("value", "message"), [
    ("old", r"span 'part': 'old' is 2 times in the text 'Is the man old\?"), ("cat", "'cat' is not in the text"),
    ("", "got ''"), (None, "got None"), ((3, 99), "characters 3 to 99 of a text of 31"), ((5, 5), "characters 5 to 5"),
])
def test_bad_spans_are_named(value, message):
    table = pd.DataFrame({"text": TEXTS[:1], "part": [value]}, index=["a"])
    with pytest.raises(BadStimuli, match=message) as error:
        find_spans(StimulusSet(table), ["part"])
    assert error.value.ids == ("a",)


def test_an_unknown_span_is_named_with_the_nearest(tiny_model, questions, tmp_path):
    with pytest.raises(ValueError, match="has no stream 'quesion'"):
        extract(tiny_model("bert"), questions, streams=["quesion"], store=tmp_path, **QUIET)
    with pytest.raises(ValueError, match="has no stream 'question', only image"):
        extract(tiny_model("vit"), questions, streams=["question"], store=tmp_path, **QUIET)


def test_words_whose_picture_cannot_be_read_are_nan_rows(models, questions, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    table = questions.table.copy()
    table.loc["b", "image"] = str(broken)
    model = models("llava")
    options = {"layers": "language_model.layers.1", "streams": ["word"], "store": tmp_path / "s", **QUIET}
    with pytest.raises(BadStimuli, match="'b'"):
        extract(model, StimulusSet(table), **options)
    with pytest.warns(NeuroalignWarning, match="1 stimuli were skipped and have NaN rows: 'b'"):
        (got,) = extract(model, StimulusSet(table), on_error="skip", **options).values()
    (whole,) = extract(model, questions, **options).values()
    lost = got.parent.values == "b"
    assert np.isnan(got.values[lost]).all() and lost.sum() == len(TEXTS[1].split())
    np.testing.assert_allclose(got.values[~lost], whole.values[~lost], atol=1e-5)
    with pytest.raises(ValueError, match="reads stimuli whole, and these are words of 'a', 'b'"):
        extract(model, questions.words(), **options)
