"""Delays and temporal response functions: against the delayed matrix, MNE, mTRFpy and planted truth."""

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import neuroalign as na
from neuroalign.alignment import TRFEncoder, lag_scores, lagged, lagged_series, nulls, ridge_cv, trf_cv
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NotAligned
from neuroalign.features import delay, events_to_samples, word_rate
from neuroalign.features.delays import shift_rows
from neuroalign.stats import make_folds, shift_permutations

pytestmark = pytest.mark.filterwarnings("ignore:.*the smallest attainable p:neuroalign.errors.NeuroalignWarning")


def recording(n=300, p=2, t=3, later=(1, 3), noise=1.0, step=0.5, seed=0, kind="eeg", runs=None):
    """Responses that follow the features by some samples, within runs."""
    rng = np.random.default_rng(seed)
    run = np.zeros(n, int) if runs is None else np.repeat(np.arange(len(runs)), runs)
    x = rng.standard_normal((n, p)) + 2
    y = sum(shift_rows(x, k, run) @ rng.standard_normal((p, t)) for k in later) + noise * rng.standard_normal((n, t))
    clock = np.concatenate([np.arange((run == r).sum()) * step for r in dict.fromkeys(run)])
    coords = {} if runs is None else {"run": run}
    return (make_features(x, clock, model="toy", layer="l", depth=0.5, dim="time", coords=coords),
            make_responses(y, clock, [f"v{k}" for k in range(t)], dim="time", kind=kind, sfreq=1 / step,
                           sample_coords=coords))


ALPHAS = [0.01, 1.0, 100.0, 1e5]


@pytest.mark.parametrize("runs", [None, (130, 90, 80)])
def test_delays_equal_features_that_were_delayed_before(runs):
    features, responses = recording(runs=runs)
    scores = na.encode(features, responses, delays=[0, 0.5, 1.5], gap=2.0, alphas=ALPHAS, keep=["prediction"])
    by_hand = na.encode(delay(features, [0, 0.5, 1.5]), responses, gap=2.0, alphas=ALPHAS, keep=["prediction"])
    np.testing.assert_allclose(scores.prediction, by_hand.prediction, atol=1e-4)
    assert scores.n_features.item() == 6 and attrs_of(scores)["delays"] == [0.0, 0.5, 1.5]
    plain = na.encode(features, responses, gap=2.0, alphas=ALPHAS)
    assert (scores.score - plain.score > 0.2).all() and attrs_of(plain)["delays"] is None


def test_nuisance_is_delayed_too_and_its_baseline_is():
    features, responses = recording(runs=(150, 150))
    other = features.isel(feature=[1]).rename("other")
    scores = na.encode(features.isel(feature=[0]), responses, nuisance=other, delays=[0.5, 1.5], alphas=ALPHAS)
    joint = xr.concat([delay(features.isel(feature=[k]), [0.5, 1.5]) for k in (1, 0)], "feature")
    by_hand = na.encode(joint, responses, gap=1.5, alphas=ALPHAS)
    np.testing.assert_allclose(scores.score, by_hand.score, atol=1e-4)
    alone = na.encode(delay(other, [0.5, 1.5]), responses, gap=1.5, alphas=ALPHAS)
    np.testing.assert_allclose(scores.baseline, alone.score[:, 0], atol=1e-4)
    assert scores.n_features.item() == 2


def test_the_gap_of_folds_is_at_least_the_longest_delay():
    features, responses = recording(kind="fmri", step=2.0)
    assert attrs_of(na.encode(features, responses, delays=[0, 2], alphas=ALPHAS))["gap"] == 16.0
    long = na.encode(features, responses, delays=[-20, 0], alphas=ALPHAS)
    assert attrs_of(long)["gap"] == 20.0 and attrs_of(long)["folds"]["name"] == "blocks(5, gap=10)"
    with pytest.raises(ValueError, match=r"gap: got 2.0 s, shorter than the longest delay, 4 s.*Leave gap=None"):
        na.encode(features, responses, delays=[0, 2, 4], gap=2.0)


def test_other_analyses_take_delays():
    features, responses = recording()
    spaces = {"a": features.isel(feature=[0]), "b": features.isel(feature=[1])}
    scores = na.encode_banded(spaces, responses, delays=[0.5, 1.5], alphas=ALPHAS, n_candidates=3)
    delayed = {k: delay(v, [0.5, 1.5]) for k, v in spaces.items()}
    by_hand = na.encode_banded(delayed, responses, gap=1.5, alphas=ALPHAS, n_candidates=3)
    np.testing.assert_allclose(scores.score, by_hand.score, atol=1e-4)


@pytest.mark.parametrize("runs", [None, (120, 180)])
@pytest.mark.parametrize("nuisance", [False, True])
def test_a_range_of_delays_equals_the_delayed_matrix(runs, nuisance, monkeypatch):
    features, responses = recording(runs=runs, later=(0, 2, 4))
    other = features.isel(feature=[1]).rename("other") if nuisance else None
    mine = features.isel(feature=[0]) if nuisance else features
    options = {"alphas": ALPHAS, "nuisance": other, "keep": ["prediction", "null"], "n_permutations": 4, "gap": 3.0}
    scores = na.encode(mine, responses, trf=(-0.5, 2.0), **options)
    assert set(attrs_of(scores)["solver"].values()) == {"delays, float64 decomposition"}
    some = na.encode(mine, responses, delays=[-0.5, 0, 0.5, 1.0, 1.5, 2.0], **options)
    monkeypatch.setattr(nulls.Fitter, "_by_structure", lambda self, X: False)
    by_matrix = na.encode(mine, responses, trf=(-0.5, 2.0), **options)
    assert "primal" in str(attrs_of(by_matrix)["solver"])
    for other_scores in (some, by_matrix):
        np.testing.assert_allclose(scores.prediction, other_scores.prediction, atol=1e-4)
        np.testing.assert_allclose(scores.score, other_scores.score, atol=1e-5)
        np.testing.assert_allclose(scores.null, other_scores.null, atol=1e-4)
        np.testing.assert_array_equal(scores.best_alpha, other_scores.best_alpha)


def test_the_null_shifts_within_runs_and_refits():
    features, responses = recording(runs=(150, 150))
    scores = na.encode(features, responses, trf=(0.0, 2.0), alphas=ALPHAS, n_permutations=3, keep=["null"])
    order = shift_permutations(300, 3, runs=responses.run.values)[1]
    again = na.encode(features, responses.copy(data=responses.values[order]), trf=(0.0, 2.0), alphas=ALPHAS)
    np.testing.assert_allclose(scores.null.values[1], again.score.values, atol=1e-4)
    assert attrs_of(scores)["nulls"]["name"] == "shift" and (scores.null_mean < scores.score - 0.3).all()


def test_layers_and_wide_features_of_a_range():
    features, responses = recording(t=2)
    deep = make_features(np.random.default_rng(1).standard_normal((300, 2)), features.time.values, model="toy",
                         layer="m", depth=1.0, dim="time")
    nested = na.encode([features, deep], responses, trf=(0.0, 2.0), alphas=ALPHAS, layer="nested")
    alone = na.encode(features, responses, trf=(0.0, 2.0), alphas=ALPHAS)
    np.testing.assert_allclose(nested.score, alone.score, atol=1e-6)
    wide = make_features(np.random.default_rng(1).standard_normal((300, 80)), features.time.values, model="wide",
                         dim="time")
    assert "dual" in str(attrs_of(na.encode(wide, responses, trf=(0.0, 2.0), alphas=[1.0, 1e7]))["solver"])
    reduced = na.encode(wide, responses, trf=(0.0, 2.0), alphas=[1.0, 1e7], reduce="pca:3")
    assert reduced.score.shape == (2, 1, 2)


@pytest.mark.parametrize("how", ["mean", "lanczos"])
def test_events_are_brought_to_the_samples_and_delayed(how):
    rng = np.random.default_rng(0)
    _, responses = recording()
    words = make_features(rng.standard_normal((200, 2)), [f"w{k}" for k in range(200)], model="lm",
                          coords={"onset": np.sort(rng.uniform(0, 149, 200)), "duration": np.full(200, 0.2)})
    options = {"alphas": [1.0, 1e7], "delays": [0.5, 1.0], "nuisance": "word_rate"}
    scores = na.encode(words, responses, downsample=how, at="offset", **options)
    times = responses.time.values
    series = events_to_samples(words, times, how=how, at="offset")
    counted = {"hrf": None} if how == "mean" else {"how": how}
    rate = events_to_samples(word_rate(words), times, at="offset", **counted)
    assert how != "mean" or rate.max() > 1
    by_hand = na.encode(series, responses, **(options | {"nuisance": rate}))
    np.testing.assert_allclose(scores.score, by_hand.score, atol=1e-5)
    np.testing.assert_allclose(scores.baseline, by_hand.baseline, atol=1e-5)
    told = attrs_of(scores)
    assert told["downsample"] == how and told["hrf"] is None and told["at"] == "offset" and told["gap"] == 1.0
    for wrong, message in (({"downsample": "spline"}, "downsample: got 'spline'"),
                           ({"downsample": "mean", "hrf": "spm"}, "give one of them"),
                           ({}, "hrf='glover'")):
        with pytest.raises(ValueError, match=message):
            na.encode(words, responses, **wrong)


@pytest.mark.parametrize(("change", "options", "words"), [
    (lambda f, r: (f, r), {"delays": [0, 0.7]}, r"delays: '0.7' s are not whole samples"),
    (lambda f, r: (f, r), {"delays": [0], "trf": (0, 1)}, r"not both"),
    (lambda f, r: (f, r), {"trf": 0.5}, r"trf: got 0.5, expected two numbers"),
    (lambda f, r: (f, r), {"trf": (1, 0)}, r"tmin, tmax: got 1 and 0"),
    (lambda f, r: (f[:, :1].rename(time="stimulus").assign_coords(stimulus_id=("stimulus", np.arange(300))),
                   r.rename(time="stimulus").assign_coords(stimulus_id=("stimulus", np.arange(300)))),
     {"delays": [0]}, r"delays: the responses stand on 'stimulus'"),
    (lambda f, r: (f.drop_isel(time=9), r.drop_isel(time=9)), {"trf": (0, 1)}, r"do not follow each other by one step"),
])
def test_wrong_delays_are_explained(change, options, words):
    with pytest.raises(ValueError, match=words):
        na.encode(*change(*recording()), **options)


def series(n=240, p=2, t=3, seed=0):
    rng = np.random.default_rng(seed)
    X = np.cumsum(rng.standard_normal((n, p)), 0) * 0.2 + rng.standard_normal((n, p)) + 3
    Y = shift_rows(X, 2) @ rng.standard_normal((p, t)) + rng.standard_normal((n, t))
    return X, Y


def by_hand(D, Y, alpha, standardize):
    """Ridge with an intercept in float64, one solve."""
    mean, sd = D.mean(0), D.std(0) if standardize else np.ones(D.shape[1])
    Z = (D - mean) / sd
    w = np.linalg.solve(Z.T @ Z + alpha * np.eye(len(mean)), Z.T @ (Y - Y.mean(0))) / sd[:, None]
    return w, Y.mean(0) - mean @ w


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize(("tmin", "tmax"), [(-0.3, 0.5), (0.2, 0.6), (-0.5, -0.1), (0.0, 0.0)])
def test_weights_equal_a_solve_with_the_delayed_matrix(tmin, tmax, standardize):
    X, Y = series()
    runs = np.repeat([2, 0, 1], [100, 90, 50])
    fit = trf_cv(X, Y, tmin=tmin, tmax=tmax, sfreq=10, runs=runs, alphas=[3.0], standardize=standardize, device="cpu")
    delays = np.arange(round(tmin * 10), round(tmax * 10) + 1)
    np.testing.assert_allclose(fit.weights.delay, delays / 10)
    D = np.concatenate([shift_rows(X, k, runs) for k in delays], 1)
    w, intercept = by_hand(D, Y, 3.0, standardize)
    expected = w.reshape(len(delays), 2, 3).transpose(1, 0, 2)
    np.testing.assert_allclose(fit.weights, expected, atol=1e-9)
    np.testing.assert_allclose(fit.intercept, intercept, atol=1e-9)
    new = series(seed=1)[0]
    moved = np.concatenate([shift_rows(new, k, runs) for k in delays], 1)
    np.testing.assert_allclose(fit.predict(new, runs), moved @ w + intercept, atol=1e-8)


def fold_sets():
    shuffled = np.random.default_rng(0).permutation(np.arange(240) % 3)
    return {"blocks": make_folds("blocks", 240, n_splits=4, gap=6), "shuffled": make_folds(shuffled, 240)}


@pytest.mark.parametrize("folds", ["blocks", "shuffled"])
@pytest.mark.parametrize("standardize", [True, False])
def test_penalties_and_losses_equal_those_of_the_delayed_matrix(folds, standardize):
    X, Y = series()
    Y = np.c_[Y, np.full(240, 2.0), Y[:, 0]]
    Y[5, 4] = np.nan
    runs, alphas, folds = np.repeat([0, 1], [130, 110]), np.logspace(-3, 5, 9), fold_sets()[folds]
    fit = trf_cv(X, Y, tmin=-0.2, tmax=0.4, sfreq=10, runs=runs, alphas=alphas, inner_folds=folds,
                 standardize=standardize)
    D = np.concatenate([shift_rows(X, k, runs) for k in range(-2, 5)], 1)
    loss = np.zeros((9, 3))
    for train, test in folds:
        for k, alpha in enumerate(alphas):
            w, intercept = by_hand(D[train], Y[train, :3], alpha, standardize)
            loss[k] += ((D[test] @ w + intercept - Y[test, :3]) ** 2).sum(0)
    loss /= sum(len(test) for _, test in folds)
    np.testing.assert_allclose(fit.loss[:, :3], loss, rtol=1e-7)
    np.testing.assert_array_equal(fit.best_alpha[:3], alphas[loss.argmin(0)])
    assert np.isnan(fit.best_alpha[3:]).all() and np.isnan(fit.weights.values[..., 3:]).all()
    explicit = ridge_cv(D, Y, alphas=alphas, inner_folds=folds, standardize=standardize)
    np.testing.assert_allclose(fit.weights.values.transpose(1, 0, 2).reshape(14, 5), explicit.coef, atol=1e-5)


def test_features_far_from_zero_keep_what_varies():
    X, Y = series()
    far, train, test = X + [1e6, -1e5], np.arange(30, 180), np.arange(190, 240)
    D = np.concatenate([shift_rows(far, k) for k in range(4)], 1)
    center = np.tile(far.mean(0), 4)
    w, intercept = by_hand(D[train] - center, Y[train], 1.0, True)
    plan = lagged.plan_lagged(far, np.arange(4), train=train, test=test, alphas=[1.0], device="cpu")
    np.testing.assert_allclose(plan.predict(Y, train)[0], (D[test] - center) @ w + intercept, atol=1e-4)
    fit = trf_cv(far, Y, tmin=0, tmax=0.3, sfreq=10, alphas=[1.0])
    w, intercept = by_hand(D - center, Y, 1.0, True)
    np.testing.assert_allclose(fit.predict(far), (D - center) @ w + intercept, atol=1e-4)


def test_targets_in_chunks_and_features_without_spread(monkeypatch):
    X, Y = series()
    X = np.c_[X, np.full(240, 7.0), np.zeros(240)]
    options = {"tmin": 0.0, "tmax": 0.4, "sfreq": 10, "alphas": [1.0, 100.0], "inner_folds": fold_sets()["blocks"]}
    whole = trf_cv(X, Y, **options)
    assert (whole.weights.values[3] == 0).all() and np.isfinite(whole.weights.values).all()
    monkeypatch.setattr(lagged, "rows_per_chunk", lambda *a, **k: 1)
    np.testing.assert_allclose(trf_cv(X, Y, **options).weights, whole.weights, atol=1e-12)


@pytest.mark.parametrize("standardize", [True, False])
def test_folds_of_wide_problems_are_decomposed_in_float32_where_that_is_enough(standardize, monkeypatch):
    X, Y = series(n=1200)
    folds = make_folds("blocks", 1200, n_splits=3, gap=6)
    options = {"tmin": -0.2, "tmax": 0.4, "sfreq": 10, "standardize": standardize, "inner_folds": folds}
    alphas = np.array([3000.0, 1e5])
    wide = trf_cv(X, Y, alphas=alphas, **options)
    monkeypatch.setattr(lagged, "WIDE", 0)
    narrow = trf_cv(X, Y, alphas=alphas, **options)
    assert np.abs(narrow.loss - wide.loss).max() > 0
    np.testing.assert_allclose(narrow.loss, wide.loss, rtol=1e-5)
    np.testing.assert_array_equal(narrow.weights, wide.weights)
    small = [0.01, 0.1]  # asks for more
    precise = trf_cv(X, Y, alphas=small, **options)
    monkeypatch.undo()
    np.testing.assert_array_equal(precise.loss, trf_cv(X, Y, alphas=small, **options).loss)


def test_the_delayed_matrix_is_never_made(monkeypatch):
    X, Y = series(n=2000, p=4)
    sizes, chunks = [], lagged_series.LaggedSeries.chunks

    def watched(self, rows):
        for where, block in chunks(self, rows):
            sizes.append(len(block))
            yield where, block

    monkeypatch.setattr(lagged_series.LaggedSeries, "chunks", watched)
    monkeypatch.setattr(lagged_series, "CHUNK", 2**13)
    fit = trf_cv(X, Y, tmin=0.0, tmax=0.31, sfreq=100, alphas=[1.0])
    fit.predict(X)
    assert max(sizes) == 64 and sum(sizes) == 2000  # for predictions; fits take spectra
    assert fit.weights.shape == (4, 32, 3)


def test_weights_equal_mtrf_with_its_scaling():
    mtrf = pytest.importorskip("mtrf")
    X, Y = series()
    trials = [(X[:100], Y[:100]), (X[100:180], Y[100:180]), (X[180:], Y[180:])]
    theirs = mtrf.TRF()
    theirs.train([x for x, _ in trials], [y for _, y in trials], 10, -0.2, 0.5, 0.7)
    # mTRFpy averages covariances over trials, and divides the penalty and the weights by the step.
    ours = trf_cv(X, Y, tmin=-0.2, tmax=0.5, sfreq=10, alphas=[0.7 * 10 * 3], standardize=False,
                  runs=np.repeat([0, 1, 2], [100, 80, 60]))
    np.testing.assert_allclose(ours.weights.values * 10, theirs.weights, atol=1e-6)
    np.testing.assert_allclose(ours.intercept * 10, np.ravel(theirs.bias), atol=1e-5)


def test_weights_equal_mne_where_the_edges_are_silent():
    from mne.decoding import ReceptiveField

    X, Y = series()
    X[:8], X[-8:] = 0, 0
    X[8:-8] -= X[8:-8].mean(0)
    theirs = ReceptiveField(-0.2, 0.5, 10, estimator=5.0).fit(X, Y)
    ours = trf_cv(X, Y, tmin=-0.2, tmax=0.5, sfreq=10, alphas=[5.0], standardize=False)
    np.testing.assert_allclose(ours.weights.transpose("neuroid", "feature", "delay"), theirs.coef_, atol=1e-8)
    # Elsewhere MNE takes the mean of a feature, not zero, for what came before the recording.
    X = series()[0]
    theirs = ReceptiveField(-0.2, 0.5, 10, estimator=5.0).fit(X, Y)
    ours = trf_cv(X, Y, tmin=-0.2, tmax=0.5, sfreq=10, alphas=[5.0], standardize=False)
    assert 1e-4 < np.abs(ours.weights.transpose("neuroid", "feature", "delay") - theirs.coef_).max() < 0.3


def test_a_planted_response_is_recovered_with_its_labels():
    features, responses = recording(n=600, later=(1, 3), noise=0.3)
    fit = trf_cv(features, responses, tmin=-0.5, tmax=2.0, alphas=[0.1])
    assert fit.weights.dims == ("feature", "delay", "neuroid")
    assert fit.weights.neuroid_id.values.tolist() == ["v0", "v1", "v2"]
    there = fit.weights.sel(delay=[0.5, 1.5])
    assert np.abs(there).min() > 3 * np.abs(fit.weights.drop_sel(delay=[0.5, 1.5])).max()
    again = fit.predict(features)
    assert np.corrcoef(again[:, 0], responses.values[:, 0])[0, 1] > 0.9


@parametrize_with_checks([TRFEncoder(alphas=[0.01, 1.0])])
def test_scikit_learn_estimator_checks(estimator, check):
    check(estimator)


def test_the_encoder_is_trf_cv_with_blocks():
    X, Y = series()
    runs = np.repeat([0, 1], [130, 110])
    encoder = TRFEncoder(0.0, 0.4, 10, ALPHAS).fit(X, Y, runs=runs)
    folds = make_folds("blocks", 240, n_splits=5, gap=4, runs=runs)
    fit = trf_cv(X, Y, tmin=0.0, tmax=0.4, sfreq=10, alphas=ALPHAS, inner_folds=folds, runs=runs)
    np.testing.assert_array_equal(encoder.coef_, fit.weights.transpose("neuroid", "feature", "delay"))
    np.testing.assert_allclose(encoder.predict(X, runs), fit.predict(X, runs))
    one = TRFEncoder(0.0, 0.4, 10, ALPHAS).fit(X, Y[:, 0], runs=runs)
    assert one.coef_.shape == (2, 5) and one.predict(X).shape == (240,) and isinstance(one.intercept_, float)
    features, responses = recording()
    labelled = TRFEncoder(0.0, 1.0, 2, ALPHAS, gap=2.0).fit(features, responses)
    assert labelled.weights_.neuroid_id.values.tolist() == ["v0", "v1", "v2"]
    assert labelled.delays_.tolist() == [0.0, 0.5, 1.0]


def test_the_encoder_minds_the_clock_and_labels_what_it_predicts():
    features, responses = recording(runs=(130, 90, 80))
    encoder = TRFEncoder(0.0, 1.0, 2, [1.0]).fit(features, responses)
    predicted = encoder.predict(features)
    assert predicted.dims == ("time", "neuroid") and predicted.neuroid_id.values.tolist() == ["v0", "v1", "v2"]
    np.testing.assert_array_equal([predicted.time, predicted.run], [features.time, features.run])
    np.testing.assert_array_equal(predicted, encoder.predict(features.values, features.run.values))
    assert 0.5 < encoder.score(features, responses) < 1
    assert isinstance(clone(encoder).fit(features, responses.values).predict(features), np.ndarray)
    one = clone(encoder).fit(features, responses[:, 0])
    assert one.predict(features).dims == ("time",)
    np.testing.assert_allclose(one.predict(features), predicted[:, 0], atol=1e-9)
    message = r"sfreq: got 100 samples a second, expected the 2 of the clock of X.*Set sfreq=2\."
    wrong = TRFEncoder(0.0, 1.0, 100, [1.0])
    for call in (lambda: wrong.fit(features, responses),
                 lambda: trf_cv(features, responses, tmin=0, tmax=1, sfreq=100, alphas=[1.0])):
        with pytest.raises(ValueError, match=message):
            call()
    faster = features.assign_coords(time=features.time / 2)
    with pytest.raises(ValueError, match="sfreq: got 2 samples a second, expected the 4 of the clock of X"):
        encoder.predict(faster)
    with pytest.raises(ValueError, match="expected the 2 of the clock of y"):
        wrong.fit(features.values, responses)
    with pytest.raises(NotAligned, match="time differs in 300 of 300 rows"):
        encoder.fit(features, responses.assign_coords(time=responses.time + 1))
    with pytest.raises(ValueError, match="do not follow each other by one step"):
        encoder.fit(features[np.r_[:40, 60:300]], responses[np.r_[:40, 60:300]])
    # Runs that are named in the call divide a clock that starts again; a clock in whole ms is near enough.
    plain = features.drop_vars("run"), responses.drop_vars("run")
    np.testing.assert_array_equal(clone(encoder).fit(*plain, runs=features.run.values).coef_, encoder.coef_)
    clock = np.round(np.arange(300) / 128, 3)
    rounded = xr.DataArray(features.values, dims=("time", "feature"), coords={"time": clock})
    assert TRFEncoder(0.0, 0.04, 128, [1.0]).fit(rounded, responses.values).coef_.shape == (3, 2, 6)


def test_runs_come_from_the_responses_where_features_do_not_say():
    features, responses = recording(runs=(130, 170))
    running = features.drop_vars("run").assign_coords(time=np.arange(300) * 0.5)
    followed = responses.assign_coords(time=running.time)
    options = {"tmin": 0.0, "tmax": 2.0, "alphas": [1.0]}
    expected = trf_cv(features, responses, **options).weights.values
    for X, more in ((running, {}), (features.values, {"sfreq": 2})):
        np.testing.assert_array_equal(trf_cv(X, followed, **options, **more).weights, expected)
        fitted = TRFEncoder(0.0, 2.0, 2, [1.0]).fit(X, followed)
        np.testing.assert_array_equal(fitted.coef_, expected.transpose(2, 0, 1))
    again = features.drop_vars("run"), responses.values
    np.testing.assert_array_equal(trf_cv(*again, **options, runs=features.run.values).weights, expected)


def test_a_fit_predicts_at_its_own_rate_and_keeps_its_gap():
    features, responses = recording()
    fit = trf_cv(features, responses, tmin=0.0, tmax=1.0, alphas=[1.0])
    assert fit.predict(features.values).shape == (300, 3)
    with pytest.raises(ValueError, match="sfreq: got 2 samples a second, expected the 4 of the clock of X"):
        fit.predict(features.assign_coords(time=features.time / 2))
    with pytest.raises(ValueError, match="gap: got 0.5 s, shorter than the longest delay, 1 s"):
        TRFEncoder(0.0, 1.0, 2, ALPHAS, gap=0.5).fit(features, responses)


def test_each_delay_is_scored_by_itself():
    features, responses = recording(runs=(150, 150), later=(2,), noise=0.5)
    scores = lag_scores(features, responses, tmin=-0.5, tmax=1.5, alphas=ALPHAS, metric="r.pooled")
    assert scores.delay.values.tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5] and scores.space.values[3] == "toy:l:all@1s"
    one = na.encode(delay(features, [1.0]), responses, gap=1.5, alphas=ALPHAS, metric="r.pooled")
    np.testing.assert_allclose(scores.score[:, 3], one.score[:, 0], atol=1e-6)
    others = scores.score.values[0, [0, 1, 2, 4]]
    assert (scores.score.values[0, 3] > 0.5).all() and np.abs(others).max() < 0.35
    with pytest.raises(ValueError, match="shorter than the longest delay, 1.5 s"):
        lag_scores(features, responses, tmin=0, tmax=1.5, gap=1.0)
    with pytest.raises(ValueError, match=r"features 'toy:l:all': not on 'time'.*events_to_samples"):
        words = features.isel(time=slice(150)).rename(time="stimulus")
        lag_scores(words, responses, tmin=0, tmax=1.5)
    for name, value in (("delays", [1.0]), ("trf", (0, 1))):
        with pytest.raises(ValueError, match=rf"{name}: got .*tmin to tmax by itself. Leave {name} out, or use encode"):
            lag_scores(features, responses, tmin=0, tmax=1.5, **{name: value})


@pytest.mark.parametrize(("change", "words"), [
    ({"tmin": 0.5}, r"tmin, tmax: got 0.5 and 0.3"),
    ({"sfreq": None}, r"sfreq: needed"),
    ({"sfreq": -1}, r"sfreq: got -1"),
    ({"alphas": [1, 2]}, r"inner_folds: needed"),
    ({"alphas": [0]}, r"above 0"),
    ({"Y": np.zeros(240)}, r"expected \(n_samples, n_features\) and"),
    ({"Y": np.zeros((239, 1))}, r"with equal rows"),
    ({"X": np.full((240, 2), np.nan)}, r"NaN or infinite values in features '0', '1'"),
    ({"runs": [1, 2]}, r"runs: got shape \(2,\)"),
    ({"inner_folds": "loo", "alphas": [1, 2]}, r"leave-one-out"),
])
def test_wrong_series_are_explained(change, words):
    X, Y = series()
    with pytest.raises(ValueError, match=words):
        trf_cv(**{"X": X, "Y": Y, "tmin": 0.0, "tmax": 0.3, "sfreq": 10, "alphas": [1.0], **change})
