"""Dissimilarities: the published RDMs against the repackaged arrays, ratings, and bad input."""

import json

import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from neuroalign.data import fetch_file, is_available, load_manifest
from neuroalign.data.manifests import Manifest
from neuroalign.recordings import condense, load_rdms, load_stimuli, rdms
from neuroalign.recordings.rdms import numbered_ids, read_ratings


@pytest.fixture
def accepted(mirror):
    return json.loads((mirror / "acceptance.json").read_text())


def skip_without_gensim():
    if not is_available("lee50"):
        pytest.skip("the package gensim is not installed")


def of(array, region):
    return array.values[array.region.values == region]


def test_objects92_equals_the_repackaged_arrays(mirror):
    found, reference = load_rdms("objects92"), np.load(mirror / "objects92" / "rdms.npz")
    expected = {"hIT": reference["hIT_subjects"].mean(1), "hIT_group": reference["hIT_group"][None],
                "monkeyIT": reference["monkeyIT"][None], "fmri_EVC": reference["fmri_EVC"],
                "fmri_IT": reference["fmri_IT"], "behaviour": reference["behaviour"]}
    assert dict.fromkeys(found.region.values) == dict.fromkeys(expected)
    for region, values in expected.items():
        np.testing.assert_array_equal(of(found, region), values)
    single = np.isin(found.region.values, ["hIT_group", "monkeyIT"])
    assert (found.subject.values[single] == "").all()
    assert len(set(found.subject.values[~single])) == 4 + 15 + 16
    assert (of(found.subject, "fmri_EVC") == of(found.subject, "fmri_IT")).all()  # the same people
    models = load_rdms("objects92", part="models")
    assert models.target.values.tolist() == reference["model_names"].tolist()
    np.testing.assert_array_equal(models.values, reference["models"])
    assert (found.stimulus_a.values == models.stimulus_a.values).all()


def test_objects92_known_correlations(accepted):
    found, models = load_rdms("objects92"), load_rdms("objects92", part="models")
    group = {r: of(found, r).mean(0) for r in dict.fromkeys(found.region.values)}
    pairs = {"fmri_IT~hIT_group": (group["fmri_IT"], group["hIT_group"]),
             "monkeyIT~hIT_group": (group["monkeyIT"], group["hIT_group"]),
             "animacy~hIT_group": (models.sel(target="animacy"), group["hIT_group"]),
             "silhouette~fmri_EVC": (models.sel(target="Silhouette"), group["fmri_EVC"])}
    for name, (a, b) in pairs.items():
        expected = accepted[f"obj92.{name}"]
        assert spearmanr(a, b).statistic == pytest.approx(expected["value"], abs=expected["tol"])


def test_objects92_pairs_are_those_of_the_stimuli(mirror):
    found, stimuli = load_rdms("objects92"), load_stimuli("objects92")
    first, second = np.triu_indices(92, 1)
    assert found.stimulus_a.values.tolist() == np.array(stimuli.ids)[first].tolist()
    assert found.stimulus_b.values.tolist() == np.array(stimuli.ids)[second].tolist()


def test_rdms_survive_netcdf(mirror, tmp_path):
    found = load_rdms("objects92")
    found.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert load_rdms(tmp_path / "a.nc").identical(found)


@pytest.mark.parametrize("name, n_pairs, n_words", [("wordsim353", 352, 437), ("simlex999", 999, 1028)])
def test_ratings_become_dissimilarities_of_judged_pairs(name, n_pairs, n_words):
    skip_without_gensim()
    found, words = load_rdms(name), load_stimuli(name)
    assert found.shape == (1, n_pairs)
    assert len(words) == n_words
    assert set(found.stimulus_a.values) | set(found.stimulus_b.values) <= set(words.ids)
    assert found.attrs["dissimilarity"] == "10 - mean rating"
    first = found.isel(pair=0)
    by_hand = {"wordsim353": ("love", "sex", 6.77), "simlex999": ("old", "new", 1.58)}[name]
    assert (first.stimulus_a.item(), first.stimulus_b.item()) == by_hand[:2]
    assert first.item() == pytest.approx(10 - by_hand[2], abs=1e-5)


def test_a_word_with_itself_is_left_out_and_named():
    skip_without_gensim()
    assert load_rdms("wordsim353").attrs["dropped"] == ["tiger, tiger: a word with itself"]
    assert "dropped" not in load_rdms("simlex999").attrs


def test_lee_documents_and_their_upper_triangle():
    skip_without_gensim()
    found, documents = load_rdms("lee50"), load_stimuli("lee50")
    assert found.shape == (1, 1225)
    assert len(documents) == 50
    assert documents.ids[0] == found.stimulus_a.values[0] == "lee50_00"
    raw = np.loadtxt(fetch_file("lee50", "similarities0-1.txt"))
    square = squareform(found.values[0])
    for i, j in [(0, 1), (3, 7), (48, 49)]:
        assert square[i, j] == pytest.approx(1 - raw[i, j], abs=1e-6)
    assert all(len(text.split()) > 20 for text in documents.table.text)


def toy(tmp_path, monkeypatch, **arrays):
    """Make a manifest of a .mat file of square RDMs, which is found without a download."""
    struct = np.empty((1, len(arrays)), dtype=[("RDM", object), ("name", object)])
    for k, (name, array) in enumerate(arrays.items()):
        struct[0, k] = (array, name)
    savemat(tmp_path / "a.mat", {"all": struct})
    monkeypatch.setattr(rdms, "fetch_file", lambda manifest, file: tmp_path / file)
    source = {"file": "a.mat", "variable": "all", "field": "RDM", "label": "name"}
    files = [{"name": "a.mat", "url": "https://example.org/a.mat"}]
    section = {"reader": "rdm_files", "stimuli": {"prefix": "s", "count": 3}}
    return lambda **more: load_rdms(Manifest(
        name="toy", title="t", licence="l", citation="c", files=files,
        rdms={**section, "parts": {"only": [{**source, **more}]}}))


def test_sessions_of_a_subject_are_averaged(tmp_path, monkeypatch):
    square = squareform(np.array([1.0, 2.0, 3.0]))
    load = toy(tmp_path, monkeypatch, A1=square, A2=square + 2 * (1 - np.eye(3)), B1=square * 10)
    found = load(region="IT", subject=r"(?P<subject>\w)(?P<session>\d)", subject_name="p-{}")
    assert found.target.values.tolist() == ["IT:p-A", "IT:p-B"]
    np.testing.assert_allclose(found.values, [[2, 3, 4], [10, 20, 30]])
    assert load(rows=[2]).target.values.tolist() == ["B1"]
    with pytest.raises(ValueError, match="label 'A1' does not fit"):
        load(region="IT", subject=r"sub-(?P<subject>\d)")


@pytest.mark.parametrize("square, words", [
    (np.array([[0, 1, 2], [9, 0, 3], [2, 3, 0.0]]), r"all\[0\]: not symmetric"),
    (np.zeros((4, 4)), "expected 3 x 3 or 3 pairs"),
    (np.array([[0, 1, np.nan], [1, 0, 3], [np.nan, 3, 0.0]]), "pairs '1' are not finite"),
])
def test_bad_matrices_are_named(tmp_path, monkeypatch, square, words):
    with pytest.raises(ValueError, match=rf"a\.mat, .*{words}"):
        toy(tmp_path, monkeypatch, x=square)()


def test_parts_are_checked(mirror):
    with pytest.raises(ValueError, match="part: got 'modles', expected one of 'brain', 'models'.*'models'"):
        load_rdms("objects92", part="modles")
    with pytest.raises(ValueError, match="no option 'part', they have nothing to choose"):
        load_rdms("simlex999", part="x")
    with pytest.raises(ValueError, match="'alice_fmri' has no rdms; it has stimuli, responses, confounds"):
        load_rdms("alice_fmri")


def test_condense_against_scipy():
    values = np.random.default_rng(0).random((2, 10))
    np.testing.assert_allclose(condense(np.stack([squareform(v) for v in values])), values)
    with pytest.raises(ValueError, match=r"got shape \(2, 3\), expected square"):
        condense(np.zeros((2, 3)))


def test_numbered_ids_are_as_wide_as_needed():
    assert numbered_ids("a", 2) == ["a_00", "a_01"]
    assert numbered_ids("a", 1000)[5] == "a_005"


def test_bad_ratings_name_the_line(tmp_path):
    path = tmp_path / "r.tsv"
    path.write_text("# comment\na\tb\t1.5\n\nc d 2\n")
    with pytest.raises(ValueError, match=r"r\.tsv, line 4: got 'c d 2'"):
        read_ratings(path)
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="no rated pairs"):
        read_ratings(path)


def test_objects92_names_are_as_many_as_the_images():
    section = load_manifest("objects92").stimuli
    assert len(section.options["names"]) == 92
    assert len(set(section.options["names"])) == 78
