"""Rank correlation across models against scipy."""

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from neuroalign.data.scores import make
from neuroalign.errors import NeuroalignWarning
from neuroalign.probes import rank_across_models

MODELS = [f"m{k}" for k in range(14)]


def values(seed):
    return dict(zip(MODELS, np.random.default_rng(seed).integers(0, 9, 14).astype(float)))  # with ties


def scores(numbers):
    """Scores of two layers and two sites whose mean is the number of each model."""
    spaces = [(m, layer) for m in numbers for layer in "ab"]
    offset = {"a": -0.1, "b": 0.1}
    score = np.array([[[numbers[m] + offset[layer] + e for e in (-1, 1)] for m, layer in spaces]])
    coords = {"metric": ["r.pooled"], "space": [f"{m}:{layer}:all" for m, layer in spaces], "neuroid": ["x", "y"],
              "model": ("space", [m for m, _ in spaces])}
    return make({"score": (("metric", "space", "neuroid"), score)}, coords)


def test_correlation_equals_scipy_also_of_scores():
    x, y = values(0), values(1)
    expected = spearmanr([x[m] for m in MODELS], [y[m] for m in MODELS])
    for brain in (y, scores(y), {m: y[m] for m in MODELS[::-1]}):
        found = rank_across_models(x, brain, n_permutations=4999)
        assert found.score.item() == pytest.approx(expected.statistic, abs=1e-9)
        assert found.p.item() == pytest.approx(expected.pvalue, abs=0.03)
        assert found.ci_low < found.score < found.ci_high and found.n == 14


def test_all_orders_of_few_models_are_counted_once():
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0]
    with pytest.warns(NeuroalignWarning, match="over 4 models"):
        found = rank_across_models(dict(zip("abcd", x)), dict(zip("abcd", y)))
    every = [spearmanr(order, y).statistic for order in itertools.permutations(x)]
    assert found.p.item() == pytest.approx(np.mean(np.abs(every) >= 0.8 - 1e-9), abs=0.01)


@pytest.mark.parametrize("call, words", [
    (lambda: rank_across_models(values(0), dict.fromkeys(MODELS[1:], 1.0)), "models 'm0' stand on one side alone"),
    (lambda: rank_across_models({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}), "2 models, expected at least 4"),
    (lambda: rank_across_models(values(0) | {"m3": np.nan}, values(1)), "values: NaN for 'm3'"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_plain_numbers_are_refused():
    with pytest.raises(TypeError, match="values: got list, expected Scores"):
        rank_across_models([1, 2], values(0))
