"""CIFTI-2: grayordinates and parcels, against nibabel; and painted back."""

import nibabel as nib
import numpy as np
import pytest

from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import from_cifti, paint

AFFINE = np.diag([2.0, 2, 2, 1])


@pytest.fixture
def axis():
    cortex = nib.cifti2.BrainModelAxis.from_mask(np.array([1, 0, 1, 1, 0, 1], bool), "CORTEX_LEFT")
    volume = np.zeros((3, 3, 3), bool)
    volume[1, 1, 1] = volume[2, 1, 0] = True
    return cortex + nib.cifti2.BrainModelAxis.from_mask(volume, "HIPPOCAMPUS_RIGHT", AFFINE)


def write(path, axis, n=5, seed=0, values=None):
    if values is None:
        values = np.random.default_rng(seed).standard_normal((n, len(axis))).astype(np.float32)
    nib.save(nib.Cifti2Image(values, (nib.cifti2.SeriesAxis(0, 0.8, len(values)), axis)), path)
    return values


def test_runs_of_grayordinates_and_back(axis, tmp_path):
    first = write(tmp_path / "1.dtseries.nii", axis)
    second = write(tmp_path / "2.dtseries.nii", axis, seed=1)
    found = from_cifti([tmp_path / f"{k}.dtseries.nii" for k in (1, 2)], subject="s", space="MNI152NLin6Asym")
    np.testing.assert_array_equal(found, np.concatenate([first, second]))
    np.testing.assert_allclose(found.time, np.tile(np.arange(5) * 0.8, 2))
    assert found.run.values.tolist() == [0] * 5 + [1] * 5
    assert found.vertex.values.tolist() == [0, 2, 3, 5, -1, -1] and found.hemisphere.values.tolist() == list("LLLLRR")
    np.testing.assert_array_equal([found.x[4:], found.y[4:], found.z[4:]], [[2, 4], [2, 2], [2, 0]])
    assert found.neuroid_id.values[-1] == "s.HIPPOCAMPUS_RIGHT.2-1-0"
    image = paint(found[3, 1:], found)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[0], [np.nan, *first[3, 1:]])
    assert image.header.get_axis(1) == axis
    nib.save(image, tmp_path / "out.dscalar.nii")


def test_parcels_and_betas(tmp_path, axis):
    parcels = nib.cifti2.ParcelsAxis.from_brain_models([("V1", axis[:2]), ("HC", axis[4:])])
    values = write(tmp_path / "p.ptseries.nii", parcels, n=3)
    found = from_cifti(tmp_path / "p.ptseries.nii", stimulus_ids=["a", "b", "a"])
    assert found.dims == ("presentation", "neuroid") and found.region.values.tolist() == ["V1", "HC"]
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(np.asarray(paint(found[0], found).dataobj)[0], values[0])
    with pytest.raises(ValueError, match="got 2 for 3 rows"):
        from_cifti(tmp_path / "p.ptseries.nii", stimulus_ids=["a", "b"])


def test_bad_files(tmp_path, axis):
    values = write(tmp_path / "a.dtseries.nii", axis)
    values[2, 1] = np.nan
    write(tmp_path / "nan.dtseries.nii", axis, values=values)
    with pytest.warns(NeuroalignWarning, match=r"nan\.dtseries\.nii: 1 of 6 neuroids .*'CORTEX_LEFT\.2'"):
        from_cifti(tmp_path / "nan.dtseries.nii")
    write(tmp_path / "b.dtseries.nii", axis[:4])
    with pytest.raises(ValueError, match=r"b\.dtseries\.nii: its grayordinates are not those of a\.dtseries"):
        from_cifti([tmp_path / "a.dtseries.nii", tmp_path / "b.dtseries.nii"])
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 3)), AFFINE), tmp_path / "v.nii")
    with pytest.raises(ValueError, match=r"v\.nii: a Nifti1Image, not CIFTI; read it by from_nilearn"):
        from_cifti(tmp_path / "v.nii")
    whole = (tmp_path / "a.dtseries.nii").read_bytes()
    (tmp_path / "cut.dtseries.nii").write_bytes(whole[:-60])
    with pytest.raises(ValueError, match=r"cut\.dtseries\.nii: truncated or damaged"):
        from_cifti(tmp_path / "cut.dtseries.nii")
