"""The closed loop: which sites of the brain lose prediction when a flow of information in the model is cut?"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

import neuroalign.alignment as alignment
from neuroalign.alignment.problem import set_up
from neuroalign.alignment.resampling import Resampling
from neuroalign.alignment.ridge import ridge_cv
from neuroalign.alignment.scoring import score_moments
from neuroalign.data import StimulusSet, scores, space_id
from neuroalign.errors import check_option, collect_warnings
from neuroalign.features import extract
from neuroalign.models.adapter import LoadedModel
from neuroalign.probes.edge_controls import matched_edges
from neuroalign.probes.edges import Edge, Reader, parse_edges
from neuroalign.probes.knockout import EdgeBlocks, intervene
from neuroalign.stats import LEVEL, percentile_interval
from neuroalign.stats import fdr as adjust

__all__ = ["interventional_encoding"]

METRICS = ("r.pooled", "r2.pooled")
COPIED = ("folds", "inner_folds", "alphas", "fingerprints", "reduce", "nuisance", "ceiling", "gap", "hrf")
PLAIN = ("cv", "inner_cv", "n_splits", "n_inner_splits", "groups", "gap", "alphas", "ceiling", "repeats", "on_missing",
         "device")  # fmt: skip


def interventional_encoding(model: LoadedModel, stimuli: StimulusSet, responses: xr.DataArray, edges, *, windows=None,
                            layers=None, streams=None, pooling: str = "mean", irrelevant: str | None = None,
                            n_controls: int = 5, encoder: str = "refit", metric: str = "r.pooled",
                            n_bootstraps: int = 1000, fdr: str = "bh", store=None, batch_size: int | None = None,
                            random_state: int = 0, progress: bool = False, **options) -> xr.Dataset:
    """Predict responses from a model whose attention is cut along edges, and say which neuroids lose by it.

    The result is the difference from a control: random reads of the same stimuli that match the edge in number, layers
    and attention mass, since any damage to a model costs some prediction.

    Parameters
    ----------
    model : LoadedModel
    stimuli : StimulusSet
    responses : DataArray (sample, neuroid[, time_bin])
    edges : str or sequence of str
        See `neuroalign.probes.knockout`; each is cut by itself.
    windows : sequence of (int, int), optional
        Windows of blocks, from the first to before the second; all blocks at once by default.
    layers, streams, pooling
        Which features predict, as in `neuroalign.extract`; by default the output of the last block of the stack that
        is cut.
    irrelevant : str, optional
        An edge that should not matter; what the others do beyond it comes beside.
    n_controls : int
        Sets of random reads for each edge and window, whose scores are averaged; 0 for none.
    encoder : {"refit", "frozen", "both"}
        ``refit``: the encoder is fitted to the features of the cut model. Is the information gone? ``frozen``: it is
        fitted to the features of the whole model, and predicts the held-out rows from those of the cut one. Is what
        it reads gone, or only moved? Its metrics are named ``.frozen``.
    metric : {"r.pooled", "r2.pooled"}
    n_bootstraps : int
        Resamples of the held-out predictions, the same for all conditions, for paired intervals and p-values.
    fdr : {"bh", "by"}
        Over neuroids (and time bins), within each edge, window, space and metric.
    store, batch_size, progress, random_state
        As in `neuroalign.extract`.
    **options
        Of `neuroalign.encode`: nuisance, cv, alphas, hrf, ... (of a frozen encoder only folds and penalties).

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid[, time_bin]); a space is an edge in a window and a feature space (coords
        ``edge``, ``window``, ``layer``, ``stream``, ``role``). Metrics, here of ``r.pooled``: ``r.pooled.intact``, the
        score of the whole model; ``.change``, cut minus intact; ``.control``, random reads minus intact;
        ``.effect``, cut minus random reads, which is the result; ``.effect.irrelevant``, cut minus the irrelevant edge.
        Intervals are paired percentile intervals; p is two-sided, from the same resamples, and q adjusts it.

    Notes
    -----
    Intervals and p-values rest on held-out predictions of fitted encoders: what another training set would change is
    not in them, nor is the spread of the random reads around their mean; attrs hold how well their mass matches.

    Examples
    --------
    >>> found = interventional_encoding(model, stimuli, responses, "image->text",
    ...                                 windows=[(8, 16)])                  # doctest: +SKIP
    >>> found.score.sel(metric="r.pooled.effect")                           # doctest: +SKIP
    """
    check_option("encoder", encoder, ("refit", "frozen", "both"))
    check_option("metric", metric, METRICS)
    wanted = parse_edges(edges)
    cuts = wanted + [e for e in parse_edges([irrelevant] if irrelevant else []) if e not in wanted]
    if encoder != "refit" and set(options) - set(PLAIN):
        raise ValueError(f"encoder: {encoder!r} takes of the options of encode only {', '.join(PLAIN)}; got "
                         f"{', '.join(sorted(set(options) - set(PLAIN)))}.")
    windows = [None] if windows is None else [tuple(w) for w in windows]
    with collect_warnings() as said:
        found = _Conditions(model, stimuli, layers, streams, pooling, store, batch_size, random_state, progress, cuts)
        rows = [(edge, window) for edge in cuts for window in windows]
        for edge, window in rows:
            found.cut(edge, window)
            if n_controls and edge in wanted:
                found.control(edge, window, n_controls)
        parts = []
        if encoder != "frozen":
            parts.append((metric, *_refit(found.features, responses, metric, n_bootstraps, random_state, options)))
        if encoder != "refit":
            parts.append((f"{metric}.frozen", *_frozen(found, responses, metric, n_bootstraps, random_state, options)))
        return _assemble(parts, found, responses, rows, wanted, irrelevant, windows, fdr, said, {
            "metric": metric, "encoder": encoder, "n_controls": n_controls, "n_bootstraps": n_bootstraps,
            "random_state": random_state, "irrelevant": irrelevant, "untrained": model.weights.startswith("random"),
            "stimuli": stimuli.fingerprint, "weights": model.weights, "fdr": fdr})


class _Conditions:
    """Feature spaces of the whole model, of cut ones and of controls, by condition and space."""

    def __init__(self, model, stimuli, layers, streams, pooling, store, batch_size, random_state, progress, cuts):
        self.model, self.stimuli, self.cuts = model, stimuli, cuts
        self.random_state, self.batch_size = random_state, batch_size
        if layers is None:
            layers = sorted({f"{s.stack}.{s.n_blocks - 1}" for s in self._sites()})
        self.options = {"layers": layers, "streams": streams, "pooling": pooling, "store": store,
                        "batch_size": batch_size, "random_state": random_state, "progress": progress}
        self.features: dict[tuple, xr.DataArray] = {}
        self.mass: dict[str, list[float]] = {}
        self.spaces = self._add("intact", model)

    def cut(self, edge: Edge, window) -> None:
        """Add the features of a model that is cut along an edge."""
        blocks = EdgeBlocks(Reader(self.model, self.stimuli, [edge]), window)
        self._add((edge.name, window), intervene(self.model, blocks, edge.name))

    def control(self, edge: Edge, window, n: int) -> None:
        """Add the features of models that are cut at random reads."""
        drawn = matched_edges(self.model, self.stimuli, edge, layers=window, n=n, batch_size=self.batch_size,
                              random_state=self.random_state)
        self.mass[f"{edge.name} {window_name(window)}"] = [m.mass_ratio for m in drawn]
        for k, matched in enumerate(drawn):
            name = f"random reads {k} for {edge.name} in {window_name(window)}"
            self._add((edge.name, window, k), intervene(self.model, matched.blocks, name))

    def _add(self, condition, model) -> list[str]:
        found = extract(model, self.stimuli, **self.options)
        names = []
        for key in found:
            names.append(key.removeprefix(f"{model.id}:"))
            self.features[condition, names[-1]] = found[key]
        return names

    def _sites(self):
        """Return where the edges are, of a first batch."""
        reader = Reader(self.model, self.stimuli, self.cuts)
        inputs = reader.prepare(reader.rows()[:1])
        blocks = EdgeBlocks(reader)
        return [site for edge in self.cuts for site in blocks.where(inputs, edge)]


def window_name(window) -> str:
    """Spell a window: ``all blocks``, ``block 8`` or ``blocks 8-15``."""
    if window is None:
        return "all blocks"
    first, last = window[0], window[1] - 1
    return f"block {first}" if first == last else f"blocks {first}-{last}"


def _refit(features: Mapping, responses, metric, n_bootstraps, random_state, options):
    """Return score and resampled scores by condition and space, and the Scores that they come from."""
    named = {f"{k}": key for k, key in enumerate(features)}
    found = alignment.encode({k: features[key] for k, key in named.items()}, responses, metric=metric,
                             n_bootstraps=n_bootstraps, random_state=random_state,
                             keep=("bootstrap",) if n_bootstraps else (), **options)
    one = found.sel(metric=metric)
    score = {key: one["score"].sel(space=k).values for k, key in named.items()}
    drawn = {key: one["bootstrap"].sel(space=k).values for k, key in named.items()} if n_bootstraps else None
    return score, drawn, found


def _frozen(found: _Conditions, responses, metric, n_bootstraps, random_state, options):
    """As `_refit`, with encoders fitted to the whole model."""
    keys = {str(k): key for k, key in enumerate(found.features)}
    problem = set_up({k: found.features[key] for k, key in keys.items()}, responses, random_state=random_state,
                     **options)
    fitter, targets = problem.fitter, problem.targets
    tables = {key: np.asarray(problem.spaces[k].transpose(..., "feature").values, float) for k, key in keys.items()}
    resampling = Resampling(problem, n_bootstraps, None, random_state) if n_bootstraps else None
    score, drawn, Y = {}, {} if n_bootstraps else None, targets.values
    fits = {}
    for condition, space in found.features:
        X = tables[condition, space]
        prediction = np.full(Y.shape, np.nan)
        for fold, (train, test) in enumerate(fitter.outer):
            if (space, fold) not in fits:
                fits[space, fold] = ridge_cv(tables["intact", space][train], Y[train], alphas=fitter.alphas,
                                             inner_folds=fitter.inner[fold], device=fitter.device)
            fit = fits[space, fold]
            prediction[test] = X[test] @ fit.coef + fit.intercept
        tested = np.isfinite(prediction).all(1)
        y, p = Y[tested].astype(float), prediction[tested]
        sums = np.stack([x.sum(0) for x in (np.ones_like(y), y, y * y, p, p * p, y * p)])[None]
        score[condition, space] = targets.spread(score_moments(metric, sums))
        if resampling:
            scored = resampling.scores(Y, prediction, fitter.outer, [metric])[:, 0]
            drawn[condition, space] = targets.spread(scored)
    return score, drawn, None


def _assemble(parts, found: _Conditions, responses, rows, wanted, irrelevant, windows, fdr, said, attrs):
    where = [(edge, window, space) for edge, window in rows for space in found.spaces]
    other = parse_edges([irrelevant])[0].name if irrelevant else None
    metrics, values = [], {name: [] for name in ("score", "ci_low", "ci_high", "p")}
    for metric, score, drawn, _ in parts:
        for kind in ("intact", "change", "control", "effect", *(["effect.irrelevant"] if other else [])):
            metrics.append(f"{metric}.{kind}")
            cells = [_contrast(kind, score, edge.name, window, space, other) for edge, window, space in where]
            values["score"].append(cells)
            tails = [_tails(None if drawn is None else _contrast(kind, drawn, edge.name, window, space, other), cell,
                            kind) for (edge, window, space), cell in zip(where, cells)]
            for name, cell in zip(("ci_low", "ci_high", "p"), zip(*tails)):
                values[name].append(cell)
    like = next((p[3] for p in parts if p[3] is not None), None)  # the refitted Scores
    arrays = {name: np.array(v, float) for name, v in values.items()}
    arrays["q"] = adjust(arrays["p"], method=fdr, axis=tuple(range(2, arrays["p"].ndim)))
    dims, coords = _labels(responses)
    variables = {name: (("metric", "space", *dims), v) for name, v in arrays.items()}
    if like is not None:
        variables["n"] = (dims, like["n"].values)
    split = [space.rsplit(":", 1) for _, _, space in where]
    coords |= {
        "metric": metrics,
        "space": [space_id(f"{found.model.id} without {e.name} in {window_name(w)}", *s) for (e, w, _), s
                  in zip(where, split)],
        "edge": ("space", [e.name for e, _, _ in where]), "window": ("space", [window_name(w) for _, w, _ in where]),
        "role": ("space", ["edge" if e in wanted else "irrelevant" for e, _, _ in where]),
        "model": ("space", [found.model.id] * len(where)), "layer": ("space", [s[0] for s in split]),
        "stream": ("space", [s[1] for s in split]),
    }
    n = attrs["n_bootstraps"]
    interval = f"paired {LEVEL:.0%} percentile interval over {n:,} resamples of held-out predictions" if n else None
    more = {} if like is None else {k: v for k, v in scores.attrs_of(like).items() if k in COPIED}
    return scores.make(variables, coords, {
        "analysis": "interventional_encoding", "warnings": said, **more, **attrs, "interval": interval,
        "attention_mass_of_controls": found.mass, "windows": [window_name(w) for w in windows]})


def _contrast(kind: str, values: Mapping, edge: str, window, space: str, other: str | None):
    """Return one kind of difference between conditions."""
    intact, cut = values["intact", space], values[(edge, window), space]
    controls = [v for key, v in values.items() if key[1] == space and len(key[0]) == 3 and key[0][:2] == (edge, window)]
    control = np.mean(controls, 0) if controls else np.full(np.shape(intact), np.nan)
    if kind == "effect.irrelevant":
        return cut - values[(other, window), space] if edge != other else np.full(np.shape(intact), np.nan)
    return {"intact": intact, "change": cut - intact, "control": control - intact, "effect": cut - control}[kind]


def _tails(drawn, cell: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ends of the interval, and a two-sided p-value of a difference from 0."""
    if drawn is None:
        return (np.full(np.shape(cell), np.nan),) * 3
    low, high = percentile_interval(drawn)
    least = np.minimum((drawn <= 0).sum(0), (drawn >= 0).sum(0))
    p = np.minimum(1.0, 2 * (1 + least) / (1 + len(drawn)))
    return low, high, np.where(np.isnan(cell) | (kind == "intact"), np.nan, p)


def _labels(responses: xr.DataArray) -> tuple[tuple, dict]:
    """Return dims and coords of the targets."""
    dims = tuple(d for d in ("neuroid", "time_bin") if d in responses.dims)
    coords = {k: v for k, v in responses.coords.items() if v.dims and set(v.dims) <= set(dims)}
    if "neuroid_id" in coords:
        coords["neuroid"] = ("neuroid", responses["neuroid_id"].values)
    return dims, coords
