"""Whether to add rows or to multiply: the activity at which this processor does both as fast, measured once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import thread_time

import numpy as np

from randhet.fixed_point.engine import kernels
from randhet.fixed_point.engine.plan import make_synapse
from randhet.fixed_point.kernels import dense
from randhet.fixed_point.kernels.bundles import (
    NO_ENTRIES,
    NO_RECORD,
    NO_STATE,
    NO_STATES,
    NO_TABLE,
    Decays,
    Levels,
    Output,
    Weights,
)
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
    # a limit that no step reaches: rows are added
    few, many = (_seconds(rate, 2**62) for rate in RATES)
    slope = (many - few) / (RATES[1] - RATES[0])
    # a limit that every step passes: all is multiplied
    even = RATES[0] + (_seconds(RATES[0], -1) - few) / slope if slope > 0 else HIGHEST
    return float(np.clip(even, LOWEST, HIGHEST))


def limit(inputs: int) -> int:
    """Active ones of so many inputs above which to multiply."""
    return int(break_even() * inputs) if dense.AVAILABLE else 2**62


def _seconds(rate: float, above: int) -> float:
    """Least processor time of a convolution whose inputs fire at a rate, multiplied where more than `above` do."""
    shape, channels = (INPUTS, SIZE, SIZE), 128
    synapse = make_synapse(Conv(np.ones((channels, INPUTS, 3, 3), np.int8), padding=(1, 1)), shape, 1)
    (tile,), pixels = synapse.tiles, SIZE * SIZE
    values = (np.random.default_rng(0).random((STEPS, pixels, INPUTS)) < rate).astype(np.uint8)
    level = np.full(channels, 2**20, np.int32)
    arguments = (
        synapse.reads(tile, values),
        Weights(tile.weight, tile.packed, tile.wide, above),
        Levels(level, level, f=6, k=8, keep=0),
        Decays(level >> 13, NO_TABLE, NO_STATES, NO_ENTRIES, NO_ENTRIES),
        NO_STATE,
        Output(np.zeros((STEPS, pixels, channels), np.uint8), NO_RECORD, 0, 0, pixels),
    )
    return least_time(lambda: kernels.lif_tile(*arguments))


def least_time(call: Callable[[], object], runs: int = RUNS) -> float:
    """Least processor time of one call in seconds; the first, which may compile, does not count."""
    call()
    least = float("inf")
    for _ in range(runs):
        start = thread_time()
        call()
        least = min(least, thread_time() - start)
    return least
