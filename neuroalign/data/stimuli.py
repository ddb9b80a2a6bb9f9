"""StimulusSet: the table of what was shown or heard."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from neuroalign.errors import list_ids, suggest

__all__ = ["MODALITIES", "StimulusSet", "file_sha256"]

MODALITIES = ("image", "text", "audio", "video")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def file_sha256(path) -> str:
    """Return the sha256 of a file's bytes as hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@dataclass(frozen=True)
class StimulusSet:
    """A table of stimuli, indexed by ``stimulus_id``.

    Parameters
    ----------
    table : DataFrame
        One row a stimulus, indexed by unique ids. Columns ``image``, ``audio``, ``video`` hold paths and
        ``text`` the text itself; any other column is metadata. A stimulus may have several modalities. Rows
        that are words of a running text carry ``parent`` (id of the passage; its words stand in order) and,
        if timed, ``onset`` and ``duration`` in seconds.
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
            raise ValueError(f"stimuli: stimulus_id is not unique, {list_ids(twice)} occur more than once.")
        if not any(m in table.columns for m in MODALITIES):
            raise ValueError(
                f"stimuli: columns are {list(table.columns)}, expected at least one of {', '.join(MODALITIES)}."
            )
        if len(table) == 0:
            raise ValueError("stimuli: the table has no rows.")
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
        """One sha256 a stimulus over its id, its contents (the bytes of files, not their paths), its parent."""
        self.check_files()
        digests = []
        for row in self.table.reset_index().to_dict("records"):
            parts = [row["stimulus_id"]]
            for modality in self.modalities:
                value = row[modality]
                is_file = modality != "text" and not _is_missing(value)
                parts.append(f"{modality}={file_sha256(value) if is_file else value}")
            parts.append(f"parent={row.get('parent', '')}")
            digests.append(hashlib.sha256(json.dumps(parts).encode()).hexdigest())
        return tuple(digests)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 over the contents of all stimuli, in order."""
        return hashlib.sha256("".join(self.content_hashes).encode()).hexdigest()

    def check_files(self) -> None:
        """Raise `FileNotFoundError` naming the stimuli whose files are missing."""
        for modality in ("image", "audio", "video"):
            if modality not in self.table.columns:
                continue
            values = self.table[modality]
            lost = [i for i, p in values.items() if not _is_missing(p) and not Path(p).is_file()]
            if lost:
                raise FileNotFoundError(
                    f"stimuli {self.name!r}: no {modality} file for {list_ids(lost)}; "
                    f"the first path is {str(values[lost[0]])!r}."
                )


def _is_missing(value) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))
