import json

import numpy as np
import pytest

from neuroalign.data import make_responses
from neuroalign.recordings import group_reliability, prepare_responses

REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")


def test_group_reliability_recovers_a_planted_one():
    rng = np.random.default_rng(0)
    n_subjects, n_samples = 12, 4000
    signal = rng.standard_normal((n_samples, 2))
    noise_sd = np.array([1.0, 3.0])
    parts = [signal + noise_sd * rng.standard_normal((n_samples, 2)) for _ in range(n_subjects)]
    subjects = [f"s{k}" for k in range(n_subjects)]
    responses = make_responses(
        np.concatenate(parts, 1), np.arange(n_samples), [f"{s}.{r}" for s in subjects for r in "AB"], dim="time",
        neuroid_coords={"subject": np.repeat(subjects, 2), "region": ["A", "B"] * n_subjects})
    rho = group_reliability(responses)
    # the tolerance is 2 standard errors of this estimate
    np.testing.assert_allclose(rho.sel(neuroid=["A", "B"]), 1 / (1 + noise_sd**2 / n_subjects), atol=0.04)
    assert rho.attrs["n_averaged"] == n_subjects


def test_alice_ceiling_of_the_group_mean(mirror):
    expected = json.loads((mirror / "acceptance.json").read_text())
    responses, rho = prepare_responses("alice_fmri", high_pass=1 / 128, average_subjects=True)
    assert responses.attrs["n_averaged"] == rho.attrs["n_averaged"] == 27
    for region in REGIONS:
        want = expected[f"alice.ceiling.group_mean.{region}"]
        assert np.sqrt(rho.sel(neuroid=region)).item() == pytest.approx(want["value"], abs=want["tol"])


def test_without_averaging_there_is_no_group_reliability(mirror):
    responses, rho = prepare_responses("alice_fmri")
    assert rho is None and responses.sizes["neuroid"] == 27 * 6


def test_a_file_of_ones_own_is_cleaned_without_confounds(tmp_path):
    rng = np.random.default_rng(0)
    drift = np.linspace(0, 50, 200)[:, None]
    responses = make_responses(rng.standard_normal((200, 2)) + drift, 2.0 * np.arange(200), ["a", "b"], dim="time")
    responses.to_netcdf(tmp_path / "own.nc", engine="h5netcdf")
    cleaned, rho = prepare_responses(tmp_path / "own.nc", high_pass=1 / 128)
    assert rho is None
    assert abs(np.corrcoef(cleaned.values[:, 0], drift[:, 0])[0, 1]) < 0.05
