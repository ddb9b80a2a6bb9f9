"""Ratings of how alike two stimuli are: from a table to RDMs, agreement of groups and of individuals, blind pairs."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.alignment.comparison import compare
from neuroalign.alignment.comparison_inputs import match
from neuroalign.alignment.rdm import positions
from neuroalign.data import make_rdms, validate_rdms
from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.linalg import resolve
from neuroalign.stats import child_rng
from neuroalign.stats.correlations import correlate_rows

__all__ = ["blind_pairs", "collect_ratings", "compare_ratings", "rating_agreement", "ratings_to_rdms"]


def ratings_to_rdms(table: pd.DataFrame, *, scale: tuple[float, float], region: str = "ratings") -> xr.DataArray:
    """Dissimilarities of rated pairs, an RDM for each subject: 0 at the upper end of the scale, 1 at the lower.

    Parameters
    ----------
    table : DataFrame
        Columns ``stimulus_a``, ``stimulus_b``, ``rating``, and perhaps ``subject`` (a person, or a run of a model).
        One row a rating; NaN is a missing one. Ratings of a pair by one subject, in either order, are averaged.
    scale : (float, float)
        Ends of the scale: least and most alike.
    region : str
        Name of the group, so that `compare` averages over its subjects.

    Returns
    -------
    DataArray (target, pair)
        Targets ``region:subject`` with the coords ``subject`` and ``region``; pairs that any subject rated, NaN
        where a subject did not.

    Raises
    ------
    ValueError
        Ratings outside the scale, pairs of a stimulus with itself, or a subject without a rating.

    Examples
    --------
    >>> table = pd.DataFrame({"stimulus_a": ["x", "y", "x"], "stimulus_b": ["y", "x", "z"], "rating": [80, 60, 0]})
    >>> ratings_to_rdms(table, scale=(0, 100)).values.astype(float).round(3).tolist()
    [[0.3, 1.0]]
    """
    lost = [c for c in ("stimulus_a", "stimulus_b", "rating") if c not in table]
    if lost:
        raise ValueError(f"ratings: no column {list_ids(lost)}, found {list_ids(table.columns)}.")
    low, high = map(float, scale)
    if not low < high:
        raise ValueError(f"scale: got {scale}, expected (least alike, most alike), the first below the second.")
    a, b = table["stimulus_a"].astype(str).to_numpy(), table["stimulus_b"].astype(str).to_numpy()
    rating = pd.to_numeric(table["rating"]).to_numpy(float)
    outside = (rating < low) | (rating > high)
    if outside.any():
        named = [f"{v:g} ({x}, {y})" for v, x, y in zip(rating[outside], a[outside], b[outside])]
        raise ValueError(f"ratings: {outside.sum()} outside the scale {low:g} to {high:g}: {list_ids(named)}.")
    if (a == b).any():
        raise ValueError(f"ratings: pairs of a stimulus with itself: {list_ids(pd.unique(a[a == b]))}. Drop them.")
    subject = table["subject"].astype(str).to_numpy() if "subject" in table else np.full(len(table), "")
    order = pd.Index(pd.unique(np.concatenate([a, b])))
    first, second = order.get_indexer(a), order.get_indexer(b)
    pair = np.minimum(first, second) * len(order) + np.maximum(first, second)
    distance = pd.Series((high - rating) / (high - low))
    values = distance.groupby([subject, pair]).mean().unstack()
    empty = values.index[values.isna().all(axis=1)]
    if len(empty):
        raise ValueError(f"ratings: no rating at all by {list_ids(empty)}. Leave them out.")
    unrated = values.columns[values.isna().all()]
    if len(unrated):
        names = [f"{order[p // len(order)]}, {order[p % len(order)]}" for p in unrated]
        warn_user(f"{len(unrated)} pairs without any rating are left out: {list_ids(names)}.", "unrated-pairs", names)
    values = values.drop(columns=unrated).loc[pd.unique(subject)]
    names = [f"{region}:{s}" if s else region for s in values.index]
    pairs = order[values.columns // len(order)], order[values.columns % len(order)]
    return make_rdms(values.to_numpy(), pairs=pairs, targets=names,
                     target_coords={"subject": list(values.index), "region": [region] * len(names)},
                     attrs={"dissimilarity": f"({high:g} - rating) / {high - low:g}"})


def compare_ratings(features, ratings: xr.DataArray, **options) -> xr.Dataset:
    """Cosine similarity of embeddings against rated similarity of words, sentences or documents.

    Both coefficients that are in use come out, since papers differ: Spearman and Pearson.

    Parameters
    ----------
    features : DataArray (stimulus, feature), mapping or list of them
    ratings : RDMs (target, pair)
        Of `ratings_to_rdms` or `neuroalign.load_rdms`; only rated pairs need be there.
    options
        As for `neuroalign.compare`, whose result this is.

    Returns
    -------
    Dataset
        Scores of ``rsa.spearman`` (mean over subjects, with its noise ceiling) and ``rsa.spearman.group`` (mean
        ratings), and the same for Pearson.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> f = make_features(np.eye(4) + np.arange(4)[:, None], list("wxyz"), model="toy")
    >>> table = pd.DataFrame({"stimulus_a": list("wwxy"), "stimulus_b": list("xyyz"), "rating": [1, 2, 9, 5]})
    >>> compare_ratings(f, ratings_to_rdms(table, scale=(0, 10)), n_permutations=0).sizes["metric"]
    4
    """
    chosen = {"rdm": "cosine", "metric": ("rsa.spearman", "rsa.spearman.group", "rsa.pearson", "rsa.pearson.group")}
    return compare(features, ratings, **chosen | options)


def rating_agreement(people: xr.DataArray, others: xr.DataArray | None = None, *,
                     method: str = "spearman") -> xr.Dataset:
    """Agreement of individuals: people with one another, and with single runs of a model (or other people).

    Parameters
    ----------
    people, others : RDMs (target, pair)
        One target a person, or a run; pairs are matched by their ids, missing ratings leave a pair out of the
        correlations it is missing in.
    method : {"spearman", "pearson", "cosine", "rho_a", "tau_a"}

    Returns
    -------
    Dataset
        ``within`` (person, person_b), with NaN on the diagonal; ``leave_one_out`` (person), each with the mean of the
        other people: its mean is the ceiling of one more person. With `others` also ``within_others`` (other,
        other_b), ``between`` (person, other), ``group`` (person), each person with the mean of the others, and
        ``groups``, the two means with one another. A model that is as varied as people has the same spread in
        ``within_others`` as in ``within``; one that is like a person has ``between`` as high as ``within``.

    Notes
    -----
    `group` stands beside the ceiling ``leave_one_out``; ``groups``, of two means, is higher and has no such ceiling.
    Group-level p and intervals: `compare(others' mean, people)`. The levels are those of Ogg et al. 2024,
    arXiv:2412.00577.

    Examples
    --------
    >>> rows = np.random.default_rng(0).random((3, 6))
    >>> people = make_rdms(rows, stimulus_ids=list("wxyz"), targets=["p1", "p2", "p3"])
    >>> found = rating_agreement(people, people)
    >>> bool(np.allclose(found.within.fillna(1), found.between))
    True
    """
    mine = validate_rdms(people).transpose("target", "pair")
    if mine.sizes["target"] < 2:
        raise ValueError("rating_agreement: got the ratings of one person, expected at least two.")
    rows = mine.values.astype(float)
    names = [str(t) for t in mine.target.values]
    found = {"within": (("person", "person_b"), _correlations(rows, method)),
             "leave_one_out": ("person", _with_rest(rows, method))}
    coords = {"person": names, "person_b": names}
    if others is not None:
        theirs = _same_pairs(mine, validate_rdms(others).transpose("target", "pair"))
        group = _mean(theirs)
        found |= {"within_others": (("other", "other_b"), _correlations(theirs, method)),
                  "between": (("person", "other"), correlate_rows(rows, theirs, method, device="cpu")),
                  "group": ("person", correlate_rows(rows, group[None], method, device="cpu")[:, 0]),
                  "groups": ((), correlate_rows(_mean(rows)[None], group[None], method, device="cpu")[0, 0])}
        coords |= {k: [str(t) for t in others.target.values] for k in ("other", "other_b")}
    return xr.Dataset(found, coords, {"method": method, "n_pairs": rows.shape[1]})


def collect_ratings(ask: Callable, items: Sequence, *, scale: tuple[float, float], n_runs: int = 1,
                    random_state: int = 0) -> pd.DataFrame:
    """Have all pairs of items rated, for example by a chat model, in balanced order.

    Parameters
    ----------
    ask : callable (first, second, run) -> float or None
        Shows two items, in this order, and returns a rating; None or NaN where the answer was no number.
    items : sequence of str
    scale : (float, float)
        A rating outside it counts as missing, with a warning.
    n_runs : int
        Simulated participants. Each pair is shown in either order in turn; the order of the pairs is drawn anew in
        each run.
    random_state : int

    Returns
    -------
    DataFrame
        Columns ``stimulus_a``, ``stimulus_b`` (as shown), ``rating`` and ``subject`` (``run0``, ...), for
        `ratings_to_rdms`.

    Examples
    --------
    >>> table = collect_ratings(lambda a, b, run: len(a + b), ["x", "yy", "zzz"], scale=(0, 10), n_runs=2)
    >>> len(table), sorted(table["rating"].unique().tolist())
    (6, [3.0, 4.0, 5.0])
    """
    items = [str(i) for i in items]
    if len(items) < 3 or len(set(items)) < len(items):
        raise ValueError(f"items: got {len(items)}, {len(set(items))} of them different; expected at least 3, each "
                         "once.")
    if n_runs < 1:
        raise ValueError(f"n_runs: got {n_runs}, expected at least 1.")
    first, second = np.triu_indices(len(items), 1)
    turned = child_rng(random_state, "order within pairs").random(len(first)) < 0.5
    rows, wrong = [], []
    for run in range(n_runs):
        for k in child_rng(random_state, f"order of pairs, run {run}").permutation(len(first)):
            i, j = (second[k], first[k]) if turned[k] ^ (run % 2 == 1) else (first[k], second[k])
            answer = ask(items[i], items[j], run)
            rating = np.nan if answer is None else float(answer)
            if rating < scale[0] or rating > scale[1]:
                wrong.append(f"{rating:g} ({items[i]}, {items[j]})")
                rating = np.nan
            rows.append((items[i], items[j], rating, f"run{run}"))
    table = pd.DataFrame(rows, columns=["stimulus_a", "stimulus_b", "rating", "subject"])
    if wrong:
        warn_user(f"{len(wrong)} ratings outside {scale[0]:g} to {scale[1]:g} count as missing: {list_ids(wrong)}.",
                  "ratings-outside-scale", wrong)
    missing = int(table["rating"].isna().sum()) - len(wrong)
    if missing:
        warn_user(f"{missing} of {len(table)} answers hold no rating.", "missing-ratings", count=missing)
    return table


def blind_pairs(blind, seeing, *, high: float = 0.95, low: float = 0.6, by: str = "value", rdm: str = "cosine",
                on_missing: str = "error", device="auto") -> pd.DataFrame:
    """Pairs of stimuli that one space takes for alike and another tells apart.

    Parameters
    ----------
    blind, seeing : DataArray (stimulus, feature), or RDMs (target, pair) with one target
        Any two spaces: two models, or a model and a brain region.
    high, low : float
        A pair is blind where its similarity is above `high` in the first and below `low` in the second.
    by : {"value", "rank"}
        Similarity is 1 - dissimilarity, or its rank among all pairs as a share, which suits spaces of different
        spread (a recording hardly reaches a correlation of .95).
    rdm : {"cosine", "correlation"}
        Dissimilarity of features; RDMs are taken as they are.
    on_missing : {"error", "drop"}
        What to do with stimuli that one side lacks.

    Returns
    -------
    DataFrame
        ``stimulus_a``, ``stimulus_b``, ``similarity_blind``, ``similarity_seeing``; the largest difference first.
        `attrs` has ``n_pairs``, the pairs looked at.

    Notes
    -----
    Tong et al. 2024, CVPR, looked for pairs that CLIP embeds alike and a vision-only model does not. All pairs are
    held in memory, 8 bytes each.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> a = make_features([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.3, 1.0]], list("wxyz"), model="a")
    >>> b = make_features([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.9]], list("wxyz"), model="b")
    >>> blind_pairs(a, b)[["stimulus_a", "stimulus_b"]].values.tolist()
    [['w', 'x']]
    """
    check_option("by", by, ("value", "rank"))
    check_option("rdm", rdm, ("cosine", "correlation"))
    device = resolve(device)
    models, side = match(blind, seeing, on_missing)
    for name, n in (("blind", len(models.names)), ("seeing", len(side.cell))):
        if n != 1:
            raise ValueError(f"{name}: got {n} spaces, expected one.")
    own = models.dissimilarities(side.ids, rdm, device)[0]
    other = side.dissimilarities(rdm, device)[0]
    own = own[positions(side.first, side.second, len(side.ids))]
    alike = [pd.Series(1 - v.astype(float)) for v in (own, other)]
    if by == "rank":
        alike = [v.rank(pct=True) for v in alike]
    found = np.flatnonzero((alike[0] > high) & (alike[1] < low))
    table = pd.DataFrame({"stimulus_a": side.ids[side.first[found]], "stimulus_b": side.ids[side.second[found]],
                          "similarity_blind": alike[0][found].to_numpy(),
                          "similarity_seeing": alike[1][found].to_numpy()})
    order = np.argsort(table["similarity_seeing"] - table["similarity_blind"], kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    table.attrs["n_pairs"] = len(own)
    return table


def _correlations(rows, method):
    found = correlate_rows(rows, rows, method, device="cpu")
    np.fill_diagonal(found, np.nan)
    return found


def _with_rest(rows, method):
    return np.array([correlate_rows(row[None], _mean(np.delete(rows, k, 0))[None], method, device="cpu")[0, 0]
                     for k, row in enumerate(rows)])


def _mean(rows):
    known = ~np.isnan(rows)
    with np.errstate(invalid="ignore"):
        return np.where(known, rows, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)


def _same_pairs(people: xr.DataArray, others: xr.DataArray) -> np.ndarray:
    """Rows of the others on the pairs of the people, in either order of the two stimuli."""
    wanted, have = ([tuple(sorted(p)) for p in zip(r.stimulus_a.values.astype(str), r.stimulus_b.values.astype(str))]
                    for r in (people, others))
    place = pd.Index(have).get_indexer(pd.Index(wanted))
    lost = [f"{a}, {b}" for (a, b), k in zip(wanted, place) if k < 0]
    if len(lost) == len(wanted):
        raise ValueError(f"rating_agreement: the two sides share no pair; people rated {list_ids(lost)}.")
    if lost:
        warn_user(f"{len(lost)} of {len(wanted)} pairs are in the people's ratings alone and do not count between the "
                  f"two: {list_ids(lost)}.", "unshared-pairs", lost)
    return np.where(place < 0, np.nan, others.values.astype(float)[:, place])
