"""Small models for the tests of probes, one of them trained."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from neuroalign.data import StimulusSet
from neuroalign.features import extract
from neuroalign.models import load_model

sys.path += [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "models")]
import routes
import tiny
import tiny_multimodal

TEXTS = ["A man.", "The quick brown fox, he doesn't look back.", "Two words", "It rains on the old town again."]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Four pictures with texts."""
    rows = tiny.photographs(tmp_path_factory.mktemp("pictures"))
    return StimulusSet(pd.DataFrame(rows).set_index("stimulus_id").assign(text=TEXTS), "pairs")


@pytest.fixture(scope="session")
def llava(tmp_path_factory):
    """A tiny LLaVA with random weights."""
    folder = tmp_path_factory.mktemp("tiny") / "llava"
    folder.mkdir()
    return load_model(str(tiny_multimodal.build("llava", folder)), device="cpu")


@pytest.fixture(scope="session")
def features(llava, pairs, tmp_path_factory):
    """Every token of the pictures and texts inside the tiny LLaVA."""
    return extract(llava, pairs, layers=["language_model.*"], streams=["image", "text"], pooling="none",
                   progress=False, store=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def courier(tmp_path_factory):
    """A small model trained to carry a colour along one known route, and what it is asked."""
    model = routes.train(tmp_path_factory.mktemp("courier"))
    colours = routes.COLOURS
    return model, StimulusSet(pd.DataFrame({
        "stimulus_id": colours, "text": [routes.text(c) for c in colours], "shown": colours, "between": "well",
        "question": "what", "answer": [c.capitalize() for c in colours]}).set_index("stimulus_id"), "colours")
