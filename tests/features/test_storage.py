"""bfloat16 on disk: the bits of torch, read back part by part."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroalign.errors import NeuroalignWarning
from neuroalign.features import FeatureStore, estimate, extract
from neuroalign.features.storage import decode, encode

QUIET = {"progress": False}


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_numbers_round_as_torch_rounds_them(numbers):
    values = np.array([numbers], np.float32)
    expected = torch.tensor(values).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(decode(encode(values, "bfloat16"), "bfloat16"), expected)


def test_features_are_stored_as_bfloat16_and_read_as_float32(tiny_model, sentences, tmp_path):
    full = extract(tiny_model("bert"), sentences, store=tmp_path, **QUIET)
    half = extract(tiny_model("bert"), sentences, store=tmp_path, storage_dtype="bfloat16", **QUIET)
    assert estimate(tiny_model("bert"), sentences, storage_dtype="bfloat16").disk_mb.sum() == pytest.approx(
        sum(v.nbytes for v in full.values()) / 2e6)
    for name, space in half.items():
        expected = torch.tensor(full[name].values).to(torch.bfloat16).float().numpy()
        assert space.dtype == np.float32
        np.testing.assert_array_equal(space.values, expected)
        np.testing.assert_array_equal(np.asarray(space), expected)
        np.testing.assert_array_equal(space[2:5, ::3].values, expected[2:5, ::3])
        np.testing.assert_array_equal(space.isel(stimulus=[7, 1], feature=[3, 0, 2]).values,
                                      expected[np.ix_([7, 1], [3, 0, 2])])
        np.testing.assert_array_equal(space.sel(stimulus="text4").values, expected[4])
        np.testing.assert_array_equal(space.data[:, 1:4], expected[:, 1:4])
    for file in half.files.values():  # numpy alone reads it
        stored = np.load(file, allow_pickle=False)
        assert stored.dtype == np.uint16
    np.testing.assert_array_equal((stored.astype("u4") << 16).view("f4"), expected)
    assert set(FeatureStore(tmp_path).verify().state) == {"ok"}


def test_only_the_part_that_is_read_is_decoded(tiny_model, sentences, tmp_path, monkeypatch):
    from neuroalign.features import storage

    half = extract(tiny_model("bert"), sentences, store=tmp_path, storage_dtype="bfloat16", **QUIET)
    space, seen = half[list(half)[-1]], []
    monkeypatch.setattr(storage, "decode", lambda stored, dtype: seen.append(stored.shape) or decode(stored, dtype))
    assert space[3:5, :4].values.shape == (2, 4) and seen == [(2, 4)]


def test_skipped_rows_are_nan_in_bfloat16(tiny_model, sentences, tmp_path):
    from neuroalign.data import StimulusSet

    table = sentences.table.copy()
    table.iloc[1, 0] = ""
    with pytest.warns(NeuroalignWarning, match="skipped"):
        features = extract(tiny_model("bert"), StimulusSet(table), store=tmp_path, on_error="skip",
                           storage_dtype="bfloat16", **QUIET)
    for space in features.values():
        assert np.flatnonzero(np.isnan(space.values).all(1)).tolist() == [1]
