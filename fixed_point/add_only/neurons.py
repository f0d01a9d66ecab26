"""Neurons of the LIF family updated as vectors, the product of decay and difference by additions and shifts.

One pass over a row of neurons: current, draw, decay, threshold, reset. Sums stay in registers from bit to bit. The
current, the draw and the table look-up are the engine's (`kernels.blocks`), which are free of multiplication too.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from randhet.fixed_point.kernels.blocks import CHUNK, NEURONS, Decays, Reset, Tally, current, drawn, held, loop
from randhet.fixed_point.kernels.draws import table_reader
from randhet.fixed_point.kernels.lanes import INT8, INT32, INT64, Array, Lanes, broadcast, build

GROUPS = 2
"""Vectors of 16 neurons at a time: each addition waits for the shift before it, and other vectors fill the time."""


def products(builder: Any, differences: list[Lanes], decays: list[Lanes], k: Any) -> list[Lanes]:
    """(A*d) >> k for every vector: k times, from the lowest bit of A up, acc = (acc + (d if the bit is set)) >> 1.

    Exact, because a floor of halves of floors is the floor of the quotient; acc never leaves 26 bits.
    """
    none = ir.Constant(differences[0].value.type, None)
    slots = [[cgutils.alloca_once(builder, none.type) for _ in range(2)] for _ in decays]
    for (acc, left), decay in zip(slots, decays):
        builder.store(none, acc)
        builder.store(decay.value, left)
    with loop(builder, INT64(0), k):
        for (acc, left), difference in zip(slots, differences):
            so_far, decay = (Lanes(builder, builder.load(slot)) for slot in (acc, left))
            more = (decay & 1).compare("!=", 0).where(so_far + difference, so_far)
            builder.store((more >> 1).value, acc)
            builder.store(decay.unsigned_shift(1).value, left)
    return [Lanes(builder, builder.load(acc)) for acc, _ in slots]


class Row(NamedTuple):
    """Where the code for a row of neurons reads and writes: bundles of `Levels` and `Cells` with LLVM's values in them.

    Spikes go to `spikes` from `spikes_at` on.
    """

    sums: Array
    levels: Any
    bias_at: Any
    cells: Any
    spikes: Array
    spikes_at: Any


def fire(builder: Any, row: Row, k: Any, decays: Decays) -> Any:
    """Code for one step; decays(position) makes the code for the decays of the 64 neurons from there on."""
    reset, clipped, fired = Reset(builder, row.levels), Tally(builder), Tally(builder)
    with loop(builder, INT64(0), row.cells.neurons, CHUNK) as (position, _):
        found = decays(position)
        for first in range(0, len(found), GROUPS):
            groups = range(first, first + GROUPS)
            starts = [builder.add(position, INT64(group * NEURONS)) for group in groups]
            _fire_some(builder, row, k, starts, found[first : first + GROUPS], reset, clipped, fired)
    return builder.or_(builder.shl(fired.total(), INT64(32)), clipped.total())


def _fire_some(
    builder: Any, row: Row, k: Any, starts: list[Any], decays: list[Lanes], reset: Reset, clipped: Tally, fired: Tally
) -> None:
    """Code for the 16 neurons from each start, and for counting what saturates and fires."""
    inflow = [_current(builder, row, start) for start in starts]
    stood = [row.cells.membrane.load(start, NEURONS) for start in starts]
    leaks = products(builder, [m - x for m, (x, _) in zip(stood, inflow)], decays, k)
    for start, (x, outside), before, leak in zip(starts, inflow, stood, leaks):
        clipped.add(outside)
        threshold = row.levels.threshold.load(start, NEURONS)
        # x + leak lies between m and x, which are 24 bit: it cannot saturate
        m, below = reset.before(x + leak, before, threshold, start)
        if below is not None:
            clipped.add(below)
        fired.add(_spike(builder, row, start, m))


def _current(builder: Any, row: Row, start: Any) -> tuple[Lanes, Lanes]:
    """Currents of 16 neurons, and which of them saturated."""
    f = broadcast(builder, builder.trunc(row.levels.f, INT32), NEURONS)
    bias = row.levels.bias.load(builder.add(row.bias_at, start), NEURONS)
    return current(row.sums.load(start, NEURONS), bias, f)


def _spike(builder: Any, row: Row, start: Any, m: Lanes) -> Lanes:
    """Threshold and reset of 16 membrane potentials; returns which of them spike."""
    threshold = row.levels.threshold.load(start, NEURONS)
    spiking = m.compare(">", threshold)
    row.cells.before.store(start, m)
    row.cells.membrane.store(start, Reset(builder, row.levels).after(m, spiking, threshold))
    row.spikes.store(builder.add(row.spikes_at, start), spiking.widen(INT8, signed=False))
    return spiking


@intrinsic
def fire_drawn(typing, sums, levels, bias_at, cells, spikes, spikes_at, draws, draws_at):
    """One step of a row of neurons that draw their decays, in the blocks from draws_at on.

    Spikes go to `spikes` from spikes_at on, membranes before the reset to the cells. Returns the number of spikes << 32
    | the number of currents that saturated.
    """

    def write(builder, *arguments):
        *row, draws, draws_at = arguments

        def step(wide):
            look = table_reader(builder, draws.table, wide)
            return fire(builder, Row(*row), draws.k, drawn(builder, look, draws.blocks, draws_at))

        # a decay of at most 8 bits has no high byte to look up
        tally = cgutils.alloca_once(builder, INT64)
        with builder.if_else(builder.icmp_signed(">", draws.k, INT64(8))) as (more, byte):
            with more:
                builder.store(step(True), tally)
            with byte:
                builder.store(step(False), tally)
        return builder.load(tally)

    return build(types.int64, (sums, levels, bias_at, cells, spikes, spikes_at, draws, draws_at), write)


@intrinsic
def fire_given(typing, sums, levels, bias_at, cells, spikes, spikes_at, given, decay_at):
    """The same with the given decays from decay_at on."""

    def write(builder, *arguments):
        *row, given, decay_at = arguments
        return fire(builder, Row(*row), given.k, held(builder, given.decays, decay_at))

    return build(types.int64, (sums, levels, bias_at, cells, spikes, spikes_at, given, decay_at), write)


@intrinsic
def leak_row(typing, x, membrane, membrane_at, decays, decays_at, k, acc, count):
    """acc <- x + ((A*(m - x)) >> k) for a row of neurons, A uint16: the decay by itself."""

    def write(builder, x, membrane, membrane_at, decays, decays_at, k, acc, count):
        with loop(builder, INT64(0), count, GROUPS * NEURONS) as (position, _):
            starts = [builder.add(position, INT64(group * NEURONS)) for group in range(GROUPS)]
            levels = [x.load(start, NEURONS) for start in starts]
            own = [membrane.load(builder.add(membrane_at, start), NEURONS) for start in starts]
            short = [decays.load(builder.add(decays_at, start), NEURONS) for start in starts]
            differences = [m - level for m, level in zip(own, levels)]
            leaks = products(builder, differences, [decay.widen(INT32, signed=False) for decay in short], k)
            for start, level, leak in zip(starts, levels, leaks):
                acc.store(start, level + leak)

    return build(types.void, (x, membrane, membrane_at, decays, decays_at, k, acc, count), write)
