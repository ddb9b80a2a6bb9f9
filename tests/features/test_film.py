"""From a film to features: what models are given of a window, and windows that cannot be."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from scipy.signal import resample_poly
from typer.testing import CliRunner

import neuroalign as na
from neuroalign.cli.main import app
from neuroalign.data.sounds import read_sound
from neuroalign.data.videos import iter_frames
from neuroalign.models import BadStimuli, load_model, wrap

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny_film
import tiny_multimodal

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return tiny_film.write_film(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("models") / kind
            made[kind].mkdir()
            tiny_multimodal.build(kind, made[kind])
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def model(folders):
    return lambda kind: load_model(str(folders(kind)), device="cpu")


def rows(stimuli):
    return stimuli.table.reset_index().to_dict("records")


def test_a_model_sees_the_frames_of_the_window(film, model):
    videomae = model("videomae")
    clips = na.StimulusSet.from_film(film, [1.0, 2.5], tmin=-0.5, tmax=0.3)
    got = videomae.adapter.prepare(videomae, rows(clips)).tensors["pixel_values"]
    frames = [f for _, f in iter_frames(film)]
    for start, pixels in zip(clips.table.start, got):
        shown = [int((start + 0.8 * (i + 0.5) / 4) * 25 + 1e-6) for i in range(4)]
        expected = videomae.processors["video"].process([Image.fromarray(frames[k]) for k in shown])[0]
        torch.testing.assert_close(pixels, expected, rtol=0, atol=0)


def test_a_model_hears_the_sound_of_the_window_at_its_rate(film, model):
    speech = model("wav2vec2-layer")
    clips = na.StimulusSet.from_film(film, [0.5, 3.5], tmin=-0.25, tmax=0.25)
    inputs = speech.adapter.prepare(speech, rows(clips))
    assert inputs.tensors["lengths"].tolist() == [8000, 8000]
    for start, got in zip(clips.table.start, inputs.tensors["input_values"]):
        wave, _ = read_sound(film, start, start + 0.5)
        wave = resample_poly(wave.astype(np.float64), 160, 441)
        expected = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        np.testing.assert_allclose(got, expected, atol=1e-4)
        spectrum = np.abs(np.fft.rfft(got))
        assert spectrum.argmax() * 2 == pytest.approx(tiny_film.pitch_at(start + 0.25, 4.0), abs=2)


def test_a_wav_of_another_rate_gives_what_its_resampled_copy_gives(model, tmp_path):
    speech = model("wav2vec2")
    rng = np.random.default_rng(0)
    wave = rng.standard_normal(22050).astype(np.float32) * 0.1
    wavfile.write(tmp_path / "fast.wav", 44100, wave)
    wavfile.write(tmp_path / "own.wav", 16000, resample_poly(wave.astype(np.float64), 160, 441).astype(np.float32))
    stimuli = na.StimulusSet(pd.DataFrame({"audio": [str(tmp_path / f"{n}.wav") for n in ("fast", "own")]}))
    for space in na.extract(speech, stimuli, store=tmp_path / "store", **QUIET).values():
        np.testing.assert_allclose(space.values[0], space.values[1], atol=1e-5)


@pytest.mark.parametrize("kind", ["videomae", "wav2vec2", "whisper"])
def test_clips_around_events_are_extracted_and_verified(kind, film, model, tmp_path):
    loaded = model(kind)
    clips = na.StimulusSet.from_film(film, [101.0, 102.0, 103.0], tmin=-0.5, tmax=0.4, film_onset=100.0)
    features = na.extract(loaded, clips, store=tmp_path, **QUIET)
    for space in features.values():
        assert np.isfinite(space.values).all() and len(np.unique(space.values[:, 0])) == 3
        np.testing.assert_allclose(space.onset, [100.5, 101.5, 102.5])
        np.testing.assert_allclose(space.duration, 0.9)
    assert na.verify(loaded, clips, store=tmp_path).attrs["passed"]
    moved = na.StimulusSet.from_film(film, [101.04, 102.04], tmin=-0.5, tmax=0.4, film_onset=100.0, ids=clips.ids[:2])
    other = na.extract(loaded, moved, store=tmp_path, **QUIET)
    assert not any(np.allclose(a.values[:2], b.values) for a, b in zip(features.values(), other.values()))


def test_windows_beyond_the_film_or_too_short_are_named_before_any_forward(film, model, tmp_path, monkeypatch):
    for kind, words, tmax in (("videomae", "from 3.5 to 4.5 s lies beyond the end of the video, 4 s", 1.0),
                              ("wav2vec2", "from 3.5 to 4.5 s lies beyond the end of the sound, 4 s", 1.0),
                              ("videomae", "from 1 to 1.1 s has 2 frames, the model sees clips of 4", 0.1)):
        loaded = model(kind)
        monkeypatch.setattr(loaded.adapter, "prepare", lambda *_: pytest.fail("prepared"))
        clips = na.StimulusSet.from_film(film, [1.0, 3.5], tmin=0, tmax=tmax)
        with pytest.raises(BadStimuli, match=words) as error:
            na.extract(loaded, clips, store=tmp_path, **QUIET)
        assert error.value.ids == (("film@1", "film@3.5") if tmax == 0.1 else ("film@3.5",))
    loaded = model("videomae")
    clips = na.StimulusSet.from_film(film, [1.0, 3.5], tmin=0, tmax=1.0)
    with pytest.warns(na.errors.NeuroalignWarning, match=r"1 stimuli were skipped.*'film@3.5'"):
        features = na.extract(loaded, clips, store=tmp_path, on_error="skip", **QUIET)
    assert [np.isfinite(f.values).all(1).tolist() for f in features.values()] == [[True, False]] * len(features)


def test_arrays_need_a_frame_rate_for_windows(model, tmp_path):
    videomae, frames = model("videomae"), np.random.default_rng(0).integers(0, 255, (20, 40, 40, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", frames)
    table = pd.DataFrame({"video": [str(tmp_path / "a.npy")], "start": [1.0], "stop": [1.8]}, index=["a"])
    with pytest.raises(BadStimuli, match="Give frames a second in a column 'frame_rate'"):
        na.extract(videomae, na.StimulusSet(table), store=tmp_path, **QUIET)
    inputs = videomae.adapter.prepare(videomae, rows(na.StimulusSet(table.assign(frame_rate=10))))
    expected = videomae.processors["video"].process([Image.fromarray(frames[k]) for k in (11, 13, 15, 17)])
    torch.testing.assert_close(inputs.tensors["pixel_values"], expected, rtol=0, atol=0)


def test_a_damaged_film_is_named_or_skipped(film, model, tmp_path):
    content = film.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    table = pd.DataFrame({"video": [str(film), str(tmp_path / "cut.mp4")]}, index=["whole", "cut"])
    with pytest.raises(BadStimuli, match=r"'cut': .*truncated or damaged"):
        na.extract(model("videomae"), na.StimulusSet(table), store=tmp_path, **QUIET)
    streamed = tiny_film.write_film(tmp_path / "a.mp4", options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(streamed[: len(streamed) // 2])  # its header is whole
    with pytest.raises(BadStimuli, match=r"'cut': .*truncated"):
        na.extract(model("videomae"), na.StimulusSet(table), store=tmp_path, **QUIET)


def test_the_command_line_extracts_windows_of_a_manifest(film, folders, tmp_path):
    table = pd.DataFrame({"stimulus_id": ["a", "b"], "video": film.name, "start": [0.5, 2.0], "stop": [1.5, 3.0]})
    table.to_csv(film.parent / "clips.csv", index=False)
    done = CliRunner().invoke(app, ["extract", str(folders("videomae")), "--stimuli", str(film.parent / "clips.csv"),
                                    "--store", str(tmp_path / "store"), "--quiet", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    clips = na.StimulusSet.from_film(film, [0.5, 2.0], tmin=0, tmax=1, modalities=["video"], ids=["a", "b"])
    expected = na.extract(str(folders("videomae")), clips, store=tmp_path / "other", device="cpu", **QUIET)
    stored = [np.load(p) for p in sorted((tmp_path / "store").rglob("*.npy"))]
    wanted = [np.load(p) for p in sorted((tmp_path / "other").rglob("*.npy"))]
    assert len(stored) == len(expected) and all(map(np.array_equal, stored, wanted))


def test_wrapped_models_are_given_windows_or_refuse_them(film, tmp_path):
    clips = na.StimulusSet.from_film(film, [0.5, 2.5], tmin=0, tmax=0.5, modalities=["audio"])
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(22050, 4))

    def read(path, start=0.0, stop=None):
        return torch.from_numpy(read_sound(path, start, stop)[0])

    own = wrap(net, read, ["1"], name="own", modality="audio", device="cpu")
    (space,) = na.extract(own, clips, store=tmp_path, **QUIET).values()
    with torch.no_grad():
        expected = net(torch.stack([read(film, 0.5, 1.0), read(film, 2.5, 3.0)]))
    np.testing.assert_allclose(space.values, expected, atol=1e-5)
    whole = wrap(net, lambda path: torch.zeros(22050), ["1"], name="whole", modality="audio", device="cpu")
    with pytest.raises(BadStimuli, match="takes whole files"):
        na.extract(whole, clips, store=tmp_path, **QUIET)


def test_the_size_of_moments_is_estimated(film, model):
    clips = na.StimulusSet.sliding(film, window=1.0, step=1.0)
    table = na.features.estimate(model("videomae"), clips, pooling="moment")
    assert set(table.n_rows) == {8} and set(table.n_features) == {32}
