"""Matching of units against scipy fold by fold and a linear programme, with planted permutations."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog

import neuroalign as na
from neuroalign.alignment import linear_cka, matched_correlation
from neuroalign.alignment.similarity import measure_grid, measure_null, measure_subsamples
from neuroalign.data import make_features
from neuroalign.linalg import resolve
from neuroalign.stats import make_folds

CPU = resolve("cpu")


def pair(n=60, p=6, q=4, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) + 3
    return x, 5 * (x[:, rng.permutation(p)[:q]] + noise * rng.standard_normal((n, q)))


def correlations(x, y):
    return np.corrcoef(x.T, y.T)[:x.shape[1], x.shape[1]:]


def folds(n):
    return make_folds("kfold", n, n_splits=5)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_one_to_one_equals_assignment_fold_by_fold(shape):
    x, _ = pair(p=shape[0], q=1)
    y = pair(p=shape[1], q=1, seed=1)[0] + x[:, :1]
    expected = []
    for train, test in folds(60):
        i, j = linear_sum_assignment(correlations(x[train], y[train]), maximize=True)
        expected.append(correlations(x[test], y[test])[i, j].mean())
    assert matched_correlation(x, y, device="cpu") == pytest.approx(np.mean(expected), abs=1e-9)


def test_soft_matching_nears_the_linear_programme():
    x, y = pair()
    expected = []
    for train, test in folds(60):
        p, q = 6, 4
        rows = np.kron(np.eye(p), np.ones(q)), np.kron(np.ones(p), np.eye(q))
        found = linprog(-correlations(x[train], y[train]).ravel(), A_eq=np.concatenate(rows),
                        b_eq=np.concatenate([np.full(p, 1 / p), np.full(q, 1 / q)]))
        expected.append((correlations(x[test], y[test]).ravel() * found.x).sum())
    found = matched_correlation(x, y, method="soft", regularisation=0.002, device="cpu")
    assert found == pytest.approx(np.mean(expected), abs=0.01)
    assert matched_correlation(x, y, method="soft", device="cpu") == pytest.approx(np.mean(expected), abs=0.03)


def test_units_are_found_again_where_a_rotation_is_not_free():
    x, y = pair(200, noise=0.0)
    turned = x @ np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    assert matched_correlation(x, y) == pytest.approx(1, abs=1e-9)
    assert matched_correlation(x, turned) < 0.9 and linear_cka(x, turned) > 0.999
    both = matched_correlation(x, x[:, ::-1], method="soft")
    assert both == pytest.approx(1, abs=0.02)


def test_unrelated_units_score_about_zero_however_many():
    rng = np.random.default_rng(0)
    found = [matched_correlation(*rng.standard_normal((2, 50, 20)), method=m) for _ in range(3)
             for m in ("one_to_one", "soft")]
    assert abs(np.mean(found)) < 0.08


@pytest.mark.parametrize("method", ["units.one_to_one", "units.soft"])
def test_null_and_subsamples_equal_scores_of_moved_rows(method):
    x, y = pair()
    orders = np.stack([np.random.default_rng(s).permutation(60) for s in range(3)])
    null = measure_null(method, [x], [y], orders, weights=np.eye(1), device=CPU)[:, 0, 0]
    direct = [measure_grid(method, [x[o]], [y], device=CPU)[0][0, 0] for o in orders]
    np.testing.assert_allclose(null, direct, atol=1e-5)
    part = measure_subsamples(method, [x], [y], orders[:, :30], device=CPU)[:, 0, 0]
    direct = [measure_grid(method, [x[o]], [y[o]], device=CPU)[0][0, 0] for o in orders[:, :30]]
    np.testing.assert_allclose(part, direct, atol=1e-6)


def test_compare_takes_units():
    ids = [f"s{k:02d}" for k in range(60)]
    x, y = pair()
    other = np.random.default_rng(5).standard_normal((60, 6))
    found = na.compare([make_features(v, ids, model=m) for v, m in ((x, "x"), (other, "z"))],
                       make_features(y, ids, model="y"), metric=["units.one_to_one", "units.soft"], n_permutations=19,
                       n_bootstraps=3, device="cpu")
    assert (found.p.sel(space="x::all") == 0.05).all() and (found.p.sel(space="z::all") > 0.05).all()
    assert found.ci_low.notnull().all()


def test_bad_values_give_nan_and_bad_arguments_are_explained():
    x, y = pair()
    broken = x.copy()
    broken[0, 0] = np.nan
    for bad in (broken, np.full_like(x, 0.1)):
        assert np.isnan(matched_correlation(bad, y))
    silent = np.concatenate([x, np.ones((60, 1))], 1)  # a unit that never varies matches nothing
    assert 0 < matched_correlation(silent[:, [0, 6]], x[:, :2]) < 0.7
    with pytest.raises(ValueError, match="method: got 'hard'"):
        matched_correlation(x, y, method="hard")
    with pytest.raises(ValueError, match="got 60 and 9 rows"):
        matched_correlation(x, y[:9])
