"""Encoding-based RSA against scipy on the predictions of scikit-learn, and its null for unrelated features."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

import neuroalign as na
from neuroalign.alignment import encoding_rsa
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning, NotAligned

N = 40
IDS = [f"s{k:02d}" for k in range(N)]
TABLE = np.arange(N) % 4


def data(seed=0, noise=0.5):
    """A region reads three of twenty directions: the rest of the features only blurs their own RDM."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 20)) * np.r_[np.ones(3), 2 * np.ones(17)]
    y = x[:, :3] @ rng.standard_normal((3, 12)) + noise * rng.standard_normal((N, 12))
    owners = {"region": ["V"] * 8 + ["L"] * 4, "subject": ["a"] * 4 + ["b"] * 4 + ["a"] * 4}
    return make_features(x, IDS, model="m"), make_responses(y, IDS, [f"v{k}" for k in range(12)],
                                                            neuroid_coords=owners)


def test_it_equals_the_rdm_of_ridge_predictions_subject_by_subject():
    x, y = data()
    found = encoding_rsa(x, y, n_permutations=19, cv=TABLE, alphas=[10.0], device="cpu")
    predicted = np.zeros((N, 12))
    for fold in range(4):
        train, test = fold != TABLE, fold == TABLE
        mean, sd = x.values[train].mean(0), x.values[train].std(0)
        fit = Ridge(10.0).fit((x.values[train] - mean) / sd, y.values[train])
        predicted[test] = fit.predict((x.values[test] - mean) / sd)

    def rsa(own):
        return np.mean([spearmanr(pdist(predicted[k == TABLE][:, own], "correlation"),
                                  pdist(y.values[k == TABLE][:, own].astype(float), "correlation"))[0]
                        for k in range(4)])

    assert found.target.values.tolist() == ["V", "L"] and found.n_subjects.values.tolist() == [2, 1]
    expected = [np.mean([rsa(slice(0, 4)), rsa(slice(4, 8))]), rsa(slice(8, 12))]
    np.testing.assert_allclose(found.score.values.ravel(), expected, atol=2e-3)
    assert (found.p == 0.05).all() and (found.p_max == 0.05).all()


def test_directions_that_the_region_does_not_share_have_no_say():
    x, y = data()
    plain = na.compare(x, y, n_permutations=0, device="cpu").score.sel(target="V").item()
    both = encoding_rsa(x, y, n_permutations=0, n_bootstraps=50, n_splits=4, device="cpu")
    mapped = both.score.sel(target="V").item()
    assert mapped > plain + 0.15
    at = both.sel(target="V")
    assert at.ci_low.item() < mapped < at.ci_high.item() + 0.02


def test_p_of_unrelated_features_is_uniform():
    """Pairs across folds would give 30 % of p below 0.1 here."""
    rng = np.random.default_rng(0)
    spaces = [make_features(rng.standard_normal((N, 6)), IDS, model=f"r{k}") for k in range(20)]
    p = encoding_rsa(spaces, data()[1], n_permutations=39, alphas=[10.0], n_splits=2, device="cpu").p.values
    assert (p <= 0.1).mean() < 0.2 and 0.3 < p.mean() < 0.7


def test_a_region_of_too_few_neuroids_is_left_out_by_name():
    x, y = data()
    few = y.isel(neuroid=[0, 1, 2, 3, 8, 9])
    with pytest.warns(NeuroalignWarning, match="'L of a' are left out: fewer than 3 neuroids"):
        found = encoding_rsa(x, few, n_permutations=0, device="cpu")
    assert found.target.values.tolist() == ["V"]


def test_dropped_stimuli_are_said_once_and_take_no_part():
    x, y = data()
    both = slice(1, 38)
    with pytest.warns(NeuroalignWarning) as caught:
        found = encoding_rsa(x.isel(stimulus=slice(38)), y.isel(stimulus=slice(1, None)), n_permutations=0, n_splits=3,
                             on_missing="drop", device="cpu")
    said = [str(w.message) for w in caught if w.message.code == "dropped-stimuli"]
    assert said == ["2 stimuli dropped, missing in the features: 's38', 's39'.",
                    "1 stimuli dropped, missing in the responses: 's00'."]
    alone = encoding_rsa(x.isel(stimulus=both), y.isel(stimulus=both), n_permutations=0, n_splits=3, device="cpu")
    np.testing.assert_array_equal(found.score, alone.score)
    assert attrs_of(found)["n_stimuli"] == 37


def test_wrong_arguments_are_explained():
    x, y = data()
    with pytest.raises(ValueError, match="'rsa.spearman.group', expected per-subject"):
        encoding_rsa(x, y, metric="rsa.spearman.group")
    with pytest.raises(ValueError, match="a test fold has 2 stimuli, expected at least 4"):
        encoding_rsa(x, y, n_splits=20, n_permutations=0)
    with pytest.raises(NotAligned, match="one at a time"):
        encoding_rsa(x, y.expand_dims(time_bin=[0.1], axis=2))
