"""The zoo: what each model is, where its weights are, what it was trained for."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuroalign.errors import list_ids, suggest

__all__ = ["Package", "ZooEntry", "get_entry", "list_models"]

Objective = Literal[
    "supervised", "self-supervised", "masked", "causal", "contrastive", "contrastive+self-supervised",
    "contrastive+captioning", "captioning", "fused", "sentence", "derived",
]  # fmt: skip
PACKAGED = str(files("neuroalign.models") / "zoo.yaml")


class Package(BaseModel):
    """A weight file that an installed distribution carries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    distribution: str
    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    pip: str


class ZooEntry(BaseModel):
    """One model of the zoo.

    Attributes
    ----------
    id : str
        Short name.
    family : str
        Which adapter reads it: ``text_encoder``, ``causal_lm``, ``vision_transformer``, ``cnn``, ``dual_encoder``,
        ``single_stream``, ``decoder_mllm`` and more (`neuroalign.models.families.FAMILIES`), or a model that
        neuroalign itself defines (``efficientnet_lite``) or reads from its authors' own file (``slip``, ``albef``,
        ``coca``).
    repository, revision : str or None
        Hub repository and commit; a revision of None is unpinned (the commit is recorded at load).
    folder : str or None
        Local folder in the layout of transformers, relative to the YAML file.
    package : Package or None
        Weights inside an installed distribution. With `gguf`, the file is a GGUF file.
    file, url : str or None
        Checkpoint as its authors publish it, relative to the YAML file (of our own entries, to the folder ``models``
        of ``NEUROALIGN_HOME``), and where it is published. You download it.
    parts : mapping or None
        Of a derived model: tower -> id of the entry it is made of; `package` then carries what joins them. Of a
        model of regions: ``regions`` -> id of the backbone whose last feature map gives them. Of a pair of towers of
        your own: modality -> zoo id, folder (relative to the YAML file) or hub id.
    transformers_class : str or None
        Class that loads it, where the automatic one would load another.
    modalities : tuple of str
        ``image``, ``text``, ``audio``, ``video``.
    objective, data, architecture : str
        What it was trained for, on what, and what it is made of; data and architecture are None where unsure. Models
        that share two of the three differ in the third alone: a matched pair.
    twins : tuple of str
        Ids of models that differ in one thing: objective, modality or training data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    family: str
    repository: str | None = None
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    folder: str | None = None
    package: Package | None = None
    file: str | None = None
    url: str | None = Field(default=None, pattern="^https://")
    parts: Mapping[str, str] | None = None
    gguf: bool = False
    transformers_class: str | None = None
    modalities: tuple[Literal["image", "text", "audio", "video"], ...]
    objective: Objective
    data: str | None = None
    architecture: str | None = None
    twins: tuple[str, ...] = ()
    licence: str | None = None
    reference: str | None = None
    notes: str = ""

    @property
    def source(self) -> str:
        """Where the weights come from, in words; an unpinned hub revision is said to be so."""
        if self.parts is not None and self.family in ("derived", "pair"):
            return f"made of {' and '.join(self.parts.values())}"
        if self.package is not None:
            return f"package {self.package.distribution}"
        if self.folder is not None:
            return f"folder {self.folder}"
        if self.file is not None:
            return f"file {self.file}"
        return f"hub {self.repository} ({self.revision[:12] if self.revision else 'unpinned'})"


def list_models(zoo=None) -> list[ZooEntry]:
    """Return the entries of the zoo in order; those of your own YAML file come first and win over ours.

    Parameters
    ----------
    zoo : path, optional
        A YAML file with a list of entries under ``models``.

    Examples
    --------
    >>> "minilm" in [entry.id for entry in list_models()]
    True
    """
    own = _read(str(Path(zoo).resolve())) if zoo is not None else []
    packaged = _read(PACKAGED)
    taken = {entry.id for entry in own}
    return [*own, *(entry for entry in packaged if entry.id not in taken)]


def get_entry(name: str, zoo=None) -> ZooEntry:
    """Return the entry with this id (what follows ``@`` is ignored).

    Raises
    ------
    KeyError
        Naming the nearest ids.

    Examples
    --------
    >>> get_entry("minilm@random").family
    'text_encoder'
    """
    wanted = name.partition("@")[0]
    entries = {entry.id: entry for entry in list_models(zoo)}
    if wanted not in entries:
        hint = suggest(wanted, entries)
        raise KeyError(f"model {wanted!r} is not in the zoo ({len(entries)} entries).{hint}")
    return entries[wanted]


@lru_cache(maxsize=8)
def _read(path: str) -> list[ZooEntry]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"zoo: no file {path!r}.")
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    rows = content.get("models") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"zoo {path!r}: expected a list of entries under 'models'.")
    entries = [_entry(row, path) for row in rows]
    ids = [entry.id for entry in entries]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise ValueError(f"zoo {path!r}: more than once: {list_ids(twice)}.")
    return entries


def _entry(row, path: str) -> ZooEntry:
    name = row.get("id", "?") if isinstance(row, dict) else row
    try:
        entry = ZooEntry.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden" and len(first["loc"]) == 1
        known = f" An entry has the fields {', '.join(ZooEntry.model_fields)}." if unknown else ""
        raise ValueError(
            f"zoo {path!r}: entry {name!r}, field {where!r}: {first['msg']} (got {first['input']!r}).{known}"
        ) from None
    sources = sum(s is not None for s in (entry.repository, entry.folder, entry.package, entry.file))
    if entry.family == "pair" and sources:
        raise ValueError(f"zoo {path!r}: entry {name!r} is a pair, which names its towers by 'parts' alone.")
    if entry.family != "pair" and sources != 1:
        raise ValueError(
            f"zoo {path!r}: entry {name!r} needs exactly one of 'repository', 'folder', 'package' and 'file'."
        )
    if path == PACKAGED:
        return entry
    beside = Path(path).parent
    local = {key: getattr(entry, key) for key in ("folder", "file") if getattr(entry, key) is not None}
    changes: dict = {key: str((beside / value).resolve()) for key, value in local.items()}
    if entry.family == "pair" and entry.parts is not None:
        changes["parts"] = {k: str((beside / v).resolve()) if (beside / v).is_dir() else v
                            for k, v in entry.parts.items()}
    return entry.model_copy(update=changes)
