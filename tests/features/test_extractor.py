"""Extraction against a plain forward of transformers; batches, resumption, repair, bad input."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from neuroalign.data import StimulusSet
from neuroalign.errors import NeuroalignWarning
from neuroalign.features import FeatureStore, estimate, extract, jobs
from neuroalign.models import load_model, wrap
from neuroalign.models.adapter import BadStimuli

QUIET = {"progress": False}


def hidden_states(model, texts):
    """One text at a time, all hidden states, by transformers alone."""
    tokenizer = model.processors["text"].tokenizer
    states = []
    for text in texts:
        coded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            out = model.module(**coded, output_hidden_states=True)
        states.append([h[0].numpy() for h in out.hidden_states])
    return states


def values(features):
    return {k: np.array(v.values) for k, v in features.items()}


def test_masked_mean_equals_the_hidden_states_of_transformers(minilm, sentences, tmp_path):
    features = extract(minilm, sentences, streams=["all", "text", "special"], store=tmp_path, **QUIET)
    states = hidden_states(minilm, sentences.table.text)
    for layer in range(7):
        name = "encoder.layer.0.input" if layer == 0 else f"encoder.layer.{layer - 1}"
        for stream, part in (("all", slice(None)), ("text", slice(1, -1)), ("special", [0, -1])):
            expected = np.stack([s[layer][part].mean(0) for s in states])
            np.testing.assert_allclose(features[f"minilm:{name}:{stream}"].values, expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "cls", "last"])
def test_pooling_equals_brute_force_whatever_the_batch(minilm, sentences, tmp_path, pooling):
    states = [s[4] for s in hidden_states(minilm, sentences.table.text)]
    expected = {"mean": [s[1:-1].mean(0) for s in states], "max": [s[1:-1].max(0) for s in states],
                "cls": [s[0] for s in states], "last": [s[-2] for s in states]}[pooling]
    order = np.random.default_rng(0).permutation(len(sentences))
    shuffled = sentences.select([sentences.ids[i] for i in order])
    for size, stimuli in ((None, sentences), (1, sentences), (3, shuffled)):
        features = extract(minilm, stimuli, layers=["encoder.layer.3"], pooling=pooling, batch_size=size,
                           store=tmp_path / str(size), **QUIET)
        (space,) = features.values()
        rows = space.sel(stimulus=list(sentences.ids)).values
        np.testing.assert_allclose(rows, np.stack(expected), atol=1e-5)


def test_reads_are_memory_maps_with_the_metadata_of_the_stimuli(tiny_model, tmp_path):
    table = pd.DataFrame({"text": ["the", "fox"], "onset": [0.5, 1.0], "duration": [0.3, 0.2], "run": [1, 2]},
                         index=["a", "b"])
    features = extract(tiny_model("bert"), StimulusSet(table), store=tmp_path, **QUIET)
    space = features[next(iter(features))]
    assert isinstance(space.values.base, np.memmap) and not space.values.flags.writeable
    assert space.onset.values.tolist() == [0.5, 1.0] and space.duration.values.tolist() == [0.3, 0.2]
    assert space.run.values.tolist() == [1, 2]
    assert space.depth.item() == 0 and features.spaces.depth.iloc[-1] == 1
    (entry,) = FeatureStore(tmp_path).entries()
    opened = FeatureStore(tmp_path).open(entry.folder.name[:5])
    assert list(opened) == list(features) and opened[space.space_id.item()].identical(
        space.drop_vars(["onset", "duration", "run"]))
    for file in features.files.values():
        assert np.load(file, allow_pickle=False).shape == (2, 32)


def test_more_layers_compute_only_what_is_new(tiny_model, sentences, tmp_path, count):
    first = extract(tiny_model("bert"), sentences, layers=["encoder.layer.0"], store=tmp_path, **QUIET)
    file = next(iter(first.files.values()))
    before = Path(file).read_bytes()
    model = tiny_model("bert")
    seen = []
    tokens = model.adapter.tokens
    model.adapter.tokens = lambda m, layer, raw: seen.append(layer.name) or tokens(m, layer, raw)
    more = extract(model, sentences, layers="encoder.layer.*", store=tmp_path, **QUIET)
    assert set(seen) == {"encoder.layer.0.input", "encoder.layer.1", "encoder.layer.2"}
    assert len(more) == 4 and len(FeatureStore(tmp_path).entries()) == 1
    assert Path(file).read_bytes() == before
    counter = count(model)
    again = extract(model, sentences, layers="encoder.layer.*", store=tmp_path, **QUIET)
    assert counter.batches == [] and list(again) == list(more)
    whole = extract(tiny_model("bert"), sentences, store=tmp_path / "other", **QUIET)
    for name in again:
        np.testing.assert_allclose(again[name].values, whole[name].values, atol=1e-6)


def test_a_killed_run_goes_on_at_the_last_finished_shard(tiny_model, sentences, tmp_path, count, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 4)
    model = tiny_model("bert")
    counter = count(model, fail_at=5)
    with pytest.raises(KeyboardInterrupt):
        extract(model, sentences, batch_size=1, store=tmp_path, **QUIET)
    table = FeatureStore(tmp_path).check()
    assert set(table.state) == {"partial"} and set(table.rows) == {4}
    model = tiny_model("bert")
    counter = count(model)
    features = extract(model, sentences, batch_size=1, store=tmp_path, **QUIET)
    assert len(counter.batches) == len(sentences) - 4
    whole = extract(tiny_model("bert"), sentences, batch_size=1, store=tmp_path / "other", **QUIET)
    for name in whole:
        np.testing.assert_array_equal(features[name].values, whole[name].values)


@pytest.mark.slow
def test_a_process_killed_outright_leaves_a_store_that_goes_on(folders, sentences, tmp_path, count, monkeypatch):
    folder = folders("bert")
    code = f"""
import time
import torch
torch.set_num_threads(1)
from neuroalign.data import StimulusSet
from neuroalign.features import extract, jobs
from neuroalign.models import load_model
jobs.SHARD_ROWS = 4
model = load_model({folder!r}, device="cpu")
forward = model.adapter.forward
model.adapter.forward = lambda m, inputs: time.sleep(0.3) or forward(m, inputs)
texts = {list(sentences.table.text)!r}
extract(model, StimulusSet.from_texts(texts, name="sentences"), batch_size=1, store={str(tmp_path)!r}, progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.time() + 90
    while not list(tmp_path.glob("*/*/shards/*.json")) and time.time() < deadline:
        assert process.poll() is None, "the process ended by itself"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(jobs, "SHARD_ROWS", 4)
    model = load_model(folder, device="cpu")
    counter = count(model)
    features = extract(model, sentences, batch_size=1, store=tmp_path, **QUIET)
    assert len(counter.batches) == len(sentences) - 4
    assert np.isfinite(features[next(iter(features))].values).all()
    assert set(FeatureStore(tmp_path).verify().state) == {"ok"}


def test_two_runs_on_one_store_share_the_work(tiny_model, sentences, tmp_path, count, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 2)
    counters, results = [], []
    models = [tiny_model("bert"), tiny_model("bert")]
    for model in models:
        forward = model.adapter.forward
        model.adapter.forward = lambda m, inputs, forward=forward: time.sleep(0.02) or forward(m, inputs)
        counters.append(count(model))
    threads = [threading.Thread(target=lambda m=m: results.append(extract(m, sentences, store=tmp_path, **QUIET)))
               for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [sum(c.batches) for c in counters]
    assert sum(rows) == len(sentences), f"rows computed by each: {rows}"
    assert len(results) == 2 and list(results[0]) == list(results[1])
    assert set(FeatureStore(tmp_path).verify().state) == {"ok"}


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "header"])
def test_a_corrupt_array_is_named_and_rebuilt(tiny_model, sentences, tmp_path, count, monkeypatch, damage):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 4)
    features = extract(tiny_model("bert"), sentences, store=tmp_path, **QUIET)
    expected = values(features)
    file = Path(list(features.files.values())[2])
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-7] ^= 1
    elif damage == "header":
        content[:6] = b"broken"
    else:
        content = content[:-100]
    FeatureStore(tmp_path).verify()
    file.write_bytes(content)
    if damage == "delete":
        file.unlink()
    with pytest.raises(Exception, match=r"1 of 5 arrays are corrupt.*encoder\.layer\.1--text\.npy"):
        FeatureStore(tmp_path).verify()
    model = tiny_model("bert")
    counter = count(model)
    with pytest.warns(NeuroalignWarning, match=r"encoder\.layer\.1--text\.npy") as caught:
        repaired = extract(model, sentences, store=tmp_path, **QUIET)
    assert [w.message.code for w in caught] == ["store-rebuilt"]
    assert sum(counter.batches) == (2 if damage == "flip" else len(sentences))  # the last shard has two rows
    for key, value in values(repaired).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-6)
    assert set(FeatureStore(tmp_path).verify().state) == {"ok"}


def test_out_of_memory_halves_the_batch_and_loses_nothing(tiny_model, sentences, tmp_path, count):
    expected = values(extract(tiny_model("bert"), sentences, store=tmp_path / "a", **QUIET))
    model = tiny_model("bert")
    counter = count(model, most=2)
    got = values(extract(model, sentences, store=tmp_path / "b", **QUIET))
    assert max(counter.batches) == 2 and sum(counter.batches) == len(sentences)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-5)
    model = tiny_model("bert")
    count(model, most=0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        extract(model, sentences, store=tmp_path / "c", **QUIET)


def test_the_key_holds_what_changes_the_numbers_and_nothing_else(tiny_model, sentences, tmp_path):
    model = tiny_model("bert")
    for options in ({}, {"batch_size": 2}, {"layers": ["encoder.layer.1"]}, {"streams": ["all"]}):
        extract(model, sentences, store=tmp_path, **options, **QUIET)
        assert len(FeatureStore(tmp_path).entries()) == 1
    changes = [{"pooling": "max"}, {"storage_dtype": "float16"}, {"random_state": 1}, {"streams": ["word"]},
               {"streams": ["word"], "context": 32}]
    for n, options in enumerate(changes, 2):
        extract(model, sentences, store=tmp_path, **options, **QUIET)
        assert len(FeatureStore(tmp_path).entries()) == n
    table = sentences.table.copy()
    table.iloc[3, 0] += "!"
    extract(model, StimulusSet(table, sentences.name), store=tmp_path, **QUIET)
    assert len(FeatureStore(tmp_path).entries()) == len(changes) + 2


def test_float16_storage_rounds_and_refuses_what_does_not_fit(tiny_model, sentences, tmp_path):
    full = extract(tiny_model("bert"), sentences, store=tmp_path, **QUIET)
    half = extract(tiny_model("bert"), sentences, store=tmp_path, storage_dtype="float16", **QUIET)
    name = list(full)[-1]
    assert half[name].dtype == np.float16
    np.testing.assert_allclose(half[name].values, full[name].values, atol=2e-3)
    net = torch.nn.Sequential(torch.nn.Flatten())
    model = wrap(net, lambda text: torch.full((4,), 1e6), ["0"], name="large", modality="text", device="cpu")
    with pytest.raises(ValueError, match=r"up to 1e\+06 do not fit float16.*float32"):
        extract(model, sentences, store=tmp_path, storage_dtype="float16", **QUIET)


def test_the_callers_random_numbers_are_left_alone(tiny_model, sentences, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    extract(tiny_model("bert"), sentences, store=tmp_path, **QUIET)
    assert torch.equal(torch.rand(3), expected)


def test_what_a_forward_draws_is_pinned(tmp_path, sentences):
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Identity()

        def forward(self, x):
            return self.inner(x + torch.rand(x.shape[1:]))

    model = wrap(Noisy(), lambda text: torch.zeros(3), ["inner"], name="noisy", modality="text", weights="none",
                 device="cpu")
    one, two, other = (values(extract(model, sentences, store=tmp_path / str(i), random_state=seed, **QUIET))
                       for i, seed in enumerate((0, 0, 1)))
    name = next(iter(one))
    np.testing.assert_array_equal(one[name], two[name])
    assert np.abs(one[name] - other[name]).max() > 0.01


def test_images_of_a_cnn_are_pooled_or_flattened(tiny_model, pictures, tmp_path):
    model = tiny_model("resnet")
    mean = extract(model, pictures, store=tmp_path, **QUIET)
    flat = extract(model, pictures, store=tmp_path, pooling="flatten", batch_size=3, **QUIET)
    inputs = model.adapter.prepare(model, pictures.table.reset_index().to_dict("records"))
    with torch.no_grad():
        last = model.module(**inputs.tensors).last_hidden_state
    name = [n for n in mean if "stages.1" in n][-1]
    np.testing.assert_allclose(mean[name].values, last.mean((2, 3)).numpy(), atol=1e-5)
    np.testing.assert_allclose(flat[name].values, last.permute(0, 2, 3, 1).flatten(1).numpy(), rtol=1e-5, atol=1e-5)


def test_towers_of_a_dual_encoder_see_the_stimuli_with_their_modality(tiny_model, pictures, sentences, tmp_path):
    model = tiny_model("clip")
    only_text = extract(model, sentences.select(sentences.ids[:4]), store=tmp_path, **QUIET)
    assert {s.split(":")[2] for s in only_text} == {"text"}
    both = pictures.table.assign(text=list(sentences.table.text[:4]))
    features = extract(model, StimulusSet(both), store=tmp_path, **QUIET)
    assert {s.split(":")[2] for s in features} == {"text", "image"}
    for name in only_text:
        np.testing.assert_allclose(features[name].values, only_text[name].values, atol=1e-5)
    mixed = StimulusSet(both.assign(text=["a fox", None, "the rain", None]))
    with pytest.raises(BadStimuli, match=r"'picture1', 'picture3'.*lacks a modality"):
        extract(model, mixed, store=tmp_path, **QUIET)
    images = [n for n in features.spaces.layer.unique() if n.startswith("vision")]
    assert len(extract(model, mixed, layers=images, store=tmp_path, **QUIET)) == len(images)


@pytest.mark.parametrize(("options", "words"), [
    ({"layers": ["encoder.layer.9"]}, r"no layer 'encoder\.layer\.9'.*Did you mean 'encoder\.layer\.\d"),
    ({"layers": ["encoder.layer.0", "block*"]}, r"no layer 'block\*'.*It has encoder\.layer\.0"),
    ({"streams": ["txt"]}, r"no stream 'txt', only text, special, all.*Did you mean 'text'"),
    ({"pooling": "average"}, r"pooling: got 'average'.*'mean'"),
    ({"pooling": "cls", "streams": ["text"]}, r"leave streams out"),
    ({"outputs": ("surprisal",)}, r"does not predict the next word.*causal"),
    ({"outputs": "hidden"}, r"outputs: got 'hidden', expected a sequence"),
    ({"outputs": ("bits",)}, r"outputs: got 'bits'.*'surprisal'"),
    ({"taps": ("atention",)}, r"taps: got 'atention'.*'attention'"),
    ({"streams": ["word"], "pooling": "cls"}, r"leave streams out"),
    ({"streams": ["word"], "pooling": "flatten"}, r"pooling \(of the tokens of a word\).*'mean'"),
    ({"batch_size": 0}, r"batch_size: got 0"),
    ({"storage_dtype": "int8"}, r"storage_dtype: got 'int8'.*'float16'"),
    ({"projection": 0}, r"projection: got 0"),
    ({"shard": (3, 2)}, r"shard: got \(3, 2\)"),
    ({"pooling": "flatten"}, r"have \d+ to \d+ tokens.*Use 'mean'"),
    ({"streams": ["word"], "context": 2}, r"context: got 2"),
])
def test_bad_options_are_explained(tiny_model, sentences, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        extract(tiny_model("bert"), sentences, store=tmp_path, **options, **QUIET)


def test_bad_stimuli_are_named_before_any_forward(tiny_model, sentences, pictures, tmp_path, count):
    model = tiny_model("bert")
    counter = count(model)
    empty = sentences.table.copy()
    empty.iloc[[2, 5], 0] = " "
    with pytest.raises(BadStimuli, match=r"'text2', 'text5': the text is empty"):
        extract(model, StimulusSet(empty), store=tmp_path, **QUIET)
    with pytest.raises(BadStimuli, match=r"'text0': the text is longer"):
        extract(model, StimulusSet.from_texts(["fox " * 90]), store=tmp_path, **QUIET)
    with pytest.raises(BadStimuli, match=r"no text, and model.*reads it; the set has image"):
        extract(model, pictures, store=tmp_path, **QUIET)
    with pytest.raises(TypeError, match=r"got list, expected a StimulusSet"):
        extract(model, ["a cat"], store=tmp_path, **QUIET)
    with pytest.raises(ValueError, match="more than once"):
        extract([model, model], sentences, store=tmp_path, **QUIET)
    assert counter.batches == []
    lost = pictures.table.assign(image=["/nowhere/x.png", *pictures.table.image[1:]])
    with pytest.raises(FileNotFoundError, match=r"no image file for 'picture0'"):
        extract(tiny_model("resnet"), StimulusSet(lost), store=tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"no tokenizer.*'word' stream"):
        extract(tiny_model("resnet"), pictures, streams=["word"], store=tmp_path, **QUIET)


def test_a_truncated_image_is_named_or_skipped(tiny_model, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:2000])
    table = pictures.table.copy()
    table.loc["picture2", "image"] = str(broken)
    stimuli, model = StimulusSet(table), tiny_model("resnet")
    with pytest.raises(BadStimuli, match="'picture2'"):
        extract(model, stimuli, store=tmp_path / "s", **QUIET)
    with pytest.warns(NeuroalignWarning, match="'picture2'") as caught:
        features = extract(model, stimuli, store=tmp_path / "s", on_error="skip", **QUIET)
    assert caught[0].message.code == "stimuli-skipped"
    with pytest.raises(BadStimuli, match="'picture2'.*earlier run"):
        extract(model, stimuli, store=tmp_path / "s", **QUIET)
    whole = extract(model, pictures, store=tmp_path / "s", **QUIET)
    for name in whole:
        assert np.isnan(features[name].values[2]).all()
        np.testing.assert_allclose(features[name].values[[0, 1, 3]], whole[name].values[[0, 1, 3]], atol=1e-6)


def test_a_missing_file_is_skipped_where_the_model_reads_it(tiny_model, pictures, tmp_path):
    table = pictures.table.assign(text=[f"picture {i}" for i in range(len(pictures))])
    table.loc["picture2", "image"] = str(tmp_path / "gone.png")
    stimuli, options = StimulusSet(table), {"store": tmp_path / "s", "on_error": "skip", **QUIET}
    with pytest.warns(NeuroalignWarning, match="1 stimuli were skipped.*'picture2'"):
        (seen, *_) = extract(tiny_model("resnet"), stimuli, **options).values()
    assert np.flatnonzero(np.isnan(seen.values).all(1)).tolist() == [2]
    (read, *_) = extract(tiny_model("bert"), stimuli, **options).values()  # reads texts alone
    assert np.isfinite(read.values).all()
    Image.new("RGB", (40, 40)).save(tmp_path / "gone.png")  # its contents are new, so the rows are made anew
    (found, *_) = extract(tiny_model("resnet"), StimulusSet(table), store=tmp_path / "s", **QUIET).values()
    assert np.isfinite(found.values).all()
    with pytest.raises(FileNotFoundError, match=r"no image file for 'picture0', 'picture1'"):
        extract(tiny_model("resnet"), StimulusSet(table.assign(image=str(tmp_path / "none.png"))), **options)


def test_skipped_texts_leave_their_rows_nan(tiny_model, sentences, tmp_path):
    table = sentences.table.copy()
    table.iloc[1, 0] = ""
    table.iloc[3, 0] = "fox " * 90
    with pytest.warns(NeuroalignWarning, match=r"2 stimuli were skipped"):
        features = extract(tiny_model("bert"), StimulusSet(table), store=tmp_path, on_error="skip", **QUIET)
    row_is_nan = np.isnan(features[next(iter(features))].values).all(1)
    assert np.flatnonzero(row_is_nan).tolist() == [1, 3]


def test_shards_of_a_job_array_make_one_store(tiny_model, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 3)
    model = tiny_model("bert")
    parts = [extract(model, sentences, store=tmp_path, shard=(i, 3), **QUIET) for i in range(3)]
    assert [len(p) for p in parts] == [0, 0, 5]
    whole = extract(model, sentences, store=tmp_path / "whole", **QUIET)
    for name in whole:
        np.testing.assert_allclose(parts[2][name].values, whole[name].values, atol=1e-6)


def test_wide_rows_are_projected_as_scikit_learn_does_and_keep_their_distances(tiny_model, pictures, tmp_path):
    from scipy.spatial.distance import pdist
    from sklearn.random_projection import SparseRandomProjection

    from neuroalign.stats import child_seed

    model = tiny_model("resnet")
    wide = extract(model, pictures, store=tmp_path, pooling="flatten", **QUIET)
    narrow = extract(model, pictures, store=tmp_path, pooling="flatten", projection=300, batch_size=1, **QUIET)
    assert max(wide.spaces.n_features) > 300 == max(narrow.spaces.n_features)
    for name, space in wide.items():
        if space.sizes["feature"] <= 300:
            np.testing.assert_allclose(narrow[name].values, space.values, rtol=1e-5, atol=1e-5)
            continue
        theirs = SparseRandomProjection(300, random_state=child_seed(0, "projection")).fit_transform(space.values)
        np.testing.assert_allclose(narrow[name].values, theirs, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(pdist(narrow[name].values), pdist(space.values), rtol=0.35)
    assert len(FeatureStore(tmp_path).entries()) == 2


def test_an_estimate_is_what_extraction_then_makes_and_stores_nothing(tiny_model, sentences, tmp_path, count):
    model = tiny_model("llama")
    counter = count(model)
    options = {"streams": ["text", "word"], "outputs": ("hidden", "surprisal"), "context": 64}
    table = estimate(model, sentences, store=tmp_path, **options)
    assert len(counter.batches) == 2 and not list(tmp_path.iterdir()) and (table.done == 0).all()
    features = extract(model, sentences, store=tmp_path, **options, **QUIET)
    assert (estimate(model, sentences, store=tmp_path, **options).done == 1).all()
    assert (estimate(model, sentences, store=tmp_path, storage_dtype="float16", **options).done == 0).all()
    assert table.space_id.tolist() == list(features)
    for row in table.itertuples():
        assert features[row.space_id].shape == (row.n_rows, row.n_features)
        assert row.disk_mb == pytest.approx(features[row.space_id].nbytes / 1e6)
    assert (table.weights_mb > 0).all()


def test_a_layer_that_runs_twice_is_refused(sentences, tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Identity()

        def forward(self, x):
            return self.inner(self.inner(x))

    model = wrap(Twice(), lambda text: torch.zeros(3), ["inner"], name="twice", modality="text", weights="none",
                 device="cpu")
    with pytest.raises(RuntimeError, match="'inner' ran 2 times"):
        extract(model, sentences, store=tmp_path, **QUIET)
