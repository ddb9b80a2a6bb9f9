"""Implicit alignment against loops over the hidden states that models give by themselves."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import neuroalign as na
from neuroalign.data import make_features
from neuroalign.data.scores import load, save
from neuroalign.errors import NotAligned
from neuroalign.models import load_model
from neuroalign.probes import MODES, ima_score, implicit_alignment, token_geometry
from neuroalign.probes.batches import meeting_layers

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny_multimodal

STREAMS = ["image", "text"]


@pytest.fixture(scope="module")
def states(llava, pairs):
    """Hidden states that the model gives itself, one stimulus at a time: layer -> stimulus -> {stream: tokens}."""
    found = []
    for i, row in zip(pairs.ids, pairs.table.to_dict("records")):
        inputs = llava.adapter.prepare(llava, [{"stimulus_id": i, **row}])
        with torch.no_grad():
            raw = llava.module(**inputs.tensors, use_cache=False, output_hidden_states=True).hidden_states
        found.append([{s: state[0][inputs.streams["lm"][s][0]].double().numpy() for s in STREAMS} for state in raw])
    return list(zip(*found))


def brute(p, t, mode):
    if mode == "avg":
        a, b = p.mean(0), t.mean(0)
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    cosine = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in t] for a in p]
    if mode == "max_mean":
        return np.mean([max(row) for row in cosine])
    return {"mean": np.mean, "median": np.median, "max": np.max, "min": np.min}[mode](cosine)


def test_every_mode_equals_a_loop_over_tokens(features, states):
    found = implicit_alignment(features, mode=list(MODES), n_permutations=0, n_bootstraps=0, device="cpu")
    assert found.sizes["space"] == 3 * len(states) and found.depth.values[0] == 0
    for k, layer in ((0, states[0]), (2, states[2])):  # the last state of the model is normed
        for one, other in (("image", "text"), ("image", "image"), ("text", "text")):
            own = found.isel(space=[i for i, s in enumerate(found.stream.values) if s == f"{one}~{other}"][k])
            for mode in MODES:
                matrix = np.array([[brute(p[one], t[other], mode) for t in layer] for p in layer])
                strangers = matrix[~np.eye(len(layer), dtype=bool)]
                pick = own.score.sel
                assert pick(metric=f"similarity.{mode}") == pytest.approx(strangers.mean(), abs=1e-5), mode
                assert pick(metric=f"similarity.{mode}.sd") == pytest.approx(strangers.std(), abs=1e-5)
                if one != other:
                    assert pick(metric=f"similarity.{mode}.paired") == pytest.approx(np.diag(matrix).mean(), abs=1e-5)


@pytest.mark.parametrize("reference", [None, 0, "language_model.layers.1"])
def test_ima_score_is_the_mean_over_layers_of_one_reference_or_the_same_layer(features, states, reference):
    found = implicit_alignment(features, mode="avg", reference=reference, n_permutations=0, n_bootstraps=0,
                               device="cpu")
    place = {0: 0, "language_model.layers.1": 2}.get(reference)  # the input of the language model is the first
    last = {s: np.split(np.asarray(v), a.offsets[1:-1]) for s in STREAMS
            for v, a in [(features[f"{features.spaces.model[0]}:language_model.layers.2:{s}"],
                          features[f"{features.spaces.model[0]}:language_model.layers.2:{s}"])]}
    layers = [*states[:-1], [{s: last[s][i] for s in STREAMS} for i in range(4)]]
    expected = []
    for layer in layers:
        perceptual = layer if place is None else layers[place]
        matrix = np.array([[brute(p["image"], t["text"], "avg") for t in layer] for p in perceptual])
        expected.append(matrix[~np.eye(4, dtype=bool)].mean())
    score = ima_score(found)
    assert score.score.values[0, 0] == pytest.approx(np.mean(expected), abs=1e-5)
    assert score.n_layers.values[0] == len(layers) and score.metric.values[0] == "ima.avg"


def test_geometry_equals_loops(features, states):
    found = token_geometry(features, steps=(1, 2), n_bootstraps=0, device="cpu")
    for k, layer in enumerate(states[:-1]):
        for stream in STREAMS:
            own = found.isel(space=np.flatnonzero(found.stream.values == stream)[k])
            tokens = [t[stream] for t in layer]
            joined = np.concatenate(tokens)
            unit = [t / np.linalg.norm(t, axis=1, keepdims=True) for t in tokens]
            assert own.score.sel(metric="norm.median") == pytest.approx(
                np.median(np.linalg.norm(joined, axis=1)), rel=1e-5)
            cone = np.concatenate([(a @ b.T).ravel() for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j])
            assert own.score.sel(metric="cone") == pytest.approx(cone.mean(), abs=1e-5)
            for step in (1, 2):
                if k + step >= len(states) - 1:
                    continue
                later = np.concatenate([t[stream] for t in states[k + step]])
                cosine = (joined * later).sum(1) / np.linalg.norm(joined, axis=1) / np.linalg.norm(later, axis=1)
                assert own.score.sel(metric=f"drift.mean@{step}") == pytest.approx(cosine.mean(), abs=1e-5)
                assert own.score.sel(metric=f"drift.median@{step}") == pytest.approx(np.median(cosine), abs=1e-5)
    last = found.isel(space=np.flatnonzero(found.stream.values == "text")[-1]).score
    assert np.isnan(last.sel(metric="drift.mean@1")) and np.isfinite(last.sel(metric="cone"))


def test_parts_of_blocks_are_layers_too(llava, pairs, tmp_path):
    parts = na.extract(llava, pairs, layers=["language_model.*"], streams=STREAMS, pooling="none", progress=False,
                       taps=("attention", "mlp", "norm"), store=tmp_path)
    found = implicit_alignment(parts, mode="avg", n_permutations=0, n_bootstraps=0, device="cpu")
    names = set(found.layer.values)
    assert {"language_model.layers.0.self_attn", "language_model.layers.2.mlp", "language_model.norm"} <= names
    assert np.isfinite(found.score.sel(metric="similarity.avg")).all()


def planted(n=40, d=24, shared=1.0, seed=0, model="m", layers=3):
    """Tokens of two modalities that share what a stimulus is about, more of it in each layer."""
    rng = np.random.default_rng(seed)
    about = rng.standard_normal((n, d))
    spaces, lengths = [], {s: rng.integers(1, 6, n) for s in STREAMS}
    for k in range(layers):
        for stream, counts in lengths.items():
            values = np.repeat(about, counts, 0) * shared * k + rng.standard_normal((counts.sum(), d)) + 0.3
            parents = np.repeat([f"s{i}" for i in range(n)], counts)
            ids = [f"{p}#{j}" for j, p in enumerate(parents)]
            spaces.append(make_features(values, ids, model=model, layer=f"b.{k}", stream=stream, depth=k / 2,
                                        coords={"parent": parents}))
    return spaces


def test_planted_alignment_grows_with_depth_and_is_told_from_chance():
    found = implicit_alignment(planted(), mode=("avg", "median"), n_permutations=199, n_bootstraps=50, device="cpu")
    across = found.isel(space=np.flatnonzero(found.stream.values == "image~text"))
    paired = across.sel(metric="similarity.avg.paired")
    assert (np.diff(paired.score) > 0.1).all()
    assert paired.p[0] > 0.02 and (paired.p[1:] == 1 / 200).all() and (paired.q[1:] < 0.05).all()
    assert (paired.ci_low < paired.score).all() and (paired.score < paired.ci_high).all()
    within = found.isel(space=np.flatnonzero(found.stream.values == "text~text"))
    assert np.isnan(within.score.sel(metric="similarity.avg.paired")).all()


@pytest.mark.slow
def test_interval_of_the_ima_score_covers_what_other_stimuli_show():
    large = float(ima_score(implicit_alignment(planted(400, seed=99), mode="avg", n_permutations=0, n_bootstraps=0,
                                               device="cpu")).score.item())
    inside = 0
    for seed in range(12):
        one = ima_score(implicit_alignment(planted(seed=seed), mode="avg", n_permutations=0, n_bootstraps=100,
                                           keep=["bootstrap"], device="cpu"))
        inside += bool(one.ci_low <= large <= one.ci_high)
    assert inside >= 9, inside  # of 12, at 95 %


def test_models_stay_apart_and_scores_are_kept(tmp_path):
    both = planted(model="m") + planted(seed=1, shared=0, model="n")
    score = ima_score(implicit_alignment(both, mode="avg", n_permutations=0, n_bootstraps=10, keep=["bootstrap"],
                                         device="cpu"))
    assert score.model.values.tolist() == ["m", "n"]
    alone = ima_score(implicit_alignment(planted(seed=1, shared=0, model="n"), mode="avg", n_permutations=0,
                                         n_bootstraps=0, device="cpu"))
    assert float(score.score[0, 1]) == pytest.approx(alone.score.item(), abs=1e-6)
    np.testing.assert_array_equal(load(save(score, tmp_path / "ima.nc")).score, score.score)


def test_tokens_of_another_tower_are_not_the_same_tokens_later():
    spaces = planted(layers=2) + [x.assign_coords(layer=f"other.{k // 2}") for k, x in enumerate(planted(layers=2))]
    spaces = {f"space {k}": x for k, x in enumerate(spaces)}
    drift = token_geometry(spaces, steps=(1,), n_bootstraps=0, device="cpu").score.sel(metric="drift.mean@1").values
    assert np.isfinite(drift[[0, 2, 4, 6]]).all() and np.isnan(drift[[1, 3, 5, 7]]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["smolvlm", "paligemma", "qwen2_vl", "blip-2", "instructblip", "chameleon", "git"])
def test_every_family_where_modalities_meet_can_be_probed(kind, pairs, tmp_path):
    (tmp_path / kind).mkdir()
    model = load_model(str(tiny_multimodal.build(kind, tmp_path / kind)), device="cpu")
    layers = meeting_layers(model, STREAMS)
    assert len(layers) == 4 and len({x.tower for x in layers}) == 1
    spaces = na.extract(model, pairs, layers=[x.name for x in layers], streams=STREAMS, pooling="none", progress=False,
                        store=tmp_path / "store")
    scores = implicit_alignment(spaces, n_permutations=9, n_bootstraps=10, device="cpu")
    assert scores.sizes["space"] == 12 and np.isfinite(scores.score.sel(metric="similarity.avg")).all()
    kl = na.probes.vocabulary_projection(model, spaces, n_bootstraps=0).score.values[0]
    assert (kl[np.isfinite(kl)] >= 0).all() and np.isfinite(kl).sum() == 4
    overlap = na.probes.subnetwork_overlap(model, pairs).score.values
    assert ((overlap > 0.3) & (overlap <= 1)).all()
    skipped = na.probes.skipping_curve(model, pairs, n_bootstraps=0).score.values[0]
    assert (skipped > 0).all()


def pooled():
    return [make_features(np.eye(5), list("abcde"), model="m", stream=s) for s in STREAMS]


def spoiled():
    spaces = planted()
    spaces[1][0, 0] = np.nan
    return spaces


@pytest.mark.parametrize("call, words", [
    (lambda: implicit_alignment(pooled()), "one row a stimulus.*pooling='none'"),
    (lambda: implicit_alignment(planted()[::2]), "no layer has tokens of 'image' and 'text'; they have 'image'"),
    (lambda: implicit_alignment([planted(40)[0], planted(39)[1]]), "do not have the same stimuli.*'s39'"),
    (lambda: implicit_alignment(planted(), mode="average"), "mode: got 'average'"),
    (lambda: implicit_alignment(planted(), a="text"), "two streams"),
    (lambda: implicit_alignment(planted(), reference=7), "reference: got 7.*3 layers"),
    (lambda: implicit_alignment(planted(), reference="b.9"), "reference: got 'b.9'.*Did you mean"),
    (lambda: implicit_alignment(spoiled()), "NaN or infinite values in tokens of 's0'"),
    (lambda: implicit_alignment(planted(3)), "3 stimuli, expected at least 4"),
    (lambda: token_geometry(planted(), steps=(0,)), "steps: got '0'"),
    (lambda: ima_score(implicit_alignment(planted(), mode="avg", n_permutations=0, n_bootstraps=0), "max"),
     "mode: got 'similarity.max'"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()
    assert issubclass(NotAligned, ValueError)
