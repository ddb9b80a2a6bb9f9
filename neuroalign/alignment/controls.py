"""Control analyses: features whose alignment with the stimuli is destroyed, and nothing else."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import xarray as xr

from neuroalign.alignment.splits import block_samples, make_layout, permutation_orders
from neuroalign.data import as_spaces, sample_dim
from neuroalign.errors import list_ids, suggest

__all__ = ["shuffle_in_time"]


def shuffle_in_time(features, spaces: str | Sequence[str], *, block: float | None = None,
                    random_state: int = 0) -> dict[str, xr.DataArray]:
    """Put the rows of some feature spaces in another order, as a control of what their alignment in time adds.

    Of a joint model of vision and language, one modality is shuffled and the other left in place: what is lost is
    what the alignment of the two contributes, while widths, autocorrelation and the fit stay as they were. (A
    multimodal model that sees both needs other pairs of stimuli instead: extract again with one column shuffled.)

    Parameters
    ----------
    features : mapping or list of DataArrays (sample, feature)
    spaces : str or sequence of str
        Ids of the spaces that are shuffled, or patterns (``"bert:*"``); all in one order.
    block : float, optional
        Seconds of a block of rows on ``time`` or with ``onset``, which keep their order within; by default five
        autocorrelation times of the features, at least 50 samples, and at most a tenth of the rows. Rows without a
        clock are permuted one by one.
    random_state : int

    Returns
    -------
    dict of str to DataArray
        All spaces; shuffled ones as ``MODEL@shuffled:LAYER:STREAM``, with the clock and the ids they had.

    Raises
    ------
    ValueError
        A pattern fits no space, or the spaces to be shuffled stand on different rows.

    Notes
    -----
    A temporal shuffle of one modality is the control that readers of Subramaniam et al. (2024, arXiv 2406.14481)
    asked for.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> x = [make_features(np.arange(4.0)[:, None], list("abcd"), model=m) for m in ("vision", "text")]
    >>> moved = shuffle_in_time(x, "text:*")
    >>> list(moved), sorted(moved["text@shuffled::all"].values.ravel().tolist())
    (['vision::all', 'text@shuffled::all'], [0.0, 1.0, 2.0, 3.0])
    """
    known = as_spaces(features)
    chosen = _match(known, [spaces] if isinstance(spaces, str) else list(spaces))
    first = known[chosen[0]]
    for name in chosen[1:]:
        if not _same_rows(first, known[name]):
            raise ValueError(f"spaces: {chosen[0]!r} and {name!r} stand on different rows, so one order does not fit "
                             "both. Shuffle them one after the other.")
    layout = make_layout(first, None, None, None)
    null = "permute" if layout.ids is not None else "block"
    if block is not None and not layout.time_series:
        raise ValueError(f"block: got {block!r} s, but the rows of {chosen[0]!r} have no clock (a coord 'onset' in "
                         "seconds). Leave block=None.")
    _, (order,) = permutation_orders(layout, null, 1, min_shift=0.1, block=block, events=None,
                                     random_state=random_state)
    if layout.time_series:
        how = f"blocks of {block_samples(layout, block, layout.n_samples)} samples"
    else:
        how = "rows" if layout.groups is None else "groups"
    return dict(_moved(name, space, order, f"shuffled {how}, random_state {random_state}") if name in chosen
                else (name, space) for name, space in known.items())


def _match(known, patterns) -> list[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(f"spaces: no space {pattern!r}; there are {list_ids(list(known))}."
                             f"{suggest(pattern, known)}")
    return [name for name in known if any(fnmatchcase(name, p) for p in patterns)]


def _same_rows(a, b) -> bool:
    dim = sample_dim(a)
    label = "time" if dim == "time" else "stimulus_id"
    return sample_dim(b) == dim and np.array_equal(a[label].values, b[label].values)


def _moved(name, space, order, control) -> tuple[str, xr.DataArray]:
    moved = space.copy(data=space.isel({sample_dim(space): order}).values)
    model, colon, rest = name.partition(":")
    renamed = f"{model}@shuffled{colon}{rest}"
    labels = {"space_id": renamed, "model": f"{model}@shuffled"}
    moved = moved.assign_coords({k: v for k, v in labels.items() if k in space.coords})
    # The fingerprint that extraction wrote is that of the rows in their order.
    moved.attrs = {k: v for k, v in space.attrs.items() if k != "fingerprint"} | {"control": control}
    return renamed, moved
