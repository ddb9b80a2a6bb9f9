"""Readers of responses, confounds and electrodes: one function a kind of source, ``(manifest, **options)``."""

import re

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data.dims import make_responses
from neuroalign.data.download import fetch_file
from neuroalign.data.manifests import Manifest
from neuroalign.errors import list_ids
from neuroalign.recordings.coordinates import check_millimetres
from neuroalign.recordings.files import match_files, provenance, read_numbers
from neuroalign.recordings.images import from_nilearn

__all__ = ["CONFOUNDS", "ELECTRODES", "RESPONSES"]


def text_timecourses(manifest: Manifest, *, files: str, regions, tr: float, first: float, kind: str, units: str,
                     hemispheres=(), regressors: dict | None = None, drop: dict | None = None,
                     **chosen) -> xr.DataArray:
    """Region time courses of several subjects, a text table each (rows samples, columns regions).

    Sample k stands at ``first + k * tr`` seconds. `regressors` (name: pattern of one file a subject) become
    coords of `time`: the mean over subjects of the z-scored series. Subjects in `drop` are left out, and named
    with the reason in ``attrs["dropped"]``.
    """
    drop = drop or {}
    found = {d["subject"]: f for d, f in match_files(manifest, files, **chosen) if d["subject"] not in drop}
    series = {s: read_numbers(fetch_file(manifest, f), columns=len(regions)) for s, f in found.items()}
    values = np.concatenate(list(_same_length(manifest, series).values()), axis=1)
    subjects = np.repeat(list(series), len(regions))
    areas = np.tile(list(regions), len(series))
    samples = {"run": np.zeros(len(values), int)}
    for name, pattern in (regressors or {}).items():
        samples[name] = _mean_regressor(manifest, pattern, list(series), len(values))
    neuroids = {"subject": subjects, "region": areas}
    if hemispheres:
        neuroids["hemisphere"] = np.tile(list(hemispheres), len(series))
    out = make_responses(values, first + tr * np.arange(len(values)), [f"{s}.{r}" for s, r in zip(subjects, areas)],
                         dim="time", kind=kind, units=units, sfreq=1 / tr, sample_coords=samples,
                         neuroid_coords=neuroids)
    return out.assign_attrs(provenance(manifest, regressors=list(regressors or {}), **chosen,
                                       dropped=[f"{s}: {reason}" for s, reason in drop.items()]))


def word_measures(manifest: Manifest, *, file: str, prefix: str, number: str, position: str, measures: dict,
                  measure: str, coords: dict | None = None) -> xr.DataArray:
    """Measures of words in sentences, one CSV row a word; ids ``prefix_NUMBER#POSITION`` as `StimulusSet.words`.

    `measures` names the kind, units and columns of what can be chosen; `coords` the columns that become coords.
    """
    raw = pd.read_csv(fetch_file(manifest, file)).sort_values([number, position])
    what = measures[measure]
    parents = [f"{prefix}_{n}" for n in raw[number]]
    ids = [f"{parent}#{k}" for parent, k in zip(parents, raw[position])]
    more = {new: raw[old].to_numpy() for new, old in (coords or {}).items()}
    out = make_responses(raw[what["columns"]].to_numpy(), ids, what["columns"], kind=what["kind"],
                         units=what["units"], sample_coords={"parent": parents, "position": raw[position], **more})
    return out.assign_attrs(provenance(manifest, measure=measure, regressors=list(more)))


def text_confounds(manifest: Manifest, *, files: str, names, tr: float, first: float, skip: int = 0,
                   drop: dict | None = None) -> xr.DataArray:
    """Confounds of several subjects, a text table each: ``(time, confound, subject)``.

    The first `skip` rows are left out (volumes that the responses do not have); the next one stands at `first`.
    """
    drop = drop or {}
    found = {d["subject"]: f for d, f in match_files(manifest, files) if d["subject"] not in drop}
    series = {s: read_numbers(fetch_file(manifest, f), columns=len(names))[skip:] for s, f in found.items()}
    values = np.stack(list(_same_length(manifest, series).values()), axis=2).astype(np.float32)
    return xr.DataArray(values, dims=("time", "confound", "subject"), name="confounds",
                        coords={"time": first + tr * np.arange(len(values)), "confound": list(names),
                                "subject": list(series), "run": ("time", np.zeros(len(values), int))},
                        attrs=provenance(manifest, dropped=[f"{s}: {reason}" for s, reason in drop.items()]))


def masked_volumes(manifest: Manifest, *, bold: str, mask: str, labels: str, tr: float, columns, subject: str,
                   units: str) -> xr.DataArray:
    """All voxels of a mask in one NIfTI; a text table gives each volume its `columns`, one of which is ``run``."""
    table = pd.read_csv(fetch_file(manifest, labels), sep=r"\s+", header=None, names=list(columns), dtype=str)
    out = from_nilearn(fetch_file(manifest, bold), fetch_file(manifest, mask), tr=tr, runs=table["run"].astype(int),
                       subject=subject, units=units)
    more = {c: ("time", table[c].to_numpy(str)) for c in columns if c != "run"}
    return out.assign_coords(more).assign_attrs(provenance(manifest))


def electrode_tables(manifest: Manifest, *, files: str, columns: dict, subject: str, subject_name: str,
                     kind: str) -> pd.DataFrame:
    """Electrode coordinates in MNI space, one CSV a subject, joined to one table."""
    tables = []
    for _, entry in match_files(manifest, files):
        raw = pd.read_csv(fetch_file(manifest, entry))
        owner = subject_name.format(re.match(subject, entry.name)[1])
        table = pd.DataFrame({new: raw[old] for new, old in columns.items()})
        table.insert(0, "subject", owner)
        table.insert(0, "neuroid_id", [f"{owner}.{label}" for label in raw[columns["label"]]])
        tables.append(table.assign(kind=kind))
    joined = pd.concat(tables, ignore_index=True)
    xyz = joined[["x", "y", "z"]].to_numpy(float)
    if not np.isfinite(xyz).all():
        raise ValueError(f"{manifest.name}: electrodes {list_ids(joined['neuroid_id'][~np.isfinite(xyz).all(1)])} have "
                         "no coordinates.")
    check_millimetres(xyz, manifest.name)
    joined.attrs.update(provenance(manifest, space="MNI152, mm"))
    return joined


RESPONSES = {f.__name__: f for f in (text_timecourses, word_measures, masked_volumes)}
CONFOUNDS = {text_confounds.__name__: text_confounds}
ELECTRODES = {electrode_tables.__name__: electrode_tables}


def _mean_regressor(manifest: Manifest, pattern: str, subjects: list[str], length: int) -> np.ndarray:
    """Average the z-scored series of the subjects; they differ slightly because each was read on its own clock."""
    found = {d["subject"]: f for d, f in match_files(manifest, pattern)}
    total = np.zeros(length)
    for subject in subjects:
        series = read_numbers(fetch_file(manifest, found[subject]), columns=1)[:, 0]
        if len(series) != length:
            raise ValueError(f"{manifest.name}: {found[subject].name!r} has {len(series)} rows, expected {length}.")
        total += (series - series.mean()) / series.std()
    return total / len(subjects)


def _same_length(manifest: Manifest, series: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    lengths = {s: len(x) for s, x in series.items()}
    usual = max(set(lengths.values()), key=list(lengths.values()).count)
    odd = [s for s, n in lengths.items() if n != usual]
    if odd:
        raise ValueError(f"{manifest.name}: subjects {list_ids(odd)} have {lengths[odd[0]]} samples, others {usual}.")
    return series
