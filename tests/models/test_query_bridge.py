"""InstructBLIP: the query transformer reads queries and instruction; all equals the model's own states."""

import json
import shutil
from itertools import pairwise

import pytest
import torch

from neuroalign.models import BadStimuli, load_model


@pytest.fixture
def pairs(texts, pictures):
    return [t | p for t, p in zip(texts, pictures)]


def by_tower(model, caught, tower):
    return [caught[x.name] for x in model.adapter.layers(model) if x.tower == tower]


def test_towers_equal_the_models_own_states(tiny_model, run, pairs):
    model = tiny_model("instructblip")
    inputs, caught, _ = run(model, pairs)
    tensors = inputs.tensors
    with torch.inference_mode():
        image = model.module.vision_model(tensors["pixel_values"], output_hidden_states=True)
        features = model.module.get_image_features(
            tensors["pixel_values"], tensors["qformer_input_ids"], tensors["qformer_attention_mask"],
            output_hidden_states=True)
        whole = model.module(**tensors, use_cache=False, output_hidden_states=True)
    for tower, states in (
        ("image", image.hidden_states), ("qformer", features.qformer_outputs.hidden_states),
        ("lm", whole.language_model_outputs.hidden_states),
    ):  # fmt: skip
        blocks = by_tower(model, caught, tower)
        assert len(blocks) == len(states)
        for block, state in zip(blocks[:-1], states[:-1]):  # the last state is normed
            torch.testing.assert_close(block, state, rtol=0, atol=1e-6)
    # what the language model is given at the placeholders are the projected queries
    queries = caught["qformer.encoder.layer.2"][inputs.streams["qformer"]["image"]]
    given = caught["language_model.model.layers.0.input"][inputs.streams["lm"]["image"]]
    torch.testing.assert_close(given, model.module.language_projection(queries), rtol=0, atol=1e-6)


def test_the_instruction_changes_the_queries(tiny_model, run, pairs):
    model = tiny_model("instructblip")
    last, pair = "qformer.encoder.layer.2", pairs[0]
    inputs, one, _ = run(model, [pair])
    _, two, _ = run(model, [pair | {"text": pair["text"].replace("man", "dog")}])
    assert model.processors["qformer"].prefix and not torch.equal(one[last], two[last])
    mask = inputs.streams["qformer"]["image"]
    assert float((one[last] - two[last])[mask].abs().max()) > 1e-3


def test_the_query_transformer_has_no_mlp_that_serves_all_tokens(tiny_model, run, pairs):
    model = tiny_model("instructblip")
    assert {x.tower for x in model.adapter.layers(model, ("mlp",))} == {"image", "lm"}
    assert {x.tower for x in model.adapter.layers(model, ("attention",))} == {"image", "qformer", "lm"}


def test_a_text_too_long_for_the_query_transformer_is_named(tiny_model, pairs):
    model = tiny_model("instructblip")
    long = pairs[0] | {"text": "word " * 80}
    with pytest.raises(BadStimuli, match="longer than the context") as error:
        model.adapter.check(model, [long, pairs[1]])
    assert error.value.ids == (long["stimulus_id"],)


@pytest.mark.parametrize("model_type", ["blip", "blip-2", "instructblip"])
def test_a_random_twin_has_a_vision_tower(model_type, tiny_folder, run, pairs, tmp_path):
    # The models' own configurations initialise it with 1e-10, so that no layer would change anything.
    folder = shutil.copytree(tiny_folder(model_type), tmp_path / model_type)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["initializer_range"] = 1e-10
    (folder / "config.json").write_text(json.dumps(config))
    model = load_model(f"{folder}@random", device="cpu")
    blocks = by_tower(model, run(model, pairs)[1], "image")
    for before, after in pairwise(blocks):
        assert float((after - before).std() / before.std()) > 1e-3
