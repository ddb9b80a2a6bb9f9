"""Eigenbases against numpy in float64."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.linalg import eigenbasis, needs_float64, second_moment, standardisation, surely_needs_float64


def design(n, p, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, p))
    return (X - X.mean(0)) / X.std(0)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(6, 40), p=st.integers(1, 50), standardize=st.booleans(), dual=st.booleans(),
       seed=st.integers(0, 99))
def test_the_basis_rebuilds_the_kernels(n, p, standardize, dual, seed):
    X = design(n, p, seed)
    rows = np.random.default_rng(seed).permutation(n)
    train, test = np.sort(rows[: n // 2 + 2]), np.sort(rows[n // 2 + 2:])
    mean, sd = X[train].mean(0), X[train].std(0) if standardize else 1.0
    A, B = (X[train] - mean) / sd, (X[test] - mean) / sd
    tensor = torch.as_tensor(X)
    found = eigenbasis(tensor, torch.as_tensor(train), torch.as_tensor(test), standardize=standardize, dual=dual,
                       total=None if dual else tensor.T @ tensor, kernel=tensor @ tensor.T if dual else None,
                       axes=True, dtype=torch.float64)
    scale = np.abs(A @ A.T).max()
    np.testing.assert_allclose(found.basis @ found.basis.T, A @ A.T, atol=1e-9 * scale)
    np.testing.assert_allclose(found.rows @ found.basis.T, B @ A.T, atol=1e-7 * scale)
    axes = functools.reduce(torch.matmul, found.axes)
    np.testing.assert_allclose(found.basis @ axes.T, A, atol=1e-7 * np.sqrt(scale))
    np.testing.assert_allclose(found.basis.square().sum(0), found.values, atol=1e-9 * scale)


def test_one_kernel_serves_every_fold_without_standardisation():
    X = torch.as_tensor(design(20, 40))
    train, test = torch.arange(12), torch.arange(12, 20)
    shared = eigenbasis(X, train, test, standardize=False, dual=True, kernel=X @ X.T, dtype=torch.float64)
    own = eigenbasis(X, train, test, standardize=False, dual=True, dtype=torch.float64)
    np.testing.assert_allclose(shared.rows @ shared.basis.T, own.rows @ own.basis.T, atol=1e-9)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_second_moments_are_downdated(share):
    X = torch.as_tensor(design(50, 7))
    rows = torch.arange(int(50 * share))
    np.testing.assert_allclose(second_moment(X, rows, X.T @ X), X[rows].T @ X[rows], atol=1e-10)


def test_constant_columns_get_no_weight():
    X = torch.tensor([[1.0, 0.1, 1e8], [2.0, 0.1, 1e8 + 1]], dtype=torch.float64)
    mean, scale = standardisation(X)
    np.testing.assert_allclose(mean, [1.5, 0.1, 1e8 + 0.5])
    np.testing.assert_allclose(scale, [2.0, 0.0, 2.0])
    assert standardisation(X, standardize=False)[1].tolist() == [1.0, 0.0, 1.0]


def test_float64_is_asked_for_where_rounding_would_show():
    gram = 1e4 * torch.eye(3)
    assert not needs_float64(gram, 1.0) and needs_float64(gram, 1e-2) and needs_float64(gram.double(), 1e9)


def test_the_trace_tells_the_same_before_the_gram_matrix_is_made():
    rows = torch.randn(20, 300, generator=torch.Generator().manual_seed(0))
    gram = rows @ rows.T
    for smallest in np.logspace(-3, 1, 9):
        assert surely_needs_float64(rows, smallest) <= needs_float64(gram, smallest)
    assert surely_needs_float64(rows, 1e-3) and not surely_needs_float64(rows, 10.0)


def test_products_of_fewer_digits_need_float64_earlier():
    gram = torch.eye(10)
    assert not needs_float64(gram, 1.0)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert needs_float64(gram, 1.0)
    finally:
        torch.set_float32_matmul_precision(before)
