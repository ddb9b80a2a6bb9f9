"""Speech encoders: padding changes nothing, group normalisation or not; frames of 20 ms."""

import numpy as np
import pytest
import tiny_multimodal
import torch
from scipy.io import wavfile

import neuroalign as na
from neuroalign.models import BadStimuli

TYPES = [t for t in tiny_multimodal.SPEECH if t != "whisper"]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder, rng, rows = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0), []
    for i, samples in enumerate((4000, 9000, 6500)):
        wavfile.write(folder / f"{i}.wav", 16000, rng.standard_normal(samples).astype(np.float32) * 0.1)
        rows.append({"stimulus_id": f"sound{i}", "audio": str(folder / f"{i}.wav")})
    return rows


@pytest.mark.parametrize("model_type", TYPES)
def test_a_sound_does_not_depend_on_its_batch(model_type, tiny_model, run, sounds):
    model = tiny_model(model_type)
    inputs, together, _ = run(model, sounds)
    for row, sound in enumerate(sounds):
        own, single, _ = run(model, [sound])
        for layer in model.adapter.layers(model):
            got = together[layer.name][row][inputs.mask(layer, "all")[row]]
            expected = single[layer.name][0][own.mask(layer, "all")[0]]
            torch.testing.assert_close(got, expected, rtol=0, atol=5e-5 * max(1, float(expected.abs().max())))


def test_group_norm_would_depend_on_padding(tiny_model, run, sounds):
    # What the adapter guards against: the model's own forward, with the mask, gives other numbers in a batch.
    model = tiny_model("wav2vec2")
    inputs = model.adapter.prepare(model, sounds)
    values, lengths = inputs.tensors["input_values"], inputs.tensors["lengths"]
    mask = (torch.arange(values.shape[1])[None] < lengths[:, None]).long()
    with torch.inference_mode():
        naive = model.module(values, attention_mask=mask).last_hidden_state
        exact = model.adapter.forward(model, inputs).last_hidden_state
    real = inputs.streams["audio"]["all"]
    assert float((naive - exact)[real].abs().max()) > 1e-2


@pytest.mark.parametrize("model_type", TYPES)
def test_blocks_equal_hidden_states(model_type, tiny_model, run, sounds):
    model = tiny_model(model_type)
    inputs, caught, _ = run(model, sounds[:1])
    values = inputs.tensors["input_values"]
    with torch.inference_mode():
        states = model.module(values, output_hidden_states=True).hidden_states
    blocks = [caught[x.name] for x in model.adapter.layers(model)]
    assert len(states) == len(blocks)
    for block, state in zip(blocks[:-1], states[:-1]):
        torch.testing.assert_close(block, state, rtol=0, atol=0)


@pytest.mark.parametrize("model_type", ["wav2vec2", "audio-spectrogram-transformer"])
def test_extract_and_verify_sounds(model_type, tiny_model, sounds, tmp_path):
    import pandas as pd

    model = tiny_model(model_type)
    table = pd.DataFrame(sounds).set_index("stimulus_id")
    features = na.extract(model, na.StimulusSet(table), store=tmp_path, progress=False)
    assert len(features) == 4 and all(np.isfinite(f.values).all() for f in features.values())
    verdict = na.verify(model, store=tmp_path)
    assert verdict.attrs["passed"], verdict.to_string()


def test_too_short_a_sound_is_named(tiny_model, tmp_path):
    wavfile.write(tmp_path / "a.wav", 16000, np.zeros(8, np.int16))
    with pytest.raises(BadStimuli, match="shorter than one frame") as error:
        tiny_model("wav2vec2").adapter.prepare(tiny_model("wav2vec2"), [
            {"stimulus_id": "short", "audio": str(tmp_path / "a.wav")}])
    assert error.value.ids == ("short",)
