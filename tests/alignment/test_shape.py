"""Shape distances and predictivity against scipy and scikit-learn in float64, and the properties they claim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power, orthogonal_procrustes
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

import neuroalign as na
from neuroalign.alignment import METRICS, angular_distance, linear_predictivity, procrustes_distance
from neuroalign.alignment import shape as shape_module
from neuroalign.alignment.similarity import measure_grid, measure_null, measure_subsamples
from neuroalign.data import make_features
from neuroalign.errors import NeuroalignWarning
from neuroalign.linalg import resolve

CPU = resolve("cpu")
METHODS = ["procrustes", "angular", "angular.half", "angular.whitened", "predictivity.forward",
           "predictivity.reverse"]


def pair(p=6, q=4, n=40, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 2))
    x, y = (latent @ rng.standard_normal((2, k)) + rng.standard_normal((n, k)) for k in (p, q))
    return x + 5, 1e3 * y


def padded(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    width = max(x.shape[1], y.shape[1])
    return [np.pad(v, ((0, 0), (0, width - v.shape[1]))) for v in (x, y)]


def rotated(x, y):
    x, y = (v / np.linalg.norm(v) for v in padded(x, y))
    return x @ orthogonal_procrustes(x, y)[0], y


def whitened(x, alpha):
    """The paper's X (alpha I + (1 - alpha) (X'X)^(-1/2)), X scaled to singular values of mean square 1."""
    x = x - x.mean(0)
    x = x / np.sqrt((x**2).sum() / x.shape[1])
    return x @ (alpha * np.eye(x.shape[1]) + (1 - alpha) * fractional_matrix_power(x.T @ x, -0.5))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (70, 5), (50, 60)])
def test_distances_equal_scipy(shape):
    x, y = pair(*shape)
    a, b = rotated(x, y)
    assert procrustes_distance(x, y, device="cpu") == pytest.approx(np.linalg.norm(a - b), abs=1e-9)
    assert angular_distance(x, y, device="cpu") == pytest.approx(np.arccos((a * b).sum()), abs=1e-9)
    c, d = padded(x, y)
    plain = np.linalg.norm(c @ orthogonal_procrustes(c, d)[0] - d)
    assert procrustes_distance(x, y, scale=False, device="cpu") == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_partial_whitening_equals_the_formula(alpha):
    x, y = pair()
    a, b = rotated(whitened(x, alpha), whitened(y, alpha))
    assert angular_distance(x, y, alpha=alpha, device="cpu") == pytest.approx(np.arccos((a * b).sum()), abs=1e-8)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-2, 1e2), st.sampled_from([0.0, 0.5, 1.0]))
def test_distances_are_metrics_on_shapes(seed, scale, alpha):
    """Rotation, scale, shift and order of rows change nothing; symmetry; triangle inequality; bounds."""
    rng = np.random.default_rng(seed)
    x, y = pair(5, 5, seed=seed)
    z = rng.standard_normal((40, 5)) + x / 2
    turned = scale * x @ np.linalg.qr(rng.standard_normal((5, 5)))[0] - 7
    order = rng.permutation(40)
    xy, yz, xz = (angular_distance(*p, alpha=alpha) for p in ((x, y), (y, z), (x, z)))
    assert xz <= xy + yz + 1e-9 and 0 <= xy <= np.pi / 2
    assert angular_distance(turned[order], y[order], alpha=alpha) == pytest.approx(xy, abs=1e-7)
    assert angular_distance(y, x, alpha=alpha) == pytest.approx(xy, abs=1e-9)
    assert angular_distance(x, turned, alpha=alpha) < 1e-6
    p = procrustes_distance(x, y)
    assert procrustes_distance(turned[order], y[order]) == pytest.approx(p, abs=1e-7) and 0 <= p <= np.sqrt(2)
    assert procrustes_distance(y, x) == pytest.approx(p, abs=1e-9) and procrustes_distance(x, turned) < 1e-6


def brute_predictivity(x, y, penalties, splits):
    sse = sst = 0.0
    for train, test in splits:
        unit = ((x[train] - x[train].mean(0)) ** 2).sum() / len(train)
        losses = []
        for alpha in penalties:
            errors = [y[i] - Ridge(alpha * unit).fit(x[rest], y[rest]).predict(x[i:i + 1])[0]
                      for i in train for rest in [train[train != i]]]
            losses.append(np.square(errors).sum())
        best = penalties[int(np.argmin(losses))]
        found = Ridge(best * unit).fit(x[train], y[train]).predict(x[test])
        sse, sst = sse + ((y[test] - found) ** 2).sum(), sst + ((y[test] - y[train].mean(0)) ** 2).sum()
    return 1 - sse / sst


@pytest.mark.parametrize("shape", [(6, 4), (60, 3)])
def test_predictivity_equals_ridge_fitted_fold_by_fold(shape):
    x, y = pair(*shape, n=30)
    splits = list(KFold(3, shuffle=True, random_state=0).split(x))
    table = np.zeros(30, int)
    for fold, (_, test) in enumerate(splits):
        table[test] = fold
    penalties = [1e-3, 0.1, 10.0]
    for a, b in ((x, y), (y, x)):
        expected = brute_predictivity(a, b, penalties, splits)
        found = linear_predictivity(a, b, penalties=penalties, cv=table, device="cpu")
        assert found == pytest.approx(expected, abs=1e-7)


def test_predictivity_has_a_direction_and_is_not_above_zero_for_unrelated_data():
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 80, 6))
    y = x[:, :2] @ rng.standard_normal((2, 5))
    assert linear_predictivity(x, y) > 0.99 > 0.6 > linear_predictivity(y, x) > 0.1
    assert -0.2 < linear_predictivity(x, z) < 0.05


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-2, 1e2))
def test_rotation_scale_and_shift_leave_predictivity(seed, scale):
    x, y = pair(seed=seed)
    rng = np.random.default_rng(seed)
    value = linear_predictivity(x, y)
    turned = [scale * v @ np.linalg.qr(rng.standard_normal((v.shape[1],) * 2))[0] - 7 for v in (x, y)]
    assert linear_predictivity(turned[0], turned[1]) == pytest.approx(value, abs=1e-6) and value <= 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("p", [5, 60])
def test_null_and_subsamples_equal_scores_of_moved_rows(method, p):
    x, y = pair(p, 4)
    rng = np.random.default_rng(1)
    orders = np.stack([rng.permutation(40) for _ in range(4)])
    null = measure_null(method, [x], [y], orders, weights=np.eye(1), device=CPU)[:, 0, 0]
    # The folds of a predictor move with its rows, so the same pairing is reached by moving the other side back.
    direct = [measure_grid(method, *(([x[o]], [y]) if method != "predictivity.forward"
                                     else ([x], [y[np.argsort(o)]])), device=CPU)[0][0, 0] for o in orders]
    np.testing.assert_allclose(null, direct, atol=1e-6)
    part = measure_subsamples(method, [x], [y], orders[:, :20], device=CPU)[:, 0, 0]
    direct = [measure_grid(method, [x[o]], [y[o]], device=CPU)[0][0, 0] for o in orders[:, :20]]
    np.testing.assert_allclose(part, direct, atol=1e-6)


def test_matrices_that_do_not_fit_together_are_made_fold_by_fold(monkeypatch):
    x, y = pair()
    whole = linear_predictivity(x, y, device="cpu")
    monkeypatch.setattr(shape_module, "LIMIT", 0)
    assert linear_predictivity(x, y, device="cpu") == whole


def test_compare_takes_smaller_distances_for_better():
    rng = np.random.default_rng(0)
    ids = [f"s{k:02d}" for k in range(30)]
    values = rng.standard_normal((30, 6))
    a = make_features(values, ids, model="a")
    b = make_features(values @ rng.standard_normal((6, 5)) + 0.1 * rng.standard_normal((30, 5)), ids, model="b")
    other = make_features(rng.standard_normal((30, 6)), ids, model="other")
    names = [f"shape.{m}" if not m.startswith("pred") else m for m in METHODS]
    found = na.compare([a, other], b, metric=names, n_permutations=39, n_bootstraps=20, device="cpu")
    near, far = found.sel(space="a::all"), found.sel(space="other::all")
    assert (near.p <= 0.05).all() and (far.p > 0.05).all()
    assert (near.ci_low <= near.score).all() and (near.score <= near.ci_high + 1e-9).all()
    for name in names:
        below = near.score.sel(metric=name) < near.null_mean.sel(metric=name)
        assert below.item() == (METRICS[name].direction == "lower")


def test_whitened_distance_of_more_components_than_stimuli_is_warned_of():
    ids = [f"s{k:02d}" for k in range(12)]
    a, b = (make_features(np.random.default_rng(s).standard_normal((12, 30)), ids, model=str(s)) for s in (0, 1))
    with pytest.warns(NeuroalignWarning, match="shape.angular.whitened of '0::all' says little"):
        na.compare(a, b, metric="shape.angular.whitened", n_permutations=0, device="cpu")


@pytest.mark.parametrize("method", METHODS)
def test_constant_and_nan_features_give_nan_for_themselves_alone(method):
    x, y = pair()
    broken, flat = x.copy(), np.full_like(x, 0.1)
    broken[0, 0] = np.nan
    found = measure_grid(method, [x, broken, flat], [y], device=CPU)[0][:, 0]
    assert np.isfinite(found[0]) and np.isnan(found[1:]).all()


@pytest.mark.parametrize("call, words", [
    (lambda x, y: procrustes_distance(x[:3], y[:3]), "got 3 stimuli, expected at least 4"),
    (lambda x, y: angular_distance(x, y[:9]), "got 40 and 9 rows, expected the same stimuli"),
    (lambda x, y: angular_distance(x, y, alpha=2), r"alpha: got 2, expected 0 \(whitened\) to 1"),
    (lambda x, y: linear_predictivity(x, y, penalties=[0.0]), "penalties: got .* above 0"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(*pair())
