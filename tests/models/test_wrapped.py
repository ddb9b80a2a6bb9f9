"""Any torch module as a model."""

import numpy as np
import pytest
import torch
from torch import nn

from neuroalign.models import BadStimuli, wrap


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
    uneven = wrap(net, lambda i: torch.zeros(3, *i.size), ["head"], name="net", device="cpu")
    with pytest.raises(ValueError, match="different shapes|tensors of shapes"):
        uneven.adapter.prepare(uneven, pictures)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    model = wrap(net, pixels, ["head"], name="net", device="cpu")
    with pytest.raises(BadStimuli, match="'cut'"):
        model.adapter.prepare(model, [{"stimulus_id": "cut", "image": str(tmp_path / "cut.png")}])
