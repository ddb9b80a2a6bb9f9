"""The feature store: a folder per entry, one ``.npy`` memory map per layer and stream, readable with numpy alone.

::

    <store>/<model>/<key>/entry.json            what the entry is: everything in its key, row ids, spaces
                          <layer>--<stream>.npy (row, feature)
                          shards/<rows>.<set>.json   one small file a finished shard: sha256 of its rows in each array
                          locks/                leftovers of the locks, may be deleted when nothing runs

Arrays are float32 or float16; bfloat16 ones (``dtype`` in entry.json) are uint16, the upper halves of float32:
``(a.astype("u4") << 16).view("f4")``.

An array is complete when its finished shards cover all rows. Rows of unfinished shards are zeros or remains of a
killed run, and are computed again. Locks are advisory locks of the operating system, so they die with the process.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neuroalign.data import home
from neuroalign.errors import StoreCorrupt, list_ids, suggest
from neuroalign.features.files import (
    check_header,
    create_array,
    read_header,
    sha256_rows,
    take_lock,
    write_json,
    write_text,
)

__all__ = ["Entry", "FeatureStore", "entry_key", "slug"]

FORMAT = 1


def slug(name: str) -> str:
    """Spell a name so that it is safe as a file name on every system.

    Examples
    --------
    >>> slug("org/model@random.3")
    'org_model@random.3'
    """
    return re.sub(r"[^A-Za-z0-9._@+-]", "_", str(name)).strip(".") or "_"


def entry_key(description: Mapping) -> str:
    """Return the first 16 hex digits of the sha256 of a description, whatever the order of its keys."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FeatureStore:
    """A folder of entries.

    Parameters
    ----------
    path : path, optional
        The folder; made when the first entry is written. Default: ``features`` in the folder of
        ``NEUROALIGN_HOME``, so that a call repeated in a notebook reads what it wrote.

    Examples
    --------
    >>> import tempfile
    >>> store = FeatureStore(tempfile.mkdtemp())
    >>> entry = store.entry("toy", {"weights": "w0"}, ids=["a", "b"])
    >>> entry.add_space("block", "all", n_features=3, dtype="float32", depth=1.0)
    >>> entry.write("block:all", 0, np.ones((2, 3), np.float32))
    >>> entry.finish(0, 2, ["block:all"])
    >>> entry.open("block:all").shape, len(store.ls())
    ((2, 3), 1)
    """

    path: Path = None

    def __post_init__(self):
        path = home() / "features" if self.path is None else Path(self.path).expanduser()
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"store: {str(path)!r} is a file, expected a folder.")
        object.__setattr__(self, "path", path)

    def entry(self, model: str, description: Mapping, ids: Sequence[str], about: Mapping | None = None) -> "Entry":
        """Open the entry of a description, or make it.

        Parameters
        ----------
        model : str
            Id of the model: names the folder, and is part of the key.
        description : mapping
            All that changes the numbers; hashed to the key.
        ids : sequence of str
            Ids of the rows.
        about : mapping, optional
            What is recorded but not in the key (versions, names).
        """
        description = {"model": model, **description}
        folder = self.path / slug(model) / entry_key(description)
        folder.mkdir(parents=True, exist_ok=True)
        entry = Entry(folder)
        with entry.lock("entry"):
            if not (folder / "entry.json").is_file():
                record = {"format": FORMAT, "model": model, "key": folder.name, "description": description,
                          "about": dict(about or {}), "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                          "rows": [str(i) for i in ids], "spaces": {}}
                write_json(folder / "entry.json", record)
        return entry

    def entries(self, model: str | None = None) -> list["Entry"]:
        """Return all entries, or those of one model, in order of their folders."""
        pattern = f"{'*' if model is None else slug(model)}/*/entry.json"
        return [Entry(p.parent) for p in sorted(self.path.glob(pattern))]

    def find(self, key: str) -> "Entry":
        """Return the entry whose key starts with `key`."""
        found = [e for e in self.entries() if e.folder.name.startswith(key)]
        if len(found) != 1:
            known = [e.folder.name for e in self.entries()]
            what = "no entry" if not found else f"{len(found)} entries"
            raise KeyError(f"store {str(self.path)!r}: {what} with key {key!r}.{suggest(key, known)}")
        return found[0]

    def open(self, key: str):
        """Return the complete spaces of the entry whose key starts with `key`, as a `FeatureSet`.

        The ids of the rows come with it; onsets and other metadata of the stimuli are not stored.
        """
        from neuroalign.features.featureset import FeatureSet

        return FeatureSet.from_entry(self.find(key))

    def ls(self) -> pd.DataFrame:
        """List the entries.

        Returns
        -------
        DataFrame
            One row an entry: model, key, stimuli, n_rows, n_spaces, complete (fraction of rows times spaces that
            are finished), mb, created, pooling, path.
        """
        rows = []
        for entry in self.entries():
            record, spaces = entry.record, entry.spaces
            parts = [covered(entry.ledger().get(s, {}), len(entry.ids)) for s in spaces]
            rows.append({
                "model": record["model"], "key": record["key"], "stimuli": record["about"].get("stimuli", ""),
                "n_rows": len(entry.ids), "n_spaces": len(spaces),
                "complete": float(np.mean(parts)) if parts else 0.0,
                "mb": sum(p.stat().st_size for p in entry.folder.glob("*.npy")) / 1e6,
                "created": record["created"], "pooling": record["description"].get("pooling", ""),
                "path": str(entry.folder)})
        return pd.DataFrame(rows, columns=["model", "key", "stimuli", "n_rows", "n_spaces", "complete", "mb",
                                           "created", "pooling", "path"])

    def check(self, model: str | None = None) -> pd.DataFrame:
        """Read every array against its checksums.

        Returns
        -------
        DataFrame
            One row an array: model, key, space, state (``"ok"``, ``"partial"``: a run was not finished, or
            ``"corrupt"``), rows (how many are finished), problem, file.
        """
        rows = []
        for entry in self.entries(model):
            ledger = entry.ledger()
            for name in entry.spaces:
                shards = ledger.get(name, {})
                bad = entry.damaged(name, trust_stamp=False)
                part = covered(shards, len(entry.ids))
                state = "corrupt" if bad else "ok" if part == 1 else "partial"
                rows.append({"model": entry.record["model"], "key": entry.folder.name, "space": name, "state": state,
                             "rows": round(part * len(entry.ids)), "problem": "; ".join(bad.values()),
                             "file": str(entry.file(name))})
        return pd.DataFrame(rows, columns=["model", "key", "space", "state", "rows", "problem", "file"])

    def verify(self, model: str | None = None) -> pd.DataFrame:
        """Check every array and raise if one does not match its checksums; otherwise return the table of `check`.

        Raises
        ------
        StoreCorrupt
            Naming the arrays. Extracting them again repairs them.
        """
        table = self.check(model)
        bad = table[table.state == "corrupt"]
        if len(bad):
            first = bad.iloc[0]
            raise StoreCorrupt(
                f"store {str(self.path)!r}: {len(bad)} of {len(table)} arrays are corrupt, {list_ids(bad.file)}; "
                f"the first: {first.problem}. Run the same extraction again, it rebuilds what is damaged."
            )
        return table

    def gc(self, *, older_than: float = 3600.0) -> pd.DataFrame:
        """Remove what killed runs left behind: temporary files, locks, arrays and entries with no finished shard.

        Parameters
        ----------
        older_than : float
            Seconds: what was touched more recently may belong to a run in progress, and stays.

        Returns
        -------
        DataFrame
            path and bytes of what was removed.
        """
        removed, limit = [], time.time() - older_than
        for entry in self.entries():
            finished = {n for n, shards in entry.ledger().items() if shards}
            dead = [entry.file(n) for n in entry.spaces if n not in finished and entry.file(n).is_file()]
            leftovers = [*entry.folder.glob("**/*.tmp"), *(entry.folder / "locks").glob("*"), *dead]
            for path in leftovers:
                if path.stat().st_mtime < limit:
                    removed.append({"path": str(path), "bytes": path.stat().st_size})
                    path.unlink()
            entry.drop_spaces([n for n in entry.spaces if not entry.file(n).is_file()])
            if not finished and (entry.folder / "entry.json").stat().st_mtime < limit:
                removed.append({"path": str(entry.folder), "bytes": 0})
                shutil.rmtree(entry.folder)
        return pd.DataFrame(removed, columns=["path", "bytes"])


@dataclass(frozen=True)
class Entry:
    """One folder of the store: the arrays of one model on one set of stimuli under one set of choices."""

    folder: Path

    @property
    def record(self) -> dict:
        """The contents of ``entry.json``."""
        path = self.folder / "entry.json"
        try:
            return json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise StoreCorrupt(f"{path}: is not JSON ({error}). Delete the folder and extract again.") from None

    @property
    def spaces(self) -> dict[str, dict]:
        """``layer:stream`` to layer, stream, depth, n_features, dtype, file."""
        return self.record["spaces"]

    @property
    def ids(self) -> list[str]:
        """Ids of the rows."""
        return self.record["rows"]

    def file(self, name: str) -> Path:
        """Return the path of an array."""
        layer, _, stream = name.rpartition(":")
        return self.folder / f"{slug(layer)}--{slug(stream)}.npy"

    def add_space(self, layer: str, stream: str, *, n_features: int, dtype: str, depth: float, **more) -> None:
        """Make the array of a space unless it is there, and describe it in ``entry.json``."""
        name, file = f"{layer}:{stream}", self.file(f"{layer}:{stream}")
        with self.lock("entry"):
            record = self.record
            info = {"layer": layer, "stream": stream, "depth": depth, "n_features": int(n_features), "dtype": dtype,
                    "file": file.name, **more}
            if not file.is_file():
                create_array(file, (len(record["rows"]), int(n_features)), dtype)
            if record["spaces"].get(name) != info:
                record["spaces"][name] = info
                write_json(self.folder / "entry.json", record)

    def drop_spaces(self, names: Iterable[str]) -> None:
        """Forget spaces whose arrays are gone."""
        names = set(names)
        if names:
            with self.lock("entry"):
                record = self.record
                record["spaces"] = {k: v for k, v in record["spaces"].items() if k not in names}
                write_json(self.folder / "entry.json", record)

    def open(self, name: str) -> np.memmap:
        """Return an array as a read-only memory map, as it lies on disk (bfloat16 as uint16, see `storage.decode`)."""
        return np.load(self.file(name), mmap_mode="r", allow_pickle=False)

    def window(self, name: str, start: int, stop: int) -> np.memmap:
        """Return rows `start` to `stop` of an array as a writable memory map of just these rows."""
        with open(self.file(name), "rb") as f:
            shape, dtype, offset = read_header(f)
        return np.memmap(self.file(name), dtype=dtype, mode="r+", offset=offset + start * shape[1] * dtype.itemsize,
                         shape=(stop - start, shape[1]))

    def write(self, name: str, start: int, values: np.ndarray) -> None:
        """Write rows from `start` on; they count only when their shard is finished."""
        self.window(name, start, start + len(values))[:] = values

    def finish(self, start: int, stop: int, names: Sequence[str], **more) -> None:
        """Record a shard as finished, with the checksum of its rows in each array."""
        arrays = {n: sha256_rows(self.window(n, start, stop)) for n in names}
        which = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:8]
        (self.folder / "shards").mkdir(exist_ok=True)
        write_json(self.folder / "shards" / f"{start:09d}-{stop:09d}.{which}.json",
                    {"start": start, "stop": stop, "arrays": arrays, **more})

    def complete(self) -> list[str]:
        """Return the names of the spaces whose finished shards cover all rows, in order of their making."""
        ledger, n = self.ledger(), len(self.ids)
        return [name for name in self.spaces if covered(ledger.get(name, {}), n) == 1]

    def ledger(self, start: int | None = None, stop: int | None = None) -> dict[str, dict[tuple[int, int], str]]:
        """Return the finished shards: name to (start, stop) to sha256; only that of given rows if they are given."""
        found: dict[str, dict] = {}
        for shard in self.shards("*" if start is None else f"{start:09d}-{stop:09d}.*"):
            for name, digest in shard["arrays"].items():
                found.setdefault(name, {})[shard["start"], shard["stop"]] = digest
        return found

    def shards(self, pattern: str = "*") -> list[dict]:
        """Return the records of the finished shards, in order of rows; an unreadable one counts as unfinished."""
        records = []
        for path in sorted((self.folder / "shards").glob(f"{pattern}.json")):
            try:
                records.append(json.loads(path.read_text()))
            except (json.JSONDecodeError, UnicodeDecodeError, FileNotFoundError):
                continue
        return records

    def damaged(self, name: str, *, trust_stamp: bool = True) -> dict[tuple[int, int], str]:
        """Return the finished shards of an array that do not match their checksums, with what is wrong.

        Parameters
        ----------
        trust_stamp : bool
            Take an array as sound if its size and time of change are those of its last check, without reading it.
        """
        shards, file = self.ledger().get(name, {}), self.file(name)
        if not shards:
            return {}
        info = self.spaces.get(name)
        problem = check_header(file, len(self.ids), info)
        if problem:
            return dict.fromkeys(shards, problem)
        stamps = self.folder / "locks" / f"{file.name}.checked"
        # the ledger is part of the stamp: shards finished since the last check have not been read yet
        stamp = json.dumps([file.stat().st_size, file.stat().st_mtime_ns, sorted(shards.values())])
        if trust_stamp and stamps.is_file() and stamps.read_text() == stamp:
            return {}
        bad = {}
        for (start, stop), digest in shards.items():
            if sha256_rows(self.open(name)[start:stop]) != digest:
                bad[start, stop] = f"{file.name}: rows {start} to {stop} do not match their sha256"
        if not bad:
            stamps.parent.mkdir(exist_ok=True)
            write_text(stamps, stamp)
        return bad

    def forget(self, name: str, shards: Iterable[tuple[int, int]]) -> None:
        """Take shards of an array out of the ledger, so that they are computed again."""
        shards = set(shards)
        with self.lock("entry"):
            for path in (self.folder / "shards").glob("*.json"):
                try:
                    record = json.loads(path.read_text())
                except json.JSONDecodeError:  # it counts as unfinished anyway
                    continue
                if (record["start"], record["stop"]) in shards and record["arrays"].pop(name, None):
                    write_json(path, record)
            if check_header(self.file(name), len(self.ids), self.spaces.get(name)):
                self.file(name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold a lock among processes and threads; yields False if `wait` is False and another one holds it."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{name}.lock", "w") as f:
            yield take_lock(f, wait)


def covered(shards: Iterable[tuple[int, int]], n_rows: int) -> float:
    """Return which part of the rows the shards cover.

    Examples
    --------
    >>> covered([(0, 2), (2, 3)], 4)
    0.75
    """
    seen = np.zeros(n_rows, bool)
    for start, stop in shards:
        seen[start:stop] = True
    return float(seen.mean())
