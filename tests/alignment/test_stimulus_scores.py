"""Scores by stimulus: patterns over neuroids, pairs told apart, against brute force and planted truth."""

import itertools

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import cosine
from scipy.stats import pearsonr

import neuroalign as na
from neuroalign.alignment import pattern_correlation, two_versus_two
from neuroalign.data import make_features, make_responses
from neuroalign.stats import make_folds


def problem(n=40, p=6, t=9, noise=1.0, level=0.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    Y = X @ rng.standard_normal((p, t)) + noise * rng.standard_normal((n, t)) + level * np.arange(1, t + 1)
    ids = [f"s{i:03d}" for i in range(n)]
    responses = make_responses(Y, ids, [f"v{k}" for k in range(t)])
    return make_features(X, ids, model="toy"), responses.assign_coords(region=("neuroid", ["A"] * 4 + ["B"] * (t - 4)))


def brute(target, prediction):
    r = [pearsonr(y, p)[0] for y, p in zip(target, prediction)]
    wins = []
    for i, j in itertools.combinations(range(len(target)), 2):
        right = cosine(target[i], prediction[i]) + cosine(target[j], prediction[j])
        wrong = cosine(target[i], prediction[j]) + cosine(target[j], prediction[i])
        wins.append(0.5 if abs(right - wrong) < 1e-12 else float(right < wrong))
    return np.mean(r), np.mean(wins)


def test_scores_equal_a_brute_force_over_stimuli_and_pairs():
    features, responses = problem()
    scores = na.encode_stimuli(features, responses, by="region", cv=5, alphas=[5.0])
    encoded = na.encode(features, responses, cv=5, alphas=[5.0], keep=["prediction"])
    predicted, measured = encoded.prediction.values[:, 0], responses.values
    folds = make_folds("kfold", len(measured), n_splits=5)
    assert scores.target.values.tolist() == ["A", "B"] and scores.n_neuroids.values.tolist() == [4, 5]
    place = np.argsort(np.argsort(responses.stimulus_id.values))
    level = np.zeros_like(measured)
    for train, test in zip(folds.train[:, place], folds.test[:, place]):
        level[test] = measured[train].mean(0)
    for k, columns in enumerate((slice(0, 4), slice(4, 9))):
        r, pairs = brute((measured - level)[:, columns], (predicted - level)[:, columns])
        assert scores.score.sel(metric="r.stimulus").values[0, k] == pytest.approx(r, abs=1e-4)
        assert scores.score.sel(metric="2v2").values[0, k] == pytest.approx(pairs, abs=3e-3)
    assert scores.baseline.values.tolist() == [[0, 0], [0.5, 0.5]]


def test_chunks_of_pairs_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    y, p = rng.standard_normal((2, 30, 5))
    expected = brute(y, p)[1]
    assert two_versus_two(y, p) == pytest.approx(expected)
    monkeypatch.setattr("neuroalign.alignment.stimulus_scores.ROWS", 7)
    assert two_versus_two(y, p) == pytest.approx(expected)
    np.testing.assert_allclose(pattern_correlation(y, p), [pearsonr(a, b)[0] for a, b in zip(y, p)])
    assert pattern_correlation(y, np.ones_like(y)).tolist() == [0] * 30


def test_the_mean_over_stimuli_says_nothing_unless_it_is_left_in():
    features, responses = problem(noise=1.0, level=3.0)
    useless = features.copy(data=np.random.default_rng(5).standard_normal(features.shape))
    options = {"cv": 5, "alphas": [1e6], "n_permutations": 99}
    fair = na.encode_stimuli(useless, responses, **options)
    assert np.all(np.abs(fair.score.values.ravel() - [0, 0.5]) < [0.25, 0.2])
    assert np.all(fair.p.values > 0.01)
    raw = na.encode_stimuli(useless, responses, centre="none", cv=5, alphas=[1e6])
    assert raw.score.sel(metric="r.stimulus").item() > 0.8  # every stimulus has the same profile over neuroids
    np.testing.assert_allclose(raw.baseline.sel(metric="r.stimulus"), raw.score.sel(metric="r.stimulus").values.ravel(),
                               atol=1e-3)


def test_planted_patterns_are_found_and_the_null_is_centred():
    features, responses = problem(n=60, noise=1.0)
    scores = na.encode_stimuli(features, responses, n_permutations=49, alphas=[1.0, 10.0, 100.0])
    assert scores.score.sel(metric="2v2").item() > 0.9 and np.all(scores.p.values == 1 / 50)
    assert abs(scores.null_mean.sel(metric="2v2").item() - 0.5) < 0.06
    assert abs(scores.null_mean.sel(metric="r.stimulus").item()) < 0.12


def test_time_bins_are_scored_apart():
    features, responses = problem(n=50)
    noise = responses.copy(data=np.random.default_rng(2).standard_normal(responses.shape))
    binned = xr.concat([responses, noise], "time_bin").assign_coords(time_bin=[0.0, 0.1])
    binned = binned.transpose("stimulus", "neuroid", "time_bin").assign_attrs(responses.attrs)
    scores = na.encode_stimuli(features, binned, metric="2v2", cv=5, alphas=[1.0, 10.0, 1e3, 1e5])
    assert scores.score.dims == ("metric", "space", "target", "time_bin")
    assert scores.score.values.ravel()[0] > 0.9 > 0.7 > scores.score.values.ravel()[1]


def test_bad_questions_are_explained():
    features, responses = problem()
    with pytest.raises(ValueError, match="'r.pooled' belongs to `encode`; expected one of r.stimulus, 2v2"):
        na.encode_stimuli(features, responses, metric="r.pooled")
    with pytest.raises(ValueError, match="'2v2' belongs to `encode_stimuli`"):
        na.encode(features, responses, metric="2v2")
    with pytest.raises(ValueError, match=r"by: no coord 'area' on 'neuroid'; found .*region"):
        na.encode_stimuli(features, responses, by="area")
    with pytest.raises(ValueError, match="'C' has 2 usable neuroids"):
        na.encode_stimuli(features, responses.assign_coords(region=("neuroid", ["A"] * 7 + ["C"] * 2)), by="region")


def test_a_report_shows_them(tmp_path):
    features, responses = problem()
    scores = na.encode_stimuli(features, responses, by="region", n_permutations=19, alphas=[1.0, 100.0])
    path = na.report([scores], tmp_path / "report.html")
    text = path.read_text()
    assert "2v2" in text and "r.stimulus" in text and "Mitchell" in text
