"""RidgeEncoder: scikit-learn's own checks, pipelines, labels."""

import importlib

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign.alignment import BandedRidgeEncoder, RidgeEncoder, TRFEncoder
from neuroalign.data import align, make_features, make_responses
from neuroalign.errors import NotAligned
from neuroalign.stats import make_folds


@parametrize_with_checks([RidgeEncoder(alphas=[0.01, 1.0, 100.0])])
def test_scikit_learn_estimator_checks(estimator, check):
    check(estimator)


def data(n=60, p=5, t=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) * rng.uniform(0.5, 5, p) + 3
    return X, X @ rng.standard_normal((p, t)) + 2 * rng.standard_normal((n, t))


def test_one_penalty_is_sklearn_ridge():
    X, Y = data()
    ours, peer = RidgeEncoder([3.0], standardize=False).fit(X, Y), Ridge(3.0).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, atol=1e-3)
    assert ours.score(X, Y) == pytest.approx(peer.score(X, Y), abs=1e-5)


def test_leave_one_out_is_sklearn_ridge_cv():
    X, Y = data()
    X = StandardScaler().fit_transform(X)
    ours = RidgeEncoder(np.logspace(-2, 4, 13), cv="loo").fit(X, Y)
    peer = RidgeCV(np.logspace(-2, 4, 13), alpha_per_target=True).fit(X, Y)
    np.testing.assert_array_equal(ours.best_alpha_, peer.alpha_)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=1e-4)


def test_works_in_pipelines_searches_and_clones():
    X, Y = data()
    pipeline = make_pipeline(StandardScaler(), RidgeEncoder())
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.3
    search = GridSearchCV(RidgeEncoder(), {"standardize": [True, False]}, cv=3).fit(X, Y[:, 0])
    assert search.best_estimator_.coef_.shape == (5,) and isinstance(search.best_estimator_.intercept_, float)
    copy = clone(RidgeEncoder(alphas=[1.0, 2.0], cv="blocks", gap=2))
    assert copy.get_params()["gap"] == 2 and not hasattr(copy, "coef_")


def test_labels_of_neuroids_are_kept():
    X, Y = data()
    ids = [f"s{k}" for k in range(60)]
    features = make_features(X, ids, model="m")
    responses = make_responses(Y, ids, ["a", "b", "c"], neuroid_coords={"region": ["IT", "IT", "V4"]})
    model = RidgeEncoder().fit(features, responses)
    predicted = model.predict(features[:7])
    assert predicted.dims == ("stimulus", "neuroid") and predicted.region.values.tolist() == ["IT", "IT", "V4"]
    assert predicted.stimulus_id.values.tolist() == ids[:7]
    np.testing.assert_allclose(predicted, model.predict(X[:7]))


def test_folds_are_those_of_make_folds():
    X, Y = data()
    groups = np.repeat(np.arange(12), 5)
    by_groups = RidgeEncoder(cv=4).fit(X, Y, groups=groups)
    given = RidgeEncoder(cv=make_folds("groups", 60, groups=groups, n_splits=4)).fit(X, Y)
    np.testing.assert_array_equal(by_groups.cv_loss_, given.cv_loss_)


def test_a_constant_target_is_predicted_by_its_value():
    X, Y = data()
    Y[:, 1] = 5.0
    model = RidgeEncoder().fit(X, Y)
    np.testing.assert_allclose(model.predict(X)[:, 1], 5.0)
    assert np.isnan(model.best_alpha_[1]) and (model.coef_[1] == 0).all()


def labelled(n=60):
    X, Y = data(n)
    ids = [f"s{k}" for k in range(n)]
    return make_features(X, ids, model="m"), make_responses(Y, ids, ["a", "b", "c"])


@pytest.mark.parametrize("encoder", [RidgeEncoder([1.0]), BandedRidgeEncoder([2, 3], [1.0], n_candidates=2)])
def test_labelled_rows_are_never_matched_by_position(encoder):
    features, responses = labelled()
    model = encoder.fit(features, responses)
    assert 0.5 < model.score(features, responses) < 1
    with pytest.raises(NotAligned, match=r"id differs in 60 of 60 rows, first in row 0: 's59' in X, 's0' in y"):
        model.fit(features[::-1], responses)
    with pytest.raises(NotAligned, match=r"first in row 0: 's59' in X.*never matched by position.*neuroalign\.align"):
        model.score(features[::-1], responses)
    with pytest.raises(NotAligned, match="first in row 0: 'q0' in X, 's0' in y"):
        model.fit(make_features(features.values, [f"q{k}" for k in range(60)], model="m"), responses)
    with pytest.raises(NotAligned, match="X has 59 rows, y 60"):
        model.fit(features[1:], responses)
    # After align, the reversed rows give the same model; arrays without labels have their place only.
    spaces, aligned = align(features[::-1], responses)
    np.testing.assert_array_equal(clone(encoder).fit(spaces["m::all"], aligned).coef_, model.coef_)
    np.testing.assert_array_equal(clone(encoder).fit(features.values, responses).coef_, model.coef_)


@pytest.mark.parametrize("encoder", [RidgeEncoder([1.0]), BandedRidgeEncoder([2, 3], [1.0]),
                                     TRFEncoder(0, 0, 1.0, alphas=[1.0])])
def test_labelled_features_are_never_matched_by_position(encoder):
    X, Y = data()
    X = make_features(X, np.arange(60.0), model="m", dim="time").assign_coords(feature=list("abcde"))
    fitted = encoder.fit(X, Y)
    np.testing.assert_allclose(fitted.predict(X), fitted.predict(X.values))
    with pytest.raises(NotAligned, match="first in column 0: got 'e', fitted on 'a'.*X.sel"):
        fitted.predict(X[:, ::-1])
    with pytest.raises(ValueError, match="3 features"):
        fitted.predict(X[:, :3])


def test_folds_give_way_to_the_number_of_groups():
    X, Y = data()
    groups = np.arange(60) % 2
    found = RidgeEncoder().fit(X, Y, groups=groups)
    expected = RidgeEncoder(cv=make_folds("groups", 60, groups=groups, n_splits=2)).fit(X, Y)
    np.testing.assert_array_equal(found.best_alpha_, expected.best_alpha_)
    with pytest.raises(ValueError, match="got 7, expected 2 to 2"):
        RidgeEncoder(cv=7).fit(X, Y, groups=groups)


def test_series_are_matched_by_their_clock_and_runs():
    X, Y = data()
    clock = np.arange(60) * 0.5
    features = make_features(X, clock, model="m", dim="time")
    responses = make_responses(Y, clock, ["a", "b", "c"], dim="time", kind="eeg")
    model = RidgeEncoder([1.0]).fit(features, responses.assign_coords(time=clock + 1e-9))
    assert model.predict(features).dims == ("time", "neuroid")
    with pytest.raises(NotAligned, match=r"time differs in 60 of 60 rows, first in row 0: 0\.0 in X, 3\.0 in y.*clock"):
        model.fit(features, responses.assign_coords(time=clock + 3))
    with pytest.raises(NotAligned, match="time differs in 60 of 60 rows"):  # a tenth of a step, hours from the start
        model.fit(features.assign_coords(time=clock + 1e4), responses.assign_coords(time=clock + 1e4 + 0.05))
    runs = np.repeat([0, 1], 30)
    with pytest.raises(NotAligned, match="run differs in 30 of 60 rows, first in row 30: 1 in X, 0 in y"):
        model.fit(features.assign_coords(run=("time", runs)), responses.assign_coords(run=("time", runs * 0)))
    with pytest.raises(NotAligned, match="rows of X are on 'stimulus', those of y on 'time'"):
        model.fit(labelled()[0], responses)


def test_tensors_of_any_type_are_taken():
    X, Y = data()
    given = torch.tensor(X, requires_grad=True), torch.tensor(Y).to(torch.bfloat16)
    model = RidgeEncoder([1.0]).fit(*given)
    expected = RidgeEncoder([1.0]).fit(X, given[1].to(torch.float64).numpy())
    np.testing.assert_array_equal(model.coef_, expected.coef_)
    np.testing.assert_array_equal(model.predict(given[0]), expected.predict(X))
    assert model.score(*given) == expected.score(X, given[1].to(torch.float64).numpy())
    banded = BandedRidgeEncoder(alphas=[1.0], n_candidates=2).fit(*given)
    assert banded.contributions(*given).shape == (2, 3)
    with pytest.raises(ValueError, match=r"X, y: got values of type <U\d+ \(text\), expected numbers.*astype\(float"):
        RidgeEncoder([1.0]).fit(X, Y.astype(str))


@pytest.mark.parametrize("encoder", [RidgeEncoder, BandedRidgeEncoder])
def test_features_in_float32_are_not_copied_to_float64(encoder, monkeypatch):
    X, Y = data()
    narrow, taken = X.astype(np.float32), []
    wanted = encoder(alphas=[1.0]).fit(narrow.astype(float), Y)
    check = "neuroalign.alignment.estimator" if encoder is RidgeEncoder else "neuroalign.alignment.banded_estimator"
    name = "ridge_cv" if encoder is RidgeEncoder else "banded_ridge_cv"
    fit = getattr(importlib.import_module(check), name)
    monkeypatch.setattr(f"{check}.{name}", lambda X, *a, **k: taken.append(X) or fit(X, *a, **k))
    model = encoder(alphas=[1.0]).fit(narrow, Y)
    (given,) = taken
    assert np.asarray(given).dtype == np.float32 and model.coef_.dtype == np.float64
    np.testing.assert_array_equal(model.coef_, wanted.coef_)
    np.testing.assert_array_equal(model.predict(narrow), wanted.predict(narrow.astype(float)))


@pytest.mark.parametrize("encoder", [RidgeEncoder, BandedRidgeEncoder])
def test_a_constant_target_in_float32_is_predicted_by_its_value(encoder):
    X = np.random.default_rng(0).standard_normal((50000, 1))
    model = encoder(alphas=[1.0]).fit(X, np.full((50000, 2), 1e6 + 0.3, np.float32))
    np.testing.assert_allclose(model.predict(X[:3]), np.float32(1e6 + 0.3), rtol=1e-12)


def test_a_number_of_inner_folds_is_kept_or_refused():
    X, Y = data()
    folds = RidgeEncoder(cv=40)._folds(60, (0, 1), None)
    assert len(folds) == 40 and len(RidgeEncoder()._folds(8, (0, 1), None)) == 4
    with pytest.raises(ValueError, match="cv: got 100 inner folds for 60 rows, expected 2 to 60"):
        RidgeEncoder(cv=100).fit(X, Y)
    with pytest.raises(ValueError, match="cv: got 1 inner folds for 60 rows"):
        RidgeEncoder(cv=1).fit(X, Y)
    with pytest.raises(ValueError, match="cv: got 100 inner folds for 3 rows"):
        BandedRidgeEncoder(cv=100).fit(X[:3], Y[:3])
    table = np.arange(60) % 4
    by_table = RidgeEncoder(cv=table).fit(X, Y)
    np.testing.assert_array_equal(by_table.cv_loss_, RidgeEncoder(cv=make_folds(table, 60)).fit(X, Y).cv_loss_)
