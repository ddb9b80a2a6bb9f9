"""Nested losses against sums of cross-entropies; trained maps put what tells classes apart first."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import log_softmax

from neuroalign.alignment import mrl, mrl_e, train_nested


def problem(n=240, p=30, classes=4, seed=0):
    """Classes differ along 3 weak directions below many strong ones of noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    x = rng.standard_normal((n, p)) * np.r_[np.full(3, 0.3), np.full(p - 3, 3.0)]
    x[:, :3] += np.eye(classes, 3)[labels]
    return x @ np.linalg.qr(rng.standard_normal((p, p)))[0], np.array(list("wxyz"))[labels]


def entropy(logits, labels):
    return -log_softmax(logits, 1)[torch.arange(len(labels)), labels].mean()


def test_losses_equal_sums_written_out():
    torch.manual_seed(0)
    z, labels = torch.randn(20, 8), torch.randint(0, 3, (20,))
    heads = {m: nn.Linear(m, 3) for m in (2, 4, 8)}
    expected = sum(entropy(z[:, :m] @ heads[m].weight.T + heads[m].bias, labels) for m in heads)
    assert mrl(z, labels, heads).item() == pytest.approx(expected.item(), rel=1e-6)
    whole = heads[8]
    parts = {m: entropy(z[:, :m] @ whole.weight[:, :m].T + whole.bias, labels).item() for m in (2, 4, 8)}
    assert mrl_e(z, labels, whole, (2, 4, 8)).item() == pytest.approx(sum(parts.values()), rel=1e-6)
    weighted = mrl_e(z, labels, whole, (2, 8), importance={8: 0.5})
    assert weighted.item() == pytest.approx(parts[2] + 0.5 * parts[8], rel=1e-6)
    with pytest.raises(ValueError, match="dims: got '9', expected numbers from 1 to 8"):
        mrl_e(z, labels, whole, (2, 9))


def test_later_weights_take_no_part_in_an_earlier_loss():
    z, labels = torch.randn(10, 6, requires_grad=True), torch.arange(10) % 2
    mrl_e(z, labels, nn.Linear(6, 2), (3,)).backward()
    assert (z.grad[:, 3:] == 0).all() and (z.grad[:, :3] != 0).any()


@pytest.mark.parametrize("kind", ["mrl", "mrl_e"])
def test_three_dimensions_do_where_components_of_variance_fail(kind):
    x, labels = problem()
    found = train_nested(x, labels, dims=[1, 3, 10], kind=kind, epochs=150)
    train = np.setdiff1d(np.arange(240), found.held_out)
    pca = PCA(3).fit(x[train])
    plain = LogisticRegression().fit(pca.transform(x[train]), labels[train])
    assert found.accuracy[3] > 0.75 > 0.45 > plain.score(pca.transform(x[found.held_out]), labels[found.held_out])
    assert found.accuracy[1] < found.accuracy[3] and found.accuracy[10] > 0.7
    logistic = LogisticRegression().fit(found.transform(x[train])[:, :3], labels[train])
    assert logistic.score(found.transform(x[found.held_out])[:, :3], labels[found.held_out]) > 0.75
    np.testing.assert_array_equal(found.predict(x[found.held_out], 3) == labels[found.held_out],
                                  found.predict(x, 3)[found.held_out] == labels[found.held_out])


def test_the_same_seed_gives_the_same_map_and_held_out_rows_have_no_part_in_it():
    x, labels = problem(80)
    options = {"dims": [2, 4], "epochs": 20}
    one, again = (train_nested(x, labels, **options) for _ in range(2))
    np.testing.assert_array_equal(one.transform(x), again.transform(x))
    moved = x.copy()
    moved[one.held_out] *= -50
    np.testing.assert_array_equal(train_nested(moved, labels, **options).transform(x), one.transform(x))
    assert not np.array_equal(train_nested(x, labels, random_state=1, **options).transform(x), one.transform(x))


@pytest.mark.parametrize("change, words", [
    ({"dims": []}, "dims: got"), ({"dims": [2], "kind": "mrll"}, "kind: got 'mrll'"),
    ({"dims": [2], "labels": ["w"] * 79}, "one label for each row"),
    ({"dims": [2], "labels": ["w"] * 80}, "got 1 classes"), ({"dims": [2], "held_out": 1.0}, "held_out: got 1.0"),
    ({"dims": [2], "values": np.full((80, 3), np.nan)}, "rows '0', '1', '2' and 77 more .* hold NaN"),
])
def test_wrong_input_is_explained(change, words):
    x, labels = problem(80)
    with pytest.raises(ValueError, match=words):
        train_nested(**{"values": x, "labels": labels} | change)
