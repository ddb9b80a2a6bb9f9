"""A temporal shuffle of one modality: what is destroyed, what is kept, and what it shows."""

import numpy as np
import pytest
from scipy.signal import lfilter

import neuroalign as na
from neuroalign.alignment import shuffle_in_time
from neuroalign.alignment.splits import memory_of
from neuroalign.data import make_features, make_responses


def film(n=400, ar=0.8, seed=0):
    rng = np.random.default_rng(seed)
    times = np.arange(n) * 0.5

    def series():
        return lfilter([1.0], [1.0, -ar], rng.standard_normal((n, 3)), axis=0)

    vision, text = (make_features(series(), times, model=m, layer="l", dim="time") for m in ("vision", "text"))
    drive = vision.values @ rng.standard_normal((3, 2)) + text.values @ rng.standard_normal((3, 2))
    y = drive / drive.std(0) + 0.5 * rng.standard_normal((n, 2))
    return [vision, text], make_responses(y, times, ["a", "b"], dim="time", kind="ecog", sfreq=2.0)


def test_blocks_keep_their_rows_and_the_other_space_stays():
    spaces, _ = film()
    moved = shuffle_in_time(spaces, "text:*", block=40.0, random_state=3)
    assert list(moved) == ["vision:l:all", "text@shuffled:l:all"] and moved["vision:l:all"] is spaces[0]
    text, shuffled = spaces[1], moved["text@shuffled:l:all"]
    np.testing.assert_array_equal(shuffled.time, text.time)
    assert shuffled.model.item() == "text@shuffled" and shuffled.space_id.item() == "text@shuffled:l:all"
    assert shuffled.attrs["control"] == "shuffled blocks of 80 samples, random_state 3"
    place = [int(np.flatnonzero((text.values == row).all(1))[0]) for row in shuffled.values]
    assert sorted(place) == list(range(400)) and (np.diff(place) != 1).sum() <= 4  # five blocks of 80
    assert place != list(range(400))
    again = shuffle_in_time(spaces, ["text:l:all"], block=40.0, random_state=3)
    np.testing.assert_array_equal(again["text@shuffled:l:all"], shuffled)
    other = shuffle_in_time(spaces, "text:*", block=40.0, random_state=4)["text@shuffled:l:all"]
    assert not np.array_equal(other, shuffled)


def test_the_shuffled_modality_loses_its_share_and_the_other_keeps_its_own():
    spaces, responses = film()
    options = {"metric": "r2.pooled", "n_candidates": 5, "alphas": [0.1, 10.0, 1e3], "n_splits": 3,
               "n_inner_splits": 2}
    joint = na.encode_banded(spaces, responses, **options)
    control = na.encode_banded(shuffle_in_time(spaces, "text:*"), responses, **options)
    share = joint.contribution.sel(band=["vision:l:all", "text:l:all"]).values[:, 0]
    left = control.contribution.sel(band=["vision:l:all", "text@shuffled:l:all"]).values[:, 0]
    assert (share > 0.15).all()
    assert (np.abs(left[1]) < 0.08).all() and (left[0] > share[0] - 0.15).all()
    vision = na.encode(spaces[0], responses, metric="r2.pooled", alphas=options["alphas"], n_splits=3)
    np.testing.assert_allclose(control.score[0, 0], vision.score[0, 0], atol=0.08)
    joined = na.scores.concat([joint, control])  # the names keep the two apart
    assert joined.sizes["space"] == 2


def test_spaces_that_are_shuffled_together_share_one_order():
    spaces, _ = film()
    moved = shuffle_in_time([*spaces, spaces[1].assign_coords(space_id="text:m:all") * 2.0], ["vision:*", "text:*"])
    a, b, c = moved.values()
    np.testing.assert_allclose(c.values, 2 * b.values)
    place = [int(np.flatnonzero((spaces[1].values == row).all(1))[0]) for row in b.values]
    np.testing.assert_array_equal(a.values, spaces[0].values[place])


def test_stimuli_without_a_clock_move_one_by_one_and_a_stale_fingerprint_is_dropped():
    x = make_features(np.arange(30.0)[:, None], [f"s{i:02d}" for i in range(30)], model="m")
    x.attrs["fingerprint"] = "of the rows in order"
    moved = shuffle_in_time(x, "m::all")["m@shuffled::all"]
    assert "fingerprint" not in moved.attrs and moved.attrs["control"].startswith("shuffled rows")
    assert moved.stimulus_id.values.tolist() == x.stimulus_id.values.tolist()
    assert (moved.values[:, 0] != np.arange(30)).sum() > 20


def test_what_cannot_be_shuffled_is_explained():
    spaces, _ = film()
    with pytest.raises(ValueError, match="no space 'txt:l:all'.*Did you mean 'text:l:all'"):
        shuffle_in_time(spaces, "txt:l:all")
    with pytest.raises(ValueError, match="different rows"):
        shuffle_in_time([spaces[0], spaces[1].isel(time=slice(100))], ["*"])
    with pytest.raises(ValueError, match="have no clock"):
        shuffle_in_time(make_features(np.ones((4, 1)), list("abcd"), model="m"), "*", block=3.0)


def test_the_memory_of_an_autoregression_is_known():
    rng = np.random.default_rng(0)
    for ar in (0.0, 0.5, 0.9):
        x = lfilter([1.0], [1.0, -ar], rng.standard_normal((4000, 20)), axis=0)
        # 1 + 2 sum of ar^k up to where it falls below .05
        kept = np.arange(1, 200)[ar ** np.arange(1, 200) >= 0.05] if ar else np.array([])
        assert memory_of(x) == pytest.approx(1 + 2 * (ar**kept).sum() if ar else 1, rel=0.1)
    x = rng.standard_normal((400, 5)) + np.repeat([0.0, 9.0], 200)[:, None]
    assert memory_of(x, np.repeat([0, 1], 200)) < 1.5 < 20 < memory_of(x)
    x[:, 0] = np.nan
    assert memory_of(x, np.repeat([0, 1], 200)) < 1.5
