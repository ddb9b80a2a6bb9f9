"""Mixtures of experts: routers as layers, words and surprisal as of any causal language model."""

import numpy as np
import pytest
import tiny
import torch

import neuroalign as na


@pytest.mark.parametrize("model_type", tiny.EXPERT_TYPES)
def test_routers_equal_the_models_own_logits(model_type, tiny_model, run, texts):
    model = tiny_model(model_type)
    inputs, caught, _ = run(model, texts, ("router",))
    with torch.inference_mode():
        own = model.module(**inputs.tensors, output_router_logits=True).router_logits
    layers = model.adapter.layers(model, ("router",))
    blocks = [i for i in range(3) if model_type != "qwen2_moe" or i != 1]  # its middle block has no experts
    assert [x.path for x in layers] == [f"model.layers.{i}.mlp.gate" for i in blocks]
    shape = inputs.streams["text"]["all"].shape
    for layer, logits in zip(layers, own, strict=True):
        assert caught[layer.name].shape == (*shape, 4)  # four experts
        torch.testing.assert_close(caught[layer.name], logits.unflatten(0, shape), rtol=0, atol=0)


def test_a_router_stands_between_attention_and_mlp(tiny_model):
    model = tiny_model("mixtral")
    names = [x.path.removeprefix("model.layers.") for x in model.adapter.layers(model, ("attention", "router", "mlp"))]
    assert names[:3] == ["0.self_attn", "0.mlp.gate", "0.mlp"]
    depths = [x.depth for x in model.adapter.layers(model, ("block", "attention", "router", "mlp", "norm"))]
    assert depths == sorted(depths)


@pytest.mark.parametrize("model_type", tiny.EXPERT_TYPES)
def test_words_and_surprisal(model_type, tiny_model, texts, tmp_path):
    model, text = tiny_model(model_type), texts[1]["text"]
    stimuli = na.StimulusSet.from_texts([text])
    features = na.extract(model, stimuli, streams=["word"], outputs=["hidden", "surprisal"], taps=("router",),
                          store=tmp_path, progress=False)
    ids, spans = model.adapter.tokenize(model, text)
    with torch.inference_mode():
        given = torch.tensor([[model.adapter.bos_id(model), *ids]])
        output = model.module(given, output_router_logits=True)
    bits = -output.logits[0].double().log_softmax(-1)[range(len(ids)), ids] / np.log(2)
    starts = np.cumsum([0] + [len(w) + 1 for w in text.split()])
    word = np.searchsorted(starts, [start for start, _ in spans], "right") - 1
    expected = np.bincount(word, bits.numpy())
    np.testing.assert_allclose(features[f"{model_type}:surprisal:word"].values[:, 0], expected, rtol=1e-4)
    router = features[f"{model_type}:model.layers.0.mlp.gate:word"].values
    own = output.router_logits[0][1:].double().numpy()
    means = np.stack([own[word == k].mean(0) for k in range(len(router))])
    np.testing.assert_allclose(router, means, rtol=0, atol=1e-4)
