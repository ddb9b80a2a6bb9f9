"""Windows of sound: WAV files, and the tracks of films in which the tones are where we put them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from neuroalign.data import sounds
from neuroalign.data.sounds import count_samples, probe_sound, read_sound

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny_film

SECONDS = 4.0
SUFFIXES = list(tiny_film.CODECS)
LOSSLESS = (".mov", ".mkv")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return {suffix: tiny_film.write_film(folder / f"film{suffix}", SECONDS) for suffix in SUFFIXES}


def loudest(wave, rate):
    return np.fft.rfftfreq(len(wave), 1 / rate)[np.abs(np.fft.rfft(wave)).argmax()]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_windows_hold_the_tones_of_their_seconds(films, suffix):
    for start in (0.0, 0.25, 1.25, 2.25, 3.25):
        wave, rate = read_sound(films[suffix], start, start + 0.5)
        assert len(wave) == rate / 2 and rate == tiny_film.CODECS[suffix][2]
        assert loudest(wave, rate) == pytest.approx(tiny_film.pitch_at(start + 0.25, SECONDS), abs=2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_window_equals_that_part_of_the_whole(films, suffix):
    whole, rate = read_sound(films[suffix])
    assert count_samples(films[suffix]) == (len(whole), rate) and abs(len(whole) / rate - SECONDS) < 0.06
    if suffix in LOSSLESS:
        np.testing.assert_allclose(whole, tiny_film.wave(SECONDS, rate), atol=1e-4)
    for start, stop in ((0.0, 0.5), (0.3, 0.9), (1.513, 2.5), (3.2, 3.99)):
        wave, _ = read_sound(films[suffix], start, stop)
        first, last = round(start * rate), round(stop * rate)
        assert len(wave) == last - first == count_samples(films[suffix], start, stop)[0]
        # Matroska and WebM stamp to the millisecond, others to the sample
        shifts = range(-48, 49) if suffix in (".mkv", ".webm") else (0,)
        differences = [np.abs(wave[:-100] - whole[first + s:last - 100 + s]).max() for s in shifts if first + s >= 0]
        assert min(differences) < 1e-3  # AAC fills in noise


def test_a_jump_decodes_the_window_alone(films, monkeypatch):
    decoded, decode = [], sounds.film_frames

    def counted(*args):
        for second, frame in decode(*args):
            decoded.append(second)
            yield second, frame

    monkeypatch.setattr(sounds, "film_frames", counted)
    read_sound(films[".mp4"], 2.0, 2.5)
    assert min(decoded) > 1.4 and max(decoded) < 2.5


def test_windows_of_wav_files(tmp_path):
    rate = 8000
    wave = tiny_film.wave(SECONDS, rate)
    wavfile.write(tmp_path / "a.wav", rate, wave)
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav")[0], wave)
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav", 1.25, 2.0)[0], wave[10000:16000])
    assert probe_sound(tmp_path / "a.wav").duration == SECONDS
    assert count_samples(tmp_path / "a.wav") == (32000, 8000)
    assert count_samples(tmp_path / "a.wav", 1.25, 2.0) == (6000, 8000)
    with pytest.raises(ValueError, match=r"ends at 4 s, before 5 s"):
        read_sound(tmp_path / "a.wav", 1, 5)


def test_wav_files_of_three_bytes_a_sample(tmp_path):
    import wave

    values = np.array([0, 2**22, -(2**22)], "<i4")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(8000)
        file.writeframes(values.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav")[0], [0, 0.5, -0.5])


def test_films_without_sound_and_damaged_ones_are_explained(tmp_path):
    silent = tiny_film.write_film(tmp_path / "silent.mp4", 1.0, sound=False)
    with pytest.raises(ValueError, match="has no sound"):
        read_sound(silent)
    content = tiny_film.write_film(tmp_path / "a.mp4", options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    for window in ((0.0, None), (0.5, 3.9)):
        with pytest.raises(ValueError, match="truncated"):
            read_sound(tmp_path / "cut.mp4", *window)
    with pytest.raises(ValueError, match="ends at"):
        read_sound(tmp_path / "a.mp4", 3.0, 5.0)
    content = tiny_film.write_film(tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated"):
        read_sound(tmp_path / "cut.mkv")
    assert len(read_sound(tmp_path / "cut.mkv", 0.0, 1.0)[0]) == 44100
    (tmp_path / "no.mp3").write_bytes(b"no sound at all")
    with pytest.raises(ValueError, match=r"no\.mp3"):
        read_sound(tmp_path / "no.mp3")
