"""Work over one long row of numbers, shared among as many threads as torch uses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

BLOCK = 512
"""Neurons of one block; a part is a whole number of blocks."""
SMALL = 1 << 15
"""Below so many elements another thread costs more than it gives."""


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Threads that last as long as the program, one pool per number of them."""
    return ThreadPoolExecutor(threads)


def share(count: int, elements: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) over 0..count in whole blocks, on as many threads as torch uses."""
    threads = torch.get_num_threads() if elements >= SMALL else 1
    neurons = -(-count // (threads * BLOCK)) * BLOCK
    parts = [(first, min(first + neurons, count)) for first in range(0, count, neurons)]
    if len(parts) == 1:
        work(*parts[0])
    else:
        list(pool(threads).map(lambda ends: work(*ends), parts))
