"""Nuisance taken out within training folds: against a loop by scikit-learn, planted confounds, and what is left."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler

import neuroalign as na
from neuroalign.alignment.residuals import ALPHAS
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import make_folds, row_permutations

pytestmark = pytest.mark.filterwarnings("ignore:.*the smallest attainable p:neuroalign.errors.NeuroalignWarning")


def confounded(n=90, own=0.0, k=2, p=5, t=4, seed=0):
    """Features and responses that share a nuisance, and `own` beyond it."""
    rng = np.random.default_rng(seed)
    N, extra = rng.standard_normal((n, k)), rng.standard_normal((n, p))
    X = N @ rng.standard_normal((k, p)) + 0.7 * extra
    Y = 2 * N @ rng.standard_normal((k, t)) + own * extra @ rng.standard_normal((p, t)) + rng.standard_normal((n, t))
    ids = [f"s{i:03d}" for i in range(n)]
    nuisance = make_features(N, ids, model="n").rename("known")
    return make_features(X, ids, model="m"), make_responses(Y, ids, [f"v{i}" for i in range(t)]), nuisance, (N, X, Y)


def fitted(X, Y, rows, inner, alphas):
    """Choose the penalty of each target by the inner folds, in float64; return a function that predicts."""
    loss = np.zeros((len(alphas), Y.shape[1]))
    for i, j in inner:
        i, j = rows[i], rows[j]
        mean, sd = X[i].mean(0), X[i].std(0)
        for a, alpha in enumerate(alphas):
            model = Ridge(alpha=alpha).fit((X[i] - mean) / sd, Y[i])
            loss[a] += ((model.predict((X[j] - mean) / sd) - Y[j]) ** 2).sum(0)
    mean, sd = X[rows].mean(0), X[rows].std(0)
    models = [Ridge(alpha=alphas[a]).fit((X[rows] - mean) / sd, Y[rows, c]) for c, a in enumerate(loss.argmin(0))]
    return lambda new: np.stack([m.predict((new - mean) / sd) for m in models], 1)


def test_the_null_of_features_far_from_zero_is_that_of_features_about_it():
    features, responses, nuisance, _ = confounded(own=0.5)
    options = {"nuisance": nuisance, "alphas": [1.0], "n_permutations": 19, "metric": "r.pooled", "keep": "null"}
    about, far = (na.encode(f, responses, **options) for f in (features, features.astype(float) + 1e9))
    np.testing.assert_allclose(far.null, about.null, atol=1e-4)


@pytest.mark.parametrize("what", ["features", "both"])
def test_scores_equal_an_explicit_loop_that_sees_the_training_rows_alone(what):
    features, responses, nuisance, (N, X, Y) = confounded(own=0.5)
    alphas = np.logspace(-1, 6, 6)
    scores = na.encode(features, responses, nuisance=nuisance, residualize=what, alphas=alphas, keep=["prediction"])
    P, held = np.full(Y.shape, np.nan), Y.copy()
    for train, test in make_folds("kfold", len(X)):
        inner = list(make_folds("kfold", len(train)))
        R = X - LinearRegression().fit(N[train], X[train]).predict(N)
        own = Y - LinearRegression().fit(N[train], Y[train]).predict(N) if what == "both" else Y
        P[test], held[test] = fitted(R, own, train, inner, alphas)(R[test]), own[test]
    shift = Y.mean(0) if what == "both" else 0  # predicted residuals stand about the mean of their neuroid
    np.testing.assert_allclose(scores.prediction.values[:, 0], P + shift, atol=5e-3)
    expected = [pearsonr(P[:, c], held[:, c])[0] for c in range(4)]
    np.testing.assert_allclose(scores.score.sel(metric="r.pooled").values[0], expected, atol=1e-3)
    told = attrs_of(scores)
    assert told["residualize"] == what and told["leftover"]["m::all"]["mean"] <= 0.01
    assert ("residuals" in told["ceiling"]) == (what == "both")


def test_what_is_only_shared_with_the_nuisance_is_lost_and_what_is_more_is_kept():
    options = {"metric": "r.pooled", "alphas": np.logspace(-3, 6, 4), "n_permutations": 19, "n_splits": 3,
               "n_inner_splits": 2}
    features, responses, nuisance, _ = confounded(own=0.0, n=150)
    plain = na.encode(features, responses, **options)
    clean = na.encode(features, responses, nuisance=nuisance, residualize="both", **options)
    assert (plain.score > 0.5).all() and (clean.score < 0.2).all() and (clean.p > 0.05).mean() >= 0.75
    np.testing.assert_allclose(clean.baseline, na.encode(nuisance, responses, **options).score[:, 0], atol=1e-5)
    features, responses, nuisance, _ = confounded(own=0.7, n=150)
    kept = na.encode(features, responses, nuisance=nuisance, residualize="both", **options)
    assert (kept.score > 0.4).all() and (kept.p <= 0.05).all()
    assert attrs_of(kept)["nulls"]["permuted"] == "residual features"
    alone = na.encode(features, responses, nuisance=nuisance, residualize="features", **options)
    assert (alone.score < kept.score).all()  # the responses keep what the nuisance drives: noise to the residuals


def test_the_null_keeps_what_the_nuisance_explains_and_permutes_the_rest():
    features, responses, nuisance, (N, X, _) = confounded(own=0.5, n=60)
    options = {"nuisance": nuisance, "residualize": "both", "metric": "r.pooled", "alphas": [10.0]}
    scores = na.encode(features, responses, n_permutations=3, keep=["null"], baselines=["shuffled"], **options)
    explained = LinearRegression().fit(N, X).predict(N)
    for k, order in enumerate(row_permutations(60, 3)):
        moved = features.copy(data=explained + (X - explained)[order])
        np.testing.assert_allclose(scores.null.values[k], na.encode(moved, responses, **options).score, atol=1e-4)
    np.testing.assert_allclose(scores.shuffled, scores.null_mean)
    beside = na.encode(features, responses, n_permutations=2, keep=["null"], **options | {"residualize": None})
    moved = features.copy(data=explained + (X - explained)[row_permutations(60, 2)[0]])
    again = na.encode(moved, responses, **options | {"residualize": None})
    np.testing.assert_allclose(beside.null.values[0], again.score, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("what", [None, "features", "both"])
def test_features_that_follow_the_nuisance_alone_are_found_as_often_as_chance_allows(what):
    found = []
    for seed in range(30):
        features, responses, nuisance, _ = confounded(n=50, p=6, t=40, seed=seed)
        scores = na.encode(features, responses, nuisance=nuisance, residualize=what, metric="r.pooled", n_splits=3,
                           alphas=np.logspace(-3, 6, 4), n_inner_splits=2, n_permutations=19)
        found.append((scores.p.values <= 0.05).mean())
    # 1,200 tests that share 30 feature spaces: the standard error of the rate is about .008
    assert 0.025 <= np.mean(found) <= 0.075


def test_one_band_of_residual_features_is_ridge_of_them():
    features, responses, nuisance, _ = confounded(own=0.5)
    options = {"nuisance": nuisance, "residualize": "both", "reduce": "pca:3", "n_bootstraps": 20,
               "keep": ["bootstrap"]}
    ridge, banded = na.encode(features, responses, **options), na.encode_banded([features], responses, **options)
    np.testing.assert_allclose(banded.score.values, ridge.score.values, atol=1e-4)
    np.testing.assert_allclose(banded.bootstrap.values, ridge.bootstrap.values, atol=1e-3)
    assert banded.band.values.tolist() == ["m::all", "intercept"] and "m::all" in attrs_of(banded)["leftover"]
    # the resamples are of the residuals that were predicted: their mean lies about the score
    np.testing.assert_allclose(ridge.bootstrap.mean("resample"), ridge.score, atol=0.1)


def test_patterns_of_residuals_hold_nothing_of_a_nuisance_that_was_all():
    features, responses, nuisance, _ = confounded(t=8, n=120)
    options = {"alphas": [10.0], "metric": "2v2"}
    plain = na.encode_stimuli(features, responses, **options).score.item()
    clean = na.encode_stimuli(features, responses, nuisance=nuisance, residualize="both", **options)
    assert plain > 0.8 and clean.score.item() < 0.6
    assert "m::all" in attrs_of(clean)["leftover"]


def test_one_feature_that_follows_the_nuisance_is_named_among_many_that_do_not():
    rng, ids = np.random.default_rng(0), [f"s{i:03d}" for i in range(120)]
    N, Y = rng.standard_normal((120, 1)), rng.standard_normal((120, 2))
    X = rng.standard_normal((120, 60))
    X[:, 7] = N[:, 0] ** 2 + 0.5 * X[:, 7]
    features, responses = make_features(X, ids, model="m"), make_responses(Y, ids, ["a", "b"])
    nuisance = make_features(N, ids, model="n").rename("known")
    options = {"nuisance": nuisance, "residualize": "features", "alphas": [1e3], "n_splits": 3, "n_inner_splits": 3}
    words = "mean over features -?[0-9.e-]+, .* highest of one feature 0.[0-9]+"
    with pytest.warns(NeuroalignWarning, match=words) as seen:
        told = attrs_of(na.encode(features, responses, **options))["leftover"]["m::all"]
    assert told["mean"] < 0.01 and told["highest"] > 0.5
    assert [w.message.code for w in seen] == ["nuisance-left"]
    na.encode(features[:, 8:], responses, **options)  # silent without it


def test_the_highest_of_many_features_may_reach_more_by_chance_where_stimuli_are_few():
    rng, ids = np.random.default_rng(0), [f"s{i:03d}" for i in range(60)]
    nuisance = make_features(rng.standard_normal((60, 1)), ids, model="n").rename("known")
    features = make_features(rng.standard_normal((60, 2000)), ids, model="m")
    scores = na.encode(features, make_responses(rng.standard_normal((60, 1)), ids, ["a"]), nuisance=nuisance,
                       residualize="features", alphas=[1e3])
    assert 0.1 < attrs_of(scores)["leftover"]["m::all"]["highest"] < 20 / 60 and not attrs_of(scores)["warnings"]


def test_what_is_left_equals_an_explicit_loop_and_a_bent_relation_is_named():
    features, responses, nuisance, (N, X, _) = confounded(n=90, p=3, k=1)
    bent = make_features(np.c_[X[:, :1], N**2 + 0.5 * X[:, 1:]], features.stimulus_id.values, model="m")
    with pytest.warns(NeuroalignWarning, match="still predicts the residual features of 'm::all'") as caught:
        scores = na.encode(bent, responses, nuisance=nuisance, residualize="features")
    assert caught[0].message.code == "nuisance-left"
    X, folds, R = bent.values.astype(float), make_folds("kfold", 90), np.zeros(bent.shape)
    inner = list(make_folds("kfold", 72))
    for train, test in folds:
        R[test] = X[test] - LinearRegression().fit(N[train], X[train]).predict(N[test])
    errors, total = 0, 0
    for train, test in folds:
        scaler = StandardScaler().fit(N[train])
        scaled = scaler.transform(N)
        Z = np.c_[scaled, rbf_kernel(scaled, scaled[train])]
        errors += ((R - fitted(Z, R, train, inner, ALPHAS)(Z))[test] ** 2).sum(0)
        total += ((R[test] - R[train].mean(0)) ** 2).sum(0)
    told = attrs_of(scores)["leftover"]["m::all"]
    assert told["mean"] == pytest.approx((1 - errors / total).mean(), abs=5e-3) and told["mean"] > 0.1
    assert told["highest"] == pytest.approx((1 - errors / total).max(), abs=5e-3)


def test_a_copy_of_the_nuisance_leaves_nothing_to_predict_from():
    features, responses, nuisance, (N, _, _) = confounded()
    copy = make_features(np.c_[N @ [[1.0], [2.0]], features.values], features.stimulus_id.values, model="m")
    scores = na.encode(copy, responses, nuisance=nuisance, residualize="features")
    plain = na.encode(features, responses, nuisance=nuisance, residualize="features")
    np.testing.assert_allclose(scores.score, plain.score, atol=1e-4)
    with pytest.raises(ValueError, match="explains every feature"):
        na.encode(copy.isel(feature=[0]), responses, nuisance=nuisance, residualize="features")


def test_delayed_features_lose_delayed_nuisance():
    rng, times = np.random.default_rng(0), np.arange(150.0)
    N = rng.standard_normal((150, 1))
    X = N + 0.5 * rng.standard_normal((150, 1))
    Y = np.roll(N, 2, 0) + 0.5 * rng.standard_normal((150, 2))
    features = make_features(X, times, model="m", dim="time")
    nuisance = make_features(N, times, model="n", dim="time").rename("known")
    responses = make_responses(Y, times, ["a", "b"], dim="time", kind="eeg", sfreq=1.0)
    options = {"trf": (0.0, 4.0), "gap": 5.0, "metric": "r.pooled", "alphas": [10.0]}
    plain = na.encode(features, responses, **options)
    clean = na.encode(features, responses, nuisance=nuisance, residualize="both", **options)
    assert (plain.score > 0.6).all() and (clean.score < 0.25).all()


@pytest.mark.parametrize(("call", "options", "words"), [
    (na.encode, {"residualize": "features"}, "no nuisance to take out"),
    (na.encode, {"residualize": "feature", "nuisance": True}, "Did you mean 'features'"),
    (na.encode, {"residualize": "both", "nuisance": True, "ceiling": [0.5] * 4}, "Leave ceiling=None"),
    (na.partition_variance, {"residualize": "features"}, "no nuisance to take out"),
])
def test_bad_options_are_explained(call, options, words):
    features, responses, nuisance, _ = confounded()
    options = {k: nuisance if v is True else v for k, v in options.items()}
    with pytest.raises(ValueError, match=words):
        call(features, responses, **options)


def test_more_nuisance_than_training_rows_is_refused():
    features, responses, nuisance, _ = confounded(n=30, k=25)
    with pytest.raises(ValueError, match="25 columns of nuisance, and 24 training samples.*leaves none"):
        na.encode(features, responses, nuisance=nuisance, residualize="features")
