"""Resamples: which units (stimuli, subjects) stand in each resample; made once, stored, shared by all spaces."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroalign.errors import check_option, list_ids
from neuroalign.stats.random import child_rng

__all__ = ["Resamples", "load_resamples", "make_resamples"]

KINDS = ("bootstrap", "subsample")


@dataclass(frozen=True)
class Resamples:
    """Units of each resample.

    Attributes
    ----------
    indices : int32 array of shape (n_resamples, size)
        Positions in `units`.
    units : tuple of str
        Names of what is resampled.
    kind : {"bootstrap", "subsample"}
        With replacement, or without.
    random_state : int
    """

    indices: np.ndarray
    units: tuple[str, ...]
    kind: str
    random_state: int

    def __post_init__(self):
        check_option("kind", self.kind, KINDS)
        indices = np.asarray(self.indices, np.int32)
        if indices.ndim != 2 or (indices.size and not 0 <= indices.min() <= indices.max() < len(self.units)):
            raise ValueError(f"resamples: indices of shape {indices.shape}, expected (n_resamples, size) positions "
                             f"below the {len(self.units)} units.")
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "units", tuple(map(str, self.units)))

    def __len__(self) -> int:
        return len(self.indices)

    def counts(self) -> np.ndarray:
        """Return how often each unit stands in each resample, shape (n_resamples, n_units)."""
        counts = np.zeros((len(self), len(self.units)), np.int32)
        np.add.at(counts, (np.arange(len(self))[:, None], self.indices), 1)
        return counts

    def restrict(self, units) -> np.ndarray:
        """Return the counts of some of the units, by name, shape (n_resamples, len(units))."""
        place = {u: i for i, u in enumerate(self.units)}
        missing = [u for u in map(str, units) if u not in place]
        if missing:
            raise KeyError(f"resamples: no units {list_ids(missing)}; they were made for {list_ids(self.units)}.")
        return self.counts()[:, [place[str(u)] for u in units]]

    def save(self, path) -> Path:
        """Write the indices as ``.npy`` and the names beside them as ``.json``."""
        path = Path(path).with_suffix(".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"units": self.units, "kind": self.kind, "random_state": self.random_state}
        for target, write in ((path, lambda f: np.save(f, self.indices, allow_pickle=False)),
                              (path.with_suffix(".json"), lambda f: f.write(json.dumps(about).encode()))):
            part = target.with_name(target.name + ".part")
            with open(part, "wb") as f:
                write(f)
            os.replace(part, target)
        return path


def make_resamples(units, n_resamples: int, *, kind: str = "bootstrap", size: int | None = None,
                   random_state: int = 0, purpose: str = "stimuli") -> Resamples:
    """Draw resamples of named units.

    Parameters
    ----------
    units : sequence of str
    n_resamples : int
    kind : {"bootstrap", "subsample"}
        With replacement (as many as there are), or `size` distinct ones (half of them by default).
    size : int, optional
    random_state : int
    purpose : str
        Resamples of different purposes are independent at the same `random_state`.

    Examples
    --------
    >>> make_resamples(["a", "b", "c"], 2).counts().sum(1).tolist()
    [3, 3]
    """
    check_option("kind", kind, KINDS)
    units = tuple(map(str, units))
    if len(set(units)) < len(units):
        raise ValueError("resamples: names of units are not unique.")
    if not isinstance(n_resamples, (int, np.integer)) or n_resamples < 1:
        raise ValueError(f"n_resamples: got {n_resamples!r}, expected an integer of at least 1.")
    n = len(units)
    rng = child_rng(random_state, f"{kind} of {purpose}")
    if kind == "bootstrap":
        indices = rng.integers(n, size=(n_resamples, size or n))
    else:
        size = n // 2 if size is None else size
        if not 1 <= size < n:
            raise ValueError(f"size: got {size}, expected 1 to {n - 1} of the {n} units.")
        indices = np.stack([rng.permutation(n)[:size] for _ in range(n_resamples)])
    return Resamples(indices, units, kind, int(random_state))


def load_resamples(path) -> Resamples:
    """Read resamples that `Resamples.save` wrote."""
    path = Path(path).with_suffix(".npy")
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise FileNotFoundError(f"resamples: no file {str(file)!r}.")
    about = json.loads(path.with_suffix(".json").read_text())
    return Resamples(np.load(path, allow_pickle=False), tuple(about["units"]), about["kind"], about["random_state"])
