"""BIDS folders (iEEG, EEG, MEG) through mne-bids: runs, events, positions, bad channels with their reasons."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import xarray as xr

from neuroalign.errors import MissingExtra, list_ids
from neuroalign.recordings.continuous import Run, raw_run
from neuroalign.recordings.coordinates import is_mni
from neuroalign.recordings.events import read_events
from neuroalign.recordings.sensors import from_mne

__all__ = ["BidsRecording", "open_bids"]


@dataclass(repr=False)
class BidsRecording:
    """The runs of one subject and task; made by `open_bids`.

    Attributes
    ----------
    subject : str
        ``sub-01``.
    raws : dict of str to Raw
        By run (``"0"`` where the file names say none); their samples are not read.
    reasons : dict of str to str
        What ``channels.tsv`` says of bad channels.
    frame : str or None
        Coordinate system, where it is MNI.
    """

    subject: str
    raws: dict
    events_files: dict = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    frame: str | None = None

    def __repr__(self) -> str:
        length = ", ".join(f"{name}: {raw.times[-1]:.0f} s" for name, raw in self.raws.items())
        raw = next(iter(self.raws.values()))
        return (f"<BidsRecording: {self.subject}, {len(raw.ch_names)} channels at {raw.info['sfreq']:g} Hz, runs "
                f"{length}>")

    def runs(self) -> list[Run]:
        """Return what `bin_events` reads from."""
        return [raw_run(raw, name, subject=self.subject, frame=self.frame) for name, raw in self.raws.items()]

    def load(self, picks=None) -> xr.DataArray:
        """Read all runs: ``(time, neuroid)``, with the names of the runs in the coord ``run``."""
        out = from_mne(list(self.raws.values()), picks=picks, subject=self.subject, frame=self.frame)
        names = list(self.raws)
        out = out.assign_coords(run=("time", [names[k] for k in out["run"].values]))
        if "bad_spans" in out.attrs:
            out.attrs["bad_spans"] = json.dumps([[names[k], *span] for k, *span in json.loads(out.attrs["bad_spans"])])
        if "dropped" in out.attrs:
            out.attrs["dropped"] = [self._with_reason(d) for d in out.attrs["dropped"]]
        return out

    def events(self) -> pd.DataFrame:
        """Return the events of all runs, with the columns ``run`` and ``stimulus_id`` (see `read_events`)."""
        absent = [name for name, path in self.events_files.items() if not path.is_file()]
        if absent:
            raise FileNotFoundError(f"{self.subject}: no events.tsv of the runs {list_ids(absent)}.")
        return pd.concat([read_events(path).assign(run=name) for name, path in self.events_files.items()],
                         ignore_index=True)

    def _with_reason(self, dropped: str) -> str:
        name = dropped.partition(":")[0].removeprefix(f"{self.subject}.")
        return f"{dropped} ({self.reasons[name]})" if self.reasons.get(name) else dropped


def open_bids(root, subject: str, *, task: str | None = None, session: str | None = None, run: str | None = None,
              datatype: str | None = None) -> BidsRecording:
    """Open the recordings of one subject in a BIDS folder (no samples are read).

    Parameters
    ----------
    root : path
    subject : str
        With or without ``sub-``.
    task, session, run : str, optional
        Which; all runs by default, but one task.
    datatype : {"ieeg", "eeg", "meg"}, optional
        May be left out where there is only one.

    Returns
    -------
    BidsRecording

    Raises
    ------
    MissingExtra
        mne-bids is not installed.
    FileNotFoundError
        Nothing fits; says what there is.

    Examples
    --------
    >>> recording = open_bids("bids/", "01", task="film")                          # doctest: +SKIP
    >>> epochs = bin_events(recording, recording.events())                         # doctest: +SKIP
    """
    try:
        import mne_bids
    except ImportError:
        raise MissingExtra("a BIDS folder needs mne-bids. Run: pip install 'neuroalign[bids]'") from None
    root, subject = Path(root).expanduser(), subject.removeprefix("sub-")
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {str(root)!r}.")
    datatypes = [datatype] if datatype else ["ieeg", "eeg", "meg"]
    found = mne_bids.find_matching_paths(root, subjects=subject, sessions=session, tasks=task, runs=run,
                                         datatypes=datatypes, suffixes=datatypes, check=True)
    found = [p for p in found if p.extension in mne_bids.config.reader]
    if not found:
        there = sorted({p.basename for p in mne_bids.find_matching_paths(root, suffixes=["ieeg", "eeg", "meg"])
                        if p.extension in mne_bids.config.reader})
        raise FileNotFoundError(f"{root.name}: no recording of subject {subject!r} with task={task!r}, session="
                                f"{session!r}, run={run!r}, datatype={datatype!r}. There are: "
                                f"{list_ids(there) or 'none'}.")
    for what in ("task", "datatype", "session"):
        several = sorted({str(getattr(p, what)) for p in found})
        if len(several) > 1:
            raise ValueError(f"{root.name}: subject {subject!r} has several {what}s: {list_ids(several)}. Pass "
                             f"{what}=.")
    raws, events = {}, {}
    for path in found:
        name = str(path.run or path.acquisition or "0") if len(found) > 1 else str(path.run or "0")
        raws[name] = _read(mne_bids, path)
        events[name] = path.copy().update(suffix="events", extension=".tsv").fpath
    return BidsRecording(f"sub-{subject}", raws, events, _reasons(found), _frame(found[0]))


def _read(mne_bids, path):
    """Open a recording; its events are read from their own table, whatever their order."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return mne_bids.read_raw_bids(path, verbose="ERROR")
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise ValueError(f"{path.basename}: cannot be read: {error}") from None


def _reasons(paths) -> dict[str, str]:
    reasons = {}
    for path in paths:
        table = path.copy().update(suffix="channels", extension=".tsv").fpath
        if table.is_file():
            rows = pd.read_csv(table, sep="\t", keep_default_na=False, dtype=str)
            if {"status", "status_description"} <= set(rows):
                bad = rows[(rows["status"] == "bad") & ~rows["status_description"].isin(["", "n/a"])]
                reasons |= dict(zip(bad["name"], bad["status_description"]))
    return reasons


def _frame(path) -> str | None:
    """Return the coordinate system of the electrodes, where it is MNI; mne-bids turns fsaverage into mni_tal itself."""
    found = path.copy().update(task=None, run=None, acquisition=None, suffix=None, extension=None)
    for table in sorted(Path(found.directory).glob(f"sub-{path.subject}*_electrodes.tsv")):
        space = table.name.partition("_space-")[2].partition("_")[0]
        if is_mni(space):
            return space
    return None
