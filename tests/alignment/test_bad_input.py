"""Input that cannot be encoded as it stands: refused by name, or set aside with a counted warning."""

import re
import warnings

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneOut, RepeatedKFold, ShuffleSplit, TimeSeriesSplit

import neuroalign as na
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning, NotAligned
from neuroalign.stats import make_folds

FAST = {"metric": "r.pooled", "alphas": [1.0]}


def toy(n=40, p=3, seed=0):
    rng = np.random.default_rng(seed)
    x, ids = rng.standard_normal((n, p)), [f"s{k:02d}" for k in range(n)]
    return make_features(x, ids, model="m"), make_responses(x[:, :2] + rng.standard_normal((n, 2)), ids, ["a", "b"])


def repeat_an_id(array):
    return array.assign_coords(stimulus_id=("stimulus", [*array.stimulus_id.values[:-1], "s00"]))


CALLS = [na.encode, na.encode_banded, lambda x, y, **o: na.encode_stimuli(x, y.isel(neuroid=[0, 1, 0, 1]).assign_coords(
    neuroid=list("abcd"), neuroid_id=("neuroid", list("abcd"))), alphas=o["alphas"])]


@pytest.mark.parametrize("call", CALLS)
def test_ids_that_stand_twice_are_named_on_their_side(call):
    features, responses = toy()
    with pytest.raises(NotAligned, match="features 'm::all': stimulus_id more than once: 's00'"):
        call(repeat_an_id(features), responses, **FAST)
    with pytest.raises(NotAligned, match="responses: stimulus_id more than once: 's00'.*'presentation'"):
        call(features, repeat_an_id(responses), **FAST)


@pytest.mark.parametrize("call", CALLS)
def test_features_that_do_not_vary_are_counted_and_change_nothing(call):
    features, responses = toy()
    dead = features.copy(deep=True)
    dead[:, 1] = 7.0
    with pytest.warns(NeuroalignWarning, match="contribute nothing: 1 of 3 in 'm::all'") as caught:
        scores = call(dead, responses, **FAST)
    assert caught[0].message.code == "constant-feature" and attrs_of(scores)["warnings"][0]["count"] == 1
    np.testing.assert_allclose(scores.score, call(features.isel(feature=[0, 2]), responses, **FAST).score, atol=1e-5)
    with pytest.raises(ValueError, match="none of the 3 columns varies over the 40 samples"):
        call(features * 0 + 1, responses, **FAST)


def test_a_feature_that_varies_in_test_rows_alone_is_no_error():
    features, responses = toy()
    spike = features.isel(feature=[0]) * 0.0
    spike[3] = 1.0
    scores = na.encode(spike, responses, metric="r.pooled", alphas=np.logspace(-2, 6, 4))
    assert np.isfinite(scores.score).all()


@pytest.mark.parametrize(("cv", "words"), [
    (make_folds("kfold", 39), "made for 39 samples, the data have 40"),
    ([0] * 40, "names 1 fold, expected at least 2"),
    ([0, 1] * 10, "one fold for each of the 40"),
    ([0] + [1] * 39, "fold 1 of 2 .* has 1 training"),
])
def test_folds_that_are_not_of_these_samples_are_refused(cv, words):
    with pytest.raises(ValueError, match=words):
        na.encode(*toy(), cv=cv, **FAST)


def test_dropped_stimuli_do_not_pass_for_the_samples_that_folds_were_made_for():
    features, responses = toy()
    with pytest.warns(NeuroalignWarning, match="1 stimuli dropped"), \
            pytest.raises(ValueError, match="made for 40 samples, the data have 39"):
        na.encode(features.isel(stimulus=slice(39)), responses, cv=make_folds("kfold", 40), on_missing="drop", **FAST)


def four_neuroids():
    features, responses = toy()
    ids = list("abcd")
    four = make_responses(np.tile(responses.values, 2) + np.arange(4) * features.values[:, :1],
                          responses.stimulus_id.values, ids)
    return {"m": features, "k": features.copy(data=features.values[:, ::-1] ** 2)}, four


@pytest.mark.parametrize(("call", "options", "words"), [
    (na.encode_banded, {"nuisanc": "x"}, "encode_banded: no option 'nuisanc'; expected .* Did you mean 'nuisance'"),
    (na.encode_banded, {"layer": "nested"}, "encode_banded: no option 'layer'"),
    (na.partition_variance, {"n_permutations": 10}, "partition_variance: no option 'n_permutations'"),
    (na.partition_variance, {"method": "ridge", "bnads": {}}, "Did you mean 'bands'"),
    (na.encode_stimuli, {"keep": ["null"]}, "encode_stimuli: no option 'keep'; expected by, metric, .*, cv, "),
])
def test_unknown_options_name_the_function_that_was_called(call, options, words):
    with pytest.raises(TypeError, match=words):
        call(*four_neuroids(), **options)


@pytest.mark.parametrize("call", [na.encode_banded, na.partition_variance])
def test_bands_that_are_no_mapping_are_named(call):
    with pytest.raises(ValueError, match=r"bands: got \['m', 'k'\], expected a mapping from .*bands=\{'mine':"):
        call(*four_neuroids(), bands=["m", "k"])


def test_one_penalty_may_be_a_number():
    one, other = (na.encode(*toy(), alphas=alphas, metric="r.pooled").score for alphas in (10.0, [10.0]))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("alphas", [[], "few", [[1.0, 2.0]], [1.0, np.nan]])
@pytest.mark.parametrize("call", CALLS)
def test_penalties_that_are_none_are_named(call, alphas):
    with pytest.raises(ValueError, match="alphas: got .*, expected finite penalties above 0"):
        call(*toy(), **FAST | {"alphas": alphas})


@pytest.mark.parametrize(("options", "words"), [
    ({"null": "foo"}, "null: got 'foo', expected one of 'auto', 'shift', 'block', 'permute'"),
    ({"fdr": "bonferroni"}, "fdr: got 'bonferroni', expected one of 'bh', 'by'"),
    ({"n_permutations": -1}, "n_permutations: got -1, expected an integer of at least 0"),
])
@pytest.mark.parametrize("call", [na.encode, na.encode_banded, na.encode_stimuli])
def test_options_of_a_test_are_checked_though_it_is_not_made(call, options, words):
    with pytest.raises(ValueError, match=words):
        call(*four_neuroids(), **options)


@pytest.mark.parametrize(("options", "words"), [
    ({"keep": "bootstrap", "n_bootstraps": 0}, "keep: 'bootstrap' was asked for, but n_bootstraps is 0"),
    ({"n_bootstraps": 3}, "n_bootstraps: got 3, expected 0 .no intervals. or at least 20"),
    ({"n_bootstraps": 19.5}, "n_bootstraps: got 19.5, expected an integer"),
    ({"keep": "boot"}, "keep: got 'boot'"),
])
@pytest.mark.parametrize("call", [na.encode, na.encode_banded, na.partition_variance])
def test_resamples_that_cannot_be_kept_or_used_are_refused(call, options, words):
    with pytest.raises(ValueError, match=words):
        call(*four_neuroids(), **options)


def test_what_is_kept_may_be_named_by_one_word():
    assert "prediction" in na.encode(*toy(), keep="prediction", **FAST)
    with pytest.raises(ValueError, match="keep: 'null' was asked for, but n_permutations is 0"):
        na.encode(*toy(), keep=("prediction", "null"), **FAST)


@pytest.mark.parametrize(("cv", "code", "words", "count"), [
    (ShuffleSplit(4, test_size=0.2, random_state=0), "untested-samples", "40 samples are in no test fold .ShuffleSplit",
     None),
    (TimeSeriesSplit(3), "untested-samples", "10 of 40 samples are in no test fold", 10),
    (RepeatedKFold(n_splits=4, n_repeats=2, random_state=0), "samples-tested-twice", "40 of 40 samples are in several",
     40),
    (LeaveOneOut(), "small-test-folds", "'r.foldmean': 40 of 40 test folds .*smallest 1.* fewer folds, or 'r.pooled'",
     40),
])
@pytest.mark.parametrize("call", [na.encode, na.encode_banded])
def test_folds_that_leave_scores_without_ground_are_told(call, cv, code, words, count):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*toy(), cv=cv, inner_cv=2, alphas=[1.0], metric="r.foldmean", baselines=[])
    told = next(w.message for w in caught if getattr(w.message, "code", "") == code)
    assert re.search(words, str(told)) and (count is None or told.count == count)


def test_one_split_need_not_test_every_sample():
    rows = np.arange(40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = na.encode(*toy(), cv=[(rows[:30], rows[30:])], **FAST)
    assert set(scores.n.values.ravel()) == {10}


def test_few_samples_are_told():
    features, responses = toy()
    with pytest.warns(NeuroalignWarning, match="there are 9 samples: of fewer than 10") as caught:
        na.encode(features[:9], responses[:9], n_splits=3, **FAST)
    assert caught[0].message.code == "few-samples" and caught[0].message.count == 9


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("kind", "named"), [(str, "<U"), (object, "object"), (complex, "complex128")])
def test_responses_that_are_no_numbers_are_refused(call, kind, named):
    features, responses = toy()
    with pytest.raises(ValueError, match=rf"responses: got values of type {named}.*expected real numbers"):
        call(features, responses.astype(kind), **FAST)
    shown_twice = responses.isel(stimulus=np.arange(80) % 40).drop_vars("stimulus").rename(stimulus="presentation")
    with pytest.raises(ValueError, match=f"responses: got values of type {named}"):
        call(features, shown_twice.astype(kind), **FAST)


@pytest.mark.parametrize(("change", "error", "words"), [
    (lambda x, y: {"inner_cv": "lo"}, ValueError, "inner_cv: got 'lo', expected one of 'auto', 'loo', .*mean 'loo'"),
    (lambda x, y: {"nuisance": x.values[:, 0]}, TypeError, "nuisance: got float64, expected names of coords"),
    (lambda x, y: {"nuisance": "word_rate"}, ValueError, "'word_rate' is counted from timed events"),
    (lambda x, y: {"features": {"m": x.values}}, TypeError, "features: 'm' got ndarray, expected a DataArray"),
    (lambda x, y: {"responses": y.where(y.stimulus != "s03")}, ValueError,
     "No neuroid has a number in 1 of 40 samples: 's03'. Leave them out: responses.dropna"),
    (lambda x, y: {"features": x[:1], "responses": y[:1]}, ValueError, "got 1 sample.*, expected at least 2"),
    (lambda x, y: {"responses": y[:0]}, NotAligned, "responses: got no samples at all"),
])
def test_mistakes_are_named_by_the_argument_that_was_given(change, error, words):
    features, responses = toy()
    with warnings.catch_warnings(), pytest.raises(error, match=words):
        warnings.simplefilter("ignore")  # neuroids with NaN are warned of, too
        na.encode(**{"features": features, "responses": responses} | change(features, responses))
