"""Assemblies for Brain-Score and back: nothing is lost, dims and coords are theirs."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuroalign.data import from_brainscore, make_features, make_responses, to_brainscore

RNG = np.random.default_rng(0)


@pytest.fixture
def responses():
    return make_responses(RNG.normal(size=(4, 3, 2)), ["a", "b", "a", "c"], ["v1", "v2", "v3"], dim="presentation",
                          kind="seeg", units="V", sample_coords={"run": [0, 0, 1, 1]}, time_bins=[0.1, 0.15],
                          neuroid_coords={"subject": ["s1", "s1", "s2"], "region": ["IT", "V4", "IT"],
                                          "x": [1.0, 2.0, 3.0]})


def test_presentations_come_back_as_they_were(responses):
    assembly = to_brainscore(responses)
    assert assembly.dims == ("presentation", "neuroid", "time_bin")
    assert set(assembly.indexes["presentation"].names) == {"stimulus_id", "run"}
    assert set(assembly.indexes["neuroid"].names) == {"neuroid_id", "neuroid_num", "subject", "region", "x"}
    np.testing.assert_allclose(assembly["time_bin_start"], [75, 125])  # ms
    np.testing.assert_allclose(assembly["time_bin_end"], [125, 175])
    np.testing.assert_array_equal(assembly.sel(neuroid_id="v2", stimulus_id="c").values.ravel(), responses[3, 1])
    back = from_brainscore(assembly, kind="seeg", units="V")
    xr.testing.assert_allclose(back.drop_attrs(), responses.drop_attrs())
    assert back.attrs["kind"] == "seeg" and back.attrs["units"] == "V"


def test_stimuli_shown_once_stay_stimuli():
    y = make_responses(RNG.normal(size=(3, 2)), ["a", "b", "c"], ["v1", "v2"])
    back = from_brainscore(to_brainscore(y))
    assert back.dims == ("stimulus", "neuroid")
    xr.testing.assert_allclose(back.drop_attrs(), y.drop_attrs())


def test_features_become_neuroids():
    x = make_features(RNG.normal(size=(3, 4)), ["a", "b", "c"], model="vit", layer="blocks.3", stream="image")
    assembly = to_brainscore(x)
    assert assembly["neuroid_id"].values.tolist() == [f"vit.blocks.3.{k}" for k in range(4)]
    assert set(assembly["layer"].values) == {"blocks.3"} and assembly["neuroid_num"].values.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(assembly.values, x.values)


def test_an_assembly_of_firing_rates_is_read():
    """Dims, coords and units (ms) as Brain-Score's own neural assemblies have them."""
    plain = xr.DataArray(RNG.normal(size=(2, 3, 1)), dims=("neuroid", "presentation", "time_bin"), coords={
        "neuroid": pd.MultiIndex.from_arrays([["n1", "n2"], ["IT", "V4"]], names=["neuroid_id", "region"]),
        "presentation": pd.MultiIndex.from_arrays([["i1", "i2", "i1"], [0, 0, 1]], names=["stimulus_id", "repetition"]),
        "time_bin": pd.MultiIndex.from_arrays([[70], [170]], names=["time_bin_start", "time_bin_end"])})
    found = from_brainscore(plain)
    assert found.dims == ("presentation", "neuroid") and found["repetition"].values.tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.values, plain.values[:, :, 0].T, rtol=1e-6)
    assert found["stimulus_id"].values.tolist() == ["i1", "i2", "i1"]


def test_bad_arrays_are_explained(responses):
    series = make_responses(np.zeros((3, 1)), [0.0, 1.0, 2.0], ["v"], dim="time")
    with pytest.raises(ValueError, match="samples are points in time; expected stimuli or presentations"):
        to_brainscore(series)
    with pytest.raises(ValueError, match="one time bin has no step"):
        to_brainscore(responses.isel(time_bin=[0]))
    assert to_brainscore(responses.isel(time_bin=[0]), bin_width=0.2)["time_bin_end"].item() == pytest.approx(200)
    with pytest.raises(ValueError, match=r"got dims \('stimulus',\), expected presentation, neuroid"):
        from_brainscore(xr.DataArray(np.zeros(2), dims="stimulus"))
    with pytest.raises(ValueError, match="no coords 'stimulus_id', 'neuroid_id'"):
        from_brainscore(xr.DataArray(np.zeros((2, 2)), dims=("presentation", "neuroid")))
