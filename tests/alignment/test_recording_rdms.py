"""Crossnobis and Mahalanobis RDMs against loops in float64 and against rsatoolbox."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf

import neuroalign as na
from neuroalign.alignment import crossnobis, mahalanobis, noise_covariance, response_rdms
from neuroalign.data import make_features, make_responses
from neuroalign.errors import NeuroalignWarning, NotAligned

IDS = [f"s{k}" for k in range(6)]


def experiment(runs=4, repeats=2, p=7, seed=0, drop=0.0, scale=1.0):
    """Presentations of six stimuli in several runs, with an offset a run; some may be missing."""
    rng = np.random.default_rng(seed)
    patterns, mixing = rng.standard_normal((6, p)), np.eye(p) + 0.3 * rng.standard_normal((p, p))
    stimuli, run = np.tile(np.repeat(IDS, repeats), runs), np.repeat(np.arange(runs), 6 * repeats)
    kept = rng.random(len(run)) >= drop
    stimuli, run = stimuli[kept], run[kept]
    values = patterns[[IDS.index(s) for s in stimuli]] + rng.standard_normal((len(run), p)) @ mixing
    return scale * (values + 5 * rng.standard_normal((runs, p))[run]), stimuli, run


def brute(values, stimuli, runs, precision):
    out = []
    for i, a in enumerate(IDS):
        for b in IDS[i + 1:]:
            deltas = [values[(stimuli == a) & (runs == r)].mean(0) - values[(stimuli == b) & (runs == r)].mean(0)
                      for r in np.unique(runs) if {a, b} <= set(stimuli[runs == r])]
            products = [x @ precision @ y for k, x in enumerate(deltas) for m, y in enumerate(deltas) if k != m]
            out.append(np.mean(products) / values.shape[1] if products else np.nan)
    return np.array(out)


def brute_noise(values, stimuli, runs):
    """Residuals of a regression on stimuli and runs, shrunk by scikit-learn."""
    design = np.column_stack([stimuli[:, None] == IDS, runs[:, None] == np.unique(runs)]).astype(float)
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    freedom = len(values) - np.linalg.matrix_rank(design)
    return ledoit_wolf(rest, assume_centered=True)[0] * len(values) / freedom


@pytest.mark.parametrize("drop", [0.0, 0.4])
@pytest.mark.parametrize("noise", ["shrinkage", "diagonal", None, "given"])
def test_crossnobis_equals_the_loop_over_pairs_of_runs(drop, noise):
    values, stimuli, runs = experiment(drop=drop, repeats=3)
    full = brute_noise(values, stimuli, runs)
    given = np.cov(np.random.default_rng(1).standard_normal((7, 30)))
    precision = {"shrinkage": np.linalg.inv(full), None: np.eye(7), "given": np.linalg.inv(given),
                 "diagonal": np.diag(1 / np.diag(noise_covariance(values, stimuli, runs, method="diagonal")))}[noise]
    found = crossnobis(values, stimuli, runs, noise=given if noise == "given" else noise, ids=IDS)
    np.testing.assert_allclose(found, brute(values, stimuli, runs, precision), atol=1e-9)


def test_noise_covariance_is_that_of_the_residuals():
    values, stimuli, runs = experiment(drop=0.3, repeats=3)
    expected = brute_noise(values, stimuli, runs)
    np.testing.assert_allclose(noise_covariance(values, stimuli, runs), expected, rtol=1e-9)
    diagonal = noise_covariance(values, stimuli, runs, method="diagonal")
    assert np.trace(diagonal) == pytest.approx(np.trace(expected))


def test_rsatoolbox_gives_the_same():
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed: the loops above still hold")
    from rsatoolbox.rdm import calc_rdm

    values, stimuli, runs = experiment()
    covariance = noise_covariance(values, stimuli, runs)
    data = toolbox.data.Dataset(values, obs_descriptors={"stimulus": stimuli, "run": runs})
    for method, found in (("crossnobis", crossnobis(values, stimuli, runs, noise=covariance, ids=IDS)),
                          ("mahalanobis", mahalanobis(values, stimuli, runs, noise=covariance, ids=IDS))):
        options = {"cv_descriptor": "run"} if method == "crossnobis" else {}
        theirs = calc_rdm(data, method=method, descriptor="stimulus", noise=np.linalg.inv(covariance), **options)
        np.testing.assert_allclose(found, theirs.dissimilarities[0], atol=1e-9)


def test_crossnobis_is_zero_for_equal_patterns_where_mahalanobis_is_not():
    cross, plain = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal((24, 5))
        stimuli, runs = np.tile(IDS, 4), np.repeat(np.arange(4), 6)
        cross.append(crossnobis(values, stimuli, runs).mean())
        plain.append(mahalanobis(values, stimuli, runs).mean())
    assert abs(np.mean(cross)) < 3 * np.std(cross) / np.sqrt(40) + 0.01 and np.mean(plain) > 0.2


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-2, 1e2))
def test_what_changes_nothing(seed, scale):
    """Order of presentations, offsets of runs; with a given covariance, any invertible mixing of neuroids."""
    values, stimuli, runs = experiment(seed=seed, drop=0.2, repeats=3)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(runs))
    expected = crossnobis(values, stimuli, runs, ids=IDS)
    moved = scale * (values + 100 * rng.standard_normal((4, 7))[runs])[order]
    np.testing.assert_allclose(crossnobis(moved, stimuli[order], runs[order], ids=IDS), expected, atol=1e-6)
    mix, covariance = rng.standard_normal((7, 7)) + 4 * np.eye(7), noise_covariance(values, stimuli, runs)
    mixed = crossnobis(values @ mix, stimuli, runs, noise=mix.T @ covariance @ mix, ids=IDS)
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_pairs_that_never_meet_in_two_runs_are_nan_and_named():
    values, stimuli, runs = experiment(runs=2)
    kept = ~((stimuli == "s0") & (runs == 1))
    with pytest.warns(NeuroalignWarning, match="5 of 15 pairs of stimuli do not stand together in two runs"):
        found = crossnobis(values[kept], stimuli[kept], runs[kept], ids=IDS)
    assert np.isnan(found).tolist() == [True] * 5 + [False] * 10


def recorded(bins=None):
    values, stimuli, runs = experiment(p=10)
    if bins is not None:
        values = np.stack([values, values[::-1]], -1)
    owners = {"region": ["V"] * 6 + ["L"] * 4, "subject": ["a"] * 3 + ["b"] * 3 + ["a"] * 4}
    return make_responses(values, stimuli, [f"e{k}" for k in range(10)], dim="presentation", time_bins=bins,
                          sample_coords={"run": runs}, neuroid_coords=owners)


@pytest.mark.parametrize("distance, function", [("crossnobis", crossnobis), ("mahalanobis", mahalanobis)])
def test_regions_and_subjects_are_targets_that_compare_takes(distance, function):
    responses = recorded()
    found = response_rdms(responses, distance)
    assert found.region.values.tolist() == ["V", "V", "L"] and found.subject.values.tolist() == ["a", "b", "a"]
    own = responses.values[:, 3:6].astype(float)
    np.testing.assert_allclose(found.values[1], function(own, responses.stimulus_id.values, responses.run.values,
                                                         ids=IDS), rtol=1e-4, atol=1e-5)
    features = make_features(np.random.default_rng(0).standard_normal((6, 4)), IDS, model="m")
    scores = na.compare(features, found, n_permutations=9, device="cpu")
    assert scores.target.values.tolist() == ["V", "L"] and scores.n_subjects.values.tolist() == [2, 1]


def test_time_bins_are_targets_of_their_own():
    found = response_rdms(recorded(bins=[0.1, 0.2]))
    assert found.region.values.tolist() == ["V at 0.1 s", "V at 0.1 s", "L at 0.1 s", "V at 0.2 s", "V at 0.2 s",
                                            "L at 0.2 s"]
    np.testing.assert_allclose(found.values[:3], response_rdms(recorded()).values, rtol=1e-4, atol=1e-5)


def test_a_presentation_with_nan_is_left_out_of_its_region_alone():
    responses = recorded()
    broken = responses.copy(deep=True)
    broken[3, 7] = np.nan
    with pytest.warns(NeuroalignWarning, match=r"L of a: 1 presentations hold NaN and are left out: 's1'"):
        found = response_rdms(broken)
    np.testing.assert_allclose(found.values[:2], response_rdms(responses).values[:2])
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize("call, error, words", [
    (lambda v, s, r: crossnobis(v, s, 0 * r), ValueError, "1 run, expected at least 2"),
    (lambda v, s, r: crossnobis(v * np.nan, s, r), ValueError, "48 presentations hold NaN"),
    (lambda v, s, r: crossnobis(v, s[:5], r), ValueError, "5 stimuli and 48 runs"),
    (lambda v, s, r: crossnobis(v, s, r, noise=np.zeros((7, 7))), ValueError, "singular. Use 'shrinkage'"),
    (lambda v, s, r: crossnobis(v, s, r, noise=np.eye(3)), ValueError, r"expected a symmetric covariance \(7, 7\)"),
    (lambda v, s, r: crossnobis(v, s, r, noise="ledoit"), ValueError, "noise: got 'ledoit'"),
    (lambda v, s, r: mahalanobis(v[:6:2], IDS[:3], None), ValueError, "no stimulus is repeated"),
    (lambda v, s, r: noise_covariance(v * (np.arange(7) > 0), s, r), ValueError, "neuroids '0' do not vary"),
    (lambda v, s, r: mahalanobis(v[:3], ["a"] * 3), ValueError, "1 stimulus, expected at least 2"),
    (lambda v, s, r: response_rdms(recorded().drop_vars("run")), NotAligned, "no coord 'run'"),
    (lambda v, s, r: response_rdms(recorded(), "euclidean"), ValueError, "distance: got 'euclidean'"),
    (lambda v, s, r: response_rdms(recorded(), noise=np.eye(10)), ValueError, "one covariance was given for 3"),
])
def test_wrong_input_is_explained(call, error, words):
    with pytest.raises(error, match=words):
        call(*experiment())


def test_repetitions_within_runs_are_averaged_in_any_order():
    rng = np.random.default_rng(0)
    x, stimuli, runs = rng.standard_normal((36, 5)), np.repeat(np.arange(6), 6), np.tile(np.repeat([0, 1, 2], 2), 6)
    order = rng.permutation(36)
    found = crossnobis(x[order], stimuli[order], runs[order], noise=None, ids=list(range(6)))
    means = np.array([[x[(stimuli == s) & (runs == r)].mean(0) for s in range(6)] for r in range(3)])
    pairs = [np.mean([(means[a, i] - means[a, j]) @ (means[b, i] - means[b, j]) for a in range(3) for b in range(3)
                      if a != b]) / 5 for i in range(6) for j in range(i + 1, 6)]
    np.testing.assert_allclose(found, pairs, atol=1e-12)
