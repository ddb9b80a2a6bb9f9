"""Ridge against scikit-learn, himalaya and a float64 brute force of the whole nested procedure."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV

from neuroalign.alignment.ridge import plan_ridge, ridge_cv
from neuroalign.alignment.scoring import moments
from neuroalign.stats import make_folds

ALPHAS = np.logspace(-1, 5, 7)


def make_data(n, p, t, seed=0, noise=3.0, correlated=0.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + correlated * rng.standard_normal((n, 1))
    X = X * rng.uniform(0.1, 10, p) + rng.uniform(-50, 50, p)
    Y = (X - X.mean(0)) / X.std(0) @ rng.standard_normal((p, t)) / np.sqrt(p) + noise * rng.standard_normal((n, t))
    return X, Y * rng.uniform(0.01, 100, t) + rng.uniform(-100, 100, t)


def brute_force(X, Y, folds, alphas, standardize=True):
    """Mean squared error of every penalty over the folds by scikit-learn, then the refit, all in float64."""
    loss, tested = np.zeros((len(alphas), Y.shape[1])), 0

    def scale(rows):
        sd = X[rows].std(0)
        return X[rows].mean(0), np.where(sd > 1e-9, sd, np.inf) if standardize else 1.0

    for train, test in folds:
        mean, sd = scale(train)
        tested += len(test)
        for k, alpha in enumerate(alphas):
            model = Ridge(alpha=alpha).fit((X[train] - mean) / sd, Y[train])
            loss[k] += ((model.predict((X[test] - mean) / sd).reshape(len(test), -1) - Y[test]) ** 2).sum(0)
    best = loss.argmin(0)
    mean, sd = scale(np.arange(len(X)))
    models = [Ridge(alpha=alphas[b]).fit((X - mean) / sd, Y[:, k]) for k, b in enumerate(best)]

    def predict(new):
        return np.stack([m.predict((new - mean) / sd) for m in models], 1)

    return loss / tested, np.asarray(alphas)[best], predict


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize(("n", "p"), [(90, 12), (60, 150), (50, 50)])
def test_nested_ridge_equals_the_brute_force(n, p, standardize, solver):
    X, Y = make_data(n, p, 9)
    folds = make_folds("kfold", n, n_splits=5)
    loss, best, predict = brute_force(X, Y, folds, ALPHAS, standardize)
    fit = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds, standardize=standardize, solver=solver)
    np.testing.assert_allclose(fit.loss, loss, rtol=2e-4)
    np.testing.assert_array_equal(fit.best_alpha, best)
    new = X[:7] + 0.5
    np.testing.assert_allclose(fit.predict(new), predict(new), atol=2e-4 * Y.std())


@settings(max_examples=12, deadline=None)
@given(n=st.integers(12, 60), p=st.integers(1, 80), t=st.integers(1, 5), seed=st.integers(0, 1000),
       gap=st.integers(0, 2), solver=st.sampled_from(["primal", "dual", "auto"]))
def test_any_size_and_solver_equals_the_brute_force(n, p, t, seed, gap, solver):
    X, Y = make_data(n, p, t, seed)
    folds = make_folds("blocks", n, n_splits=3, gap=gap)
    loss, _, _ = brute_force(X, Y, folds, ALPHAS)
    fit = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds, solver=solver)
    np.testing.assert_allclose(fit.loss, loss, rtol=1e-3)
    chosen = np.take_along_axis(loss, np.searchsorted(ALPHAS, fit.best_alpha)[None], 0)[0]
    np.testing.assert_allclose(chosen, loss.min(0), rtol=1e-4)  # equal, or a tie within rounding


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize(("n", "p"), [(80, 10), (40, 100)])
def test_one_penalty_equals_sklearn(n, p, alpha):
    X, Y = make_data(n, p, 4)
    model = Ridge(alpha=alpha).fit(X, Y)
    fit = ridge_cv(X, Y, alphas=[alpha], standardize=False)
    np.testing.assert_allclose(fit.coef, model.coef_.T, atol=1e-4 * np.abs(model.coef_).max())
    np.testing.assert_allclose(fit.predict(X), model.predict(X), atol=1e-4 * Y.std())
    assert fit.loss is None


@pytest.mark.parametrize(("n", "p"), [(80, 10), (40, 100)])
def test_leave_one_out_equals_sklearn(n, p):
    X, Y = make_data(n, p, 20)
    X = (X - X.mean(0)) / X.std(0)
    model = RidgeCV(ALPHAS, alpha_per_target=True, store_cv_results=True).fit(X, Y)
    fit = ridge_cv(X, Y, alphas=ALPHAS, inner_folds="loo")
    np.testing.assert_array_equal(fit.best_alpha, model.alpha_)
    np.testing.assert_allclose(fit.loss, model.cv_results_.mean(0).T, rtol=1e-3)
    np.testing.assert_allclose(fit.predict(X), model.predict(X), atol=1e-4 * Y.std())


def test_leave_one_out_equals_refitting_without_each_row():
    X, Y = make_data(30, 5, 3)
    X = (X - X.mean(0)) / X.std(0)
    rows = np.arange(30)
    loss = np.stack([[(Ridge(alpha=a).fit(X[rows != i], Y[rows != i]).predict(X[[i]])[0] - Y[i]) ** 2 for i in rows]
                     for a in ALPHAS]).mean(1)
    np.testing.assert_allclose(ridge_cv(X, Y, alphas=ALPHAS, inner_folds="loo").loss, loss, rtol=1e-4)


@pytest.mark.parametrize("p", [199, 3000])
def test_leave_one_out_keeps_its_digits_where_rows_nearly_predict_themselves(p):
    X, Y = make_data(200, p, 6)
    Z = (X - X.mean(0)) / X.std(0)
    alphas, y = np.logspace(-3, 3, 4), Y - Y.mean(0)
    kept = [np.linalg.solve(Z @ Z.T + a * np.eye(200), a * np.eye(200)) - 1 / 200 for a in alphas]  # y - prediction
    loss = np.stack([((k @ y / np.diag(k)[:, None]) ** 2).mean(0) for k in kept])
    for shown in (None, X[:3]):  # with a model, and from kernels added up
        plan = plan_ridge(X, shown, alphas=alphas, inner_folds="loo", axes=shown is None)
        np.testing.assert_allclose(plan.predict_with_loss(Y)[2], loss.min(0) / Y.var(0), rtol=1e-4)
        np.testing.assert_array_equal(plan.predict(Y)[1], alphas[loss.argmin(0)])
    np.testing.assert_allclose(ridge_cv(X, Y, alphas=alphas, inner_folds="loo").loss, loss, rtol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_targets_without_noise_get_the_penalty_of_least_error(noise):
    X, Y = make_data(200, 20, 6, noise=noise)
    folds, alphas = make_folds("kfold", 200, n_splits=4), np.logspace(-3, 3, 7)
    loss, best, _ = brute_force(X, Y, folds, alphas)
    fit = ridge_cv(X, Y, alphas=alphas, inner_folds=folds)
    np.testing.assert_array_equal(fit.best_alpha, best)
    assert (fit.loss > 0).all()
    np.testing.assert_allclose(fit.loss[2:], loss[2:], rtol=1e-3)


@pytest.mark.parametrize("size", [1e3, 1e5])
def test_an_outlier_that_no_fold_holds_leaves_the_others_their_digits(size):
    X, Y = make_data(300, 20, 5)
    X[-1, 0] += size * X[:, 0].std()
    folds = [(np.setdiff1d(np.arange(299), test), test) for test in np.array_split(np.arange(299), 4)]
    alphas = [10.0, 100.0, 1000.0]
    loss, best, _ = brute_force(X, Y, folds, alphas)
    fit = ridge_cv(X, Y, alphas=alphas, inner_folds=folds)
    np.testing.assert_allclose(fit.loss, loss, rtol=1e-4)
    np.testing.assert_array_equal(fit.best_alpha, best)


def test_a_feature_that_is_the_same_in_the_few_rows_of_a_fold_does_not_explode():
    X, Y = make_data(3000, 2, 2)
    X[:, 1] = 0
    X[:11, 1] = 1  # far from the mean of all rows, which rounding moves
    folds = [(np.arange(11), np.arange(11, 3000)), (np.arange(11, 3000), np.arange(11))]
    loss, _, _ = brute_force(X, Y, folds, ALPHAS)
    np.testing.assert_allclose(ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds).loss, loss, rtol=1e-4)


def test_inner_folds_may_be_masks():
    X, Y = make_data(60, 8, 5)
    folds = make_folds("blocks", 60, n_splits=4, gap=2)
    wanted = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    given = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=list(zip(folds.train, folds.test)))
    np.testing.assert_array_equal(given.loss, wanted.loss)


def test_the_error_of_a_target_without_spread_is_unknown():
    X, Y = make_data(60, 8, 3)
    Y[:, 1] = 2.0
    plan = plan_ridge(X, X[:1], alphas=ALPHAS, inner_folds=make_folds("kfold", 60))
    assert np.isnan(plan.predict_with_loss(Y)[2]).tolist() == [False, True, False]


def test_a_target_far_from_zero_is_not_constant():
    X, Y = make_data(60, 8, 3)
    folds = make_folds("kfold", 60)
    wanted = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    far = ridge_cv(X, Y + 1e10, alphas=ALPHAS, inner_folds=folds)
    np.testing.assert_array_equal(far.best_alpha, wanted.best_alpha)
    np.testing.assert_allclose(far.coef, wanted.coef, rtol=1e-3, atol=1e-4)
    rounded = np.float32(1e6) + np.float32([[0.0, 0.0625]]).T.repeat(30, 0)  # the next float32 number
    assert np.isnan(ridge_cv(X, rounded, alphas=[1.0]).best_alpha).all()


def test_himalaya_chooses_the_same_penalties():
    himalaya = pytest.importorskip("himalaya.ridge")
    X, Y = make_data(120, 30, 40, noise=1.0)
    X, Y = (X - X.mean(0)).astype(np.float32), Y - Y.mean(0)
    folds = list(make_folds("kfold", 120, n_splits=4))
    peer = himalaya.RidgeCV(alphas=ALPHAS, fit_intercept=True, cv=folds).fit(X.astype(float), Y)
    fit = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds, standardize=False)
    np.testing.assert_allclose(fit.best_alpha, peer.best_alphas_, rtol=1e-5)  # himalaya keeps them in float32
    np.testing.assert_allclose(fit.loss.min(0), -peer.cv_scores_, rtol=1e-4)
    np.testing.assert_allclose(fit.coef, peer.coef_, atol=2e-4 * np.abs(peer.coef_).max())


def test_ill_conditioned_features_are_solved_in_float64():
    X, Y = make_data(300, 40, 4, correlated=300.0)
    X[:, 20:] = X[:, :20] + 1e-4 * X[:, 20:]
    folds = make_folds("kfold", 300, n_splits=3)
    loss, _, predict = brute_force(X, Y, folds, ALPHAS)
    for solver in ("primal", "dual"):
        plan = plan_ridge(X, X[:9], alphas=ALPHAS, inner_folds=folds, solver=solver)
        assert "float64" in plan.solver
        fit = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds, solver=solver)
        np.testing.assert_allclose(fit.loss, loss, rtol=1e-3)
        np.testing.assert_allclose(plan.predict(Y)[0], predict(X[:9]), atol=1e-3 * Y.std())


def test_a_large_offset_does_not_cost_precision():
    X, Y = make_data(100, 8, 5)
    folds = make_folds("kfold", 100, n_splits=4)
    plain = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    moved = ridge_cv(X + 1e6, Y + 1e6, alphas=ALPHAS, inner_folds=folds)
    np.testing.assert_allclose(moved.loss, plain.loss, rtol=1e-4)


def test_targets_of_any_size_are_fitted_alike():
    X, Y = make_data(80, 10, 6)
    folds = make_folds("kfold", 80, n_splits=4)
    plain = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    tiny = ridge_cv(X, Y * 1e-13, alphas=ALPHAS, inner_folds=folds)  # teslas
    np.testing.assert_array_equal(tiny.best_alpha, plain.best_alpha)
    np.testing.assert_allclose(tiny.coef, plain.coef * 1e-13, rtol=1e-3, atol=1e-17)


def test_nan_and_constant_targets_concern_themselves_alone():
    X, Y = make_data(60, 8, 5)
    folds = make_folds("kfold", 60, n_splits=4)
    clean = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    Y[3, 1], Y[:, 3] = np.nan, 7.25
    fit = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    assert np.isnan(fit.best_alpha).tolist() == [False, True, False, True, False]
    assert np.isnan(fit.predict(X)).all(0).tolist() == [False, True, False, True, False]
    good = [0, 2, 4]
    np.testing.assert_allclose(fit.coef[:, good], clean.coef[:, good], rtol=1e-5)


def test_constant_features_contribute_nothing():
    X, Y = make_data(60, 8, 5)
    folds = make_folds("blocks", 60, n_splits=4)
    plain = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    # One column never varies, the other only inside the first block: constant in the training rows of that fold.
    extra = np.zeros((60, 1))
    extra[:15, 0] = np.arange(15)
    fit = ridge_cv(np.c_[X, np.full(60, 0.1)], Y, alphas=ALPHAS, inner_folds=folds)
    np.testing.assert_allclose(fit.loss, plain.loss, rtol=1e-5)
    assert (fit.coef[-1] == 0).all()
    loss, _, _ = brute_force(np.c_[X, extra], Y, folds, ALPHAS)
    np.testing.assert_allclose(ridge_cv(np.c_[X, extra], Y, alphas=ALPHAS, inner_folds=folds).loss, loss, rtol=1e-3)


@pytest.mark.parametrize("shape", [(80, 10), (40, 90)])
def test_the_plan_serves_permuted_targets_and_memory_maps(tmp_path, shape):
    X, Y = make_data(*shape, 6)
    folds = make_folds("kfold", len(X), n_splits=4)
    path = tmp_path / "x.npy"
    np.save(path, X)
    mapped = np.load(path, mmap_mode="r")
    plan = plan_ridge(mapped, X[:5], alphas=ALPHAS, inner_folds=folds)
    order = np.random.default_rng(0).permutation(len(X))
    again = ridge_cv(X, Y[order], alphas=ALPHAS, inner_folds=folds)
    prediction, best = plan.predict(Y, order)
    np.testing.assert_array_equal(best, again.best_alpha)
    np.testing.assert_allclose(prediction, again.predict(X[:5]), atol=1e-3 * Y.std())
    held, best_held = plan.predict(torch.as_tensor(Y), order)
    assert torch.is_tensor(held)
    np.testing.assert_array_equal(held.numpy(), prediction)
    np.testing.assert_array_equal(best_held, best)
    np.testing.assert_allclose(moments(torch.as_tensor(Y[:5]), held), moments(Y[:5], prediction), rtol=1e-12)


def test_numpy_torch_and_xarray_give_the_same():
    X, Y = make_data(50, 6, 3)
    folds = make_folds("kfold", 50, n_splits=4)
    wanted = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds).coef
    for wrap in (torch.as_tensor, lambda a: xr.DataArray(a, dims=("a", "b")), np.asfortranarray):
        fit = ridge_cv(wrap(X), wrap(Y), alphas=ALPHAS, inner_folds=folds)
        np.testing.assert_allclose(fit.coef, wanted, rtol=1e-6)


def test_many_targets_in_chunks_equal_few(monkeypatch):
    X, Y = make_data(60, 8, 23)
    folds = make_folds("kfold", 60, n_splits=4)
    whole = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    monkeypatch.setattr("neuroalign.alignment.ridge.rows_per_chunk", lambda *a, **k: 5)
    monkeypatch.setattr("neuroalign.alignment.ridge_inputs.COLUMNS", 3)
    parts = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    np.testing.assert_allclose(parts.coef, whole.coef, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(parts.best_alpha, whole.best_alpha)


@pytest.mark.parametrize(("change", "words"), [
    ({"alphas": [0.0, 1.0]}, "penalties above 0"),
    ({"alphas": []}, "penalties above 0"),
    ({"alphas": "few"}, "alphas: got 'few', expected finite penalties above 0"),
    ({"alphas": [1.0, 2.0], "inner_folds": None}, "needed to choose between 2 alphas"),
    ({"inner_folds": "gcv"}, "expected one of 'loo'"),
    ({"inner_folds": [(np.arange(10), np.arange(10, 20))]}, "at least 2"),
    ({"inner_folds": [(np.arange(10), np.arange(90, 99))] * 2}, "index row 98, X has 40 rows"),
    ({"inner_folds": [(np.arange(40), np.arange(0))] * 2}, "no training or no test rows"),
    ({"solver": "svd"}, "'primal', 'dual'"),
    ({"device": "abacus"}, "expected 'auto', 'cpu'"),
    ({"X": np.full((40, 3), np.nan)}, "NaN or infinite values in features '0', '1', '2'"),
    ({"X": np.zeros((40, 0))}, "no features"),
    ({"X": np.zeros(40)}, "X: got 1 dim"),
    ({"Y": np.zeros(40)}, "expected \\(n_samples, n_targets\\)"),
    ({"Y": np.zeros((41, 1))}, "41 rows, X has 40"),
])
def test_bad_input_is_explained(change, words):
    X, Y = make_data(40, 3, 2)
    options = {"X": X, "Y": Y, "alphas": ALPHAS, "inner_folds": make_folds("kfold", 40)} | change
    with pytest.raises(ValueError, match=words):
        ridge_cv(options.pop("X"), options.pop("Y"), **options)


def test_penalties_may_come_from_a_generator():
    X, Y = make_data(40, 3, 2)
    folds = make_folds("kfold", 40)
    wanted = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    given = ridge_cv(X, Y, alphas=(a for a in ALPHAS), inner_folds=(f for f in folds))
    np.testing.assert_array_equal(given.loss, wanted.loss)


def test_prediction_needs_the_features_of_the_fit():
    X, Y = make_data(40, 3, 2)
    with pytest.raises(ValueError, match="3 features"):
        ridge_cv(X, Y, alphas=[1.0]).predict(X[:, :2])
