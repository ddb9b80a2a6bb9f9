"""Scores that stand beside a table of encoding scores: of time alone, and of the same features in another order."""

from collections.abc import Sequence

import numpy as np

from neuroalign.alignment.nulls import Fitter, residuals_of
from neuroalign.alignment.problem import Problem
from neuroalign.alignment.scoring import score_moments
from neuroalign.alignment.splits import Layout, permutation_orders
from neuroalign.errors import check_option

__all__ = ["BASELINES", "drift_columns", "drift_scores", "resolve_baselines", "shuffled_scores"]

BASELINES = ("drift", "shuffled")
SHUFFLES = 5
MOST_COSINES = 200


def resolve_baselines(baselines: str | Sequence[str], problem: Problem) -> tuple[str, ...]:
    """Check the argument `baselines` of `neuroalign.encode`; ``"auto"``: drift, of a time series."""
    if isinstance(baselines, str):
        check_option("baselines", baselines, ("auto", *BASELINES))
        baselines = (("drift",) if problem.layout.time_series else ()) if baselines == "auto" else (baselines,)
    for name in baselines:
        check_option("baselines", name, BASELINES)
    if "drift" in baselines and problem.layout.ids is not None:
        raise ValueError("baselines: 'drift' predicts from the order in time, and these stimuli have none (no coord "
                         "'onset'). Leave it out, or give presentations in their order with repeats='keep'.")
    return tuple(baselines)


def drift_columns(n_samples: int) -> np.ndarray:
    """Return cosines over the order of the samples, from half a period to a period of 20 samples, 200 at most.

    Returns
    -------
    array of shape (n_samples, n_cosines)

    Examples
    --------
    >>> drift_columns(30).shape
    (30, 3)
    """
    k = np.arange(1, np.clip(n_samples // 10, 1, MOST_COSINES) + 1)
    return np.cos(np.pi * np.outer((np.arange(n_samples) + 0.5) / n_samples, k))


def drift_scores(problem: Problem, metrics: Sequence[str]) -> np.ndarray:
    """Score a smooth function of the order of the samples, fitted on the same folds: (n_metrics, n_targets)."""
    sums = problem.fitter.unadjusted.fit(drift_columns(problem.layout.n_samples), problem.targets.values).sums
    return np.stack([score_moments(m, sums) for m in metrics])


def shuffled_scores(design, fitter: Fitter, layout: Layout, Y: np.ndarray, metrics: Sequence[str],
                    permuting: dict) -> np.ndarray:
    """Score the features in a few orders of the null, everything fitted again: the mean, (n_metrics, n_targets)."""
    residuals = residuals_of(fitter, design)
    events = None if residuals is not None or design.events is None else len(design.events)
    _, orders = permutation_orders(layout, n_permutations=SHUFFLES, events=events, **permuting)
    sums = [fitter.fit(design.permuted(order, residuals).joint, Y).sums for order in orders]
    return np.mean([[score_moments(m, one) for m in metrics] for one in sums], axis=0)
