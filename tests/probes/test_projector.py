"""Projectors find a planted rotation; nothing held out takes part; padding is inert."""

import numpy as np
import pytest
import torch

from neuroalign.data import make_features
from neuroalign.probes import train_projector

FAST = {"dim": 16, "hidden": 32, "epochs": 40, "learning_rate": 1e-2}


def planted(n=240, p=12, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    turn = np.linalg.qr(rng.standard_normal((p, p)))[0]
    return x + 2, x @ turn + noise * rng.standard_normal((n, p))


def tokens(rows, seed=3, most=7):
    """Each row as the mean of several noisy tokens."""
    rng = np.random.default_rng(seed)
    out = []
    for row in rows:
        noise = rng.standard_normal((rng.integers(2, most), rows.shape[1]))
        out.append(row + noise - noise.mean(0))
    return out


@pytest.mark.parametrize("kind, top1", [("linear", 0.8), ("mlp", 0.6)])
def test_a_planted_rotation_is_recovered(kind, top1):
    x, y = planted()
    found = train_projector(x, y, kind=kind, **FAST)
    assert (found.retrieval["top1"] > top1).all() and (found.retrieval["chance1"] == 1 / 60).all()
    similarity = found.embed_x(x[found.held_out]) @ found.embed_y(y[found.held_out]).T
    assert (similarity.argmax(1) == np.arange(60)).mean() == found.retrieval.loc["x to y", "top1"]
    assert (similarity.argmax(0) == np.arange(60)).mean() == found.retrieval.loc["y to x", "top1"]
    np.testing.assert_allclose(np.linalg.norm(found.embed_x(x), axis=1), 1, atol=1e-6)
    losses = found.losses
    assert losses["trained"].iloc[-1] < 0.3 * losses["trained"].iloc[0] and len(losses) == 40


def test_a_bend_needs_a_perceptron():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 4))
    y = np.abs(x) @ rng.standard_normal((4, 8))
    options = FAST | {"epochs": 60}
    top5 = {k: train_projector(x, y, kind=k, **options).retrieval["top5"].mean() for k in ("linear", "mlp")}
    assert top5["mlp"] > top5["linear"] + 0.3


def test_tokens_are_projected_one_by_one_and_padding_changes_nothing():
    x, y = planted()
    seen = tokens(x)
    found = train_projector(seen, y, kind="token", **FAST)
    assert (found.retrieval["top5"] > 0.6).all()
    alone = np.concatenate([found.embed_x([t]) for t in seen[:5]])
    np.testing.assert_allclose(found.embed_x(seen)[:5], alone, atol=1e-6)
    edges = np.cumsum([0, *map(len, seen)])
    rows = make_features(np.concatenate(seen), [f"t{k}" for k in range(edges[-1])], model="m").assign_attrs(
        offsets=edges)
    np.testing.assert_allclose(found.embed_x(rows), found.embed_x(seen), atol=1e-6)
    averaged = train_projector(seen, y, kind="linear", **FAST)
    means = np.stack([t.mean(0) for t in seen])
    np.testing.assert_allclose(averaged.embed_x(seen), averaged.embed_x(means), atol=1e-5)


def test_unrelated_spaces_stay_at_chance():
    rng = np.random.default_rng(5)
    found = train_projector(rng.standard_normal((240, 12)), rng.standard_normal((240, 9)), kind="linear", **FAST)
    assert (found.retrieval["top5"] < 0.2).all() and (found.retrieval["median_rank"] > 20).all()


def test_held_out_pairs_take_no_part_and_a_seed_is_a_result():
    x, y = planted(100)
    one = train_projector(x, y, kind="mlp", **FAST | {"epochs": 5})
    moved = x.copy()
    moved[one.held_out] = 1e3
    state = torch.random.get_rng_state()
    again = train_projector(moved, y, kind="mlp", **FAST | {"epochs": 5})
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(one.embed_x(x), again.embed_x(x))
    other = train_projector(x, y, kind="mlp", random_state=1, **FAST | {"epochs": 5})
    assert not np.array_equal(one.held_out, other.held_out)


def test_labelled_features_are_matched_by_id():
    x, y = planted(100)
    ids = [f"s{k:03d}" for k in range(100)]
    a, b = make_features(x, ids, model="a"), make_features(y, ids, model="b")[::-1]
    plain, matched = (train_projector(*v, kind="linear", **FAST | {"epochs": 3}) for v in ((x, y), (a, b)))
    assert plain.losses["trained"].iloc[0] == pytest.approx(matched.losses["trained"].iloc[0], abs=0.5)
    assert matched.embed_x(a).shape == (100, 16) and matched.retrieval["n"].tolist() == [25, 25]


def test_zero_shot_by_class_embeddings():
    """Classes are points of the second space; rows of the first lie about their counterparts."""
    rng = np.random.default_rng(0)
    x, y = planted(400, noise=0.1)
    turn = np.linalg.lstsq(x - 2, y)[0]
    centres = 2 * rng.standard_normal((8, 12))
    labels = rng.integers(0, 8, 100)
    found = train_projector(x, y, kind="linear", **FAST)
    shot = found.zero_shot(centres[labels] + 0.3 * rng.standard_normal((100, 12)) + 2, centres @ turn, labels)
    assert shot["top1"] > 0.9 and shot["chance1"] == 1 / 8 and shot["top5"] >= shot["top1"]
    with pytest.raises(ValueError, match="labels: expected the row of one of 8 classes for each of 100 rows"):
        found.zero_shot(x[:100], centres @ turn, labels + 8)


def test_published_image_and_text_embeddings(mirror):
    x, y = np.load(mirror / "modality_gap" / "features_videoclip.npy")
    found = train_projector(x, y, kind="linear", dim=64, epochs=30)
    assert (found.retrieval["top5"] > 0.6).all() and (found.retrieval["chance5"] == 0.2).all()


@pytest.mark.parametrize("change, words", [
    ({"kind": "quadratic"}, "kind: got 'quadratic'"), ({"dim": 0}, "dim: got 0"), ({"epochs": 1.5}, "epochs: got 1.5"),
    ({"held_out": 0}, "temperature, held_out: got"), ({"x": np.zeros((15, 3))}, "got 15 and 40 rows"),
    ({"x": np.full((40, 3), np.nan)}, "x: rows '0', '1', '2' and 37 more .* hold NaN"),
    ({"x": [np.zeros((0, 3))] * 40}, "at least one token"),
])
def test_wrong_input_is_explained(change, words):
    x, y = planted(40)
    with pytest.raises(ValueError, match=words):
        train_projector(**{"x": x, "y": y, "kind": "linear"} | change)


def test_features_of_another_width_are_refused():
    x, y = planted(40)
    found = train_projector(x, y, kind="linear", **FAST | {"epochs": 1})
    with pytest.raises(ValueError, match="got 5 features, the map takes 12"):
        found.embed_x(x[:, :5])
