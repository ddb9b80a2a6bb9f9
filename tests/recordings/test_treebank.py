"""A folder laid out as the Brain Treebank: read lazily, and the planted sites and times come back."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

import neuroalign as na
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import bin_events, open_treebank
from neuroalign.simulate.recordings import treebank_folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return treebank_folder(tmp_path_factory.mktemp("treebank"))


@pytest.fixture
def copy(planted, tmp_path):
    shutil.copytree(planted.path, tmp_path / "bt")
    return tmp_path / "bt"


def test_the_rate_the_clock_and_the_labels_are_found(planted):
    recording = open_treebank(planted.path, 3, 0, electrodes=planted.more["electrodes"])
    assert recording.sfreq == 512 and recording.film == "a-film"
    assert recording.dropped == ["btbank3.DC1: no brain signal (trigger)", "btbank3.RF2c1: corrupted"]
    report = recording.clock.report()
    assert report["pause"].tolist() == pytest.approx([0, planted.more["pause"]], abs=0.01)
    assert report["drift_ppm"].tolist() == pytest.approx([200, 200], abs=20)
    part = recording.read(10, 12)
    assert part.sizes["neuroid"] == 10 and part.time.values[0] == 10
    assert set(part.region.values) == {"ctx-lh-superiortemporal", "ctx-rh-parsopercularis"}
    np.testing.assert_array_equal(part.x, planted.more["electrodes"]["x"])
    with h5py.File(recording.path) as file:
        np.testing.assert_array_equal(part.sel(neuroid="btbank3.RF2b1")[:1024], file["data/electrode_5"][5120:6144])


def test_words_stand_on_the_clock_of_the_recording(planted):
    recording = open_treebank(planted.path, 3, 0)
    words = recording.words()
    assert words.ids == tuple(planted.features.stimulus_id.values)
    np.testing.assert_allclose(words.table["onset"], planted.features.onset, atol=2e-3)
    np.testing.assert_allclose(words.table["film_time"], planted.more["film_time"], atol=1e-9)
    samples = pd.DataFrame({"full_word": ["a", "b"], "start": [3.0, 4.0], "end": [3.5, 4.2], "est_idx": [512, 1024]})
    assert recording.words(samples).table["onset"].tolist() == [1.0, 2.0]
    halfway = planted.more["film_time"][59:61].mean()
    with pytest.warns(NeuroalignWarning, match="1 of 2 words dropped, the triggers do not say when"):
        assert len(recording.words(pd.DataFrame({"text": ["a", "b"], "start": [5.0, halfway]}))) == 1


def test_words_that_come_with_a_package_stand_at_their_samples(planted):
    if not na.data.is_available("brain_treebank"):
        pytest.skip("the package neuroprobe is not installed")
    words = na.load_stimuli("brain_treebank", viewing="subject3_trial0")
    found = open_treebank(planted.path, 3, 0).words(words)
    np.testing.assert_allclose(found.table["onset"], words.table["sample"] / 512)
    assert found.table["text"].tolist() == words.table["text"].tolist()


def test_planted_sites_and_times_come_back(planted):
    recording = open_treebank(planted.path, 3, 0)
    epochs = bin_events(recording, recording.words(), tmin=-0.3, tmax=0.9, step=0.1,
                        steps=[("notch", {"freq": 60}), "common_average"])
    epochs = epochs.drop_vars("onset")
    features = planted.features.drop_vars("onset")
    score = na.encode(features, epochs, alphas=[10.0]).score.isel(metric=0, space=0)
    at_peak = score.sel(time_bin=planted.latency)
    found = dict(zip(score.neuroid.values, (at_peak > 0.3).values.tolist()))
    assert found == planted.driven
    for site in (s for s, driven in planted.driven.items() if driven):
        assert float(score.sel(neuroid=site).idxmax("time_bin")) == pytest.approx(planted.latency)
    late = recording.words().table.assign(onset=lambda t: t["onset"] + 0.1)  # an offset of 100 ms shows as such
    moved = bin_events(recording, late, tmin=-0.3, tmax=0.9, step=0.1, steps=[("notch", {"freq": 60})])
    score = na.encode(features, moved.drop_vars("onset"), alphas=[10.0]).score.isel(metric=0, space=0)
    assert float(score.sel(neuroid="btbank3.LT1a4").idxmax("time_bin")) == pytest.approx(planted.latency - 0.1)


def test_a_laplacian_sees_the_neighbours_of_the_file(planted):
    recording = open_treebank(planted.path, 3, 0)
    with pytest.warns(NeuroalignWarning, match="4 of 10 contacts lack a neighbour"):
        epochs = bin_events(recording, recording.words().table[:3], step=0.5, steps=["laplacian"])
    assert epochs.label.values.tolist() == ["LT1a2", "LT1a3", "LT1a4", "RF2b2", "RF2b3", "RF2b4"]
    assert "btbank3.LT1a1: no two neighbours on the shaft" in epochs.attrs["dropped"]


def test_no_more_is_read_than_a_stretch(planted, monkeypatch):
    recording, asked = open_treebank(planted.path, 3, 0), []
    fetch = recording._fetch
    monkeypatch.setattr(recording, "_fetch", lambda first, last: asked.append(last - first) or fetch(first, last))
    lazy = bin_events(recording, recording.words(), step=0.5, block=10.0)
    assert max(asked) < 16 * 512 and len(asked) > 5
    assert lazy.equals(bin_events(recording, recording.words(), step=0.5, block=1000.0))


def test_corrupted_contacts_can_be_kept(planted):
    recording = open_treebank(planted.path, 3, 0, keep_corrupted=True)
    assert "RF2c1" in recording.labels and "DC1" not in recording.labels


def test_broken_folders(copy):
    path = copy / "all_subject_data" / "sub_3_trial000.h5"
    labels = copy / "electrode_labels" / "sub_3" / "electrode_labels.json"
    with pytest.raises(FileNotFoundError, match=r"no file sub_3_trial001\.h5"):
        open_treebank(copy, 3, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match=r"sub_3_trial000\.h5: truncated, or no HDF5 file"):
        open_treebank(copy, 3, 0)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        values = file["data/electrode_4"][:100]
        del file["data/electrode_4"]
        file["data/electrode_4"] = values
    with pytest.raises(ValueError, match="'electrode_4' have other lengths than the .* samples of the others"):
        open_treebank(copy, 3, 0)
    labels.write_text(json.dumps(["A1", "A2"]))
    with pytest.raises(ValueError, match="12 electrodes, but 2 labels. Do the labels belong to this subject"):
        open_treebank(copy, 3, 0)
    labels.write_text(json.dumps(["A1", "A1*"]))
    with pytest.raises(ValueError, match="labels 'A1' occur more than once"):
        open_treebank(copy, 3, 0)


def test_a_rate_must_fit_the_triggers(copy):
    timings = copy / "subject_timings" / "sub_3_trial000_timings.csv"
    with pytest.raises(ValueError, match=r"runs 0\.249 times as fast as the film"):
        open_treebank(copy, 3, 0, sfreq=2048)
    table = pd.read_csv(timings)
    table.assign(index=(table["index"] * 1.37).astype(int)).to_csv(timings, index=False)
    with pytest.raises(ValueError, match="triggers say 701.* samples a second, which is no usual rate"):
        open_treebank(copy, 3, 0)
    timings.unlink()
    with pytest.raises(ValueError, match="to read the sampling rate off. Pass sfreq="):
        open_treebank(copy, 3, 0)
    recording = open_treebank(copy, 3, 0, sfreq=512)
    with pytest.raises(ValueError, match="no triggers .* say when the film was shown"):
        recording.words()
