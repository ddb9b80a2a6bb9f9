"""Figures of interventions: what is drawn is what the Scores hold."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.data import scores


def flow(analysis="information_flow", model="vlm", answered=True):
    rng = np.random.default_rng(0)
    edges, blocks = ["image->question", "question->last"], 6
    value = -np.abs(rng.normal(20, 10, (2, 12, 1)))
    layers = [f"lm.layers.{i}" for i in range(blocks)] * 2
    stream = [e for e in edges for _ in range(blocks)]
    known = {"share_correct": 0.8, "n_answered_correctly": 7} if answered else {}
    about = {"analysis": analysis, "window": 3, "how": "suffix", "value": "mean", "n_stimuli": 9, **known,
             "interval": "95% percentile interval over 100 resamples of stimuli", "untrained": "random" in model}
    dims = ("metric", "space", "target")
    return scores.make({"score": (dims, value), "ci_low": (dims, value - 3), "ci_high": (dims, value + 3),
                        "n": (("target",), [7])},
                       {"metric": ["flow.relative", "flow.logp"], "target": ["answer"],
                        "space": [f"{model}:{x}:{s}" for x, s in zip(layers, stream)], "model": ("space", [model] * 12),
                        "layer": ("space", layers), "stream": ("space", stream)}, about)


def effects(n_sites=8, kinds=("intact", "change", "control", "effect")):
    rng = np.random.default_rng(1)
    shape, dims = (len(kinds), 2, n_sites), ("metric", "space", "neuroid")
    value = rng.normal(size=shape)
    q = rng.uniform(size=shape)
    coords = {"metric": [f"r.pooled.{k}" for k in kinds], "space": ["a:l.1:text", "b:l.1:text"],
              "neuroid": [f"e{i}" for i in range(n_sites)], "edge": ("space", ["image->text"] * 2),
              "window": ("space", ["block 1", "blocks 2-3"]), "layer": ("space", ["l.1"] * 2),
              "stream": ("space", ["text"] * 2), "model": ("space", ["vlm"] * 2)}
    return scores.make({"score": (dims, value), "ci_low": (dims, value - 1), "ci_high": (dims, value + 1),
                        "q": (dims, q)}, coords, {"analysis": "interventional_encoding", "n_controls": 2,
                                                  "attention_mass_of_controls": {"x": [0.9, 1.1]}})


def test_curves_show_each_edge_over_blocks():
    data = flow()
    figure = na.plot.knockout_curves(data)
    (axis,) = figure.axes
    lines = [line for line in axis.lines if len(line.get_xdata()) == 6]
    for line, edge in zip(lines, ("image->question", "question->last")):
        drawn = data.score.sel(metric="flow.relative", target="answer").values[data.stream.values == edge]
        np.testing.assert_allclose(line.get_ydata(), drawn)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(6))
    assert "7 of 9 were answered correctly" in figure.caption and "mean over 7 stimuli" in figure.caption
    assert axis.get_xlabel() == "block in the middle of a window of 3"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["image → question", "question → last", "interval"]
    assert "replaced from this block on" in na.plot.knockout_curves(flow("ablation")).axes[0].get_xlabel()
    assert "untrained: machinery only" not in (figure.get_suptitle() + figure.caption)
    twin = na.plot.knockout_curves(flow(model="vlm@random"))
    assert "untrained: machinery only" in twin.get_suptitle()


@pytest.mark.parametrize("metric, label, quantity", [
    ("flow.relative", "change of p(predicted token) (%)", "Change of the probability"),
    ("flow.logp", "change of log p(predicted token) (nats)", "Change of the log probability"),
])
def test_what_is_drawn_is_named(metric, label, quantity):
    figure = na.plot.knockout_curves(flow(answered=False), metric)
    assert figure.axes[0].get_ylabel() == label
    for said in (figure.caption, figure.alt):
        assert said.startswith(f"{quantity} of the token that the model predicts") and "answer" not in said
    known = na.plot.knockout_curves(flow("ablation"), metric)
    assert known.caption.startswith(f"{quantity} of the first token of the answer when a span is replaced by its mean;")


def test_a_lens_says_which_stimuli_it_read():
    shape = (("metric", "space", "target"), np.ones((1, 3, 1)))
    spaces = {"metric": ["lens.entropy"], "space": [f"vlm:l.{k}:last" for k in range(3)], "target": ["answer"],
              "depth": ("space", [0, 0.5, 1])}
    for share, title in ((None, "all stimuli"), (0.5, "stimuli answered correctly")):
        lens = scores.make({"score": shape}, spaces, {"analysis": "logit_lens", "share_correct": share})
        figure = na.plot.layer_profile(lens)
        assert figure.axes[0].get_title(loc="left") == title and title in figure.alt
        assert figure.axes[0].get_ylabel() == "entropy, read off this layer (bits)"


def test_sites_show_the_difference_from_the_control():
    data = effects()
    figure = na.plot.site_effects(data)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left").splitlines()[0] for axis in shown] == ["image → text, block 1",
                                                                            "image → text, blocks 2-3"]
    drawn = data.sel(metric="r.pooled.effect")
    order = np.argsort(drawn.score.values[0])
    for i, axis in enumerate(shown):
        markers = [line for line in axis.lines if line.get_marker() == "o"]
        points = sorted((x, y) for line in markers for x, y in zip(line.get_xdata(), line.get_ydata()))
        np.testing.assert_allclose([y for _, y in points], drawn.score.values[i][order])
        assert len(markers[0].get_xdata()) == (drawn.q.values[i] < 0.05).sum()
    assert "carry 0.90 to 1.10 times its attention" in figure.caption
    assert "cut minus random reads" in shown[0].get_ylabel()
    assert na.plot.site_effects(effects(60)).axes[0].get_xlabel().startswith("60 sites")


def test_other_scores_are_refused():
    with pytest.raises(ValueError, match="not of neuroalign.probes.information_flow"):
        na.plot.knockout_curves(effects())
    with pytest.raises(ValueError, match="not of neuroalign.probes.interventional_encoding"):
        na.plot.site_effects(flow())
    with pytest.raises(ValueError, match="kind: got 'r.pooled.effect.irrelevant'"):
        na.plot.site_effects(effects(), kind="effect.irrelevant")


def test_a_report_draws_them(tmp_path):
    from neuroalign.reports.pictures import default_pictures

    for data, words in ((flow(), "when a read is blocked"), (effects(), "Cut minus random reads")):
        (picture,) = default_pictures(data)
        assert words in picture.figure.caption
    bare = effects()
    bare["score"].loc[{"metric": "r.pooled.effect"}] = np.nan
    assert "Cut minus whole model" in default_pictures(bare)[0].figure.caption
