"""Calibration: what share of unrelated, autocorrelated neuroids is found, and what a naive null makes of them."""

import numpy as np
import pytest
from scipy.signal import lfilter

import neuroalign as na
from neuroalign.alignment import progress
from neuroalign.alignment.nulls import Tally
from neuroalign.data import make_features, make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import permutation_p


def autocorrelated(shape, rng, ar=0.9):
    return lfilter([1.0], [1.0, -ar], rng.standard_normal((shape[0] + 200, *shape[1:])), axis=0)[200:]


def false_positives(null, n_spaces, n_neuroids, n_permutations, **options):
    rng = np.random.default_rng(0)
    times = np.arange(400.0)
    features = [make_features(autocorrelated((400, 5), rng), times, model=f"m{k}", dim="time")
                for k in range(n_spaces)]
    responses = make_responses(autocorrelated((400, n_neuroids), rng), times, [f"v{k}" for k in range(n_neuroids)],
                               dim="time", kind="eeg", sfreq=1.0)
    scores = na.encode(features, responses, metric="r.pooled", n_permutations=n_permutations, null=null, gap=20.0,
                       alphas=np.logspace(0, 7, 5), **options)
    return float((scores.p <= 0.05).mean())


@pytest.mark.parametrize("null", ["shift", "block"])
def test_nulls_that_keep_autocorrelation_keep_their_level(null):
    # 600 tests at .05 that share 6 feature series: the standard deviation of the rate is about .015.
    assert 0.015 <= false_positives(null, 6, 100, 59, block=40.0) <= 0.095


@pytest.mark.parametrize("call", [na.encode, na.encode_stimuli, na.encode_banded])
@pytest.mark.parametrize("with_nuisance", [False, True])
def test_a_bar_shows_how_far_a_long_null_is(call, with_nuisance, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    rng, ids = np.random.default_rng(0), [f"s{k}" for k in range(30)]
    x, w = (make_features(rng.standard_normal((30, 3)), ids, model=m) for m in ("m", "w"))
    y = make_responses(rng.standard_normal((30, 4)), ids, list("abcd"))
    options = {"n_permutations": 19, "alphas": 1.0, "nuisance": w if with_nuisance else None}
    call(x, y, progress=False, **options)
    assert capsys.readouterr().err == ""
    call(x, y, **options)
    assert "m::all: null: 100%" in capsys.readouterr().err


def test_shuffled_folds_and_samples_do_not():
    with pytest.warns(NeuroalignWarning) as caught:
        assert false_positives("permute", 3, 100, 39, cv="shuffled", inner_cv="shuffled") > 0.2
    assert {"shuffled-time-series", "shuffled-null"} <= {w.message.code for w in caught}


@pytest.mark.slow
@pytest.mark.parametrize("null", ["shift", "block"])
def test_calibration_at_full_size(null):
    # Features and targets with AR(1) .9, n 1,000: 2,000 neuroids, fresh features for each 100 of them.
    rng, found = np.random.default_rng(3), []
    times = np.arange(1000.0)
    for k in range(20):
        x = make_features(autocorrelated((1000, 5), rng), times, model=f"m{k}", dim="time")
        y = make_responses(autocorrelated((1000, 100), rng), times, [f"v{i}" for i in range(100)], dim="time",
                           kind="eeg", sfreq=1.0)
        scores = na.encode(x, y, metric="r.pooled", n_permutations=199, null=null, gap=20.0, block=50.0,
                           alphas=np.logspace(0, 7, 5), random_state=k)
        found.append(scores.p.values.ravel() <= 0.05)
    assert 0.035 <= np.mean(found) <= 0.065


def test_too_few_independent_samples_are_told():
    rng, times = np.random.default_rng(4), np.arange(362.0)
    x = make_features(autocorrelated((362, 5), rng, 0.95), times, model="slow", dim="time")
    y = make_responses(autocorrelated((362, 20), rng, 0.95), times, [f"v{i}" for i in range(20)], dim="time",
                       kind="fmri", sfreq=1.0)
    with pytest.warns(NeuroalignWarning, match=r"about \d+ independent samples in 'slow::all'"):
        scores = na.encode(x, y, n_permutations=19, alphas=np.logspace(0, 7, 5))
    assert 15 <= na.scores.attrs_of(scores)["nulls"]["independent_samples"] < 30


def test_planted_sites_are_found_and_others_are_not():
    rng = np.random.default_rng(1)
    x = make_features(rng.standard_normal((200, 5)), [f"s{k}" for k in range(200)], model="cause")
    driven = np.arange(60) < 20
    y = na.simulate.brain(x, sites=60, driven=driven, snr=0.3)
    scores = na.encode(x, y, metric="r.pooled", n_permutations=199)
    found = scores.q.values[0, 0] <= 0.05
    assert found[driven].mean() >= 0.9
    assert (found & ~driven).sum() <= 0.15 * found.sum()


def test_the_tally_counts_as_permutation_p_does():
    rng = np.random.default_rng(2)
    score, null = rng.standard_normal((2, 4)), rng.standard_normal((30, 2, 4))
    score[0, 1] = np.nan
    tally = Tally(score, keep=30)
    for one in null:
        tally.add(one)
    np.testing.assert_allclose(tally.p, permutation_p(score, null))
    np.testing.assert_allclose(tally.mean, null.mean(0))
    np.testing.assert_allclose(tally.sd, null.std(0, ddof=1))
    np.testing.assert_allclose(tally.kept, null, rtol=1e-6)
