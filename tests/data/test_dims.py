"""Labelled arrays say what they are, and what is wrong with them."""

import numpy as np
import pytest
import xarray as xr

from neuroalign.data import (
    make_features,
    make_rdms,
    make_responses,
    pair_ids,
    sample_dim,
    validate_features,
    validate_rdms,
    validate_responses,
)


def test_features_carry_the_parts_of_their_name():
    space = make_features(np.eye(3), list("abc"), model="m", layer="blocks.1", stream="image", depth=0.5)
    assert space.dims == ("stimulus", "feature") and space.name == "m:blocks.1:image"
    assert space.space_id.item() == "m:blocks.1:image" and space.depth.item() == 0.5
    assert space.stimulus_id.values.tolist() == ["a", "b", "c"]


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(make_features(stored, list("abc"), model="m").values, stored)


@pytest.mark.parametrize("dim, main", [("stimulus", "stimulus"), ("presentation", "stimulus_id"), ("time", "time")])
def test_each_sample_dim_has_its_labels(dim, main):
    ids = [0.0, 2.0] if dim == "time" else ["a", "b"]
    space = make_features(np.eye(2), ids, model="m", dim=dim, coords={"run": [1, 2]})
    responses = make_responses(np.eye(2), ids, ["u", "v"], dim=dim, sample_coords={"run": [1, 2]}, sfreq=0.5)
    for array in (space, responses):
        assert sample_dim(array) == dim and array[main].values.tolist() == ids and array.run.dims == (dim,)
    assert responses.attrs == {"kind": "fmri", "units": "a.u.", "sfreq": 0.5} and responses.dtype == np.float32


def test_presentations_may_repeat_and_stimuli_may_not():
    make_responses(np.ones((2, 1)), ["a", "a"], ["u"], dim="presentation")
    with pytest.raises(ValueError, match=r"responses: stimulus is not unique; more than once: 'a'.*dim 'presentation'"):
        make_responses(np.ones((2, 1)), ["a", "a"], ["u"])
    with pytest.raises(ValueError, match=r"features: stimulus is not unique"):
        make_features(np.ones((2, 1)), ["a", "a"], model="m")


def test_time_bins_are_a_third_dim():
    responses = make_responses(np.zeros((2, 1, 3)), ["a", "b"], ["u"], time_bins=[-0.1, 0, 0.1], kind="ecog",
                               neuroid_coords={"region": ["STG"], "x": [1.0]})
    assert responses.dims == ("stimulus", "neuroid", "time_bin") and responses.region.values.tolist() == ["STG"]


@pytest.mark.parametrize("dims, words", [
    (("image", "feature"), r"^features: got dims \('image', 'feature'\), expected exactly one of stimulus, "),
    (("stimulus", "time"), "expected exactly one of.*all but one of stimulus, time"),
    (("stimulus", "neuroid"), "These are responses: `compare` and `encode` take them beside features"),
    (("stimulus", "unit"), r"features: got dims \('stimulus', 'unit'\), expected \('stimulus', 'feature'\)"),
])
def test_other_dims_are_no_features(dims, words):
    with pytest.raises(ValueError, match=words):
        validate_features(xr.DataArray(np.zeros((2, 2)), dims=dims))


@pytest.mark.parametrize("change, words", [
    (lambda r: r.rename(neuroid="voxel"), r"responses: got dims \('stimulus', 'voxel'\), expected"),
    (lambda r: r.drop_vars("stimulus_id"), r"no coord 'stimulus_id' on 'stimulus'.*Add it"),
    (lambda r: r.assign_attrs(kind="pet"), r"attrs\['kind'\] is 'pet', expected one of seeg"),
    (lambda r: r.assign_coords(neuroid_id=("neuroid", ["u", "u"])), "neuroid_id is not unique; more than once: 'u'"),
    (lambda r: r.expand_dims(subject=2), r"got dims"),
    (lambda r: r.rename(stimulus="sample"), r"^responses: got dims \('sample', .*\.rename\(sample='stimulus'\)"),
])
def test_wrong_responses_are_explained(change, words):
    with pytest.raises(ValueError, match=words):
        validate_responses(change(make_responses(np.ones((2, 2)), ["a", "b"], ["u", "v"])))


def test_pairs_are_the_upper_triangle_in_row_order():
    ids = [f"s{k}" for k in range(7)]
    a, b = pair_ids(ids)
    expected = [(x, y) for i, x in enumerate(ids) for y in ids[i + 1:]]
    assert list(zip(a, b)) == expected


def test_rdms_are_labelled_by_both_stimuli():
    rdms = make_rdms([0.1, 0.2, 0.3], stimulus_ids=list("xyz"), targets=["IT"], target_coords={"subject": ["s1"]},
                     attrs={"distance": "correlation"})
    assert rdms.sel(target="IT").values.tolist() == pytest.approx([0.1, 0.2, 0.3]) and rdms.subject.item() == "s1"
    assert rdms.stimulus_a.values.tolist() == ["x", "x", "y"] and rdms.attrs == {"distance": "correlation"}
    listed = make_rdms([[1.0]], pairs=(["x"], ["z"]))
    assert listed.stimulus_b.item() == "z" and listed.target.item() == "target0"


@pytest.mark.parametrize("options, words", [
    ({}, "either stimulus_ids .* or pairs, not both or none"),
    ({"stimulus_ids": list("xyz"), "pairs": (["x"], ["y"])}, "either stimulus_ids .* or pairs"),
    ({"stimulus_ids": list("xy")}, r"shape \(1, 3\), expected \(1 targets, 1 pairs\)"),
    ({"stimulus_ids": list("xyz"), "targets": ["a", "b"]}, r"expected \(2 targets, 3 pairs\)"),
    ({"pairs": (list("xyx"), list("yyz"))}, "pairs of a stimulus with itself: 'y'. Drop the diagonal"),
])
def test_wrong_rdms_are_explained(options, words):
    with pytest.raises(ValueError, match=words):
        make_rdms([1.0, 2.0, 3.0], **options)


def test_rdms_need_their_labels():
    rdms = make_rdms(np.ones((2, 3)), stimulus_ids=list("xyz"), targets=["a", "b"])
    with pytest.raises(ValueError, match="no coord 'stimulus_b'"):
        validate_rdms(rdms.drop_vars("stimulus_b"))
    with pytest.raises(ValueError, match=r"got dims \('area', 'pair'\), expected \('target', 'pair'\)"):
        validate_rdms(rdms.rename(target="area"))
    with pytest.raises(ValueError, match="target is not unique; more than once: 'a'"):
        validate_rdms(rdms.assign_coords(target=["a", "a"]))


def test_responses_of_the_wrong_shape_are_told_what_was_expected():
    with pytest.raises(ValueError, match=r"values have shape \(1, 2\), expected \(2, 2\): 2 sample ids, 2 neuroid ids"):
        make_responses([[1, 2]], ["a", "b"], ["v", "w"])
    with pytest.raises(ValueError, match="look transposed"):
        make_responses(np.zeros((3, 2)), ["a", "b"], ["u", "v", "w"])


def test_square_rdms_are_condensed_and_must_be_symmetric():
    square = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]])
    assert make_rdms(square, ["a", "b", "c"]).values.tolist() == [[1, 2, 3]]
    assert make_rdms(np.stack([square, 2 * square]), ["a", "b", "c"]).values.tolist() == [[1, 2, 3], [2, 4, 6]]
    with pytest.raises(ValueError, match="not symmetric"):
        make_rdms(np.triu(square), ["a", "b", "c"])
