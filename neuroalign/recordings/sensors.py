"""MNE objects and files in, Responses out: continuous recordings, epochs and evoked responses."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_responses
from neuroalign.errors import list_ids, warn_user
from neuroalign.recordings.coordinates import check_millimetres, is_mni, position_coords

__all__ = ["add_positions", "bad_spans", "from_mne", "open_mne"]

KINDS = {"seeg": "seeg", "ecog": "ecog", "dbs": "seeg", "eeg": "eeg", "mag": "meg", "grad": "meg"}
UNITS = {"seeg": "V", "ecog": "V", "dbs": "V", "eeg": "V", "mag": "T", "grad": "T/m"}
LARGEST = 0.05  # V: a median amplitude above it is no brain signal


def from_mne(source, *, picks=None, subject: str = "", stimulus_ids: Sequence[str] | None = None,
             frame: str | None = None) -> xr.DataArray:
    """Turn an MNE object or file into Responses.

    Parameters
    ----------
    source : Raw, Epochs, Evoked, path, or list of them
        A list of Raw is a list of runs, of Evoked a list of stimuli. Files: whatever `mne.io.read_raw` reads, and
        ``-epo.fif``, ``-ave.fif``.
    picks : str or list of str, optional
        Channel types or names; all brain channels by default. Channels marked bad are left out and named.
    subject : str
        Goes before the channel names, so that subjects can be joined.
    stimulus_ids : sequence of str, optional
        Of the epochs; by default the metadata column ``stimulus_id``, else the name of the event.
    frame : str, optional
        Frame of the positions, where the file lost it: SEEG positions in ``"mni_tal"`` come back from .fif as
        ``"head"``.

    Returns
    -------
    DataArray
        Raw: ``(time, neuroid)`` with coord ``run``; Epochs: ``(presentation, neuroid, time_bin)`` with the metadata,
        and ``onset`` in seconds since the start of the measurement;
        Evoked: ``(stimulus, neuroid, time_bin)``. Volts or tesla, as MNE has them. Positions in mm: ``x``, ``y``,
        ``z`` if the frame is MNI, else ``native_x``, ... (``attrs["frame"]``). Spans annotated as bad stand in
        ``attrs["bad_spans"]``, dropped channels and epochs with their reasons in ``attrs["dropped"]``.

    Raises
    ------
    ValueError
        Runs of different sampling rates or channels; no brain channel; positions that are no metres.

    Examples
    --------
    >>> import mne
    >>> info = mne.create_info(["A1", "A2"], 100.0, "seeg")
    >>> raw = mne.io.RawArray(np.zeros((2, 300)), info, verbose=False)
    >>> from_mne(raw, subject="s1").neuroid_id.values.tolist()
    ['s1.A1', 's1.A2']
    """
    import mne

    listed = [open_mne(s) for s in (source if isinstance(source, (list, tuple)) else [source])]
    if isinstance(listed[0], list):  # a file of evoked responses holds several
        listed = listed[0]
    if not listed:
        raise ValueError("from_mne: nothing given.")
    kinds = {type_ for type_ in (mne.io.BaseRaw, mne.BaseEpochs, mne.Evoked) if isinstance(listed[0], type_)}
    if not kinds or not all(isinstance(s, tuple(kinds)) for s in listed):
        got = list_ids(dict.fromkeys(type(s).__name__ for s in listed))
        raise TypeError(f"from_mne: got {got}, expected Raw, Epochs or Evoked, one kind at a time.")
    names = _same_channels(listed, picks)
    about = _channels(listed[0], names, subject, frame)
    if isinstance(listed[0], mne.io.BaseRaw):
        out = _from_raws(listed, names, about)
    elif isinstance(listed[0], mne.BaseEpochs):
        if len(listed) > 1:
            raise ValueError("from_mne: join epochs first, mne.concatenate_epochs([...]).")
        out = _from_epochs(listed[0], names, about, stimulus_ids)
    else:
        out = _from_evokeds(listed, names, about)
    _check_amplitude(out)
    bad = [f"{subject + '.' if subject else ''}{c}: marked bad" for c in _bads(listed, picks)]
    dropped = [*bad, *(_lost_epochs(listed[0]) if isinstance(listed[0], mne.BaseEpochs) else [])]
    return out.assign_attrs(dropped=dropped) if dropped else out


def open_mne(source):
    """Open a file without reading its samples; objects are returned as they are.

    Channel names that occur twice are renamed by MNE (``A1-0``, ``A1-1``); here that becomes a warning that names them.
    """
    import mne

    if not isinstance(source, (str, Path)):
        return source
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"from_mne: no file {str(source)!r}.")
    name = path.name.lower()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Channel names are not unique")
        try:
            if name.endswith(("epo.fif", "epo.fif.gz")):
                found = mne.read_epochs(path, preload=False, verbose="ERROR")
            elif name.endswith(("ave.fif", "ave.fif.gz")):
                found = mne.read_evokeds(path, verbose="ERROR")
            else:
                found = mne.io.read_raw(path, preload=False, verbose="ERROR")
        except (OSError, EOFError, ValueError, RuntimeError) as error:
            raise ValueError(f"from_mne: {path.name} cannot be read: {error}") from None
    names = set(getattr(found, "ch_names", ()))
    twice = sorted(c for c in names if c.endswith("-0") and f"{c[:-1]}1" in names)
    if twice:
        warn_user(f"{path.name}: channel names occur more than once and were numbered: {list_ids(twice)}. Check which "
                  "is which.", "duplicate-channels", twice)
    return found


def add_positions(responses: xr.DataArray, electrodes: pd.DataFrame, *, space: str = "MNI152") -> xr.DataArray:
    """Give neuroids the positions (and regions, ...) of a table.

    Parameters
    ----------
    responses : DataArray with dim neuroid
    electrodes : DataFrame
        ``neuroid_id`` (or ``label``) and ``x``, ``y``, ``z`` in mm, as `load_electrodes` returns; any other columns
        become coords too.
    space : str
        What frame the positions are in.

    Returns
    -------
    DataArray
        Neuroids that the table does not know have NaN (or an empty text), with a warning that names them.

    Raises
    ------
    ValueError
        Metres instead of millimetres; ids that occur twice; nothing in common.
    """
    ids = responses["neuroid_id"].values.astype(str)
    by_id = "neuroid_id" in electrodes and bool(set(electrodes["neuroid_id"].astype(str)) & set(ids))
    key = "neuroid_id" if by_id else "label"
    wanted = responses["label"].values.astype(str) if not by_id and "label" in responses.coords else ids
    if key not in electrodes:
        raise ValueError(f"electrodes: columns are {list_ids(electrodes.columns)}, expected 'neuroid_id' or 'label'.")
    names = pd.Index(electrodes[key].astype(str))
    if names.has_duplicates:
        raise ValueError(f"electrodes: {key} is not unique: {list_ids(names[names.duplicated()].unique())}. Select one "
                         "subject, or use 'neuroid_id'.")
    rows = names.get_indexer(wanted)
    if (rows < 0).all():
        raise ValueError(f"electrodes: nothing in common; the table has {list_ids(names)}, the recording "
                         f"{list_ids(wanted)}.")
    check_millimetres(electrodes[list("xyz")].to_numpy(float), "electrodes")
    table = electrodes.reset_index(drop=True).reindex(np.where(rows < 0, len(electrodes), rows))
    coords = position_coords(table[list("xyz")].to_numpy(float), space)
    for column in table.columns.difference([*"xyz", "neuroid_id", "subject", key]):
        values = table[column]
        coords[column] = _plain(values if values.dtype.kind in "fiub" else values.fillna(""))
    placed = responses.assign_coords({k: ("neuroid", v) for k, v in coords.items()}).assign_attrs(frame=space)
    lost = ids[~np.isfinite(table[list("xyz")].to_numpy(float)).all(1)]
    if len(lost):
        warn_user(f"electrodes: {len(lost)} of {len(ids)} neuroids have no position: {list_ids(lost)}.", "no-position",
                  lost)
    return placed


def bad_spans(raw) -> list[list[float]]:
    """Return [onset, duration] in seconds from the first sample of each annotation that begins with BAD."""
    return [[round(float(a["onset"]) - raw.first_time, 6), float(a["duration"])] for a in raw.annotations
            if str(a["description"]).upper().startswith("BAD")]


def _same_channels(listed, picks) -> list[str]:
    """Return the good channels that are picked, in order; all objects must have the same, at one sampling rate."""
    rates = sorted({float(s.info["sfreq"]) for s in listed})
    if len(rates) > 1:
        raise ValueError(f"from_mne: sampling rates differ between runs: {', '.join(f'{r:g}' for r in rates)} Hz. "
                         "Bring them to one first, raw.resample(...).")
    names = [_picked(s, picks) for s in listed]
    for k, other in enumerate(names[1:], 1):
        if set(other) != set(names[0]):
            odd = sorted(set(other) ^ set(names[0]))
            raise ValueError(f"from_mne: channels of run {k} differ from those of run 0: {list_ids(odd)}. Mark them "
                             "bad in all runs, or pass picks=.")
    return names[0]


def _picked(source, picks, with_bad: bool = False) -> list[str]:
    wanted = list(KINDS) if picks is None else [picks] if isinstance(picks, str) else list(picks)
    types = dict(zip(source.ch_names, source.get_channel_types()))
    unknown = [p for p in wanted if p not in types and p not in types.values() and picks is not None]
    names = [c for c, kind in types.items() if c in wanted or kind in wanted]
    good = [c for c in names if with_bad or c not in source.info["bads"]]
    if unknown or not good:
        kinds = dict.fromkeys(types.values())
        raise ValueError(f"from_mne: no good channel for {list_ids(unknown or wanted)}; the types here are "
                         f"{list_ids(kinds)}. Set them by raw.set_channel_types(...), or pass picks=.")
    return good


def _bads(listed, picks) -> list[str]:
    every = dict.fromkeys(c for s in listed for c in _picked(s, picks, with_bad=True))
    bad = {c for s in listed for c in s.info["bads"]}
    return [c for c in every if c in bad]


def _channels(source, names, subject: str, frame: str | None) -> dict:
    """Return what every array of these channels says of them."""
    types = dict(zip(source.ch_names, source.get_channel_types()))
    kinds = dict.fromkeys(KINDS.get(types[c], "eeg") for c in names)
    if len(kinds) > 1:
        raise ValueError(f"from_mne: channels of kinds {list_ids(kinds)} together; read one at a time by picks=.")
    xyz, found = _positions(source, names)
    frame = frame or found
    coords = {"label": np.array(names), "channel_type": np.array([types[c] for c in names])}
    attrs = {"frame": frame}
    if np.isfinite(xyz).any():
        check_millimetres(xyz, "from_mne (MNE keeps metres, here turned to mm)")
        coords |= position_coords(xyz, frame)
        lost = np.array(names)[~np.isfinite(xyz).all(1)]
        if len(lost) and is_mni(frame):
            warn_user(f"from_mne: {len(lost)} of {len(names)} channels have no position: {list_ids(lost)}.",
                      "no-position", lost)
    if subject:
        coords["subject"] = np.full(len(names), subject)
    units = ", ".join(dict.fromkeys(UNITS.get(types[c], "V") for c in names))
    ids = [f"{subject}.{c}" if subject else c for c in names]
    return {"ids": ids, "kind": next(iter(kinds)), "units": units, "coords": coords, "attrs": attrs,
            "sfreq": float(source.info["sfreq"])}


def _positions(source, names) -> tuple[np.ndarray, str]:
    """Return positions (mm; NaN: unknown) and the name of their frame."""
    from mne._fiff.constants import FIFF

    montage = source.get_montage()
    if montage is not None:
        places = montage.get_positions()
        xyz = np.array([places["ch_pos"].get(c, np.full(3, np.nan)) for c in names]) * 1000
        if np.isfinite(xyz).any():
            return xyz, str(places["coord_frame"])
    channels = {c["ch_name"]: c for c in source.info["chs"]}
    xyz = np.array([channels[c]["loc"][:3] for c in names], float) * 1000
    xyz[(xyz == 0).all(1)] = np.nan
    frames = {int(channels[c]["coord_frame"]) for c in names}
    known = {int(FIFF.FIFFV_COORD_DEVICE): "device", int(FIFF.FIFFV_COORD_HEAD): "head",
             int(FIFF.FIFFV_MNE_COORD_MNI_TAL): "mni_tal"}
    return xyz, known.get(frames.pop(), "unknown") if len(frames) == 1 else "unknown"


def _from_raws(raws, names, about) -> xr.DataArray:
    values = np.concatenate([raw.get_data(picks=names).T.astype(np.float32) for raw in raws])
    times = np.concatenate([raw.times for raw in raws])
    run = np.repeat(np.arange(len(raws)), [len(raw.times) for raw in raws])
    spans = [[k, *span] for k, raw in enumerate(raws) for span in bad_spans(raw)]
    out = _labelled(values, times, about, dim="time", sample_coords={"run": run})
    return out.assign_attrs(bad_spans=json.dumps(spans)) if spans else out


def _from_epochs(epochs, names, about, stimulus_ids) -> xr.DataArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        values = epochs.get_data(picks=names, verbose="ERROR").astype(np.float32)
    events = {code: name for name, code in epochs.event_id.items()}
    metadata = epochs.metadata
    if stimulus_ids is None:
        stimulus_ids = (metadata["stimulus_id"].astype(str) if metadata is not None and "stimulus_id" in metadata
                        else [events[code] for code in epochs.events[:, 2]])
    stimulus_ids = np.asarray(list(stimulus_ids), str)
    if len(stimulus_ids) != len(values):
        raise ValueError(f"stimulus_ids: got {len(stimulus_ids)} for {len(values)} epochs (after rejection).")
    more = {} if metadata is None else {c: _plain(metadata[c]) for c in metadata if c != "stimulus_id"}
    # Events count samples of the recording, which epochs may have fewer of since (decimate, resample).
    rate = getattr(epochs, "_raw_sfreq", None)
    rate = about["sfreq"] if rate is None else float(np.ravel(rate)[0])
    more = {"onset": epochs.events[:, 0] / rate, **more}
    return _labelled(values, stimulus_ids, about, dim="presentation", sample_coords=more, time_bins=epochs.times)


def _from_evokeds(evokeds, names, about) -> xr.DataArray:
    clocks = {tuple(np.round(e.times, 9)) for e in evokeds}
    if len(clocks) > 1:
        raise ValueError("from_mne: evoked responses have different times. Crop them to the same window.")
    ids = [e.comment or f"evoked{k}" for k, e in enumerate(evokeds)]
    values = np.stack([e.get_data(picks=names).astype(np.float32) for e in evokeds])
    return _labelled(values, ids, about, dim="stimulus", sample_coords={"n_averaged": [e.nave for e in evokeds]},
                     time_bins=evokeds[0].times)


def _labelled(values, sample_ids, about, **more) -> xr.DataArray:
    return make_responses(values, sample_ids, about["ids"], kind=about["kind"], units=about["units"],
                          sfreq=about["sfreq"], neuroid_coords=about["coords"], **more).assign_attrs(about["attrs"])


def _plain(column: pd.Series) -> np.ndarray:
    return column.to_numpy() if column.dtype.kind in "fiub" else column.astype(str).to_numpy(str)


def _lost_epochs(epochs) -> list[str]:
    reasons = [(k, ", ".join(why)) for k, why in enumerate(epochs.drop_log) if why and tuple(why) != ("IGNORED",)]
    return [f"event {k}: {why}" for k, why in reasons]


def _check_amplitude(out: xr.DataArray) -> None:
    """Warn where a recording in volts is as large as one in microvolts."""
    if out.attrs["units"] != "V":
        return
    size = np.nanmedian(np.abs(out.values[::max(1, len(out) // 5000)]))
    if size > LARGEST:
        warn_user(f"from_mne: the usual amplitude is {size:.3g} V, brain signals are below {LARGEST} V. Were "
                  "microvolts read as volts? Multiply by 1e-6.", "units", count=out.sizes["neuroid"])
