"""What `compare` is given, matched by stimulus id: models on one side, rows of targets on the other."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.alignment.rdm import condensed_distances, positions, space_coords, stimulus_ids
from neuroalign.data import align, as_spaces, sample_dim, validate_rdms
from neuroalign.errors import NotAligned, check_option, list_ids, warn_user

__all__ = ["Models", "Targets", "match", "select_controls", "target_kind"]

MIN_STIMULI = 4


@dataclass
class Models:
    """The model side.

    Attributes
    ----------
    names : list of str
    coords : dict of str to array
        Coords of the ``space`` dim.
    arrays : list of array (n_stimuli, n_features), or None
        Rows in the order of the targets' stimuli; None if RDMs were given.
    condensed : float32 array of shape (n_spaces, n_stimuli * (n_stimuli - 1) / 2), or None
        Dissimilarities of all pairs of stimuli, once they are asked for.
    """

    names: list[str]
    coords: dict
    arrays: list | None = None
    condensed: np.ndarray | None = None

    def dissimilarities(self, ids, metric: str, device) -> np.ndarray:
        """Return (and keep) the dissimilarities of all pairs of stimuli."""
        if self.condensed is None:
            self.condensed = np.stack([condensed_distances(a, metric, ids=ids, name=name, device=device)
                                       for a, name in zip(self.arrays, self.names)])
        return self.condensed


@dataclass
class Targets:
    """The other side: rows (one an RDM or array of one subject), and the cells they are averaged into.

    Attributes
    ----------
    ids : array of str
        All stimuli, in order.
    first, second : array of int, shape (n_pairs,)
        Stimuli of the pairs.
    rows : float32 array of shape (n_rows, n_pairs), or None
    arrays : list of array (n_stimuli, n_units), or None
    cell : array of int, shape (n_rows,)
        Cell that each row belongs to.
    subject : array of str, shape (n_rows,)
        Empty where a target has no subjects.
    names : list of str
        Names along `dim`; with time bins a cell is ``name * n_bins + bin``.
    dim : {"target", "space_b"}
    """

    ids: np.ndarray
    first: np.ndarray
    second: np.ndarray
    cell: np.ndarray
    subject: np.ndarray
    names: list[str]
    rows: np.ndarray | None = None
    arrays: list | None = None
    dim: str = "target"
    time_bins: np.ndarray | None = None
    coords: dict = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        return len(self.names) * (1 if self.time_bins is None else len(self.time_bins))

    @property
    def every_pair(self) -> bool:
        """Whether the pairs are the upper triangle in row order."""
        return len(self.first) == len(self.ids) * (len(self.ids) - 1) // 2 and bool(
            (positions(self.first, self.second, len(self.ids)) == np.arange(len(self.first))).all())

    def dissimilarities(self, metric: str, device) -> np.ndarray:
        """Return (and keep) the rows of dissimilarities."""
        if self.rows is None:
            labels = [self.label(r) for r in range(len(self.arrays))]
            self.rows = np.stack([condensed_distances(a, metric, ids=self.ids, name=label, device=device)
                                  for a, label in zip(self.arrays, labels)])
        return self.rows

    def label(self, row: int) -> str:
        """Name a row for messages."""
        name, subject = self.cell_name(self.cell[row]), self.subject[row]
        return f"{name} of {subject}" if subject else name

    def cell_name(self, cell: int) -> str:
        """Name a cell for messages."""
        if self.time_bins is None:
            return self.names[cell]
        k, b = divmod(int(cell), len(self.time_bins))
        return f"{self.names[k]} at {self.time_bins[b]:g} s"


def target_kind(targets) -> str:
    """Say what the targets are: ``"rdms"``, ``"responses"`` or ``"features"``."""
    if isinstance(targets, xr.DataArray):
        for dim, kind in (("pair", "rdms"), ("neuroid", "responses"), ("feature", "features")):
            if dim in targets.dims:
                return kind
        raise ValueError(f"targets: got dims {tuple(targets.dims)}, expected RDMs (target, pair), responses "
                         "(sample, neuroid) or features (sample, feature).")
    if isinstance(targets, (np.ndarray, pd.DataFrame, xr.Dataset)):
        raise TypeError(f"targets: got {type(targets).__name__}, expected a labelled DataArray. Use "
                        "neuroalign.data.make_rdms, make_responses or make_features.")
    return "features"


def match(features, targets, on_missing: str) -> tuple[Models, Targets]:
    """Match models and targets by stimulus id.

    Raises
    ------
    NotAligned
        Naming what is missing where.
    """
    check_option("on_missing", on_missing, ("error", "drop"))
    kind = target_kind(targets)
    models_are_rdms = isinstance(features, xr.DataArray) and "pair" in features.dims
    if kind == "rdms":
        found = _match_rdms(features, targets, on_missing, models_are_rdms)
    elif models_are_rdms:
        if kind == "responses":
            _, responses = align(_placeholder(features), targets, on_missing=on_missing)
            side = _response_targets(responses)
        else:
            side = _feature_targets(as_spaces(targets), on_missing, also={"model RDMs": _placeholder(features)})
        found = _rdm_models(features, side), side
    elif kind == "responses":
        spaces, responses = align(features, targets, on_missing=on_missing)
        if sample_dim(responses) != "stimulus":
            raise NotAligned(f"responses stand on {sample_dim(responses)!r}; a comparison of geometries needs "
                             "stimuli. Average or epoch them first, or use encode.")
        found = _array_models(spaces, np.asarray(responses.stimulus_id)), _response_targets(responses)
    else:
        side = _feature_targets(as_spaces(targets), on_missing, also=as_spaces(features))
        found = _array_models(as_spaces(features), side.ids), side
    if len(found[1].ids) < MIN_STIMULI:
        raise ValueError(f"compare: {len(found[1].ids)} stimuli are shared, expected at least {MIN_STIMULI}.")
    return found


def select_controls(control, features, models: Models, side: Targets, metric: str, device) -> np.ndarray:
    """Dissimilarities of the control RDMs at the pairs of the targets, shape (n_controls, n_pairs)."""
    wanted = [control] if isinstance(control, str) else control
    if isinstance(wanted, (list, tuple)) and all(isinstance(c, str) for c in wanted):
        lost = [c for c in wanted if c not in models.names]
        if lost:
            raise ValueError(f"control: no space {list_ids(lost)} among the features ({list_ids(models.names)}).")
        condensed = models.dissimilarities(side.ids, metric, device)[[models.names.index(c) for c in wanted]]
    elif isinstance(control, xr.DataArray) and "pair" in control.dims:
        condensed = _rdm_models(control, side).condensed
    else:
        condensed = _array_models(as_spaces(control), side.ids, "control").dissimilarities(side.ids, metric, device)
    values = condensed[:, positions(side.first, side.second, len(side.ids))]
    if np.isnan(values).any():
        raise ValueError("control: its dissimilarities are NaN for some of the compared pairs. Drop these stimuli.")
    return values


def _match_rdms(features, rdms, on_missing, models_are_rdms):
    validate_rdms(rdms)
    a, b = rdms.stimulus_a.values, rdms.stimulus_b.values
    if models_are_rdms:
        validate_rdms(features)
        known = {"the model RDMs": np.concatenate([features.stimulus_a.values, features.stimulus_b.values])}
        spaces = None
    else:
        spaces = as_spaces(features)
        if not spaces:
            raise NotAligned("features: no space given.")
        known = {f"features {name!r}": stimulus_ids(name, space) for name, space in spaces.items()}
    wanted = pd.unique(np.concatenate([a, b]))
    keep, lost, unused = np.ones(len(a), bool), [], []
    for what, have in known.items():
        here = pd.Index(pd.unique(np.asarray(have)))
        there = np.isin(a, here) & np.isin(b, here)
        missing, extra = wanted[~np.isin(wanted, here)], here[~here.isin(wanted)]
        if not there.any() or (on_missing == "error" and (len(missing) or len(extra))):
            place, ids = (f"{what} ({list_ids(here)})", missing) if len(missing) else ("the RDMs", extra)
            raise NotAligned(f"RDMs and {what} do not cover the same stimuli: {list_ids(ids)} missing in {place}. Pass "
                             "on_missing='drop' to use the pairs both have.")
        keep, lost, unused = keep & there, [*lost, *missing], [*unused, *extra]
    if not keep.any():
        raise NotAligned("RDMs and features share no pair of stimuli.")
    models = "model RDMs" if models_are_rdms else "features"
    for ids, place, of in ((lost, models, f" ({int((~keep).sum())} of {len(a)} pairs)"), (unused, "target RDMs", "")):
        ids = list(dict.fromkeys(ids))
        if ids:
            warn_user(f"{len(ids)} stimuli dropped{of}, missing in the {place}: {list_ids(ids)}.", "dropped-stimuli",
                      ids)
    side = _rdm_targets(rdms.isel(pair=np.flatnonzero(keep)))
    return (_rdm_models(features, side) if models_are_rdms else _array_models(spaces, side.ids)), side


def _rdm_targets(rdms: xr.DataArray) -> Targets:
    rdms = rdms.transpose("target", "pair")
    a, b = rdms.stimulus_a.values, rdms.stimulus_b.values
    ids = pd.unique(np.concatenate([a, b]))
    index = pd.Index(ids)
    own = [str(t) for t in rdms.target.values]
    regions = [str(r) for r in rdms.region.values] if "region" in rdms.coords else own
    regions = [r or name for r, name in zip(regions, own)]
    subjects = [str(s) for s in rdms.subject.values] if "subject" in rdms.coords else [""] * len(own)
    values, regions, subjects = _one_row_a_subject(np.asarray(rdms.values, np.float32), regions, subjects)
    names = list(dict.fromkeys(regions))
    return Targets(ids, index.get_indexer(a), index.get_indexer(b), np.array([names.index(r) for r in regions]),
                   np.array(subjects), names, rows=values)


def _one_row_a_subject(values, regions, subjects):
    """Average the rows (sessions) of one subject in one region; rows without a subject stay apart."""
    keys = [(r, s) if s else (r, i) for i, (r, s) in enumerate(zip(regions, subjects))]
    unique = list(dict.fromkeys(keys))
    if len(unique) == len(keys):
        return values, regions, subjects
    of_key = np.array([unique.index(k) for k in keys])
    rows = []
    for k in range(len(unique)):
        own = values[of_key == k].astype(np.float64)
        count = (~np.isnan(own)).sum(0)
        with np.errstate(invalid="ignore"):
            rows.append(np.nansum(own, 0) / np.where(count, count, np.nan))
    place = [keys.index(k) for k in unique]
    return np.asarray(rows, np.float32), [regions[i] for i in place], [subjects[i] for i in place]


def _response_targets(responses: xr.DataArray) -> Targets:
    ids = np.asarray(responses.stimulus_id)
    n = responses.sizes["neuroid"]
    regions = np.asarray(responses.region.values, str) if "region" in responses.coords else np.full(n, "all")
    subjects = np.asarray(responses.subject.values, str) if "subject" in responses.coords else np.full(n, "")
    names = list(dict.fromkeys(regions))
    bins = responses.time_bin.values if "time_bin" in responses.dims else None
    arrays, cell, owner = [], [], []
    for k, region in enumerate(names):
        for subject in dict.fromkeys(subjects[regions == region]):
            own = responses.isel(neuroid=np.flatnonzero((regions == region) & (subjects == subject)))
            values = own.transpose("stimulus", "neuroid", ...).values
            for t in range(1 if bins is None else len(bins)):
                arrays.append(values if bins is None else values[:, :, t])
                cell.append(k if bins is None else k * len(bins) + t)
                owner.append(subject)
    counts = np.array([(regions == name).sum() for name in names])
    return Targets(ids, *np.triu_indices(len(ids), 1), np.array(cell), np.array(owner), names, arrays=arrays,
                   time_bins=bins, coords={"n_neuroids": counts})


def _feature_targets(spaces, on_missing, also=None) -> Targets:
    everything = {**(also or {}), **{name: s for name, s in spaces.items() if name not in (also or {})}}
    known = {name: stimulus_ids(name, s) for name, s in everything.items()}
    # A space of the same name may stand on both sides with other stimuli.
    known |= {f"{name} (target)": stimulus_ids(name, s) for name, s in spaces.items() if s is not everything[name]}
    ids = _shared_ids(known, on_missing)
    models = _array_models(spaces, ids)
    coords = {f"{k}_b": v for k, v in models.coords.items()}
    return Targets(ids, *np.triu_indices(len(ids), 1), np.arange(len(models.names)),
                   np.full(len(models.names), ""), models.names, arrays=models.arrays, dim="space_b", coords=coords)


def _shared_ids(known, on_missing) -> np.ndarray:
    names = list(known)
    shared = pd.Index(known[names[0]])
    for name in names[1:]:
        here = pd.Index(known[name])
        different = shared.symmetric_difference(here)
        if len(different) and on_missing == "error":
            raise NotAligned(f"features {names[0]!r} and {name!r} do not cover the same stimuli: "
                             f"{list_ids(different)} stand in one alone. Pass on_missing='drop' to use what both "
                             "have.")
        shared = shared[shared.isin(here)]
    if not len(shared):
        raise NotAligned("the two sides share no stimulus_id.")
    lost = sorted({str(i) for ids in known.values() for i in ids} - set(map(str, shared)))
    if lost:
        warn_user(f"{len(lost)} stimuli dropped, not in every space: {list_ids(lost)}.", "dropped-stimuli", lost)
    return np.asarray(shared)


def _array_models(spaces, ids, what: str = "features") -> Models:
    arrays = []
    for name, space in spaces.items():
        have = pd.Index(stimulus_ids(name, space))
        if have.has_duplicates:
            raise NotAligned(f"{what} {name!r}: stimulus_id {list_ids(have[have.duplicated()].unique())} occur "
                             "more than once. Give one row a stimulus.")
        rows = have.get_indexer(ids)
        if (rows < 0).any():
            raise NotAligned(f"{what} {name!r}: {list_ids(ids[rows < 0])} missing, which the others have. Give all "
                             "stimuli that are compared.")
        values = space.transpose(sample_dim(space), "feature").data
        same = len(rows) == len(have) and np.array_equal(rows, np.arange(len(rows)))
        arrays.append(values if same else values[rows])
    return Models(list(spaces), space_coords(spaces), arrays=arrays)


def _rdm_models(rdms: xr.DataArray, side: Targets) -> Models:
    """Model RDMs on the stimuli of the targets; pairs that they lack are NaN."""
    validate_rdms(rdms)
    rdms = rdms.transpose("target", "pair")
    index, n = pd.Index(side.ids), len(side.ids)
    a, b = index.get_indexer(rdms.stimulus_a.values), index.get_indexer(rdms.stimulus_b.values)
    here = (a >= 0) & (b >= 0)
    condensed = np.full((rdms.sizes["target"], n * (n - 1) // 2), np.nan, np.float32)
    condensed[:, positions(a[here], b[here], n)] = rdms.values[:, here]
    names = [str(t) for t in rdms.target.values]
    coords = {"model": np.array(names), "layer": np.full(len(names), ""), "stream": np.full(len(names), ""),
              "depth": np.full(len(names), np.nan), "n_features": np.full(len(names), -1)}
    coords |= {k: rdms.coords[k].values for k in coords if k in rdms.coords}
    return Models(names, coords, condensed=condensed)


def _placeholder(rdms: xr.DataArray) -> xr.DataArray:
    """An empty feature space on the stimuli of RDMs, so that `align` matches them with responses."""
    ids = pd.unique(np.concatenate([rdms.stimulus_a.values, rdms.stimulus_b.values]))
    return xr.DataArray(np.zeros((len(ids), 1), np.float32), dims=("stimulus", "feature"),
                        coords={"stimulus": ids, "stimulus_id": ("stimulus", ids)}, name="model RDMs")


