"""The maximum over layers and layer pairs, against a loop, and its p-value under no relation."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.alignment import max_over_layers
from neuroalign.data import make_features, make_rdms
from neuroalign.data.scores import load, make, save
from neuroalign.stats import permutation_p

N = 24
IDS = [f"s{k:02d}" for k in range(N)]


def layers(model, seed, count=3, p=6):
    rng = np.random.default_rng(seed)
    return [make_features(rng.standard_normal((N, p)), IDS, model=model, layer=f"l{k}") for k in range(count)]


def loop(scores, metric, own, other, lower=False):
    part = scores.sel(metric=metric).isel(space=own, space_b=other)
    cells = [(i, j) for i in range(len(own)) for j in range(len(other))]
    sign = -1 if lower else 1
    value, where = max((sign * part.score.values[i, j], (i, j)) for i, j in cells)
    null = [max(sign * row[i, j] for i, j in cells) for row in part.null.values.astype(float)]
    p = (1 + sum(v >= value - 1e-9 for v in null)) / (1 + len(null))
    return sign * value, (part.space.values[where[0]], part.space_b.values[where[1]]), p, sign * np.mean(null)


def test_each_pair_of_models_equals_a_loop_in_either_direction():
    a, b, c = layers("a", 0), layers("b", 1, 2), layers("c", 2, 2)
    names = ["cka.debiased", "shape.procrustes", "rsa.spearman"]
    scores = na.compare([*a, *b], [*b, *c], metric=names, n_permutations=49, keep=["null"], device="cpu")
    found = max_over_layers(scores)
    assert found.space.values.tolist() == ["a", "b"] and found.space_b.values.tolist() == ["b", "c"]
    groups = {"a": [0, 1, 2], "b": [3, 4]}, {"b": [0, 1], "c": [2, 3]}
    for name in names:
        for m, own in groups[0].items():
            for k, other in groups[1].items():
                if m == k:
                    continue  # equal layers tie at the top
                cell = found.sel(metric=name, space=m, space_b=k)
                value, where, p, mean = loop(scores, name, own, other, lower=name.startswith("shape"))
                assert cell.score.item() == pytest.approx(value)
                assert (cell.best.item(), cell.best_b.item()) == where
                assert cell.p.item() == pytest.approx(p) and cell.null_mean.item() == pytest.approx(mean, abs=1e-6)
    # p_max: the same over everything at once.
    value, where, p, _ = loop(scores, "cka.debiased", range(5), range(4))
    best = scores.sel(metric="cka.debiased", space=where[0], space_b=where[1])
    assert best.score.item() == pytest.approx(value) and best.p_max.item() == pytest.approx(p)


def test_targets_keep_their_names_and_the_scores_can_be_saved(tmp_path):
    target = make_rdms(np.random.default_rng(0).random((2, N * (N - 1) // 2)), stimulus_ids=IDS, targets=["V1", "IT"])
    found = max_over_layers(na.compare(layers("a", 3), target, n_permutations=19, keep="null", device="cpu"))
    assert found.score.dims == ("metric", "space", "target") and found.target.values.tolist() == ["V1", "IT"]
    again = load(save(found, tmp_path / "best.nc"))
    assert again.best.values.tolist() == found.best.values.tolist()


def test_p_of_the_maximum_is_uniform_where_p_of_the_best_layer_is_not():
    dims, drawn = ("metric", "space", "target"), np.random.default_rng(0).standard_normal((40, 1, 8, 400))
    scores = make({"score": (dims, drawn[0]), "null": (("permutation", *dims), drawn[1:].astype(np.float32))},
                  {"metric": ["cka.debiased"], "space": [f"l{k}" for k in range(8)],
                   "target": [f"t{k}" for k in range(400)], "model": ("space", ["a"] * 8)})
    assert 0.06 <= (max_over_layers(scores).p <= 0.1).mean() <= 0.14
    assert (permutation_p(drawn[0], drawn[1:]).min(1) <= 0.1).mean() > 0.4


def test_a_layer_without_a_score_takes_no_part():
    a = layers("a", 0)
    a[0] = a[0].copy(data=np.full((N, 6), np.nan))
    with pytest.warns(na.errors.NeuroalignWarning, match="NaN"):
        scores = na.compare(a, layers("b", 1, 1), metric="cka.debiased", n_permutations=9, keep="null", device="cpu")
    assert max_over_layers(scores).best.item() != "a:l0:all"
    lost = max_over_layers(scores.isel(space=[0]))
    assert np.isnan(lost.score.item()) and np.isnan(lost.p.item()) and lost.best.item() == ""


def test_a_null_that_was_not_kept_is_asked_for():
    with pytest.raises(ValueError, match=r"null was not kept.*keep=\['null'\]"):
        max_over_layers(na.compare(layers("a", 0), layers("b", 1), metric="cka.debiased", n_permutations=9))
