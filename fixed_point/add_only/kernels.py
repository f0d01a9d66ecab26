"""Kernels that add, shift, compare and select. No multiplication, division or floating point is compiled into them.

So that indices need no multiplication either, every array is flat and every start of a row comes from a table that the
caller made (`*_at`). A test reads the generated code and fails on any such instruction.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from fixed_point.engine.compiled import kernel

LIMIT = np.int32(2**23 - 1)
ONE = np.int32(1)
LOW_BYTE = np.uint32(0xFF)
FLUSH = 256
"""Rows of int8 weights whose sum cannot leave int16."""


@kernel
def list_active(values, value_at, first, weight_at, plane, list_at, lists, counts):
    """For each pixel, where the weights of the channels start whose value has bit `plane`: lists, flat, and counts.

    weight_at (channels of the group,): start of a channel's row within a tap.
    """
    bit = np.int32(plane)
    for pixel in range(len(value_at)):
        at, source, n = list_at[pixel], value_at[pixel] + first, 0
        for c in range(len(weight_at)):
            lists[at + n] = weight_at[c]
            n += (np.int32(values[source + c]) >> bit) & ONE
        counts[pixel] = n


@kernel
def gather(window, start, stop, tap_at, list_at, lists, counts, silent, rows):
    """Row starts of one window (entries start..stop of `window`), filled up to eights with the silent row."""
    n = 0
    for entry in range(start, stop):
        pixel = window[entry]
        if pixel >= 0:
            base, at = tap_at[entry - start], list_at[pixel]
            for j in range(counts[pixel]):
                rows[n + j] = base + lists[at + j]
            n += counts[pixel]
    used = n
    while n & 7:
        rows[n] = silent
        n += 1
    return used


@kernel
def add_rows(weight, rows, start, stop, sums):
    """sums (int16) += the weight rows that start at rows[start:stop], eight at a time."""
    for i in range(start, stop, 8):
        a, b, c, d = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        e, f, g, h = rows[i + 4], rows[i + 5], rows[i + 6], rows[i + 7]
        for o in range(np.uint32(len(sums))):
            low = np.int16(weight[a + o]) + np.int16(weight[b + o]) + np.int16(weight[c + o]) + np.int16(weight[d + o])
            low += np.int16(weight[e + o]) + np.int16(weight[f + o])
            sums[o] += low + np.int16(weight[g + o]) + np.int16(weight[h + o])


@kernel
def spend(weight, rows, used, short, total):
    """total (int32) += all gathered rows, emptied from 16 bit before it could overflow."""
    stop = (used + 7) & ~7
    for start in range(0, stop, FLUSH):
        short[:] = 0
        add_rows(weight, rows, start, min(start + FLUSH, stop), short)
        for o in range(len(total)):
            total[o] += short[o]


@kernel
def double(total):
    """total <- total + total: the next bit plane weighs twice as much."""
    for o in range(len(total)):
        total[o] += total[o]


@kernel
def negate(total):
    """total <- -total."""
    for o in range(len(total)):
        total[o] = -total[o]


@kernel
def draw(registers):
    """Eight clocks of every register (see the engine's kernel of this name): shifts, xor and and."""
    for i in range(len(registers)):
        s = registers[i]
        byte = s & LOW_BYTE
        g = byte ^ (byte << np.uint32(1))
        f = (g ^ (g << np.uint32(3)) ^ (g << np.uint32(6))) & LOW_BYTE
        low = (f >> np.uint32(6)) ^ (f >> np.uint32(7))
        registers[i] = (s >> np.uint32(8)) ^ (f << np.uint32(24)) ^ (f << np.uint32(14)) ^ low


@kernel
def look_up(registers, table, decay):
    """decay <- table[low byte]."""
    for i in range(len(registers)):
        decay[i] = table[registers[i] & LOW_BYTE]


@kernel
def enter(entry, pixel, entry_pixel, entry_channel, entry_state, states, registers):
    """Entries from number `entry` on that begin at `pixel` put their states into their channels' registers.

    Entry e takes states[entry_state[e]]. Returns the number of the first entry not yet reached.
    """
    while entry < len(entry_pixel) and entry_pixel[entry] <= pixel:
        registers[entry_channel[entry]] = states[entry_state[entry]]
        entry += 1
    return entry


@kernel
def to_current(total, bias, bias_at, f, edge):
    """total <- sat24((total << f) + bias); returns how many saturated. edge: a sum beyond it saturates in any case."""
    clipped = np.int32(0)
    shift = np.int32(f)
    for o in range(len(total)):
        x = np.int32((min(max(total[o], -edge), edge) << shift) + bias[bias_at + o])
        kept = min(max(x, -LIMIT), LIMIT)
        clipped += np.int32(kept != x)
        total[o] = kept
    return clipped


@kernel
def leak(x, decay, decay_at, k, membrane, state_at, acc):
    """acc <- x + ((A*(m - x)) >> k), the product by k conditional additions and shifts from the lowest bit of A up."""
    for o in range(len(x)):
        acc[o] = 0
    for i in range(k):
        bit = np.int32(i)
        for o in range(len(x)):
            chosen = -((np.int32(decay[decay_at + o]) >> bit) & ONE)
            difference = np.int32(membrane[state_at + o] - x[o])
            acc[o] = np.int32(acc[o] + (difference & chosen)) >> ONE
    for o in range(len(x)):
        acc[o] += x[o]


@kernel
def fire(m, threshold, membrane, state_at, spikes, spike_at):
    """Strict threshold and reset to 0; returns the number of spikes."""
    fired = np.int32(0)
    for o in range(len(m)):
        spike = np.int32(m[o] > threshold[o])
        membrane[state_at + o] = m[o] & (spike - ONE)
        spikes[spike_at + o] = spike
        fired += spike
    return fired


@kernel
def store(values, record, at):
    """record[at:] <- values."""
    for o in range(len(values)):
        record[at + o] = values[o]


@kernel
def decay_toward_zero(state, state_at, kept, length, acc):
    """acc <- sign(v) * ((|v| * kept) >> 12), kept 0..4096, by conditional additions and shifts in 64 bit."""
    for o in range(length):
        size = np.int64(abs(state[state_at + o]))
        product = np.int64(0)
        for i in range(13):
            product += (size << np.int64(i)) & -((np.int64(kept) >> np.int64(i)) & np.int64(1))
        product >>= np.int64(12)
        acc[o] = product if state[state_at + o] >= 0 else -product


@kernel
def cuba(total, bias, bias_at, f, kept_u, kept_v, u, v, state_at, acc, m):
    """CUBA current and voltage before the threshold; returns saturations of the voltage."""
    saturated = np.int32(0)
    half = np.int64(1 << 23)
    decay_toward_zero(u, state_at, kept_u, len(total), acc)
    for o in range(len(total)):
        wide = acc[o] + (np.int64(total[o]) << np.int64(f))
        if wide > half:
            wide -= half + half
        elif wide <= -half:
            wide += half + half
        u[state_at + o] = wide
    decay_toward_zero(v, state_at, kept_v, len(total), acc)
    for o in range(len(total)):
        wide = acc[o] + u[state_at + o] + bias[bias_at + o]
        kept = min(max(wide, -np.int64(LIMIT)), np.int64(LIMIT))
        saturated += np.int32(kept != wide)
        m[o] = kept
    return saturated
