"""Scatter and forest plot; labels."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from neuroalign.data import scores as scores_
from neuroalign.plots import difference, scatter
from neuroalign.plots.select import format_p, metric_label, shorten, space_label, spaces_table


def test_scatter_says_the_rank_correlation(pixels, overlaps):
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    y = x**3 + rng.normal(size=100)
    y[3] = np.nan
    figure = scatter(x, y, xlabel="human rating", ylabel="cosine", ids=[f"w{k}" for k in range(100)], name_extremes=5)
    known = np.isfinite(y)
    expected = spearmanr(x[known], y[known]).statistic
    said = figure.axes[0].texts[0].get_text()
    assert said == f"ρ = {expected:.2f}   n = 99   (1 without a value)"
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), y[known])
    assert len(figure.axes[0].texts) == 6
    assert overlaps(figure) == []
    pixels(figure)
    with pytest.raises(ValueError, match="x has 100 values and y has 99"):
        scatter(x, y[:99], xlabel="a", ylabel="b")


def test_difference_fills_only_intervals_without_zero(pixels, overlaps):
    low, high = np.array([[[0.02, -0.05, -0.3]]]), np.array([[[0.2, 0.15, -0.1]]])
    dims = ("metric", "space", "target")
    diffs = scores_.make({"score": (dims, (low + high) / 2), "ci_low": (dims, low), "ci_high": (dims, high)},
                         {"metric": ["rsa.spearman"], "space": ["net:b.1:all - text:b.2:all"],
                          "target": ["IT", "EVC", "behaviour"]}, {"interval": "paired bootstrap, 95%"})
    figure = difference(diffs)
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [m.get_markerfacecolor() != "white" for m in marks] == [True, False, True]
    ends = [tuple(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() == "None"][1:]
    np.testing.assert_allclose(ends, np.stack([low, high], -1)[0, 0])
    assert figure.axes[0].get_title(loc="left") == "net · b.1\n− text · b.2"
    assert "2 of 3" in figure.caption and "paired bootstrap" in figure.caption
    assert overlaps(figure) == []
    pixels(figure)


def test_difference_without_intervals_claims_nothing():
    dims = ("metric", "space", "target")
    nan = np.full((1, 1, 1), np.nan)
    diffs = scores_.make({"score": (dims, nan + 0), "ci_low": (dims, nan), "ci_high": (dims, nan)},
                         {"metric": ["rsa.spearman"], "space": ["a - b"], "target": ["IT"]})
    diffs["score"][:] = 0.4
    marks = [line for line in difference(diffs).axes[0].lines if line.get_marker() == "o"]
    assert [m.get_markerfacecolor() for m in marks] == ["white"]


def test_spaces_are_parsed_without_coords():
    scores = scores_.make({"score": (("metric", "space", "target"), np.zeros((1, 3, 1)))},
                          {"metric": ["m"], "space": ["org/net@random.12:h.3:all", "net@random:h.3:all", "plain"],
                           "target": ["t"]})
    table = spaces_table(scores)
    assert table["base"].tolist() == ["org/net", "net", "plain"]
    assert table["seed"].tolist() == [12, 0, -1]
    assert table["twin"].tolist() == [True, True, False]


def test_words():
    assert format_p(0.0123) == "q = 0.012" and format_p(1e-5, "p") == "p < 0.001" and format_p(np.nan) == ""
    assert len(shorten("x" * 100, 30)) == 30
    assert space_label("a:b:word") == "a · b · word" and space_label("tf-idf::all") == "tf-idf"


def test_every_metric_has_its_own_label():
    from neuroalign.alignment import METRICS

    labels = [metric_label(name) for name in METRICS]
    assert len(set(labels)) == len(labels) and not set(labels) & set(METRICS)


def test_plain_scores_are_not_drawn_as_differences():
    plain = scores_.make({"score": (("metric", "space", "target"), np.ones((1, 1, 1)))},
                         {"metric": ["rsa.spearman"], "space": ["m:l:all"], "target": ["IT"]})
    with pytest.raises(ValueError, match=r"'m:l:all' are no differences.*scores\.diff"):
        difference(plain)
