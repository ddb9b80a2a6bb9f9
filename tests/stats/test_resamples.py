"""Resamples are reproducible, named, stored, and shared."""

import numpy as np
import pytest

from neuroalign.stats import Resamples, load_resamples, make_resamples

UNITS = [f"s{i}" for i in range(8)]


def test_a_bootstrap_draws_as_many_units_with_replacement():
    drawn = make_resamples(UNITS, 200)
    assert drawn.indices.shape == (200, 8) and drawn.indices.dtype == np.int32
    assert (drawn.counts().sum(1) == 8).all() and drawn.counts().max() > 1
    assert abs(drawn.counts().mean(0) - 1).max() < 0.25


def test_a_subsample_has_no_unit_twice():
    drawn = make_resamples(UNITS, 50, kind="subsample")
    assert drawn.counts().max() == 1 and (drawn.counts().sum(1) == 4).all()


def test_same_seed_same_draw_and_other_purposes_differ():
    first = make_resamples(UNITS, 5, random_state=3)
    assert np.array_equal(first.indices, make_resamples(UNITS, 5, random_state=3).indices)
    assert not np.array_equal(first.indices, make_resamples(UNITS, 5, random_state=4).indices)
    assert not np.array_equal(first.indices, make_resamples(UNITS, 5, random_state=3, purpose="subjects").indices)


def test_counts_follow_names_not_positions():
    drawn = make_resamples(UNITS, 20)
    assert np.array_equal(drawn.restrict(["s5", "s0"]), drawn.counts()[:, [5, 0]])
    with pytest.raises(KeyError, match=r"no units 'x'"):
        drawn.restrict(["s1", "x"])


def test_saved_resamples_come_back(tmp_path):
    drawn = make_resamples(UNITS, 7, random_state=2)
    path = drawn.save(tmp_path / "deep" / "stimuli")
    assert np.array_equal(np.load(path, allow_pickle=False), drawn.indices)
    back = load_resamples(path)
    assert back.units == drawn.units and back.kind == "bootstrap" and back.random_state == 2
    assert np.array_equal(back.indices, drawn.indices)
    assert sorted(p.name for p in path.parent.iterdir()) == ["stimuli.json", "stimuli.npy"]
    with pytest.raises(FileNotFoundError, match=r"no file.*other\.npy"):
        load_resamples(tmp_path / "other.npy")


@pytest.mark.parametrize("wrong, words", [
    ({"units": ["a", "a"]}, "not unique"),
    ({"n_resamples": 0}, "n_resamples: got 0, expected an integer of at least 1"),
    ({"kind": "jackknife"}, "kind: got 'jackknife', expected one of 'bootstrap', 'subsample'"),
    ({"kind": "subsample", "size": 8}, "size: got 8, expected 1 to 7 of the 8 units"),
])
def test_wrong_arguments_are_explained(wrong, words):
    with pytest.raises(ValueError, match=words):
        make_resamples(**{"units": UNITS, "n_resamples": 3} | wrong)


def test_indices_beyond_the_units_are_refused():
    with pytest.raises(ValueError, match=r"positions below the 2 units"):
        Resamples(np.array([[0, 2]]), ("a", "b"), "bootstrap", 0)
