"""Memory of the device is bounded: more targets, stimuli or layers take no more of it, and calls give it back."""

import gc

import numpy as np
import pytest
import torch

import neuroalign as na
from neuroalign.alignment import rdms, ridge_cv
from neuroalign.alignment.banded import banded_ridge_cv
from neuroalign.alignment.rdm import condensed_distances
from neuroalign.alignment.ridge import plan_ridge
from neuroalign.data import make_features, make_responses
from neuroalign.stats import make_folds

pytestmark = pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
MIB = 2**20
ALPHAS = [0.1, 10.0, 1e3]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.fixture(autouse=True)
def _warm():
    """The workspaces of the libraries are made once and stay."""
    x = torch.ones(8, 8, device="cuda", dtype=torch.float64)
    torch.linalg.eigh(x @ x.float().double())
    torch.fft.rfft(x)
    yield
    gc.collect()


@pytest.mark.parametrize("fit", [
    lambda X, Y, folds: ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds, device="cuda"),
    lambda X, Y, folds: banded_ridge_cv([X[:, :20], X[:, 20:]], Y, alphas=ALPHAS, inner_folds=folds, n_candidates=4,
                                        refine=1, device="cuda")])
def test_targets(peak, monkeypatch, fit):
    for module in ("ridge", "banded"):
        monkeypatch.setattr(f"neuroalign.alignment.{module}.rows_per_chunk", lambda *a, **k: 500)
    X, folds = noise(80, 40), make_folds("kfold", 80, n_splits=3)
    few, many = (peak(lambda t=t: fit(X, noise(80, t), folds)) for t in (1000, 5000))
    assert many < 1.1 * few + MIB


def test_a_hundred_thousand_targets_stay_in_the_budget(peak):
    X, folds = noise(60, 30), make_folds("kfold", 60, n_splits=3)
    few, many = (peak(lambda t=t: plan_ridge(X, X, alphas=ALPHAS, inner_folds=folds, device="cuda").predict(
        noise(60, t))) for t in (900_000, 1_800_000))
    assert many < 1.1 * few + MIB and many < 2**30


def test_permutations(peak):
    ids = [f"s{k:03d}" for k in range(60)]
    x = make_features(noise(60, 20), ids, model="m")
    y = make_responses(noise(60, 300, seed=1), ids, [f"v{k}" for k in range(300)])
    few, many = (peak(lambda n=n: na.encode(x, y, alphas=ALPHAS, n_splits=3, n_inner_splits=3, n_permutations=n,
                                            device="cuda")) for n in (5, 25))
    assert many < 1.1 * few + MIB


def test_layers(peak):
    ids = [f"s{k:03d}" for k in range(60)]
    spaces = [make_features(noise(60, 2000, seed=k), ids, model="m", layer=f"l{k}", depth=k / 10) for k in range(8)]
    y = make_responses(noise(60, 50, seed=9), ids, [f"v{k}" for k in range(50)])
    few, many = (peak(lambda n=n: na.encode(spaces[:n], y, alphas=ALPHAS, n_splits=3, n_inner_splits=3,
                                            device="cuda")) for n in (2, 8))
    assert many < 1.1 * few + MIB
    few, many = (peak(lambda n=n: rdms(spaces[:n], device="cuda")) for n in (2, 8))
    assert many < 1.1 * few + MIB


def test_stimuli(peak, monkeypatch):
    monkeypatch.setattr("neuroalign.alignment.rdm.rows_per_chunk", lambda *a, **k: 256)
    used = peak(lambda: condensed_distances(noise(3000, 64), "euclidean", device="cuda"))
    assert used < 3000 * 3000 * 4 / 2  # the square of all distances is never there


def test_calls_give_the_memory_back():
    X, folds = noise(80, 40), make_folds("kfold", 80, n_splits=3)
    gc.collect()
    before = torch.cuda.memory_allocated()
    fit = ridge_cv(X, noise(80, 500), alphas=ALPHAS, inner_folds=folds, device="cuda")
    condensed_distances(X, device="cuda")
    gc.collect()
    assert torch.cuda.memory_allocated() - before < MIB and fit.coef.shape == (40, 500)


def test_features_of_more_stimuli(peak, load, tmp_path):
    model = load("bert", "cuda")
    texts = [f"the fox number {k}" for k in range(256)]
    few, many = (peak(lambda n=n: na.extract(model, na.StimulusSet.from_texts(texts[:n]), batch_size=16,
                                             store=tmp_path / str(n), progress=False)) for n in (32, 256))
    assert many < 1.1 * few + MIB
