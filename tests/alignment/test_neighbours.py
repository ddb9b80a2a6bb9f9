"""Neighbour metrics against dense brute force, and against published embeddings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

import neuroalign as na
from neuroalign.alignment import cknna, condensed_distances, cycle_knn, mutual_knn
from neuroalign.alignment import neighbours as neighbours_module
from neuroalign.alignment.similarity import measure_grid, measure_null, measure_subsamples
from neuroalign.data import make_features
from neuroalign.errors import NeuroalignWarning
from neuroalign.linalg import resolve

CPU = resolve("cpu")
METHODS = ["knn.mutual", "knn.cycle.forward", "knn.cycle.reverse", "cknna"]
# Of the embeddings of Liang et al. 2022: mutual k-NN (k = 10, cosine) and Spearman RSA of cosine similarities.
ORACLE = {"clip": (0.2494, 0.2972), "clip_random": (0.0290, 0.0192), "convirt": (0.0502, 0.3747),
          "videoclip": (0.3120, 0.3125), "clasp": (0.1162, 0.1963)}


def pair(p=6, q=4, n=40, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 3))
    x, y = (latent @ rng.standard_normal((3, k)) + 0.5 * rng.standard_normal((n, k)) for k in (p, q))
    return x + 1, 1e3 * y


def dense(x, k):
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    kernel = u @ u.T
    off = kernel - 10 * np.eye(len(x))
    near = np.argsort(-off, axis=1)[:, :k]
    mask = np.zeros(kernel.shape, bool)
    np.put_along_axis(mask, near, True, 1)
    return kernel, mask


def hsic(k, l):  # noqa: E741
    m, one = len(k), np.ones(len(k))
    return ((k * l.T).sum() + k.sum() * l.sum() / ((m - 1) * (m - 2)) - 2 * one @ k @ l @ one / (m - 2)) / m / (m - 3)


def brute(x, y, k):
    (a, in_a), (b, in_b) = dense(x, k), dense(y, k)
    mutual = (in_a & in_b).sum(1).mean() / k
    cycle = np.mean([in_b[np.flatnonzero(in_a[i])][:, i].any() for i in range(len(x))])
    both = in_a & in_b
    centred = hsic(both * a, both * b) / np.sqrt(hsic(in_a * a, in_a * a) * hsic(in_b * b, in_b * b))
    return mutual, cycle, centred


def categories(k, rng, n=100):
    return np.eye(k)[rng.integers(0, k, n)]


def test_unrelated_categories_have_neighbours_in_common_by_chance_alone():
    """The first of equally near stimuli would be the same ones in both spaces: 0.20 here, where chance is 10 / 99."""
    rng = np.random.default_rng(0)
    found = [mutual_knn(categories(2, rng), categories(2, rng), device="cpu") for _ in range(20)]
    assert np.mean(found) == pytest.approx(10 / 99, abs=0.01)


def test_equal_categories_have_equal_neighbours():
    values = categories(3, np.random.default_rng(0))
    values[:30] += 0.1 * np.random.default_rng(1).standard_normal((30, 3))
    for same in (values, 2 * values, values[:, ::-1]):
        assert mutual_knn(values, same, device="cpu") == 1
    index = neighbours_module.nearest(values, CPU).index.numpy()
    kernel = dense(values, 10)[0] - 10 * np.eye(100)
    for own, near in zip(kernel, index):
        assert len(set(near)) == 10
        np.testing.assert_allclose(np.sort(own[near]), np.sort(own)[-10:], atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_metrics_equal_dense_brute_force(k):
    x, y = pair()
    found = [f(x, y, k=k, device="cpu") for f in (mutual_knn, cycle_knn, cknna)]
    np.testing.assert_allclose(found, brute(x, y, k), atol=1e-9)
    assert cycle_knn(y, x, k=k) == pytest.approx(brute(y, x, k)[1])


@pytest.mark.parametrize("name", ORACLE)
def test_published_embeddings(mirror, name):
    x, y = np.load(mirror / "modality_gap" / f"features_{name}.npy")
    mutual, rsa = ORACLE[name]
    near = 2e-3 if len(np.unique(y, axis=0)) < 0.9 * len(y) else 1e-3  # repeated reports: theirs are ties by place
    assert mutual_knn(x, y) == pytest.approx(mutual, abs=near)
    ids = [f"i{k}" for k in range(len(x))]
    a, b = make_features(x, ids, model="x"), make_features(y, ids, model="y")
    found = na.compare(a, b, metric=["rsa.spearman", "knn.mutual", "cka.debiased"], rdm="cosine", n_permutations=0)
    assert found.score.values[0].item() == pytest.approx(rsa, abs=1e-3)
    assert found.score.values[1].item() == pytest.approx(mutual, abs=near)
    direct = spearmanr(*(condensed_distances(v, "cosine") for v in (x, y)))[0]
    assert direct == pytest.approx(rsa, abs=1e-3)


def test_blocks_change_nothing(monkeypatch):
    x, y = pair(70, 5)
    whole = [f(x, y, k=4, device="cpu") for f in (mutual_knn, cycle_knn, cknna)]
    monkeypatch.setattr(neighbours_module, "rows_per_chunk", lambda *args, **kwargs: 7)
    np.testing.assert_allclose([f(x, y, k=4, device="cpu") for f in (mutual_knn, cycle_knn, cknna)], whole, atol=1e-9)


def test_a_large_common_mean_does_not_hide_the_neighbours():
    x = np.random.default_rng(0).standard_normal((40, 5)) + 3e4
    in_a = dense(x.astype(np.longdouble), 3)[1]
    index = neighbours_module.nearest(x, CPU, 3).index.numpy()
    assert np.take_along_axis(in_a, index, 1).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-2, 1e2))
def test_rotation_scale_and_order_of_rows_change_nothing(seed, scale):
    x, y = pair(seed=seed)
    rng = np.random.default_rng(seed)
    turned = scale * x @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    order = rng.permutation(40)
    for f in (mutual_knn, cycle_knn, cknna):
        assert f(turned[order], y[order], k=5) == pytest.approx(f(x, y, k=5), abs=1e-9)
    assert mutual_knn(x, y, k=5) == mutual_knn(y, x, k=5)
    assert mutual_knn(x, turned, k=5) == 1 and 0 <= mutual_knn(x, y, k=5) <= 1 and 0 <= cycle_knn(x, y, k=5) <= 1


def test_unrelated_data_are_at_chance():
    values = np.array([[f(*np.random.default_rng(s).standard_normal((2, 60, 8))) for f in (mutual_knn, cknna)]
                       for s in range(10)]).mean(0)
    assert values[0] == pytest.approx(10 / 59, abs=0.02) and 0.1 < values[1] < 0.25  # not 0, though debiased


@pytest.mark.parametrize("method", METHODS)
def test_null_and_subsamples_equal_scores_of_moved_rows(method):
    x, y = pair()
    rng = np.random.default_rng(1)
    orders = np.stack([rng.permutation(40) for _ in range(4)])
    null = measure_null(method, [x], [y], orders, weights=np.eye(1), device=CPU)[:, 0, 0]
    direct = [measure_grid(method, [x[o]], [y], device=CPU)[0][0, 0] for o in orders]
    np.testing.assert_allclose(null, direct, atol=1e-9)
    part = measure_subsamples(method, [x], [y], orders[:, :20], device=CPU)[:, 0, 0]
    direct = [measure_grid(method, [x[o]], [y[o]], device=CPU)[0][0, 0] for o in orders[:, :20]]
    np.testing.assert_allclose(part, direct, atol=1e-9)


def test_compare_finds_the_related_space():
    x, y = pair(n=120)  # of 40 stimuli nearly all are reached again by chance
    ids = [f"s{k:03d}" for k in range(120)]
    spaces = [make_features(x, ids, model="a"), make_features(np.random.default_rng(9).standard_normal((120, 6)), ids,
                                                              model="other")]
    found = na.compare(spaces, make_features(y, ids, model="b"), metric=METHODS, n_permutations=39, n_bootstraps=20,
                       device="cpu")
    assert (found.p.sel(space="a::all") <= 0.05).all() and (found.p.sel(space="other::all") > 0.05).all()
    assert (found.ci_low <= found.score).all() and (found.score <= found.ci_high).all()


def test_zero_constant_and_nan_rows_give_nan_alone_and_are_named():
    x, y = pair()
    ids = [f"s{k:02d}" for k in range(40)]
    zero, nan = x.copy(), x.copy()
    zero[3], nan[3, 0] = 0, np.nan
    spaces = [make_features(v, ids, model=m)
              for m, v in (("good", x), ("zero", zero), ("nan", nan), ("flat", np.ones_like(x)))]
    with pytest.warns(NeuroalignWarning, match=r"knn.mutual of 'zero::all', 'nan::all', 'flat::all' is NaN.*zeros"):
        found = na.compare(spaces, make_features(y, ids, model="b"), metric="knn.mutual", n_permutations=3)
    assert np.isnan(found.score.values.ravel()).tolist() == [False, True, True, True]
    assert np.isnan(found.p.values.ravel()).tolist() == [False, True, True, True]


@pytest.mark.parametrize("call, words", [
    (lambda x, y: mutual_knn(x[:3], y[:3]), "got 3 stimuli, expected at least 4"),
    (lambda x, y: mutual_knn(x[:11], y[:11]), "k: got 10 neighbours of 11 stimuli, expected an integer from 1 to 9"),
    (lambda x, y: cknna(x, y, k=0), "k: got 0"),
    (lambda x, y: cycle_knn(x, y[:9]), "got 40 and 9 rows"),
    (lambda x, y: measure_subsamples("knn.mutual", [x], [y], np.arange(11)[None], device=CPU),
     "needs at least 12 stimuli, got 11.*n_bootstraps=0"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(*pair())
