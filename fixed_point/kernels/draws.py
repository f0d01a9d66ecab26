"""Draws of the shift registers, 64 registers at a time, and the table of decays that draws look up.

A draw is the low byte of a register that has moved on by eight clocks, and four draws in a row hold the whole register.
So a register is kept here as its next four draws, byte by byte: 64 registers are four vectors of 64 bytes, a `block` of
256. The draw of a pixel lies ready in vector number `pixel` modulo 4, and after four pixels the next four draws take
their place. With the feedback bits f of a draw d, those of `feedback`, draw number n is

    d[n] = (f[n-1] >> 6 ^ f[n-1] >> 7) ^ (f[n-2] << 6) ^ (f[n-3] >> 2) ^ f[n-4], all in 8 bits

which follows from `shuffled`: each of the four terms falls on another byte of the register. Within a vector byte
4*l + i belongs to neuron 16*i + l, so that a shift and a mask make it 16 lanes of 32 bits.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from randhet.fixed_point.kernels import arm
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.lanes import INT8, INT32, INT64, Array, Lanes, build, has, map_bytes, permute

AHEAD = 4
"""Draws that are kept ready."""
TOGETHER = 64
"""Registers of a block."""
BLOCK = AHEAD * TOGETHER
"""Bytes of it."""
LANES = 16
"""Registers, as they are, of one vector."""


# --- a register as it is ------------------------------------------------------------------------------------------


def shuffled(register: Lanes) -> Lanes:
    """A register eight clocks on, without branches or tables.

    The feedback bits of eight clocks are the low byte divided by 1 + x + x^2 over GF(2), modulo x^8; each then stands
    where the taps 31, 21, 1 and 0 have moved by the last clock. Tested against the register clocked bit by bit.
    """
    f = feedback(register & 0xFF)
    return register.unsigned_shift(8) ^ (f << 24) ^ (f << 14) ^ f.unsigned_shift(6) ^ f.unsigned_shift(7)


def feedback(byte):
    """The feedback bits of eight clocks of registers with this low byte: a number, or lanes."""
    # 1 / (1 + x + x^2) = (1 + x) / (1 + x^3) = (1 + x) * (1 + x^3 + x^6 + ...); sums of bits are exclusive ors
    g = byte ^ (byte << 1)
    return (g ^ (g << 3) ^ (g << 6)) & 0xFF


@inner
def unroll(registers):
    """Make registers (uint32, whole vectors of 16) words of their next four draws, the first in the lowest byte."""
    for start in range(0, len(registers), LANES):
        unroll_together(registers, start)


@intrinsic
def unroll_together(typing, registers, start):
    """Do so for 16 registers from `start` on."""

    def write(builder, registers, start):
        moved = shuffled(registers.load(start, LANES))
        draws = moved & 0xFF
        for number in range(1, AHEAD):
            moved = shuffled(moved)
            draws = draws | (moved & 0xFF) << 8 * number
        registers.store(start, draws)

    return build(types.void, (registers, start), write)


@kernel
def unrolled(states):
    """Such words of registers (uint32, flat); their number is filled up to whole vectors."""
    words = np.zeros((len(states) + LANES - 1) // LANES * LANES, np.uint32)
    words[: len(states)] = states
    unroll(words)
    return words


_feedback = inner(feedback)


@inner
def earlier(word):
    """The four draws that begin one draw before these, as a word."""
    later, second, first = _feedback((word >> 16) & 0xFF), _feedback((word >> 8) & 0xFF), _feedback(word & 0xFF)
    # the last draw less what the others add to it leaves the feedback bits of the one before the first
    left = (word >> 24) ^ (later >> 6) ^ (later >> 7) ^ (second << 6) ^ (first >> 2)
    return ((word << 8) & 0xFFFFFF00) | ((left ^ (left << 1) ^ (left << 2)) & 0xFF)


# --- blocks of registers ------------------------------------------------------------------------------------------


@inner(forceinline=True)
def place(channel):
    """Where in the blocks of a row of neurons the draws of one channel begin."""
    return ((channel >> 6) << 8) + ((channel & 15) << 2) + ((channel >> 4) & 3)


@inner(forceinline=True)
def put(registers, at, word, phase):
    """Put the next draws of a register, a word, where its block has it; `phase` draws of the four are over."""
    draws = np.int64(word)
    for _ in range(phase):
        draws = earlier(draws)
    for _ in range(AHEAD):
        registers[at] = draws & 0xFF
        draws >>= 8
        at += TOGETHER


@intrinsic
def put_block(typing, draws, at, registers, start):
    """Put the next draws of 64 registers (uint32) from `start` on, those of neighbouring channels, into their block."""

    def write(builder, draws, at, registers, start):
        moved = [registers.load(builder.add(start, INT64(LANES * part)), LANES) for part in range(AHEAD)]
        for number in range(AHEAD):
            moved = [shuffled(part) for part in moved]
            draws.store(builder.add(at, INT64(TOGETHER * number)), side_by_side(moved))

    return build(types.void, (draws, at, registers, start), write)


def side_by_side(registers: list[Lanes]) -> Lanes:
    """The low bytes of four vectors, each in a byte of its own."""
    first, *others = (register & 0xFF for register in registers)
    for number, byte in enumerate(others, 1):
        first = first | byte << 8 * number
    return first


def taps(draw: Lanes) -> list[Lanes]:
    """What a draw (8 bits) adds to the four after it."""
    f = feedback(draw)
    return [f.unsigned_shift(6) ^ f.unsigned_shift(7), f << 6, f.unsigned_shift(2), f]


IMAGES = [[image(feedback(1 << bit)) for bit in range(8)] for image in (
    lambda f: f >> 6 ^ f >> 7, lambda f: f << 6 & 0xFF, lambda f: f >> 2, lambda f: f
)]  # fmt: skip
"""What each bit of a draw, alone, adds to the four after it."""


def taps_at_once(draw: Lanes) -> list[Lanes]:
    """The same where the processor maps bits of bytes linearly (GFNI): an instruction for each."""
    return [map_bytes(draw, images) for images in IMAGES] if has("gfni") and has("avx512bw") else taps(draw)


@intrinsic
def draw_ahead(typing, registers, count):
    """Replace the draws of blocks (uint8), `count` bytes, by the next four."""
    return build(types.void, (registers, count), lambda *given: _draw_ahead(*given, taps_at_once))


@intrinsic
def draw_ahead_by_shifts(typing, registers, count):
    """The same by shifts and exclusive ors alone."""
    return build(types.void, (registers, count), lambda *given: _draw_ahead(*given, taps))


def _draw_ahead(builder, registers, count, taps_of):
    with cgutils.for_range_slice(builder, INT64(0), count, INT64(BLOCK), INT64) as (block, _):
        places = [builder.add(block, INT64(number * TOGETHER)) for number in range(AHEAD)]
        seen = [taps_of(registers.load(at, TOGETHER)) for at in places]
        for at in places:
            first, second, third, fourth = (seen[-1 - back][back] for back in range(AHEAD))
            draw = first ^ second ^ third ^ fourth
            registers.store(at, draw)
            seen.append(taps_of(draw))


# --- the table ----------------------------------------------------------------------------------------------------


def table_reader(builder: Any, table: Array, wide: bool) -> Callable[[Array, Any], list[Lanes]]:
    """Looks up the 64 draws at a place in a table of 256 decays, which holds their low bytes, then their high.

    Where the processor permutes bytes of vectors (AVX-512 VBMI, NEON) the table lives in such vectors; elsewhere it is
    read byte by byte. Not wide: the high bytes are all zero. Returns four vectors of 16 decays.
    """
    if not (has("avx512vbmi") or arm.has("neon")):
        return lambda draws, at: [_read(builder, table, draws, at, number, wide) for number in range(AHEAD)]
    parts = [table.load(INT64(start), 64).value for start in range(0, 512, 64)]

    def look(draws: Array, at: Any) -> list[Lanes]:
        index = draws.load(at, TOGETHER).value
        low = _lanes(builder, _permuted(builder, parts[:4], index))
        if not wide:
            return low
        return [byte | high << 8 for byte, high in zip(low, _lanes(builder, _permuted(builder, parts[4:], index)))]

    return look


def _permuted(builder: Any, parts: list[Any], index: Any) -> Any:
    """Every byte looked up in place."""
    if arm.has("neon"):
        return arm.looked_up(builder, parts, index)
    first, second = (permute(builder, parts[i], index, parts[i + 1]) for i in (0, 2))
    # seven bits of the index choose within two vectors, the eighth, its sign, between the pairs
    upper = Lanes(builder, index).compare("<", 0)
    return builder.select(upper.value, second, first)


def _lanes(builder: Any, looked_up: Any) -> list[Lanes]:
    """The bytes of a vector as `block`s order them: four vectors of 16 lanes."""
    words = Lanes(builder, builder.bitcast(looked_up, ir.VectorType(INT32, LANES)))
    return [words.unsigned_shift(8 * number) & 0xFF for number in range(AHEAD)]


def _read(builder: Any, table: Array, draws: Array, at: Any, number: int, wide: bool) -> Lanes:
    """The decays of neurons 16*number.., byte by byte."""
    places = [builder.add(at, INT64(AHEAD * lane + number)) for lane in range(LANES)]
    index = [builder.zext(draws.item(place), INT64) for place in places]
    low = _bytes(builder, [table.item(position) for position in index])
    if not wide:
        return low
    high = _bytes(builder, [table.item(builder.add(position, INT64(256))) for position in index])
    return low | high << 8


def _bytes(builder: Any, values: list[Any]) -> Lanes:
    """Bytes as lanes of 32 bits."""
    vector = ir.Constant(ir.VectorType(INT8, len(values)), ir.Undefined)
    for lane, value in enumerate(values):
        vector = builder.insert_element(vector, value, INT32(lane))
    return Lanes(builder, vector).widen(INT32, signed=False)
