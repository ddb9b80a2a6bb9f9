"""Getting the files of a data set: from a package, a mirror, the cache, or the network; verified before use."""

import csv
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from neuroalign.data.home import home
from neuroalign.data.manifests import FileEntry, Manifest, load_manifest
from neuroalign.data.packages import find_file
from neuroalign.data.stimuli import file_sha256
from neuroalign.errors import NeuroalignError, StoreCorrupt, warn_user

__all__ = ["check_files", "fetch_file", "is_available", "locate_file", "where_available", "why_unavailable"]

TIMEOUT = (5, 30)  # seconds to connect, and between two packets


def fetch_file(manifest, file) -> Path:
    """Return the path of a file of a data set, getting it if need be.

    Looked for in an installed package, in the mirror (``NEUROALIGN_MIRROR``: folders found by sha256, nothing is
    copied), in the cache (``NEUROALIGN_HOME``), and then downloaded into the cache. The sha256 is checked in
    each case, a download before it becomes visible.

    Parameters
    ----------
    manifest : Manifest or str
    file : FileEntry or str
        One of the manifest's files, or its name.

    Raises
    ------
    MissingExtra
        The file is inside a package that is not installed; the message carries the pip line.
    ConnectionError
        It cannot be downloaded; names the file, the URL and the mirror setting.
    StoreCorrupt
        What was found or downloaded does not have the expected hash.
    """
    manifest = load_manifest(manifest)
    entry = file if isinstance(file, FileEntry) else manifest.file(file)
    found = locate_file(manifest, entry)
    if found is None and entry.url is None:  # only in a package: its own error names the pip line
        return find_file(entry.package, entry.path, entry.sha256, pip=entry.pip)
    path = found or _download(manifest, entry)
    if not entry.verified:
        warn_user(f"{manifest.name}: {entry.name!r} is unverified, the manifest knows no sha256 of it.",
                  "unverified-file", [entry.name])
    return path


def locate_file(manifest, file) -> Path | None:
    """Return where a file already lies on this machine (package, mirror or cache), or None.

    Raises
    ------
    StoreCorrupt
        The copy in the cache has another hash. (In the mirror it is passed over with a warning, and so is a
        package of another version.)
    """
    manifest = load_manifest(manifest)
    return _locate(manifest, file if isinstance(file, FileEntry) else manifest.file(file))[0]


def where_available(name) -> str:
    """Say in a few words where the files of a data set are, without touching the network.

    Returns
    -------
    str
        For example ``"package"``, ``"mirror"``, ``"cache (5), to download (1)"``, ``"pip install gensim==4.4.0"``.

    Examples
    --------
    >>> where_available("photographs")        # needs scikit-image       # doctest: +SKIP
    'package'
    """
    manifest = load_manifest(name)
    if not manifest.files:
        return f"by hand: {manifest.home}"
    counts: dict[str, int] = {}
    for entry in manifest.files:
        place = _place(manifest, entry)
        counts[place] = counts.get(place, 0) + 1
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{p} ({n})" for p, n in counts.items())


def check_files(name) -> list[dict]:
    """Read every file of a data set that lies on this machine against its sha256, without touching the network.

    Returns
    -------
    list of dict
        One a file: ``file``, ``state`` (``ok``, ``unverified`` where the manifest states no sha256, ``damaged``,
        ``absent``) and ``place``, its path or how to get it.

    Examples
    --------
    >>> [f["state"] for f in check_files("photographs")]        # needs scikit-image       # doctest: +SKIP
    ['ok', 'ok', 'ok', 'ok']
    """
    manifest = load_manifest(name)
    found = []
    for entry in manifest.files:
        try:
            path = locate_file(manifest, entry)
        except StoreCorrupt as error:
            state, place = "damaged", str(error)
        else:
            state = "absent" if path is None else "ok" if entry.sha256 else "unverified"
            place = str(path) if path else _place(manifest, entry)
        found.append({"file": entry.name, "state": state, "place": place})
    return found


def how_to_get(manifest: Manifest) -> str:
    """Say how to get a data set of which the manifest lists no files."""
    access, read = (" ".join(text.split()) for text in (manifest.access, manifest.read))
    return (f"{manifest.name}: unverified, the manifest knows neither files nor hashes. {access} See {manifest.home}. "
            f"{read}").strip()


def is_available(name) -> bool:
    """Return whether a data set can be loaded here: its files lie on this machine, or can be downloaded.

    If some are missing, the smallest of them is downloaded as a trial. Never raises for a missing file.
    """
    return not why_unavailable(name)


def why_unavailable(name) -> str:
    """Return why a data set cannot be loaded here, in a line, or an empty string if it can (`is_available`)."""
    try:
        manifest = load_manifest(name)
        if not manifest.files:
            return how_to_get(manifest)
        missing = [f for f in manifest.files if locate_file(manifest, f) is None]
        if missing:
            # a file that is only in a package decides at once; else the smallest download shows the way is open
            smallest = min(missing, key=lambda f: (f.url is not None, f.bytes if f.bytes is not None else 1 << 62))
            fetch_file(manifest, smallest)
    except (NeuroalignError, OSError) as error:
        return str(error)
    return ""


def _locate(manifest: Manifest, entry: FileEntry) -> tuple[Path | None, str]:
    """Return the path of a file and where it lies, or None."""
    for place, path in (("package", lambda: _in_package(entry)), ("mirror", lambda: _in_mirror(entry)),
                        ("cache", lambda: _in_cache(manifest, entry))):
        if found := path():
            return found, place
    return None, ""


def _place(manifest: Manifest, entry: FileEntry) -> str:
    try:
        found, place = _locate(manifest, entry)
    except StoreCorrupt:
        return "cache, damaged"
    return place if found else "to download" if entry.url else f"pip install {entry.pip or entry.package}"


def _in_package(entry: FileEntry) -> Path | None:
    if entry.package is None:
        return None
    try:
        return find_file(entry.package, entry.path, entry.sha256, pip=entry.pip)
    except (NeuroalignError, FileNotFoundError):
        return None


def _in_mirror(entry: FileEntry) -> Path | None:
    """Find a file by its hash. A listed file with other contents is passed over, with a warning."""
    if entry.sha256 is None:
        return None
    for folder in _mirrors():
        for path in _mirror_index(str(folder)).get(entry.sha256, ()):
            if not path.is_file():
                continue
            if _hash(path) == entry.sha256:
                return path
            warn_user(f"mirror: {path} is listed with sha256 {entry.sha256} but has {_hash(path)}; not used.",
                      "mirror-mismatch", [entry.name])
    return None


def _in_cache(manifest: Manifest, entry: FileEntry) -> Path | None:
    path = _cache_path(manifest, entry)
    if not path.is_file():
        return None
    if entry.sha256 is not None and _hash(path) != entry.sha256:
        raise StoreCorrupt(
            f"{path}: sha256 is {_hash(path)}, expected {entry.sha256} ({manifest.name}, {entry.name}). "
            "Delete the file; it is then downloaded again."
        )
    return path


def _cache_path(manifest: Manifest, entry: FileEntry) -> Path:
    return home() / "data" / manifest.name / entry.name


def _download(manifest: Manifest, entry: FileEntry) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    target = _cache_path(manifest, entry)
    # pooch makes the folder, writes to a temporary file and moves it here only if the hash is right
    known = f"sha256:{entry.sha256}" if entry.sha256 else None
    try:
        pooch.retrieve(entry.url, known_hash=known, fname=target.name, path=target.parent,
                       downloader=pooch.HTTPDownloader(timeout=TIMEOUT))
    except (requests.RequestException, OSError) as error:
        _mirror_index.cache_clear()  # a mirror filled meanwhile is seen at the next try
        _remove_empty(target.parent)
        mirrors = os.pathsep.join(map(str, _mirrors())) or "not set"
        raise ConnectionError(
            f"{manifest.name}: cannot download {entry.name!r} from {entry.url} ({_short(error)}). If the file is on "
            f"this machine, set NEUROALIGN_MIRROR to a folder whose *.tsv lists it with columns file and sha256 "
            f"(now: {mirrors}), or put it at {target}."
        ) from None
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise
        _remove_empty(target.parent)
        raise StoreCorrupt(
            f"{manifest.name}: {entry.name!r} downloaded from {entry.url} does not have sha256 {entry.sha256}. "
            "Nothing was kept. The publisher may have changed the file; the manifest needs a new hash then."
        ) from None
    return target


def _mirrors() -> list[Path]:
    given = os.environ.get("NEUROALIGN_MIRROR", "")
    return [Path(p).expanduser().absolute() for p in given.split(os.pathsep) if p.strip()]


@lru_cache(maxsize=16)
def _mirror_index(folder: str) -> dict[str, list[Path]]:
    """Map sha256 to paths, from every ``*.tsv`` below a folder that has the columns file and sha256."""
    index: dict[str, list[Path]] = {}
    for table in sorted(Path(folder).rglob("*.tsv")):
        for name, sha256 in _read_listing(table):
            path = Path(os.path.normpath(table.parent / name))
            if path.is_relative_to(folder):  # a listing may point to its neighbours, not out of the mirror
                index.setdefault(sha256, []).append(path)
    return index


def _read_listing(table: Path) -> Iterable[tuple[str, str]]:
    with open(table, encoding="utf-8", errors="replace", newline="") as f:
        rows = csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"file", "sha256"} <= set(rows.fieldnames or ()):
            return
        for row in rows:
            if row["file"] and row["sha256"]:
                yield row["file"], row["sha256"].strip().lower()


def _hash(path: Path) -> str:
    stat = path.stat()
    return _hash_once(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _hash_once(path: str, size: int, modified: int) -> str:
    return file_sha256(path)


def _short(error: BaseException) -> str:
    """Name the cause at the bottom of a chain of network errors, without its nested representations."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else getattr(error, "strerror", None) or type(error).__name__


def _remove_empty(folder: Path) -> None:
    """Remove the folders that a failed download made, up to the home folder."""
    while folder.is_dir() and folder.is_relative_to(home()) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
