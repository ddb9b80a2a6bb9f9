"""Stores filled apart become one, verified on the way."""

import numpy as np
import pytest

from neuroalign.errors import StoreCorrupt
from neuroalign.features import FeatureStore, extract, jobs, merge_stores

QUIET = {"progress": False}


@pytest.fixture
def parts(tiny_model, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 3)
    folders = [tmp_path / f"part{i}" for i in range(3)]
    for i, folder in enumerate(folders):
        extract(tiny_model("bert"), sentences, store=folder, shard=(i, 3), **QUIET)
    return folders


def test_parts_make_the_store_of_one_run(parts, tiny_model, sentences, tmp_path, count):
    whole = extract(tiny_model("bert"), sentences, store=tmp_path / "whole", **QUIET)
    table = merge_stores(parts, tmp_path / "merged")
    assert table.copied.tolist() == [10, 5, 5] and table.complete.tolist()[-1] == 1.0
    model = tiny_model("bert")
    counter = count(model)
    merged = extract(model, sentences, store=tmp_path / "merged", **QUIET)
    assert counter.batches == [] and list(merged) == list(whole)
    for name in whole:
        np.testing.assert_allclose(merged[name].values, whole[name].values, atol=1e-6)
    assert set(FeatureStore(tmp_path / "merged").verify().state) == {"ok"}
    again = merge_stores(parts, tmp_path / "merged")
    assert again.copied.tolist() == [0, 0, 0] and again.present.tolist() == [10, 5, 5]


def test_a_damaged_shard_is_named_and_left_out(parts, tmp_path):
    (entry,) = FeatureStore(parts[1]).entries()
    name = list(entry.spaces)[2]
    rows = entry.window(name, 4, 5)
    rows[0, 0] += 1
    rows.flush()
    with pytest.raises(StoreCorrupt, match=r"1 shards.*encoder\.layer\.1--text\.npy rows 3 to 6.*all others"):
        merge_stores(parts, tmp_path / "merged")
    table = FeatureStore(tmp_path / "merged").verify()
    assert table.set_index("space").rows.to_dict() == {s: 7 if s == name else 10 for s in entry.spaces}


def test_a_merge_killed_half_way_goes_on(parts, tmp_path, monkeypatch):
    from neuroalign.features.store import Entry

    finish, calls = Entry.finish, []

    def killed(self, *args, **more):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return finish(self, *args, **more)

    monkeypatch.setattr(Entry, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        merge_stores(parts, tmp_path / "merged")
    assert set(FeatureStore(tmp_path / "merged").check().state) == {"partial"}
    monkeypatch.setattr(Entry, "finish", finish)
    assert merge_stores(parts, tmp_path / "merged").complete.tolist()[-1] == 1.0
    assert set(FeatureStore(tmp_path / "merged").verify().state) == {"ok"}


def test_wrong_folders_are_refused(parts, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"merge: no folder '.*nowhere'"):
        merge_stores([tmp_path / "nowhere"], tmp_path / "merged")
    with pytest.raises(ValueError, match="is a source and the target"):
        merge_stores(parts, parts[0])
