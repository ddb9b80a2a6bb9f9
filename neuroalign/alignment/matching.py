"""Matching of rows across spaces that were never trained together: which image belongs to which text?

A subspace that two spaces share is found by ridge-regularised CCA on anchor pairs alone; held-out queries are then
matched in it. Spaces whose geometries agree little as a whole may still share such a subspace (Hadgi et al. 2025,
CVPR). All in float64.
"""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from neuroalign.alignment.cca import HeldOutRows, whiten
from neuroalign.alignment.comparison_inputs import match
from neuroalign.alignment.feature_basis import check_pair, host_of
from neuroalign.alignment.metrics import get_metric
from neuroalign.alignment.progress import progress_bar
from neuroalign.alignment.retrieval import chance_level, matching_accuracy, retrieval_ranks, warn_few
from neuroalign.data.scores import make
from neuroalign.errors import check_option, collect_warnings, list_ids, warn_user
from neuroalign.linalg import resolve, thread_limit, to_numpy
from neuroalign.stats import child_rng, permutation_p, row_permutations

__all__ = ["METHODS", "local_cka", "match_rows", "match_spaces"]

METHODS = ("affine", "procrustes", "local_cka")
COMPONENTS = (5, 10, 20, 50, 100, 200)
SHRINKAGE = (0.01, 0.1, 0.5)
TOPS = (1, 5, 10)
MIN_ANCHORS = 12


def match_spaces(features, others, *, method: str | Sequence[str] = "affine", n_queries: int | None = None,
                 n_anchors: int | None = None, n_components: int | Sequence[int] | None = COMPONENTS,
                 reg: float | Sequence[float] = SHRINKAGE, n_draws: int = 3, n_permutations: int = 0,
                 on_missing: str = "error", keep=(), random_state: int = 0, device="auto",
                 progress: bool = True) -> xr.Dataset:
    """Match held-out stimuli between spaces through a subspace fitted on anchors.

    Parameters
    ----------
    features, others : DataArray (stimulus, feature), mapping or list of them
        Every space of the first is matched with every one of the second; rows are paired by stimulus id.
    method : str or sequence of {"affine", "procrustes", "local_cka"}
        How a query is carried over: by least squares, by a rotation (both then scored by the cosine), or not at all:
        `local_cka` scores a pair of queries by the CKA of the anchors with this pair added.
    n_queries, n_anchors : int, optional
        Stimuli drawn for each, disjoint. By default a quarter of the stimuli (at most 500), and all others.
    n_components : int, sequence of int, or None
        Canonical directions. Of several, those with the best mean reciprocal rank on a fifth of the anchors that the
        fit did not see; None matches in the whole spaces.
    reg : float or sequence of float
        Shrinkage of the covariances, as in `held_out_cca`; of several, chosen likewise.
    n_draws : int
        Draws of anchors and queries.
    n_permutations : int
        Pairings of the two sides permuted, everything fitted again (0: no p).
    on_missing : {"error", "drop"}
    keep : sequence of {"fold_score", "null"}
        Scores of each draw, and the null.
    random_state : int
    device : str
    progress : bool
        Show a progress bar for permutations that take longer than two seconds.

    Returns
    -------
    Dataset
        Scores (metric, space, space_b): ``match.METHOD.assignment`` is the share of queries that the best one-to-one
        assignment pairs rightly, ``match.METHOD.topK`` the share whose partner is among the K most similar, mean of
        both directions. ``null_mean`` is chance and ``null_sd`` its standard error, by counting (that of one draw and
        direction; of their mean it is no larger) unless there are permutations; ``n`` the queries of a draw, under 20
        with a warning. Attrs ``chosen``: components and shrinkage of each pair, method and draw.

    Raises
    ------
    ValueError
        Fewer than 12 anchors or 2 queries, features that are constant or hold NaN.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> rng = np.random.default_rng(0)
    >>> x, ids = rng.standard_normal((80, 6)), [f"s{k:02d}" for k in range(80)]
    >>> a = make_features(x, ids, model="a")
    >>> b = make_features(x @ rng.standard_normal((6, 9)), ids, model="b")
    >>> match_spaces(a, b).score.sel(metric="match.affine.assignment").item()
    1.0
    """
    methods = [check_option("method", m, METHODS) for m in ([method] if isinstance(method, str) else method)]
    keep = [check_option("keep", k, ("fold_score", "null")) for k in ([keep] if isinstance(keep, str) else keep)]
    device = host_of(resolve(device))
    with collect_warnings() as collected:
        models, side = match(features, others, on_missing)
        draws = _draw(len(side.ids), n_queries, n_anchors, n_draws, random_state)
        wide = [m for m, v in zip(models.names, models.arrays) if v.shape[1] >= len(draws[0][0])]
        if n_components is None and "affine" in methods and wide:
            warn_user(f"match.affine: {list_ids(wide)} have as many features as there are anchors "
                      f"({len(draws[0][0])}) or more, so that a map of whole spaces fits them whatever they are. Match "
                      "in a subspace (n_components=), or by 'procrustes'.", "underdetermined-map", wide)
        tops = [k for k in TOPS if k < len(draws[0][1])]
        warn_few(len(draws[0][1]), tops)
    options = {"methods": methods, "n_components": n_components, "reg": reg, "random_state": random_state}
    with thread_limit(_operations([*models.arrays, *side.arrays])):
        left, right = (_prepare(names, arrays, device) for names, arrays in
                       ((models.names, models.arrays), (side.names, side.arrays)))
        grid = [[[_score_draw(a, b, *d, tops, options) for d in draws] for b in right] for a in left]
        scores = np.array([[[found for found, _ in cell] for cell in row] for row in grid])
        null = None
        if n_permutations:
            orders = row_permutations(len(side.ids), n_permutations, random_state=random_state)
            with progress_bar("matching: null", progress, len(orders) * len(left) * len(right)) as bar:
                null = np.array([[[_mean_of_draws(a, HeldOutRows(b.rows[order], True), draws, tops, options, bar)
                                   for b in right] for a in left] for order in orders])
    chosen = {f"{a} x {b}": {m: [c[k] for _, c in cell] for k, m in enumerate(methods)}
              for a, row in zip(models.names, grid) for b, cell in zip(side.names, row)}
    attrs = {"chosen": chosen, "n_anchors": len(draws[0][0]), "n_queries": len(draws[0][1]), "n_draws": n_draws,
             "n_stimuli": len(side.ids), "n_components": n_components, "reg": reg, "n_permutations": n_permutations,
             "random_state": random_state, "warnings": collected}
    return _assemble(methods, tops, models, side, scores, null, keep, attrs)


def match_rows(x_anchors, y_anchors, x_queries, y_queries, *, method: str = "affine",
               n_components: int | Sequence[int] | None = COMPONENTS, reg: float | Sequence[float] = SHRINKAGE,
               random_state: int = 0, device="auto") -> np.ndarray:
    """Similarity of every query of one space with every query of another, by way of anchors.

    Parameters
    ----------
    x_anchors : array of shape (n_anchors, p)
    y_anchors : array of shape (n_anchors, q)
        Pairs, row by row.
    x_queries : array of shape (n_x, p)
    y_queries : array of shape (n_y, q)
    method, n_components, reg, random_state, device
        As for `match_spaces`.

    Returns
    -------
    float64 array of shape (n_x, n_y)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, turn = rng.standard_normal((60, 5)), rng.standard_normal((5, 5))
    >>> found = match_rows(x[:50], x[:50] @ turn, x[50:], x[50:] @ turn)
    >>> found.argmax(1).tolist() == list(range(10))
    True
    """
    check_option("method", method, METHODS)
    check_pair(x_anchors, y_anchors)
    device = host_of(resolve(device))
    n = len(x_anchors)
    _check_anchors(n)
    sides = {name: np.concatenate([anchors, queries]) for name, anchors, queries in
             (("x", x_anchors, x_queries), ("y", y_anchors, y_queries))}
    rows = np.arange(n), np.arange(n, n + len(x_queries)), np.arange(n, n + len(y_queries))
    with thread_limit(_operations(sides.values())):
        a, b = _prepare(list(sides), list(sides.values()), device)
        k, r = _choose(a, b, rows[0], [method], n_components, reg, random_state)[0]
        return to_numpy(_similarity(*_variates(a, b, *rows, k, r), method))


def local_cka(x_anchors, y_anchors, x_queries, y_queries) -> np.ndarray:
    """CKA (linear, biased) of two sets of anchors with one query of each added, for every pair of queries.

    Parameters
    ----------
    x_anchors : array of shape (n_anchors, p)
    y_anchors : array of shape (n_anchors, q)
    x_queries : array of shape (n_x, p)
    y_queries : array of shape (n_y, q)

    Returns
    -------
    float64 array of shape (n_x, n_y)

    Notes
    -----
    Adding the row x to n rows of mean m adds ``n / (n + 1) (x - m)(y - m')'`` to the centred cross-product, so that
    all pairs take a few matrix products (the measure is that of Maniparambil et al. 2024, CVPR).

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((30, 4))
    >>> found = local_cka(x[:25], x[:25], x[25:], x[25:])
    >>> bool((found.argmax(1) == np.arange(5)).all()), round(float(found[0, 0]), 6)
    (True, 1.0)
    """
    tensors = [torch.as_tensor(np.asarray(v, np.float64)) for v in (x_anchors, y_anchors, x_queries, y_queries)]
    return to_numpy(_local_cka(*tensors))


def _prepare(names, arrays, device) -> list[HeldOutRows]:
    prepared = [HeldOutRows.of(np.asarray(v), device) for v in arrays]
    lost = [name for name, rows in zip(names, prepared) if not rows.usable]
    if lost:
        raise ValueError(f"matching: features {list_ids(lost)} are constant or hold NaN. Drop those stimuli or "
                         "features.")
    return prepared


def _operations(arrays) -> float:
    """Floating-point operations of one fit, about."""
    return 20.0 * max(min(np.shape(v)) for v in arrays) ** 3


def _draw(n, n_queries, n_anchors, n_draws, random_state) -> list[tuple[np.ndarray, np.ndarray]]:
    """Disjoint anchors and queries of each draw."""
    q = min(500, n // 4) if n_queries is None else int(n_queries)
    m = n - q if n_anchors is None else int(n_anchors)
    if q < 2 or m + q > n:
        raise ValueError(f"n_queries, n_anchors: got {q} and {m} of {n} stimuli, expected at least 2 queries and no "
                         "more than all stimuli together.")
    _check_anchors(m)
    if n_draws < 1:
        raise ValueError(f"n_draws: got {n_draws}, expected at least 1.")
    orders = [child_rng(random_state, f"anchors and queries {k}").permutation(n) for k in range(n_draws)]
    return [(order[q:q + m], order[:q]) for order in orders]


def _check_anchors(n):
    if n < MIN_ANCHORS:
        raise ValueError(f"anchors: got {n} pairs, expected at least {MIN_ANCHORS}: a map between spaces is fitted on "
                         "them.")


def _assemble(methods, tops, models, side, scores, null, keep, attrs) -> xr.Dataset:
    """Scores of (space, space_b, draw, method, ask) and a null of (permutation, space, space_b, method, ask)."""
    metrics = [get_metric(f"match.{m}.{ask}") for m in methods for ask in ["assignment", *(f"top{k}" for k in tops)]]
    draws = np.moveaxis(scores.reshape(*scores.shape[:3], -1), (2, 3), (0, 1))
    shape, n = draws.shape[1:], attrs["n_queries"]
    chance, error = (np.broadcast_to(np.tile(v, len(methods))[:, None, None], shape) for v in chance_level(n, tops))
    dims = ("metric", "space", "space_b")
    found = {"score": draws.mean(0), "null_mean": chance, "null_sd": error, "n": np.full(shape, float(n))}
    kept = {"fold_score": (("fold", *dims), draws)} if "fold_score" in keep else {}
    if null is not None:
        null = np.moveaxis(null.reshape(*null.shape[:3], -1), 3, 1)
        found |= {"null_mean": null.mean(0), "null_sd": null.std(0), "p": permutation_p(found["score"], null)}
        kept |= {"null": (("permutation", *dims), null)} if "null" in keep else {}
    coords = {"metric": [m.name for m in metrics], "space": models.names, "space_b": side.names}
    coords |= {k: ("space", v) for k, v in models.coords.items()} | {k: ("space_b", v) for k, v in side.coords.items()}
    attrs |= {"kind": "matching", "aggregation": {m.name: m.aggregation for m in metrics},
              "null": "chance by counting: 1 / n for the assignment, k / n for the k most similar" if null is None
                      else "pairing of the two spaces permuted, everything fitted again"}
    return make({k: (dims, v) for k, v in found.items()} | kept, coords, attrs)


def _score_draw(a, b, anchors, queries, tops, options) -> tuple[np.ndarray, list]:
    """Scores of one draw, (n_methods, 1 + n_tops), and the components and shrinkage of each method."""
    chosen = _choose(a, b, anchors, options["methods"], options["n_components"], options["reg"],
                     options["random_state"])
    widest = {r: max((k for k, other in chosen if other == r and k), default=None) for _, r in chosen}
    variates = {r: _variates(a, b, anchors, queries, queries, k, r) for r, k in widest.items()}
    out = []
    for method, (k, reg) in zip(options["methods"], chosen):
        similarity = to_numpy(_similarity(*(v[:, :k] for v in variates[reg]), method))
        ranks = [retrieval_ranks(s) for s in (similarity, similarity.T)]
        out.append([matching_accuracy(similarity), *(np.mean([r <= k for r in ranks]) for k in tops)])
    return np.array(out), chosen


def _mean_of_draws(a, b, draws, tops, options, bar) -> np.ndarray:
    found = np.mean([_score_draw(a, b, *d, tops, options)[0] for d in draws], axis=0)
    bar.update()
    return found


def _choose(a, b, anchors, methods, n_components, reg, random_state) -> list[tuple]:
    """Components and shrinkage of each method, by the mean reciprocal rank on a fifth of the anchors."""
    ks = [None] if n_components is None else [int(k) for k in np.atleast_1d(n_components)]
    regs = [float(r) for r in np.atleast_1d(reg)]
    if not ks or not regs or any(k is not None and k < 1 for k in ks) or not all(0 <= r <= 1 for r in regs):
        raise ValueError(f"n_components, reg: got {n_components!r} and {reg!r}, expected numbers of at least 1 and "
                         "shares from 0 to 1.")
    if ks == [None]:
        regs = regs[:1]  # whole spaces are not whitened
    if len(ks) == len(regs) == 1:
        return [(ks[0], regs[0])] * len(methods)
    order = anchors[child_rng(random_state, "validation anchors").permutation(len(anchors))]
    held, fitted = np.split(order, [len(order) // 5])
    best = [(-np.inf, None)] * len(methods)
    for r in regs:
        widest = _variates(a, b, fitted, held, held, max(ks), r)
        for k in sorted({min(k, widest[0].shape[1]) for k in ks}):
            parts = [v[:, :k] for v in widest]
            for j, method in enumerate(methods):
                similarity = to_numpy(_similarity(*parts, method))
                value = np.mean([1 / retrieval_ranks(s) for s in (similarity, similarity.T)])
                if value > best[j][0] + 1e-12:
                    best[j] = (value, (k, r))
    return [found for _, found in best]


def _variates(a, b, anchors, x_queries, y_queries, k, reg):
    """Anchors and queries of both spaces on the leading canonical directions of the anchors."""
    if k is None:
        means = [rows.rows[anchors].mean(0) for rows in (a, b)]
        return (a.rows[anchors] - means[0], b.rows[anchors] - means[1],
                a.rows[x_queries] - means[0], b.rows[y_queries] - means[1])
    x, x_new, x_rank = whiten(a.rows, anchors, x_queries, reg)
    y, y_new, y_rank = whiten(b.rows, anchors, y_queries, reg)
    x, x_new, y, y_new = x[:, -x_rank:], x_new[:, -x_rank:], y[:, -y_rank:], y_new[:, -y_rank:]
    left, _, right = torch.linalg.svd(x.mT @ y, full_matrices=False)
    k = min(k, x_rank, y_rank)
    u, v = left[:, :k], right.mT[:, :k]
    return x @ u, y @ v, x_new @ u, y_new @ v


def _similarity(x, y, x_new, y_new, method) -> torch.Tensor:
    if method == "local_cka":
        return _local_cka(x, y, x_new, y_new)
    if method == "affine":
        driver = "gelsd" if x.device.type == "cpu" else "gels"
        turn = torch.linalg.lstsq(x - x.mean(0), y - y.mean(0), driver=driver).solution
    else:
        left, _, right = torch.linalg.svd((x - x.mean(0)).mT @ (y - y.mean(0)), full_matrices=False)
        turn = left @ right
    moved = (x_new - x.mean(0)) @ turn + y.mean(0)
    return torch.nn.functional.normalize(moved, dim=1) @ torch.nn.functional.normalize(y_new, dim=1).mT


def _local_cka(x, y, x_new, y_new) -> torch.Tensor:
    n = len(x)
    weight = n / (n + 1)
    u, v = x_new - x.mean(0), y_new - y.mean(0)
    x, y = x - x.mean(0), y - y.mean(0)
    cross = x.mT @ y
    u_size, v_size = (u * u).sum(1), (v * v).sum(1)
    both = (cross**2).sum() + 2 * weight * (u @ cross @ v.mT) + weight**2 * u_size[:, None] * v_size
    own = [(c**2).sum() + 2 * weight * ((w @ c) * w).sum(1) + weight**2 * size**2
           for c, w, size in ((x.mT @ x, u, u_size), (y.mT @ y, v, v_size))]
    return both / (own[0][:, None] * own[1]).sqrt()
