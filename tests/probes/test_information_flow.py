"""Information flow: equal to whole forwards, and the planted route is found and no other."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from neuroalign.data import StimulusSet, scores
from neuroalign.models import BadStimuli, load_model
from neuroalign.probes.answers import answer_tokens
from neuroalign.probes.information_flow import information_flow, window_around
from neuroalign.probes.knockout import knockout

sys.path += [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "models")]
import routes
import tiny
import tiny_multimodal

EDGES = ["shown->question", "question->last", "shown->last", "shown->between", "between->last", "between->question"]


def whole_forwards(model, stimuli, edge, layers, places, tokens):
    """Log-probabilities by forwards of the whole model, each by itself."""
    cut, found = knockout(model, stimuli, edge, layers=layers), []
    for i, (stimulus, text) in enumerate(zip(stimuli.ids, stimuli.table["text"])):
        row = {"stimulus_id": stimulus, "text": text}
        if "image" in stimuli.table and "image" in model.adapter.modalities:
            row["image"] = stimuli.table.loc[stimulus, "image"]
        with torch.inference_mode():
            raw = cut.adapter.forward(model, cut.adapter.prepare(model, [row]))
        found.append(raw.logits[0, places[i]].log_softmax(-1)[tokens[i]].item())
    return np.array(found)


def test_the_planted_route_is_found_and_no_other(courier):
    model, stimuli = courier
    flow = information_flow(model, stimuli, EDGES, window=1, answer="answer", n_bootstraps=200)
    scores.validate(flow)
    change = flow.score.sel(metric="flow.relative", target="answer").values.reshape(len(EDGES), 4)
    planted = np.zeros(change.shape, bool)
    planted[0, 1] = planted[1, 2] = True  # shown -> question in block 1, question -> last in block 2
    assert (change[planted] < -50).all(), change
    assert (np.abs(change[~planted]) < 2).all(), change
    logp = flow.score.sel(metric="flow.logp", target="answer").values.reshape(change.shape)
    assert (logp[planted] < -0.7).all() and (np.abs(logp[~planted]) < 0.05).all()
    inside = (flow.ci_low <= flow.score) & (flow.score <= flow.ci_high)
    assert inside.all() and (flow.ci_high.sel(metric="flow.relative").values < -20).sum() == 2
    about = scores.attrs_of(flow)
    assert about["share_correct"] == 1.0 and flow.n.item() == 8
    wide = information_flow(model, stimuli, EDGES[:1], window=3, n_bootstraps=0).score.values[0, :, 0]
    assert (wide[:3] < -50).all() and abs(wide[3]) < 2  # windows around 0, 1 and 2 hold block 1


def test_replayed_windows_equal_whole_forwards(courier):
    model, stimuli = courier
    flow = information_flow(model, stimuli, ["shown->question", "question->last"], window=2, n_bootstraps=0)
    logits = [model.adapter.forward(model, model.adapter.prepare(model, [{"stimulus_id": i, "text": t}])).logits[0, -1]
              for i, t in zip(stimuli.ids, stimuli.table["text"])]
    tokens = [int(x.argmax()) for x in logits]
    base = np.array([x.log_softmax(-1).max().item() for x in logits])
    for edge in ("shown->question", "question->last"):
        for centre in range(4):
            layers = window_around(centre, 2, 4)
            reference = whole_forwards(model, stimuli, edge, (layers.start, layers.stop), [-1] * 8, tokens)
            got = flow.score.sel(metric="flow.logp").sel(
                space=f"{model.id}:model.layers.{centre}:{edge}").item()
            assert got == pytest.approx((reference - base).mean(), abs=1e-5)
            relative = flow.score.sel(metric="flow.relative").sel(
                space=f"{model.id}:model.layers.{centre}:{edge}").item()
            assert relative == pytest.approx(100 * np.mean(np.exp(reference - base) - 1), abs=1e-3)


def test_only_right_answers_count(courier):
    model, stimuli = courier
    table = stimuli.table.assign(answer=["red", *["Green"] * 7])
    flow = information_flow(model, StimulusSet(table, "half"), "shown->last", answer="answer", n_bootstraps=0)
    about = scores.attrs_of(flow)
    assert (about["n_stimuli"], about["n_answered_correctly"], flow.n.item()) == (8, 2, 2)
    with pytest.raises(BadStimuli, match="none of them is answered correctly"):
        information_flow(model, StimulusSet(stimuli.table.assign(answer="hm"), "none"), "shown->last", answer="answer")
    with pytest.raises(ValueError, match="no column 'anwer'.*Did you mean 'answer'"):
        information_flow(model, stimuli, "shown->last", answer="anwer")
    with pytest.raises(ValueError, match="window of at least 1 and layers from 0 to 3"):
        information_flow(model, stimuli, "shown->last", layers=[4])
    with pytest.raises(BadStimuli, match="'last->shown': the mask"):
        information_flow(model, stimuli, "last->shown")
    assert answer_tokens(model, "Red")["lower"] == [routes.WORDS.index("red")]


def test_windows_are_those_of_the_paper():
    windows = [list(window_around(centre, 9, 24)) for centre in range(24)]
    assert windows[0] == [0, 1, 2, 3, 4] and windows[12] == list(range(8, 17)) and windows[23] == list(range(19, 24))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["llava", "mllama", "qwen2_vl", "blip", "git", "whisper", "paligemma", "gpt2",
                                        "opt", "blip-2", "internvl"])  # fmt: skip
def test_flow_of_each_family_equals_whole_forwards(tmp_path, model_type):
    from scipy.io import wavfile

    from neuroalign.models.vocabulary import vocabulary_head
    from neuroalign.probes.edges import Reader, parse_edges

    folder = tmp_path / model_type
    folder.mkdir()
    model = load_model(str((tiny_multimodal if model_type in tiny_multimodal.TYPES else tiny).build(
        model_type, folder)), device="cpu")
    wavfile.write(tmp_path / "a.wav", 16000, np.random.default_rng(0).integers(-9000, 9000, 9000).astype(np.int16))
    pictures = tiny.photographs(tmp_path, 2)
    stimuli = StimulusSet(pd.DataFrame({
        "stimulus_id": ["a", "b"], "image": [p["image"] for p in pictures], "audio": str(tmp_path / "a.wav"),
        "text": ["The quick brown fox, who is it", "A man? no"], "question": ["quick brown", "A man"],
    }).set_index("stimulus_id"), "pairs")
    cross = {"whisper", "mllama", "blip"}
    edges = ["question->last", *([] if model_type in ("gpt2", "opt") else
                                 ["encoder->text"] if model_type in cross else ["image->text"])]
    flow = information_flow(model, stimuli, edges, window=2, n_bootstraps=0)
    head, reader = vocabulary_head(model), Reader(model, stimuli, parse_edges(edges))
    values = {}
    for layers in (None, *((w.start, w.stop) for w in (window_around(c, 2, 3) for c in range(3)))):
        for edge in edges:
            try:
                cut = knockout(model, stimuli, edge if layers else [], layers=layers)
                for i, row in enumerate(reader.rows()):
                    caught = []
                    handle = model.module.get_submodule(f"{head.stack}.2").register_forward_hook(
                        lambda m, a, out, caught=caught: caught.append(out[0] if isinstance(out, tuple) else out))
                    with torch.inference_mode():
                        inputs = reader.prepare([row])
                        cut.adapter.forward(model, cut.adapter.prepare(model, [row]))
                    handle.remove()
                    place = inputs.streams[head.tower]["last"].int().argmax(1)[0]
                    values[layers, edge, i] = head.logits(caught[-1][0, place]).log_softmax(-1)
            except ValueError as error:
                assert "in none of these blocks" in str(error)
    for edge in edges:
        for centre in range(3):
            layers = window_around(centre, 2, 3)
            got = flow.score.sel(metric="flow.logp").sel(space=f"{model.id}:{head.stack}.{centre}:{edge}").item()
            key = (layers.start, layers.stop)
            if (key, edge, 0) not in values:
                assert np.isnan(got)
                continue
            token = [int(values[None, edge, i].argmax()) for i in range(2)]
            expected = np.mean([values[key, edge, i][token[i]].item() - values[None, edge, i][token[i]].item()
                                for i in range(2)])
            assert got == pytest.approx(expected, abs=2e-5)
