"""Tests on a CUDA device, held against the same calls on the CPU; skipped where there is none (`make gpu`)."""

import gc
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from neuroalign.data import StimulusSet
from neuroalign.models import load_model

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "models"), str(HERE.parent / "probes")]
TEXTS = ["A man.", "The quick brown fox, he doesn't look back.", "Two words", "It rains on the old town again."]


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Four pictures with texts."""
    import tiny

    rows = tiny.photographs(tmp_path_factory.mktemp("pictures"))
    return StimulusSet(pd.DataFrame(rows).set_index("stimulus_id").assign(text=TEXTS), "pairs")


@pytest.fixture(scope="session")
def load(tmp_path_factory):
    """Return a function: model type, device and dtype to a tiny loaded model, fresh each time."""
    import tiny
    import tiny_multimodal

    made = {}

    def model(model_type, device, dtype="float32"):
        if model_type not in made:
            folder = tmp_path_factory.mktemp("tiny") / model_type
            folder.mkdir()
            builder = tiny_multimodal if model_type in tiny_multimodal.TYPES else tiny
            made[model_type] = str(builder.build(model_type, folder))
        return load_model(made[model_type], device=device, dtype=dtype)

    return model


@pytest.fixture
def peak():
    """Return a function: a call to the most bytes that it had on the device, beyond what was there before."""
    def measure(call):
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    return measure
