"""What `extract` returns."""

import pytest

from neuroalign.data import as_spaces
from neuroalign.features import extract
from neuroalign.models import wrap


@pytest.fixture
def features(tiny_model, sentences, tmp_path):
    return extract(tiny_model("bert"), sentences, streams=["text", "all"], store=tmp_path, progress=False)


def test_it_is_a_mapping_with_a_table_of_its_spaces(features):
    assert len(features) == 10 == len(features.spaces)  # the input, three blocks, the pooler
    assert list(features.spaces.columns) == ["space_id", "model", "layer", "stream", "depth", "n_rows", "n_features"]
    assert features.spaces.space_id.tolist() == list(features)
    assert set(as_spaces(features)) == set(features)
    with pytest.raises(KeyError, match=r"no space 'bert:encoder.layer.7:all' among 10.*Did you mean"):
        features["bert:encoder.layer.7:all"]


def test_select_by_names_and_patterns(features):
    assert set(features.select(streams="all").spaces.stream) == {"all"}
    assert features.select(layers=["*.0", "*.2"], streams="text").spaces.layer.tolist() == [
        "encoder.layer.0", "encoder.layer.2"]
    assert len(features.select(models="bert") | features.select(streams="all")) == len(features)
    with pytest.raises(KeyError, match=r"no stream 'image', there are 2: text, all"):
        features.select(streams="image")


def test_it_shows_itself_and_escapes_what_comes_from_data(features, sentences, tmp_path):
    assert repr(features).startswith("<FeatureSet: 10 spaces of 1 model, 10 stimuli")
    import torch

    net = torch.nn.Sequential(torch.nn.Identity())
    model = wrap(net, lambda text: torch.zeros(3), ["0"], name="<script>x", modality="text", device="cpu")
    html = extract(model, sentences, store=tmp_path, progress=False)._repr_html_()
    assert "&lt;script&gt;" in html and "<script>" not in html
