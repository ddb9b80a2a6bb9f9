"""Re-references, against MNE and the definition."""

import mne
import numpy as np
import pytest

from neuroalign.data import make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings.references import bipolar, common_average, drop_channels, laplacian

NAMES = ["LA1", "LA2", "LA3", "LA5", "B1", "B2", "Cz"]


def recording(names=NAMES, **coords):
    values = np.random.default_rng(0).standard_normal((50, len(names)))
    return make_responses(values, np.arange(50) / 100, names, dim="time", kind="seeg", sfreq=100, neuroid_coords=coords)


def test_a_laplacian_needs_both_neighbours_on_the_shaft():
    raw = recording()
    with pytest.warns(NeuroalignWarning, match="6 of 7 contacts lack a neighbour.*'LA1', 'LA3', 'LA5' and 3 more"):
        out = laplacian(raw)
    assert out.neuroid_id.values.tolist() == ["LA2"]
    np.testing.assert_allclose(out[:, 0], raw[:, 1] - (raw[:, 0] + raw[:, 2]) / 2, atol=1e-6)
    assert "LA5: no two neighbours on the shaft" in out.attrs["dropped"]


def test_neighbours_are_of_the_same_subject():
    names = ["s1.A1", "s1.A2", "s2.A3", "s2.A1", "s2.A2"]
    raw = recording(names, subject=["s1"] * 2 + ["s2"] * 3, label=["A1", "A2", "A3", "A1", "A2"])
    with pytest.warns(NeuroalignWarning, match="4 of 5"):
        out = laplacian(raw)
    assert out.neuroid_id.values.tolist() == ["s2.A2"]
    with pytest.raises(ValueError, match="contacts 'A1', 'A2' occur more than once"):
        laplacian(raw.assign_coords(subject=("neuroid", ["s"] * 5)))


def test_bipolar_equals_mne_and_lies_half_way():
    raw = recording(x=np.arange(7.0), y=np.zeros(7), z=np.arange(7.0) * 2)
    with pytest.warns(NeuroalignWarning, match="2 of 7 contacts have no neighbour.*'LA5', 'Cz'"):
        out = bipolar(raw)
    assert out.neuroid_id.values.tolist() == ["LA1-LA2", "LA2-LA3", "B1-B2"]
    theirs = mne.io.RawArray(raw.values.T, mne.create_info(NAMES, 100.0, "seeg"), verbose=False)
    theirs = mne.set_bipolar_reference(theirs, ["LA1", "LA2", "B1"], ["LA2", "LA3", "B2"], verbose=False)
    np.testing.assert_allclose(out.values.T, theirs.get_data(["LA1-LA2", "LA2-LA3", "B1-B2"]), atol=1e-6)
    assert out.x.values.tolist() == [0.5, 1.5, 4.5] and out.z.values.tolist() == [1, 3, 9]


def test_the_common_average_equals_mne_and_is_of_each_subject():
    raw = recording()
    theirs = mne.io.RawArray(raw.values.T, mne.create_info(NAMES, 100.0, "eeg"), verbose=False)
    theirs = mne.set_eeg_reference(theirs, "average", verbose=False)[0].get_data()
    np.testing.assert_allclose(common_average(raw).values.T, theirs, atol=1e-6)
    two = common_average(raw.assign_coords(subject=("neuroid", ["a"] * 3 + ["b"] * 4)))
    np.testing.assert_allclose(two[:, :3].sum("neuroid"), 0, atol=1e-5)
    np.testing.assert_allclose(two[:, 3:].sum("neuroid"), 0, atol=1e-5)
    with pytest.raises(ValueError, match="one neuroid alone in subject 'b'"):
        common_average(raw.assign_coords(subject=("neuroid", ["a"] * 6 + ["b"])))


def test_bad_channels_go_with_their_reasons():
    out = drop_channels(recording(), {"LA2": "epileptic", "Cz": "flat"})
    assert out.neuroid_id.values.tolist() == ["LA1", "LA3", "LA5", "B1", "B2"]
    assert out.attrs["dropped"] == ["LA2: epileptic", "Cz: flat"]
    out = drop_channels(out, {"B1": "hum"})
    assert out.attrs["dropped"] == ["LA2: epileptic", "Cz: flat", "B1: hum"]
    with pytest.raises(KeyError, match="no channels 'LB2'"):
        drop_channels(out, {"LB2": "?"})
    with pytest.raises(ValueError, match="Are the labels like 'LA1'"):
        laplacian(recording(["Cz", "Pz", "Oz"]))
