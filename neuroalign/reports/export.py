"""Scores for other programs: tables, BIDS derivatives, images of the brain, MNE objects."""

import json
import os
import re
import uuid
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data import scores as scores_
from neuroalign.data.scores import attrs_of, to_frame
from neuroalign.errors import check_option, list_ids
from neuroalign.plots.select import metric_label
from neuroalign.plots.topomap import sensor_info
from neuroalign.recordings import paint
from neuroalign.reports.methods import methods

__all__ = ["FORMATS", "export", "to_evoked"]

FORMATS = ("csv", "tsv", "netcdf", "bids", "nifti", "gifti", "evoked")
DATATYPES = {"fmri": "func", "seeg": "ieeg", "ecog": "ieeg", "eeg": "eeg", "meg": "meg", "behaviour": "beh"}
BIDS_VERSION = "1.9.0"
MAPPED = ("score", "q")  # variables that become images


def export(scores: xr.Dataset, path, to: str | None = None, *, like=None, info=None, kind: str | None = None,
           task: str | None = None, metric: str | None = None) -> list[Path]:
    """Write Scores in the format of another program.

    Parameters
    ----------
    scores : Dataset
    path : str or Path
        A file for ``csv``, ``tsv`` and ``netcdf``; a folder for the others, which write several files.
    to : {"csv", "tsv", "netcdf", "bids", "nifti", "gifti", "evoked"}, optional
        By default what the ending of `path` says (``.csv``, ``.tsv``, ``.nc``).

        - ``csv``, ``tsv``: one row a score, every variable and coord; ``tsv`` as BIDS wants it (``n/a``, and a JSON
          beside it that describes the columns and how the scores were made).
        - ``bids``: a derivative data set: one such table a subject, and electrodes where neuroids have MNI coordinates.
        - ``nifti``, ``gifti``: one image for each metric, space and of score and q, through what read the recording.
        - ``evoked``: one ``-ave.fif`` for each metric, all spaces in it.
    like : DataArray or nilearn masker
        For ``nifti`` and ``gifti``: the Responses that `from_nilearn` made, or their masker.
    info : mne.Info or str
        For ``evoked``: where the sensors are, as for `neuroalign.plot.topomap`.
    kind : str, optional
        For ``bids``: what was recorded (``fmri``, ``seeg``, ...); by default what the neuroids say.
    task : str, optional
        For ``bids``: name of the task.
    metric : str, optional
        Only this metric; all by default.

    Returns
    -------
    list of Path
        What was written.

    Examples
    --------
    >>> s = scores_.make({"score": (("metric", "space", "target"), [[[0.5, 0.2]]])},
    ...                  {"metric": ["rsa.spearman"], "space": ["m:l:all"], "target": ["IT", "EVC"]})
    >>> import tempfile
    >>> [p.name for p in export(s, Path(tempfile.mkdtemp()) / "s.tsv")]
    ['s.tsv', 's.json']
    """
    path = Path(path)
    if to is None:
        to = {".csv": "csv", ".tsv": "tsv", ".nc": "netcdf"}.get(path.suffix.lower())
        if to is None:
            raise ValueError(f"to: the name {path.name!r} says no format; give one of {', '.join(FORMATS)}.")
    check_option("to", to, FORMATS)
    scores_.validate(scores)
    if metric is not None:
        check_option("metric", metric, [str(m) for m in scores["metric"].values])
        scores = scores.sel(metric=[metric])
    if to == "netcdf":
        return [scores_.save(scores, path)]
    if to == "csv":
        return [_write(path, lambda part: to_frame(scores).to_csv(part, index=False))]
    if to == "tsv":
        return _table(scores, to_frame(scores), path)
    if to == "bids":
        return _derivative(scores, path, kind, task)
    if to == "evoked":
        return _evoked_files(scores, path, _needed(info, "info", to, "an mne.Info, or the name of a montage"))
    return _images(scores, path, to, _needed(like, "like", to, "the Responses of from_nilearn, or their masker"))


def to_evoked(scores: xr.Dataset, info, space: str | None = None, metric: str | None = None):
    """Return the scores of sensors as an `mne.EvokedArray`, to be drawn or tested with MNE.

    Parameters
    ----------
    scores : Dataset
        One neuroid a sensor; with a ``time_bin`` of even steps, or without (then one sample).
    info : mne.Info or str
        As for `neuroalign.plot.topomap`.
    space, metric : str, optional
        The first of each by default.

    Returns
    -------
    mne.EvokedArray
        MNE takes its numbers for volts or tesla; they are scores, without a unit. Sensors without a score are NaN, and
        stand in ``info["bads"]``.
    """
    import mne

    scores_.validate(scores)
    metric = check_option("metric", metric or str(scores["metric"].values[0]), map(str, scores["metric"].values))
    space = check_option("space", space or str(scores["space"].values[0]), map(str, scores["space"].values))
    picked = scores["score"].sel(metric=metric, space=space)
    if "neuroid" not in picked.dims:
        raise ValueError("to_evoked: the Scores have no dim 'neuroid'; expected one neuroid a sensor.")
    sensors = picked["neuroid_id" if "neuroid_id" in picked.coords else "neuroid"].values.astype(str)
    where = sensor_info(info, sensors)
    times = picked["time_bin"].values.astype(float) if "time_bin" in picked.dims else np.zeros(1)
    step = np.diff(times)
    if len(step) and not np.allclose(step, step[0], rtol=1e-3):
        raise ValueError(f"to_evoked: time bins are {step.min():g} to {step.max():g} s apart; MNE wants even steps.")
    made = mne.create_info(list(sensors), 1 / step[0] if len(step) else 1.0, where.get_channel_types())
    for new, old in zip(made["chs"], where["chs"]):
        new["loc"][:] = old["loc"]
        new["coord_frame"] = old["coord_frame"]
    values = picked.transpose("neuroid", ...).values.reshape(len(sensors), -1).astype(float)
    made["bads"] = [s for s, row in zip(sensors, values) if np.isnan(row).all()]
    return mne.EvokedArray(values, made, tmin=float(times[0]), comment=f"{metric} | {space}", verbose="ERROR")


def _needed(value, name: str, to: str, what: str):
    if value is None:
        raise ValueError(f"{name}: needed for to={to!r}: {what}.")
    return value


def _table(scores, frame, path: Path) -> list[Path]:
    """Write a table as BIDS wants it, and the JSON that describes it."""
    written = _write(path, lambda part: frame.to_csv(part, sep="\t", index=False, na_rep="n/a"))
    return [written, _json(path.with_suffix(".json"), _columns(frame) | _described(scores))]


def _columns(frame) -> dict:
    known = {"metric": "name of the statistic; it says the estimator and the aggregation",
             "space": "feature space, model:layer:stream", "model": "model", "layer": "module path of the layer",
             "stream": "tokens that the features are of", "depth": "relative depth of the layer, 0 to 1",
             "neuroid": "measured unit", "target": "what was compared with", "subject": "participant",
             "region": "region of the brain", "space_b": "the other feature space",
             **scores_.SCORE_VARIABLES}
    units = {"x": "mm", "y": "mm", "z": "mm", "time_bin": "s"}
    found = {}
    for column in map(str, frame.columns):
        about = {"Description": known.get(column, {"time_bin": "centre of the time bin, from the event"}.get(
            column, f"MNI coordinate {column}" if column in "xyz" else column.replace("_", " ")))}
        found[column] = about | ({"Units": units[column]} if column in units else {})
    if "metric" in frame:
        found["metric"]["Levels"] = {str(m): metric_label(str(m)) for m in pd.unique(frame["metric"])}
    return found


def _described(scores) -> dict:
    attrs = attrs_of(scores)
    about = {"Analysis": attrs.get("analysis") or attrs.get("kind"), "Methods": methods(scores),
             "Software": attrs.get("versions"), "RandomState": attrs.get("random_state"),
             "Command": attrs.get("command"), "Created": attrs.get("created"),
             "Warnings": [w.get("message") for w in attrs.get("warnings") or []]}
    return {"neuroalign": {k: v for k, v in about.items() if v not in (None, "", [])}}


def _derivative(scores, folder: Path, kind, task) -> list[Path]:
    frame = to_frame(scores)
    analysis = _label(str(attrs_of(scores).get("analysis") or "compare").replace("encode", "encoding"))
    task = f"_task-{_label(task)}" if task else ""
    about = {"Name": "Scores of neuroalign", "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative",
             "GeneratedBy": [{"Name": "neuroalign", "Version": metadata.version("neuroalign")}]}
    written = [_json(folder / "dataset_description.json", about)]
    if "subject" not in frame or "subject" in scores["score"].dims:
        return written + _table(scores, frame, folder / f"group{task}_desc-{analysis}_scores.tsv")
    datatype = _datatype(frame, kind)
    labels = _unique_labels(frame["subject"].astype(str).unique(), "subject")
    for subject, label in labels.items():
        own = frame[frame["subject"].astype(str) == subject]
        stem = folder / f"sub-{label}" / datatype / f"sub-{label}"
        written += _table(scores, own, Path(f"{stem}{task}_desc-{analysis}_scores.tsv"))
        if datatype == "ieeg" and {"x", "y", "z"} <= set(own):
            written += _electrodes(own, stem)
    return written


def _datatype(frame, kind) -> str:
    if kind is None and "kind" in frame:
        kinds = frame["kind"].dropna().unique()
        kind = str(kinds[0]) if len(kinds) == 1 else None
    if kind is None:
        raise ValueError("kind: the neuroids do not say what was recorded; give it, one of "
                         f"{', '.join(DATATYPES)}: it names the folder.")
    return DATATYPES[check_option("kind", kind, DATATYPES)]


def _electrodes(own, stem: Path) -> list[Path]:
    name = "neuroid_id" if "neuroid_id" in own else "neuroid"
    table = own.drop_duplicates(name)[[name, "x", "y", "z"]].rename(columns={name: "name"}).assign(size="n/a")
    path = Path(f"{stem}_space-Other_electrodes.tsv")
    about = {"iEEGCoordinateSystem": "Other", "iEEGCoordinateUnits": "mm",
             "iEEGCoordinateSystemDescription": "MNI space; which template, the recording's own description says"}
    return [_write(path, lambda part: table.to_csv(part, sep="\t", index=False, na_rep="n/a")),
            _json(Path(f"{stem}_space-Other_coordsystem.json"), about)]


def _images(scores, folder: Path, to: str, like) -> list[Path]:
    if "neuroid" not in scores["score"].dims:
        raise ValueError(f"to: {to!r} needs neuroids (voxels, vertices, regions); these Scores have none.")
    written = []
    subjects = set(map(str, scores["subject"].values.ravel())) if "subject" in scores.coords else set()
    who = f"sub-{_label(subjects.pop())}_" if len(subjects) == 1 else ""
    models = _unique_labels([str(s) for s in scores["space"].values], "space")
    stats = _unique_labels([str(m) for m in scores["metric"].values], "metric")
    for (metric, stat), (space, model) in ((m, s) for m in stats.items() for s in models.items()):
        for name in (v for v in MAPPED if v in scores):
            values = scores[name].sel(metric=metric, space=space)
            image = paint(values.rename(time_bin="bin") if "time_bin" in values.dims else values, like)
            surface = not hasattr(image, "affine")
            if surface != (to == "gifti"):
                raise ValueError(f"to: these neuroids are of a {'surface' if surface else 'volume'}; write "
                                 f"{'gifti' if surface else 'nifti'}.")
            stem = f"model-{model}_stat-{stat if name == 'score' else stat + 'q'}_statmap"
            files = (_gifti(image, folder, who, stem) if surface else
                     [_nifti(image, folder / f"{who}{stem}.nii.gz")])
            about = {"model": {"Description": f"feature space {space}"},
                     "stat": {"Description": f"{name} of {metric}: {scores_.SCORE_VARIABLES[name]}"}}
            if "time_bin" in scores.dims:
                about["TimeBins"] = {"Units": "s", "Values": scores["time_bin"].values.tolist()}
            written += [*files, _json(folder / f"{who}{stem}.json", about | _described(scores))]
    return written


def _nifti(image, path: Path) -> Path:
    import nibabel

    return _write(path, lambda part: nibabel.save(image, part), ending=".nii.gz")


def _gifti(image, folder: Path, who: str, stem: str) -> list[Path]:
    import nibabel
    from nibabel import gifti

    written = []
    for side, values in image.data.parts.items():
        columns = np.atleast_2d(np.asarray(values, np.float32).T)  # one array a map
        arrays = [gifti.GiftiDataArray(c, intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32") for c in columns]
        for array in arrays:
            array.meta["AnatomicalStructurePrimary"] = f"Cortex{side.capitalize()}"
        made = gifti.GiftiImage(darrays=arrays)
        made.meta["AnatomicalStructurePrimary"] = f"Cortex{side.capitalize()}"
        path = folder / f"{who}hemi-{side[0].upper()}_{stem}.func.gii"
        written.append(_write(path, lambda part, made=made: nibabel.save(made, part), ending=".func.gii"))
    return written


def _evoked_files(scores, folder: Path, info) -> list[Path]:
    import mne

    written = []
    for metric, label in _unique_labels([str(m) for m in scores["metric"].values], "metric").items():
        made = [to_evoked(scores, info, str(space), metric) for space in scores["space"].values]
        path = folder / f"stat-{label}_scores-ave.fif"
        written.append(_write(path, lambda part, made=made: mne.write_evokeds(part, made, overwrite=True,
                                                                             verbose="ERROR"), ending="-ave.fif"))
    return written


def _label(name: str) -> str:
    """Return what BIDS allows in a label: letters and digits."""
    return re.sub(r"[^0-9a-zA-Z]", "", str(name)) or "x"


def _unique_labels(names, what: str) -> dict[str, str]:
    labels = {name: _label(name) for name in names}
    by_label: dict[str, list] = {}
    for name, label in labels.items():
        by_label.setdefault(label.lower(), []).append(name)  # some file systems know no case
    same = next((group for group in by_label.values() if len(group) > 1), None)
    if same:
        raise ValueError(f"{what}: {list_ids(same)} have one name in letters and digits, {labels[same[0]]!r}, which is "
                         "all that BIDS allows. Rename one, or export them apart.")
    return labels


def _json(path: Path, content: dict) -> Path:
    said = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    return _write(path, lambda part: Path(part).write_text(said + "\n", encoding="utf-8"))


def _write(path: Path, write: Callable, ending: str = "") -> Path:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex[:8]}.part{ending}")
    try:
        write(str(part))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
