"""Any torch module as a model: a preprocessing callable and the names of its layers."""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from neuroalign import linalg
from neuroalign.data import MODALITIES
from neuroalign.data.stimuli import clip_window
from neuroalign.errors import check_option, suggest
from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel
from neuroalign.models.blocks import has_module, to_tokens
from neuroalign.models.images import open_image
from neuroalign.models.multimodal import HAS

__all__ = ["wrap"]


def wrap(
    module: nn.Module,
    preprocess: Callable[[Any], torch.Tensor],
    layers: str | Sequence[str],
    *,
    name: str,
    modality: str = "image",
    opened: bool = True,
    tokens: Callable[[str, Any], torch.Tensor] | None = None,
    weights: str | None = None,
    device="auto",
) -> LoadedModel:
    """Make a model of any torch module.

    Parameters
    ----------
    module : nn.Module
        Called with one tensor, the stacked results of `preprocess`.
    preprocess : callable
        One RGB image (PIL), one text, or the path of a sound or a video, -> tensor (without batch dimension); all of
        one shape. For clips it is also given ``start=`` and ``stop=``, seconds in the file (`stop` may be None: to its
        end); `neuroalign.data.sounds.read_sound` and `neuroalign.data.videos.frames_at` read such windows.
    layers : str or sequence of str
        Module paths to take the output of, or patterns such as ``"blocks.*"`` (a ``*`` stands within one part of a
        path), in order of computation. Outputs may be (batch, feature), (batch, token, feature), (batch, channel,
        height, width) or (batch, channel, time, height, width).
    name : str
        Id of the model.
    modality : {"image", "text", "audio", "video"}
        The column of the stimuli that the module reads.
    opened : bool
        Whether `preprocess` is given an opened image; False gives it the path, be it of a point cloud.
    tokens : callable, optional
        (layer path, what the module returned) -> (batch, token, feature), for modules that return it otherwise, for
        example sequence first: ``tokens=lambda path, raw: raw.transpose(0, 1)``.
    weights : str, optional
        What identifies the weights; by default a hash of all of them, which is exact but takes a moment.
    device : str

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    >>> model = wrap(net, lambda image: torch.zeros(3, 2, 2), ["1"], name="tiny", device="cpu")
    >>> [layer.name for layer in model.adapter.layers(model)]
    ['1']
    """
    check_option("modality", modality, MODALITIES)
    patterns = [layers] if isinstance(layers, str) else layers
    paths = [path for pattern in patterns for path in _match(module, pattern)]
    target = linalg.resolve(device)
    module = module.eval().to(target)
    parameters = [p for p in module.parameters() if p.is_floating_point()]
    return LoadedModel(
        id=name,
        module=module,
        adapter=Wrapped(modality, tuple(paths), opened, tokens),
        processors={modality: preprocess},
        device=target,
        dtype=parameters[0].dtype if parameters else torch.float32,
        weights=weights or f"state:{_hash_state(module)}",
        preprocessing="+".join(map(_describe, filter(None, (preprocess, tokens)))),
    )


class Wrapped:
    """The adapter of `wrap`: one tower, no special tokens, every token real."""

    family = "wrapped"
    version = 1

    def __init__(self, modality: str, paths: tuple[str, ...], opened: bool = True, read: Callable | None = None):
        self.modalities, self.paths, self.read = (modality,), paths, read
        self.opened = opened and modality == "image"
        self.rows = 0  # of the batch in the module

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the named layers, equally spaced in depth."""
        modality = self.modalities[0]
        last = max(len(self.paths) - 1, 1)
        return [
            Layer(path, i / last if len(self.paths) > 1 else 1.0, modality, (modality, "all"), masked=False)
            for i, path in enumerate(self.paths)
        ]

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the one tower."""
        return self.modalities

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for stimuli without the modality."""
        absent = [s["stimulus_id"] for s in stimuli if not HAS[self.modalities[0]](s)]
        if absent:
            raise BadStimuli(f"no {self.modalities[0]}, and this model needs one.", absent, "Leave them out.")
        clips = [s["stimulus_id"] for s in stimuli if self._window(s)]
        if clips and not {"start", "stop"} <= set(inspect.signature(model.processors[self.modalities[0]]).parameters):
            raise BadStimuli("a window of its file, and the preprocess of this model takes whole files.", clips,
                             "Give a preprocess(path, start=0.0, stop=None), or leave out the columns start and stop.")

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return 1: all inputs have one shape."""
        return 1

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Preprocess and stack."""
        self.check(model, stimuli)
        modality = self.modalities[0]
        tensors = []
        for stimulus in stimuli:
            try:
                value = open_image(stimulus["image"]) if self.opened else stimulus[modality]
                tensors.append(model.processors[modality](value, **self._window(stimulus)))
            except ValueError as error:
                raise BadStimuli(str(error), [stimulus["stimulus_id"]]) from error
        shapes = {tuple(t.shape) for t in tensors}
        if len(shapes) > 1:
            raise ValueError(f"wrap: preprocess gave tensors of shapes {sorted(shapes)}, expected one shape.")
        batch = torch.stack(tensors).to(model.device)
        return Inputs({"x": batch.to(model.dtype) if batch.is_floating_point() else batch}, {modality: {}})

    def _window(self, stimulus: Mapping) -> dict:
        """Return what `preprocess` is given of a clip beside its path."""
        start, stop = clip_window(stimulus) if self.modalities[0] in ("audio", "video") else (0.0, None)
        return {} if (start, stop) == (0.0, None) else {"start": start, "stop": stop}

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the module on the stacked tensors."""
        self.rows = len(inputs.tensors["x"])
        return model.module(inputs.tensors["x"])

    def tokens(self, model: LoadedModel, layer: Layer, raw: Any) -> torch.Tensor:
        """Return (batch, token, feature)."""
        found = to_tokens(raw if self.read is None else self.read(layer.path, raw))
        if len(found) != self.rows:
            raise ValueError(
                f"wrap: layer {layer.path!r} gave {len(found)} rows for {self.rows} stimuli, so its batch does not "
                "come first. Give 'tokens', a function (path, output) -> (batch, token, feature)."
            )
        return found


def _match(module: nn.Module, pattern: str) -> list[str]:
    paths = [path for path, _ in module.named_modules() if path]
    found = [pattern] if has_module(module, pattern) else [p for p in paths if _fits(p, pattern)]
    if not found:
        raise ValueError(f"layers: {type(module).__name__} has no module {pattern!r}.{suggest(pattern, paths)}")
    return found


def _fits(path: str, pattern: str) -> bool:
    parts, wanted = path.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _describe(preprocess) -> str:
    named = preprocess if hasattr(preprocess, "__qualname__") else type(preprocess)
    return f"{named.__module__}.{named.__qualname__}"


def _hash_state(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
