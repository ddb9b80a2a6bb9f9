"""Whisper hears a sentence: its words need the cross-attention, and the knockout says in which layers."""

import shutil
import subprocess
from importlib.util import find_spec

import pandas as pd
import pytest

from neuroalign.data import StimulusSet, scores
from neuroalign.models import load_model
from neuroalign.models.zoo import get_entry
from neuroalign.probes.information_flow import information_flow

SAID = "My name is John and I live in London."
HEARD = {"My name is": "John", "My name is John and I live in": "London"}


@pytest.fixture(scope="module")
def whisper():
    package = get_entry("whisper-tiny.en").package
    if find_spec(package.path.split("/")[0]) is None:
        pytest.skip(f"pip install {package.pip}")
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed (apt-get install espeak-ng), so nothing can be spoken")
    return load_model("whisper-tiny.en", device="cpu")


@pytest.mark.slow
def test_words_need_what_is_heard(whisper, tmp_path):
    path = str(tmp_path / "spoken.wav")
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "140", "-w", path, SAID], check=True)
    stimuli = StimulusSet(pd.DataFrame({"stimulus_id": ["name", "place"], "audio": path, "text": list(HEARD),
                                        "answer": list(HEARD.values())}).set_index("stimulus_id"), "spoken")
    edges = ["encoder->all", "audio->all"]
    by_layer = information_flow(whisper, stimuli, edges, window=1, answer="answer", n_bootstraps=0)
    about = scores.attrs_of(by_layer)
    assert about["share_correct"] == 1.0  # both words are heard
    cut = information_flow(whisper, stimuli, edges, window=9, layers=[2], answer="answer", n_bootstraps=0)
    whole = cut.score.sel(metric="flow.relative", target="answer").values
    assert whole[0] < -95 and whole[1] < -90  # no layer hears: the words are not guessed from the text
    single = by_layer.score.sel(metric="flow.relative", target="answer").values.reshape(2, 4)[0]
    assert single[3] < -60 and (single[:3] > -25).all(), single  # it is the last layer that hears the word
