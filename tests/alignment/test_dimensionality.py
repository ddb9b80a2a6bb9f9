"""Participation ratio and effective rank against loops over distinct stimuli, and on planted spectra."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.alignment import effective_dimensions, effective_rank, participation_ratio
from neuroalign.data import make_features
from neuroalign.errors import NeuroalignWarning


def brute_debiased(x):
    """Means over distinct stimuli i, j, k, l of unbiased estimates of tr(S)^2 and tr(S^2)."""
    trace, square = [], []
    for i, j, k, l in permutations(range(len(x)), 4):  # noqa: E741
        a, b = x[i] - x[j], x[k] - x[l]
        trace.append((a @ a / 2) * (b @ b / 2))
        square.append((a @ b) ** 2 / 4)
    return np.mean(trace) / np.mean(square)


@pytest.mark.parametrize("p", [3, 12])
def test_debiased_equals_the_loop_over_distinct_stimuli(p):
    x = np.random.default_rng(0).standard_normal((7, p)) * np.linspace(1, 3, p) + 4
    assert participation_ratio(x, device="cpu") == pytest.approx(brute_debiased(x), rel=1e-8)


@pytest.mark.parametrize("p", [4, 50])
def test_biased_and_effective_rank_equal_the_spectrum(p):
    x = np.random.default_rng(1).standard_normal((30, p)) * np.linspace(1, 3, p)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    values = values[values > 1e-9 * values[0]]
    assert participation_ratio(x, estimator="biased", device="cpu") == pytest.approx(
        (values**2).sum() ** 2 / (values**4).sum(), rel=1e-8)
    share = values / values.sum()
    if p == 50:
        with pytest.warns(NeuroalignWarning, match="limited by the number of stimuli"):
            found = effective_rank(x, device="cpu")
    else:
        found = effective_rank(x, device="cpu")
    assert found == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-8)


def test_the_debiased_estimate_finds_the_dimension_of_the_population_from_few_stimuli():
    """Eigenvalues 1 / k: the population has (sum 1/k)^2 / sum 1/k^2 dimensions."""
    spectrum = 1 / np.arange(1, 201)
    true = spectrum.sum() ** 2 / (spectrum**2).sum()
    draws = [np.random.default_rng(s).standard_normal((25, 200)) * np.sqrt(spectrum) for s in range(60)]
    debiased = np.mean([participation_ratio(x) for x in draws])
    biased = np.mean([participation_ratio(x, estimator="biased") for x in draws])
    assert abs(debiased / true - 1) < 0.15 and biased < 0.8 * true


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_rotation_scale_shift_and_order_change_nothing(seed, scale):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((20, 5)) * rng.uniform(0.5, 2, 5)
    moved = (scale * x @ np.linalg.qr(rng.standard_normal((5, 5)))[0] - 7 * scale)[rng.permutation(20)]
    for f in (participation_ratio, lambda v: participation_ratio(v, estimator="biased"), effective_rank):
        assert f(moved) == pytest.approx(f(x), rel=1e-6)
    assert 1 <= participation_ratio(x, estimator="biased") <= 5 and 1 <= effective_rank(x) <= 5


def test_every_space_has_its_own_row_and_bad_ones_are_nan_alone():
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(12)]
    flat, broken = np.ones((12, 3)), rng.standard_normal((12, 3))
    broken[0, 0] = np.nan
    spaces = [make_features(v, ids, model=m, layer="l1") for m, v in
              (("a", rng.standard_normal((12, 3))), ("wide", rng.standard_normal((12, 40))), ("flat", flat),
               ("broken", broken))]
    with pytest.warns(NeuroalignWarning) as caught:
        found = effective_dimensions(spaces, device="cpu")
    assert {w.message.code: w.message.ids for w in caught} == {
        "undefined-dimensionality": ("flat:l1:all", "broken:l1:all"), "few-stimuli": ("wide:l1:all",)}
    assert np.isnan(found.participation_ratio.values).tolist() == [False, False, True, True]
    assert found.model.values.tolist() == ["a", "wide", "flat", "broken"] and (found.n_stimuli == 12).all()
    assert found.participation_ratio[0].item() == pytest.approx(participation_ratio(spaces[0].values))


@pytest.mark.parametrize("call, words", [
    (lambda: participation_ratio(np.ones((3, 2))), "got 3 stimuli, expected at least 4"),
    (lambda: participation_ratio(np.ones((5, 2)), estimator="raw"), "estimator: got 'raw'"),
    (lambda: effective_rank(np.ones(5)), r"shape \(5,\), expected \(n_stimuli, n_features\)"),
    (lambda: effective_dimensions([]), "no space given"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_stimuli_that_are_all_equally_far_apart_do_not_say():
    assert np.isnan(participation_ratio(np.eye(6)))
    assert participation_ratio(np.eye(6), estimator="biased") == pytest.approx(5)
