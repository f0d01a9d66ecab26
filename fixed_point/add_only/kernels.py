"""Kernels that add, shift, compare and select. No multiplication, division or floating point is compiled into them.

Indices need none either: see `bundles`. A test reads the generated code and fails on any such instruction.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from randhet.fixed_point.add_only.lists import append
from randhet.fixed_point.add_only.neurons import leak_row
from randhet.fixed_point.kernels.blocks import CHUNK, FLUSH, add_rows, add_rows_twice, append_word, marked
from randhet.fixed_point.kernels.compiled import inner
from randhet.fixed_point.kernels.draws import place, put
from randhet.fixed_point.kernels.registers import jump

LIMIT = np.int32(2**23 - 1)
ONE = np.int32(1)


@inner
def list_active(inputs, scratch, t, down, n):
    """Append to scratch.lists, for each pixel of step t, the channels whose value has the bit of plane `down`.

    Planes are counted from the highest down. The first list begins at n; returns where the last ends. Up to 16 entries
    beyond are written.
    """
    values, lists, begins, count = inputs.values, scratch.lists, scratch.begins, inputs.per_tap
    plane, begin = len(inputs.plane_at) - 1 - down, inputs.begin_at[t] + inputs.plane_at[down]
    bit = np.int32(plane)
    for pixel in range(len(inputs.value_at)):
        begins[begin + pixel] = n
        source, c = inputs.step_at[t] + inputs.value_at[pixel] + inputs.first, 0
        while c + CHUNK <= count:
            n = append_word(lists, n, marked(values, source + c, plane), c)
            c += CHUNK
        # written always, kept where the bit is set: a branch here would be guessed wrong too often
        while c < count:
            lists[n] = c
            n += (np.int32(values[source + c]) >> bit) & ONE
            c += 1
    begins[begin + len(inputs.value_at)] = n
    return n


@inner(forceinline=True)
def gather(inputs, scratch, pixel, begin, n):
    """Append to scratch.rows, from n on, the weight rows of one window; returns where they end.

    begin: where the list table of the step and plane begins.
    """
    start, window, begins = inputs.window_at[pixel], inputs.window, scratch.begins
    for entry in range(start, inputs.window_at[pixel + 1]):
        source = window[entry]
        if source >= 0:
            first, end = begins[begin + source], begins[begin + source + 1]
            append(scratch.rows, n, scratch.lists, first, end, inputs.tap_at[entry - start])
            n += end - first
    return n


@inner(forceinline=True)
def spend(packed, chunk_at, rows, start, stop, sums):
    """sums (int32, whole chunks) += rows start..stop of packed weights, two chunks of channels at a time.

    `add_rows` sums in 16 bit lanes, which hold FLUSH rows for certain: so many are added before they are emptied.
    """
    for begin in range(start, stop, FLUSH):
        end, first, chunk = min(begin + FLUSH, stop), 0, 0
        while first + CHUNK + CHUNK <= len(sums):
            add_rows_twice(packed, chunk_at[chunk], chunk_at[chunk + 1], rows, begin, end, sums, first)
            first += CHUNK + CHUNK
            chunk += 2
        if first < len(sums):
            add_rows(packed, chunk_at[chunk], rows, begin, end, sums, first)


@inner
def double(total):
    """total <- total + total: the next bit plane weighs half as much."""
    for o in range(len(total)):
        total[o] += total[o]


@inner
def negate(total):
    """total <- -total: the highest plane of signed values counts negative."""
    for o in range(len(total)):
        total[o] = -total[o]


@inner
def move_on(draws):
    """Fill in the states of the entries at the start of every round but the first."""
    states, round_at = draws.states, draws.round_at
    for t in range(1, len(round_at) - 1):
        before, own = states[round_at[t - 1] : round_at[t]], states[round_at[t] : round_at[t + 1]]
        for i in range(len(own)):
            own[i] = before[i]
        if not draws.held:
            jump(own[: draws.last], draws.near)
            jump(own[draws.last :], draws.far)


@inner
def enter(draws, entry, pixel, phase):
    """Entries from number `entry` on that begin at `pixel` put their draws into their channels' blocks.

    draws.states: made words by `draws.unroll`; phase: the draw of the four that is this pixel's. Returns the first
    entry not yet reached.
    """
    while entry < len(draws.entry_pixel) and draws.entry_pixel[entry] <= pixel:
        at, state = place(draws.entry_channel[entry]), draws.entry_state[entry]
        for t in range(len(draws.block_at)):
            put(draws.blocks, draws.block_at[t] + at, draws.states[draws.round_at[t] + state], phase)
        entry += 1
    return entry


@inner
def leak(x, decay, decay_at, k, membrane, state_at, acc):
    """acc <- x + ((A*(m - x)) >> k) for whole chunks of neurons, as they do it: for `scripts.limits`."""
    leak_row(x, membrane, state_at, decay, decay_at, k, acc, len(x))


@inner
def store(values, target, offset, count):
    """target[offset : offset + count] <- values, in their order."""
    own = target[offset : offset + count]
    for o in range(len(own)):
        own[o] = values[o]


@inner
def fire(m, threshold, membrane, spikes):
    """Strict threshold and reset to 0; returns the number of spikes."""
    fired = np.int32(0)
    for o in range(len(m)):
        spike = np.int32(m[o] > threshold[o])
        # a spike makes the mask 0, none makes it -1, all ones
        membrane[o] = m[o] & (spike - ONE)
        spikes[o] = spike
        fired += spike
    return fired


@inner
def decay_toward_zero(state, kept, acc):
    """acc <- sign(v) * ((|v| * kept) >> 12), kept 0..4096, by conditional additions and shifts in 64 bit."""
    for o in range(len(state)):
        size = np.int64(abs(state[o]))
        product = np.int64(0)
        for i in range(13):
            # minus the bit is a mask: all ones where it is set
            product += (size << np.int64(i)) & -((np.int64(kept) >> np.int64(i)) & np.int64(1))
        product >>= np.int64(12)
        acc[o] = product if state[o] >= 0 else -product


@inner
def cuba(sums, levels, bias_at, kept, cells):
    """CUBA current u and voltage before the threshold; returns saturations of the voltage."""
    saturated = np.int32(0)
    half = np.int64(1 << 23)
    u, v, acc = cells.u, cells.v, cells.wide
    decay_toward_zero(u, kept.current, acc)
    for o in range(len(u)):
        wide = acc[o] + (np.int64(sums[o]) << np.int64(levels.f))
        if wide > half:
            wide -= half + half
        elif wide <= -half:
            wide += half + half
        u[o] = wide
    decay_toward_zero(v, kept.voltage, acc)
    for o in range(len(v)):
        wide = acc[o] + u[o] + levels.bias[bias_at + o]
        held = min(max(wide, -np.int64(LIMIT)), np.int64(LIMIT))
        saturated += np.int32(held != wide)
        cells.before[o] = held
    return saturated
