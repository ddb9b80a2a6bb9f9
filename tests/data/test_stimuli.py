import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from neuroalign.data import StimulusSet


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.png"):
        Image.fromarray(np.full((4, 4, 3), ord(name[0]), np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_folder_takes_images_in_order_of_names(folder):
    stimuli = StimulusSet.from_folder(folder)
    assert stimuli.ids == ("a", "b")
    assert stimuli.modalities == ("image",)


def test_folder_without_images_says_so(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        StimulusSet.from_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        StimulusSet.from_folder(tmp_path / "absent")


def test_table_paths_are_relative_to_the_file(folder):
    (folder / "set.csv").write_text("stimulus_id,image,text,category\nx,a.png,NA,1\ny,b.png,two,2\n")
    stimuli = StimulusSet.from_table(folder / "set.csv")
    stimuli.check_files()
    assert stimuli.modalities == ("image", "text")
    assert stimuli.table.loc["x", "text"] == "NA"  # a word, not a missing value


def test_table_without_ids(folder):
    (folder / "set.csv").write_text("name,text\nx,one\n")
    with pytest.raises(ValueError, match="expected a 'stimulus_id' column"):
        StimulusSet.from_table(folder / "set.csv")


def test_missing_files_are_named(folder):
    table = pd.DataFrame({"image": [str(folder / "a.png"), str(folder / "gone.png")]}, index=["x", "y"])
    with pytest.raises(FileNotFoundError, match=r"image file for 'y'.*gone\.png"):
        StimulusSet(table).check_files()


def test_duplicate_ids_are_named():
    with pytest.raises(ValueError, match="not unique; more than once: 'a'"):
        StimulusSet.from_texts(["one", "two"], ids=["a", "a"])


def test_no_modality_and_no_rows():
    with pytest.raises(ValueError, match="expected at least one of image, text"):
        StimulusSet(pd.DataFrame({"label": ["x"]}, index=["a"]))
    with pytest.raises(ValueError, match="no rows"):
        StimulusSet(pd.DataFrame({"text": []}))


def test_select_keeps_order_and_suggests():
    stimuli = StimulusSet.from_texts(["one", "two", "three"])
    assert stimuli.select(["text2", "text0"]).ids == ("text2", "text0")
    with pytest.raises(KeyError, match="unknown ids 'text9'.*Did you mean"):
        stimuli.select(["text9"])


def test_fingerprint_follows_contents_not_paths(folder, tmp_path_factory):
    here = StimulusSet.from_folder(folder)
    other = tmp_path_factory.mktemp("other")
    for name in ("a.png", "b.png"):
        (other / name).write_bytes((folder / name).read_bytes())
    assert StimulusSet.from_folder(other).fingerprint == here.fingerprint
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(other / "a.png")
    assert StimulusSet.from_folder(other).fingerprint != here.fingerprint


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True))
def test_fingerprint_depends_on_order_and_text(texts):
    ids = [f"s{i}" for i in range(len(texts))]
    stimuli = StimulusSet.from_texts(texts, ids)
    assert stimuli.fingerprint == StimulusSet.from_texts(texts, ids).fingerprint
    assert stimuli.fingerprint != stimuli.select(ids[::-1]).fingerprint
    assert stimuli.fingerprint != StimulusSet.from_texts([*texts[:-1], texts[-1] + "x"], ids).fingerprint


def test_words_of_sentences_and_of_a_word_set():
    words = StimulusSet.from_texts(["the cat sat", "the dog"]).words()
    assert words.ids == ("text0#0", "text0#1", "text0#2", "text1#0", "text1#1")
    assert words.table["parent"].tolist() == ["text0"] * 3 + ["text1"] * 2
    assert words.words() is words
    with pytest.raises(ValueError, match="all texts are empty"):
        StimulusSet.from_texts(["", " "]).words()
