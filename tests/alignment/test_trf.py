"""Delays and temporal response functions: against the delayed matrix, MNE, mTRFpy and planted truth."""

import numpy as np
import pytest
import xarray as xr

import neuroalign as na
from neuroalign.alignment import nulls
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.features import delay
from neuroalign.features.delays import shift_rows
from neuroalign.stats import shift_permutations

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


@pytest.mark.parametrize(("change", "options", "words"), [
    (lambda f, r: (f, r), {"delays": [0, 0.7]}, r"delays: '0.7' s are not whole samples"),
    (lambda f, r: (f, r), {"delays": [0], "trf": (0, 1)}, r"not both"),
    (lambda f, r: (f, r), {"trf": (1, 0)}, r"tmin, tmax: got 1 and 0"),
    (lambda f, r: (f[:, :1].rename(time="stimulus").assign_coords(stimulus_id=("stimulus", np.arange(300))),
                   r.rename(time="stimulus").assign_coords(stimulus_id=("stimulus", np.arange(300)))),
     {"delays": [0]}, r"delays: the responses stand on 'stimulus'"),
    (lambda f, r: (f.drop_isel(time=9), r.drop_isel(time=9)), {"trf": (0, 1)}, r"do not follow each other by one step"),
])
def test_wrong_delays_are_explained(change, options, words):
    with pytest.raises(ValueError, match=words):
        na.encode(*change(*recording()), **options)
