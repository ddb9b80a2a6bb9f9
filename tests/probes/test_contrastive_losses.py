"""Contrastive losses against loops, and the controls of the papers that introduced them."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from neuroalign.data import make_features
from neuroalign.errors import NotAligned
from neuroalign.probes import train_contrastive
from neuroalign.probes.contrastive_losses import (
    LOSSES,
    alignment,
    clip,
    cross_uniformity,
    cua,
    cuaxu,
    multimodal_retrieval,
    symile,
    total_correlation_bound,
    uniformity,
)


def sides(n=7, d=5, count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [normalize(torch.randn(n, d, generator=generator, dtype=torch.float64)) for _ in range(count)]


def contrast(anchor, candidates, right):
    """Minus the log of the share that the right candidate of each anchor has."""
    return -np.mean([math.log(math.exp(anchor[i] @ candidates[right[i]]) / sum(math.exp(anchor[i] @ c)
                                                                               for c in candidates))
                     for i in range(len(anchor))])


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_clip_equals_a_loop_over_stimuli(temperature):
    x, y = sides(count=2)
    a, b = (s.numpy() / math.sqrt(temperature) for s in (x, y))
    expected = (contrast(a, b, range(7)) + contrast(b, a, range(7))) / 2
    assert float(clip(x, y, temperature=temperature)) == pytest.approx(expected, abs=1e-10)


def test_the_parts_of_cua_equal_the_definitions():
    x, y = sides(count=2)
    a, b = x.numpy(), y.numpy()
    within = [np.log(np.mean([np.exp(-2 * ((s[i] - s[j]) ** 2).sum()) for i in range(7) for j in range(i)]))
              for s in (a, b)]
    across = np.log(np.mean([np.exp(-2 * ((a[i] - b[j]) ** 2).sum()) for i in range(7) for j in range(7) if i != j]))
    paired = np.mean(((a - b) ** 2).sum(1))
    assert float(uniformity(x)) == pytest.approx(within[0], abs=1e-10)
    assert float(cross_uniformity(x, y)) == pytest.approx(across, abs=1e-10)
    assert float(alignment(x, y)) == pytest.approx(paired, abs=1e-10)
    base = float(clip(x, y))
    assert float(cua(x, y)) == pytest.approx(base + np.mean(within) + paired, abs=1e-9)
    assert float(cuaxu(x, y)) == pytest.approx(base + np.mean(within) + paired + across, abs=1e-9)


def test_symile_with_all_negatives_equals_a_loop_over_triples():
    x, y, z = sides()
    arrays = [s.numpy() / 0.3 ** (1 / 3) for s in (x, y, z)]
    expected = []
    for k in range(3):
        one, two = (arrays[j] for j in range(3) if j != k)
        candidates = [one[i] * two[j] for i in range(7) for j in range(7)]
        expected.append(contrast(arrays[k], candidates, [i * 7 + i for i in range(7)]))
    found = float(symile(x, y, z, temperature=0.3, negatives="all"))
    assert found == pytest.approx(np.mean(expected), abs=1e-10)
    assert float(symile(x, y, temperature=0.3, negatives="all")) == pytest.approx(float(clip(x, y, temperature=0.3)))


def test_symile_with_shuffled_negatives_equals_a_loop_over_the_drawn_orders():
    x, y, z = sides()
    found = float(symile(x, y, z, temperature=0.3, generator=torch.Generator().manual_seed(3)))
    generator = torch.Generator().manual_seed(3)
    arrays, expected = [s.numpy() for s in (x, y, z)], []
    for k in range(3):
        one, two = (arrays[j] for j in range(3) if j != k)
        first, second = (torch.randperm(7, generator=generator).numpy() for _ in range(2))
        moved = one[first] * two[second]
        for i in range(7):
            right = math.exp(arrays[k][i] @ (one[i] * two[i]) / 0.3)
            wrong = sum(math.exp(arrays[k][i] @ moved[j] / 0.3) for j in range(7) if j != i)
            expected.append(-math.log(right / (right + wrong)))
    assert found == pytest.approx(np.mean(expected), abs=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_loss(name):
    given = [s.requires_grad_() for s in sides(5, 4, 3 if name == "symile" else 2)]
    more = {"negatives": "all"} if name == "symile" else {}
    before = [s.detach().clone() for s in given]
    assert torch.autograd.gradcheck(lambda *s: LOSSES[name](*s, temperature=0.5, **more), given)
    assert all(torch.equal(s.detach(), b) for s, b in zip(given, before))  # nothing is changed in place


def final(training, metric):
    return float(training.history.score.sel(metric=metric)[-1])


def test_the_contrastive_loss_opens_a_gap_between_identical_pairs():
    x = np.random.default_rng(0).standard_normal((256, 32)) + 1
    training = train_contrastive([x, x], dim=128, epochs=30, held_out=0, match_centroids=True, device="cpu")
    first = training.history.isel(space=0).score
    assert first.sel(metric="gap.distance") < 0.05 and first.sel(metric="separability") < 0.6
    assert final(training, "separability") > 0.98 and final(training, "gap.distance") > 0.2
    assert final(training, "retrieval.a_to_b@1") > 0.98
    assert training.history.epoch.values.tolist() == [0, 10, 20, 30]


@pytest.mark.slow
def test_a_high_temperature_leaves_no_gap():
    x = np.random.default_rng(0).standard_normal((256, 32)) + 1
    warm = train_contrastive([x, x], dim=128, epochs=60, held_out=0, match_centroids=True, temperature=0.1, every=60,
                             device="cpu")
    assert final(warm, "separability") < 0.75  # it is the low temperature that keeps the gap


@pytest.mark.slow
def test_uniformity_and_alignment_close_the_gap_at_equal_retrieval():
    rng = np.random.default_rng(1)
    latent = rng.standard_normal((512, 24))
    x, y = (latent @ rng.standard_normal((24, 48)) / 5 + 0.2 * rng.standard_normal((512, 48)) + c for c in (1, -1))
    options = {"dim": 64, "epochs": 40, "learning_rate": 2e-3, "every": 40, "device": "cpu"}
    trained = {name: train_contrastive([x, y], loss=name, **options) for name in ("clip", "cua", "cuaxu")}
    assert final(trained["clip"], "separability") > 0.98
    for name in ("cua", "cuaxu"):
        assert final(trained[name], "separability") < 0.75
        assert final(trained[name], "gap.distance") < 0.3 * final(trained["clip"], "gap.distance")
        for way in ("a_to_b", "b_to_a"):
            metric = f"retrieval.{way}@1"
            assert final(trained[name], metric) == pytest.approx(final(trained["clip"], metric), abs=0.02)
            assert final(trained[name], metric) > 0.9


BITS = 5


def exclusive_or(n, seed):
    a, b = np.random.default_rng(seed).choice([-1.0, 1.0], (2, n, BITS))
    return [a, b, a * b]


def every_value(seed):
    """One stimulus for each value of b, with random a and c = a xor b."""
    b = np.array([[1.0 if k >> j & 1 else -1.0 for j in range(BITS)] for k in range(2**BITS)])
    a = np.random.default_rng(seed).choice([-1.0, 1.0], b.shape)
    return [a, b, a * b]


def test_symile_sees_exclusive_or_where_pairs_are_at_chance():
    inputs, test = exclusive_or(512, 0), every_value(9)
    options = {"dim": 16, "epochs": 25, "learning_rate": 2e-2, "temperature": 0.1, "every": 25, "device": "cpu"}
    whole = train_contrastive(inputs, loss="symile", **options)
    a, b, c = (torch.as_tensor(s) for s in whole.embed(test))
    assert multimodal_retrieval([a, c], b) > 0.9
    # Pairwise contrast: one map for each pair of modalities, as good as it gets.
    similarity = 0
    for k in (0, 2):
        pair = train_contrastive([inputs[k], inputs[1]], loss="clip", **options)
        query, found = (torch.as_tensor(s) for s in pair.embed([test[k], test[1]]))
        similarity = similarity + query @ found.T
    assert float((similarity.argmax(1) == torch.arange(32)).double().mean()) < 0.15  # chance 1/32
    assert multimodal_retrieval([a, c], b, score="sum") < 0.3
    bound = whole.history.score.sel(metric="total_correlation").values
    cap, truth = math.log(whole.history.n.values[0, 0]), BITS * math.log(2)
    assert bound[0] < 0.1 and 0.5 * truth < bound[-1] <= min(cap, truth) + 1e-6


def test_bound_of_the_total_correlation_has_the_cap_of_the_number_of_stimuli():
    generator = torch.Generator().manual_seed(0)
    for n in (4, 16):
        same = torch.eye(n)
        assert total_correlation_bound(same, same, temperature=0.01) == pytest.approx(math.log(n), abs=1e-6)
        three = total_correlation_bound(same, same, same, temperature=0.01, generator=generator)
        assert math.log(n) - 0.8 < three <= math.log(n) + 1e-6
    unrelated = sides(200, 8, 3)
    assert total_correlation_bound(*unrelated, temperature=1.0, generator=generator) < 0.02


def test_bound_stays_below_the_truth_of_gaussians():
    """Of correlated Gaussians, with the best critic there is: log of the density ratio as embeddings cannot pass it."""
    rho, rng = 0.8, np.random.default_rng(0)
    truth = -0.5 * 6 * math.log(1 - rho**2)
    x = rng.standard_normal((1024, 6))
    y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((1024, 6))
    training = train_contrastive([x, y], loss="clip", dim=32, epochs=30, temperature=0.1, every=30, device="cpu")
    held = [torch.as_tensor(s) for s in training.embed([x[training.held_out], y[training.held_out]])]
    assert 0.3 * truth < total_correlation_bound(*held, temperature=0.1) < truth


def test_ties_share_a_place():
    x = torch.eye(4)
    assert multimodal_retrieval([x], x) == 1 and multimodal_retrieval([torch.ones(4, 4)], x) == 0.25


def test_training_is_seeded_and_leaves_the_generators_alone():
    x, y = np.random.default_rng(0).standard_normal((2, 96, 6))
    state = torch.get_rng_state()
    one, two = (train_contrastive([x, y], epochs=3, every=3, batch_size=16, device="cpu") for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(one.history.score, two.history.score)
    assert len(one.held_out) == 24 and one.history.n.values[0, 0] == 24
    other = train_contrastive([x, y], epochs=3, every=3, batch_size=16, random_state=1, device="cpu")
    assert not np.allclose(one.history.score, other.history.score)


def test_stimuli_that_are_held_out_are_not_trained_on():
    x, y = np.random.default_rng(0).standard_normal((2, 96, 6))
    options = {"epochs": 3, "every": 3, "batch_size": 16, "device": "cpu"}
    one = train_contrastive([x, y], **options)
    x[one.held_out] += 5
    again = train_contrastive([x, y], **options)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(one.encoders, again.encoders))


X = np.random.default_rng(0).standard_normal((96, 6))


def labelled(ids):
    return make_features(X, ids, model="m")


@pytest.mark.parametrize("call, words", [
    (lambda: train_contrastive([X, X, X]), "got 3 modalities for loss='clip'"),
    (lambda: train_contrastive([X, X], loss="clipp"), "loss: got 'clipp'.*Did you mean 'clip'"),
    (lambda: train_contrastive([X, X[:5]]), r"shapes \[\(96, 6\), \(5, 6\)\]"),
    (lambda: train_contrastive([X, np.where(X > 2, np.nan, X)]), r"inputs\[1\]: NaN or infinite values in rows"),
    (lambda: train_contrastive([X, X], batch_size=90), "72 to train on.*at least one batch"),
    (lambda: train_contrastive([X, X], epochs=0), "epochs: got 0"),
    (lambda: train_contrastive([X, X], held_out=1.0), "a share below 1"),
    (lambda: train_contrastive([labelled(range(96)), labelled(range(95, -1, -1))]), "stand in another order"),
    (lambda: symile(*sides()), "Pass generator="),
    (lambda: symile(*sides(), negatives="some"), "negatives: got 'some'"),
    (lambda: clip(torch.ones(3, 2), torch.ones(4, 2)), "expected one shape"),
    (lambda: multimodal_retrieval([torch.ones(3, 2)], torch.ones(3, 2), score="mip"), "score: got 'mip'"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()
    assert issubclass(NotAligned, ValueError)
