"""A small training loop that shows a modality gap arise, close, or not matter: one affine map a modality."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from torch import nn
from torch.nn.functional import normalize

from neuroalign.alignment.feature_basis import host_of
from neuroalign.data.scores import make
from neuroalign.errors import NotAligned, check_option, list_ids
from neuroalign.linalg import resolve, thread_limit, to_numpy, to_tensor
from neuroalign.probes.contrastive_losses import (
    LOSSES,
    TEMPERATURE,
    multimodal_retrieval,
    symile,
    total_correlation_bound,
)
from neuroalign.probes.gap_statistics import GAP_METRICS, Draws, gap_statistics
from neuroalign.stats import child_rng, child_seed, make_folds

__all__ = ["ContrastiveTraining", "train_contrastive"]


@dataclass
class ContrastiveTraining:
    """Trained maps and how they came about.

    Attributes
    ----------
    encoders : sequence of torch.nn.Linear
        One a modality; their outputs are scaled to unit length.
    history : Dataset
        Scores (metric, space), one space an epoch that was recorded (coord ``epoch``), of the held-out stimuli.
    held_out : array of int
        Rows that nothing was trained on; empty if `held_out` was 0, and the history is then of the trained rows.
    """

    encoders: Sequence[nn.Linear]
    history: xr.Dataset
    held_out: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def embed(self, inputs: Sequence) -> list[np.ndarray]:
        """Return unit rows, (n, n_features), of every modality."""
        device = self.encoders[0].weight.device
        with torch.no_grad():
            return [to_numpy(normalize(e(to_tensor(v, device)))) for e, v in zip(self.encoders, inputs)]


def train_contrastive(inputs: Sequence, *, loss: str = "clip", dim: int = 64, epochs: int = 60, batch_size: int = 64,
                      learning_rate: float = 1e-3, temperature: float = TEMPERATURE, held_out: float = 0.25,
                      match_centroids: bool = False, every: int = 10, random_state: int = 0,
                      device="auto") -> ContrastiveTraining:
    """Train one affine map a modality by a contrastive loss at a fixed temperature.

    Parameters
    ----------
    inputs : sequence of arrays of shape (n_stimuli, n_inputs)
        Two modalities, or more with ``loss="symile"``; row i of each belongs to one stimulus. Labelled arrays must
        have the same ``stimulus_id`` in the same order.
    loss : {"clip", "cua", "cuaxu", "symile"}
    dim : int
        Of the shared space.
    epochs, batch_size, learning_rate
        Of AdamW without weight decay.
    temperature : float
    held_out : float
        Share of the stimuli that is not trained on, and that the history is measured on; 0 measures the trained ones.
    match_centroids : bool
        Move the maps, before training, so that the mean outputs of all modalities are those of the first: a gap that
        is there afterwards was made by the training.
    every : int
        Epochs between records.
    random_state : int
    device : str

    Returns
    -------
    ContrastiveTraining
        Metrics of the history of two modalities: ``loss`` and those of `neuroalign.probes.GAP_METRICS`; of more:
        ``loss``, ``retrieval.product``, ``retrieval.sum`` (mean over the modality that is looked for) and
        ``total_correlation`` (lower bound in nats).

    Notes
    -----
    The controls are those of Fahim et al. 2024, arXiv 2405.18570 (identical pairs, centroids matched before training)
    and Saporta et al. 2024, NeurIPS (exclusive or).

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((64, 8)) + 1
    >>> found = train_contrastive([x, x], epochs=4, every=2, held_out=0, device="cpu")
    >>> loss = found.history.score.sel(metric="loss").values
    >>> found.history.epoch.values.tolist(), bool(loss[-1] < loss[0])
    ([0, 2, 4], True)
    """
    check_option("loss", loss, LOSSES)
    arrays = _check_inputs(inputs, loss)
    n, device = len(arrays[0]), host_of(resolve(device))
    for name, value, least in (("dim", dim, 1), ("epochs", epochs, 1), ("batch_size", batch_size, 2),
                               ("every", every, 1)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name}: got {value!r}, expected an integer of at least {least}.")
    if not 0 <= held_out < 1 or not temperature > 0:
        raise ValueError(f"held_out, temperature: got {held_out!r} and {temperature!r}, expected a share below 1 and a "
                         "number above 0.")
    order = child_rng(random_state, "held-out stimuli").permutation(n)
    out, kept = np.sort(order[:int(held_out * n)]), np.sort(order[int(held_out * n):])
    if len(kept) < batch_size or (0 < len(out) < 4):
        raise ValueError(f"inputs: {n} stimuli leave {len(kept)} to train on and {len(out)} held out, expected at "
                         f"least one batch ({batch_size}) and 4 (or held_out=0). Use more stimuli or smaller batches.")
    tensors = [to_tensor(a, device) for a in arrays]
    trained = [t[torch.as_tensor(kept, device=device)] for t in tensors]
    shown = [t[torch.as_tensor(out, device=device)] for t in tensors] if len(out) else trained
    encoders = _make_encoders(trained, dim, match_centroids, child_seed(random_state, "encoders"))
    optimizer = torch.optim.AdamW([p for e in encoders for p in e.parameters()], lr=learning_rate, weight_decay=0)
    generator = torch.Generator().manual_seed(child_seed(random_state, "batches"))
    records, at = [], []
    with thread_limit(2.0 * batch_size * dim * max(batch_size, *(t.shape[1] for t in tensors))):
        for epoch in range(epochs + 1):
            if epoch % every == 0 or epoch == epochs:
                records.append(_record(encoders, shown, loss, temperature, random_state))
                at.append(epoch)
            if epoch < epochs:
                _train_epoch(encoders, trained, optimizer, batch_size, generator,
                             lambda sides: _loss(loss, sides, temperature, generator))
    settings = {"loss": loss, "dim": dim, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
                "temperature": temperature, "match_centroids": match_centroids, "random_state": random_state,
                "n_trained": len(kept), "n_held_out": len(out)}
    return ContrastiveTraining(encoders, _history(records, at, loss, len(shown[0]), settings), out)


def _check_inputs(inputs, loss: str) -> list[np.ndarray]:
    inputs = list(inputs)
    if len(inputs) < 2 or (len(inputs) > 2 and loss != "symile"):
        raise ValueError(f"inputs: got {len(inputs)} modalities for loss={loss!r}, expected "
                         f"{'at least 2' if loss == 'symile' else '2 (more need loss=symile)'}.")
    ids = [np.asarray(v["stimulus_id"]) for v in inputs if isinstance(v, xr.DataArray) and "stimulus_id" in v.coords]
    for other in ids[1:]:
        if not np.array_equal(ids[0], other):
            wrong = ids[0][ids[0] != other] if len(ids[0]) == len(other) else ids[0]
            raise NotAligned(f"inputs: their stimulus_id differ or stand in another order: {list_ids(wrong)}. Match "
                             "them first, for example by .sel(stimulus=ids).")
    arrays = [np.asarray(v, np.float32) for v in inputs]
    if len({len(a) for a in arrays}) > 1 or any(a.ndim != 2 for a in arrays):
        raise NotAligned(f"inputs: got shapes {[a.shape for a in arrays]}, expected (n_stimuli, n_inputs) with the "
                         "same stimuli in each.")
    for k, values in enumerate(arrays):
        if not np.isfinite(values).all():
            rows = np.flatnonzero(~np.isfinite(values).all(1))
            raise ValueError(f"inputs[{k}]: NaN or infinite values in rows {list_ids(rows)}. Leave these stimuli out.")
    return arrays


def _make_encoders(inputs, dim: int, match_centroids: bool, seed: int) -> list[nn.Linear]:
    device = inputs[0].device
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the host
        torch.default_generator.manual_seed(seed)
        encoders = [nn.Linear(v.shape[1], dim).to(device) for v in inputs]
    if match_centroids:
        with torch.no_grad():
            centre = encoders[0](inputs[0]).mean(0)
            for encoder, values in zip(encoders[1:], inputs[1:]):
                encoder.bias += centre - encoder(values).mean(0)
    return encoders


def _train_epoch(encoders, inputs, optimizer, batch_size: int, generator, measure) -> None:
    for rows in torch.randperm(len(inputs[0]), generator=generator).split(batch_size):
        if len(rows) < batch_size:  # fewer candidates would be another loss
            continue
        value = measure([normalize(e(v[rows.to(v.device)])) for e, v in zip(encoders, inputs)])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def _loss(name: str, sides, temperature: float, generator):
    if name == "symile":
        return symile(*sides, temperature=temperature, generator=generator)
    return LOSSES[name](*sides, temperature=temperature)


def _record(encoders, inputs, loss: str, temperature: float, random_state: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(child_seed(random_state, "records"))
    with torch.no_grad():
        sides = [normalize(e(v)) for e, v in zip(encoders, inputs)]
        found = {"loss": float(_loss(loss, sides, temperature, generator))}
    if len(sides) == 2:
        n = len(sides[0])
        draws = Draws(None, None, None, make_folds("kfold", n, n_splits=min(5, n), random_state=random_state),
                      np.zeros((0, n)), tuple(k for k in (1, 5, 10) if k < n))
        return found | {name: float(s.score) for name, s in gap_statistics(*sides, draws).items()}
    for score in ("product", "sum"):
        looked_for = [multimodal_retrieval([s for j, s in enumerate(sides) if j != k], side, score=score)
                      for k, side in enumerate(sides)]
        found[f"retrieval.{score}"] = float(np.mean(looked_for))
    found["total_correlation"] = total_correlation_bound(*sides, temperature=temperature, generator=generator)
    return found


def _history(records, at, loss: str, n: int, settings) -> xr.Dataset:
    metrics = list(records[0])
    score = np.array([[record[m] for record in records] for m in metrics])
    words = {"loss": "the loss, all stimuli in one batch (nats)",
             "retrieval.product": "share found by the product of all modalities",
             "retrieval.sum": "share found by the sum of pairwise similarities",
             "total_correlation": f"lower bound of the total correlation in nats, at most {math.log(n):.3f}"}
    words |= {name: metric.words for name, metric in GAP_METRICS.items()}
    coords = {"metric": metrics, "space": [f"{loss}:epoch {e}:all" for e in at], "epoch": ("space", np.array(at)),
              "model": ("space", [loss] * len(at)), "depth": ("space", np.array(at) / max(at))}
    attrs = {"kind": "contrastive_training", "aggregation": {m: words[m.split("@")[0]] for m in metrics}, **settings}
    dims = ("metric", "space")
    return make({"score": (dims, score), "n": (dims, np.full(score.shape, float(n)))}, coords, attrs)
