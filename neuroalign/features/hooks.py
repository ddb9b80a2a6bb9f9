"""Capture: hooks on the layers of a model that reduce activations where they arise."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from neuroalign.models.adapter import Inputs, Layer, LoadedModel, attach
from neuroalign.stats import child_seed

__all__ = ["Capture", "pinned"]


class Capture:
    """Hooks on layers: each forward fills `values`, name to what `reduce` made of the activations.

    Parameters
    ----------
    model : LoadedModel
    layers : sequence of Layer
    reduce : callable
        ``reduce(layer, tokens, inputs) -> {space name: tensor}``, with tokens (batch, token, feature) on the device.
    logits : bool
        Whether the predictions of a language model are wanted; otherwise those of one token alone are computed, where
        the model allows it: the vocabulary costs more than several blocks.

    Examples
    --------
    ``with Capture(model, layers, reduce) as capture: values, raw = capture.run(inputs, seed)``
    """

    def __init__(self, model: LoadedModel, layers: Sequence[Layer], reduce: Callable, *, logits: bool = False):
        self.model, self.layers, self.reduce = model, tuple(layers), reduce
        takes = inspect.signature(model.module.forward).parameters
        self._more = {} if logits or "logits_to_keep" not in takes else {"logits_to_keep": 1}
        self._values: dict[str, torch.Tensor] = {}
        self._seen: dict[Layer, int] = {}
        self._inputs: Inputs | None = None

    def __enter__(self):
        self._stack = ExitStack()
        for layer in self.layers:
            handle = attach(self.model, layer, lambda tokens, layer=layer: self._receive(layer, tokens))
            self._stack.callback(handle.remove)
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def run(self, inputs: Inputs, seed: int):
        """Run one forward and return what was captured, and what the forward returned.

        Raises
        ------
        RuntimeError
            If a hooked module did not run, or ran more than once, in this forward.
        """
        self._inputs, self._values, self._seen = inputs, {}, dict.fromkeys(self.layers, 0)
        try:
            given = replace(inputs, tensors={**inputs.tensors, **self._more})
            with pinned(self.model.device, seed):
                raw = self.model.adapter.forward(self.model, given)
            wrong = {layer.name: n for layer, n in self._seen.items() if n != 1}
            if wrong:
                name, times = next(iter(wrong.items()))
                raise RuntimeError(
                    f"model {self.model.id!r}: layer {name!r} ran {times} times in one forward, expected once. "
                    "Leave it out of layers=, or hook a module that runs once."
                )
            return self._values, raw
        finally:
            self._inputs, self._values = None, {}

    def _receive(self, layer: Layer, tokens: torch.Tensor) -> None:
        self._seen[layer] += 1
        reduced: Mapping[str, torch.Tensor] = self.reduce(layer, tokens, self._inputs)
        self._values.update(reduced)


@contextmanager
def pinned(device: torch.device, random_state: int):
    """Run without gradients and with torch's random numbers pinned, leaving the caller's generators alone."""
    seed = child_seed(random_state, "forward")
    devices = [device] if device.type == "cuda" else []
    tf32 = torch.backends.cudnn.allow_tf32
    with torch.inference_mode(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.backends.cudnn.allow_tf32 = False  # convolutions would use 10-bit mantissas on CUDA
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = tf32
