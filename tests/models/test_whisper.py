"""Whisper: the packaged model transcribes, and its streams hold no padding."""

import shutil
import struct
import subprocess

import numpy as np
import pytest
import torch
from scipy.io import wavfile

import neuroalign as na
from neuroalign.data.sounds import read_sound
from neuroalign.models import BadStimuli
from neuroalign.models.ct2_file import read_ct2
from neuroalign.models.waves import resample
from neuroalign.models.whisper import transcribe

SENTENCE = "My name is John and I live in London."


def tone(path, seconds, rate=16000, pitch=440.0):
    t = np.arange(int(seconds * rate)) / rate
    wavfile.write(path, rate, (0.3 * np.sin(2 * np.pi * pitch * t) * 32767).astype(np.int16))
    return str(path)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    return [{"stimulus_id": f"sound{i}", "audio": tone(folder / f"{i}.wav", seconds, pitch=300.0 + 100 * i)}
            for i, seconds in enumerate((0.3, 0.75, 0.5))]


def test_a_spoken_sentence_is_transcribed(packaged, tmp_path):
    # Synthetic speech (espeak-ng), so that no recording has to travel with the tests.
    model = packaged("whisper-tiny.en")
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed (apt-get install espeak-ng), so nothing can be spoken")
    path = tmp_path / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "140", "-w", str(path), SENTENCE], check=True)
    (text,) = transcribe(model, [{"stimulus_id": "spoken", "audio": str(path)}])
    assert text.lower().strip(" .") == SENTENCE.lower().strip(" .")


def test_packaged_weights_fill_the_model_and_its_twin_differs(packaged, sounds, run):
    model = packaged("whisper-tiny.en")
    assert sum(p.numel() for p in model.module.parameters()) == pytest.approx(37.8e6, rel=0.01)
    inputs, caught, _ = run(model, [sounds[0] | {"text": "A tone."}])
    assert inputs.streams["audio"]["audio"].sum().item() == 15  # 0.3 s in frames of 20 ms
    ids = inputs.tensors["decoder_input_ids"][0].tolist()
    assert ids[:2] == [50257, 50362] and ids[-1] == 50256
    assert caught["model.decoder.layers.3"].shape == (1, len(ids), 384)


def test_whisper_blocks_equal_hidden_states(tiny_model, run, sounds, texts):
    model = tiny_model("whisper")
    inputs, caught, _ = run(model, [s | t | {"stimulus_id": s["stimulus_id"]} for s, t in zip(sounds, texts)],
                            ("block", "norm"))
    with torch.inference_mode():
        raw = model.module(**inputs.tensors, output_hidden_states=True, use_cache=False)
    for tower, states in (("audio", raw.encoder_hidden_states), ("decoder", raw.decoder_hidden_states)):
        layers = [x for x in model.adapter.layers(model, ("block", "norm")) if x.tower == tower]
        blocks = [caught[x.name] for x in layers if x is not layers[-2]]  # the last state is normed
        assert len(blocks) == len(states)
        for block, state in zip(blocks, states):
            torch.testing.assert_close(block, state, rtol=0, atol=1e-6)


def test_whisper_batches_streams_extract_verify(tiny_model, run, sounds, texts, tmp_path):
    model = tiny_model("whisper")
    rows = [s | {"text": t["text"]} for s, t in zip(sounds, texts)]
    inputs, together, _ = run(model, rows)
    for row, stimulus in enumerate(rows):
        own, single, _ = run(model, [stimulus])
        for layer in model.adapter.layers(model):
            got = together[layer.name][row][inputs.mask(layer, "all")[row]]
            torch.testing.assert_close(got, single[layer.name][0][own.mask(layer, "all")[0]], rtol=0, atol=1e-4)
    stimuli = na.StimulusSet(na.StimulusSet.from_texts([r["text"] for r in rows]).table.assign(
        audio=[r["audio"] for r in rows]))
    features = na.extract(model, stimuli, store=tmp_path, progress=False)
    assert {s.rsplit(":", 1)[1] for s in features} == {"audio", "text"}
    alone = na.extract(model, na.StimulusSet(stimuli.table[["audio"]]), store=tmp_path, progress=False)
    shared = "model.encoder.layers.2:audio"
    for space in alone:
        assert space.endswith(":audio")
        if space.endswith(shared):
            np.testing.assert_allclose(alone[space].values, features[space].values, atol=1e-5)
    assert na.verify(model, store=tmp_path).attrs["passed"]


def test_bad_sounds_are_named(tiny_model, sounds, texts, tmp_path):
    model = tiny_model("whisper")
    with pytest.raises(BadStimuli, match="text alone.*Runs that work: audio with text; audio"):
        model.adapter.check(model, texts)
    with pytest.raises(BadStimuli, match="longer than the 1 s"):
        model.adapter.prepare(model, [{"stimulus_id": "long", "audio": tone(tmp_path / "long.wav", 1.5)}])
    (tmp_path / "broken.wav").write_bytes(b"RIFF1234")
    with pytest.raises(BadStimuli, match="cannot be read as a WAV file") as error:
        model.adapter.prepare(model, [sounds[0], {"stimulus_id": "broken", "audio": str(tmp_path / "broken.wav")}])
    assert error.value.ids == ("broken",)
    with pytest.raises(FileNotFoundError, match="no sound file"):
        model.adapter.check(model, [{"stimulus_id": "gone", "audio": "gone.wav"}])


def test_another_sampling_rate_and_channels(tmp_path):
    slow, fast = tone(tmp_path / "a.wav", 0.5), tone(tmp_path / "b.wav", 0.5, rate=44100)
    (a, rate), (b, other) = read_sound(slow), read_sound(fast)
    assert (rate, other) == (16000, 44100)
    b = resample(b, other, rate)
    assert len(a) == len(b) and np.abs(a - b)[200:-200].max() < 0.01
    wavfile.write(tmp_path / "c.wav", 16000, np.stack([np.full(10, 16384), np.zeros(10)], 1).astype(np.int16))
    np.testing.assert_allclose(read_sound(tmp_path / "c.wav")[0], 0.25)


def test_a_ct2_file_is_read_and_checked(tmp_path):
    def string(text):
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    values = np.arange(6, dtype="<f2")
    body = string("Spec") + struct.pack("<II", 3, 1) + string("a/w") + struct.pack("<BII", 2, 2, 3)
    body += struct.pack("<BI", 4, 12) + values.tobytes() + struct.pack("<I", 1) + string("b") + string("a/w")
    path = tmp_path / "model.bin"
    path.write_bytes(struct.pack("<I", 6) + body)
    arrays = read_ct2(path)
    np.testing.assert_array_equal(arrays["a/w"], values.reshape(2, 3))
    assert arrays["b"] is arrays["a/w"]
    path.write_bytes((struct.pack("<I", 6) + body)[:40])
    with pytest.raises(ValueError, match="it ends at byte 40"):
        read_ct2(path)
    path.write_bytes(struct.pack("<I", 5) + body)
    with pytest.raises(ValueError, match="binary version 5, expected 6"):
        read_ct2(path)
