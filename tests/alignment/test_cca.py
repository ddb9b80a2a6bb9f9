"""Canonical correlations against scipy and scikit-learn in float64, and on planted shared subspaces."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh, subspace_angles
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

import neuroalign as na
from neuroalign.alignment import canonical_correlations, held_out_cca, pwcca, svcca
from neuroalign.alignment import feature_basis as basis_module
from neuroalign.alignment.similarity import measure_grid, measure_null, measure_subsamples
from neuroalign.data import make_features
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning
from neuroalign.linalg import resolve

CPU = resolve("cpu")
METHODS = ["svcca", "pwcca.features", "pwcca.targets", "cca.heldout"]


def pair(p=6, q=4, n=60, seed=0, shared=2):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, shared))
    x, y = (latent @ rng.standard_normal((shared, k)) + rng.standard_normal((n, k)) for k in (p, q))
    return x + 5, 1e3 * y


def brute_correlations(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return np.cos(subspace_angles(x, y))[::-1]


def brute_pwcca(x, y):
    """The published recipe on SVDs of the data, weighted by x."""
    x, y = x - x.mean(0), y - y.mean(0)
    u, v = (np.linalg.svd(m, full_matrices=False)[0][:, :np.linalg.matrix_rank(m)] for m in (x, y))
    directions, rho, _ = np.linalg.svd(u.T @ v, full_matrices=False)
    weights = np.abs((u @ directions).T @ x).sum(1)
    return (weights * rho).sum() / weights.sum()


def brute_heldout(x, y, reg, k, splits):
    """Ridge CCA by the generalised eigenproblem of the training covariances."""
    sums = np.zeros((3, k))
    for train, test in splits:
        cov = []
        for v in (x, y):
            part = v[train] - v[train].mean(0)
            c = part.T @ part / len(train)
            cov.append((1 - reg) * c + reg * np.trace(c) / len(c) * np.eye(len(c)))
        cross = (x[train] - x[train].mean(0)).T @ (y[train] - y[train].mean(0)) / len(train)
        _, wx = eigh(cross @ np.linalg.inv(cov[1]) @ cross.T, cov[0])
        wx = wx[:, ::-1][:, :k]
        wy = np.linalg.inv(cov[1]) @ cross.T @ wx
        wy = wy / np.sqrt(np.einsum("ij,ik,kj->j", wy, cov[1], wy))
        a, b = x[test] @ wx, y[test] @ wy
        a, b = a - a.mean(0), b - b.mean(0)
        sums += [(a * b).sum(0), (a * a).sum(0), (b * b).sum(0)]
    return sums[0] / np.sqrt(sums[1] * sums[2])


def splits_of(n, k=5):
    return list(KFold(k, shuffle=True, random_state=3).split(np.zeros(n)))


def table_of(splits, n):
    table = np.zeros(n, int)
    for fold, (_, test) in enumerate(splits):
        table[test] = fold
    return table


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (40, 3), (3, 80)])
def test_correlations_equal_the_angles_between_subspaces(shape):
    x, y = pair(*shape)
    with pytest.warns(NeuroalignWarning, match="counting alone") if shape == (3, 80) else nullcontext():
        found = canonical_correlations(x, y, device="cpu")
    np.testing.assert_allclose(found, brute_correlations(x, y), atol=1e-7)


def test_correlations_equal_scikit_learn():
    x, y = pair()
    fitted = CCA(n_components=3, scale=False, max_iter=5000, tol=1e-12).fit(x, y)
    u, v = fitted.transform(x, y)
    expected = [np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(canonical_correlations(x, y, device="cpu")[:3], expected, atol=1e-5)


def test_svcca_and_pwcca_equal_brute_force():
    x, y = pair(12, 9, seed=2)
    x[:, 6:] *= 1e-3
    reduced = []
    for v in (x, y):
        held = PCA().fit(v)
        count = int((np.cumsum(held.explained_variance_ratio_) < 0.99).sum()) + 1
        reduced.append(held.transform(v)[:, :count])
    assert reduced[0].shape[1] < 7
    assert svcca(x, y, device="cpu") == pytest.approx(brute_correlations(*reduced).mean(), abs=1e-7)
    own, other = (pwcca(x, y, weights=w, device="cpu") for w in ("x", "y"))
    assert own == pytest.approx(brute_pwcca(x, y), abs=1e-7)
    assert other == pytest.approx(brute_pwcca(y, x), abs=1e-7) and abs(own - other) > 1e-3
    assert pwcca(y, x, device="cpu") == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize("reg", [0.0, 0.3])
def test_held_out_correlations_equal_the_generalised_eigenproblem(reg):
    x, y = pair(seed=4)
    splits = splits_of(60)
    found = held_out_cca(x, y, n_components=3, reg=reg, cv=table_of(splits, 60), device="cpu")
    np.testing.assert_allclose(found.correlations, brute_heldout(x, y, reg, 3, splits), atol=1e-7)
    assert found.score == pytest.approx(found.correlations.mean())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-2, 1e2))
def test_what_changes_nothing(seed, scale):
    """Invertible maps for CCA; rotations and scale for SVCCA and held-out CCA; order of rows; symmetry; bounds."""
    x, y = pair(seed=seed)
    rng = np.random.default_rng(seed)
    mixed = x @ (rng.standard_normal((6, 6)) + 4 * np.eye(6)) - 3
    turned = scale * x @ np.linalg.qr(rng.standard_normal((6, 6)))[0] + 2
    order = rng.permutation(60)
    np.testing.assert_allclose(canonical_correlations(mixed, y), canonical_correlations(x, y), atol=1e-5)
    assert svcca(turned[order], y[order]) == pytest.approx(svcca(x, y), abs=1e-6)
    assert svcca(y, x) == pytest.approx(svcca(x, y), abs=1e-9) and 0 <= svcca(x, y) <= 1
    value = pwcca(x, y)
    assert pwcca(scale * x[order], y[order] @ np.diag([2, 1, 3, 0.1])) == pytest.approx(value, abs=1e-6)
    assert 0 <= value <= 1
    one, two, three = (held_out_cca(a, b, n_components=2).score for a, b in ((x, y), (turned, y), (y, x)))
    assert one == pytest.approx(two, abs=1e-6) and one == pytest.approx(three, abs=1e-6) and -1 <= one <= 1


def test_held_out_is_zero_for_unrelated_data_where_the_others_are_not():
    values = {m: [] for m in METHODS}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((2, 50, 20))
        for m in METHODS:
            values[m].append(measure_grid(m, [x], [y], device=CPU)[0][0, 0])
    assert abs(np.mean(values["cca.heldout"])) < 0.06
    assert np.mean(values["svcca"]) > 0.4 and np.mean(values["pwcca.features"]) > 0.4


def test_a_shared_subspace_is_found_and_its_size_chosen_within_training_folds():
    rng = np.random.default_rng(5)
    latent = rng.standard_normal((150, 3))
    x = np.hstack([latent + 0.3 * rng.standard_normal((150, 3)), rng.standard_normal((150, 27))])
    y = np.hstack([latent @ rng.standard_normal((3, 3)), 2 * rng.standard_normal((150, 17))])
    found = held_out_cca(x, y, n_components=[1, 3, 10], reg=[0.01, 0.3, 1.0], cv=3)
    assert (found.n_components == 3).sum() >= 2 and set(found.reg) <= {0.01, 0.3, 1.0}
    assert found.correlations[0] > 0.7


def test_groups_never_straddle_folds():
    x, y = pair(n=24)
    twice = [np.repeat(v, 2, 0) for v in (x, y)]
    alone = held_out_cca(*twice, n_components=1, groups=np.repeat(np.arange(24), 2), cv=4)
    assert alone.score < held_out_cca(*twice, n_components=1, cv=4).score + 0.05


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("p", [5, 90])
def test_null_and_subsamples_equal_scores_of_moved_rows(method, p):
    x, y = pair(p, 4, n=40)
    rng = np.random.default_rng(1)
    orders = np.stack([rng.permutation(40) for _ in range(4)])
    null = measure_null(method, [x], [y], orders, weights=np.eye(1), device=CPU)[:, 0, 0]
    direct = [measure_grid(method, [x[o]], [y], device=CPU)[0][0, 0] for o in orders]
    np.testing.assert_allclose(null, direct, atol=1e-6)
    part = measure_subsamples(method, [x], [y], orders[:, :20], device=CPU)[:, 0, 0]
    direct = [measure_grid(method, [x[o]], [y[o]], device=CPU)[0][0, 0] for o in orders[:, :20]]
    np.testing.assert_allclose(part, direct, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 4), (90, 4), (90, 80)])
def test_overlap_without_left_vectors_equals_their_product(shape):
    a, b = (basis_module.feature_basis(v, CPU).keep(0.99) for v in pair(*shape))
    assert (a.vectors is None) == (shape[0] < 60)
    np.testing.assert_allclose(a.overlap(b), a.left.mT @ b.left, atol=1e-12)


def test_blocks_of_features_change_nothing(monkeypatch):
    x, _ = pair(90, 70, n=30)
    whole = basis_module.feature_basis(x, CPU, loadings=True)
    monkeypatch.setattr(basis_module, "rows_per_chunk", lambda *args, **kwargs: 7)
    parts = basis_module.feature_basis(x, CPU, loadings=True)
    np.testing.assert_allclose(parts.singular, whole.singular, rtol=1e-9)
    np.testing.assert_allclose(parts.loadings.abs(), whole.loadings.abs(), atol=1e-6)
    centred = x - x.mean(0)
    np.testing.assert_allclose(whole.left @ whole.loadings, centred, atol=1e-8)


def test_compare_gives_null_interval_and_a_warning_where_components_outnumber_stimuli():
    rng = np.random.default_rng(0)
    ids = [f"s{k:02d}" for k in range(40)]
    latent = rng.standard_normal((40, 4))
    a = make_features(latent @ rng.standard_normal((4, 6)), ids, model="a")
    b = make_features(latent @ rng.standard_normal((4, 5)) + 0.1 * rng.standard_normal((40, 5)), ids, model="b")
    wide = make_features(rng.standard_normal((40, 50)), ids, model="wide")
    with pytest.warns(NeuroalignWarning, match=r"pwcca.* of 'wide::all' says little.*cca.heldout") as caught:
        found = na.compare([a, wide], b, metric=METHODS, n_permutations=39, n_bootstraps=20, device="cpu")
    assert {w.message.code for w in caught} == {"degenerate-cca"}
    assert {w["code"] for w in attrs_of(found)["warnings"]} == {"degenerate-cca"}
    near = found.sel(space="a::all")
    assert (near.p <= 0.05).all() and (near.score > near.null_mean).all()
    assert (near.ci_low <= near.score + 1e-6).all() and near.ci_high.notnull().all()
    assert found.sel(space="wide::all", metric="cca.heldout").p.item() > 0.05


def test_bad_features_are_nan_alone_and_named():
    ids = [f"s{k:02d}" for k in range(20)]
    rng = np.random.default_rng(0)
    good = make_features(rng.standard_normal((20, 3)), ids, model="good")
    flat = make_features(np.full((20, 3), 0.1), ids, model="flat")
    broken = good.copy(deep=True).assign_coords(model="broken", space_id="broken::all")
    broken[3, 0] = np.nan
    for method in METHODS:
        with pytest.warns(NeuroalignWarning, match=rf"{method} of 'flat::all', 'broken::all' is NaN"):
            found = na.compare([good, flat, broken], good, metric=method, n_permutations=3, n_bootstraps=3,
                               device="cpu")
        assert np.isnan(found.score.values.ravel()).tolist() == [False, True, True]
        assert np.isnan(found.p.values.ravel()).tolist() == [False, True, True]


@pytest.mark.parametrize("call, words", [
    (lambda x, y: svcca(x[:3], y[:3]), "got 3 stimuli, expected at least 4"),
    (lambda x, y: svcca(x, y[:9]), "got 60 and 9 rows, expected the same stimuli"),
    (lambda x, y: svcca(x, y, variance=0), "variance: got 0, expected a share above 0"),
    (lambda x, y: pwcca(x, y, weights="both"), "weights: got 'both'"),
    (lambda x, y: held_out_cca(x, y, reg=2), "reg: got 2, expected one or several numbers from 0 to 1"),
    (lambda x, y: held_out_cca(x, y, n_components=0), "n_components: got 0"),
    (lambda x, y: held_out_cca(x, y, cv=30), "a fold has 2 test stimuli, expected at least 3"),
    (lambda x, y: held_out_cca(x * np.nan, y), "constant or holds NaN"),
    (lambda x, y: measure_grid("cca.heldout", [x[:5]], [y[:5]], device=CPU), "needs at least 6 stimuli, got 5"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(*pair())
