"""Deep CCA: its loss against the formula and finite differences, planted relations, and what must not leak."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

import neuroalign as na
from neuroalign.alignment import canonical_correlations, held_out_cca, held_out_deep_cca
from neuroalign.alignment.deep_cca import _fit_fold, _Settings, cca_loss, deep_null
from neuroalign.alignment.metrics import get_metric
from neuroalign.alignment.similarity import measure_grid, measure_null
from neuroalign.data import make_features

CPU = torch.device("cpu")
QUICK = {"hidden": (8,), "epochs": 40, "cv": 3, "device": "cpu"}


def bent(n=240, seed=0):
    """Sides that share two numbers, one of them without its sign, so that no linear map finds it."""
    rng = np.random.default_rng(seed)
    hidden = rng.uniform(-1, 1, (n, 2))
    x = np.hstack([hidden, 0.3 * rng.standard_normal((n, 3))])
    y = np.hstack([np.abs(hidden), 0.2 * rng.standard_normal((n, 4))])
    return x, 50 * y @ np.linalg.qr(rng.standard_normal((6, 6)))[0] + 7


def shared(n=200, p=20, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 3))
    return [latent @ rng.standard_normal((3, p)) + 1.5 * rng.standard_normal((n, p)) for _ in range(2)]


def brute_loss(u, v, k, reg):
    """Symmetric roots by eigendecomposition, eigenvalues above a floor, and the eigenvalues of T'T."""
    def root(c):
        values, vectors = np.linalg.eigh(c)
        return vectors @ np.diag(np.maximum(values, 1e-9) ** -0.5) @ vectors.T

    u, v, n = u - u.mean(0), v - v.mean(0), len(u)
    within = [w.T @ w / (n - 1) + reg * np.eye(w.shape[1]) for w in (u, v)]
    t = root(within[0]) @ (u.T @ v / (n - 1)) @ root(within[1])
    values = np.linalg.eigvalsh(t.T @ t + reg * np.eye(t.shape[1]))[::-1]
    return -np.sqrt(values[:k]).sum()


@pytest.mark.parametrize("k", [1, 3])
def test_loss_equals_the_formula_and_its_gradient_finite_differences(k):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((30, 4))
    v = u[:, :3] + rng.standard_normal((30, 3))
    tensors = [torch.tensor(w, requires_grad=True) for w in (u, v)]
    loss = cca_loss(*tensors, k, reg=1e-3)
    assert loss.item() == pytest.approx(brute_loss(u, v, k, 1e-3), abs=1e-10)
    loss.backward()
    for side, tensor in enumerate(tensors):
        for row, column in ((0, 0), (7, 2), (29, 1)):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [u.copy(), v.copy()]
                moved[side][row, column] += step
                ends.append(brute_loss(*moved, k, 1e-3))
            assert tensor.grad[row, column].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


def test_loss_has_a_gradient_for_equal_correlations_and_for_none():
    u = torch.eye(8, dtype=torch.float64)[:, :3].requires_grad_()
    cca_loss(u, u.detach().flip(0), 3).backward()
    assert torch.isfinite(u.grad).all()
    cca_loss(u, torch.ones((8, 2), dtype=torch.float64), 2).backward()
    assert torch.isfinite(u.grad).all()


def test_linear_maps_converge_to_the_canonical_correlations():
    x, y = shared(100, 4)
    a, b = (torch.tensor(v) for v in (x, y))
    torch.manual_seed(0)
    maps = nn.ModuleList(nn.Linear(4, 2, dtype=torch.float64) for _ in range(2))
    optimiser = torch.optim.LBFGS(maps.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = cca_loss(maps[0](a), maps[1](b), 2, reg=1e-6)
        loss.backward()
        return loss

    optimiser.step(closure)
    rho = canonical_correlations(x, y, device="cpu")[:2]
    assert -closure().item() == pytest.approx(rho.sum(), abs=1e-3)


def test_a_relation_without_a_linear_part_is_found_on_held_out_stimuli():
    x, y = bent()
    assert held_out_cca(x, y, n_components=2, device="cpu").score < 0.2
    settings = QUICK | {"epochs": 120, "hidden": (16,), "cv": 2}
    found = held_out_deep_cca(x, y, n_components=2, n_permutations=2, **settings)
    assert found.score > 0.85 and found.p == pytest.approx(1 / 3)
    assert found.null.shape == (2,) and (np.abs(found.null) < 0.4).all() and (found.epochs > 10).all()


@pytest.mark.parametrize("p", [20, 60])
def test_a_linear_relation_is_found_nearly_as_well_as_by_linear_cca(p):
    x, y = shared(150, p)
    linear = held_out_cca(x, y, n_components=3, cv=3, device="cpu").score
    assert linear > 0.7 and held_out_deep_cca(x, y, n_components=3, **QUICK).score > linear - 0.15


def test_unrelated_data_are_about_zero():
    drawn = (np.random.default_rng(seed).standard_normal((2, 90, 12)) for seed in range(3))
    scores = [held_out_deep_cca(x, y, n_components=3, **QUICK).score for x, y in drawn]
    assert abs(np.mean(scores)) < 0.08


def test_repeats_of_a_stimulus_are_learnt_by_heart_unless_they_are_a_group():
    x, y = (np.repeat(v, 4, 0) for v in np.random.default_rng(0).standard_normal((2, 30, 8)))
    groups = np.repeat(np.arange(30), 4)
    assert held_out_deep_cca(x, y, n_components=2, **QUICK).score > 0.6
    found = held_out_deep_cca(x, y, n_components=2, groups=groups, n_permutations=1, **QUICK)
    assert abs(found.score) < 0.35 and found.p >= 0.5 and (np.abs(found.null) < 0.5).all()


def test_nothing_is_fitted_on_test_rows():
    x, y = bent(60)
    settings = _Settings(2, (8,), 1e-3, 20, 10, 1e-2, 1e-2, 0, CPU)
    train, test = np.arange(0, 45), np.arange(45, 60)
    before, epoch = _fit_fold(x, y, train, None, settings)
    x[test], y[test] = 1e3 * x[test][::-1] + 5, -y[test] ** 2
    after, again = _fit_fold(x, y, train, None, settings)
    assert epoch == again
    for one, two in zip(before, after):
        torch.testing.assert_close(one[train], two[train], rtol=0, atol=0)
        assert not torch.allclose(one[test], two[test])


def test_a_seed_gives_the_same_again_and_leaves_the_global_one_alone():
    x, y = bent(60)
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one, two = (held_out_deep_cca(x, y, n_components=2, **QUICK).correlations for _ in range(2))
    other = held_out_deep_cca(x, y, n_components=2, random_state=1, **QUICK).correlations
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other) and torch.equal(state, torch.random.get_rng_state())


def test_compare_offers_it_with_a_refitted_null(monkeypatch):
    quick = partial(held_out_deep_cca, epochs=10)
    monkeypatch.setattr(import_module("neuroalign.alignment.deep_cca"), "held_out_deep_cca", quick)
    x, y = bent(40)
    ids = [f"s{k:02d}" for k in range(40)]
    found = na.compare(make_features(x, ids, model="a"), make_features(y, ids, model="b"), metric="cca.deep",
                       n_permutations=1, device="cpu")
    alone = quick(x.astype(np.float32), y.astype(np.float32), device="cpu").score
    assert found.score.item() == pytest.approx(alone, abs=1e-6)
    assert found.p.item() in (0.5, 1.0) and get_metric("cca.deep").kind == "features"
    order = np.random.default_rng(0).permutation(40)[None]
    null = measure_null("cca.deep", [x], [y], order, weights=np.eye(1), device=CPU)
    assert null[0, 0, 0] == pytest.approx(quick(x[order[0]], y, device="cpu").score)
    broken = x.copy()
    broken[3, 0] = np.nan
    assert np.isnan(measure_grid("cca.deep", [broken], [y], device=CPU)[0]).all()
    assert np.isnan(deep_null(np.ones((40, 2)), y, order, CPU)).all()


@pytest.mark.parametrize("call, words", [
    (lambda x, y: held_out_deep_cca(x[:10], y[:10]), "got 10 stimuli, expected at least 20"),
    (lambda x, y: held_out_deep_cca(x, y[:9]), "got 60 and 9 rows"),
    (lambda x, y: held_out_deep_cca(x, y, reg=0), "reg: got 0, expected a number above 0"),
    (lambda x, y: held_out_deep_cca(x, y, n_components=0), "n_components: got 0"),
    (lambda x, y: held_out_deep_cca(x, y, hidden=(4.5,)), r"hidden: got 4.5, expected whole numbers"),
    (lambda x, y: held_out_deep_cca(x, y, cv=30), "a fold has 2 test stimuli"),
    (lambda x, y: held_out_deep_cca(x * np.nan, y), "constant or holds NaN"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(*bent(60))
