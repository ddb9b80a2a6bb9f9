"""Folds: no leakage, groups kept, gaps respected, runs respected."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, TimeSeriesSplit

from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import Folds, make_folds


def check_partition(folds, n):
    assert not (folds.train & folds.test).any()
    assert (folds.test.sum(0) == 1).all()
    assert folds.n_samples == n


@settings(max_examples=50, deadline=None)
@given(n=st.integers(6, 150), k=st.integers(2, 6), seed=st.integers(0, 99))
def test_kfold_tests_every_sample_once_in_even_folds(n, k, seed):
    folds = make_folds("kfold", n, n_splits=k, random_state=seed)
    check_partition(folds, n)
    assert (folds.train == ~folds.test).all()
    sizes = folds.test.sum(1)
    assert sizes.max() - sizes.min() <= 1


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.integers(0, 12), min_size=12, max_size=120), k=st.integers(2, 5), seed=st.integers(0, 99))
def test_groups_never_straddle_folds(labels, k, seed):
    labels = np.array(labels)
    if len(np.unique(labels)) < k or np.bincount(labels).max() > len(labels) - 2:
        return  # fewer groups than folds, or one group leaves no training samples: refused
    folds = make_folds("groups", len(labels), groups=labels, n_splits=k, random_state=seed)
    check_partition(folds, len(labels))
    for train, test in folds:
        assert not set(labels[train]) & set(labels[test])
    # Greedy filling, largest first: no fold exceeds the mean by more than the largest group.
    assert folds.test.sum(1).max() <= len(labels) / k + np.bincount(labels).max()


@settings(max_examples=60, deadline=None)
@given(n=st.integers(20, 150), k=st.integers(2, 5), gap=st.integers(0, 6), n_runs=st.integers(1, 4))
def test_blocks_are_contiguous_and_purged_within_their_run(n, k, gap, n_runs):
    runs = np.sort(np.arange(n) % n_runs)
    try:
        folds = make_folds("blocks", n, runs=runs, n_splits=k, gap=gap)
    except ValueError as error:
        assert "training" in str(error)
        return
    assert (folds.test.sum(0) == 1).all()
    for k, (train, test) in enumerate(folds):
        assert (np.diff(test) == 1).all()
        distance = np.abs(np.arange(n)[:, None] - test)
        near = ((distance <= gap) & (runs[:, None] == runs[test])).any(1)
        np.testing.assert_array_equal(folds.train[k], ~near)
        assert not near[train].any()


@settings(max_examples=60, deadline=None)
@given(n=st.integers(60, 200), gap=st.integers(0, 8), k=st.integers(2, 4), outer=st.integers(0, 3))
def test_inner_blocks_count_their_gap_on_the_clock(n, gap, k, outer):
    """The rule of the reference values: rows between the first and the last of a block, and the gap, are purged."""
    train = np.flatnonzero(make_folds("blocks", n, n_splits=4, gap=gap).train[outer])
    expected = [(train[(train < block[0] - gap) | (train > block[-1] + gap)], block)
                for block in np.array_split(train, k)]
    if min(len(rows) for rows, _ in expected) < 2:
        return
    inner = make_folds("blocks", len(train), n_splits=k, gap=gap, positions=train)
    for (rows, block), (own, test) in zip(expected, inner):
        np.testing.assert_array_equal(train[own], rows)
        np.testing.assert_array_equal(train[test], block)


def test_leave_one_group_out_names_every_group_once():
    groups = np.array(["b", "a", "b", "c", "a", "c"])
    folds = make_folds("leave-one-group-out", 6, groups=groups)
    assert [set(groups[test]) for _, test in folds] == [{"a"}, {"b"}, {"c"}]


def test_splitters_tables_numbers_and_folds_are_understood():
    table = np.array([0, 0, 1, 1, 2, 2])
    folds = make_folds(table, 6)
    assert len(folds) == 3 and folds.describe()["fold_of_sample"] == table.tolist()
    assert make_folds(folds, 6) is folds
    peer = make_folds(KFold(3), 6)
    assert peer.name == "KFold" and (peer.test == folds.test).all()
    assert len(make_folds(GroupKFold(3), 6, groups=table)) == 3
    assert make_folds(2, 6, time_series=True).name == "blocks(2, gap=0)"
    assert make_folds(2, 6, groups=table).name == "groups"
    assert make_folds(2, 6).name == "kfold"
    forward = make_folds(TimeSeriesSplit(3), 20)
    assert all(train.max() < test.min() for train, test in forward)
    assert forward.describe()["fold_of_sample"][0] == -1


def test_folds_depend_on_the_seed_alone():
    a, b, c = (make_folds("kfold", 30, random_state=s).test for s in (1, 1, 2))
    assert (a == b).all() and not (a == c).all()


def test_describe_counts_what_is_purged():
    told = make_folds("blocks", 20, n_splits=4, gap=2).describe()
    assert told["n_test"] == [5] * 4 and told["n_purged"] == [2, 4, 4, 2] and told["n_train"] == [13, 11, 11, 13]


def test_shuffling_a_time_series_needs_its_word_and_warns():
    with pytest.raises(ValueError, match="cv='shuffled'"):
        make_folds("kfold", 20, time_series=True)
    with pytest.warns(NeuroalignWarning, match="neighbouring samples") as caught:
        make_folds("shuffled", 20, time_series=True)
    assert caught[0].message.code == "shuffled-time-series"


@pytest.mark.parametrize(("options", "words"), [
    ({"cv": "block"}, "Did you mean 'blocks'"),
    ({"cv": "groups"}, "needs groups"),
    ({"cv": "kfold", "n_splits": 1}, "expected 2 to 10"),
    ({"cv": "kfold", "n_splits": 11}, "number of samples"),
    ({"cv": "groups", "groups": list("aabbaabbab"), "n_splits": 3}, "number of groups"),
    ({"cv": "blocks", "gap": 9}, "Use fewer folds or a smaller gap"),
    ({"cv": [0, 1, 0]}, "each of the 10 samples"),
    ({"cv": (range(7), range(7, 10))}, "shape uneven.*a list with .train, test."),
    ({"cv": [0] * 10}, "at least 2"),
    ({"cv": [0, 1] * 5, "groups": list("aabbccddee")}, "stand in both training and test"),
    ({"cv": KFold(2), "groups": list("abababababab")[:9]}, "one label for each"),
])
def test_impossible_folds_are_explained(options, words):
    with pytest.raises(ValueError, match=words):
        make_folds(**{"n_samples": 10} | options)


def test_folds_of_other_data_are_refused():
    with pytest.raises(ValueError, match="made for 10 samples, the data have 12"):
        make_folds(make_folds("kfold", 10), 12)
    with pytest.raises(ValueError, match="in the training and the test set"):
        Folds(np.ones((1, 4), bool), np.ones((1, 4), bool), "own")


def test_a_split_by_name_tests_the_groups_it_names():
    films = np.array(["a", "a", "b", "b", "c", "c"])
    (train, test), = make_folds({"test": ["b"]}, 6, groups=films)
    assert train.tolist() == [0, 1, 4, 5] and test.tolist() == [2, 3]
    folds = make_folds({"train": "a", "test": ["b", "c"]}, 6, groups=films)
    assert folds.describe()["n_train"] == [2] and folds.describe()["fold_of_sample"] == [-1, -1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="no group 'd'"):
        make_folds({"test": ["d"]}, 6, groups=films)
    with pytest.raises(ValueError, match="needs groups"):
        make_folds({"test": ["a"]}, 6)
    with pytest.raises(ValueError, match="expected 'test'"):
        make_folds({"validation": ["a"]}, 6, groups=films)


def test_splits_are_taken_as_rows_or_masks_from_a_list_or_a_generator():
    x, kfold = np.zeros((9, 1)), KFold(3)
    expected = make_folds(kfold, 9)
    masks = [(np.isin(np.arange(9), a), np.isin(np.arange(9), b)) for a, b in kfold.split(x)]
    lists = [[a.tolist(), b.tolist()] for a, b in kfold.split(x)]
    uneven = [(np.arange(2, 9), [0, 1]), (range(5), np.arange(5, 9))]
    for cv in (list(kfold.split(x)), kfold.split(x), masks, tuple(lists)):
        folds = make_folds(cv, 9)
        np.testing.assert_array_equal(folds.test, expected.test)
        np.testing.assert_array_equal(folds.train, expected.train)
    assert [test.tolist() for _, test in make_folds(uneven, 9)] == [[0, 1], [5, 6, 7, 8]]
    assert len(make_folds(["aa", "bb", "aa", "bb"], 4)) == 2  # a table of labels of two letters


@pytest.mark.parametrize("test, words", [
    ([0, 12], "cv: the test side of fold 1 is int64 of shape .2,. from 0 to 12, expected row numbers from 0 to 9"),
    ([-1, 0], "from -1 to 0"), ([True, False], "bool of shape .2,."), ([0.5], "float64 of shape .1,."),
])
def test_splits_of_other_rows_are_refused(test, words):
    with pytest.raises(ValueError, match=words):
        make_folds([([5, 6, 7], [0, 1]), ([2, 3], np.array(test))], 10)


def test_few_groups_name_the_way_out():
    with pytest.raises(ValueError, match=r"got 5, expected 2 to 4 .*n_splits=4, or cv='leave-one-group-out'"):
        make_folds("groups", 8, groups=list("aabbccdd"))
    with pytest.raises(ValueError, match="groups: got one group, 'a', for all 8 samples"):
        make_folds("groups", 8, groups=["a"] * 8)
