"""Tables of events: order, missing onsets, TextGrids; language- and vision-aligned events."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import language_aligned, read_events, vision_aligned
from neuroalign.recordings.events import check_inside

GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 0.9
            text = "the"
        intervals [3]:
            xmin = 0.9
            xmax = 2
            text = "cat"
'''


def test_bids_events_and_their_ids(tmp_path):
    path = tmp_path / "sub-1_events.tsv"
    path.write_text("onset\tduration\ttrial_type\trt\n0.5\t1\tface\t2\n3\tn/a\thouse\t1\n")
    found = read_events(path)
    assert list(found.columns) == ["stimulus_id", "onset", "duration", "trial_type", "rt"]
    assert found["stimulus_id"].tolist() == ["face", "house"]
    assert np.isnan(found["duration"][1])
    path.write_text("onset\tduration\n1\t1\n2\t1\n")
    assert read_events(path)["stimulus_id"].tolist() == ["event#0", "event#1"]


def test_words_of_a_textgrid(tmp_path):
    (tmp_path / "w.TextGrid").write_text(GRID)
    found = read_events(tmp_path / "w.TextGrid", prefix="word")
    assert found["text"].tolist() == ["the", "cat"] and found["stimulus_id"].tolist() == ["word#0", "word#1"]
    assert found["onset"].tolist() == [0.5, 0.9]


def test_unsorted_events_are_sorted_with_a_warning():
    table = pd.DataFrame({"onset": [3.0, 1.0, 2.0], "stimulus_id": ["c", "a", "b"]})
    with pytest.warns(NeuroalignWarning, match="2 stood below later ones: 'a', 'b'") as caught:
        found = read_events(table)
    assert caught[0].message.code == "unsorted-events"
    assert found["stimulus_id"].tolist() == ["a", "b", "c"]
    runs = pd.DataFrame({"onset": [1.0, 2.0, 0.5], "run": [0, 0, 1], "stimulus_id": list("abc")})
    assert read_events(runs)["stimulus_id"].tolist() == ["a", "b", "c"]  # each run counts from its own start


def test_events_without_onset_are_refused(tmp_path):
    with pytest.raises(ValueError, match="onsets of rows '1', '2' are missing or no numbers"):
        read_events(pd.DataFrame({"onset": ["1", "soon", None]}))
    with pytest.raises(ValueError, match="columns are 'time', expected 'onset'"):
        read_events(pd.DataFrame({"time": [1]}))
    with pytest.raises(FileNotFoundError, match="gone.tsv"):
        read_events(tmp_path / "gone.tsv")


def test_events_outside_and_in_bad_spans():
    events = read_events(pd.DataFrame({"onset": [0.5, 5, 8, 9.9], "stimulus_id": list("abcd")}))
    with pytest.raises(ValueError, match="2 of 4 need samples outside of the recording, which lasts from 0 to 10 s.*"
                                         "'a', 'd'. Pass on_outside='drop'"):
        check_inside(events, 0, 10, 1, 1)
    with pytest.raises(ValueError, match="Milliseconds or samples instead of seconds"):
        check_inside(events.assign(onset=events["onset"] * 1000), 0, 10, 1, 1)
    with pytest.warns(NeuroalignWarning) as caught:
        kept, reasons = check_inside(events, 0, 10, 1, 1, on_outside="drop", bad_spans=[(6.5, 0.6)])
    assert kept["stimulus_id"].tolist() == ["b"]
    assert reasons == ["a: outside of the recording", "d: outside of the recording", "c: in a bad span"]
    assert [w.message.code for w in caught] == ["events-outside", "events-in-bad-spans"]


def test_words_carry_the_film_at_their_onset(tmp_path):
    words = pd.DataFrame({"onset": [12.0, 13.5], "text": ["the", "cat"]})
    found = language_aligned(words)
    assert found.ids == ("word#0", "word#1") and found.modalities == ("text",)
    np.save(tmp_path / "film.npy", np.zeros((40, 4, 4, 3), np.uint8))
    found = language_aligned(words.assign(frame_rate=10.0), tmp_path / "film.npy", film_onset=11.0)
    assert set(found.modalities) == {"text", "video"}
    assert found.table["start"].tolist() == [1.0, 2.5] and found.table["stop"].tolist() == [1.1, 2.6]
    paused = language_aligned(words.assign(frame_rate=10.0, film_time=[1.0, 0.5]), tmp_path / "film.npy")
    assert paused.table["start"].tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match="1 events begin before the film"):
        language_aligned(words, tmp_path / "film.npy", film_onset=12.5)


def test_a_cut_gets_the_sentence_that_began_before_it():
    said = pd.DataFrame({"onset": [2.0, 6.0, 9.0], "text": ["first", "second", "third"]})
    with pytest.warns(NeuroalignWarning, match="1 of 4 cuts have no sentence before them.*'cut#0'"):
        found = vision_aligned([1.0, 5.9, 6.0, 30.0], said)
    assert found.table["text"].tolist() == ["first", "second", "third"]
    assert found.table["sentence_onset"].tolist() == [2.0, 6.0, 9.0]
    assert found.table["sentence_id"].tolist() == ["sentence#0", "sentence#1", "sentence#2"]
    with pytest.warns(NeuroalignWarning, match="2 of 4 cuts have no sentence before them within 10 s"):
        found = vision_aligned([1.0, 5.9, 6.0, 30.0], said, farthest=10)
    assert found.ids == ("cut#1", "cut#2")
    with pytest.raises(ValueError, match="no cut has a sentence before it"), pytest.warns(NeuroalignWarning):
        vision_aligned([1.0], said)


def test_a_cut_gets_a_sentence_of_its_own_run():
    said = pd.DataFrame({"onset": [1.0, 5.0, 9.0, 1.5, 6.0], "run": [1, 1, 1, 2, 2], "text": list("abcxy")})
    cuts = pd.DataFrame({"onset": [2.0, 7.0, 2.0, 7.0], "run": [1, 1, 2, 2]})
    assert vision_aligned(cuts, said).table["text"].tolist() == ["a", "b", "x", "y"]
    assert vision_aligned([2.0, 7.0], said[:3]).table["text"].tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="the cuts have no column 'run', the others are of 2 runs"):
        vision_aligned([2.0, 7.0], said)


def test_frames_of_events_become_pictures(tmp_path):
    film = np.zeros((40, 4, 4, 3), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None]
    np.save(tmp_path / "film.npy", film)
    words = pd.DataFrame({"onset": [12.0, 13.5, 14.0], "text": ["the", "cat", "sat"], "frame_rate": 10.0,
                          "film_time": [1.0, 2.5, 0.3]})  # the last one was shown again
    for _ in range(2):  # the second time they are there already
        found = language_aligned(words, tmp_path / "film.npy", image_folder=tmp_path / "frames")
    assert found.modalities == ("image", "text")
    shown = [int(np.asarray(Image.open(p))[0, 0, 0]) for p in found.table["image"]]
    assert shown == [10, 25, 3]
    assert len(list((tmp_path / "frames").iterdir())) == 3
