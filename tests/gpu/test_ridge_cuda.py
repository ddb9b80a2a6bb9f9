"""Ridge, banded ridge and delays on CUDA: against the CPU, and against float64 by other packages."""

import numpy as np
import pytest
import torch
from devices import same
from sklearn.linear_model import Ridge

from neuroalign.alignment import RidgeEncoder, TRFEncoder, ridge_cv, trf_cv
from neuroalign.alignment.banded import banded_ridge_cv, plan_banded
from neuroalign.alignment.banded_estimator import BandedRidgeEncoder
from neuroalign.alignment.lagged import plan_lagged
from neuroalign.alignment.reduction import Reduction, reduce_features
from neuroalign.alignment.ridge import plan_ridge
from neuroalign.stats import make_folds

ALPHAS = np.logspace(-1, 5, 7)
SMALL = np.logspace(-3, 3, 4)  # float32 would lose them beside a large norm


def make_data(n, p, t, seed=0, noise=1.0, correlated=0.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + correlated * rng.standard_normal((n, 1))
    Y = (X - X.mean(0)) / X.std(0) @ rng.standard_normal((p, t)) / np.sqrt(p) + noise * rng.standard_normal((n, t))
    return X * rng.uniform(0.5, 2, p) + 3, Y


def ridge(X, Y, device, folds=4, **options):
    folds = folds if folds == "loo" else make_folds("kfold", len(X), n_splits=folds)
    fit = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds, device=device, **options)
    return fit.loss, fit.best_alpha, fit.coef, fit.intercept, fit.predict(np.asarray(X)[:5])


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize(("n", "p"), [(90, 12), (60, 150)])
def test_ridge(n, p, solver, standardize):
    X, Y = make_data(n, p, 9)
    same(lambda d: ridge(X, Y, d, solver=solver, standardize=standardize), atol=2e-4)


def test_ridge_equals_scikit_learn():
    X, Y = make_data(80, 10, 4)
    fit, model = ridge_cv(X, Y, alphas=[3.0], standardize=False, device="cuda"), Ridge(3.0).fit(X, Y)
    np.testing.assert_allclose(fit.coef, model.coef_.T, atol=1e-4)
    np.testing.assert_allclose(fit.predict(X), model.predict(X), atol=1e-4 * Y.std())


def test_leave_one_out():
    X, Y = make_data(80, 10, 6)
    same(lambda d: ridge(X, Y, d, folds="loo"), atol=2e-4)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_ill_conditioned_features_are_solved_in_float64(solver):
    X, Y = make_data(200, 40, 4, correlated=300.0)
    X[:, 20:] = X[:, :20] + 1e-4 * X[:, 20:]
    folds = make_folds("kfold", 200, n_splits=3)

    def plan(device):
        made = plan_ridge(X, X[:9], alphas=SMALL, inner_folds=folds, solver=solver, device=device)
        assert "float64" in made.solver
        return made.predict_with_loss(Y)

    same(plan, atol=2e-3)


def test_wide_features_are_streamed(monkeypatch):
    X, Y = make_data(40, 300, 5)
    monkeypatch.setattr("neuroalign.alignment.ridge_inputs.COLUMNS", 64)
    folds = make_folds("kfold", 40, n_splits=4)
    same(lambda d: plan_ridge(X, X[:6] + 0.1, alphas=ALPHAS, inner_folds=folds, device=d).predict(Y), atol=2e-4)


def test_nan_and_constant_targets_concern_themselves_alone():
    X, Y = make_data(60, 8, 5)
    Y[3, 1], Y[:, 3] = np.nan, 2.0
    found = same(lambda d: ridge(X, Y, d), atol=2e-4)
    assert np.isnan(found[1]).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("on", ["cpu", "cuda"])
def test_tensors_of_either_device_are_taken(on):
    X, Y = (torch.as_tensor(v, dtype=torch.float32) for v in make_data(60, 8, 5))
    expected, folds = ridge(X.numpy(), Y.numpy(), "cuda"), make_folds("kfold", 60, n_splits=4)
    fit = ridge_cv(X.to(on), Y.to(on), alphas=ALPHAS, inner_folds=folds, device="cuda")
    np.testing.assert_allclose(fit.coef, expected[2], atol=1e-5)
    bands = banded_ridge_cv([X[:, :3].to(on), X[:, 3:].to(on)], Y.to(on), alphas=ALPHAS, inner_folds=folds,
                            n_candidates=4, device="cuda")
    assert np.isfinite(bands.coef[0]).all()
    trf = trf_cv(X.to(on), Y.to(on), tmin=0, tmax=2, sfreq=1.0, alphas=[1.0], device="cuda")
    assert np.isfinite(trf.weights).all()


def test_many_targets_in_chunks(monkeypatch):
    X, Y = make_data(60, 8, 23)
    whole = ridge(X, Y, "cuda")
    monkeypatch.setattr("neuroalign.alignment.ridge.rows_per_chunk", lambda *a, **k: 5)
    np.testing.assert_allclose(ridge(X, Y, "cuda")[2], whole[2], atol=1e-5)


def test_encoders_follow_the_functions():
    X, Y = make_data(60, 8, 3)
    same(lambda d: RidgeEncoder(alphas=ALPHAS, device=d).fit(X, Y).predict(X), atol=2e-4)
    same(lambda d: BandedRidgeEncoder([3, 5], ALPHAS, n_candidates=4, refine=2, device=d).fit(X, Y).predict(X),
         atol=2e-3)
    same(lambda d: TRFEncoder(0, 2, 1.0, ALPHAS, device=d).fit(X, Y).predict(X), atol=2e-4)


@pytest.mark.parametrize("refine", [0, 3])
@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_banded_ridge(solver, refine):
    X, Y = make_data(70, 20, 6)

    def fit(device):
        found = banded_ridge_cv([X[:, :5], X[:, 5:]], Y, alphas=ALPHAS, n_candidates=8, refine=refine, solver=solver,
                                inner_folds=make_folds("kfold", 70, n_splits=3), device=device)
        return found.loss, found.predict([X[:9, :5], X[:9, 5:]])

    same(fit, atol=1e-3)


def test_banded_ridge_of_ill_conditioned_bands():
    X, Y = make_data(90, 20, 4, correlated=300.0)
    X[:, 10:] = X[:, :10] + 1e-4 * X[:, 10:]
    folds = make_folds("kfold", 90, n_splits=3)

    def plan(device):
        made = plan_banded([X[:, :10], X[:, 10:]], [X[:7, :10], X[:7, 10:]], alphas=SMALL, n_candidates=5,
                           inner_folds=folds, device=device)
        assert "float64" in made.solver
        return made.predict(Y)

    same(plan, atol=2e-3)


@pytest.mark.parametrize("runs", [None, np.repeat([0, 1], 100)])
@pytest.mark.parametrize("wide", [False, True])
def test_delays(runs, wide, monkeypatch):
    X, Y = make_data(200, 3, 4)
    if wide:  # folds in float32
        monkeypatch.setattr("neuroalign.alignment.lagged.WIDE", 4)

    def plan(device):
        made = plan_lagged(X, np.arange(-1, 5), runs=runs, train=np.arange(160), test=np.arange(160, 200),
                           alphas=ALPHAS, inner_folds=make_folds("blocks", 160, n_splits=3), device=device)
        return made.predict(Y[:160])

    same(plan, atol=1e-3)
    same(lambda d: trf_cv(X, Y, tmin=-1, tmax=4, sfreq=1.0, alphas=ALPHAS, runs=runs,
                          inner_folds=make_folds("blocks", 200, n_splits=3), device=d).weights.values, atol=1e-3)


def test_delays_of_scattered_rows():
    X, Y = make_data(200, 3, 4)
    rows = np.arange(0, 200, 2)
    same(lambda d: plan_lagged(X, np.arange(4), train=rows, test=rows + 1, alphas=ALPHAS, device=d,
                               inner_folds=make_folds("kfold", 100, n_splits=3)).predict(Y[rows]), atol=1e-3)


@pytest.mark.parametrize("shape", [(60, 30), (40, 90)])
@pytest.mark.parametrize("name", ["pca", "srp"])
def test_reduction(shape, name):
    X, _ = make_data(*shape, 1)

    def products(device):  # signs of components are free
        train, test = reduce_features(X[:-10], X[-10:], Reduction(name, 6), 0, torch.device(device))
        return train @ train.T, test @ train.T

    same(products, atol=1e-2, rtol=1e-3)
