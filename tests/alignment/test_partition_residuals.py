"""Parts of the variance without the nuisance, of neuroids selected by training rows: a loop by hand, no leakage."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

import neuroalign as na
from neuroalign.alignment.residuals import PENALTY
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.stats import expanded_interval, make_resamples, repeat_reliability

QUIET = ("and get no ceiling", "in the training rows of", "still predicts the residual features", "Widen alphas")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{words}.*:neuroalign.errors.NeuroalignWarning") for words in QUIET]
N, REPS, NOISE = 60, 3, np.array([0.5, 0.5, 0.5, 4.5, 30.0])  # reliable, doubtful and noise
MODELS = {"a": "a", "b": "b", "a + b": "ab"}


def planted(seed=1):
    """Two spaces and presentations that share a nuisance; each space drives the responses beyond it, too."""
    rng = np.random.default_rng(seed)
    nuisance, extra = rng.standard_normal((N, 2)), {k: rng.standard_normal((N, 3)) for k in "ab"}
    spaces = {k: nuisance @ rng.standard_normal((2, 3)) + x for k, x in extra.items()}
    signal = 2 * nuisance @ rng.standard_normal((2, 5)) + sum(x @ rng.standard_normal((3, 5)) for x in extra.values())
    ids = [f"s{k:02d}" for k in range(N)]
    values = np.repeat(signal, REPS, 0) + NOISE * rng.standard_normal((N * REPS, 5))
    responses = make_responses(values, np.arange(N * REPS), [f"v{k}" for k in range(5)], dim="presentation",
                               sample_coords={"stimulus_id": np.repeat(ids, REPS),
                                              "part": np.repeat(np.where(np.arange(N) % 3, np.arange(N) % 9, 9), REPS)})
    known = make_features(nuisance, ids, model="n").rename("known")
    return {k: make_features(x, ids, model=k) for k, x in spaces.items()}, responses, known


def regressed(X, Y, train, alpha):
    mean, sd = X[train].mean(0), X[train].std(0)
    return Ridge(alpha=alpha).fit((X[train] - mean) / sd, Y[train]).predict((X - mean) / sd)


def by_hand(spaces, responses, known, scores, what, threshold, alpha):
    """Return the held-out predictions of each model, what they are held against, and where neuroids count."""
    fold_of = np.array(attrs_of(scores)["folds"]["fold_of_sample"])
    ids, presented = spaces["a"].stimulus_id.values, responses.stimulus_id.values
    Y, Z = na.average_repetitions(responses).values.astype(float), known.values.astype(float)
    P = {m: np.full(Y.shape, np.nan) for m in MODELS}
    held, counted = Y.copy(), np.zeros(Y.shape, bool)
    for fold in range(fold_of.max() + 1):
        train, test = fold_of != fold, fold_of == fold
        rows = np.isin(presented, ids[train])
        counted[test] = repeat_reliability(responses.values[rows], presented[rows], method="ncsnr") >= threshold
        left = {k: s.values - regressed(Z, s.values, train, PENALTY) for k, s in spaces.items()}
        own = Y - regressed(Z, Y, train, PENALTY) if what == "both" else Y
        held[test] = own[test]
        for model, members in MODELS.items():
            P[model][test] = regressed(np.hstack([left[k] for k in members]), own, train, alpha)[test]
    return P, held, counted


def r2(held, P, counted, k, rows=None):
    keep = np.flatnonzero(counted[:, k]) if rows is None else rows[counted[rows, k]]
    return r2_score(held[keep, k], P[keep, k])


@pytest.mark.parametrize("what", ["features", "both"])
def test_models_and_parts_equal_an_explicit_loop_over_training_rows(what):
    spaces, responses, known = planted()
    scores = na.partition_variance(spaces, responses, nuisance=known, residualize=what, select_neuroids=0.5,
                                   method="ridge", alphas=[5.0], n_bootstraps=40, keep=["bootstrap"])
    P, held, counted = by_hand(spaces, responses, known, scores, what, 0.5, 5.0)
    assert 0 < counted[:, 3].sum() < N and not counted[:, 4].any()  # or the test shows nothing
    found = {m: np.array([r2(held, p, counted, k) for k in range(4)]) for m, p in P.items()}
    for model, expected in found.items():
        np.testing.assert_allclose(scores.score.sel(space=model).values[0, :4], expected, atol=1e-6)
    parts = {"a, unique": found["a + b"] - found["b"], "b, unique": found["a + b"] - found["a"],
             "a & b, shared": found["a"] + found["b"] - found["a + b"]}
    assert scores.space.values.tolist() == [*MODELS, *parts]
    for name, expected in parts.items():
        np.testing.assert_allclose(scores.score.sel(space=name).values[0, :4], expected, atol=2e-6)
    assert np.isnan(scores.score.values[..., 4]).all() and np.isnan(scores.ci_low.values[..., 4]).all()
    assert scores.n.values.tolist() == counted.sum(0).tolist()
    np.testing.assert_allclose(scores.selected, [1, 1, 1, scores.selected[3], 0])
    assert 0 < scores.selected[3] < 1
    for draw, rows in enumerate(make_resamples(np.arange(N), 40, purpose="predictions").indices[:4]):
        for k in range(4):
            expected = r2(held, P["a + b"], counted, k, rows) - r2(held, P["b"], counted, k, rows)
            assert scores.bootstrap.sel(space="a, unique").values[draw, 0, k] == pytest.approx(expected, abs=2e-5)
    low, _ = expanded_interval(scores.bootstrap.values[..., :4], N)
    np.testing.assert_allclose(scores.ci_low.values[..., :4], low, atol=1e-5)
    told = attrs_of(scores)
    assert {w["code"]: w["ids"] for w in told["warnings"] if "selected" in w["code"]} == {
        "unselected-neuroid": ["v4"], "partly-selected-neuroid": ["v3"]}
    assert told["residualize"] == what and set(told["leftover"]) == {"a", "b"}


def test_what_only_the_nuisance_makes_the_spaces_share_is_lost_with_it():
    n, options = 500, {"n_bootstraps": 0, "n_candidates": 6, "alphas": [0.01, 1.0, 100.0, 1e4], "n_splits": 3,
                       "n_inner_splits": 3}
    rng, ids = np.random.default_rng(0), [f"s{k}" for k in range(n)]
    latents = {k: rng.standard_normal((n, 2)) for k in ("known", "a", "b")}
    turns = {k: np.linalg.qr(rng.standard_normal((2, 2)))[0] for k in latents}
    y = sum(np.sqrt(w) * latents[k] @ turns[k] for k, w in (("known", 0.5), ("a", 0.2), ("b", 0.1)))
    y = make_responses(y + np.sqrt(0.2) * rng.standard_normal((n, 2)), ids, ["v0", "v1"])
    known = make_features(latents["known"], ids, model="n").rename("known")
    spaces = {k: make_features(np.hstack([latents["known"], latents[k]]), ids, model=k) for k in "ab"}
    plain = na.partition_variance(spaces, y, **options)
    clean = na.partition_variance(spaces, y, nuisance=known, residualize="both", **options)
    order = ["a, unique", "b, unique", "a & b, shared"]
    np.testing.assert_allclose(plain.score.sel(space=order)[0].T, [[0.2, 0.1, 0.5]] * 2, atol=0.05)
    np.testing.assert_allclose(clean.score.sel(space=order)[0].T, [[0.4, 0.2, 0.0]] * 2, atol=0.05)
    parts = clean.score.isel(space=(clean.part != "model").values).sum("space")
    np.testing.assert_allclose(parts, clean.score.sel(space="a + b"), atol=1e-12)
    np.testing.assert_allclose(clean.baseline, 0.5, atol=0.05)


def test_the_banded_model_of_all_bands_is_that_of_banded_encoding():
    spaces, responses, known = planted()
    options = {"nuisance": known, "residualize": "both", "select_neuroids": 0.5, "n_candidates": 6,
               "alphas": [0.1, 10.0, 1000.0]}
    parts = na.partition_variance(spaces, responses, n_bootstraps=0, **options)
    joint = na.encode_banded(spaces, responses, metric="r2.pooled", baselines=[], **options)
    np.testing.assert_allclose(parts.score.sel(space="a + b"), joint.score[:, 0], atol=1e-6)
    np.testing.assert_allclose(parts.best_alpha.sel(space="a + b"), joint.best_alpha[0])
    np.testing.assert_array_equal(parts.selected, joint.selected)
    np.testing.assert_allclose(parts.baseline, joint.baseline, atol=1e-6)


def test_test_rows_have_no_say_in_penalties_and_selection():
    spaces, responses, known = planted()
    options = {"nuisance": known, "residualize": "both", "select_neuroids": 0.5, "n_bootstraps": 0, "n_candidates": 6,
               "groups": "part", "cv": {"test": [9]}}
    before = na.partition_variance(spaces, responses, **options)
    outcomes = []
    for part in (True, False):
        spoilt, rows = responses.copy(deep=True), (responses.part.values == 9) == part
        spoilt[rows] = np.random.default_rng(9).standard_normal((rows.sum(), 5)) * [1, 1, 50, 50, 1] + 100
        spoilt[rows, 0] = responses[rows, 0]
        after = na.partition_variance(spaces, spoilt, **options)
        outcomes.append([np.array_equal(before[k], after[k], equal_nan=True) for k in ("selected", "best_alpha")])
    assert outcomes == [[True, True], [False, False]]


def test_chunks_of_targets_take_their_own_selection(monkeypatch):
    spaces, responses, known = planted()
    options = {"nuisance": known, "residualize": "both", "select_neuroids": 0.5, "method": "ridge", "alphas": [5.0],
               "n_bootstraps": 20, "keep": ["bootstrap"]}
    whole = na.partition_variance(spaces, responses, **options)
    monkeypatch.setattr("neuroalign.alignment.partition.BUDGET", 8 * 7 * 20 * 2)
    parts = na.partition_variance(spaces, responses, **options)
    for name in ("score", "ci_low", "best_alpha", "baseline", "bootstrap"):
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)
