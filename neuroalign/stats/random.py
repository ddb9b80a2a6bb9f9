"""Seeds: one integer for the user, an independent generator for every purpose."""

from zlib import crc32

import numpy as np

__all__ = ["child_rng", "child_seed"]


def child_rng(random_state: int, purpose: str) -> np.random.Generator:
    """Return the generator of a purpose: the same for the same pair, independent between purposes.

    Examples
    --------
    >>> int(child_rng(0, "folds").integers(100)) == int(child_rng(0, "folds").integers(100))
    True
    """
    if not isinstance(random_state, (int, np.integer)) or random_state < 0:
        raise ValueError(f"random_state: got {random_state!r}, expected an integer of at least 0.")
    return np.random.default_rng(np.random.SeedSequence((int(random_state), crc32(purpose.encode()))))


def child_seed(random_state: int, purpose: str) -> int:
    """Return an integer seed (for torch) of a purpose."""
    return int(child_rng(random_state, purpose).integers(2**31 - 1))
