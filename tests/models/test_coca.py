"""CoCa of open_clip: two towers and a captioner, equal to the published forward in float64, each modality alone."""

import numpy as np
import pytest
import tiny_published as tiny
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import neuroalign as na
from neuroalign.models import get_entry, load_model
from neuroalign.models.coca import load_coca
from neuroalign.models.published import BadCheckpoint


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Return a zoo of one's own with a tiny CoCa."""
    folder = tmp_path_factory.mktemp("coca")
    torch.save(tiny.coca_state(), folder / "open_clip_pytorch_model.bin")
    tiny.save_merges(folder)
    row = {"id": "tiny-coca", "family": "coca", "file": "open_clip_pytorch_model.bin", "modalities": ["image", "text"],
           "objective": "captioning"}  # fmt: skip
    (folder / "zoo.yaml").write_text(yaml.safe_dump({"models": [row]}))
    return folder / "zoo.yaml"


@pytest.fixture(scope="module")
def model(zoo):
    return load_model("tiny-coca", zoo=zoo, device="cpu")


@pytest.fixture
def pairs(texts, pictures):
    return [t | p for t, p in zip(texts, pictures)]


def agree(got, expected):
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_all_towers_equal_the_published_forward(model, run, pairs):
    state = tiny.doubled(tiny.coca_state())
    inputs, caught, _ = run(model, pairs)
    assert inputs.tensors["input_ids"].shape == (3, tiny.CONTEXT)
    names = ["0.input", *map(str, range(tiny.DEPTH))]
    for row in range(3):
        seen, read = tiny.coca_visual(state, inputs.tensors["pixel_values"][row].double())
        for name, expected in zip(names, seen):
            agree(caught[f"visual.transformer.resblocks.{name}"][row], expected)
        agree(caught["visual.ln_post"][row], read)
        agree(caught["visual.projection"][row, 0], read[0] @ state["visual.proj"])
        real, ids = inputs.streams["text"]["all"][row], inputs.tensors["input_ids"][row]
        text = tiny.coca_text(state, ids)
        for name, expected in zip(names, text):
            agree(caught[f"text.transformer.resblocks.{name}"][row][real], expected[real])
        last = tiny.normed(state, "text.ln_final", text[-1][-1], 1e-5) @ state["text.text_projection"]
        agree(caught["text.projection"][row, 0], last)
        fused = tiny.coca_captioner(state, text[-1][:-1], read[1:])
        halves = [f"text_decoder.{half}.{i}" for i in range(tiny.DEPTH) for half in ("resblocks", "cross_attn")]
        assert [x.name for x in model.adapter.layers(model) if x.tower == "fusion"][1:] == halves
        for name, expected in zip(["text_decoder.resblocks.0.input", *halves], fused):
            agree(caught[name][row][real[:-1]], expected[real[:-1]])


def test_streams_part_the_tokens(model, run, pairs):
    inputs, caught, _ = run(model, pairs)
    for layer in (x for x in model.adapter.layers(model) if x.masked):
        masks = inputs.streams[layer.tower]
        parts = sum(masks[s].int() for s in layer.streams if s != "all")
        assert torch.equal(parts, masks["all"].int()) and masks["all"].shape == caught[layer.name].shape[:2]
    assert inputs.streams["text"]["special"].sum(1).tolist() == [3, 3, 3]  # start, end, and [CLS] after the filling
    assert inputs.streams["fusion"]["special"].sum(1).tolist() == [2, 2, 2]
    depths = [x.depth for x in model.adapter.layers(model) if x.tower == "fusion"]
    assert depths == sorted(depths) and depths[0] == 0 and depths[-1] == 1


def test_neighbours_change_nothing_and_each_modality_runs_alone(model, run, pairs):
    inputs, together, _ = run(model, pairs)
    for keep in (("text", "image"), ("text",), ("image",)):
        for row, pair in enumerate(pairs):
            own, single, _ = run(model, [{k: v for k, v in pair.items() if k in (*keep, "stimulus_id")}])
            assert set(own.streams) == set(keep) | ({"fusion"} if len(keep) == 2 else set())
            for layer in (x for x in model.adapter.layers(model) if x.tower in own.streams):
                got, expected = together[layer.name][row], single[layer.name][0]
                if layer.masked:
                    got, expected = got[inputs.mask(layer, "all")[row]], expected[own.mask(layer, "all")[0]]
                torch.testing.assert_close(got, expected, rtol=0, atol=3e-5 * max(1, float(expected.abs().max())))


def test_attention_and_mlp_are_what_a_block_adds(model, run, pairs):
    taps = ("block", "attention", "mlp")
    _, caught, _ = run(model, pairs, taps)
    for tower in ("image", "text", "fusion"):
        before, *rest = [caught[x.name] for x in model.adapter.layers(model, taps) if x.tower == tower and x.masked]
        assert len(rest) == 3 * tiny.DEPTH * (2 if tower == "fusion" else 1)
        for attention, mlp, after in zip(rest[0::3], rest[1::3], rest[2::3]):
            scale = float(after.abs().max())
            torch.testing.assert_close(before + attention + mlp, after, rtol=0, atol=1e-5 * max(1, scale))
            before = after
    assert [x.name for x in model.adapter.layers(model, ("norm",))] == ["text_decoder.ln_final"]


def test_extract_and_verify(zoo, pairs, tmp_path):
    table = na.StimulusSet.from_texts([p["text"] for p in pairs]).table.assign(image=[p["image"] for p in pairs])
    features = na.extract("tiny-coca", na.StimulusSet(table), zoo=zoo, store=tmp_path, device="cpu", progress=False)
    assert {space.rsplit(":", 1)[1] for space in features} == {"image", "text"}
    assert all(np.isfinite(f.values).all() for f in features.values())
    verdict = na.verify("tiny-coca", zoo=zoo, store=tmp_path, device="cpu")
    assert verdict.attrs["passed"], verdict.to_string()


def test_safetensors_and_names(model, tmp_path, zoo):
    tiny.save_merges(tmp_path)
    save_file(tiny.coca_state(), tmp_path / "open_clip_model.safetensors")
    module, _, _ = load_coca(tmp_path / "open_clip_model.safetensors")
    ours = model.module.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in module.state_dict().items())
    state = tiny.coca_state()
    del state["text.cls_emb"], state["visual.attn_pool.query"]
    torch.save(state, tmp_path / "less.bin")
    with pytest.raises(BadCheckpoint, match="it lacks 'visual.attn_pool.query'"):
        load_coca(tmp_path / "less.bin")
    torch.save(tiny.coca_state() | {"visual.head": torch.zeros(1)}, tmp_path / "more.bin")
    with pytest.raises(BadCheckpoint, match="it has also 'visual.head'"):
        load_coca(tmp_path / "more.bin")
    assert load_model("tiny-coca@random", zoo=zoo, device="cpu").weights.startswith("random(0)+config:")
    assert get_entry("coca-vit-l14").family == "coca"


def test_pixels_are_those_of_the_published_transform(model, pictures):
    row, size = pictures[3], tiny.SIDE * tiny.PATCH
    image = Image.open(row["image"]).convert("RGB")
    scaled = image.resize([int(size * edge / min(image.size)) for edge in image.size], Image.Resampling.BICUBIC)
    left, top = (round((edge - size) / 2) for edge in scaled.size)
    values = np.asarray(scaled.crop((left, top, left + size, top + size)), dtype=np.float64) / 255
    expected = (values - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    got = model.processors["image"].batch([row], torch.device("cpu"), torch.float32)[0]
    np.testing.assert_allclose(got.permute(1, 2, 0).numpy(), expected, atol=1e-5)
