"""BridgeTower: its towers and cross-modal layers equal what the model reports, alone and together."""

import pytest
import torch


@pytest.fixture
def pairs(texts, pictures):
    return [t | p for t, p in zip(texts, pictures)]


def by_tower(model, caught, tower):
    return [caught[x.name] for x in model.adapter.layers(model) if x.tower == tower and x.masked]


def test_all_stacks_equal_the_models_own_states(tiny_model, run, pairs):
    model = tiny_model("bridgetower")
    _, caught, output = run(model, pairs)
    text, image, cross = output.hidden_states
    expected = {
        "text": text, "image": [state.transpose(0, 1) for state in image],  # (token, batch, feature) there
        "cross_text": [c[0] for c in cross], "cross_image": [c[1] for c in cross],
    }  # fmt: skip
    for tower, states in expected.items():
        blocks = by_tower(model, caught, tower)
        blocks = blocks[1:] if "cross" in tower else blocks  # the model reports no input of its cross-modal layers
        assert len(blocks) == len(states)
        for block, state in zip(blocks, states):
            torch.testing.assert_close(block, state, rtol=0, atol=0)
    pooled = torch.cat([caught[f"cross_modal_{m}_pooler"][:, 0] for m in ("text", "image")], 1)
    torch.testing.assert_close(pooled, output.pooler_output, rtol=0, atol=0)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_tower_alone_gives_what_it_gives_in_the_pair(modality, tiny_model, run, pairs):
    model = tiny_model("bridgetower")
    together = by_tower(model, run(model, pairs)[1], modality)
    layers = [x for x in model.adapter.layers(model) if x.tower == modality]
    alone = run(model, [{k: p[k] for k in ("stimulus_id", modality)} for p in pairs])[1]
    assert set(alone) == {x.name for x in layers}
    for layer, expected in zip(layers, together):
        torch.testing.assert_close(alone[layer.name], expected, rtol=0, atol=1e-5)


def test_the_other_modality_matters_above_the_towers_alone(tiny_model, run, pairs):
    model = tiny_model("bridgetower")
    first = by_tower(model, run(model, pairs)[1], "cross_text")
    others = [p | {"image": q["image"]} for p, q in zip(pairs, pairs[1:] + pairs[:1])]
    second = by_tower(model, run(model, others)[1], "cross_text")
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=0)  # the input of the first cross-modal layer
    assert all(float((a - b).abs().max()) > 1e-3 for a, b in zip(first[1:], second[1:]))


def test_taps_of_the_image_tower_add_up(tiny_model, run, pairs):
    # In its pre-norm blocks: input + attention + mlp = output.
    model = tiny_model("bridgetower")
    taps = ("block", "attention", "mlp")
    _, caught, _ = run(model, pairs, taps)
    names = [x.name for x in model.adapter.layers(model, taps) if x.tower == "image"]
    before, attention, mlp, after = (caught[name] for name in names[:4])
    torch.testing.assert_close(before + attention + mlp, after, rtol=1e-5, atol=1e-5)


def test_positions_that_are_never_used_leave_less_room(tiny_model):
    # Positions count from the padding index on, as in RoBERTa.
    model = tiny_model("bridgetower")
    assert model.processors["text"].max_tokens == model.module.config.text_config.max_position_embeddings - 1
