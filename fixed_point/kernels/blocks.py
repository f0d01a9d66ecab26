"""The inner loops as vectors: adding weight rows, the neuron update with its draws, marking active inputs."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from randhet.fixed_point.kernels.compiled import inner
from randhet.fixed_point.kernels.draws import table_reader
from randhet.fixed_point.kernels.lanes import (
    INT8,
    INT16,
    INT32,
    INT64,
    Array,
    Lanes,
    broadcast,
    build,
    compress,
    has,
    short_products,
)

CHUNK = 64
"""Output channels whose sums are kept in registers together; tiles are padded to a multiple."""
FLUSH = 256
"""Rows whose sums cannot leave 16 bits: 256 * 127 < 2^15 for signed bytes, 256 * 255 < 2^16 for shifted ones."""
NEURONS = 16
"""Neurons of one vector."""
GROUPS = 4
"""Vectors updated by one pass: their decays are looked up together."""
SPLIT = 12
"""Low bits of a difference that are multiplied by themselves; k is at most as large."""
Decays = Callable[[Any], list[Lanes]]
"""Makes the code of the decays of 64 neurons from a position on, four vectors of 16."""
LIMIT = 2**23 - 1
"""STATE_MAX, a plain constant for the compiler."""
CLAMP = 2**25
"""A sum this far out saturates whatever the bias is; clamping before the shift keeps it in 32 bits."""


def loop(builder: Any, start: Any, stop: Any, step: int = 1) -> Any:
    """A counted loop over 64 bit positions."""
    return cgutils.for_range_slice(builder, start, stop, INT64(step), INT64)


@intrinsic
def add_rows(typing, weight, base, rows, start, stop, sums, first):
    """sums[first : first+64] += the rows `rows[start:stop]` (at most 256) of the chunk of weights that begins at base.

    A row is 64 bytes, read as 32 words of 16 bits: low bytes w + 128 of channels 0..31, high bytes w of 32..63. The
    words and their high halves are summed modulo 2^16, from which both sums follow exactly: two additions and a shift
    for 64 weights, where sign extension would take four instructions.
    """

    def write(builder, weight, base, rows, start, stop, sums, first):
        _add_rows(builder, weight, [base], rows, start, stop, sums, first)

    return build(types.void, (weight, base, rows, start, stop, sums, first), write)


@intrinsic
def add_rows_twice(typing, weight, base, second, rows, start, stop, sums, first):
    """Add as `add_rows` does for two chunks at once: 128 sums."""

    def write(builder, weight, base, second, rows, start, stop, sums, first):
        _add_rows(builder, weight, [base, second], rows, start, stop, sums, first)

    return build(types.void, (weight, base, second, rows, start, stop, sums, first), write)


def _add_rows(builder, weight, bases, rows, start, stop, sums, first):
    none = ir.Constant(ir.VectorType(INT16, CHUNK // 2), None)
    # a loop in LLVM has no variables of its own; places on the stack become registers, as none has its address taken
    places = [[cgutils.alloca_once(builder, none.type) for _ in range(2)] for _ in bases]
    for slot in (slot for pair in places for slot in pair):
        builder.store(none, slot)
    with loop(builder, start, stop) as (position, _):
        # a row is 64 bytes
        row = builder.shl(builder.zext(rows.item(position), INT64), INT64(6))
        for base, (words, highs) in zip(bases, places):
            word = weight.load(builder.add(base, row), CHUNK // 2, INT16)
            builder.store((Lanes(builder, builder.load(words)) + word).value, words)
            # the arithmetic shift keeps the sign of the high byte and drops the low one
            builder.store((Lanes(builder, builder.load(highs)) + (word >> 8)).value, highs)
    count = builder.trunc(builder.sub(stop, start), INT32)
    shifted = broadcast(builder, builder.shl(count, INT32(7)), CHUNK // 2)
    for chunk, (words, highs) in enumerate(places):
        high = Lanes(builder, builder.load(highs))
        # a word is low + 256 * high modulo 2^16, so the sum of the highs tells that of the lows
        low = Lanes(builder, builder.load(words)) - (high << 8)
        # each low byte was w + 128: 128 times their number is taken off again
        for offset, sixteen_sums in ((0, low.widen(INT32, signed=False) - shifted), (CHUNK // 2, high.widen(INT32))):
            slot = builder.add(first, INT64(chunk * CHUNK + offset))
            sums.store(slot, sums.load(slot, CHUNK // 2) + sixteen_sums)


def current(sums: Lanes, bias: Lanes, f: Lanes) -> tuple[Lanes, Lanes]:
    """sat24((sums << f) + bias), and a bit for each lane that saturated."""
    # before the shift, in units of the sums: behind it nothing can leave 32 bits
    edge = Lanes(f.builder, f._same(CLAMP)) >> f
    wide = (sums.clamp(edge * -1, edge) << f) + bias
    held = wide.clamp(-LIMIT, LIMIT)
    return held, wide.compare("!=", held)


def leak(x: Lanes, membrane: Lanes, decay: Lanes, k: Lanes) -> Lanes:
    """m = x + ((A*(m - x)) >> k), k and A < 2^k of at most 12 bits, in products of 16 bit numbers.

    The difference is split at bit 12: h*2^12 + l, l >= 0. A*h*2^12 has no bits below k, so the shift is that of A*l
    alone: x + (A << (12 - k))*h + ((A*l) >> k). m stays between its two ends, which are 24 bit: it cannot saturate.
    """
    difference = membrane - x
    # a difference of two states has 25 bits, so h has 13 and both factors fit 16
    high = short_products(decay << (k * -1 + SPLIT), difference >> SPLIT)
    return x + high + (short_products(decay, difference & (2**SPLIT - 1)) >> k)


@intrinsic
def fire_drawn(typing, levels, row, table, draws, draws_at):
    """Step a `bundles.Row` of the LIF family whose decays are looked up for the draws in the blocks from `draws_at`.

    levels: `bundles.Levels`; table: `bundles.Decays.table`; draws: see `kernels.draws`. Returns the number of spikes
    << 32 | that of currents that saturated.
    """

    def write(builder, levels, row, table, draws, draws_at):
        def step(wide):
            look = table_reader(builder, table, wide)
            return _fire(builder, levels, row, drawn(builder, look, draws, draws_at))

        # decays of up to 8 bits need the low bytes of the table only: two loops, chosen once a row
        tally = cgutils.alloca_once(builder, INT64)
        with builder.if_else(builder.icmp_signed(">", levels.k, INT64(8))) as (more, byte):
            with more:
                builder.store(step(True), tally)
            with byte:
                builder.store(step(False), tally)
        return builder.load(tally)

    return build(types.int64, (levels, row, table, draws, draws_at), write)


def drawn(builder: Any, look: Callable[[Array, Any], list[Lanes]], draws: Array, start: Any) -> Decays:
    """Code of the decays of 64 neurons, whose draws lie in the block of these neurons."""
    return lambda position: look(draws, builder.add(start, builder.shl(position, INT64(2))))


@intrinsic
def fire_given(typing, levels, row, decays, decays_at):
    """Step a `bundles.Row` with the decays (int32) from `decays_at`; arguments and result as `fire_drawn`'s."""

    def write(builder, levels, row, decays, decays_at):
        return _fire(builder, levels, row, held(builder, decays, decays_at))

    return build(types.int64, (levels, row, decays, decays_at), write)


def held(builder: Any, decays: Array, start: Any) -> Decays:
    """Code of the decays of 64 neurons, which lie in memory."""

    def load(position: Any) -> list[Lanes]:
        first = builder.add(start, position)
        return [decays.load(builder.add(first, INT64(group * NEURONS)), NEURONS) for group in range(GROUPS)]

    return load


class Reset:
    """Code of what a spike does to membrane potentials: at once, or late and with a floor where `levels` has these."""

    def __init__(self, builder: Any, levels: Any) -> None:
        number = lambda value: broadcast(builder, builder.trunc(value, INT32), NEURONS)
        self.levels, self.keep = levels, number(levels.keep)
        self.late = number(levels.late) if hasattr(levels, "late") else None

    def left(self, m: Lanes, threshold: Lanes) -> Lanes:
        """What a spike leaves of m."""
        # keep is all ones or none: m - theta, or zero. One masked instruction more than a plain reset, where a branch
        # would double the code
        return (m - threshold) & self.keep

    def before(self, m: Lanes, stood: Lanes, threshold: Lanes, place: Any) -> tuple[Lanes, Lanes | None]:
        """m after a reset of the step before and the floor, and which lanes saturated; stood: m of the step before."""
        if self.late is None:
            return m, None
        fired = stood.compare(">", threshold) & self.late.compare("!=", 0)
        moved = fired.where(self.left(m, threshold), m)
        held = moved.compare("<", -LIMIT).where(-LIMIT, moved)
        floor = self.levels.floor.load(place, NEURONS)
        return held.compare("<", floor).where(floor, held), moved.compare("!=", held)

    def after(self, m: Lanes, spiking: Lanes, threshold: Lanes) -> Lanes:
        """What is kept for the next step, which does a late reset itself."""
        if self.late is not None:
            spiking = spiking & self.late.compare("==", 0)
        return spiking.where(self.left(m, threshold), m)


def _fire(builder: Any, levels: Any, row: Any, decays: Decays) -> Any:
    """Write code for one step of a row; decays(position) writes that for the decays of 64 neurons, 16 by 16."""
    f, k = (broadcast(builder, builder.trunc(number, INT32), NEURONS) for number in (levels.f, levels.k))
    reset, clipped, fired = Reset(builder, levels), Tally(builder), Tally(builder)
    with loop(builder, INT64(0), row.count, GROUPS * NEURONS) as (position, _):
        places = [builder.add(position, INT64(group * NEURONS)) for group in range(GROUPS)]
        for place, decay in zip(places, decays(position)):
            bias = levels.bias.load(builder.add(row.bias_at, place), NEURONS)
            x, outside = current(row.sums.load(builder.add(row.sums_at, place), NEURONS), bias, f)
            threshold, stood = levels.threshold.load(place, NEURONS), row.membrane.load(place, NEURONS)
            m, below = reset.before(leak(x, stood, decay, k), stood, threshold, place)
            spiking = m.compare(">", threshold)
            clipped.add(outside)
            if below is not None:
                clipped.add(below)
            fired.add(spiking)
            row.before.store(builder.add(row.before_at, place), m)
            row.membrane.store(place, reset.after(m, spiking, threshold))
            row.spikes.store(builder.add(row.spikes_at, place), spiking.widen(INT8, signed=False))
    # both counts in one number: an intrinsic that returned two would build a tuple in memory
    return builder.or_(builder.shl(fired.total(), INT64(32)), clipped.total())


class Tally:
    """Counts bits set."""

    def __init__(self, builder: Any) -> None:
        self.builder, self.place = builder, cgutils.alloca_once(builder, INT64)
        builder.store(INT64(0), self.place)

    def add(self, bits: Lanes) -> None:
        more = self.builder.zext(self.builder.ctpop(bits.bits()), INT64)
        self.builder.store(self.builder.add(self.builder.load(self.place), more), self.place)

    def total(self) -> Any:
        """As a 64 bit number."""
        return self.builder.load(self.place)


@intrinsic
def append(typing, rows, end, lists, start, stop, base):
    """rows[end : end + stop - start] = base + lists[start:stop] (uint32), by sixteens: it writes up to 15 more."""
    return build(types.void, (rows, end, lists, start, stop, base), _append)


def _append(builder, rows, end, lists, start, stop, base):
    shift = broadcast(builder, builder.trunc(base, INT32), NEURONS)
    ahead = builder.sub(end, start)
    # whole vectors: what is written behind the end is overwritten by the next list, or lies in the slack
    with loop(builder, start, stop, NEURONS) as (position, _):
        rows.store(builder.add(position, ahead), lists.load(position, NEURONS) + shift)


@intrinsic
def marked(typing, values, position, plane):
    """64 elements of values from a position, as one number: bit i is bit `plane` of element i."""
    return build(types.uint64, (values, position, plane), _marked)


def _marked(builder, values, position, plane):
    kind = values.data.type.pointee
    shift = builder.trunc(plane, kind) if kind.width < 64 else plane
    # a comparison of 64 elements is a vector of 64 bits, which is a word
    bit = broadcast(builder, builder.shl(kind(1), shift), CHUNK)
    return (values.load(position, CHUNK) & bit).compare("!=", 0).bits()


@intrinsic
def first_bit(typing, word):
    """Number of the lowest bit set (word is not 0)."""
    return build(types.int64, (word,), lambda builder, value: builder.cttz(value, ir.IntType(1)(1)))


@intrinsic
def append_bits(typing, lists, end, word, base):
    """lists[end...] = base + the numbers of the bits set in a word, ascending; up to 15 more. Returns the end.

    Only for processors that gather chosen lanes (AVX-512).
    """
    return build(types.int64, (lists, end, word, base), _append_bits)


def _append_bits(builder, lists, end, word, base):
    shift = broadcast(builder, builder.trunc(base, INT32), NEURONS)
    for first in range(0, CHUNK, NEURONS):
        sixteen = builder.trunc(builder.lshr(word, INT64(first)), INT16)
        numbers = shift + Lanes(builder, ir.Constant(shift.value.type, [first + i for i in range(NEURONS)]))
        # sixteen are written, as many count as bits are set; the next sixteen begin behind those
        lists.store(end, compress(builder, numbers, sixteen))
        end = builder.add(end, builder.zext(builder.ctpop(sixteen), INT64))
    return end


@intrinsic
def bits_set(typing, word):
    """Count the bits of a word that are set."""
    return build(types.int64, (word,), lambda builder, value: builder.ctpop(value))


if has("avx512f"):

    @inner(forceinline=True)
    def append_word(lists, n, word, base):
        """lists[n...] = base + the numbers of the bits set in a word of 64. Returns where the list ends."""
        return append_bits(lists, n, word, base)

else:

    @inner(forceinline=True)
    def append_word(lists, n, word, base):
        """Do so bit by bit."""
        while word:
            lists[n] = base + first_bit(word)
            n += 1
            # takes the lowest bit away: below it, minus one turns every zero into a one
            word &= word - np.uint64(1)
        return n
