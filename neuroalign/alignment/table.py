"""A table that is read by blocks of columns, so that features larger than memory are never held at once."""

from collections.abc import Sequence

import numpy as np

__all__ = ["Table"]


class Table:
    """Arrays side by side, or some rows of them, of which only the columns that are asked for are read.

    Parameters
    ----------
    parts : sequence of array of shape (n, some)
        Memory maps stay maps.
    rows : array of int, optional
        Take these rows.

    Examples
    --------
    >>> table = Table([np.arange(3)[:, None], np.ones((3, 2))]).take([2, 0])
    >>> table.shape, table[:, :2].tolist()
    ((2, 3), [[2.0, 1.0], [0.0, 1.0]])
    """

    ndim = 2

    def __init__(self, parts: Sequence, rows: np.ndarray | None = None):
        self.parts = [p for p in parts if p.shape[1]] or list(parts[:1])
        self.rows = rows
        self.edges = np.cumsum([0, *(p.shape[1] for p in self.parts)])
        self.shape = (self.parts[0].shape[0] if rows is None else len(rows), int(self.edges[-1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        rows, columns = key
        if rows != slice(None):
            raise TypeError("Table: take rows with take(rows), columns with table[:, columns].")
        start, stop, _ = columns.indices(self.shape[1])
        blocks = []
        for part, first, last in zip(self.parts, self.edges[:-1], self.edges[1:]):
            low, high = max(start, first), min(stop, last)
            if low < high:
                block = part[:, low - first:high - first]
                blocks.append(np.asarray(block if self.rows is None else block[self.rows]))
        return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros((len(self), 0)), *blocks], 1)

    def take(self, rows) -> "Table":
        """Return a table of some of the rows, in their order."""
        rows = np.asarray(rows)
        return Table(self.parts, rows if self.rows is None else self.rows[rows])

    def split(self, n: int) -> tuple["Table", "Table"]:
        """Return the first `n` columns, which a part must end at, and the rest."""
        cut = int(np.searchsorted(self.edges, n))
        if self.edges[cut] != n:
            raise ValueError(f"Table: no part ends at column {n}, only at {self.edges[1:].tolist()}.")
        empty = self.parts[0][:, :0]
        return Table(self.parts[:cut] or [empty], self.rows), Table(self.parts[cut:] or [empty], self.rows)
