"""What this machine can add, multiply and load, and how close each kernel comes to it.

    python -m scripts.limits

One thread, processor time of the best of many short runs. Limits are measured, not looked up: 16 bit additions of
independent vectors in registers, instructions that multiply and add bytes, as vectors and as matrices, cache lines
read in the order of a list of rows from arrays that fit the first and the second cache, bytes copied. A kernel's limit
is the largest of what its instructions and its loads would take if nothing else were to be done: the rest is waiting
and overhead.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from randhet.fixed_point.add_only.kernels import leak
from randhet.fixed_point.engine.choice import least_time
from randhet.fixed_point.engine.moves import move
from randhet.fixed_point.engine.plan import lined_up, make_synapse, windows
from randhet.fixed_point.engine.sums import gather, listed, sum_tile
from randhet.fixed_point.engine.sums import multiplied as crowded_steps
from randhet.fixed_point.kernels import dense, draws, matrix, vectors
from randhet.fixed_point.kernels.blocks import CHUNK, NEURONS, add_rows, add_rows_twice, fire_drawn, fire_given, loop
from randhet.fixed_point.kernels.bundles import Levels, Row, Source, Weights
from randhet.fixed_point.kernels.lanes import INT8, INT16, INT32, INT64, Lanes, broadcast, build
from randhet.fixed_point.network import Add, Conv, Range, SumPool

LANES = CHUNK // 2
CHAINS = 8
FIRST, SECOND = 256, 8192
"""Rows of 64 bytes that stay in the first cache (16 KiB) and in the second (512 KiB)."""
SIZE = 128
"""Channels of the layers that are measured."""
GIVEN, DRAWN, SERIAL = 20, 24, 4
"""Vector instructions for 16 neurons in `blocks._fire`, with the draw and the table besides, and for one bit in the
add-only `leak`; counted by hand in the machine code for a processor with GFNI and VBMI.
"""
LIMITS = {
    "16 bit additions in registers": ("add", "32 additions"),
    "products of bytes in vectors": ("dot", "64 products"),
    "products of bytes in matrices": ("matrix", "64 products"),
    "a line, first cache": ("first", "64 bytes"),
    "a line, second cache": ("second", "64 bytes"),
    "a copy of 1 MiB": ("copy", "64 bytes"),
}


@intrinsic
def add_chains(typing, seed, count):
    """count times eight independent vector additions of 32 numbers of 16 bits each."""

    def write(builder, seed, count):
        slots = [cgutils.alloca_once(builder, ir.VectorType(INT16, LANES)) for _ in range(CHAINS)]
        given = broadcast(builder, builder.trunc(seed, INT16), LANES)
        for slot in slots:
            builder.store(given.value, slot)
        with loop(builder, INT64(0), count) as (position, _):
            # a number that changes keeps the compiler from multiplying instead
            more = broadcast(builder, builder.trunc(position, INT16), LANES) ^ given
            for slot in slots:
                builder.store((Lanes(builder, builder.load(slot)) + more).value, slot)
        return _combined(builder, slots)

    return build(types.int64, (seed, count), write)


@intrinsic
def dot_chains(typing, seed, count):
    """count times sixteen independent instructions of 64 products of bytes each."""

    def write(builder, seed, count):
        kind = ir.VectorType(INT32, LANES // 2)
        slots = [cgutils.alloca_once(builder, kind) for _ in range(2 * CHAINS)]
        given = broadcast(builder, builder.trunc(seed, INT32), LANES // 2)
        for slot in slots:
            builder.store(given.value, slot)
        with loop(builder, INT64(0), count) as (position, _):
            more = broadcast(builder, builder.trunc(position, INT32), LANES // 2) ^ given
            for slot in slots:
                builder.store(vectors.dot(builder, builder.load(slot), given.value, more.value), slot)
        return _combined(builder, slots)

    return build(types.int64, (seed, count), write)


@intrinsic
def matrix_chains(typing, count):
    """count times four independent instructions of 16 * 16 * 64 products of bytes each."""

    def write(builder, count):
        with loop(builder, INT64(0), count):
            for sums in range(4):
                matrix.act(builder, "tdpbusd", *map(INT8, (sums, 4 + sums // 2, 6 + sums % 2)))

    return build(types.void, (count,), write)


@intrinsic
def read_lines(typing, lines, order, stop):
    """Exclusive or of the lines of 64 bytes in the order given: one load and one operation each."""

    def write(builder, lines, order, stop):
        kind = ir.VectorType(INT16, LANES)
        slots = [cgutils.alloca_once(builder, kind) for _ in range(CHAINS)]
        for slot in slots:
            builder.store(ir.Constant(kind, None), slot)
        with loop(builder, INT64(0), stop, CHAINS) as (position, _):
            for next_one, slot in enumerate(slots):
                row = builder.zext(order.item(builder.add(position, INT64(next_one))), INT64)
                line = lines.load(builder.shl(row, INT64(6)), LANES, INT16)
                builder.store((Lanes(builder, builder.load(slot)) ^ line).value, slot)
        return _combined(builder, slots)

    return build(types.int64, (lines, order, stop), write)


def _combined(builder, slots):
    """One number that depends on every vector, so that none is left out."""
    whole = Lanes(builder, builder.load(slots[0]))
    for slot in slots[1:]:
        whole = whole ^ Lanes(builder, builder.load(slot))
    return builder.zext(builder.extract_element(whole.value, INT32(0)), INT64)


@njit
def adds(count):
    return add_chains(count, count)


@njit
def loads(lines, order):
    return read_lines(lines, order, len(order))


@njit
def dots(count):
    return dot_chains(count, count)


@njit
def matrices(count):
    matrix.begin(matrix.CONFIGURATION)
    matrix_chains(count)
    matrix.end()


@njit
def rows_once(weight, rows, per, sums):
    for start in range(0, len(rows) - per + 1, per):
        add_rows(weight, 0, rows, start, start + per, sums, 0)


@njit
def rows_twice(weight, second, rows, per, sums):
    for start in range(0, len(rows) - per + 1, per):
        add_rows_twice(weight, 0, second, rows, start, start + per, sums, 0)


@njit
def neurons_drawn(level, table, blocks, membrane, before, spikes, repeats):
    for pixel in range(repeats):
        if pixel % draws.AHEAD == 0:
            draws.draw_ahead(blocks, len(blocks))
        row = Row(level, 0, 0, membrane, before, 0, spikes, 0, len(level))
        fire_drawn(Levels(level, level, 6, 8, 0), row, table, blocks, pixel % draws.AHEAD * draws.TOGETHER)


@njit
def neurons_given(level, decays, membrane, before, spikes, repeats):
    for _ in range(repeats):
        row = Row(level, 0, 0, membrane, before, 0, spikes, 0, len(level))
        fire_given(Levels(level, level, 6, 8, 0), row, decays, 0)


@njit
def gathered(source, active):
    count = 0
    for pixel in range(len(source.window)):
        for t in range(len(source.values)):
            count += gather(source, active, t, 0, pixel)
    return count


@njit
def multiplied(source, weights, sums):
    full, _ = crowded_steps(source, weights)
    pixel = 0
    while pixel < len(source.window):
        pixel += dense.ahead(source, weights.wide, full, pixel, len(source.window), sums, 0)


@njit
def decayed(x, decay, membrane, acc, repeats):
    for _ in range(repeats):
        leak(x, decay, 0, 8, membrane, 0, acc)


def best(call: Callable[[], object]) -> float:
    """Least processor time of thirty calls in seconds."""
    return least_time(call, 30)


@dataclass(frozen=True)
class Machine:
    """Nanoseconds: 32 additions of 16 bits; 64 products of bytes, two ways; 64 bytes, two caches; 64 bytes copied."""

    add: float
    dot: float
    matrix: float
    first: float
    second: float
    copy: float


@dataclass(frozen=True)
class Kernel:
    """What a kernel takes per unit, and what bounds it, in nanoseconds."""

    name: str
    unit: str
    took: float
    limit: float


def machine() -> Machine:
    """What bounds the kernels."""
    rng, count = np.random.default_rng(0), 200_000
    add = best(lambda: adds(count)) / (count * CHAINS)
    dot = best(lambda: dots(count)) / (count * 2 * CHAINS) if vectors.AVAILABLE else float("nan")
    product = best(lambda: matrices(count)) / (count * 4 * 16 * 16) if matrix.AVAILABLE else float("nan")
    caches = []
    for size in (FIRST, SECOND):
        lines = lined_up(np.ones(size * CHUNK, np.int8))
        order = np.sort(rng.integers(0, size, (800, 120)), axis=1).astype(np.uint32).reshape(-1)
        caches.append(best(lambda lines=lines, order=order: loads(lines, order)) / len(order))  # type: ignore[misc]
    source, target = np.zeros(2**20, np.uint8), np.zeros(2**20, np.uint8)
    copy = best(lambda: np.copyto(target, source)) / (len(source) / CHUNK)
    return Machine(*(1e9 * seconds for seconds in (add, dot, product, *caches, copy)))


def row_kernels(limit: Machine) -> Iterator[Kernel]:
    """Adding rows of 64 weights: two additions, a shift and a line."""
    for cache, size, line in (("first", FIRST, limit.first), ("second", SECOND, limit.second)):
        for per in (16, 120):
            for name, seconds in _rows(size, per).items():
                yield Kernel(
                    f"{name}, {per} a call, {cache} cache", "row of 64", 1e9 * seconds, max(3 * limit.add, line)
                )


def _rows(size: int, per: int) -> dict[str, float]:
    """Seconds per row where `size` rows lie in memory and each call adds `per` of them."""
    rng, half = np.random.default_rng(0), size // 2
    weight, sums = lined_up(rng.integers(-9, 9, size * CHUNK).astype(np.int8)), np.zeros(2 * CHUNK, np.int32)
    rows = np.sort(rng.integers(0, half, (400, per)), axis=1).astype(np.uint32).reshape(-1)
    return {
        "add_rows": best(lambda: rows_once(weight, rows, per, sums)) / len(rows),
        "add_rows_twice": best(lambda: rows_twice(weight, half * CHUNK, rows, per, sums)) / len(rows) / 2,
    }


def dense_kernels(limit: Machine) -> Iterator[Kernel]:
    """Multiplying, 3x3 convolutions: all pixels, steps, inputs and channels, 64 products the unit."""
    bound = limit.matrix if matrix.AVAILABLE else limit.dot
    for channels, size in ((SIZE, 16), (4 * SIZE, 4)) if dense.AVAILABLE else ():
        operation = Conv(np.ones((SIZE, channels, 3, 3), np.int8), padding=(1, 1))
        synapse = make_synapse(operation, (channels, size, size), 1)
        tile = synapse.tiles[0]
        source = synapse.reads(tile, np.ones((8, size * size, channels), np.uint8))
        _, space, _ = dense.together(np.arange(8), 9 * channels)
        weights, sums = Weights(tile.weight, tile.packed, tile.wide, -1), lined_up(np.zeros(4 * space * SIZE, np.int8))
        arguments = source, weights, sums.view(np.int32)
        count = synapse.window.size * 8 * channels * SIZE / 64
        seconds = best(lambda: multiplied(*arguments)) / count  # noqa: B023
        yield Kernel(f"products, {channels} to {SIZE} channels", "64 products", 1e9 * seconds, bound)


def neuron_kernels(limit: Machine) -> Iterator[Kernel]:
    """The update of neurons, 16 at a time: its vector instructions, were they as quick as additions."""
    rng, repeats = np.random.default_rng(0), 1000
    level, blocks = np.full(SIZE, 999, np.int32), rng.integers(0, 256, SIZE * draws.AHEAD).astype(np.uint8)
    table, spikes = rng.integers(0, 256, 512).astype(np.uint8), np.zeros(SIZE, np.uint8)
    state = np.zeros(SIZE, np.int32), np.zeros(SIZE, np.int32), spikes, repeats
    for name, operations, call in (
        ("fire_drawn", DRAWN, lambda: neurons_drawn(level, table, blocks, *state)),
        ("fire_given", GIVEN, lambda: neurons_given(level, level, *state)),
    ):
        yield Kernel(name, "neuron", 1e9 * best(call) / repeats / SIZE, operations * limit.add / NEURONS)


def list_kernels(limit: Machine) -> Iterator[Kernel]:
    """A 3x3 convolution of 128 channels at 10 %: the bytes seen once, and the numbers of the active written."""
    values = (np.random.default_rng(0).random((8, 1024, SIZE)) < 0.1).astype(np.uint8)
    none = np.zeros(8, np.bool_)
    source = Source(values, windows(Conv(np.ones((1, 1, 3, 3), np.int8), padding=(1, 1)), (SIZE, 32, 32)), 0, SIZE, 1)
    active = listed(source, none)
    lines = SIZE / CHUNK
    seconds = best(lambda: listed(source, none)) / 8192
    yield Kernel("listed", "pixel and step", 1e9 * seconds, lines * limit.copy)
    seconds = best(lambda: gathered(source, active)) / 8192
    yield Kernel("gather", "pixel and step", 1e9 * seconds, 9 * limit.first)
    seconds = best(lambda: dense.crowded(source, 2**62, none)) / 8192
    yield Kernel("crowded", "pixel and step", 1e9 * seconds, lines * limit.second)


def move_kernels(limit: Machine) -> Iterator[Kernel]:
    """Layers without weights, a byte per value: what they read and write."""
    read = [np.ones((1, 8, 1024, SIZE), np.uint8)] * 2
    lines = read[0].size / CHUNK
    seconds = best(lambda: move(Add(), read, read[0], (SIZE, 32, 32), Range(0, 2)))
    yield Kernel("a sum of two layers", "64 values", 1e9 * seconds / lines, 1.5 * limit.copy)
    seconds = best(lambda: move(SumPool((4, 4), (4, 4)), read[:1], read[0], (SIZE, 32, 32), Range(0, 16)))
    yield Kernel("pooling 4x4", "64 values", 1e9 * seconds / lines, 0.5 * limit.copy)


def stem_kernels(limit: Machine) -> Iterator[Kernel]:
    """The first layer, once per image, 3 to 128 channels at 32x32: pixels of 8 bits multiplied, and plane by plane."""
    weight = np.random.default_rng(0).integers(-9, 9, (SIZE, 3, 3, 3)).astype(np.int8)
    synapse = make_synapse(Conv(weight, padding=(1, 1)), (3, 32, 32), 255)
    (tile,), values = synapse.tiles, np.random.default_rng(1).integers(0, 256, (1, 1024, 3), dtype=np.uint8)
    source, inputs = synapse.reads(tile, values), synapse.window.shape[1] * 3
    if dense.fits(3, 1, synapse.planes):
        _, space, _ = dense.together(np.arange(1), inputs)
        weights, sums = Weights(tile.weight, tile.packed, tile.wide, -1), lined_up(np.zeros(4 * space * SIZE, np.int8))
        seconds = best(lambda: multiplied(source, weights, sums.view(np.int32))) / (1024 * inputs * SIZE / 64)
        bound = limit.matrix if matrix.AVAILABLE else limit.dot
        yield Kernel("stem, multiplied", "64 products", 1e9 * seconds, bound)
    bits = np.unpackbits(values[0][synapse.window[synapse.window >= 0]]).sum()
    arguments = source, Weights(tile.weight, tile.packed, tile.wide, 0), np.empty((1, 1024, SIZE), np.int32)
    seconds = best(lambda: sum_tile(*arguments)) / (bits * SIZE / CHUNK)
    yield Kernel("stem, by bit planes", "row of 64", 1e9 * seconds, max(3 * limit.add, limit.first))


def serial_kernel(limit: Machine) -> Iterator[Kernel]:
    """The add-only engine's decay: seven instructions for each of 8 bits."""
    rng, repeats = np.random.default_rng(0), 1000
    x, membrane = (rng.integers(-(2**20), 2**20, SIZE).astype(np.int32) for _ in range(2))
    decay, acc = rng.integers(0, 256, SIZE).astype(np.uint16), np.zeros(SIZE, np.int32)
    seconds = best(lambda: decayed(x, decay, membrane, acc, repeats)) / repeats / SIZE
    yield Kernel("add-only: serial decay, 8 bits", "neuron", 1e9 * seconds, 8 * SERIAL * limit.add / NEURONS)


KERNELS = (row_kernels, dense_kernels, neuron_kernels, list_kernels, move_kernels, stem_kernels, serial_kernel)


def main() -> None:
    """Print the table, in Markdown where the output is a file."""
    limit = machine()
    table = Table("kernel", "ns", "per", "limit ns", "of the limit", title="One thread, best of 30", box=MARKDOWN)
    for name, unit in LIMITS.items():
        table.add_row(name, f"{getattr(limit, unit[0]):.3g}", unit[1], "", "")
    for kernel in (kernel for kernels in KERNELS for kernel in kernels(limit)):
        share = f"{kernel.limit / kernel.took:.0%}"
        table.add_row(kernel.name, f"{kernel.took:.3g}", kernel.unit, f"{kernel.limit:.3g}", share)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
