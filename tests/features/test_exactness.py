"""`verify` passes exact models, and fails what is not exact."""

import json

import pytest
import torch

from neuroalign.features import verify
from neuroalign.models import wrap


@pytest.mark.parametrize("model_type", ["bert", "llama", "gpt2", "vit", "resnet", "clip"])
def test_tiny_models_of_each_kind_pass(tiny_model, tmp_path, model_type):
    table = verify(tiny_model(model_type), store=tmp_path)
    assert table.attrs["passed"], table.to_string()
    assert set(table.verdict) <= {"pass", "skipped", "info"} and (table.verdict == "pass").sum() >= 3
    by_name = table.set_index("check")
    if model_type in ("bert", "llama", "gpt2"):
        assert (by_name.verdict.drop("bfloat16 drift") == "pass").all()
    assert (table.note[table.verdict == "skipped"] != "").all()
    (file,) = tmp_path.glob("*/verify-*.json")
    kept = json.loads(file.read_text())
    assert kept["passed"] and kept["weights"] and len(kept["checks"]) == len(table)


def test_the_drift_of_bfloat16_is_stated_and_is_not_nothing(tiny_model, tmp_path):
    drift = verify(tiny_model("bert"), store=tmp_path).set_index("check").loc["bfloat16 drift"]
    assert drift.verdict == "info" and 1e-4 < drift.difference < 0.2


class Leaky(torch.nn.Module):
    """What a stimulus gets depends on its neighbours in the batch."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Identity()

    def forward(self, x):
        return self.inner(x - x.mean(0))


def test_a_model_that_looks_at_its_neighbours_fails(tmp_path):
    model = wrap(Leaky(), lambda text: torch.full((3,), float(len(text))), ["inner"], name="leaky", modality="text",
                 weights="none", device="cpu")
    table = verify(model, store=tmp_path)
    assert not table.attrs["passed"]
    verdicts = table.set_index("check").verdict
    assert verdicts["alone or in a batch"] == verdicts["order"] == "fail" and verdicts["run again"] == "pass"


def test_wrong_positions_fail_the_check_of_padding(tiny_model, tmp_path, monkeypatch):
    from neuroalign.features import exactness

    monkeypatch.setattr(exactness, "OWN_POSITIONS", ("bert",))  # so that BERT gets none, and counts the padding
    row = verify(tiny_model("bert"), store=tmp_path).set_index("check").loc["left or right padding"]
    assert row.verdict == "fail" and row.difference > 1e-3


def test_the_real_minilm_passes_and_its_pooler_is_not_held_against_left_padding(minilm, tmp_path):
    table = verify(minilm, store=tmp_path).set_index("check")
    assert table.attrs["passed"], table.to_string()
    assert table.note["left or right padding"] == "7 layers of tokens"  # the pooler reads the first place
    assert table.drop("bfloat16 drift").difference.max() < 1e-5
