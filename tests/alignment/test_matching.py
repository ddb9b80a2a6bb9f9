"""Matching across spaces: local CKA against recomputed CKA, a planted subspace, published embeddings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes, sqrtm

import neuroalign as na
from neuroalign.alignment import (
    kernel_cka,
    linear_cka,
    local_cka,
    match_rows,
    match_spaces,
    matching_accuracy,
    retrieval_ranks,
)
from neuroalign.alignment.matching import METHODS
from neuroalign.data import make_features
from neuroalign.errors import NotAligned


def planted(n=400, shared=6, private=30, seed=0):
    """Two spaces with a weak shared subspace below large private dimensions."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, shared))
    spaces = []
    for p in (50, 40):
        own = 3 * rng.standard_normal((n, private))
        mixing = np.linalg.qr(rng.standard_normal((p, p)))[0]
        spaces.append(np.c_[latent @ rng.standard_normal((shared, shared)) / 2, own] @ mixing[:shared + private])
    return spaces


def labelled(x, y):
    ids = [f"s{k:04d}" for k in range(len(x))]
    return make_features(x, ids, model="a"), make_features(y, ids, model="b")[::-1]


def test_local_cka_equals_cka_with_the_pair_added():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 7)) + 2, rng.standard_normal((30, 50))
    y[:, :7] += x
    found = local_cka(x[:22], y[:22], x[22:], y[22:])
    for i in range(8):
        for j in range(8):
            a, b = np.r_[x[:22], x[22 + i:23 + i]], np.r_[y[:22], y[22 + j:23 + j]]
            assert found[i, j] == pytest.approx(kernel_cka(a @ a.T, b @ b.T, estimator="biased"), abs=1e-9)


@pytest.mark.parametrize("method", ["affine", "procrustes"])
def test_translation_equals_cca_and_a_map_written_out(method):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 5)) + 1, rng.standard_normal((60, 4))
    y[:, :3] += x[:, :3]
    reg, k = 0.1, 3
    variates = []
    for v in (x, y):
        mean = v[:50].mean(0)
        cov = (v[:50] - mean).T @ (v[:50] - mean) / 50
        cov = (1 - reg) * cov + reg * np.trace(cov) / len(cov) * np.eye(len(cov))
        variates.append((v - mean) @ np.linalg.inv(sqrtm(cov)).real)
    left, _, right = np.linalg.svd(variates[0][:50].T @ variates[1][:50])
    a, b = variates[0] @ left[:, :k], variates[1] @ right.T[:, :k]
    turn = np.linalg.lstsq(a[:50], b[:50])[0] if method == "affine" else orthogonal_procrustes(a[:50], b[:50])[0]
    moved = a[50:] @ turn
    expected = [[u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in b[50:]] for u in moved]
    found = match_rows(x[:50], y[:50], x[50:], y[50:], method=method, n_components=k, reg=reg)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_a_planted_subspace_is_found_where_the_spaces_agree_little():
    x, y = planted()
    assert abs(linear_cka(x, y)) < 0.05
    found = match_spaces(*labelled(x, y), n_components=(3, 6, 12), reg=(0.01, 0.1), keep=["fold_score"],
                         method=METHODS)
    whole = match_spaces(*labelled(x, y), n_components=None, method="local_cka")
    for method in ("affine", "procrustes", "local_cka"):
        assert found.score.sel(metric=f"match.{method}.assignment").item() > 0.75
        assert found.score.sel(metric=f"match.{method}.top5").item() > 0.95
    assert whole.score.sel(metric="match.local_cka.top5").item() < 0.3
    assert found.fold_score.sizes["fold"] == 3
    np.testing.assert_allclose(found.fold_score.mean("fold"), found.score)
    assert found.n.values[0].item() == 100 and found.null_mean.sel(metric="match.affine.top5").item() == 0.05


def test_few_components_are_chosen_where_few_are_shared():
    x, y = planted(shared=4)
    best = na.alignment.matching._choose(*na.alignment.matching._prepare("xy", [x, y], na.linalg.resolve("cpu")),
                                         np.arange(200), ["affine"], (1, 4, 40), (0.01,), 0)
    assert best == [(4, 0.01)]
    found = match_spaces(*labelled(x, y), n_components=(1, 4, 40), reg=0.01, n_draws=2)
    assert na.scores.attrs_of(found)["chosen"] == {"a::all x b::all": {"affine": [[4, 0.01], [4, 0.01]]}}


def test_unrelated_spaces_are_at_chance_and_related_ones_are_not():
    rng = np.random.default_rng(3)
    x, y = planted(120, private=10)
    noise = labelled(x, rng.standard_normal((120, 9)))
    options = {"method": "affine", "n_components": 5, "reg": 0.1, "n_permutations": 19}
    apart, together = match_spaces(*noise, **options), match_spaces(*labelled(x, y), **options, keep="null")
    assert (apart.p > 0.05).all() and (together.p == 0.05).all()
    counted = match_spaces(*noise, **options | {"n_permutations": 0}).null_mean
    np.testing.assert_allclose(together.null_mean, counted, atol=0.03)
    assert together.null.shape == (19, 4, 1, 1)


def test_queries_take_no_part_in_the_fit():
    """Other queries, or another order of them, leave the similarity of the first ones as it was."""
    x, y = planted(100)
    options = {"method": "local_cka", "n_components": (3, 6), "reg": (0.01, 0.3)}
    whole = match_rows(x[:80], y[:80], x[80:], y[80:], **options)
    part = match_rows(x[:80], y[:80], x[80:90], 1e3 * y[80:][::-1], **options)
    assert part.shape == (10, 20) and not np.allclose(whole[:10], part)
    np.testing.assert_allclose(match_rows(x[:80], y[:80], x[80:90], y[80:][::-1], **options), whole[:10, ::-1],
                               atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-2, 1e2))
def test_rotation_shift_and_scale_of_either_side_change_nothing(seed, scale):
    rng = np.random.default_rng(seed)
    x, y = planted(90, private=8, seed=seed)
    turned = scale * x @ np.linalg.qr(rng.standard_normal((50, 50)))[0] + rng.standard_normal(50)
    options = {"n_components": 4, "reg": 0.1}
    for method in ("affine", "procrustes", "local_cka"):
        np.testing.assert_allclose(match_rows(turned[:70], y[:70], turned[70:], y[70:], method=method, **options),
                                   match_rows(x[:70], y[:70], x[70:], y[70:], method=method, **options), atol=1e-6)


def test_ranks_equal_a_loop_and_ties_take_the_middle():
    s = np.random.default_rng(0).standard_normal((30, 30))
    order = [list(np.argsort(-row)).index(i) + 1 for i, row in enumerate(s)]
    assert retrieval_ranks(s).tolist() == order
    assert (retrieval_ranks(np.zeros((9, 9))) == 5).all()
    assert matching_accuracy(s + 100 * np.eye(30)) == 1


def test_published_image_and_text_embeddings(mirror):
    """Trained pairs of encoders match far above chance, the same towers with random weights hardly."""
    top5 = {}
    for name, draws, chance in (("clip", 1, 0.04), ("clip_random", 1, 0.04), ("videoclip", 3, 0.2)):
        x, y = np.load(mirror / "modality_gap" / f"features_{name}.npy")
        found = match_spaces(*labelled(x, y), method="affine", n_components=50, reg=0.1, n_draws=draws)
        found = found.sel(metric="match.affine.top5")
        assert found.null_mean.item() == chance and found.n.item() * chance == 5
        top5[name] = found.score.item()
    assert top5["clip"] > 0.65 and top5["videoclip"] > 0.7 and 0.03 < top5["clip_random"] < 0.2


def test_a_map_of_whole_spaces_from_few_anchors_is_warned_of():
    x, y = planted(65)
    with pytest.warns(na.errors.NeuroalignWarning, match=r"'a::all' have as many features as there are anchors \(45\)"):
        found = match_spaces(*labelled(x, y), n_queries=20, n_components=None)
    assert "underdetermined-map" in found.attrs["warnings"]
    match_spaces(*labelled(x, y), n_queries=20, n_components=5, reg=0.1)


def test_few_queries_are_warned_of_with_chance_and_its_standard_error():
    x, y = planted(n=48)
    words = r"match: 12 queries a draw tell little: chance .* is assignment 0.0833 ± 0.083, top1 0.0833 ± 0.08, "
    with pytest.warns(na.errors.NeuroalignWarning, match=words):
        found = match_spaces(*labelled(x, y), n_draws=1)
    assert "few-queries" in found.attrs["warnings"]
    rng, hits = np.random.default_rng(0), []
    for _ in range(3000):
        similarity = rng.standard_normal((12, 12))
        hits.append([matching_accuracy(similarity), *((retrieval_ranks(similarity) <= k).mean() for k in (1, 5, 10))])
    np.testing.assert_allclose(found.null_mean.values[:, 0, 0], np.mean(hits, 0), atol=0.01)
    np.testing.assert_allclose(found.null_sd.values[:, 0, 0], np.std(hits, 0), rtol=0.06)


def test_missing_stimuli_are_an_error_or_dropped():
    a, b = labelled(*planted(100))
    with pytest.raises(NotAligned, match="'s0000'"):
        match_spaces(a, b[:-1], method="affine", n_components=4)
    with pytest.warns(na.errors.NeuroalignWarning, match="1 stimuli dropped.*'s0000'"):
        found = match_spaces(a, b[:-1], method="affine", n_components=4, on_missing="drop")
    assert na.scores.attrs_of(found)["n_stimuli"] == 99


@pytest.mark.filterwarnings("ignore:match. 10 queries a draw tell little:neuroalign.errors.NeuroalignWarning")
@pytest.mark.parametrize("change, words", [
    ({"n_queries": 1}, "got 1 and 39 of 40 stimuli, expected at least 2 queries"),
    ({"n_queries": 20, "n_anchors": 30}, "got 20 and 30 of 40"),
    ({"n_anchors": 8}, "anchors: got 8 pairs, expected at least 12"),
    ({"n_draws": 0}, "n_draws: got 0"),
    ({"method": "linear"}, "method: got 'linear'"),
    ({"reg": 2.0}, "n_components, reg: got"),
    ({"n_components": 0}, "n_components, reg: got 0"),
])
def test_wrong_options_are_explained(change, words):
    with pytest.raises(ValueError, match=words):
        match_spaces(*labelled(*planted(40)), **change)


@pytest.mark.filterwarnings("ignore:match. 1. queries a draw tell little:neuroalign.errors.NeuroalignWarning")
def test_nan_constant_and_non_square_input_is_explained():
    x, y = planted(40)
    x[3, 0] = np.nan
    with pytest.raises(ValueError, match="features 'a::all' are constant or hold NaN"):
        match_spaces(*labelled(x, y))
    with pytest.raises(ValueError, match="'x' are constant"):
        match_rows(np.ones((20, 3)), y[:20], np.ones((5, 3)), y[20:25])
    with pytest.raises(ValueError, match=r"got shape \(3, 4\), expected a square"):
        retrieval_ranks(np.zeros((3, 4)))


def test_a_long_null_shows_how_far_it_is(monkeypatch, capsys):
    x, y = labelled(*(v[:80] for v in planted()))
    monkeypatch.setattr("neuroalign.alignment.progress.PATIENCE", 0)
    options = {"n_permutations": 4, "n_components": 3, "reg": 0.1, "n_draws": 1, "device": "cpu"}
    silent = match_spaces(x, [y, x], progress=False, **options)
    assert capsys.readouterr().err == ""
    shown = match_spaces(x, [y, x], **options)
    assert "matching: null: 100%" in (said := capsys.readouterr().err) and "8/8" in said
    np.testing.assert_array_equal(shown.p, silent.p)
