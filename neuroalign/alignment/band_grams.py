"""Gram matrices of several feature spaces side by side, in the space of features or of rows.

A model in which the columns of band s are scaled by sqrt(gamma_s) has the Gram matrix of features with both sides
scaled by those roots, and the Gram matrix of rows ``sum_s gamma_s K_s``: one pass over the data serves every gamma.
"""

from dataclasses import dataclass

import torch

from neuroalign.linalg import centred_moment, eigh_psd, fold_scale

__all__ = ["DualGram", "PrimalGram", "Spectrum"]


@dataclass(frozen=True)
class Spectrum:
    """A scaled Gram matrix in its eigenbasis.

    Attributes
    ----------
    values : float32 tensor of shape (n_components,)
    vectors : tensor of shape (n_columns, n_components)
        In the precision of the decomposition.
    columns : slice or tensor of int
        Rows of the reduced targets that `vectors` act on.
    rows : float32 tensor of shape (n_test, n_components)
        Test rows: targets are predicted by ``rows @ (project(reduced) / (values + alpha))``.
    """

    values: torch.Tensor
    vectors: torch.Tensor
    columns: slice | torch.Tensor
    rows: torch.Tensor

    def project(self, reduced: torch.Tensor) -> torch.Tensor:
        """Bring reduced targets into the eigenbasis, shape (n_components, n_targets)."""
        return self.vectors.to(reduced).T @ reduced[self.columns]

    def weights(self, reduced: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
        """Weights of the features (or of the rows) for a penalty a target, shape of `reduced`.

        Weights of collinear features, or of rows, are large and cancel: they keep the precision of `vectors`.
        """
        reduced = reduced.to(self.vectors)
        found = torch.zeros_like(reduced)
        found[self.columns] = self.vectors @ (self.project(reduced) / (self.values[:, None] + penalties))
        return found


class _BandGram:
    """The training rows ``train`` of a design, ready to predict its rows ``test``.

    Parameters
    ----------
    design : tensor of shape (n, n_features)
        About centred and scaled; float64 where the decompositions need it.
    train, test : tensor of int
    slices : list of slice
        Columns of each band.
    standardize : bool
        Scale columns by their standard deviation over the training rows.
    total : tensor, optional
        What all rows give, to start from: ``X.T @ X`` (primal), or ``X_s @ X_s.T`` of each band (dual, of use only
        without standardisation).
    """

    def __init__(self, design, train, test, slices, standardize, total=None):
        self.slices, self.train, self.test, self._design = slices, train, test, design
        part = design[train]
        self.mean = part.mean(0)
        self.scale = fold_scale(part, self.mean, standardize)
        self._build(part, (design[test] - self.mean) * self.scale, total)


class PrimalGram(_BandGram):
    """The Gram matrix of features, for fewer features than rows."""

    def _build(self, part, rows, total):
        self.gram = centred_moment(self._design, self.train, part, self.mean, self.scale, total)
        self.rows = rows

    size = property(lambda self: len(self.gram), doc="Unknowns of a target.")

    def reduce(self, Y: torch.Tensor) -> torch.Tensor:
        """``X.T @ Y`` for centred targets."""
        return (self._design[self.train].float().T @ Y) * self.scale[:, None].float()

    def spectrum(self, gamma: torch.Tensor, dtype: torch.dtype) -> Spectrum:
        """Decompose for one gamma a band, in a precision; bands of gamma 0 take no part."""
        root = self._spread(gamma[:, None].to(self.gram).sqrt())[:, 0]
        columns = torch.nonzero(root).ravel()
        columns = slice(None) if len(columns) == len(root) else columns
        root = root[columns]
        gram = self.gram[columns][:, columns]
        values, vectors = _leading(*eigh_psd((gram * root[:, None] * root).to(dtype)))
        vectors = root[:, None].to(dtype) * vectors
        return Spectrum(values.float(), vectors, columns, (self.rows[:, columns].to(dtype) @ vectors).float())

    def norm(self, gamma: torch.Tensor) -> float:
        """Frobenius norm of the scaled Gram matrix."""
        root = self._spread(gamma[:, None].to(self.gram).sqrt())
        return float((self.gram * root * root.T).square().sum().sqrt())

    def predict(self, weights: torch.Tensor, gammas: torch.Tensor) -> torch.Tensor:
        """Prediction of the test rows by each band, shape (n_bands, n_test, n_targets)."""
        return torch.stack([self.rows[:, s] @ weights[s] for s in self.slices])

    def coef(self, weights: torch.Tensor, gammas: torch.Tensor) -> torch.Tensor:
        """Weights of the columns of the design, shape (n_features, n_targets)."""
        return _double(weights) * _double(self.scale)[:, None]

    def solve(self, deltas: torch.Tensor, reduced: torch.Tensor, derivatives: bool = False):
        """Solve each target with its own ``deltas = log(gamma / alpha)`` of shape (n_bands, n_targets).

        Returns
        -------
        weights : tensor of the shape of `reduced`
        slopes : tensor of shape (n_bands, n_test, n_targets), or None
            Derivatives of the predictions by the deltas.
        """
        root = self._spread((deltas / 2).exp().to(self.gram)).T[..., None]  # (target, feature, 1)
        system = root * self.gram * root.mT
        system.diagonal(dim1=1, dim2=2).add_(1)
        factor = torch.linalg.cholesky(system)
        z = torch.cholesky_solve(root * reduced.to(self.gram).T[..., None], factor)
        weights = (root * z)[..., 0].T
        if not derivatives:
            return weights, None
        sides = torch.zeros(*z.shape[:2], len(self.slices), dtype=z.dtype, device=z.device)
        for k, s in enumerate(self.slices):
            sides[:, s, k] = z[:, s, 0]
        moved = root * torch.cholesky_solve(sides, factor)
        return weights, (self.rows @ moved).permute(2, 1, 0)

    def _spread(self, values):
        """Repeat a value a band for the columns of the band."""
        widths = torch.tensor([s.stop - s.start for s in self.slices], device=values.device)
        return values.repeat_interleave(widths, 0)


class DualGram(_BandGram):
    """The Gram matrices of rows of each band, for more features than rows."""

    def _build(self, part, rows, total):
        if total is not None:
            own, cross = total[:, self.train][..., self.train], total[:, self.test][..., self.train]
            column = own.mean(1, keepdim=True)
            shift = column.mean(2, keepdim=True) - column
            self.kernels = own + shift - column.mT
            self.cross = cross + shift - cross.mean(2, keepdim=True)
            return
        part = (part - self.mean) * self.scale
        self.kernels = torch.stack([part[:, s] @ part[:, s].T for s in self.slices])
        self.cross = torch.stack([rows[:, s] @ part[:, s].T for s in self.slices])

    size = property(lambda self: self.kernels.shape[1], doc="Unknowns of a target.")

    def reduce(self, Y: torch.Tensor) -> torch.Tensor:
        """Centred targets, as they are."""
        return Y

    def spectrum(self, gamma: torch.Tensor, dtype: torch.dtype) -> Spectrum:
        """Decompose for one gamma a band, in a precision."""
        gamma = gamma.to(self.kernels)
        values, vectors = _leading(*eigh_psd(torch.tensordot(gamma, self.kernels, 1).to(dtype)))
        rows = torch.tensordot(gamma, self.cross, 1).to(dtype) @ vectors
        return Spectrum(values.float(), vectors, slice(None), rows.float())

    def norm(self, gamma: torch.Tensor) -> float:
        """Frobenius norm of the weighted sum of Gram matrices."""
        return float(torch.tensordot(gamma.to(self.kernels), self.kernels, 1).square().sum().sqrt())

    def predict(self, weights: torch.Tensor, gammas: torch.Tensor) -> torch.Tensor:
        """Prediction of the test rows by each band, shape (n_bands, n_test, n_targets)."""
        return (self.cross @ weights) * gammas[:, None]

    def coef(self, weights: torch.Tensor, gammas: torch.Tensor) -> torch.Tensor:
        """Weights of the columns of the design, shape (n_features, n_targets)."""
        part, weights = _double((self._design[self.train] - self.mean) * self.scale), _double(weights)
        blocks = [(part[:, s].T @ weights) * gamma for s, gamma in zip(self.slices, _double(gammas))]
        return torch.cat(blocks) * _double(self.scale)[:, None]

    def solve(self, deltas: torch.Tensor, reduced: torch.Tensor, derivatives: bool = False):
        """As `PrimalGram.solve`; the weights are those of rows, for the gammas of `deltas` scaled to sum 1."""
        factors = deltas.exp().to(self.kernels)  # gamma / alpha, (band, target)
        system = torch.tensordot(factors.T, self.kernels, 1)
        system.diagonal(dim1=1, dim2=2).add_(1)
        factor = torch.linalg.cholesky(system)
        a = torch.cholesky_solve(reduced.to(self.kernels).T[..., None], factor)[..., 0].T  # (row, target)
        weights = a * factors.sum(0)
        if not derivatives:
            return weights, None
        sides = (self.kernels @ a) * factors[:, None]
        direct = (self.cross @ a) * factors[:, None]
        moved = torch.cholesky_solve(sides.permute(2, 1, 0), factor).permute(2, 1, 0)  # (band, row, target)
        back = sum((cross @ moved) * own for cross, own in zip(self.cross, factors))
        return weights, direct - back


def _double(values):
    # MPS has no float64.
    return values.cpu().double() if values.device.type == "mps" else values.double()


def _leading(values, vectors):
    """Drop the directions that are zero within rounding: divided by a small penalty, they would only add noise."""
    kept = values > torch.finfo(values.dtype).eps * values[-1]
    kept[-1] = True  # bands of constants alone: they predict nothing
    return values[kept], vectors[:, kept]
