"""Random projection of wide rows, on the device, before they are stored."""

import numpy as np
import torch

from neuroalign.stats import child_seed

__all__ = ["Projector"]


class Projector:
    """A seeded sparse random projection (Li, Hastie & Church 2006) of rows that are wider than `n_components`.

    Distances and dot products are kept in expectation. Rows of one width share one matrix, so that layers of one
    shape stay comparable; narrower rows pass unchanged.

    Examples
    --------
    >>> projector = Projector(2, random_state=0)
    >>> projector(torch.ones(3, 50)).shape, projector(torch.ones(3, 2)).shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    def __init__(self, n_components: int | None, random_state: int):
        self.n_components, self.random_state = n_components, random_state
        self._matrices: dict[int, torch.Tensor] = {}

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Project (row, feature) to (row, n_components)."""
        width = values.shape[1]
        if self.n_components is None or width <= self.n_components:
            return values
        if width not in self._matrices:
            self._matrices[width] = self._make(width).to(values.device)
        return (self._matrices[width] @ values.T).T

    def _make(self, width: int) -> torch.Tensor:
        from sklearn.random_projection import SparseRandomProjection

        seed = child_seed(self.random_state, "projection")
        made = SparseRandomProjection(self.n_components, random_state=seed).fit(np.zeros((1, width), np.float32))
        matrix = made.components_.tocoo()
        places = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
        weights = torch.from_numpy(matrix.data.astype(np.float32))
        return torch.sparse_coo_tensor(places, weights, matrix.shape, check_invariants=True).coalesce()
