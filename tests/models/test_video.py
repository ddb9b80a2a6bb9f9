"""Video encoders: order of tokens, frames, and videos that cannot be used."""

import numpy as np
import pandas as pd
import pytest
import tiny_multimodal
import torch

import neuroalign as na
from neuroalign.models import BadStimuli

TYPES = list(tiny_multimodal.VIDEO)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder, rng, rows = tmp_path_factory.mktemp("videos"), np.random.default_rng(0), []
    for i, count in enumerate((4, 9)):
        np.save(folder / f"{i}.npy", rng.integers(0, 255, (count, 40 + 8 * i, 48, 3), dtype=np.uint8))
        rows.append({"stimulus_id": f"video{i}", "video": str(folder / f"{i}.npy")})
    return rows


@pytest.mark.parametrize("model_type", TYPES)
def test_streams_batches_and_hidden_states(model_type, tiny_model, run, videos):
    model = tiny_model(model_type)
    inputs, caught, _ = run(model, videos)
    layers = model.adapter.layers(model)
    with torch.inference_mode():
        states = model.module(**inputs.tensors, output_hidden_states=True).hidden_states
    assert len(states) == len(layers)
    for layer, state in zip(layers, states):
        assert caught[layer.name].shape[:2] == inputs.mask(layer, "all").shape
        if model_type == "timesformer":  # patch-major there, frame by frame here
            state = torch.cat([state[:, :1], state[:, 1:].unflatten(1, (16, 4)).transpose(1, 2).flatten(1, 2)], 1)
        torch.testing.assert_close(caught[layer.name], state, rtol=0, atol=1e-6)
    single = run(model, videos[1:])[1]
    for layer in layers:
        torch.testing.assert_close(caught[layer.name][1:], single[layer.name], rtol=0, atol=5e-5)


@pytest.mark.parametrize("model_type", TYPES)
def test_tokens_are_in_order_of_time(model_type, tiny_model, run, videos, tmp_path):
    # A video whose last frame alone changes: at the embedding only the tokens of the last frames differ.
    model, frames = tiny_model(model_type), np.load(videos[0]["video"])
    changed = frames.copy()
    changed[-1] = 255 - changed[-1]
    np.save(tmp_path / "changed.npy", changed)
    first = model.adapter.layers(model)[0].name
    one, two = (run(model, [{"stimulus_id": "v", "video": p}])[1][first][0]
                for p in (videos[0]["video"], str(tmp_path / "changed.npy")))
    differ = (one - two).abs().max(1).values > 1e-6
    places = 16
    assert differ[-places:].all() and not differ[:-places].any()


@pytest.mark.parametrize("model_type", ["videomae", "timesformer"])
def test_extract_and_verify_videos(model_type, tiny_model, videos, tmp_path):
    model, stimuli = tiny_model(model_type), na.StimulusSet(pd.DataFrame(videos).set_index("stimulus_id"))
    features = na.extract(model, stimuli, store=tmp_path, progress=False)
    assert len(features) == 4 and all(np.isfinite(f.values).all() for f in features.values())
    for given in (stimuli, None):
        verdict = na.verify(model, given, store=tmp_path)
        assert verdict.attrs["passed"], verdict.to_string()


def test_bad_videos_are_named(tiny_model, tmp_path):
    model = tiny_model("videomae")
    np.save(tmp_path / "short.npy", np.zeros((3, 32, 32, 3), np.uint8))
    with pytest.raises(BadStimuli, match="has 3 frames, the model sees clips of 4") as error:
        model.adapter.prepare(model, [{"stimulus_id": "short", "video": str(tmp_path / "short.npy")}])
    assert error.value.ids == ("short",)
    np.save(tmp_path / "flat.npy", np.zeros((8, 32, 32), np.uint8))
    (tmp_path / "film.mp4").write_bytes(b"0000ftypisom")
    (tmp_path / "film.gif").write_bytes(b"GIF89a broken")
    for name, words in (("flat.npy", "expected uint8"), ("film.mp4", "truncated or damaged"),
                        ("film.gif", "Save its frames as an .npy")):
        with pytest.raises(BadStimuli, match=words):
            model.adapter.prepare(model, [{"stimulus_id": "bad", "video": str(tmp_path / name)}])
