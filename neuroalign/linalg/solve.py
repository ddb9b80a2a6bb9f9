"""Symmetric eigendecomposition that never needs a hand."""

import logging

import torch

__all__ = ["eigh_psd"]

logger = logging.getLogger("neuroalign")


def eigh_psd(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigendecompose a symmetric positive semi-definite matrix: eigh, jittered float64 eigh, then SVD.

    Parameters
    ----------
    gram : tensor of shape (m, m)

    Returns
    -------
    values : tensor of shape (m,)
        Ascending, clipped at 0.
    vectors : tensor of shape (m, m)
        Columns; ``gram = vectors @ diag(values) @ vectors.T``.

    Raises
    ------
    ValueError
        If the matrix holds NaN or infinite values.

    Examples
    --------
    >>> values, vectors = eigh_psd(torch.eye(2))
    >>> values.tolist()
    [1.0, 1.0]
    """
    if not torch.isfinite(gram).all():
        raise ValueError("matrix: it holds NaN or infinite values, so it has no eigendecomposition.")
    try:
        values, vectors = torch.linalg.eigh(gram)
        if torch.isfinite(values).all() and torch.isfinite(vectors).all():
            return values.clamp_min(0), vectors
    except torch.linalg.LinAlgError:
        pass
    wide = _widen(gram)
    try:
        jitter = 1e-12 * wide.diagonal().abs().mean()
        values, vectors = torch.linalg.eigh(wide + jitter * torch.eye(len(wide), dtype=wide.dtype,
                                                                      device=wide.device))
        logger.info("eigh of a %d x %d matrix: solved in float64 with jitter", *gram.shape)
    except torch.linalg.LinAlgError:
        vectors, singular, _ = torch.linalg.svd(wide)
        values, vectors = singular.flip(0), vectors.flip(1)
        logger.info("eigh of a %d x %d matrix: solved by SVD", *gram.shape)
    back = {"dtype": gram.dtype, "device": gram.device}
    return values.clamp_min(0).to(**back), vectors.to(**back)


def _widen(gram: torch.Tensor) -> torch.Tensor:
    # MPS has no float64; the rare fallback runs on the host there.
    return gram.cpu().double() if gram.device.type == "mps" else gram.double()
