"""Manifests: what a data set is, where its files are, their hashes, its licence, and how it is read.

A manifest is a YAML file. It is looked up as a path, then in ``data_manifests/`` of the working folder, then
among those that come with the package.
"""

from functools import lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from neuroalign.errors import check_option, suggest

__all__ = ["SECTIONS", "FileEntry", "Manifest", "Section", "find_manifest", "list_manifests", "load_manifest"]

SECTIONS = ("stimuli", "responses", "rdms", "confounds", "electrodes")
FOLDER = "data_manifests"
SHA256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """One file of a data set: inside an installed package, or published at a URL, or both."""

    name: str
    url: str | None = None
    package: str | None = None
    path: str | None = None
    pip: str | None = None
    bytes: int | None = Field(default=None, ge=0)
    sha256: SHA256 | None = None

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, name: str) -> str:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0"):
            raise ValueError(f"{name!r} must be a relative path below the data folder, without '..', '\\' or ':'")
        return name

    @field_validator("url")
    @classmethod
    def _is_web(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("https://", "http://")):
            raise ValueError(f"{url!r} must start with https:// or http://")
        return url

    @model_validator(mode="after")
    def _is_somewhere(self):
        if (self.package is None) != (self.path is None):
            raise ValueError(f"file {self.name!r}: give 'package' and 'path' together")
        if self.url is None and self.package is None:
            raise ValueError(f"file {self.name!r}: give a 'url', or 'package' and 'path'")
        return self

    @property
    def verified(self) -> bool:
        """Whether a hash is known; without one the contents cannot be checked."""
        return self.sha256 is not None


class Section(BaseModel):
    """How one kind of thing is read: the name of a reader, and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    reader: str

    @property
    def options(self) -> dict:
        """Return the options of the reader."""
        return dict(self.model_extra or {})


class Manifest(_Strict):
    """A data set.

    Examples
    --------
    >>> m = load_manifest("simlex999")
    >>> m.rdms.reader, len(m.files), m.unverified
    ('ratings', 1, ())
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str
    licence: str
    citation: str
    notes: str = ""
    version: str = ""
    home: str = ""
    access: str = ""
    read: str = ""
    files: tuple[FileEntry, ...] = ()
    stimuli: Section | None = None
    responses: Section | None = None
    rdms: Section | None = None
    confounds: Section | None = None
    electrodes: Section | None = None

    @model_validator(mode="after")
    def _can_be_got(self):
        if not self.files and not (self.home and self.access):
            raise ValueError("files: list at least one, or say under 'home' and 'access' where and how to get the data")
        return self

    @model_validator(mode="after")
    def _names_differ(self):
        names = [f.name for f in self.files]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"files: more than once: {', '.join(map(repr, twice))}")
        return self

    @property
    def unverified(self) -> tuple[str, ...]:
        """Names of the files whose hash is not known."""
        return tuple(f.name for f in self.files if not f.verified)

    @property
    def offers(self) -> tuple[str, ...]:
        """Which of stimuli, responses, rdms, confounds, electrodes the data set has."""
        return tuple(s for s in SECTIONS if getattr(self, s) is not None)

    def file(self, name: str) -> FileEntry:
        """Return the entry of a file by its name."""
        for entry in self.files:
            if entry.name == name:
                return entry
        hint = suggest(name, [f.name for f in self.files])
        raise KeyError(f"data set {self.name!r} lists no file {name!r}.{hint}")

    def section(self, kind: str) -> Section:
        """Return the section of a kind, or raise a `ValueError` that says what the data set has instead."""
        found = getattr(self, check_option("kind", kind, SECTIONS))
        if found is None and not self.offers and self.read:
            raise ValueError(f"data set {self.name!r} is not loaded by name. {' '.join(self.read.split())} "
                             f"{f'See {self.home}.' if self.home else ''}".strip())
        if found is None:
            raise ValueError(f"data set {self.name!r} has no {kind}; it has {', '.join(self.offers) or 'nothing'}.")
        return found


def load_manifest(name) -> Manifest:
    """Read a manifest by path or by name.

    Parameters
    ----------
    name : str or Path
        A path ending in ``.yaml``, or the name of a data set (see `list_manifests`).

    Raises
    ------
    FileNotFoundError
        Naming the nearest names and all of them.
    ValueError
        The file is not a manifest: names the file and the field.
    """
    if isinstance(name, Manifest):
        return name
    path = find_manifest(name)
    stat = path.stat()
    return _read(str(path), stat.st_mtime_ns, stat.st_size)


def find_manifest(name) -> Path:
    """Return the path of a manifest: a path as given, else the working folder's, else the packaged one."""
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        path = Path(text).expanduser()
        if path.is_file():
            return path
        raise FileNotFoundError(f"no manifest {text!r}. Data sets known by name: {', '.join(list_manifests())}.")
    for folder in _folders():
        path = folder / f"{text}.yaml"
        if PurePosixPath(text).name == text and path.is_file():
            return path
    known = list_manifests()
    looked = f" (nor a folder or file of that path, looked for from {Path.cwd()})" if "/" in text else ""
    raise FileNotFoundError(
        f"no data set {text!r}{looked}.{suggest(text, known)} Known: {', '.join(known)}. "
        f"Or give the path of a manifest, or put one at {FOLDER}/{PurePosixPath(text).name}.yaml."
    )


def list_manifests() -> tuple[str, ...]:
    """Return the names of all data sets that can be loaded by name.

    Examples
    --------
    >>> "objects92" in list_manifests()
    True
    """
    return tuple(sorted({p.stem for folder in _folders() for p in folder.glob("*.yaml")}))


def _folders() -> list[Path]:
    """The working folder's manifests, then those in the wheel or, in a checkout, those beside the package."""
    package = Path(str(files("neuroalign")))
    packed = package / "_manifests"
    found = [Path.cwd() / FOLDER, packed if packed.is_dir() else package.parent / FOLDER]
    return [f for f in found if f.is_dir()]


@lru_cache(maxsize=64)
def _read(path: str, modified: int, size: int) -> Manifest:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: got {type(content).__name__}, expected a mapping with name, title, files, ...")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    problems = [f"field {'.'.join(map(str, e['loc'])) or 'files'}: {e['msg']}" for e in error.errors()]
    shown = "; ".join(problems[:3])
    return shown if len(problems) <= 3 else f"{shown}; and {len(problems) - 3} more"
