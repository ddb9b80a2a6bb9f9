"""All pairs of two zoos: the grid is that of the single calls; the foretelling and its interval."""

import numpy as np
import pytest
from scipy.stats import spearmanr

import neuroalign as na
from neuroalign.alignment import foretell, linear_cka, match_spaces, search_pairs
from neuroalign.data import make_features
from neuroalign.data.scores import make

IDS = [f"s{k:03d}" for k in range(120)]
QUICK = {"n_components": 6, "reg": 0.1, "n_draws": 1}


def zoo(levels, name, seed, layers=("l0",)):
    """Encoders of one latent space, each with its own noise."""
    rng = np.random.default_rng(seed)
    latent = np.random.default_rng(0).standard_normal((120, 6))
    return [make_features(latent @ rng.standard_normal((6, 12)) + level * rng.standard_normal((120, 12)), IDS,
                          model=f"{name}{k}", layer=layer)
            for k, level in enumerate(levels) for layer in layers]


def test_the_grid_equals_single_calls_and_the_best_pair_is_that_of_least_noise():
    seen, read = zoo((0.5, 3.0, 8.0), "v", 1), zoo((4.0, 0.5), "t", 2)
    found = search_pairs(seen, read, metric=["cka.biased", "cka.debiased"], matching=QUICK, n_permutations=19)
    assert found.sizes == {"metric": 6, "space": 3, "space_b": 2}
    for i, a in enumerate(seen):
        for j, b in enumerate(read):
            assert found.score.sel(metric="cka.debiased").values[i, j] == pytest.approx(linear_cka(a, b), abs=1e-5)
    one = match_spaces(seen[1], read[0], method="affine", **QUICK).score.sel(metric="match.affine.top5").item()
    assert found.score.sel(metric="match.affine.top5").values[1, 0] == one
    for metric in ("cka.debiased", "match.affine.top5"):
        grid = found.score.sel(metric=metric)
        assert np.unravel_index(grid.values.argmax(), grid.shape) == (0, 1)
    assert found.p.sel(metric="cka.debiased").values[0, 1] == 0.05 and found.model_b.values.tolist() == ["t0", "t1"]


def test_what_is_foretold_equals_spearman_and_the_choice_is_named():
    seen, read = zoo((0.5, 2.0, 5.0, 9.0), "v", 1, ("l0", "l1")), zoo((6.0, 0.5, 2.0), "t", 2)
    scores = search_pairs(seen, read, metric=["cka.debiased", "shape.procrustes"], matching=QUICK)
    found = foretell(scores, n_bootstraps=200).set_index("metric")
    wanted = scores.score.sel(metric="match.affine.top5").values
    cka = scores.score.sel(metric="cka.debiased").values
    row = found.loc["cka.debiased"]
    assert row["spearman"] == pytest.approx(spearmanr(cka.ravel(), wanted.ravel())[0], abs=1e-6)
    assert row["spearman"] > 0.8 and row["ci_low"] < row["spearman"] <= row["ci_high"] <= 1
    assert (row["n_pairs"], row["n_first"], row["n_second"]) == (24, 4, 3)
    i, j = np.unravel_index(cka.argmax(), cka.shape)
    assert (row["best"], row["best_b"]) == (scores.space.values[i], scores.space_b.values[j])
    assert row["regret"] == wanted.max() - wanted[i, j]
    assert found.loc["shape.procrustes", "spearman"] > 0.8  # lower is better, and counts so
    assert list(found.index) == ["cka.debiased", "shape.procrustes"]


def test_the_interval_covers_no_relation_and_is_wider_than_of_independent_pairs():
    """Encoders of random quality on both sides: the truth, 0, lies in 19 of 20 intervals or so."""
    inside, widths = 0, []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        grids = [rng.standard_normal((8, 1)) + rng.standard_normal((1, 8)) + rng.standard_normal((8, 8))
                 for _ in range(2)]
        scores = make({"score": (("metric", "space", "space_b"), grids)},
                      {"metric": ["cka.debiased", "match.affine.top5"], "space": [f"a{k}" for k in range(8)],
                       "space_b": [f"b{k}" for k in range(8)]})
        row = foretell(scores, n_bootstraps=100, random_state=seed).iloc[0]
        inside += row["ci_low"] <= 0 <= row["ci_high"]
        widths.append(row["ci_high"] - row["ci_low"])
    assert inside >= 25 and np.mean(widths) > 1.3 * 3.92 / np.sqrt(64)


def test_published_towers_pair_best_as_they_were_trained(mirror):
    """Images and captions of CLIP and of its untrained twin: the trained pair is chosen by every geometry."""
    names = {"clip": "features_clip.npy", "untrained": "features_clip_random.npy"}
    sides = {m: np.load(mirror / "modality_gap" / f)[:, :200] for m, f in names.items()}
    ids = [f"coco{k:03d}" for k in range(200)]
    seen, read = ([make_features(v[side], ids, model=m) for m, v in sides.items()] for side in (0, 1))
    scores = search_pairs(seen, read, matching={"n_components": 30, "reg": 0.1, "n_draws": 1})
    for metric in ("cka.debiased", "knn.mutual", "match.affine.top5"):
        grid = scores.score.sel(metric=metric)
        assert np.unravel_index(grid.values.argmax(), grid.shape) == (0, 0), metric
    found = foretell(scores, n_bootstraps=0)
    assert (found["regret"] == 0).all() and np.isnan(found["ci_low"]).all() and (found["n_pairs"] == 4).all()


def test_wrong_input_is_explained():
    one = search_pairs(zoo((1.0,), "v", 1), zoo((1.0, 2.0), "t", 2), metric=["cka.debiased"], matching=QUICK)
    with pytest.raises(ValueError, match="got 1 and 2 models, 2 pairs; expected at least 2 models"):
        foretell(one)
    with pytest.raises(ValueError, match="expected scores of pairs with the metric 'knn.mutual'"):
        foretell(one, outcome="knn.mutual")
    with pytest.raises(na.errors.NotAligned, match="do not cover the same stimuli"):
        search_pairs(zoo((1.0,), "v", 1), zoo((1.0,), "t", 2)[0][:50], matching=QUICK)
