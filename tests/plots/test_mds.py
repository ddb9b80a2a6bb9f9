"""Maps of stimuli: distances against scikit-learn and against planted places."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import smacof

from neuroalign.data import make_rdms
from neuroalign.plots import mds
from neuroalign.plots.mds import scale

IDS = [f"o{k}" for k in range(10)]
PLACES = np.random.default_rng(0).uniform(-1, 1, (10, 2))
TABLE = pd.DataFrame({"category": list("abcdefghij"), "kind": list("xyxyxyxyxy")}, index=IDS)


def test_a_flat_world_is_found_again(pixels, overlaps):
    turned = PLACES @ np.array([[0.0, -1.0], [1.0, 0.0]]) * 3
    rdms = make_rdms(np.stack([pdist(PLACES), pdist(turned)]), stimulus_ids=IDS, targets=["IT", "net"])
    figure = mds(rdms, TABLE, category="kind", title="Objects")
    first, second = (figure.data[figure.data.target == t][["x", "y"]].to_numpy() for t in ("IT", "net"))
    np.testing.assert_allclose(pdist(first), pdist(PLACES), rtol=1e-3)
    np.testing.assert_allclose(second, first, atol=1e-3)  # turned, and scaled, onto the first
    assert [a.get_title(loc="left") for a in figure.axes[:2]] == ["IT", "net"]
    assert [a.get_xlabel() for a in figure.axes[:2]] == ["stress 0.00", "stress 0.00"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["x", "y"]
    assert overlaps(figure) == []
    pixels(figure)


def test_stress_is_as_low_as_that_of_many_random_starts():
    dissimilarities = squareform(np.random.default_rng(1).uniform(0.5, 2, 190))
    places, stress = scale(dissimilarities)
    distances = pdist(places)
    raw = ((squareform(dissimilarities) - distances) ** 2).sum()
    assert stress == pytest.approx(np.sqrt(raw / (distances**2).sum()))
    best = min(smacof(dissimilarities, n_init=1, random_state=k, normalized_stress=False)[1] for k in range(6))
    assert raw < 1.1 * best
    np.testing.assert_array_equal(scale(dissimilarities)[0], places)  # nothing is drawn by chance


@pytest.mark.parametrize("n_targets", [1, 5])
def test_no_words_overlap(overlaps, n_targets):
    values = np.random.default_rng(0).uniform(0.5, 2, (n_targets, 1225))
    ids = [f"picture {k}" for k in range(50)]
    table = pd.DataFrame({"category": [f"a kind of thing {k % 7}" for k in range(50)]}, index=ids)
    rdms = make_rdms(values, stimulus_ids=ids, targets=[f"a rather long target {k}" for k in range(n_targets)])
    assert overlaps(mds(rdms, table)) == []


def test_bad_requests_are_explained():
    rdms = make_rdms(pdist(PLACES)[None], stimulus_ids=IDS, targets=["IT"])
    with pytest.raises(ValueError, match=r"'category' has 10 values \('a', 'b', 'c' and 7 more \(10 in all\)\)"):
        mds(rdms, TABLE)
    with pytest.raises(ValueError, match="IT has negative dissimilarities"):
        mds(rdms - 1)
    holes = rdms.copy()
    holes[0, :2] = np.nan
    with pytest.raises(ValueError, match="IT lacks the dissimilarity of 2 pairs"):
        mds(holes)
    with pytest.raises(ValueError, match="mds: got 13 RDMs, expected at most 12"):
        mds(make_rdms(np.ones((13, 45)), stimulus_ids=IDS))
    with pytest.raises(ValueError, match=r"stimuli: no rows for 'o9'"):
        mds(rdms, TABLE[:9])
