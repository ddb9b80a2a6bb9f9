"""MNE objects and files: values, positions and their frame, bad channels, bad input."""

import json

import mne
import numpy as np
import pandas as pd
import pytest

from neuroalign.data import make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import add_positions, from_mne

mne.set_log_level("ERROR")
NAMES = ["A1", "A2", "A3", "B1", "DC1"]


def raw_of(names=NAMES, kinds=("seeg",) * 4 + ("misc",), sfreq=200.0, scale=1e-5, n=2000, frame="mni_tal"):
    values = np.random.default_rng(0).standard_normal((len(names), n)) * scale
    raw = mne.io.RawArray(values, mne.create_info(list(names), sfreq, list(kinds)))
    if frame:
        places = {c: np.array([k, k + 1, k + 2]) * 0.01 for k, c in enumerate(names[:4])}
        raw.set_montage(mne.channels.make_dig_montage(places, coord_frame=frame), on_missing="ignore")
    return raw


def test_a_recording_with_positions_and_bad_parts():
    raw = raw_of()
    raw.info["bads"] = ["B1"]
    raw.set_annotations(mne.Annotations([1.0, 3.0], [0.5, 0.1], ["BAD_seizure", "word"]))
    found = from_mne(raw, subject="s1")
    np.testing.assert_allclose(found.values.T, raw.get_data(["A1", "A2", "A3"]), rtol=1e-6)
    assert found.neuroid_id.values.tolist() == ["s1.A1", "s1.A2", "s1.A3"]
    np.testing.assert_allclose([found.x, found.y, found.z], [[0, 10, 20], [10, 20, 30], [20, 30, 40]], atol=1e-6)
    assert found.attrs["dropped"] == ["s1.B1: marked bad"] and found.attrs["units"] == "V"
    assert json.loads(found.attrs["bad_spans"]) == [[0, 1.0, 0.5]]
    later = from_mne(raw.copy().crop(0.5, 8.0))  # MNE counts annotations from the start of the measurement
    assert json.loads(later.attrs["bad_spans"]) == [[0, 0.5, 0.5]]


def test_positions_that_a_file_calls_head_are_not_taken_for_mni(tmp_path):
    raw_of().save(tmp_path / "x_raw.fif")
    found = from_mne(tmp_path / "x_raw.fif")
    assert "x" not in found.coords and found.attrs["frame"] == "head"
    assert found.native_x.values.tolist() == pytest.approx([0, 10, 20, 30], abs=1e-4)
    np.testing.assert_allclose(from_mne(tmp_path / "x_raw.fif", frame="mni_tal").x, [0, 10, 20, 30], atol=1e-4)


def test_runs_are_joined_with_their_clock():
    found = from_mne([raw_of(), raw_of(n=1000)])
    assert found.sizes["time"] == 3000 and found.run.values[[0, -1]].tolist() == [0, 1]
    assert found.time.values[2000] == 0
    with pytest.raises(ValueError, match="sampling rates differ between runs: 100, 200 Hz"):
        from_mne([raw_of(), raw_of(sfreq=100.0)])
    other = raw_of()
    other.info["bads"] = ["A2"]
    with pytest.raises(ValueError, match="channels of run 1 differ from those of run 0: 'A2'"):
        from_mne([raw_of(), other])


def test_epochs_keep_metadata_and_the_reasons_of_the_lost(tmp_path):
    raw = raw_of()
    raw._data[0, 900:] += 1e-3
    events = np.array([[100, 0, 1], [500, 0, 2], [890, 0, 1]])
    epochs = mne.Epochs(raw, events, {"cat": 1, "dog": 2}, tmin=-0.1, tmax=0.4, baseline=None, preload=True,
                        reject={"seeg": 5e-4}, metadata=pd.DataFrame({"surprisal": [1.0, 2.0, 3.0]}))
    found = from_mne(epochs)
    assert found.dims == ("presentation", "neuroid", "time_bin")
    assert found.stimulus_id.values.tolist() == ["cat", "dog"] and found.surprisal.values.tolist() == [1, 2]
    assert found.onset.values.tolist() == [0.5, 2.5]
    np.testing.assert_allclose(found.time_bin.values, epochs.times)
    np.testing.assert_allclose(found, epochs.get_data(NAMES[:4]), rtol=1e-6)
    assert found.attrs["dropped"] == ["event 2: A1"]
    fewer = epochs.copy().decimate(2)
    assert from_mne(fewer).onset.values.tolist() == [0.5, 2.5] and fewer.info["sfreq"] == 100
    epochs.save(tmp_path / "x-epo.fif")
    np.testing.assert_allclose(from_mne(tmp_path / "x-epo.fif"), found, rtol=1e-6)
    ids = from_mne(epochs, stimulus_ids=["x", "y"]).stimulus_id.values.tolist()
    assert ids == ["x", "y"]
    with pytest.raises(ValueError, match="got 1 for 2 epochs"):
        from_mne(epochs, stimulus_ids=["x"])


def test_evoked_responses_of_a_file(tmp_path):
    info = mne.create_info(4, 100.0, "eeg")
    both = [mne.EvokedArray(np.full((4, 20), k * 1e-6), info, tmin=-0.1, comment=f"c{k}", nave=10 + k) for k in (0, 1)]
    mne.write_evokeds(tmp_path / "x-ave.fif", both)
    found = from_mne(tmp_path / "x-ave.fif")
    assert found.dims == ("stimulus", "neuroid", "time_bin") and found.stimulus_id.values.tolist() == ["c0", "c1"]
    assert found.n_averaged.values.tolist() == [10, 11] and found.attrs["kind"] == "eeg"
    np.testing.assert_allclose(found[1], 1e-6, rtol=1e-3)


def test_kinds_of_channels_are_not_mixed():
    raw = raw_of(kinds=("seeg", "seeg", "eeg", "eeg", "misc"), frame=None)
    with pytest.raises(ValueError, match="channels of kinds 'seeg', 'eeg' together"):
        from_mne(raw)
    assert from_mne(raw, picks="eeg").neuroid_id.values.tolist() == ["A3", "B1"]
    assert from_mne(raw, picks=["A2"]).neuroid_id.values.tolist() == ["A2"]
    with pytest.raises(ValueError, match="no good channel for 'ecog'; the types here are 'seeg', 'eeg', 'misc'"):
        from_mne(raw, picks="ecog")


def test_wrong_units_are_noticed():
    with pytest.warns(NeuroalignWarning, match="usual amplitude is .* V.*microvolts read as volts"):
        from_mne(raw_of(scale=20.0, frame=None))
    millimetres = raw_of(frame=None)
    places = {c: np.array([40.0, -20, 10 + k]) for k, c in enumerate(NAMES[:4])}
    millimetres.set_montage(mne.channels.make_dig_montage(places, coord_frame="mni_tal"), on_missing="ignore")
    with pytest.raises(ValueError, match="coordinates reach 4e.04"):
        from_mne(millimetres)


def write_edf(path, names, n=100):
    """A minimal EDF of one record."""
    def column(*values, width):
        return "".join(str(v).ljust(width) for v in values)

    k = len(names)
    head = column("0", width=8) + column("X", "X", width=80) + column("01.01.20", "00.00.00", 256 * (k + 1), width=8)
    head += column("", width=44) + column(1, 1, width=8) + column(k, width=4)
    head += column(*names, width=16) + column(*[""] * k, width=80) + column(*["uV"] * k, width=8)
    head += column(*[-100] * k, *[100] * k, *[-1000] * k, *[1000] * k, width=8)
    head += column(*[""] * k, width=80) + column(*[n] * k, width=8) + column(*[""] * k, width=32)
    path.write_bytes(head.encode("ascii") + np.arange(k * n, dtype="<i2").tobytes())


def test_names_that_occur_twice_are_named(tmp_path):
    write_edf(tmp_path / "x.edf", ["A1", "A1", "A2"])
    with pytest.warns(NeuroalignWarning, match=r"x\.edf: channel names occur more than once.*'A1-0'"):
        assert from_mne(tmp_path / "x.edf").label.values.tolist() == ["A1-0", "A1-1", "A2"]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone_raw.fif"):
        from_mne(tmp_path / "gone_raw.fif")
    raw_of().save(tmp_path / "x_raw.fif")
    (tmp_path / "x_raw.fif").write_bytes((tmp_path / "x_raw.fif").read_bytes()[:300])
    with pytest.raises(ValueError, match="x_raw.fif cannot be read"):
        from_mne(tmp_path / "x_raw.fif")
    with pytest.raises(TypeError, match="got 'int', expected Raw, Epochs or Evoked"):
        from_mne(3)


def test_positions_of_a_table_by_id_or_label():
    signal = make_responses(np.zeros((5, 3)), np.arange(5.0), ["s1.A1", "s1.A2", "s1.A3"], dim="time", kind="seeg",
                            neuroid_coords={"label": ["A1", "A2", "A3"]})
    table = pd.DataFrame({"neuroid_id": ["s1.A2", "s1.A1"], "label": ["A2", "A1"], "x": [10.0, -30], "y": [1.0, 2],
                          "z": [3.0, 4], "region": ["STG", "IFG"]})
    for columns in (list(table), ["label", "x", "y", "z", "region"]):
        with pytest.warns(NeuroalignWarning, match="1 of 3 neuroids have no position: 's1.A3'"):
            found = add_positions(signal, table[columns])
        np.testing.assert_array_equal(found.x, [-30, 10, np.nan])
        assert found.region.values.tolist() == ["IFG", "STG", ""]
    with pytest.warns(NeuroalignWarning, match="1 of 3"):
        assert "native_x" in add_positions(signal, table, space="T1w").coords
    with pytest.raises(ValueError, match="Metres"):
        add_positions(signal, table.assign(x=[0.01, -0.03], y=[0.0, 0], z=[0.0, 0]))
    with pytest.raises(ValueError, match="nothing in common"):
        add_positions(signal, table.assign(neuroid_id=["p.1", "p.2"], label=["q1", "q2"]))
    with pytest.raises(ValueError, match="label is not unique: 'A1'"):
        add_positions(signal, table.assign(neuroid_id="", label="A1"))
