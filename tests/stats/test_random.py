"""One seed for the user, an independent stream for every purpose."""

import numpy as np
import pytest

from neuroalign.stats import child_rng, child_seed


def test_the_same_pair_gives_the_same_stream():
    assert (child_rng(3, "folds").random(5) == child_rng(np.int64(3), "folds").random(5)).all()
    assert child_seed(3, "folds") == child_seed(3, "folds")


def test_purposes_and_seeds_are_independent():
    streams = [child_rng(seed, purpose).random(2000) for seed in (0, 1) for purpose in ("folds", "shift")]
    r = np.corrcoef(streams)[np.triu_indices(4, 1)]
    assert np.abs(r).max() < 0.1


def test_the_global_generator_is_not_touched():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    child_rng(0, "x").random()
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("seed", [-1, 0.5, None, "0"])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="random_state"):
        child_rng(seed, "x")
