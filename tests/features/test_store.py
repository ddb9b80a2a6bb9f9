"""The store: entries, checksums, locks, gc."""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from neuroalign.errors import StoreCorrupt
from neuroalign.features.store import FeatureStore, covered, entry_key


@pytest.fixture
def entry(tmp_path):
    e = FeatureStore(tmp_path).entry("org/toy", {"weights": "w"}, ids=[f"s{i}" for i in range(6)],
                                     about={"stimuli": "six"})
    e.add_space("block.0", "all", n_features=4, dtype="float32", depth=0.5)
    values = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    e.write("block.0:all", 0, values[:4])
    e.finish(0, 4, ["block.0:all"])
    e.write("block.0:all", 4, values[4:])
    e.finish(4, 6, ["block.0:all"])
    return e, values


def test_an_entry_is_read_with_numpy_and_json_alone(entry, tmp_path):
    e, values = entry
    code = ("import json, sys, numpy as np, pathlib\n"
            "f = next(pathlib.Path(sys.argv[1]).glob('*/*'))\n"
            "d = json.loads((f / 'entry.json').read_text())\n"
            "s = d['spaces']['block.0:all']\n"
            "x = np.load(f / s['file'], mmap_mode='r', allow_pickle=False)\n"
            "print(len(d['rows']), s['layer'], s['stream'], x.shape, float(x.sum(dtype='f8')))")
    command = [sys.executable, "-I", "-c", code, str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.split()[:3] == ["6", "block.0", "all"]
    assert float(out.stdout.split()[-1]) == pytest.approx(values.sum(dtype="f8"))
    assert isinstance(e.open("block.0:all"), np.memmap)


def test_keys_depend_on_values_not_on_order():
    assert entry_key({"a": 1, "b": [2]}) == entry_key({"b": [2], "a": 1}) != entry_key({"a": 1, "b": [3]})
    assert len(entry_key({})) == 16


def test_ls_and_find(entry, tmp_path):
    store = FeatureStore(tmp_path)
    row = store.ls().iloc[0]
    assert (row.model, row.stimuli, row.n_rows, row.n_spaces, row.complete) == ("org/toy", "six", 6, 1, 1.0)
    assert store.find(row.key[:6]).folder == entry[0].folder
    with pytest.raises(KeyError, match="no entry with key 'zz'"):
        store.find("zz")
    assert FeatureStore(tmp_path / "none").ls().empty
    with pytest.raises(NotADirectoryError, match="is a file"):
        FeatureStore(entry[0].folder / "entry.json")


def test_one_flipped_bit_is_found_in_its_shard_alone(entry, tmp_path):
    e, _ = entry
    assert FeatureStore(tmp_path).verify().state.tolist() == ["ok"]
    assert e.damaged("block.0:all") == {}
    rows = e.window("block.0:all", 5, 6)
    rows.view(np.uint8)[0, 0] ^= 1
    rows.flush()
    del rows
    assert list(e.damaged("block.0:all", trust_stamp=False)) == [(4, 6)]
    with pytest.raises(StoreCorrupt, match=r"1 of 1 arrays.*block\.0--all\.npy.*rows 4 to 6.*same extraction again"):
        FeatureStore(tmp_path).verify()
    e.forget("block.0:all", [(4, 6)])
    assert FeatureStore(tmp_path).verify().state.tolist() == ["partial"]


def test_unreadable_records_count_as_unfinished_or_are_named(entry, tmp_path):
    e, _ = entry
    ledger = sorted((e.folder / "shards").glob("*.json"))
    ledger[1].write_text("{")
    table = FeatureStore(tmp_path).check()
    assert (table.state[0], table.rows[0]) == ("partial", 4)
    (e.folder / "entry.json").write_text("{")
    with pytest.raises(StoreCorrupt, match=r"entry\.json: is not JSON.*Delete the folder"):
        FeatureStore(tmp_path).ls()


def test_gc_removes_leftovers_and_keeps_what_is_finished(entry, tmp_path):
    e, values = entry
    store = FeatureStore(tmp_path)
    e.add_space("block.1", "all", n_features=4, dtype="float32", depth=1.0)
    (e.folder / "x.npy.123.tmp").write_bytes(b"left")
    dead = store.entry("toy2", {"weights": "v"}, ids=["a"])
    assert store.gc().empty, "what is young may belong to a run in progress"
    old = time.time() - 7200
    for path in tmp_path.rglob("*"):
        os.utime(path, (old, old))
    removed = store.gc()
    assert {p.rsplit("/", 1)[1] for p in removed.path} >= {"x.npy.123.tmp", "block.1--all.npy", dead.folder.name}
    assert list(e.spaces) == ["block.0:all"] and not dead.folder.exists()
    np.testing.assert_array_equal(e.open("block.0:all"), values)
    assert store.verify().state.tolist() == ["ok"]


def test_spaces_added_at_once_by_several_are_all_there(tmp_path):
    store = FeatureStore(tmp_path)

    def add(k):
        e = store.entry("toy", {"w": 1}, ids=["a", "b"])
        for i in range(5):
            e.add_space(f"layer.{(i + k) % 8}", "all", n_features=3, dtype="float32", depth=0.1)
            e.write(f"layer.{(i + k) % 8}:all", 0, np.full((2, 3), 1.0, np.float32))

    threads = [threading.Thread(target=add, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    (e,) = store.entries()
    assert sorted(e.spaces) == [f"layer.{i}:all" for i in range(8)]
    assert all((e.open(name) == 1).all() for name in e.spaces)
    assert json.loads((e.folder / "entry.json").read_text())["rows"] == ["a", "b"]


def test_locks_exclude_others_and_end_with_their_holder(tmp_path):
    e = FeatureStore(tmp_path).entry("toy", {}, ids=["a"])
    with e.lock("rows") as mine, e.lock("rows", wait=False) as second, e.lock("other", wait=False) as third:
        assert (mine, second, third) == (True, False, True)
    with e.lock("rows", wait=False) as mine:
        assert mine


def test_covered_counts_overlaps_once():
    assert covered([(0, 3), (2, 4)], 8) == 0.5
