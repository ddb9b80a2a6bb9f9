"""How much memory tensors take at once: counted as they are made and freed, on any device."""

import weakref
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Peak", "count_tensors"]


class Peak:
    """Bytes of the tensors that live now, and the most that lived at once."""

    def __init__(self):
        self.now = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or size == 0:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _Counting(TorchDispatchMode):
    def __init__(self, peak: Peak, ignored: set[int]):
        super().__init__()
        self.peak, self.ignored = peak, ignored

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in self.ignored:
                self.peak.add(leaf)
        return out


@contextmanager
def count_tensors(module: torch.nn.Module):
    """Count the tensors that are made in a block, without the weights of a module: yields a `Peak`.

    What an operation takes inside itself (the scores of fused attention, workspaces of convolutions) is not seen.

    Examples
    --------
    >>> with torch.inference_mode(), count_tensors(torch.nn.Identity()) as peak:
    ...     x = torch.zeros(1000); y = x + 1; del x; z = y + 1
    >>> peak.peak, peak.now
    (8000, 8000)
    """
    peak, weights = Peak(), {t.untyped_storage()._cdata for t in [*module.parameters(), *module.buffers()]}
    with _Counting(peak, weights):
        yield peak
