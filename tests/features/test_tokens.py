"""Unpooled tokens: the hidden states themselves, row by row."""

import numpy as np
import pytest
import torch

from neuroalign.data import StimulusSet
from neuroalign.errors import NeuroalignWarning
from neuroalign.features import PCA, FeatureStore, estimate, extract

QUIET = {"progress": False}


def test_rows_are_the_hidden_states_of_every_token(minilm, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr("neuroalign.features.tokens.SHARD_ROWS", 20)
    features = extract(minilm, sentences, streams=["text", "all"], layers=["encoder.layer.3", "encoder.layer.0"],
                       pooling="none", store=tmp_path, **QUIET)
    tokenizer, states = minilm.processors["text"].tokenizer, []
    for text in sentences.table.text:
        with torch.no_grad():
            out = minilm.module(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        states.append(out.hidden_states[4][0].numpy())
    for stream, part in (("all", slice(None)), ("text", slice(1, -1))):
        space = features[f"minilm:encoder.layer.3:{stream}"]
        np.testing.assert_allclose(space.values, np.concatenate([s[part] for s in states]), atol=1e-5)
        counts = [len(s[part]) for s in states]
        np.testing.assert_array_equal(space.attrs["offsets"], np.r_[0, np.cumsum(counts)])
        assert space.parent.values.tolist() == list(np.repeat(sentences.ids, counts))
        assert space.stimulus.values[1] == "text0#1" and space.position.values[1] == 1
    assert len(FeatureStore(tmp_path).entries()) == 2 and set(FeatureStore(tmp_path).verify().state) == {"ok"}
    table = estimate(minilm, sentences, streams=["text", "all"], layers=["encoder.layer.3", "encoder.layer.0"],
                     pooling="none").set_index("space_id")
    assert table.n_rows.to_dict() == {k: v.sizes["stimulus"] for k, v in features.items()}


def test_a_killed_run_goes_on_and_batches_change_nothing(tiny_model, sentences, tmp_path, count, monkeypatch):
    monkeypatch.setattr("neuroalign.features.tokens.SHARD_ROWS", 30)
    options = {"layers": "encoder.layer.*", "pooling": "none", **QUIET}
    whole = extract(tiny_model("bert"), sentences, store=tmp_path / "a", **options)
    model = tiny_model("bert")
    count(model, fail_at=6)
    with pytest.raises(KeyboardInterrupt):
        extract(model, sentences, batch_size=1, store=tmp_path / "b", **options)
    model = tiny_model("bert")
    counter = count(model)
    features = extract(model, sentences, batch_size=1, store=tmp_path / "b", **options)
    assert 0 < len(counter.batches) < len(sentences)
    for name in whole:
        np.testing.assert_allclose(features[name].values, whole[name].values, atol=1e-5)


def test_positions_of_feature_maps_are_rows(tiny_model, pictures, tmp_path):
    model = tiny_model("resnet")
    flat = extract(model, pictures, pooling="flatten", store=tmp_path, **QUIET)
    rows = extract(model, pictures, pooling="none", store=tmp_path, **QUIET)
    for name, space in flat.items():
        np.testing.assert_allclose(rows[name].values.reshape(space.shape), space.values, atol=1e-5)


def test_what_cannot_be_read_has_no_rows(tiny_model, sentences, tmp_path):
    table = sentences.table.copy()
    table.iloc[1, 0] = ""
    with pytest.warns(NeuroalignWarning, match=r"1 stimuli were skipped and have no rows: 'text1'"):
        features = extract(tiny_model("bert"), StimulusSet(table), pooling="none", on_error="skip", store=tmp_path,
                           **QUIET)
    whole = extract(tiny_model("bert"), sentences, pooling="none", store=tmp_path, **QUIET)
    for name, space in whole.items():
        np.testing.assert_allclose(features[name].values, space.values[space.parent.values != "text1"], atol=1e-5)
        assert np.diff(features[name].attrs["offsets"])[1] == 0


def test_tokens_are_projected_on_components_of_named_stimuli(tiny_model, sentences, tmp_path):
    from sklearn.decomposition import PCA as Theirs

    options = {"layers": ["encoder.layer.1"], "pooling": "none", "store": tmp_path, **QUIET}
    (wide,) = extract(tiny_model("bert"), sentences, **options).values()
    (narrow,) = extract(tiny_model("bert"), sentences, projection=PCA(4, ["text2", "text5"]), **options).values()
    theirs = Theirs(4, svd_solver="full").fit(wide.values[np.isin(wide.parent, ["text2", "text5"])].astype(float))
    np.testing.assert_allclose(narrow.values, theirs.transform(wide.values), atol=2e-5)
