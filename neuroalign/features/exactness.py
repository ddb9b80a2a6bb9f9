"""`verify`: proof, for one model on one device, that its features do not depend on how they were computed."""

import copy
import inspect
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neuroalign.data import StimulusSet
from neuroalign.features.files import write_text
from neuroalign.features.hooks import Capture
from neuroalign.features.pooling import pool
from neuroalign.features.store import FeatureStore, entry_key, slug
from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.loading import quiet_transformers

__all__ = ["verify"]

TEXTS = (  # short enough for any context
    "Rain.", "It's late, isn't it?", "The quick brown fox jumps over it.", "two words", "no",
    "A man plays the old guitar.",
)
SAME = 1e-3  # states this near are one, whatever the tolerance
OWN_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "opt")  # count positions from the mask by themselves


def verify(model: str | LoadedModel, stimuli: StimulusSet | None = None, *, tolerance: float = 1e-4, store=None,
           device="auto", dtype: str = "float32", random_state: int = 0, zoo=None) -> pd.DataFrame:
    """Compare the features of a model with themselves under changes that must not matter.

    The checks: each stimulus alone against in a batch; another order; padding on the left (texts); hooks against the
    hidden states that the model itself gives; eager against scaled-dot-product attention; a second run; and, for
    information, the drift in bfloat16. What does not apply to a model is listed as skipped, with the reason.

    Parameters
    ----------
    model : str or LoadedModel
    stimuli : StimulusSet, optional
        Default: six texts of mixed length, six pictures, sounds or videos.
    tolerance : float
        Largest difference that passes, as a part of the largest value of the layer.
    store : path or FeatureStore, optional
        The verdict is kept there, beside the features of the model.
    device, dtype, random_state, zoo
        As in `extract`.

    Returns
    -------
    DataFrame
        One row a check: check, verdict (``"pass"``, ``"fail"``, ``"info"``, ``"skipped"``), difference (largest, as a
        part of the largest value of the layer), layer (where it is), note. ``attrs["passed"]`` says whether none
        failed.

    Examples
    --------
    ``na.verify("minilm")``
    """
    if isinstance(model, str):
        from neuroalign.models import load_model

        model = load_model(model, device=device, dtype=dtype, random_state=random_state, zoo=zoo)
    with tempfile.TemporaryDirectory() as folder:
        stimuli = _default_stimuli(model, Path(folder)) if stimuli is None else stimuli
        given = stimuli.table.drop(columns=[m for m in stimuli.modalities if m not in model.reads])
        rows = [{"stimulus_id": i, **row} for i, row in zip(stimuli.ids, given.to_dict("records"))]
        model.adapter.check(model, rows)
        results = [_run(name, check, model, rows, tolerance, random_state) for name, check in CHECKS.items()]
    table = pd.DataFrame(results, columns=["check", "verdict", "difference", "layer", "note"])
    table.attrs = {"model": model.id, "weights": model.weights, "device": _device_name(model),
                   "dtype": str(model.dtype).removeprefix("torch."), "attention": model.attention,
                   "torch": torch.__version__, "tolerance": tolerance, "n_stimuli": len(rows),
                   "passed": bool((table.verdict != "fail").all())}
    _keep(table, store if isinstance(store, FeatureStore) else FeatureStore(store))
    return table


class _Skip(Exception):
    """A check does not apply."""


def _run(name: str, check: Callable, model: LoadedModel, rows, tolerance: float, seed: int) -> tuple:
    try:
        difference, layer, note = check(model, rows, seed)
    except _Skip as reason:
        return name, "skipped", np.nan, "", str(reason)
    if name == "bfloat16 drift":
        return name, "info", difference, layer, note
    return name, "pass" if difference <= tolerance else "fail", difference, layer, note


def _check_batch(model, rows, seed):
    return _largest(_features(model, rows, seed, size=1), _features(model, rows, seed, size=len(rows)))


def _check_order(model, rows, seed):
    order = np.random.default_rng(0).permutation(len(rows))
    mixed = _features(model, [rows[i] for i in order], seed, size=3)
    return _largest({k: v[np.argsort(order)] for k, v in mixed.items()}, _features(model, rows, seed, size=3))


def _check_again(model, rows, seed):
    return _largest(_features(model, rows, seed), _features(model, rows, seed))


def _check_left_padding(model, rows, seed):
    if {layer.tower for layer in model.adapter.layers(model)} != {"text"} or not hasattr(model.module, "config"):
        raise _Skip("no text tower alone")
    if getattr(model.processors["text"], "pad_to", None):
        raise _Skip("the model was made for a fixed length")
    # layers without a mask read a fixed place
    tokens = {f"{x.name}:{s}" for x in model.adapter.layers(model) if x.masked for s in x.default_streams}
    left, right = _features(model, rows, seed, change=_pad_left), _features(model, rows, seed)
    return _largest(left, {k: v for k, v in right.items() if k in tokens}, f"{len(tokens)} layers of tokens")


def _pad_left(model: LoadedModel, inputs: Inputs) -> Inputs:
    mask = inputs.tensors["attention_mask"].bool()
    width, length = mask.shape[1], mask.sum(1, keepdim=True)
    at = (torch.arange(width, device=mask.device)[None] + length) % width  # the last `length` places hold the text
    tensors = {k: v.gather(1, at) for k, v in inputs.tensors.items()}
    streams = {t: {s: m.gather(1, at) for s, m in masks.items()} for t, masks in inputs.streams.items()}
    takes = inspect.signature(model.module.forward).parameters
    if "position_ids" in takes and model.module.config.model_type not in OWN_POSITIONS:
        tensors["position_ids"] = (tensors["attention_mask"].cumsum(1) - 1).clamp(min=0)
    return replace(inputs, tensors=tensors, streams=streams)


def _check_hidden_states(model, rows, seed):
    """Every hooked block but the last of a tower must be one of the hidden states; the last may be normed there."""
    if "output_hidden_states" not in _forward_arguments(model.module):
        raise _Skip("the model gives no hidden states of its own")
    inputs = model.adapter.prepare(model, rows)
    blocks = [layer for layer in _layers(model, inputs) if layer.masked]
    if not blocks:
        raise _Skip("no stack of blocks")
    with Capture(model, blocks, lambda layer, tokens, _: {layer.name: tokens}) as capture:
        given = replace(inputs, tensors={**inputs.tensors, "output_hidden_states": True})
        hooked, raw = capture.run(given, seed)
    every, worst, where, notes = list(_own_states(raw)), 0.0, "", []
    if not every:
        raise _Skip("the model gives no hidden states of its own")
    towers = list(dict.fromkeys(layer.tower for layer in blocks))
    for tower in towers:
        *layers, last = [layer for layer in blocks if layer.tower == tower]
        mask = inputs.mask(last, "all")
        width = hooked[last.name].shape[2]
        own = [model.adapter.tokens(model, last, state) for state in every if state.shape[:2] == mask.shape]
        own = [state[mask].float() for state in own if state.shape[2] == width]
        nearest = {layer.name: _nearest(hooked[layer.name][mask].float(), own) for layer in layers}
        for name in [x.name for x in layers if x.tap == "input" and nearest[x.name] > SAME]:
            del nearest[name]  # some models give no state before their first block
        if not own or not nearest or (len(towers) > 1 and min(nearest.values()) > SAME):
            continue  # the states are those of another tower
        farthest = max(nearest, key=nearest.get)
        if nearest[farthest] >= worst:
            worst, where = nearest[farthest], farthest
        same = _nearest(hooked[last.name][mask].float(), own) < SAME
        relation = "is" if same else "precedes the norm of"
        notes.append(f"{tower}: {len(layers)} layers; the last one {relation} the last state")
    if not notes:
        raise _Skip("its hidden states have another layout")
    return worst, where, "; ".join(notes)


def _own_states(raw):
    """Yield the hidden states in what a model returned, also those of its parts."""
    for name, value in raw.items() if isinstance(raw, Mapping) else ():
        if name.endswith("hidden_states") and isinstance(value, (tuple, list)):
            yield from (state for state in value if isinstance(state, torch.Tensor) and state.ndim == 3)
        elif isinstance(value, Mapping):
            yield from _own_states(value)


def _nearest(mine: torch.Tensor, states: Sequence[torch.Tensor]) -> float:
    """Return the least difference to a state, as a part of its largest value."""
    return min((float((mine - state).abs().max() / state.abs().max()) for state in states), default=np.inf)


def _check_attention(model, rows, seed):
    module, own = model.module, model.attention
    if not hasattr(module, "set_attn_implementation") or own not in ("sdpa", "eager"):
        raise _Skip(f"attention is {own or 'absent'}")
    other = "eager" if own == "sdpa" else "sdpa"
    expected = _features(model, rows, seed)
    try:
        with quiet_transformers():  # it warns of each part that has only one
            module.set_attn_implementation(other)
        if module.config._attn_implementation != other:
            raise _Skip(f"only {own} exists")
        changed = _features(model, rows, seed)
    except ValueError:  # a paragraph of transformers
        raise _Skip(f"transformers has no {other} attention of it") from None
    finally:
        with quiet_transformers():
            module.set_attn_implementation(own)
    return _largest(changed, expected, f"{other} against {own}")


def _check_bfloat16(model, rows, seed):
    if model.dtype != torch.float32:
        raise _Skip(f"the model computes in {str(model.dtype).removeprefix('torch.')}")
    half = replace(model, module=copy.deepcopy(model.module).to(torch.bfloat16), dtype=torch.bfloat16)
    return _largest(_features(half, rows, seed), _features(model, rows, seed), "for information")


CHECKS = {
    "alone or in a batch": _check_batch, "order": _check_order, "left or right padding": _check_left_padding,
    "hooks or hidden states": _check_hidden_states, "eager or sdpa": _check_attention, "run again": _check_again,
    "bfloat16 drift": _check_bfloat16,
}


def _features(model: LoadedModel, rows: Sequence[dict], seed: int, *, size: int | None = None,
              change: Callable | None = None) -> dict[str, np.ndarray]:
    """Return mean-pooled features of the default streams of every layer, by batches of `size` in the given order."""
    def reduce(layer, tokens, inputs):
        return {f"{layer.name}:{s}": pool(tokens, inputs.mask(layer, s), "mean") for s in layer.default_streams}

    size = size or len(rows)
    batches = [model.adapter.prepare(model, rows[i:i + size]) for i in range(0, len(rows), size)]
    parts = []
    with Capture(model, _layers(model, batches[0]), reduce) as capture:
        for inputs in batches:
            values, _ = capture.run(inputs if change is None else change(model, inputs), seed)
            parts.append({k: v.cpu().numpy() for k, v in values.items()})
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def _layers(model: LoadedModel, inputs: Inputs) -> list[Layer]:
    return [layer for layer in model.adapter.layers(model) if layer.tower in inputs.streams]


def _largest(got: dict, expected: dict, note: str = "") -> tuple[float, str, str]:
    """Return the largest difference, as a part of the largest value of its layer, and the layer with its stream."""
    differences = {}
    for name, values in expected.items():
        empty = np.isnan(values)  # a stream of a modality that the stimulus lacks
        if empty.all():
            continue
        scale = max(float(np.abs(values[~empty]).max()), 1e-30)
        difference = float(np.abs(got[name] - values)[~empty].max()) / scale
        differences[name] = difference if np.isfinite(difference) else np.inf
    if not differences:
        return np.inf, "all layers", "every feature is NaN"
    worst = max(differences, key=differences.get)
    return differences[worst], worst, note


def _forward_arguments(module) -> set[str]:
    parameters = inspect.signature(module.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) and hasattr(module, "config"):
        return {"output_hidden_states", *parameters}
    return set(parameters)


def _default_stimuli(model: LoadedModel, folder: Path) -> StimulusSet:
    from PIL import Image

    columns = {}
    if "text" in model.reads:
        columns["text"] = list(TEXTS)
    if "image" in model.reads:
        rng = np.random.default_rng(0)
        columns["image"] = [str(folder / f"picture{i}.png") for i in range(len(TEXTS))]
        for i, path in enumerate(columns["image"]):
            coarse = Image.fromarray(rng.integers(0, 255, (7, 9, 3), dtype=np.uint8))
            coarse.resize((240 + 30 * i, 256), Image.Resampling.BICUBIC).save(path)
    if "audio" in model.reads:
        columns["audio"] = _default_sounds(folder)
    if "video" in model.reads:
        columns["video"] = _default_videos(folder, getattr(model.processors.get("video"), "count", 16))
    return StimulusSet(pd.DataFrame(columns, index=[f"check{i}" for i in range(len(TEXTS))]), "verify")


def _default_sounds(folder: Path) -> list[str]:
    """Write tones with noise, of 0.5 to 0.9 s."""
    from scipy.io import wavfile

    rng, paths = np.random.default_rng(0), []
    for i in range(len(TEXTS)):
        t = np.arange(8000 + 1280 * i) / 16000
        wave = 0.3 * np.sin(2 * np.pi * (200 + 150 * i) * t) + 0.05 * rng.standard_normal(len(t))
        paths.append(str(folder / f"sound{i}.wav"))
        wavfile.write(paths[-1], 16000, wave.astype(np.float32))
    return paths


def _default_videos(folder: Path, count: int) -> list[str]:
    """Write arrays of at least `count` frames, of several sizes."""
    rng, paths = np.random.default_rng(0), []
    for i in range(len(TEXTS)):
        coarse = rng.integers(0, 255, (count + 3 * i, 6 + i, 8, 3), dtype=np.uint8)
        paths.append(str(folder / f"video{i}.npy"))
        np.save(paths[-1], coarse.repeat(16, axis=1).repeat(16, axis=2))
    return paths


def _device_name(model: LoadedModel) -> str:
    return torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device)


def _keep(table: pd.DataFrame, store: FeatureStore) -> None:
    """Write the verdict beside the features of the model."""
    about = dict(table.attrs)
    key = entry_key({k: about[k] for k in ("weights", "device", "dtype", "attention", "torch")})
    path = store.path / slug(about["model"]) / f"verify-{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**about, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                                 "checks": json.loads(table.to_json(orient="records"))}, indent=1))
