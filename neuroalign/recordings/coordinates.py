"""Where neuroids are: MNI millimetres as ``x``, ``y``, ``z``; any other frame under names that say so."""

import numpy as np

from neuroalign.errors import list_ids

__all__ = ["check_millimetres", "is_mni", "position_coords"]

NEAR, FAR = 2.0, 200.0  # mm: a whole implant never fits into 2 mm, and no head reaches 200 mm


def is_mni(frame: str) -> bool:
    """Return whether a name of a frame or template means MNI space (MNI152..., MNI305, mni_tal).

    Examples
    --------
    >>> is_mni("MNI152NLin2009cAsym"), is_mni("mni_tal"), is_mni("head")
    (True, True, False)
    """
    return frame.lower().startswith("mni")


def position_coords(xyz, frame: str) -> dict[str, np.ndarray]:
    """Return the coords of positions in mm: ``x, y, z`` in MNI space, else ``native_x, native_y, native_z``.

    A figure or an atlas that expects MNI space then never takes positions of another frame for it.
    """
    prefix = "" if is_mni(frame) else "native_"
    xyz = np.asarray(xyz, float)
    return {prefix + axis: xyz[:, k] for k, axis in enumerate("xyz")}


def check_millimetres(xyz, what: str) -> None:
    """Raise where positions (NaN: unknown) cannot be millimetres: metres are noticed by their extent."""
    xyz = np.asarray(xyz, float)
    known = xyz[np.isfinite(xyz).all(1)]
    if not len(known):
        return
    extent = np.abs(known).max()
    if extent < NEAR or extent > FAR:
        far = np.flatnonzero(np.abs(np.nan_to_num(xyz)).max(1) > FAR)
        where = f" (rows {list_ids(far)})" if len(far) else ""
        raise ValueError(f"{what}: coordinates reach {extent:.3g}{where}, expected millimetres of MNI space (up to "
                         "about 110). Metres? Multiply by 1000.")
