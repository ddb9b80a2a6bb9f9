"""Baselines beside a table: time alone, shuffled features; and the blocks that nulls and resamples are made of."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge

import neuroalign as na
from neuroalign.alignment.baselines import drift_columns
from neuroalign.alignment.splits import make_layout, make_permutations
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import make_folds, row_permutations

pytestmark = pytest.mark.filterwarnings("ignore:.*the smallest attainable p:neuroalign.errors.NeuroalignWarning")
FAST = {"metric": "r.pooled", "alphas": [10.0]}


def series(n=200, trend=3.0, ar=0.0, seed=0, t=3):
    rng = np.random.default_rng(seed)
    times = np.arange(float(n))
    x = make_features(rng.standard_normal((n, 2)), times, model="m", dim="time")
    noise = lfilter([1.0], [1.0, -ar], rng.standard_normal((n, t)), axis=0)
    slow = trend * np.sin(2 * np.pi * times / n)[:, None]
    return x, make_responses(slow + noise, times, [f"v{k}" for k in range(t)], dim="time", kind="ecog", sfreq=1.0)


def test_drift_is_a_ridge_on_cosines_of_the_order_in_time():
    features, responses = series()
    scores = na.encode(features, responses, **FAST)
    columns, Y = drift_columns(200), responses.values
    k = np.arange(1, 21)
    np.testing.assert_allclose(columns, np.cos(np.pi * k * (2 * np.arange(200)[:, None] + 1) / 400), atol=1e-12)
    P = np.zeros(Y.shape)
    for train, test in make_folds("blocks", 200, gap=1):
        mean, sd = columns[train].mean(0), columns[train].std(0)
        P[test] = Ridge(alpha=10.0).fit((columns[train] - mean) / sd, Y[train]).predict((columns[test] - mean) / sd)
    expected = [pearsonr(P[:, c], Y[:, c])[0] for c in range(3)]
    np.testing.assert_allclose(scores.drift.sel(metric="r.pooled"), expected, atol=1e-4)


def test_shuffled_folds_let_time_alone_predict_and_blocks_do_not():
    features, responses = series(trend=0.0, ar=0.95, n=300)
    honest = na.encode(features, responses, **FAST)
    with pytest.warns(NeuroalignWarning, match="shuffled"):
        leaky = na.encode(features, responses, cv="shuffled", **FAST)
    assert (leaky.drift > 0.6).all() and (honest.drift < 0.4).all()


def test_stimuli_without_an_order_have_no_drift():
    rng, ids = np.random.default_rng(0), [f"s{i:02d}" for i in range(60)]
    x = make_features(rng.standard_normal((60, 2)), ids, model="m")
    y = make_responses(rng.standard_normal((60, 2)), ids, ["a", "b"])
    assert "drift" not in na.encode(x, y, **FAST) and "shuffled" not in na.encode(x, y, **FAST)
    with pytest.raises(ValueError, match="these stimuli have none"):
        na.encode(x, y, baselines=["drift"], **FAST)
    with pytest.raises(ValueError, match="Did you mean 'shuffled'"):
        na.encode(x, y, baselines=["shuffle"], **FAST)
    assert "drift" not in na.encode(*series(), baselines=[], **FAST)


def test_shuffled_features_score_as_their_refits_do():
    rng, ids = np.random.default_rng(0), [f"s{i:02d}" for i in range(60)]
    x = make_features(rng.standard_normal((60, 2)), ids, model="m")
    y = make_responses(x.values @ rng.standard_normal((2, 3)) + 0.3 * rng.standard_normal((60, 3)), ids, list("abc"))
    scores = na.encode(x, y, baselines="shuffled", **FAST)
    again = [na.encode(x.copy(data=x.values[order]), y, **FAST).score.values for order in row_permutations(60, 5)]
    np.testing.assert_allclose(scores.shuffled, np.mean(again, 0), atol=1e-5)
    assert (scores.shuffled < 0.3).all() and (scores.score > 0.8).all()
    # with nuisance the null permutes features: its mean is the same thing from more shuffles
    known = x[:, 0].rename("known").drop_vars("space_id")
    scores = na.encode(x, y, nuisance=known, baselines=["shuffled"], n_permutations=12, **FAST)
    np.testing.assert_allclose(scores.shuffled, scores.null_mean)
    banded = na.encode_banded([x], y, baselines=["shuffled"], alphas=[10.0])
    assert (banded.shuffled < 0.3).all() and banded.shuffled.dims == ("metric", "space", "neuroid")


def test_blocks_are_five_autocorrelation_times_long_and_say_so():
    told = {}
    for ar in (0.0, 0.9):
        features, responses = series(n=2000, trend=0.0, ar=ar, t=5)
        scores = na.encode(features, responses, n_bootstraps=40, null="block", n_permutations=3, baselines=[],
                           **FAST)
        told[ar] = attrs_of(scores)["blocks"]
        assert f"blocks of {told[ar]['samples']} samples" in attrs_of(scores)["interval"]
        layout = make_layout(responses, None, None, None)
        _, orders = make_permutations(layout, "block", 3, min_shift=0.1, block=None, events=None, random_state=0)
        breaks = (np.diff(orders, axis=1) != 1).sum(1).max()
        assert breaks <= 2000 // told[ar]["samples"] - 1
    assert told[0.0]["samples"] == 50 and not told[0.0]["given"]  # never fewer
    assert 75 <= told[0.9]["samples"] <= 95  # 1 + 2 sum of .9^k down to .05: about 17.3 samples
    assert told[0.9]["samples"] == int(np.ceil(5 * told[0.9]["autocorrelation_seconds"]))
    short = attrs_of(na.encode(*series(n=120, ar=0.9), **FAST))["blocks"]
    assert short["samples"] == 12  # a tenth of the series: ten blocks are left to permute
    assert attrs_of(na.encode(*series(), block=30.0, **FAST))["blocks"] == {
        "samples": 30, "seconds": 30.0, "autocorrelation_seconds": pytest.approx(
            attrs_of(na.encode(*series(), **FAST))["blocks"]["autocorrelation_seconds"]), "given": True}
