"""Neurons of the LIF family updated as vectors, the product of decay and difference by additions and shifts.

One pass over a row of neurons: current, draw, decay, threshold, reset. Sums stay in registers from bit to bit. The
current, the draw and the table look-up are the engine's (`engine.blocks`), which are free of multiplication too.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from randhet.fixed_point.kernels.blocks import NEURONS, Tally, current, drawn, loop, shuffled, table_reader
from randhet.fixed_point.kernels.lanes import INT8, INT32, INT64, Array, Lanes, broadcast, build

GROUPS = 2
"""Vectors of 16 neurons in one pass: each addition waits for the shift before it, and other vectors fill the time."""


def products(builder: Any, differences: list[Lanes], decays: list[Lanes], k: Any) -> list[Lanes]:
    """(A*d) >> k for every vector: k times, from the lowest bit of A up, acc = (acc + (d if the bit is set)) >> 1."""
    none = ir.Constant(differences[0].value.type, None)
    places = [[cgutils.alloca_once(builder, none.type) for _ in range(2)] for _ in decays]
    for (acc, left), decay in zip(places, decays):
        builder.store(none, acc)
        builder.store(decay.value, left)
    with loop(builder, INT64(0), k):
        for (acc, left), difference in zip(places, differences):
            so_far, decay = (Lanes(builder, builder.load(place)) for place in (acc, left))
            more = (decay & 1).compare("!=", 0).where(so_far + difference, so_far)
            builder.store((more >> 1).value, acc)
            builder.store(decay.unsigned_shift(1).value, left)
    return [Lanes(builder, builder.load(acc)) for acc, _ in places]


@dataclass(frozen=True, eq=False)
class Row:
    """Where a row of neurons reads and writes; `count` of them, a multiple of 64."""

    sums: Array
    bias: Array
    bias_at: Any
    threshold: Array
    f: Any
    k: Any
    membrane: Array
    before: Array
    before_at: Any
    spikes: Array
    spikes_at: Any
    count: Any


def fire(builder: Any, row: Row, decays: Callable[[list[Any]], list[Lanes]]) -> Any:
    """Code for one step; decays(places) makes the code for the decays of the 16 neurons from each place."""
    f = broadcast(builder, builder.trunc(row.f, INT32), NEURONS)
    clipped, fired = Tally(builder), Tally(builder)
    with loop(builder, INT64(0), row.count, GROUPS * NEURONS) as (position, _):
        places = [builder.add(position, INT64(group * NEURONS)) for group in range(GROUPS)]
        levels, differences = [], []
        for place in places:
            bias = row.bias.load(builder.add(row.bias_at, place), NEURONS)
            x, outside = current(row.sums.load(place, NEURONS), bias, f)
            clipped.add(outside)
            levels.append(x)
            differences.append(row.membrane.load(place, NEURONS) - x)
        leaks = products(builder, differences, decays(places), row.k)
        for place, x, leak in zip(places, levels, leaks):
            # between its two ends, which are 24 bit: it cannot saturate
            m = x + leak
            spiking = m.compare(">", row.threshold.load(place, NEURONS))
            fired.add(spiking)
            row.before.store(builder.add(row.before_at, place), m)
            row.membrane.store(place, spiking.where(0, m))
            row.spikes.store(builder.add(row.spikes_at, place), spiking.widen(INT8, signed=False))
    return builder.or_(builder.shl(fired.total(), INT64(32)), clipped.total())


@intrinsic
def fire_drawn(
    typing, sums, bias, bias_at, threshold, f, k, membrane, before, before_at, spikes, spikes_at, count,
    table, registers, registers_at,
):  # fmt: skip
    """One step of a row of neurons that draw their decays: arguments and result as the engine's of this name."""

    def write(builder, *arguments):
        *row, table, registers, registers_at = arguments
        neurons = Row(*row)

        def step(wide):
            look = table_reader(builder, table, wide)
            return fire(builder, neurons, drawn(builder, look, registers, registers_at, shuffled))

        tally = cgutils.alloca_once(builder, INT64)
        with builder.if_else(builder.icmp_signed(">", neurons.k, INT64(8))) as (more, byte):
            with more:
                builder.store(step(True), tally)
            with byte:
                builder.store(step(False), tally)
        return builder.load(tally)

    arguments = (
        sums, bias, bias_at, threshold, f, k, membrane, before, before_at, spikes, spikes_at, count,
        table, registers, registers_at,
    )  # fmt: skip
    return build(types.int64, arguments, write)


@intrinsic
def fire_given(
    typing, sums, bias, bias_at, threshold, f, k, membrane, before, before_at, spikes, spikes_at, count,
    decays, decays_at,
):  # fmt: skip
    """The same with the decays (int32) that begin at `decays_at`."""

    def write(builder, *arguments):
        *row, decays, decays_at = arguments
        load = lambda places: [decays.load(builder.add(decays_at, place), NEURONS) for place in places]
        return fire(builder, Row(*row), load)

    arguments = (
        sums, bias, bias_at, threshold, f, k, membrane, before, before_at, spikes, spikes_at, count,
        decays, decays_at,
    )  # fmt: skip
    return build(types.int64, arguments, write)


@intrinsic
def leak_row(typing, x, membrane, membrane_at, decays, decays_at, k, acc, count):
    """acc <- x + ((A*(m - x)) >> k) for a row of neurons, A uint16: the decay by itself."""

    def write(builder, x, membrane, membrane_at, decays, decays_at, k, acc, count):
        with loop(builder, INT64(0), count, GROUPS * NEURONS) as (position, _):
            places = [builder.add(position, INT64(group * NEURONS)) for group in range(GROUPS)]
            levels = [x.load(place, NEURONS) for place in places]
            own = [membrane.load(builder.add(membrane_at, place), NEURONS) for place in places]
            short = [decays.load(builder.add(decays_at, place), NEURONS) for place in places]
            differences = [m - level for m, level in zip(own, levels)]
            leaks = products(builder, differences, [decay.widen(INT32, signed=False) for decay in short], k)
            for place, level, leak in zip(places, levels, leaks):
                acc.store(place, level + leak)

    return build(types.void, (x, membrane, membrane_at, decays, decays_at, k, acc, count), write)
