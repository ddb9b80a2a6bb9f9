"""Batches: how large, of what, and on how many threads."""

import pytest
import torch

from neuroalign.data import StimulusSet
from neuroalign.features import batching, extract
from neuroalign.features.batching import Budget, Item, run_batches

CPU = torch.device("cpu")


def sizes(budget, lengths, group="text"):
    items = [Item(i, n, group, i) for i, n in enumerate(lengths)]
    return [len(b) for b, _ in run_batches(items, lambda b: (b, b), lambda b, inputs: b, budget)]


def test_texts_are_bound_by_their_tokens_and_pictures_by_their_number():
    assert sizes(Budget(CPU, only_text=True), [2] * 1000) == [256, 256, 256, 232]
    assert sizes(Budget(CPU, only_text=True), [100] * 30) == [15, 15]
    assert sizes(Budget(CPU), [1] * 70) == [32, 32, 6]
    assert sizes(Budget(CPU, 7, only_text=True), [100] * 20) == [7, 7, 6]
    budget = Budget(CPU, only_text=True)
    assert budget.batch_of([2] * 1000) == 256 and budget.batch_of([100, 2, 2]) == 3


def test_similar_lengths_share_a_batch_the_longest_first_and_groups_do_not_mix():
    items = [Item(i, n, g, None) for i, (n, g) in enumerate([(5, "a"), (900, "a"), (6, "a"), (900, "b"), (1, "b")])]
    got = [[i.position for i in b] for b, _ in run_batches(items, lambda b: (b, b), lambda b, x: b, Budget(CPU))]
    assert got == [[1], [2, 0], [3], [4]]


def test_single_words_go_through_in_few_batches(minilm, tmp_path, count):
    counter = count(minilm)
    try:
        extract(minilm, StimulusSet.from_texts([f"word{i}" for i in range(500)]), layers=["encoder.layer.0"],
                store=tmp_path, progress=False)
    finally:
        minilm.adapter.forward = counter._forward
    assert sum(counter.batches) == 500 and len(counter.batches) == 2


@pytest.mark.parametrize(("free", "expected"), [(1, 1), (2, 2), (8, 2)])
def test_a_forward_takes_no_more_threads_than_there_are_free_cores(monkeypatch, free, expected):
    monkeypatch.setattr("neuroalign.linalg.threads.free_cores", lambda: free)
    torch.set_num_threads(2)  # the fixture of these tests sets it back
    seen = []
    run = run_batches([Item(0, 1, "a", None)], lambda b: (b, b), lambda b, x: seen.append(torch.get_num_threads()),
                      Budget(CPU))
    list(run)
    assert seen == [expected] and torch.get_num_threads() == 2
    assert batching.threads(torch.device("cuda")).__class__.__name__ == "nullcontext"
