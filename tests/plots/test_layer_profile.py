"""Depth profiles: lines hold the scores, bands the intervals, twins their range."""

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_hex

from neuroalign.plots import layer_profile
from neuroalign.plots.style import PALETTE


def line_of(axis, color):
    return next(line for line in axis.lines if len(line.get_xdata()) > 2 and line.get_linestyle() == "-"
                and to_hex(line.get_color()) == color.lower())


def test_lines_hold_the_scores(layered, pixels):
    scores = layered()
    figure = layer_profile(scores)
    assert [a.get_title(loc="left") for a in figure.axes] == ["IT", "EVC"]
    for axis, target in zip(figure.axes, ("IT", "EVC")):
        for model, color in zip(("net", "text"), PALETTE):
            own = scores.sel(space=[s for s in scores.space.values if s.startswith(f"{model}:")], target=target)
            line = line_of(axis, color)
            np.testing.assert_allclose(line.get_xdata(), own.depth)
            np.testing.assert_allclose(line.get_ydata(), own.score.values[0])
    assert figure.axes[0].get_ylabel() == "RSA, Spearman ρ"
    pixels(figure)


def test_the_lens_says_that_it_reads_the_token_that_the_model_predicts(layered):
    for metric, label in (("lens.p.predicted", "p(predicted token)"), ("lens.rank", "rank of the predicted token")):
        figure = layer_profile(layered().assign_coords(metric=[metric]))
        assert figure.axes[0].get_ylabel() == f"{label}, read off this layer"


def test_significant_layers_are_filled(layered):
    scores = layered(models=("net",), seeds=0, flat=False)
    axis = layer_profile(scores).axes[0]
    marks = [line for line in axis.lines if line.get_linestyle() == "None"]
    filled = next(m for m in marks if m.get_markerfacecolor() != "white")
    q, score = scores.q.values[0, :, 0], scores.score.values[0, :, 0]
    np.testing.assert_allclose(np.sort(filled.get_ydata()), np.sort(score[q < 0.05]))
    assert len(marks[0].get_ydata()) + len(marks[1].get_ydata()) == 4


def test_twins_are_drawn_as_their_range(layered):
    scores = layered(models=("net",), seeds=5, flat=False).drop_vars(["ci_low", "ci_high"])
    figure = layer_profile(scores, targets=["IT"])
    band = next(c for c in figure.axes[0].collections if isinstance(c, FillBetweenPolyCollection))
    twins = [s for s in scores.space.values if "@random" in s]
    values = scores.score.sel(space=twins, target="IT").values.reshape(5, 4)
    drawn = band.get_paths()[0].vertices
    for k, depth in enumerate(np.linspace(0, 1, 4)):
        at = drawn[np.isclose(drawn[:, 0], depth), 1]
        np.testing.assert_allclose([at.min(), at.max()], [values[:, k].min(), values[:, k].max()])
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "net, random weights (5 seeds)" in labels


def test_ceiling_is_drawn_only_where_it_is_known(layered):
    labels = [t.get_text() for t in layer_profile(layered()).legends[0].get_texts()]
    assert not any("ceiling" in label for label in labels)
    unknown = layer_profile(layered(ceiling=np.nan))
    assert not any("ceiling" in t.get_text() for t in unknown.legends[0].get_texts())
    known = layer_profile(layered(ceiling=0.6, ceiling_lower=0.5))
    assert any("noise ceiling" in t.get_text() for t in known.legends[0].get_texts())
    spans = [p.get_window_extent() for p in known.axes[0].patches]
    low, high = (known.axes[0].transData.inverted().transform((0, y))[1] for y in (spans[0].y0, spans[0].y1))
    np.testing.assert_allclose([low, high], [0.5, 0.6], atol=1e-6)


@pytest.mark.parametrize("layers,targets", [(2, 1), (2, 6), (20, 8), (40, 3)])
def test_no_words_overlap(layered, overlaps, layers, targets):
    scores = layered(layers, [f"a region {k}" for k in range(targets)], ceiling=0.6, ceiling_lower=0.5,
                     null_mean=0.0, null_sd=0.03)
    assert overlaps(layer_profile(scores, title="A title")) == []


def test_many_units_are_averaged_by_region(layered):
    names = [f"v{k}" for k in range(30)]
    scores = layered(targets=names, dim="neuroid").assign_coords(region=("neuroid", ["a", "b", "c"] * 10))
    figure = layer_profile(scores)
    assert [a.get_title(loc="left") for a in figure.axes] == ["a", "b", "c"]
    line = line_of(figure.axes[1], PALETTE[0])
    own = scores.score.sel(space=[s for s in scores.space.values if s.startswith("net:")])
    np.testing.assert_allclose(line.get_ydata(), own.values[0, :, 1::3].mean(1))
    assert "30" in figure.caption


def test_bad_names_are_explained(layered):
    with pytest.raises(ValueError, match=r"targets: no 'ITT'.*'IT'"):
        layer_profile(layered(), targets=["ITT"])
    with pytest.raises(ValueError, match=r"metric: got 'rsa.speerman', expected one of 'rsa.spearman'"):
        layer_profile(layered(), "rsa.speerman")
    with pytest.raises(ValueError, match="by: got 'lobe', expected a coord of the units"):
        layer_profile(layered(), by="lobe")


def test_settings_of_the_user_are_left_alone(layered):
    import matplotlib as mpl

    before = mpl.rcParams.copy()
    layer_profile(layered())
    assert mpl.rcParams == before
