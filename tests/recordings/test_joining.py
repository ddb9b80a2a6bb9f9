"""Films, sessions and subjects in one study."""

import numpy as np
import pandas as pd
import pytest

from neuroalign.alignment import encode
from neuroalign.data import average_repetitions, make_features, make_responses
from neuroalign.data.scores import attrs_of
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import bin_events, join


def film(ids, seed, names=("A1", "A2"), **more):
    values = np.random.default_rng(seed).standard_normal((len(ids), len(names), 3))
    return make_responses(values, ids, list(names), kind="seeg", units="V", time_bins=[0, 0.1, 0.2], **more)


def test_films_join_along_presentation():
    first, second = film(["a", "b"], 1, sample_coords={"onset": [1.0, 2.0], "cut": [1, 0]}), film(
        ["b", "c"], 2, names=("A2", "A1"), sample_coords={"onset": [5.0, 6.0]})
    both = join({"ants": first.assign_attrs(dropped=["x: bad"]), "bees": second})
    assert both.dims == ("presentation", "neuroid", "time_bin") and both.shape == (4, 2, 3)
    assert both.stimulus_id.values.tolist() == list("abbc")
    assert both.session.values.tolist() == ["ants", "ants", "bees", "bees"]
    np.testing.assert_array_equal(both[2:].sel(neuroid="A1"), second.sel(neuroid="A1"))
    assert "cut" not in both.coords and both.onset.values.tolist() == [1, 2, 5, 6]
    assert both.attrs["dropped"] == ["x: bad"] and both.attrs["units"] == "V"
    assert both.run.values.tolist() == ["ants:0"] * 2 + ["bees:0"] * 2
    mean = average_repetitions(both)
    assert "onset" not in mean.coords
    np.testing.assert_allclose(mean.sel(stimulus="b", neuroid="A1"), (first[1, 0] + second[0, 1]) / 2, rtol=1e-6)


def test_joined_films_are_time_series_with_a_clock_each():
    onsets = {"onset": np.arange(30) * 0.5, "run": np.zeros(30, int)}
    both = join({name: film([f"{name}#{k}" for k in range(30)], 1, sample_coords=onsets) for name in ("ants", "bees")})
    assert dict.fromkeys(both.run.values.tolist()) == {"ants:0": None, "bees:0": None}
    features = make_features(np.random.default_rng(3).standard_normal((60, 2)), both.stimulus_id.values, model="m")
    folds = attrs_of(encode(features, both.isel(time_bin=0), n_splits=3, gap=1.0))["folds"]
    assert folds["name"] == "blocks(3, gap=1.0)" and folds["n_purged"] == [2, 4, 2]


def test_runs_join_along_time():
    run = make_responses(np.ones((3, 1)), [0, 1, 2.0], ["v"], dim="time", sfreq=1.0, sample_coords={"run": [0, 0, 1]})
    both = join({"mon": run, "tue": run}, along="time")
    assert both.run.values.tolist() == ["mon:0", "mon:0", "mon:1", "tue:0", "tue:0", "tue:1"]


def test_bad_spans_go_with_their_run():
    run = make_responses(np.ones((100, 1)), np.arange(100) / 10, ["v"], dim="time", sfreq=10.0,
                         sample_coords={"run": np.zeros(100, int)}, kind="eeg")
    bad = run.assign_attrs(bad_spans="[[0, 2.0, 1.0]]")
    both = join({"mon": bad, "tue": run.assign_attrs(bad_spans="[[0, 6.0, 1.0]]")}, along="time")
    events = pd.DataFrame({"onset": [2.5, 6.5] * 2, "run": ["mon:0"] * 2 + ["tue:0"] * 2, "stimulus_id": list("abcd")})
    with pytest.warns(NeuroalignWarning, match="1 of 2 dropped, their windows touch a bad span"):
        found = bin_events(both, events, tmin=0, tmax=0)
    assert found.stimulus_id.values.tolist() == ["b", "c"]
    beside = join({"s1": bad, "s2": run}, along="neuroid")
    assert beside.attrs["bad_spans"] == "[[0, 2.0, 1.0]]"


def test_subjects_join_side_by_side_in_the_order_of_the_first():
    first, second = film(["a", "b"], 1), film(["b", "a"], 2)
    both = join({"s1": first, "s2": second}, along="neuroid")
    assert both.neuroid_id.values.tolist() == ["s1.A1", "s1.A2", "s2.A1", "s2.A2"]
    assert both.subject.values.tolist() == ["s1", "s1", "s2", "s2"]
    np.testing.assert_array_equal(both[:, 2:].values, second[::-1].values)
    with pytest.raises(ValueError, match="rows of 's2' are not those of 's1'"):
        join({"s1": first, "s2": film(["a", "c"], 2)}, along="neuroid")


@pytest.mark.parametrize("change, words", [
    (lambda r: r.assign_attrs(units="uV"), "units of 'two' are not those of 'one': 'uV' in 'two', 'V' in 'one'"),
    (lambda r: r.assign_attrs(kind="eeg"), "kind of 'two'"),
    (lambda r: r.assign_coords(time_bin=[0, 0.2, 0.4]), "time bins of 'two' are not those of 'one': differ"),
    (lambda r: r[:, :1], "neuroids of 'two' and 'one' differ: 'A2'"),
])
def test_what_differs_is_named(change, words):
    one = film(["a", "b"], 1)
    with pytest.raises(ValueError, match=words):
        join({"one": one, "two": change(one)})


def test_sampling_rates_and_dims_are_not_mixed():
    fast, slow = (make_responses(np.ones((3, 1)), np.arange(3) / s, ["v"], dim="time", sfreq=s) for s in (10.0, 5.0))
    with pytest.raises(ValueError, match=r"sfreq of 'slow' are not those of 'fast': 5.0 in 'slow', 10.0 in 'fast'"):
        join({"fast": fast, "slow": slow}, along="time")
    with pytest.raises(ValueError, match="'fast' stand on 'time'; join them along='time'"):
        join({"fast": fast})
    with pytest.raises(ValueError, match="expected a mapping of names"):
        join([fast])
