"""Sinkhorn and Gromov-Wasserstein against linear programmes, closed forms, enumeration and POT where installed."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

import neuroalign as na
from neuroalign.alignment import gromov_wasserstein, similarity
from neuroalign.alignment import pair_measures as pair_module
from neuroalign.alignment.transport import (
    gromov_wasserstein_value,
    mean_one_distances,
    sinkhorn,
)
from neuroalign.data import make_features

CPU = torch.device("cpu")


def spaces(n=20, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    return x, 10 * (x + noise * rng.standard_normal((n, 4))) @ np.linalg.qr(rng.standard_normal((4, 4)))[0] + 7


@pytest.mark.parametrize("shape", [(7, 7), (6, 9)])
def test_sinkhorn_solves_the_entropic_problem(shape):
    """At the optimum the plan is a scaled kernel with the right marginals; the dual value equals the primal one."""
    cost = torch.as_tensor(np.random.default_rng(0).random(shape))
    plan, (f, g) = sinkhorn(cost, 0.05, max_iter=5000)
    np.testing.assert_allclose(plan.sum(1), np.full(shape[0], 1 / shape[0]), atol=1e-8)
    np.testing.assert_allclose(plan.sum(0), np.full(shape[1], 1 / shape[1]), atol=1e-8)
    primal = float((plan * cost).sum() + 0.05 * (plan * (plan.log() - 1)).sum())
    dual = 0.05 * float(f.mean() + g.mean() - 1)
    assert primal == pytest.approx(dual, abs=1e-7)


def test_little_entropy_is_the_best_assignment():
    cost = np.random.default_rng(1).random((8, 8))
    plan, _ = sinkhorn(torch.as_tensor(cost), 0.005, max_iter=3000)
    rows, columns = linear_sum_assignment(cost)
    assert plan.argmax(1).tolist() == columns.tolist()
    assert float((plan * cost).sum()) == pytest.approx(cost[rows, columns].mean(), abs=2e-3)


def test_a_batch_equals_its_members():
    cost = torch.as_tensor(np.random.default_rng(2).random((3, 5, 6)))
    together = sinkhorn(cost, 0.05)[0]
    for one, plan in zip(cost, together):
        np.testing.assert_allclose(sinkhorn(one, 0.05)[0], plan, atol=1e-9)


def test_gromov_wasserstein_finds_the_best_of_all_orders_of_a_few_stimuli():
    x, y = spaces(6, 0.05)
    a, b = (mean_one_distances(v, CPU) for v in (x, y))
    values = [float(((a - b[np.ix_(o, o)]) ** 2).mean() ** 0.5) for o in map(list, itertools.permutations(range(6)))]
    best = list(itertools.permutations(range(6)))[int(np.argmin(values))]
    distance, plan = gromov_wasserstein(x, y, regularisation=0.002, device="cpu")
    assert plan.argmax(1).tolist() == list(best) and distance == pytest.approx(min(values), abs=5e-3)


def test_the_value_equals_the_sum_over_four_indices():
    x, y = spaces(5)[0], spaces(7, seed=1)[0]
    a, b = (mean_one_distances(v, CPU) for v in (x, y))
    plan = sinkhorn(torch.as_tensor(np.random.default_rng(0).random((5, 7))), 0.1, max_iter=5000)[0]
    brute = np.einsum("ikjl,ij,kl->", (a[:, :, None, None] - b[None, None]).numpy() ** 2, plan, plan)
    assert float(gromov_wasserstein_value(a, b, plan)) == pytest.approx(np.sqrt(brute), abs=1e-9)


def test_equal_geometries_are_matched_whatever_scale_rotation_and_order():
    x, y = spaces(30, 0.0)
    order = np.random.default_rng(0).permutation(30)
    distance, plan = gromov_wasserstein(x, y[order], device="cpu")
    assert np.array_equal(order[plan.argmax(1)], np.arange(30)) and distance < 0.1
    assert plan.sum(1) == pytest.approx(np.full(30, 1 / 30), abs=1e-4)
    assert gromov_wasserstein(x, spaces(30, seed=5)[0], device="cpu")[0] > 2 * distance


@pytest.mark.parametrize("regularisation", [0.03, 0.1])
def test_gromov_wasserstein_equals_pot(regularisation):
    ot = pytest.importorskip("ot", reason="POT is not installed")
    x, y = spaces(15)
    a, b = (mean_one_distances(v, CPU) for v in (x, y))
    even = np.full(15, 1 / 15)
    plan = gromov_wasserstein(x, y, regularisation=regularisation, device="cpu")[1]
    with np.errstate(all="ignore"):
        theirs = ot.gromov.entropic_gromov_wasserstein(a.numpy(), b.numpy(), even, even, "square_loss",
                                                       epsilon=regularisation, G0=plan, max_iter=500, tol=1e-10)
    np.testing.assert_allclose(plan, theirs, atol=1e-4)


def test_matching_and_its_null_count_stimuli_that_meet_themselves():
    x, y = spaces(15, 0.3)
    best = gromov_wasserstein(x, y, device="cpu")[1].argmax(1)
    measure = pair_module.PAIRS["gw.matching"]
    assert measure.score(x, y, CPU) == (best == np.arange(15)).mean() > 0.3
    orders = np.stack([np.random.default_rng(s).permutation(15) for s in range(3)])
    direct = [measure.score(x[o], y, CPU) for o in orders]
    np.testing.assert_allclose(measure.null(x, y, orders, CPU), direct)


def test_compare_finds_shared_geometry_without_labels():
    ids = [f"s{k:02d}" for k in range(12)]
    x, y = spaces(12, 0.05)
    other = make_features(np.random.default_rng(8).standard_normal((12, 4)), ids, model="z")
    found = na.compare([make_features(x, ids, model="x"), other], make_features(y, ids, model="y"),
                       metric=["gw.distance", "gw.matching"], n_permutations=9, device="cpu")
    near, far = found.sel(space="x::all").squeeze(), found.sel(space="z::all").squeeze()
    assert (near.p == 0.1).all() and (far.p > 0.1).all()
    assert near.score.sel(metric="gw.matching") == 1 and "Gaussian clouds" in na.scores.attrs_of(found)["null"]


def test_clouds_have_the_covariance_of_the_model_and_differ():
    seeds = similarity.draw_null("clouds", np.zeros((4, 12), int), 0)
    x, y = spaces(12)
    null = pair_module.PAIRS["gw.distance"].null(x, y, seeds, CPU)
    assert len(set(null.round(9))) == 4 and (null > 0).all()
    again = pair_module.PAIRS["gw.distance"].null(x, y, seeds[2:], CPU)
    np.testing.assert_allclose(again, null[2:], atol=1e-3)  # a batch goes on until the last has converged


def test_constant_features_and_nan_give_nan():
    x, y = spaces(8)
    broken = x.copy()
    broken[0, 0] = np.nan
    for bad in (broken, np.full_like(x, 0.1)):
        distance, plan = gromov_wasserstein(bad, y, device="cpu")
        assert np.isnan(distance) and np.isnan(plan).all() and plan.shape == (8, 8)
        assert np.isnan(pair_module.PAIRS["gw.matching"].null(bad, y, np.arange(8)[None], CPU)).all()
        assert np.isnan(pair_module.PAIRS["gw.distance"].null(bad, y, np.arange(2), CPU)).all()


def test_wrong_regularisation_is_explained():
    with pytest.raises(ValueError, match="regularisation: got 0, expected a number above 0"):
        gromov_wasserstein(*spaces(), regularisation=0)


@pytest.mark.parametrize("metric", ["gw.distance", "gw.matching", "units.soft"])
def test_a_long_null_shows_how_far_it_is(metric, monkeypatch, capsys):
    rng, ids = np.random.default_rng(0), [f"s{k:02d}" for k in range(32)]
    x, y, z = (make_features(rng.standard_normal((32, 3)), ids, model=m) for m in "xyz")
    options = {"metric": [metric], "n_permutations": 19, "n_bootstraps": 5, "device": "cpu"}
    monkeypatch.setattr("neuroalign.alignment.progress.PATIENCE", 0)
    silent = na.compare([x, y], z, progress=False, **options)
    assert capsys.readouterr().err == ""
    shown, said = na.compare([x, y], z, **options), capsys.readouterr().err
    assert f"{metric}: null: 100%" in said and "38/38" in said
    assert f"{metric}: half samples: 100%" in said and "5/5" in said
    np.testing.assert_array_equal(shown.p, silent.p)
    monkeypatch.setattr("neuroalign.alignment.progress.PATIENCE", 600)
    na.compare([x, y], z, **options)
    assert capsys.readouterr().err == ""  # nothing about what is quick


@pytest.mark.parametrize("measure, n", [("gw.distance", 60), ("units.soft", 100)])
def test_a_slow_null_moves_its_bar_in_small_steps(measure, n, monkeypatch):
    """A thousand draws at once would take minutes before the bar shows."""
    told, rows = [], np.zeros((n, 50))
    if measure == "units.soft":
        slow = similarity.MEASURES[measure]
        monkeypatch.setitem(similarity.MEASURES, measure,
                            replace(slow, score=lambda a, b: told.append(len(a.rows)) or torch.zeros(len(a.rows))))
        orders = np.tile(np.arange(n), (1000, 1))
        similarity.measure_null(measure, [rows], [rows], orders, weights=np.eye(1), device=CPU)
    else:
        monkeypatch.setattr(pair_module, "gromov_wasserstein_plan", lambda a, b: a)
        x = np.random.default_rng(0).standard_normal((n, 3))
        pair_module.PAIRS[measure].null(x, x, np.arange(1000), CPU, told.append)
    assert sum(told) == 1000 and max(told) <= 16
