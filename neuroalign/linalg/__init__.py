"""Torch underneath everything: device and dtype, memory budget, the robust eigendecomposition."""

from neuroalign.linalg.device import free_memory, resolve, rows_per_chunk, to_numpy, to_tensor
from neuroalign.linalg.solve import eigh_psd

__all__ = ["eigh_psd", "free_memory", "resolve", "rows_per_chunk", "to_numpy", "to_tensor"]
