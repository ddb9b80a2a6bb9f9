"""Merging stores that were filled apart, by the parts of a job array that share no disk."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neuroalign.errors import StoreCorrupt, list_ids
from neuroalign.features.files import sha256_rows
from neuroalign.features.store import Entry, FeatureStore, covered, slug

__all__ = ["merge_stores"]


def merge_stores(sources: Sequence, target) -> pd.DataFrame:
    """Copy the finished shards of stores into another one, each verified against its checksum.

    A shard counts in the target when all of it is there; what the target holds already stays as it is. A merge that
    was killed is repeated and goes on. The sources are left alone.

    Parameters
    ----------
    sources : sequence of path or FeatureStore
    target : path or FeatureStore
        Made if it is not there.

    Returns
    -------
    DataFrame
        One row an entry of the sources: source, model, key, copied (shards times arrays), present (those that the
        target had), complete (fraction of the target's entry).

    Raises
    ------
    StoreCorrupt
        Shards do not match their checksums; all others are copied before it is raised. Or two entries of one key
        differ in what must be the same.

    Examples
    --------
    ``merge_stores(["part0", "part1"], "store")``
    """
    target = target if isinstance(target, FeatureStore) else FeatureStore(target)
    opened = [s if isinstance(s, FeatureStore) else FeatureStore(s) for s in sources]
    absent = [str(s.path) for s in opened if not s.path.is_dir()]
    if absent:
        raise FileNotFoundError(f"merge: no folder {list_ids(absent)}.")
    if any(s.path.resolve() == target.path.resolve() for s in opened):
        raise ValueError(f"merge: {str(target.path)!r} is a source and the target. Merge into another folder.")
    rows, bad = [], []
    for source in opened:
        for entry in source.entries():
            into = _same_entry(entry, target)
            copied, present = _copy_shards(entry, into, bad)
            parts = [covered(into.ledger().get(s, {}), len(into.ids)) for s in into.spaces]
            rows.append([str(source.path), entry.record["model"], entry.folder.name, copied, present,
                         float(np.mean(parts)) if parts else 0.0])
        _copy_verdicts(source, target)
    if bad:
        raise StoreCorrupt(f"merge: {len(bad)} shards do not match their sha256 and were left out, {list_ids(bad)}; "
                           "all others are merged. Run the same extraction on the source again, then merge again.")
    return pd.DataFrame(rows, columns=["source", "model", "key", "copied", "present", "complete"])


def _same_entry(entry: Entry, target: FeatureStore) -> Entry:
    record = entry.record
    description = {k: v for k, v in record["description"].items() if k != "model"}
    into = target.entry(record["model"], description, record["rows"], record["about"])
    if into.folder.name != entry.folder.name:
        raise StoreCorrupt(f"{entry.folder}: its key is not that of its description ({into.folder.name}).")
    if into.ids != entry.ids:
        raise StoreCorrupt(f"{entry.folder} and {into.folder}: one key, but other rows.")
    for file in sorted(entry.folder.glob("*.basis.npy")):
        other = into.folder / file.name
        if not other.is_file():
            temporary = other.with_name(other.name + ".tmp")
            shutil.copyfile(file, temporary)
            temporary.replace(other)
        elif not np.array_equal(np.load(file, allow_pickle=False), np.load(other, allow_pickle=False)):
            raise StoreCorrupt(f"{file} and {other}: two projections that were fitted apart and differ. Fit on one "
                               "machine, and copy that store to the others before they extract.")
    return into


def _copy_shards(entry: Entry, into: Entry, bad: list) -> tuple[int, int]:
    copied = present = 0
    spaces = entry.spaces
    for shard in entry.shards():
        start, stop = shard["start"], shard["stop"]
        with into.lock(f"{start:09d}-{stop:09d}"):
            ledger, done = into.ledger(), []
            for name, digest in shard["arrays"].items():
                there = [(max(a, start) - start, min(b, stop) - start) for a, b in ledger.get(name, {})
                         if a < stop and b > start]
                if covered(there, stop - start) == 1:
                    present += 1
                elif _copy(entry, into, name, spaces.get(name), start, stop, digest):
                    done.append(name)
                else:
                    bad.append(f"{entry.file(name)} rows {start} to {stop}")
            if done:
                more = {k: v for k, v in shard.items() if k not in ("start", "stop", "arrays")}
                into.finish(start, stop, done, **more)
                copied += len(done)
    return copied, present


def _copy(entry: Entry, into: Entry, name: str, info, start: int, stop: int, digest: str) -> bool:
    if info is None or not entry.file(name).is_file():
        return False
    try:
        rows = entry.open(name)[start:stop]
    except (ValueError, EOFError, OSError):  # no array, or a shorter one
        return False
    if len(rows) != stop - start or sha256_rows(rows) != digest:
        return False
    into.add_space(**{k: v for k, v in info.items() if k != "file"})
    window = into.window(name, start, stop)
    if window.shape[1] != rows.shape[1] or window.dtype != rows.dtype:
        raise StoreCorrupt(f"{entry.file(name)}: {rows.shape[1]} features of {rows.dtype}, but {into.file(name)} has "
                           f"{window.shape[1]} of {window.dtype}.")
    window[:] = rows
    return True


def _copy_verdicts(source: FeatureStore, target: FeatureStore) -> None:
    for file in source.path.glob("*/verify-*.json"):
        other: Path = target.path / slug(file.parent.name) / file.name
        if not other.exists():
            other.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, other)
