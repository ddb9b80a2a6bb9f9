"""The modality gap: how far apart two modalities lie in one space, whether that hinders their match, layer by layer."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from neuroalign.alignment.dimensionality import participation_ratio
from neuroalign.alignment.feature_basis import feature_basis, host_of
from neuroalign.alignment.similarity import measure_grid, measure_null
from neuroalign.data.scores import make
from neuroalign.errors import check_counts, collect_warnings
from neuroalign.linalg import resolve, to_numpy
from neuroalign.probes.gap_statistics import GAP_METRICS, Draws, Statistic, gap_statistics
from neuroalign.probes.pairing import PairedSpaces, match_pairs, unit_rows_of
from neuroalign.stats import (
    LEVEL,
    child_rng,
    fdr,
    half_sample_deviations,
    make_folds,
    make_resamples,
    percentile_interval,
    permutation_p,
    row_permutations,
)

__all__ = ["modality_gap", "pca_spectrum", "shift_sweep"]

GEOMETRY = {"cka.debiased": "debiased", "cka.biased": "biased", "knn.mutual": "knn.mutual"}
MIN_PAIRS = 4


def modality_gap(a, b, *, k: Sequence[int] = (1, 5, 10), n_splits: int = 5, n_permutations: int = 1000,
                 n_refits: int = 0, n_bootstraps: int = 200, geometry: bool = False, on_missing: str = "error",
                 random_state: int = 0, device="auto") -> xr.Dataset:
    """Measure the gap between two modalities in a space that they share.

    Parameters
    ----------
    a, b : DataArray (stimulus, feature), mapping or list of them, or array of shape (n_pairs, n_features)
        The two modalities of the same stimuli, for instance ``features.select(streams="image")`` and
        ``features.select(streams="text")``: every layer with the layer of the same name. Labelled sides are matched
        by ``stimulus_id``; of plain arrays, row i of one belongs to row i of the other. Rows are scaled to unit length.
    k : sequence of int
        Of retrieval: whether the partner is among the k nearest.
    n_splits : int
        Folds of pairs for the separability; 5 fits on 80 % of the pairs.
    n_permutations : int
        Size of the null (0: no p). Centroids: modality labels exchanged within random pairs. Pairs and retrieval: new
        partners for all.
    n_refits : int
        Exchanges of labels for which the classifier of the separability is fitted anew (each `n_splits` fits); its p
        is NaN with 0. The distance of the centroids tests the same hypothesis at no such cost.
    n_bootstraps : int
        Half samples of the pairs for the interval (0: none).
    geometry : bool
        Also ``cka.debiased``, ``cka.biased`` and ``knn.mutual``, as `neuroalign.compare` has them (stimulus x
        stimulus matrices for their null).
    on_missing : {"error", "drop"}
    random_state : int
    device : str

    Returns
    -------
    Dataset
        Scores (metric, space), one space a pair of layers, with its ``depth``; the metrics are those of
        `neuroalign.probes.GAP_METRICS`, where ``a`` and ``b`` are the two sides. p is one-sided: towards a gap, and for
        pairs and retrieval towards a match. q is adjusted over the layers of each metric. Descriptions (uniformity,
        cone) have no null.

    Raises
    ------
    NotAligned
        If spaces or stimuli have no partner.
    ValueError
        If the sides differ in width, or rows are zero or hold NaN.

    Notes
    -----
    Liang et al. 2022, NeurIPS; Fahim et al. 2024, arXiv 2405.18570. The interval is a delete-half jackknife:
    deviations of half samples from their mean, scaled to the whole sample, about the estimate. That of retrieval is
    over queries among all candidates, that of the separability over held-out pairs with the fits as they are. A gap
    does not say that pairs do not match: read it beside retrieval. Where the centroids coincide in the sample the
    separability falls below .5: what the held-out pairs have more of, the others have less of.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> image = rng.standard_normal((40, 8))
    >>> text = image + 0.1 * rng.standard_normal((40, 8)) + np.eye(8)[0] * 6
    >>> found = modality_gap(image, text, n_permutations=99, n_bootstraps=0)
    >>> float(found.score.sel(metric="separability").item()) > 0.9, found.p.sel(metric="gap.distance").item()
    (True, 0.01)
    """
    check_counts(n_permutations=n_permutations, n_refits=n_refits, n_bootstraps=n_bootstraps)
    device = host_of(resolve(device))
    with collect_warnings() as collected:
        pairs = match_pairs(a, b, on_missing)
        draws = _draw(pairs.ids, k, n_splits, n_permutations, n_refits, n_bootstraps, random_state)
        found = []
        for (x, y), names in zip(pairs.arrays, pairs.sides):
            found.append(gap_statistics(*_unit_pair(x, y, pairs.ids, names, device), draws))
            if geometry:
                found[-1] |= _geometry(x, y, draws, device)
    attrs = _describe(pairs, draws, found[0], random_state) | {"warnings": collected}
    return _assemble(pairs.names, pairs.coords, found, draws, attrs)


def shift_sweep(a, b, shifts: Sequence[float] = tuple(np.linspace(-1, 1, 9)), *, k: Sequence[int] = (1, 5, 10),
                n_splits: int = 5, on_missing: str = "error", random_state: int = 0, device="auto") -> xr.Dataset:
    """Measure the gap after moving the two modalities towards each other by known amounts.

    Parameters
    ----------
    a, b
        As for `modality_gap`.
    shifts : sequence of float
        Both sides move by half of it along the line between their centroids, then to unit length again; 0 leaves
        them, the distance of the centroids about closes the gap, negative ones widen it.
    k, n_splits, on_missing, random_state, device
        As for `modality_gap`.

    Returns
    -------
    Dataset
        Scores (metric, space), one space a layer and shift, with the coord ``shift``; without null or interval, since
        all shifts have the same pairs.

    Notes
    -----
    The intervention of Liang et al. 2022, NeurIPS: ``x - shift/2 * u`` and ``y + shift/2 * u``, u the unit vector from
    the centroid of the second side to that of the first.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> image, text = rng.standard_normal((40, 8)) + 1, rng.standard_normal((40, 8)) - 1
    >>> found = shift_sweep(image, text, (0.0, 1.4)).score.sel(metric="gap.distance")
    >>> bool(found[0] > 1.2 and found[1] < 0.4)
    True
    """
    shifts = np.asarray(shifts, float).ravel()
    if not len(shifts) or not np.isfinite(shifts).all():
        raise ValueError(f"shifts: got {shifts.tolist()}, expected finite numbers.")
    device = host_of(resolve(device))
    with collect_warnings() as collected:
        pairs = match_pairs(a, b, on_missing)
        draws = _draw(pairs.ids, k, n_splits, 0, 0, 0, random_state)
        found = []
        for (x, y), names in zip(pairs.arrays, pairs.sides):
            x, y = _unit_pair(x, y, pairs.ids, names, device)
            apart = x.mean(0) - y.mean(0)
            step = apart / apart.norm().clamp_min(torch.finfo(x.dtype).tiny) / 2
            for shift in shifts:
                moved = [torch.nn.functional.normalize(side + sign * shift * step)
                         for side, sign in ((x, -1), (y, 1))]
                found.append(gap_statistics(*moved, draws))
    names = [f"{name} shift {s:+g}" for name in pairs.names for s in shifts]
    coords = {key: np.repeat(value, len(shifts)) for key, value in pairs.coords.items()}
    coords["shift"] = np.tile(shifts, len(pairs.names))
    attrs = _describe(pairs, draws, found[0], random_state) | {"kind": "gap_shift_sweep", "warnings": collected}
    return _assemble(names, coords, found, draws, attrs)


def pca_spectrum(a, b, *, on_missing: str = "error", device="auto") -> xr.Dataset:
    """Variance along the principal components of each modality and of both together.

    Parameters
    ----------
    a, b, on_missing, device
        As for `modality_gap`.

    Returns
    -------
    Dataset (space, side, component)
        ``explained``: cumulative share of the variance of unit vectors about their mean, sides ``a``, ``b`` and
        ``both``; (space, side): ``rank``, singular values above rounding; ``above_one``, singular values of the unit
        vectors, not centred, above 1; ``participation_ratio`` (debiased).

    Examples
    --------
    >>> image, text = np.eye(6)[[0, 1, 0, 1, 2]], np.eye(6)[[3, 4, 3, 4, 5]]
    >>> pca_spectrum(image, text)["rank"].sel(side="both").item()
    5
    """
    device, pairs = host_of(resolve(device)), match_pairs(a, b, on_missing)
    sides, most = ("a", "b", "both"), min(2 * len(pairs.ids), int(pairs.coords["n_features"].max()))
    explained = np.full((len(pairs.names), 3, most), np.nan)
    counts = {name: np.zeros((len(pairs.names), 3), kind)
              for name, kind in (("rank", int), ("above_one", int), ("participation_ratio", float))}
    for i, ((x, y), names) in enumerate(zip(pairs.arrays, pairs.sides)):
        x, y = (to_numpy(side) for side in _unit_pair(x, y, pairs.ids, names, device))
        for j, rows in enumerate((x, y, np.concatenate([x, y]))):
            basis = feature_basis(rows, device)
            if not basis.usable:  # all rows the same
                continue
            squared = to_numpy(basis.singular) ** 2
            held = np.cumsum(squared) / squared.sum()
            explained[i, j, :len(held)] = held
            explained[i, j, len(held):] = 1
            counts["rank"][i, j] = len(held)
            counts["above_one"][i, j] = (np.linalg.svd(rows, compute_uv=False) > 1).sum()
            counts["participation_ratio"][i, j] = participation_ratio(rows, device=device)
    coords = {"space": pairs.names, "side": list(sides), "component": np.arange(1, most + 1)}
    coords |= {key: ("space", value) for key, value in pairs.coords.items()}
    variables = {"explained": (("space", "side", "component"), explained)}
    return xr.Dataset(variables | {n: (("space", "side"), v) for n, v in counts.items()}, coords=coords)


def _draw(ids, k, n_splits, n_permutations, n_refits, n_bootstraps, random_state) -> Draws:
    n = len(ids)
    if n < MIN_PAIRS:
        raise ValueError(f"modality gap: {n} pairs, expected at least {MIN_PAIRS}.")
    wanted = sorted(set(k))
    if not wanted or any(not isinstance(j, (int, np.integer)) or j < 1 for j in wanted):
        raise ValueError(f"k: got {k!r}, expected numbers of nearest neighbours of at least 1.")
    wanted = tuple(j for j in wanted if j < n) or (1,)  # with k = n every partner is found
    folds = make_folds("kfold", n, n_splits=min(n_splits, n), random_state=random_state)
    swaps = orders = halves = None
    if n_permutations:
        swaps = _swaps(n, n_permutations, random_state, "modality labels")
        orders = row_permutations(n, n_permutations, random_state=random_state)
    if n_bootstraps:
        drawn = make_resamples(ids, n_bootstraps, kind="subsample", random_state=random_state)
        halves = drawn.counts().astype(np.float32)
    return Draws(swaps, orders, halves, folds, _swaps(n, n_refits, random_state, "refits"), wanted)


def _swaps(n: int, count: int, random_state: int, purpose: str) -> np.ndarray:
    return child_rng(random_state, purpose).choice(np.array([-1, 1], np.int8), (count, n))


def _unit_pair(x, y, ids, names, device):
    return [unit_rows_of(side, ids, name, device) for side, name in zip((x, y), names)]


def _geometry(x, y, draws: Draws, device) -> dict[str, Statistic]:
    found, arrays = {}, ([np.asarray(x)], [np.asarray(y)])
    for name, method in GEOMETRY.items():
        score = measure_grid(method, *arrays, device=device)[0][0, 0]
        null = None
        if draws.orders is not None:
            null = measure_null(method, *arrays, draws.orders, weights=np.eye(1), device=device)[:, 0, 0]
        found[name] = Statistic(float(score), null)
    return found


def _describe(pairs: PairedSpaces, draws: Draws, found: dict, random_state: int) -> dict:
    swaps, halves = draws.swaps, draws.halves
    n = len(pairs.ids)
    nulls = {"swap": "modality labels exchanged within random pairs", "pairing": "new partners for all"}
    attrs = {"kind": "modality_gap", "sides": {name: list(s) for name, s in zip(pairs.names, pairs.sides)},
             "aggregation": {m: _about(m).words for m in found},
             "null": {m: nulls[_about(m).null] for m in found if _about(m).null},
             "n_pairs": n, "n_permutations": 0 if swaps is None else len(swaps), "n_refits": len(draws.refits),
             "n_bootstraps": 0 if halves is None else len(halves), "folds": draws.folds.describe(),
             "random_state": random_state}
    if halves is not None:
        attrs["interval"] = f"delete-half jackknife ({n // 2} of {n} pairs), {LEVEL:.0%}"
    return attrs


def _assemble(names, coords, found, draws: Draws, attrs) -> xr.Dataset:
    metrics, dims = list(found[0]), ("metric", "space")
    shape = (len(metrics), len(names))
    values = {name: np.full(shape, np.nan) for name in ("score", "null_mean", "null_sd", "p", "ci_low", "ci_high")}
    n = draws.folds.n_samples
    for j, one in enumerate(found):
        for i, (metric, statistic) in enumerate(one.items()):
            values["score"][i, j] = statistic.score
            if statistic.null is not None:
                way = _about(metric).alternative
                values["null_mean"][i, j], values["null_sd"][i, j] = statistic.null.mean(), statistic.null.std()
                values["p"][i, j] = permutation_p(statistic.score, statistic.null, alternative=way)
            if statistic.half is not None:
                ends = statistic.score + percentile_interval(half_sample_deviations(statistic.half, n))
                ends = ends.clip(0, 1) if metric.startswith(("retrieval", "separability")) else ends
                values["ci_low"][i, j], values["ci_high"][i, j] = ends
    values["q"] = fdr(values["p"], axis=1)
    values["n"] = np.full(shape, float(n))
    coords = {"metric": metrics, "space": names} | {key: ("space", value) for key, value in coords.items()}
    return make({name: (dims, value) for name, value in values.items()}, coords, attrs)


def _about(metric: str):
    return GAP_METRICS[metric.split("@")[0]]
