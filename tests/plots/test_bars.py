"""Bars: heights, baseline, ceiling, null, q and subjects."""

import numpy as np
import pytest

from neuroalign.data import scores as scores_
from neuroalign.plots import bars

REGIONS = ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]


@pytest.fixture
def regions():
    score = np.array([0.41, 0.31, 0.49, 0.49, 0.50, 0.41])[None, None]
    dims = ("metric", "space", "neuroid")
    return scores_.make(
        {"score": (dims, score), "baseline": (("metric", "neuroid"), score[0] - 0.1), "ceiling": (dims, score + 0.4),
         "q": (dims, np.array([[[0.008, 0.008, 0.0004, 0.1, 0.08, 0.008]]])), "null_mean": (dims, score - 0.15),
         "null_sd": (dims, score * 0 + 0.03)},
        {"metric": ["r.pooled"], "space": ["lm:surprisal:word"], "neuroid": REGIONS, "region": ("neuroid", REGIONS)})


def test_everything_is_drawn_at_its_value(regions, pixels, overlaps):
    figure = bars(regions)
    axis = figure.axes[0]
    np.testing.assert_allclose([p.get_height() for p in axis.patches], regions.score.values.ravel())
    heights = {round(float(y), 4) for c in axis.collections for path in c.get_paths() for y in path.vertices[:, 1]}
    for name in ("baseline", "ceiling"):
        assert {round(float(v), 4) for v in regions[name].values.ravel()} <= heights
    null = regions.null_mean - regions.null_sd
    assert {round(float(v), 4) for v in null.values.ravel()} <= heights
    assert [t.get_text() for t in axis.texts] == ["q = 0.008", "q = 0.008", "q < 0.001", "q = 0.100", "q = 0.080",
                                                  "q = 0.008"]
    assert [t.get_text() for t in axis.get_xticklabels()] == REGIONS
    assert overlaps(figure) == []
    pixels(figure)


def test_bars_that_are_not_significant_are_pale(regions):
    alpha = [p.get_alpha() for p in bars(regions).axes[0].patches]
    assert [a < 0.5 for a in alpha] == [False, False, False, True, True, False]


def test_nothing_is_drawn_that_the_scores_do_not_hold(regions):
    labels = [t.get_text() for t in bars(regions[["score"]]).legends[0].get_texts()]
    assert labels == ["lm"]


def test_subjects_are_points(regions):
    each = regions.score.values[None] + np.linspace(-0.1, 0.1, 4)[:, None, None, None]
    scores = regions.assign(subject_score=(("subject", *regions.score.dims), each))
    figure = bars(scores)
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points[2].get_ydata(), each[:, 0, 0, 2])
    assert "single subjects" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_units_of_subjects_become_points_by_region():
    rng = np.random.default_rng(0)
    score = rng.uniform(0, 0.4, (1, 1, 40))
    subject, region = np.repeat(["s1", "s2"], 20), np.tile(["A", "B"], 20)
    scores = scores_.make({"score": (("metric", "space", "neuroid"), score)},
                          {"metric": ["r.pooled"], "space": ["m:l:all"], "neuroid": [f"e{i}" for i in range(40)],
                           "subject": ("neuroid", subject), "region": ("neuroid", region)})
    axis = bars(scores, by="region").axes[0]
    np.testing.assert_allclose(sorted(p.get_height() for p in axis.patches),
                               sorted(score[0, 0, region == r].mean() for r in "AB"))
    drawn = sorted(y for line in axis.lines if line.get_marker() == "o" for y in line.get_ydata())
    expected = sorted(score[0, 0, (region == r) & (subject == s)].mean() for r in "AB" for s in ("s1", "s2"))
    np.testing.assert_allclose(drawn, expected)


@pytest.mark.parametrize("n_targets,n_spaces", [(1, 1), (8, 1), (8, 4), (20, 2)])
def test_no_words_overlap(layered, overlaps, n_targets, n_spaces):
    scores = layered(n_spaces, [f"region {k}" for k in range(n_targets)], models=("net",), seeds=0, flat=False)
    assert overlaps(bars(scores, title="A title")) == []


def test_too_many_bars_say_what_to_draw_instead(layered):
    with pytest.raises(ValueError, match="21 spaces, expected at most 8.*matrix"):
        bars(layered())
    with pytest.raises(ValueError, match=r"spaces: no 'nett:input:all'.*Did you mean 'net:input:all'"):
        bars(layered(), spaces=["nett:input:all"])
    with pytest.raises(ValueError, match="30 targets, expected at most 24"):
        bars(layered(targets=[f"t{k}" for k in range(30)]), spaces=["net:input:all"],
             targets=[f"t{k}" for k in range(30)])
