"""NWB files through pynwb: an electrical series read a stretch at a time, its electrodes, and the trials."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_responses
from neuroalign.errors import MissingExtra, check_option, list_ids, warn_user
from neuroalign.recordings.continuous import Run
from neuroalign.recordings.coordinates import check_millimetres, position_coords
from neuroalign.recordings.events import read_events

__all__ = ["NwbRecording", "open_nwb"]

UNITS = {"mm": 1.0, "um": 1e-3, "m": 1e3}


@dataclass(repr=False)
class NwbRecording:
    """One electrical series of an NWB file; made by `open_nwb`.

    Attributes
    ----------
    path : Path
    series : str
        Name of the electrical series.
    sfreq : float
        Hz.
    start : float
        Second of its first sample.
    n_samples : int
    neuroids : DataFrame
        ``neuroid_id`` and the coords of each electrode that is used.
    """

    path: Path
    series: str
    sfreq: float
    start: float
    n_samples: int
    neuroids: pd.DataFrame
    kind: str
    dropped: list[str]
    space: str

    def __repr__(self) -> str:
        return (f"<NwbRecording: {self.path.name}, {self.series!r}, {self.n_samples / self.sfreq:.0f} s at "
                f"{self.sfreq:g} Hz, {len(self.neuroids)} electrodes, {len(self.dropped)} left out>")

    def runs(self) -> list[Run]:
        """Return what `bin_events` reads from."""
        return [Run(self.path.stem, self.sfreq, self.start, self.n_samples, self._fetch)]

    def load(self) -> xr.DataArray:
        """Read the whole series: ``(time, neuroid)`` in volts."""
        return self._fetch(0, self.n_samples)

    def events(self, table: str = "trials") -> pd.DataFrame:
        """Return trials (or another table of intervals): ``stimulus_id``, ``onset``, ``duration`` and its columns."""
        with _opened(self.path) as file:
            found = file.trials if table == "trials" else (file.intervals or {}).get(table)
            if found is None:
                names = list(file.intervals or {})
                raise ValueError(f"{self.path.name}: no table {table!r} of intervals, it has "
                                 f"{list_ids(names) or 'none'}.")
            rows = found.to_dataframe()
        rows = rows.rename(columns={"start_time": "onset"}).reset_index(drop=True)
        rows["duration"] = rows.pop("stop_time") - rows["onset"]
        return read_events(rows, prefix="trial")

    def _fetch(self, first: int, last: int) -> xr.DataArray:
        with _opened(self.path) as file:
            series = _series(file, self.path, self.series)
            try:
                values = np.asarray(series.data[first:last], np.float64)
            except OSError as error:
                raise ValueError(f"{self.path.name}: truncated or damaged at samples {first} to {last}: {error}"
                                 ) from None
            scale = series.conversion * (1.0 if series.channel_conversion is None else series.channel_conversion[:])
            values = values * scale + series.offset
        ids = self.neuroids["neuroid_id"].to_numpy(str)
        coords = {c: self.neuroids[c].to_numpy() for c in self.neuroids if c not in ("neuroid_id", "column")}
        coords = {c: v.astype(str) if v.dtype == object else v for c, v in coords.items()}
        out = make_responses(values[:, self.neuroids["column"]], self.start + np.arange(first, last) / self.sfreq, ids,
                             dim="time", kind=self.kind, units="V", sfreq=self.sfreq, neuroid_coords=coords)
        about = {"frame": self.space, "source": self.path.name, **({"dropped": self.dropped} if self.dropped else {})}
        return out.assign_attrs(about)


def open_nwb(path, series: str | None = None, *, space: str = "unknown", position_unit: str = "mm",
             kind: str = "seeg") -> NwbRecording:
    """Open an electrical series of an NWB file (its samples are not read).

    Parameters
    ----------
    path : path
    series : str, optional
        Its name, below ``acquisition`` or in a processing module; may be left out where there is only one.
    space : str
        Frame of the positions, for example ``"MNI152"``: the file does not say.
    position_unit : {"mm", "um", "m"}
        Unit of the positions. The schema asks for micrometres, human recordings are usually in millimetres.
    kind : {"seeg", "ecog", "eeg", ...}

    Returns
    -------
    NwbRecording

    Raises
    ------
    MissingExtra
        pynwb is not installed.
    ValueError
        A truncated file, several series, no regular sampling, positions in another unit.

    Examples
    --------
    >>> recording = open_nwb("sub-1_ecephys.nwb", space="MNI152")                  # doctest: +SKIP
    >>> epochs = bin_events(recording, recording.events())                         # doctest: +SKIP
    """
    check_option("position_unit", position_unit, UNITS)
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}.")
    with _opened(path) as file:
        found = _series(file, path, series)
        sfreq, start = _clock(found, path)
        table = found.electrodes.to_dataframe().reset_index(drop=True)
        owner = file.subject.subject_id if file.subject is not None and file.subject.subject_id else ""
        n_samples, name = len(found.data), found.name
    neuroids, dropped = _neuroids(table, owner, path, space, UNITS[position_unit])
    return NwbRecording(path, name, sfreq, start, n_samples, neuroids, kind, dropped, space)


class _opened:
    """Open an NWB file for reading, and close it."""

    def __init__(self, path: Path):
        try:
            import pynwb
        except ImportError:
            raise MissingExtra("an NWB file needs pynwb. Run: pip install 'neuroalign[nwb]'") from None
        try:
            self.io = pynwb.NWBHDF5IO(str(path), "r")
            self.file = self.io.read()
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path.name}: truncated, or no NWB file: {error}") from None

    def __enter__(self):
        return self.file

    def __exit__(self, *_):
        self.io.close()


def _series(file, path: Path, name: str | None):
    """Return the electrical series of a name, or the only one."""
    from pynwb.ecephys import ElectricalSeries

    found = {o.name: o for o in file.objects.values() if isinstance(o, ElectricalSeries)}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise ValueError(f"{path.name}: holds no electrical series.")
    return found[check_option(f"{path.name}: series", name, found)]


def _clock(series, path: Path) -> tuple[float, float]:
    if series.rate is not None:
        return float(series.rate), float(series.starting_time or 0.0)
    stamps = series.timestamps[:]
    steps = np.diff(stamps)
    if not len(steps) or np.abs(steps - np.median(steps)).max() > 0.5 * np.median(steps):
        raise ValueError(f"{path.name}: the samples of {series.name!r} are not evenly spaced (a gap?). Cut it into "
                         "pieces.")
    # The mean step: stamps in rounded seconds are off by more than a sample after many median ones.
    return float(1 / steps.mean()), float(stamps[0])


def _neuroids(table: pd.DataFrame, owner: str, path: Path, space: str, scale: float):
    """Return the electrodes that are used, with their coords, and the reasons for those that are not."""
    labels = next((table[c].astype(str) for c in ("label", "channel_name", "name") if c in table),
                  pd.Series([f"E{k}" for k in range(len(table))]))
    if labels.duplicated().any():
        twice = labels[labels.duplicated()].unique()
        raise ValueError(f"{path.name}: electrodes {list_ids(twice)} occur more than once.")
    ids = [f"{owner}.{label}" if owner else label for label in labels]
    bad = table["bad"].astype(bool).to_numpy() if "bad" in table else np.zeros(len(table), bool)
    out = pd.DataFrame({"neuroid_id": ids, "column": np.arange(len(table)), "label": labels})
    if "group_name" in table:
        out["shaft"] = table["group_name"].astype(str)
    if "location" in table:
        out["region"] = table["location"].astype(str)
    if owner:
        out["subject"] = owner
    if set("xyz") <= set(table):
        xyz = table[list("xyz")].to_numpy(float) * scale
        check_millimetres(xyz, f"{path.name} (position_unit)")
        for name, values in position_coords(xyz, space).items():
            out[name] = values
        lost = out["neuroid_id"].to_numpy()[~np.isfinite(xyz).all(1)]
        if len(lost):
            warn_user(f"{path.name}: {len(lost)} of {len(out)} electrodes have no position: {list_ids(lost)}.",
                      "no-position", lost)
    return out[~bad].reset_index(drop=True), [f"{i}: marked bad" for i in np.array(ids)[bad]]
