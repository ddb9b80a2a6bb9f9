"""Unique and shared geometry against least squares."""

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LinearRegression

from neuroalign.alignment import partition_rsa, rdms
from neuroalign.data import make_features, make_rdms, scores

N = 15
IDS = [f"s{i:02d}" for i in range(N)]


def models(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 8))
    y = 0.5 * x + rng.standard_normal((N, 8))
    return [make_features(x, IDS, model="vision"), make_features(y, IDS, model="text")]


def brain(rows):
    return make_rdms(rows, stimulus_ids=IDS, targets=[f"t{k}" for k in range(len(rows))],
                     target_coords={"region": ["IT"] * len(rows), "subject": [f"s{k}" for k in range(len(rows))]})


def r2(columns, row):
    x, y = np.column_stack([rankdata(c) for c in columns]), rankdata(row)
    return LinearRegression().fit(x, y).score(x, y)


def test_shares_equal_rank_regression_per_subject():
    spaces = models()
    a, b = rdms(spaces).values
    rows = a + b + 0.5 * np.random.default_rng(1).random((4, a.size))
    found = partition_rsa(spaces, brain(rows), n_permutations=99, n_bootstraps=30, keep="bootstrap", device="cpu")
    both, first, second = (np.mean([r2(c, row) for row in rows]) for c in ([a, b], [a], [b]))
    expected = [both, both - second, both - first, first + second - both]
    np.testing.assert_allclose(found.score.values.ravel(), expected, atol=1e-5)
    assert found.part.values.tolist() == ["both", "unique first", "unique second", "shared"]
    assert found.space.values[1] == "vision::all, unique"
    total = found.score.sel(space=found.space[1:]).sum()
    assert total.item() == pytest.approx(found.score.values[0, 0, 0], abs=1e-6)
    np.testing.assert_allclose(found.p.values.ravel(), [0.01, 0.01, 0.01, np.nan])
    assert (found.ci_low < found.ci_high).all() and found.bootstrap.sizes["resample"] == 30


def test_a_model_that_adds_nothing_has_no_unique_share():
    p, shares = [], []
    for seed in range(20):
        spaces = models(seed)
        row = rdms(spaces).values[0] + 0.3 * np.random.default_rng(seed).random(105)
        found = partition_rsa(spaces, brain(row[None]), n_permutations=39, device="cpu")
        p.append(found.p.values.ravel()[2])
        shares.append(found.score.values.ravel())
    assert np.mean(shares, 0)[1] > 0.3 and np.mean(shares, 0)[2] < 0.02
    assert np.mean(np.array(p) <= 0.05) <= 0.25


def test_gaps_in_a_target_are_left_out():
    spaces = models()
    a, b = rdms(spaces).values
    rows = a + b + 0.5 * np.random.default_rng(1).random((2, a.size)).astype(np.float32)
    rows[0, :30] = np.nan
    found = partition_rsa(spaces, brain(rows), n_permutations=0, device="cpu").score.values.ravel()
    here = ~np.isnan(rows[0])
    expected = np.mean([r2([a[here], b[here]], rows[0][here]), r2([a, b], rows[1])])
    assert found[0] == pytest.approx(expected, abs=1e-5)


def test_equal_models_share_everything():
    space = models()[0]
    twin = make_features(space.values, IDS, model="twin")
    found = partition_rsa([space, twin], brain(rdms(space).values), n_permutations=0, device="cpu")
    np.testing.assert_allclose(found.score.values.ravel(), [1, 0, 0, 1], atol=1e-5)
    assert scores.attrs_of(found)["aggregation"]["rsa.r2"].startswith("R² of the ranks")


def test_two_models_are_needed():
    with pytest.raises(ValueError, match=r"got 1 models \(vision::all\), expected two"):
        partition_rsa(models()[0], brain(np.random.default_rng(0).random((2, 105))))
