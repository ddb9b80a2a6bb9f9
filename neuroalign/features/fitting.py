"""Projections of a job: made from its seed, or fitted once on named stimuli and kept in its entry of the store."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from neuroalign.errors import StoreCorrupt
from neuroalign.features.projection import PCA, Projector, RandomProjector, fit_pca, project_pca, rows_to_fit
from neuroalign.features.store import Entry, slug

__all__ = ["fit_projection", "keep", "make_projector"]


def keep(name: str, values: torch.Tensor) -> torch.Tensor:
    """Return values as they are: no projection."""
    return values


def make_projector(projection: int | PCA | None, random_state: int, entry: Entry) -> Projector:
    """Return ``project(space name, values)`` of a job; a fitted one reads its components from the entry."""
    if projection is None:
        return keep
    return _Fitted(projection, entry) if isinstance(projection, PCA) else RandomProjector(projection, random_state)


def fit_projection(job, names: Sequence[str], *, progress: bool = True) -> None:
    """Fit the principal components of the spaces that have none yet, and keep them in the entry.

    The rows to fit on go through the model once, to temporary files in the entry; the components of a space are
    fitted from its file. Two processes do not fit twice.
    """
    with job.entry.lock("projection"):
        known = job.entry.spaces
        lacking = [n for n in names if n not in known and not _file(job.entry, n).is_file()]
        if not lacking:
            return
        table = job.stimuli.table
        parents = table["parent"].astype(str) if "parent" in table.columns else None
        rows = rows_to_fit(job.projection, job.stimuli.ids, parents)
        with tempfile.TemporaryDirectory(prefix="fit-", dir=job.entry.folder) as folder:
            arrays = _compute(job, lacking, rows, Path(folder), progress)
            for name, array in arrays.items():
                if array.shape[1] > job.projection.n_components:
                    _save(_file(job.entry, name), fit_pca(array, job.projection.n_components, name))
            del arrays


class _Fitted:
    def __init__(self, pca: PCA, entry: Entry):
        self.pca, self.entry = pca, entry
        self._bases: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, values: torch.Tensor) -> torch.Tensor:
        if values.shape[1] <= self.pca.n_components:
            return values
        if name not in self._bases:
            file = _file(self.entry, name)
            if not file.is_file():
                raise StoreCorrupt(f"{file}: the components of the projection are gone. Delete the folder and extract "
                                   "again.")
            self._bases[name] = torch.from_numpy(np.load(file, allow_pickle=False)).to(values.device)
        return project_pca(self._bases[name], values)


def _compute(job, names, rows: np.ndarray, folder: Path, progress: bool) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    seen, only = np.zeros(len(rows), bool), set(rows.tolist())
    project, job.project = job.project, keep
    try:
        with tqdm(total=len(rows), unit=f" {job.unit}", desc=f"{job.model.id}: fit", disable=not progress,
                  dynamic_ncols=True) as bar:
            for start, stop in job.shards():
                if not any(start <= r < stop for r in only):
                    continue
                for got, values in job.compute(start, stop, names, only=only):
                    inside = np.isin(got, rows)
                    at = np.searchsorted(rows, got[inside])
                    for name in names:
                        if name not in arrays:
                            arrays[name] = np.memmap(folder / f"{len(arrays)}.tmp", np.float32, "w+",
                                                     shape=(len(rows), values[name].shape[1]))
                        arrays[name][at] = values[name][inside]
                    seen[at] = True
                    bar.update(int(inside.sum()))
    finally:
        job.project = project
    for array in arrays.values():
        array[~seen] = np.nan
    return arrays


def _file(entry: Entry, name: str) -> Path:
    layer, _, stream = name.rpartition(":")
    return entry.folder / f"{slug(layer)}--{slug(stream)}.basis.npy"


def _save(file: Path, basis: np.ndarray) -> None:
    temporary = file.with_name(file.name + ".tmp")
    with open(temporary, "wb") as f:
        np.save(f, basis, allow_pickle=False)
    temporary.replace(file)
