"""StimulusSet: the table of what was shown or heard."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from neuroalign.errors import list_ids, suggest

__all__ = ["CLIP_COLUMNS", "MODALITIES", "StimulusSet", "clip_window", "file_sha256"]

MODALITIES = ("image", "text", "audio", "video")
# What part of a sound or film is given (seconds in the file), and the frames a second of arrays of frames.
CLIP_COLUMNS = ("start", "stop", "frame_rate")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def file_sha256(path) -> str:
    """Return the sha256 of a file's bytes as hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def clip_window(stimulus: Mapping) -> tuple[float, float | None]:
    """Return the seconds of its file where a stimulus starts and stops; None: at the end.

    Examples
    --------
    >>> clip_window({"video": "film.mp4", "start": 2.0, "stop": 3.5}), clip_window({"video": "film.mp4"})
    ((2.0, 3.5), (0.0, None))
    """
    start, stop = (stimulus.get(c) for c in ("start", "stop"))
    return (0.0 if _is_missing(start) else float(start)), (None if _is_missing(stop) else float(stop))


@dataclass(frozen=True)
class StimulusSet:
    """A table of stimuli, indexed by ``stimulus_id``.

    Parameters
    ----------
    table : DataFrame
        One row a stimulus, indexed by unique ids. Columns ``image``, ``audio``, ``video`` hold paths and
        ``text`` the text itself. ``start`` and ``stop`` say which seconds of its sound and video a stimulus is,
        ``frame_rate`` when the frames of an array are shown; any other column is metadata. A stimulus may have
        several modalities. Rows that are words of a running text carry ``parent`` (id of the passage; its words
        stand in order) and, if timed, ``onset`` and ``duration`` in seconds.
    name : str
        Name for reports and store folders.

    Examples
    --------
    >>> s = StimulusSet.from_texts(["a cat", "two dogs"], name="pets")
    >>> len(s), s.modalities
    (2, ('text',))
    >>> s.words().ids
    ('text0#0', 'text0#1', 'text1#0', 'text1#1')
    """

    table: pd.DataFrame
    name: str = "stimuli"
    attrs: Mapping = field(default_factory=dict)

    def __post_init__(self):
        table = self.table.copy()
        if table.index.name != "stimulus_id" and "stimulus_id" in table.columns:
            table = table.set_index("stimulus_id")
        table.index = pd.Index([str(i) for i in table.index], name="stimulus_id", dtype=object)
        if table.index.has_duplicates:
            twice = table.index[table.index.duplicated()].unique()
            raise ValueError(f"stimuli: stimulus_id is not unique; more than once: {list_ids(twice)}.")
        if not any(m in table.columns for m in MODALITIES):
            raise ValueError(
                f"stimuli: columns are {list(table.columns)}, expected at least one of {', '.join(MODALITIES)}."
            )
        if len(table) == 0:
            raise ValueError("stimuli: the table has no rows.")
        if {"audio", "video"} & set(table.columns):
            _check_clips(table)
        object.__setattr__(self, "table", table)

    @classmethod
    def from_texts(cls, texts: Sequence[str], ids: Sequence[str] | None = None, name="texts") -> "StimulusSet":
        """Make a set of texts (ids ``text0``, ``text1``, ... unless given)."""
        ids = [f"text{i}" for i in range(len(texts))] if ids is None else ids
        return cls(pd.DataFrame({"text": list(texts)}, index=pd.Index(list(ids), name="stimulus_id")), name)

    @classmethod
    def from_table(cls, path, name: str | None = None) -> "StimulusSet":
        """Read a CSV or TSV with a ``stimulus_id`` column; relative paths are relative to the file."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"stimuli: no file {str(path)!r}.")
        table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=False)
        if "stimulus_id" not in table.columns:
            raise ValueError(f"{path.name}: columns are {list(table.columns)}, expected a 'stimulus_id' column.")
        for modality in ("image", "audio", "video"):
            if modality in table.columns:
                table[modality] = [str(path.parent / p) if p else "" for p in table[modality]]
        return cls(table.set_index("stimulus_id"), name or path.stem)

    @classmethod
    def from_folder(cls, folder, name: str | None = None) -> "StimulusSet":
        """Make a set of the images of a folder, in order of their names; ids are file names without suffix."""
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"stimuli: no folder {str(folder)!r}.")
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise ValueError(f"stimuli: {str(folder)!r} holds no images ({', '.join(IMAGE_SUFFIXES)}).")
        table = pd.DataFrame({"image": [str(p) for p in files]}, index=[p.stem for p in files])
        return cls(table, name or folder.name)

    @classmethod
    def from_film(cls, path, onsets: Sequence[float], *, tmin: float, tmax: float, film_onset: float = 0.0,
                  modalities: Sequence[str] = ("video", "audio"), ids: Sequence[str] | None = None,
                  name: str | None = None) -> "StimulusSet":
        """Make one clip of a film, or of a sound, around each event.

        Parameters
        ----------
        path
            The file; it is not copied, models read the window of each clip.
        onsets : sequence of float
            Seconds of the events on the clock of the recording.
        tmin, tmax : float
            Where a clip begins and ends, seconds from its event.
        film_onset : float
            Second at which the film began, on the clock of the recording.
        modalities : sequence of {"video", "audio"}
        ids : sequence of str, optional
            Default: ``NAME@SECOND`` of the event in the film.
        name : str, optional
            Default: that of the file.

        Returns
        -------
        StimulusSet
            ``start`` and ``stop`` (seconds in the file); ``onset`` and ``duration`` of the clip, and ``event``, on the
            clock of the recording.

        Examples
        --------
        >>> clips = StimulusSet.from_film("film.mp4", [12.0, 15.0], tmin=-1, tmax=1, film_onset=10.0)
        >>> clips.table[["start", "stop", "onset"]].values.tolist()
        [[1.0, 3.0, 11.0], [4.0, 6.0, 14.0]]
        """
        if not tmin < tmax or not {*modalities} <= {"video", "audio"} or not modalities:
            raise ValueError(f"from_film: got tmin={tmin}, tmax={tmax}, modalities={tuple(modalities)}; expected tmin "
                             "below tmax, and 'video', 'audio' or both.")
        events, name = np.asarray(onsets, dtype=float), name or Path(path).stem
        start = events + tmin - film_onset
        ids = [f"{name}@{round(s, 3):.10g}" for s in events - film_onset] if ids is None else list(ids)
        table = pd.DataFrame(dict.fromkeys(modalities, str(path)) | {
            "start": start, "stop": start + (tmax - tmin), "onset": events + tmin, "duration": float(tmax - tmin),
            "event": events}, index=ids)
        return cls(table, name)

    @classmethod
    def sliding(cls, path, *, window: float, step: float, film_onset: float = 0.0,
                modalities: Sequence[str] = ("video", "audio"), name: str | None = None) -> "StimulusSet":
        """Make clips of `window` seconds, one every `step` seconds, through a film or sound from its beginning.

        What is left at the end and is shorter than a window is no clip. Other parameters are those of `from_film`.
        """
        from neuroalign.data.sounds import probe_sound
        from neuroalign.data.videos import probe_video

        ends = [(probe_video if m == "video" else probe_sound)(path).duration for m in modalities]
        if not (window > 0 and step > 0 and min(ends) >= window):
            raise ValueError(f"sliding: got window={window:g} and step={step:g}, expected positive seconds, and a "
                             f"window no longer than the film of {' and '.join(f'{e:g}' for e in ends)} s.")
        begins = np.arange(int((min(ends) - window) / step + 1e-6) + 1) * step
        return cls.from_film(path, film_onset + begins, tmin=0.0, tmax=window, film_onset=film_onset,
                             modalities=modalities, name=name)

    @property
    def ids(self) -> tuple[str, ...]:
        """Stimulus ids in order."""
        return tuple(self.table.index)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of image, text, audio, video the table has."""
        return tuple(m for m in MODALITIES if m in self.table.columns)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        """Say what there is: name, number, modalities, other columns, first ids."""
        rest = [c for c in self.table.columns if c not in MODALITIES]
        also = f", columns {', '.join(map(str, rest))}" if rest else ""
        return (f"<StimulusSet {self.name!r}: {len(self)} stimuli with {' and '.join(self.modalities)}{also}; "
                f"{list_ids(self.ids)}>")

    def select(self, ids: Sequence[str]) -> "StimulusSet":
        """Return the stimuli with these ids, in this order.

        Raises
        ------
        KeyError
            Naming the unknown ids and the nearest known ones.
        """
        missing = [i for i in ids if i not in self.table.index]
        if missing:
            hint = suggest(missing[0], self.ids)
            raise KeyError(f"stimuli {self.name!r}: unknown ids {list_ids(missing)}.{hint}")
        return StimulusSet(self.table.loc[list(ids)], self.name, self.attrs)

    def words(self) -> "StimulusSet":
        """Return the derived set of words (split at white space), ``stimulus_id = parent#k``.

        A set that already has a ``parent`` column is returned as it is.
        """
        if "parent" in self.table.columns:
            return self
        if "text" not in self.table.columns:
            raise ValueError(f"stimuli {self.name!r}: no 'text' column, so there are no words.")
        rows = [
            {"stimulus_id": f"{i}#{k}", "text": word, "parent": i, "position": k}
            for i, text in self.table["text"].items()
            for k, word in enumerate(str(text).split())
        ]
        if not rows:
            raise ValueError(f"stimuli {self.name!r}: all texts are empty.")
        return StimulusSet(pd.DataFrame(rows).set_index("stimulus_id"), f"{self.name}-words", self.attrs)

    @cached_property
    def content_hashes(self) -> tuple[str, ...]:
        """One sha256 a stimulus over its id, its contents (the bytes of files, not their paths), its parent.

        The contents of a clip are the bytes of its film, and its window; a file that is not there has none.
        """
        digests, sha256 = [], lru_cache(maxsize=None)(file_sha256)  # many clips of one film
        clips = [c for c in CLIP_COLUMNS if c in self.table.columns and {"audio", "video"} & set(self.modalities)]
        for row in self.table.reset_index().to_dict("records"):
            parts = [row["stimulus_id"]]
            for modality in self.modalities:
                value = row[modality]
                is_file = modality != "text" and not _is_missing(value) and Path(value).is_file()
                parts.append(f"{modality}={sha256(value) if is_file else value}")
            parts += [f"{c}={row[c]!r}" for c in clips if not _is_missing(row[c])]
            parts.append(f"parent={row.get('parent', '')}")
            digests.append(hashlib.sha256(json.dumps(parts).encode()).hexdigest())
        return tuple(digests)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 over the contents of all stimuli, in order."""
        return hashlib.sha256("".join(self.content_hashes).encode()).hexdigest()

    def check_files(self) -> None:
        """Raise `FileNotFoundError` naming the stimuli whose files are missing."""
        for modality, lost in self.lost_files().items():
            raise FileNotFoundError(
                f"stimuli {self.name!r}: no {modality} file for {list_ids(lost)}; "
                f"the first path is {str(self.table[modality][lost[0]])!r}."
            )

    def lost_files(self) -> dict[str, list[str]]:
        """Return, for each modality with missing files, the ids of the stimuli whose file is not there."""
        lost = {
            m: [i for i, p in self.table[m].items() if not _is_missing(p) and not Path(p).is_file()]
            for m in ("image", "audio", "video") if m in self.table.columns
        }
        return {m: ids for m, ids in lost.items() if ids}


def _is_missing(value) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def _check_clips(table: pd.DataFrame) -> None:
    """Turn the columns of windows into numbers; empty ones are NaN."""
    for column in CLIP_COLUMNS:
        if column not in table.columns:
            continue
        numbers = pd.to_numeric(table[column].replace("", np.nan), errors="coerce").astype(float)
        wrong = table.index[numbers.isna() & ~table[column].map(_is_missing)]
        if len(wrong):
            expected = "frames a second" if column == "frame_rate" else "seconds in the sound or film"
            raise ValueError(f"stimuli: {column} of {list_ids(wrong)} is no number (the first: "
                             f"{table[column][wrong[0]]!r}), expected {expected}.")
        table[column] = numbers
    start = table["start"].fillna(0.0) if "start" in table.columns else pd.Series(0.0, table.index)
    bad = start < 0
    if "stop" in table.columns:
        bad |= table["stop"] <= start
    if bad.any():
        ids = table.index[bad]
        stop = f" and stop at {table['stop'][ids[0]]:g} s" if "stop" in table.columns else ""
        raise ValueError(f"stimuli: {list_ids(ids)} start at {start[ids[0]]:g} s{stop} of their file, expected 0 <= "
                         "start < stop. Move or shorten the windows, or leave them out.")
