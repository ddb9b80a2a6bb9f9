"""Batches: bucketed by length, as large as the memory allows, halved when it does not."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import torch

from neuroalign.linalg import thread_limit

__all__ = ["Budget", "Item", "out_of_memory", "run_batches"]

# 1536 tokens a batch is where a base-size encoder stops gaining on a CPU; a GPU starts higher and grows.
TOKENS = {"cpu": 1536, "cuda": 16384, "mps": 4096}
ROWS = {"cpu": 32, "cuda": 128, "mps": 32}
TEXT_ROWS = {"cpu": 256, "cuda": 1024, "mps": 256}  # texts are bound by their tokens: single words go many at a time
MOST_TOKENS, MOST_ROWS = 262144, 1024


@dataclass(frozen=True)
class Item:
    """One thing that goes through the model: a stimulus or a window of words."""

    position: int
    length: int
    group: Hashable  # only items of one group share a batch (the towers that run)
    content: Any


@dataclass
class Budget:
    """How much goes in a batch: `rows` items, `tokens` tokens with their padding.

    A given batch size is kept until memory runs out; an automatic one grows on CUDA while less than half of the
    memory is in use.
    """

    device: torch.device
    batch_size: int | None = None
    only_text: bool = False  # lengths are those of texts, and bound the memory

    def __post_init__(self):
        kind = self.device.type
        self.rows = self.batch_size or (TEXT_ROWS if self.only_text else ROWS).get(kind, 32)
        self.tokens = MOST_TOKENS if self.batch_size else TOKENS.get(kind, 1536)
        self.may_grow = self.batch_size is None and kind == "cuda"

    def fits(self, n: int, length: int) -> bool:
        """Say whether `n` items of at most this length may share a batch; one always may."""
        return n <= 1 or (n <= self.rows and (self.batch_size is not None or n * max(1, length) <= self.tokens))

    def batch_of(self, lengths: list[int]) -> int:
        """Return how many items the first batch takes, which starts with the longest."""
        n, longest = 1, max(lengths)
        while n < len(lengths) and self.fits(n + 1, longest):
            n += 1
        return n

    def shrink(self, n: int, length: int) -> None:
        """Halve what just did not fit."""
        self.may_grow = False
        self.rows = max(1, n // 2)
        self.tokens = max(1, n * max(1, length) // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def grow(self) -> None:
        """Double the batch while the peak of memory leaves room for it."""
        if not self.may_grow:
            return
        total = torch.cuda.get_device_properties(self.device).total_memory
        peak = torch.cuda.max_memory_allocated(self.device)
        if 2.5 * peak < total and self.tokens < MOST_TOKENS:
            self.tokens, self.rows = 2 * self.tokens, min(MOST_ROWS, 2 * self.rows)
        else:
            self.may_grow = False


def out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that a smaller batch may work."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory", "not enough memory"))


def run_batches(items: Sequence[Item], prepare: Callable, forward: Callable,
                budget: Budget) -> Iterator[tuple[list[Item], Any]]:
    """Run items through a model in batches of similar length, the longest first.

    On an accelerator the next batch is prepared in a thread while one is in the model (on a CPU, which is busy
    anyway, when it is needed). Where memory runs out the batch is halved and run again; nothing that was yielded is
    lost or repeated.

    Parameters
    ----------
    items : sequence of Item
    prepare : callable
        ``prepare(list of Item) -> (list of Item, inputs)``: the items that can go, and their inputs (None if none).
    forward : callable
        ``forward(list of Item, inputs) -> result``.
    budget : Budget

    Yields
    ------
    (list of Item, result)
    """
    queue = deque(sorted(items, key=lambda i: (str(i.group), -i.length, i.position)))
    with ThreadPoolExecutor(1, thread_name_prefix="neuroalign-prepare") as pool:
        following = None
        while queue or following:
            batch, future = following or _submit(pool, prepare, queue, budget)
            following = _submit(pool, prepare, queue, budget) if queue else None
            try:
                ready, inputs = future()
                with threads(budget.device):
                    result = forward(ready, inputs) if ready else None
                failed = None
            except Exception as error:
                failed = error
            if failed is None:
                if ready:
                    yield ready, result
                    budget.grow()
            elif len(batch) > 1 and out_of_memory(failed):
                if following:
                    queue.extendleft(reversed(following[0]))
                    following = None
                queue.extendleft(reversed(batch))
                budget.shrink(len(batch), batch[0].length)
            else:
                raise failed


def threads(device: torch.device):
    """Return a block that takes no more threads than there are free cores, on a CPU.

    Beside one busy core a second thread made 1,028 single words take eleven times as long.
    """
    return thread_limit(inf) if device.type == "cpu" else nullcontext()


def _submit(pool, prepare, queue, budget):
    batch = [queue.popleft()]
    while queue and queue[0].group == batch[0].group and budget.fits(len(batch) + 1, batch[0].length):
        batch.append(queue.popleft())
    if budget.device.type == "cpu":
        return batch, partial(prepare, batch)
    return batch, pool.submit(prepare, batch).result
