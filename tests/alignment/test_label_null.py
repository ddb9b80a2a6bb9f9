"""The null and the bootstrap against loops that permute and duplicate for real."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from neuroalign.alignment import label_null as label_null_module
from neuroalign.alignment.label_null import label_null, restrict_permutations
from neuroalign.alignment.rdm import square
from neuroalign.alignment.rdm_bootstrap import bootstrap_rdms
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import row_permutations

N = 12
FIRST, SECOND = np.triu_indices(N, 1)
CPU = torch.device("cpu")
REFERENCE = {"spearman": lambda a, b: spearmanr(a, b)[0], "pearson": lambda a, b: pearsonr(a, b)[0],
             "cosine": lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)}


def rdm_rows(n, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (n, len(FIRST))) if ties else rng.random((n, len(FIRST)))
    return values.astype(np.float32)


def permutations(n=6, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(N) for _ in range(n)])


def loop_null(squares, first, second, rows, weights, method, orders):
    out = np.empty((len(orders), len(squares), len(weights)))
    for b, order in enumerate(orders):
        for s, matrix in enumerate(squares):
            moved = matrix[order][:, order][first, second]
            here = [~np.isnan(row) & ~np.isnan(moved) for row in rows]
            r = [REFERENCE[method](moved[k], row[k]) for row, k in zip(rows, here)]
            out[b, s] = weights @ r
    return out


@pytest.mark.parametrize("method", REFERENCE)
@pytest.mark.parametrize("n_spaces, n_rows", [(5, 4), (2, 6)])
@pytest.mark.parametrize("few", [64, 0])
def test_null_equals_a_loop_whichever_side_is_permuted(method, n_spaces, n_rows, few, monkeypatch):
    monkeypatch.setattr(label_null_module, "_FEW", few)  # matrices copied whole, or pairs looked up
    squares, rows = square(rdm_rows(n_spaces)), rdm_rows(n_rows, 1, ties=True)
    weights = np.stack([np.full(n_rows, 1 / n_rows), np.eye(n_rows)[0], np.eye(n_rows)[1]])
    found = label_null(squares, FIRST, SECOND, rows, weights, method, permutations(), CPU)
    np.testing.assert_allclose(found, loop_null(squares, FIRST, SECOND, rows, weights, method, permutations()),
                               atol=1e-5)


@pytest.mark.parametrize("few", [64, 0])
@pytest.mark.parametrize("change", ["nothing", "one target", "gaps in targets", "a model without a stimulus",
                                    "controls", "tau_a"])
def test_shares_done_sum_to_all(change, few, monkeypatch):
    monkeypatch.setattr(label_null_module, "_FEW", few)
    models, rows, told = rdm_rows(3), rdm_rows(1 if change == "one target" else 4, 1), []
    if change == "gaps in targets":
        rows[0, :3] = np.nan
    if change == "a model without a stimulus":
        models[0, (FIRST == 2) | (SECOND == 2)] = np.nan
    args = square(models), FIRST, SECOND, rows, np.eye(len(rows))
    if change == "tau_a":
        label_null_module.tau_null(*args, permutations(), tick=told.append)
    else:
        label_null(*args, "spearman", permutations(), CPU, tick=told.append,
                   controls=rdm_rows(2, 3) if change == "controls" else None)
    assert sum(told) == pytest.approx(1)


@pytest.mark.parametrize("method", REFERENCE)
def test_null_of_a_pair_list_looks_up_pairs_that_nobody_judged(method):
    squares = square(rdm_rows(2))
    kept = np.random.default_rng(3).permutation(len(FIRST))[:25]
    first, second = SECOND[kept], FIRST[kept]
    rows = rdm_rows(3, 1)[:, kept]
    weights = np.eye(3)
    found = label_null(squares, first, second, rows, weights, method, permutations(), CPU)
    np.testing.assert_allclose(found, loop_null(squares, first, second, rows, weights, method, permutations()),
                               atol=1e-5)


def test_null_with_gaps_in_some_targets_uses_what_each_has():
    squares, rows = square(rdm_rows(2)), rdm_rows(3, 1)
    rows[0, :9] = np.nan
    weights = np.full((1, 3), 1 / 3)
    found = label_null(squares, FIRST, SECOND, rows, weights, "spearman", permutations(), CPU)
    np.testing.assert_allclose(found, loop_null(squares, FIRST, SECOND, rows, weights, "spearman", permutations()),
                               atol=1e-5)


def test_a_space_without_a_stimulus_is_permuted_among_the_others():
    squares, rows = square(rdm_rows(2)), rdm_rows(2, 1)
    squares[1, 4], squares[1, :, 4] = np.nan, np.nan
    others = np.delete(np.arange(N), 4)
    inner = restrict_permutations(permutations(), others)
    assert all(sorted(order) == list(range(N - 1)) for order in inner)
    pairs = (FIRST != 4) & (SECOND != 4)
    a, b = np.triu_indices(N - 1, 1)
    found = label_null(squares, FIRST, SECOND, rows, np.eye(2), "spearman", permutations(), CPU)
    expected = loop_null(squares[1:][:, others][:, :, others], a, b, rows[:, pairs], np.eye(2), "spearman", inner)
    np.testing.assert_allclose(found[:, 1:], expected, atol=1e-5)


def test_a_model_rdm_with_scattered_gaps_has_no_null_and_says_so():
    squares = square(rdm_rows(2))
    squares[0, 1, 2] = squares[0, 2, 1] = np.nan
    with pytest.warns(NeuroalignWarning, match="'gappy' lack the distance of some pairs") as caught:
        found = label_null(squares, FIRST, SECOND, rdm_rows(1, 1), np.eye(1), "spearman", permutations(), CPU,
                           names=["gappy", "whole"])
    assert caught[0].message.code == "no-label-null"
    assert np.isnan(found[:, 0]).all() and np.isfinite(found[:, 1]).all()


def partial(a, b, controls, weights=None):
    """Partial correlation of ranks by least squares."""
    ranks = [np.argsort(np.argsort(v)).astype(float) for v in (a, b, *controls)]
    design = np.column_stack([np.ones(len(a)), *ranks[2:]])
    a, b = (r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2])
    return pearsonr(a, b)[0]


def test_null_of_a_partial_correlation_permutes_the_model_alone():
    squares, rows, controls = square(rdm_rows(2)), rdm_rows(2, 1), rdm_rows(2, 2)
    found = label_null(squares, FIRST, SECOND, rows, np.eye(2), "spearman", permutations(), CPU, controls=controls)
    for b, order in enumerate(permutations()):
        for s, matrix in enumerate(squares):
            moved = matrix[order][:, order][FIRST, SECOND]
            np.testing.assert_allclose(found[b, s], [partial(moved, row, controls) for row in rows], atol=1e-5)


def duplicated(values, order):
    """The values of all pairs of a resample, pairs of a stimulus with itself left out."""
    matrix = square(values)[order][:, order]
    a, b = np.triu_indices(len(order), 1)
    kept = order[a] != order[b]
    return matrix[a[kept], b[kept]]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("method", REFERENCE)
def test_bootstrap_equals_resamples_that_were_really_built(method, ties):
    models, rows = rdm_rows(3, ties=ties), rdm_rows(2, 1, ties=ties) + 1
    drawn = np.random.default_rng(4).integers(N, size=(5, N))
    counts = np.stack([np.bincount(d, minlength=N) for d in drawn])
    found = bootstrap_rdms(models, rows, FIRST, SECOND, counts, method, device="cpu")
    for b, order in enumerate(drawn):
        expected = [[REFERENCE[method](duplicated(m, order), duplicated(r, order)) for r in rows] for m in models]
        np.testing.assert_allclose(found[b], expected, atol=1e-5)


def test_bootstrap_of_a_partial_correlation():
    models, rows, controls = rdm_rows(2), rdm_rows(2, 1), rdm_rows(1, 2)
    found = bootstrap_rdms(models, rows, FIRST, SECOND, np.ones((1, N), int), "spearman", controls=controls,
                           device="cpu")[0]
    np.testing.assert_allclose(found, [[partial(m, r, controls) for r in rows] for m in models], atol=1e-5)


@pytest.mark.parametrize("gaps", [False, True])
def test_bootstrap_of_the_mean_rdm_averages_the_drawn_subjects(gaps):
    models, rows = rdm_rows(2), rdm_rows(3, 1)
    if gaps:
        rows[0, :6] = np.nan
    draws = np.array([[2, 1, 0], [0, 0, 3]])
    counts = np.ones((2, N), int)
    found = bootstrap_rdms(models, rows, FIRST, SECOND, counts, "spearman", row_weights=draws[:, None].astype(float),
                           device="cpu")
    for b, draw in enumerate(draws):
        mean = np.nanmean(np.repeat(rows, draw, axis=0), 0)
        np.testing.assert_allclose(found[b, :, 0], [spearmanr(m, mean, nan_policy="omit")[0] for m in models],
                                   atol=1e-5)


def test_bootstrap_leaves_gaps_of_a_target_out():
    models, rows = rdm_rows(2), rdm_rows(2, 1)
    rows[1, 5:20] = np.nan
    found = bootstrap_rdms(models, rows, FIRST, SECOND, np.ones((1, N), int), "spearman", device="cpu")[0]
    expected = [[spearmanr(m, r, nan_policy="omit")[0] for r in rows] for m in models]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_resample_of_one_stimulus_is_nan():
    counts = np.zeros((1, N), int)
    counts[0, 3] = N
    assert np.isnan(bootstrap_rdms(rdm_rows(1), rdm_rows(1, 1), FIRST, SECOND, counts, "spearman")).all()


def test_many_cells_of_few_rows_equal_the_dense_weights():
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(7, 1)
    squares, rows = square(rng.random((2, 21))).astype(np.float32), rng.random((40, 21)).astype(np.float32)
    weights, orders = np.repeat(np.eye(20), 2, 1) / 2, row_permutations(7, 5)
    found = label_null(squares, first, second, rows, weights, "pearson", orders, torch.device("cpu"))
    one = label_null(squares, first, second, rows, np.eye(40), "pearson", orders, torch.device("cpu"))
    np.testing.assert_allclose(found, one @ weights.T, atol=1e-6)
