"""Nearest neighbours and clusters of pooled embeddings against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

import neuroalign as na
from neuroalign.alignment import link_pooled, pool_embeddings
from neuroalign.data import make_features

IDS = [f"s{k:03d}" for k in range(90)]
KIND = np.arange(90) % 3


def modality(noise, seed, model, offset=0.0):
    rng = np.random.default_rng(seed)
    x = 2 * np.eye(3, 8)[KIND] + noise * rng.standard_normal((90, 8)) + offset
    return make_features(x, IDS, model=model)


def labels():
    return pd.Series(np.array(list("xyz"))[KIND], index=IDS)


def test_scores_equal_scikit_learn_in_every_space():
    image, text = modality(1.0, 0, "image"), modality(1.5, 1, "text")[::-1]
    found = link_pooled([image, text], labels(), n_permutations=39)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (image.values, text.values[::-1])]
    for k, rows in enumerate([*unit, (unit[0] + unit[1]) / 2]):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        near = NearestNeighbors(n_neighbors=2).fit(rows).kneighbors(rows)[1][:, 1]
        assert found.score.values[0, k, 0] == pytest.approx((KIND[near] == KIND).mean())
        clusters = KMeans(3, n_init=10, random_state=0).fit_predict(rows)
        assert found.score.values[1, k, 0] == pytest.approx(adjusted_rand_score(KIND, clusters), abs=0.08)
    assert found.space.values.tolist() == ["image::all", "text::all", "pool"]
    top1, ari = found.score.values[:, :, 0]
    assert top1[2] > max(top1[:2]) and ari[2] > max(ari[:2]) and (found.p == 0.025).all()
    np.testing.assert_allclose(found.null_mean.values[:, :, 0], [[1 / 3] * 3, [0] * 3], atol=0.04)


def test_labels_that_say_nothing_are_at_chance():
    shuffled = labels().sample(frac=1, random_state=0).set_axis(IDS)
    found = link_pooled([modality(1.0, 0, "image"), modality(1.0, 1, "text")], shuffled, n_permutations=39)
    assert (found.p > 0.05).all()


def test_scale_and_order_change_nothing():
    image, text = modality(1.0, 0, "image"), modality(1.5, 1, "text")
    one = link_pooled([image, text], labels(), n_permutations=0)
    again = link_pooled([5 * image, 0.1 * text], labels()[::-1], n_permutations=0)
    np.testing.assert_allclose(one.score, again.score)
    assert link_pooled(image, labels(), n_permutations=0).space.values.tolist() == ["image::all"]
    np.testing.assert_allclose(pool_embeddings([image, 3 * image]), image / np.linalg.norm(image, axis=1,
                                                                                         keepdims=True))


def test_objects_are_linked_by_the_words_of_their_category(mirror):
    from neuroalign.data import StimulusSet
    from neuroalign.features.baselines import tfidf

    images = na.load_stimuli("objects92")
    names = StimulusSet.from_texts(list(images.table["category"]), images.ids, name="categories")
    found = link_pooled(tfidf(names), dict(zip(images.ids, images.table["category"])), n_permutations=19)
    assert (found.score == 1).all() and (found.p == 0.05).all()


@pytest.mark.parametrize("call, words", [
    (lambda a, b: link_pooled([a, b[:, :5]], labels()), r"got shapes \(90, 8\) \(image::all\), \(90, 5\)"),
    (lambda a, b: link_pooled([a, b], labels()[3:]), "labels: none for 's000', 's001', 's002'"),
    (lambda a, b: link_pooled([a, b], dict.fromkeys(IDS, "x")), "got 1 different ones of 90"),
    (lambda a, b: link_pooled([a, b], dict(zip(IDS, IDS))), "got 90 different ones of 90"),
    (lambda a, b: link_pooled([a, b * 0], labels()), "features 'text::all': rows '0', '1', '2' and 87 more"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call(modality(1.0, 0, "image"), modality(1.0, 1, "text"))
