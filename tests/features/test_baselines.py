import numpy as np
import pytest

from neuroalign.data import StimulusSet
from neuroalign.features.baselines import tfidf


def test_word_tfidf_equals_the_formula():
    texts = ["red fox red", "red hat", "blue hat"]
    got = tfidf(StimulusSet.from_texts(texts)).values
    vocabulary = sorted({w for t in texts for w in t.split()})
    counts = np.array([[t.split().count(w) for w in vocabulary] for t in texts], float)
    tf = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    idf = np.log((1 + len(texts)) / (1 + (counts > 0).sum(0))) + 1
    expected = tf * idf
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_character_tfidf_sees_shared_stems():
    s = tfidf(StimulusSet.from_texts(["walking", "walked", "tree"]), unit="character").values
    assert s[0] @ s[1] > 0.2 > s[0] @ s[2]


def test_wrong_unit_is_named():
    with pytest.raises(ValueError, match="unit: got 'words', expected one of 'word', 'character'"):
        tfidf(StimulusSet.from_texts(["a b"]), unit="words")
