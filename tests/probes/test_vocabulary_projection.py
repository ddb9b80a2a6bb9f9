"""Projection onto the vocabulary against the predictions of the whole model, and loops."""

import numpy as np
import pytest
import torch
import transformers

import neuroalign as na
from neuroalign.probes import vocabulary_projection

STREAMS = ["image", "text"]


@pytest.fixture(scope="module")
def whole(llava):
    return transformers.LlavaForConditionalGeneration.from_pretrained(llava.module.config._name_or_path).eval()


def divergence(p, q):
    return float(sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q)))


def test_every_layer_equals_a_loop_and_the_last_one_what_the_model_predicts(llava, pairs, features, whole):
    found = vocabulary_projection(llava, features, n_bootstraps=0)
    logits, states = {s: [] for s in STREAMS}, []
    for i, row in zip(pairs.ids, pairs.table.to_dict("records")):
        inputs = llava.adapter.prepare(llava, [{"stimulus_id": i, **row}])
        with torch.no_grad():
            out = whole(**inputs.tensors, output_hidden_states=True)
        for s in STREAMS:
            logits[s].append(out.logits[0][inputs.streams["lm"][s][0]].double())
        states.append([{s: h[0][inputs.streams["lm"][s][0]] for s in STREAMS} for h in out.hidden_states])
    across = found.isel(space=np.flatnonzero(found.stream.values == "image~text"))
    assert across.sizes["space"] == len(states[0])
    for k in range(len(states[0])):
        if k == len(states[0]) - 1:
            own = {s: torch.cat(logits[s]).softmax(-1) for s in STREAMS}
        else:
            with torch.no_grad():
                own = {s: torch.cat([whole.lm_head(whole.model.language_model.norm(t[k][s])) for t in states])
                       .double().softmax(-1) for s in STREAMS}
        p, q = (own[s].mean(0).numpy() for s in STREAMS)
        assert across.score.values[0, k] == pytest.approx(divergence(p, q), abs=1e-5)
        for s in STREAMS:
            one = found.isel(space=np.flatnonzero(found.stream.values == s)[k])
            entropy = float(-(own[s] * own[s].log()).sum(-1).mean())
            assert one.score.values[1] == pytest.approx(entropy, abs=1e-4)
            words = na.data.scores.attrs_of(found)["top_words"][one.space.item()]
            best = own[s].argmax(-1)
            token = llava.processors["text"].tokenizer.convert_tokens_to_ids(words[0][0])
            assert words[0][1] == pytest.approx(float((best == token).double().mean()))
            assert words[0][1] == pytest.approx(float(torch.bincount(best).max() / len(best)))


def test_without_the_norm_other_numbers_come_and_intervals_hold_the_score(llava, features):
    normed, plain = (vocabulary_projection(llava, features, norm=n, n_bootstraps=20) for n in (True, False))
    assert not np.allclose(normed.score.values[0], plain.score.values[0], equal_nan=True)
    known = np.isfinite(normed.ci_low.values)
    assert known.sum() == normed.sizes["space"]
    assert (normed.ci_low.values <= normed.ci_high.values)[known].all()


def test_features_of_another_model_are_refused(llava, features):
    renamed = [features[s].assign_coords(model="other") for s in features]
    with pytest.raises(ValueError, match="of 'other', expected of 'llava'"):
        vocabulary_projection(llava, [x.assign_coords(space_id=f"x{i}") for i, x in enumerate(renamed)])
