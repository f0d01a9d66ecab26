"""Shift registers advanced draw by draw: every neuron of every core, in the order of the definition."""

from __future__ import annotations

import numpy as np

from randhet.fixed_point.generator import byte_step
from randhet.fixed_point.kernels.compiled import kernel


@kernel
def _draw_decays(registers, sizes, byte, table, out):  # type: ignore[no-untyped-def]
    n = 0
    for core in range(len(registers)):
        state = registers[core]
        for _ in range(sizes[core]):
            state = (state >> 8) ^ byte[state & 0xFF]
            out[n] = table[state & 0xFF]
            n += 1
        registers[core] = state


def advance(registers: np.ndarray, sizes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """One draw per neuron, core after core; registers (cores,) int64 move on in place. Decays (neurons,) int64."""
    out = np.empty(int(sizes.sum()), np.int64)
    _draw_decays(registers, sizes, np.array(byte_step(), np.int64), table, out)
    return out
