"""Overlap of pruning masks against loops over weights, and random masks against their expectation."""

import numpy as np
import pytest
import torch

from neuroalign.probes import subnetwork_overlap
from neuroalign.probes.subnetworks import _random_overlap, wanda_mask


def loop_mask(weight, length, sparsity):
    keep = np.ones(weight.shape, bool)
    for row in range(len(weight)):
        value = [abs(w) * x for w, x in zip(weight[row], length)]
        for k in sorted(range(len(value)), key=value.__getitem__)[:int(len(value) * sparsity)]:
            keep[row, k] = False
    return keep


@pytest.mark.parametrize("sparsity", [0.3, 0.5])
def test_mask_equals_a_loop(sparsity):
    rng = np.random.default_rng(0)
    weight, length = rng.standard_normal((6, 11)), rng.uniform(0.1, 3, 11)
    found = wanda_mask(torch.tensor(weight), torch.tensor(length), sparsity)
    np.testing.assert_array_equal(found.numpy(), loop_mask(weight, length, sparsity))


def inputs_of(model, pairs, path):
    """Inputs of a linear map, one stimulus at a time: {stream: tokens}."""
    found = []
    for i, row in zip(pairs.ids, pairs.table.to_dict("records")):
        inputs = model.adapter.prepare(model, [{"stimulus_id": i, **row}])
        caught = []
        handle = model.module.get_submodule(path).register_forward_pre_hook(lambda _, args, c=caught: c.append(args[0]))
        with torch.no_grad():
            model.adapter.forward(model, inputs)
        handle.remove()
        found.append({s: caught[0][0][inputs.streams["lm"][s][0]].numpy() for s in ("image", "text")})
    return found


def test_overlap_equals_loops_over_stimuli(llava, pairs):
    found = subnetwork_overlap(llava, pairs, sparsity=0.4, n_random=999, batch_size=3)
    for path in ("language_model.layers.0.self_attn.q_proj", "language_model.layers.2.mlp.down_proj"):
        tokens = inputs_of(llava, pairs, path)
        weight = llava.module.get_submodule(path).weight.detach().numpy()
        masks = {(s, h): loop_mask(weight, np.sqrt(sum((t[s].astype(float) ** 2).sum(0) for t in tokens[h::2])), 0.4)
                 for s in ("image", "text") for h in (0, 1)}
        for one, other in (("image", "text"), ("image", "image"), ("text", "text")):
            crossed = [(masks[one, h], masks[other, 1 - h]) for h in (0, 1)]
            expected = np.mean([(x & y).sum() / (x | y).sum() for x, y in crossed])
            space = f"llava:{path}:{one}~{other}"
            assert float(found.score.sel(space=space)[0]) == pytest.approx(expected, abs=2e-3)  # ties within rounding
    assert found.sizes["space"] == 3 * 3 * 7  # streams, blocks, linear maps of a block
    assert (found.p == 1 / 1000).all()  # the size of a weight counts for both modalities


def test_random_masks_overlap_as_drawn_ones_do():
    rng = np.random.default_rng(0)
    found = _random_overlap((7, 10), 0.3, 4000, rng)
    drawn = []
    for _ in range(2000):
        one, other = (np.argsort(rng.random((7, 10)), 1).argsort(1) >= 3 for _ in range(2))
        drawn.append((one & other).sum() / (one | other).sum())
    assert found.mean() == pytest.approx(np.mean(drawn), abs=0.004)
    assert found.std() == pytest.approx(np.std(drawn) / np.sqrt(2), rel=0.1)  # the mean of two


def test_modalities_that_use_other_inputs_share_few_weights():
    weight = torch.ones(5, 8)
    first, second = (wanda_mask(weight, torch.tensor(x), 0.5) for x in ([3.0] * 4 + [0.1] * 4, [0.1] * 4 + [3.0] * 4))
    assert not (first & second).any()


@pytest.mark.parametrize("change, words", [
    ({"sparsity": 1.0}, "sparsity: got 1.0"),
    ({"a": "audio"}, "no layer has tokens of 'audio' and 'text'; its streams are"),
])
def test_wrong_input_is_explained(llava, pairs, change, words):
    with pytest.raises(ValueError, match=words):
        subnetwork_overlap(llava, pairs, **change)
