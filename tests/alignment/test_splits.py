"""What folds respect: events with onsets are a time series."""

import numpy as np
import pytest

from neuroalign.alignment.splits import make_layout, nested_folds
from neuroalign.data import make_responses


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
