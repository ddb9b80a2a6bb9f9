"""What folds respect: events with onsets are a time series."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.alignment.splits import make_layout, memory_of, nested_folds
from neuroalign.data import make_features, make_responses
from neuroalign.errors import NeuroalignWarning


def events(onsets, dim="stimulus", ids=None, **coords):
    ids = [f"w{i}" for i in range(len(onsets))] if ids is None else ids
    return make_responses(np.zeros((len(onsets), 1)), ids, ["a"], dim=dim, kind="seeg",
                          sample_coords={"onset": onsets, **coords})


@pytest.mark.parametrize("dim", ["stimulus", "presentation"])
def test_timed_events_get_blocks_with_a_gap_in_seconds(dim):
    onsets = np.cumsum(np.random.default_rng(0).exponential(0.4, 200))
    layout = make_layout(events(onsets, dim), None, 3.0, None)
    outer, inner = nested_folds(layout, "auto", "auto", 4, 3, 0)
    assert outer.name.startswith("blocks")
    for (train, test), within in zip(outer, inner):
        assert (np.diff(test) == 1).all()
        assert np.abs(onsets[train][:, None] - onsets[test]).min() > 3.0
        for fit, choose in within:
            a, b = onsets[train[fit]], onsets[train[choose]]
            assert ((a < b.min() - 3.0) | (a > b.max() + 3.0)).all()


def test_events_of_other_runs_are_not_purged():
    onsets = np.tile(np.arange(20.0), 2)
    layout = make_layout(events(onsets, run=np.repeat([0, 1], 20)), None, 5.0, None)
    outer, _ = nested_folds(layout, "auto", "auto", 2, 2, 0)
    assert [len(train) for train, _ in outer] == [20, 20]


def test_repeated_presentations_are_groups_and_not_a_time_series():
    layout = make_layout(events(np.arange(6.0), "presentation", list("abcabc")), None, None, None)
    outer, _ = nested_folds(layout, "auto", "auto", 3, 2, 0)
    assert not layout.time_series and outer.name == "groups"


def test_unsorted_events_and_gaps_without_a_clock_are_named():
    with pytest.raises(ValueError, match=r"onsets of 'stimulus' do not ascend.*sortby"):
        make_layout(events([1.0, 0.5, 2.0]), None, None, None)
    untimed = make_responses(np.zeros((4, 1)), list("abcd"), ["v"])
    with pytest.raises(ValueError, match="no clock"):
        make_layout(untimed, None, 2.0, None)


def test_a_table_of_folds_serves_stimuli_with_ids():
    layout = make_layout(make_responses(np.zeros((6, 1)), list("abcdef"), ["v"]), None, None, None)
    table = np.array([0, 0, 1, 1, 2, 2])
    outer, _ = nested_folds(layout, table, "auto", 5, 2, 0)
    assert outer.describe()["fold_of_sample"] == table.tolist()


def spoken(n=300, step=5.0, seed=0):
    rng = np.random.default_rng(seed)
    words = np.array(["the", "dog", "saw", "a", "cat", "and", "ran", "home", "at", "night"])
    onsets = np.arange(n) * step
    return events(onsets, word=rng.choice(words, n)), onsets


def test_word_types_stay_together_in_outer_and_inner_folds():
    responses, _ = spoken()
    words = responses["word"].values
    layout = make_layout(responses, "word", None, None)
    outer, inner = nested_folds(layout, "auto", "auto", 5, 3, 0)
    assert outer.name == "groups"
    for (train, test), within in zip(outer, inner):
        assert not set(words[train]) & set(words[test]) and len(test)
        for fit, choose in within:
            assert not set(words[train[fit]]) & set(words[train[choose]])
    assert (outer.test.sum(0) == 1).all()
    with pytest.raises(ValueError, match="expected 2 to 10 .the number of groups"):
        nested_folds(layout, "groups", "auto", 11, 3, 0)


def test_encode_takes_word_types_by_the_name_of_their_coord():
    responses, onsets = spoken()
    values = np.random.default_rng(1).standard_normal((300, 2)) + responses.values
    responses = responses.copy(data=values[:, :1].astype(np.float32))
    features = make_features(values[:, 1:], responses["stimulus_id"].values, model="m", coords={"onset": onsets})
    scores = na.encode(features, responses, groups="word", alphas=[1.0], metric="r.pooled")
    fold = np.array(na.scores.attrs_of(scores)["folds"]["fold_of_sample"])
    words = responses["word"].values
    assert all(len(set(fold[words == w])) == 1 for w in set(words)) and len(set(fold)) == 5


def test_groups_that_are_scattered_among_their_neighbours_are_named():
    responses, _ = spoken(step=0.3)
    with pytest.warns(NeuroalignWarning, match=r"up to \d+% of the training samples lie within 1 s") as caught:
        nested_folds(make_layout(responses, "word", None, None), "auto", "auto", 5, 3, 0)
    assert caught[0].message.code == "scattered-groups"
    films = events(np.arange(300) * 0.3, film=np.repeat(["a", "b", "c"], 100))
    nested_folds(make_layout(films, "film", None, None), "leave-one-group-out", "auto", 5, 2, 0)  # borders alone
    runs = events(np.tile(np.arange(50) * 0.3, 6), run=np.repeat(np.arange(6), 50),
                  film=np.repeat(list("abcabc"), 50))
    nested_folds(make_layout(runs, "film", None, None), "leave-one-group-out", "auto", 2, 2, 0)  # runs are far apart


def test_two_groups_leave_inner_folds_nothing_to_divide():
    rng = np.random.default_rng(0)
    x, ids, films = rng.standard_normal((40, 3)), [f"s{k:02d}" for k in range(40)], ["one"] * 20 + ["two"] * 20
    features, responses = make_features(x, ids, model="m"), make_responses(x[:, :1] + x[:, 1:2], ids, ["v"])
    options = {"groups": films, "cv": "leave-one-group-out", "metric": "r.pooled"}
    with pytest.raises(ValueError, match="a training set holds one group, 'two', which inner folds .*inner_cv='loo'"):
        na.encode(features, responses, **options)
    assert na.encode(features, responses, inner_cv="loo", **options).score.item() > 0.9


def test_a_number_of_folds_is_that_of_the_default_and_follows_the_ids():
    ids = [f"s{k:02d}" for k in np.random.default_rng(0).permutation(40)]
    layout = make_layout(make_responses(np.zeros((40, 1)), ids, ["v"]), None, None, None)
    outer, inner = nested_folds(layout, "auto", "auto", 4, 3, 0)
    for kind in (int, np.int64):
        same, within = nested_folds(layout, kind(4), kind(3), 5, 5, 0)
        np.testing.assert_array_equal(same.test, outer.test)
        for one, other in zip(within, inner):
            np.testing.assert_array_equal(one.test, other.test)


@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e9])
def test_autocorrelation_does_not_hang_on_the_unit(unit):
    series = np.repeat(np.random.default_rng(0).standard_normal((100, 20)), 4, 0)
    assert memory_of(series) > 3 and memory_of(unit * series) == pytest.approx(memory_of(series), rel=1e-6)
