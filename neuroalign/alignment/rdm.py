"""Representational dissimilarity matrices: condensed, in blocks within a memory budget.

All distances are written as those of prepared rows (centred, of unit length for correlation and cosine), so that
a large mean cannot drown them; pairs too close for the product to resolve are subtracted directly in float64.
"""

from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr

from neuroalign.data import as_spaces, make_rdms, sample_dim
from neuroalign.errors import NotAligned, check_option, list_ids, warn_user
from neuroalign.linalg import resolve, rows_per_chunk, to_numpy, to_tensor

__all__ = ["DISTANCES", "condensed_distances", "pair_distances", "rdms", "square"]

DISTANCES = ("correlation", "cosine", "euclidean", "sqeuclidean")
_CLOSE = 2.0**-10  # squared distance over the sum of squares below which a float32 product is too coarse
_EQUAL = 2.0**-90  # the same, below which float64 rows are equal
_CHEAP = 2**31  # multiplications up to which products are taken in float64


def rdms(features, metric: str = "correlation", *, device="auto", dtype: str = "float32") -> xr.DataArray:
    """Dissimilarities of all pairs of stimuli, in every feature space.

    Parameters
    ----------
    features : DataArray (stimulus, feature), or mapping or list of them
        Memory maps stay on disk and are read in blocks. All spaces must have the same stimuli; their order
        is that of the first.
    metric : {"correlation", "cosine", "euclidean", "sqeuclidean"}
        Correlation is 1 - Pearson over features.
    device : str
    dtype : {"float32", "float64"}
        Type of the products of many stimuli; of few (except on MPS) they are float64, so that rounding does not
        break the ties of categories and counts. The result is float32 in the labelled array either way.

    Returns
    -------
    DataArray (target, pair)
        One target a space, with coords ``model``, ``layer``, ``stream``, ``depth``, ``n_features``; attrs
        ``distance``.

    Raises
    ------
    NotAligned
        If the spaces have different stimuli.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> f = make_features([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], ["a", "b", "c"], model="toy")
    >>> rdms(f, "euclidean").values.astype(float).round(3).tolist()
    [[5.0, 1.0, 4.243]]
    """
    spaces = as_spaces(features)
    if not spaces:
        raise ValueError("features: no space given.")
    ids = stimulus_ids(*next(iter(spaces.items())))
    values, names = [], list(spaces)
    for name, space in spaces.items():
        rows = _matching_rows(name, space, ids)
        block = space.transpose(sample_dim(space), "feature").data
        block = block if np.array_equal(rows, np.arange(len(rows))) else block[rows]
        values.append(condensed_distances(block, metric, ids=ids, name=name, device=device, dtype=dtype))
    return make_rdms(np.stack(values), stimulus_ids=ids, targets=names, target_coords=space_coords(spaces),
                     attrs={"distance": metric})


def condensed_distances(values, metric: str = "correlation", *, ids=None, name: str = "features", device="auto",
                        dtype: str = "float32") -> np.ndarray:
    """Dissimilarities of all pairs of rows: the condensed upper triangle in row order.

    Parameters
    ----------
    values : array of shape (n_rows, n_features)
        A memory map is read in blocks of features. A row with NaN gives NaN for its own pairs alone.
    metric : {"correlation", "cosine", "euclidean", "sqeuclidean"}
    ids : sequence of str, optional
        Names of the rows, for warnings.
    name : str
        Name of the array, for messages.
    dtype : {"float32", "float64"}

    Returns
    -------
    array of `dtype`, shape (n_rows * (n_rows - 1) / 2,)
        NaN for the pairs of constant rows (correlation) and zero rows (cosine), with a warning.

    Examples
    --------
    >>> condensed_distances(np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [0.0, 2.0, 4.0]])).round(6).tolist()
    [2.0, 0.0, 2.0]
    """
    rows = _PreparedRows(values, metric, ids, name, device, dtype)
    n = rows.n
    out = np.empty(n * (n - 1) // 2, rows.out_dtype)
    # Several blocks even where one would fit: what lies below the diagonal of a block is computed for nothing.
    step = min(rows_per_chunk(3 * n * rows.itemsize, rows.device), max(256, -(-n // 8)))
    written = 0
    for start in range(0, n - 1, step):
        stop = min(start + step, n)
        block = rows.block(start, stop)
        for i in range(start, stop):
            size = n - 1 - i
            out[written:written + size] = block[i - start, i - start + 1:]
            written += size
    first, second = _close_pairs(out, rows)
    rows.refine(out, first, second)
    rows.finish(out)
    out[_pairs_of(rows.bad, n)] = np.nan
    return out


def pair_distances(values, first, second, metric: str = "correlation", *, ids=None, name: str = "features",
                   device="auto") -> np.ndarray:
    """Dissimilarities of some pairs of rows, where only some were judged.

    Parameters
    ----------
    values : array of shape (n_rows, n_features)
    first, second : array of int, shape (n_pairs,)
        Rows of the two stimuli of each pair (`neuroalign.data.align_pairs` finds them).

    Returns
    -------
    float32 array of shape (n_pairs,)

    Examples
    --------
    >>> pair_distances(np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 3.0]]), [0, 0], [1, 2], "euclidean").round(3).tolist()
    [2.0, 4.4720001220703125]
    """
    rows = _PreparedRows(values, metric, ids, name, device, "float32")
    first, second = np.asarray(first), np.asarray(second)
    out = np.zeros(len(first))
    rows.refine(out, first, second, where=np.arange(len(first)))
    rows.finish(out)
    out[rows.bad[first] | rows.bad[second]] = np.nan
    return out.astype(np.float32)


def square(condensed) -> np.ndarray:
    """Return the symmetric matrix of a condensed upper triangle, with a zero diagonal.

    Examples
    --------
    >>> square([1.0, 2.0, 3.0]).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    """
    condensed = np.asarray(condensed)
    n = round((1 + np.sqrt(1 + 8 * condensed.shape[-1])) / 2)
    if n * (n - 1) // 2 != condensed.shape[-1]:
        raise ValueError(f"square: {condensed.shape[-1]} values are no upper triangle of a square matrix.")
    out = np.zeros((*condensed.shape[:-1], n, n), condensed.dtype)
    first, second = np.triu_indices(n, 1)
    out[..., first, second] = condensed
    out[..., second, first] = condensed
    return out


def positions(first, second, n: int) -> np.ndarray:
    """Return where pairs of rows stand in the condensed upper triangle of n rows, in either order of the two.

    Examples
    --------
    >>> positions([0, 2], [2, 1], 3).tolist()
    [1, 2]
    """
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
    return low * n - low * (low + 1) // 2 + high - low - 1


def stimulus_ids(name: str, space: xr.DataArray) -> np.ndarray:
    """Return the ids of a space's rows, or say why it cannot be compared pair by pair."""
    if sample_dim(space) == "time":
        raise NotAligned(f"features {name!r} stand on 'time'; dissimilarities need stimuli.")
    return np.asarray(space["stimulus_id" if "stimulus_id" in space.coords else "stimulus"].values)


def space_coords(spaces) -> dict[str, np.ndarray]:
    """Return the coords of feature spaces that travel to RDMs and Scores."""
    found = {}
    for coord, empty in (("model", ""), ("layer", ""), ("stream", ""), ("depth", np.nan)):
        found[coord] = np.array([s.coords[coord].item() if coord in s.coords else empty for s in spaces.values()])
    found["n_features"] = np.array([s.sizes["feature"] for s in spaces.values()])
    return found


class _PreparedRows:
    """Rows of which every distance is a squared Euclidean one: centred, and scaled to unit length if asked."""

    def __init__(self, values, metric, ids, name, device, dtype):
        check_option("rdm", metric, DISTANCES)
        check_option("dtype", dtype, ("float32", "float64"))
        self.values = values if isinstance(values, (np.ndarray, torch.Tensor)) else np.asarray(values)
        if self.values.ndim != 2 or len(self.values) < 2:
            raise ValueError(f"{name}: got shape {tuple(self.values.shape)}, expected (at least 2 rows, n_features).")
        self.metric, self.device = metric, resolve(device)
        if self.device.type == "mps" and dtype == "float64":
            raise ValueError("dtype: 'float64' does not exist on device 'mps'. Use device='cpu'.")
        self.n, self.n_features = self.values.shape
        cheap = self.n**2 * self.n_features <= _CHEAP and self.device.type != "mps"
        self.out_dtype, self.numpy_dtype = np.dtype(dtype), np.dtype("float64" if cheap else dtype)
        self.dtype, self.itemsize = getattr(torch, self.numpy_dtype.name), self.numpy_dtype.itemsize
        self.step = rows_per_chunk(8 * self.n, self.device)  # features in one block
        self.ids = np.arange(self.n) if ids is None else np.asarray(ids)
        self._measure(name)
        self._kept = [self._prepare(*ends) for ends in self._ends()] if self._fits() else None

    def block(self, start: int, stop: int) -> np.ndarray:
        """Squared distances of rows start..stop to rows start..n."""
        product = torch.zeros((stop - start, self.n - start), dtype=self.dtype, device=self.device)
        for part in self._parts():
            product.addmm_(part[start:stop], part[start:].T)
        sums = to_tensor(self.sums, self.device, self.dtype)
        product.mul_(-2).add_(sums[start:stop, None]).add_(sums[None, start:])
        return to_numpy(product)

    def refine(self, out: np.ndarray, first, second, where=None) -> None:
        """Overwrite squared distances of some pairs by direct differences, summed in float64."""
        if not len(first):
            return
        where = positions(first, second, self.n) if where is None else where
        for start in range(0, len(first), step := rows_per_chunk(16 * min(self.step, self.n_features), self.device)):
            part = slice(start, start + step)
            a, b = (torch.as_tensor(np.asarray(i[part]), device=self.device) for i in (first, second))
            total = torch.zeros(len(a), dtype=torch.float64)
            for rows in self._parts():
                delta = rows[a] - rows[b]
                total += (delta * delta).sum(1, dtype=self._wide).cpu()
            found = to_numpy(total)
            if self.numpy_dtype == np.float64:  # rows that differ by rounding alone are equal
                found[found < _EQUAL * (self.sums[first[part]] + self.sums[second[part]])] = 0
            out[where[part]] = found

    def finish(self, out: np.ndarray) -> None:
        """Turn squared distances of prepared rows into the distance asked for, in place."""
        if self.metric in ("correlation", "cosine"):
            out /= 2
        np.maximum(out, 0, out=out)
        if self.metric == "euclidean":
            np.sqrt(out, out=out)

    @property
    def _wide(self):
        return torch.float32 if self.device.type == "mps" else torch.float64

    def _ends(self) -> list[tuple[int, int]]:
        return [(s, min(s + self.step, self.n_features)) for s in range(0, self.n_features, self.step)]

    def _fits(self) -> bool:
        row = self.n_features * self.itemsize
        return rows_per_chunk(row, self.device, limit=2**31) >= self.n

    def _parts(self) -> Iterator[torch.Tensor]:
        yield from self._kept if self._kept is not None else (self._prepare(*ends) for ends in self._ends())

    def _read(self, start: int, stop: int) -> np.ndarray:
        block = self.values[:, start:stop]
        return np.asarray(to_numpy(block) if isinstance(block, torch.Tensor) else block, dtype=np.float64)

    def _measure(self, name: str) -> None:
        """One or two passes over the features: which rows hold NaN, their means and sums of squares."""
        finite, total, largest = np.ones(self.n, bool), np.zeros(self.n), np.zeros(self.n)
        for ends in self._ends():
            block = self._read(*ends)
            finite &= np.isfinite(block).all(1)
            if self.metric == "correlation":
                total += block.sum(1)
            largest = np.maximum(largest, np.abs(block).max(1))
        self.bad, self.means, self.scale = ~finite, total / self.n_features, np.ones(self.n)
        self.means[self.bad] = 0
        if self.bad.any():
            warn_user(f"{name}: the values of {list_ids(self.ids[self.bad])} hold NaN; their pairs are NaN.",
                      "nan-stimuli", self.ids[self.bad])
        sums = np.zeros(self.n)
        for ends in self._ends():
            block = self._centred(*ends)
            sums += (block * block).sum(1)
        if self.metric in ("correlation", "cosine"):
            flat = finite & (np.sqrt(sums) <= 1e-7 * np.sqrt(self.n_features) * largest)
            if flat.any():
                what = "constant" if self.metric == "correlation" else "zero"
                warn_user(f"{name}: features of {list_ids(self.ids[flat])} are {what}, so their {self.metric} "
                          "distance is not defined; their pairs are NaN.", "constant-stimuli", self.ids[flat])
            self.bad = self.bad | flat
            with np.errstate(divide="ignore"):
                self.scale = np.where(self.bad, 0, 1 / np.sqrt(sums))
            sums = np.where(self.bad, 0.0, 1.0)
        self.sums = sums

    def _centred(self, start: int, stop: int) -> np.ndarray:
        block = self._read(start, stop)
        if self.bad.any():
            block = np.where(self.bad[:, None], 0, block)
        if self.metric == "correlation":
            return block - self.means[:, None]
        if self.metric == "cosine":
            return block
        centre = block.sum(0) / max(1, int((~self.bad).sum()))
        return np.where(self.bad[:, None], 0, block - centre)

    def _prepare(self, start: int, stop: int) -> torch.Tensor:
        block = self._centred(start, stop) * self.scale[:, None]
        return to_tensor(block.astype(self.numpy_dtype), self.device, self.dtype)


def _close_pairs(squared: np.ndarray, rows: _PreparedRows) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose squared distance is small against their sums of squares."""
    if rows.numpy_dtype == np.float64:
        limit = 2.0**-20
    else:
        limit = _CLOSE
    first, second = [], []
    written = 0
    for i in range(rows.n - 1):
        size = rows.n - 1 - i
        close = np.flatnonzero(squared[written:written + size] < limit * (rows.sums[i] + rows.sums[i + 1:]))
        if len(close):
            first.append(np.full(len(close), i))
            second.append(close + i + 1)
        written += size
    if not first:
        return np.empty(0, int), np.empty(0, int)
    return np.concatenate(first), np.concatenate(second)


def _pairs_of(bad: np.ndarray, n: int) -> np.ndarray:
    """Condensed positions of all pairs of the marked rows."""
    found = []
    others = np.arange(n)
    for i in np.flatnonzero(bad):
        j = others[others != i]
        found.append(positions(np.full(n - 1, i), j, n))
    return np.concatenate(found) if found else np.empty(0, int)


def _matching_rows(name: str, space: xr.DataArray, ids: np.ndarray) -> np.ndarray:
    import pandas as pd

    have = pd.Index(stimulus_ids(name, space))
    if have.has_duplicates:
        raise NotAligned(f"features {name!r}: stimulus_id more than once: {list_ids(have[have.duplicated()])}. "
                         "Average repetitions first (neuroalign.data.average_repetitions).")
    rows = have.get_indexer(ids)
    lost = (rows < 0).sum() + (~have.isin(ids)).sum()
    if lost:
        different = [*ids[rows < 0], *have[~have.isin(ids)]]
        raise NotAligned(f"features {name!r} and the first space do not have the same stimuli: {list_ids(different)} "
                         "stand in one alone. Select the stimuli that both have.")
    return rows
