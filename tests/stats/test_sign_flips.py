"""Sign flips against scipy, the largest statistic against brute force, Holm by its definition."""

import itertools

import numpy as np
import pytest
from scipy import stats as theirs

from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import conjunction_p, holm, sign_flip_test


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_all_flips_equal_scipy(alternative):
    values = np.random.default_rng(0).standard_normal((9, 4)) + 0.4
    found = sign_flip_test(values, alternative=alternative)
    expected = theirs.permutation_test((values,), lambda x, axis: x.mean(axis), permutation_type="samples",
                                       n_resamples=np.inf, alternative=alternative, vectorized=True)
    np.testing.assert_allclose(found.p, expected.pvalue)
    assert found.smallest_p == (2 if alternative == "two-sided" else 1) / 2**9
    np.testing.assert_array_equal(found.n_positive, (values > 0).sum(0))


@pytest.mark.parametrize("statistic", ["mean", "t"])
def test_the_largest_statistic_holds_all_units_at_once(statistic):
    values = np.random.default_rng(1).standard_normal((7, 5)) + 0.3

    def measure(x):
        return x.mean(0) if statistic == "mean" else theirs.ttest_1samp(x, 0).statistic

    largest = [measure(values * np.array(s)[:, None]).max() for s in itertools.product((1, -1), repeat=7)]
    found = sign_flip_test(values, statistic=statistic)
    np.testing.assert_allclose(found.statistic, measure(values))
    np.testing.assert_allclose(found.p_max, [(np.array(largest) >= m - 1e-9).mean() for m in measure(values)])
    assert np.all(found.p_max >= found.p)


def test_drawn_flips_are_calibrated_and_seeded():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((16, 400))
    found = sign_flip_test(values, n_permutations=999, random_state=3)
    assert abs((found.p < 0.05).mean() - 0.05) < 0.035 and found.smallest_p == 1 / 1000
    np.testing.assert_array_equal(found.p, sign_flip_test(values, n_permutations=999, random_state=3).p)
    assert sign_flip_test(values).p_max.min() > 0.001


def test_few_subjects_are_told_what_they_can_show():
    with pytest.warns(NeuroalignWarning, match=r"4 subjects: the smallest p is 0.0625"):
        found = sign_flip_test(np.array([0.1, 0.2, 0.3, 0.1]))
    assert found.p == 1 / 16 == found.smallest_p and found.n_positive == 4
    with pytest.raises(ValueError, match=r"values: got shape \(1, 3\)"):
        sign_flip_test(np.ones((1, 3)))
    with pytest.raises(ValueError, match="finite"):
        sign_flip_test(np.array([0.1, np.nan]))


@pytest.mark.parametrize(("options", "smallest"), [({}, 1 / 32), ({"alternative": "two-sided"}, 1 / 16),
                                                   ({"n_permutations": 9}, 1 / 10)])
def test_the_smallest_p_that_is_told_is_that_of_the_test(options, smallest):
    with pytest.warns(NeuroalignWarning, match=f"5 subjects: the smallest p is {smallest:.3g}[.] "):
        found = sign_flip_test(np.arange(1.0, 6.0), **options)
    assert found.smallest_p == smallest and (found.p >= smallest).all()


def test_subjects_that_agree_to_the_last_digit_speak_for_an_effect():
    found = sign_flip_test(np.full((6, 2), 0.25), statistic="t")  # t is infinite
    assert (found.p == 1 / 64).all() and (found.p_max == 1 / 64).all()


def test_holm_and_conjunction():
    p = np.array([0.02, np.nan, 0.001, 0.04, 0.03])
    order = [0.001, 0.02, 0.03, 0.04]
    steps = np.maximum.accumulate([q * (4 - k) for k, q in enumerate(order)])
    expected = [steps[1], np.nan, steps[0], steps[3], steps[2]]
    np.testing.assert_allclose(holm(p), expected)
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert conjunction_p([[0.01, 0.2], [0.03, 0.01]]).tolist() == [0.03, 0.2]
