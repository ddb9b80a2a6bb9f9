"""Readers of dissimilarities: one function a kind of source, ``(manifest, **options) -> RDMs``."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_rdms
from neuroalign.data.download import fetch_file
from neuroalign.data.manifests import Manifest
from neuroalign.errors import check_option, list_ids
from neuroalign.recordings.files import provenance, read_array, read_numbers, read_structs

__all__ = ["RDMS", "condense", "numbered_ids", "read_ratings"]


def rdm_files(manifest: Manifest, *, stimuli: dict, parts: dict, part: str) -> xr.DataArray:
    """Square or condensed RDMs in .mat and .npz files; the sources of a part are joined along `target`.

    A source has ``file``, ``variable``, and perhaps ``field`` and ``label`` (of a struct array), ``rows`` (which
    of its RDMs), ``region``, ``subject`` (an expression over the label with the groups subject and session; the
    sessions of a subject are averaged) and ``subject_name`` (a format; alone, subjects are numbered from 1).
    """
    ids = numbered_ids(**stimuli)
    owners = [o for s in parts[check_option("part", part, parts)] for o in _read_source(manifest, s, len(ids))]
    coords = {}
    if any(o["region"] for o in owners):
        coords = {"subject": [o["subject"] for o in owners], "region": [o["region"] for o in owners]}
    return make_rdms(np.stack([o["rdm"] for o in owners]), stimulus_ids=ids, targets=[o["target"] for o in owners],
                     target_coords=coords, attrs=provenance(manifest, part=part))


def ratings(manifest: Manifest, *, file: str, scale: float) -> xr.DataArray:
    """Rated pairs of words: dissimilarity = `scale` - rating. Only the judged pairs are there.

    A word paired with itself tells nothing about dissimilarity; such pairs are left out and named in the attrs.
    """
    table = read_ratings(fetch_file(manifest, file))
    same = table["a"] == table["b"]
    kept = table[~same]
    attrs = provenance(manifest, dissimilarity=f"{scale:g} - mean rating",
                       dropped=[f"{w}, {w}: a word with itself" for w in table["a"][same]])
    return make_rdms((scale - kept["rating"].to_numpy())[None], pairs=(kept["a"].to_numpy(), kept["b"].to_numpy()),
                     targets=[manifest.name], attrs=attrs)


def similarity_matrix(manifest: Manifest, *, file: str, stimuli: dict, target: str, scale: float) -> xr.DataArray:
    """A square matrix of similarities, filled above the diagonal: dissimilarity = `scale` - similarity."""
    ids = numbered_ids(**stimuli)
    values = read_numbers(fetch_file(manifest, file), columns=len(ids))
    upper = values[np.triu_indices(len(ids), 1)]
    return make_rdms((scale - upper)[None], stimulus_ids=ids, targets=[target],
                     attrs=provenance(manifest, dissimilarity=f"{scale:g} - mean similarity"))


RDMS = {f.__name__: f for f in (rdm_files, ratings, similarity_matrix)}


def numbered_ids(prefix: str, count: int) -> list[str]:
    """Return ``prefix_00``, ``prefix_01``, ... with as many digits as the last one needs.

    Examples
    --------
    >>> numbered_ids("object", 11)[-1]
    'object_10'
    """
    digits = max(2, len(str(count - 1)))
    return [f"{prefix}_{k:0{digits}d}" for k in range(count)]


def read_ratings(path) -> pd.DataFrame:
    """Read rated pairs, ``word TAB word TAB rating`` with ``#`` lines as comments: columns a, b, rating."""
    path, rows = Path(path), []
    for k, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split("\t")
        try:
            rows.append((parts[0].strip(), parts[1].strip(), float(parts[2])))
        except (IndexError, ValueError):
            raise ValueError(f"{path.name}, line {k}: got {line!r}, expected word TAB word TAB number.") from None
    if not rows:
        raise ValueError(f"{path.name}: no rated pairs.")
    return pd.DataFrame(rows, columns=["a", "b", "rating"])


def condense(square, what: str = "RDM") -> np.ndarray:
    """Return the upper triangle, in row order, of a symmetric matrix, or of a stack of them.

    Raises
    ------
    ValueError
        If it is not square or not symmetric.

    Examples
    --------
    >>> condense([[0, 1, 2], [1, 0, 3], [2, 3, 0]]).tolist()
    [1.0, 2.0, 3.0]
    """
    square = np.asarray(square, np.float64)
    if square.ndim < 2 or square.shape[-1] != square.shape[-2]:
        raise ValueError(f"{what}: got shape {square.shape}, expected square matrices.")
    off = np.nanmax(np.abs(square - np.swapaxes(square, -1, -2)), initial=0.0)
    if off > 1e-5 * np.nanmax(np.abs(square), initial=1e-30):
        raise ValueError(f"{what}: not symmetric, entries differ from their mirror image by up to {off:.3g}.")
    first, second = np.triu_indices(square.shape[-1], 1)
    return square[..., first, second]


def _read_source(manifest: Manifest, source: dict, count: int) -> list[dict]:
    """Return the owners of one source as dicts: target, subject, region, rdm (n_pairs,)."""
    path, region = fetch_file(manifest, source["file"]), source.get("region", "")
    if "field" in source:
        structs = read_structs(path, source["variable"], [source["field"], source["label"]])
        arrays, labels = [s[source["field"]] for s in structs], [s[source["label"]] for s in structs]
    else:
        arrays = list(read_array(path, source["variable"]))
        labels = [""] * len(arrays)
    rows = source.get("rows", range(len(arrays)))
    rdms = {k: _as_triangle(arrays[k], count, f"{source['file']}, {source['variable']}[{k}]") for k in rows}
    owners: dict[str, list] = {}
    for k, rdm in rdms.items():
        owners.setdefault(_subject(source, labels[k], k), []).append((labels[k], rdm))
    return [{"subject": subject, "region": region, "rdm": np.mean([r for _, r in found], axis=0),
             "target": f"{region}:{subject}" if subject else region or found[0][0]}
            for subject, found in _split_unnamed(owners)]


def _subject(source: dict, label: str, k: int) -> str:
    if "subject" not in source:
        return source["subject_name"].format(k + 1) if "subject_name" in source else ""
    found = re.fullmatch(source["subject"], label)
    if found is None:
        raise ValueError(f"{source['file']}: label {label!r} does not fit {source['subject']!r}.")
    return source.get("subject_name", "{}").format(found["subject"])


def _split_unnamed(owners: dict[str, list]):
    """Average the sessions of a named subject; RDMs without a subject are owners of their own."""
    for subject, found in owners.items():
        if subject:
            yield subject, found
        else:
            yield from (("", [one]) for one in found)


def _as_triangle(array, count: int, what: str) -> np.ndarray:
    array = np.asarray(array, np.float64)
    n_pairs = count * (count - 1) // 2
    triangle = array.ravel() if array.size == n_pairs else condense(array, what)
    if triangle.shape != (n_pairs,):
        raise ValueError(f"{what}: got {array.shape}, expected {count} x {count} or {n_pairs} pairs.")
    if not np.isfinite(triangle).all():
        bad = np.flatnonzero(~np.isfinite(triangle))
        raise ValueError(f"{what}: pairs {list_ids(bad)} are not finite.")
    return triangle
