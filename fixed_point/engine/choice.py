"""Whether to add rows or to multiply: the activity at which this processor does both as fast, measured once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import thread_time

import numpy as np

from randhet.fixed_point.engine import kernels
from randhet.fixed_point.engine.plan import make_synapse
from randhet.fixed_point.kernels import dense
from randhet.fixed_point.network import Conv

STEPS, INPUTS, SIZE = 8, 128, 12
RATES = 0.1, 0.3
LOWEST, HIGHEST = 0.01, 0.5
"""A disturbed measurement must not do much harm."""
RUNS = 7


@lru_cache(maxsize=1)
def break_even() -> float:
    """Share of active inputs at which multiplying all of them takes as long as adding the rows of the active ones.

    Adding takes a + b*rate, by two rates of a small layer; multiplying the same at every rate. Some milliseconds,
    when first asked for. What it finds decides time, never a result.
    """
    few, many = (_seconds(rate, 2**62) for rate in RATES)
    slope = (many - few) / (RATES[1] - RATES[0])
    found = RATES[0] + (_seconds(RATES[0], -1) - few) / slope if slope > 0 else HIGHEST
    return float(np.clip(found, LOWEST, HIGHEST))


def limit(inputs: int) -> int:
    """Active ones of so many inputs above which to multiply."""
    return int(break_even() * inputs) if dense.AVAILABLE else 2**62


def _seconds(rate: float, above: int) -> float:
    """Least processor time of a convolution whose inputs fire at a rate, multiplied where more than `above` do."""
    shape, channels = (INPUTS, SIZE, SIZE), 128
    synapse = make_synapse(Conv(np.ones((channels, INPUTS, 3, 3), np.int8), padding=(1, 1)), shape, 1)
    (tile,), pixels = synapse.tiles, SIZE * SIZE
    values = (np.random.default_rng(0).random((STEPS, pixels, INPUTS)) < rate).astype(np.uint8)
    level, none, matrix = np.full((1, channels), 2**20, np.int32), np.zeros(0, np.int64), np.zeros(32, np.uint32)
    arguments = (
        values, STEPS, 0, INPUTS, 1, synapse.window, tile.weight, tile.packed, tile.wide, above, 0, pixels,
        level, level[0], 6, 8, 0, level >> 13, np.zeros(512, np.uint8), none.astype(np.uint32), none, none, none > 0,
        False, matrix, matrix, np.zeros((STEPS, pixels, channels), np.uint8), 0, np.zeros((0, 0, 0), np.int32),
    )  # fmt: skip
    return least_time(lambda: kernels.lif_image(*arguments))


def least_time(call: Callable[[], object], runs: int = RUNS) -> float:
    """Least processor time of one call in seconds; the first, which may compile, does not count."""
    call()
    found = float("inf")
    for _ in range(runs):
        start = thread_time()
        call()
        found = min(found, thread_time() - start)
    return found
