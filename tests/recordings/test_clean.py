"""Cleaning against the written-out recipe, scikit-learn's regression and the published reliability of Alice."""

import json
from importlib import import_module

import numpy as np
import pytest
import xarray as xr
from scipy.signal import butter, detrend, filtfilt
from scipy.stats import zscore
from sklearn.linear_model import LinearRegression

from neuroalign.data import make_features, make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import clean, group_mean, load_confounds, load_responses

N = 150


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((N, 4)).cumsum(0) + 100


def series(values, runs=None, **coords):
    runs = {} if runs is None else {"run": runs}
    return make_responses(values, 2.0 * np.arange(len(values)), [f"v{k}" for k in range(values.shape[1])], dim="time",
                          sample_coords=runs, neuroid_coords=coords, sfreq=0.5)


def test_alice_intersubject_correlation_is_the_reference(mirror):
    expected = json.loads((mirror / "acceptance.json").read_text())
    cleaned = clean(load_responses("alice_fmri"), confounds=load_confounds("alice_fmri"), high_pass=1 / 128)
    z = cleaned.values.astype(float).reshape(362, 27, 6)
    for k, region in enumerate(cleaned.region.values[:6]):
        r = [np.corrcoef(z[:, i, k], np.delete(z, i, 1)[:, :, k].mean(1))[0, 1] for i in range(27)]
        wanted = expected[f"alice.isc_loo.{region}"]
        assert np.mean(r) == pytest.approx(wanted["value"], abs=wanted["tol"])


def test_detrend_and_standardize_equal_scipy(noise):
    np.testing.assert_allclose(clean(series(noise)), zscore(detrend(noise, axis=0)), atol=1e-5)
    np.testing.assert_allclose(clean(series(noise), standardize=False), detrend(noise, axis=0), atol=1e-4)
    np.testing.assert_allclose(clean(series(noise), detrend=False), zscore(noise), atol=1e-5)


def test_confounds_equal_scikit_learn(noise):
    confounds = np.random.default_rng(1).standard_normal((N, 3)) * [1, 100, 0.01] + 5
    fitted = LinearRegression().fit(confounds, noise)
    out = clean(series(noise), confounds=confounds, detrend=False, standardize=False)
    np.testing.assert_allclose(out, noise - fitted.predict(confounds) + noise.mean(0), atol=1e-3)
    again = clean(series(noise), confounds=np.c_[confounds, np.full(N, 7.0)], detrend=False, standardize=False)
    np.testing.assert_allclose(again, out, atol=1e-4)  # a constant confound changes nothing


@pytest.mark.parametrize("cuts, kind", [((0.01, None), "highpass"), ((None, 0.1), "lowpass"),
                                        ((0.01, 0.1), "bandpass")])
def test_filters_equal_scipy(noise, cuts, kind):
    used = [c / 0.25 for c in cuts if c]
    b, a = butter(2, used if len(used) == 2 else used[0], kind)
    out = clean(series(noise), high_pass=cuts[0], low_pass=cuts[1], detrend=False)
    np.testing.assert_allclose(out, zscore(filtfilt(b, a, noise, axis=0)), atol=1e-5)
    assert json.loads(out.attrs["cleaning"])[-1]["high_pass"] == cuts[0]
    assert out.attrs.get("high_pass") == cuts[0]


def test_every_call_is_written_down(noise):
    out = clean(clean(series(noise), confounds=np.random.default_rng(1).random((N, 3))), high_pass=0.01)
    first, second = json.loads(out.attrs["cleaning"])
    assert (first["confounds"], first["high_pass"]) == (3, None)
    assert (second["confounds"], second["high_pass"]) == (0, 0.01)
    again = clean(clean(series(noise), high_pass=0.02, low_pass=0.1), high_pass=0.01, low_pass=0.12)
    assert (again.attrs["high_pass"], again.attrs["low_pass"]) == (0.02, 0.1)
    assert out.attrs["units"] == "z"


def test_blocks_of_columns_change_nothing(noise, monkeypatch):
    whole = clean(series(noise), high_pass=0.01)
    monkeypatch.setattr(import_module("neuroalign.recordings.clean"), "BLOCK", 3)
    np.testing.assert_allclose(clean(series(noise), high_pass=0.01), whole, atol=1e-6)


def test_runs_are_cleaned_by_themselves(noise):
    runs = np.repeat([0, 1], N // 2)
    both = clean(series(noise, runs), high_pass=0.02)
    for run in (0, 1):
        alone = clean(series(noise[runs == run]), high_pass=0.02)
        np.testing.assert_allclose(both.values[runs == run], alone, atol=1e-5)
    mixed = np.arange(N) % 2  # samples of a run need not stand together
    np.testing.assert_allclose(clean(series(noise, mixed)).values[1::2], clean(series(noise[1::2])), atol=1e-5)


def test_each_subject_gets_its_own_confounds(noise):
    table = np.random.default_rng(1).standard_normal((N, 2, 2)).astype(np.float32)
    confounds = xr.DataArray(table, dims=("time", "confound", "subject"),
                             coords={"time": 2.0 * np.arange(N), "subject": ["s1", "s2"]})
    whole = clean(series(noise, subject=["s2", "s1", "s2", "s1"]), confounds=confounds)
    for column, k in enumerate([1, 0, 1, 0]):
        alone = clean(series(noise[:, [column]]), confounds=table[:, :, k])
        np.testing.assert_allclose(whole.values[:, column], alone.values[:, 0], atol=1e-5)
    one = clean(series(noise), confounds=confounds.sel(subject="s1", drop=True))
    np.testing.assert_allclose(one, clean(series(noise), confounds=table[:, :, 0]), atol=1e-6)
    with pytest.raises(ValueError, match="no confounds of subjects 's3'"):
        clean(series(noise, subject=["s1", "s3", "s1", "s1"]), confounds=confounds)
    with pytest.raises(ValueError, match=r"no coord 'subject'.*confounds\.sel"):
        clean(series(noise), confounds=confounds)
    with pytest.raises(ValueError, match="different clocks"):
        clean(series(noise), confounds=confounds.sel(subject="s1").assign_coords(time=np.arange(N)))


def test_constant_and_nan_columns_touch_only_themselves(noise):
    bad = noise.copy()
    bad[:, 1] = 3.3
    bad[7, 2] = np.nan
    with pytest.warns(NeuroalignWarning, match="2 columns are constant or not finite.*'v1', 'v2'") as caught:
        out = clean(series(bad), high_pass=0.01)
    assert caught[0].message.code == "constant-signal"
    assert np.isnan(out.values[:, 1:3]).all()
    undisturbed = clean(series(noise), high_pass=0.01)
    np.testing.assert_allclose(out.values[:, [0, 3]], undisturbed.values[:, [0, 3]], atol=1e-6)


def test_a_column_made_of_confounds_is_not_blown_up(noise):
    confounds = np.random.default_rng(1).standard_normal((N, 2))
    made = np.c_[noise[:, 0], confounds @ [3.0, -2.0] + 0.5 * np.arange(N)]
    with pytest.warns(NeuroalignWarning, match="1 columns.*'v1'"):
        out = clean(series(made), confounds=confounds)
    assert np.isnan(out.values[:, 1]).all()
    assert np.isfinite(out.values[:, 0]).all()


def test_constant_in_one_run_is_lost_there_alone(noise):
    runs = np.repeat([0, 1], N // 2)
    noise[runs == 1, 0] = 5
    with pytest.warns(NeuroalignWarning, match="'v0'"):
        out = clean(series(noise, runs))
    assert np.isfinite(out.values[runs == 0, 0]).all()
    assert np.isnan(out.values[runs == 1, 0]).all()


def test_feature_series_and_time_bins_keep_their_labels(noise):
    features = make_features(noise, 2.0 * np.arange(N), model="toy", dim="time")
    out = clean(features)
    assert out.dims == ("time", "feature")
    assert out.space_id == "toy::all"
    assert out.dtype == np.float32
    assert "units" not in out.attrs
    binned = make_responses(noise.reshape(N, 2, 2), 2.0 * np.arange(N), ["a", "b"], dim="time", time_bins=[0, 1])
    np.testing.assert_allclose(clean(binned).values.reshape(N, 4), out, atol=1e-5)  # float32 in
    turned = clean(features.transpose("feature", "time"))
    np.testing.assert_array_equal(turned.values.T, out.values)
    np.testing.assert_allclose(features, noise)  # the input stays as it was


@pytest.mark.parametrize("options, words", [
    ({"high_pass": 0.3}, r"high_pass=0\.3.*0\.25 Hz"),
    ({"high_pass": 0.1, "low_pass": 0.05}, "high_pass < low_pass"),
    ({"high_pass": 0}, "expected 0 < high_pass"),
    ({"confounds": np.ones((3, 2))}, r"shape \(3, 2\), expected \(150 samples"),
    ({"confounds": np.ones(N)}, r"shape \(150,\), expected \(150 samples, number"),
    ({"confounds": np.eye(N)}, "152 confounds and trends for a run of 150 samples"),
    ({"confounds": np.full((N, 2), np.nan)}, "confounds '0', '1' are not finite"),
    ({"confounds": xr.DataArray(np.ones((N, 2)), dims=("time", "x"))}, r"expected \(time, confound"),
])
def test_bad_options_are_explained(noise, options, words):
    with pytest.raises(ValueError, match=f"clean: .*{words}"):
        clean(series(noise), **options)


def test_filtering_needs_an_even_clock_and_long_runs(noise):
    uneven = series(noise)
    uneven = uneven.assign_coords(time=np.r_[uneven.time.values[:-1], 1000.0])
    with pytest.raises(ValueError, match="not evenly spaced"):
        clean(uneven, high_pass=0.01)
    with pytest.raises(ValueError, match="a run has 5 samples"):
        clean(series(noise[:5]), high_pass=0.01)
    with pytest.raises(ValueError, match="sample dim 'stimulus', expected 'time'"):
        clean(make_responses(noise[:2], ["a", "b"], list("wxyz")))


def test_group_mean_counts_what_it_averages(noise):
    responses = series(np.c_[noise, noise + 1], subject=np.repeat(["s1", "s2"], 4), region=list("ABCD") * 2,
                       hemisphere=list("LRLR") * 2)
    out = group_mean(responses)
    np.testing.assert_allclose(out, noise + 0.5, rtol=1e-6)
    assert out.attrs["n_averaged"] == 2
    assert out.neuroid_id.values.tolist() == list("ABCD")
    assert out.hemisphere.values.tolist() == list("LRLR")
    responses[:, 5] = np.nan  # s2, region B
    out = group_mean(responses)
    assert out.n_averaged.values.tolist() == [2, 1, 2, 2]
    assert "n_averaged" not in out.attrs
    np.testing.assert_allclose(out.values[:, 1], noise[:, 1], rtol=1e-6)
    responses[:, 1] = np.nan
    with pytest.warns(NeuroalignWarning, match="no finite neuroid in 'B'"):
        assert np.isnan(group_mean(responses).values[:, 1]).all()


def test_group_mean_refuses_what_it_cannot_average(noise):
    with pytest.raises(ValueError, match="no coord 'subject'"):
        group_mean(series(noise, region=list("ABCD")))
    twice = series(noise, subject=["s1"] * 4, region=list("AABB"))
    with pytest.raises(ValueError, match="more than once: 'A, s1', 'B, s1'"):
        group_mean(twice)
