"""What the hooks see equals what transformers itself reports, for every model type."""

import pytest
import tiny
import torch

from neuroalign.data import StimulusSet
from neuroalign.features import extract

# How the last hidden state relates to the last block, by transformers' own conventions.
SAME, NORMED = "same", "normed"  # hidden_states[-1] is the last block's output, or that output after the final norm
LAST = {
    **dict.fromkeys(tiny.ENCODER_TYPES, SAME),
    **dict.fromkeys(tiny.CAUSAL_TYPES, NORMED),
    **dict.fromkeys(("modernbert", "t5"), NORMED),
    **dict.fromkeys(("vit", "deit", "beit", "vit_mae", "dinov2", "dinov2_with_registers", "dinov3_vit"), SAME),
}


def stimuli_of(model, texts, pictures):
    return texts if model.adapter.modalities == ("text",) else pictures


def own_states(model, inputs):
    with torch.inference_mode():
        extra = {}
        if model.module.config.model_type == "vit_mae":
            extra["noise"] = torch.arange(16.0).expand(len(inputs.tensors["pixel_values"]), -1)
        return model.module(**inputs.tensors, **extra, output_hidden_states=True)


@pytest.mark.parametrize("model_type", sorted(LAST))
def test_blocks_equal_hidden_states(model_type, tiny_model, run, texts, pictures):
    model = tiny_model(model_type)
    taps = ("block", "norm") if LAST[model_type] == NORMED else ("block",)
    inputs, caught, _ = run(model, stimuli_of(model, texts, pictures), taps)
    names = [x.name for x in model.adapter.layers(model) if x.masked]
    states = list(own_states(model, inputs).hidden_states)
    blocks = [caught[name] for name in names]
    if model_type == "mamba":  # reports no embedding, and the normed output beside the last block's
        blocks = [*blocks[1:], caught["backbone.norm_f"]]
    assert len(states) == len(blocks)
    if LAST[model_type] == NORMED:
        final = next(x.name for x in model.adapter.layers(model, ("norm",)))
        torch.testing.assert_close(caught[final], states[-1], rtol=0, atol=0)
        blocks, states = blocks[:-1], states[:-1]
    for block, state in zip(blocks, states):
        torch.testing.assert_close(block, state, rtol=0, atol=0)


@pytest.mark.parametrize("model_type", ["resnet", "regnet", "convnext", "convnextv2", "efficientnet", "swin"])
def test_stages_equal_hidden_states(model_type, tiny_model, run, pictures):
    model = tiny_model(model_type)
    inputs, caught, _ = run(model, pictures)
    output = own_states(model, inputs)
    if model_type == "swin":
        states = output.reshaped_hidden_states
        ends = ["encoder.layers.0.blocks.0.input"]  # a stage ends with its merging of patches, after its last block
        torch.testing.assert_close(caught["encoder.layers.1.blocks.0"], output.hidden_states[-1], rtol=0, atol=0)
    elif model_type == "efficientnet":
        states, ends = output.hidden_states, [f"encoder.blocks.{i}" for i in range(8)]
        states = states[1:]
    else:
        states = output.hidden_states
        stages = model.module.encoder.stages
        ends = ["encoder.stages.0.layers.0.input"] if not model_type.startswith("convnext") else []
        states = states if ends else states[1:]
        ends += [f"encoder.stages.{i}.layers.{len(s.layers) - 1}" for i, s in enumerate(stages)]
    assert len(ends) <= len(states)
    for name, state in zip(ends, states):
        torch.testing.assert_close(caught[name], state.flatten(2).transpose(1, 2), rtol=0, atol=0)
    pooled = [x.name for x in model.adapter.layers(model) if x.name in ("pooler", "layernorm")]
    for name in pooled:
        torch.testing.assert_close(caught[name][:, 0], output.pooler_output.flatten(1), rtol=0, atol=0)


@pytest.mark.parametrize("model_type", tiny.DUAL_TYPES)
def test_towers_equal_hidden_states_and_projections(model_type, tiny_model, run, texts, pictures):
    model = tiny_model(model_type)
    both = [t | p for t, p in zip(texts, pictures)]
    inputs, caught, output = run(model, both)
    assert set(output) == {"image", "text"}
    tensors = dict(inputs.tensors)
    with torch.inference_mode():
        vision = model.module.vision_model(tensors.pop("pixel_values"), output_hidden_states=True)
        text = model.module.text_model(**tensors, output_hidden_states=True)
    for tower, states in (("image", vision.hidden_states), ("text", text.hidden_states)):
        layers = [x for x in model.adapter.layers(model) if x.tower == tower]
        blocks, pooled = [caught[x.name] for x in layers[:-1]], caught[layers[-1].name][:, 0]
        if states[0].ndim == 4:
            states = [s.flatten(2).transpose(1, 2) for s in states]
        assert len(blocks) == len(states)
        for block, state in zip(blocks, states):
            torch.testing.assert_close(block, state, rtol=0, atol=0)
        torch.testing.assert_close(pooled, output[tower].pooler_output.flatten(1), rtol=0, atol=0)


PRE_NORM = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "olmo", "phi3", "gpt_neox", "modernbert", "t5",
            "vit", "deit", "mixtral", "qwen2_moe", "olmoe"]  # fmt: skip


@pytest.mark.parametrize("model_type", PRE_NORM)
def test_attention_and_mlp_taps_add_up_to_the_block(model_type, tiny_model, run, texts, pictures):
    # In a pre-norm block without layer scale: input + attention + mlp = output.
    model = tiny_model(model_type)
    _, caught, _ = run(model, stimuli_of(model, texts, pictures), ("block", "attention", "mlp"))
    names = [x.name for x in model.adapter.layers(model, ("block", "attention", "mlp")) if x.masked]
    before, attention, mlp, after = (caught[name] for name in names[:4])
    torch.testing.assert_close(before + attention + mlp, after, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "mpnet", "deberta-v2", "distilbert"])
def test_taps_of_post_norm_blocks(model_type, tiny_model, run, texts):
    # output = norm(middle + mlp), middle = norm(input + attention)
    model = tiny_model(model_type)
    _, caught, _ = run(model, texts, ("block", "attention", "mlp"))
    names = [x.name for x in model.adapter.layers(model, ("block", "attention", "mlp")) if x.masked]
    before, attention, mlp, after = (caught[name] for name in names[:4])
    block = model.module.get_submodule(names[3])
    if model_type == "distilbert":
        inner, outer = block.sa_layer_norm, block.output_layer_norm
    else:
        inner = block.attention.LayerNorm if model_type == "mpnet" else block.attention.output.LayerNorm
        outer = block.output.LayerNorm
    torch.testing.assert_close(outer(inner(before + attention) + mlp), after, rtol=1e-5, atol=1e-5)


def test_taps_that_an_architecture_lacks_are_refused(tiny_model):
    model = tiny_model("mamba")
    with pytest.raises(ValueError, match="model 'mamba' has no 'attention', only block, norm"):
        extract(model, StimulusSet.from_texts(["a"]), taps=("block", "attention"))
    with pytest.raises(ValueError, match="expected one of 'block'"):
        model.adapter.layers(model, ("blocks",))


@pytest.mark.parametrize("model_type", sorted(tiny.CONFIGS))
def test_depths_are_sorted_and_names_unique(model_type, tiny_model):
    model = tiny_model(model_type)
    layers = model.adapter.layers(model)
    assert len({x.name for x in layers}) == len(layers)
    for tower in {x.tower for x in layers}:
        depths = [x.depth for x in layers if x.tower == tower]
        assert depths == sorted(depths) and depths[0] == 0 and depths[-1] == 1
    for layer in layers:
        assert model.module.get_submodule(layer.path) is not None
        assert layer.streams[0] == layer.tower and layer.streams[-1] == "all"
