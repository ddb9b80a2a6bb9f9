"""PCA on the fly against scikit-learn."""

import numpy as np
import pytest
import sklearn.decomposition
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.features import PCA, FeatureStore, estimate, extract, jobs, merge_stores, projection
from neuroalign.features.projection import fit_pca

QUIET = {"progress": False}


@given(st.integers(3, 30), st.integers(3, 30), st.integers(0, 2**31), st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_components_are_those_of_scikit_learn(n, width, seed, columns):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, width)) * np.linspace(3, 1, width) + 5
    k = min(n - 1, width) - 1
    if k < 1:
        return
    before, projection.COLUMNS = projection.COLUMNS, columns  # blocks of few columns
    try:
        basis = fit_pca(rows, k)
    finally:
        projection.COLUMNS = before
    theirs = sklearn.decomposition.PCA(k, svd_solver="full").fit(rows)
    np.testing.assert_allclose(basis[0], theirs.mean_, rtol=1e-5, atol=1e-5)
    cosines = np.abs((basis[1:] * theirs.components_).sum(1))
    gaps = np.diff(theirs.singular_values_**2) / theirs.singular_values_[0] ** 2
    clear = np.r_[np.inf, -gaps] > 1e-3  # where two variances are nearly equal the directions are not determined
    clear &= np.r_[clear[1:], True]
    np.testing.assert_allclose(cosines[clear], 1, atol=1e-5)


def test_rows_are_projected_on_components_of_the_named_stimuli_alone(tiny_model, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 3)
    wide = extract(tiny_model("bert"), sentences, store=tmp_path, **QUIET)
    fit_on = list(sentences.ids[1:9:2]) + ["text0", "text8"]
    at = [sentences.ids.index(i) for i in fit_on]
    options = {"projection": PCA(4, fit_on), "store": tmp_path, **QUIET}
    narrow = extract(tiny_model("bert"), sentences, batch_size=2, **options)
    assert set(narrow.spaces.n_features) == {4}
    for name, space in wide.items():
        theirs = sklearn.decomposition.PCA(4, svd_solver="full").fit(space.values[at].astype(float))
        np.testing.assert_allclose(narrow[name].values, theirs.transform(space.values), atol=2e-5)
    keys = len(FeatureStore(tmp_path).entries())
    extract(tiny_model("bert"), sentences, **{**options, "projection": PCA(4, fit_on[::-1])})
    assert len(FeatureStore(tmp_path).entries()) == keys
    everyone = extract(tiny_model("bert"), sentences, **{**options, "projection": "pca:4"})
    assert len(FeatureStore(tmp_path).entries()) == keys + 1
    name = list(wide)[2]
    theirs = sklearn.decomposition.PCA(4, svd_solver="full").fit_transform(wide[name].values.astype(float))
    np.testing.assert_allclose(everyone[name].values, theirs, atol=2e-5)
    assert estimate(tiny_model("bert"), sentences, projection="pca:4").n_features.tolist() == [4] * len(wide)
    assert not list(tmp_path.glob("*/*/fit-*"))


def test_a_fitted_projection_is_not_fitted_again(tiny_model, sentences, tmp_path, count, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 4)
    options = {"projection": "pca:3", "batch_size": 1, "store": tmp_path, **QUIET}
    model = tiny_model("bert")
    counter = count(model, fail_at=len(sentences) + 6)
    with pytest.raises(KeyboardInterrupt):
        extract(model, sentences, **options)
    model = tiny_model("bert")
    counter = count(model)
    features = extract(model, sentences, **options)
    assert len(counter.batches) == len(sentences) - 4
    whole = extract(tiny_model("bert"), sentences, **{**options, "store": tmp_path / "other"})
    for name in whole:
        np.testing.assert_array_equal(features[name].values, whole[name].values)


def test_words_are_projected_and_fitted_on_passages(tiny_model, sentences, tmp_path):
    options = {"streams": ["word"], "layers": ["model.layers.1"], "context": 48, "store": tmp_path, **QUIET}
    wide = extract(tiny_model("llama"), sentences, **options)
    narrow = extract(tiny_model("llama"), sentences, projection=PCA(5, ["text2", "text3"]), **options)
    (space,) = wide.values()
    fit = np.isin(space.parent.values, ["text2", "text3"])
    theirs = sklearn.decomposition.PCA(5, svd_solver="full").fit(space.values[fit].astype(float))
    np.testing.assert_allclose(next(iter(narrow.values())).values, theirs.transform(space.values), atol=2e-5)


def test_parts_that_were_fitted_alike_merge(tiny_model, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 5)
    for i in range(2):
        extract(tiny_model("bert"), sentences, projection="pca:3", store=tmp_path / f"p{i}", shard=(i, 2), **QUIET)
    assert merge_stores([tmp_path / "p0", tmp_path / "p1"], tmp_path / "all").complete.tolist()[-1] == 1
    basis = next((tmp_path / "p1").rglob("*.basis.npy"))
    np.save(basis, np.load(basis) * 1.001)
    with pytest.raises(Exception, match="two projections that were fitted apart and differ"):
        merge_stores([tmp_path / "p0", tmp_path / "p1"], tmp_path / "other")


@pytest.mark.parametrize(("projection", "error", "words"), [
    ("pca", ValueError, r"projection: got 'pca', expected a number.*'pca:50'"),
    ("pca:0", ValueError, "got 'pca:0'"),
    (PCA(3, ["text1", "texd2"]), KeyError, r"no stimuli 'texd2' to fit on.*Did you mean 'text2'"),
    (PCA(3, ["text1", "text2"]), ValueError, "3 components need at least 4 stimuli to fit on, got 2"),
])
def test_bad_projections_are_explained(tiny_model, sentences, tmp_path, projection, error, words):
    with pytest.raises(error, match=words):
        extract(tiny_model("bert"), sentences, projection=projection, store=tmp_path, **QUIET)


def test_stimuli_that_do_not_vary_enough_are_refused():
    with pytest.raises(ValueError, match="vary along 1 directions, fewer than 2"):
        fit_pca(np.outer(np.arange(5.0), np.arange(1.0, 8.0)), 2)
