"""Sums over the rows of delayed features, without the matrix of them.

The Gram matrix of delayed features is made of blocks that depend on the difference of two delays only, but for the
samples at the edges: its first row of blocks are correlations of the series at short lags, and every further block is
the one above and left of it, plus the sample that enters the window and minus the one that leaves it. Correlations
are summed over short pieces of the recording as products of their spectra.
"""

from dataclasses import dataclass

import numpy as np
import torch

from neuroalign.alignment.table import Table
from neuroalign.errors import list_ids
from neuroalign.features.delays import run_rows
from neuroalign.linalg import to_numpy

__all__ = ["LaggedSeries", "Part", "Sums"]

CHUNK = 2**17  # numbers of the delayed matrix that are made at a time: they stay in the processor's cache
PIECES = 2**20  # numbers of pieces of the series that are transformed at a time
CONSTANT = 1e-10  # a feature whose spread is below this share of its mean is taken for constant
SCATTERED = 8  # rows that a stretch has at least on average, where its structure pays off


class LaggedSeries:
    """Time series, run by run, with so many zeros between them that a window never reaches another run.

    All of it, these zeros too, is less by `center`, the mean of each feature.

    Parameters
    ----------
    X : array of shape (n, n_features)
    samples : array of int
        Delays, every one from the first to the last.
    runs : array of shape (n,), optional
    device : torch device
    """

    def __init__(self, X, samples: np.ndarray, runs, device: torch.device):
        X = X[:, :] if isinstance(X, Table) else X
        X = to_numpy(X).astype(np.float64, copy=False)
        if X.ndim != 2 or not X.shape[1]:
            raise ValueError(f"X: got shape {X.shape}, expected (n_samples, n_features).")
        bad = ~np.isfinite(X).all(0)
        if bad.any():
            raise ValueError(f"X: NaN or infinite values in features {list_ids(np.flatnonzero(bad))}. Remove or fill "
                             "them.")
        first, last = int(samples[0]), int(samples[-1])
        before, after = max(last, 0), max(-first, 0) + 1
        # Sums of squares would lose what is small beside the mean of a feature, so it is taken off, of the zeros, too.
        self.center = X.mean(0)
        X = X - self.center
        X[:, X.std(0) <= CONSTANT * np.abs(self.center)] = 0
        zero = np.repeat(-self.center[None], before + after, 0)
        parts, position, start = [], np.empty(len(X), int), 0
        for rows in run_rows(runs, len(X)):
            position[rows] = start + before + np.arange(len(rows))
            parts += [zero[:before], X[rows], zero[:after]]
            start += before + len(rows) + after
        # The window of a row goes from its longest delay to its shortest, that is, forwards in time.
        self.starts = position - last
        buffer = np.concatenate(parts)
        self.n, self.p, self.n_lags = len(X), X.shape[1], len(samples)
        self.buffer = torch.as_tensor(buffer, device=device)
        self.windows = self.buffer.as_strided((len(buffer) - self.n_lags + 1, self.width), (self.p, 1))

    @property
    def centers(self) -> np.ndarray:
        """What the delayed columns are less by, shape (width,)."""
        return np.tile(self.center, self.n_lags)

    @property
    def width(self) -> int:
        """Number of delayed columns."""
        return self.n_lags * self.p

    def chunks(self, rows: np.ndarray):
        """Yield the delayed rows in blocks: where they are in `rows`, and the block."""
        size = max(16, CHUNK // (self.width))
        for k in range(0, len(rows), size):
            starts = self.starts[rows[k:k + size]]
            if (np.diff(starts) == 1).all():
                block = self.windows[int(starts[0]):int(starts[-1]) + 1].contiguous()
            else:
                block = self.windows[torch.as_tensor(starts, device=self.buffer.device)]
            yield slice(k, k + len(starts)), block

    def edges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the windows before which stretches of rows begin, and end."""
        starts = self.starts[rows]
        breaks = np.flatnonzero(np.diff(starts) != 1)
        return np.r_[starts[:1], starts[breaks + 1]], np.r_[starts[breaks], starts[-1:]] + 1


class Part:
    """Rows that are summed together, with the spectra of the pieces of the series that their windows lie in.

    There are no spectra of rows that do not follow each other, whose pieces would be as many as they are.
    """

    def __init__(self, series: LaggedSeries, rows: np.ndarray, places: np.ndarray):
        self.series, self.rows, self.places = series, rows, places
        self.begins, self.ends = series.edges(rows)
        self.scattered = SCATTERED * len(self.begins) > len(rows)
        if self.scattered:
            return
        self.size = 2 ** int(np.ceil(np.log2(max(4 * series.n_lags, 128))))
        step = self.size - series.n_lags + 1  # rows of a piece: the windows of all of them lie within it
        starts = np.concatenate([np.arange(a, b, step) for a, b in zip(self.begins, self.ends)])
        stops = np.concatenate([np.minimum(np.arange(a, b, step) + step, b) for a, b in zip(self.begins, self.ends)])
        counts = stops - starts
        within = np.arange(step) < counts[:, None]
        taken = np.cumsum(counts)[:, None] - counts[:, None] + np.arange(step)
        device = series.buffer.device
        self.taken = torch.as_tensor(np.where(within, taken, len(rows)), device=device)
        # What a piece holds beyond the end of the series meets no row.
        index = np.minimum(starts[:, None] + np.arange(self.size), len(series.buffer) - 1)
        pieces = series.buffer.T.contiguous()[:, torch.as_tensor(index, device=device)]
        self.spectra = torch.fft.rfft(pieces).permute(2, 1, 0).conj().resolve_conj().contiguous()

    def correlate(self, values: torch.Tensor) -> torch.Tensor:
        """Return ``values.T @ delayed rows``, for values of the rows, shape (n_columns, width)."""
        if self.scattered:
            total = torch.zeros(values.shape[1], self.series.width, dtype=values.dtype, device=values.device)
            for where, window in self.series.chunks(self.rows):
                total.addmm_(values[where].T, window)
            return total
        padded = torch.zeros(values.shape[1], len(values) + 1, dtype=values.dtype, device=values.device)
        padded[:, :-1] = values.T
        product = torch.zeros(len(self.spectra), values.shape[1], self.series.p, dtype=self.spectra.dtype,
                              device=values.device)
        at_once = max(1, PIECES // (values.shape[1] * self.size))
        for k in range(0, len(self.taken), at_once):
            spectra = torch.fft.rfft(padded[:, self.taken[k:k + at_once]], n=self.size)
            product.baddbmm_(spectra.permute(2, 0, 1), self.spectra[:, k:k + at_once])
        lagged = torch.fft.irfft(product.conj(), n=self.size, dim=0)[:self.series.n_lags]
        return lagged.permute(1, 0, 2).reshape(values.shape[1], self.series.width)

    def sums(self) -> "Sums":
        """Return the sums of the delayed features."""
        series, n = self.series, len(self.rows)
        device = series.buffer.device
        now = torch.as_tensor(series.starts[self.rows], device=device)
        left = (series.windows if self.scattered else series.buffer)[now]
        total = self.correlate(torch.cat([left, torch.ones_like(left[:, :1])], 1))
        index = np.zeros(0, int) if self.scattered else np.r_[self.ends, self.begins]
        edges = series.windows[torch.as_tensor(index, device=device)]
        signs = torch.ones(len(edges), dtype=edges.dtype, device=device)
        signs[len(edges) // 2:] = -1
        if self.scattered:
            return Sums(n, total[-1], torch.zeros_like(total[:series.p]), edges, signs, total[:-1])
        return Sums(n, total[-1], total[:-1], edges, signs)


@dataclass(frozen=True)
class Sums:
    """Sums over some rows of the delayed features: number, columns, the first blocks of the Gram matrix, edges.

    `rest` is the Gram matrix of rows that do not follow each other.
    """

    n: int
    columns: torch.Tensor
    first: torch.Tensor
    edges: torch.Tensor
    signs: torch.Tensor
    rest: torch.Tensor | float = 0.0

    @classmethod
    def add(cls, parts: list["Sums"]) -> "Sums":
        return cls(sum(s.n for s in parts), sum(s.columns for s in parts), sum(s.first for s in parts),
                   torch.cat([s.edges for s in parts]), torch.cat([s.signs for s in parts]),
                   sum(s.rest for s in parts))

    def gram(self) -> torch.Tensor:
        """Return the Gram matrix of all delays and features."""
        p = len(self.first)
        width = self.first.shape[1]
        n_lags = width // p
        gram = torch.zeros(n_lags, p, width, dtype=self.first.dtype, device=self.first.device)
        gram[0] = self.first
        signed = self.edges * self.signs[:, None]
        for i in range(1, n_lags):
            above, entering = slice((i - 1) * p, width - p), slice((i - 1) * p, i * p)
            gram[i, :, i * p:] = torch.addmm(gram[i - 1][:, above], signed[:, entering].T, self.edges[:, above])
        whole = gram.view(width, width).triu_()
        return whole + whole.triu(1).T + self.rest
