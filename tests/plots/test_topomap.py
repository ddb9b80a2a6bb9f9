"""Heads: the right sensor at the right time, marks by q, bad sensors named."""

import mne
import numpy as np
import pytest

from neuroalign.data import scores as scores_
from neuroalign.plots import topomap

MONTAGE = mne.channels.make_standard_montage("biosemi32")
SENSORS = MONTAGE.ch_names
TIMES = np.linspace(-0.2, 0.8, 11)
DIMS = ("metric", "space", "neuroid", "time_bin")


@pytest.fixture
def make():
    def build(spaces=("vit:b.3:image", "lm:h.8:word")):
        score = np.full((1, len(spaces), 32, 11), 0.01)
        score[0, 0, SENSORS.index("Oz"), 4] = 0.4
        return scores_.make({"score": (DIMS, score), "q": (DIMS, np.where(score > 0.1, 0.001, 0.5))},
                            {"metric": ["r.pooled"], "space": list(spaces), "neuroid": SENSORS, "time_bin": TIMES})

    return build


def heads(figure):
    return [a for a in figure.axes if a.images]


def test_the_peak_is_drawn_at_its_sensor_and_time(make, pixels, overlaps):
    figure = topomap(make(), "biosemi32", times=[0.0, 0.2, 0.4], title="Words")
    drawn = heads(figure)
    assert len(drawn) == 6
    assert [a.get_title(loc="center") for a in drawn[:3]] == ["0.00 s", "0.20 s", "0.40 s"]
    image = drawn[1].images[0]
    row, column = np.unravel_index(np.nanargmax(image.get_array()), image.get_array().shape)
    left, right, bottom, top = image.get_extent()
    x = left + (column + 0.5) / image.get_array().shape[1] * (right - left)
    y = bottom + (row + 0.5) / image.get_array().shape[0] * (top - bottom)
    assert abs(x) < 0.01 and y < -0.06  # Oz: on the midline, at the back (metres on MNE's flat head)
    others = [np.nanmax(a.images[0].get_array()) for k, a in enumerate(drawn) if k != 1]
    assert max(others) < 0.05 < np.nanmax(image.get_array())
    marks = [sum(len(line.get_xdata()) for line in a.lines if line.get_markerfacecolor() == "white") for a in drawn]
    assert marks == [0, 1, 0, 0, 0, 0]
    assert "sensor Oz at 0.20 s" in figure.alt and "q < 0.05" in figure.caption
    assert overlaps(figure) == []
    pixels(figure)


@pytest.mark.parametrize("n_spaces,n_times", [(1, 1), pytest.param(3, 8, marks=pytest.mark.slow)])
def test_no_words_overlap(make, overlaps, n_spaces, n_times):
    scores = make([f"a-long-model-name-{k}:encoder.layer.{k}:image" for k in range(n_spaces)])
    figure = topomap(scores, "biosemi32", times=np.linspace(-0.2, 0.8, n_times))
    assert len(heads(figure)) == n_spaces * n_times
    assert overlaps(figure) == []


def test_scores_without_time_are_one_head_and_sensors_without_a_score_are_left_out(make):
    scores = make().isel(time_bin=4, space=[0]).drop_vars("time_bin").copy(deep=True)
    scores["score"][0, 0, 0] = np.nan
    figure = topomap(scores, "biosemi32")
    assert len(heads(figure)) == 1 and np.isfinite(heads(figure)[0].images[0].get_array()).any()


def test_an_info_of_the_user_is_taken(make):
    info = mne.create_info([*SENSORS, "STI"], 100.0, ["eeg"] * 32 + ["stim"]).set_montage(MONTAGE)
    assert len(heads(topomap(make(), info, times=[0.2]))) == 2


def test_bad_sensors_are_named(make):
    scores = make()
    renamed = scores.assign_coords(neuroid=["s1.Fp1", *SENSORS[1:]])
    with pytest.raises(ValueError, match=r"no sensors 's1.Fp1' in the info.*of one subject"):
        topomap(renamed, "biosemi32")
    with pytest.raises(ValueError, match=r"32 sensors stand there more than once. Choose one subject"):
        topomap(scores_.xr.concat([scores, scores], "neuroid", data_vars="minimal"), "biosemi32")
    bare = mne.create_info(SENSORS, 100.0, "eeg")
    with pytest.raises(ValueError, match=r"have no position. Set a montage"):
        topomap(scores, bare)
    with pytest.raises(ValueError, match=r"'2 s' outside the Scores, which run from -0.2 to 0.8 s"):
        topomap(scores, "biosemi32", times=[2.0])
    with pytest.raises(ValueError, match="Did you mean 'biosemi32'"):
        topomap(scores, "biosemi33")
    mixed = mne.create_info(SENSORS, 100.0, ["eeg"] * 30 + ["mag"] * 2)
    with pytest.raises(ValueError, match=r"sensors of several kinds \(eeg, mag\)"):
        topomap(scores, mixed)
