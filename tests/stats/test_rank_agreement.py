"""Tau-a, rho-a and whitening against brute force in float64, and against rsatoolbox."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.stats import rank_agreement as agreement
from neuroalign.stats.correlations import correlate_rows, unit_rows
from neuroalign.stats.rank_agreement import tau_a, whiten_dissimilarities


def rows(n, pairs=45, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 6, (n, pairs)) if ties else rng.random((n, pairs))).astype(np.float32)


def brute_tau(x, y):
    x, y = x.astype(float), y.astype(float)
    signs = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    return signs.sum() / len(x) / (len(x) - 1)


def brute_rho(x, y, draws=4000):
    """Spearman's correlation with ties broken at random, averaged."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        a, b = (np.argsort(np.lexsort((rng.random(len(v)), v))) for v in (x, y))
        found.append(np.corrcoef(a, b)[0, 1])
    return np.mean(found)


def brute_whitened(x, y, n, centred):
    """Cosine with the inverse of the covariance of squared distances, built from the contrasts."""
    contrasts = np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in zip(*np.triu_indices(n, 1))])
    inverse = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    if centred:
        x, y = x - x.mean(), y - y.mean()
    return x @ inverse @ y / np.sqrt((x @ inverse @ x) * (y @ inverse @ y))


@pytest.mark.parametrize("ties", [True, False])
def test_tau_a_equals_all_pairs_of_pairs(ties):
    a, b = rows(3, ties=ties), rows(2, seed=1)
    found = correlate_rows(a, b, "tau_a", device="cpu")
    np.testing.assert_allclose(found, [[brute_tau(x, y) for y in b] for x in a], atol=1e-12)


@pytest.mark.parametrize("ties", [True, False])
def test_without_scipys_own_counter_nothing_changes(ties, monkeypatch):
    from scipy.stats import _stats

    a, b = rows(3, ties=ties), rows(2, seed=1)
    whole = correlate_rows(a, b, "tau_a", device="cpu")
    monkeypatch.delattr(_stats, "_kendall_dis")
    agreement._discordant.cache_clear()
    np.testing.assert_array_equal(correlate_rows(a, b, "tau_a", device="cpu"), whole)
    agreement._discordant.cache_clear()


def test_a_part_of_coded_values_needs_no_new_codes():
    x, y = rows(2)
    kept = np.arange(45) % 3 > 0
    found = agreement.tau_of_codes(agreement.order_codes(x)[kept], agreement.order_codes(y)[kept])
    assert found == pytest.approx(brute_tau(x[kept], y[kept]))


def test_gaps_are_left_out_and_constant_rows_are_nan():
    a, b = rows(1), rows(2, seed=1)
    b[0, :9], b[1] = np.nan, 3
    found = correlate_rows(a, b, "tau_a", device="cpu")[0]
    assert found[0] == pytest.approx(brute_tau(a[0, 9:], b[0, 9:])) and np.isnan(found[1])
    assert np.isnan(correlate_rows(a, b, "rho_a", device="cpu")[0, 1])


def test_rho_a_is_the_mean_over_random_breaking_of_ties():
    a, b = rows(1), rows(1, seed=3)
    a[0, :20] = b[0, :20]
    assert correlate_rows(a, b, "rho_a", device="cpu").item() == pytest.approx(brute_rho(a[0], b[0]), abs=0.01)
    loose = rows(1, ties=False)
    assert correlate_rows(loose, loose[:, ::-1], "rho_a").item() == pytest.approx(
        correlate_rows(loose, loose[:, ::-1], "spearman").item(), abs=1e-6)


@pytest.mark.parametrize("n", [3, 4, 10])
def test_whitening_needs_no_matrix(n):
    pairs = n * (n - 1) // 2
    x, y = (rows(1, pairs, seed, ties=False)[0].astype(float) for seed in (0, 1))
    for method, centred in (("cosine", False), ("pearson", True)):
        if n == 3 and centred:
            continue
        white = whiten_dissimilarities([x, y])
        assert correlate_rows(*white, method, device="cpu").item() == pytest.approx(
            brute_whitened(x, y, n, centred), abs=1e-6)


@pytest.mark.parametrize("ties", [True, False])
def test_rsatoolbox_gives_the_same(ties):
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed: the brute force above still holds")
    from rsatoolbox.rdm import compare

    a, b = rows(3, ties=ties), rows(2, seed=1, ties=ties)
    theirs = [toolbox.rdm.RDMs(v.astype(np.float64)) for v in (a, b)]
    for method, name in (("tau_a", "tau-a"), ("rho_a", "rho-a"), ("spearman", "spearman"), ("pearson", "corr"),
                         ("cosine", "cosine")):
        np.testing.assert_allclose(correlate_rows(a, b, method, device="cpu"), compare(*theirs, name), atol=1e-5)
    white = [whiten_dissimilarities(v) for v in (a, b)]
    for method, name in (("cosine", "cosine_cov"), ("pearson", "corr_cov")):
        np.testing.assert_allclose(correlate_rows(*white, method, device="cpu"), compare(*theirs, name), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_symmetry_bounds_and_increasing_maps(seed, ties):
    a, b = rows(1, 30, seed, ties)[0], rows(1, 30, seed + 1, ties)[0]
    value = tau_a(a, b)
    assert value == pytest.approx(tau_a(b, a)) and -1 <= value <= 1
    assert tau_a(np.exp(a.astype(float)), b) == pytest.approx(value) and tau_a(-a, b) == pytest.approx(-value)
    order = np.random.default_rng(seed).permutation(30)
    assert tau_a(a[order], b[order]) == pytest.approx(value)


def test_tau_a_is_no_inner_product_of_rows():
    with pytest.raises(ValueError, match="method: got 'tau_a'"):
        unit_rows(rows(1), "tau_a")
    with pytest.raises(ValueError, match="method: got 'tau_b'"):
        correlate_rows(rows(1), rows(1), "tau_b")
