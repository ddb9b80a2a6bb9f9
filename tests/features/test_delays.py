"""Delays and resampling of events against loops in float64."""

import numpy as np
import pytest

from neuroalign.data import make_features
from neuroalign.features import delay, events_to_samples
from neuroalign.features.delays import Shifted, delay_samples, series_clock, shift_rows

RNG = np.random.default_rng(0)


def series(n=12, p=3, step=2.0, **coords):
    return make_features(RNG.standard_normal((n, p)), np.arange(n) * step, model="toy", layer="l", dim="time",
                         coords=coords)


def by_loop(values, samples, runs):
    delayed = np.zeros_like(values)
    for t in range(len(values)):
        source = t - samples
        if 0 <= source < len(values) and runs[source] == runs[t]:
            delayed[t] = values[source]
    return delayed


def test_each_delay_is_a_copy_within_its_run():
    run = np.repeat([3, 1, 2], [5, 6, 1])
    x = series(run=run)
    got = delay(x, [-2, 0, 4, 20])
    assert got.dims == ("time", "feature") and got.shape == (12, 12) and got.space_id.item() == "toy:l:all"
    assert got["delay"].values.tolist() == np.repeat([-2.0, 0.0, 4.0, 20.0], 3).tolist()
    assert got.source.values.tolist() == [0, 1, 2] * 4
    expected = np.concatenate([by_loop(x.values, k, run) for k in (-1, 0, 2, 10)], 1)
    np.testing.assert_array_equal(got.values, expected)
    np.testing.assert_array_equal(got.run.values, run)
    np.testing.assert_array_equal(Shifted(x.values, 2, run)[:, 1:], by_loop(x.values, 2, run)[:, 1:])


def test_without_runs_and_with_a_sampling_rate():
    x = series(n=10, step=0.01).rename("mine").assign_coords(freq=("feature", [100.0, 200.0, 300.0]))
    got = delay(x, [0.0, 0.03], sfreq=100)
    np.testing.assert_array_equal(got.values[3:, 3:], x.values[:-3])
    assert (got.values[:3, 3:] == 0).all() and got.freq.values.tolist() == [100.0, 200.0, 300.0] * 2
    assert shift_rows(np.arange(4), -9).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("change", "options", "words"), [
    (lambda x: x, {"delays": [0, 3]}, r"delays: '3.0' s are not whole samples.*one takes 2 s.*'4.0'"),
    (lambda x: x, {"delays": []}, r"expected one or more seconds"),
    (lambda x: x, {"delays": [0, np.nan]}, r"expected one or more seconds"),
    (lambda x: x, {"delays": [2, 2]}, r"each only once"),
    (lambda x: x, {"delays": [2], "sfreq": 0}, r"sfreq: got 0"),
    (lambda x: x, {"delays": [2], "sfreq": 1.0}, r"sfreq: got 1 samples a second, expected the 0.5 of the clock"),
    (lambda x: x.rename(time="stimulus"), {}, r"stands on 'stimulus'.*events_to_samples"),
    (lambda x: x.drop_vars("time"), {}, r"no coord 'time'"),
    (lambda x: x.isel(time=[0, 1, 2, 5, 6, 7]), {}, r"do not follow each other by one step.*own 'run'"),
    (lambda x: x[::-1], {}, r"do not follow each other"),
])
def test_bad_series_are_explained(change, options, words):
    with pytest.raises(ValueError, match=words):
        delay(change(series()), **{"delays": [0, 2], **options})


def test_stretches_with_samples_missing_between_them_are_runs():
    x = series().isel(time=[0, 1, 2, 5, 6, 7]).assign_coords(run=("time", [0, 0, 0, 1, 1, 1]))
    assert series_clock(x)[0] == 2.0
    assert delay_samples([1.001, 2.0], 1.0).tolist() == [1, 2]


def events(n=60, p=2):
    onset = np.sort(RNG.uniform(0, 50, n))
    return make_features(RNG.standard_normal((n, p)), [f"e{i}" for i in range(n)], model="toy",
                         coords={"onset": onset, "duration": RNG.uniform(0.1, 0.8, n)})


def test_lanczos_equals_its_formula_at_every_lag():
    e, times = events(), np.arange(0.0, 52.0, 1.5)
    expected = np.zeros((len(times), 2))
    for i, t in enumerate(times):
        for j, s in enumerate(e.onset.values + e.duration.values):
            x = (t - s) / 1.5
            if abs(x) <= 3:
                a = np.pi * x
                expected[i] += (1 if x == 0 else 3 * np.sin(a) * np.sin(a / 3) / a**2) * e.values[j]
    got = events_to_samples(e, times, how="lanczos", at="offset")
    np.testing.assert_allclose(got.values, expected, atol=1e-5)
    assert got.attrs == {"hrf": "None", "at": "offset", "how": "lanczos"}
    on_the_beat = e.isel(stimulus=[0]).assign_coords(onset=("stimulus", [6.0]))
    alone = events_to_samples(on_the_beat, times, how="lanczos").values
    np.testing.assert_allclose(alone[4], e.values[0], rtol=1e-6)
    np.testing.assert_allclose(np.delete(alone, 4, 0), 0, atol=1e-7)


def test_the_mean_is_over_the_events_nearest_to_a_sample():
    e, times = events(n=25), np.arange(0.0, 52.0, 1.5)
    expected, counts = np.zeros((len(times), 2)), np.zeros(len(times), int)
    for s, value in zip(e.onset.values, e.values):
        nearest = np.abs(times - s).argmin()
        expected[nearest] += value
        counts[nearest] += 1
    expected /= np.maximum(counts, 1)[:, None]
    got = events_to_samples(e, times, how="mean", hrf=None).values
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert (got[counts == 0] == 0).all() and (counts == 0).any() and (counts > 1).any()


@pytest.mark.parametrize(("change", "options", "words"), [
    (lambda e: e, {"how": "spline"}, r"how: got 'spline'.*'lanczos'"),
    (lambda e: e, {"how": "mean", "boxcar": True}, r"boxcar.*points in time"),
    (lambda e: e.drop_vars("onset"), {"how": "mean"}, r"no place in time"),
    (lambda e: e.assign_coords(onset=e.onset.where(e.onset > e.onset[0])), {"how": "lanczos"}, r"no onset for 'e0'"),
    (lambda e: e.assign_coords(onset=e.onset - 20), {"how": "mean"}, r"leave no trace"),
    (lambda e: e.assign_coords(onset=e.onset + 20), {"how": "lanczos"}, r"after the recording has ended"),
    (lambda e: e.where(e.onset != e.onset[3]), {"how": "lanczos"}, r"not finite at 'e3'"),
])
def test_wrong_events_are_explained(change, options, words):
    with pytest.raises(ValueError, match=words):
        events_to_samples(change(events()), np.arange(0.0, 52.0, 2.0), **options)
