"""Projection of wide rows, on the device, before they are stored: seeded random, or PCA fitted on named stimuli."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuroalign.errors import list_ids, suggest
from neuroalign.stats import child_seed

__all__ = ["PCA", "Projection", "RandomProjector", "fit_pca", "parse_projection", "project_pca", "rows_to_fit"]

COLUMNS = 2**22  # values of a block that are centred in float64 at a time
MOST_GRAM = 20000


@dataclass(frozen=True)
class PCA:
    """Principal components, fitted on some of the stimuli, of rows that are wider than `n_components`.

    Attributes
    ----------
    n_components : int
    fit_on : sequence of str, optional
        Ids of the stimuli to fit on (for words, those of words or of their passages); None: all of them. Where
        features are to predict held-out stimuli, fit on others: the components know the stimuli that made them.

    References
    ----------
    Jolliffe 2002, Principal Component Analysis, Springer.
    """

    n_components: int
    fit_on: Sequence[str] | None = None

    def describe(self) -> dict:
        """Return what goes into the key."""
        ids = "all" if self.fit_on is None else hashlib.sha256("\n".join(sorted(self.fit_on)).encode()).hexdigest()
        return {"pca": self.n_components, "fit_on": ids}


Projection = int | str | PCA | None


def parse_projection(projection: Projection) -> int | PCA | None:
    """Check what a caller gave as a projection; ``"pca:50"`` is `PCA` with 50 components.

    Examples
    --------
    >>> parse_projection("pca:50")
    PCA(n_components=50, fit_on=None)
    """
    parsed = projection
    if isinstance(projection, str):
        match = re.fullmatch(r"pca:(\d+)", projection)
        parsed = PCA(int(match[1])) if match else projection
    count = parsed.n_components if isinstance(parsed, PCA) else parsed
    if count is not None and (isinstance(count, (bool, str)) or not isinstance(count, (int, np.integer)) or count < 1):
        raise ValueError(f"projection: got {projection!r}, expected a number of at least 1 component, 'pca:50', "
                         "a PCA(n_components, fit_on), or None.")
    return int(parsed) if isinstance(parsed, np.integer) else parsed


def rows_to_fit(pca: PCA, ids: Sequence[str], parents: Sequence[str] | None = None) -> np.ndarray:
    """Return the row numbers of the stimuli that a `PCA` is fitted on.

    Raises
    ------
    KeyError
        Naming ids that are not among the stimuli.
    """
    if pca.fit_on is None:
        return np.arange(len(ids))
    wanted = {str(i) for i in pca.fit_on}
    known = {*ids, *(parents if parents is not None else ())}
    unknown = sorted(wanted - known)
    if unknown:
        raise KeyError(f"projection: no stimuli {list_ids(unknown)} to fit on.{suggest(unknown[0], known)}")
    parents = ids if parents is None else parents
    return np.flatnonzero([i in wanted or p in wanted for i, p in zip(ids, parents)])


class RandomProjector:
    """A seeded sparse random projection (Li, Hastie & Church 2006) of rows that are wider than `n_components`.

    Distances and dot products are kept in expectation. Rows of one width share one matrix, so that layers of one
    shape stay comparable; narrower rows pass unchanged.

    Examples
    --------
    >>> projector = RandomProjector(2, random_state=0)
    >>> projector("", torch.ones(3, 50)).shape, projector("", torch.ones(3, 2)).shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    def __init__(self, n_components: int, random_state: int):
        self.n_components, self.random_state = n_components, random_state
        self._matrices: dict[int, torch.Tensor] = {}

    def __call__(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Project the (row, feature) values of a space to (row, n_components)."""
        width = values.shape[1]
        if width <= self.n_components:
            return values
        if width not in self._matrices:
            self._matrices[width] = self.matrix(width).to(values.device)
        return (self._matrices[width] @ values.T).T

    def matrix(self, width: int) -> torch.Tensor:
        """Return the sparse matrix (n_components, width) of rows of a width."""
        from sklearn.random_projection import SparseRandomProjection

        seed = child_seed(self.random_state, "projection")
        made = SparseRandomProjection(self.n_components, random_state=seed).fit(np.zeros((1, width), np.float32))
        matrix = made.components_.tocoo()
        places = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
        weights = torch.from_numpy(matrix.data.astype(np.float32))
        return torch.sparse_coo_tensor(places, weights, matrix.shape, check_invariants=True).coalesce()


def fit_pca(rows: np.ndarray, n_components: int, name: str = "") -> np.ndarray:
    """Return mean and components of rows, by the smaller one of their two Gram matrices in float64.

    Parameters
    ----------
    rows : array of shape (n_rows, n_features)
        May be a memory map: it is read by blocks of columns. Rows that are not finite are left out.
    n_components : int
    name : str
        For errors.

    Returns
    -------
    array of float32, shape (1 + n_components, n_features)
        The mean, then the components by falling variance; the largest loading of each is positive.

    Examples
    --------
    >>> basis = fit_pca(np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]]), 1)
    >>> basis.round(3).tolist()
    [[2.0, 2.0], [0.7070000171661377, 0.7070000171661377]]
    """
    n, width = rows.shape
    blocks = [slice(a, a + max(1, COLUMNS // n)) for a in range(0, width, max(1, COLUMNS // n))]
    finite = np.all([np.isfinite(rows[:, b]).all(1) for b in blocks], axis=0)
    n = int(finite.sum())
    if n <= n_components:
        raise ValueError(f"projection, space {name!r}: {n_components} components need at least {n_components + 1} "
                         f"stimuli to fit on, got {n}. Fit on more stimuli, or ask for fewer components.")
    if min(n, width) > MOST_GRAM:
        raise ValueError(f"projection, space {name!r}: {n} stimuli of {width} features are too many to fit on. Name "
                         f"at most {MOST_GRAM} of them: PCA({n_components}, fit_on=ids).")
    mean = np.concatenate([rows[:, b][finite].mean(0, dtype=np.float64) for b in blocks])

    def centred(block):
        return rows[:, block][finite].astype(np.float64) - mean[block]

    if n <= width:
        variances, vectors = _top(sum(centred(b) @ centred(b).T for b in blocks), n_components)
        components = np.concatenate([centred(b).T @ vectors for b in blocks])
        components /= np.maximum(np.linalg.norm(components, axis=0), 1e-30)
    else:
        whole = centred(slice(None))
        variances, components = _top(whole.T @ whole, n_components)
    rank = int((variances > 1e-12 * max(variances[0], 1e-300)).sum())
    if rank < n_components:
        raise ValueError(f"projection, space {name!r}: the {n} stimuli to fit on vary along {rank} directions, fewer "
                         f"than {n_components}. Fit on more stimuli, or ask for fewer components.")
    signs = np.sign(components[np.abs(components).argmax(0), np.arange(n_components)])
    return np.vstack([mean, (components * signs).T]).astype(np.float32)


def project_pca(basis: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Project (row, feature) by mean and components to (row, n_components)."""
    return (values - basis[0]) @ basis[1:].T


def _top(gram: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(gram)
    return values[::-1][:n], vectors[:, ::-1][:, :n]


Projector = Callable[[str, torch.Tensor], torch.Tensor]
