"""Skipping against models whose forwards were rewritten by hand, and what must change nothing."""

import numpy as np
import pytest
import torch
import transformers

from neuroalign.probes import skipping_curve


@pytest.fixture
def whole(llava):
    return transformers.LlavaForConditionalGeneration.from_pretrained(llava.module.config._name_or_path).eval()


def predictions(model, whole, pairs, change=None):
    """What the whole model predicts after each stimulus; `change(mask)` rewrites its blocks."""
    found = []
    for i, row in zip(pairs.ids, pairs.table.to_dict("records")):
        inputs = model.adapter.prepare(model, [{"stimulus_id": i, **row}])
        blocks = whole.model.language_model.layers
        before = [(b.forward, b.mlp.forward) for b in blocks]
        if change is not None:
            change(blocks, inputs.streams["lm"]["image"][0])
        with torch.no_grad():
            found.append(whole(**inputs.tensors, use_cache=False).logits[0, -1].double().log_softmax(-1).numpy())
        for block, (own, mlp) in zip(blocks, before):
            block.forward, block.mlp.forward = own, mlp
    return np.array(found)


def skip_blocks(which):
    def change(blocks, image):
        for k in which:
            own = blocks[k].forward

            def forward(hidden, *args, own=own, **kwargs):
                out = own(hidden, *args, **kwargs).clone()
                out[0, image] = hidden[0, image]
                return out

            blocks[k].forward = forward

    return change


def skip_mlps(which):
    def change(blocks, image):
        for k in which:
            own = blocks[k].mlp.forward

            def forward(hidden, own=own):
                out = own(hidden).clone()
                out[0, image] = 0
                return out

            blocks[k].mlp.forward = forward

    return change


@pytest.mark.parametrize("part, rewrite", [("block", skip_blocks), ("mlp", skip_mlps)])
def test_skipping_equals_rewritten_forwards(llava, whole, pairs, part, rewrite):
    found = skipping_curve(llava, pairs, every=(2, 1), start=(0, 1), part=part, n_bootstraps=50, batch_size=2)
    base = predictions(llava, whole, pairs)
    for j, which in enumerate(([0, 2], [0, 1, 2], [1], [1, 2])):
        changed = predictions(llava, whole, pairs, rewrite(which))
        kl = (np.exp(base) * (base - changed)).sum(1)
        assert found.score.values[0, j] == pytest.approx(kl.mean(), rel=1e-3, abs=1e-7)
        assert found.score.values[1, j] == (base.argmax(1) == changed.argmax(1)).mean()
        assert found.share.values[j] == pytest.approx(len(which) / 3)
    assert (found.score.values[0] > 1e-6).all()
    assert found.every.values.tolist() == [2, 1, 2, 1] and found.start.values.tolist() == [0, 0, 1, 1]
    assert (found.ci_low <= found.score).all() and (found.score <= found.ci_high).all()


def test_nothing_that_is_read_afterwards_is_lost_in_the_last_block(llava, pairs):
    found = skipping_curve(llava, pairs, every=(1,), start=(2,), n_bootstraps=0)
    np.testing.assert_allclose(found.score.values[:, 0], [0, 1], atol=1e-7)


@pytest.mark.parametrize("change, words", [
    ({"stream": "picture"}, "stream: got 'picture', expected one of image, text"),
    ({"part": "ffn"}, "part: got 'ffn'"),
    ({"every": (0,)}, "every, start: got 0 and 0"),
    ({"start": (3,)}, "a block from 0 to 2"),
])
def test_wrong_input_is_explained(llava, pairs, change, words):
    with pytest.raises(ValueError, match=words):
        skipping_curve(llava, pairs, **change)
