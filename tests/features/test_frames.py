"""Confounds of films on gratings that drift as we say, on cuts that we made, and on files."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neuroalign.data import StimulusSet
from neuroalign.data.videos import iter_frames
from neuroalign.features.confounds import frame_difference, luminance, motion_energy, scene_cuts
from neuroalign.features.frames import read_frames

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny_film

RATE = 24.0
MOMENTS = np.arange(48) / RATE


def inverse(linear):
    """Luminance to sRGB values."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def grating(frequency, degrees, hertz, phase=0.0):
    y, x = np.meshgrid(-(np.arange(96) + 0.5) / 96, (np.arange(128) + 0.5) / 128, indexing="ij")
    along = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    waves = np.cos(2 * np.pi * (frequency * along - hertz * MOMENTS[:, None, None]) + phase)
    return inverse(0.5 + 0.4 * waves)


@pytest.mark.parametrize(("frequency", "degrees", "hertz"), [(4, 0, 4), (4, 180, 4), (2, 90, 2), (8, 135, 4),
                                                             (4, 45, 2), (4, 270, 4)])
def test_motion_energy_peaks_at_the_filter_that_moves_alike(frequency, degrees, hertz):
    space = motion_energy(grating(frequency, degrees, hertz), RATE, MOMENTS)
    assert space.space_id.item() == "confound:motion_energy:video" and space.sizes == {"time": 48, "feature": 540}
    centre = ((space.x == 0.5) & (space.y == 0.5)).values
    energy = space.values[20:28].mean(0)
    best = np.where(centre, energy, -1).argmax()
    assert (space.spatial[best], space.direction[best], space.temporal[best]) == (frequency, degrees, hertz)
    backwards = (space.spatial == frequency) & (space.direction == (degrees + 180) % 360) & (space.temporal == hertz)
    assert energy[backwards.values].max() < 0.05 * energy[best]
    # energy depends on no phase, and does not flicker
    other = motion_energy(grating(frequency, degrees, hertz, phase=1.3), RATE, MOMENTS)
    np.testing.assert_allclose(other.values[20:28, best], energy[best], rtol=0.05)


def test_what_stands_still_has_energy_at_zero_hertz_alone():
    space = motion_energy(grating(4, 0, 0), RATE, MOMENTS)
    still = (space.temporal == 0).values
    assert space.values[:, ~still].max() < 1e-8 * space.values[:, still].max()
    uniform = motion_energy(np.full((48, 30, 40), 0.7), RATE, MOMENTS)
    assert uniform.values.max() < 1e-12


def test_frame_difference_is_that_of_the_luminance():
    rng = np.random.default_rng(0)
    film = rng.integers(0, 255, (6, 10, 12, 3), dtype=np.uint8)
    c = film / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    light = 0.2126 * linear[..., 0] + 0.7152 * linear[..., 1] + 0.0722 * linear[..., 2]
    expected = np.r_[0, np.abs(np.diff(light, axis=0)).mean((1, 2))]
    got = frame_difference(film, 10, 5 + np.arange(6) / 10, start=5.0)
    np.testing.assert_allclose(got.values[:, 0], expected, atol=1e-6)
    events = StimulusSet(pd.DataFrame({"text": ["a", "b"], "onset": [5.05, 5.35], "duration": [0.2, 0.2]}))
    means = frame_difference(film, 10, events, start=5.0)
    np.testing.assert_allclose(means.values[:, 0], [expected[1:3].mean(), expected[4:6].mean()], atol=1e-6)


def test_cuts_are_found_and_motion_is_none():
    rng = np.random.default_rng(0)
    dark, light = 0.3 * rng.random((40, 60)), 0.7 + 0.3 * rng.random((40, 60))
    film = [np.roll(dark if 0 <= i < 7 or i >= 15 else light, 3 * i, axis=1) for i in range(20)]
    cuts = scene_cuts(np.array(film), RATE, np.arange(20) / RATE)
    assert np.flatnonzero(cuts.values[:, 0]).tolist() == [7, 15]


def test_folders_gifs_tiffs_and_arrays_give_the_same_frames(tmp_path):
    rng = np.random.default_rng(0)
    film = np.repeat(np.repeat(rng.choice([0, 80, 160, 255], (4, 6, 8)).astype(np.uint8), 4, 1), 4, 2)
    pages = [Image.fromarray(f) for f in film]
    (tmp_path / "folder").mkdir()
    for i, page in enumerate(pages):
        page.save(tmp_path / "folder" / f"{i:03d}.png")
    for name in ("film.gif", "film.tiff"):
        pages = [Image.fromarray(f) for f in film]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    expected = np.stack(list(read_frames(film)))
    for name in ("folder", "film.gif", "film.tiff"):
        np.testing.assert_allclose(np.stack(list(read_frames(tmp_path / name))), expected, atol=1e-6)
    images = StimulusSet.from_folder(tmp_path / "folder")
    np.testing.assert_allclose(luminance(images).values[:, 0], expected.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda p: list(read_frames(p / "gone")), FileNotFoundError, "no file or folder"),
    (lambda p: list(read_frames(np.zeros((4, 5)))), ValueError, r"shape \(4, 5\)"),
    (lambda p: motion_energy(np.zeros((9, 8, 8)), 6.0, MOMENTS), ValueError, r"at most 3 Hz"),
    (lambda p: motion_energy(np.zeros((9, 8, 8)), 24.0, MOMENTS, directions=3), ValueError, "even number"),
])
def test_bad_films_are_explained(call, error, message, tmp_path):
    with pytest.raises(error, match=message):
        call(tmp_path)
    (tmp_path / "film.gif").write_bytes(b"GIF89a broken")
    with pytest.raises(ValueError, match=r"film\.gif.*cannot be read"):
        list(read_frames(tmp_path / "film.gif"))


def test_film_files_are_read_at_their_own_times(tmp_path):
    seconds = np.arange(16) / 25
    path = tiny_film.write_film(tmp_path / "film.mkv", 0.64, sound=False)
    frames = np.stack([f for _, f in iter_frames(path)])
    at = StimulusSet(pd.DataFrame({"text": ["a", "b"], "onset": [10.0, 10.3], "duration": [0.2, 0.2]}))
    for confound in (frame_difference, scene_cuts, partial(motion_energy, temporal=(0, 4))):
        from_file = confound(path, None, at, start=10.0)
        from_array = confound(frames, 25.0, at, start=10.0)
        np.testing.assert_allclose(from_file.values, from_array.values, atol=1e-6)
    moving = np.diff(tiny_film.left_edge(seconds, 0.64)) > 0
    difference = frame_difference(path, None, seconds).values[1:, 0]
    assert difference[moving].min() > 3 * np.r_[difference[~moving], 1e-9].max()


def test_frames_without_times_need_a_rate(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8, 3), np.uint8))
    for source in (tmp_path / "a.npy", np.zeros((4, 8, 8))):
        with pytest.raises(ValueError, match="have no times. Give frames per second"):
            frame_difference(source, None, np.arange(4.0))
    path = tiny_film.write_film(tmp_path / "a.mkv", 1.0, sound=False, stamps=[0.0, 0.04, 0.08, 0.4, 0.44, 0.8])
    with pytest.raises(ValueError, match="expected evenly spaced"):
        motion_energy(path, None, np.arange(4.0), temporal=(0, 1))
