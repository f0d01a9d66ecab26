"""The kernels: event-driven sums, output-stationary, and the neuron update fused with its random draws.

Activity is stored channels last, (T, pixels, channels). For each output pixel the active inputs of its window become a
list of weight rows; `blocks` adds the rows and updates the neurons.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

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
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.dense import arranged, crowded, products, together
from randhet.fixed_point.kernels.lanes import has

DENSE = 8
"""A multiplication costs about as much as adding this many rows."""


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
            word &= word - np.uint64(1)
        return n


@inner
def list_active(values, first, count, planes, skipped, lists, begins):
    """For each step, bit plane and pixel, the channels (from `first`, `count` of them) whose value has that bit.

    values (T, pixels, channels); steps that are `skipped` have no lists. Writes lists (flat, uint32) and begins
    (T, planes, pixels + 1): where the list of each pixel begins and the one before ends.
    """
    steps, pixels, channels = values.shape
    flat, n = values.reshape(-1), 0
    for t in range(steps):
        for plane in range(0 if skipped[t] else planes):
            at = t * pixels * channels + first
            for pixel in range(pixels):
                begins[t, plane, pixel] = n
                c = 0
                while c + CHUNK <= count:
                    n = append_word(lists, n, marked(flat, at + c, plane), c)
                    c += CHUNK
                while c < count:
                    lists[n] = c
                    n += (flat[at + c] >> plane) & 1
                    c += 1
                at += channels
            begins[t, plane, pixels] = n


@inner(forceinline=True)
def gather(window, pixel, lists, begins, t, plane, per_tap, rows):
    """Weight rows of a window: tap i sees input pixel window[pixel, i] (-1 outside). Returns how many."""
    n, tap_at = 0, 0
    for tap in range(window.shape[1]):
        source = window[pixel, tap]
        if source >= 0:
            start, stop = begins[t, plane, source], begins[t, plane, source + 1]
            append(rows, n, lists, start, stop, tap_at)
            n += stop - start
        tap_at += per_tap
    return n


@inner(forceinline=True)
def pixel_sums(window, pixel, lists, begins, t, per_tap, packed, rows, total):
    """Synaptic sums of one output pixel: total (channels of the tile) int32. Graded values by bit planes, doubled.

    packed: chunks of 64 channels, one after another, as `plan.pack` lays them out.
    """
    size, planes = (window.shape[1] * per_tap + 1) * CHUNK, begins.shape[1]
    total[:] = 0
    for plane in range(planes - 1, -1, -1):
        if plane < planes - 1:
            for o in range(len(total)):
                total[o] += total[o]
        n, base, first = gather(window, pixel, lists, begins, t, plane, per_tap, rows), 0, 0
        while first + 2 * CHUNK <= len(total):
            for start in range(0, n, FLUSH):
                add_rows_twice(packed, base, base + size, rows, start, min(start + FLUSH, n), total, first)
            base += 2 * size
            first += 2 * CHUNK
        if first < len(total):
            for start in range(0, n, FLUSH):
                add_rows(packed, base, rows, start, min(start + FLUSH, n), total, first)


@inner
def pixel_products(window, values, first, per_tap, weight, total):
    """The same sums with multiplications, for graded inputs whose bit planes would cost more than they save."""
    total[:] = 0
    for tap in range(len(window)):
        pixel = window[tap]
        if pixel >= 0:
            for c in range(per_tap):
                value = np.int32(values[pixel, first + c])
                if value != 0:
                    row = weight[tap * per_tap + c]
                    for o in range(len(total)):
                        total[o] += value * np.int32(row[o])


@inner
def jump(registers, columns):
    """Multiply every register by the matrix with these 32 columns: a jump over many draws."""
    for i in range(len(registers)):
        state, moved = registers[i], np.uint32(0)
        for bit in range(32):
            moved ^= columns[bit] & (np.uint32(0) - ((state >> np.uint32(bit)) & np.uint32(1)))
        registers[i] = moved


@inner
def cuba_step(total, bias, current_kept, voltage_kept, f, threshold, u, v, before, spikes):
    """Loihi's CUBA LIF of `integer.cuba`, in 64 bit. Returns (spikes, saturations)."""
    fired, saturated = 0, 0
    half = np.int64(1 << 23)
    for o in range(len(total)):
        kept = (abs(np.int64(u[o])) * current_kept) >> 12
        wide = (kept if u[o] >= 0 else -kept) + (np.int64(total[o]) << f)
        wide = wide - 2 * half if wide > half else (wide + 2 * half if wide <= -half else wide)
        u[o] = wide
        kept = (abs(np.int64(v[o])) * voltage_kept) >> 12
        m = (kept if v[o] >= 0 else -kept) + wide + bias[o]
        saturated += (m > LIMIT) | (m < -LIMIT)
        m = min(max(m, -LIMIT), LIMIT)
        spike = m > threshold[o]
        before[o] = m
        v[o] = 0 if spike else m
        spikes[o] = spike
        fired += spike
    return fired, saturated


@kernel
def listed(values, first, per_tap, planes, skipped):
    """Lists of active inputs of every step that differs and is not `skipped`; at which steps multiplying costs less."""
    steps = len(values)
    multiply = np.zeros(steps, np.bool_)
    if planes > 8:
        multiply[:] = True
        return np.empty(0, np.uint32), np.empty((steps, 0, 1), np.int64), multiply
    lists = np.empty(steps * planes * values.shape[1] * per_tap + 16, np.uint32)
    begins = np.empty((steps, planes, values.shape[1] + 1), np.int64)
    list_active(values, first, per_tap, planes, skipped, lists, begins)
    if planes > DENSE // 2:
        for t in np.flatnonzero(~skipped):
            active = 0
            for pixel in range(values.shape[1]):
                for c in range(per_tap):
                    active += values[t, pixel, first + c] != 0
            multiply[t] = begins[t, -1, -1] - begins[t, 0, 0] > DENSE * active
    return lists, begins, multiply


@inner(forceinline=True)
def synapse(values, t, pixel, first, per_tap, multiply, window, weight, packed, lists, begins, rows, total):
    """Sums of one output pixel at step t; where every step has the same input, those of step 0 stay."""
    if t > 0 and len(values) == 1:
        return
    if multiply[t]:
        pixel_products(window[pixel], values[t], first, per_tap, weight, total[: weight.shape[1]])
    else:
        pixel_sums(window, pixel, lists, begins, t, per_tap, packed, rows, total)


@kernel
def multiplied(values, first, per_tap, planes, window, wide, limit):
    """What is multiplied of values (T, pixels, channels): the steps with more than `limit` bits, if `wide` has weights.

    Returns which steps; the row of each among them, from 1; where in values each begins; pixels of one call; rows of
    sums and bytes of activity that it needs.
    """
    chosen = np.zeros(len(values), np.bool_)
    if len(wide) > 0:
        crowded(values, first, per_tap, planes, limit, chosen)
    steps = arranged(chosen)
    group, space, seen = together(steps, window.shape[1] * per_tap)
    at = steps * (values.shape[1] * values.shape[2]) + first
    return chosen, np.cumsum(chosen), at, group, space, np.zeros(seen, np.uint8)


@inner(forceinline=True)
def step_sums(
    t, chosen, rank, ahead, values, pixel, first, per_tap, multiply, window, weight, packed, lists, begins, rows, total
):  # fmt: skip
    """The row of the sums of step t: behind `ahead` others where they were multiplied; else 0, total, made now."""
    read = min(t, len(values) - 1)
    if chosen[read]:
        return ahead + rank[read]
    synapse(values, t, pixel, first, per_tap, multiply, window, weight, packed, lists, begins, rows, total)
    return 0


@kernel(inline="always")
def buffers(window, per_tap, weight):
    """rows and total: the rows of a window, and sums for whole chunks of channels."""
    rows = np.empty(window.shape[1] * per_tap + 16, np.uint32)
    return rows, np.zeros((weight.shape[1] + CHUNK - 1) // CHUNK * CHUNK, np.int32)


@kernel
def sums_image(values, steps, first, per_tap, planes, window, weight, packed, out):
    """Synaptic sums of a layer without neurons for one image: out (steps, pixels, channels of the tile) int32."""
    lists, begins, multiply = listed(values, first, per_tap, planes, np.zeros(len(values), np.bool_))
    rows, total = buffers(window, per_tap, weight)
    sums_pixels(values, steps, first, per_tap, window, weight, packed, lists, begins, multiply, rows, total, out)


@inner
def sums_pixels(values, steps, first, per_tap, window, weight, packed, lists, begins, multiply, rows, total, out):
    """The loop over pixels and steps of `sums_image`."""
    for pixel in range(window.shape[0]):
        for t in range(steps):
            synapse(values, t, pixel, first, per_tap, multiply, window, weight, packed, lists, begins, rows, total)
            copy_to(out[t, pixel], total)


@inner(forceinline=True)
def copy_to(target, source):
    """target = the beginning of source."""
    for o in range(len(target)):
        target[o] = source[o]


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


@kernel
def lif_image(
    values, steps, first, per_tap, planes, window, weight, packed, wide, limit, low, high,
    bias, threshold, f, k, keep, given, table, starts, entry_pixel, entry_channel, entry_last, held, near, far,
    out, offset, record,
):  # fmt: skip
    """All steps of one image for the pixels low..high of one tile of channels, neurons of the LIF family.

    Pixel by pixel, all steps of one before the next: its membranes, sums and registers stay in the first-level cache.
    wide: the weights as `dense.pack` lays them out; where it has entries, steps at which more than `limit` bits of the
    values are set are multiplied.
    bias (1 or pixels, padded tile), threshold (padded tile). Decays: `given` (1 or pixels, padded tile) int32 where it
    has entries; else drawn: entry e puts starts[e] into the register of entry_channel[e] at entry_pixel[e]; from step
    to step entries move on by the matrix `near`, those of the last core by `far`, or stay where they are `held`.
    Spikes go to out (steps, pixels, channels) from channel `offset`, membranes to record where it has entries.
    Returns (spikes, saturations).
    """
    chosen, rank, at, group, space, activity = multiplied(values, first, per_tap, planes, window, wide, limit)
    lists, begins, multiply = listed(values, first, per_tap, planes, chosen)
    rows, none = buffers(window, per_tap, weight)
    width, padded = weight.shape[1], len(none)
    # the first row is of the step at hand where rows are added, the others of steps and pixels that were multiplied
    sums = np.zeros((1 + space, padded), np.int32)
    one_before, one_spikes = np.empty(padded, np.int32), np.empty(padded, np.uint8)
    membrane, registers = np.empty(padded, np.int32), np.zeros((steps, padded), np.uint32)
    straight = width == padded
    spikes = out.reshape(-1) if straight else one_spikes
    before = record.reshape(-1) if straight and len(record) > 0 else one_before
    return lif_pixels(
        values, steps, first, per_tap, window, weight, packed, wide, low, high,
        bias.reshape(-1), len(bias), threshold, f, k, keep, given.reshape(-1), len(given), table,
        states_of_rounds(starts, entry_last, near, far, held, steps), entry_pixel, entry_channel,
        chosen, rank, at, group, activity, lists, begins, multiply, rows, sums, membrane, registers, padded,
        spikes, before, out, offset, record,
    )  # fmt: skip


@inner
def lif_pixels(
    values, steps, first, per_tap, window, weight, packed, wide, low, high,
    bias, biases, threshold, f, k, keep, given, givens, table, states, entry_pixel, entry_channel,
    chosen, rank, at, group, activity, lists, begins, multiply, rows, sums, membrane, registers, padded,
    spikes, before, out, offset, record,
):  # fmt: skip
    """The loop over pixels and steps of `lif_image`.

    Spikes and membranes are written straight to out and record where their channels are whole chunks, else to buffers
    of one chunk and then copied.
    """
    pixels, channels, width = out.shape[1], out.shape[2], weight.shape[1]
    straight, recorded, flat_sums, flat_registers = (
        width == padded,
        len(record) > 0,
        sums.reshape(-1),
        registers.reshape(-1),
    )
    total, n = sums[0], len(at)
    fired = clipped = entry = spikes_at = before_at = 0
    for pixel in range(low, high):
        membrane[:] = 0
        bias_at, given_at = min(pixel, biases - 1) * padded, min(pixel, givens - 1) * padded
        while entry < states.shape[1] and entry_pixel[entry] <= pixel:
            for t in range(steps):
                registers[t, entry_channel[entry]] = states[t, entry]
            entry += 1
        ahead = (pixel - low) % group
        if ahead == 0 and n > 0:
            products(values, at, per_tap, window, pixel, min(group, high - pixel), wide, activity, flat_sums, padded)
        for t in range(steps):
            row = step_sums(
                t, chosen, rank, ahead * n, values, pixel, first, per_tap, multiply,
                window, weight, packed, lists, begins, rows, total,
            )  # fmt: skip
            if straight:
                spikes_at = (t * pixels + pixel) * channels + offset
                before_at = spikes_at if recorded else 0
            if givens:
                tally = fire_given(
                    flat_sums, row * padded, bias, bias_at, threshold, f, k, keep, given, given_at,
                    membrane, before, before_at, spikes, spikes_at, padded,
                )  # fmt: skip
            else:
                tally = fire_drawn(
                    flat_sums, row * padded, bias, bias_at, threshold, f, k, keep, table, flat_registers, t * padded,
                    membrane, before, before_at, spikes, spikes_at, padded,
                )  # fmt: skip
            fired += tally >> 32
            clipped += tally & 0xFFFFFFFF
            if not straight:
                copy_to(out[t, pixel, offset : offset + width], spikes)
                if recorded:
                    copy_to(record[t, pixel, offset : offset + width], before)
    return fired, clipped


@kernel
def cuba_image(
    values, steps, first, per_tap, planes, window, weight, packed, low, high,
    bias, threshold, f, current_kept, voltage_kept, out, offset, record,
):  # fmt: skip
    """The same for CUBA neurons; bias (1 or pixels, tile) and threshold (tile) without padding."""
    lists, begins, multiply = listed(values, first, per_tap, planes, np.zeros(len(values), np.bool_))
    rows, total = buffers(window, per_tap, weight)
    state = np.empty((3, weight.shape[1]), np.int32)
    return cuba_pixels(
        values, steps, first, per_tap, window, weight, packed, low, high,
        bias, threshold, f, current_kept, voltage_kept, lists, begins, multiply, rows, total,
        state[0], state[1], state[2], out, offset, record,
    )  # fmt: skip


@inner
def cuba_pixels(
    values, steps, first, per_tap, window, weight, packed, low, high, bias, threshold, f, current_kept, voltage_kept,
    lists, begins, multiply, rows, total, u, v, before, out, offset, record,
):  # fmt: skip
    """The loop over pixels and steps of `cuba_image`."""
    fired, clipped, width = 0, 0, weight.shape[1]
    for pixel in range(low, high):
        u[:] = 0
        v[:] = 0
        for t in range(steps):
            synapse(values, t, pixel, first, per_tap, multiply, window, weight, packed, lists, begins, rows, total)
            spikes, saturated = cuba_step(
                total[:width], bias[min(pixel, len(bias) - 1)], current_kept, voltage_kept, f, threshold,
                u, v, before, out[t, pixel, offset : offset + width],
            )  # fmt: skip
            fired += spikes
            clipped += saturated
            if len(record):
                copy_to(record[t, pixel, offset : offset + width], before)
    return fired, clipped
