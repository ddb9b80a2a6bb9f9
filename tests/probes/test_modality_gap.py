"""The modality gap against brute force, scikit-learn, and the figures of published embeddings."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import neuroalign as na
from neuroalign.data import make_features
from neuroalign.data.scores import attrs_of, load, save
from neuroalign.errors import NeuroalignWarning, NotAligned
from neuroalign.probes import GAP_METRICS, gap_statistics, modality_gap, pca_spectrum, shift_sweep
from neuroalign.stats import make_folds

QUICK = {"n_permutations": 0, "n_bootstraps": 0, "device": "cpu"}
COLUMNS = ("gap.distance", "cosine.pairs", "alignment", "uniformity.a", "uniformity.b", "uniformity.cross",
           "retrieval.a_to_b@1", "retrieval.b_to_a@1", "cka.biased", "cka.debiased", "knn.mutual")  # fmt: skip
# Embeddings of Liang et al. 2022; computed from their files.
ORACLE = {
    "clip": (0.8514, 0.3099, 1.3802, -1.7945, -1.8409, -3.3343, 0.552, 0.506, 0.6362, 0.6046, 0.2494),
    "clip_random": (1.1361, 0.0285, 1.9429, -0.9099, -1.3080, -3.8831, 0.002, 0.002, 0.0450, 0.0257, 0.0290),
    "convirt": (0.8231, 0.2552, 1.4896, -0.7844, -2.6680, -3.2767, 0.006, 0.022, 0.4111, 0.4056, 0.0502),
    "videoclip": (1.0669, 0.0915, 1.8169, -1.2101, -1.9310, -3.8826, 0.370, 0.240, 0.6402, 0.4342, 0.3120),
    "clasp": (1.0447, 0.1196, 1.7608, -1.3469, -0.9611, -3.5284, 0.030, 0.000, 0.1504, 0.0485, 0.1162),
}  # fmt: skip


def pair(n=40, d=9, seed=0, gap=1.0):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, d))
    return (latent + 0.4 * rng.standard_normal((n, d)) + gap, 5 * (latent + 0.4 * rng.standard_normal((n, d))) - gap)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def brute_force(x, y, k=(1, 5, 10)):
    """The definitions, pair by pair, in float64."""
    x, y, n = unit(x), unit(y), len(x)
    off = ~np.eye(n, dtype=bool)

    def uniformity(a, b):
        return np.log(np.mean([np.exp(-2 * ((a[i] - b[j]) ** 2).sum()) for i in range(n) for j in range(n) if i != j]))

    similarity = x @ y.T
    a, b = x.mean(0), y.mean(0)
    found = {"gap.distance": np.linalg.norm(a - b), "gap.cosine": a @ b / np.linalg.norm(a) / np.linalg.norm(b),
             "cosine.pairs": np.diag(similarity).mean(), "alignment": ((x - y) ** 2).sum(1).mean(),
             "uniformity.a": uniformity(x, x), "uniformity.b": uniformity(y, y), "uniformity.cross": uniformity(x, y),
             "cone.a": (x @ x.T)[off].mean(), "cone.b": (y @ y.T)[off].mean()}
    found["uniformity"] = (found["uniformity.a"] + found["uniformity.b"]) / 2
    for name, s in (("a_to_b", similarity), ("b_to_a", similarity.T)):
        rank = (s > np.diag(s)[:, None]).sum(1)
        found |= {f"retrieval.{name}@{j}": (rank < j).mean() for j in k}
    return found


def held_out_accuracy(x, y, folds):
    right = []
    for train, test in folds:
        model = LogisticRegression(max_iter=1000)
        model.fit(np.vstack([x[train], y[train]]), [0] * len(train) + [1] * len(train))
        right.append(model.score(np.vstack([x[test], y[test]]), [0] * len(test) + [1] * len(test)) * len(test))
    return sum(right) / len(x)


def scores_of(found):
    return dict(zip(found.metric.values.tolist(), found.score.values[:, 0]))


@pytest.mark.parametrize("name", ORACLE)
def test_published_embeddings(mirror, name):
    x, y = np.load(mirror / "modality_gap" / f"features_{name}.npy")
    found = scores_of(modality_gap(x, y, geometry=True, **QUICK))
    np.testing.assert_allclose([found[c] for c in COLUMNS], ORACLE[name], atol=1e-3)
    assert found["separability"] == 1


@pytest.mark.parametrize("gap", [0.0, 0.3, 2.0])
def test_numbers_equal_the_definitions(gap):
    x, y = pair(gap=gap)
    found = scores_of(modality_gap(x, y, **QUICK))
    expected = brute_force(x, y)
    np.testing.assert_allclose([found[m] for m in expected], list(expected.values()), atol=2e-6)
    folds = make_folds("kfold", 40, n_splits=5)
    assert found["separability"] == pytest.approx(held_out_accuracy(unit(x), unit(y), folds), abs=1e-9)


def test_blocks_change_nothing(monkeypatch):
    x, y = pair()
    options = {"n_permutations": 20, "n_bootstraps": 20, "device": "cpu"}
    whole = modality_gap(x, y, **options)
    for module in (gap_statistics, na.probes.pairing):
        monkeypatch.setattr(module, "rows_per_chunk", lambda *args, **kwargs: 7)
    parts = modality_gap(x, y, **options)
    for name in ("score", "null_mean", "null_sd", "p", "ci_low", "ci_high"):
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-6)


def test_nulls_equal_the_definitions_on_exchanged_pairs():
    x, y = (unit(side) for side in pair(20))
    rng = np.random.default_rng(1)
    swaps, orders = rng.choice([-1, 1], (6, 20)), np.stack([rng.permutation(20) for _ in range(6)])
    folds = make_folds("kfold", 20, n_splits=4)
    draws = gap_statistics.Draws(swaps, orders, None, folds, swaps, (1, 5))
    tensors = (torch.as_tensor(side, dtype=torch.float32) for side in (x, y))
    found = gap_statistics.gap_statistics(*tensors, draws)
    for i in range(6):
        first, second = (np.where(swaps[i][:, None] > 0, *sides) for sides in ((x, y), (y, x)))
        expected = brute_force(first, second)
        for metric in ("gap.distance", "gap.cosine"):
            assert found[metric].null[i] == pytest.approx(expected[metric], abs=1e-6)
        assert found["separability"].null[i] == pytest.approx(held_out_accuracy(first, second, folds), abs=1e-9)
        expected = brute_force(x, y[orders[i]], (1, 5))
        for metric in ("cosine.pairs", "alignment", "retrieval.a_to_b@1", "retrieval.a_to_b@5", "retrieval.b_to_a@1",
                       "retrieval.b_to_a@5"):
            assert found[metric].null[i] == pytest.approx(expected[metric], abs=1e-6)


def test_half_samples_equal_the_definitions_on_half_of_the_pairs():
    x, y = (unit(side) for side in pair(20))
    rng = np.random.default_rng(2)
    halves = np.stack([rng.permutation(np.repeat([0, 1], 10)) for _ in range(5)]).astype(np.float32)
    draws = gap_statistics.Draws(None, None, halves, make_folds("kfold", 20), np.zeros((0, 20)), (1,))
    found = gap_statistics.gap_statistics(*(torch.as_tensor(s, dtype=torch.float32) for s in (x, y)), draws)
    similarity = x @ y.T
    rank = (similarity > np.diag(similarity)[:, None]).sum(1)
    for i, row in enumerate(halves > 0):
        expected = brute_force(x[row], y[row], ())
        for metric, value in expected.items():
            assert found[metric].half[i] == pytest.approx(value, abs=5e-6), metric
        assert found["retrieval.a_to_b@1"].half[i] == pytest.approx((rank[row] < 1).mean(), abs=1e-6)


@pytest.mark.slow
def test_p_values_are_right_where_there_is_nothing():
    p = []
    for seed in range(50):
        x, y = np.random.default_rng(seed).standard_normal((2, 24, 6))
        found = modality_gap(x, y, n_permutations=99, n_bootstraps=0, n_splits=2, device="cpu")
        p.append(found.p.sel(metric=["gap.distance", "alignment", "retrieval.a_to_b@5"]).values[:, 0])
    assert ((np.array(p) <= 0.2).mean(0) < 0.35).all()
    assert 0.35 < np.mean(p) < 0.7


@pytest.mark.slow
def test_interval_covers_what_other_samples_show():
    large = scores_of(modality_gap(*pair(2000, seed=99), n_splits=2, **QUICK))
    inside = dict.fromkeys(("gap.distance", "alignment", "uniformity.a", "uniformity.cross", "cone.a"), 0)
    for seed in range(40):
        found = modality_gap(*pair(100, seed=seed), n_permutations=0, n_bootstraps=200, n_splits=2, device="cpu")
        for metric in inside:
            one = found.sel(metric=metric).isel(space=0)
            inside[metric] += bool(one.ci_low <= large[metric] <= one.ci_high)
    assert min(inside.values()) >= 33, inside  # of 40, at 95 %


def test_layers_go_together_by_name_and_rows_by_id(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(30)]
    order = rng.permutation(30)
    image, text = {}, {}
    for k, depth in ((0, 0.0), (1, 1.0)):
        x, y = pair(30, seed=k)
        image[f"i{k}"] = make_features(x, ids, model="m", layer=f"b.{k}", stream="image", depth=depth)
        text[f"t{k}"] = make_features(y[order], np.array(ids)[order], model="m", layer=f"b.{k}", stream="text",
                                      depth=depth)
    found = modality_gap(list(image.values())[::-1], list(text.values()), n_permutations=19, n_bootstraps=10,
                         device="cpu")
    assert found.space.values.tolist() == ["m:b.1:image~text", "m:b.0:image~text"]
    assert found.depth.values.tolist() == [1, 0] and found.stream.values[0] == "image~text"
    for k in (0, 1):
        expected = brute_force(*pair(30, seed=k))
        own = found.score.sel(space=f"m:b.{k}:image~text")
        np.testing.assert_allclose(own.sel(metric=list(expected)), list(expected.values()), atol=5e-6)
    about = attrs_of(found)
    assert about["sides"]["m:b.0:image~text"] == ["m:b.0:image", "m:b.0:text"] and about["n_pairs"] == 30
    assert {m.split("@")[0] for m in found.metric.values} < set(GAP_METRICS)
    again = load(save(found, tmp_path / "gap.nc"))
    np.testing.assert_array_equal(again.score, found.score)


def test_shift_moves_the_centroids_and_nothing_else():
    x, y = pair(60)
    u = unit(x).mean(0) - unit(y).mean(0)
    u /= np.linalg.norm(u)
    swept = shift_sweep(x, y, (-0.5, 0.0, 0.75), device="cpu")
    assert swept["shift"].values.tolist() == [-0.5, 0, 0.75]
    for j, shift in enumerate((-0.5, 0.0, 0.75)):
        expected = brute_force(unit(x) - shift / 2 * u, unit(y) + shift / 2 * u)
        np.testing.assert_allclose(swept.score[:, j].sel(metric=list(expected)), list(expected.values()), atol=5e-6)


def test_shift_of_published_embeddings_closes_the_gap(mirror):
    x, y = np.load(mirror / "modality_gap" / "features_clip.npy")
    swept = shift_sweep(x, y, (-0.5, 0.0, 0.75)).score.sel(metric="gap.distance").values
    assert swept[0] > 1.1 > 0.9 > swept[1] > 0.8 and swept[2] < 0.15


def test_spectrum_equals_numpy():
    x, y = pair(15, 20)
    found = pca_spectrum(x, y, device="cpu").isel(space=0)
    for side, rows in (("a", unit(x)), ("b", unit(y)), ("both", np.vstack([unit(x), unit(y)]))):
        squared = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
        held = np.cumsum(squared) / squared.sum()
        one = found.sel(side=side)
        np.testing.assert_allclose(one.explained[:len(held)], held, atol=1e-6)
        assert one["rank"] == np.linalg.matrix_rank(rows - rows.mean(0))
        assert one.above_one == (np.linalg.svd(rows, compute_uv=False) > 1).sum()


def test_dropped_stimuli_are_named():
    x, y = pair(12)
    ids = [f"s{i}" for i in range(12)]
    a, b = make_features(x, ids, model="m", stream="image"), make_features(y[:10], ids[:10], model="m", stream="text")
    with pytest.raises(NotAligned, match=r"do not cover the same stimuli: 's10', 's11'.*on_missing='drop'"):
        modality_gap(a, b, **QUICK)
    with pytest.warns(NeuroalignWarning, match="2 stimuli dropped.*'s10', 's11'"):
        found = modality_gap(a, b, on_missing="drop", **QUICK)
    assert attrs_of(found)["n_pairs"] == 10 and attrs_of(found)["warnings"][0]["ids"] == ["s10", "s11"]


def spoiled(value):
    x, y = pair(12)
    y[3] = value
    return x, y


def layer(name, stream="image", d=9, n=12, model="m"):
    return make_features(pair(n, d)[0], [f"s{i}" for i in range(n)], model=model, layer=name, stream=stream)


@pytest.mark.parametrize("call, words", [
    (lambda: modality_gap(pair(12)[0], pair(11)[1]), "12 and 11 rows, expected pairs"),
    (lambda: modality_gap(pair(12)[0], pair(12, 8)[1]), "9 and 8 features, expected one space"),
    (lambda: modality_gap(*spoiled(np.nan)), r"'embeddings::b': 1 rows hold NaN or infinite values: 'pair3'"),
    (lambda: modality_gap(*spoiled(0.0)), r"1 rows are zero and have no direction: 'pair3'"),
    (lambda: modality_gap(np.ones(5), np.ones(5)), r"a: got an array of shape \(5,\)"),
    (lambda: modality_gap(pair(12)[0], layer("x")), "one is a plain array and the other labelled"),
    (lambda: modality_gap(pair(3)[0], pair(3)[1]), "3 stimuli are shared, expected at least 4|3 pairs"),
    (lambda: modality_gap([layer("x"), layer("x", "text")], [layer("x"), layer("y")]),
     "of one layer and stand on the same side.*streams='image'"),
    (lambda: modality_gap([layer("x"), layer("y")], [layer("x", "text"), layer("z", "text")]),
     "'m:y:image', 'm:z:text' have no partner of the same model and layer"),
    (lambda: modality_gap(*pair(12), k=(0,)), "k: got.*at least 1"),
    (lambda: modality_gap(*pair(12), n_permutations=-1), "n_permutations: got -1"),
    (lambda: shift_sweep(*pair(12), shifts=(np.nan,)), "shifts: got.*finite"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()
