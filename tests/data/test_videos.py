"""Frames by second: films in which a square is where we put it, arrays, animated pictures, and damaged files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuroalign.data import videos
from neuroalign.data.videos import frames_at, iter_frames, probe_video

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny_film

SECONDS = 4.0
SUFFIXES = list(tiny_film.CODECS)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return {suffix: tiny_film.write_film(folder / f"film{suffix}", SECONDS) for suffix in SUFFIXES}


def edge(frame):
    """The first bright column of the square."""
    return np.flatnonzero(frame[22:34].mean((0, 2)) > 128)[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_show_what_was_there_at_their_seconds(films, suffix):
    info = probe_video(films[suffix])
    assert info.frame_rate == 25 and abs(info.duration - SECONDS) < 0.05 and abs(info.n_frames - 100) <= 1
    moments = np.array([0.0, 0.39, 1.57, 2.7, 2.71, 3.9])
    got = [edge(f) for f in frames_at(films[suffix], moments)]
    shown = np.floor(moments * 25 + 1e-6) / 25
    np.testing.assert_allclose(got, tiny_film.left_edge(shown, SECONDS), atol=1)  # half a pixel a frame


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_window_equals_that_of_the_whole_film_and_is_all_that_is_decoded(films, suffix, monkeypatch):
    seconds, frames = zip(*iter_frames(films[suffix]))
    moments = np.arange(2.13, 2.9, 0.17)
    at = np.searchsorted(seconds, moments + 1e-6, side="right") - 1
    decoded, decode = [], videos.film_frames

    def counted(*args):
        for second, frame in decode(*args):
            decoded.append(second)
            yield second, frame

    monkeypatch.setattr(videos, "film_frames", counted)
    for got, i in zip(frames_at(films[suffix], moments), at):
        np.testing.assert_array_equal(got, frames[i])
    longest_group = 5.2 if suffix == ".webm" else 0.6  # of pictures that need each other; vp9 chooses it itself
    assert min(decoded) >= moments[0] - longest_group and max(decoded) < moments[-1] + 0.1


def test_frames_that_are_not_evenly_spaced(tmp_path):
    stamps = np.array([0.0, 0.04, 0.08, 0.52, 0.56, 1.2, 1.24, 1.96])
    path = tiny_film.write_film(tmp_path / "a.mkv", 2.0, stamps=stamps, sound=False)
    moments = np.array([0.06, 0.3, 0.519, 0.52, 1.1, 1.3, 1.9])
    shown = stamps[np.searchsorted(stamps, moments, side="right") - 1]
    np.testing.assert_allclose([edge(f) for f in frames_at(path, moments)], tiny_film.left_edge(shown, 2.0), atol=1)
    np.testing.assert_allclose([s for s, _ in iter_frames(path)], stamps, atol=1e-6)


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv"])
def test_frames_that_are_stored_out_of_order(name, tmp_path):
    path = tiny_film.write_film(tmp_path / name, sound=False, b_frames=2)
    moments = np.arange(0.02, 4, 0.31)
    got = [edge(f) for f in frames_at(path, moments)]
    np.testing.assert_array_equal(got, tiny_film.left_edge(np.floor(moments * 25) / 25, SECONDS))


def test_a_film_that_was_turned_is_shown_upright(tmp_path):
    straight = tiny_film.write_film(tmp_path / "a.mp4", 1.0, sound=False)
    turned = tiny_film.write_film(tmp_path / "b.mp4", 1.0, sound=False, turned=90)
    one, two = (frames_at(p, [0.5])[0] for p in (straight, turned))
    np.testing.assert_array_equal(two, np.rot90(one))


def test_arrays_have_times_by_a_rate_alone(tmp_path):
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 3), np.uint8)
    np.save(tmp_path / "a.npy", frames)
    untimed, timed = probe_video(tmp_path / "a.npy"), probe_video(tmp_path / "a.npy", 5.0)
    assert not untimed.timed and untimed.duration == untimed.n_frames == 10
    assert timed.timed and (timed.n_frames, timed.duration) == (10, 2.0)
    got = frames_at(tmp_path / "a.npy", [0.0, 0.2, 0.3, 1.99], 5.0)
    assert [f[0, 0, 0] for f in got] == [0, 1, 1, 9] and got[0].shape == (4, 5, 3)
    assert [f[0, 0, 0] for f in frames_at(tmp_path / "a.npy", [0.5, 7.0])] == [0, 7]
    assert [s for s, _ in iter_frames(tmp_path / "a.npy", 5.0)] == [i / 5 for i in range(10)]


def test_animated_pictures_have_the_times_of_their_file(tmp_path):
    pages = [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(5)]
    for name in ("a.gif", "a.webp", "a.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], duration=[40, 100, 40, 200, 40])
        info = probe_video(tmp_path / name)
        assert info.timed and info.n_frames == 5 and info.duration == pytest.approx(0.42)
        got = [f[0, 0, 0] for f in frames_at(tmp_path / name, [0.0, 0.1, 0.15, 0.3])]
        np.testing.assert_allclose(got, [0, 40, 80, 120], atol=8)  # WebP loses a little
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert not probe_video(tmp_path / "a.tif").timed and probe_video(tmp_path / "a.tif", 10.0).duration == 0.5


def test_damaged_films_are_explained(tmp_path):
    whole = tiny_film.write_film(tmp_path / "a.mp4", options={"movflags": "faststart"})
    content = whole.read_bytes()
    for part, words in ((0.6, r"ends at .* and a frame at 3\.9"), (0.05, "truncated or damaged")):
        (tmp_path / "cut.mp4").write_bytes(content[:int(part * len(content))])
        with pytest.raises(ValueError, match=words):
            frames_at(tmp_path / "cut.mp4", [0.1, 3.9])
    for name, write in (("text.mp4", b"no film"), ("empty.mkv", b"")):
        (tmp_path / name).write_bytes(write)
        with pytest.raises(ValueError, match=f"{name}.*truncated or damaged"):
            probe_video(tmp_path / name)
    with pytest.raises(ValueError, match="has no pictures"):
        probe_video(tiny_film.write_film(tmp_path / "sound.mp4", 1.0, pictures=False))
    with pytest.raises(FileNotFoundError, match="no file"):
        probe_video(tmp_path / "gone.mp4")


def test_without_pyav_the_pip_line_is_given(tmp_path, monkeypatch):
    from neuroalign.errors import MissingExtra

    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"pip install 'neuroalign\[video\]'"):
        probe_video(tmp_path / "a.mp4")
