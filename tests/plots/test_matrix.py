"""Heat maps: cells hold the scores, dots mark q, twins are averaged."""

import numpy as np
import pytest

from neuroalign.data import scores as scores_
from neuroalign.plots import matrix


def test_cells_hold_the_scores(layered, pixels, overlaps):
    scores = layered(layers=3, seeds=0)
    figure = matrix(scores)
    values = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(values, scores.score.values[0])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["IT", "EVC"]
    said = [float(t.get_text().replace("−", "-")) for t in figure.axes[0].texts if t.get_text()[-1].isdigit()]
    np.testing.assert_allclose(said, scores.score.values[0].ravel(), atol=0.0051)
    assert overlaps(figure) == []
    pixels(figure)


def test_dots_stand_where_q_is_small(layered):
    scores = layered(layers=3, seeds=0)
    figure = matrix(scores, numbers=False)
    dots = np.concatenate([line.get_xydata() for line in figure.axes[0].lines if line.get_marker() == "o"])
    expected = np.argwhere(scores.q.values[0] < 0.05)[:, ::-1]
    assert sorted(map(tuple, dots.astype(int))) == sorted(map(tuple, expected))


def test_twins_are_averaged_over_seeds(layered):
    scores = layered(layers=2, seeds=4, flat=False)
    values = matrix(scores).axes[0].images[0].get_array()
    twins = scores.score.values[0, 4:].reshape(4, 2, 2).mean(0)
    np.testing.assert_allclose(values[-2:], twins)
    assert len(values) == 6


def test_zero_is_white_where_scores_are_negative(layered):
    scores = layered()
    assert matrix(scores).axes[0].images[0].norm.vmin == 0
    scores["score"] = scores["score"] - 0.3
    norm = matrix(scores).axes[0].images[0].norm
    assert norm(0) == pytest.approx(0.5) and norm.vmin == pytest.approx(-norm.vmax)


def test_missing_scores_are_said(layered):
    scores = layered(seeds=0)
    scores["score"][0, 0, 0] = np.nan
    axis = matrix(scores).axes[0]
    assert axis.images[0].get_array().mask[0, 0]
    assert axis.texts[0].get_text() == "–"


@pytest.mark.parametrize("layers,targets", [(2, 2), (20, 8), (40, 4)])
def test_no_words_overlap(layered, overlaps, layers, targets):
    names = [f"a long region {k}" for k in range(targets)]
    scores = layered(layers, names, models=("a-rather-long-model-name", "text"))
    assert overlaps(matrix(scores, title="A title")) == []


def test_spaces_against_spaces(pixels):
    names = ["m:a:all", "m:b:all"]
    scores = scores_.make({"score": (("metric", "space", "space_b"), [[[1.0, 0.4], [0.4, 1.0]]])},
                          {"metric": ["cka.debiased"], "space": names, "space_b": names})
    figure = matrix(scores)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[1, 0.4], [0.4, 1]])
    pixels(figure)
