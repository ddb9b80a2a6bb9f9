"""Preparation of signals, against MNE and plain loops."""

import json

import mne
import numpy as np
import pytest
from scipy.signal import hilbert

from neuroalign.data import make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import signals

SFREQ = 1000.0


def recording(values, sfreq=SFREQ, names=None, run=None, **coords):
    n = len(values)
    names = names or [f"A{k + 1}" for k in range(values.shape[1])]
    run = np.zeros(n, int) if run is None else np.asarray(run)
    return make_responses(values, np.arange(n) / sfreq, names, dim="time", kind="seeg", units="V", sfreq=sfreq,
                          sample_coords={"run": run}, neuroid_coords=coords)


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((4000, 3))


def test_a_notch_takes_the_hum_and_its_harmonics_only():
    t = np.arange(6000) / SFREQ
    for freq, kept in ((60, 0), (120, 0), (240, 0), (20, 1), (90, 1)):
        out = signals.notch(recording(np.sin(2 * np.pi * freq * t)[:, None]), 60, harmonics=4)
        assert out.values[2000:4000].std() * np.sqrt(2) == pytest.approx(kept, abs=0.02), freq
    assert json.loads(out.attrs["steps"]) == [{"step": "notch", "freqs": [60, 120, 180, 240], "quality": 30.0}]


def test_harmonics_above_half_of_the_rate_are_left_alone():
    out = signals.notch(recording(np.zeros((2000, 1)), sfreq=200.0), 60)
    assert json.loads(out.attrs["steps"])[0]["freqs"] == [60]


@pytest.mark.parametrize("low, high", [(70, 250), (None, 30), (5, None)])
def test_a_band_equals_mne(noise, low, high):
    out = signals.band_pass(recording(noise), low, high)
    theirs = mne.filter.filter_data(noise.T, SFREQ, low, high, method="iir", phase="zero", verbose="ERROR",
                                    iir_params={"order": 5, "ftype": "butter", "output": "sos"}).T
    np.testing.assert_allclose(out[1500:2500], theirs[1500:2500], atol=1e-5)


def test_high_gamma_is_the_amplitude_of_the_band(noise):
    t = np.arange(4000) / SFREQ
    modulation = 1 + 0.5 * np.sin(2 * np.pi * 2 * t)
    out = signals.high_gamma(recording((modulation * np.sin(2 * np.pi * 120 * t))[:, None]))
    np.testing.assert_allclose(out.values[500:-500, 0], modulation[500:-500], atol=0.02)
    theirs = np.abs(hilbert(mne.filter.filter_data(
        noise.T, SFREQ, 70, 250, method="iir", phase="zero", verbose="ERROR",
        iir_params={"order": 5, "ftype": "butter", "output": "sos"}))).T
    np.testing.assert_allclose(signals.high_gamma(recording(noise))[1500:2500], theirs[1500:2500], atol=1e-4)


def test_band_power_finds_the_band_and_its_power():
    t = np.arange(8000) / SFREQ
    wave = 3 * np.sin(2 * np.pi * 10 * t) + 0.5 * np.sin(2 * np.pi * 20 * t)
    out = signals.band_power(recording(np.stack([wave, 2 * wave], 1), names=["Cz", "Pz"]))
    assert out.neuroid_id.values[:3].tolist() == ["Cz.delta", "Pz.delta", "Cz.theta"]
    power = out[3000:5000].mean("time")
    assert power.sel(neuroid="Cz.alpha").item() == pytest.approx(9, rel=0.02)
    assert power.sel(neuroid="Pz.beta").item() == pytest.approx(1, rel=0.05)
    assert power.sel(neuroid="Cz.delta").item() < 0.01
    assert out.attrs["units"] == "(V)^2" and set(out.band.values) == set(signals.BANDS)


def test_despiking_shrinks_spikes_and_their_surroundings(noise):
    values = noise.copy()
    values[1000, 1], values[1001, 1] = 60, 55
    out = signals.despike(recording(values), threshold=4.5, dilate=0.01)
    center, spread = values.mean(0), values.std(0)
    expected = values.copy()
    for t, c in zip(*np.nonzero(np.abs(values - center) > 4.5 * spread)):
        rows = slice(max(0, t - 10), t + 11)
        expected[rows, c] = center[c] + 0.05 * (values[rows, c] - center[c])
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert out.despiked.values.tolist() == pytest.approx([0, 22 / 4000, 0])


def test_zscores_are_of_each_run(noise):
    values = noise * 5 + 100
    values[:, 2] = 7
    out = signals.zscore(recording(values, run=np.repeat([0, 1], 2000)))
    for rows in (slice(0, 2000), slice(2000, 4000)):
        np.testing.assert_allclose(out[rows, :2].mean("time"), 0, atol=1e-5)
        np.testing.assert_allclose(out[rows, :2].std("time"), 1, atol=1e-5)
    assert np.isnan(out[:, 2]).all() and out.attrs["units"] == "z"


def test_filters_do_not_cross_runs(noise):
    run = np.repeat([0, 1], 2000)
    both = signals.band_pass(recording(noise, run=run), 5, 50)
    np.testing.assert_allclose(both[:2000], signals.band_pass(recording(noise[:2000]), 5, 50), atol=1e-6)
    down = signals.resample(recording(noise, run=run), 250)
    assert down.run.values.tolist() == [0] * 500 + [1] * 500
    np.testing.assert_allclose(down[500:].values, signals.resample(recording(noise[2000:]), 250).values, atol=1e-6)


def test_resampling_keeps_what_lies_below_and_takes_what_lies_above():
    t = np.arange(4096) / 2048
    slow, fast = np.sin(2 * np.pi * 7 * t), np.sin(2 * np.pi * 300 * t)
    out = signals.resample(recording((slow + fast)[:, None], sfreq=2048.0), 100)
    np.testing.assert_allclose(out.values[20:-20, 0], np.sin(2 * np.pi * 7 * out.time.values)[20:-20], atol=0.01)
    assert out.attrs["sfreq"] == 100


def test_resampling_keeps_the_ends_the_order_of_dims_and_what_is_said_of_a_run():
    t = np.arange(4096) / 2048
    given = recording((100 + np.sin(2 * np.pi * 3 * t))[:, None], sfreq=2048.0).assign_coords(
        session=("time", ["mon"] * 4096), volume=("time", np.arange(4096)))
    out = signals.resample(given, 128)
    np.testing.assert_allclose(out.values[:, 0], 100 + np.sin(2 * np.pi * 3 * out.time.values), atol=0.1)
    assert set(out.session.values) == {"mon"} and "volume" not in out.coords
    assert signals.resample(given.transpose("neuroid", "time"), 128).equals(out)


def test_a_rate_that_the_clock_denies_is_refused(noise):
    with pytest.raises(ValueError, match=r"attrs\['sfreq'\] says 1000 Hz, but samples of a run are 0.004 to 0.004 s"):
        signals.band_pass(recording(noise).isel(time=slice(None, None, 4)), 5, 50)
    holed = recording(noise).isel(time=np.r_[:1000, 1200:4000])
    with pytest.raises(ValueError, match="0.001 to 0.201 s apart.*its own 'run'"):
        signals.notch(holed, 60)
    signals.notch(holed.assign_coords(run=("time", np.repeat([0, 1], [1000, 2800]))), 60)


def test_steps_in_order_are_noted_and_checked(noise):
    steps = [("notch", {"freq": 50}), "common_average", ("resample", {"sfreq": 500})]
    out = signals.preprocess(recording(noise), steps)
    assert [s["step"] for s in json.loads(out.attrs["steps"])] == ["notch", "common_average", "resample"]
    by_hand = signals.resample(signals.STEPS["common_average"](signals.notch(recording(noise), 50)), 500)
    assert out.equals(by_hand)
    with pytest.raises(ValueError, match="step: got 'noch'.*Did you mean 'notch'"):
        signals.preprocess(recording(noise), ["noch"])
    with pytest.raises(ValueError, match="option of step 'notch': got 'q', expected one of 'freq', 'harmonics'"):
        signals.preprocess(recording(noise), [("notch", {"freq": 50, "q": 3})])


def test_what_cannot_be_filtered_is_refused(noise):
    with pytest.raises(ValueError, match="band_pass: got 600 Hz at a sampling rate of 1000 Hz"):
        signals.high_gamma(recording(noise), 70, 600)
    with pytest.raises(ValueError, match="low=30, high=5 Hz, expected low < high"):
        signals.band_pass(recording(noise), 30, 5)
    with pytest.raises(ValueError, match="a run has 20 samples"):
        signals.band_pass(recording(noise[:20]), 5, 50)
    with pytest.raises(ValueError, match="samples of a run are not together"):
        signals.zscore(recording(noise, run=np.tile([0, 1], 2000)))
    with pytest.raises(ValueError, match="expected 'time'"):
        signals.zscore(make_responses([[1.0]], ["a"], ["v"]))
    with pytest.raises(ValueError, match=r"attrs\['sfreq'\] .Hz. is not known"):
        signals.notch(make_responses(noise, np.arange(4000.0), list("abc"), dim="time"), 60)


def test_missing_samples_cost_their_own_neuroid_and_run(noise):
    values = noise.copy()
    values[100, 1] = np.nan
    with pytest.warns(NeuroalignWarning, match="1 of 3 neuroids have samples that are not finite.*'A2'"):
        out = signals.band_pass(recording(values, run=np.repeat([0, 1], 2000)), 5, 50)
    assert np.isnan(out[:2000, 1]).all() and np.isfinite(out[2000:]).all() and np.isfinite(out[:, [0, 2]]).all()
