"""Measures of two arrays not made of two prepared halves: transport, distances of distributions, deep CCA."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from neuroalign.alignment import deep_cca, distributions
from neuroalign.alignment.feature_basis import feature_basis, host_of
from neuroalign.alignment.transport import (
    gromov_wasserstein,
    gromov_wasserstein_plan,
    gromov_wasserstein_value,
    mean_one_distances,
)
from neuroalign.linalg import rows_per_chunk, to_numpy

__all__ = ["PAIRS", "PairMeasure"]


@dataclass(frozen=True)
class PairMeasure:
    """How two feature arrays are scored together.

    Attributes
    ----------
    score : callable (x, y, device) -> float
    null : callable (x, y, draws, device) -> array, one value a draw of `similarity.draw_null`
    ticks : bool
        Whether `null` is slow, and takes a function that it tells how many draws were just done.
    """

    score: Callable
    null: Callable
    ticks: bool = False


def _shared(call):
    """Leave arrays of other features unscored: layers of different width may stand in one grid."""
    def scored(x, y, *rest):
        if x.shape[1] != y.shape[1]:
            return np.full(len(rest[0]) if len(rest) > 1 else (), np.nan)
        return call(np.asarray(x), np.asarray(y), *rest[:-1], device=rest[-1])

    return scored


def _distance(x, y, device):
    return gromov_wasserstein(x, y, device=device)[0]


def _clouds(x, y, seeds, device, tick=lambda n: None):
    """Distances from Gaussian clouds of as many stimuli and the covariance of x."""
    device = host_of(device)
    basis, other = feature_basis(np.asarray(x), device), mean_one_distances(np.asarray(y), device)
    if not basis.usable or other is None:
        return np.full(len(seeds), np.nan)
    n, out = len(x), np.empty(len(seeds))
    # Few at a time on the CPU, where they take long, so that a progress bar moves.
    step = rows_per_chunk(64 * n * n, device, limit=2**21 if device.type == "cpu" else 2**27)
    for start in range(0, len(seeds), step):
        drawn = [np.random.default_rng(s).standard_normal((n, basis.rank)) for s in seeds[start:start + step]]
        clouds = torch.stack([mean_one_distances(d * to_numpy(basis.singular), device) for d in drawn])
        out[start:start + step] = to_numpy(
            gromov_wasserstein_value(clouds, other, gromov_wasserstein_plan(clouds, other)))
        tick(len(drawn))
    return out


def _matched(x, y, device):
    best = _partners(x, y, device)
    return float("nan") if best is None else float((best == np.arange(len(best))).mean())


def _matched_null(x, y, permutations, device):
    best = _partners(x, y, device)
    if best is None:
        return np.full(len(permutations), np.nan)
    return (best[permutations] == np.arange(len(best))).mean(1)


def _partners(x, y, device):
    plan = gromov_wasserstein(x, y, device=device)[1]
    return None if np.isnan(plan).any() else plan.argmax(1)


PAIRS: dict[str, PairMeasure] = {
    "cca.deep": PairMeasure(deep_cca.deep_score, deep_cca.deep_null, ticks=True),
    "bures": PairMeasure(_shared(distributions.bures_distance), _shared(distributions.bures_swaps)),
    "wasserstein.sliced": PairMeasure(_shared(distributions.sliced_wasserstein), _shared(distributions.sliced_swaps)),
    "gw.distance": PairMeasure(_distance, _clouds, ticks=True),
    "gw.matching": PairMeasure(_matched, _matched_null),
}
