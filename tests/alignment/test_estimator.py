"""RidgeEncoder: scikit-learn's own checks, pipelines, labels."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign.alignment import RidgeEncoder
from neuroalign.data import make_features, make_responses
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
