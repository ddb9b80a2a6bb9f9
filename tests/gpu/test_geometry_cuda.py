"""Geometry on CUDA, against the CPU: RDMs, kernels, bases, neighbours, transport, matching, judgements, training."""

import numpy as np
import pandas as pd
import pytest
import torch
from devices import same

import neuroalign as na
from neuroalign import alignment as al
from neuroalign.alignment import cka, distributions
from neuroalign.alignment.deep_cca import held_out_deep_cca
from neuroalign.alignment.matching import METHODS
from neuroalign.alignment.metrics import list_metrics
from neuroalign.alignment.rdm import condensed_distances, pair_distances
from neuroalign.data import make_features, make_rdms, make_responses
from neuroalign.stats import row_permutations
from neuroalign.stats.correlations import correlate_rows

pytestmark = pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
N = 40
IDS = [f"s{k:02d}" for k in range(N)]
FEW = {"n_permutations": 19}
SUBSETS = np.stack([np.random.default_rng(k).permutation(N)[:20] for k in range(9)])


def arrays(p=9, q=60, n=N, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    return x + 1, np.c_[x, rng.standard_normal((n, q - p))] @ rng.standard_normal((q, q))


X, Y = arrays()
SPACES = [make_features(v, IDS, model="m", layer=f"l{k}", depth=k / 2) for k, v in enumerate([X, Y, arrays(seed=3)[0]])]
MEASURES = {
    "canonical correlations": lambda d: al.canonical_correlations(X, Y, variance=0.8, device=d),
    "svcca": lambda d: al.svcca(X, Y, device=d),
    "pwcca": lambda d: al.pwcca(X, Y, device=d),
    "held-out cca": lambda d: al.held_out_cca(X, Y, n_components=4, device=d),
    "linear cka": lambda d: [al.linear_cka(X, Y, estimator=e, device=d) for e in ("debiased", "biased")],
    "rbf cka": lambda d: al.rbf_cka(X, Y, device=d),
    "cka grid": lambda d: cka.cka_grid([X, Y], [Y, X], device=d),
    "cka null": lambda d: cka.cka_null([X, Y], [Y], row_permutations(N, 19), device=d),
    "cka of subsamples": lambda d: cka.cka_subsamples([X], [Y], SUBSETS, device=d),
    "minibatch cka": lambda d: al.minibatch_cka(X, Y, batch=10, device=d),
    "participation ratio": lambda d: al.participation_ratio(Y, device=d),
    "effective rank": lambda d: al.effective_rank(Y, device=d),
    "effective dimensions": lambda d: al.effective_dimensions(SPACES, device=d),
    "bures": lambda d: al.bures_distance(X, Y[:, :9], device=d),
    "sliced wasserstein": lambda d: distributions.sliced_wasserstein(X, Y[:, :9], device=d),
    "procrustes": lambda d: al.procrustes_distance(X, Y, device=d),
    "angular": lambda d: al.angular_distance(X, Y, alpha=0.5, device=d),
    "linear predictivity": lambda d: al.linear_predictivity(X, Y, device=d),
    "mutual knn": lambda d: al.mutual_knn(X, Y, device=d),
    "cknna": lambda d: al.cknna(X, Y, device=d),
    "cycle knn": lambda d: al.cycle_knn(X, Y, device=d),
    "gromov-wasserstein": lambda d: al.gromov_wasserstein(X[:14], Y[:14], device=d),
    "one to one": lambda d: al.matched_correlation(X, Y[:, :9], device=d),
    "soft matching": lambda d: al.matched_correlation(X[:, :5], Y[:, :6], method="soft", cv=2, device=d),
}


@pytest.mark.parametrize("name", MEASURES)
def test_measures(name):
    same(MEASURES[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "sqeuclidean"])
def test_distances(metric, dtype):
    twins = np.r_[Y, Y[:3] + 1e-5]  # near rows are measured again
    found = same(lambda d: condensed_distances(twins, metric, device=d, dtype=dtype), rtol=1e-4)
    first, second = np.triu_indices(len(twins), 1)
    same(lambda d: pair_distances(twins, first[:50], second[:50], metric, device=d), rtol=1e-4)
    there = condensed_distances(torch.as_tensor(twins, device="cuda"), metric, device="cuda", dtype=dtype)
    np.testing.assert_allclose(there, found, rtol=1e-5, atol=1e-6)


def test_distances_of_wide_features_in_blocks(monkeypatch):
    monkeypatch.setattr("neuroalign.alignment.rdm.rows_per_chunk", lambda *a, **k: 7)
    same(lambda d: na.alignment.rdms(SPACES, device=d))


@pytest.mark.parametrize("method", ["spearman", "pearson", "cosine", "rho_a", "tau_a"])
def test_correlations(method):
    a, b = Y.T[:5].copy(), Y.T[5:12].copy()
    a[1, 3] = np.nan
    same(lambda d: correlate_rows(a, b, method, device=d))


@pytest.mark.parametrize("measure", ["linear_cka", "svcca", "mutual_knn", "procrustes_distance", "effective_rank"])
def test_tensors_on_the_device_are_taken(measure):
    call = getattr(al, measure)
    sides = [X] if measure == "effective_rank" else [X, Y]
    found = call(*(torch.as_tensor(v, device="cuda") for v in sides), device="cuda")
    assert found == pytest.approx(call(*sides, device="cpu"), abs=1e-4)


def brain():
    rng = np.random.default_rng(1)
    true = condensed_distances(X, device="cpu")
    rows = np.stack([true + 0.3 * rng.random(true.size) for _ in range(6)])
    return make_rdms(rows, stimulus_ids=IDS, targets=[f"t{k}" for k in range(6)],
                     target_coords={"region": ["V"] * 3 + ["L"] * 3, "subject": ["a", "b", "c"] * 2})


@pytest.mark.parametrize("options", [FEW, {"n_permutations": 0, "n_bootstraps": 20},
                                     FEW | {"control": SPACES[2], "metric": ["rsa.spearman.partial"]}])
def test_compare_with_rdms(options):
    options = {"metric": ["rsa.spearman", "rsa.pearson"]} | options
    same(lambda d: na.compare(SPACES[:2], brain(), device=d, **options))


def test_compare_with_features():
    slow = ("cca.deep", "gw.distance", "gw.matching", "units.soft")  # many small steps; `test_measures` has them
    metrics = [m.name for m in list_metrics("features") if m.name not in slow]
    same(lambda d: na.compare(SPACES[:2], SPACES[2], metric=metrics, n_permutations=5, device=d), atol=1e-3)


def sites():
    rng = np.random.default_rng(2)
    values = X @ rng.standard_normal((9, 12)) + rng.standard_normal((N, 12))
    return make_responses(values, IDS, [f"v{k}" for k in range(12)], neuroid_coords=dict(
        zip("xyz", rng.uniform(-20, 20, (3, 12)))) | {"region": ["V"] * 12, "subject": ["a"] * 12})


ANALYSES = {
    "searchlight": lambda d: al.searchlight_rsa(SPACES[0], sites(), n_neighbours=3, device=d, **FEW),
    "partition": lambda d: al.partition_rsa(SPACES[:2], brain(), n_bootstraps=10, device=d, **FEW),
    "selected": lambda d: al.compare_selected(SPACES, brain(), n_splits=3, device=d, **FEW),
    "reweighted": lambda d: al.reweighted_rsa(SPACES[0], brain(), n_permutations=2, penalties=[0.01], n_splits=3,
                                              device=d),
    "tests": lambda d: al.rsa_tests(SPACES, brain(), n_bootstraps=30, device=d),
    "search": lambda d: al.search_pairs(SPACES[:1], SPACES[1:], device=d, **FEW),
    "nested": lambda d: al.nested_scores(SPACES[0], lambda s: al.linear_cka(s.values, Y[20:], device=d), order="pca",
                                         train=IDS[:20], device=d),
    "linking": lambda d: al.link_pooled(SPACES[::2], pd.Series(list("xy") * 20, index=IDS), device=d, **FEW),
}


@pytest.mark.parametrize("name", ANALYSES)
def test_analyses(name):
    same(ANALYSES[name], atol=5e-4)


def test_matching():
    x, y = arrays(n=120)
    ids = [f"s{k:03d}" for k in range(120)]
    sides = [make_features(v, ids, model=m) for v, m in ((x, "a"), (y, "b"))]
    same(lambda d: al.match_spaces(*sides, method=list(METHODS), n_components=[5], reg=[0.1], n_draws=2,
                                   n_permutations=5, device=d), atol=1e-3)


def test_judgements():
    rng = np.random.default_rng(0)
    shown = np.array(IDS)[[rng.permutation(N)[:3] for _ in range(60)]]
    odd = pd.DataFrame({"a": shown[:, 0], "b": shown[:, 1], "c": shown[:, 2], "odd": shown[:, 2]})
    afc = pd.DataFrame({"reference": shown[:, 0], "a": shown[:, 1], "b": shown[:, 2], "choice": shown[:, 1]})
    same(lambda d: al.odd_one_out(SPACES, odd, device=d, **FEW))
    same(lambda d: al.two_afc(SPACES, afc, device=d, **FEW))
    same(lambda d: al.blind_pairs(SPACES[0], SPACES[1], by="rank", high=0.6, low=0.6, device=d))


def test_trained_maps_learn_alike():
    """Rounding grows over the steps of training: few steps, and what they reach."""
    labels = np.array(list("xyz"))[np.arange(N) % 3]

    def nested(device):
        torch.manual_seed(0)
        found = al.train_nested(X, labels, dims=[2, 4], epochs=20, device=device)
        return found.transform(X)

    same(nested, atol=2e-2)
    x, y = arrays(p=5, q=8, n=60)
    same(lambda d: held_out_deep_cca(x, y, n_components=2, hidden=(8,), epochs=10, cv=3, device=d).correlations,
         atol=5e-2)
