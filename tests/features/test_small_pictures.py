"""Pictures smaller than a patch: enlarged as the processor of the model does it, or refused by name."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import neuroalign as na
from neuroalign.models import BadStimuli, load_model

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny
import tiny_multimodal

COLOUR = (200, 10, 90)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    def load(kind):
        folder = tmp_path_factory.mktemp("models") / kind
        folder.mkdir()
        (tiny_multimodal if kind in tiny_multimodal.TYPES else tiny).build(kind, folder)
        return load_model(str(folder), device="cpu")

    return load


def pictures(folder, **sizes):
    for name, size in sizes.items():
        Image.new("RGB", size, COLOUR).save(folder / f"{name}.png")
    return na.StimulusSet(pd.DataFrame({"image": [str(folder / f"{n}.png") for n in sizes], "text": "a red square"},
                                       index=list(sizes)))


@pytest.mark.parametrize(("kind", "side"), [("vit", 32), ("clip", 32), ("vilt", 32), ("qwen2_vl", 16)])
def test_a_pixel_gives_what_it_gives_enlarged(kind, side, model, tmp_path):
    stimuli = pictures(tmp_path, pixel=(1, 1), enlarged=(side, side), other=(50, 40))
    features = na.extract(model(kind), stimuli, store=tmp_path / "store", progress=False)
    for space in features.values():
        np.testing.assert_allclose(space.values[0], space.values[1], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 7), (3, 7), (7, 1), (7, 3)])
def test_one_or_three_pixels_are_not_taken_for_channels(size, model, tmp_path):
    stimuli = pictures(tmp_path, few=size, enlarged=(32, 32))
    for space in na.extract(model("vit"), stimuli, store=tmp_path / "store", progress=False).values():
        np.testing.assert_allclose(space.values[0], space.values[1], atol=1e-5)


@pytest.mark.parametrize("kind", ["vilt", "qwen2_vl"])
def test_a_line_that_would_vanish_is_named(kind, model, tmp_path):
    stimuli = pictures(tmp_path, fine=(40, 40), line=(1, 300))
    with pytest.raises(BadStimuli, match=r"'line': cannot be read \(ValueError") as error:
        na.extract(model(kind), stimuli, store=tmp_path / "store", progress=False)
    assert error.value.ids == ("line",)
    with pytest.warns(na.errors.NeuroalignWarning, match="'line'"):
        features = na.extract(model(kind), stimuli, store=tmp_path / "store", on_error="skip", progress=False)
    assert all(np.isfinite(f.values).all(1).tolist() == [True, False] for f in features.values())
