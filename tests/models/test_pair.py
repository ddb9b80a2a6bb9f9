"""Pairs of towers of one's own: each gives what it gives as a model of its own."""

import numpy as np
import pytest
import torch

import neuroalign as na
from neuroalign.models import load_model

ENTRY = """models:
- id: mine
  family: pair
  parts: {{image: {image}, text: {text}}}
  modalities: [image, text]
  objective: derived
"""


@pytest.fixture
def make(tmp_path, tiny_folder):
    """Return a function that makes a zoo with a pair of tiny models."""

    def zoo(image="dinov2", text="bert"):
        (tmp_path / "zoo.yaml").write_text(ENTRY.format(image=tiny_folder(image), text=tiny_folder(text)))
        return tmp_path / "zoo.yaml"

    return zoo


@pytest.mark.parametrize(("image", "text"), [("dinov2", "bert"), ("vit_mae", "gpt2"), ("resnet", "t5")])
def test_towers_give_what_they_give_alone(image, text, make, tiny_model, texts, pictures, tmp_path):
    pair = load_model("mine", zoo=make(image, text), device="cpu")
    table = na.StimulusSet.from_texts([t["text"] for t in texts]).table
    both = na.StimulusSet(table.assign(image=[p["image"] for p in pictures[:3]]))
    features = na.extract(pair, both, store=tmp_path / "store", progress=False)
    for tower, kind in (("image", image), ("text", text)):
        own = na.extract(tiny_model(kind), both, store=tmp_path / "store", progress=False)
        for space, values in own.items():
            _, layer, stream = space.split(":")
            got = features[f"mine:{tower}_model.{layer}:{stream}"].values
            np.testing.assert_allclose(got, values.values, rtol=0, atol=1e-5)
    count = sum(len(tiny_model(kind).adapter.layers(tiny_model(kind))) for kind in (image, text))
    assert len(features) == count
    verdict = na.verify(pair, store=tmp_path / "store")
    assert verdict.attrs["passed"], verdict.to_string()


def test_one_tower_alone_and_words(make, texts, pictures, tmp_path):
    pair = load_model("mine", zoo=make(), device="cpu")
    pictured = na.StimulusSet(na.StimulusSet.from_texts(["a", "b"]).table[[]].assign(
        image=[p["image"] for p in pictures[:2]]))
    assert {s.split(":")[1].split(".")[0] for s in na.extract(pair, pictured, store=tmp_path, progress=False)} == {
        "image_model"}
    words = na.extract(pair, na.StimulusSet.from_texts([texts[1]["text"]]), streams=["word"], store=tmp_path,
                       progress=False)
    assert words and all(len(f) == len(texts[1]["text"].split()) for f in words.values())


def test_the_random_twin_and_the_identity(make):
    zoo = make()
    pair, twin = (load_model(name, zoo=zoo, device="cpu") for name in ("mine", "mine@random.3"))
    assert pair.weights != twin.weights and "bert" not in pair.id
    ours, theirs = pair.module.state_dict(), twin.module.state_dict()
    assert any(not torch.equal(ours[k], theirs[k]) for k in ours)
    assert pair.preprocessing == twin.preprocessing


def test_folders_are_relative_to_the_file(tmp_path, tiny_folder):
    import shutil

    shutil.copytree(tiny_folder("bert"), tmp_path / "text")
    shutil.copytree(tiny_folder("vit"), tmp_path / "vision")
    (tmp_path / "zoo.yaml").write_text(ENTRY.format(image="vision", text="text"))
    pair = load_model("mine", zoo=tmp_path / "zoo.yaml", device="cpu")
    assert pair.adapter.modalities == ("image", "text")


def test_parts_that_are_no_pair_are_refused(make, tmp_path, tiny_folder):
    with pytest.raises(ValueError, match="reads image and text, expected a model of image alone"):
        load_model("mine", zoo=make(image="clip"), device="cpu")
    (tmp_path / "sound.yaml").write_text(ENTRY.format(image="a/b", text="c/d").replace("text: c/d", "audio: c/d"))
    with pytest.raises(ValueError, match=r"got \['audio', 'image'\]. Write parts: {image: MODEL, text: MODEL}"):
        load_model("mine", zoo=tmp_path / "sound.yaml", device="cpu")
    (tmp_path / "other.yaml").write_text(ENTRY.format(image="a/b", text="c/d") + "  folder: x\n")
    with pytest.raises(ValueError, match="'mine'.*names its towers by 'parts' alone"):
        load_model("mine", zoo=tmp_path / "other.yaml", device="cpu")
