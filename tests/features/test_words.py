"""Words in context: which tokens are whose, windows, and surprisal against one forward per word."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.data import StimulusSet
from neuroalign.errors import NeuroalignWarning
from neuroalign.features import extract, word_table
from neuroalign.features.words import Passage, _cut, plan_windows
from neuroalign.models.adapter import BadStimuli

QUIET = {"progress": False}
TEXT = "It's raining again, isn't it? The fox -- the quick, brown fox -- doesn't look back: again\u2026 don\u2019t!"


def passage(n_tokens_of_words, head=0):
    bounds = head + np.r_[0, np.cumsum(n_tokens_of_words)]
    return Passage("p", 0, "", np.zeros((len(bounds) - 1, 2), int), list(range(bounds[-1])), [], bounds)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(12, 40), st.booleans())
@settings(deadline=None)
def test_every_word_is_served_once_with_all_its_tokens_and_the_context_it_was_promised(sizes, room, causal):
    p = passage(sizes, head=int(causal))
    left, right = (room // 2, 0) if causal else (room // 4, room // 4)
    windows = _cut(p, room, left, right, [str(i) for i in range(len(sizes))])
    served = [k for w in windows for k in range(w.first, w.last)]
    assert served == list(range(len(sizes)))
    n = p.bounds[-1]
    for w in windows:
        assert 0 <= w.start <= w.stop <= n and w.stop - w.start <= room
        for k in range(w.first, w.last):
            assert w.start <= p.bounds[k] and p.bounds[k + 1] <= w.stop
            assert p.bounds[k] - w.start >= min(left, p.bounds[k])
            assert w.stop - p.bounds[k + 1] >= min(right, n - p.bounds[k + 1])


def test_tokens_belong_to_the_words_that_they_spell(tiny_model):
    for model_type in ("gpt2", "bert"):
        stimuli = StimulusSet.from_texts([TEXT, "the the the"], ids=["p", "q"])
        model = tiny_model(model_type)
        table = word_table(model, stimuli)
        assert list(table.index) == list(stimuli.words().ids)
        tokenizer = model.processors["text"].tokenizer
        for text, ids in zip(table.text, table.token_ids):
            assert tokenizer.decode(list(ids)).strip() == text
        whole = [i for p in stimuli.table.text for i in tokenizer(p, add_special_tokens=False).input_ids]
        assert [i for ids in table.token_ids for i in ids] == whole
        q = table[table.parent == "q"]
        assert (q.start.tolist(), q.end.tolist()) == ([0, 4, 8], [3, 7, 11])


def test_wordpieces_with_offsets(minilm):
    table = word_table(minilm, StimulusSet.from_texts(["Caf\u00e9s don't unbelievably, unbelievably!"]))
    assert table.tokens.tolist() == [("cafes",), ("don", "'", "t"), ("un", "##bel", "##ie", "##va", "##bly", ","),
                                     ("un", "##bel", "##ie", "##va", "##bly", "!")]


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_words_of_one_window_equal_the_hidden_states_of_the_passage(minilm, tmp_path, pooling):
    stimuli = StimulusSet.from_texts([TEXT, "two words"])
    features = extract(minilm, stimuli, streams=["word"], pooling=pooling, layers=["encoder.layer.2"], store=tmp_path,
                       **QUIET)
    (space,) = features.values()
    tokenizer, rows = minilm.processors["text"].tokenizer, []
    for text in stimuli.table.text:
        coded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        spans = coded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            states = minilm.module(**coded, output_hidden_states=True).hidden_states[3][0].numpy()
        at = 0
        for word in text.split():
            start, at = at, at + len(word)
            own = [i for i, (a, b) in enumerate(spans) if b > a and a >= start and b <= at]
            rows.append({"mean": states[own].mean(0), "max": states[own].max(0), "last": states[own[-1]]}[pooling])
            at += 1
    np.testing.assert_allclose(space.values, np.stack(rows), atol=1e-5)
    assert space.parent.values.tolist()[-2:] == ["text1", "text1"]


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_surprisal_and_entropy_equal_one_forward_per_token(tiny_model, tmp_path, model_type):
    model = tiny_model(model_type)
    stimuli = StimulusSet.from_texts([TEXT * 2, "the fox"])
    context = 24
    features = extract(model, stimuli, outputs=("surprisal", "entropy"), context=context, store=tmp_path, **QUIET)
    assert [s.rsplit(":", 2)[1:] for s in features] == [["surprisal", "word"], ["entropy", "word"]]
    assert len({w.passage.parent for w in plan_windows(model, stimuli.words(), context)}) == 2
    surprisal, entropy = [], []
    for window in plan_windows(model, stimuli.words(), context):
        tokens, bounds = window.passage.tokens, window.passage.bounds
        for k in range(window.first, window.last):
            bits = []
            for t in range(bounds[k], bounds[k + 1]):
                with torch.no_grad():
                    logits = model.module(torch.tensor([tokens[window.start:t]])).logits[0, -1].double()
                logp = logits.log_softmax(-1)
                bits.append(-logp[tokens[t]].item() / math.log(2))
                if t == bounds[k]:
                    entropy.append(-(logp.exp() * logp).sum().item() / math.log(2))
            surprisal.append(sum(bits))
    got = {n.split(":")[1]: v.values[:, 0] for n, v in features.items()}
    np.testing.assert_allclose(got["surprisal"], surprisal, atol=2e-4)
    np.testing.assert_allclose(got["entropy"], entropy, atol=2e-4)


def test_the_vocabulary_is_not_computed_where_nobody_asks_for_it(tiny_model, tmp_path):
    model = tiny_model("llama")
    shapes = []
    model.module.lm_head.register_forward_hook(lambda _, args, out: shapes.append(out.shape[1]))
    stimuli = StimulusSet.from_texts([TEXT])
    hidden = extract(model, stimuli, streams=["word"], context=64, store=tmp_path, **QUIET)
    assert set(shapes) == {1}
    both = extract(model, stimuli, streams=["word"], outputs=("hidden", "entropy"), context=64, store=tmp_path / "b",
                   **QUIET)
    assert max(shapes) > 20
    for name in hidden:
        np.testing.assert_array_equal(hidden[name].values, both[name].values)


def test_windows_of_words_do_not_depend_on_batch_or_shard(tiny_model, tmp_path, count, monkeypatch):
    stimuli = StimulusSet.from_texts([TEXT * 4, "the fox", TEXT])
    one = extract(tiny_model("llama"), stimuli, streams=["word"], context=32, batch_size=1, store=tmp_path, **QUIET)
    monkeypatch.setattr("neuroalign.features.words.SHARD_ROWS", 10)
    model = tiny_model("llama")
    counter = count(model, fail_at=2)
    with pytest.raises(KeyboardInterrupt):
        extract(model, stimuli, streams=["word"], context=32, store=tmp_path / "b", **QUIET)
    done = sum(counter.batches)
    model = tiny_model("llama")
    counter = count(model)
    many = extract(model, stimuli, streams=["word"], context=32, store=tmp_path / "b", **QUIET)
    assert done > 0 and done + sum(counter.batches) == len(plan_windows(model, stimuli.words(), 32))
    for name in one:
        np.testing.assert_allclose(many[name].values, one[name].values, atol=1e-5)


def test_a_set_of_timed_words_is_read_in_context_by_default(tiny_model, tmp_path):
    words = StimulusSet.from_texts([TEXT], ids=["p"]).words()
    table = words.table.assign(onset=np.arange(len(words)) * 0.4, duration=0.3)
    features = extract(tiny_model("llama"), StimulusSet(table, "timed"), outputs=("hidden", "surprisal"),
                       store=tmp_path, **QUIET)
    assert {s.rsplit(":", 1)[1] for s in features} == {"word"} and "llama:surprisal:word" in features
    space = features["llama:surprisal:word"]
    assert space.onset.values[2] == pytest.approx(0.8) and space.position.values.tolist() == list(range(len(words)))


def test_bad_words_are_named(tiny_model, tmp_path):
    model = tiny_model("llama")

    def run(table, **options):
        return extract(model, StimulusSet(table), streams=["word"], store=tmp_path, **options, **QUIET)

    table = pd.DataFrame({"text": ["a", "", "c"], "parent": "p"}, index=["w0", "w1", "w2"])
    with pytest.raises(BadStimuli, match=r"'w1': the word is empty"):
        run(table)
    with pytest.raises(BadStimuli, match=r"'p'.*do not stand together.*Sort"):
        run(table.assign(text="x", parent=["p", "q", "p"]))
    with pytest.raises(BadStimuli, match=r"'w2'.*'position'"):
        run(table.assign(text="x", position=[0, 2, 1]))
    with pytest.raises(BadStimuli, match=r"'w1': the word has \d+ tokens, which do not fit a window of 8.*larger"):
        run(table.assign(text=["a", "xylophonist" * 3, "c"]), context=8)
    with pytest.raises(ValueError, match=r"context: got 512 tokens, but model 'llama' takes at most 64, and pas"):
        run(table.assign(text="the quick brown fox jumps over the lazy dog " * 3))


def test_a_word_without_tokens_is_nan_and_named(minilm, tmp_path):
    table = pd.DataFrame({"text": ["one", "\u0301", "two"], "parent": "p"}, index=["w0", "w1", "w2"])
    with pytest.warns(NeuroalignWarning, match=r"1 words have values that are not finite: 'w1'"):
        features = extract(minilm, StimulusSet(table), layers=["encoder.layer.0"], store=tmp_path, **QUIET)
    (space,) = features.values()
    assert np.isnan(space.values).all(1).tolist() == [False, True, False]


@pytest.mark.slow
def test_frank_word_surprisal_follows_that_of_gpt2(mirror, tmp_path):
    """Surprisal of each word of 205 sentences against the published GPT-2 column: r = .7111."""
    import json

    torch.set_num_threads(2)
    expected = json.loads((mirror / "acceptance.json").read_text())["frank.surprisal~GPT2"]
    table = pd.read_csv(mirror / "frank_erp" / "all_measures.csv")
    sentences = list(dict.fromkeys(table.sentence))
    stimuli = StimulusSet.from_texts(sentences, ids=[f"s{i}" for i in range(len(sentences))])
    features = extract("smollm2-135m", stimuli, outputs=("surprisal",), store=tmp_path, **QUIET)
    space = features["smollm2-135m:surprisal:word"]
    number = {s: i for i, s in enumerate(sentences)}
    ids = [f"s{number[s]}#{k}" for s, k in zip(table.sentence, table.context_length)]
    r = np.corrcoef(space.sel(stimulus=ids).values[:, 0], table.s_GPT2)[0, 1]
    assert r == pytest.approx(expected["value"], abs=expected["tol"])


@pytest.mark.slow
def test_alice_word_surprisal_of_smollm2(mirror, tmp_path):
    """The mean bits of a word that an independent computation found: 5.7372."""
    import json

    from neuroalign.recordings import load_stimuli

    torch.set_num_threads(2)
    expected = json.loads((mirror / "acceptance.json").read_text())["alice.smollm2.mean_bits_per_word"]
    features = extract("smollm2-135m", load_stimuli("alice_fmri"), outputs=("surprisal",), store=tmp_path, **QUIET)
    space = features["smollm2-135m:surprisal:word"]
    assert space.shape == (2127, 1)
    assert float(space.mean()) == pytest.approx(expected["value"], abs=expected["tol"])


