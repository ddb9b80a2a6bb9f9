"""Torch underneath everything: device and dtype, memory budget, Gram matrices, the robust eigendecomposition."""

from neuroalign.linalg.device import free_memory, resolve, rows_per_chunk, to_numpy, to_tensor, widest
from neuroalign.linalg.gram import (
    Eigenbasis,
    FoldKernel,
    centred_moment,
    eigenbasis,
    fold_scale,
    kernel_eigenbasis,
    needs_float64,
    second_moment,
    standardisation,
    surely_needs_float64,
)
from neuroalign.linalg.solve import eigh_psd
from neuroalign.linalg.threads import free_cores, thread_limit

__all__ = [
    "Eigenbasis",
    "FoldKernel",
    "centred_moment",
    "eigenbasis",
    "eigh_psd",
    "fold_scale",
    "free_cores",
    "free_memory",
    "kernel_eigenbasis",
    "needs_float64",
    "resolve",
    "rows_per_chunk",
    "second_moment",
    "standardisation",
    "surely_needs_float64",
    "thread_limit",
    "to_numpy",
    "to_tensor",
    "widest",
]
