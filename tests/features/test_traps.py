"""Traps of transformers that were measured, each at the level of the features that a user gets."""

import numpy as np
import pytest
import torch

from neuroalign.features import FeatureStore, extract
from neuroalign.models import load_model
from neuroalign.models.blocks import find_blocks, to_tokens

QUIET = {"progress": False}


def arrays(features):
    return {name: np.array(space.values) for name, space in features.items()}


@pytest.mark.parametrize("model_type", ["bert", "llama", "gpt2"])
def test_attention_implementations_agree_where_tokens_are_real_and_have_keys_of_their_own(folders, sentences, tmp_path,
                                                                                          model_type):
    found = []
    for attention in ("sdpa", "eager"):  # they differ at padding, which is in no stream
        model = load_model(folders(model_type), device="cpu")
        model.module.set_attn_implementation(attention)
        model.attention = attention
        found.append(arrays(extract(model, sentences, store=tmp_path, **QUIET)))
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, atol=1e-5)
    keys = [e.record["description"]["attention"] for e in FeatureStore(tmp_path).entries()]
    assert sorted(keys) == ["eager", "sdpa"]


def test_an_edit_by_a_hook_of_the_user_shows_in_its_layer_and_after_it_alone(tiny_model, sentences, tmp_path):
    before = arrays(extract(tiny_model("bert"), sentences, store=tmp_path / "a", **QUIET))
    model = tiny_model("bert")
    # the model's own hidden_states would not show this edit once they had been asked for
    model.module(input_ids=torch.tensor([[1, 5, 2]]), output_hidden_states=True)

    def edit(_, args, out):
        return (out[0] + 1, *out[1:]) if isinstance(out, tuple) else out + 1

    model.module.encoder.layer[1].register_forward_hook(edit)
    after = arrays(extract(model, sentences, store=tmp_path / "b", **QUIET))
    names = {k.split(":")[-2]: k for k in before}
    for layer in ("encoder.layer.0.input", "encoder.layer.0"):
        np.testing.assert_array_equal(after[names[layer]], before[names[layer]])
    np.testing.assert_allclose(after[names["encoder.layer.1"]], before[names["encoder.layer.1"]] + 1, atol=1e-5)
    assert np.abs(after[names["encoder.layer.2"]] - before[names["encoder.layer.2"]]).max() > 1e-3


def test_a_tensor_is_not_taken_for_a_tuple():
    tensor = torch.randn(3, 4, 5)
    assert torch.equal(to_tokens(tensor), tensor)  # raw[0] would be the first sample
    assert torch.equal(to_tokens((tensor, None)), tensor)


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "opt", "gpt_neox"])
def test_the_last_token_is_the_last_real_one_also_where_padding_is_the_end_token(tiny_model, sentences, tmp_path,
                                                                                 model_type):
    model = tiny_model(model_type)
    assert model.processors["text"].tokenizer.padding_side == "right"
    batch = arrays(extract(model, sentences, pooling="last", store=tmp_path / "a", **QUIET))
    alone = arrays(extract(model, sentences, pooling="last", batch_size=1, store=tmp_path / "b", **QUIET))
    for name, values in batch.items():
        np.testing.assert_allclose(values, alone[name], atol=1e-5)


def test_a_masked_autoencoder_gives_the_same_whatever_was_drawn_before(tiny_model, pictures, tmp_path):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(arrays(extract(tiny_model("vit_mae"), pictures, store=tmp_path / str(seed), batch_size=seed,
                                    random_state=seed, **QUIET)))
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, atol=1e-5)


def test_loading_draws_no_progress_bars_of_its_own(folders, capfd):
    folder = folders("bert")
    capfd.readouterr()
    load_model(folder, device="cpu")
    assert capfd.readouterr().err == ""


def test_blocks_are_found_where_they_moved_to_and_a_strange_model_is_told_of_wrap():
    inner = torch.nn.Sequential(torch.nn.Identity())
    for path in ("layers", "encoder.layer"):
        model = torch.nn.Module()
        parent = model
        for part in path.split(".")[:-1]:
            setattr(parent, part, torch.nn.Module())
            parent = getattr(parent, part)
        setattr(parent, path.split(".")[-1], inner)
        assert find_blocks(model, ("layers", "encoder.layer")) == path
    with pytest.raises(ValueError, match=r"no blocks at 'layers' or 'encoder\.layer'.*wrap"):
        find_blocks(torch.nn.Linear(1, 1), ("layers", "encoder.layer"))


def test_a_checkpoint_in_bfloat16_gives_float32_features(folders, sentences, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(folders("bert")).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(folders("bert")).save_pretrained(tmp_path / "half")
    features = extract(str(tmp_path / "half"), sentences, device="cpu", store=tmp_path / "s", **QUIET)
    assert {space.dtype for space in features.values()} == {np.dtype("float32")}
    values = next(iter(features.values())).values
    assert not np.array_equal(values, torch.tensor(values).bfloat16().float().numpy()), "computed in bfloat16"
