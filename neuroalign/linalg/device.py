"""Device, dtype and memory: the only reader of ``NEUROALIGN_DEVICE``."""

import os

import numpy as np
import psutil
import torch

__all__ = ["free_memory", "resolve", "rows_per_chunk", "to_numpy", "to_tensor", "widest"]


def resolve(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device for ``"auto"`` (CUDA, then MPS, then CPU) or a name.

    The environment variable ``NEUROALIGN_DEVICE`` overrides ``"auto"``.

    Raises
    ------
    ValueError
        If the name is not a device, or the device is not there.

    Examples
    --------
    >>> resolve("cpu")
    device(type='cpu')
    """
    name = str(device)
    if name == "auto":
        name = os.environ.get("NEUROALIGN_DEVICE") or "auto"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device: got {name!r}, expected 'auto', 'cpu', 'cuda', 'cuda:0' or 'mps'.") from None
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if found.type not in there or not there[found.type]():
        raise ValueError(f"device: {name!r} is not available on this machine. Use device='cpu' or 'auto'.")
    return found


def to_tensor(array, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Copy an array to a device; a read-only memory map is read, never written, and gradients are left behind."""
    if not isinstance(array, torch.Tensor):
        array = np.asarray(array)
        if not array.dtype.isnative:  # as MATLAB, FITS and NIfTI files may hold it
            array = array.astype(array.dtype.newbyteorder("="))
        if not array.flags.writeable or not array.flags.c_contiguous:
            array = np.array(array)
        array = torch.from_numpy(array)
    if array.is_complex():
        raise ValueError(f"array: got values of type {str(array.dtype).removeprefix('torch.')}, expected real numbers. "
                         "Give real and imaginary parts side by side, or their absolute values.")
    array = array.detach()
    # The narrower of the two types travels.
    first, then = (device, dtype) if array.dtype.itemsize <= dtype.itemsize else (dtype, device)
    return array.to(first).to(then)


def widest(device: torch.device) -> torch.dtype:
    """Return float64 where the device has it (MPS has not), else float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def to_numpy(values) -> np.ndarray:
    """Return an array on the host, as it is (a memory map stays one); a tensor of any device is copied."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    return values if isinstance(values, np.ndarray) else np.asarray(values)


def free_memory(device: torch.device) -> int:
    """Return the bytes that may be used on a device."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # what torch holds, unused
        return torch.cuda.mem_get_info(device)[0] + kept
    return psutil.virtual_memory().available


def rows_per_chunk(bytes_per_row: float, device: torch.device, *, share: float = 0.1,
                   limit: int = 512 * 2**20) -> int:
    """Return how many rows fit the budget: a share of the free memory, at most `limit` bytes, at least 1."""
    budget = min(limit, share * free_memory(device))
    return max(1, int(budget // max(bytes_per_row, 1)))
