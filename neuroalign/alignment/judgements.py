"""Choices that people make between stimuli, against the choices that a geometry makes: 2AFC and odd-one-out.

In every trial a geometry chooses the option whose pair of stimuli is the most alike: of two candidates the one
nearer to the reference; of three stimuli, as the odd one, the one that the most similar pair leaves over.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.alignment.metrics import Metric, get_metric
from neuroalign.alignment.rdm import DISTANCES, positions, rdms, space_coords, square, stimulus_ids
from neuroalign.data import as_spaces, sample_dim, validate_rdms
from neuroalign.data.scores import make
from neuroalign.errors import NotAligned, check_option, collect_warnings, list_ids, warn_user
from neuroalign.stats import LEVEL, make_resamples, percentile_interval, permutation_p, row_permutations

__all__ = ["odd_one_out", "two_afc"]

KEEP = ("null", "bootstrap", "subject_score")


def two_afc(models, trials: pd.DataFrame, *, rdm: str = "cosine", target: str = "people", n_permutations: int = 1000,
            n_bootstraps: int = 0, on_missing: str = "error", keep=(), random_state: int = 0,
            device="auto") -> xr.Dataset:
    """Share of two-alternative choices ("which of the two is more like the reference?") that a geometry makes too.

    Parameters
    ----------
    models : DataArray (stimulus, feature), mapping or list of them, or RDMs (target, pair)
        Of the references and the candidates, which may be of two modalities in one space. Each RDM is a space.
    trials : DataFrame
        Columns ``reference``, ``a``, ``b`` and ``choice``, which names the one of ``a`` and ``b`` that was chosen;
        perhaps ``subject``. One row an answer: a trial that several people judged has several rows.
    rdm : {"cosine", "correlation", "euclidean", "sqeuclidean"}
        Distance of features; RDMs are taken as they are.
    target : str
        Name of those who chose.
    n_permutations : int
        Permutations of the models' stimulus labels (0: no p).
    n_bootstraps : int
        Resamples of the trials, with all their answers, for the interval (0: none).
    on_missing : {"error", "drop"}
        What to do with trials of stimuli that a model lacks.
    keep : sequence of {"null", "bootstrap", "subject_score"}
    random_state : int
    device : str

    Returns
    -------
    Dataset
        Scores (metric, space, target) with the metric ``choice.2afc``: .5 by chance, and a half for a tie. `ceiling`
        is the share of answers that agree with the most frequent answer to their trial, which no geometry can
        exceed, `ceiling_lower` that of each answer with the majority of the others; both are NaN unless every trial
        has at least two answers, and they belong to these trials alone.

    Raises
    ------
    NotAligned
        If stimuli of the trials are missing and `on_missing` is ``"error"``.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> f = make_features([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.8]], list("wxyz"), model="toy")
    >>> trials = pd.DataFrame({"reference": ["w", "z"], "a": ["x", "y"], "b": ["y", "w"], "choice": ["x", "y"]})
    >>> two_afc(f, trials, n_permutations=0).score.item()
    1.0
    """
    table = _check_trials(trials, ("reference", "a", "b"), "choice", ("a", "b"))
    return _score(get_metric("choice.2afc"), models, table, ("a", "b"), _candidates, rdm, target, n_permutations,
                  n_bootstraps, on_missing, keep, random_state, device)


def odd_one_out(models, trials: pd.DataFrame, *, rdm: str = "cosine", target: str = "people",
                n_permutations: int = 1000, n_bootstraps: int = 0, on_missing: str = "error", keep=(),
                random_state: int = 0, device="auto") -> xr.Dataset:
    """Share of odd-one-out choices among three stimuli that a geometry makes too.

    Parameters
    ----------
    models, rdm, target, n_permutations, n_bootstraps, on_missing, keep, random_state, device
        As for `two_afc`.
    trials : DataFrame
        Columns ``a``, ``b``, ``c`` and ``odd``, which names the one that was left out; perhaps ``subject``.

    Returns
    -------
    Dataset
        Scores (metric, space, target) with the metric ``choice.odd``: a third by chance; ceilings as in `two_afc`.
        The task of Hebart et al. 2020, Nat Hum Behav 4:1173.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> f = make_features([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], list("xyz"), model="toy")
    >>> trials = pd.DataFrame({"a": ["x", "x"], "b": ["y", "y"], "c": ["z", "z"], "odd": ["z", "x"]})
    >>> odd_one_out(f, trials, n_permutations=0).score.item()
    0.5
    """
    table = _check_trials(trials, ("a", "b", "c"), "odd", ("a", "b", "c"))
    return _score(get_metric("choice.odd"), models, table, ("a", "b", "c"), _left_over, rdm, target, n_permutations,
                  n_bootstraps, on_missing, keep, random_state, device)


def _check_trials(trials, stimuli, answer, options) -> pd.DataFrame:
    if not isinstance(trials, pd.DataFrame):
        raise TypeError(f"trials: got {type(trials).__name__}, expected a DataFrame with the columns "
                        f"{', '.join((*stimuli, answer))}.")
    missing = [c for c in (*stimuli, answer) if c not in trials]
    if missing:
        raise ValueError(f"trials: no column {list_ids(missing)} (found {list_ids(trials.columns)}); expected "
                         f"{', '.join((*stimuli, answer))}.")
    if trials.empty:
        raise ValueError("trials: the table has no rows.")
    table = trials.reset_index(drop=True)
    wrong = ~np.logical_or.reduce([table[answer] == table[o] for o in options])
    if wrong.any():
        raise ValueError(f"trials: in {wrong.sum()} of {len(table)} rows {answer!r} is none of {', '.join(options)}: "
                         f"rows {list_ids(table.index[wrong])}. An answer names the stimulus; drop missing answers.")
    twice = np.logical_or.reduce([table[p] == table[q] for k, p in enumerate(stimuli) for q in stimuli[k + 1:]])
    if twice.any():
        raise ValueError(f"trials: a stimulus stands twice in rows {list_ids(table.index[twice])}.")
    return table


@dataclass(frozen=True)
class _Choices:
    """Trials by position of their stimuli: the pair of each option, (n_trials, n_options), and the option chosen."""

    first: np.ndarray
    second: np.ndarray
    chosen: np.ndarray
    trial: np.ndarray  # equal numbers show the same stimuli


def _candidates(table, index, options) -> _Choices:
    reference = index.get_indexer(table["reference"])
    shown, chosen = _sorted_options(table, index, options, "choice")
    first = np.broadcast_to(reference[:, None], shown.shape)
    return _Choices(first, shown, chosen, _same_rows(np.c_[reference, shown]))


def _left_over(table, index, options) -> _Choices:
    shown, chosen = _sorted_options(table, index, options, "odd")
    return _Choices(shown[:, [1, 0, 0]], shown[:, [2, 2, 1]], chosen, _same_rows(shown))


def _sorted_options(table, index, options, answer):
    """Positions of the options of each trial, ascending, so that a trial is the same however it was laid out."""
    shown = np.sort(np.stack([index.get_indexer(table[o]) for o in options], 1), axis=1)
    return shown, (shown == index.get_indexer(table[answer])[:, None]).argmax(1)


def _same_rows(rows):
    return np.unique(rows, axis=0, return_inverse=True)[1].ravel()


def _score(metric: Metric, models, table, options, layout, rdm, target, n_permutations, n_bootstraps, on_missing, keep,
           random_state, device) -> xr.Dataset:
    check_option("rdm", rdm, DISTANCES)
    check_option("on_missing", on_missing, ("error", "drop"))
    keep = [check_option("keep", k, KEEP) for k in ([keep] if isinstance(keep, str) else keep)]
    with collect_warnings() as collected:
        names, coords, table, ids, squares = _distances(models, table, options, rdm, on_missing, device)
        choices = layout(table, pd.Index(ids), options)
        hits = np.stack([_hits(s, choices) for s in squares])
        _warn_unanswered(names, hits)
        null = None
        if n_permutations:
            orders = row_permutations(len(ids), n_permutations, random_state=random_state)
            null = np.stack([[_mean(_hits(s, choices, order)) for s in squares] for order in orders])
    found = {"score": _mean(hits), "n": (~np.isnan(hits)).sum(1).astype(float)}
    found["ceiling_lower"], found["ceiling"] = (np.full(len(names), v) for v in _ceilings(choices))
    extra = {}
    if null is not None:
        found |= {"null_mean": null.mean(0), "null_sd": null.std(0), "p": permutation_p(found["score"], null)}
        extra["null"] = ("permutation", null)
    if n_bootstraps:
        values = _bootstrap(hits, choices, n_bootstraps, random_state)
        found["ci_low"], found["ci_high"] = percentile_interval(values)
        extra["bootstrap"] = ("resample", values)
    labels = {"metric": [metric.name], "space": names, "target": [target]}
    labels |= {k: ("space", v) for k, v in coords.items()}
    if "subject" in table:
        subjects, codes = np.unique(table["subject"].astype(str), return_inverse=True)
        extra["subject_score"] = ("subject", np.stack([_mean(hits[:, codes == k]) for k in range(len(subjects))]))
        labels |= {"subject": subjects} if "subject_score" in keep else {}
    dims = ("metric", "space", "target")
    variables = {k: (dims, v[None, :, None]) for k, v in found.items()}
    variables |= {k: ((dim, *dims), v[:, None, :, None]) for k, (dim, v) in extra.items() if k in keep}
    attrs = {"kind": "judgements", "targets": "choices", "aggregation": {metric.name: metric.aggregation}, "rdm": rdm,
             "n_stimuli": len(ids), "n_trials": int(choices.trial.max()) + 1, "n_answers": len(table),
             "n_permutations": n_permutations, "n_bootstraps": n_bootstraps, "random_state": random_state,
             "null": "stimulus labels of the models permuted, the same permutations for all spaces",
             "ceiling": "upper: share of answers that agree with the most frequent answer to their trial; lower: with "
                        "the majority of the others; NaN unless every trial has two answers or more",
             "interval": f"bootstrap over trials with all their answers, {LEVEL:.0%}", "warnings": collected}
    return make(variables, labels, attrs)


def _distances(models, table, options, rdm, on_missing, device):
    """Names and coords of the spaces, the trials all of them can answer, their stimuli, and a square matrix a space."""
    columns = ["reference", *options] if "reference" in table else list(options)
    wanted = pd.unique(table[columns].to_numpy().ravel())
    given = isinstance(models, xr.DataArray) and "pair" in models.dims
    if given:
        have = {"the RDMs": np.concatenate([validate_rdms(models).stimulus_a.values, models.stimulus_b.values])}
    else:
        spaces = as_spaces(models)
        have = {f"features {name!r}": stimulus_ids(name, space) for name, space in spaces.items()}
    lost = pd.unique(np.concatenate([wanted[~np.isin(wanted, v)] for v in have.values()]))
    if len(lost):
        if on_missing == "error" or len(lost) == len(wanted):
            where = next(k for k, v in have.items() if not np.isin(wanted, v).all())
            raise NotAligned(f"trials: {list_ids(lost)} missing in {where}. Pass on_missing='drop' to leave out their "
                             "trials.")
        out = np.isin(table[columns].to_numpy(), lost).any(1)
        warn_user(f"{out.sum()} of {len(table)} answers dropped: {list_ids(lost)} missing in the models.",
                  "dropped-trials", lost)
        table = table[~out].reset_index(drop=True)
        if table.empty:
            raise NotAligned(f"trials: none is left without {list_ids(lost)}.")
        wanted = pd.unique(table[columns].to_numpy().ravel())
    if given:
        names = [str(t) for t in models.target.values]
        coords = {"model": np.array(names)}
        return names, coords, table, wanted, _given_squares(models, wanted)
    rows = {k: s.isel({sample_dim(s): pd.Index(stimulus_ids(k, s)).get_indexer(wanted)}) for k, s in spaces.items()}
    squares = square(rdms(rows, rdm, device=device).values)
    return list(spaces), space_coords(spaces), table, wanted, squares


def _given_squares(models: xr.DataArray, ids) -> np.ndarray:
    """RDMs as square matrices on some stimuli; pairs that they lack are NaN."""
    index, n = pd.Index(ids), len(ids)
    a, b = index.get_indexer(models.stimulus_a.values), index.get_indexer(models.stimulus_b.values)
    here = (a >= 0) & (b >= 0)
    condensed = np.full((models.sizes["target"], n * (n - 1) // 2), np.nan)
    condensed[:, positions(a[here], b[here], n)] = models.transpose("target", "pair").values[:, here]
    return square(condensed)


def _hits(distances, choices: _Choices, order=None) -> np.ndarray:
    """Whether a geometry chooses as was chosen: 0, 1, a share for a tie, NaN where a distance is unknown."""
    first, second = (choices.first, choices.second) if order is None else (order[choices.first], order[choices.second])
    d = distances[first, second]
    least = d <= d.min(1, keepdims=True)
    hit = np.take_along_axis(least, choices.chosen[:, None], 1)[:, 0] / np.maximum(least.sum(1), 1)
    return np.where(np.isnan(d).any(1), np.nan, hit)


def _mean(hits):
    known = ~np.isnan(hits)
    return np.where(known, hits, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)


def _warn_unanswered(names, hits):
    lost = np.isnan(hits).sum(1)
    if lost.any():
        warn_user(f"{list_ids(np.array(names)[lost > 0])}: up to {lost.max()} of {hits.shape[1]} answers have a pair "
                  "without a distance; they do not count.", "unanswered-trials", np.array(names)[lost > 0],
                  count=int(lost.max()))


def _ceilings(choices: _Choices) -> tuple[float, float]:
    """How often an answer is that of the majority of the others, and of all: (lower, upper)."""
    counts = np.zeros((choices.trial.max() + 1, choices.first.shape[1]), int)
    np.add.at(counts, (choices.trial, choices.chosen), 1)
    if counts.sum(1).min() < 2:
        return np.nan, np.nan
    others = counts[choices.trial].copy()
    others[np.arange(len(others)), choices.chosen] -= 1
    most = others == others.max(1, keepdims=True)
    lower = most[np.arange(len(most)), choices.chosen] / most.sum(1)
    return float(lower.mean()), float(counts.max(1).sum() / counts.sum())


def _bootstrap(hits, choices: _Choices, n_bootstraps, random_state) -> np.ndarray:
    """Scores of resampled trials, (n_bootstraps, n_spaces)."""
    known = ~np.isnan(hits)
    n = choices.trial.max() + 1
    totals, sizes = (np.stack([np.bincount(choices.trial, row, n) for row in part.astype(float)])
                     for part in (np.where(known, hits, 0), known))
    counts = make_resamples([str(k) for k in range(n)], n_bootstraps, random_state=random_state,
                            purpose="trials").counts()
    with np.errstate(invalid="ignore"):
        return (counts @ totals.T) / (counts @ sizes.T)
