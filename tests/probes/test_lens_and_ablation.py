"""Logit lens and ablation: checked against whole forwards, and on the planted route."""

import numpy as np
import pytest
import torch

from neuroalign.data import scores
from neuroalign.probes.ablation import ablation
from neuroalign.probes.logit_lens import logit_lens


def test_the_lens_reads_what_the_hidden_states_say(courier):
    model, stimuli = courier
    rows = [{"stimulus_id": i, "text": t} for i, t in zip(stimuli.ids, stimuli.table["text"])]
    inputs = model.adapter.prepare(model, rows)
    with torch.inference_mode():
        raw = model.module(**inputs.tensors, output_hidden_states=True, use_cache=False)
        probability = raw.logits[:, -1].softmax(-1)
        token = probability.argmax(-1)
        for norm in (True, False):
            lens = logit_lens(model, stimuli, norm=norm, answer="answer").score.sel(target="answer")
            for layer in range(4):  # the last state of transformers is normed already
                state = raw.hidden_states[layer][:, -1]
                p = model.module.lm_head(model.module.model.norm(state) if norm else state).softmax(-1)
                expected = p[range(8), token].mean().item()
                got = lens.sel(metric="lens.p.predicted").values[layer]
                assert got == pytest.approx(expected, abs=1e-5)
                entropy = -(p * p.log2()).sum(1).mean().item()
                assert lens.sel(metric="lens.entropy").values[layer] == pytest.approx(entropy, abs=1e-4)
                rank = (p > p[range(8), token][:, None]).sum(1).double().mean().item()
                assert lens.sel(metric="lens.rank").values[layer] == rank
    lens = logit_lens(model, stimuli, answer="answer").score.sel(target="answer")
    whole = probability.max(-1)[0].mean().item()
    assert lens.sel(metric="lens.p.predicted").values[-1] == pytest.approx(whole, abs=1e-5)
    lower = lens.sel(metric="lens.p.lower").values
    np.testing.assert_allclose(lower, lens.sel(metric="lens.p.predicted").values, atol=1e-6)  # answers are lower case
    assert (lower[:3] < 0.4).all() and (lower[3:] > 0.8).all()  # it reaches the last token in block 2


def test_what_the_span_said_has_left_it(courier):
    model, stimuli = courier
    gone = ablation(model, stimuli, ["shown", "question", "between"], answer="answer", n_bootstraps=100)
    change = gone.score.sel(metric="flow.relative", target="answer").values.reshape(3, 4)
    # block 1 reads the colour, block 2 the question: replaced from block 2 (3) on, the span is not missed
    assert (change[0, :2] < -50).all() and (np.abs(change[0, 2:]) < 5).all()
    assert change[1, 2] < -50 and abs(change[1, 3]) < 5
    assert (np.abs(change[2]) < 5).all()
    assert scores.attrs_of(gone)["how"] == "suffix"


def test_a_window_of_ablation_equals_hooks(courier):
    model, stimuli = courier
    got = ablation(model, stimuli, "shown", how="window", value="zero", window=1, n_bootstraps=0)
    rows = [{"stimulus_id": i, "text": t} for i, t in zip(stimuli.ids, stimuli.table["text"])]
    inputs = model.adapter.prepare(model, rows)

    def zero(block, args):
        states = args[0].clone()
        states[:, 1] = 0
        return (states, *args[1:])

    with torch.inference_mode():
        base, token = model.module(**inputs.tensors, use_cache=False).logits[:, -1].log_softmax(-1).max(-1)
        for block in range(4):
            handle = model.module.model.layers[block].register_forward_pre_hook(zero)
            logp = model.module(**inputs.tensors, use_cache=False).logits[:, -1].log_softmax(-1)
            handle.remove()
            expected = (logp[range(8), token] - base).mean().item()
            assert got.score.sel(metric="flow.logp").values[block, 0] == pytest.approx(expected, abs=1e-5)


def test_bad_spans_are_said(courier):
    model, stimuli = courier
    with pytest.raises(ValueError, match="no span 'pictre'"):
        ablation(model, stimuli, "pictre")
    with pytest.raises(ValueError, match="'image' has no tokens where the model answers"):
        ablation(model, stimuli, "image", value="zero")
    with pytest.raises(ValueError, match="how: got 'prefix'"):
        ablation(model, stimuli, "shown", how="prefix")
