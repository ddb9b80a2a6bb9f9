"""Manifests: how they are found, and what is refused."""

import re
from pathlib import Path

import pytest
import yaml

from neuroalign.data import check_files, list_manifests, load_manifest, where_available, why_unavailable
from neuroalign.data.manifests import find_manifest

GOOD = {"name": "toy", "title": "t", "licence": "CC0", "citation": "nobody",
        "files": [{"name": "a.txt", "url": "https://example.org/a.txt"}]}

BY_HAND = ("brain_treebank_recordings", "bold5000", "pereira2018", "natural_scenes", "things_eeg2", "zuco",
           "algonauts2023", "algonauts2025", "lebel2023", "narratives")
UNVERIFIED = ("ecog_speech", "things_spose")


def write(path: Path, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


def test_every_packaged_manifest_is_valid_and_pinned():
    names = list_manifests()
    assert {"objects92", "alice_fmri", "wordsim353", "simlex999", "lee50", "photographs"} <= set(names)
    for name in names:
        manifest = load_manifest(name)
        assert manifest.name == name
        assert manifest.offers or manifest.read
        assert manifest.unverified == () or name in UNVERIFIED
        assert all(re.search(r"/[0-9a-f]{40}/", f.url) for f in manifest.files if f.url)


def test_sets_that_must_be_got_by_hand_say_how():
    for name in BY_HAND:
        manifest = load_manifest(name)
        assert manifest.files == () and manifest.home.startswith("https://")
        assert where_available(name) == f"by hand: {manifest.home}"
        said = why_unavailable(name)
        assert said.startswith(f"{name}: unverified, the manifest knows neither files nor hashes.")
        assert manifest.home in said
        assert check_files(name) == []
        with pytest.raises(ValueError, match=f"{name!r} is not loaded by name.*https://"):
            manifest.section("responses")


def test_a_path_wins_then_the_working_folder_then_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_manifest("simlex999").title != "mine"
    local = write(tmp_path / "data_manifests" / "simlex999.yaml", name="simlex999", title="mine")
    assert load_manifest("simlex999").title == "mine"
    assert find_manifest("simlex999") == local
    assert load_manifest(write(tmp_path / "x.yaml", title="path")).title == "path"
    assert "simlex999" in list_manifests()


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "toy.yaml", title="first")
    assert load_manifest(path).title == "first"
    write(path, title="second one")
    assert load_manifest(path).title == "second one"


def test_unknown_name_suggests_and_lists():
    with pytest.raises(FileNotFoundError, match=r"no data set 'object92'.*Did you mean 'objects92'.*alice_fmri"):
        load_manifest("object92")
    with pytest.raises(FileNotFoundError, match=r"no manifest 'gone.yaml'.*objects92"):
        load_manifest("gone.yaml")


@pytest.mark.parametrize("name", ["../objects92", "a/b", "/etc/passwd", ".."])
def test_names_do_not_leave_the_folders(name):
    with pytest.raises(FileNotFoundError, match="no data set"):
        load_manifest(name)


@pytest.mark.parametrize("changes, words", [
    ({"title": None}, "title"),
    ({"colour": "red"}, "colour"),
    ({"name": "../toy"}, "name"),
    ({"files": []}, "files: list at least one, or say under 'home' and 'access'"),
    ({"files": [], "home": "https://example.org"}, "files: list at least one"),
    ({"files": [{"name": "../a", "url": "https://x.org/a"}]}, r"files\.0\.name.*\.\."),
    ({"files": [{"name": "/a", "url": "https://x.org/a"}]}, r"files\.0\.name.*relative"),
    ({"files": [{"name": "C:\\a", "url": "https://x.org/a"}]}, r"files\.0\.name.*relative"),
    ({"files": [{"name": "a", "url": "file:///etc/passwd"}]}, r"files\.0\.url.*https"),
    ({"files": [{"name": "a"}]}, r"files\.0.*'url', or 'package'"),
    ({"files": [{"name": "a", "package": "numpy"}]}, r"files\.0.*together"),
    ({"files": [{"name": "a", "url": "https://x.org/a", "sha256": "abc"}]}, r"files\.0\.sha256"),
    ({"files": [{"name": "a", "url": "https://x.org/a"}] * 2}, r"more than once: 'a'"),
    ({"rdms": {"file": "a"}}, r"rdms\.reader"),
])
def test_bad_field_is_named_with_its_file(tmp_path, changes, words):
    path = write(tmp_path / "bad.yaml", **changes)
    with pytest.raises(ValueError, match=f"bad.yaml.*{words}"):
        load_manifest(path)


def test_yaml_makes_no_objects_and_must_be_a_mapping(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(ValueError, match=r"bad\.yaml: not valid YAML"):
        load_manifest(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(ValueError, match="got list, expected a mapping"):
        load_manifest(path)


def test_unverified_files_and_missing_sections_are_said(tmp_path):
    manifest = load_manifest(write(tmp_path / "toy.yaml", rdms={"reader": "ratings", "scale": 10}))
    assert manifest.unverified == ("a.txt",)
    assert manifest.offers == ("rdms",)
    assert manifest.rdms.options == {"scale": 10}
    with pytest.raises(ValueError, match="'toy' has no stimuli; it has rdms"):
        manifest.section("stimuli")
    with pytest.raises(KeyError, match=r"lists no file 'b\.txt'.*a\.txt"):
        manifest.file("b.txt")
