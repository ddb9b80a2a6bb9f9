"""How many dimensions of a feature space a score needs: any score of the first m dimensions, and funnel retrieval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr

from neuroalign.alignment.metrics import METRICS
from neuroalign.alignment.rdm import space_coords
from neuroalign.alignment.reduction import Reduction, reduce_features
from neuroalign.data import as_spaces, sample_dim
from neuroalign.data.scores import concat, make, validate
from neuroalign.errors import check_option, list_ids
from neuroalign.linalg import resolve
from neuroalign.stats import child_rng

__all__ = ["Funnel", "funnel_retrieval", "nested_scores", "smallest_dimension"]

ORDERS = ("prefix", "pca", "random")


def nested_scores(features: xr.DataArray, score: Callable, *, dims: Sequence[int] | None = None, order: str = "prefix",
                  train: Sequence[str] | None = None, n_orders: int = 5, random_state: int = 0,
                  device="auto") -> xr.Dataset:
    """Compute a score of the first m dimensions of a feature space, for several m.

    Parameters
    ----------
    features : DataArray (stimulus, feature)
        One space.
    score : callable (DataArray) -> Scores or float
        Any score, for example ``lambda f: na.encode(f, responses)``; Scores must have one space.
    dims : sequence of int, optional
        Powers of two and the number of features, by default. The number of features (or of components) always comes
        along: it is the full score.
    order : {"prefix", "pca", "random"}
        The features as they stand (embeddings trained for it), principal components of the standardised features, or
        random orders.
    train : sequence of str, optional
        For pca: ids of the stimuli that the components are fitted on. What is scored are the others alone.
    n_orders : int
        Random orders; each is a space of its own.
    random_state : int
    device : str

    Returns
    -------
    Dataset
        Scores with a space for each m, named ``SPACE[:m]`` (``SPACE[random.0:m]``), and the coord ``n_dimensions``.

    Notes
    -----
    The question is that of Kusupati et al. 2022, NeurIPS, asked of any score. To fit components inside the folds of
    `encode` instead: ``lambda m: na.encode(f, responses, reduce=f"pca:{m}")``.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> f = make_features(np.random.default_rng(0).standard_normal((20, 6)), [f"s{k}" for k in range(20)], model="toy")
    >>> nested_scores(f, lambda x: x.sizes["feature"]).score.values.ravel().tolist()
    [1.0, 2.0, 4.0, 6.0]
    """
    check_option("order", order, ORDERS)
    (name, space), *others = as_spaces(features).items()
    if others:
        raise ValueError(f"features: got {1 + len(others)} spaces, expected one. Call it for each of them.")
    if (train is not None) != (order == "pca"):
        raise ValueError("train: give the ids of the stimuli that components are fitted on, with order='pca' alone.")
    columns = _ordered(space, order, train, n_orders, random_state, device)
    p = next(iter(columns.values())).sizes["feature"]
    ms = _check_dims(dims, p)
    parts = []
    for label, array in columns.items():
        for m in ms:
            title = f"{name}[{label}:{m}]"
            part = array.isel(feature=slice(0, m)).assign_coords(space_id=title).rename(title)
            parts.append(_as_scores(score(part), title, part, label or "prefix", m))
    return concat(parts)


def smallest_dimension(scores: xr.Dataset, *, standard_error=None) -> xr.DataArray:
    """Smallest number of dimensions whose score is within one standard error of the full score.

    Parameters
    ----------
    scores : Dataset
        Of `nested_scores`; random orders are averaged first.
    standard_error : float or DataArray, optional
        Of the full score. By default from what the Scores hold: the spread of ``bootstrap``, else of ``subject_score``
        or ``fold_score`` over the square root of their number, else a fourth of the 95 % interval.

    Returns
    -------
    DataArray (metric, neuroid | target, ...)
        The rule of Breiman et al. 1984 (Classification and Regression Trees) for the simplest model; NaN where the
        full score is NaN. Attrs ``standard_error`` says what it was taken from.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> f = make_features(np.random.default_rng(0).standard_normal((20, 8)), [f"s{k}" for k in range(20)], model="toy")
    >>> found = nested_scores(f, lambda x: 1 - 1 / x.sizes["feature"])
    >>> smallest_dimension(found, standard_error=0.2).item()
    4.0
    """
    if "n_dimensions" not in scores.coords:
        raise ValueError("scores: no coord 'n_dimensions'. Make them by nested_scores.")
    by = scores.groupby("n_dimensions")
    curve = by.mean()["score"]
    curve = curve.transpose("n_dimensions", ...)
    full = curve.isel(n_dimensions=-1)
    what = "given"
    if standard_error is None:
        last = scores.isel(space=np.flatnonzero(scores["n_dimensions"].values == curve["n_dimensions"].values[-1]))
        standard_error, what = _standard_error(last)
    sign = xr.DataArray([-1.0 if m in METRICS and METRICS[m].direction == "lower" else 1.0
                         for m in scores["metric"].values], dims="metric", coords={"metric": scores["metric"].values})
    near = sign * curve >= sign * full - standard_error
    found = near.argmax("n_dimensions")
    values = curve["n_dimensions"].values.astype(float)[found.values]
    out = found.copy(data=np.where(np.isnan(full), np.nan, values)).rename("smallest_dimension")
    return out.drop_vars("n_dimensions", errors="ignore").assign_attrs(standard_error=what)


@dataclass(frozen=True)
class Funnel:
    """What `funnel_retrieval` found.

    Attributes
    ----------
    first : array of int, shape (n_queries,)
        The candidate found for each query.
    accuracy, full_accuracy : float
        Share of queries whose own candidate comes first: of the funnel, and of a search in all dimensions.
    same : float
        Share of queries for which both find the same candidate.
    cost : float
        Multiplications of the funnel, as a share of those of the full search.
    """

    first: np.ndarray
    accuracy: float
    full_accuracy: float
    same: float
    cost: float


def funnel_retrieval(queries, candidates, *, dims: Sequence[int] = (16,), shortlist: Sequence[int] = (200,),
                     target=None) -> Funnel:
    """Search candidates in few dimensions, and search the best of them again in more.

    Parameters
    ----------
    queries : array of shape (n_queries, n_features)
    candidates : array of shape (n_candidates, n_features)
    dims : sequence of int
        Leading dimensions of each step, rising; the last step, in all dimensions, is added.
    shortlist : sequence of int
        How many candidates each step passes on, falling; as many as `dims`.
    target : array of int, optional
        Right candidate of each query; that in the same row by default.

    Returns
    -------
    Funnel
        By the cosine of the leading dimensions. Kusupati et al. 2022, NeurIPS.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((300, 64))
    >>> found = funnel_retrieval(x + 0.1, x, dims=[8], shortlist=[20])
    >>> found.accuracy, round(found.cost, 2)
    (1.0, 0.19)
    """
    queries, candidates = (np.asarray(v, np.float64) for v in (queries, candidates))
    n, p = candidates.shape
    steps, counts = [int(m) for m in dims], [int(c) for c in shortlist]
    if queries.shape[1] != p:
        raise ValueError(f"funnel: queries have {queries.shape[1]} features, candidates {p}.")
    if len(steps) != len(counts) or steps != sorted(steps) or not 0 < steps[0] <= steps[-1] <= p:
        raise ValueError(f"dims: got {steps} for {len(counts)} shortlists, expected as many, rising from 1 to {p}.")
    if counts != sorted(counts, reverse=True) or not 0 < counts[-1] <= counts[0] <= n:
        raise ValueError(f"shortlist: got {counts}, expected falling numbers from 1 to {n}, the candidates.")
    target = np.arange(len(queries)) if target is None else np.asarray(target)
    if target.shape != (len(queries),) or target.min() < 0 or target.max() >= n:
        raise ValueError(f"target: expected the place of one of {n} candidates for each of {len(queries)} queries.")
    kept, cost = None, 0
    for m, count in zip([*steps, p], [*counts, 1]):
        similarity = _cosine(queries[:, :m], candidates[:, :m], kept)
        cost += similarity.shape[1] * m
        best = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
        kept = best if kept is None else np.take_along_axis(kept, best, 1)
    full = _cosine(queries, candidates).argmax(1)
    return Funnel(kept[:, 0], float((kept[:, 0] == target).mean()), float((full == target).mean()),
                  float((full == kept[:, 0]).mean()), cost / (n * p))


def _ordered(space: xr.DataArray, order, train, n_orders, random_state, device) -> dict[str, xr.DataArray]:
    """Label of each order -> features in that order, of the stimuli that are scored."""
    dim = sample_dim(space)
    space = space.transpose(dim, "feature")
    if order == "prefix":
        return {"": space}
    if order == "random":
        p = space.sizes["feature"]
        return {f"random.{k}": space.isel(feature=child_rng(random_state, f"order of dimensions {k}").permutation(p))
                for k in range(n_orders)}
    ids = pd.Index(space["stimulus_id" if "stimulus_id" in space.coords else dim].values)
    lost = [i for i in train if i not in ids]
    if lost:
        raise ValueError(f"train: {list_ids(lost)} not among the stimuli of the features ({list_ids(ids)}).")
    fitted = ids.isin(list(train))
    if fitted.sum() < 3 or (~fitted).sum() < 1:
        raise ValueError(f"train: {fitted.sum()} of {len(ids)} stimuli, expected at least 3, and others to be scored.")
    rows = space.values[fitted], space.values[~fitted]
    components = reduce_features(*rows, Reduction("pca", min(rows[0].shape)), random_state, resolve(device))[1]
    held = space.isel({dim: np.flatnonzero(~fitted), "feature": slice(0, components.shape[1])})
    return {"pca": held.copy(data=components)}


def _check_dims(dims, p: int) -> list[int]:
    found = [2**k for k in range(p.bit_length())] if dims is None else [int(m) for m in dims]
    wrong = [m for m in found if not 1 <= m <= p]
    if wrong or not found:
        raise ValueError(f"dims: got {list_ids(wrong) or 'none'}, expected numbers from 1 to {p}, the dimensions there "
                         "are.")
    return sorted({*found, p})


def _as_scores(value, title: str, part: xr.DataArray, order: str, m: int) -> xr.Dataset:
    if isinstance(value, xr.Dataset):
        found = validate(value)
        if found.sizes["space"] != 1:
            raise ValueError(f"score: returned Scores of {found.sizes['space']} spaces, expected one.")
        found = found.assign_coords(space=[title])
    else:
        coords = {k: ("space", v) for k, v in space_coords({title: part}).items()}
        found = make({"score": (("metric", "space", "target"), np.full((1, 1, 1), float(value)))},
                     {"metric": ["score"], "space": [title], "target": [""]} | coords)
    return found.assign_coords(n_dimensions=("space", [m]), order=("space", [order]))


def _standard_error(full: xr.Dataset):
    """Standard error of the full score, and what it was taken from."""
    if "bootstrap" in full:
        return full["bootstrap"].mean("space").std("resample", ddof=1).drop_vars("n_dimensions", errors="ignore"), \
            "standard deviation over resamples"
    for name, dim in (("subject_score", "subject"), ("fold_score", "fold")):
        if name in full:
            values = full[name].mean("space")
            return values.std(dim, ddof=1) / np.sqrt(values.notnull().sum(dim)), f"spread over {dim}s"
    if "ci_low" in full and full["ci_low"].notnull().any():
        return ((full["ci_high"] - full["ci_low"]) / 3.92).mean("space"), "interval"
    raise ValueError("smallest_dimension: the Scores hold no standard error. Ask the score for keep=['bootstrap'], "
                     "'subject_score' or 'fold_score' or for an interval, or pass standard_error=.")


def _cosine(queries, candidates, kept=None) -> np.ndarray:
    a, b = (torch.nn.functional.normalize(torch.as_tensor(v), dim=1).numpy() for v in (queries, candidates))
    return a @ b.T if kept is None else np.einsum("qm,qcm->qc", a, b[kept])
