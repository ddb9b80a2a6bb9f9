"""Recordings laid out as the Brain Treebank: HDF5 of a viewing, labels, localisation, corrupted lists, triggers, words.

Nothing is read as a whole: `TreebankRecording` reads a stretch of seconds at a time, and `bin_events` asks for those
around its events.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_responses
from neuroalign.data.stimuli import StimulusSet
from neuroalign.errors import list_ids, warn_user
from neuroalign.recordings.continuous import Run
from neuroalign.recordings.film_clock import FilmClock
from neuroalign.recordings.references import split_contact
from neuroalign.recordings.sensors import add_positions

__all__ = ["TreebankRecording", "open_treebank"]

RATES = (250, 256, 500, 512, 1000, 1024, 2000, 2048)  # Hz, of amplifiers
SPAN = 20.0  # seconds of film between two triggers that the rate is read off
NEAR = 2e-3  # how far a rate estimated from triggers may lie from one of these
WORDS = ("text", "full_word", "word")  # columns that hold the words


@dataclass(repr=False)
class TreebankRecording:
    """One viewing of one subject; made by `open_treebank`.

    Attributes
    ----------
    path : Path
        The HDF5 file.
    subject : str
        ``btbank3``, as in `load_electrodes`.
    sfreq : float
        Hz; nine subjects of the Brain Treebank were recorded at 2,048 Hz and one at about half of that, so the rate is
        read off the triggers.
    labels : dict of str to int
        Contacts that are used, and the number of each in the file.
    dropped : list of str
        Contacts that are not, with the reason.
    clock : FilmClock or None
    regions : dict of str to str
    """

    path: Path
    subject: str
    sfreq: float
    labels: dict[str, int]
    dropped: list[str]
    clock: FilmClock | None
    regions: dict[str, str] = field(default_factory=dict)
    film: str = ""
    n_samples: int = 0
    transcript: Path | None = None
    positions: pd.DataFrame | None = None

    def __repr__(self) -> str:
        return (f"<TreebankRecording: {self.path.stem}, {self.n_samples / self.sfreq:.0f} s at {self.sfreq:g} Hz, "
                f"{len(self.labels)} contacts, {len(self.dropped)} left out, {self.clock or 'no triggers'}>")

    def read(self, start: float, stop: float) -> xr.DataArray:
        """Return the seconds from `start` to `stop`: ``(time, neuroid)``."""
        return self.runs()[0].read(start, stop)

    def runs(self) -> list[Run]:
        """Return what `bin_events` reads from."""
        return [Run(self.path.stem, self.sfreq, 0.0, self.n_samples, self._fetch)]

    def words(self, table=None) -> StimulusSet:
        """Return the words of the film, timed on the clock of the recording.

        Parameters
        ----------
        table : DataFrame, StimulusSet or path, optional
            ``text`` (or ``full_word``), and ``start`` and ``end`` (or ``onset`` and ``duration``) in seconds of the
            film; by default the folder's ``transcripts/FILM/features.csv``. Where it has ``est_idx`` or ``sample``
            (the sample of the recording), that is taken instead: the words of
            ``na.load_stimuli("brain_treebank", viewing="subject3_trial0")`` have it.

        Returns
        -------
        StimulusSet
            ``text``, ``onset``, ``duration``, ``film_time`` (seconds of the film) and the other columns; ids
            ``VIEWING#k``.
        """
        table = self._word_table(table)
        text = next((c for c in WORDS if c in table), None)
        start = next((c for c in ("start", "onset") if c in table), None)
        if text is None or start is None:
            raise ValueError(f"{self.path.name}: the word table has the columns {list_ids(table.columns)}, expected "
                             "'text' and 'start'.")
        film = table[start].to_numpy(float)
        if "est_idx" in table:
            onset = table["est_idx"].to_numpy(float) / self.sfreq
        elif self.clock is not None:
            onset = self.clock.to_recording(film)
        else:
            raise ValueError(f"{self.path.name}: no triggers (subject_timings/...csv) say when the film was shown.")
        length = (table["end"].to_numpy(float) - film if "end" in table else
                  table.get("duration", pd.Series(np.nan, table.index)).to_numpy(float))
        rest = table.drop(columns=[c for c in (text, start, "end", "duration", "onset", "text") if c in table])
        words = pd.DataFrame({"text": table[text].astype(str).to_numpy(), "parent": self.path.stem, "onset": onset,
                              "duration": length, "film_time": film, **{c: rest[c].to_numpy() for c in rest}},
                             index=[f"{self.path.stem}#{k}" for k in range(len(table))])
        lost = words.index[~np.isfinite(words["onset"])]
        if len(lost):
            warn_user(f"{self.path.name}: {len(lost)} of {len(words)} words dropped, the triggers do not say when they "
                      f"were shown (a pause, a jump, or after the end): {list_ids(lost)}.", "words-not-shown", lost)
        return StimulusSet(words[np.isfinite(words["onset"])], self.path.stem)

    def _word_table(self, table) -> pd.DataFrame:
        if table is None:
            if self.transcript is None or not self.transcript.is_file():
                raise FileNotFoundError(f"{self.path.name}: no transcript {str(self.transcript)!r}. Pass a table, as "
                                        "na.load_stimuli('brain_treebank', viewing='subject3_trial0').")
            table = self.transcript
        if isinstance(table, StimulusSet):
            table = table.table.drop(columns="parent", errors="ignore").reset_index(drop=True)
        found = table if isinstance(table, pd.DataFrame) else pd.read_csv(table, keep_default_na=False)
        return found.rename(columns={"sample": "est_idx"}) if "est_idx" not in found else found

    def _fetch(self, first: int, last: int) -> xr.DataArray:
        with _open(self.path) as file:
            try:
                values = np.stack([file["data"][f"electrode_{k}"][first:last] for k in self.labels.values()], 1)
            except OSError as error:
                raise ValueError(f"{self.path.name}: truncated or damaged at samples {first} to {last}: {error}"
                                 ) from None
        names = list(self.labels)
        shafts = [(split_contact(n) or (n, 0))[0] for n in names]
        coords = {"subject": np.full(len(names), self.subject), "label": np.array(names), "shaft": np.array(shafts)}
        if self.regions:
            coords["region"] = np.array([self.regions.get(n, "unknown") for n in names])
        out = make_responses(values, np.arange(first, last) / self.sfreq, [f"{self.subject}.{n}" for n in names],
                             dim="time", kind="seeg", units="a.u.", sfreq=self.sfreq, neuroid_coords=coords)
        out = out.assign_attrs(source=self.path.name, **({"dropped": self.dropped} if self.dropped else {}))
        return out if self.positions is None else add_positions(out, self.positions)


def open_treebank(root, subject: int, trial: int, *, sfreq: float | None = None, keep_corrupted: bool = False,
                  electrodes: pd.DataFrame | None = None) -> TreebankRecording:
    """Open one viewing in a folder laid out as the Brain Treebank (nothing but its tables is read).

    Parameters
    ----------
    root : path
        With ``sub_S_trialTTT.h5`` in it or in ``all_subject_data/``, ``electrode_labels/``, ``localization/``,
        ``corrupted_elec.json``, ``subject_timings/``, ``subject_metadata/``, ``transcripts/``; the last four may be
        missing.
    subject, trial : int
    sfreq : float, optional
        Hz; by default what the triggers say.
    keep_corrupted : bool
        Keep the contacts that ``corrupted_elec.json`` lists.
    electrodes : DataFrame, optional
        Positions, for example ``na.load_electrodes("brain_treebank_electrodes")``.

    Returns
    -------
    TreebankRecording

    Raises
    ------
    ValueError
        A truncated file, labels that do not fit it, contacts of different lengths, a rate that the triggers deny.

    Notes
    -----
    Wang et al. 2024, Brain Treebank (https://braintreebank.dev).

    Examples
    --------
    >>> rec = open_treebank("braintreebank", 3, 0)                                   # doctest: +SKIP
    >>> epochs = bin_events(rec, rec.words(), steps=["laplacian"])                   # doctest: +SKIP
    """
    root, name = Path(root).expanduser(), f"sub_{subject}_trial{trial:03d}"
    path = next((p for p in (root / f"{name}.h5", root / "all_subject_data" / f"{name}.h5") if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no file {name}.h5 in {str(root)!r} or in its all_subject_data.")
    labels = _labels(root / "electrode_labels" / f"sub_{subject}" / "electrode_labels.json")
    n_samples = _check_file(path, len(labels))
    timings = _timings(root / "subject_timings" / f"{name}_timings.csv")
    sfreq = _rate(name, timings, sfreq)
    reasons = _reasons(root / "corrupted_elec.json", subject, labels, keep_corrupted)
    owner = f"btbank{subject}"
    used = {label: k for k, label in enumerate(labels) if label not in reasons}
    if not used:
        raise ValueError(f"{name}: every contact is corrupted or a trigger. Pass keep_corrupted=True to see them.")
    clock = None if timings is None else FilmClock.from_triggers(timings["movie_time"], timings["index"] / sfreq)
    film = _film(root / "subject_metadata" / f"{name}_metadata.json")
    own = None if electrodes is None else electrodes[electrodes["subject"].astype(str) == owner]
    return TreebankRecording(path, owner, sfreq, used, [f"{owner}.{k}: {v}" for k, v in reasons.items()], clock,
                             _regions(root / "localization" / f"sub_{subject}" / "depth-wm.csv"), film, n_samples,
                             root / "transcripts" / film / "features.csv", own)


def _open(path: Path):
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path.name}: truncated, or no HDF5 file: {error}") from None


def _clean(label: str) -> str:
    return label.replace("*", "").replace("#", "").strip()


def _labels(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no labels of the electrodes, {str(path)!r}.")
    labels = [_clean(label) for label in json.loads(path.read_text(encoding="utf-8"))]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"{path}: labels {list_ids(twice)} occur more than once.")
    return labels


def _check_file(path: Path, n_labels: int) -> int:
    """Return the number of samples; all electrodes must be there, equally long."""
    with _open(path) as file:
        if "data" not in file:
            raise ValueError(f"{path.name}: no group 'data', it has {list_ids(file)}.")
        lengths = {name: len(file["data"][name]) for name in file["data"]}
    missing = [f"electrode_{k}" for k in range(n_labels) if f"electrode_{k}" not in lengths]
    if missing or len(lengths) != n_labels:
        lost = f"; missing: {list_ids(missing)}" if missing else ""
        raise ValueError(f"{path.name}: {len(lengths)} electrodes, but {n_labels} labels{lost}. Do the labels belong "
                         "to this subject?")
    usual = max(set(lengths.values()), key=list(lengths.values()).count)
    odd = [name for name, n in lengths.items() if n != usual]
    if odd:
        raise ValueError(f"{path.name}: {list_ids(odd)} have other lengths than the {usual} samples of the others. "
                         "Truncated?")
    return usual


def _timings(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    table = pd.read_csv(path)
    if not {"movie_time", "index"} <= set(table.columns):
        raise ValueError(f"{path.name}: columns are {list_ids(table.columns)}, expected 'movie_time' (s) and 'index' "
                         "(sample).")
    table = table[np.isfinite(table["movie_time"]) & np.isfinite(table["index"])]
    return table.sort_values("index").drop_duplicates("index").reset_index(drop=True)


def _rate(name: str, timings, sfreq: float | None) -> float:
    if sfreq is not None:
        return float(sfreq)
    if timings is None:
        raise ValueError(f"{name}: no subject_timings/{name}_timings.csv to read the sampling rate off. Pass sfreq= "
                         "(2048 Hz for most subjects of the Brain Treebank, but not for all).")
    movie, index = timings["movie_time"].to_numpy(float), timings["index"].to_numpy(float)
    apart = max(1, min(len(movie) // 4, round(SPAN / max(np.median(np.diff(movie)), 1e-3))))
    with np.errstate(divide="ignore", invalid="ignore"):  # over a long span, since samples are whole numbers
        found = float(np.nanmedian((index[apart:] - index[:-apart]) / (movie[apart:] - movie[:-apart])))
    nearest = min(RATES, key=lambda r: abs(r - found))
    if abs(nearest / found - 1) > NEAR:
        raise ValueError(f"{name}: the triggers say {found:.5g} samples a second, which is no usual rate. Pass sfreq=.")
    return float(nearest)


def _reasons(path: Path, subject: int, labels: list[str], keep_corrupted: bool) -> dict[str, str]:
    reasons = {c: "no brain signal (trigger)" for c in labels if c.upper().startswith(("DC", "TRIG"))}
    if path.is_file() and not keep_corrupted:
        listed = {_clean(c) for c in json.loads(path.read_text(encoding="utf-8")).get(f"sub_{subject}", [])}
        reasons |= {c: "corrupted" for c in labels if c in listed and c not in reasons}
    return reasons


def _regions(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = pd.read_csv(path, keep_default_na=False)
    if not {"Electrode", "DesikanKilliany"} <= set(table.columns):
        return {}
    return dict(zip(table["Electrode"].map(_clean), table["DesikanKilliany"].astype(str)))


def _film(path: Path) -> str:
    """Return the name of the film's folder, if the metadata say it."""
    if not path.is_file():
        return ""
    about = json.loads(path.read_text(encoding="utf-8"))
    return str(next((about[k] for k in ("filename", "movie", "title") if about.get(k)), ""))
