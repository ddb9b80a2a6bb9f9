"""Sites on a glass brain: counts in the title, coordinates checked."""

import numpy as np
import pandas as pd
import pytest

from neuroalign.data import scores as scores_
from neuroalign.errors import NeuroalignWarning
from neuroalign.plots import sites

N = 40
RNG = np.random.default_rng(0)
XYZ = RNG.uniform(-50, 50, (N, 3))
TRUTH = np.arange(N) < 10
FOUND = (np.arange(N) < 8) | (np.arange(N) >= 38)


@pytest.fixture
def scores():
    score = np.where(TRUTH, 0.4, 0.0)[None, None]
    coords = {"metric": ["r.pooled"], "space": ["m:l:all"], "neuroid": [f"e{k}" for k in range(N)],
              "planted": ("neuroid", TRUTH)} | {c: ("neuroid", v) for c, v in zip("xyz", XYZ.T)}
    dims = ("metric", "space", "neuroid")
    return scores_.make({"score": (dims, score), "q": (dims, np.where(FOUND, 0.01, 0.6)[None, None])}, coords)


def words_of(figure):
    return [t.get_text() for t in figure.texts]


def test_false_discoveries_and_power_are_counted(scores, pixels):
    figure = sites(scores, truth="planted")
    assert words_of(figure) == ["Planted: 10 of 40 sites respond",
                                "Found: 10 of 40 sites · false-discovery proportion 0.20 (2 false)"
                                " · power 0.80 (8 of 10)"]
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "planted, missed" in labels and "found, not planted" in labels
    pixels(figure)


def test_the_caption_names_the_space_that_is_drawn(scores):
    assert "Space: m:l:all. Above" in sites(scores, truth="planted").caption
    two = scores_.concat([scores.assign_coords(space=["m:other:all"]), scores])
    assert "Space: m:other:all, one of 2." in sites(two, display="z").caption
    assert "Space: m:l:all, one of 2." in sites(two, display="z", space="m:l:all").caption


def test_markers_lie_at_the_coordinates(scores):
    figure = sites(scores, display="z", truth="planted")
    drawn = [c.get_offsets() for a in figure.axes for c in a.collections if len(c.get_offsets())]
    top = np.concatenate(drawn[:2])  # of the upper row: silent sites, then planted ones
    expected = np.concatenate([XYZ[~TRUTH], XYZ[TRUTH]])[:, :2]
    np.testing.assert_allclose(np.sort(top, 0), np.sort(expected, 0), atol=1e-6)


def test_a_table_without_truth_has_one_row(pixels):
    table = pd.DataFrame(XYZ, columns=list("xyz")).assign(r=np.linspace(0, 1, N))
    figure = sites(table, "r", title="Sites")
    assert words_of(figure) == ["Found: 40 of 40 sites", "Sites"]
    pixels(figure)


def test_metres_are_refused(scores):
    with pytest.raises(ValueError, match=r"look like metres, expected MNI millimetres. Multiply x, y and z by 1000"):
        sites(pd.DataFrame(XYZ / 1000, columns=list("xyz")))
    with pytest.raises(ValueError, match="outside any head"):
        sites(pd.DataFrame(XYZ * 1000, columns=list("xyz")))
    with pytest.raises(ValueError, match="no coords x, y, z on 'neuroid'"):
        sites(scores.drop_vars(["x", "y", "z"]))
    with pytest.raises(ValueError, match="sites: 2 time bins, this figure draws one"):
        sites(scores.expand_dims(time_bin=[0.1, 0.3], axis=-1))
    with pytest.raises(ValueError, match="no site has coordinates"):
        sites(pd.DataFrame(XYZ * np.nan, columns=list("xyz")))


def test_sites_without_coordinates_are_counted():
    table = pd.DataFrame(XYZ, columns=list("xyz"), index=[f"e{k}" for k in range(N)])
    table.iloc[:2] = np.nan
    with pytest.warns(NeuroalignWarning, match="2 sites have no coordinates and are not drawn: 'e0', 'e1'"):
        sites(table)
