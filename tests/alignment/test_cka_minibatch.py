"""CKA by minibatches against the textbook formula batch by batch, and as a metric of `compare`."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.alignment import linear_cka, minibatch_cka, stream_cka
from neuroalign.alignment import similarity as similarity_module
from neuroalign.alignment.cka_minibatch import BatchedRows, minibatch_score
from neuroalign.alignment.similarity import measure_null, measure_subsamples
from neuroalign.data import make_features
from neuroalign.linalg import resolve
from neuroalign.stats import child_rng

CPU = resolve("cpu")


def pair(n=90, p=8, q=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) + 4
    return x, 100 * (x[:, :q] + rng.standard_normal((n, q)))


def hsic(x, y):
    """Unbiased HSIC of Song et al. 2012 of linear kernels."""
    k, l, n, one = x @ x.T, y @ y.T, len(x), np.ones(len(x))  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    return (np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def brute_force(x, y, parts):
    means = [np.mean([hsic(a[p], b[p]) for p in parts]) for a, b in ((x, y), (x, x), (y, y))]
    return means[0] / np.sqrt(means[1] * means[2])


def parts_of(n, batch):
    return np.array_split(child_rng(0, "minibatches").permutation(n), -(-n // batch))


@pytest.mark.parametrize("p", [8, 200])
def test_minibatches_equal_the_formula_batch_by_batch(p):
    x, y = pair(p=p)
    parts = parts_of(90, 20)
    assert [len(v) for v in parts] == [18] * 5
    assert minibatch_cka(x, y, batch=20, device="cpu") == pytest.approx(brute_force(x, y, parts), abs=1e-9)
    stream = stream_cka([([x[v], x[v] ** 2], [y[v]]) for v in parts], device="cpu")
    np.testing.assert_allclose(stream, [[brute_force(x, y, parts)], [brute_force(x**2, y, parts)]], atol=1e-9)


def test_batches_of_unequal_size_count_alike():
    x, y = pair()
    parts = [np.arange(0, 12), np.arange(12, 60), np.arange(60, 90)]
    stream = stream_cka([([x[v]], [y[v]]) for v in parts], device="cpu")
    assert stream.item() == pytest.approx(brute_force(x, y, parts), abs=1e-9)


def test_one_batch_is_debiased_cka_and_many_agree_with_it():
    x, y = pair(n=2000)
    assert minibatch_cka(x, y, batch=2000, device="cpu") == pytest.approx(linear_cka(x, y), abs=1e-5)
    assert minibatch_cka(x, y, batch=100, device="cpu") == pytest.approx(linear_cka(x, y), abs=0.02)


def test_unrelated_data_score_zero_on_average():
    found = [minibatch_cka(*np.random.default_rng(s).standard_normal((2, 60, 100)), batch=15) for s in range(10)]
    assert abs(np.mean(found)) < 0.03


def test_null_and_subsamples_equal_scores_of_moved_rows(monkeypatch):
    x, y = pair()
    small = similarity_module.Measure(lambda v, d: BatchedRows.of(v, d, batch=20), minibatch_score,
                                      similarity_module._batch_bytes)
    monkeypatch.setitem(similarity_module.MEASURES, "cka.minibatch", small)
    orders = np.stack([np.random.default_rng(s).permutation(90) for s in range(3)])
    null = measure_null("cka.minibatch", [x], [y], orders, weights=np.eye(1), device=CPU)[:, 0, 0]
    np.testing.assert_allclose(null, [brute_force(x[o], y, parts_of(90, 20)) for o in orders], atol=1e-9)
    part = measure_subsamples("cka.minibatch", [x], [y], orders[:, :45], device=CPU)[:, 0, 0]
    np.testing.assert_allclose(part, [brute_force(x[o], y[o], parts_of(45, 20)) for o in orders[:, :45]], atol=1e-9)


def test_compare_takes_minibatch_and_rbf():
    ids = [f"s{k:03d}" for k in range(90)]
    x, y = pair()
    spaces = [make_features(v, ids, model=m) for v, m in ((x, "x"), (np.random.default_rng(9).random((90, 4)), "z"))]
    found = na.compare(spaces, make_features(y, ids, model="y"), metric=["cka.minibatch", "cka.rbf", "cka.debiased"],
                       n_permutations=39, n_bootstraps=20, device="cpu")
    assert (found.p.sel(space="x::all") == 1 / 40).all() and (found.p.sel(space="z::all") > 0.025).all()
    one = found.sel(space="x::all").squeeze()
    assert one.score.sel(metric="cka.minibatch").item() == pytest.approx(linear_cka(x, y), abs=1e-5)
    assert (one.ci_low < one.score).all() and (one.score < one.ci_high).all()


def test_constant_and_nan_features_give_nan_for_themselves_alone():
    x, y = pair()
    broken = x.copy()
    broken[3, 0] = np.nan
    flat = np.full_like(x, 0.1)
    assert np.isnan(minibatch_cka(broken, y)) and np.isnan(minibatch_cka(flat, y))
    found = stream_cka([([x, broken, flat], [y])], device="cpu")[:, 0]
    assert np.isfinite(found[0]) and np.isnan(found[1:]).all()


@pytest.mark.parametrize("call, words", [
    (lambda x, y: minibatch_cka(x, y, batch=3), "batch: got 3, expected an integer of at least 4"),
    (lambda x, y: stream_cka([([x], [y[:9]])]), r"with \[9, 90\] stimuli.*the same stimuli"),
    (lambda x, y: stream_cka([([x], [y]), ([x, x], [y])]), r"2 and 1 spaces.*expected \(1, 1\) spaces"),
    (lambda x, y: stream_cka([]), "no batch was given"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(*pair())
