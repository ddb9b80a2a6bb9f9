"""Any torch module as a model."""

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
import standins
import torch
from scipy.io import wavfile
from torch import nn

import neuroalign as na
from neuroalign.models import BadStimuli, wrap

RECIPES = Path(__file__).parents[2] / "docs" / "wrap_recipes.md"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3) for _ in range(2))
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def pixels(image):
    return torch.from_numpy(np.asarray(image.resize((16, 16)), dtype=np.float32) / 255).permute(2, 0, 1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_layers_by_path_and_pattern(net, pictures, run):
    model = wrap(net, pixels, ["stem", "blocks.*", "head"], name="net", device="cpu")
    layers = model.adapter.layers(model)
    assert [x.name for x in layers] == ["stem", "blocks.0", "blocks.1", "head"]
    assert [x.depth for x in layers] == [0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1]
    inputs, caught, output = run(model, pictures)
    assert caught["stem"].shape == (4, 14 * 14, 4) and caught["head"].shape == (4, 1, 5)
    torch.testing.assert_close(caught["head"][:, 0], output, rtol=0, atol=0)
    with torch.inference_mode():
        expected = net.stem(inputs.tensors["x"])
    torch.testing.assert_close(caught["stem"][1, 3 * 14 + 5], expected[1, :, 3, 5])
    assert inputs.mask(layers[0], "all") is None
    one = wrap(net, pixels, "blocks.*", name="net", device="cpu")  # a pattern by itself, not its characters
    assert [x.name for x in one.adapter.layers(one)] == ["blocks.0", "blocks.1"]


def test_identity_follows_the_weights(net):
    first = wrap(net, pixels, ["head"], name="net", device="cpu")
    again = wrap(net, pixels, ["head"], name="other", device="cpu")
    assert first.weights == again.weights
    nn.init.zeros_(net.head.bias)
    assert wrap(net, pixels, ["head"], name="net", device="cpu").weights != first.weights
    assert wrap(net, pixels, ["head"], name="net", weights="v1", device="cpu").weights == "v1"
    assert "pixels" in first.preprocessing


def test_text_modules(run):
    def letters(text):
        return torch.tensor([ord(c) % 32 for c in text[:4].ljust(4)])

    model = wrap(nn.Sequential(nn.Embedding(64, 6), nn.Linear(6, 3)), letters, ["0", "1"], name="letters",
                 modality="text", device="cpu")  # fmt: skip
    inputs, caught, _ = run(model, [{"stimulus_id": "a", "text": "word"}, {"stimulus_id": "b", "text": "on"}])
    assert inputs.tensors["x"].dtype == torch.int64 and caught["0"].shape == (2, 4, 6)
    with pytest.raises(BadStimuli, match="'c': no text"):
        model.adapter.check(model, [{"stimulus_id": "c", "image": "x.png"}])


def test_bad_arguments_and_stimuli(net, pictures, tmp_path):
    with pytest.raises(ValueError, match=r"Net has no module 'block\.0'.*'blocks\.0'"):
        wrap(net, pixels, ["block.0"], name="net")
    with pytest.raises(ValueError, match="modality: got 'sound'"):
        wrap(net, pixels, ["head"], name="net", modality="sound")
    with pytest.raises(ValueError, match="has no module 'bl.k'"):
        wrap(net, pixels, ["bl.k"], name="net")
    uneven = wrap(net, lambda i: torch.zeros(3, *i.size), ["head"], name="net", device="cpu")
    with pytest.raises(ValueError, match="different shapes|tensors of shapes"):
        uneven.adapter.prepare(uneven, pictures)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    model = wrap(net, pixels, ["head"], name="net", device="cpu")
    with pytest.raises(BadStimuli, match="'cut'"):
        model.adapter.prepare(model, [{"stimulus_id": "cut", "image": str(tmp_path / "cut.png")}])


def test_a_star_stands_within_one_part_of_a_path():
    nested = nn.ModuleDict({"blocks": nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(2))})
    assert wrap(nested, pixels, ["blocks.*"], name="nested", device="cpu").adapter.paths == ("blocks.0", "blocks.1")
    assert wrap(nested, pixels, ["*.1.[01]"], name="nested").adapter.paths == ("blocks.1.0", "blocks.1.1")


def test_maps_over_time_and_paths_of_videos(tmp_path, run):
    rows = []
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((3, 4, 6, 6), dtype=np.float32))
        rows.append({"stimulus_id": str(i), "video": str(tmp_path / f"{i}.npy")})
    net = nn.Sequential(nn.Conv3d(3, 5, 2), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    model = wrap(net, lambda path: torch.from_numpy(np.load(path)), ["0", "2"], name="c3d", modality="video",
                 device="cpu")  # fmt: skip
    inputs, caught, _ = run(model, rows)
    maps = net[0](inputs.tensors["x"])
    torch.testing.assert_close(caught["0"][1, (2 * 5 + 3) * 5 + 4], maps[1, :, 2, 3, 4])
    assert caught["2"].shape == (3, 1, 5)
    with pytest.raises(BadStimuli, match="'x': no video"):
        model.adapter.check(model, [{"stimulus_id": "x", "text": "a"}])


def test_a_batch_that_does_not_come_first_is_refused(run, pictures):
    trunk = standins.Trunk()
    net = nn.Sequential(nn.Conv2d(3, standins.WIDTH, 4, 4), nn.Flatten(2), Transposed(), trunk)
    with pytest.raises(ValueError, match=r"layer '3.blocks.0' gave 16 rows for 4 stimuli.*Give 'tokens'"):
        run(wrap(net, pixels, ["3.blocks.*"], name="net", device="cpu"), pictures)
    model = wrap(net, pixels, ["3.blocks.*"], name="net", device="cpu", tokens=swapped)
    _, caught, output = run(model, pictures)
    assert torch.equal(caught["3.blocks.2"], output) and "swapped" in model.preprocessing


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def swapped(path, raw):
    return raw.transpose(0, 1)


@pytest.fixture
def recipe(monkeypatch):
    """Return a function that runs the code of a recipe on the stand-ins: title -> its names."""
    standins.install(monkeypatch)
    text = RECIPES.read_text(encoding="utf-8")

    def follow(title: str) -> dict:
        code = re.search(rf"(?ms)^## {title}.*?^```python\n(.*?)^```", text)[1]
        names = {"weights": standins.PointTransformer(None, args=argparse.Namespace(evaluate_3d=True)).state_dict()}
        exec(compile(code, str(RECIPES), "exec"), names)
        return names

    return follow


def hold(model, rows, run, store, layers):
    """Check a wrapped model: its layers, that neighbours change nothing, extraction and verification."""
    _, together, _ = run(model, rows)
    for row, stimulus in enumerate(rows):
        _, single, _ = run(model, [stimulus])
        for name, tokens in single.items():
            torch.testing.assert_close(together[name][row], tokens[0], rtol=0, atol=1e-5)
    assert list(together) == layers
    modality = model.adapter.modalities[0]
    table = na.StimulusSet.from_texts(["x"] * len(rows), [r["stimulus_id"] for r in rows]).table[[]]
    stimuli = na.StimulusSet(table.assign(**{modality: [r[modality] for r in rows]}))
    pooling = "last" if modality == "text" else "mean"
    features = na.extract(model, stimuli, store=store, progress=False, pooling=pooling)
    assert len(features) == len(layers) and all(np.isfinite(f.values).all() for f in features.values())
    assert na.verify(model, stimuli, store=store).attrs["passed"]
    return together, features


def test_recipe_of_coca(recipe, run, pictures, texts, tmp_path):
    names = recipe("CoCa")
    blocks = [f"transformer.resblocks.{i}" for i in range(3)]
    caught, _ = hold(names["image"], pictures, run, tmp_path, [*blocks, "attn_pool"])
    assert caught[blocks[0]].shape == (4, 16, standins.WIDTH) and caught["attn_pool"].shape[1] == 5
    caught, features = hold(names["text"], texts, run, tmp_path, blocks)
    last = next(f for space, f in features.items() if blocks[2] in space)
    np.testing.assert_allclose(last.values, caught[blocks[2]][:, -1].numpy(), atol=1e-5)  # the [CLS] after the filling


def test_recipe_of_imagebind(recipe, run, pictures, tmp_path):
    names = recipe("ImageBind")
    paths = {m: [f"model.modality_trunks.{m}.blocks.{i}" for i in range(3)] for m in ("vision", "audio")}
    hold(names["image"], pictures, run, tmp_path, [*paths["vision"], "model.modality_heads.vision"])
    rows = []
    for i in range(3):
        wave = np.random.default_rng(i).integers(-9999, 9999, 6000, dtype=np.int16)
        wavfile.write(tmp_path / f"{i}.wav", 16000, wave)
        rows.append({"stimulus_id": f"s{i}", "audio": str(tmp_path / f"{i}.wav")})
    hold(names["audio"], rows, run, tmp_path, [*paths["audio"], "model.modality_heads.audio"])


def test_recipe_of_a_3d_encoder(recipe, run, tmp_path):
    names, rows = recipe("A 3-D encoder"), []
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((200, 6)))
        rows.append({"stimulus_id": f"o{i}", "image": str(tmp_path / f"{i}.npy")})
    place = names["points"](rows[0]["image"])[:, :3]
    assert float(place.norm(dim=1).max()) == pytest.approx(1, abs=1e-5) and float(place.mean().abs()) < 1e-6
    layers = ["reduce_dim", *(f"blocks.blocks.{i}" for i in range(3)), "norm"]
    caught, _ = hold(names["shapes"], rows, run, tmp_path, layers)
    assert caught["reduce_dim"].shape[1] + 1 == caught["norm"].shape[1] == 11
