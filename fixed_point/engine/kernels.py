"""The neurons of a tile: sums of each pixel, then the update of its neurons, fused with their random draws.

What kernels are told is in `bundles`; the sums are made in `sums`.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from randhet.fixed_point.engine.sums import copy_to, lines, listed, multiplied, step_sums, synapse, whole
from randhet.fixed_point.kernels.blocks import CHUNK, LIMIT, fire_drawn, fire_given
from randhet.fixed_point.kernels.bundles import Row
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.dense import ahead
from randhet.fixed_point.kernels.draws import AHEAD, TOGETHER, draw_ahead, place, put, put_block, unrolled


class Scratch(NamedTuple):
    """Memory of one tile's neurons: `width` channels, flat arrays whose rows are whole chunks.

    sums: the first row is `total`, of the step at hand, the others are of steps and pixels that were multiplied.
    draws: blocks of `kernels.draws` for every row of the output. spikes, before: the output itself where the tile is
    of whole chunks (`straight`), else one row, copied after each step.
    """

    width: int
    straight: bool
    sums: np.ndarray
    total: np.ndarray
    membrane: np.ndarray
    draws: np.ndarray
    spikes: np.ndarray
    before: np.ndarray


class Entering(NamedTuple):
    """Entries that are still to come: the number of the first, and all their draws as `draws.unrolled` makes them."""

    first: int
    words: np.ndarray


# --- neurons of the LIF family ------------------------------------------------------------------------------------


@kernel
def lif_tile(source, weights, levels, decays, state, output):
    """Update a tile of channels of the LIF family: all steps of one image, or one step of each of several lanes.

    Pixel by pixel, all rows of one before the next: membranes, sums and registers stay in the first-level cache.
    Returns (spikes, saturations).
    """
    full, space = multiplied(source, weights)
    active = listed(source, full.chosen)
    scratch = room(weights.plain.shape[1], space, output)
    entry, states = enter_whole(decays, output.low, scratch), decays.states.reshape(-1)
    entering = Entering(entry, unrolled(states if entry < decays.states.shape[1] else states[:0]))
    return lif_pixels(source, weights, levels, decays, state, output, full, active, scratch, entering)


@kernel
def room(width, space, output):
    """Make the `Scratch` of a tile, with `space` rows of sums that are multiplied."""
    out, record, padded = output.out, output.record, whole(width)
    straight = width == padded
    spikes, before = np.empty(padded, np.uint8), np.empty(padded, np.int32)
    if straight:
        spikes = out.reshape(-1)
        before = record.reshape(-1) if len(record) > 0 else before
    sums, draws = lines((1 + space) * padded), np.zeros(len(out) * padded * AHEAD, np.uint8)
    return Scratch(width, straight, sums, sums[:padded], np.zeros(padded, np.int32), draws, spikes, before)


@inner
def lif_pixels(source, weights, levels, decays, state, output, full, active, scratch, entering):
    """Loop over pixels and rows for `lif_tile`."""
    padded, per_pixel = len(scratch.membrane), len(full.at)
    fired, clipped, entry, made, due = 0, 0, entering.first, output.low, output.low
    first, stop, carried = output.offset, output.offset + scratch.width, carries(state, output)
    for pixel in range(output.low, output.high):
        scratch.membrane[:] = 0
        if carried:
            copy_to(scratch.membrane[: scratch.width], state.membrane[0, pixel, first:stop])
        phase = (pixel - output.low) % AHEAD
        if phase == 0 and pixel > output.low and len(decays.entry_pixel) > 0:
            draw_ahead(scratch.draws, len(scratch.draws))
        entry = enter(decays, entering.words, scratch.draws, entry, pixel, phase, padded * AHEAD)
        # the multiplying instructions want many rows at once: those of the pixels made..due - 1
        if per_pixel > 0 and pixel == due:
            made, due = pixel, pixel + ahead(source, weights.wide, full, pixel, output.high, scratch.sums, padded)
        for t in range(len(output.out)):
            row = step_sums(source, weights, active, full, t, pixel, (pixel - made) * per_pixel, scratch.total)
            tally = update(levels, decays, state, output, scratch, t, pixel, row, phase)
            fired += tally >> 32
            clipped += tally & 0xFFFFFFFF
        if carried:
            copy_to(state.membrane[0, pixel, first:stop], scratch.membrane)
    return fired, clipped


@inner(forceinline=True)
def carries(state, output):
    """Whether the rows of the output are steps of one image that goes on from a `State`; else lanes, or none is."""
    return 0 < len(state.membrane) < len(output.out)


@inner
def enter_whole(decays, low, scratch):
    """Put the draws of whole chunks into their blocks where each channel has one entry, none behind pixel `low`.

    Returns how many entries these are.
    """
    rows, entries = decays.states.shape
    if entries != scratch.width or decays.entry_pixel[entries - 1] > low:
        return 0
    whole_chunks, apart = entries // CHUNK * CHUNK, len(scratch.membrane) * AHEAD
    states = decays.states.reshape(-1)
    for t in range(rows):
        for channel in range(0, whole_chunks, CHUNK):
            put_block(scratch.draws, t * apart + channel * AHEAD, states, t * entries + channel)
    return whole_chunks


@inner(forceinline=True)
def enter(decays, words, draws, entry, pixel, phase, apart):
    """Put the draws of entries from number `entry` that begin at `pixel` into their blocks. Returns the next entry.

    phase: the draw of the four that is this pixel's; apart: bytes of a row's blocks.
    """
    rows, entries = decays.states.shape
    while entry < entries and decays.entry_pixel[entry] <= pixel:
        at = place(decays.entry_channel[entry])
        for t in range(rows):
            put(draws, t * apart + at, words[t * entries + entry], phase)
        entry += 1
    return entry


@inner(forceinline=True)
def update(levels, decays, state, output, scratch, t, pixel, row, phase):
    """Update the neurons of one pixel at row t of the output, whose sums are in `row`; result as `fire_drawn`'s."""
    membrane, padded, kept = scratch.membrane, len(scratch.membrane), len(state.membrane) == len(output.out)
    first, stop = output.offset, output.offset + scratch.width
    position = (t * output.out.shape[1] + pixel) * output.out.shape[2] + first if scratch.straight else 0
    if kept:
        copy_to(membrane[: scratch.width], state.membrane[t, pixel, first:stop])
    neurons = Row(
        scratch.sums, row * padded, row_at(levels.bias, pixel, padded),
        membrane, scratch.before, position if len(output.record) > 0 else 0, scratch.spikes, position, padded,
    )  # fmt: skip
    if len(decays.given) > 0:
        tally = fire_given(levels, neurons, decays.given, t * decays.step + row_at(decays.given, pixel, padded))
    else:
        tally = fire_drawn(levels, neurons, decays.table, scratch.draws, t * padded * AHEAD + phase * TOGETHER)
    if kept:
        copy_to(state.membrane[t, pixel, first:stop], membrane)
    if not scratch.straight:
        copy_to(output.out[t, pixel, first:stop], scratch.spikes)
        if len(output.record) > 0:
            copy_to(output.record[t, pixel, first:stop], scratch.before)
    return tally


@inner(forceinline=True)
def row_at(flat, pixel, padded):
    """Return where a pixel's row begins in rows of whole chunks, one for every pixel or one for all."""
    return 0 if len(flat) == padded else pixel * padded


# --- CUBA neurons -------------------------------------------------------------------------------------------------


@kernel
def cuba_tile(source, weights, levels, state, output):
    """Update one tile of channels of CUBA neurons as `lif_tile` does; levels: `CubaLevels`."""
    active = listed(source, np.zeros(len(source.values), np.bool_))
    width = weights.plain.shape[1]
    total, cells = np.zeros(whole(width), np.int32), np.zeros((3, width), np.int32)
    return cuba_pixels(source, weights, levels, state, output, active, total, cells)


@inner
def cuba_pixels(source, weights, levels, state, output, active, total, cells):
    """Loop over pixels and rows for `cuba_tile`; cells: u, v and v before the reset of one pixel."""
    u, v, before = cells[0], cells[1], cells[2]
    fired, clipped, kept, carried = 0, 0, len(state.membrane) == len(output.out), carries(state, output)
    first, stop = output.offset, output.offset + len(u)
    for pixel in range(output.low, output.high):
        u[:] = 0
        v[:] = 0
        if carried:
            copy_to(u, state.current[0, pixel, first:stop])
            copy_to(v, state.membrane[0, pixel, first:stop])
        bias = levels.bias[min(pixel, len(levels.bias) - 1)]
        for t in range(len(output.out)):
            synapse(source, weights, active, t, pixel, total)
            if kept:
                copy_to(u, state.current[t, pixel, first:stop])
                copy_to(v, state.membrane[t, pixel, first:stop])
            spikes, saturated = cuba_step(levels, bias, total, u, v, before, output.out[t, pixel, first:stop])
            fired += spikes
            clipped += saturated
            if kept:
                copy_to(state.current[t, pixel, first:stop], u)
                copy_to(state.membrane[t, pixel, first:stop], v)
            if len(output.record) > 0:
                copy_to(output.record[t, pixel, first:stop], before)
        if carried:
            copy_to(state.current[0, pixel, first:stop], u)
            copy_to(state.membrane[0, pixel, first:stop], v)
    return fired, clipped


@inner
def cuba_step(levels, bias, total, u, v, before, spikes):
    """Step Loihi's CUBA LIF of `integer.cuba`, in 64 bit, for all neurons in u. Returns (spikes, saturations)."""
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
