"""Kernels that add, shift, compare and select. No multiplication, division or floating point is compiled into them.

So that indices need no multiplication either, every array is flat and every start of a row comes from a table that the
caller made (`*_at`). A test reads the generated code and fails on any such instruction.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from randhet.fixed_point.add_only.lists import append
from randhet.fixed_point.add_only.neurons import leak_row
from randhet.fixed_point.engine.kernels import append_word, jump
from randhet.fixed_point.kernels.blocks import CHUNK, FLUSH, add_rows, add_rows_twice, marked
from randhet.fixed_point.kernels.compiled import inner

LIMIT = np.int32(2**23 - 1)
ONE = np.int32(1)


@inner
def list_active(values, step, value_at, first, count, plane, lists, n, begins, begin):
    """Append to `lists`, for each pixel of a step, the channels (`count` from `first`) whose value has bit `plane`.

    The list of pixel i goes from begins[begin + i] to begins[begin + i + 1], the first from n on. Returns where the
    last ends; up to 16 entries beyond are written.
    """
    bit = np.int32(plane)
    for pixel in range(len(value_at)):
        begins[begin + pixel] = n
        source, c = step + value_at[pixel] + first, 0
        while c + CHUNK <= count:
            n = append_word(lists, n, marked(values, source + c, plane), c)
            c += CHUNK
        while c < count:
            lists[n] = c
            n += (np.int32(values[source + c]) >> bit) & ONE
            c += 1
    begins[begin + len(value_at)] = n
    return n


@inner(forceinline=True)
def gather(window, start, stop, tap_at, lists, begins, begin, rows, n):
    """Append to `rows` the weight rows of one window (entries start..stop of `window`); returns where they end."""
    for entry in range(start, stop):
        pixel = window[entry]
        if pixel >= 0:
            first, end = begins[begin + pixel], begins[begin + pixel + 1]
            append(rows, n, lists, first, end, tap_at[entry - start])
            n += end - first
    return n


@inner(forceinline=True)
def spend(packed, chunk_at, rows, start, stop, sums):
    """sums (int32, whole chunks of 64) += rows start..stop, emptied from 16 bit before it could overflow.

    packed: as the engine's `pack` lays weights out, chunks of 64 channels from chunk_at; a row is 64 bytes of each.
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
    """total <- total + total: the next bit plane weighs twice as much."""
    for o in range(len(total)):
        total[o] += total[o]


@inner
def negate(total):
    """total <- -total."""
    for o in range(len(total)):
        total[o] = -total[o]


@inner
def move_on(states, round_at, last, near, far, held):
    """States of the entries at the start of every round but the first, round after round from `round_at`.

    Those before number `last` move on by the matrix `near`, the others by `far`; held: none moves.
    """
    for t in range(1, len(round_at) - 1):
        before, own = states[round_at[t - 1] : round_at[t]], states[round_at[t] : round_at[t + 1]]
        for i in range(len(own)):
            own[i] = before[i]
        if not held:
            jump(own[:last], near)
            jump(own[last:], far)


@inner
def enter(entry, pixel, entry_pixel, entry_channel, entry_state, states, round_at, registers, register_at):
    """Entries from number `entry` on that begin at `pixel` put their states into their channels' registers.

    Entry e takes number entry_state[e] of the states of each round. Returns the first entry not yet reached.
    """
    while entry < len(entry_pixel) and entry_pixel[entry] <= pixel:
        for t in range(len(register_at)):
            registers[register_at[t] + entry_channel[entry]] = states[round_at[t] + entry_state[entry]]
        entry += 1
    return entry


@inner
def leak(x, decay, decay_at, k, membrane, state_at, acc):
    """acc <- x + ((A*(m - x)) >> k) for whole chunks of neurons, as they do it: for `scripts.limits`."""
    leak_row(x, membrane, state_at, decay, decay_at, k, acc, len(x))


@inner
def store(values, target, at, count):
    """target[at : at + count] <- values, in their order."""
    own = target[at : at + count]
    for o in range(len(own)):
        own[o] = values[o]


@inner
def fire(m, threshold, membrane, spikes):
    """Strict threshold and reset to 0; returns the number of spikes."""
    fired = np.int32(0)
    for o in range(len(m)):
        spike = np.int32(m[o] > threshold[o])
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
            product += (size << np.int64(i)) & -((np.int64(kept) >> np.int64(i)) & np.int64(1))
        product >>= np.int64(12)
        acc[o] = product if state[o] >= 0 else -product


@inner
def cuba(total, bias, bias_at, f, kept_u, kept_v, u, v, acc, m):
    """CUBA current and voltage before the threshold; returns saturations of the voltage."""
    saturated = np.int32(0)
    half = np.int64(1 << 23)
    decay_toward_zero(u, kept_u, acc)
    for o in range(len(u)):
        wide = acc[o] + (np.int64(total[o]) << np.int64(f))
        if wide > half:
            wide -= half + half
        elif wide <= -half:
            wide += half + half
        u[o] = wide
    decay_toward_zero(v, kept_v, acc)
    for o in range(len(v)):
        wide = acc[o] + u[o] + bias[bias_at + o]
        kept = min(max(wide, -np.int64(LIMIT)), np.int64(LIMIT))
        saturated += np.int32(kept != wide)
        m[o] = kept
    return saturated
