"""The best layer chosen within training folds, against a loop over scikit-learn and against the choice by test rows."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import neuroalign as na
from neuroalign.data import make_features, make_responses
from neuroalign.stats import make_folds

ALPHAS = [1e-3, 0.3, 3.0, 30.0, 300.0, 1e4, 1e6]


def layers(n=60, p=8, n_layers=3, seed=0, model="toy"):
    rng, ids = np.random.default_rng(seed), [f"s{i:03d}" for i in range(n)]
    return [make_features(rng.standard_normal((n, p)), ids, model=model, layer=f"block{k}", depth=k / (n_layers - 1))
            for k in range(n_layers)]


def responses_of(source, t=3, noise=1.0, seed=1):
    rng = np.random.default_rng(seed)
    Y = source.values @ rng.standard_normal((source.shape[1], t)) + noise * rng.standard_normal((len(source), t))
    return make_responses(Y, list(source.stimulus_id.values), [f"v{k}" for k in range(t)])


def test_layers_are_chosen_by_the_inner_folds_of_each_neuroid():
    spaces = layers()
    parts = [responses_of(space, 1, seed=k) for k, space in enumerate(spaces)]
    Y = np.concatenate([p.values for p in parts], 1)
    responses = make_responses(Y, list(spaces[0].stimulus_id.values), ["a", "b", "c"])
    scores = na.encode(spaces, responses, layer="nested", cv=4, inner_cv="blocks", n_inner_splits=3, alphas=ALPHAS,
                       keep=["prediction"])
    assert scores.space.values.tolist() == ["toy:nested:all"] and scores.layer.values.tolist() == ["nested"]
    np.testing.assert_allclose(scores.chosen_depth.values, [[0, 0.5, 1]])
    names = [str(s.space_id.values) for s in spaces]
    assert na.scores.attrs_of(scores)["chosen_layers"] == {"toy:nested:all": dict.fromkeys(names, 4)}  # in four folds
    folds = make_folds("kfold", 60, n_splits=4)
    place, predicted = np.argsort(np.argsort(responses.stimulus_id.values)), np.zeros_like(Y)
    for train, test in zip(folds.train[:, place], folds.test[:, place]):
        rows = np.flatnonzero(train)
        for k in range(3):
            best = (np.inf, None)
            for space in spaces:
                for alpha in ALPHAS:
                    loss = 0.0
                    for inner, held in make_folds("blocks", len(rows), n_splits=3):
                        scaler = StandardScaler().fit(space.values[rows[inner]])
                        fit = Ridge(alpha).fit(scaler.transform(space.values[rows[inner]]), Y[rows[inner], k])
                        error = fit.predict(scaler.transform(space.values[rows[held]])) - Y[rows[held], k]
                        loss += (error**2).sum()
                    best = min(best, (loss, space.layer.item(), alpha), key=lambda found: found[0])
            space = next(s for s in spaces if s.layer.item() == best[1])
            scaler = StandardScaler().fit(space.values[train])
            fit = Ridge(best[2]).fit(scaler.transform(space.values[train]), Y[train, k])
            predicted[test, k] = fit.predict(scaler.transform(space.values[test]))
    np.testing.assert_allclose(scores.prediction.values[:, 0], predicted, atol=2e-3)


def test_the_best_of_many_useless_layers_is_not_believed():
    spaces = layers(n=80, n_layers=12, seed=3)
    noise = make_responses(np.random.default_rng(4).standard_normal((80, 20)), list(spaces[0].stimulus_id.values),
                           [f"v{k}" for k in range(20)])
    options = {"cv": 5, "alphas": ALPHAS}
    chosen_by_test = na.encode(spaces, noise, metric="r2.pooled", **options).score.max("space").mean().item()
    nested = na.encode(spaces, noise, metric="r2.pooled", layer="nested", **options).score.mean().item()
    assert nested < 0 < chosen_by_test + 0.02 and nested < chosen_by_test - 0.02


@pytest.mark.parametrize("nuisance", [False, True])
def test_the_null_chooses_again(nuisance):
    spaces = layers(n=60, n_layers=4, seed=5)
    responses = responses_of(spaces[2], 2, noise=2.0)
    more = {}
    if nuisance:
        more["nuisance"] = make_features(np.random.default_rng(9).standard_normal((60, 1)),
                                         list(spaces[0].stimulus_id.values), model="c")
    scores = na.encode(spaces, responses, layer="nested", cv=4, alphas=ALPHAS, n_permutations=39, metric="r.pooled",
                       **more)
    assert np.all(scores.p.values == 1 / 40) and np.all(np.abs(scores.null_mean.values) < 0.25)


def test_models_and_streams_are_chosen_apart_and_bad_questions_are_explained():
    both = [*layers(model="one"), *layers(seed=7, model="two")]
    responses = responses_of(both[0])
    scores = na.encode(both, responses, layer="nested", cv=4, alphas=[1e-6, *ALPHAS])
    assert scores.space.values.tolist() == ["one:nested:all", "two:nested:all"]
    assert scores.model.values.tolist() == ["one", "two"] and scores.n_features.values.tolist() == [24, 24]
    with pytest.raises(ValueError, match="one layer a model"):
        na.encode(both[:1], responses, layer="nested", alphas=ALPHAS)
    with pytest.raises(ValueError, match="at least two alphas"):
        na.encode(both, responses, layer="nested", alphas=[1.0])
    with pytest.raises(ValueError, match="layer: got 'best'"):
        na.encode(both, responses, layer="best")
