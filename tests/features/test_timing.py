"""Events to samples against brute force, nilearn, and the published word rate of Alice."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gamma

from neuroalign.data import StimulusSet, make_features
from neuroalign.features import events_to_samples, word_rate

RNG = np.random.default_rng(0)


def events(n=40, p=3, **changes):
    onset = np.sort(RNG.uniform(0, 100, n))
    coords = {"onset": onset, "duration": RNG.uniform(0.1, 3.0, n), **changes}
    return make_features(RNG.standard_normal((n, p)), [f"e{i}" for i in range(n)], model="toy", layer="l", depth=0.5,
                         coords=coords)


def spm(t):
    return np.where(t > 0, gamma.pdf(t, 6) - 0.167 * gamma.pdf(t, 16), 0.0) / 0.833


@pytest.mark.parametrize(("at", "share"), [("onset", 0.0), ("middle", 0.5), ("offset", 1.0)])
def test_impulses_equal_the_analytic_response_at_every_lag(at, share):
    e, times = events(), np.arange(0.0, 110.0, 1.7)
    moments = e.onset.values + share * e.duration.values
    lags = times[:, None] - moments
    expected = (spm(lags) * (lags < 32)) @ e.values
    got = events_to_samples(e, times, hrf="spm", at=at)
    np.testing.assert_allclose(got.values, expected, atol=1e-3)
    assert got.dims == ("time", "feature") and got.space_id.item() == "toy:l:all" and got.depth.item() == 0.5
    np.testing.assert_array_equal(got.time.values, times)


@pytest.mark.parametrize("hrf", ["glover", "spm"])
def test_boxcars_have_the_shape_of_nilearns_regressor(hrf):
    from nilearn.glm.first_level import compute_regressor

    e, times = events(n=12, p=1), np.arange(0.0, 120.0, 2.0)
    condition = np.stack([e.onset.values, e.duration.values, e.values[:, 0]])
    theirs, _ = compute_regressor(condition, hrf, times, oversampling=100)
    ours = events_to_samples(e, times, hrf=hrf, boxcar=True).values[:, 0]
    assert np.corrcoef(ours, theirs[:, 0])[0, 1] > 0.9999


def test_a_block_that_began_long_before_the_recording_reaches_into_it():
    from nilearn.glm.first_level import compute_regressor

    times = np.arange(0.0, 60.0, 2.0)
    block = make_features([[1.0]], ["a"], model="toy", coords={"onset": [-50.0], "duration": [70.0]})
    got = events_to_samples(block, times, boxcar=True)
    expected = compute_regressor(np.array([[-50.0], [70.0], [1.0]]), "glover", times, min_onset=-60)[0]
    np.testing.assert_allclose(got.values, expected, atol=0.01)
    assert got.attrs["at"] == "whole"


def test_the_result_is_in_units_of_the_feature_whatever_the_oversampling():
    long = make_features([[2.0]], ["e"], model="toy", coords={"onset": [5.0], "duration": [200.0]})
    times = np.arange(0.0, 200.0, 1.0)
    plateau = events_to_samples(long, times, boxcar=True).values[100:, 0]
    np.testing.assert_allclose(plateau, 2.0, rtol=1e-3)
    coarse, fine = (events_to_samples(events(), times, oversampling=n).values for n in (50, 400))
    assert coarse.shape == fine.shape
    e = events()
    coarse, fine = (events_to_samples(e, times, oversampling=n).values for n in (50, 400))
    np.testing.assert_allclose(coarse, fine, atol=5e-3)


def test_without_response_events_go_to_the_nearest_sample():
    e = make_features([[1.0], [2.0], [4.0]], ["a", "b", "c"], model="toy",
                      coords={"onset": [0.4, 0.6, 2.0], "duration": [0.1, 1.5, 5.0]})
    times = np.arange(4.0)
    assert events_to_samples(e, times, hrf=None).values[:, 0].tolist() == [1.0, 2.0, 4.0, 0.0]
    assert events_to_samples(e, times, hrf=None, boxcar=True).values[:, 0].tolist() == [0.0, 2.0, 6.0, 4.0]


def test_the_published_word_rate_of_alice(mirror):
    recorded = np.load(mirror / "alice_fmri" / "alice_rois.npz")["predictors"][:, 0]
    table = pd.read_csv(mirror / "alice_fmri" / "words.csv", keep_default_na=False)
    table = table.assign(text=table.word, duration=table.offset - table.onset)
    table.index = [f"w{i}" for i in table.index]
    rate = events_to_samples(word_rate(StimulusSet(table)), (np.arange(362) + 10) * 2.0, hrf="spm", at="offset")
    assert np.corrcoef(rate.values[:, 0], recorded)[0, 1] == pytest.approx(0.9823, abs=0.001)


@pytest.mark.parametrize(("change", "options", "words"), [
    (lambda e: e.drop_vars("onset"), {}, r"no coord 'onset'.*no place in time.*timed stimuli"),
    (lambda e: e.drop_vars("duration"), {"at": "offset"}, r"no coord 'duration'.*at='offset'"),
    (lambda e: e.assign_coords(onset=e.onset.where(e.onset > e.onset[1])), {}, r"no onset for 'e0', 'e1'"),
    (lambda e: e.assign_coords(onset=e.onset * 1000), {}, r"after the recording has ended.*both are in seconds"),
    (lambda e: e.assign_coords(onset=e.onset - 500), {}, r"leave no trace"),
    (lambda e: e.where(e.onset != e.onset[3]), {}, r"not finite at 'e3'"),
    (lambda e: e.assign_coords(onset=e.onset - 8.0), {"hrf": None}, r"so long before it that they leave no trace"),
    (lambda e: e.assign_coords(duration=e.duration.where(e.onset != e.onset[3], 0.0)), {"boxcar": True},
     r"durations of 'e3' are not above 0 s, so these events would leave no trace.*at='onset'"),
    (lambda e: e.assign_coords(duration=e.duration.where(e.onset != e.onset[3], -1.0)), {"at": "offset"},
     r"durations of 'e3' are below 0 s"),
    (lambda e: e, {"hrf": "gamma"}, r"hrf: got 'gamma'.*'glover'"),
    (lambda e: e, {"at": "end"}, r"at: got 'end'.*'offset'"),
    (lambda e: e, {"times": [3.0, 2.0]}, r"expected at least two finite seconds that increase"),
])
def test_bad_events_are_explained(change, options, words):
    options = {"times": np.arange(0.0, 110.0, 2.0), **options}
    with pytest.raises(ValueError, match=words):
        events_to_samples(change(events()), **options)
