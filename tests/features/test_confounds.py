"""Confounds of words, images and head motion."""

import doctest

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neuroalign.data import StimulusSet, as_spaces
from neuroalign.errors import NeuroalignWarning
from neuroalign.features import confounds, events_to_samples
from neuroalign.features.confounds import (
    contrast,
    head_motion,
    identity,
    log_frequency,
    luminance,
    word_length,
    word_position,
    word_rate,
)

WORDS = StimulusSet.from_texts(["The fox, the fox!", "It isn't."], ids=["p", "q"]).words()


def test_examples():
    assert doctest.testmod(confounds).failed == 0


def test_they_are_feature_spaces_with_the_times_of_their_events():
    table = WORDS.table.assign(onset=np.arange(6) * 0.5, duration=0.3)
    timed = StimulusSet(table)
    spaces = as_spaces([word_rate(timed), word_length(timed), word_position(timed)])
    assert list(spaces) == ["confound:word_rate:word", "confound:word_length:word", "confound:word_position:word"]
    for space in spaces.values():
        assert events_to_samples(space, np.arange(0.0, 20.0, 2.0)).shape == (10, 1)
    np.testing.assert_array_equal(word_rate(spaces["confound:word_length:word"]).onset, table.onset)
    assert word_length(timed).values.ravel().tolist() == [3, 3, 3, 3, 2, 4]


def test_unknown_words_count_as_the_floor_and_are_named():
    with pytest.warns(NeuroalignWarning, match=r"3 words are not in the table and count as 10: 'fox', 'it'\."):
        found = log_frequency(WORDS, {"the": 1000.0, "isn't": 10.0})
    assert found.values.ravel().tolist() == [3, 1, 3, 1, 1, 1]
    with pytest.raises(ValueError, match=r"above zero.*1 are not: 'the'"):
        log_frequency(WORDS, {"the": 0.0, "fox": 2.0})
    with pytest.raises(ValueError, match=r"no column 'talkr', only text, talker.*Did you mean 'talker'"):
        identity(StimulusSet(pd.DataFrame({"text": ["a"], "talker": ["x"]}, index=["s"])), "talkr")
    with pytest.raises(ValueError, match=r"no 'parent' column.*stimuli\.words\(\)"):
        word_position(StimulusSet.from_texts(["a b"]))


def test_luminance_and_contrast_of_known_pictures(tmp_path):
    pictures = {"black": np.zeros((8, 8, 3)), "white": np.full((8, 8, 3), 255), "grey": np.full((8, 8, 3), 188),
                "green": np.tile([0, 255, 0], (8, 8, 1)), "half": np.r_[np.zeros((4, 8, 3)), np.full((4, 8, 3), 255)]}
    for name, pixels in pictures.items():
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    stimuli = StimulusSet.from_folder(tmp_path).select(list(pictures))
    # 188 / 255 is where sRGB reaches half of the light (IEC 61966-2-1)
    np.testing.assert_allclose(luminance(stimuli).values.ravel(), [0, 1, 0.5, 0.7152, 0.5], atol=5e-3)
    np.testing.assert_allclose(contrast(stimuli).values.ravel(), [0, 0, 0, 0, 0.5], atol=1e-6)
    with pytest.raises(ValueError, match="no 'image' column, only text"):
        luminance(WORDS)


def test_head_motion_expands_to_differences_and_squares():
    motion = np.random.default_rng(0).standard_normal((10, 6))
    full = head_motion(motion, np.arange(10) * 2.0).values
    np.testing.assert_allclose(full[:, :6], motion, rtol=1e-6)
    np.testing.assert_allclose(full[1:, 6:12], motion[1:] - motion[:-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(full[:, 12:], full[:, :12] ** 2, rtol=1e-5)
    assert head_motion(motion, np.arange(10), derivatives=False, squares=False).shape == (10, 6)
    with pytest.raises(ValueError, match=r"shape \(10, 6\) for 9 times"):
        head_motion(motion, np.arange(9))
