"""Across models: does a number of the model go with how well it predicts brains?"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from neuroalign.data.scores import make
from neuroalign.errors import NotAligned, collect_warnings, list_ids, warn_user
from neuroalign.stats import LEVEL, make_resamples, percentile_interval, permutation_p, row_permutations

__all__ = ["rank_across_models"]

MIN_MODELS, FEW = 4, 10


def rank_across_models(values, brain, *, name: str = "implicit alignment", n_permutations: int = 9999,
                       n_bootstraps: int = 2000, random_state: int = 0) -> xr.Dataset:
    """Correlate a number of each model with its brain score, by rank.

    Parameters
    ----------
    values : Dataset or mapping of str to float
        For instance what `ima_score` returns, or ``{model: number}``.
    brain : Dataset or mapping of str to float
        Scores of one metric; of each model the mean over spaces, and over neuroids or targets, is taken. Choose the
        layer before, within training folds (``na.encode(..., layer="nested")``): the best of many layers is too good.
    name : str
        What `values` are.
    n_permutations : int
        All orders of few models, each once.
    n_bootstraps : int
        Resamples of the models for the interval.
    random_state : int

    Returns
    -------
    Dataset
        Scores (metric, space), metric ``spearman``, with n models, two-sided p and interval. Models are few: the
        interval is wide, and that of fewer than 10 is warned of.

    Examples
    --------
    >>> found = rank_across_models(dict(zip("abcdefghijkl", range(12))), dict(zip("abcdefghijkl", range(12))))
    >>> found.score.item(), int(found.n.item())
    (1.0, 12)
    """
    from scipy.stats import rankdata

    left, right = _by_model(values, "values"), _by_model(brain, "brain")
    alone = sorted(set(left) ^ set(right))
    if alone:
        raise NotAligned(f"models {list_ids(alone)} stand on one side alone. Give both numbers of each model.")
    models = list(left)
    if len(models) < MIN_MODELS:
        raise ValueError(f"values: {len(models)} models, expected at least {MIN_MODELS}: fewer have no rank "
                         "correlation to speak of.")
    x, y = (np.array([side[m] for m in models], float) for side in (left, right))
    for side, given in (("values", x), ("brain", y)):
        if not np.isfinite(given).all():
            raise ValueError(f"{side}: NaN for {list_ids(np.array(models)[~np.isfinite(given)])}. Leave them out on "
                             "both sides.")

    def spearman(one, other):
        a, b = (rankdata(v, axis=-1) for v in (one, other))
        a, b = (v - v.mean(-1, keepdims=True) for v in (a, b))
        with np.errstate(invalid="ignore"):
            return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))

    score = float(spearman(x, y))
    with collect_warnings() as collected:
        if len(models) < FEW:
            warn_user(f"the rank correlation is over {len(models)} models; its interval says little below {FEW}.",
                      "few-models", models)
    p = low = high = np.nan
    if n_permutations:
        null = spearman(x[row_permutations(len(models), n_permutations, random_state=random_state)], y)
        p = float(permutation_p(abs(score), np.abs(null)))
    if n_bootstraps:
        drawn = make_resamples(models, n_bootstraps, random_state=random_state, purpose="models").indices
        low, high = percentile_interval(spearman(x[drawn], y[drawn]), skip_nan=True)
    values = {"score": score, "p": p, "ci_low": low, "ci_high": high, "n": float(len(models))}
    attrs = {"kind": "rank_across_models", "models": models, "values": dict(zip(models, x.tolist())),
             "brain": dict(zip(models, y.tolist())), "value_name": name, "random_state": random_state,
             "interval": f"{LEVEL:.0%} percentile interval over resamples of models", "warnings": collected,
             "aggregation": {"spearman": f"rank correlation over models of {name} with the brain score"}}
    return make({k: (("metric", "space"), np.array([[v]])) for k, v in values.items()},
                {"metric": ["spearman"], "space": [name]}, attrs)


def _by_model(values, what: str) -> dict[str, float]:
    if isinstance(values, Mapping) and not isinstance(values, xr.Dataset):
        return {str(k): float(v) for k, v in values.items()}
    if not isinstance(values, xr.Dataset) or "model" not in values.coords:
        raise TypeError(f"{what}: got {type(values).__name__}, expected Scores with the coord 'model', or a mapping of "
                        "models to numbers.")
    if values.sizes["metric"] != 1:
        raise ValueError(f"{what}: {values.sizes['metric']} metrics, expected one. Choose it with "
                         f".sel(metric=[{str(values.metric.values[0])!r}]).")
    score = values["score"].isel(metric=0)
    score = score.mean([d for d in score.dims if d != "space"], skipna=True)
    models = values["model"].values
    return {str(m): float(score[models == m].mean(skipna=False)) for m in dict.fromkeys(models.tolist())}
