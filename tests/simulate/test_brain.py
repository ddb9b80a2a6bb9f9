import numpy as np
import pandas as pd
import pytest

from neuroalign.data import make_features
from neuroalign.simulate import brain


@pytest.fixture
def cause():
    return make_features(np.random.default_rng(1).standard_normal((20000, 3)), range(20000), model="cause")


def test_explainable_variance_is_what_least_squares_finds(cause):
    y = brain(cause, sites=3, driven=[True, True, False], snr=[0.25, 4.0, 9.0])
    design = np.column_stack([cause.values, np.ones(20000)])
    residual = y.values - design @ np.linalg.lstsq(design, y.values, rcond=None)[0]
    np.testing.assert_allclose(1 - residual.var(0) / y.values.var(0), [0.2, 0.8, 0.0], atol=0.02)
    np.testing.assert_allclose(y.explainable, [0.2, 0.8, 0.0])


@pytest.mark.parametrize("ar", [0.0, 0.7, -0.4])
def test_noise_is_stationary_with_the_asked_autocorrelation(cause, ar):
    noise = brain(cause, sites=4, driven=False, ar=ar).values
    np.testing.assert_allclose(noise.var(0), 1, atol=0.1)
    np.testing.assert_allclose(noise[:200].var(), 1, atol=0.25)  # no transient at the start
    lag1 = [np.corrcoef(noise[1:, k], noise[:-1, k])[0, 1] for k in range(4)]
    np.testing.assert_allclose(lag1, ar, atol=0.03)


def test_sites_keep_their_coordinates_and_the_seed_decides(cause):
    table = pd.DataFrame({"neuroid_id": ["a", "b"], "x": [1.0, 2.0], "subject": ["s", "t"]}, index=[7, 3])
    one, same, other = (brain(cause, sites=table, driven=[True, False], random_state=s) for s in (0, 0, 1))
    assert one.x.values.tolist() == [1.0, 2.0] and one.attrs["generator"] == "cause::all"
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_bad_input_is_named(cause):
    with pytest.raises(ValueError, match="ar: got 1"):
        brain(cause, sites=2, ar=1.0)
    with pytest.raises(ValueError, match=r"weights: got shape \(2, 2\), expected \(3 features, 2 sites\)"):
        brain(cause, sites=2, weights=np.ones((2, 2)))
    with pytest.raises(ValueError, match="'neuroid_id'"):
        brain(cause, sites=pd.DataFrame({"name": ["a"]}))
    with pytest.raises(ValueError, match="constant"):
        brain(cause * 0, sites=1)
