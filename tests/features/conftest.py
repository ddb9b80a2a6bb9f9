"""Models for the tests of features: tiny ones of real architectures, and the packaged MiniLM."""

import sys
from pathlib import Path

import pytest
import torch

from neuroalign.data import StimulusSet
from neuroalign.errors import MissingExtra
from neuroalign.models import load_model

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny

SENTENCES = [
    "It's raining again.", "Who?", "The quick brown fox jumps over the lazy dog, and doesn't look back.",
    "A man is playing the guitar; someone listens to the music in the old town.", "two words",
    "Words in context: one, two, three windows of a running text, they said, isn't it?", "fox", "the the the the",
    "Someone listens, and someone else doesn't; the rain goes on.", "again and again",
]


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Return a function: model type to a folder with a tiny model of it, built once."""
    built = {}

    def folder(model_type):
        if model_type not in built:
            path = tmp_path_factory.mktemp("tiny") / model_type  # the folder's name is the model's name
            path.mkdir()
            built[model_type] = tiny.build(model_type, path)
        return str(built[model_type])

    return folder


@pytest.fixture
def tiny_model(folders):
    """Return a function: model type to a tiny loaded model, fresh each time."""
    return lambda model_type: load_model(folders(model_type), device="cpu")


@pytest.fixture(scope="session")
def minilm():
    try:
        return load_model("minilm", device="cpu")
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture
def sentences():
    return StimulusSet.from_texts(SENTENCES, name="sentences")


@pytest.fixture
def pictures(tmp_path):
    import pandas as pd

    return StimulusSet(pd.DataFrame(tiny.photographs(tmp_path)).set_index("stimulus_id"), "pictures")


class Counter:
    """Counts the forwards of a model and the rows in them; may raise at one of them, or above a batch size."""

    def __init__(self, model, fail_at=None, most=None):
        self.batches, self.fail_at, self.most = [], fail_at, most
        self._forward = model.adapter.forward
        model.adapter.forward = self

    def __call__(self, model, inputs):
        n = len(next(iter(inputs.tensors.values())))
        if self.most is not None and n > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        if self.fail_at is not None and len(self.batches) == self.fail_at:
            raise KeyboardInterrupt
        self.batches.append(n)
        return self._forward(model, inputs)


@pytest.fixture
def count():
    return Counter
