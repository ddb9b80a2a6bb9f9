"""BIDS folders and NWB files with a planted answer: read, epoch, encode; and bad input."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import mne
import numpy as np
import pytest

import neuroalign as na
from neuroalign.errors import MissingExtra
from neuroalign.recordings import bin_events, open_bids, open_nwb
from neuroalign.recordings.bids import BidsRecording
from neuroalign.recordings.continuous import as_runs
from neuroalign.recordings.nwb import _clock
from neuroalign.simulate.recordings import bids_ieeg, nwb_file


def recovered(planted, epochs, prefix):
    """Return which sites score above .3 at the planted latency, and the bins of their largest scores."""
    score = na.encode(planted.features.drop_vars("onset"), epochs.drop_vars("onset"), alphas=[10.0]).score
    score = score.isel(metric=0, space=0)
    found = {str(n).removeprefix(prefix): bool(v) for n, v in
             zip(score.neuroid.values, score.sel(time_bin=planted.latency, method="nearest") > 0.3)}
    peaks = {str(n).removeprefix(prefix): float(t) for n, t in
             zip(score.neuroid.values, score.time_bin[score.argmax("time_bin")])}
    return found, peaks


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    pytest.importorskip("mne_bids", reason="the extra 'bids' is not installed")
    pytest.importorskip("pybv", reason="pybv, which writes the folder, is not installed")
    return bids_ieeg(tmp_path_factory.mktemp("bids"))


@pytest.fixture(scope="module")
def nwb(tmp_path_factory):
    pytest.importorskip("pynwb", reason="the extra 'nwb' is not installed")
    return nwb_file(tmp_path_factory.mktemp("nwb") / "x.nwb")


def test_planted_sites_of_a_bids_folder_come_back(bids):
    recording = open_bids(bids.path, "01", task="film")
    epochs = bin_events(recording, recording.events(), tmin=-0.25, tmax=0.75, step=0.1, window=0.1)
    assert epochs.stimulus_id.values.tolist() == bids.features.stimulus_id.values.tolist()
    found, peaks = recovered(bids, epochs, "sub-01.")
    assert found == {n: d for n, d in bids.driven.items() if n != "B1"}
    assert peaks["A2"] == pytest.approx(bids.latency, abs=0.051)


def test_positions_metres_of_a_bids_folder_become_mni_millimetres(bids):
    loaded = open_bids(bids.path, "sub-01").load()
    assert loaded.attrs["frame"] == "mni_tal"
    for site in ("A1", "A4"):
        own = loaded.sel(neuroid=f"sub-01.{site}")
        np.testing.assert_allclose([own.x, own.y, own.z], bids.more["positions"][site], atol=1e-6)
    assert loaded.attrs["dropped"] == ["sub-01.B1: marked bad"]
    assert set(loaded.run.values) == {"01"} and loaded.attrs["units"] == "V"


def test_bad_spans_keep_the_names_of_runs():
    raw = mne.io.RawArray(np.zeros((1, 500)), mne.create_info(["A1"], 100.0, "seeg"))
    bad = raw.copy().set_annotations(mne.Annotations([2.0], [1.0], ["BAD"]))
    loaded = BidsRecording("sub-01", {"01": raw, "02": bad}).load()
    assert json.loads(loaded.attrs["bad_spans"]) == [["02", 2.0, 1.0]]
    assert [run.bad_spans for run in as_runs(loaded)] == [[], [(2.0, 1.0)]]


def test_reasons_of_bad_channels_are_kept(bids, tmp_path):
    shutil.copytree(bids.path, tmp_path / "b")
    channels = next((tmp_path / "b").rglob("*channels.tsv"))
    rows = channels.read_text().splitlines()
    channels.write_text("\n".join(r[:-3] + "epileptic" if r.startswith("B1") else r for r in rows) + "\n")
    assert open_bids(tmp_path / "b", "01").load().attrs["dropped"] == ["sub-01.B1: marked bad (epileptic)"]
    electrodes = next((tmp_path / "b").rglob("*electrodes.tsv"))
    text = electrodes.read_text()
    for row in text.splitlines()[1:]:
        name, x, y, z, size = row.split("\t")
        text = text.replace(row, "\t".join([name, *(str(float(v) * 1000) for v in (x, y, z)), size]))
    electrodes.write_text(text)  # millimetres where the sidecar says metres
    with pytest.raises(ValueError, match="coordinates reach .* expected millimetres"):
        open_bids(tmp_path / "b", "01").load()


def test_what_a_bids_folder_lacks_is_named(bids, tmp_path):
    with pytest.raises(FileNotFoundError, match="subject '01' with task='rest'.*There are: 'sub-01_task-film"):
        open_bids(bids.path, "01", task="rest")
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_bids(tmp_path / "gone", "01")


def test_planted_sites_of_an_nwb_file_come_back(nwb):
    recording = open_nwb(nwb.path, space="MNI152")
    epochs = bin_events(recording, recording.events(), tmin=-0.25, tmax=0.75, step=0.1, window=0.1)
    found, peaks = recovered(nwb, epochs, "p1.")
    assert found == nwb.driven
    assert peaks["E1"] == pytest.approx(nwb.latency, abs=0.051)
    assert epochs.x.values[:2].tolist() == [-40, -44] and set(epochs.region.values) == {"STG"}


def test_a_stretch_of_an_nwb_file_is_scaled_to_volts(nwb):
    import h5py

    recording = open_nwb(nwb.path)
    part = recording.runs()[0].read(2.0, 3.0)
    with h5py.File(nwb.path) as file:
        raw = file["acquisition/ieeg/data"][500:500 + len(part)]
    np.testing.assert_allclose(part, raw * 1e-6, rtol=1e-6)
    assert part.time.values[0] == 2.0 and "native_x" in part.coords and "x" not in part.coords
    assert recording.events()["duration"].to_numpy() == pytest.approx(0.5)


def test_the_rate_of_an_nwb_file_with_rounded_time_stamps():
    stamps = np.round(10 + np.arange(1_000_000) / 2048, 6)  # microseconds: most steps are 0.488 ms
    sfreq, start = _clock(SimpleNamespace(rate=None, timestamps=stamps, name="x"), Path("x.nwb"))
    assert sfreq == pytest.approx(2048, rel=1e-8) and start == 10


def test_bad_nwb_files(nwb, tmp_path):
    with pytest.raises(ValueError, match="coordinates reach 6e.04"):
        open_nwb(nwb.path, position_unit="m")
    with pytest.raises(ValueError, match="series: got 'lfp', expected one of 'ieeg'"):
        open_nwb(nwb.path, "lfp")
    with pytest.raises(ValueError, match="no table 'words' of intervals, it has 'trials'"):
        open_nwb(nwb.path).events("words")
    whole = nwb.path.read_bytes()
    (tmp_path / "cut.nwb").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.nwb: truncated, or no NWB file"):
        open_nwb(tmp_path / "cut.nwb")
    with pytest.raises(FileNotFoundError, match="no file"):
        open_nwb(tmp_path / "gone.nwb")


@pytest.mark.parametrize("module, call", [("mne_bids", lambda p: open_bids(p, "01")),
                                          ("pynwb", lambda p: open_nwb(p / "x.nwb"))])
def test_the_extra_is_named_where_it_is_missing(module, call, tmp_path, monkeypatch):
    (tmp_path / "x.nwb").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match="pip install 'neuroalign"):
        call(tmp_path)
