"""Stimuli, responses, confounds and electrodes by name or path."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

import neuroalign as na
from neuroalign.data import home, validate_responses
from neuroalign.data.manifests import Manifest
from neuroalign.recordings import load_confounds, load_electrodes, load_responses, load_stimuli, responses, stimuli

ABOUT = {"name": "toy", "title": "t", "licence": "l", "citation": "c"}


def files_of(*names):
    return [{"name": n, "url": f"https://example.org/{n}"} for n in names]


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROALIGN_HOME", str(tmp_path / "home"))


def test_objects92_images_names_and_categories(mirror):
    found = na.load_stimuli("objects92")
    reference = pd.read_csv(mirror / "objects92" / "stimuli.csv")
    assert found.modalities == ("image", "text")
    for column in ("name", "category", "human", "face", "animal", "natural"):
        assert found.table[column].tolist() == reference[column].tolist()
    assert (found.table.text == found.table.name).all()
    for path, file in zip(found.table.image, reference.file):
        ours, theirs = Image.open(path), Image.open(mirror / "objects92" / "images_gray" / file)
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs.convert("RGB")))


def test_images_are_written_once_and_missing_ones_again(mirror):
    first = load_stimuli("objects92")
    times = {p: p.stat().st_mtime_ns for p in (home() / "images").rglob("*.png")}
    assert len(times) == 92
    next(iter(times)).unlink()
    assert load_stimuli("objects92").fingerprint == first.fingerprint
    again = {p: p.stat().st_mtime_ns for p in (home() / "images").rglob("*.png")}
    assert sum(again[p] == t for p, t in times.items()) == 91


def test_images_of_a_mat_file(tmp_path, monkeypatch):
    struct = np.empty((1, 2), dtype=[("picture", object), ("kind", object)])
    for k in range(2):
        struct[0, k] = (np.full((4, 5, 3), 100 + k, np.uint8), f"kind{k}")
    savemat(tmp_path / "a.mat", {"all": struct})
    monkeypatch.setattr(stimuli, "fetch_file", lambda manifest, entry: tmp_path / entry.name)
    section = {"reader": "mat_images", "file": "a.mat", "variable": "all", "image": "picture", "prefix": "toy",
               "columns": ["kind"]}
    found = load_stimuli(Manifest(**ABOUT, files=files_of("a.mat"), stimuli={**section, "names": ["cat", "dog"]}))
    assert found.table.loc["toy_01", ["text", "kind"]].tolist() == ["dog", "kind1"]
    assert (np.asarray(Image.open(found.table.image["toy_01"])) == 101).all()
    with pytest.raises(ValueError, match="1 names for 2 images"):
        load_stimuli(Manifest(**ABOUT, files=files_of("a.mat"), stimuli={**section, "names": ["cat"]}))


def test_alice_words_are_timed(mirror):
    words = load_stimuli("alice_fmri")
    reference = pd.read_csv(mirror / "alice_fmri" / "words.csv", keep_default_na=False)
    assert words.table.text.tolist() == reference.word.tolist()
    np.testing.assert_allclose(words.table.onset, reference.onset, atol=5.1e-5, rtol=0)
    np.testing.assert_allclose(words.table.onset + words.table.duration, reference.offset, atol=5.1e-5, rtol=0)
    assert words.words() is words
    assert words.ids[:2] == ("alice#0", "alice#1")
    assert words.table.position.tolist() == list(range(2127))


def test_alice_responses_equal_the_repackaged_arrays(mirror):
    reference = np.load(mirror / "alice_fmri" / "alice_rois.npz")
    for radius in ("10mm", "6mm"):
        found = load_responses("alice_fmri", radius=radius)
        subjects = found.values.reshape(362, 27, 6).transpose(1, 0, 2)
        np.testing.assert_array_equal(subjects, reference[f"tc_{radius}"])
    assert found.subject.values.reshape(27, 6)[:, 0].tolist() == reference["subjects"].tolist()
    assert found.region.values.reshape(27, 6)[0].tolist() == reference["roi"].tolist()
    assert found.time.values[[0, -1]].tolist() == [20.0, 742.0]
    assert found.attrs["dropped"] == ["s33: all time courses of the published file are zero"]
    assert found.attrs["sfreq"] == 0.5
    for coord, name in (("sound_power", "sndpwr"), ("published_word_rate", "rate")):
        z = (reference[name] - reference[name].mean(1, keepdims=True)) / reference[name].std(1, keepdims=True)
        np.testing.assert_allclose(found[coord], z.mean(0), atol=1e-4)
        assert coord in found.attrs["regressors"]


def test_alice_confounds_equal_the_repackaged_arrays(mirror):
    reference = np.load(mirror / "alice_fmri" / "alice_rois.npz")
    found = load_confounds("alice_fmri")
    np.testing.assert_array_equal(found.transpose("subject", "time", "confound"), reference["motion"])
    assert (found.time.values == load_responses("alice_fmri").time.values).all()
    assert found.subject.values.tolist() == reference["subjects"].tolist()


def test_responses_survive_netcdf(mirror, tmp_path):
    found = load_responses("alice_fmri")
    found.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    again = load_responses(tmp_path / "a.nc")
    assert again.equals(found)
    assert again.coords["subject"].values.tolist() == found.subject.values.tolist()


def write_subjects(tmp_path, monkeypatch, **lengths):
    for subject, length in lengths.items():
        np.savetxt(tmp_path / f"{subject}-tc.txt", np.arange(length * 2.0).reshape(length, 2))
        np.savetxt(tmp_path / f"{subject}-power.txt", np.arange(length * 1.0))
    monkeypatch.setattr(responses, "fetch_file", lambda manifest, entry: tmp_path / entry.name)
    section = {"reader": "text_timecourses", "files": "{subject}-tc.txt", "regions": ["A", "B"], "tr": 1.5,
               "first": 3, "kind": "fmri", "units": "a.u.", "regressors": {"power": "{subject}-power.txt"}}
    files = files_of(*[f"{s}-{k}.txt" for s in lengths for k in ("tc", "power")])
    return lambda **more: load_responses(Manifest(**ABOUT, files=files, responses={**section, **more}))


def test_timecourses_of_small_files(tmp_path, monkeypatch):
    load = write_subjects(tmp_path, monkeypatch, s1=20, s2=20, s3=20)
    found = validate_responses(load(drop={"s2": "moved"}))
    assert found.neuroid_id.values.tolist() == ["s1.A", "s1.B", "s3.A", "s3.B"]
    assert found.time.values[:3].tolist() == [3.0, 4.5, 6.0]
    assert found.attrs["dropped"] == ["s2: moved"]
    assert found.power.values.std() == pytest.approx(1)
    with pytest.raises(ValueError, match=r"s1-tc\.txt: got 2 columns, expected 3"):
        load(regions=["A", "B", "C"])


def test_unequal_lengths_are_not_cut_to_fit(tmp_path, monkeypatch):
    load = write_subjects(tmp_path, monkeypatch, s1=20, s2=18, s3=20)
    with pytest.raises(ValueError, match="subjects 's2' have 18 samples, others 20"):
        load()


def test_frank_measures_stand_on_the_words_of_the_sentences(mirror):
    sentences = load_stimuli("frank_erp")
    assert len(sentences) == 205
    words = sentences.words().table
    raw = pd.read_csv(mirror / "frank_erp" / "all_measures.csv").set_index(["sent_id", "context_length"])
    for measure, column in (("erp", "N400"), ("eye_tracking", "RTfirstpass"), ("self_paced", None)):
        found = load_responses("frank_erp", measure=measure)
        assert found.sizes["stimulus"] == 1726
        assert set(found.stimulus_id.values) <= set(words.index)
        if column:
            keys = [(int(i.split("_")[1].split("#")[0]), int(i.split("#")[1])) for i in found.stimulus_id.values]
            np.testing.assert_allclose(found.sel(neuroid=column), raw.loc[keys, column], rtol=1e-6)
            assert raw.loc[keys, "word"].tolist() == words.loc[found.stimulus_id.values, "text"].tolist()


def test_frank_known_correlations(mirror):
    erp, eye = load_responses("frank_erp"), load_responses("frank_erp", measure="eye_tracking")
    kept = (erp.sentence_edge == 0) & np.isfinite(erp.frequency)
    assert int(kept.sum()) == 1495
    n400, first = erp.sel(neuroid="N400")[kept], eye.sel(neuroid="RTfirstpass")[kept]
    assert np.corrcoef(erp.cloze[kept], n400)[0, 1] == pytest.approx(-0.249, abs=1e-3)
    assert np.corrcoef(erp.gpt2[kept], n400)[0, 1] == pytest.approx(-0.218, abs=1e-3)
    assert np.corrcoef(erp.length[kept], first)[0, 1] == pytest.approx(0.737, abs=1e-3)


def test_options_are_checked(mirror):
    with pytest.raises(ValueError, match=r"radius: got '5mm', expected one of '10mm', '6mm'.*'6mm'"):
        load_responses("alice_fmri", radius="5mm")
    with pytest.raises(ValueError, match="no option 'radios', they have the options 'radius'.*'radius'"):
        load_responses("alice_fmri", radios="6mm")
    with pytest.raises(ValueError, match="'objects92' has no responses; it has stimuli, rdms"):
        load_responses("objects92")


def test_a_bad_manifest_section_is_named():
    bad = Manifest(**ABOUT, files=files_of("a"), rdms={"reader": "ratngs"},
                   stimuli={"reader": "pair_words", "flie": "a"})
    with pytest.raises(ValueError, match="toy: reader of rdms: got 'ratngs', expected one of.*'ratings'"):
        na.load_rdms(bad)
    with pytest.raises(ValueError, match="manifest 'toy', section 'stimuli', reader 'pair_words'.*'file'"):
        load_stimuli(bad)


def test_electrodes_of_the_brain_treebank():
    if not na.data.is_available("brain_treebank_electrodes"):
        pytest.skip("the package neuroprobe is not installed")
    found = load_electrodes("brain_treebank_electrodes")
    assert len(found) == 1696
    assert found.neuroid_id.is_unique
    assert found.subject.nunique() == 10
    assert set(found.hemisphere) == {"L", "R"}
    assert found[["x", "y", "z"]].abs().to_numpy().max() < 110
    sides = np.sign(found.x[found.x.abs() > 20])
    assert (sides == np.where(found.hemisphere[found.x.abs() > 20] == "R", 1, -1)).all()


def test_metres_are_noticed(tmp_path, monkeypatch):
    table = pd.DataFrame({"label": ["A1", "A2"], "x": [0.04, -0.05], "y": [0.01, 0.02], "z": [0.0, 0.03]})
    table.to_csv(tmp_path / "sub1.csv", index=False)
    monkeypatch.setattr(responses, "fetch_file", lambda manifest, entry: tmp_path / entry.name)
    section = {"reader": "electrode_tables", "files": "sub*.csv", "subject": r"sub(\d+)", "subject_name": "p{}",
               "kind": "seeg", "columns": {"label": "label", "x": "x", "y": "y", "z": "z"}}
    manifest = Manifest(**ABOUT, files=files_of("sub1.csv"), electrodes=section)
    with pytest.raises(ValueError, match=r"coordinates reach 0\.05, expected millimetres.*Metres"):
        load_electrodes(manifest)
    table.assign(x=[40, np.nan]).to_csv(tmp_path / "sub1.csv", index=False)
    with pytest.raises(ValueError, match=r"electrodes 'p1\.A2' have no coordinates"):
        load_electrodes(manifest)


def test_words_of_a_film_viewing():
    if not na.data.is_available("brain_treebank"):
        pytest.skip("the package neuroprobe is not installed")
    found = load_stimuli("brain_treebank", viewing="subject2_trial0")
    assert len(found) == 7053
    assert found.ids[0] == "subject2_trial0#0"
    assert (found.table.duration > 0).all()
    assert load_stimuli("brain_treebank").table.parent.iloc[0] == "subject1_trial0"
    with pytest.raises(ValueError, match=r"viewing: got 'subject2_trial9'.*Did you mean 'subject2_trial"):
        load_stimuli("brain_treebank", viewing="subject2_trial9")


def test_concepts_of_things_have_readable_names(mirror):
    found = load_stimuli("things_spose")
    assert len(found) == 1854 and found.ids[0] == "aardvark"
    assert found.table.text["bat1"] == "bat" and "ice cream" in set(found.table.text)


def test_photographs_say_what_is_on_them():
    if not na.data.is_available("photographs"):
        pytest.skip("the package scikit-image is not installed")
    found = load_stimuli("photographs")
    found.check_files()
    assert found.modalities == ("image", "text")
    assert "cat" in found.table.text["chelsea"]


def test_paths_of_tables_and_folders(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    assert load_stimuli(tmp_path).ids == ("b",)
    (tmp_path / "s.tsv").write_text("stimulus_id\ttext\na\tnull\n")
    assert load_stimuli(tmp_path / "s.tsv").table.text["a"] == "null"
    assert load_stimuli(load_stimuli(tmp_path)).ids == ("b",)
    with pytest.raises(FileNotFoundError, match="no data set 'objets92'.*objects92"):
        load_stimuli("objets92")
    with pytest.raises(FileNotFoundError, match="no file or folder 'some/where'"):
        load_stimuli("some/where")


def test_a_folder_named_like_a_data_set_is_meant_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "photographs" / "mine.png")
    monkeypatch.chdir(tmp_path)
    assert load_stimuli("./photographs").ids == ("mine",)
    assert load_stimuli(tmp_path / "photographs").ids == ("mine",)
    if na.data.is_available("photographs"):
        assert "chelsea" in load_stimuli("photographs").ids
