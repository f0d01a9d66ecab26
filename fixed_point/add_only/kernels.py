"""Kernels that add, shift, compare and select. No multiplication, division or floating point is compiled into them.

So that indices need no multiplication either, every array is flat and every start of a row comes from a table that the
caller made (`*_at`). A test reads the generated code and fails on any such instruction. Loops run over views that begin
at the row: of an index that is a sum the compiler must suppose that it may be negative, and makes no vector code.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from fixed_point.engine.blocks import CHUNK, FLUSH, add_rows, add_rows_twice, append, marked
from fixed_point.engine.compiled import kernel
from fixed_point.engine.kernels import append_word

LIMIT = np.int32(2**23 - 1)
ONE = np.int32(1)
LOW_BYTE = np.uint32(0xFF)


@kernel
def list_active(values, value_at, first, count, plane, list_at, lists, counts):
    """For each pixel, the channels (`count` of them from `first`) whose value has bit `plane`: lists and their lengths.

    It writes up to 16 entries beyond a list, which the next one overwrites.
    """
    bit = np.int32(plane)
    for pixel in range(len(value_at)):
        n, source, c = list_at[pixel], value_at[pixel] + first, 0
        while c + CHUNK <= count:
            n = append_word(lists, n, marked(values, source + c, plane), c)
            c += CHUNK
        while c < count:
            lists[n] = c
            n += (np.int32(values[source + c]) >> bit) & ONE
            c += 1
        counts[pixel] = n - list_at[pixel]


@kernel
def gather(window, start, stop, tap_at, list_at, lists, counts, rows):
    """Weight rows of one window (entries start..stop of `window`); returns how many."""
    n = 0
    for entry in range(start, stop):
        pixel = window[entry]
        if pixel >= 0:
            at, count = list_at[pixel], counts[pixel]
            append(rows, n, lists, at, at + count, tap_at[entry - start])
            n += count
    return n


@kernel
def spend(packed, chunk_at, rows, used, sums):
    """sums (int32, whole chunks of 64) += all gathered rows, emptied from 16 bit before it could overflow.

    packed: as the engine's `pack` lays weights out, chunks of 64 channels from chunk_at; a row is 64 bytes of each.
    """
    for start in range(0, used, FLUSH):
        stop, first, chunk = min(start + FLUSH, used), 0, 0
        while first + CHUNK + CHUNK <= len(sums):
            add_rows_twice(packed, chunk_at[chunk], chunk_at[chunk + 1], rows, start, stop, sums, first)
            first += CHUNK + CHUNK
            chunk += 2
        if first < len(sums):
            add_rows(packed, chunk_at[chunk], rows, start, stop, sums, first)


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
    shift, own_bias = np.int32(f), bias[bias_at:]
    for o in range(len(total)):
        x = np.int32((min(max(total[o], -edge), edge) << shift) + own_bias[o])
        kept = min(max(x, -LIMIT), LIMIT)
        clipped += np.int32(kept != x)
        total[o] = kept
    return clipped


@kernel
def leak(x, decay, decay_at, k, membrane, state_at, acc):
    """acc <- x + ((A*(m - x)) >> k), the product by k conditional additions and shifts from the lowest bit of A up."""
    own_decay, own = decay[decay_at:], membrane[state_at:]
    for o in range(len(x)):
        acc[o] = 0
    for i in range(k):
        bit = np.int32(i)
        for o in range(len(x)):
            chosen = -((np.int32(own_decay[o]) >> bit) & ONE)
            difference = np.int32(own[o] - x[o])
            acc[o] = np.int32(acc[o] + (difference & chosen)) >> ONE
    for o in range(len(x)):
        acc[o] += x[o]


@kernel
def fire(m, threshold, membrane, state_at, spikes, spike_at):
    """Strict threshold and reset to 0; returns the number of spikes."""
    fired, own, own_spikes = np.int32(0), membrane[state_at:], spikes[spike_at:]
    for o in range(len(m)):
        spike = np.int32(m[o] > threshold[o])
        own[o] = m[o] & (spike - ONE)
        own_spikes[o] = spike
        fired += spike
    return fired


@kernel
def store(values, record, at):
    """record[at:] <- values."""
    own = record[at:]
    for o in range(len(values)):
        own[o] = values[o]


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
