"""CLAP and X-CLIP: towers equal the model's own states, nothing is drawn at random, a stimulus is its own."""

import numpy as np
import pandas as pd
import pytest
import tiny_multimodal
import torch
from scipy.io import wavfile

import neuroalign as na
from neuroalign.models import BadStimuli

TYPES = list(tiny_multimodal.TIMED)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Rows with a sound and a video of different lengths each."""
    folder, rng, rows = tmp_path_factory.mktemp("media"), np.random.default_rng(0), []
    for i, (samples, frames) in enumerate(((4000, 4), (9000, 9), (6500, 6))):
        wavfile.write(folder / f"{i}.wav", 16000, rng.standard_normal(samples).astype(np.float32) * 0.1)
        np.save(folder / f"{i}.npy", rng.integers(0, 255, (frames, 40 + 8 * i, 48, 3), dtype=np.uint8))
        rows.append({"audio": str(folder / f"{i}.wav"), "video": str(folder / f"{i}.npy")})
    return rows


@pytest.fixture
def stimuli(texts, media):
    return [t | m for t, m in zip(texts, media)]


def test_clap_equals_the_models_own_states(tiny_model, run, stimuli):
    model = tiny_model("clap")
    inputs, caught, output = run(model, stimuli)
    given = {k: inputs.tensors[k] for k in ("input_features", "is_longer")}
    with torch.inference_mode():
        audio = model.module.audio_model(**given, output_hidden_states=True,
                                         output_hidden_states_before_downsampling=True)
        text = model.module.text_model(**{k: v for k, v in inputs.tensors.items() if k not in given},
                                       output_hidden_states=True)
    stages = "audio_model.audio_encoder.layers."
    names = [f"{stages}0.blocks.0.input", f"{stages}0.blocks.1", f"{stages}1.blocks.0"]
    for name, state in zip(names, audio.hidden_states, strict=True):
        torch.testing.assert_close(caught[name], state.flatten(2).transpose(1, 2), rtol=0, atol=0)
    blocks = [caught[x.name] for x in model.adapter.layers(model) if x.tower == "text" and x.masked]
    for block, state in zip(blocks, text.hidden_states, strict=True):
        torch.testing.assert_close(block, state, rtol=0, atol=0)
    for tower in ("audio", "text"):  # the model gives its embeddings at unit length
        own = torch.nn.functional.normalize(caught[f"{tower}_projection"][:, 0], dim=-1)
        torch.testing.assert_close(own, output[tower].pooler_output, rtol=0, atol=1e-6)


def test_clap_would_draw_at_random(tiny_model, stimuli, tmp_path):
    # What the adapter guards against: the feature extractor marks one sound of a batch as long, by a draw.
    model = tiny_model("clap")
    side = model.processors["audio"]
    waves = side.open(stimuli)
    assert int(side.process(waves)["is_longer"].sum()) == 1
    assert not model.adapter.prepare(model, stimuli).tensors["is_longer"].any()
    wavfile.write(tmp_path / "long.wav", 16000, np.zeros(20000, np.float32))
    with pytest.raises(BadStimuli, match=r"longer than the 1 s .* Cut it into clips") as error:
        model.adapter.prepare(model, [{"stimulus_id": "long", "audio": str(tmp_path / "long.wav")}])
    assert error.value.ids == ("long",)


def test_xclip_equals_the_models_own_states(tiny_model, run, stimuli):
    model = tiny_model("xclip")
    inputs, caught, output = run(model, stimuli)
    with torch.inference_mode():
        states = model.module.vision_model(inputs.tensors["pixel_values"].flatten(0, 1),
                                           output_hidden_states=True).hidden_states
    blocks = [caught[x.name] for x in model.adapter.layers(model) if x.tower == "video" and x.masked]
    for block, state in zip(blocks, states, strict=True):
        for video in range(3):
            torch.testing.assert_close(block[video], state[4 * video:4 * video + 4].flatten(0, 1), rtol=0, atol=0)
    torch.testing.assert_close(caught["mit"].mean(1), output["video"].pooler_output, rtol=0, atol=0)
    torch.testing.assert_close(caught["text_projection"][:, 0], output["text"].pooler_output, rtol=0, atol=0)
    assert caught["mit.encoder.layers.0"].shape[:2] == (3, 4)  # one token a frame


def test_xclip_taps_add_up(tiny_model, run, stimuli):
    model, taps = tiny_model("xclip"), ("block", "attention", "mlp")
    _, caught, _ = run(model, stimuli, taps)
    before, attention, mlp, after = [caught[x.name] for x in model.adapter.layers(model, taps)][:4]
    torch.testing.assert_close(before + attention + mlp, after, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_type", TYPES)
def test_layers_streams_and_neighbours(model_type, tiny_model, run, stimuli):
    model = tiny_model(model_type)
    inputs, together, _ = run(model, stimuli)
    layers = model.adapter.layers(model)
    for tower in model.adapter.modalities:
        depths = [x.depth for x in layers if x.tower == tower]
        assert depths == sorted(depths) and (depths[0], depths[-1]) == (0, 1)
    for layer in (x for x in layers if x.masked):
        assert inputs.mask(layer, "all").shape == together[layer.name].shape[:2]
    for row, stimulus in enumerate(stimuli):
        own, single, _ = run(model, [stimulus])
        for layer in layers:
            got, expected = together[layer.name][row], single[layer.name][0]
            if layer.masked:
                got, expected = got[inputs.mask(layer, "all")[row]], expected[own.mask(layer, "all")[0]]
            torch.testing.assert_close(got, expected, rtol=0, atol=5e-5 * max(1, float(expected.abs().max())))


@pytest.mark.parametrize("model_type", TYPES)
def test_extract_and_verify(model_type, tiny_model, stimuli, tmp_path):
    model = tiny_model(model_type)
    sense = model.adapter.modalities[0]
    table = pd.DataFrame(stimuli).set_index("stimulus_id")
    both = na.StimulusSet(table[["text", sense]])
    features = na.extract(model, both, store=tmp_path, progress=False)
    assert {s.rsplit(":", 1)[1] for s in features} == {"text", sense}
    assert all(np.isfinite(f.values).all() for f in features.values())
    for modality in ("text", sense):
        alone = na.extract(model, na.StimulusSet(table[[modality]]), store=tmp_path, progress=False)
        assert alone and {s.rsplit(":", 1)[1] for s in alone} == {modality}
        for space, values in alone.items():
            np.testing.assert_allclose(values.values, features[space].values, rtol=0, atol=1e-4)
    verdict = na.verify(model, both, store=tmp_path)
    assert verdict.attrs["passed"], verdict.to_string()


def test_neither_modality_is_named(tiny_model):
    with pytest.raises(BadStimuli, match="neither a sound nor a text, and this model reads both"):
        tiny_model("clap").adapter.check(tiny_model("clap"), [{"stimulus_id": "nothing"}])
