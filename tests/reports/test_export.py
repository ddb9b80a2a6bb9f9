"""Scores in other formats come back with every number."""

import json

import mne
import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.surface import load_surf_data

from neuroalign.data import scores as scores_
from neuroalign.recordings import from_nilearn
from neuroalign.reports import export, to_evoked

DIMS = ("metric", "space", "neuroid")


@pytest.fixture
def sites():
    score = np.array([[[0.1, 0.2, np.nan, 1 / 3]]])
    return scores_.make({"score": (DIMS, score), "q": (DIMS, score / 10)},
                        {"metric": ["r.pooled"], "space": ["clip-vit-b/32:blocks.3:image"],
                         "neuroid": ["a.LH1", "a.LH2", "b.RA1", "b.RA2"],
                         "subject": ("neuroid", ["a", "a", "b-2", "b-2"]),
                         "kind": ("neuroid", ["seeg"] * 4), **{c: ("neuroid", np.arange(4.0) * 10) for c in "xyz"}},
                        {"analysis": "encode", "random_state": 3})


def same(frame, scores):
    expected = scores_.to_frame(scores)
    assert list(frame) == list(expected)
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)


def test_tables_come_back(sites, tmp_path):
    (path,) = export(sites, tmp_path / "deep" / "s.csv")
    same(pd.read_csv(path), sites)
    path, about = export(sites, tmp_path / "s.tsv")
    assert path.read_text().splitlines()[3].split("\t")[3] == "n/a"
    same(pd.read_csv(path, sep="\t", na_values="n/a"), sites)
    said = json.loads(about.read_text())
    assert set(pd.read_csv(path, sep="\t").columns) <= set(said)
    assert said["x"]["Units"] == "mm" and said["metric"]["Levels"] == {"r.pooled": "Pearson r (pooled over folds)"}
    assert "ridge" in said["neuroalign"]["Methods"] and said["neuroalign"]["RandomState"] == 3
    (path,) = export(sites, tmp_path / "s.nc")
    same(scores_.to_frame(scores_.load(path)), sites)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "s.json", "s.nc", "s.tsv"]


def test_a_derivative_has_a_folder_a_subject(sites, tmp_path):
    written = export(sites, tmp_path, "bids", task="listen")
    assert sorted(str(p.relative_to(tmp_path)) for p in written) == sorted([
        "dataset_description.json",
        *(f"sub-{s}/ieeg/sub-{s}_{rest}" for s in ("a", "b2") for rest in (
            "task-listen_desc-encoding_scores.tsv", "task-listen_desc-encoding_scores.json",
            "space-Other_electrodes.tsv", "space-Other_coordsystem.json"))])
    about = json.loads((tmp_path / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and about["GeneratedBy"][0]["Name"] == "neuroalign"
    parts = [pd.read_csv(p, sep="\t", na_values="n/a") for p in sorted(written) if p.name.endswith("scores.tsv")]
    same(pd.concat(parts, ignore_index=True), sites)
    electrodes = pd.read_csv(tmp_path / "sub-b2/ieeg/sub-b2_space-Other_electrodes.tsv", sep="\t")
    assert list(electrodes)[:4] == ["name", "x", "y", "z"] and electrodes["x"].tolist() == [20.0, 30.0]
    coordinates = json.loads((tmp_path / "sub-a/ieeg/sub-a_space-Other_coordsystem.json").read_text())
    assert coordinates["iEEGCoordinateUnits"] == "mm"


def test_scores_of_a_group_lie_at_the_top(comparison, tmp_path):
    written = export(comparison(), tmp_path, "bids")
    assert [p.name for p in written] == ["dataset_description.json", "group_desc-compare_scores.tsv",
                                         "group_desc-compare_scores.json"]


@pytest.fixture
def volume():
    from nilearn.maskers import NiftiMasker

    rng = np.random.default_rng(0)
    affine = np.diag([3.0, 3, 3, 1])
    mask = np.zeros((4, 5, 6), np.int8)
    mask[1:3, 1:4, 2:4] = 1
    bold = nibabel.Nifti1Image(rng.normal(size=(4, 5, 6, 8)).astype(np.float32), affine)
    masker = NiftiMasker(mask_img=nibabel.Nifti1Image(mask, affine), standardize=None)
    return from_nilearn(bold, masker, tr=2.0), masker, mask


def test_voxels_become_an_image(volume, tmp_path):
    responses, masker, mask = volume
    n = responses.sizes["neuroid"]
    score = np.linspace(-0.2, 0.6, n)
    coords = {k: v for k, v in responses.coords.items() if v.dims == ("neuroid",)}
    scores = scores_.make({"score": (DIMS, score[None, None])},
                          coords | {"metric": ["r.pooled"], "space": ["m:l/2:all"]})
    files = export(scores, tmp_path, "nifti", like=responses)
    assert [p.name for p in files] == [f"model-ml2all_stat-rpooled_statmap.{e}" for e in ("nii.gz", "json")]
    image = nibabel.load(files[0])
    np.testing.assert_allclose(image.affine, np.diag([3.0, 3, 3, 1]))
    np.testing.assert_allclose(masker.transform_single_imgs(image).ravel(), score, rtol=1e-6)
    assert np.isnan(image.get_fdata()[mask == 0]).all()
    assert "m:l/2:all" in json.loads(files[1].read_text())["model"]["Description"]
    with pytest.raises(ValueError, match="these neuroids are of a volume; write nifti"):
        export(scores, tmp_path, "gifti", like=responses)
    with pytest.raises(ValueError, match="like: needed for to='nifti'"):
        export(scores, tmp_path, "nifti")


def test_vertices_become_two_gifti_files(tmp_path):
    from nilearn import datasets
    from nilearn.maskers import SurfaceMasker
    from nilearn.surface import SurfaceImage

    rng = np.random.default_rng(0)
    mesh = datasets.load_fsaverage("fsaverage5")["pial"]
    data = {side: rng.normal(size=(10242, 3)).astype(np.float32) for side in ("left", "right")}
    responses = from_nilearn(SurfaceImage(mesh, data), SurfaceMasker(standardize=None), tr=2.0)
    score = rng.normal(size=responses.sizes["neuroid"]).astype(np.float32)
    coords = {k: v for k, v in responses.coords.items() if v.dims == ("neuroid",)}
    scores = scores_.make({"score": (DIMS, score[None, None])},
                          coords | {"metric": ["r.pooled"], "space": ["m:l:all"]})
    files = export(scores, tmp_path, "gifti", like=responses)
    left, right, _ = files
    assert left.name == "hemi-L_model-mlall_stat-rpooled_statmap.func.gii"
    found = np.concatenate([load_surf_data(left), load_surf_data(right)])
    np.testing.assert_allclose(found, score, rtol=1e-6)


def test_sensors_become_evoked_responses(tmp_path):
    names = mne.channels.make_standard_montage("biosemi16").ch_names
    times = np.arange(-0.1, 0.31, 0.05)
    score = np.random.default_rng(0).normal(size=(1, 2, 16, len(times)))
    score[:, :, 3] = np.nan
    scores = scores_.make({"score": ((*DIMS, "time_bin"), score)},
                          {"metric": ["r.pooled"], "space": ["m:a:all", "m:b:all"], "neuroid": names,
                           "time_bin": times})
    evoked = to_evoked(scores, "biosemi16", "m:b:all")
    np.testing.assert_allclose(evoked.data, score[0, 1])
    np.testing.assert_allclose(evoked.times, times, atol=1e-9)
    assert evoked.ch_names == names and evoked.info["bads"] == [names[3]]
    (path,) = export(scores, tmp_path, "evoked", info="biosemi16")
    back = mne.read_evokeds(path, verbose="ERROR")
    assert [e.comment for e in back] == ["r.pooled | m:a:all", "r.pooled | m:b:all"]
    np.testing.assert_allclose(back[0].data, score[0, 0], rtol=1e-6)
    np.testing.assert_allclose(back[0].info["chs"][5]["loc"][:3], evoked.info["chs"][5]["loc"][:3], atol=1e-7)
    assert np.abs(evoked.info["chs"][5]["loc"][:3]).max() > 0.01  # metres
    uneven = scores.isel(time_bin=[0, 1, 4])
    with pytest.raises(ValueError, match=r"time bins are 0.05 to 0.15 s apart; MNE wants even steps"):
        to_evoked(uneven, "biosemi16")


def test_bad_requests_are_explained(sites, comparison, tmp_path):
    with pytest.raises(ValueError, match="the name 'scores' says no format; give one of csv, tsv, netcdf"):
        export(sites, tmp_path / "scores")
    with pytest.raises(ValueError, match="to: got 'matlab', expected one of 'csv'"):
        export(sites, tmp_path, "matlab")
    with pytest.raises(ValueError, match="kind: the neuroids do not say what was recorded"):
        export(sites.drop_vars("kind"), tmp_path, "bids")
    twins = sites.assign_coords(subject=("neuroid", ["a-1", "a-1", "a1", "a1"]))
    with pytest.raises(ValueError, match=r"subject: 'a-1', 'a1' have one name in letters and digits, 'a1'"):
        export(twins, tmp_path, "bids")
    with pytest.raises(ValueError, match="these Scores have none"):
        export(comparison(), tmp_path, "nifti", like=object())
    with pytest.raises(ValueError, match="metric: got 'rsa'"):
        export(comparison(), tmp_path / "a.csv", metric="rsa")
