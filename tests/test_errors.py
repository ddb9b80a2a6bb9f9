import warnings

import pytest

import neuroalign as na
from neuroalign.data import make_features, make_responses
from neuroalign.errors import NeuroalignWarning, check_option, collect_warnings, list_ids, suggest, warn_user


def test_list_ids_names_three_and_counts():
    assert list_ids(["a"]) == "'a'"
    assert list_ids("abcde") == "'a', 'b', 'c' and 2 more (5 in all)"


def test_check_option_names_what_is_allowed_and_the_nearest():
    with pytest.raises(ValueError, match="pooling: got 'maen', expected one of 'mean', 'max'. Did you mean 'mean'"):
        check_option("pooling", "maen", ["mean", "max"])
    with pytest.raises(ValueError, match="got 3"):
        check_option("pooling", 3, ["mean"])


def test_suggest_is_silent_when_nothing_is_near():
    assert suggest("zzzz", ["mean"]) == ""


def test_suggest_takes_the_name_of_a_family():
    names = ["cknna", "cka.debiased", "cka.biased", "cka.minibatch", "cka.rbf"]
    assert suggest("cka", names) == " Did you mean 'cka.debiased' or 'cka.biased' or 'cka.minibatch'?"
    assert suggest("cknn", names) == " Did you mean 'cknna'?"


def test_warnings_are_counted_named_and_collected():
    with collect_warnings() as outer, collect_warnings() as inner:
        with pytest.warns(NeuroalignWarning) as caught:
            warn_user("2 targets are constant: 'a', 'b'.", "constant-target", ["a", "b"])
    assert inner == outer == [{"code": "constant-target", "message": "2 targets are constant: 'a', 'b'.", "count": 2,
                               "ids": ["a", "b"]}]
    assert caught[0].message.ids == ("a", "b")


def test_warnings_outside_a_collector_are_only_shown():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_user("x", "code", count=7)
    assert caught[0].message.count == 7


def test_warnings_point_at_the_line_of_the_user():
    responses = make_responses([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]] * 4, list("abcdefghijkl"), ["v1", "v2"])
    with pytest.warns(NeuroalignWarning, match="constant") as caught:
        na.encode(make_features(responses.values[:, :1], list("abcdefghijkl"), model="toy"), responses)
    assert caught[0].filename == __file__
