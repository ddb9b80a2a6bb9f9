"""What share of intervals of 95 % holds what it is about, over at least 1,000 simulated cases each."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.alignment import site_tests
from neuroalign.alignment.problem import set_up
from neuroalign.alignment.resampling import Resampling
from neuroalign.data import make_features, make_responses
from neuroalign.simulate.brain import ar_noise

pytestmark = [pytest.mark.slow,
              pytest.mark.filterwarnings("ignore:the (small|larg)est penalty:neuroalign.errors.NeuroalignWarning"),
              pytest.mark.filterwarnings("ignore:intervals rest on 10 groups:neuroalign.errors.NeuroalignWarning")]


def differences(n, seed, n_sites=25, noise=1.5):
    """One study of two models, the first of which sees more: difference and interval of each site."""
    rng, ids = np.random.default_rng(seed), [f"s{k:03d}" for k in range(n)]
    cause = rng.standard_normal((n, 3))
    spaces = [make_features(cause + e * rng.standard_normal((n, 3)), ids, model=m) for m, e in (("a", 0.5), ("b", 1.0))]
    Y = cause.sum(1, keepdims=True) / np.sqrt(3) + noise * rng.standard_normal((n, n_sites))
    scores = na.encode(spaces, make_responses(Y, ids, [f"v{k}" for k in range(n_sites)]), metric="r.pooled",
                       alphas=[1.0, 30.0, 1000.0], n_bootstraps=400, keep=["bootstrap"], random_state=seed)
    tests = site_tests(scores, {"a > b": ("a::all", "b::all")})
    return [tests[k].values.ravel() for k in ("score", "ci_low", "ci_high")]


@pytest.mark.parametrize(("n", "least", "most"), [(100, 0.93, 0.97), (300, 0.98, 1.0)])
def test_intervals_of_site_tests_hold_the_mean_over_studies(n, least, most):
    # Fits vary where stimuli are few; with many they hardly do, and the widening is more than is needed.
    found = np.array([differences(n, seed) for seed in range(50)])  # (studies, 3, sites)
    mean = found[:, 0].mean()
    held = ((found[:, 1] <= mean) & (mean <= found[:, 2])).mean()
    assert least <= held <= most, held


def test_intervals_of_debiased_cka_hold_the_population_value():
    # y = x + noise of unit covariances: CKA of the population is tr(Sxy Syx) / (|Sxx| |Syy|) = .5.
    held = []
    for seed in range(50):
        rng, ids = np.random.default_rng(seed), [f"i{k}" for k in range(80)]
        x = rng.standard_normal((80, 5))
        others = [make_features(x + rng.standard_normal((80, 5)), ids, model=f"b{k:02d}") for k in range(20)]
        one = na.compare(make_features(x, ids, model="a"), others, metric="cka.debiased", n_permutations=0,
                         n_bootstraps=200, device="cpu")
        held.append((one.ci_low <= 0.5) & (one.ci_high >= 0.5))
    assert 0.93 <= np.mean(held) <= 0.975, np.mean(held)


@pytest.mark.parametrize(("ar", "least", "most"), [(0.5, 0.93, 0.97), (0.9, 0.92, 0.96)])
def test_intervals_of_blocks_hold_the_correlation_of_fixed_predictions_in_a_time_series(ar, least, most):
    # 1,500 samples, blocks of 50: 30 units.
    rng, held, n, truth = np.random.default_rng(0), [], 1500, 0.4
    for _ in range(40):
        prediction, noise = (ar_noise(rng, n, 30, ar) for _ in range(2))
        Y = truth * prediction + np.sqrt(1 - truth**2) * noise
        times = np.arange(float(n))
        setting = set_up(make_features(prediction[:, :1], times, model="m", dim="time"),
                         make_responses(Y, times, [str(k) for k in range(30)], dim="time", kind="eeg", sfreq=1.0),
                         alphas=[1.0])
        resampling = Resampling(setting, 500, 50.0, 0)
        drawn = resampling.scores(Y, prediction, setting.fitter.outer, ["r.pooled"])[:, 0]
        low, high = resampling.interval(drawn, 0.95)
        held.append((low <= truth) & (truth <= high))
    assert least <= np.mean(held) <= most, np.mean(held)


def test_intervals_of_paired_differences_hold_the_true_one_where_units_are_few():
    # 10 groups of 20 rows; two fixed predictions whose correlations with the responses are .6 and .3.
    rng, held, plain, n = np.random.default_rng(0), [], [], 200
    ids, labels = [f"s{k:03d}" for k in range(n)], np.repeat(np.arange(10), 20)
    for _ in range(40):
        first, second = rng.standard_normal((2, n, 30))
        Y = 0.6 * first + 0.3 * second + np.sqrt(1 - 0.45) * rng.standard_normal((n, 30))
        setting = set_up(make_features(first[:, :1], ids, model="m"),
                         make_responses(Y, ids, [str(k) for k in range(30)]), alphas=[1.0], groups=labels)
        resampling = Resampling(setting, 1000, None, 0)
        drawn = [resampling.scores(Y, p, setting.fitter.outer, ["r.pooled"]) for p in (first, second)]
        made = na.scores.make({"score": (("metric", "space", "neuroid"), np.zeros((1, 2, 30))),
                               "bootstrap": (("resample", "metric", "space", "neuroid"), np.stack(drawn, 2))},
                              {"metric": ["r.pooled"], "space": ["a", "b"], "neuroid": np.arange(30)})
        for found, attrs in ((held, {"resampled_units": resampling.n_units}), (plain, {})):
            one = na.scores.diff(made.assign_attrs(made.attrs | attrs), "a", "b")
            found.append((one.ci_low <= 0.3) & (one.ci_high >= 0.3))
    assert 0.93 <= np.mean(held) <= 0.975 and np.mean(plain) < np.mean(held) - 0.02, (np.mean(held), np.mean(plain))
