"""Electrode to region: nearest label within a radius, against a plain search."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from neuroalign.data import make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import assign_regions, list_atlases

AFFINE = np.array([[2.0, 0, 0, -20], [0, 2, 0, -20], [0, 0, 2, -20], [0, 0, 0, 1]])


@pytest.fixture
def atlas(tmp_path):
    labels = np.zeros((20, 20, 20), np.int16)
    labels[2:6, 2:6, 2:6], labels[12:15, 12:15, 12:15] = 4, 9
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "tpl-x_space-MNI152NLin6Asym_dseg.nii.gz")
    return tmp_path / "tpl-x_space-MNI152NLin6Asym_dseg.nii.gz"


def sites(xyz, **more):
    xyz = np.asarray(xyz, float)
    return pd.DataFrame(xyz, columns=list("xyz")).assign(neuroid_id=[f"s{k}" for k in range(len(xyz))], **more)


def test_the_nearest_label_within_the_radius_wins(atlas):
    xyz = np.random.default_rng(0).uniform(-19, 19, (200, 3))
    with pytest.warns(NeuroalignWarning, match="of 200 neuroids are farther than 5 mm"):
        found = assign_regions(sites(xyz), atlas, names={4: "STG", 9: "IFG"})
    labels = nib.load(atlas).get_fdata()
    centres = np.argwhere(labels > 0) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    values = labels[labels > 0]
    distance = np.linalg.norm(xyz[:, None] - centres, axis=-1)
    nearest = np.where(values[distance.argmin(1)] == 4, "STG", "IFG")
    expected = np.where(distance.min(1) <= 5, nearest, "unknown")
    assert found["region"].tolist() == expected.tolist()
    assert set(expected.tolist()) == {"STG", "IFG", "unknown"}
    np.testing.assert_allclose(found["region_distance"], distance.min(1))


def test_neuroids_of_responses_and_those_without_position(atlas, tmp_path):
    table = tmp_path / "names.tsv"
    table.write_text("index\tname\n4\tSTG\n9\tIFG\n")
    responses = make_responses(np.zeros((2, 3)), [0.0, 1.0], ["a", "b", "c"], dim="time", kind="seeg",
                               neuroid_coords={"x": [-12.0, 6, np.nan], "y": [-12.0, 6, 0], "z": [-12.0, 6, 0]})
    with pytest.warns(NeuroalignWarning, match="1 of 3 neuroids .* have no position, and are 'unknown': 'c'"):
        found = assign_regions(responses, atlas, names=table)
    assert found.region.values.tolist() == ["STG", "IFG", "unknown"]
    with pytest.warns(NeuroalignWarning):
        assert assign_regions(responses, nib.load(atlas)).region.values.tolist() == ["4", "9", "unknown"]


def test_points_that_come_with_nilearn_need_no_download():
    from nilearn.datasets import fetch_coords_seitzman_2018

    data = fetch_coords_seitzman_2018()
    first = data["rois"].iloc[:3].to_numpy(float) + 0.5
    found = assign_regions(sites(first), "seitzman_2018")
    assert found["region"].tolist() == [f"{r}, {n}" for r, n in zip(data["regions"][:3], data["networks"][:3])]
    listed = list_atlases()
    assert set(listed[listed["bundled"]]["name"]) == {"power_2011", "dosenbach_2010", "seitzman_2018", "fsaverage5"}
    assert not listed.set_index("name").loc["schaefer_2018", "bundled"]


def test_what_does_not_go_together_is_refused(atlas, tmp_path):
    good = sites([[-12, -12, -12]])
    with pytest.raises(ValueError, match="Metres"):
        assign_regions(sites([[-0.012, -0.012, -0.012]]), atlas)
    with pytest.raises(ValueError, match="must be transformed first"):
        assign_regions(good.rename(columns={a: f"native_{a}" for a in "xyz"}), atlas)
    with pytest.raises(ValueError, match="names: got 3 for 2 labels"):
        assign_regions(good, atlas, names=["background", "A", "B"])
    with pytest.raises(ValueError, match="names: none for the labels '9'"):
        assign_regions(good, atlas, names={4: "A"})
    with pytest.raises(FileNotFoundError, match="no file 'schaefer', and no bundled points of that name"):
        assign_regions(good, "schaefer")
    other = tmp_path / "sub-1_space-T1w_dseg.nii.gz"
    other.write_bytes(atlas.read_bytes())
    with pytest.raises(ValueError, match="it is in space 'T1w', the electrodes are in MNI"):
        assign_regions(good, other)
    with pytest.raises(ValueError, match="no whole numbers: a map"):
        assign_regions(good, nib.Nifti1Image(np.full((3, 3, 3), 0.5, np.float32), AFFINE))
