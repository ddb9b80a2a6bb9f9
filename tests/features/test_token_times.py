"""Tokens in time: their seconds against what changes them, moments against tokens, and moments as timed events."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import wavfile

import neuroalign as na
from neuroalign.data import make_responses
from neuroalign.features import events_to_samples
from neuroalign.models import BadStimuli, load_model

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny
import tiny_film
import tiny_multimodal

QUIET = {"progress": False}
SOUNDS = ["wav2vec2", "wav2vec2-layer", "hubert", "wavlm", "whisper"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = {}

    def load(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("models") / kind
            folder.mkdir()
            tiny_multimodal.build(kind, folder)
            made[kind] = load_model(str(folder), device="cpu")
        return made[kind]

    return load


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return tiny_film.write_film(tmp_path_factory.mktemp("film") / "film.mkv")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    wavfile.write(path, 16000, np.random.default_rng(0).standard_normal(9000).astype(np.float32) * 0.1)
    return {"stimulus_id": "a", "audio": str(path)}


def embedded(model, stimulus):
    """The tokens of a video before the first block."""
    from neuroalign.models import attach

    caught = []
    handle = attach(model, model.adapter.layers(model)[0], caught.append)
    inputs = model.adapter.prepare(model, [stimulus])
    with torch.inference_mode():
        model.adapter.forward(model, inputs)
    handle.remove()
    return caught[0][0][inputs.streams["video"]["video"][0]]


@pytest.mark.parametrize("kind", [*tiny_multimodal.VIDEO, "xclip"])
def test_tokens_of_a_video_stand_where_the_frames_stand_that_change_them(kind, model, tmp_path):
    loaded, frames = model(kind), np.random.default_rng(0).integers(0, 255, (20, 40, 40, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", frames)
    stimulus = {"stimulus_id": "a", "video": str(tmp_path / "a.npy"), "frame_rate": 10.0, "start": 0.5, "stop": 1.7}
    layer = loaded.adapter.layers(loaded)[0]
    times, tokens = loaded.adapter.times(loaded, layer, stimulus), embedded(loaded, stimulus)
    assert len(times) == len(tokens) and times.min() == 0 and times.max() == pytest.approx(1.2)
    for frame in (6, 9, 12, 15):  # those in the middle of the quarters of the window
        other = frames.copy()
        other[frame] = 255 - other[frame]
        np.save(tmp_path / "b.npy", other)
        changed = (embedded(loaded, stimulus | {"video": str(tmp_path / "b.npy")}) - tokens).abs().amax(1) > 1e-6
        second = (frame + 0.5) / 10 - 0.5
        inside = (times[:, 0] <= second) & (times[:, 1] > second)
        np.testing.assert_array_equal(changed.numpy(), inside)


def test_tokens_of_speech_are_centred_on_the_samples_that_they_read(model, sound):
    loaded = model("wav2vec2-layer")
    times = loaded.adapter.times(loaded, loaded.adapter.layers(loaded)[0], sound)
    values = torch.randn(1, 9000, requires_grad=True)
    frames = loaded.module.feature_extractor.eval()(values)[0].T
    assert len(frames) == len(times)
    np.testing.assert_allclose(np.diff(times, axis=1), 0.02)
    for k in (0, 5, len(times) - 1):
        (gradient,) = torch.autograd.grad(frames[k].square().sum(), values, retain_graph=True)
        read = np.flatnonzero(gradient[0].numpy())
        assert times[k].mean() == pytest.approx((read[0] + read[-1] + 1) / 2 / 16000)


def test_tokens_of_whisper_are_centred_on_the_samples_that_they_read(model, sound):
    loaded = model("whisper")
    encoder, side = loaded.module.model.encoder, loaded.processors["audio"]
    times = loaded.adapter.times(loaded, loaded.adapter.layers(loaded)[0], sound)
    assert len(times) == int(loaded.adapter.prepare(loaded, [sound]).streams["audio"]["audio"].sum())
    mel = torch.randn(1, 16, 100, requires_grad=True)
    frames = encoder.conv2(torch.nn.functional.gelu(encoder.conv1(mel)))[0].T
    for k in (3, 10):
        (gradient,) = torch.autograd.grad(frames[k].square().sum(), mel, retain_graph=True)
        read = np.flatnonzero(gradient[0].abs().sum(0).numpy())
        centre = (read[0] + read[-1]) // 2
        click = np.zeros(16000, np.float32)
        click[centre * 160] = 1
        picture = side.process([click])["input_features"][0].sum(0)
        loud = np.flatnonzero(picture.numpy() > picture.numpy().min() + 1e-3)
        assert (loud[0] + loud[-1]) / 2 == centre  # the window of that column lies about the click
        assert times[k].mean() == pytest.approx(centre * 0.01)
    assert loaded.adapter.times(loaded, loaded.adapter.layers(loaded)[-1], sound) is None  # the decoder


@pytest.mark.parametrize("kind", ["videomae", "timesformer", "wav2vec2", "whisper"])
def test_moments_are_means_of_their_tokens_on_the_clock_of_the_recording(kind, model, film, tmp_path):
    loaded = model(kind)
    clips = na.StimulusSet.from_film(film, [101.0, 102.5], tmin=-0.5, tmax=0.4, film_onset=100.0)
    tokens = na.extract(loaded, clips, pooling="none", store=tmp_path, **QUIET)
    moments = na.extract(loaded, clips, pooling="moment", store=tmp_path, **QUIET)
    alone = na.extract(loaded, clips, pooling="moment", batch_size=1, store=tmp_path / "alone", **QUIET)
    assert set(tokens) == set(moments) and len(tokens) == 4
    for name, space in moments.items():
        every = pd.DataFrame(tokens[name].values).groupby([tokens[name].parent.values, tokens[name].since.values])
        np.testing.assert_allclose(space.values, every.mean().values, atol=1e-5)
        np.testing.assert_allclose(space.values, alone[name].values, atol=1e-4)
        start = np.where(space.parent.values == clips.ids[0], 100.5, 102.0)
        np.testing.assert_allclose(space.onset, start + space.since)
        count = {"videomae": 2, "timesformer": 4}.get(kind, len(space) // 2)
        assert np.diff(space.attrs["offsets"]).tolist() == [count, count]
        step = 0.9 / count if kind in tiny_multimodal.VIDEO else 0.02
        np.testing.assert_allclose(space.duration, step)
        np.testing.assert_allclose(np.diff(space.onset.values[:count]), step)
        np.testing.assert_allclose(tokens[name].onset, np.where(tokens[name].parent.values == clips.ids[0], 100.5, 102)
                                   + tokens[name].since)


def test_moments_of_a_film_predict_what_follows_them(model, tmp_path):
    # A recording that is the moments of a film, convolved, mixed and noisy, is predicted from them.
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.integers(0, 255, (800, 32, 32, 3), dtype=np.uint8))
    clips = na.StimulusSet.from_film(tmp_path / "a.npy", 10 + np.arange(0, 80, 2.0), tmin=0, tmax=2.0, film_onset=10.0,
                                     modalities=["video"])
    clips = na.StimulusSet(clips.table.assign(frame_rate=10.0), "film")
    features = na.extract(model("videomae"), clips, layers="encoder.layer.0", pooling="moment", store=tmp_path, **QUIET)
    (space,) = features.values()
    assert space.sizes["stimulus"] == 80 and np.allclose(np.diff(np.sort(space.onset)), 1.0)
    times = np.arange(0.0, 110.0, 1.0)
    series = events_to_samples(space, times, hrf="glover")
    brain = series.values @ rng.standard_normal((series.shape[1], 3))
    brain = brain / brain.std(0) + 0.2 * rng.standard_normal(brain.shape)
    responses = make_responses(brain, times, ["a", "b", "c"], dim="time", kind="fmri",
                               sample_coords={"run": np.zeros(len(times), int)})
    scores = na.encode(features, responses, hrf="glover", high_pass=None, alphas=np.logspace(-4, 4, 9))
    assert float(scores.score.sel(metric="r.pooled").min()) > 0.8


def test_what_has_no_moments_is_explained(model, film, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((8, 32, 32, 3), np.uint8))
    arrays = na.StimulusSet(pd.DataFrame({"video": [str(tmp_path / "a.npy")]}, index=["a"]))
    with pytest.raises(BadStimuli, match="'a': the frames of the video have no times. Give frames a second"):
        na.extract(model("videomae"), arrays, pooling="moment", store=tmp_path, **QUIET)
    tokens = na.extract(model("videomae"), arrays, pooling="none", store=tmp_path, **QUIET)
    assert "since" not in next(iter(tokens.values())).coords
    clips = na.StimulusSet.from_film(film, [1.0], tmin=0, tmax=1.0)
    for kind, streams in (("audio-spectrogram-transformer", None), ("videomae", ["all"])):
        with pytest.raises(ValueError, match="pooling='moment': the tokens of model .* have no times in the streams"):
            na.extract(model(kind), clips, pooling="moment", streams=streams, store=tmp_path, **QUIET)


def test_stimuli_without_an_onset_have_times_since_their_start_alone(model, film, tmp_path):
    table = pd.DataFrame({"audio": [str(film)], "start": [1.0], "stop": [1.5]}, index=["a"])
    stimuli = na.StimulusSet(table)
    for space in na.extract(model("wav2vec2"), stimuli, pooling="moment", store=tmp_path, **QUIET).values():
        assert "onset" not in space.coords and space.since.values[0] == pytest.approx((45 / 2 - 160) / 16000)


def test_stimuli_without_moments_are_skipped(model, sound, tmp_path):
    wavfile.write(tmp_path / "short.wav", 16000, np.ones(20, np.int16))
    table = pd.DataFrame({"audio": [str(tmp_path / "short.wav"), sound["audio"]]}, index=["short", "a"])
    options = {"pooling": "moment", "store": tmp_path, **QUIET}
    with pytest.raises(BadStimuli, match="'short': the sound is shorter than one frame"):
        na.extract(model("wav2vec2"), na.StimulusSet(table), **options)
    with pytest.warns(na.errors.NeuroalignWarning, match="'short'"):
        features = na.extract(model("wav2vec2"), na.StimulusSet(table), on_error="skip", **options)
    for space in features.values():
        assert set(space.parent.values) == {"a"} and np.isfinite(space.values).all()


def test_the_tower_of_a_pair_has_the_times_of_its_model(model, film, tmp_path):
    folders = {}
    for kind, builder in (("videomae", tiny_multimodal), ("bert", tiny)):
        folders[kind] = tmp_path / kind
        folders[kind].mkdir()
        builder.build(kind, folders[kind])
    (tmp_path / "zoo.yaml").write_text(
        f"models:\n- id: mine\n  family: pair\n  parts: {{video: {folders['videomae']}, text: {folders['bert']}}}\n"
        "  modalities: [video, text]\n  objective: derived\n")
    clips = na.StimulusSet.from_film(film, [1.0], tmin=0, tmax=1.0, modalities=["video"])
    clips = na.StimulusSet(clips.table.assign(text="a white square"))
    options = {"pooling": "moment", "zoo": tmp_path / "zoo.yaml", "device": "cpu", "store": tmp_path / "store", **QUIET}
    features = na.extract("mine", clips, **options)  # of the text nothing is left
    alone = na.extract(model("videomae"), clips, pooling="moment", store=tmp_path / "store", **QUIET)
    assert len(features) == len(alone)
    for own, space in zip(alone.values(), features.values()):
        np.testing.assert_allclose(space.onset, own.onset)
        np.testing.assert_allclose(space.values, own.values, atol=1e-6)


def test_frames_of_xclip_stand_in_time_and_its_texts_do_not(model, tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 255, (12, 40, 40, 3), dtype=np.uint8))
    table = pd.DataFrame({"video": [str(tmp_path / "a.npy")], "frame_rate": [10.0], "text": ["a man"]}, index=["a"])
    loaded = model("xclip")
    layers = [x.name for x in loaded.adapter.layers(loaded) if x.tower == "video" and x.path != "mit"]
    moments = na.extract(loaded, na.StimulusSet(table), pooling="moment", layers=layers, store=tmp_path, **QUIET)
    for space in moments.values():
        np.testing.assert_allclose(space.since, [0, 0.3, 0.6, 0.9])
        np.testing.assert_allclose(space.duration, 0.3)
    with pytest.raises(ValueError, match="have no times"):
        na.extract(loaded, na.StimulusSet(table), pooling="moment", layers="text_model.*", store=tmp_path, **QUIET)
