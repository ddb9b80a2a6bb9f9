"""Implicit alignment: how similar tokens of two modalities are inside a model that was not trained to match them."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from neuroalign.alignment.feature_basis import host_of
from neuroalign.data.scores import attrs_of, make
from neuroalign.errors import check_option, collect_warnings
from neuroalign.linalg import resolve, thread_limit, to_numpy, to_tensor
from neuroalign.probes.token_spaces import TokenLayer, TokenSide, stream_coords, token_layers, unit_tokens
from neuroalign.stats import (
    LEVEL,
    fdr,
    half_sample_deviations,
    make_resamples,
    percentile_interval,
    permutation_p,
    row_permutations,
)

__all__ = ["MODES", "ima_score", "implicit_alignment", "token_similarity"]

MODES = {
    "avg": "cosine of the mean tokens of two stimuli",
    "mean": "mean cosine over all pairs of tokens of two stimuli",
    "median": "median cosine over all pairs of tokens of two stimuli",
    "max": "largest cosine over all pairs of tokens of two stimuli",
    "min": "smallest cosine over all pairs of tokens of two stimuli",
    "max_mean": "largest cosine of each token of the first stimulus with one of the second, mean over the first",
}
MIN_STIMULI = 4


def implicit_alignment(features, *, a: str = "image", b: str = "text", mode: Sequence[str] = ("avg", "max_mean"),
                       reference: int | str | None = None, n_permutations: int = 1000, n_bootstraps: int = 200,
                       keep=(), random_state: int = 0, device="auto") -> xr.Dataset:
    """Compare the tokens of two modalities in every layer, with each other and among themselves.

    Parameters
    ----------
    features : mapping or list of DataArray (token, feature)
        Of ``na.extract(model, stimuli, streams=["image", "text"], pooling="none")``; layers that lack one of the
        streams are left out. ``taps=("attention", "mlp")`` gives what the parts of a block add.
    a, b : str
        The streams: perceptual tokens and those of the text.
    mode : str or sequence of str
        How the tokens of two stimuli are compared, of `neuroalign.probes.MODES`.
    reference : int or str, optional
        Take the tokens of `a` from this one layer (its place or name), and those of `b` from each; 0, the input of the
        language model, as the released code of the paper does for its score. Default: both from the same layer.
    n_permutations : int
        New partners for all stimuli: the null of the similarity of the two modalities of one stimulus.
    n_bootstraps : int
        Half samples of the stimuli for the interval.
    keep : sequence of {"bootstrap"}
        ``"bootstrap"`` lets `ima_score` give an interval.
    random_state : int
    device : str

    Returns
    -------
    Dataset
        Scores (metric, space). For each mode ``similarity.MODE`` (mean over pairs of different stimuli),
        ``similarity.MODE.sd`` (their standard deviation) and ``similarity.MODE.paired`` (of one stimulus with itself:
        between modalities only, with p against new partners). Spaces of each layer: ``a~b``, ``a~a``, ``b~b``.

    Raises
    ------
    NotAligned
        If features are pooled, or no layer has both streams.

    Notes
    -----
    Shukor & Cord 2024, NeurIPS (arXiv 2405.16700). Narrow cones raise every cosine: read the similarity between
    modalities beside those within. The interval is a delete-half jackknife over stimuli.

    Examples
    --------
    ``na.probes.implicit_alignment(na.extract("llava-1.5-7b", pairs, streams=["image", "text"], pooling="none"))``
    """
    modes = [check_option("mode", m, MODES) for m in ([mode] if isinstance(mode, str) else mode)]
    keep = [check_option("keep", k, ("bootstrap",)) for k in ([keep] if isinstance(keep, str) else keep)]
    if not modes or a == b:
        raise ValueError(f"mode, a, b: got {modes}, {a!r} and {b!r}, expected at least one mode and two streams.")
    device = host_of(resolve(device))
    with collect_warnings() as collected:
        layers = token_layers(features, (a, b))
        ids = layers[0].ids
        if len(ids) < MIN_STIMULI:
            raise ValueError(f"implicit alignment: {len(ids)} stimuli, expected at least {MIN_STIMULI}.")
        fixed = _reference(layers, reference)
        orders = row_permutations(len(ids), n_permutations, random_state=random_state) if n_permutations else None
        halves = None
        if n_bootstraps:
            halves = make_resamples(ids, n_bootstraps, kind="subsample", random_state=random_state).counts()
        rows, spaces = [], []
        for layer in layers:
            for one, other in ((a, b), (a, a), (b, b)):
                first = layer if fixed is None or one != a or other != b else fixed[layer.model]
                matrices = token_similarity(first.sides[one], layer.sides[other], modes,
                                            layers=(first, layer), device=device)
                rows.append(_summarise(matrices, one != other, orders, halves))
                spaces.append((layer, f"{one}~{other}"))
    attrs = {"kind": "implicit_alignment", "streams": [a, b], "reference": None if reference is None
             else {model: layer.layer for model, layer in fixed.items()}, "n_stimuli": len(ids),
             "n_tokens": {s: int(layers[0].sides[s].counts.sum()) for s in (a, b)}, "random_state": random_state,
             "aggregation": {f"similarity.{m}": f"{MODES[m]}; mean over pairs of different stimuli" for m in modes},
             "n_permutations": 0 if orders is None else len(orders), "n_bootstraps": n_bootstraps,
             "interval": f"delete-half jackknife over stimuli, {LEVEL:.0%}" if n_bootstraps else None,
             "warnings": collected}
    return _assemble(rows, spaces, len(ids), keep, attrs)


def ima_score(scores: xr.Dataset, mode: str = "avg") -> xr.Dataset:
    """Mean of the similarity of two modalities over the layers of each model: its implicit alignment in one number.

    Parameters
    ----------
    scores : Dataset
        Of `implicit_alignment`; with ``keep=["bootstrap"]`` for an interval.
    mode : str

    Returns
    -------
    Dataset
        Scores (metric, space), metric ``ima.MODE``, one space a model.
    """
    metric = check_option("mode", f"similarity.{mode}", [str(m) for m in scores.metric.values])
    a, b = attrs_of(scores)["streams"]
    across = scores.sel(metric=[metric]).isel(space=np.flatnonzero(scores.stream.values == f"{a}~{b}"))
    models = list(dict.fromkeys(across.model.values.tolist()))
    own = [across.isel(space=np.flatnonzero(across.model.values == m)) for m in models]
    score = np.array([[float(s.score.mean()) for s in own]])
    variables = {"score": score, "n": np.array([[float(s.n.max()) for s in own]])}
    if "bootstrap" in scores:
        moved = np.stack([s.bootstrap.values[:, 0].mean(1) for s in own], 1)
        low, high = percentile_interval(moved)
        variables |= {"ci_low": low[None], "ci_high": high[None]}
    coords = {"metric": [f"ima.{mode}"], "space": [f"{m}:all:{a}~{b}" for m in models], "model": ("space", models),
              "layer": ("space", ["all"] * len(models)), "stream": ("space", [f"{a}~{b}"] * len(models)),
              "n_layers": ("space", [s.sizes["space"] for s in own])}
    attrs = {k: v for k, v in attrs_of(scores).items() if k not in ("versions", "created", "aggregation")}
    attrs |= {"kind": "ima_score", "aggregation": {f"ima.{mode}": f"mean over layers of: {MODES[mode]}"}}
    return make({k: (("metric", "space"), v) for k, v in variables.items()}, coords, attrs)


def token_similarity(first: TokenSide, second: TokenSide, modes: Sequence[str], *,
                     layers: tuple[TokenLayer, TokenLayer], device: torch.device) -> dict[str, np.ndarray]:
    """Return the similarity of every stimulus of one side with every one of the other, one matrix a mode.

    Parameters
    ----------
    first, second : TokenSide
    modes : sequence of str
        Names of `MODES`.
    layers : (TokenLayer, TokenLayer)
        Where the sides come from, for messages.
    device : torch.device

    Returns
    -------
    dict of str to float64 array of shape (n_stimuli, n_stimuli)
    """
    x, y = (unit_tokens(side, layer, device) for side, layer in zip((first, second), layers))
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"layers {layers[0].layer!r} and {layers[1].layer!r} of {layers[0].model!r}: {x.shape[1]} and "
                         f"{y.shape[1]} features, expected one width. Choose another reference.")
    found = {}
    with thread_limit(2.0 * len(x) * len(y) * x.shape[1]):
        if "avg" in modes:
            means = [_segment_means(to_tensor(s.values, device), s.counts) for s in (first, second)]
            means = [torch.nn.functional.normalize(m, eps=1e-30) for m in means]
            found["avg"] = to_numpy(means[0] @ means[1].T)
        if "mean" in modes:
            found["mean"] = to_numpy(_segment_means(x, first.counts) @ _segment_means(y, second.counts).T)
        rest = [m for m in modes if m not in found]
        if rest:
            found |= _extremes(x, first, y, second, rest)
    return {m: found[m].astype(np.float64) for m in modes}


def _extremes(x, first: TokenSide, y, second: TokenSide, modes) -> dict[str, np.ndarray]:
    """What needs the cosines of single tokens; one stimulus of the first side with all of the second at a time."""
    n, width = len(second.counts), int(second.counts.max())
    padded = torch.nn.utils.rnn.pad_sequence(y.split(second.counts.tolist()), batch_first=True)
    counts = torch.as_tensor(second.counts, device=y.device)
    absent = torch.arange(width, device=y.device) >= counts[:, None]
    found = {m: torch.empty((len(first.counts), n), device=x.device) for m in modes}
    for i, rows in enumerate(x.split(first.counts.tolist())):
        cosine = (rows @ padded.flatten(0, 1).T).view(len(rows), n, width)
        low, high = cosine.masked_fill(absent, -torch.inf), cosine.masked_fill(absent, torch.inf)
        for mode in modes:
            if mode == "max":
                found[mode][i] = low.amax((0, 2))
            elif mode == "min":
                found[mode][i] = high.amin((0, 2))
            elif mode == "max_mean":
                found[mode][i] = low.amax(2).mean(0)
            else:
                ordered = high.permute(1, 0, 2).flatten(1).sort(1).values
                total = len(rows) * counts
                middle = torch.stack([(total - 1) // 2, total // 2], 1)
                found[mode][i] = ordered.gather(1, middle).mean(1)
    return {m: to_numpy(v) for m, v in found.items()}


def _segment_means(tokens: torch.Tensor, counts: np.ndarray) -> torch.Tensor:
    owner = torch.as_tensor(np.repeat(np.arange(len(counts)), counts), device=tokens.device)
    sums = torch.zeros((len(counts), tokens.shape[1]), dtype=tokens.dtype, device=tokens.device)
    return sums.index_add_(0, owner, tokens) / torch.as_tensor(counts, device=tokens.device)[:, None]


def _reference(layers: Sequence[TokenLayer], reference) -> dict[str, TokenLayer] | None:
    """Return the layer of each model that the first stream is taken from."""
    if reference is None:
        return None
    found = {}
    for model in dict.fromkeys(layer.model for layer in layers):
        own = [layer for layer in layers if layer.model == model]
        if isinstance(reference, str):
            names = [layer.layer for layer in own]
            found[model] = own[names.index(check_option("reference", reference, names))]
        elif -len(own) <= reference < len(own):
            found[model] = own[reference]
        else:
            raise ValueError(f"reference: got {reference}, expected the place of one of the {len(own)} layers of "
                             f"{model!r}, from 0.")
    return found


def _summarise(matrices, across: bool, orders, halves) -> dict[str, dict]:
    """Return score, null and half samples of each metric."""
    found = {}
    for mode, matrix in matrices.items():
        n = len(matrix)
        own, off = np.diag(matrix).copy(), matrix.copy()
        np.fill_diagonal(off, 0)
        strangers = matrix[~np.eye(n, dtype=bool)]
        plain = {"score": strangers.mean()}
        paired = {"score": own.mean() if across else np.nan}
        if halves is not None:
            m = halves.sum(1)
            plain["half"] = ((halves @ off) * halves).sum(1) / (m * (m - 1))
            paired["half"] = halves @ own / m if across else np.full(len(halves), np.nan)
        if orders is not None and across:
            paired["null"] = matrix[np.arange(n), orders].mean(1)
        found |= {f"similarity.{mode}": plain, f"similarity.{mode}.sd": {"score": strangers.std()},
                  f"similarity.{mode}.paired": paired}
    return found


def _assemble(rows, spaces, n: int, keep, attrs) -> xr.Dataset:
    metrics, dims = list(rows[0]), ("metric", "space")
    shape = (len(metrics), len(rows))
    values = {name: np.full(shape, np.nan) for name in ("score", "null_mean", "null_sd", "p", "ci_low", "ci_high")}
    resampled = np.full((attrs["n_bootstraps"], *shape), np.nan)
    for j, row in enumerate(rows):
        for i, part in enumerate(row.values()):
            values["score"][i, j] = part["score"]
            if "null" in part:
                values["null_mean"][i, j], values["null_sd"][i, j] = part["null"].mean(), part["null"].std()
                values["p"][i, j] = permutation_p(part["score"], part["null"])
            if "half" in part:
                moved = part["score"] + half_sample_deviations(part["half"], n)
                resampled[:, i, j] = moved
                values["ci_low"][i, j], values["ci_high"][i, j] = percentile_interval(moved)
    values["q"] = fdr(values["p"], axis=1)
    values["n"] = np.full(shape, float(n))
    variables = {k: (dims, v) for k, v in values.items()}
    if "bootstrap" in keep:
        variables["bootstrap"] = (("resample", *dims), resampled)
    coords = {"metric": metrics, **stream_coords(spaces)}
    return make(variables, coords, attrs)
