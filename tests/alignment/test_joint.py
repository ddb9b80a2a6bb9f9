"""Banded ridge on labelled arrays: against the array function fold by fold, and against `encode`."""

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

import neuroalign as na
from neuroalign.alignment.banded import banded_ridge_cv
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of, concat, diff, load, save, to_frame, validate
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import expanded_interval, make_folds, row_permutations, shift_permutations

pytestmark = pytest.mark.filterwarnings("ignore:.*the smallest attainable p:neuroalign.errors.NeuroalignWarning")

ALPHAS = [0.01, 1.0, 100.0, 1e4, 1e6]
FEW = {"alphas": ALPHAS, "n_splits": 3, "n_inner_splits": 3, "n_candidates": 6}


def toy(n=60, widths=(4, 9), t=3, noise=1.0, seed=0, dim="stimulus", **options):
    """Spaces "a", "b" ...; the first neuroid is driven by the first space, the second by the second, others by all."""
    rng = np.random.default_rng(seed)
    ids = [f"s{k:03d}" for k in range(n)] if dim == "stimulus" else np.arange(n) * 2.0
    xs = [rng.standard_normal((n, p)) for p in widths]
    share = np.concatenate([np.eye(len(widths)), np.ones((t, len(widths)))])[:t]
    y = sum(x @ rng.standard_normal((x.shape[1], t)) / np.sqrt(x.shape[1]) * s for x, s in zip(xs, share.T))
    y = y + noise * rng.standard_normal((n, t))
    spaces = {name: make_features(x, ids, model=name, dim=dim) for name, x in zip("abcde", xs)}
    return spaces, make_responses(y, ids, [f"v{k}" for k in range(t)], dim=dim, **options)


def test_each_fold_is_a_banded_ridge():
    spaces, responses = toy(noise=0.5)
    scores = na.encode_banded(spaces, responses, keep=["prediction", "fold_score"], refine=2, **FEW)
    Y, P, gammas, added = responses.values.astype(float), np.empty((60, 3)), [], np.empty((2, 60, 3))
    for train, test in make_folds("kfold", 60, n_splits=3):
        Xs = [spaces[k].values for k in "ab"]
        fit = banded_ridge_cv([X[train] for X in Xs], Y[train], alphas=ALPHAS, n_candidates=6, refine=2,
                              inner_folds=make_folds("kfold", 40, n_splits=3))
        P[test], added[:, test] = fit.predict([X[test] for X in Xs]), fit.predict_bands([X[test] for X in Xs])
        gammas.append(fit.gammas)
    np.testing.assert_allclose(scores.prediction.values[:, 0], P, atol=2e-3)
    r2 = r2_score(Y, P, multioutput="raw_values")
    np.testing.assert_allclose(scores.score.sel(metric="r2.pooled").values[0], r2, atol=1e-3)
    np.testing.assert_allclose(scores.gamma.values[:2, 0], np.mean(gammas, 0), atol=1e-2)
    assert scores.band.values.tolist() == ["a", "b", "intercept"] and np.isnan(scores.gamma.values[2]).all()
    np.testing.assert_allclose(scores.contribution.sum("band"), scores.score.sel(metric="r2.pooled"), atol=1e-6)
    y = Y - Y.mean(0)
    by_hand = (added * (2 * y - (P - Y.mean(0)))).sum(1) / (y**2).sum(0)
    np.testing.assert_allclose(scores.contribution.values[:2, 0], by_hand, atol=2e-3)
    assert scores.contribution.argmax("band").values[0, :2].tolist() == [0, 1]


def test_the_result_is_scores_and_says_how_it_was_made(tmp_path):
    spaces, responses = toy(noise=3.0)
    scores = validate(na.encode_banded(spaces, responses, random_state=2, **FEW))
    told = attrs_of(scores)
    assert scores.score.dims == ("metric", "space", "neuroid") and scores.space.values.tolist() == ["a + b"]
    assert told["analysis"] == "encode_banded" and told["bands"] == {"a": ["a"], "b": ["b"]}
    assert told["n_candidates"] == 6 and told["random_state"] == 2 and told["solver"]["a + b"].startswith("banded")
    assert set(told["fingerprints"]) == {"responses", "a", "b"} and scores.n_features.item() == 13
    xr.testing.assert_identical(load(save(scores, tmp_path / "s.nc")), scores)
    assert len(to_frame(scores)) == 6
    plain = na.encode(spaces, responses, alphas=ALPHAS, n_splits=3, n_inner_splits=3)
    both = concat([plain, scores])
    assert both.space.values.tolist() == ["a", "b", "a + b"]
    assert na.plot.bars(both, "r2.pooled") is not None


def test_the_order_of_the_spaces_changes_nothing():
    spaces, responses = toy()
    one = na.encode_banded(spaces, responses, **FEW)
    other = na.encode_banded({k: spaces[k] for k in "ba"}, responses, **FEW)
    xr.testing.assert_equal(one, other)


def test_one_space_is_plain_encoding():
    spaces, responses = toy()
    plain = na.encode({"a": spaces["a"]}, responses, alphas=ALPHAS, n_splits=3, n_inner_splits=3)
    alone = na.encode_banded({"a": spaces["a"]}, responses, **FEW)
    np.testing.assert_allclose(alone.score, plain.score, atol=1e-5)
    np.testing.assert_array_equal(alone.best_alpha, plain.best_alpha)
    assert attrs_of(alone)["n_candidates"] == 1


def test_spaces_can_share_a_band():
    spaces, responses = toy(widths=(4, 9, 3))
    scores = na.encode_banded(spaces, responses, bands={"vision": ["a", "c"], "language": "b"}, **FEW)
    assert scores.band.values.tolist() == ["language", "vision", "intercept"]
    ids = spaces["a"].stimulus_id.values
    joined = make_features(np.c_[spaces["a"].values, spaces["c"].values], ids, model="vision")
    again = na.encode_banded({"language": spaces["b"], "vision": joined}, responses, **FEW)
    np.testing.assert_allclose(scores.score, again.score, atol=1e-5)
    two = na.encode_banded(spaces, responses, bands={"x": ["a"], "y": ["b"]}, **FEW)
    assert two.space.item() == "x + y" and two.n_features.item() == 13
    for wrong, words in (({"x": ["d"]}, "unknown spaces 'd'"), ({"x": ["a"], "y": ["a", "b"]}, "in two bands"),
                         ({"x": []}, "empty band")):
        with pytest.raises(ValueError, match=words):
            na.encode_banded(spaces, responses, bands=wrong, **FEW)


def test_nuisance_is_a_band_of_its_own():
    spaces, responses = toy()
    length = spaces["a"].values[:, 0] + 0.3 * np.random.default_rng(2).standard_normal(60)
    spaces["a"] = spaces["a"].assign_coords(length=("stimulus", length))
    scores = na.encode_banded(spaces, responses, nuisance="length", **FEW)
    assert scores.band.values.tolist() == ["nuisance", "a", "b", "intercept"]
    np.testing.assert_allclose(scores.contribution.sum("band"), scores.score.sel(metric="r2.pooled"), atol=1e-6)
    plain = na.encode(spaces, responses, nuisance="length", alphas=ALPHAS, n_splits=3, n_inner_splits=3)
    np.testing.assert_allclose(scores.baseline, plain.baseline, atol=1e-5)
    alone = make_features(length[:, None], spaces["a"].stimulus_id.values, model="_")  # sorts first, as nuisance does
    joint = na.encode_banded({"_": alone, **spaces}, responses, **FEW)
    np.testing.assert_allclose(joint.score, scores.score, atol=1e-5)


@pytest.mark.parametrize("memory", [2**40, 0])
def test_the_null_searches_again(monkeypatch, memory):
    monkeypatch.setattr("neuroalign.alignment.joint.free_memory", lambda device: memory)
    spaces, responses = toy()
    scores = na.encode_banded(spaces, responses, n_permutations=3, keep=["null"], **FEW)
    order = row_permutations(60, 3)[1]
    again = na.encode_banded(spaces, responses.copy(data=responses.values[order]), **FEW)
    np.testing.assert_allclose(scores.null.values[1], again.score.values, atol=1e-4)
    assert attrs_of(scores)["nulls"]["permuted"] == "responses" and (scores.p >= 0.25).all()


def test_with_nuisance_all_spaces_are_permuted_together():
    spaces, responses = toy()
    nuisance = xr.DataArray(np.arange(60.0), dims="stimulus", name="order", coords=spaces["a"].stimulus_id.coords)
    scores = na.encode_banded(spaces, responses, nuisance=nuisance, n_permutations=2, keep=["null"], **FEW)
    order = row_permutations(60, 2)[1]
    moved = {}
    for name, space in spaces.items():
        explained = LinearRegression().fit(nuisance.values[:, None], space.values).predict(nuisance.values[:, None])
        moved[name] = space.copy(data=explained + (space.values - explained)[order])
    again = na.encode_banded(moved, responses, nuisance=nuisance, **FEW)
    np.testing.assert_allclose(scores.null.values[1], again.score.values, atol=1e-4)


def test_events_are_convolved_and_shifted_together():
    rng = np.random.default_rng(0)
    coords = {"onset": np.sort(rng.uniform(0, 190, 70)), "duration": np.full(70, 0.3)}
    ids = [f"w{k}" for k in range(70)]
    spaces = {name: make_features(rng.standard_normal((70, p)), ids, model=name, stream="word", coords=coords)
              for name, p in (("a", 1), ("b", 3))}
    responses = make_responses(rng.standard_normal((100, 2)), np.arange(100) * 2.0, ["x", "y"], dim="time", sfreq=0.5)
    options = FEW | {"hrf": "glover", "nuisance": "word_rate", "gap": 4.0}
    scores = na.encode_banded(spaces, responses, n_permutations=2, keep=["null"], **options)
    order = shift_permutations(70, 2)[1]
    moved = {k: v.copy(data=v.values[order]) for k, v in spaces.items()}
    np.testing.assert_allclose(scores.null.values[1], na.encode_banded(moved, responses, **options).score, atol=1e-4)
    series = make_features(rng.standard_normal((100, 2)), np.arange(100) * 2.0, model="c", dim="time")
    with pytest.raises(ValueError, match="some are time series and some events"):
        na.encode_banded({**spaces, "c": series}, responses, n_permutations=2, **options)


def test_each_band_is_reduced_by_itself():
    spaces, responses = toy(widths=(40, 90))
    scores = na.encode_banded(spaces, responses, reduce="pca:5", **FEW)
    (train, test), *_ = make_folds("kfold", 60, n_splits=3)
    parts = []
    for k in "ab":
        X = spaces[k].values
        mean, sd = X[train].mean(0), X[train].std(0)
        _, _, axes = np.linalg.svd((X[train] - mean) / sd, full_matrices=False)
        parts.append((X - mean) / sd @ axes[:5].T)
    fit = banded_ridge_cv([X[train] for X in parts], responses.values[train], alphas=ALPHAS, n_candidates=6,
                          standardize=False, inner_folds=make_folds("kfold", 40, n_splits=3))
    kept = na.encode_banded(spaces, responses, reduce="pca:5", keep=["prediction"], **FEW)
    np.testing.assert_allclose(kept.prediction.values[test, 0], fit.predict([X[test] for X in parts]), atol=2e-3)
    np.testing.assert_allclose(kept.score, scores.score)


def test_time_bins_and_broken_neuroids():
    spaces, responses = toy(t=4)
    binned = make_responses(responses.values.reshape(60, 2, 2), responses.stimulus_id.values, ["p", "q"],
                            time_bins=[0.0, 0.1])
    scores = na.encode_banded(spaces, binned, **FEW)
    assert scores.contribution.dims == ("band", "space", "neuroid", "time_bin")
    plain = na.encode_banded(spaces, responses, **FEW)
    np.testing.assert_allclose(scores.score.values.reshape(2, 1, 4), plain.score, atol=1e-6)
    broken = responses.copy(deep=True)
    broken[4, 1] = np.nan
    with pytest.warns(NeuroalignWarning, match="'v1'"):
        found = na.encode_banded(spaces, broken, **FEW)
    assert np.isnan(found.contribution.values[:, 0, 1]).all() and np.isfinite(found.contribution.values[:, 0, 0]).all()


def test_bad_input_is_explained():
    spaces, responses = toy()
    with pytest.raises(ValueError, match="inner_cv: the leave-one-out error in closed form"):
        na.encode_banded(spaces, responses, inner_cv="loo")
    with pytest.raises(ValueError, match="metric: 'rsa.spearman' belongs to `compare`"):
        na.encode_banded(spaces, responses, metric="rsa.spearman")
    broken = spaces["b"].copy(data=np.where(np.arange(60)[:, None] == 7, np.nan, spaces["b"].values))
    with pytest.raises(ValueError, match="features 'b': NaN or infinite values in the rows of 's007'"):
        na.encode_banded({"a": spaces["a"], "b": broken}, responses)


def test_models_with_and_without_a_space_are_compared_in_pairs():
    spaces, responses = toy(n=120, noise=0.5)
    options = FEW | {"n_bootstraps": 60, "keep": ["bootstrap"], "metric": ["r2.pooled"]}
    both = na.encode_banded(spaces, responses, **options)
    alone = na.encode_banded({"a": spaces["a"]}, responses, **options)
    assert "prediction" not in both and "60 resamples of stimuli (120)" in attrs_of(both)["interval"]
    assert (both.ci_low < both.score).all() and (both.score < both.ci_high).all()
    gain = diff(concat([both, alone]), "a + b", "a")
    by_hand = both.bootstrap.values[:, 0, 0] - alone.bootstrap.values[:, 0, 0]
    np.testing.assert_allclose(gain.ci_low.values[0, 0], expanded_interval(by_hand, 120)[0], atol=1e-6)
    assert gain.ci_low.values[0, 0, 1] > 0 and gain.ci_low.values[0, 0, 0] < 0.05  # b drives the second neuroid
    parts = na.partition_variance(spaces, responses, n_bootstraps=60, **FEW)
    unique = parts.sel(space="b, unique")
    np.testing.assert_allclose(gain.score.values[0, 0], unique.score.values[0], atol=1e-5)
    np.testing.assert_allclose(gain.ci_low.values[0, 0], unique.ci_low.values[0], atol=1e-5)


def test_delayed_features_stand_in_their_band():
    spaces, responses = toy(n=120, dim="time", sfreq=0.5)
    options = FEW | {"gap": 6.0, "delays": [2.0, 4.0, 6.0]}
    both = na.encode_banded(spaces, responses, **options)
    assert both.n_features.item() == 3 * 13 and attrs_of(both)["delays"] == [2.0, 4.0, 6.0]
    by_hand = {}
    for name, space in spaces.items():
        late = [np.vstack([np.zeros((k, space.shape[1])), space.values[:-k]]) for k in (1, 2, 3)]
        by_hand[name] = make_features(np.hstack(late), space.time.values, model=name, dim="time")
    again = na.encode_banded(by_hand, responses, gap=6.0, **FEW)
    np.testing.assert_allclose(both.score, again.score, atol=1e-5)
    plain = na.encode({"a": spaces["a"]}, responses, **{k: v for k, v in options.items() if k != "n_candidates"})
    alone = na.encode_banded({"a": spaces["a"]}, responses, **options)
    np.testing.assert_allclose(alone.score, plain.score, atol=1e-4)
