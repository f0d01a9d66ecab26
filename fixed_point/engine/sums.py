"""Synaptic sums, event-driven and output-stationary: what is active becomes lists, lists become weight rows.

Activity is stored channels last, (rows, pixels, channels). For each output pixel the active inputs of its window become
a list of weight rows, which `blocks` adds. What kernels are told is in `bundles`.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from randhet.fixed_point.kernels.blocks import (
    CHUNK,
    FLUSH,
    add_rows,
    add_rows_twice,
    append,
    append_word,
    marked,
)
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.dense import arranged, crowded, strip_bytes, strip_rows, together

DENSE = 8
"""A multiplication costs about as much as adding this many rows."""
MOST_PLANES = 8
"""Values of more bits are always multiplied."""
LINE = 16
"""Sums of a cache line."""
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
    begins. group: pixels of one call of `products`, activity: the bytes it needs. rows: rows of the output whose
    `bundles.Strip` is laid out in activity at once, 0 where windows are collected one by one; laid (2,): the pixel up
    to which it is, and its first slot.
    """

    chosen: np.ndarray
    rank: np.ndarray
    at: np.ndarray
    group: int
    activity: np.ndarray
    rows: int
    laid: np.ndarray


# --- lists of what is active --------------------------------------------------------------------------------------


@inner
def list_active(source, skipped, lists, begins):
    """List for each step, bit plane and pixel the channels of a `Source` whose value has that bit, from its first on.

    Steps that are `skipped` have no lists. Writes `Active.lists` and `Active.begins`.
    """
    steps, pixels, channels = source.values.shape
    flat, n = source.values.reshape(-1), 0
    for t in range(steps):
        for plane in range(0 if skipped[t] else source.planes):
            position = t * pixels * channels + source.first
            for pixel in range(pixels):
                begins[t, plane, pixel] = n
                c = 0
                while c + CHUNK <= source.per_tap:
                    n = append_word(lists, n, marked(flat, position + c, plane), c)
                    c += CHUNK
                # each is written, and stays where its bit is set: a branch would be guessed wrong too often
                while c < source.per_tap:
                    lists[n] = c
                    n += (flat[position + c] >> plane) & 1
                    c += 1
                position += channels
            begins[t, plane, pixels] = n


@kernel
def listed(source, skipped):
    """List active inputs of every step that differs and is not `skipped`, and where multiplying values costs less."""
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
    """Count the values read at step t that are not zero."""
    active = 0
    for pixel in range(source.values.shape[1]):
        for c in range(source.per_tap):
            active += source.values[t, pixel, source.first + c] != 0
    return active


# --- synaptic sums of one pixel -----------------------------------------------------------------------------------


@inner(forceinline=True)
def gather(source, active, t, plane, pixel):
    """Write the weight rows of an output pixel's window to active.rows. Returns how many."""
    n, tap_at = 0, 0
    for tap in range(source.window.shape[1]):
        input_pixel = source.window[pixel, tap]
        if input_pixel >= 0:
            start, stop = active.begins[t, plane, input_pixel], active.begins[t, plane, input_pixel + 1]
            append(active.rows, n, active.lists, start, stop, tap_at)
            n += stop - start
        tap_at += source.per_tap
    return n


@inner(forceinline=True)
def pixel_sums(source, packed, active, t, pixel, total):
    """Sum the weight rows of one output pixel: total (channels of the tile) int32. Graded values by bit planes.

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
    """Make the sums of `pixel_sums` with multiplications, where bit planes would cost more than they save."""
    total[:] = 0
    for tap in range(source.window.shape[1]):
        input_pixel = source.window[pixel, tap]
        if input_pixel >= 0:
            for c in range(source.per_tap):
                value = np.int32(source.values[t, input_pixel, source.first + c])
                if value != 0:
                    row = plain[tap * source.per_tap + c]
                    for o in range(len(total)):
                        total[o] += value * np.int32(row[o])


@inner(forceinline=True)
def synapse(source, weights, active, t, pixel, total):
    """Make the sums of one output pixel at step t; where every step has the same input, those of step 0 stay."""
    # the image is held for all steps: the stem's sums are made once
    if t > 0 and len(source.values) == 1:
        return
    if active.multiply[t]:
        pixel_products(source, weights.plain, t, pixel, total[: weights.plain.shape[1]])
    else:
        pixel_sums(source, weights.packed, active, t, pixel, total)


@kernel
def multiplied(source, weights):
    """Choose the steps that are `Crowded`, none where weights.wide is empty, and rows of sums that they need."""
    chosen = np.zeros(len(source.values), np.bool_)
    if len(weights.wide) > 0:
        crowded(source, weights.limit, chosen)
    steps = arranged(chosen)
    group, space, activity_bytes = together(steps, source.window.shape[1] * source.per_tap)
    rows = strip_rows(source, len(steps), group)
    activity = np.empty(strip_bytes(source, len(steps), rows), np.uint8) if rows else np.zeros(activity_bytes, np.uint8)
    begins = steps * (source.values.shape[1] * source.values.shape[2]) + source.first
    return Crowded(chosen, np.cumsum(chosen), begins, group, activity, rows, np.zeros(2, np.int64)), space


@inner(forceinline=True)
def step_sums(source, weights, active, full, t, pixel, ahead, total):
    """Return the row of the sums of step t: behind `ahead` others where multiplied; else 0, total, made now."""
    read = min(t, len(source.values) - 1)
    if full.chosen[read]:
        return ahead + full.rank[read]
    synapse(source, weights, active, t, pixel, total)
    return 0


@kernel
def sum_tile(source, weights, out):
    """Make the sums of a layer without neurons: out (rows, pixels, channels of the tile) int32."""
    active = listed(source, np.zeros(len(source.values), np.bool_))
    sum_pixels(source, weights, active, out, np.zeros(whole(weights.plain.shape[1]), np.int32))


@inner
def sum_pixels(source, weights, active, out, total):
    """Loop over pixels and rows for `sum_tile`."""
    for pixel in range(len(source.window)):
        for t in range(len(out)):
            synapse(source, weights, active, t, pixel, total)
            copy_to(out[t, pixel], total)


@inner(forceinline=True)
def copy_to(target, source):
    """Set target to the beginning of source."""
    for o in range(len(target)):
        target[o] = source[o]


@kernel
def lines(count):
    """Zeros, int32, from the beginning of a cache line on: matrices are stored in whole lines."""
    space = np.zeros(count + LINE, np.int32)
    start = -space.ctypes.data % (4 * LINE) // 4
    return space[start : start + count]


@inner
def whole(width):
    """Round a number of channels up to whole chunks."""
    return (width + CHUNK - 1) // CHUNK * CHUNK
