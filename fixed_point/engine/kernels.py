"""The kernels: event-driven sums, output-stationary, and the neuron update fused with its random draws.

Activity is stored channels last, (T, pixels, channels). For each output pixel the active inputs of its window become a
list of weight rows; the rows are added in 16 bit, emptied into 32 bit before 256 rows could overflow (256*127 < 2^15).
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

LIMIT = 2**23 - 1
"""STATE_MAX, a plain constant for the compiler."""
FLUSH = 256
"""Rows of int8 weights whose sum cannot leave int16."""
CLAMP = 2**25
"""A sum this far out saturates whatever the bias is; clamping before the shift keeps it in 32 bits."""


@njit(cache=True, nogil=True)
def list_active(values, first, count, planes, lists, counts):
    """For each pixel and bit plane b, the channels (from `first`, `count` of them) whose value has bit b.

    values (pixels, channels); lists (planes, pixels, count) uint16; counts (planes, pixels).
    """
    for plane in range(planes):
        for pixel in range(values.shape[0]):
            n = 0
            for c in range(count):
                lists[plane, pixel, n] = c
                n += (values[pixel, first + c] >> plane) & 1
            counts[plane, pixel] = n


@njit(cache=True, nogil=True)
def gather(window, lists, counts, per_tap, rows):
    """Weight rows of a window: tap i sees input pixel window[i] (-1 outside). Returns how many, a multiple of eight.

    The row behind the last one is all zeros and fills the eight up.
    """
    n = 0
    for tap in range(len(window)):
        pixel = window[tap]
        if pixel >= 0:
            base = tap * per_tap
            for j in range(counts[pixel]):
                rows[n + j] = base + lists[pixel, j]
            n += counts[pixel]
    while n & 7:
        rows[n] = per_tap * len(window)
        n += 1
    return n


@njit(cache=True, nogil=True)
def add_rows(weight, rows, start, stop, sums):
    """sums (int16) += weight[rows[start:stop]], eight rows for each pass over the sums."""
    width = np.uint64(len(sums))
    for i in range(start, stop, 8):
        a, b, c, d = weight[rows[i]], weight[rows[i + 1]], weight[rows[i + 2]], weight[rows[i + 3]]
        e, f, g, h = weight[rows[i + 4]], weight[rows[i + 5]], weight[rows[i + 6]], weight[rows[i + 7]]
        for o in range(width):
            low = np.int16(a[o]) + np.int16(b[o]) + np.int16(c[o]) + np.int16(d[o])
            sums[o] += low + np.int16(e[o]) + np.int16(f[o]) + np.int16(g[o]) + np.int16(h[o])


@njit(cache=True, nogil=True)
def pixel_sums(window, lists, counts, planes, per_tap, weight, rows, short, total):
    """Synaptic sums of one output pixel: total (channels of the tile) int32. Graded values by bit planes, doubled."""
    total[:] = 0
    for plane in range(planes - 1, -1, -1):
        if plane < planes - 1:
            for o in range(len(total)):
                total[o] += total[o]
        n = gather(window, lists[plane], counts[plane], per_tap, rows)
        for start in range(0, n, FLUSH):
            short[:] = 0
            add_rows(weight, rows, start, min(start + FLUSH, n), short)
            for o in range(len(total)):
                total[o] += short[o]


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def draw(registers):
    """Eight clocks of every register at once, without branches or tables.

    The feedback bits of eight clocks are the low byte divided by 1 + x + x^2 over GF(2), modulo x^8; each then stands
    where the taps 31, 21, 1 and 0 have moved by the last clock. Tested against the register clocked bit by bit.
    """
    for i in range(len(registers)):
        s = registers[i]
        byte = s & np.uint32(0xFF)
        g = byte ^ (byte << np.uint32(1))
        f = (g ^ (g << np.uint32(3)) ^ (g << np.uint32(6))) & np.uint32(0xFF)
        low = (f >> np.uint32(6)) ^ (f >> np.uint32(7))
        registers[i] = (s >> np.uint32(8)) ^ (f << np.uint32(24)) ^ (f << np.uint32(14)) ^ low


@njit(cache=True, nogil=True)
def jump(registers, columns):
    """Multiply every register by the matrix with these 32 columns: a jump over many draws."""
    for i in range(len(registers)):
        s, result = registers[i], np.uint32(0)
        for bit in range(32):
            result ^= columns[bit] & (np.uint32(0) - ((s >> np.uint32(bit)) & np.uint32(1)))
        registers[i] = result


@njit(cache=True, nogil=True)
def to_current(total, bias, f):
    """total <- sat24((total << f) + bias) in place; returns how many saturated."""
    clipped = 0
    edge = np.int32(CLAMP >> f)
    for o in range(len(total)):
        x = (min(max(total[o], -edge), edge) << f) + bias[o]
        clipped += (x > LIMIT) | (x < -LIMIT)
        total[o] = min(max(x, np.int32(-LIMIT)), np.int32(LIMIT))
    return clipped


@njit(cache=True, nogil=True)
def leak_and_fire(x, decay, k, threshold, membrane, before, spikes):
    """m = x + ((A*(m - x)) >> k), strict threshold, reset; the product is split at bit k so that 32 bits hold it.

    m stays between its two ends, which are 24 bit, so it cannot saturate. Returns the number of spikes.
    """
    fired, mask = 0, np.int32((1 << k) - 1)
    for o in range(len(x)):
        difference = membrane[o] - x[o]
        a = np.int32(decay[o])
        m = x[o] + a * (difference >> k) + ((a * (difference & mask)) >> k)
        spike = m > threshold[o]
        before[o] = m
        membrane[o] = np.int32(0) if spike else m
        spikes[o] = spike
        fired += spike
    return fired


@njit(cache=True, nogil=True)
def look_up(registers, table, decay):
    """decay <- table[low byte of each register]."""
    for i in range(len(registers)):
        decay[i] = table[registers[i] & np.uint32(0xFF)]


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def synapse(
    values, t, pixel, first, per_tap, planes, use_products, window, weight, lists, counts, rows, short, cached, total
):
    """Sums of one output pixel at step t, from the cache where the input is the same at every step."""
    if len(values) == 1 and t > 0:
        total[:] = cached[pixel]
        return
    if use_products:
        pixel_products(window[pixel], values[min(t, len(values) - 1)], first, per_tap, weight, total)
    else:
        pixel_sums(window[pixel], lists, counts, planes, per_tap, weight, rows, short, total)
    if len(values) == 1:
        cached[pixel] = total


@njit(cache=True, nogil=True)
def prepare(values, t, first, per_tap, planes, lists, counts):
    """Lists of active inputs of step t; returns whether multiplying costs less than adding bit planes."""
    step = values[min(t, len(values) - 1)]
    if planes > 8:
        return True
    if len(values) > 1 or t == 0:
        list_active(step, first, per_tap, planes, lists, counts)
    adds, active = 0, 0
    if planes > 1:
        for plane in range(planes):
            adds += counts[plane].sum()
        for pixel in range(step.shape[0]):
            for c in range(per_tap):
                active += step[pixel, first + c] != 0
    return adds > 3 * active


@njit(cache=True, nogil=True)
def sums_image(values, steps, first, per_tap, planes, window, weight, out):
    """Synaptic sums of a layer without neurons for one image: out (steps, pixels, channels of the tile) int32."""
    pixels, width = window.shape[0], weight.shape[1]
    lists = np.empty((min(planes, 8), values.shape[1], per_tap), np.uint16)
    counts = np.zeros((min(planes, 8), values.shape[1]), np.int64)
    rows = np.empty(window.shape[1] * per_tap + 8, np.uint32)
    short, cached = np.empty(width, np.int16), np.empty((pixels if len(values) == 1 else 0, width), np.int32)
    for t in range(steps):
        products = prepare(values, t, first, per_tap, planes, lists, counts)
        for pixel in range(pixels):
            synapse(
                values, t, pixel, first, per_tap, planes, products, window, weight,
                lists, counts, rows, short, cached, out[t, pixel],
            )  # fmt: skip


@njit(cache=True, nogil=True)
def lif_image(
    values, steps, first, per_tap, planes, window, weight, low, high,
    bias, threshold, f, k, constant, decays, table, starts, held, edge, near, far, out, offset, record,
):  # fmt: skip
    """All steps of one image for the pixels low..high of one tile of channels, neurons of the LIF family.

    Decays: `constant` (1 or pixels, tile) where it has entries; `decays` (steps or 1, pixels, tile) where the caller
    had to draw them; else drawn here, one register per channel from `starts`, moved on each step by the matrices `near`
    (channels before `edge`) and `far`, or put back where they are `held` for the image. Spikes go to
    out (steps, pixels, channels) from channel `offset`, membranes to record where it has entries.
    Returns (spikes, saturations).
    """
    pixels, width = window.shape[0], weight.shape[1]
    lists = np.empty((min(planes, 8), values.shape[1], per_tap), np.uint16)
    counts = np.zeros((min(planes, 8), values.shape[1]), np.int64)
    rows = np.empty(window.shape[1] * per_tap + 8, np.uint32)
    short, cached = np.empty(width, np.int16), np.empty((pixels if len(values) == 1 else 0, width), np.int32)
    membrane = np.zeros((high - low, width), np.int32)
    total, before, decay = np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width, np.uint16)
    registers, random = starts.copy(), len(constant) == 0 and len(decays) == 0
    fired = clipped = 0
    for t in range(steps):
        products = prepare(values, t, first, per_tap, planes, lists, counts)
        if t > 0 and random:
            if held:
                registers[:] = starts
            else:
                jump(registers[:edge], near)
                jump(registers[edge:], far)
        for pixel in range(low, high):
            synapse(
                values, t, pixel, first, per_tap, planes, products, window, weight,
                lists, counts, rows, short, cached, total,
            )  # fmt: skip
            clipped += to_current(total, bias[min(pixel, len(bias) - 1)], f)
            spikes = out[t, pixel, offset : offset + width]
            if random:
                draw(registers)
                look_up(registers, table, decay)
                fired += leak_and_fire(total, decay, k, threshold, membrane[pixel - low], before, spikes)
            elif len(constant):
                given = constant[min(pixel, len(constant) - 1)]
                fired += leak_and_fire(total, given, k, threshold, membrane[pixel - low], before, spikes)
            else:
                given = decays[min(t, len(decays) - 1), pixel]
                fired += leak_and_fire(total, given, k, threshold, membrane[pixel - low], before, spikes)
            if len(record):
                record[t, pixel, offset : offset + width] = before
    return fired, clipped


@njit(cache=True, nogil=True)
def cuba_image(
    values, steps, first, per_tap, planes, window, weight, low, high,
    bias, threshold, f, current_kept, voltage_kept, out, offset, record,
):  # fmt: skip
    """The same for CUBA neurons."""
    pixels, width = window.shape[0], weight.shape[1]
    lists = np.empty((min(planes, 8), values.shape[1], per_tap), np.uint16)
    counts = np.zeros((min(planes, 8), values.shape[1]), np.int64)
    rows = np.empty(window.shape[1] * per_tap + 8, np.uint32)
    short, cached = np.empty(width, np.int16), np.empty((pixels if len(values) == 1 else 0, width), np.int32)
    u, v = np.zeros((high - low, width), np.int32), np.zeros((high - low, width), np.int32)
    total, before = np.empty(width, np.int32), np.empty(width, np.int32)
    fired = clipped = 0
    for t in range(steps):
        products = prepare(values, t, first, per_tap, planes, lists, counts)
        for pixel in range(low, high):
            synapse(
                values, t, pixel, first, per_tap, planes, products, window, weight,
                lists, counts, rows, short, cached, total,
            )  # fmt: skip
            spikes, saturated = cuba_step(
                total, bias[min(pixel, len(bias) - 1)], current_kept, voltage_kept, f, threshold,
                u[pixel - low], v[pixel - low], before, out[t, pixel, offset : offset + width],
            )  # fmt: skip
            fired += spikes
            clipped += saturated
            if len(record):
                record[t, pixel, offset : offset + width] = before
    return fired, clipped


@njit(cache=True, nogil=True)
def serial_decays(seeds, per_core, neurons, byte, table, out):
    """Decays of one round in the order of the cores, to (pixels, channels): for cores that do not align with channels.

    seeds (cores,) uint32 move on by one round; neuron n = channel * pixels + pixel.
    """
    pixels, n = out.shape[0], 0
    for core in range(len(seeds)):
        state = seeds[core]
        for _ in range(min(per_core, neurons - core * per_core)):
            state = (state >> np.uint32(8)) ^ byte[state & np.uint32(0xFF)]
            out[n % pixels, n // pixels] = table[state & np.uint32(0xFF)]
            n += 1
        seeds[core] = state
