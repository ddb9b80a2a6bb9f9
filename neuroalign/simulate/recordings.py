"""Recordings on disk whose answer is known, in the formats that the readers read."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.signal import lfilter

from neuroalign.data import make_features
from neuroalign.errors import MissingExtra
from neuroalign.stats import child_rng

__all__ = ["Planted", "bids_ieeg", "bold_runs", "nwb_file", "treebank_folder"]

HRF_PEAK = 5.0  # seconds


@dataclass(frozen=True)
class Planted:
    """What was written, and the answer.

    Attributes
    ----------
    path : Path
        Folder or file.
    features : DataArray (stimulus, feature)
        What drives the sites, with the coord ``onset`` (seconds of the recording).
    driven : dict of str to bool
        Which neuroids respond.
    latency : float
        Seconds from an event to the peak of the response.
    more : dict
        What else a reader has to find: the pause of a film, the corrupted contacts, positions.
    """

    path: Path
    features: xr.DataArray
    driven: dict[str, bool]
    latency: float
    more: dict = field(default_factory=dict)


def treebank_folder(root, *, subject: int = 3, trial: int = 0, n_words: int = 120, sfreq: float = 512.0,
                    latency: float = 0.3, snr: float = 1.0, pause: float = 20.0, drift: float = 2e-4,
                    random_state: int = 0) -> Planted:
    """Write one viewing laid out as the Brain Treebank.

    Two shafts of five contacts, a trigger and one corrupted contact. At the middle contacts of the first shaft each
    word evokes a bump, as high as a weighted sum of its three features; everywhere there is pink noise, and the hum of
    the mains is common to all. The film is paused half-way, and the clock of the recording drifts.

    Parameters
    ----------
    root : path
        An empty folder; made if need be.
    subject, trial : int
    n_words : int
    sfreq : float
        Hz; nobody tells the reader but the triggers.
    latency : float
        Seconds from the onset of a word to the peak of the bump (0.05 s standard deviation).
    snr : float
        Height of the bump for one standard deviation of the features, over the standard deviation of the noise.
    pause : float
        Seconds for which the film stands still.
    drift : float
        How much faster the clock of the recording runs, relative.
    random_state : int

    Returns
    -------
    Planted
        ``more``: ``film_time`` of each word, ``pause``, ``corrupted``, ``electrodes`` (a table of positions, as
        `load_electrodes` returns).
    """
    import h5py

    root, name = Path(root), f"sub_{subject}_trial{trial:03d}"
    rng = child_rng(random_state, "simulate.recordings")
    film = 3.0 + np.cumsum(rng.uniform(0.5, 1.1, n_words))
    halfway = (film[n_words // 2 - 1] + film[n_words // 2]) / 2
    triggers = np.arange(0.0, film[-1] + 4.0, 0.1)
    onset, shown = (5.0 + (1 + drift) * (t + np.where(t > halfway, pause, 0.0)) for t in (film, triggers))
    labels = [*(f"LT1a{k}" for k in range(1, 6)), *(f"*RF2b{k}" for k in range(1, 6)), "RF2c#1", "DC1"]
    driven = {f"btbank{subject}.LT1a{k}": k in (2, 3, 4) for k in range(1, 6)}
    driven |= {f"btbank{subject}.RF2b{k}": False for k in range(1, 6)}
    features = _word_features(rng, [f"{name}#{k}" for k in range(n_words)], onset)
    n_samples = int((onset[-1] + 8.0) * sfreq)
    weights = _weights(rng, list(driven.values()))
    signal = _evoked(features, weights, n_samples, sfreq, latency, 0.05) * snr
    hum = 2.0 * np.sin(2 * np.pi * 60 * np.arange(n_samples) / sfreq)
    values = signal + _pink(rng, n_samples, len(driven)) + hum[:, None]
    values = np.concatenate([values, 50 * rng.standard_normal((n_samples, 1)), np.zeros((n_samples, 1))], axis=1)
    for folder in (f"electrode_labels/sub_{subject}", f"localization/sub_{subject}", "subject_timings",
                   "subject_metadata", "transcripts/a-film", "all_subject_data"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "all_subject_data" / f"{name}.h5", "w") as file:
        for k in range(values.shape[1]):
            file[f"data/electrode_{k}"] = values[:, k].astype(np.float32)
    _write_json(root / f"electrode_labels/sub_{subject}/electrode_labels.json", labels)
    _write_json(root / "corrupted_elec.json", {f"sub_{subject}": ["RF2c1"]})
    _write_json(root / f"subject_metadata/{name}_metadata.json", {"title": "A film", "filename": "a-film"})
    clean = [label.strip("*").replace("#", "") for label in labels]
    regions = ["ctx-lh-superiortemporal"] * 5 + ["ctx-rh-parsopercularis"] * 7
    pd.DataFrame({"Electrode": clean, "DesikanKilliany": regions}).to_csv(
        root / f"localization/sub_{subject}/depth-wm.csv", index=False)
    pd.DataFrame({"type": "trigger", "movie_time": triggers, "index": np.round(shown * sfreq).astype(int)}).to_csv(
        root / f"subject_timings/{name}_timings.csv", index=False)
    words = {"text": [f"word{k}" for k in range(n_words)], "start": film, "end": film + 0.3}
    pd.DataFrame(words).to_csv(root / "transcripts/a-film/features.csv", index=False)
    xyz = [(-50 - k, -20, 0) for k in range(5)] + [(48 + k, 20, 15) for k in range(5)]
    electrodes = pd.DataFrame(xyz, columns=list("xyz"), dtype=float).assign(
        neuroid_id=list(driven), subject=f"btbank{subject}", label=clean[:10])
    more = {"film_time": film, "pause": pause, "corrupted": ["RF2c1"], "electrodes": electrodes}
    return Planted(root, features, driven, latency, more)


def bids_ieeg(root, *, subject: str = "01", n_events: int = 80, sfreq: float = 500.0, latency: float = 0.25,
              snr: float = 1.0, random_state: int = 0) -> Planted:
    """Write a BIDS folder with one SEEG recording: channels, electrodes (MNI, metres), coordinate system, events.

    Contacts A2 and A3 respond to the events (named ``picture00``, ...); channel B1 is marked bad.

    Raises
    ------
    MissingExtra
        mne-bids (and pybv, which writes BrainVision files) are not installed.
    """
    try:
        import mne
        import mne_bids
        import pybv  # noqa: F401
    except ImportError:
        raise MissingExtra("a BIDS folder needs mne-bids. Run: pip install 'neuroalign[bids]'") from None
    rng = child_rng(random_state, "simulate.recordings")
    names = ["A1", "A2", "A3", "A4", "B1", "B2"]
    onset = np.round(3.0 + np.cumsum(rng.uniform(0.8, 1.4, n_events)), 3)
    ids = [f"picture{k:02d}" for k in range(n_events)]
    features = _word_features(rng, ids, onset)
    driven = {name: name in ("A2", "A3") for name in names}
    n_samples = int((onset[-1] + 5) * sfreq)
    weights = _weights(rng, list(driven.values()))
    values = _evoked(features, weights, n_samples, sfreq, latency, 0.05) * snr + _pink(rng, n_samples, 6)
    raw = mne.io.RawArray(values.T * 1e-5, mne.create_info(names, sfreq, "seeg"), verbose="ERROR")
    raw.info["line_freq"], raw.info["bads"] = 50, ["B1"]
    places = {n: np.array([-0.04 - 0.004 * k, -0.02, 0.01]) for k, n in enumerate(names)}
    raw.set_montage(mne.channels.make_dig_montage(places, coord_frame="mni_tal"), verbose="ERROR")
    raw.set_annotations(mne.Annotations(onset, 0.5, ids))
    path = mne_bids.BIDSPath(root=root, subject=subject, task="film", run="01", datatype="ieeg", acquisition="clinical")
    mne_bids.write_raw_bids(raw, path, format="BrainVision", allow_preload=True, overwrite=True, verbose="ERROR")
    more = {"positions": {n: p * 1000 for n, p in places.items()}, "bad": ["B1"]}
    return Planted(Path(root), features, driven, latency, more)


def nwb_file(path, *, n_events: int = 80, sfreq: float = 250.0, latency: float = 0.25, snr: float = 1.0,
             random_state: int = 0) -> Planted:
    """Write an NWB file: one electrical series of six electrodes (positions in mm), and trials with stimulus names.

    Electrodes 1 and 2 respond.

    Raises
    ------
    MissingExtra
        pynwb is not installed.
    """
    try:
        import pynwb
    except ImportError:
        raise MissingExtra("an NWB file needs pynwb. Run: pip install 'neuroalign[nwb]'") from None
    from datetime import UTC, datetime

    rng = child_rng(random_state, "simulate.recordings")
    onset = np.round(3.0 + np.cumsum(rng.uniform(0.8, 1.4, n_events)), 3)
    features = _word_features(rng, [f"picture{k:02d}" for k in range(n_events)], onset)
    driven = {f"E{k}": k in (1, 2) for k in range(6)}
    n_samples = int((onset[-1] + 5) * sfreq)
    weights = _weights(rng, list(driven.values()))
    values = _evoked(features, weights, n_samples, sfreq, latency, 0.05) * snr + _pink(rng, n_samples, 6)
    file = pynwb.NWBFile(session_description="planted", identifier="planted",
                         session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
                         subject=pynwb.file.Subject(subject_id="p1", species="Homo sapiens", age="P30Y", sex="U"))
    device = file.create_device("amplifier")
    group = file.create_electrode_group("A", "a shaft", "temporal lobe", device)
    file.add_electrode_column("label", "name of the contact")
    for k in range(6):
        file.add_electrode(x=-40.0 - 4 * k, y=-20.0, z=10.0, location="STG", group=group, label=f"E{k}")
    table = file.create_electrode_table_region(list(range(6)), "all")
    file.add_acquisition(pynwb.ecephys.ElectricalSeries(
        name="ieeg", data=(values * 10).astype(np.float32), electrodes=table, rate=sfreq, starting_time=0.0,
        conversion=1e-6))
    file.add_trial_column("stimulus_id", "what was shown")
    for name, start in zip(features["stimulus_id"].values, onset):
        file.add_trial(start_time=float(start), stop_time=float(start) + 0.5, stimulus_id=str(name))
    with pynwb.NWBHDF5IO(str(path), "w") as out:
        out.write(file)
    return Planted(Path(path), features, driven, latency, {})


def bold_runs(root, *, n_runs: int = 3, n_volumes: int = 120, tr: float = 2.0, n_events: int = 25, snr: float = 1.0,
              shape=(8, 8, 6), random_state: int = 0) -> Planted:
    """Write runs of BOLD (NIfTI, MNI space), a mask, and ``events.tsv`` of each run.

    In a cube of 2 x 2 x 2 voxels each event evokes a haemodynamic response (Glover), as high as a weighted sum of its
    three features; every voxel has autocorrelated noise and a slow drift.

    Returns
    -------
    Planted
        ``features`` have the coords ``onset`` (seconds from the start of the run) and ``run``; ``more``: ``runs``
        (paths), ``events``, ``mask``, and ``driven`` (bool array of the volume).
    """
    import nibabel
    from nilearn.glm.first_level import compute_regressor

    root, rng = Path(root), child_rng(random_state, "simulate.recordings")
    root.mkdir(parents=True, exist_ok=True)
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = -60, -40, 0
    driven = np.zeros(shape, bool)
    driven[2:4, 3:5, 1:3] = True
    mask = np.zeros(shape, np.uint8)
    mask[1:-1, 1:-1, :-1] = 1
    times = np.arange(n_volumes) * tr
    weights = _weights(rng, [True] * 8)
    bold, tables, parts = [], [], []
    for run in range(n_runs):
        onset = np.round(np.sort(rng.uniform(2, times[-1] - 25, n_events)), 2)
        ids = [f"clip{run}-{k:02d}" for k in range(n_events)]
        values = rng.standard_normal((n_events, 3))
        series = np.stack([compute_regressor(np.stack([onset, np.zeros(n_events), v]), "glover", times)[0][:, 0]
                           for v in values.T], 1)
        signal = series / series.std(0) @ weights
        noise = lfilter([1.0], [1.0, -0.4], rng.standard_normal((n_volumes + 50, *shape)), axis=0)[50:]
        data = 1000 + noise + np.linspace(0, 5, n_volumes)[:, None, None, None]
        data[:, driven] += snr * signal
        image = nibabel.Nifti1Image(np.moveaxis(data, 0, -1).astype(np.float32), affine)
        image.header.set_zooms((3, 3, 3, tr))
        image.header.set_xyzt_units("mm", "sec")
        stem = f"sub-01_task-film_run-{run + 1:02d}"
        bold.append(root / f"{stem}_space-MNI152NLin2009cAsym_bold.nii.gz")
        nibabel.save(image, bold[-1])
        tables.append(root / f"{stem}_events.tsv")
        pd.DataFrame({"onset": onset, "duration": 0.0, "stimulus_id": ids}).to_csv(tables[-1], sep="\t", index=False)
        parts.append((ids, values, onset, np.full(n_events, run)))
    nibabel.save(nibabel.Nifti1Image(mask, affine), root / "sub-01_space-MNI152NLin2009cAsym_mask.nii.gz")
    ids, values, onset, runs = (np.concatenate(p) for p in zip(*parts))
    features = make_features(values.astype(np.float32), ids, model="cause", coords={"onset": onset, "run": runs})
    places = np.argwhere(mask)
    names = {"-".join(map(str, p)): bool(driven[tuple(p)]) for p in places.tolist()}
    more = {"runs": bold, "events": tables, "mask": root / "sub-01_space-MNI152NLin2009cAsym_mask.nii.gz",
            "driven": driven}
    return Planted(root, features, names, HRF_PEAK, more)


def _word_features(rng, ids, onset) -> xr.DataArray:
    return make_features(rng.standard_normal((len(ids), 3)).astype(np.float32), ids, model="cause",
                         coords={"onset": onset})


def _weights(rng, driven) -> np.ndarray:
    """Draw weights of length one for the driven sites, (3, n_sites); zero for the others."""
    weights = rng.standard_normal((3, len(driven)))
    return weights / np.linalg.norm(weights, axis=0) * np.asarray(driven)


def _evoked(features, weights, n_samples: int, sfreq: float, latency: float, width: float) -> np.ndarray:
    """Add a bump for each event, (n_samples, n_sites)."""
    t = np.arange(n_samples) / sfreq
    heights = features.values.astype(float) @ weights
    out = np.zeros((n_samples, weights.shape[1]))
    for onset, height in zip(features["onset"].values, heights):
        rows = slice(*np.searchsorted(t, [onset + latency - 5 * width, onset + latency + 5 * width]))
        out[rows] += np.exp(-0.5 * ((t[rows] - onset - latency) / width) ** 2)[:, None] * height
    return out


def _pink(rng, n_samples: int, n_sites: int) -> np.ndarray:
    """Draw noise whose power falls with frequency, of variance 1."""
    spectrum = np.fft.rfft(rng.standard_normal((n_samples, n_sites)), axis=0)
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))[:, None]
    noise = np.fft.irfft(spectrum, n_samples, axis=0)
    return noise / noise.std(0)


def _write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
