"""Volumes and surfaces through maskers, against plain indexing and published figures; and painted back."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage
from nilearn.maskers import (
    NiftiLabelsMasker,
    NiftiMapsMasker,
    NiftiMasker,
    NiftiSpheresMasker,
    SurfaceLabelsMasker,
    SurfaceMasker,
)
from nilearn.surface import SurfaceImage
from scipy.stats import spearmanr
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.svm import LinearSVC

import neuroalign as na
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import clean, from_nilearn, load_responses, paint, read_confounds

AFFINE = np.array([[3.0, 0, 0, -30], [0, 3, 0, -30], [0, 0, 3, -30], [0, 0, 0, 1]])


def image(data, affine=AFFINE, tr=None, path=None):
    out = nib.Nifti1Image(data, affine)
    if tr:
        out.header.set_zooms((3, 3, 3, tr))
        out.header.set_xyzt_units("mm", "sec")
    if path is not None:
        nib.save(out, path)
        return path
    return out


def volumes(n=6, seed=0):
    return np.random.default_rng(seed).standard_normal((8, 9, 7, n)).astype(np.float32)


@pytest.fixture
def atlas():
    labels = np.zeros((8, 9, 7), np.int32)
    labels[1:4, 1:4, 1:4], labels[5:7, 5:8, 2:6] = 3, 7
    return labels


def test_voxels_equal_the_masked_data_and_come_back(tmp_path):
    first, second, mask = volumes(5, 1), volumes(6, 2), np.zeros((8, 9, 7), np.uint8)
    mask[2:5, 3:6, 1:3] = 1
    paths = [image(d, tr=1.5, path=tmp_path / f"run-{k}_bold.nii.gz") for k, d in enumerate((first, second))]
    found = from_nilearn(paths, image(mask, path=tmp_path / "mask.nii.gz"), subject="s1")
    data = np.concatenate([first, second], -1)
    np.testing.assert_array_equal(found.values, data[mask > 0].T)
    np.testing.assert_allclose(found.time, [0, 1.5, 3, 4.5, 6, 0, 1.5, 3, 4.5, 6, 7.5])
    assert found.run.values.tolist() == [0] * 5 + [1] * 6
    assert found.attrs["sfreq"] == pytest.approx(1 / 1.5) and found.attrs["space"] == "unknown"
    assert "x" not in found.coords  # not MNI: never called x, y, z
    np.testing.assert_allclose(found.native_x, found.i * 3.0 - 30)
    painted = paint(found[8], found)
    np.testing.assert_array_equal(painted.get_fdata()[mask > 0], data[mask > 0, 8])
    assert np.isnan(painted.get_fdata()[mask == 0]).all()
    np.testing.assert_array_equal(painted.affine, AFFINE)


def test_part_of_the_voxels_is_painted_after_encode_and_netcdf(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 2))
    data = np.zeros((4, 3, 2, 80), np.float32) + rng.standard_normal((4, 3, 2, 80))
    data[2, 1, 1] += 3 * x[:, 0]
    ids = [f"image{k}" for k in range(80)]
    betas = from_nilearn(image(data), image(np.ones((4, 3, 2), np.uint8)), stimulus_ids=ids)
    assert betas.dims == ("presentation", "neuroid")
    betas.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    betas = load_responses(tmp_path / "b.nc")
    scores = na.encode(na.data.make_features(x, ids, model="toy"), betas[:, 5:])
    painted = paint(scores["score"].isel(metric=0, space=0), betas).get_fdata()
    assert np.unravel_index(np.nanargmax(painted), painted.shape) == (2, 1, 1)
    assert np.isnan(painted).sum() == 5


def test_regions_are_means_with_their_names(tmp_path, atlas):
    data = volumes()
    path = image(atlas, path=tmp_path / "labels.nii.gz")
    masker = NiftiLabelsMasker(str(path), labels=["A", "B"], standardize=None)
    found = from_nilearn(image(data), masker, tr=2)
    assert found.region.values.tolist() == ["A", "B"] and found.label.values.tolist() == [3, 7]
    np.testing.assert_allclose(found, np.stack([data[atlas == 3].mean(0), data[atlas == 7].mean(0)], 1), atol=1e-6)
    for like in (found, masker):
        painted = paint(found[2], like).get_fdata()
        np.testing.assert_allclose(painted[atlas == 7], found.values[2, 1], atol=1e-6)
    path.unlink()
    with pytest.raises(ValueError, match=r"labels\.nii\.gz.* is gone or has changed"):
        paint(found[2], found)


def test_names_that_do_not_fit_the_labels_are_refused(atlas):
    masker = NiftiLabelsMasker(image(atlas), labels=["nothing", "A", "B"], standardize=None)
    with pytest.raises(ValueError, match="3 names .'nothing', 'A', 'B'. for 2 labels"):
        from_nilearn(image(volumes()), masker, tr=2)


def test_labels_lost_in_resampling_are_named(atlas):
    fine = np.zeros((24, 27, 21), np.int32)
    fine[3:12, 3:12, 3:12], fine[16, 16, 16] = 1, 5
    affine = AFFINE.copy()
    affine[:3, :3] = np.eye(3)
    masker = NiftiLabelsMasker(image(fine, affine), standardize=None)
    with pytest.warns(NeuroalignWarning, match="1 of 2 labels of the atlas have no voxel in the images: '5'"):
        found = from_nilearn(image(volumes()), masker, tr=2)
    assert found.region.values.tolist() == ["1"]


def test_spheres_overlap_and_come_back():
    data, ones = volumes(), image(np.ones((8, 9, 7), np.uint8))
    seeds = [(-15.0, -15, -18), (-12, -15, -18)]
    masker = NiftiSpheresMasker(seeds, radius=4, allow_overlap=True, mask_img=ones, standardize=None)
    found = from_nilearn(image(data), masker, tr=2, space="MNI152NLin2009cAsym")
    world = np.indices(data.shape[:3]).reshape(3, -1).T * 3.0 - 30
    near = [np.linalg.norm(world - s, axis=1) <= 4 for s in seeds]
    reference = np.stack([data.reshape(-1, 6)[n].mean(0) for n in near], 1)
    np.testing.assert_allclose(found, reference, atol=1e-6)
    assert found.x.values.tolist() == [-15, -12]
    painted = paint(found[0], found).get_fdata().ravel()
    np.testing.assert_allclose(painted[near[0] & near[1]], reference[0].mean(), atol=1e-6)
    np.testing.assert_allclose(painted[near[0] & ~near[1]], reference[0, 0], atol=1e-6)
    bare = from_nilearn(image(data), NiftiSpheresMasker(seeds, radius=4, allow_overlap=True, standardize=None), tr=2)
    np.testing.assert_array_equal(paint(bare[0], bare).get_fdata().ravel(), painted)


def test_surfaces_of_gifti_files(tmp_path):
    rng = np.random.default_rng(0)
    data = {side: rng.standard_normal((10242, 3)).astype(np.float32) for side in ("left", "right")}
    for side, values in data.items():
        arrays = [nib.gifti.GiftiDataArray(values[:, t]) for t in range(3)]
        nib.save(nib.gifti.GiftiImage(darrays=arrays), tmp_path / f"{side}.func.gii")
    found = from_nilearn({s: tmp_path / f"{s}.func.gii" for s in data}, SurfaceMasker(standardize=None), tr=1)
    np.testing.assert_array_equal(found.values.T, np.concatenate([data["left"], data["right"]]))
    painted = paint(found[1, 10:].drop_vars("region", errors="ignore"), found)
    assert np.isnan(painted.data.parts["left"][:10]).all()
    np.testing.assert_array_equal(painted.data.parts["right"], data["right"][:, 1])
    with pytest.raises(ValueError, match="only the mesh of fsaverage5"):
        from_nilearn({"left": np.zeros((642, 3))}, SurfaceMasker(), tr=1)


def test_values_that_are_not_finite_are_counted_and_left_out(atlas):
    data = volumes()
    data[1, 1, 1], data[2, 2, 2, 4] = np.nan, np.inf
    with pytest.warns(NeuroalignWarning, match="1 of 2 units have values that are not finite.*'3'"):
        found = from_nilearn(image(data), NiftiLabelsMasker(image(atlas), standardize=None), tr=2)
    inside = np.where(np.isfinite(data), data, np.nan)[atlas == 3]
    np.testing.assert_allclose(found[:, 0], np.nanmean(inside, 0), atol=1e-5)
    with pytest.warns(NeuroalignWarning, match="2 of 27 units"):
        found = from_nilearn(image(data), image((atlas == 3).astype(np.uint8)), tr=2)
    np.testing.assert_array_equal(np.isnan(found.values).T, ~np.isfinite(data[atlas == 3]))
    with pytest.raises(ValueError, match="not finite, and the masker .*strategy 'median'.*would spread them"):
        from_nilearn(image(data), NiftiLabelsMasker(image(atlas), strategy="median", standardize=None), tr=2)


def test_an_atlas_of_another_space_is_refused(tmp_path, atlas):
    far = AFFINE.copy()
    far[:3, 3] = 200
    with pytest.raises(ValueError, match="only 0% of the atlas or mask lies within the field of view"):
        from_nilearn(image(volumes()), image(atlas, far), tr=2)
    bold = image(volumes(), path=tmp_path / "sub-1_space-T1w_bold.nii.gz")
    labels = image(atlas, path=tmp_path / "tpl-x_space-MNI152NLin6Asym_dseg.nii.gz")
    with pytest.raises(ValueError, match="atlas is in space 'MNI152NLin6Asym', the images are in 'T1w'"):
        from_nilearn(bold, NiftiLabelsMasker(str(labels), standardize=None), tr=2)


def test_what_does_not_fit_is_refused(tmp_path):
    mask = image(np.ones((8, 9, 7), np.uint8))
    with pytest.raises(ValueError, match="5 for 6 volumes"):
        from_nilearn(image(volumes()), mask, stimulus_ids=list("abcde"))
    with pytest.raises(ValueError, match="got shape .3,., expected the run of each of the 6 volumes"):
        from_nilearn(image(volumes()), mask, tr=2, runs=[0, 0, 1])
    with pytest.raises(ValueError, match="got 2000 s between volumes.*Milliseconds"):
        from_nilearn(image(volumes()), mask, tr=2000)
    with pytest.raises(FileNotFoundError, match="gone_bold"):
        from_nilearn(tmp_path / "gone_bold.nii.gz", mask)
    with pytest.raises(FileNotFoundError, match=r"masker: no file.*gone_mask"):
        from_nilearn(image(volumes()), str(tmp_path / "gone_mask.nii.gz"), tr=2)
    path = image(volumes(), path=tmp_path / "cut_bold.nii")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut_bold\.nii is truncated or damaged"):
        from_nilearn(path, mask, tr=2)
    with pytest.raises(ValueError, match="only what `from_nilearn` or `from_cifti` read can be painted"):
        paint(na.data.make_responses([[1.0]], ["a"], ["v"])[0], mask)
    with pytest.raises(ValueError, match="the runs have different seconds between volumes: 1.5, 2"):
        from_nilearn([image(volumes(), tr=1.5), image(volumes(), tr=2.0)], mask)
    one = from_nilearn(image(volumes()), mask, tr=2)
    with pytest.raises(ValueError, match="several neuroids stand at one place"):
        paint(one[0].isel(neuroid=[0, 0]), one)


def test_confounds_of_runs_and_their_first_row(tmp_path):
    for run in (1, 2):
        (tmp_path / f"run-{run}.tsv").write_text("rot\trot_derivative1\n" + f"{run}\tn/a\n" + f"{run + 1}\t1\n3\t1.5\n")
    paths = [tmp_path / f"run-{run}.tsv" for run in (1, 2)]
    found = read_confounds(paths, ["rot_derivative1", "rot"], skip=1)
    np.testing.assert_array_equal(found, [[1, 2], [1.5, 3], [1, 3], [1.5, 3]])
    assert found.run.values.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="no columns 'csf'"):
        read_confounds(paths, ["csf"])
    (tmp_path / "run-2.tsv").write_text("rot\n1\nn/a\n2\n")
    with pytest.raises(ValueError, match=r"run-2\.tsv: missing values after the first row in 'rot'"):
        read_confounds(paths, ["rot"])


def test_confounds_are_removed_run_by_run(tmp_path):
    rng = np.random.default_rng(0)
    data, moves = rng.standard_normal((2, 2, 1, 60)).astype(np.float32), rng.standard_normal((2, 30))
    data += 5 * np.concatenate([moves[0], -moves[1]]).astype(np.float32)
    for k in (0, 1):
        np.savetxt(tmp_path / f"{k}.tsv", moves[k], header="x", comments="")
    bold = from_nilearn(image(data), image(np.ones((2, 2, 1), np.uint8)), tr=2, runs=np.repeat([0, 1], 30))
    cleaned = clean(bold, confounds=read_confounds([tmp_path / "0.tsv", tmp_path / "1.tsv"]))
    for k in (0, 1):
        assert np.abs(moves[k] @ cleaned.values[cleaned.run.values == k]).max() < 1e-3


def test_haxby_decoding_and_geometry_are_those_published(mirror):
    """The recipe of the reference values: linear trend out, z to rest, block means of 12 runs."""
    bold = load_responses("haxby_slice")
    assert bold.shape == (1452, 530) and bold.run.values[-1] == 11 and bold.time.values[120] == 300
    detrended = clean(bold, standardize=False).values
    rows = {}
    for run in range(12):
        own = bold.run.values == run
        rest = own & (bold.category.values == "rest")
        z = (detrended - detrended[rest].mean(0)) / (detrended[rest].std(0) + 1e-9)
        for category in np.unique(bold.category.values):
            rows[category, run] = z[own & (bold.category.values == category)].mean(0)
    names = [c for c in np.unique(bold.category.values) if c != "rest"]
    blocks = np.array([[rows[c, r] for r in range(12)] for c in names])
    labels, runs = np.repeat(np.arange(8), 12), np.tile(np.arange(12), 8)
    guess = cross_val_predict(LinearSVC(C=0.01, max_iter=20000), blocks.reshape(96, -1), labels, groups=runs,
                              cv=LeaveOneGroupOut())
    assert (guess == labels).mean() == pytest.approx(0.7917, abs=1e-3)
    upper = np.triu_indices(8, 1)
    odd, even = [(1 - np.corrcoef(blocks[:, k::2].mean(1)))[upper] for k in (0, 1)]
    assert spearmanr(odd, even).statistic == pytest.approx(0.7986, abs=1e-3)
    masker = NiftiMasker(nib.load(mirror / "haxby_slice" / "mask.nii.gz"), standardize=None)
    np.testing.assert_array_equal(paint(bold[3], bold, fill=0).get_fdata(), paint(bold[3], masker, fill=0).get_fdata())


def test_maps_and_parcels_of_a_surface_are_painted_by_their_masker(atlas):
    maps = np.stack([atlas == 3, atlas == 7], -1).astype(np.float32)
    masker = NiftiMapsMasker(image(maps), standardize=None)
    found = from_nilearn(image(volumes()), masker, tr=2)
    assert found.neuroid_id.values.tolist() == ["map0", "map1"]
    np.testing.assert_allclose(found[:, 1], volumes()[atlas == 7].mean(0), atol=1e-5)
    with pytest.raises(ValueError, match=r"maps need the masker itself: paint\(values, masker\)"):
        paint(found[0], found)
    np.testing.assert_allclose(paint(found[0], masker).get_fdata()[atlas == 7], found.values[0, 1], atol=1e-5)

    mesh = load_fsaverage("fsaverage5")["pial"]
    labels = {side: np.zeros(10242, np.int32) for side in ("left", "right")}
    labels["left"][:100], labels["right"][50:80] = 1, 2
    data = {side: np.random.default_rng(0).standard_normal((10242, 3)).astype(np.float32) for side in labels}
    masker = SurfaceLabelsMasker(SurfaceImage(mesh, labels), standardize=None)
    found = from_nilearn(SurfaceImage(mesh, data), masker, tr=1)
    means = np.stack([data["left"][:100].mean(0), data["right"][50:80].mean(0)], 1)
    np.testing.assert_allclose(found, means, atol=1e-6)
    painted = paint(found[1], masker)
    np.testing.assert_allclose(painted.data.parts["right"][50:80], found.values[1, 1], atol=1e-6)


def test_a_masker_without_a_mask_makes_its_own():
    data, masker = volumes() + 100, NiftiMasker(mask_strategy="background", standardize=None)
    data[:2] = 0
    found = from_nilearn(image(data), masker, tr=2)
    inside = masker.mask_img_.get_fdata() > 0
    assert 0 < inside.sum() == found.sizes["neuroid"] < inside.size
    np.testing.assert_array_equal(found.values, data[inside].T)
