"""Clips of films: windows around events and through a film, and what identifies them."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuroalign.data import StimulusSet, stimuli

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny_film


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return tiny_film.write_film(tmp_path_factory.mktemp("film") / "film.mp4")


def test_clips_around_events_on_two_clocks(film):
    clips = StimulusSet.from_film(film, [101.0, 102.5], tmin=-0.5, tmax=1.0, film_onset=100.0)
    assert clips.ids == ("film@1", "film@2.5") and clips.modalities == ("audio", "video")
    expected = {"start": [0.5, 2.0], "stop": [2.0, 3.5], "onset": [100.5, 102.0], "duration": [1.5, 1.5],
                "event": [101.0, 102.5]}
    for column, values in expected.items():
        np.testing.assert_allclose(clips.table[column], values)
    named = StimulusSet.from_film(film, [1.0], tmin=0, tmax=1, modalities=["video"], ids=["a"], name="cuts")
    assert (named.ids, named.name, named.modalities) == (("a",), "cuts", ("video",))
    with pytest.raises(ValueError, match="expected tmin below tmax"):
        StimulusSet.from_film(film, [1.0], tmin=1, tmax=0)
    with pytest.raises(ValueError, match=r"'film@0' start at -1 s and stop at 1 s of their file"):
        StimulusSet.from_film(film, [0.0, 2.0], tmin=-1, tmax=1)


def test_sliding_clips_go_through_the_film(film):
    clips = StimulusSet.sliding(film, window=1.0, step=0.5, film_onset=10.0)
    np.testing.assert_allclose(clips.table.start, np.arange(7) * 0.5)
    np.testing.assert_allclose(clips.table.stop, clips.table.start + 1.0)
    np.testing.assert_allclose(clips.table.onset, clips.table.start + 10.0)
    with pytest.raises(ValueError, match=r"no longer than the film of 4 and 4 s"):
        StimulusSet.sliding(film, window=9.0, step=1.0)


def test_a_fingerprint_covers_window_and_contents_and_hashes_a_film_once(film, tmp_path, monkeypatch):
    hashed, sha256 = [], stimuli.file_sha256
    monkeypatch.setattr(stimuli, "file_sha256", lambda p: hashed.append(p) or sha256(p))
    options = {"tmin": 0.0, "tmax": 1.0, "ids": ["a", "b"], "film_onset": 0.0}
    clips = StimulusSet.from_film(film, [1.0, 2.0], **options)
    assert len(set(clips.content_hashes)) == 2 and len(hashed) == 1
    shutil.copy(film, tmp_path / "copy.mp4")
    assert StimulusSet.from_film(tmp_path / "copy.mp4", [1.0, 2.0], **options).fingerprint == clips.fingerprint
    assert StimulusSet.from_film(film, [1.0, 2.1], **options).fingerprint != clips.fingerprint
    # when they were shown does not matter to a model
    assert StimulusSet.from_film(film, [6.0, 7.0], **options | {"film_onset": 5.0}).fingerprint == clips.fingerprint


def test_windows_from_a_table(film, tmp_path):
    pd.DataFrame({"stimulus_id": ["a", "b"], "video": [str(film)] * 2, "start": [1.0, ""], "stop": ["2.5", ""]}).to_csv(
        tmp_path / "clips.csv", index=False)
    table = StimulusSet.from_table(tmp_path / "clips.csv").table
    assert table.loc["a", ["start", "stop"]].tolist() == [1.0, 2.5] and table.loc["b", ["start", "stop"]].isna().all()
    for column, values, words in (("start", ["soon", 1.0], "'soon'.*expected seconds"),
                                  ("stop", [0.0, 1.0], "'a' start"),
                                  ("frame_rate", ["many", 25], "expected frames a second")):
        with pytest.raises(ValueError, match=words):
            StimulusSet(pd.DataFrame({"video": [str(film)] * 2, column: values}, index=["a", "b"]))
    # a column of that name beside texts is metadata
    assert StimulusSet(pd.DataFrame({"text": ["x"], "start": ["soon"]})).table.start.tolist() == ["soon"]
