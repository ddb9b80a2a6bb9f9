"""Two papers' ways of encoding, against loops by scikit-learn; and what is wrong with them, shown."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

import neuroalign as na
from neuroalign.alignment.paper_compat import oota2022, subramaniam2024
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning

pytestmark = pytest.mark.filterwarnings("ignore:(subramaniam2024|oota2022):neuroalign.errors.NeuroalignWarning")


def problem(n=60, p=5, t=6, level=0.0, bins=None, seed=0):
    rng = np.random.default_rng(seed)
    X, ids = rng.standard_normal((n, p)) + 1.0, [f"s{i:02d}" for i in range(n)]
    Y = X @ rng.standard_normal((p, t)) + 2 * rng.standard_normal((n, t)) + level * np.arange(t)
    names = [f"v{k}" for k in range(t if bins is None else t // len(bins))]
    shaped = Y if bins is None else Y.reshape(n, -1, len(bins))
    return make_features(X, ids, model="m"), make_responses(shaped, ids, names, time_bins=bins), X, Y


def by_hand_2024(X, Y):
    alphas, validation, test = np.logspace(-1, 5, 7), [], []
    for train, held in KFold(5).split(X):
        scaler = StandardScaler().fit(X[train])
        Z = np.c_[scaler.transform(X), np.ones(len(X))]
        for rows, into in ((held[:len(held) // 2], validation), (held[len(held) // 2:], test)):
            into.append([[pearsonr(p, y)[0] for p, y in zip(
                Ridge(alpha=a, fit_intercept=False).fit(Z[train], Y[train]).predict(Z[rows]).T, Y[rows].T)]
                for a in alphas])
    validation, test = np.mean(validation, 0), np.mean(test, 0)
    best, each = validation.argmax(0), np.arange(Y.shape[1])
    return np.stack([test[best, each], validation[best, each]]), alphas[best]


def test_subramaniam2024_equals_its_description():
    features, responses, X, Y = problem()
    with pytest.warns(NeuroalignWarning, match="not calibrated") as caught:
        scores = subramaniam2024([features], responses)
    assert caught[0].message.code == "paper-compat" and "2406.14481" in attrs_of(scores)["paper_compat"]
    expected, alphas = by_hand_2024(X, Y)
    np.testing.assert_allclose(scores.score.values[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(scores.best_alpha.values[0], alphas)
    assert scores.metric.values.tolist() == ["r.foldmean", "r.foldmean.validation"] and (scores.n == 30).all()


def test_its_resamples_are_sorted_refitted_and_shared_by_all_models():
    features, responses, X, Y = problem(bins=[0.0, 0.1])
    other = make_features(X, responses.stimulus_id.values, model="twin")
    scores = subramaniam2024([features, other], responses, n_bootstraps=4, keep=["bootstrap"], random_state=2)
    assert scores.bootstrap.dims == ("resample", "metric", "space", "neuroid", "time_bin")
    np.testing.assert_allclose(scores.bootstrap[:, :, 0], scores.bootstrap[:, :, 1])
    rng = na.stats.child_rng(2, "paper_compat")
    order = np.sort(rng.integers(60, size=60))
    np.testing.assert_allclose(scores.bootstrap.values[0, :, 0].reshape(2, -1), by_hand_2024(X[order], Y[order])[0],
                               atol=1e-4)
    assert ((scores.ci_low <= scores.ci_high) | scores.score.isnull()).all()
    again = subramaniam2024([features], responses, n_bootstraps=4, keep=["bootstrap"], random_state=3)
    assert not np.allclose(again.bootstrap[:, :, 0], scores.bootstrap[:, :, 0])


def by_hand_2022(X, Y, columns, n_splits):
    P, r, alphas = np.empty(Y.shape), [], 10.0 ** np.arange(-6, 10)
    for train, test in KFold(n_splits).split(X):
        gain = 0
        for a, b in KFold(n_splits).split(train):
            a, b = train[a], train[b]
            gain = gain + np.stack([r2_score(Y[b], Ridge(alpha=k, fit_intercept=False, solver="svd").fit(
                X[a], Y[a]).predict(X[b]), multioutput="raw_values") for k in alphas])
        for c, k in enumerate(gain.argmax(0)):
            P[test, c] = Ridge(alpha=alphas[k], fit_intercept=False, solver="svd").fit(
                X[train], Y[train, c]).predict(X[test])
        r.append(np.mean([pearsonr(P[i, columns], Y[i, columns])[0] for i in test]))
    y, p = Y[:, columns], P[:, columns]
    wins = [cosine(y[i], p[i]) + cosine(y[j], p[j]) < cosine(y[i], p[j]) + cosine(y[j], p[i])
            for i, j in itertools.combinations(range(len(y)), 2)]
    return [np.mean(r), np.mean(wins)]


def test_oota2022_equals_its_description():
    features, responses, X, Y = problem(n=30)
    responses = responses.assign_coords(region=("neuroid", list("aaabbb")))
    scores = oota2022([features], responses, by="region", n_splits=3)
    assert scores.target.values.tolist() == ["a", "b"] and "not for claims" in attrs_of(scores)["paper_compat"]
    for k, columns in enumerate((slice(0, 3), slice(3, 6))):
        np.testing.assert_allclose(scores.score.values[:, 0, k], by_hand_2022(X, Y, columns, 3), atol=1e-4)


def test_a_predictor_that_knows_the_mean_alone_scores_there_and_not_here():
    features, responses, _, _ = problem(level=3.0)
    with_mean = oota2022([features], responses, n_splits=4)
    without = na.encode_stimuli(features, responses, alphas=[1.0], n_splits=4)
    assert with_mean.baseline.sel(metric="r.stimulus").item() > 0.7
    np.testing.assert_allclose(without.baseline.values.ravel(), [0, 0.5])


def test_time_bins_have_no_pattern():
    features, responses, _, _ = problem(bins=[0.0, 0.1])
    with pytest.raises(ValueError, match="Take one, or a mean"):
        oota2022([features], responses)
