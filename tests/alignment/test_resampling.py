"""Intervals from resampled predictions: against a loop over rows, paired across spaces, with their coverage."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.alignment.problem import set_up
from neuroalign.alignment.resampling import Resampling
from neuroalign.data import make_features, make_responses
from neuroalign.data import scores as results
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import expanded_interval

METRICS = ["r.pooled", "r.foldmean", "r2.pooled"]


def problem(n=60, t=3, noise=1.0, seed=0, dim="stimulus"):
    rng = np.random.default_rng(seed)
    X, ids = rng.standard_normal((n, 5)), [f"s{i:03d}" for i in range(n)]
    if dim == "time":
        ids = np.arange(float(n))
    Y = X @ rng.standard_normal((5, t)) + noise * rng.standard_normal((n, t))
    spaces = [make_features(x, ids, model=m, dim=dim) for m, x in (("a", X), ("b", X[:, :2]))]
    more = {"kind": "eeg", "sfreq": 1.0} if dim == "time" else {}
    return spaces, make_responses(Y, ids, [f"v{k}" for k in range(t)], dim=dim, **more)


def test_resampled_scores_equal_a_loop_over_resampled_rows():
    spaces, responses = problem()
    kept = na.encode(spaces, responses, cv=4, alphas=[1.0], n_bootstraps=50, metric=METRICS,
                     keep=["bootstrap", "prediction"])
    setting = set_up(spaces, responses, cv=4, alphas=[1.0])
    drawn = Resampling(setting, 50, None, 0)
    Y, folds = responses.values.astype(float), setting.fitter.outer
    for space in range(2):
        predicted = kept.prediction.values[:, space]
        for k in (0, 17):
            rows = drawn.resamples.indices[k]
            pooled = [np.corrcoef(Y[rows, v], predicted[rows, v])[0, 1] for v in range(3)]
            np.testing.assert_allclose(kept.bootstrap.values[k, 0, space], pooled, atol=1e-4)
            parts = [[np.corrcoef(Y[own, v], predicted[own, v])[0, 1] for v in range(3)] for own in
                     ([r for r in rows if folds.test[f, r]] for f in range(4))]
            np.testing.assert_allclose(kept.bootstrap.values[k, 1, space], np.mean(parts, 0), atol=1e-4)
            shares = [1 - ((Y[rows, v] - predicted[rows, v]) ** 2).sum() / ((Y[rows, v] - Y[rows, v].mean()) ** 2).sum()
                      for v in range(3)]
            np.testing.assert_allclose(kept.bootstrap.values[k, 2, space], shares, atol=1e-4)
    np.testing.assert_allclose(kept.ci_low, expanded_interval(kept.bootstrap, 60)[0], atol=1e-5)
    assert np.all((kept.ci_low <= kept.score) & (kept.score <= kept.ci_high))
    assert "stimuli (60) of the held-out predictions" in kept.attrs["interval"]


def test_two_spaces_are_compared_in_pairs():
    spaces, responses = problem(n=150)
    kept = na.encode(spaces, responses, cv=5, alphas=[1.0], n_bootstraps=400, metric="r.pooled", keep=["bootstrap"])
    gain = results.diff(kept, "a::all", "b::all")
    low, high = expanded_interval(kept.bootstrap[:, :, 0] - kept.bootstrap[:, :, 1], 150)
    np.testing.assert_allclose(gain.ci_low[:, 0], low, atol=1e-6)
    np.testing.assert_allclose(gain.ci_high[:, 0], high, atol=1e-6)
    assert "95%, expanded percentile of 150 units" in gain.attrs["interval"]
    assert np.all(gain.ci_low > 0)
    wide = kept.ci_high - kept.ci_low
    assert np.all((gain.ci_high - gain.ci_low).values[0, 0] < wide.values[0].sum(0))
    same = na.encode(spaces, responses, cv=5, alphas=[1.0], n_bootstraps=400, metric="r.pooled", keep=["bootstrap"])
    np.testing.assert_array_equal(same.bootstrap, kept.bootstrap)


def test_blocks_of_a_time_series_stay_together_and_few_of_them_are_told():
    spaces, responses = problem(n=1200, dim="time")
    drawn = Resampling(set_up(spaces, responses, alphas=[1.0]), 20, None, 0)
    assert drawn.kind == "blocks of 50 samples" and drawn.counts.shape[1] == 24
    assert all(len(set(drawn.unit[k:k + 50])) == 1 for k in range(0, 1200, 50))
    with pytest.warns(NeuroalignWarning, match="intervals rest on 4 blocks of 300 samples"):
        na.encode(spaces, responses, alphas=[1.0], n_bootstraps=20, block=300.0)


def test_blocks_are_even_within_runs():
    spaces, responses = problem(n=600, dim="time")
    responses = responses.assign_coords(run=("time", np.repeat(np.arange(8), 75)))
    with pytest.warns(NeuroalignWarning, match="intervals rest on 8 blocks"):
        drawn = Resampling(set_up(spaces, responses, alphas=[1.0]), 20, None, 0)
    np.testing.assert_array_equal(np.bincount(drawn.unit), 75)  # and no rests of 25 samples


def test_the_order_of_rows_does_not_change_what_is_drawn():
    spaces, responses = problem()
    order = np.random.default_rng(0).permutation(60)
    options = {"n_splits": 4, "alphas": [1.0], "n_bootstraps": 50, "metric": "r.pooled", "keep": ["bootstrap"]}
    kept, moved = (na.encode(spaces, r, **options) for r in (responses, responses.isel(stimulus=order)))
    np.testing.assert_allclose(moved.bootstrap, kept.bootstrap, atol=1e-5)


@pytest.mark.slow
def test_intervals_cover_the_correlation_of_fixed_predictions():
    # The estimand is the correlation of these predictions with further stimuli: nothing is fitted again.
    rng, inside = np.random.default_rng(0), []
    for _ in range(40):
        n, truth = 120, 0.5
        prediction = rng.standard_normal((n, 50))
        Y = truth * prediction + np.sqrt(1 - truth**2) * rng.standard_normal((n, 50))
        features = make_features(prediction[:, :1], [f"s{i}" for i in range(n)], model="m")
        setting = set_up(features, make_responses(Y, list(features.stimulus_id.values), [str(k) for k in range(50)]),
                         alphas=[1.0])
        resampling = Resampling(setting, 500, None, 0)
        drawn = resampling.scores(Y, prediction, setting.fitter.outer, ["r.pooled"])[:, 0]
        low, high = resampling.interval(drawn, 0.95)
        inside.append((low <= truth) & (truth <= high))
    assert 0.93 <= np.mean(inside) <= 0.97
