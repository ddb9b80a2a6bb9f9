"""Runs of one modality of the same weights, and the list of a model's twins."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.models import list_twins, load_model
from neuroalign.models.zoo import list_models

QUIET = {"progress": False, "device": "cpu"}


@pytest.fixture
def pairs(texts, pictures):
    ids = [t["stimulus_id"] for t in texts]
    table = na.StimulusSet.from_texts([t["text"] for t in texts], ids).table
    return na.StimulusSet(table.assign(image=[p["image"] for p in pictures[: len(texts)]]))


@pytest.mark.parametrize("model_type", ["llava", "flava"])
def test_a_run_of_one_modality_is_what_the_stimuli_without_the_other_give(model_type, tiny_folder, pairs, tmp_path):
    folder = str(tiny_folder(model_type))
    for modality, other in (("text", "image"), ("image", "text")):
        run = na.extract(f"{folder}@{modality}", pairs, store=tmp_path, **QUIET)
        plain = na.extract(folder, na.StimulusSet(pairs.table.drop(columns=other)), store=tmp_path, **QUIET)
        assert len(run) == len(plain)
        for (name, values), (own, expected) in zip(run.items(), plain.items()):
            assert name == own.replace(model_type, f"{model_type}@{modality}", 1)
            np.testing.assert_array_equal(values.values, expected.values)


def test_runs_and_twins_stand_side_by_side(tiny_folder, pairs, tmp_path):
    folder = str(tiny_folder("llava"))
    names = [folder, f"{folder}@text", f"{folder}@text@random", f"{folder}@random.3"]
    features = na.extract(names, pairs, layers=["language_model.layers.2"], streams=["text"], store=tmp_path, **QUIET)
    assert [s.split(":")[0] for s in features] == ["llava", "llava@text", "llava@text@random", "llava@random.3"]
    values = [f.values for f in features.values()]
    assert all(np.abs(a - b).max() > 1e-3 for k, a in enumerate(values) for b in values[:k])
    again = na.extract(names, pairs, layers=["language_model.layers.2"], streams=["text"], store=tmp_path, **QUIET)
    for name in features:
        np.testing.assert_array_equal(features[name].values, again[name].values)
    assert na.verify(f"{folder}@text", pairs, store=tmp_path, device="cpu").attrs["passed"]


def test_runs_that_a_model_lacks_are_named(tiny_folder):
    with pytest.raises(ValueError, match=r"no run of text alone \(single_stream\).*only go together"):
        load_model(f"{tiny_folder('vilt')}@text", device="cpu")
    with pytest.raises(ValueError, match=r"no run of text alone \(blip_captioner\); it has @image"):
        load_model(f"{tiny_folder('blip')}@text", device="cpu")
    with pytest.raises(ValueError, match="after '@' expected 'random'"):
        load_model(f"{tiny_folder('llava')}@random@text", device="cpu")


def test_twins_are_listed(tiny_folder):
    model = load_model(str(tiny_folder("llava")), device="cpu")
    assert list_twins(model) == ["llava@image", "llava@text", "llava@random"]
    assert list_twins("bert-base@random") == list(next(e for e in list_models() if e.id == "bert-base").twins)
    for entry in list_models():
        twins = list_twins(entry.id)
        assert entry.id not in twins and twins[-1] == f"{entry.id}@random"
