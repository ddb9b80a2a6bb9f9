"""The ladder of eigendecompositions, each rung forced."""

import numpy as np
import pytest
import torch

from neuroalign.linalg import eigh_psd


def gram(m=8, rank=5, dtype=torch.float32):
    A = np.random.default_rng(0).standard_normal((m, rank))
    return torch.as_tensor(A @ A.T).to(dtype)


def check(G, values, vectors):
    assert values.dtype == G.dtype and (values >= 0).all() and (values.diff() >= -1e-5).all()
    np.testing.assert_allclose(vectors @ torch.diag(values) @ vectors.T, G, atol=1e-4)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(G)), atol=1e-5)


def test_equals_numpy():
    G = gram(dtype=torch.float64)
    values, vectors = eigh_psd(G)
    check(G, values, vectors)
    np.testing.assert_allclose(values, np.clip(np.linalg.eigvalsh(G.numpy()), 0, None), atol=1e-12)


@pytest.mark.parametrize("failures", [1, 2])
def test_falls_to_float64_and_then_to_svd(monkeypatch, caplog, failures):
    eigh, calls = torch.linalg.eigh, []

    def failing(matrix):
        calls.append(matrix.dtype)
        if len(calls) <= failures:
            raise torch.linalg.LinAlgError("did not converge")
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    with caplog.at_level("INFO", "neuroalign"):
        check(gram(), *eigh_psd(gram()))
    assert calls == [torch.float32, torch.float64]
    assert ("SVD" if failures == 2 else "float64 with jitter") in caplog.text


def test_nan_has_no_decomposition():
    with pytest.raises(ValueError, match="NaN or infinite"):
        eigh_psd(torch.full((2, 2), torch.nan))
