"""CKA against brute force in float64 and against published embeddings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from neuroalign.alignment import cka as cka_module
from neuroalign.alignment import cka_kernels, kernel_cka, linear_cka, rbf_cka
from neuroalign.alignment.cka import cka_grid, cka_null, cka_subsamples
from neuroalign.alignment.cka_kernels import linear_kernel

ORACLE = {"clip": (0.6362, 0.6046), "clip_random": (0.0450, 0.0257), "convirt": (0.4111, 0.4056),
          "videoclip": (0.6402, 0.4342), "clasp": (0.1504, 0.0485)}
SHAPES = [(10, 20), (10, 300), (300, 10), (300, 500)]


def brute_force(x, y, estimator):
    """The textbook formulas on n x n kernels."""
    k, l, n = x @ x.T, y @ y.T, len(x)  # noqa: E741
    if estimator == "biased":
        h = np.eye(n) - 1 / n
        k, l = h @ k @ h, h @ l @ h  # noqa: E741
        return (k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum())
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741

    def hsic(a, b):
        one = np.ones(n)
        return (np.trace(a @ b) + (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
                - 2 / (n - 2) * (one @ a @ b @ one)) / (n * (n - 3))

    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def gaussian(x):
    distances = pdist(x)
    return np.exp(-squareform(distances) ** 2 / (2 * np.median(distances) ** 2))


def pair(p, q, n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) + 5
    y = 1e3 * (rng.standard_normal((n, q)) + 2 * x[:, :1])
    return x, y


@pytest.mark.parametrize("estimator", ["debiased", "biased"])
@pytest.mark.parametrize("shape", SHAPES)
def test_cka_equals_the_textbook_formula(shape, estimator):
    x, y = pair(*shape)
    expected = brute_force(x, y, estimator)
    assert linear_cka(x, y, estimator=estimator, device="cpu") == pytest.approx(expected, abs=1e-6)
    assert kernel_cka(x @ x.T, y @ y.T, estimator=estimator) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ORACLE)
def test_published_embeddings(mirror, name):
    x, y = np.load(mirror / "modality_gap" / f"features_{name}.npy")
    biased, debiased = ORACLE[name]
    assert linear_cka(x, y, estimator="biased") == pytest.approx(biased, abs=1e-3)
    assert linear_cka(x, y) == pytest.approx(debiased, abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_rbf_cka_equals_kernels_of_scipy_distances(shape, monkeypatch):
    x, y = pair(*shape)
    k, l = gaussian(x), gaussian(y)  # noqa: E741
    for estimator in ("debiased", "biased"):
        expected = kernel_cka(k, l, estimator=estimator)
        assert rbf_cka(x, y, estimator=estimator, device="cpu") == pytest.approx(expected, abs=1e-6)
    orders = np.stack([np.random.default_rng(s).permutation(60) for s in range(3)])
    null = cka_null([x], [y], orders, kernel="rbf", device="cpu")[:, 0, 0]
    np.testing.assert_allclose(null, [kernel_cka(k[np.ix_(o, o)], l) for o in orders], atol=1e-6)
    part = cka_subsamples([x], [y], orders[:, :30], kernel="rbf", device="cpu")[:, 0, 0]
    halves = [np.ix_(o, o) for o in orders[:, :30]]
    np.testing.assert_allclose(part, [kernel_cka(k[h], l[h]) for h in halves], atol=1e-6)
    monkeypatch.setattr(cka_kernels, "rows_per_chunk", lambda *args, **kwargs: 7)
    assert rbf_cka(x, y, device="cpu") == pytest.approx(kernel_cka(k, l), abs=1e-6)


def test_rbf_cka_sees_what_linear_cka_does_not():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2))
    radius = (x**2).sum(1, keepdims=True)  # uncorrelated with x
    assert linear_cka(x, radius) < 0.05 and rbf_cka(x, radius) > 0.15


def test_rbf_cka_of_mostly_equal_stimuli_is_nan():
    x = np.zeros((30, 3))
    x[:3] = np.eye(3)
    assert np.isnan(rbf_cka(x, pair(4, 3, n=30)[0], device="cpu"))


def test_an_array_seen_twice_is_prepared_and_multiplied_once(monkeypatch):
    x, calls = np.random.default_rng(0).standard_normal((30, 4)), []
    arrays = [x, x[:, :2], x + 1]
    monkeypatch.setattr(cka_module, "hsic", lambda a, b, e: calls.append(1) or cka_kernels.hsic(a, b, e))
    grid = cka_grid(arrays, [x[:], x[:, :2], arrays[2]], device="cpu")
    assert len(calls) == 6 and np.array_equal(grid, grid.T)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SHAPES), st.floats(1e-3, 1e3))
def test_rotation_scale_shift_and_order_of_rows_change_nothing(seed, shape, scale):
    rng = np.random.default_rng(seed)
    x, y = pair(*shape, seed=seed)
    moved = scale * x @ np.linalg.qr(rng.standard_normal((x.shape[1],) * 2))[0] - 7
    order = rng.permutation(len(x))
    for estimator in ("debiased", "biased"):
        value = linear_cka(x, y, estimator=estimator)
        assert linear_cka(moved[order], y[order], estimator=estimator) == pytest.approx(value, abs=1e-4)
        assert linear_cka(y, x, estimator=estimator) == pytest.approx(value, abs=1e-6)
        assert value <= 1 + 1e-6


@pytest.mark.parametrize("p", [20, 200, 2000])
def test_debiased_is_zero_for_unrelated_data_where_biased_is_not(p):
    values = {e: np.mean([linear_cka(*np.random.default_rng(s).standard_normal((2, 100, p)), estimator=e)
                          for s in range(8)]) for e in ("debiased", "biased")}
    assert abs(values["debiased"]) < 0.02
    assert values["biased"] > (0.1 if p == 20 else 0.6)


def test_many_rows_do_not_drift():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 24)).astype(np.float32)
    y = (0.3 * x + rng.standard_normal(x.shape) + 10).astype(np.float32)
    wide = [a.astype(np.float64) - a.astype(np.float64).mean(0) for a in (x, y)]
    cross = (wide[0].T @ wide[1]) ** 2
    own = [((a.T @ a) ** 2).sum() for a in wide]
    assert linear_cka(x, y, estimator="biased") == pytest.approx(cross.sum() / np.sqrt(own[0] * own[1]), abs=1e-6)


def test_no_stimulus_matrix_where_features_are_fewer():
    kernel = linear_kernel(pair(10, 20)[0], cka_module.resolve("cpu"))
    assert kernel.gram is None and kernel.rows.shape == (60, 10)


def test_a_grid_equals_its_cells_also_in_blocks_of_features(monkeypatch):
    arrays = [pair(*SHAPES[k], seed=k)[k % 2] for k in range(4)]
    monkeypatch.setattr(cka_kernels, "rows_per_chunk", lambda *args, **kwargs: 9)
    grid = cka_grid(arrays, arrays, device="cpu")
    expected = [[brute_force(a.astype(float), b.astype(float), "debiased") for b in arrays] for a in arrays]
    np.testing.assert_allclose(grid, expected, atol=1e-5)


@pytest.mark.parametrize("estimator", ["debiased", "biased"])
@pytest.mark.parametrize("shape", SHAPES)
def test_null_and_subsamples_equal_the_formula_on_moved_rows(shape, estimator):
    x, y = pair(*shape)
    rng = np.random.default_rng(1)
    orders = np.stack([rng.permutation(60) for _ in range(4)])
    null = cka_null([x], [y], orders, estimator=estimator, device="cpu")[:, 0, 0]
    np.testing.assert_allclose(null, [brute_force(x[o], y, estimator) for o in orders], atol=1e-6)
    part = cka_subsamples([x], [y], orders[:, :30], estimator=estimator, device="cpu")[:, 0, 0]
    np.testing.assert_allclose(part, [brute_force(x[o], y[o], estimator) for o in orders[:, :30]], atol=1e-6)


@pytest.mark.parametrize("p", [5, 80])
def test_constant_and_nan_features_give_nan_for_themselves_alone(p):
    x, y = pair(p, 8)
    broken, flat = x.copy(), np.full_like(x, 0.1)
    broken[0, 0] = np.nan
    found = cka_grid([x, broken, flat], [y], device="cpu")[:, 0]
    assert np.isfinite(found[0]) and np.isnan(found[1:]).all()


@pytest.mark.parametrize("call, words", [
    (lambda: linear_cka(np.ones((3, 2)), np.ones((3, 2))), "got 3 stimuli, expected at least 4"),
    (lambda: linear_cka(np.ones((5, 2)), np.ones((6, 2))), r"have \[5, 6\] rows, expected the same stimuli"),
    (lambda: linear_cka(np.ones(5), np.ones(5)), r"shape \(5,\), expected \(n_stimuli, n_features\)"),
    (lambda: linear_cka(*pair(3, 4), estimator="unbiased"), r"estimator: got 'unbiased'.*Did you mean.*'biased'"),
    (lambda: kernel_cka(np.eye(5), np.eye(6)), "expected two square matrices of one size"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()
