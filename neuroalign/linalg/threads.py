"""How many threads a computation should take: no more than there are free cores, one if it is small.

A second thread on a busy core waits for it at every step: two-thread LAPACK was measured 10 to 100 times slower
beside one busy core, and small products spend their time on starting threads.
"""

import os
import time
from contextlib import contextmanager

import psutil
import torch

__all__ = ["free_cores", "thread_limit"]

SMALL = 2e9  # floating-point operations that one thread does in about 20 ms
WINDOW = 0.5  # seconds over which the load of others is taken

_last: dict = {}


def free_cores() -> int:
    """Return the number of cores that other processes leave free, at least 1.

    It is measured between calls, over at least half a second; at first the load average stands in.

    Examples
    --------
    >>> 1 <= free_cores() <= os.cpu_count()
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    now, total, own = time.monotonic(), psutil.cpu_times(), sum(psutil.Process().cpu_times()[:2])
    busy = sum(total) - total.idle - getattr(total, "iowait", 0.0)
    if not _last:
        _last.update(now=now, busy=busy, own=own, others=psutil.getloadavg()[0])
    elif now - _last["now"] > WINDOW:
        others = (busy - _last["busy"] - (own - _last["own"])) / (now - _last["now"])
        _last.update(now=now, busy=busy, own=own, others=others)
    return max(1, min(cores, cores - round(_last["others"])))


@contextmanager
def thread_limit(operations: float):
    """Run a block with as many threads as its number of floating-point operations deserves.

    The block may be many calls: `operations` is the size of one of them. Never more threads than before.
    """
    before = torch.get_num_threads()
    wanted = 1 if operations < SMALL else min(before, free_cores())
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
