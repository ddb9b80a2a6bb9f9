"""Bins around events, against plain means; a lazy recording gives what a whole one gives."""

import json

import mne
import numpy as np
import pandas as pd
import pytest

from neuroalign.data import make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import average_events, bin_events, preprocess
from neuroalign.recordings.bins import bin_centres


def recording(seconds=40, sfreq=204.8, n=3, seed=0):
    t = np.arange(int(seconds * sfreq)) / sfreq
    values = np.random.default_rng(seed).standard_normal((len(t), n))
    return make_responses(values, t, [f"A{k + 1}" for k in range(n)], dim="time", kind="seeg", sfreq=sfreq)


EVENTS = pd.DataFrame({"onset": [3.137, 17.77, 31.5], "stimulus_id": ["a", "b", "c"], "text": ["the", "cat", "sat"]})


def test_there_are_161_bins_and_each_is_the_mean_of_its_window():
    signal = recording()
    found = bin_events(signal, EVENTS)
    assert found.shape == (3, 3, 161) and found.dims == ("stimulus", "neuroid", "time_bin")
    t = signal.time.values
    for k, onset in enumerate(EVENTS["onset"]):
        for b in (0, 1, 80, 160):
            centre = onset + found.time_bin.values[b]
            inside = (t >= centre - 0.1 - 1e-9) & (t < centre + 0.1 - 1e-9)
            np.testing.assert_allclose(found[k, :, b], signal.values[inside].mean(0), atol=1e-6)
    assert found.text.values.tolist() == ["the", "cat", "sat"]
    assert json.loads(found.attrs["bins"])["reference"] == "bin centre"


def test_an_evoked_bump_stands_in_its_bin():
    signal = recording(seconds=60)
    signal.values[:] = 0
    onsets = np.arange(5, 55, 5.0)
    for onset in onsets:
        signal.values[np.abs(signal.time.values - onset - 0.4) < 0.05] = 1
    events = pd.DataFrame({"onset": onsets, "stimulus_id": ["w"] * 10})
    found = bin_events(signal, events)
    assert found.dims == ("presentation", "neuroid", "time_bin")
    mean = found.mean(("presentation", "neuroid"))
    assert mean.sel(time_bin=0.4).item() == pytest.approx(0.5, abs=0.03)
    assert float(mean.idxmax("time_bin")) == pytest.approx(0.4, abs=0.051)


def test_a_file_is_read_in_stretches_and_gives_the_same(tmp_path):
    signal = recording(seconds=60, sfreq=500.0)
    info = mne.create_info(["A1", "A2", "A3"], 500.0, "seeg")
    raw = mne.io.RawArray(signal.values.T * 1e-5, info, verbose=False)
    raw.save(tmp_path / "x_raw.fif", fmt="double", verbose=False)
    events = pd.DataFrame({"onset": np.arange(5, 55, 2.5)})
    steps = [("notch", {"freq": 60}), ("high_gamma", {"low": 70, "high": 200}), "common_average"]
    lazy = bin_events(tmp_path / "x_raw.fif", events, steps=steps, block=6.0)
    whole = bin_events(preprocess((signal * 1e-5).assign_attrs(signal.attrs), steps), events)
    np.testing.assert_allclose(lazy.values, whole.values, atol=1e-3 * float(whole.std()))
    assert [s["step"] for s in json.loads(lazy.attrs["steps"])] == ["notch", "high_gamma", "common_average"]
    steps = [("high_gamma", {"low": 70, "high": 200}), ("resample", {"sfreq": 160}), ("resample", {"sfreq": 64})]
    lazy = bin_events(tmp_path / "x_raw.fif", events, steps=steps, block=6.0, step=0.1)
    whole = bin_events(preprocess((signal * 1e-5).assign_attrs(signal.attrs), steps), events, step=0.1)
    np.testing.assert_allclose(lazy.values, whole.values, atol=0.03 * float(whole.std()))
    plain = bin_events(tmp_path / "x_raw.fif", events, block=6.0)
    np.testing.assert_allclose(plain.values, bin_events((signal * 1e-5).assign_attrs(signal.attrs), events), atol=1e-11)


def test_runs_have_their_own_clock_and_events():
    first, second = recording(seed=1), recording(seed=2)
    events = pd.concat([EVENTS.assign(run=0), EVENTS[:2].assign(run=1, stimulus_id=["d", "e"])])
    found = bin_events([first, second], events)
    assert found.stimulus_id.values.tolist() == list("abcde") and found.run.values.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(found[3:].values, bin_events(second, EVENTS[:2]).values)
    with pytest.raises(ValueError, match="has 2 runs .'0', '1'., so the events need a column 'run'"):
        bin_events([first, second], EVENTS)
    with pytest.raises(ValueError, match="no runs '7' in the recording"):
        bin_events([first, second], events.assign(run=[0, 0, 0, 1, 7]))
    with pytest.raises(ValueError, match="sampling rates differ between runs: 100, 204.8 Hz"):
        bin_events([first, recording(sfreq=100.0)], events)


def test_events_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="1 of 3 need samples outside"):
        bin_events(recording(seconds=33), EVENTS)
    with pytest.warns(NeuroalignWarning, match="1 of 3 dropped.*'c'"):
        found = bin_events(recording(seconds=33), EVENTS, on_outside="drop")
    assert found.attrs["dropped"] == ["c: outside of the recording"]
    signal = recording().assign_attrs(bad_spans=json.dumps([[0, 18.0, 1.0]]))
    with pytest.warns(NeuroalignWarning, match="1 of 3 dropped, their windows touch a bad span: 'b'"):
        assert bin_events(signal, EVENTS).stimulus_id.values.tolist() == ["a", "c"]


def test_what_cannot_be_binned_is_refused():
    with pytest.raises(ValueError, match=r"window: got 0\.001 s, less than a sample"):
        bin_events(recording(), EVENTS, window=0.001)
    with pytest.raises(ValueError, match="expected tmin <= tmax and step > 0"):
        bin_centres(1, -1, 0.1)
    with pytest.raises(ValueError, match="times of run 0 are not .* s apart"):
        gap = recording()
        bin_events(gap.isel(time=np.r_[0:3000, 3500:8000]), EVENTS)


def test_samples_that_are_missing_spoil_their_own_bins_only():
    signal = recording(sfreq=200.0)
    signal.values[1010:1100, 1] = np.nan  # 5.05 to 5.5 s
    events = pd.DataFrame({"onset": [5.0], "stimulus_id": ["a"]})
    with pytest.warns(NeuroalignWarning, match="1 of 3 neuroids have samples that are not finite.*'A2'"):
        found = bin_events(signal, events, tmin=-0.5, tmax=1.0, step=0.1)[0]
    whole = bin_events(recording(sfreq=200.0), events, tmin=-0.5, tmax=1.0, step=0.1)[0]
    assert np.isnan(found.values[1]).sum() == 3 and np.isfinite(found.values[[0, 2]]).all()  # 0.2 to 0.4 have none
    clear = np.abs(found.time_bin - 0.275) > 0.3
    np.testing.assert_array_equal(found[:, clear], whole[:, clear])
    partly = found.sel(neuroid="A2", time_bin=0.1).item()
    assert partly == pytest.approx(signal.values[1000:1010, 1].mean(), abs=1e-6)


def test_band_power_of_each_sentence():
    """A rhythm that comes and goes: its power in the sentences is that of the sentence alone."""
    t = np.arange(20000) / 200
    amplitude = np.select([t < 30, t < 60], [1.0, 3.0], 2.0)
    wave = amplitude * np.sin(2 * np.pi * 10 * t)
    signal = make_responses(wave[:, None], t, ["Cz"], dim="time", kind="eeg", units="V", sfreq=200.0)
    events = pd.DataFrame({"onset": [10.0, 40.0, 70.0], "duration": [5.0, 8.0, 3.0], "stimulus_id": ["a", "b", "c"]})
    found = average_events(signal, events, steps=["band_power"])
    assert found.dims == ("stimulus", "neuroid") and found.sizes["neuroid"] == 5
    np.testing.assert_allclose(found.sel(neuroid="Cz.alpha"), [1, 9, 4], rtol=0.01)
    np.testing.assert_allclose(average_events(signal, events)[0], wave[2000:3000].mean(), atol=1e-6)
    np.testing.assert_allclose(average_events(signal, events, start=1, stop=2)[1], wave[8200:8400].mean(), atol=1e-6)
    with pytest.raises(ValueError, match="durations of 'b' are missing or not above start=0 s"):
        average_events(signal, events.assign(duration=[1, np.nan, 1]))
    with pytest.raises(ValueError, match="without 'duration' .s., pass stop="):
        average_events(signal, events[["onset", "stimulus_id"]])


def test_stretches_say_the_same_only_once(tmp_path):
    signal = recording(seconds=60, sfreq=200.0)
    raw = mne.io.RawArray(signal.values.T * 1e-5, mne.create_info(["A1", "A2", "A3"], 200.0, "seeg"), verbose=False)
    with pytest.warns(NeuroalignWarning, match="2 of 3 contacts lack a neighbour") as caught:
        found = bin_events(raw, pd.DataFrame({"onset": np.arange(5, 55, 5.0)}), steps=["laplacian"], block=4.0)
    assert len(caught) == 1 and found.label.values.tolist() == ["A2"]


def test_a_rate_may_change_on_the_way():
    signal = recording(seconds=60, sfreq=400.0)
    steps = [("band_pass", {"low": 1, "high": 20}), ("resample", {"sfreq": 100})]
    found = bin_events(signal, EVENTS, steps=steps, step=0.2)
    whole = bin_events(signal, EVENTS, steps=steps[:1], step=0.2)
    assert np.corrcoef(found.values.ravel(), whole.values.ravel())[0, 1] > 0.99  # their edges fall between samples
