"""The clock of a film on that of a recording: drift, pauses, and what is not known."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.data import make_features, make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import FilmClock


def test_a_drifting_clock_is_followed_and_reported():
    film = np.arange(0, 600, 0.5)
    jitter = np.random.default_rng(0).uniform(-2e-3, 2e-3, len(film))
    clock = FilmClock.from_triggers(film, 7 + film * (1 + 3e-4) + jitter)
    times = np.array([0.2, 111.1, 599.0])
    np.testing.assert_allclose(clock.to_recording(times), 7 + times * (1 + 3e-4), atol=2.1e-3)
    np.testing.assert_allclose(clock.to_film(clock.to_recording(times)), times, atol=1e-9)
    report = clock.report().iloc[0]
    assert report["drift_ppm"] == pytest.approx(300, abs=3) and 1 < report["jitter_ms"] < 4
    assert report["n_triggers"] == 1200
    with pytest.warns(NeuroalignWarning, match=r"in 1 of 1 pieces the clocks drift by up to 0\.50%"):
        FilmClock.from_triggers(film, film * 1.005)


def test_a_pause_breaks_the_map():
    film = np.arange(0, 10.0)
    clock = FilmClock.from_triggers(film, film + 100 + 30.0 * (film > 4.5))
    assert clock.piece.tolist() == [0] * 5 + [1] * 5
    assert clock.report()["pause"].tolist() == [0, 30]
    np.testing.assert_array_equal(clock.to_recording([3.5, 4.5, 5.5]), [103.5, np.nan, 135.5])
    np.testing.assert_array_equal(clock.to_film([103.5, 120, 135.5]), [3.5, np.nan, 5.5])
    np.testing.assert_array_equal(clock.to_recording([-2, 11, 80]), [98, 141, np.nan])  # a minute beyond at most


def test_a_scene_that_was_shown_again_is_mapped_to_its_first_showing():
    film = np.array([0, 1, 2, 3, 1, 2, 3, 4.0])
    clock = FilmClock.from_triggers(film, np.arange(8.0))
    assert clock.to_recording([1.5, 3.5]).tolist() == [1.5, 6.5]
    assert clock.to_film([5.5]).tolist() == [2.5]


def test_what_cannot_be_a_clock_is_refused():
    film = np.arange(20.0)
    with pytest.raises(ValueError, match="runs 0.5 times as fast as the film. Is its sampling rate right"):
        FilmClock.from_triggers(film, film / 2)
    with pytest.raises(ValueError, match="does not go forward at '2'"):
        FilmClock.from_triggers([0, 1, 2], [0, 1, 0.5])
    with pytest.raises(ValueError, match="at least two"):
        FilmClock.from_triggers([0], [0])
    with pytest.raises(ValueError, match="not finite at '1'"):
        FilmClock.from_triggers([0, np.nan], [0, 1])


def test_an_offset_of_100_ms_is_found_by_a_scan_of_lags():
    """A film that was taken to begin 100 ms too early: the response seems to come 100 ms later."""
    sfreq, rng = 20.0, np.random.default_rng(0)
    times = np.arange(400) / sfreq
    loudness = np.convolve(rng.standard_normal(400), np.hanning(5), "same")
    film = make_features(loudness[:, None], times, model="loudness", dim="time")
    for planted in (0.0, 0.1):
        heard = np.interp(times - planted, times, loudness)[:, None] + 0.5 * rng.standard_normal((400, 1))
        responses = make_responses(heard, times, ["A1"], dim="time", kind="seeg", sfreq=sfreq)
        scores = na.lag_scores(film, responses, tmin=-0.1, tmax=0.2, alphas=[1.0], baselines=())
        best = scores["score"].isel(metric=0, neuroid=0).argmax("space")
        assert float(scores["delay"][best]) == pytest.approx(planted)
