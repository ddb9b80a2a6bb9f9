"""Neuroids kept by the reliability of training repeats: planted noise is left out, and no test row has a say."""

import numpy as np
import pytest
from scipy.stats import pearsonr

import neuroalign as na
from neuroalign.alignment.neuroid_selection import select_neuroids
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import make_folds, repeat_reliability

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{words}:neuroalign.errors.NeuroalignWarning")
              for words in ("the smallest attainable p", "and get no ceiling")]
FAST = {"alphas": [1.0], "metric": "r.pooled"}


def repeated(n=50, reps=3, noise=(0.5, 0.5, 0.5, 3.4, 8.0, 8.0), seed=0):
    """Presentations of neuroids that are reliable, doubtful (v3) and noise (v4, v5)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    ids = [f"s{i:02d}" for i in range(n)]
    signal = np.repeat(X @ rng.standard_normal((4, len(noise))), reps, 0)
    values = signal + np.array(noise) * rng.standard_normal(signal.shape)
    responses = make_responses(values, np.arange(n * reps), [f"v{k}" for k in range(len(noise))], dim="presentation",
                               sample_coords={"stimulus_id": np.repeat(ids, reps)})
    return make_features(X, ids, model="m"), responses


def selected_by_hand(responses, ids, fold_of, threshold):
    presented = responses["stimulus_id"].values
    fold_of = dict(zip(ids, fold_of))
    kept = []
    for fold in range(5):
        rows = np.array([fold_of[i] != fold for i in presented])
        kept.append(repeat_reliability(responses.values[rows], presented[rows], method="ncsnr") >= threshold)
    return np.array(kept)


@pytest.mark.parametrize("repeats", ["average", "keep"])
def test_each_fold_predicts_what_its_training_repeats_hold_reliable(repeats):
    features, responses = repeated()
    with pytest.warns(NeuroalignWarning) as caught:
        scores = na.encode(features, responses, repeats=repeats, select_neuroids=0.5, keep=["prediction"], **FAST)
    plain = na.encode(features, responses, repeats=repeats, keep=["prediction"], **FAST)
    assert {w.message.code: w.message.ids for w in caught if "neuroid" in w.message.code} == {
        "unselected-neuroid": ("v4", "v5"), "partly-selected-neuroid": ("v3",)}
    ids = scores["stimulus_id"].values
    fold_of = np.array(attrs_of(scores)["folds"]["fold_of_sample"])
    kept = selected_by_hand(responses, ids, fold_of, 0.5)
    assert 0 < kept[:, 3].sum() < 5  # or the test shows nothing
    np.testing.assert_allclose(scores.selected, kept.mean(0))
    assert scores.n.values.tolist() == [kept[fold_of, k].sum() for k in range(6)]
    held = responses.values if repeats == "keep" else na.average_repetitions(responses).values
    for k in range(4):
        rows = kept[fold_of, k]
        predicted = scores.prediction.values[:, 0, k]
        assert (np.isfinite(predicted) == rows).all()
        np.testing.assert_allclose(predicted[rows], plain.prediction.values[rows, 0, k], atol=1e-5)
        assert scores.score.values[0, 0, k] == pytest.approx(pearsonr(predicted[rows], held[rows, k])[0], abs=1e-4)
    assert np.isnan(scores.score.values[0, 0, 4:]).all() and np.isnan(scores.best_alpha.values[0, 4:]).all()


def test_test_rows_have_no_say():
    _, responses = repeated()
    averaged = na.average_repetitions(responses)
    folds = make_folds("kfold", averaged.sizes["stimulus"])
    options = {"presented": responses, "responses": averaged, "usable": np.ones(6, bool)}
    with pytest.warns(NeuroalignWarning):
        before = select_neuroids(0.5, outer=folds, **options)
    tested = averaged["stimulus_id"].values[folds.test[0]]
    spoilt = responses.copy(deep=True)
    spoilt[np.isin(responses["stimulus_id"], tested)] = np.random.default_rng(9).standard_normal(6) * 50
    with pytest.warns(NeuroalignWarning):
        after = select_neuroids(0.5, outer=folds, **options | {"presented": spoilt})
    assert (after[0] == before[0]).all() and (after[1:] != before[1:]).any()


def test_nulls_move_the_features_and_intervals_rest_on_the_rows_that_count():
    features, responses = repeated()
    with pytest.warns(NeuroalignWarning):
        scores = na.encode(features, responses, select_neuroids=0.5, n_permutations=39, n_bootstraps=50,
                           keep=["bootstrap"], **FAST)
    assert attrs_of(scores)["nulls"]["permuted"] == "features"
    assert (scores.p.values[0, 0, :3] == 1 / 40).all() and np.isnan(scores.p.values[0, 0, 4:]).all()
    low, score, high = (scores[k].values[0, 0, :4] for k in ("ci_low", "score", "ci_high"))
    assert (low < score).all() and (score < high).all()


def test_one_band_equals_ridge_and_time_bins_are_selected_each_by_itself():
    features, responses = repeated()
    binned = make_responses(responses.values.reshape(150, 3, 2), np.arange(150), list("abc"), dim="presentation",
                            time_bins=[0.0, 0.1], sample_coords={"stimulus_id": responses["stimulus_id"].values})
    options = {"select_neuroids": 0.5, "metric": ["r.foldmean", "r2.pooled"]}
    with pytest.warns(NeuroalignWarning) as caught:
        ridge = na.encode(features, binned, **options)
    assert "some folds (in some of their time bins)" in str(caught[-1].message)
    with pytest.warns(NeuroalignWarning):
        flat, banded = na.encode(features, responses, **options), na.encode_banded([features], responses, **options)
    np.testing.assert_allclose(ridge.score.values.reshape(2, 1, 6), flat.score.values)
    np.testing.assert_allclose(banded.score.values, flat.score.values, atol=1e-4)
    # the parts of R² sum to it on the rows that count
    share = banded.contribution.sum("band", skipna=False).values[0]
    np.testing.assert_allclose(share, banded.score.sel(metric="r2.pooled").values[0], atol=1e-6)


def test_runs_that_repeat_a_film_tell_reliability_where_they_stay_together():
    rng = np.random.default_rng(0)
    film = np.repeat(["a", "a", "b", "b", "c", "c"], 40)
    at = np.tile(np.arange(40), 6)
    base = {k: rng.standard_normal((40, 3)) for k in "abc"}
    X = np.concatenate([base[k] for k in "aabbcc"])
    Y = X @ rng.standard_normal((3, 4)) + np.array([0.5, 0.5, 40, 40]) * rng.standard_normal((240, 4))
    coords = {"run": np.repeat(np.arange(6), 40), "film": film, "stimulus_id": [f"{f}{k}" for f, k in zip(film, at)]}
    responses = make_responses(Y, np.arange(240.0), list("wxyz"), dim="time", kind="ecog", sfreq=1.0,
                               sample_coords=coords)
    features = make_features(X, np.arange(240.0), model="m", dim="time")
    with pytest.warns(NeuroalignWarning, match="every fold and get NaN scores: 'y', 'z'"):
        scores = na.encode(features, responses, groups="film", cv="leave-one-group-out", select_neuroids=0.4, **FAST)
    assert np.isfinite(scores.score.values[0, 0]).tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="Keep all repeats of a stimulus in one fold"):
        na.encode(features, responses, groups="run", cv="leave-one-group-out", select_neuroids=0.4, **FAST)


@pytest.mark.parametrize(("change", "options", "words"), [
    (na.average_repetitions, {}, "no repeats to tell reliability by"),
    (lambda r: r, {"select_neuroids": 2}, "between 0 and 1"),
    (lambda r: r, {"select_neuroids": 0.999}, "no neuroid has a reliability of 0.999"),
    (lambda r: r.isel(presentation=np.r_[0:4, 6:150:3]), {}, "0 stimuli|1 stimuli|2 stimuli"),
])
def test_what_cannot_be_selected_is_explained(change, options, words):
    features, responses = repeated()
    with pytest.raises(ValueError, match=words):
        na.encode(features, change(responses), **{"select_neuroids": 0.5} | options, on_missing="drop", **FAST)
