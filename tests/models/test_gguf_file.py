"""GGUF files: read as their own package reads them, unpacked once, whole or not at all."""

import numpy as np
import pytest
import torch

from neuroalign.data.packages import find_file
from neuroalign.models import gguf_file
from neuroalign.models.gguf_file import read_gguf, unpack_gguf

gguf = pytest.importorskip("gguf")
SHA = "b" * 64


@pytest.fixture
def small_file(tmp_path):
    """A GGUF file with tensors in three quantisations."""
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "gpt9")
    writer.add_uint32("gpt9.block_count", 3)
    writer.add_float32("gpt9.epsilon", 0.5)
    writer.add_bool("gpt9.tied", True)
    writer.add_array("gpt9.names", ["a", "ß", ""])
    writer.add_array("gpt9.numbers", [1, -2, 3])
    rng = np.random.default_rng(0)
    shapes = {"full": (3, 5), "half": (2, 4), "q8": (4, 64)}
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    writer.add_tensor("full", values["full"])
    writer.add_tensor("half", values["half"].astype(np.float16))
    q8 = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("q8", gguf.quants.quantize(values["q8"], q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "small.gguf", values


def test_metadata_and_tensors(small_file):
    path, values = small_file
    metadata, tensors = read_gguf(path)
    assert metadata["general.architecture"] == "gpt9"
    assert metadata["gpt9.block_count"] == 3 and metadata["gpt9.epsilon"] == 0.5 and metadata["gpt9.tied"] is True
    assert metadata["gpt9.names"] == ["a", "ß", ""] and metadata["gpt9.numbers"] == [1, -2, 3]
    np.testing.assert_array_equal(tensors["full"], values["full"])
    np.testing.assert_array_equal(tensors["half"], values["half"].astype(np.float16).astype(np.float32))
    reference = next(t for t in gguf.GGUFReader(path).tensors if t.name == "q8")
    np.testing.assert_array_equal(tensors["q8"], gguf.quants.dequantize(reference.data, reference.tensor_type))
    np.testing.assert_allclose(tensors["q8"], values["q8"], atol=0.02)


def test_files_that_are_not_read_leave_nothing_behind(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROALIGN_HOME", str(tmp_path / "home"))
    with pytest.raises(ValueError, match="holds a 'gpt9' model"):
        unpack_gguf(small_file[0], SHA)
    (tmp_path / "other.gguf").write_bytes(b"not a model at all, but long enough for a header")
    with pytest.raises(ValueError, match="not a GGUF file"):
        unpack_gguf(tmp_path / "other.gguf", SHA)
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_a_home_that_cannot_be_written_is_named(small_file, tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("NEUROALIGN_HOME", str(tmp_path / "home"))
    with pytest.raises(OSError, match="Set NEUROALIGN_HOME"):
        unpack_gguf(small_file[0], SHA)


def test_the_first_of_two_processes_wins(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROALIGN_HOME", str(tmp_path / "home"))

    def unpack(path, folder):
        (folder / "mine").write_text("")
        other = tmp_path / "home" / "models" / f"{SHA[:16]}-{gguf_file.FORMAT}"
        other.mkdir()
        (other / "theirs").write_text("")

    monkeypatch.setattr(gguf_file, "_unpack", unpack)
    folder = unpack_gguf(small_file[0], SHA)
    assert [f.name for f in folder.iterdir()] == ["theirs"] and len(list(folder.parent.iterdir())) == 1
    monkeypatch.setattr(gguf_file, "_unpack", None)  # not called again
    assert unpack_gguf(small_file[0], SHA) == folder


@pytest.mark.slow
def test_smollm2_equals_what_transformers_reads(packaged):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model = packaged("smollm2-135m")
    path = find_file(model.entry.package.distribution, model.entry.package.path)
    source = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name, "local_files_only": True}
    expected = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).state_dict()
    got = model.module.state_dict()
    assert got.keys() == expected.keys() and all(torch.equal(got[k], expected[k]) for k in got)
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    text = " It's 2024, isn't\n it? naïve 12345"
    assert tokenizer(text)["input_ids"] == model.processors["text"].tokenizer(text)["input_ids"]
