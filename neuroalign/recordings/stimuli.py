"""Readers of stimuli: one function a kind of source, ``(manifest, **options) -> StimulusSet``."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from neuroalign.data.download import fetch_file
from neuroalign.data.home import home
from neuroalign.data.manifests import Manifest
from neuroalign.data.stimuli import StimulusSet
from neuroalign.errors import list_ids
from neuroalign.recordings.files import match_files, provenance, read_structs
from neuroalign.recordings.rdms import numbered_ids, read_ratings
from neuroalign.recordings.textgrid import read_textgrid

__all__ = ["STIMULI", "write_missing_images"]


def mat_images(manifest: Manifest, *, file: str, variable: str, image: str, prefix: str, columns=(),
               names=()) -> StimulusSet:
    """Images in the field `image` of a MATLAB struct array, written once as PNG below the home folder."""
    entry = manifest.file(file)
    structs = read_structs(fetch_file(manifest, entry), variable, [image, *columns])
    if names and len(names) != len(structs):
        raise ValueError(f"{manifest.name}: {len(names)} names for {len(structs)} images of {file!r}.")
    ids = numbered_ids(prefix, len(structs))
    folder = home() / "images" / f"{manifest.name}-{(entry.sha256 or 'unverified')[:12]}"
    paths = write_missing_images(folder, ids, [s[image] for s in structs])
    table = pd.DataFrame({"image": paths}, index=ids)
    if names:
        table["text"], table["name"] = list(names), list(names)
    for column in columns:
        table[column] = [s[column] for s in structs]
    return StimulusSet(table, manifest.name, provenance(manifest))


def image_files(manifest: Manifest, *, images: dict) -> StimulusSet:
    """Image files as they are: ``id: {file: NAME, text: WHAT IS ON IT}``."""
    rows = {i: {"image": str(fetch_file(manifest, d["file"])), "text": d["text"]} for i, d in images.items()}
    return StimulusSet(pd.DataFrame.from_dict(rows, orient="index"), manifest.name, provenance(manifest))


def textgrid_words(manifest: Manifest, *, file: str, parent: str, tier: str | None = None,
                   silence=()) -> StimulusSet:
    """Timed words of a Praat TextGrid; empty intervals and those labelled as silence are left out."""
    words = read_textgrid(fetch_file(manifest, file), tier)
    words["text"] = words["text"].str.strip()
    words = words[~words["text"].isin(["", *silence])]
    return _word_set(manifest, words["text"], words["start"], words["end"], parent)


def word_tables(manifest: Manifest, *, files: str, columns: dict, **chosen) -> StimulusSet:
    """Timed words of one CSV file; `columns` names the ones of text, onset, end and any others."""
    (_, entry), *others = match_files(manifest, files, **chosen)
    if others:
        raise ValueError(f"{manifest.name}: {files!r} with {chosen} fits {1 + len(others)} files, expected one.")
    table = pd.read_csv(fetch_file(manifest, entry), keep_default_na=False)
    more = {k: table[v].astype(float).to_numpy() for k, v in columns.items() if k not in ("text", "onset", "end")}
    return _word_set(manifest, table[columns["text"]], table[columns["onset"]], table[columns["end"]],
                     "-".join(chosen.values()), more)


def pair_words(manifest: Manifest, *, file: str) -> StimulusSet:
    """The vocabulary of a table of rated pairs; the id of a word is the word."""
    ratings = read_ratings(fetch_file(manifest, file))
    words = sorted({*ratings["a"], *ratings["b"]})
    return StimulusSet(pd.DataFrame({"text": words}, index=words), manifest.name, provenance(manifest))


def text_lines(manifest: Manifest, *, file: str, prefix: str, encoding: str = "utf-8") -> StimulusSet:
    """One text a line; empty lines are left out."""
    content = fetch_file(manifest, file).read_text(encoding=encoding)
    texts = [line.strip() for line in content.split("\n") if line.strip()]
    table = pd.DataFrame({"text": texts}, index=numbered_ids(prefix, len(texts)))
    return StimulusSet(table, manifest.name, provenance(manifest))


def sentence_table(manifest: Manifest, *, file: str, prefix: str, number: str, text: str) -> StimulusSet:
    """The distinct sentences of a table of words, in order of their numbers; ids ``prefix_NUMBER``."""
    raw = pd.read_csv(fetch_file(manifest, file), keep_default_na=False)
    sentences = raw.groupby(number)[text].agg(["first", "nunique"])
    odd = sentences.index[sentences["nunique"] > 1]
    if len(odd):
        raise ValueError(f"{manifest.name}: {number} {list_ids(odd)} belong to several texts.")
    table = pd.DataFrame({"text": sentences["first"].to_list()}, index=[f"{prefix}_{n}" for n in sentences.index])
    return StimulusSet(table, manifest.name, provenance(manifest))


def concept_names(manifest: Manifest, *, file: str, column: str) -> StimulusSet:
    """Names of concepts, ``bat1`` and ``ice_cream``: the text has no trailing digits and no underscores."""
    ids = pd.read_csv(fetch_file(manifest, file), keep_default_na=False, dtype=str)[column]
    table = pd.DataFrame({"text": ids.str.rstrip("0123456789").str.replace("_", " ").to_list()}, index=ids.to_list())
    return StimulusSet(table, manifest.name, provenance(manifest))


STIMULI = {f.__name__: f for f in (mat_images, image_files, textgrid_words, word_tables, pair_words, text_lines,
                                   sentence_table, concept_names)}


def _word_set(manifest: Manifest, words, onset, end, parent: str, more: dict | None = None) -> StimulusSet:
    onset, end = np.asarray(onset, float), np.asarray(end, float)
    table = pd.DataFrame({"text": [str(w) for w in words], "parent": parent, "position": np.arange(len(onset)),
                          "onset": onset, "duration": end - onset, **(more or {})},
                         index=[f"{parent}#{k}" for k in range(len(onset))])
    return StimulusSet(table, manifest.name, provenance(manifest))


def write_missing_images(folder: Path, ids, arrays) -> list[str]:
    """Write the PNG files that are not there yet, each complete or not at all; two processes do no harm."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in ids]
    for path, array in zip(paths, arrays, strict=True):
        if not path.is_file():
            scratch = folder / f".{path.stem}-{os.getpid()}.png"
            Image.fromarray(np.asarray(array, np.uint8)).save(scratch, compress_level=1)
            os.replace(scratch, path)
    return [str(p) for p in paths]
