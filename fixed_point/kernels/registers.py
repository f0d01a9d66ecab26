"""Shift registers: jumps over many draws by matrices of bits, and draws one by one in the order of the definition."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from randhet.fixed_point.generator import byte_step
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.lanes import INT32, INT64, Lanes, broadcast, build

TOGETHER = 16
"""Registers of one vector."""


@intrinsic
def jump_together(typing, registers, start, columns):
    """Multiply 16 registers from `start` on by the matrix with these 32 columns."""

    def write(builder, registers, start, columns):
        states = registers.load(start, TOGETHER)
        moved = none = Lanes(builder, ir.Constant(ir.VectorType(INT32, TOGETHER), None))
        for bit in range(32):
            column = broadcast(builder, columns.item(INT64(bit)), TOGETHER)
            moved = moved ^ (states & (1 << bit)).compare("!=", 0).where(column, none)
        registers.store(start, moved)

    return build(types.void, (registers, start, columns), write)


@inner
def jump(registers, columns):
    """Multiply every register by the matrix with these 32 columns: a jump over many draws."""
    whole = len(registers) & -TOGETHER
    for start in range(0, whole, TOGETHER):
        jump_together(registers, start, columns)
    for i in range(whole, len(registers)):
        state, moved = registers[i], np.uint32(0)
        for bit in range(32):
            # minus a bit is a mask: all ones where it is set
            moved ^= columns[bit] & (np.uint32(0) - ((state >> np.uint32(bit)) & np.uint32(1)))
        registers[i] = moved


@kernel
def power(squarings, clocks):
    """The product of those of 32 commuting matrices (32, 32 columns) whose bit is set in clocks, as 32 columns."""
    # the identity; powers of one matrix commute, so their order is free
    product = np.uint32(1) << np.arange(32).astype(np.uint32)
    for bit in range(32):
        if (clocks >> np.uint64(bit)) & np.uint64(1):
            jump(product, squarings[bit])
    return product


@kernel
def states_of_rounds(starts, last, near, far, held, rounds):
    """States of the entries at the start of every round, (rounds, entries), from those of the first.

    near: the matrix that moves an entry on by a round; far: that of the entries marked `last`. held: none moves.
    """
    states = np.empty((rounds, len(starts)), np.uint32)
    states[0] = starts
    ends = np.flatnonzero(last)
    for t in range(1, rounds):
        states[t] = states[t - 1]
        if not held:
            jump(states[t], near)
            # again from the round before: `near` has moved the last core's entries too far
            moved = states[t - 1][ends]
            jump(moved, far)
            states[t][ends] = moved
    return states


@kernel
def _draw_decays(registers, sizes, byte, table, out):
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
