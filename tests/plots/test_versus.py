"""One space against another: points at their scores, winners by q of the right comparison."""

import numpy as np
import pytest

from neuroalign.data import scores as scores_
from neuroalign.plots import versus
from neuroalign.plots.style import PALETTE

DIMS = ("metric", "space", "neuroid")
IDS = [f"e{k}" for k in range(8)]
X = np.array([0.1, 0.2, 0.3, 0.4, 0.2, 0.1, 0.3, np.nan])
Y = np.array([0.3, 0.4, 0.3, 0.1, 0.1, 0.2, 0.35, 0.5])


@pytest.fixture
def scores():
    return scores_.make({"score": (DIMS, np.stack([X, Y])[None])},
                        {"metric": ["r.pooled"], "space": ["uni", "multi"], "neuroid": IDS,
                         "subject": ("neuroid", list("aaaabbbb"))})


@pytest.fixture
def tests_of():
    def make(pairs=(("multi", "uni"), ("uni", "multi")), ids=IDS):
        sign = [1 if better == "multi" else -1 for better, _ in pairs]
        gain = np.stack([s * (Y - X) for s in sign])
        q = np.where(gain > 0.15, 0.01, 0.9)
        names = [f"{a} > {b}" for a, b in pairs]
        return scores_.make({"score": (DIMS, gain[None]), "q": (DIMS, q[None])},
                            {"metric": ["r.pooled"], "space": names, "neuroid": list(ids)},
                            {"analysis": "site_tests", "comparisons": dict(zip(names, map(list, pairs)))})

    return make


def test_winners_are_those_of_the_tests(scores, tests_of, pixels, overlaps):
    figure = versus(scores, "uni", "multi", tests_of(), title="Who wins?")
    points = {line.get_markerfacecolor(): np.c_[line.get_xdata(), line.get_ydata()] for line in figure.axes[0].lines
              if line.get_marker() in "os"}
    np.testing.assert_allclose(points[PALETTE[0]], [[0.1, 0.3], [0.2, 0.4]])
    np.testing.assert_allclose(points[PALETTE[1]], [[0.4, 0.1]])
    said = [t.get_text() for t in figure.legends[0].get_texts()]
    assert said == ["no winner (4)", "multi better (2)", "uni better (1)"]
    title = figure.axes[0].get_title(loc="left")
    assert title == "4 of 7 sites above the line\nmedian difference +0.050"  # .2 .2 0 -.3 -.1 .1 .05
    assert "1 sites without a score of both" in figure.caption
    assert figure.data["winner"].tolist() == ["y", "y", "", "x", "", "", "", ""]
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()
    assert figure.axes[0].get_xlabel() == "uni\nPearson r (pooled over folds)"
    assert overlaps(figure) == []
    pixels(figure)


def test_without_tests_no_winner_is_named(scores):
    figure = versus(scores, "uni", "multi")
    assert figure.legends == [] and "no winner" in figure.caption and "winner" not in figure.data


def test_time_bins_are_averaged(scores):
    timed = scores_.xr.concat([scores, scores + 0.2], "time_bin").transpose(..., "time_bin")
    timed = timed.assign_coords(time_bin=[0.1, 0.2]).assign_attrs(scores.attrs)
    figure = versus(timed, "uni", "multi")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), X[:7] + 0.1)
    assert "means over 2 time bins" in figure.caption


@pytest.mark.parametrize("n", [3, 400])
def test_no_words_overlap(overlaps, n):
    score = np.random.default_rng(0).uniform(-0.1, 0.6, (1, 2, n))
    names = ["a-rather-long-name-of-a-model:encoder.layer.11:text", "another-long-name-of-a-model:blocks.3:image"]
    scores = scores_.make({"score": (DIMS, score)}, {"metric": ["r.pooled"], "space": names,
                                                     "neuroid": [f"e{k}" for k in range(n)]})
    assert overlaps(versus(scores, *names, title="Two models")) == []


def test_bad_requests_are_explained(scores, tests_of):
    with pytest.raises(ValueError, match="no space 'multy' in these Scores.*Did you mean 'multi'"):
        versus(scores, "uni", "multy")
    with pytest.raises(ValueError, match="they are of other sites"):
        versus(scores, "uni", "multi", tests_of(ids=[f"f{k}" for k in range(8)]))
    other = tests_of()
    other.attrs["comparisons"] = '{"a > b": ["a", "b"]}'
    with pytest.raises(ValueError, match=r"no comparison of 'multi' with 'uni'.*site_tests\(scores"):
        versus(scores, "uni", "multi", other)
    with pytest.raises(ValueError, match="no site has a score of both"):
        versus(scores * np.nan, "uni", "multi")
