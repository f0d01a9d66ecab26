"""What this machine can add and load, and how close each kernel of the engine comes to it.

    python -m benchmarks.limits

One thread, processor time of the best of many short runs. Adds: 16 bit additions of independent vectors in registers.
Loads: cache lines read in an irregular order from arrays that fit the first and the second cache. A row of 64 weights
costs two additions and a shift and one line, which gives the limit that its kernel is held against.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from rich.console import Console
from rich.table import Table

from fixed_point.engine.blocks import CHUNK, add_rows, add_rows_twice, fire_drawn, fire_given, loop
from fixed_point.engine.kernels import gather, jump, listed
from fixed_point.engine.lanes import INT16, INT64, Lanes, broadcast, build
from fixed_point.engine.plan import lined_up, windows
from fixed_point.network import Conv

LANES = CHUNK // 2
CHAINS = 8
FIRST, SECOND = 256, 8192
"""Rows of 64 bytes that stay in the first cache (16 KiB) and in the second (512 KiB)."""


@intrinsic
def add_chains(typing, seed, count):
    """count times eight independent vector additions of 32 numbers of 16 bits each."""

    def write(builder, seed, count):
        places = [cgutils.alloca_once(builder, ir.VectorType(INT16, LANES)) for _ in range(CHAINS)]
        given = broadcast(builder, builder.trunc(seed, INT16), LANES)
        for place in places:
            builder.store(given.value, place)
        with loop(builder, INT64(0), count) as (position, _):
            # a number that changes keeps the compiler from multiplying instead
            more = broadcast(builder, builder.trunc(position, INT16), LANES) ^ given
            for place in places:
                builder.store((Lanes(builder, builder.load(place)) + more).value, place)
        return _combined(builder, places)

    return build(types.int64, (seed, count), write)


@intrinsic
def read_lines(typing, lines, order, stop):
    """Exclusive or of the lines of 64 bytes in the order given: one load and one operation each."""

    def write(builder, lines, order, stop):
        kind = ir.VectorType(INT16, LANES)
        places = [cgutils.alloca_once(builder, kind) for _ in range(2)]
        for place in places:
            builder.store(ir.Constant(kind, None), place)
        with loop(builder, INT64(0), stop, 2) as (position, _):
            for next_one, place in enumerate(places):
                row = builder.zext(order.item(builder.add(position, INT64(next_one))), INT64)
                line = lines.load(builder.shl(row, INT64(6)), LANES, INT16)
                builder.store((Lanes(builder, builder.load(place)) ^ line).value, place)
        return _combined(builder, places)

    return build(types.int64, (lines, order, stop), write)


def _combined(builder, places):
    """One number that depends on every vector, so that none is left out."""
    whole = Lanes(builder, builder.load(places[0]))
    for place in places[1:]:
        whole = whole ^ Lanes(builder, builder.load(place))
    return builder.zext(builder.extract_element(whole.value, ir.IntType(32)(0)), INT64)


@njit
def adds(count):
    return add_chains(count, count)


@njit
def loads(lines, order):
    return read_lines(lines, order, len(order))


@njit
def rows_once(weight, rows, per, sums):
    for start in range(0, len(rows) - per + 1, per):
        add_rows(weight, 0, rows, start, start + per, sums, 0)


@njit
def rows_twice(weight, second, rows, per, sums):
    for start in range(0, len(rows) - per + 1, per):
        add_rows_twice(weight, 0, second, rows, start, start + per, sums, 0)


@njit
def neurons_drawn(level, table, registers, membrane, before, spikes, repeats):
    for _ in range(repeats):
        fire_drawn(
            level, level, 0, level, 6, 8, table, registers, 0, membrane, before, 0, spikes, 0, len(level)
        )  # fmt: skip


@njit
def neurons_given(level, decays, membrane, before, spikes, repeats):
    for _ in range(repeats):
        fire_given(level, level, 0, level, 6, 8, decays, 0, membrane, before, 0, spikes, 0, len(level))


@njit
def gathered(window, lists, begins, per_tap, rows):
    count = 0
    for pixel in range(len(window)):
        for t in range(len(begins)):
            count += gather(window, pixel, lists, begins, t, 0, per_tap, rows)
    return count


def best(call: Callable[[], object], runs: int = 30) -> float:
    """Least processor time of one call in seconds; the first, which compiles, does not count."""
    call()
    found = float("inf")
    for _ in range(runs):
        start = thread_time()
        call()
        found = min(found, thread_time() - start)
    return found


def machine() -> dict[str, float]:
    """Limits: nanoseconds for 32 additions of 16 bits, and for one line from either cache."""
    rng, count = np.random.default_rng(0), 200_000
    seconds = {"add": best(lambda: adds(count)) / (count * CHAINS)}
    for name, size in (("first", FIRST), ("second", SECOND)):
        lines = lined_up(np.ones(size * CHUNK, np.int8))
        order = rng.integers(0, size, 100_000).astype(np.uint32)
        seconds[name] = best(lambda lines=lines, order=order: loads(lines, order)) / len(order)  # type: ignore[misc]
    return {name: value * 1e9 for name, value in seconds.items()}


def row_kernels() -> dict[str, tuple[float, str]]:
    """ns per row of 64 weights, and the cache it is fed from."""
    found = {}
    for cache, size in (("first", FIRST), ("second", SECOND)):
        for per in (16, 120):
            for name, seconds in _rows(size, per).items():
                found[f"{name}, {per} a call, {cache} cache"] = seconds * 1e9, cache
    return found


def _rows(size: int, per: int) -> dict[str, float]:
    """Seconds per row where `size` rows lie in memory and each call adds `per` of them."""
    rng, half = np.random.default_rng(0), size // 2
    weight, sums = lined_up(rng.integers(-9, 9, size * CHUNK).astype(np.int8)), np.zeros(2 * CHUNK, np.int32)
    rows = np.sort(rng.integers(0, half, (400, per)), axis=1).astype(np.uint32).reshape(-1)
    return {
        "add_rows": best(lambda: rows_once(weight, rows, per, sums)) / len(rows),
        "add_rows_twice": best(lambda: rows_twice(weight, half * CHUNK, rows, per, sums)) / len(rows) / 2,
    }


def other_kernels() -> dict[str, float]:
    """ns per neuron, per pixel and step of a 3x3 convolution of 128 channels at 10 % activity, and per jump."""
    rng, size, repeats = np.random.default_rng(0), 128, 1000
    level, registers = np.full(size, 999, np.int32), rng.integers(1, 2**32, size).astype(np.uint32)
    table, spikes = rng.integers(0, 256, 512).astype(np.uint8), np.zeros(size, np.uint8)
    state = np.zeros(size, np.int32), np.zeros(size, np.int32), spikes, repeats
    values = (rng.random((8, 1024, size)) < 0.1).astype(np.uint8)
    lists, begins, _ = listed(values, 0, size, 1)
    window = windows(Conv(np.ones((1, 1, 3, 3), np.int8), padding=(1, 1)), (size, 32, 32))
    rows, many = np.empty(9 * size + 16, np.uint32), registers.repeat(64)
    return {
        "fire_drawn, per neuron": best(lambda: neurons_drawn(level, table, registers, *state)) / repeats / size,
        "fire_given, per neuron": best(lambda: neurons_given(level, level, *state)) / repeats / size,
        "listed, per pixel and step": best(lambda: listed(values, 0, size, 1)) / 8192,
        "gather, per pixel and step": best(lambda: gathered(window, lists, begins, size, rows)) / 8192,
        "jump, per register": best(lambda: jump(many, many[:32])) / len(many),
    }


def main() -> None:
    """Print the table."""
    limit = machine()
    table = Table("kernel", "ns", "G adds/s", "limit ns", "of the limit", title="One thread, best of 30")
    adds_per_second = LANES / limit["add"]
    table.add_row("16 bit additions in registers", f"{limit['add']:.3f}", f"{adds_per_second:.0f}", "", "")
    for cache in ("first", "second"):
        table.add_row(f"a line of 64 bytes, {cache} cache", f"{limit[cache]:.3f}", "", "", "")
    for name, (took, cache) in row_kernels().items():
        least = max(3 * limit["add"], limit[cache])
        table.add_row(name, f"{took:.3f}", f"{CHUNK / took:.0f}", f"{least:.3f}", f"{least / took:.0%}")
    for name, seconds in other_kernels().items():
        table.add_row(name, f"{seconds * 1e9:.2f}", "", "", "")
    Console().print(table)


if __name__ == "__main__":
    main()
