"""Folds: resolved once from a name, a splitter or a table, stored, and reusable as an argument."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.stats.random import child_rng

__all__ = ["Folds", "make_folds"]

NAMES = ("kfold", "groups", "leave-one-group-out", "blocks", "shuffled")


@dataclass(frozen=True)
class Folds:
    """Train and test samples of each fold.

    Attributes
    ----------
    train, test : array of bool, shape (n_folds, n_samples)
        A sample in neither is purged (too near to the test block).
    name : str
        What made them.
    """

    train: np.ndarray
    test: np.ndarray
    name: str

    def __post_init__(self):
        if (self.train & self.test).any():
            raise ValueError("folds: a sample is in the training and the test set of the same fold.")
        for k, (train, test) in enumerate(zip(self.train, self.test)):
            if test.sum() < 1 or train.sum() < 2:
                raise ValueError(
                    f"folds: fold {k} of {len(self.test)} ({self.name}) has {train.sum()} training and "
                    f"{test.sum()} test samples, expected at least 2 and 1. Use fewer folds or a smaller gap."
                )

    def __len__(self) -> int:
        return len(self.test)

    @property
    def n_samples(self) -> int:
        """Number of samples that the folds were made for."""
        return self.test.shape[1]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for train, test in zip(self.train, self.test):
            yield np.flatnonzero(train), np.flatnonzero(test)

    def describe(self) -> dict:
        """Return a JSON-able account: name, sizes, and the test fold of each sample (-1: never tested)."""
        fold_of = np.where(self.test.any(0), self.test.argmax(0), -1)
        return {"name": self.name, "n_folds": len(self), "n_train": self.train.sum(1).tolist(),
                "n_test": self.test.sum(1).tolist(),
                "n_purged": (~(self.train | self.test)).sum(1).tolist(), "fold_of_sample": fold_of.tolist()}


def make_folds(cv, n_samples: int, *, groups=None, runs=None, positions=None, n_splits: int = 5, gap: int = 0,
               random_state: int = 0, time_series: bool = False) -> Folds:
    """Resolve `cv` to `Folds`.

    Parameters
    ----------
    cv : str, int, Folds, scikit-learn splitter, mapping, table, or iterable of (train, test)
        ``"kfold"`` (shuffled k-fold; of independent stimuli), ``"groups"`` (k-fold that keeps groups
        together), ``"leave-one-group-out"``, ``"blocks"`` (contiguous blocks with a purge gap),
        ``"shuffled"`` (as kfold, the explicit word that a time series asks for). An int is the number of
        splits of the default: blocks for a time series, groups if given, else kfold. One split by name is
        ``{"test": [...]}``, the groups that are tested (one film, one run), and perhaps ``"train"``, by default all
        others. A table is a sequence with the fold of each sample; an iterable of (train, test) has the row numbers, or
        boolean masks, of both sides of each fold.
    groups : sequence, optional
        Label of each sample; a group never straddles folds.
    runs : sequence, optional
        Run of each sample of a time series: gaps do not reach across runs.
    positions : sequence of int, optional
        Place of each sample on the clock, ascending, where samples are left out between them (the training
        rows of an outer fold): gaps are counted on it.
    gap : int
        Samples purged from training on both sides of a test block.
    time_series : bool
        Shuffling is then refused unless asked for by ``"shuffled"``, which warns.

    Returns
    -------
    Folds

    Examples
    --------
    >>> folds = make_folds("blocks", 12, n_splits=3, gap=1)
    >>> [(train.tolist(), test.tolist()) for train, test in folds][0]
    ([5, 6, 7, 8, 9, 10, 11], [0, 1, 2, 3])
    """
    _check_labels(groups, n_samples)
    if isinstance(cv, Folds):
        if cv.n_samples != n_samples:
            raise ValueError(f"cv: the folds were made for {cv.n_samples} samples, the data have {n_samples}.")
        return _check_groups(cv, groups)
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        n_splits = int(cv)
        cv = "blocks" if time_series else "groups" if groups is not None else "kfold"
    if isinstance(cv, str):
        check_option("cv", cv, NAMES)
        folds = _named_folds(cv, n_samples, groups, runs, positions, n_splits, gap, random_state, time_series)
    elif isinstance(cv, Mapping):
        folds = _split_by_name(cv, groups)
    elif hasattr(cv, "split"):
        splits = list(cv.split(np.zeros((n_samples, 1)), groups=groups))
        folds = _from_splits(splits, n_samples, type(cv).__name__)
    else:
        cv = list(cv) if isinstance(cv, Iterator) else cv
        folds = _from_splits(cv, n_samples, "given splits") if _are_pairs(cv) else _from_table(cv, n_samples)
    return _check_groups(folds, groups)


def _check_labels(groups, n_samples) -> None:
    if groups is not None and np.shape(groups) != (n_samples,):
        raise ValueError(f"groups: got shape {np.shape(groups)}, expected one label for each of the {n_samples} "
                         "samples.")


def _named_folds(cv, n_samples, groups, runs, positions, n_splits, gap, random_state, time_series) -> Folds:
    if n_samples < 2:
        raise ValueError(f"cv: got {n_samples} sample(s), expected at least 2, so that some can be held out.")
    if cv in ("groups", "leave-one-group-out") and groups is None:
        raise ValueError(f"cv={cv!r} needs groups: a label of each sample (movie, run, story, subject).")
    if cv == "blocks":
        return _blocks(n_samples, n_splits, gap, runs, positions)
    if cv == "leave-one-group-out":
        return _from_table(groups, n_samples, cv)
    if time_series and cv == "kfold":
        raise ValueError("cv='kfold' shuffles samples, which leaks between the neighbours of a time series. "
                         "Use cv='blocks', or cv='shuffled' if you mean it.")
    if time_series and cv == "shuffled":
        warn_user("folds of a time series are shuffled: neighbouring samples are in both training and test "
                  "sets, and scores are too high.", "shuffled-time-series", count=n_samples)
    labels = np.arange(n_samples) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = labels.max() + 1
    if groups is not None and n_groups < 2:
        raise ValueError(f"groups: got one group, {list_ids(np.unique(groups))}, for all {n_samples} samples; expected "
                         "at least two, so that some can be held out.")
    if not 2 <= n_splits <= n_groups:
        what, instead = ("samples", "") if groups is None else ("groups", ", or cv='leave-one-group-out'")
        raise ValueError(f"n_splits: got {n_splits}, expected 2 to {n_groups} (the number of {what}). Set "
                         f"n_splits={min(max(2, n_splits), n_groups)}{instead}.")
    order = child_rng(random_state, "folds").permutation(n_groups)
    return _from_table(_balanced(labels, order, n_splits)[labels], n_samples, cv)


def _split_by_name(cv, groups) -> Folds:
    """One fold whose training and test set are groups by name."""
    if "test" not in cv or not set(cv) <= {"train", "test"}:
        raise ValueError(f"cv: got a mapping with {list_ids(list(cv))}, expected 'test' and perhaps 'train', each with "
                         "names of groups.")
    if groups is None:
        raise ValueError("cv: a split by name needs groups, the labels that it names: groups='run', say, or a label "
                         "of each sample (movie, run, story, subject).")
    labels = np.asarray(groups).astype(str)
    named = {side: [str(g) for g in np.atleast_1d(names)] for side, names in cv.items()}
    unknown = [g for names in named.values() for g in names if g not in labels]
    if unknown:
        raise ValueError(f"cv: no group {list_ids(unknown)}; found {list_ids(np.unique(labels))}.")
    test = np.isin(labels, named["test"])
    train = np.isin(labels, named["train"]) if "train" in named else ~test
    return Folds(train[None], test[None], "split by name")


def _balanced(labels, order, n_splits) -> np.ndarray:
    """Give each group to the fold that has the fewest samples, largest groups first, ties by `order`."""
    sizes = np.bincount(labels)
    fold_of, filled = np.empty(len(sizes), int), np.zeros(n_splits, int)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    return fold_of


def _blocks(n_samples, n_splits, gap, runs, positions) -> Folds:
    if not 2 <= n_splits <= n_samples:
        raise ValueError(f"n_splits: got {n_splits}, expected 2 to {n_samples} (the number of samples).")
    runs = np.zeros(n_samples, int) if runs is None else np.unique(np.asarray(runs), return_inverse=True)[1]
    positions = np.arange(n_samples) if positions is None else np.asarray(positions)
    train = np.ones((n_splits, n_samples), bool)
    test = np.zeros((n_splits, n_samples), bool)
    for k, block in enumerate(np.array_split(np.arange(n_samples), n_splits)):
        test[k, block] = True
        for run in np.unique(runs[block]):
            part = block[runs[block] == run]
            near = (positions >= positions[part[0]] - gap) & (positions <= positions[part[-1]] + gap)
            near &= runs == run
            train[k, near] = False
    return Folds(train, test, f"blocks({n_splits}, gap={gap})")


def _are_pairs(cv) -> bool:
    """Whether `cv` holds a (train, test) for each fold, and not the fold of each sample."""
    return isinstance(cv, (list, tuple)) and len(cv) > 0 and all(
        isinstance(pair, (list, tuple, np.ndarray)) and len(pair) == 2 for pair in cv)


def _from_splits(splits, n_samples, name) -> Folds:
    train = np.zeros((len(splits), n_samples), bool)
    test = np.zeros_like(train)
    for k, (a, b) in enumerate(splits):
        train[k, _rows(a, n_samples, k, "training")] = True
        test[k, _rows(b, n_samples, k, "test")] = True
    return Folds(train, test, name)


def _rows(side, n_samples, fold, word) -> np.ndarray:
    """Return row numbers or a mask of one side of a fold, if they are of these samples."""
    rows = np.asarray(side)
    mask = rows.dtype == bool and rows.shape == (n_samples,)
    numbers = np.issubdtype(rows.dtype, np.integer) and rows.ndim == 1
    if not (mask or (numbers and ((rows >= 0) & (rows < n_samples)).all())):
        what = f"{rows.dtype} of shape {rows.shape}" + (f" from {rows.min()} to {rows.max()}" if numbers else "")
        raise ValueError(f"cv: the {word} side of fold {fold} is {what}, expected row numbers from 0 to "
                         f"{n_samples - 1} or a boolean mask of the {n_samples} samples.")
    return rows


def _from_table(table, n_samples, name="table") -> Folds:
    try:
        labels = np.asarray(table)
        shape = labels.shape
    except ValueError:  # ragged
        shape = "uneven"
    if shape != (n_samples,):
        raise ValueError(f"cv: a fold table of shape {shape}, expected one fold for each of the {n_samples} samples, "
                         "or a list with (train, test), row numbers or masks, of each fold.")
    unique = np.unique(labels)
    if len(unique) < 2:
        raise ValueError(f"cv: the table names {len(unique)} fold, expected at least 2.")
    test = labels[None, :] == unique[:, None]
    return Folds(~test, test, name)


def _check_groups(folds: Folds, groups) -> Folds:
    if groups is None:
        return folds
    groups = np.asarray(groups)
    for k, (train, test) in enumerate(folds):
        both = np.intersect1d(groups[train], groups[test])
        if len(both):
            raise ValueError(f"folds: in fold {k} the groups {list_ids(both)} stand in both training and test "
                             "set. Use cv='groups', or pass a table that keeps them together.")
    return folds
