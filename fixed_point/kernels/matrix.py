"""Sums by instructions that multiply matrices of bytes (AMX): 16 rows of activity with 16 channels and 64 inputs.

The processor keeps eight matrices; four hold the sums of 32 rows and 32 channels, two the activity, two the weights.
Activity is unsigned, weights are signed, sums have 32 bits: exact.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from randhet.fixed_point.kernels.blocks import CHUNK, loop
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.lanes import INT8, INT64, Lanes, build, has, instruction

ROWS = 32
"""Rows of activity, each of one pixel and step, that one call multiplies."""
BLOCK = 64
"""Inputs of one instruction."""
SIDE = 16
"""Rows, and channels, of one matrix."""
PALETTE, ALL = 1, range(8)
ASK_FOR, TILE_DATA, ARCH_PRCTL = 0x1023, 18, 158
"""Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) lets a process use the matrices."""


def allowed() -> bool:
    """Whether kernels are compiled for a processor with the matrices, and the system lets this process use them."""
    if not has("amx-int8") or not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, ASK_FOR, TILE_DATA) == 0


AVAILABLE = allowed()
MOST_PLANES = 8
"""Bits of the largest value that is multiplied."""


def configuration() -> np.ndarray:
    """What the processor is told: eight matrices of 16 rows of 64 bytes."""
    told = np.zeros(64, np.uint8)
    told[0] = PALETTE
    told[16 : 16 + 2 * len(ALL)].view(np.uint16)[:] = BLOCK
    told[48 : 48 + len(ALL)] = SIDE
    return told


CONFIGURATION = configuration()


def act(builder, name, *arguments):
    """Code for an instruction of the matrices."""
    instruction(builder, name, ir.VoidType(), *arguments)


@intrinsic
def begin(typing, told):
    """Set the matrices up, for this thread."""
    return build(types.void, (told,), lambda builder, told: act(builder, "ldtilecfg", told.at(INT64(0))))


@intrinsic
def end(typing):
    """Let the matrices go: threads that hold them are dearer to switch."""
    return build(types.void, (), lambda builder: act(builder, "tilerelease"))


@intrinsic
def multiply(typing, activity, activity_at, apart, weight, weight_at, blocks, sums, sums_at, sums_apart):
    """sums = activity times weight: 32 rows and 32 channels, over blocks of 64 inputs.

    activity: uint8, row r from byte activity_at + r * apart. weight: int8 as `pack` lays it out, two columns of
    matrices from byte weight_at. sums: int32, row r from sums_at + r * sums_apart, written.
    """

    def write(builder, activity, activity_at, apart, weight, weight_at, blocks, sums, sums_at, sums_apart):
        # matrices 0 to 3: sums of both halves of the rows by both halves of the channels; 4, 5: activity; 6, 7: weights
        number = [INT8(i) for i in ALL]
        for i in range(4):
            act(builder, "tilezero", number[i])
        column = builder.mul(blocks, INT64(BLOCK * SIDE))
        with loop(builder, INT64(0), blocks) as (block, _):
            left = builder.add(activity_at, builder.mul(block, INT64(BLOCK)))
            right = builder.add(weight_at, builder.mul(block, INT64(BLOCK * SIDE)))
            for half in range(2):
                rows = builder.add(left, builder.mul(apart, INT64(half * SIDE)))
                act(builder, "tileloadd64", number[4 + half], activity.at(rows), apart)
                position = builder.add(right, column) if half else right
                act(builder, "tileloadd64", number[6 + half], weight.at(position), INT64(BLOCK))
            for i in range(4):
                act(builder, "tdpbusd", number[i], number[4 + i // 2], number[6 + i % 2])
        # in bytes
        stride = builder.mul(sums_apart, INT64(4))
        for i in range(4):
            position = builder.add(
                sums_at, builder.add(builder.mul(sums_apart, INT64(i // 2 * SIDE)), INT64(i % 2 * SIDE))
            )
            pointer = builder.bitcast(sums.at(position), INT8.as_pointer())
            act(builder, "tilestored64", number[i], pointer, stride)

    kinds = activity, activity_at, apart, weight, weight_at, blocks, sums, sums_at, sums_apart
    return build(types.void, kinds, write)


class Seen(NamedTuple):
    """What one pixel's window sees at the steps start..stop.

    values: bytes, flat; tap i reads per_tap of them from at[step] + window[window_at + i] * apart, zeros where the
    window is negative; it has `taps` taps.
    """

    values: Any
    at: Any
    start: Any
    stop: Any
    apart: Any
    window: Any
    window_at: Any
    taps: Any
    per_tap: Any


@intrinsic
def collect(typing, view, activity, activity_at, row_bytes):
    """Rows of activity, one for each step that is `Seen`, written `row_bytes` apart from activity_at."""

    def write(builder, view, activity, activity_at, row_bytes):
        def copy(widths):
            with loop(builder, INT64(0), view.taps) as (tap, _):
                source = builder.sext(view.window.item(builder.add(view.window_at, tap)), INT64)
                offset = builder.mul(source, view.apart)
                target = builder.add(activity_at, builder.mul(tap, view.per_tap))
                with builder.if_else(builder.icmp_signed(">=", source, INT64(0))) as (inside, outside):
                    for branch, given in ((inside, view.values), (outside, None)):
                        with branch, loop(builder, view.start, view.stop) as (step, _):
                            row = builder.mul(builder.sub(step, view.start), row_bytes)
                            position = builder.add(view.at.item(step), offset)
                            _copy(builder, given, position, activity, builder.add(target, row), view.per_tap, widths)

        # the usual layers have whole lines of inputs: copied without the loops for what is left over
        whole = builder.icmp_unsigned("==", builder.and_(view.per_tap, INT64(BLOCK - 1)), INT64(0))
        with builder.if_else(whole) as (lines, any_bytes):
            with lines:
                copy((BLOCK,))
            with any_bytes:
                copy((BLOCK, SIDE, 1))

    return build(types.void, (view, activity, activity_at, row_bytes), write)


def _copy(builder, values, values_at, target, target_at, count, widths):
    """Code that copies bytes, or zeros where `values` is None: as many at a time as a width says, then the next."""
    start = INT64(0)
    # each width takes what the one before has left over
    for lanes in widths:
        stop = builder.and_(count, INT64(-lanes))
        with loop(builder, start, stop, lanes) as (position, _):
            none = ir.Constant(ir.VectorType(INT8, lanes), None)
            piece = Lanes(builder, none) if values is None else values.load(builder.add(values_at, position), lanes)
            target.store(builder.add(target_at, position), piece)
        start = stop


@inner
def products(source, wide, begins, activity, pixel, count, sums, sums_at):
    """Sums of the output pixels from `pixel`, `count` of them, at n steps: row j*n + i is of pixel + j and step i.

    source: `bundles.Source` of bytes, in which step i begins at byte begins[i]. wide: as `pack` lays it out. activity:
    bytes that `together` asks for. sums: int32, flat, rows of whole chunks of channels from `sums_at`. More than one
    pixel only where all rows fit.
    """
    values, window, taps, n = source.values.reshape(-1), source.window.reshape(-1), source.window.shape[1], len(begins)
    channels, per_tap = source.values.shape[2], source.per_tap
    blocks = (taps * per_tap + BLOCK - 1) // BLOCK
    apart, padded = row_bytes(blocks), len(wide) // (blocks * BLOCK)
    # rows of activity begin at cache lines
    aligned = -activity.ctypes.data % BLOCK
    begin(CONFIGURATION)
    for start in range(0, n, ROWS):
        for j in range(count):
            stop = min(start + ROWS, n)
            view = Seen(values, begins, start, stop, channels, window, (pixel + j) * taps, taps, per_tap)
            collect(view, activity, aligned + j * n * apart, apart)
        for channel in range(0, padded, 2 * SIDE):
            multiply(
                activity, aligned, apart, wide, channel * blocks * BLOCK, blocks,
                sums, sums_at + start * padded + channel, padded,
            )  # fmt: skip
    end()


@inner
def row_bytes(blocks):
    """Bytes from row to row of the activity: an odd number of cache lines, which spreads them over the cache."""
    return (blocks | 1) * BLOCK


@kernel
def arranged(chosen):
    """The chosen steps."""
    return np.flatnonzero(chosen)


@kernel
def together(steps, inputs):
    """Pixels of one call, rows of sums and bytes of activity that it needs, for windows of so many inputs."""
    n = len(steps)
    if n == 0:
        return 1, 0, 0
    rows = (n + ROWS - 1) // ROWS * ROWS
    return max(1, ROWS // n), rows, ROWS * row_bytes((inputs + BLOCK - 1) // BLOCK) + BLOCK


def pack(weight: np.ndarray, per_tap: int) -> np.ndarray:
    """Weight rows (inputs of all taps, width) int8 as `multiply` reads them, flat.

    16 channels after 16 channels, filled up to whole chunks; of these 64 inputs after 64 inputs, filled up, as a matrix
    of 16 rows that hold for every channel its weights of four inputs.
    """
    rows, width = weight.shape
    blocks, columns = -(-rows // BLOCK), -(-width // CHUNK) * CHUNK // SIDE
    padded = np.zeros((blocks * BLOCK, columns * SIDE), np.int8)
    padded[:rows, :width] = weight
    return np.ascontiguousarray(padded.reshape(blocks, SIDE, 4, columns, SIDE).transpose(3, 0, 1, 4, 2)).reshape(-1)


def packed_size(inputs: int, padded: int) -> int:
    """Bytes that `pack` makes for so many inputs of all taps and channels of whole chunks."""
    return -(-inputs // BLOCK) * BLOCK * padded


def fits(per_tap: int, rows: int) -> bool:
    """Whether so many inputs of a tap can be multiplied, in a source of so many rows: always."""
    return True
