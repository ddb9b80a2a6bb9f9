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
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import make_folds, repeat_reliability


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


def repeated(noise=(0.5, 0.5, 0.5, 2.9, 3.1, 20.0, 0.5, 3.1, 20.0, 0.5, 20.0), n=40, reps=3, seed=0):
    """Presentations of reliable, doubtful and noisy neuroids in two regions, of which one has few to rely on."""
    rng = np.random.default_rng(seed)
    X, ids = rng.standard_normal((n, 4)), [f"s{i:02d}" for i in range(n)]
    Y = np.repeat(X @ rng.standard_normal((4, len(noise))), reps, 0)
    Y += np.array(noise) * rng.standard_normal(Y.shape)
    responses = make_responses(Y, np.arange(n * reps), [f"v{k}" for k in range(len(noise))], dim="presentation",
                               sample_coords={"stimulus_id": np.repeat(ids, reps)})
    return make_features(X, ids, model="m"), responses.assign_coords(region=("neuroid", ["A"] * 6 + ["B"] * 5))


def selected_by_hand(presented, ids, fold_of, threshold):
    rows = [np.isin(presented.stimulus_id, ids[fold_of != fold]) for fold in range(fold_of.max() + 1)]
    return np.array([repeat_reliability(presented.values[r], presented.stimulus_id.values[r], method="ncsnr")
                     for r in rows]) >= threshold


def brute_selected(target, prediction, known):
    """As `brute`; `known` are the neuroids of each stimulus, and two stimuli are compared by those of both."""
    r = [pearsonr(y[k], p[k])[0] for y, p, k in zip(target, prediction, known) if k.sum() >= 3]
    wins = []
    for i, j in itertools.combinations(range(len(target)), 2):
        both = known[i] & known[j]
        if both.sum() >= 3:
            wins.append(brute(target[[i, j]][:, both], prediction[[i, j]][:, both])[1])
    return np.mean(r) if r else np.nan, np.mean(wins) if wins else np.nan, len(r)


@pytest.mark.filterwarnings("ignore:.*and get no ceiling:neuroalign.errors.NeuroalignWarning")
def test_patterns_are_over_the_neuroids_that_training_rows_select():
    features, responses = repeated()
    options = {"alphas": [5.0], "cv": 5}
    with pytest.warns(NeuroalignWarning) as caught:
        scores = na.encode_stimuli(features, responses, by="region", select_neuroids=0.5, **options)
    encoded = na.encode(features, responses, keep=["prediction"], **options)
    predicted, averaged = encoded.prediction.values[:, 0], na.average_repetitions(responses)
    Y, ids, fold_of = averaged.values.astype(float), averaged.stimulus_id.values, np.array(
        attrs_of(scores)["folds"]["fold_of_sample"])
    kept = selected_by_hand(responses, ids, fold_of, 0.5)
    level = np.stack([Y[fold_of != fold].mean(0) for fold in fold_of])
    counts = []
    for k, columns in enumerate((slice(0, 6), slice(6, 11))):
        known = kept[fold_of][:, columns]
        r, pairs, n = brute_selected((Y - level)[:, columns], (predicted - level)[:, columns], known)
        np.testing.assert_allclose(scores.score.sel(metric="r.stimulus").values[0, k], r, atol=1e-6)
        np.testing.assert_allclose(scores.score.sel(metric="2v2").values[0, k], pairs, atol=1e-6)
        assert scores.n.values[k] == n and scores.selected.values[k] == pytest.approx(kept[:, columns].mean())
        counts.append((kept[:, columns].sum(1) >= 3).sum())
    assert counts[0] == 5 and 0 < counts[1] < 5 and len(np.unique(kept, axis=0)) > 1  # or the test shows nothing
    told = {w.message.code: w.message.ids for w in caught if "pattern" in w.message.code}
    assert told == {"partly-selected-pattern": ("B",)}


def test_a_pattern_without_neuroids_to_rely_on_is_named_and_blank():
    features, responses = repeated(noise=(0.5,) * 8 + (200.0,) * 3)
    with pytest.warns(NeuroalignWarning) as caught:
        scores = na.encode_stimuli(features, responses, by="region", select_neuroids=0.5, alphas=[5.0],
                                   n_permutations=19)
    assert ("1 of 2 patterns have fewer than 3 neuroids selected in every fold and get NaN scores: 'B'."
            in [str(w.message) for w in caught])
    assert np.isfinite(scores.score.values[..., 0]).all() and (scores.p.values[..., 0] == 1 / 20).all()
    assert np.isnan(scores.score.values[..., 1]).all() and np.isnan(scores.p.values[..., 1]).all()
    assert scores.n.values.tolist() == [40, 0] and attrs_of(scores)["nulls"]["permuted"] == "features"


def test_with_nuisance_the_null_keeps_what_it_explains():
    rng = np.random.default_rng(0)
    known, ids = rng.standard_normal((80, 2)), [f"s{i:02d}" for i in range(80)]
    y = make_responses(known @ rng.standard_normal((2, 8)) + rng.standard_normal((80, 8)), ids, list("abcdefgh"))
    nuisance = make_features(known, ids, model="n").rename("known")
    useless = make_features(rng.standard_normal((80, 3)), ids, model="m")
    scores = na.encode_stimuli(useless, y, nuisance=nuisance, n_permutations=39, alphas=[10.0])
    assert (scores.score > [[[0.4]], [[0.8]]]).all() and (scores.p > 0.05).all()
    assert attrs_of(scores)["nulls"]["permuted"] == "residual features"


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
