"""Scores along time: curves, significant spans, layer by time."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from neuroalign.alignment import lag_scores
from neuroalign.data import make_features, make_responses
from neuroalign.data import scores as scores_
from neuroalign.plots import layer_profile, layer_time, time_course
from neuroalign.plots.style import PALETTE
from neuroalign.reports import default_pictures

TIME = np.round(np.arange(-0.2, 0.61, 0.05), 3)


@pytest.fixture
def timed():
    def make(layers=3, units=("e1", "e2"), models=("net",)):
        rows = [(m, f"b.{k}", k / max(layers - 1, 1)) for m in models for k in range(layers)]
        peak = np.array([0.1 + 0.2 * d for _, _, d in rows])
        score = 0.3 * np.exp(-((TIME[None, None] - peak[:, None, None]) ** 2) / 0.01)
        score = np.broadcast_to(score, (len(rows), len(units), TIME.size))[None] * np.ones((1, len(rows), 1, 1))
        dims = ("metric", "space", "neuroid", "time_bin")
        variables = {"score": (dims, score), "q": (dims, np.where(score > 0.15, 0.01, 0.5)),
                     "ci_low": (dims, score - 0.02), "ci_high": (dims, score + 0.02)}
        coords = {"metric": ["r.pooled"], "space": [f"{m}:{b}:all" for m, b, _ in rows], "neuroid": list(units),
                  "time_bin": TIME, "model": ("space", [m for m, _, _ in rows]),
                  "layer": ("space", [b for _, b, _ in rows]), "depth": ("space", [d for _, _, d in rows])}
        return scores_.make(variables, coords)

    return make


def test_curves_hold_the_scores(timed, pixels, overlaps):
    scores = timed()
    figure = time_course(scores, title="A title")
    for axis, unit in zip(figure.axes, ("e1", "e2")):
        curves = [line for line in axis.lines if len(line.get_xdata()) == TIME.size]
        np.testing.assert_allclose([c.get_ydata() for c in curves], scores.score.sel(neuroid=unit).values[0])
        np.testing.assert_allclose(curves[0].get_xdata(), TIME)
    assert figure.axes[0].get_xlabel() == "time from the event (s)"
    assert overlaps(figure) == []
    pixels(figure)


def test_spans_cover_exactly_the_significant_bins(timed):
    scores = timed()
    axis = time_course(scores).axes[0]
    bars = {to_hex(line.get_color()): line.get_xdata() for line in axis.lines if line.get_linewidth() == 3}
    for k, color in enumerate(PALETTE[:3]):
        small = scores.q.values[0, k, 0] < 0.05
        np.testing.assert_allclose(bars[color.lower()], [TIME[small][0] - 0.025, TIME[small][-1] + 0.025])
    assert axis.get_ylim()[0] < min(line.get_ydata()[0] for line in axis.lines if line.get_linewidth() == 3)


def test_clusters_are_marked_by_their_p(timed):
    scores = timed().rename(q="p")
    plain = time_course(scores)
    assert not any(line.get_linewidth() == 3 for line in plain.axes[0].lines)  # p of single bins marks nothing
    figure = time_course(scores.assign_attrs(analysis='"cluster_scores"'))
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 3]
    assert len(bars) == scores.sizes["space"] and "clusters with p < 0.05, corrected" in figure.caption
    assert "clusters, p < 0.05" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_twins_are_grey(timed):
    figure = time_course(timed(1, models=("net", "net@random")))
    colors = [to_hex(h.get_color()) for h in figure.legends[0].get_lines()[:2]]
    assert colors == [PALETTE[0].lower(), "#6f757f"]


@pytest.mark.parametrize("layers,units", [(2, 1), (20, 6), (40, 2)])
def test_layer_time_holds_the_scores(timed, pixels, overlaps, layers, units):
    scores = timed(layers, [f"e{k}" for k in range(units)])
    figure = layer_time(scores)
    meshes = [c for a in figure.axes for c in a.collections if hasattr(c, "get_array") and c.get_array() is not None]
    np.testing.assert_allclose(meshes[0].get_array(), scores.score.values[0, :, 0])
    assert figure.axes[0].get_yticklabels()[0].get_text() == "b.0"
    assert overlaps(figure) == []
    pixels(figure)


def test_the_outline_surrounds_significant_cells(timed):
    scores = timed(2, ["e1"])
    axis = layer_time(scores).axes[0]
    small = scores.q.values[0, :, 0] < 0.05
    padded = np.pad(small, 1).astype(int)
    sides = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    assert len([line for line in axis.lines if line.get_linewidth() == 1.1]) == sides


def test_time_is_needed_or_refused_in_words(timed, layered):
    with pytest.raises(ValueError, match="no dim 'time_bin', this figure draws time"):
        time_course(layered())
    with pytest.raises(ValueError, match=r"17 time bins, this figure draws one.*sel\(time_bin="):
        layer_profile(timed())
    with pytest.raises(ValueError, match=r"9 spaces, expected at most 7.*layer_time"):
        time_course(timed(9))
    with pytest.raises(ValueError, match="model: got 'nett', expected one of 'net'"):
        layer_time(timed(), model="nett")


def test_delays_are_drawn_as_time_and_not_as_depth(overlaps):
    rng, clock = np.random.default_rng(0), np.arange(120) * 0.5
    spaces = [make_features(rng.standard_normal((120, 2)), clock, model="net", layer=f"b.{k}", depth=float(k),
                            dim="time") for k in range(2)]
    responses = make_responses(np.roll(spaces[0].values, 2, 0), clock, ["a", "b"], dim="time", kind="eeg")
    lags = lag_scores(spaces, responses, tmin=0.0, tmax=2.0, metric="r.pooled")
    figure = time_course(lags)
    assert figure.axes[0].get_xlabel() == "delay of the response (s)" and overlaps(figure) == []
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 5]
    for k, curve in enumerate(curves):
        own = lags.sel(neuroid="a").isel(metric=0, space=[s.startswith(f"net:b.{k}:") for s in lags.space.values])
        np.testing.assert_allclose(curve.get_xydata(), np.stack([own.delay, own.score], 1))
    assert len(curves) == 2 and curves[0].get_xdata()[curves[0].get_ydata().argmax()] == 1.0
    assert layer_time(lags).axes[0].get_yticklabels()[1].get_text() == "b.1"
    with pytest.raises(ValueError, match=r"delay of the response \(lag_scores\), which is no depth.*time_course"):
        layer_profile(lags)


def test_reports_choose_the_figures_of_time(timed):
    few, many = default_pictures(timed(3)), default_pictures(timed(6))
    assert few[0].figure.alt.startswith("Curves") and many[0].figure.alt.startswith("Heat maps of layer by time")
