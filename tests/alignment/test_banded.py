"""Banded ridge against ridge of the scaled design in float64, himalaya, finite differences, and planted truth."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign.alignment import BandedRidgeEncoder, RidgeEncoder
from neuroalign.alignment.band_grams import DualGram, PrimalGram
from neuroalign.alignment.banded import band_candidates, banded_ridge_cv, plan_banded
from neuroalign.alignment.ridge import ridge_cv
from neuroalign.data import make_features, make_responses
from neuroalign.stats import make_folds

ALPHAS = np.logspace(-1, 4, 6)
GAMMAS = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.02, 0.98]])


def make_data(n, widths, t, seed=0, noise=1.0, share=None):
    """Bands of uneven scale and offset; target k is driven by the bands with the weights of row k of `share`."""
    rng = np.random.default_rng(seed)
    Xs = [rng.standard_normal((n, p)) * rng.uniform(0.2, 5, p) + rng.uniform(-20, 20, p) for p in widths]
    share = rng.uniform(0, 1, (t, len(widths))) if share is None else np.asarray(share)
    Y = sum(((X - X.mean(0)) / X.std(0)) @ rng.standard_normal((X.shape[1], t)) / np.sqrt(X.shape[1]) * weight
            for X, weight in zip(Xs, share.T))
    Y = Y + noise * rng.standard_normal((n, t))
    return Xs, Y * rng.uniform(0.1, 10, t) + rng.uniform(-50, 50, t)


def scaled(Xs, rows, gamma, standardize=True):
    """The design of one candidate, standardised by some rows, in float64."""
    parts = []
    for X, g in zip(Xs, gamma):
        sd = X[rows].std(0) if standardize else 1.0
        parts.append(np.sqrt(g) * (X - X[rows].mean(0)) / sd)
    return np.hstack(parts)


def brute_force(Xs, Y, folds, gammas, alphas, standardize=True):
    """Mean squared error (candidate, penalty, target) by scikit-learn on the scaled design."""
    loss, tested = np.zeros((len(gammas), len(alphas), Y.shape[1])), 0
    for train, test in folds:
        tested += len(test)
        for g, gamma in enumerate(gammas):
            design = scaled(Xs, train, gamma, standardize)
            for a, alpha in enumerate(alphas):
                model = Ridge(alpha=alpha).fit(design[train], Y[train])
                loss[g, a] += ((model.predict(design[test]).reshape(len(test), -1) - Y[test]) ** 2).sum(0)
    return loss / tested


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize(("n", "widths"), [(70, (6, 9)), (40, (50, 30)), (50, (20, 1))])
def test_equals_ridge_of_the_scaled_design(n, widths, standardize, solver):
    Xs, Y = make_data(n, widths, 7)
    folds = make_folds("blocks", n, n_splits=4, gap=1)
    loss = brute_force(Xs, Y, folds, GAMMAS, ALPHAS, standardize)
    fit = banded_ridge_cv(Xs, Y, alphas=ALPHAS, n_candidates=GAMMAS, inner_folds=folds, standardize=standardize,
                          solver=solver)
    np.testing.assert_allclose(fit.loss, loss.min(1), rtol=3e-4)
    np.testing.assert_allclose(fit.best_loss, loss.min((0, 1)), rtol=3e-4)
    new = [X[:6] + 0.3 for X in Xs]
    for k in range(Y.shape[1]):
        g, a = np.unravel_index(loss[..., k].argmin(), loss.shape[:2])
        assert fit.gammas[:, k].tolist() == pytest.approx(GAMMAS[g]) and fit.best_alpha[k] == pytest.approx(ALPHAS[a])
        design = scaled([np.vstack([X, x]) for X, x in zip(Xs, new)], np.arange(n), GAMMAS[g], standardize)
        model = Ridge(alpha=ALPHAS[a]).fit(design[:n], Y[:, k])
        np.testing.assert_allclose(fit.predict(new)[:, k], model.predict(design[n:]), atol=1e-3 * Y[:, k].std())
        by_coef = sum(x @ coef[:, k] for x, coef in zip(new, fit.coef)) + fit.intercept[k]
        np.testing.assert_allclose(by_coef, fit.predict(new)[:, k], atol=1e-9 * np.abs(Y).max())


@settings(max_examples=12, deadline=None)
@given(n=st.integers(12, 50), widths=st.lists(st.integers(1, 40), min_size=1, max_size=4), t=st.integers(1, 4),
       seed=st.integers(0, 1000), gap=st.integers(0, 2), solver=st.sampled_from(["primal", "dual", "auto"]))
def test_any_size_and_solver_equals_the_brute_force(n, widths, t, seed, gap, solver):
    Xs, Y = make_data(n, widths, t, seed)
    folds, gammas = make_folds("blocks", n, n_splits=3, gap=gap), band_candidates(len(widths), 7, seed)
    loss = brute_force(Xs, Y, folds, gammas, ALPHAS)
    fit = banded_ridge_cv(Xs, Y, alphas=ALPHAS, n_candidates=gammas, inner_folds=folds, solver=solver)
    np.testing.assert_allclose(fit.best_loss, loss.min((0, 1)), rtol=1e-3)
    np.testing.assert_allclose(fit.contributions(Xs, Y).sum(0), r2_score(Y, fit.predict(Xs), multioutput="raw_values"),
                               atol=1e-6)


@pytest.mark.parametrize("p", [8, 120])
def test_one_band_is_ridge(p):
    (X,), Y = make_data(60, (p,), 9)
    folds = make_folds("kfold", 60, n_splits=4)
    plain = ridge_cv(X, Y, alphas=ALPHAS, inner_folds=folds)
    fit = banded_ridge_cv([X], Y, alphas=ALPHAS, inner_folds=folds)
    np.testing.assert_array_equal(fit.best_alpha, plain.best_alpha)
    np.testing.assert_allclose(fit.best_loss, plain.loss.min(0), rtol=1e-5)
    np.testing.assert_allclose(fit.coef[0], plain.coef, atol=1e-5 * np.abs(plain.coef).max())
    np.testing.assert_allclose(fit.intercept, plain.intercept, atol=1e-4 * np.abs(plain.intercept).max())
    assert fit.candidates.tolist() == [[1.0]] and (fit.gammas == 1).all()


def himalaya_data(widths):
    Xs, Y = make_data(90, widths, 30, noise=0.7)
    Xs = [(X - X.mean(0)) / X.std(0) for X in Xs]
    return Xs, Y - Y.mean(0), [(a, b) for a, b in make_folds("kfold", 90, n_splits=3)]


def test_group_ridge_of_himalaya_has_the_same_errors_and_weights():
    himalaya = pytest.importorskip("himalaya.ridge")
    Xs, Y, folds = himalaya_data((12, 5, 20))
    gammas = band_candidates(3, 10).clip(1e-4)  # it divides by the roots of gammas
    gammas = gammas / gammas.sum(1, keepdims=True)
    params = {"n_iter": gammas, "alphas": ALPHAS, "progress_bar": False}
    peer = himalaya.GroupRidgeCV(groups="input", solver_params=params, fit_intercept=True, cv=folds).fit(Xs, Y)
    fit = banded_ridge_cv(Xs, Y, alphas=ALPHAS, n_candidates=gammas, inner_folds=folds, standardize=False)
    np.testing.assert_allclose(fit.loss, -peer.cv_scores_, rtol=1e-4)
    np.testing.assert_allclose(fit.best_alpha, peer.best_alphas_, rtol=1e-4)
    np.testing.assert_allclose(np.log(fit.gammas / fit.best_alpha), peer.deltas_, atol=1e-3)
    np.testing.assert_allclose(np.vstack(fit.coef), peer.coef_, atol=1e-3 * np.abs(peer.coef_).max())


def test_multiple_kernel_ridge_of_himalaya_has_the_same_errors():
    himalaya = pytest.importorskip("himalaya.kernel_ridge")
    Xs, Y, folds = himalaya_data((150, 100, 70))
    # It does not centre by folds: with every row its negative in the same fold, all means are zero.
    Xs, Y = [np.vstack([X, -X]) for X in Xs], np.vstack([Y, -Y])
    folds = [(np.r_[a, a + 90], np.r_[b, b + 90]) for a, b in folds]
    gammas = band_candidates(3, 10)
    params = {"n_iter": gammas, "alphas": ALPHAS, "progress_bar": False}
    kernels = np.stack([X @ X.T for X in Xs])
    peer = himalaya.MultipleKernelRidgeCV(kernels="precomputed", solver_params=params, cv=folds).fit(kernels, Y)
    fit = banded_ridge_cv(Xs, Y, alphas=ALPHAS, n_candidates=gammas, inner_folds=folds, standardize=False)
    np.testing.assert_allclose(fit.loss, -peer.cv_scores_, rtol=1e-4)


@pytest.mark.parametrize(("kind", "widths"), [(PrimalGram, (4, 7)), (DualGram, (40, 30))])
def test_slopes_equal_finite_differences(kind, widths):
    Xs, Y = make_data(30, widths, 5)
    X = torch.as_tensor(np.hstack(Xs)) - np.hstack(Xs).mean(0)
    train, test = torch.arange(20), torch.arange(20, 30)
    slices = [slice(0, widths[0]), slice(widths[0], sum(widths))]
    gram = kind(X, train, test, slices, True)
    reduced = torch.as_tensor(Y[:20] - Y[:20].mean(0))
    reduced = (gram.scale[:, None] * (X[:20].T @ reduced)) if kind is PrimalGram else reduced
    deltas = torch.as_tensor(np.random.default_rng(1).uniform(-4, 1, (2, 5)))

    def predict(deltas):
        return gram.predict(gram.solve(deltas, reduced)[0], deltas.softmax(0)).sum(0)

    _, slopes = gram.solve(deltas, reduced, derivatives=True)
    for band in range(2):
        step = torch.zeros_like(deltas)
        step[band] = 1e-5
        expected = (predict(deltas + step) - predict(deltas - step)) / 2e-5
        np.testing.assert_allclose(slopes[band], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("widths", [(8, 12), (60, 45)])
def test_refinement_lowers_the_error_and_tells_its_penalties(widths):
    Xs, Y = make_data(60, widths, 8, noise=0.5)
    folds = make_folds("kfold", 60, n_splits=4)
    options = {"alphas": ALPHAS, "n_candidates": GAMMAS[:1], "inner_folds": folds}
    coarse, fine = banded_ridge_cv(Xs, Y, **options), banded_ridge_cv(Xs, Y, refine=10, **options)
    assert (fine.best_loss <= coarse.best_loss * (1 + 1e-6)).all() and (fine.best_loss < coarse.best_loss).mean() > 0.8
    np.testing.assert_allclose(fine.gammas.sum(0), 1, atol=1e-5)
    np.testing.assert_allclose(fine.loss, coarse.loss)
    for k in range(8):
        own = brute_force(Xs, Y[:, [k]], folds, [fine.gammas[:, k]], [fine.best_alpha[k]])
        assert own.item() == pytest.approx(fine.best_loss[k], rel=1e-3)
        design = scaled(Xs, np.arange(60), fine.gammas[:, k])
        np.testing.assert_allclose(fine.predict(Xs)[:, k], Ridge(alpha=fine.best_alpha[k]).fit(design, Y[:, k])
                                   .predict(design), atol=1e-3 * Y[:, k].std())
    # No further candidate does much better than where the descent ended.
    dense = brute_force(Xs, Y, folds, [[g, 1 - g] for g in np.linspace(0.04, 0.96, 12)], np.logspace(-1, 3, 12))
    assert (fine.best_loss <= dense.min((0, 1)) * 1.01).mean() >= 0.9
    stopped = banded_ridge_cv(Xs, Y, refine=10, tolerance=1.0, **options)
    assert (stopped.best_loss >= fine.best_loss * (1 - 1e-6)).all()


def test_the_band_that_drives_a_target_is_found():
    Xs, Y = make_data(200, (10, 150, 30), 6, share=[[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]],
                      noise=0.4)
    fit = banded_ridge_cv([X[:150] for X in Xs], Y[:150], inner_folds=make_folds("kfold", 150))
    assert fit.gammas.argmax(0).tolist() == [0, 0, 1, 1, 2, 2]
    parts = fit.contributions([X[150:] for X in Xs], Y[150:])
    assert parts[:3].argmax(0).tolist() == [0, 0, 1, 1, 2, 2]
    plain = ridge_cv(np.hstack(Xs)[:150], Y[:150], inner_folds=make_folds("kfold", 150))
    gain = r2_score(Y[150:], fit.predict([X[150:] for X in Xs]), multioutput="raw_values")
    gain = gain - r2_score(Y[150:], plain.predict(np.hstack(Xs)[150:]), multioutput="raw_values")
    assert gain.mean() > 0.05


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_contributions_sum_to_r2(offset):
    Xs, Y = make_data(120, (5, 140, 9), 8)
    Y = Y + offset
    fit = banded_ridge_cv([X[:80] for X in Xs], Y[:80], alphas=ALPHAS, n_candidates=8,
                          inner_folds=make_folds("kfold", 80))
    held = [X[80:] for X in Xs]
    parts, bands = fit.contributions(held, Y[80:]), fit.predict_bands(held)
    expected = r2_score(Y[80:], fit.predict(held), multioutput="raw_values")
    np.testing.assert_allclose(parts.sum(0), expected, atol=1e-6)
    y, p = Y[80:] - Y[80:].mean(0), fit.predict(held) - Y[80:].mean(0)
    by_hand = (bands * (2 * y - p)).sum(1) / (y**2).sum(0)
    np.testing.assert_allclose(parts[:3], by_hand, atol=1e-6)
    gap = Y[:80].mean(0) - Y[80:].mean(0)  # of the means: what the intercept costs
    np.testing.assert_allclose(parts[3], (gap * (2 * y - p)).sum(0) / (y**2).sum(0), atol=1e-6)


def test_himalaya_splits_r2_alike():
    scoring = pytest.importorskip("himalaya.scoring")
    Xs, Y = make_data(120, (5, 140, 9), 8)
    Y[80:] -= Y[80:].mean(0) - Y[:80].mean(0)  # it knows no intercept: let there be nothing for one
    fit = banded_ridge_cv([X[:80] for X in Xs], Y[:80], alphas=ALPHAS, n_candidates=8,
                          inner_folds=make_folds("kfold", 80))
    held = [X[80:] for X in Xs]
    peer = scoring.r2_score_split(Y[80:] - Y[80:].mean(0), fit.predict_bands(held))
    parts = fit.contributions(held, Y[80:])
    np.testing.assert_allclose(parts[:3], np.asarray(peer), atol=1e-6)
    np.testing.assert_allclose(parts[3], 0, atol=1e-6)


@pytest.mark.parametrize("widths", [(6, 9), (50, 60)])
@pytest.mark.parametrize("hold", [False, True])
def test_the_plan_serves_permuted_targets(widths, hold):
    Xs, Y = make_data(60, widths, 6)
    folds = make_folds("kfold", 60, n_splits=4)
    plan = plan_banded(Xs, [X[:7] for X in Xs], alphas=ALPHAS, n_candidates=6, inner_folds=folds, hold=hold)
    for order in (np.arange(60), np.random.default_rng(0).permutation(60)):
        again = banded_ridge_cv(Xs, Y[order], alphas=ALPHAS, n_candidates=6, inner_folds=folds)
        prediction, alpha, gammas, bands = plan.predict_bands(Y, order)
        np.testing.assert_array_equal(alpha, again.best_alpha)
        np.testing.assert_allclose(gammas, again.gammas, atol=1e-6)
        np.testing.assert_allclose(prediction, again.predict([X[:7] for X in Xs]), atol=1e-3 * Y.std())
        np.testing.assert_allclose(bands, again.predict_bands([X[:7] for X in Xs]), atol=1e-3 * Y.std())
        np.testing.assert_array_equal(plan.predict(Y, order)[0], prediction)
    low, high = plan.limits
    assert 0 < low < high


def test_nan_and_constant_targets_concern_themselves_alone():
    Xs, Y = make_data(60, (5, 8), 5)
    options = {"alphas": ALPHAS, "n_candidates": 6, "inner_folds": make_folds("kfold", 60), "refine": 2}
    clean = banded_ridge_cv(Xs, Y, **options)
    Y[3, 1], Y[:, 3] = np.nan, 7.25
    fit = banded_ridge_cv(Xs, Y, **options)
    bad = [False, True, False, True, False]
    assert np.isnan(fit.gammas).all(0).tolist() == bad and np.isnan(fit.best_alpha).tolist() == bad
    assert np.isnan(fit.predict(Xs)).all(0).tolist() == bad
    np.testing.assert_allclose(fit.predict(Xs)[:, [0, 2, 4]], clean.predict(Xs)[:, [0, 2, 4]], atol=1e-4 * 50)


def test_a_constant_band_and_ill_conditioned_bands():
    Xs, Y = make_data(80, (6, 8), 4)
    folds = make_folds("blocks", 80, n_splits=4)
    fit = banded_ridge_cv([*Xs, np.ones((80, 3))], Y, alphas=ALPHAS, n_candidates=8, inner_folds=folds)
    assert np.isfinite(fit.best_loss).all() and (fit.coef[2] == 0).all()
    near = [np.c_[X, X + 1e-4 * X[:, ::-1]] for X in Xs]
    loss = brute_force(near, Y, folds, GAMMAS, [1e-3, 1.0])
    for solver in ("primal", "dual"):
        plan = plan_banded(near, alphas=[1e-3, 1.0], n_candidates=GAMMAS, inner_folds=folds, solver=solver)
        assert "float64" in plan.solver
        np.testing.assert_allclose(plan.fit(Y).loss, loss.min(1), rtol=1e-3)


def test_many_targets_in_chunks_equal_few(monkeypatch):
    Xs, Y = make_data(50, (8, 5), 23)
    options = {"alphas": ALPHAS, "n_candidates": 6, "inner_folds": make_folds("kfold", 50), "refine": 2}
    whole = banded_ridge_cv(Xs, Y, **options)
    monkeypatch.setattr("neuroalign.alignment.banded.rows_per_chunk", lambda *a, **k: 5)
    monkeypatch.setattr("neuroalign.alignment.band_refine.rows_per_chunk", lambda *a, **k: 3)
    parts = banded_ridge_cv(Xs, Y, **options)
    np.testing.assert_allclose(parts.predict(Xs), whole.predict(Xs), atol=1e-3)


def test_numpy_torch_and_xarray_give_the_same():
    Xs, Y = make_data(50, (6, 4), 3)
    options = {"alphas": ALPHAS, "n_candidates": 5, "inner_folds": make_folds("kfold", 50)}
    wanted = banded_ridge_cv(Xs, Y, **options).predict(Xs)
    for wrap in (torch.as_tensor, lambda a: xr.DataArray(a, dims=("a", "b")), np.asfortranarray):
        np.testing.assert_allclose(banded_ridge_cv([wrap(X) for X in Xs], wrap(Y), **options).predict(Xs), wanted,
                                   rtol=1e-6)


def test_candidates_lie_on_the_simplex_and_hold_centre_and_corners():
    gammas = band_candidates(4, 30)
    assert gammas.shape == (30, 4) and (gammas >= 0).all()
    np.testing.assert_allclose(gammas.sum(1), 1)
    np.testing.assert_array_equal(gammas[:5], [[0.25] * 4, *np.eye(4)])
    assert (gammas[5::2].max(1).mean()) > gammas[6::2].max(1).mean()  # concentration 0.1, then 1
    np.testing.assert_array_equal(band_candidates(4, 30), gammas)
    assert len(band_candidates(4, 3)) == 3 and band_candidates(1, 30).tolist() == [[1.0]]


@pytest.mark.parametrize(("change", "words"), [
    ({"n_candidates": 0}, "integer of at least 1"),
    ({"n_candidates": [[0.5, 0.6]]}, "summing to 1"),
    ({"n_candidates": [[0.5, 0.25, 0.25]]}, "2 bands"),
    ({"inner_folds": None}, "choose between 20 candidates and 6 alphas"),
    ({"inner_folds": "loo"}, "of plain ridge only"),
    ({"refine": -1}, "steps of at least 0"),
    ({"solver": "svd"}, "'primal', 'dual'"),
    ({"Xs": []}, "no bands"),
    ({"Xs": np.zeros((40, 3))}, "Pass a list of arrays"),
    ({"Xs": [np.zeros((40, 3)), np.zeros((39, 3))]}, "39 rows, Xs\\[0\\] has 40"),
    ({"Xs": [np.zeros((40, 3)), np.full((40, 2), np.nan)]}, "band 1: X: NaN or infinite values in features '0', '1'"),
    ({"Y": np.zeros((41, 1))}, "41 rows, X has 40"),
])
def test_bad_input_is_explained(change, words):
    Xs, Y = make_data(40, (3, 2), 2)
    options = {"Xs": Xs, "Y": Y, "alphas": ALPHAS, "inner_folds": make_folds("kfold", 40)} | change
    with pytest.raises(ValueError, match=words):
        banded_ridge_cv(options.pop("Xs"), options.pop("Y"), **options)


def test_prediction_needs_the_bands_of_the_fit():
    Xs, Y = make_data(40, (3, 2), 2)
    fit = banded_ridge_cv(Xs, Y, alphas=ALPHAS, inner_folds=make_folds("kfold", 40))
    with pytest.raises(ValueError, match="got 1 bands, expected 2"):
        fit.predict(Xs[:1])
    with pytest.raises(ValueError, match="expected \\(n_rows, 2 features\\)"):
        fit.predict([Xs[0], Xs[0]])


@parametrize_with_checks([BandedRidgeEncoder(alphas=[0.01, 1.0, 100.0])])
def test_scikit_learn_estimator_checks(estimator, check):
    check(estimator)


def test_the_estimator_is_the_function():
    Xs, Y = make_data(60, (5, 8), 3)
    X, folds = np.hstack(Xs), make_folds("kfold", 60)
    model = BandedRidgeEncoder([5, 8], ALPHAS, n_candidates=7, refine=2).fit(X, Y)
    fit = banded_ridge_cv(Xs, Y, alphas=ALPHAS, n_candidates=7, refine=2, inner_folds=folds)
    np.testing.assert_allclose(model.predict(X), fit.predict(Xs), atol=1e-6)
    np.testing.assert_array_equal(model.gammas_, fit.gammas)
    np.testing.assert_array_equal(model.cv_loss_, fit.loss)
    parts = model.contributions(X, Y)
    np.testing.assert_allclose(parts.sum(0), r2_score(Y, model.predict(X), multioutput="raw_values"), atol=1e-6)
    single = BandedRidgeEncoder([5, 8], ALPHAS, n_candidates=7, refine=2).fit(X, Y[:, 0])
    assert single.coef_.shape == (13,) and single.gammas_.shape == (2,) and isinstance(single.intercept_, float)
    plain, one = RidgeEncoder(ALPHAS).fit(X, Y), BandedRidgeEncoder(alphas=ALPHAS).fit(X, Y)
    np.testing.assert_allclose(one.coef_, plain.coef_, atol=1e-5 * np.abs(plain.coef_).max())


def test_the_estimator_works_in_pipelines_searches_and_clones():
    Xs, Y = make_data(60, (5, 8), 3)
    X = np.hstack(Xs)
    assert make_pipeline(StandardScaler(), BandedRidgeEncoder([5, 8], n_candidates=4)).fit(X, Y).score(X, Y) > 0.1
    search = GridSearchCV(BandedRidgeEncoder(n_candidates=4), {"widths": [None, [5, 8]]}, cv=3).fit(X, Y)
    assert search.best_params_["widths"] in (None, [5, 8])
    copy = clone(BandedRidgeEncoder([5, 8], refine=3))
    assert copy.get_params()["widths"] == [5, 8] and copy.refine == 3 and not hasattr(copy, "coef_")
    ids = [f"s{k}" for k in range(60)]
    responses = make_responses(Y, ids, ["a", "b", "c"], neuroid_coords={"region": ["IT", "IT", "V4"]})
    labelled = BandedRidgeEncoder([5, 8], n_candidates=4).fit(make_features(X, ids, model="m"), responses)
    assert labelled.predict(make_features(X, ids, model="m")).region.values.tolist() == ["IT", "IT", "V4"]
    with pytest.raises(ValueError, match="sum to the 13 features"):
        BandedRidgeEncoder([5, 9]).fit(X, Y)
    with pytest.raises(ValueError, match="of plain ridge only"):
        BandedRidgeEncoder([5, 8], cv="loo").fit(X, Y)


def test_only_targets_in_doubt_are_searched_in_float64(monkeypatch):
    Xs, Y = make_data(60, (70, 50), 6, noise=2.0)
    Y[:, 2] = Xs[0] @ np.random.default_rng(1).standard_normal(70)  # without noise: the least penalty is best
    alphas, folds, calls = np.logspace(-4, 4, 9), make_folds("kfold", 60, n_splits=4), []
    plan = plan_banded(Xs, alphas=alphas, n_candidates=GAMMAS, inner_folds=folds)
    losses = type(plan)._losses
    monkeypatch.setattr(type(plan), "_losses", lambda self, Y, dtype: calls.append((Y.shape[1], dtype)) or
                        losses(self, Y, dtype))
    fit = plan.fit(Y)
    assert calls == [(6, torch.float32), (1, torch.float64)]
    loss = brute_force(Xs, Y, folds, GAMMAS, alphas)
    np.testing.assert_allclose(fit.best_loss, loss.min((0, 1)), rtol=1e-4)
    best = [np.unravel_index(loss[..., k].argmin(), loss.shape[:2]) for k in range(6)]
    assert fit.best_alpha.tolist() == pytest.approx([alphas[a] for _, a in best])
