"""What `compare` computes from two arrays of features: one table of measures, with null and subsamples for each.

Every array is prepared once and serves all its pairs. The null permutes what was prepared, the same way for all
spaces; subsamples are prepared anew.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from neuroalign.alignment import cca, cka, cka_minibatch, neighbours, shape, unit_matching
from neuroalign.alignment.feature_basis import compact_rows, feature_basis
from neuroalign.alignment.pair_measures import PAIRS
from neuroalign.alignment.progress import progress_bar
from neuroalign.linalg import rows_per_chunk, to_numpy
from neuroalign.stats import child_rng

__all__ = ["MEASURES", "draw_null", "measure_grid", "measure_null", "measure_subsamples"]


@dataclass(frozen=True)
class Measure:
    """How a pair of feature arrays is scored.

    Attributes
    ----------
    prepare : callable (values, device) -> state
        The state has ``take(orders)``, which adds a leading dim of orders of the stimuli.
    score : callable (state, state) -> tensor
        One value an order.
    size : callable (state, state) -> int
        Bytes that one order takes.
    compact : bool
        Whether only centred inner products count, so that wide arrays may be rotated into fewer columns.
    degenerate : callable (state, state) -> bool, optional
        Whether the score is meaningless for any data of these sizes.
    least : int
        Stimuli needed.
    at_once : int
        Bytes of orders that are scored together at most, on the CPU: few where each takes long, so that a progress bar
        moves.
    """

    prepare: Callable
    score: Callable
    size: Callable
    compact: bool = True
    degenerate: Callable | None = None
    least: int = 4
    at_once: int = 2**27


def _left_bytes(a, b):
    return 32 * (a.left.shape[-2] + b.rank) * a.rank


def _row_bytes(a, b):
    return 64 * (a.rows.shape[-2] + a.rows.shape[-1] + b.rows.shape[-1]) * a.rows.shape[-1]


def _gram_bytes(a, b):
    return 24 * len(a.rows) ** 2


def _knn_bytes(a, b):
    return 40 * a.index.numel() * b.index.shape[-1]


def _batch_bytes(a, b):
    return 16 * len(a.rows) * a.rows.shape[-1] + 64 * max(map(len, a.batches)) ** 2


def _unit_bytes(a, b):
    return 8 * (4 * a.rows.shape[-2] * a.rows.shape[-1] + 8 * a.rows.shape[-1] * b.rows.shape[-1])


def _loaded(values, device):
    return feature_basis(values, device, loadings=True)


MEASURES: dict[str, Measure] = {
    "svcca": Measure(lambda values, device: feature_basis(values, device).keep(cca.VARIANCE), cca.svcca_score,
                     _left_bytes, degenerate=cca.degenerate),
    "pwcca.features": Measure(_loaded, cca.pwcca_score, lambda a, b: _left_bytes(a, b) + 8 * a.loadings.numel(),
                              compact=False, degenerate=cca.degenerate),
    "pwcca.targets": Measure(_loaded, lambda a, b: cca.pwcca_score(b, a),
                             lambda a, b: _left_bytes(a, b) + 8 * b.loadings.numel(), compact=False,
                             degenerate=cca.degenerate),
    "cca.heldout": Measure(cca.HeldOutRows.of, cca.held_out_score, _row_bytes, least=6),
    "procrustes": Measure(feature_basis, shape.procrustes_score, _left_bytes),
    "angular": Measure(feature_basis, lambda a, b: shape.angular_score(a, b, 1.0), _left_bytes),
    "angular.half": Measure(feature_basis, lambda a, b: shape.angular_score(a, b, 0.5), _left_bytes),
    "angular.whitened": Measure(feature_basis, lambda a, b: shape.angular_score(a, b, 0.0), _left_bytes,
                                degenerate=cca.degenerate),
    "predictivity.forward": Measure(shape.RidgeSide.of, shape.predictivity_score, _gram_bytes, least=4),
    "predictivity.reverse": Measure(shape.RidgeSide.of, lambda a, b: shape.predictivity_score(b, a), _gram_bytes,
                                    least=4),
    "knn.mutual": Measure(neighbours.nearest, neighbours.mutual_score, _knn_bytes, compact=False, least=12),
    "knn.cycle.forward": Measure(neighbours.nearest, neighbours.cycle_score, _knn_bytes, compact=False, least=12),
    "knn.cycle.reverse": Measure(neighbours.nearest, lambda a, b: neighbours.cycle_score(b, a), _knn_bytes,
                                 compact=False, least=12),
    "cknna": Measure(neighbours.nearest, neighbours.cknna_score, _knn_bytes, compact=False, least=12),
    "cka.minibatch": Measure(cka_minibatch.BatchedRows.of, cka_minibatch.minibatch_score, _batch_bytes, least=4),
    "units.one_to_one": Measure(unit_matching.UnitRows.of, unit_matching.one_to_one_score, _unit_bytes, compact=False,
                                least=15),
    "units.soft": Measure(unit_matching.UnitRows.of, unit_matching.soft_score, _unit_bytes, compact=False, least=15,
                          at_once=2**22),
}
# CKA of whole matrices has a null and subsamples of its own.
_CKA = {"debiased": {"estimator": "debiased"}, "biased": {"estimator": "biased"}, "rbf": {"kernel": "rbf"}}


def measure_grid(method: str, xs, ys, *, device) -> tuple[np.ndarray, np.ndarray]:
    """Score every array of one list with every array of another.

    Parameters
    ----------
    method : str
        ``"debiased"``, ``"biased"`` or ``"rbf"`` (CKA), or a name of `MEASURES`.
    xs, ys : sequence of arrays of shape (n_stimuli, n_features)

    Returns
    -------
    scores : float64 array of shape (len(xs), len(ys))
        NaN where features are constant or hold NaN.
    degenerate : bool array of the same shape
        Where the sizes alone decide the score.
    """
    if method in _CKA:
        found = cka.cka_grid(xs, ys, **_CKA[method], device=device)
        return found, np.zeros(found.shape, bool)
    if method in PAIRS:
        found = np.array([[PAIRS[method].score(x, y, device) for y in ys] for x in xs])
        return found, np.zeros(found.shape, bool)
    measure = _measure(method, len(xs[0]))
    left, right = _prepare_all(measure, xs, ys, device)
    scores = np.array([[float(measure.score(a, b)) for b in right] for a in left])
    flags = [[measure.degenerate is not None and measure.degenerate(a, b) for b in right] for a in left]
    return scores, np.array(flags)


def draw_null(null: str, permutations: np.ndarray, random_state: int) -> np.ndarray:
    """Draw what a kind of null needs, as often as there are permutations.

    Returns
    -------
    array
        ``"labels"``: the permutations. ``"sides"``: bool (n_permutations, n_stimuli), which stimuli change sides.
        ``"clouds"``: a seed each.
    """
    if null == "sides":
        return child_rng(random_state, "sides").random(permutations.shape) < 0.5
    if null == "clouds":
        return child_rng(random_state, "clouds").integers(2**31, size=len(permutations))
    return permutations


def measure_null(method: str, xs, ys, permutations, *, weights, device, progress: bool = False) -> np.ndarray:
    """Scores with the stimuli of `xs` permuted, the same way for all of them, or under another null of `draw_null`.

    Parameters
    ----------
    permutations : int array of shape (n_permutations, n_stimuli), or other draws of `draw_null`
    weights : array of shape (n_cells, len(ys))
        Means over `ys` to return instead of each.
    progress : bool
        Show a progress bar after two seconds.

    Returns
    -------
    float64 array of shape (n_permutations, len(xs), n_cells)
    """
    if method in _CKA:
        with progress_bar(f"cka.{method}: null", progress) as bar:
            return cka.cka_null(xs, ys, permutations, **_CKA[method], weights=weights, device=device, tick=bar.update)
    with progress_bar(f"{method}: null", progress, len(permutations) * len(xs) * len(ys)) as bar:
        if method in PAIRS:
            values = np.array([[_pair_null(PAIRS[method], x, y, permutations, device, bar) for y in ys] for x in xs])
            return np.moveaxis(values, 2, 0) @ weights.T
        measure = _measure(method, len(xs[0]))
        left, right = _prepare_all(measure, xs, ys, device)
        values = np.full((len(permutations), len(left), len(right)), np.nan)
        orders = torch.as_tensor(np.asarray(permutations), dtype=torch.int64, device=device)
        for i, a in enumerate(left):
            limit = measure.at_once if _device_of(a).type == "cpu" else 2**27
            step = rows_per_chunk(max(measure.size(a, b) for b in right), device, limit=limit)
            for start in range(0, len(orders), step):
                moved = a.take(orders[start:start + step].to(_device_of(a)))
                for j, b in enumerate(right):
                    values[start:start + step, i, j] = to_numpy(measure.score(moved, b))
                    bar.update(len(values[start:start + step]))
        return values @ weights.T


def measure_subsamples(method: str, xs, ys, indices, *, device, progress: bool = False) -> np.ndarray:
    """Scores of subsamples of the stimuli (none twice), shape (n_resamples, len(xs), len(ys))."""
    if method in _CKA:
        with progress_bar(f"cka.{method}: half samples", progress, len(indices)) as bar:
            return cka.cka_subsamples(xs, ys, indices, **_CKA[method], device=device, tick=bar.update)
    with progress_bar(f"{method}: half samples", progress, len(indices)) as bar:
        return _subsamples(method, xs, ys, indices, device, bar)


def _subsamples(method, xs, ys, indices, device, bar):
    if method in PAIRS:
        out = np.empty((len(indices), len(xs), len(ys)))
        for k, rows in enumerate(indices):
            out[k] = [[PAIRS[method].score(x[rows], y[rows], device) for y in ys] for x in xs]
            bar.update()
        return out
    measure = _measure(method, np.shape(indices)[1])
    if measure.compact:
        known = {id(v): compact_rows(np.asarray(v), device) for v in (*xs, *ys)}
        xs, ys = [known[id(v)] for v in xs], [known[id(v)] for v in ys]
    out = np.empty((len(indices), len(xs), len(ys)))
    for k, rows in enumerate(indices):
        known = {id(v): v[rows] for v in (*xs, *ys)}
        left, right = _prepare_all(measure, [known[id(v)] for v in xs], [known[id(v)] for v in ys], device)
        out[k] = [[float(measure.score(a, b)) for b in right] for a in left]
        bar.update()
    return out


def _pair_null(measure, x, y, draws, device, bar):
    if measure.ticks:
        return measure.null(x, y, draws, device, bar.update)
    found = measure.null(x, y, draws, device)
    bar.update(len(draws))
    return found


def _measure(method: str, n: int) -> Measure:
    measure = MEASURES[method]
    if n < measure.least:
        raise ValueError(f"metric: {method!r} needs at least {measure.least} stimuli, got {n}. (An interval by "
                         "subsampling takes half of them: n_bootstraps=0 asks for none.)")
    return measure


def _prepare_all(measure: Measure, xs, ys, device):
    known = {}
    for values in (*xs, *ys):
        if id(values) not in known:
            known[id(values)] = measure.prepare(values, device)
    return [known[id(v)] for v in xs], [known[id(v)] for v in ys]


def _device_of(state) -> torch.device:
    return next(v for v in vars(state).values() if isinstance(v, torch.Tensor)).device
