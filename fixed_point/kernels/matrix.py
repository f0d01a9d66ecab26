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
LAID, MOST_LAID = 256 * 1024, 1024 * 1024
"""Bytes of a strip that is laid out at once, where more than a row of the output fits; the most for one row."""
SPARE = 8
"""A strip may take one call in so many more than collected windows."""
FIRST_PLACE = np.zeros(1, np.int32)


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


class Rows(NamedTuple):
    """Where 32 rows of activity lie, flat bytes: of place p and line l from byte at + places[places_at + p] * per_place
    + 64 * l, `apart` bytes from row to row. There are `count` places of `lines` lines each.
    """

    activity: Any
    at: Any
    apart: Any
    places: Any
    places_at: Any
    count: Any
    per_place: Any
    lines: Any


@intrinsic
def multiply(typing, rows, weight, weight_at, sums, sums_at, sums_apart):
    """sums = activity times weight: 32 rows and 32 channels, over blocks of 64 inputs, the lines of all places.

    rows: `Rows`. weight: int8 as `pack` lays it out, two columns of matrices from byte weight_at. sums: int32, row r
    from sums_at + r * sums_apart, written.
    """

    def write(builder, rows, weight, weight_at, sums, sums_at, sums_apart):
        # matrices 0 to 3: sums of both halves of the rows by both halves of the channels; 4, 5: activity; 6, 7: weights
        for i in range(4):
            act(builder, "tilezero", INT8(i))
        column = builder.mul(builder.mul(rows.count, rows.lines), INT64(BLOCK * SIDE))
        with loop(builder, INT64(0), rows.count) as (place, _):
            number = builder.sext(rows.places.item(builder.add(rows.places_at, place)), INT64)
            place_at = builder.add(rows.at, builder.mul(number, rows.per_place))
            right = builder.add(weight_at, builder.mul(builder.mul(place, rows.lines), INT64(BLOCK * SIDE)))
            with loop(builder, INT64(0), rows.lines) as (line, _):
                left = builder.add(place_at, builder.mul(line, INT64(BLOCK)))
                _multiply_block(
                    builder, rows, left, weight, builder.add(right, builder.mul(line, INT64(BLOCK * SIDE))), column
                )
        # in bytes
        stride = builder.mul(sums_apart, INT64(4))
        for i in range(4):
            position = builder.add(
                sums_at, builder.add(builder.mul(sums_apart, INT64(i // 2 * SIDE)), INT64(i % 2 * SIDE))
            )
            pointer = builder.bitcast(sums.at(position), INT8.as_pointer())
            act(builder, "tilestored64", INT8(i), pointer, stride)

    return build(types.void, (rows, weight, weight_at, sums, sums_at, sums_apart), write)


def _multiply_block(builder, rows, left, weight, right, column):
    """Code for 64 inputs: four matrices loaded, four products."""
    for half in range(2):
        position = builder.add(left, builder.mul(rows.apart, INT64(half * SIDE)))
        act(builder, "tileloadd64", INT8(4 + half), rows.activity.at(position), rows.apart)
        position = builder.add(right, column) if half else right
        act(builder, "tileloadd64", INT8(6 + half), weight.at(position), INT64(BLOCK))
    for i in range(4):
        act(builder, "tdpbusd", *map(INT8, (i, 4 + i // 2, 6 + i % 2)))


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
def collect(typing, view, activity, activity_at, row_bytes, tap_bytes):
    """Activity of each tap and step that is `Seen`, written from activity_at on: `tap_bytes` from tap to tap, and
    `row_bytes` from step to step.
    """

    def write(builder, view, activity, activity_at, row_bytes, tap_bytes):
        def copy(widths):
            with loop(builder, INT64(0), view.taps) as (tap, _):
                source = builder.sext(view.window.item(builder.add(view.window_at, tap)), INT64)
                offset = builder.mul(source, view.apart)
                target = builder.add(activity_at, builder.mul(tap, tap_bytes))
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

    return build(types.void, (view, activity, activity_at, row_bytes, tap_bytes), write)


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
            collect(view, activity, aligned + j * n * apart, apart, per_tap)
        rows = Rows(activity, aligned, apart, FIRST_PLACE, 0, 1, 0, blocks)
        for channel in range(0, padded, 2 * SIDE):
            multiply(rows, wide, channel * blocks * BLOCK, sums, sums_at + start * padded + channel, padded)
    end()


@inner
def ahead(source, wide, full, pixel, stop, sums, sums_at):
    """Sums as `products` makes them of as many output pixels before `stop` as are made together. Returns how many.

    full: `sums.Crowded`. Called for one pixel after another, each that was not made yet.
    """
    if full.rows == 0:
        count = min(full.group, stop - pixel)
        products(source, wide, full.at, full.activity, pixel, count, sums, sums_at)
        return count
    strip, laid = source.strip, full.laid
    if pixel >= laid[0]:
        row = pixel // strip.line
        laid[0], laid[1] = min((row + full.rows) * strip.line, stop), row * strip.stride * strip.row
        lay(source, full, laid[1])
        # held until the strip is done: to set matrices up for every few pixels costs a tenth of the products
        begin(CONFIGURATION)
    count = min(full.group, strip.line - pixel % strip.line, stop - pixel)
    strip_products(source, wide, full, laid[1], pixel, sums, sums_at)
    if pixel + count == laid[0]:
        end()
    return count


@inner
def lay(source, full, first):
    """Lay out the slots from `first` on that `full.rows` rows of the output see: the inputs of all steps of each."""
    values, strip, n, per_tap = source.values.reshape(-1), source.strip, len(full.at), source.per_tap
    count = min(((full.rows - 1) * strip.stride + strip.tall) * strip.row, len(strip.slots) - first)
    view = Seen(values, full.at, 0, n, source.values.shape[2], strip.slots, first, count, per_tap)
    collect(view, full.activity, -full.activity.ctypes.data % BLOCK, per_tap, n * per_tap)


@inner
def strip_products(source, wide, full, first, pixel, sums, sums_at):
    """Sums of neighbours from `pixel` on in one row of the output, of what `lay` laid out from slot `first` on.

    Their rows of activity follow each other in every slot: no window is copied.
    """
    strip, activity, n, per_tap = source.strip, full.activity, len(full.at), source.per_tap
    taps, places = strip.places.shape[1], strip.places.reshape(-1)
    padded, per_place = len(wide) // (taps * per_tap), n * per_tap
    at = -activity.ctypes.data % BLOCK - first * per_place
    for start in range(0, n, ROWS):
        rows = Rows(
            activity, at + start * per_tap, per_tap, places, pixel * taps, taps, per_place, per_tap // BLOCK
        )  # fmt: skip
        for channel in range(0, padded, 2 * SIDE):
            multiply(rows, wide, channel * taps * per_tap, sums, sums_at + start * padded + channel, padded)


@kernel
def strip_rows(source, n, group):
    """Rows of the output whose strip is laid out at once for n steps; 0 where every window is collected instead."""
    strip = source.strip
    if n == 0 or len(strip.slots) == 0:
        return 0
    # neighbours of one row only are multiplied together: not where that leaves many rows of the matrices empty
    rows = len(strip.places) // strip.line
    calls, fewest = rows * ((strip.line + group - 1) // group), (len(strip.places) + group - 1) // group
    size = strip.row * n * source.per_tap
    if SPARE * calls > (SPARE + 1) * fewest or strip.tall * size > MOST_LAID:
        return 0
    return min(1 + max(LAID // size - strip.tall, 0) // strip.stride, rows)


@kernel
def strip_bytes(source, n, rows):
    """Bytes of activity that `lay` needs; rows of matrices may be read beyond the last slot, to no effect."""
    slots = ((rows - 1) * source.strip.stride + source.strip.tall) * source.strip.row
    return (slots * n + ROWS) * source.per_tap + BLOCK


def shares(per_tap: int) -> bool:
    """Whether neighbouring windows may share bytes: where so many inputs of a tap are whole lines."""
    return per_tap % BLOCK == 0


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
