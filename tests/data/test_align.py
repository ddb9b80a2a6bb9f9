"""Rows are matched by id, never by position."""

import numpy as np
import pytest

from neuroalign.data import (
    align,
    align_pairs,
    as_spaces,
    average_repetitions,
    make_features,
    make_rdms,
    make_responses,
)
from neuroalign.errors import NeuroalignWarning, NotAligned

IDS = list("abcde")


def features(ids=IDS, model="m"):
    """Row of stimulus 'c' is [ord('c')]: what was matched can be read off."""
    return make_features([[float(ord(i[0]))] for i in ids], ids, model=model)


def recorded(ids=IDS, dim="stimulus"):
    return make_responses([[-float(ord(i[0]))] for i in ids], ids, ["v"], dim=dim)


def assert_matched(space, responses):
    np.testing.assert_array_equal(space.values[:, 0], -responses.values[:, 0])


@pytest.mark.parametrize("order", ["edcba", "baced"])
def test_rows_follow_the_ids_of_the_responses(order):
    spaces, found = align([features(), features(model="n")], recorded(list(order)))
    assert found.stimulus_id.values.tolist() == list(order) and list(spaces) == ["m::all", "n::all"]
    for space in spaces.values():
        assert_matched(space, found)


def test_equal_order_makes_no_copy():
    space = features()
    assert align(space, recorded())[0]["m::all"] is space


def test_repeats_are_averaged_or_kept():
    shown = recorded(list("abab") + list("c"), dim="presentation")
    shown.values[2] += 10
    small = features(list("cba"))
    spaces, averaged = align(small, shown)
    assert averaged.dims == ("stimulus", "neuroid") and averaged.stimulus_id.values.tolist() == ["a", "b", "c"]
    assert averaged.values[:, 0].tolist() == [-97 + 5, -98, -99]
    assert averaged.n_repetitions.values.tolist() == [2, 2, 1]
    spaces, kept = align(small, shown, repeats="keep")
    assert kept.sizes["presentation"] == 5 and spaces["m::all"].dims[0] == "presentation"
    assert spaces["m::all"].values[:, 0].tolist() == [97, 98, 97, 98, 99]


def test_missing_stimuli_are_named_on_the_side_that_lacks_them():
    with pytest.raises(NotAligned, match=r"'m::all' and responses.*'e' missing in the features.*on_missing='drop'"):
        align(features(list("abcd")), recorded())
    with pytest.raises(NotAligned, match=r"'d', 'e' missing in the responses"):
        align(features(), recorded(list("abc")))


def test_dropping_is_counted_and_shared_by_all_spaces():
    with pytest.warns(NeuroalignWarning, match=r"2 stimuli dropped, missing in the features: 'a', 'e'") as caught:
        spaces, found = align([features(list("abcd")), features(list("bcde"), "n")], recorded(), on_missing="drop")
    assert caught[0].message.code == "dropped-stimuli" and caught[0].message.ids == ("a", "e")
    assert found.stimulus_id.values.tolist() == ["b", "c", "d"]
    for space in spaces.values():
        assert_matched(space, found)


def test_dropping_what_only_the_features_have_is_counted():
    with pytest.warns(NeuroalignWarning) as caught:
        found = align([features(list("abcd")), features(list("bcde"), "n")], recorded(list("bc")), on_missing="drop")[1]
    assert [str(w.message) for w in caught] == ["3 stimuli dropped, missing in the responses: 'a', 'd', 'e'."]
    assert caught[0].message.code == "dropped-stimuli" and caught[0].message.ids == ("a", "d", "e")
    assert found.stimulus_id.values.tolist() == ["b", "c"]


def test_ids_of_two_types_are_told_apart():
    numbered = make_features(np.zeros((3, 1)), [0, 1, 2], model="m")
    named = recorded(["0", "1", "2"])
    with pytest.raises(NotAligned, match=r"share no stimulus_id.*int in the features, str in the resp.*astype\(str"):
        align(numbered, named)
    with pytest.raises(NotAligned, match=r"int in the features, str in the RDMs"):
        align_pairs([0, 1], make_rdms([[1.0]], pairs=(["0"], ["1"])))
    with pytest.raises(NotAligned) as told:
        align(features(["x", "y"]), recorded())
    assert "type" not in str(told.value)


def test_nothing_shared_is_an_error_even_when_dropping():
    with pytest.raises(NotAligned, match=r"share no stimulus_id: features have 'x', 'y', responses 'a', 'b'"):
        align(features(["x", "y"]), recorded(), on_missing="drop")
    with pytest.raises(NotAligned, match="share no stimulus_id that all of them have"):
        align([features(list("ab")), features(list("cd"), "n")], recorded(), on_missing="drop")


def series(times, values=None, run=None, kind=make_features):
    times = np.asarray(times, float)
    values = np.zeros((len(times), 1)) if values is None else values
    coords = None if run is None else {"run": run}
    if kind is make_features:
        return make_features(values, times, model="m", dim="time", coords=coords)
    return make_responses(values, times, ["v"], dim="time", sample_coords=coords)


def test_time_series_must_stand_on_one_clock():
    clock = np.arange(6) * 2.0
    spaces, found = align(series(clock), series(clock + 1e-8, kind=make_responses))
    assert spaces["m::all"].sizes["time"] == found.sizes["time"] == 6
    with pytest.raises(NotAligned, match=r"differ in 'time': 0.0 to 8.0 \(5 samples\).*Nothing is cut to fit"):
        align(series(clock[:5]), series(clock, kind=make_responses))
    with pytest.raises(NotAligned, match="differ in 'time'"):  # 20 ms, which is little beside 5,000 s
        align(series(5e3 + np.arange(6) / 100), series(5e3 + 0.02 + np.arange(6) / 100, kind=make_responses))
    align(series(np.float32(clock) / 3), series(clock / 3, kind=make_responses))
    with pytest.raises(NotAligned, match="5 samples, the responses have 6. Nothing is cut to fit"):
        align(series(clock[:5]).drop_vars("time"), series(clock, kind=make_responses))
    with pytest.raises(NotAligned, match="differ in 'run'"):
        align(series(clock, run=[1] * 6), series(clock, run=[1] * 3 + [2] * 3, kind=make_responses))
    with pytest.raises(NotAligned, match=r"responses on.*hrf='glover'.*downsample='lanczos'.*delays"):
        align(features(), series(clock, kind=make_responses))
    with pytest.raises(NotAligned, match=r"stand on 'time' but the responses on 'stimulus'"):
        align(series(clock), recorded())


@pytest.mark.parametrize("options, words", [
    ({"repeats": "mean"}, "repeats: got 'mean', expected one of 'average', 'keep'"),
    ({"on_missing": "skip"}, "on_missing: got 'skip', expected one of 'error', 'drop'"),
])
def test_unknown_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        align(features(), recorded(), **options)


def test_spaces_are_gathered_from_arrays_mappings_and_lists():
    assert list(as_spaces(features())) == ["m::all"]
    assert list(as_spaces({"mine": features()})) == ["mine"]
    assert list(as_spaces([features(), {"mine": features()}])) == ["m::all", "mine"]
    with pytest.raises(ValueError, match="space 'm::all' occurs twice"):
        as_spaces([features(), features()])
    with pytest.raises(TypeError, match=r"got ndarray.*make_features"):
        as_spaces(np.zeros((3, 2)))
    with pytest.raises(NotAligned, match="no space given"):
        align({}, recorded())


def test_pairs_are_matched_by_the_ids_of_both_stimuli():
    rdms = make_rdms([[1.0, 2.0]], pairs=(["d", "a"], ["b", "e"]))
    first, second, kept = align_pairs(list("ebad"), rdms)
    assert (first.tolist(), second.tolist()) == ([3, 2], [1, 0]) and kept.sizes["pair"] == 2


def test_missing_pairs_are_named_or_dropped():
    rdms = make_rdms([[1.0, 2.0]], pairs=(["d", "a"], ["b", "x"]))
    with pytest.raises(NotAligned, match=r"'x' missing in the features.*on_missing='drop'"):
        align_pairs(list("ebad"), rdms)
    with pytest.warns(NeuroalignWarning, match=r"1 pairs dropped: 'x'") as caught:
        first, second, kept = align_pairs(list("ebad"), rdms, on_missing="drop")
    assert caught[0].message.code == "dropped-pairs"
    assert (first.tolist(), second.tolist(), kept.values.tolist()) == ([3], [1], [[1.0]])
    with pytest.raises(NotAligned, match="more than once: 'a'"):
        align_pairs(list("aab"), rdms)


def test_average_repetitions_drops_what_was_shown_too_rarely():
    shown = recorded(list("abab") + list("c"), dim="presentation")
    found = average_repetitions(shown, min_reps=2)
    assert found.stimulus_id.values.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"at least min_reps=3 times \(most: 2\)"):
        average_repetitions(shown, min_reps=3)
    assert average_repetitions(recorded()).identical(recorded())


def test_time_bins_are_averaged_too():
    values = np.arange(12.0).reshape(3, 2, 2)
    shown = make_responses(values, list("aba"), ["u", "v"], dim="presentation", time_bins=[0.0, 0.1])
    found = average_repetitions(shown)
    np.testing.assert_array_equal(found.values, [(values[0] + values[2]) / 2, values[1]])
    assert found.time_bin.values.tolist() == [0.0, 0.1] and found.neuroid_id.values.tolist() == ["u", "v"]


def test_coords_that_the_presentations_of_a_stimulus_share_are_kept():
    responses = make_responses(np.ones((5, 1)), np.arange(5), ["v"], dim="presentation", sample_coords={
        "stimulus_id": list("babca"), "film": ["y", "x", "y", "z", "x"], "run": [1, 1, 2, 1, 1],
        "onset": np.arange(5.0)})
    averaged = average_repetitions(responses)
    assert averaged.stimulus_id.values.tolist() == ["b", "a", "c"] and averaged.film.values.tolist() == ["y", "x", "z"]
    assert "run" not in averaged.coords and "onset" not in averaged.coords
    assert average_repetitions(responses, min_reps=2).film.values.tolist() == ["y", "x"]
