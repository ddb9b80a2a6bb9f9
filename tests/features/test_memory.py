"""The memory that an estimate states, against what is known to be made."""

import numpy as np
import pytest
import torch

from neuroalign.data import StimulusSet
from neuroalign.features import estimate
from neuroalign.features.memory import count_tensors
from neuroalign.models import wrap


def test_tensors_are_counted_once_and_until_they_are_freed():
    with torch.inference_mode(), count_tensors(torch.nn.Identity()) as peak:
        x = torch.zeros(1000)
        views = [x.view(10, 100), x[5:]]
        x.add_(1)
        assert peak.now == peak.peak == 4000
        del x, views
        assert peak.now == 0
        y = torch.ones(500) + torch.ones(500)
    assert (peak.now, peak.peak, y.sum()) == (2000, 6000, 1000)


def test_weights_do_not_count_and_a_layer_makes_its_output():
    layer = torch.nn.Linear(100, 1000)
    with torch.inference_mode(), count_tensors(layer) as peak:
        y = layer(torch.zeros(1, 100))
    assert peak.now == y.nbytes and peak.peak == y.nbytes + 400


class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Identity()

    def forward(self, x):
        wide = x.repeat(1, 250_000)  # 1 MB a row
        return self.inner((wide * 2).mean(1, keepdim=True))  # and 1 MB more


def test_an_estimate_holds_what_a_first_batch_takes():
    model = wrap(Wide(), lambda text: torch.ones(1), ["inner"], name="wide", modality="text", weights="none",
                 device="cpu")
    for n in (1, 5):
        table = estimate(model, StimulusSet.from_texts([str(i) for i in range(n)]))
        assert table.weights_mb[0] == 0 and table.memory_mb[0] == pytest.approx(2 * n, rel=0.02)


def test_longer_texts_take_more(tiny_model):
    model = tiny_model("bert")
    short, long = (estimate(model, StimulusSet.from_texts(["fox " * k])).memory_mb.max() for k in (2, 20))
    weights = sum(p.nbytes for p in model.module.parameters()) / 1e6
    assert np.isfinite([short, long]).all() and long - weights > 4 * (short - weights) > 0
