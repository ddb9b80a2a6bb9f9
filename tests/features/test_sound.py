"""Confounds of sound on signals whose envelope, spectrum and pitch are known, and against brute force."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from neuroalign.data import StimulusSet
from neuroalign.features import events_to_samples
from neuroalign.features.confounds import envelope, mel_spectrogram, pitch, read_sound, sound_on, speech_on
from neuroalign.features.moments import mean_within

SFREQ = 8000
TIME = np.arange(2 * SFREQ) / SFREQ
TONE = np.sin(2 * np.pi * 1000 * TIME)
AT = np.arange(0.1, 1.9, 0.06)


def words(onset, duration):
    ids = [f"w{i}" for i in range(len(onset))]
    return StimulusSet(pd.DataFrame({"text": "x", "onset": onset, "duration": duration}, index=ids))


def harmonic(hertz):
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, TIME.shape)) / SFREQ
    return sum(np.sin(k * phase) / k for k in range(1, 6))


@given(st.lists(st.floats(0, 5), min_size=2, max_size=30, unique=True), st.floats(-1, 6), st.floats(0.001, 3))
@settings(deadline=None)
def test_means_over_intervals_equal_brute_force(moments, start, length):
    moments = np.sort(np.array(moments))
    values = np.c_[np.sin(7 * moments), moments]
    inside = (moments >= start) & (moments < start + length)
    nearest = np.abs(moments - (start + start + length) / 2)
    got = mean_within(values, moments, [start], [start + length])[0]
    if inside.any():
        np.testing.assert_allclose(got, values[inside].mean(0), atol=1e-5)
    else:
        assert np.isclose(values, got, atol=1e-5).all(1)[np.isclose(nearest, nearest.min(), atol=1e-6)].any()


def test_the_envelope_of_a_modulated_tone_is_its_modulation():
    modulation = 1 + 0.5 * np.sin(2 * np.pi * 2 * TIME)
    space = envelope(modulation * TONE, SFREQ, AT)
    assert space.space_id.item() == "confound:envelope:audio" and space.dims == ("time", "feature")
    expected = [modulation[(t - 0.025 <= TIME) & (t + 0.025 > TIME)].mean() for t in AT]
    np.testing.assert_allclose(space.values[:, 0], expected, atol=0.02)


def test_events_get_the_mean_between_onset_and_offset_on_their_own_clock():
    loud = TONE * np.where(TIME < 1, 0.1, 1.0)
    events = words([100.2, 101.3, 101.9], [0.5, 0.5, 0.05])
    space = envelope(loud, SFREQ, events, start=100.0)
    assert list(space.stimulus.values) == ["w0", "w1", "w2"]
    np.testing.assert_allclose(space.values[:, 0], [0.1, 1.0, 1.0], atol=0.03)
    assert events_to_samples(space, np.arange(90.0, 130.0)).shape == (40, 1)


def test_before_and_after_a_sound_there_is_silence_and_no_event():
    sound = np.random.default_rng(0).standard_normal(4000 * 5)
    found = envelope(sound, 4000, np.arange(20.0), start=3.0).values[:, 0]
    assert (found[3:9] > 0.5).all() and (found[[0, 1, 2, *range(9, 20)]] == 0).all()
    assert (mel_spectrogram(sound, 4000, np.arange(20.0), floor=-70.0).values[10:] == -70).all()
    with pytest.raises(ValueError, match=r"all seconds \(10 to 19\) lie outside of it.*start="):
        envelope(sound, 4000, np.arange(10.0, 20.0))
    for onset, message in ((500.0, "1 of 2 events lie outside of the audio, which lasts from 0.005 to 4.995 s: 'w1'"),
                           (np.nan, "onset or duration is not finite for 'w1'")):
        with pytest.raises(ValueError, match=message):
            envelope(sound, 4000, words([1.0, onset], [0.5, 0.5]))
    with pytest.raises(ValueError, match="durations of 'w1' are below 0 s"):
        envelope(sound, 4000, words([1.0, 2.0], [0.5, -0.5]))
    with pytest.raises(ValueError, match="not finite for 'w1'"):  # it would go on to the end
        speech_on(words([1.0, 2.0], [0.5, np.nan]), np.arange(20.0))
    with pytest.raises(ValueError, match="speech_on: 1 of 2 words lie outside of the seconds from 0 to 19: 'w1'"):
        speech_on(words([1.0, 2000.0], [0.5, 0.5]), np.arange(20.0))


def test_a_tone_fills_the_mel_band_around_it():
    space = mel_spectrogram(TONE, SFREQ, AT, n_bands=20)
    nearest = np.abs(space.frequency.values - 1000).argmin()
    assert set(space.values.argmax(1)) == {nearest} and space.values.max() == pytest.approx(0, abs=0.5)
    assert space.values[:, np.abs(np.arange(20) - nearest) > 3].max() < -40
    mel = 2595 * np.log10(1 + space.frequency.values / 700)
    np.testing.assert_allclose(np.diff(mel), np.diff(mel)[0], rtol=1e-6)


def test_the_mel_spectrogram_equals_one_frame_at_a_time():
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(SFREQ // 2)
    moments = (np.arange(50) + 0.5) * 0.01
    got = mel_spectrogram(sound, SFREQ, moments, n_bands=6, low=100)
    edges = 700 * (10 ** (np.linspace(2595 * np.log10(1 + 100 / 700), 2595 * np.log10(1 + 4000 / 700), 8) / 2595) - 1)
    rows = []
    for t in moments[5:45]:
        first = round(t * SFREQ) - 100
        spectrum = np.abs(np.fft.rfft(sound[first:first + 200] * np.hanning(201)[:-1], 1024)) ** 2
        frequencies = np.arange(513) * SFREQ / 1024
        rows.append([(spectrum * np.interp(frequencies, edges[k:k + 3], [0, 1, 0])).sum() for k in range(6)])
    expected = 10 * np.log10(np.array(rows))
    difference = got.values[5:45] - expected
    np.testing.assert_allclose(difference, difference[0, 0], atol=1e-3)  # the same up to the reference


@pytest.mark.parametrize("hertz", [82.0, 118.3, 220.0, 441.7])
def test_the_pitch_of_a_harmonic_sound_is_its_fundamental(hertz):
    space = pitch(harmonic(hertz), SFREQ, AT)
    np.testing.assert_allclose(space.values[:, 0], hertz, rtol=0.005)
    np.testing.assert_array_equal(space.values[:, 1], 1)
    assert space.kind.values.tolist() == ["hertz", "voiced"]


def test_pitch_follows_a_glide_needs_no_fundamental_bears_noise_and_leaves_noise_alone_unvoiced():
    glide = 100 + 100 * TIME
    noisy = pitch(harmonic(glide) + 0.3 * np.random.default_rng(0).standard_normal(len(TIME)), SFREQ, AT)
    np.testing.assert_allclose(noisy.values[:, 0], 100 + 100 * AT, rtol=0.02)
    space = pitch(harmonic(glide) - np.sin(2 * np.pi * np.cumsum(glide) / SFREQ), SFREQ, AT)
    np.testing.assert_allclose(space.values[:, 0], 100 + 100 * AT, rtol=0.02)
    noise = pitch(np.random.default_rng(0).standard_normal(len(TIME)), SFREQ, AT)
    assert noise.values[:, 1].mean() < 0.1
    half = pitch(np.where(TIME < 1, harmonic(150.0), 0), SFREQ, words([0.2, 1.2, 0.7], [0.5, 0.5, 0.6]))
    np.testing.assert_allclose(half.values[:, 0], [150, 0, 150], rtol=0.01)
    np.testing.assert_allclose(half.values[:, 1], [1, 0, 0.5], atol=0.05)


def test_sound_and_speech_are_on_where_they_are():
    bursts = TONE * ((TIME > 0.5) & (TIME < 1.0))
    on = sound_on(bursts, SFREQ, np.arange(0.05, 2, 0.1)).values[:, 0]
    np.testing.assert_allclose(on, (np.arange(20) >= 5) & (np.arange(20) < 10), atol=0.11)
    onset, duration = np.array([0.0, 1.3, 1.35, 4.0]), np.array([0.5, 0.2, 0.4, 3.0])
    times = np.arange(0.0, 8.0, 1.0)
    got = speech_on(words(onset, duration), times).values[:, 0]
    fine = np.arange(-0.5, 7.5, 1e-4)
    inside = ((fine[:, None] >= onset) & (fine[:, None] < onset + duration)).any(1)
    np.testing.assert_allclose(got, inside.reshape(8, -1).mean(1), atol=0.03)


def test_wav_files_of_any_depth_are_read_alike(tmp_path):
    sound = (0.5 * TONE[:800]).astype(np.float32)
    made = {"float": sound, "int16": (sound * 32767).astype(np.int16), "uint8": (sound * 127 + 128).astype(np.uint8),
            "stereo": np.c_[sound, sound]}
    for name, array in made.items():
        wavfile.write(tmp_path / f"{name}.wav", SFREQ, array)
        got, sfreq = read_sound(tmp_path / f"{name}.wav")
        assert sfreq == SFREQ
        np.testing.assert_allclose(got, sound, atol=0.01)
    (tmp_path / "no.wav").write_bytes(b"not a sound")
    with pytest.raises(ValueError, match=r"no\.wav.*Convert it"):
        read_sound(tmp_path / "no.wav")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_sound(tmp_path / "gone.wav")


@pytest.mark.parametrize(("call", "message"), [
    (lambda: envelope(np.c_[TONE, TONE], SFREQ, AT), "samples of one channel"),
    (lambda: envelope(TONE, 10, AT), "10 samples per second"),
    (lambda: envelope(TONE, SFREQ, AT[::-1]), "seconds that increase"),
    (lambda: envelope(TONE, SFREQ, StimulusSet.from_texts(["a"])), "no onset and no duration"),
    (lambda: envelope(TONE, SFREQ, words([0.1, np.nan], [0.1, 0.1])), "not finite for 'w1'"),
    (lambda: mel_spectrogram(TONE, SFREQ, AT, high=9000), "expected a range within 0 to 4000"),
    (lambda: pitch(TONE, SFREQ, AT, low=500, high=100), "got 500 to 100 Hz"),
    (lambda: speech_on(StimulusSet.from_texts(["a"]), AT), "no onset and duration"),
])
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()
