"""Reduction inside the training rows of each fold, against scikit-learn pipelines; tables read by columns."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import neuroalign as na
from neuroalign.alignment.reduction import Reduction, parse_reduction, reduce_features
from neuroalign.alignment.ridge import plan_ridge
from neuroalign.alignment.table import Table
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.stats import make_folds

CPU = torch.device("cpu")


def problem(n=60, p=30, t=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) @ np.diag(np.linspace(0.2, 3, p)) + rng.standard_normal((n, 1))
    Y = X @ rng.standard_normal((p, t)) / np.sqrt(p) + rng.standard_normal((n, t))
    ids = [f"s{i:03d}" for i in range(n)]
    return make_features(X, ids, model="toy"), make_responses(Y, ids, [f"v{k}" for k in range(t)]), X, Y


@pytest.mark.parametrize("shape", [(60, 30), (40, 90)])
@pytest.mark.parametrize("size", [5, 0.8])
def test_components_are_those_of_scikit_learn(shape, size):
    _, _, X, _ = problem(*shape)
    train, test = X[: len(X) - 10], X[len(X) - 10 :]
    scaler = StandardScaler().fit(train)
    pca = PCA(size, svd_solver="full").fit(scaler.transform(train))
    for got, rows in zip(reduce_features(train, test, Reduction("pca", size), 0, CPU), (train, test)):
        expected = pca.transform(scaler.transform(rows))
        assert got.shape == expected.shape
        np.testing.assert_allclose(got * np.sign((got * expected).sum(0)), expected, atol=2e-4)


@pytest.mark.parametrize("p", [30, 90])
def test_encode_with_components_equals_a_pipeline_that_sees_the_training_folds_alone(p):
    features, responses, X, Y = problem(50, p)
    scores = na.encode(features, responses, reduce="pca:6", cv=5, alphas=[3.0], keep=["prediction"])
    folds, predicted = make_folds("kfold", 50, n_splits=5), np.full(Y.shape, np.nan)
    place = np.argsort(np.argsort(features.stimulus_id.values))
    for train, test in zip(folds.train[:, place], folds.test[:, place]):
        # the responses are standardised over all rows for the arithmetic alone: ridge is equivariant to that
        pipeline = make_pipeline(StandardScaler(), PCA(6, svd_solver="full"), Ridge(3.0))
        predicted[test] = pipeline.fit(X[train], Y[train]).predict(X[test])
    np.testing.assert_allclose(scores.prediction.values[:, 0], predicted, atol=2e-3)
    assert scores.attrs["reduce"] == '"pca:6"'


@pytest.mark.filterwarnings("ignore:reduce='pca.400'")
@pytest.mark.parametrize("p", [30, 90])
def test_all_components_are_no_reduction(p):
    features, responses, _, _ = problem(50, p)
    options = {"cv": 5, "alphas": np.logspace(-2, 4, 7), "inner_cv": 3}
    whole = na.encode(features, responses, **options)
    reduced = na.encode(features, responses, reduce="pca:400", **options)
    # inner folds standardise by their own rows without a reduction, so only nearly so
    np.testing.assert_allclose(reduced.score.values, whole.score.values, atol=0.03)
    single = {"cv": 5, "alphas": [5.0]}
    np.testing.assert_allclose(na.encode(features, responses, reduce="pca:400", **single).score.values,
                               na.encode(features, responses, **single).score.values, atol=1e-4)


def test_nuisance_is_not_reduced_and_keeps_its_score():
    features, responses, X, _ = problem(60, 40)
    confound = na.data.make_features(X[:, :1] ** 2, list(features.stimulus_id.values), model="c")[:, 0]
    options = {"nuisance": confound.rename("confound"), "cv": 5, "alphas": [2.0]}
    plain = na.encode(features, responses, **options)
    reduced = na.encode(features, responses, reduce="pca:4", **options)
    np.testing.assert_allclose(reduced.baseline.values, plain.baseline.values, atol=1e-6)
    assert np.abs(reduced.score - plain.score).max() > 1e-3


def test_random_projection_is_seeded_and_keeps_dot_products_on_average():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3000))
    a, b = reduce_features(X[:30], X[30:], Reduction("random", 600), 0, CPU)
    again, _ = reduce_features(X[:30], X[30:], Reduction("random", 600), 0, CPU)
    other, _ = reduce_features(X[:30], X[30:], Reduction("random", 600), 1, CPU)
    np.testing.assert_array_equal(a, again)
    assert np.abs(a - other).max() > 1
    scaled = (X - X[:30].mean(0)) / X[:30].std(0)
    ratio = np.r_[(a**2).sum(1), (b**2).sum(1)] / (scaled**2).sum(1)
    assert 0.9 < ratio.mean() < 1.1 and ratio.std() < 0.12
    narrow, _ = reduce_features(X[:30, :50], X[30:, :50], Reduction("random", 600), 0, CPU)
    np.testing.assert_allclose(narrow, scaled[:30, :50], atol=1e-5)


@pytest.mark.parametrize("bad", ["pca", "pca:0", 0, -3, "random:0.5", True, "svd:3", 1.5])
def test_bad_reductions_are_explained(bad):
    with pytest.raises(ValueError, match=r"reduce: got .*expected 'pca:50'"):
        parse_reduction(bad)


@pytest.mark.parametrize("standardize", [True, False])
def test_kernels_added_up_over_blocks_equal_a_design_in_memory(standardize, monkeypatch):
    _, _, X, Y = problem(50, 170, 6)
    options = {"alphas": np.logspace(-1, 3, 5), "standardize": standardize, "device": "cpu",
               "inner_folds": list(make_folds("kfold", 40, n_splits=4))}
    held, _ = plan_ridge(X[:40], X[40:], solver="primal", **options).predict(Y[:40])
    monkeypatch.setattr("neuroalign.alignment.ridge_inputs.COLUMNS", 16)
    plan = plan_ridge(X[:40], X[40:], **options)
    streamed, _ = plan.predict(Y[:40])
    assert plan.solver.startswith("dual")
    np.testing.assert_allclose(streamed, held, atol=2e-4)


def test_features_larger_than_what_is_read_at_once_come_from_a_memory_map(tmp_path, monkeypatch):
    features, responses, X, _ = problem(40, 500)
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, X.shape)
    mapped[:] = X
    lazy, widest = features.copy(data=np.load(tmp_path / "x.npy", mmap_mode="r")), []
    monkeypatch.setattr("neuroalign.alignment.ridge_inputs.COLUMNS", 64)
    read = Table.__getitem__

    def spy(self, key):
        block = read(self, key)
        widest.append(block.shape[1])
        return block

    monkeypatch.setattr(Table, "__getitem__", spy)
    got = na.encode(lazy, responses, alphas=[1.0, 10.0], cv=4)
    assert max(w for w in widest if w != 500) <= 64
    np.testing.assert_allclose(got.score.values, na.encode(features, responses, alphas=[1.0, 10.0], cv=4).score.values,
                               atol=1e-4)


def test_tables_take_rows_and_split_columns():
    a, b = np.arange(12.0).reshape(4, 3), -np.arange(8.0).reshape(4, 2)
    both = np.concatenate([a, b], 1)
    table = Table([np.zeros((4, 0)), a, b])
    for columns in (slice(0, 5), slice(2, 4), slice(None), slice(4, 4)):
        np.testing.assert_array_equal(table[:, columns], both[:, columns])
    taken = table.take([3, 0, 1]).take([2, 0])
    np.testing.assert_array_equal(taken[:, :], both[[1, 3]])
    left, right = taken.split(3)
    np.testing.assert_array_equal(left[:, :], a[[1, 3]])
    np.testing.assert_array_equal(right[:, :], b[[1, 3]])
    assert Table([np.zeros((4, 0)), a]).split(0)[0].shape == (4, 0)
    with pytest.raises(ValueError, match="no part ends at column 2"):
        table.split(2)


def spaces_of_unequal_width(n=60):
    rng = np.random.default_rng(0)
    ids = [f"s{k:02d}" for k in range(n)]
    wide, latent = rng.standard_normal((n, 30)), rng.standard_normal((n, 4))
    flat = latent @ rng.standard_normal((4, 30))  # wide, of few dimensions
    y = make_responses(wide[:, :5] + rng.standard_normal((n, 5)), ids, list("abcde"))
    spaces = {"wide": make_features(wide, ids, model="m", layer="wide"),
              "narrow": make_features(wide[:, :7], ids, model="m", layer="narrow"),
              "flat": make_features(flat, ids, model="m", layer="flat")}
    return spaces, y


def told_of_width(call, *args, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = call(*args, **options)
    return scores, [w.message for w in caught if getattr(w.message, "code", "") == "narrow-features"]


def test_spaces_narrower_than_their_reduction_are_named_and_the_width_is_told():
    spaces, y = spaces_of_unequal_width()
    scores, told = told_of_width(na.encode, spaces, y, reduce="pca:20", alphas=[1.0])
    assert scores.n_features.values.tolist() == [30, 7, 30] and scores.n_components.values[:2].tolist() == [20, 7]
    assert 4 <= scores.n_components.values[2] < 6  # rounding may leave a fifth
    (warning,) = told
    assert set(warning.ids) == {"narrow", "flat"} and "'pca:20': 2 of 3 spaces have fewer than 20" in str(warning)
    assert attrs_of(scores)["warnings"][0]["code"] == "narrow-features"
    for reduce in ("pca:4", 4, "pca:0.5"):
        assert not told_of_width(na.encode, spaces, y, reduce=reduce, alphas=[1.0])[1]
    assert "n_components" not in na.encode(spaces, y, alphas=[1.0]).coords
    train = [StandardScaler().fit_transform(v.values[:48]) for v in spaces.values()]
    some = na.encode(spaces, y, reduce="pca:0.5", alphas=[1.0], cv=[(np.arange(48), np.arange(48, 60))]).n_components
    assert some.values.tolist() == [PCA(0.5).fit(x).n_components_ for x in train]


@pytest.mark.parametrize("options", [{"nuisance": "length"}, {"nuisance": "length", "residualize": "features"}, {}])
def test_every_encoding_tells_the_width_of_the_features_alone(options):
    spaces, y = spaces_of_unequal_width()
    y = y.assign_coords(length=("stimulus", np.random.default_rng(1).standard_normal(60)))
    options |= {"reduce": 10, "n_splits": 2, "n_inner_splits": 2, "alphas": [1.0, 100.0]}  # a random projection
    nested, told = told_of_width(na.encode, spaces, y, layer="nested", **options)
    assert nested.n_components.values.tolist() == [27] and len(told) == 1  # 10 + 7 + 10
    banded, told = told_of_width(na.encode_banded, spaces, y, n_candidates=4, **options)
    assert banded.n_components.values.tolist() == [27] and len(told) == 1
    by_stimulus, told = told_of_width(na.encode_stimuli, spaces, y, **options)
    assert by_stimulus.n_components.values.tolist() == [10, 7, 10] and told[0].ids == ("narrow",)
    two = {k: spaces[k] for k in ("wide", "narrow")}
    _, told = told_of_width(na.partition_variance, two, y, n_candidates=2, n_bootstraps=0, **options)
    assert told[0].ids == ("narrow",) and told[0].count == 1
