"""The kernels: event-driven sums, output-stationary, and the neuron update fused with its random draws.

Activity is stored channels last, (rows, pixels, channels). For each output pixel the active inputs of its window become
a list of weight rows; `blocks` adds the rows and updates the neurons. What kernels are told is in `bundles`.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from randhet.fixed_point.kernels.blocks import (
    CHUNK,
    FLUSH,
    LIMIT,
    add_rows,
    add_rows_twice,
    append,
    append_bits,
    fire_drawn,
    fire_given,
    first_bit,
    marked,
)
from randhet.fixed_point.kernels.bundles import Row
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.dense import arranged, crowded, products, together
from randhet.fixed_point.kernels.lanes import has

DENSE = 8
"""A multiplication costs about as much as adding this many rows."""
MOST_PLANES = 8
"""Values of more bits are always multiplied."""
SLACK = 16
"""Entries that list makers may write behind the end."""


class Active(NamedTuple):
    """Active inputs of a source: lists of channels, flat, those of pixel p from begins[t, plane, p] to the next.

    multiply (T,): steps at which each value is multiplied instead. rows: room for the weight rows of one window.
    """

    lists: np.ndarray
    begins: np.ndarray
    multiply: np.ndarray
    rows: np.ndarray


class Crowded(NamedTuple):
    """Steps of a source at which so much is active that all of it is multiplied.

    chosen (T,): which; rank (T,): the row of each among their sums, from 1; at: where in the source's values each
    begins. group: pixels of one call of `products`, activity: the bytes it needs.
    """

    chosen: np.ndarray
    rank: np.ndarray
    at: np.ndarray
    group: int
    activity: np.ndarray


class Scratch(NamedTuple):
    """Memory of one tile's neurons: `width` channels, flat arrays whose rows are whole chunks.

    sums: the first row is `total`, of the step at hand, the others are of steps and pixels that were multiplied.
    registers: one row for every row of the output. spikes, before: the output itself where the tile is of whole chunks
    (`straight`), else one row, copied after each step.
    """

    width: int
    straight: bool
    sums: np.ndarray
    total: np.ndarray
    membrane: np.ndarray
    registers: np.ndarray
    spikes: np.ndarray
    before: np.ndarray


# --- lists of what is active --------------------------------------------------------------------------------------

if has("avx512f"):

    @inner(forceinline=True)
    def append_word(lists, n, word, base):
        """lists[n...] = base + the numbers of the bits set in a word of 64. Returns where the list ends."""
        return append_bits(lists, n, word, base)

else:

    @inner(forceinline=True)
    def append_word(lists, n, word, base):
        """The same bit by bit."""
        while word:
            lists[n] = base + first_bit(word)
            n += 1
            # takes the lowest bit away: below it, minus one turns every zero into a one
            word &= word - np.uint64(1)
        return n


@inner
def list_active(source, skipped, lists, begins):
    """For each step, bit plane and pixel, the channels of a `Source` whose value has that bit, numbered from its first.

    Steps that are `skipped` have no lists. Writes `Active.lists` and `Active.begins`.
    """
    steps, pixels, channels = source.values.shape
    flat, n = source.values.reshape(-1), 0
    for t in range(steps):
        for plane in range(0 if skipped[t] else source.planes):
            at = t * pixels * channels + source.first
            for pixel in range(pixels):
                begins[t, plane, pixel] = n
                c = 0
                while c + CHUNK <= source.per_tap:
                    n = append_word(lists, n, marked(flat, at + c, plane), c)
                    c += CHUNK
                # each is written, and stays where its bit is set: a branch would be guessed wrong too often
                while c < source.per_tap:
                    lists[n] = c
                    n += (flat[at + c] >> plane) & 1
                    c += 1
                at += channels
            begins[t, plane, pixels] = n


@kernel
def listed(source, skipped):
    """Active inputs of every step that differs and is not `skipped`; at which steps multiplying values costs less."""
    values, per_tap = source.values, source.per_tap
    steps, pixels = values.shape[0], values.shape[1]
    multiply, rows = np.zeros(steps, np.bool_), np.empty(source.window.shape[1] * per_tap + SLACK, np.uint32)
    if source.planes > MOST_PLANES:
        multiply[:] = True
        return Active(np.empty(0, np.uint32), np.empty((steps, 0, 1), np.int64), multiply, rows)
    lists = np.empty(steps * source.planes * pixels * per_tap + SLACK, np.uint32)
    begins = np.empty((steps, source.planes, pixels + 1), np.int64)
    list_active(source, skipped, lists, begins)
    if source.planes > DENSE // 2:
        for t in np.flatnonzero(~skipped):
            multiply[t] = begins[t, -1, -1] - begins[t, 0, 0] > DENSE * active_values(source, t)
    return Active(lists, begins, multiply, rows)


@inner
def active_values(source, t):
    """How many of the values that are read at step t are not zero."""
    active = 0
    for pixel in range(source.values.shape[1]):
        for c in range(source.per_tap):
            active += source.values[t, pixel, source.first + c] != 0
    return active


# --- synaptic sums of one pixel -----------------------------------------------------------------------------------


@inner(forceinline=True)
def gather(source, active, t, plane, pixel):
    """Weight rows of the window of an output pixel, written to active.rows. Returns how many."""
    n, tap_at = 0, 0
    for tap in range(source.window.shape[1]):
        seen = source.window[pixel, tap]
        if seen >= 0:
            start, stop = active.begins[t, plane, seen], active.begins[t, plane, seen + 1]
            append(active.rows, n, active.lists, start, stop, tap_at)
            n += stop - start
        tap_at += source.per_tap
    return n


@inner(forceinline=True)
def pixel_sums(source, packed, active, t, pixel, total):
    """Synaptic sums of one output pixel: total (channels of the tile) int32. Graded values by bit planes, doubled.

    packed: chunks of 64 channels, one after another, as `plan.pack` lays them out.
    """
    size, planes = (source.window.shape[1] * source.per_tap + 1) * CHUNK, active.begins.shape[1]
    total[:] = 0
    # from the highest bit down, so that doubling the sum so far gives each plane its weight
    for plane in range(planes - 1, -1, -1):
        if plane < planes - 1:
            for o in range(len(total)):
                total[o] += total[o]
        n, base, first = gather(source, active, t, plane, pixel), 0, 0
        # two chunks at once: the numbers of the rows are loaded half as often
        while first + 2 * CHUNK <= len(total):
            for start in range(0, n, FLUSH):
                add_rows_twice(packed, base, base + size, active.rows, start, min(start + FLUSH, n), total, first)
            base += 2 * size
            first += 2 * CHUNK
        if first < len(total):
            for start in range(0, n, FLUSH):
                add_rows(packed, base, active.rows, start, min(start + FLUSH, n), total, first)


@inner
def pixel_products(source, plain, t, pixel, total):
    """The same sums with multiplications, for graded inputs whose bit planes would cost more than they save."""
    total[:] = 0
    for tap in range(source.window.shape[1]):
        seen = source.window[pixel, tap]
        if seen >= 0:
            for c in range(source.per_tap):
                value = np.int32(source.values[t, seen, source.first + c])
                if value != 0:
                    row = plain[tap * source.per_tap + c]
                    for o in range(len(total)):
                        total[o] += value * np.int32(row[o])


@inner(forceinline=True)
def synapse(source, weights, active, t, pixel, total):
    """Sums of one output pixel at step t; where every step has the same input, those of step 0 stay."""
    if t > 0 and len(source.values) == 1:
        return
    if active.multiply[t]:
        pixel_products(source, weights.plain, t, pixel, total[: weights.plain.shape[1]])
    else:
        pixel_sums(source, weights.packed, active, t, pixel, total)


@kernel
def multiplied(source, weights):
    """The steps that are `Crowded`, none where weights.wide is empty, and rows of sums that they need."""
    chosen = np.zeros(len(source.values), np.bool_)
    if len(weights.wide) > 0:
        crowded(source, weights.limit, chosen)
    steps = arranged(chosen)
    group, space, seen = together(steps, source.window.shape[1] * source.per_tap)
    at = steps * (source.values.shape[1] * source.values.shape[2]) + source.first
    return Crowded(chosen, np.cumsum(chosen), at, group, np.zeros(seen, np.uint8)), space


@inner(forceinline=True)
def step_sums(source, weights, active, full, t, pixel, ahead, total):
    """The row of the sums of step t: behind `ahead` others where they were multiplied; else 0, total, made now."""
    read = min(t, len(source.values) - 1)
    if full.chosen[read]:
        return ahead + full.rank[read]
    synapse(source, weights, active, t, pixel, total)
    return 0


@kernel
def sum_tile(source, weights, out):
    """Synaptic sums of a layer without neurons for one image: out (rows, pixels, channels of the tile) int32."""
    active = listed(source, np.zeros(len(source.values), np.bool_))
    sum_pixels(source, weights, active, out, np.zeros(whole(weights.plain.shape[1]), np.int32))


@inner
def sum_pixels(source, weights, active, out, total):
    """The loop over pixels and rows of `sum_tile`."""
    for pixel in range(len(source.window)):
        for t in range(len(out)):
            synapse(source, weights, active, t, pixel, total)
            copy_to(out[t, pixel], total)


@inner(forceinline=True)
def copy_to(target, source):
    """target = the beginning of source."""
    for o in range(len(target)):
        target[o] = source[o]


@inner
def whole(width):
    """Channels filled up to whole chunks."""
    return (width + CHUNK - 1) // CHUNK * CHUNK


# --- registers ----------------------------------------------------------------------------------------------------


@inner
def jump(registers, columns):
    """Multiply every register by the matrix with these 32 columns: a jump over many draws."""
    for i in range(len(registers)):
        state, moved = registers[i], np.uint32(0)
        for bit in range(32):
            moved ^= columns[bit] & (np.uint32(0) - ((state >> np.uint32(bit)) & np.uint32(1)))
        registers[i] = moved


@kernel
def power(squarings, clocks):
    """The product of those of 32 commuting matrices (32, 32 columns) whose bit is set in clocks, as 32 columns."""
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
            moved = states[t - 1][ends]
            jump(moved, far)
            states[t][ends] = moved
    return states


# --- neurons of the LIF family ------------------------------------------------------------------------------------


@kernel
def lif_tile(source, weights, levels, decays, state, output):
    """One tile of channels of the LIF family: all steps of one image, or one step of each of several lanes (`State`).

    Pixel by pixel, all rows of one before the next: membranes, sums and registers stay in the first-level cache.
    Returns (spikes, saturations).
    """
    full, space = multiplied(source, weights)
    active = listed(source, full.chosen)
    scratch = room(weights.plain.shape[1], space, output)
    return lif_pixels(source, weights, levels, decays, state, output, full, active, scratch)


@kernel
def room(width, space, output):
    """`Scratch` for a tile, with `space` rows of sums that are multiplied."""
    out, record, padded = output.out, output.record, whole(width)
    straight = width == padded
    spikes, before = np.empty(padded, np.uint8), np.empty(padded, np.int32)
    if straight:
        spikes = out.reshape(-1)
        before = record.reshape(-1) if len(record) > 0 else before
    sums, registers = np.zeros((1 + space) * padded, np.int32), np.zeros(len(out) * padded, np.uint32)
    return Scratch(width, straight, sums, sums[:padded], np.zeros(padded, np.int32), registers, spikes, before)


@inner
def lif_pixels(source, weights, levels, decays, state, output, full, active, scratch):
    """The loop over pixels and rows of `lif_tile`."""
    padded, per_pixel = len(scratch.membrane), len(full.at)
    fired = clipped = entry = 0
    for pixel in range(output.low, output.high):
        if len(state.membrane) == 0:
            scratch.membrane[:] = 0
        entry = enter(decays, scratch.registers, entry, pixel, len(output.out), padded)
        # the multiplying instructions want many rows at once: several pixels, of which this is number `ahead`
        ahead = (pixel - output.low) % full.group
        if per_pixel > 0 and ahead == 0:
            count = min(full.group, output.high - pixel)
            products(source, weights.wide, full.at, full.activity, pixel, count, scratch.sums, padded)
        for t in range(len(output.out)):
            row = step_sums(source, weights, active, full, t, pixel, ahead * per_pixel, scratch.total)
            tally = update(levels, decays, state, output, scratch, t, pixel, row)
            fired += tally >> 32
            clipped += tally & 0xFFFFFFFF
    return fired, clipped


@inner(forceinline=True)
def enter(decays, registers, entry, pixel, rows, padded):
    """Entries from number `entry` that begin at `pixel` put their states into registers. Returns the next entry."""
    while entry < len(decays.entry_pixel) and decays.entry_pixel[entry] <= pixel:
        for t in range(rows):
            registers[t * padded + decays.entry_channel[entry]] = decays.states[t, entry]
        entry += 1
    return entry


@inner(forceinline=True)
def update(levels, decays, state, output, scratch, t, pixel, row):
    """The neurons of one pixel at row t of the output, whose sums are in `row`. Returns what `fire_drawn` does."""
    membrane, padded, kept = scratch.membrane, len(scratch.membrane), len(state.membrane) > 0
    at, stop = output.offset, output.offset + scratch.width
    place = (t * output.out.shape[1] + pixel) * output.out.shape[2] + at if scratch.straight else 0
    if kept:
        copy_to(membrane[: scratch.width], state.membrane[t, pixel, at:stop])
    neurons = Row(
        scratch.sums, row * padded, row_at(levels.bias, pixel, padded),
        membrane, scratch.before, place if len(output.record) > 0 else 0, scratch.spikes, place, padded,
    )  # fmt: skip
    if len(decays.given) > 0:
        tally = fire_given(levels, neurons, decays.given, row_at(decays.given, pixel, padded))
    else:
        tally = fire_drawn(levels, neurons, decays.table, scratch.registers, t * padded)
    if kept:
        copy_to(state.membrane[t, pixel, at:stop], membrane)
    if not scratch.straight:
        copy_to(output.out[t, pixel, at:stop], scratch.spikes)
        if len(output.record) > 0:
            copy_to(output.record[t, pixel, at:stop], scratch.before)
    return tally


@inner(forceinline=True)
def row_at(flat, pixel, padded):
    """Where the row of a pixel begins in rows of whole chunks, of which there is one for every pixel or for all."""
    return 0 if len(flat) == padded else pixel * padded


# --- CUBA neurons -------------------------------------------------------------------------------------------------


@kernel
def cuba_tile(source, weights, levels, state, output):
    """The same for CUBA neurons; levels: `CubaLevels`."""
    active = listed(source, np.zeros(len(source.values), np.bool_))
    width = weights.plain.shape[1]
    total, cells = np.zeros(whole(width), np.int32), np.zeros((3, width), np.int32)
    return cuba_pixels(source, weights, levels, state, output, active, total, cells)


@inner
def cuba_pixels(source, weights, levels, state, output, active, total, cells):
    """The loop over pixels and rows of `cuba_tile`; cells: u, v and v before the reset of one pixel."""
    u, v, before = cells[0], cells[1], cells[2]
    fired, clipped, kept = 0, 0, len(state.membrane) > 0
    at, stop = output.offset, output.offset + len(u)
    for pixel in range(output.low, output.high):
        u[:] = 0
        v[:] = 0
        bias = levels.bias[min(pixel, len(levels.bias) - 1)]
        for t in range(len(output.out)):
            synapse(source, weights, active, t, pixel, total)
            if kept:
                copy_to(u, state.current[t, pixel, at:stop])
                copy_to(v, state.membrane[t, pixel, at:stop])
            spikes, saturated = cuba_step(levels, bias, total, u, v, before, output.out[t, pixel, at:stop])
            fired += spikes
            clipped += saturated
            if kept:
                copy_to(state.current[t, pixel, at:stop], u)
                copy_to(state.membrane[t, pixel, at:stop], v)
            if len(output.record) > 0:
                copy_to(output.record[t, pixel, at:stop], before)
    return fired, clipped


@inner
def cuba_step(levels, bias, total, u, v, before, spikes):
    """Loihi's CUBA LIF of `integer.cuba`, in 64 bit, for as many neurons as u has. Returns (spikes, saturations)."""
    fired, saturated = 0, 0
    half = np.int64(1 << 23)
    for o in range(len(u)):
        # a decay truncates toward zero: the sign is taken off before the shift, which would round down
        kept = (abs(np.int64(u[o])) * levels.current_kept) >> 12
        wide = (kept if u[o] >= 0 else -kept) + (np.int64(total[o]) << levels.f)
        # one excursion is folded back; 2^23 itself stays, as in Lava's model
        wide = wide - 2 * half if wide > half else (wide + 2 * half if wide <= -half else wide)
        u[o] = wide
        kept = (abs(np.int64(v[o])) * levels.voltage_kept) >> 12
        m = (kept if v[o] >= 0 else -kept) + wide + bias[o]
        saturated += (m > LIMIT) | (m < -LIMIT)
        m = min(max(m, -LIMIT), LIMIT)
        spike = m > levels.threshold[o]
        before[o] = m
        v[o] = 0 if spike else m
        spikes[o] = spike
        fired += spike
    return fired, saturated
