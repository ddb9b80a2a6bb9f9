"""Attention sites: nothing blocked changes nothing; what is blocked is as if the mask of the model had said so."""

import numpy as np
import pytest
import tiny_multimodal
import torch
from scipy.io import wavfile

from neuroalign.models.attention import INTERVENABLE, Interception, attention_sites

QUICK = ("llava", "blip")  # through the interface, and through the mask
FUSION = [t if t in QUICK else pytest.param(t, marks=pytest.mark.slow)
          for t in tiny_multimodal.CONFIGS if t != "lxmert"]  # fmt: skip


@pytest.mark.parametrize("model_type", FUSION)
def test_masks_of_nothing_change_nothing(tiny_model, run, pictures, texts, model_type):
    model = tiny_model(model_type)
    rows = [p | t | {"stimulus_id": p["stimulus_id"]} for p, t in zip(pictures, texts)]
    inputs, base, _ = run(model, rows)
    sites = attention_sites(model)
    nothing = {s.path: torch.zeros(len(rows), inputs.streams[s.tower]["all"].shape[1],
                                   inputs.streams[s.reads]["all"].shape[1], dtype=torch.bool) for s in sites}
    before = {m: m.config._attn_implementation for m in model.module.modules() if hasattr(m, "config")}
    seen = {}
    with Interception(model, sites, nothing, see=lambda site, w, _: seen.__setitem__(site.path, w)) as inside:
        _, same, _ = run(model, rows)
        inside.check(nothing)
    for name, tokens in base.items():
        layer = next(x for x in model.adapter.layers(model) if x.name == name)
        real = inputs.mask(layer, "all") if layer.masked else slice(None)
        torch.testing.assert_close(same[name][real], tokens[real], rtol=0, atol=1e-5)
    assert set(seen) == {s.path for s in sites}
    for weights in seen.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert before == {m: m.config._attn_implementation for m in model.module.modules() if hasattr(m, "config")}
    assert model.adapter.family in INTERVENABLE


def causal_reference(module, ids, windows):
    """The blocks of a Llama one by one, each with a mask of its own: the model written out by hand."""
    core, n = module.model, ids.shape[1]
    hidden = core.embed_tokens(ids)
    rotary = core.rotary_emb(hidden, position_ids=torch.arange(n)[None])
    states = []
    for i, block in enumerate(core.layers):
        mask = torch.full((n, n), -torch.inf).triu(1)[None, None].repeat(len(ids), 1, 1, 1)
        if i in windows:
            mask[windows[i][:, None]] = -torch.inf
        hidden = block(hidden, attention_mask=mask, position_embeddings=rotary)
        states.append(hidden)
    return states


def test_blocked_reads_equal_a_forward_by_hand(tiny_model, run):
    model = tiny_model("llama")
    rows = [{"stimulus_id": "a", "text": "The quick brown fox jumps over the lazy dog"},
            {"stimulus_id": "b", "text": "The quick brown dog jumps over the lazy fox"}]
    inputs, _, _ = run(model, rows)
    ids = inputs.tensors["input_ids"]
    assert inputs.streams["text"]["all"].all()  # no padding: the reference has none
    blocked = torch.zeros(2, ids.shape[1], ids.shape[1], dtype=torch.bool)
    blocked[0, 5:8, 1:4] = blocked[1, 9:, 0:2] = True  # differs between rows
    sites = [s for s in attention_sites(model) if s.block in (1, 2)]
    with Interception(model, sites, {s.path: blocked for s in sites}) as inside:
        _, got, _ = run(model, rows)
        inside.check([s.path for s in sites])
    with torch.inference_mode():
        states = causal_reference(model.module, ids, {1: blocked, 2: blocked})
    for i, state in enumerate(states):
        torch.testing.assert_close(got[f"model.layers.{i}"], state, rtol=0, atol=1e-5)


def test_a_query_without_anything_to_read_reads_nothing(tiny_model, run, pictures, texts, tmp_path):
    wavfile.write(tmp_path / "a.wav", 16000, np.arange(8000, dtype=np.int16))
    sounds = [{"stimulus_id": "a", "audio": str(tmp_path / "a.wav")}]
    for model_type, after in (("blip", "crossattention.output.dense"), ("whisper", "encoder_attn.out_proj")):
        model = tiny_model(model_type)
        row = (sounds[0] if model_type == "whisper" else pictures[0]) | texts[1]
        inputs = model.adapter.prepare(model, [row])
        site = next(s for s in attention_sites(model) if s.tower != s.reads)
        block = f"{site.stack}.{site.block}"
        size = (1, inputs.streams[site.tower]["all"].shape[1], inputs.streams[site.reads]["all"].shape[1])
        caught = []
        handle = model.module.get_submodule(f"{block}.{after}").register_forward_pre_hook(
            lambda module, args, caught=caught: caught.append(args[0]))
        with Interception(model, [site], {site.path: torch.ones(size, dtype=torch.bool)}):
            run(model, [row])
        run(model, [row])
        handle.remove()
        assert (caught[0] == 0).all() and (caught[1] != 0).any()


def test_models_without_such_attention_name_those_with(tiny_model):
    for model_type in ("mamba", "swin"):
        with pytest.raises(ValueError, match="cannot be intervened on. Families whose can: .*decoder_mllm"):
            attention_sites(tiny_model(model_type))


def test_what_was_not_reached_is_said(tiny_model, run, texts):
    model = tiny_model("llama")
    sites = attention_sites(model)
    with Interception(model, sites) as inside, pytest.raises(RuntimeError, match="not reached at .*layers.0.self_attn"):
        inside.check([sites[0].path])
    assert model.module.config._attn_implementation != "neuroalign"


def test_odd_arguments_of_attention_are_refused():
    from neuroalign.models.attention import attend

    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="takes 'softcap'"):
        attend(torch.nn.Identity(), x, x, x, None, softcap=30.0)


def test_an_adapter_may_name_its_sites_and_interventions_do_not_nest(tiny_model, monkeypatch):
    model = tiny_model("llama")
    sites = attention_sites(model)
    monkeypatch.setattr(model.adapter, "attention", lambda model: sites[1:], raising=False)
    assert attention_sites(model) == sites[1:]
    with Interception(model, sites), pytest.raises(ValueError, match="interventions do not nest"):
        Interception(model, sites[:1]).__enter__()
    with Interception(model, sites):  # the first one was taken away
        pass
