"""One layer of the add-only engine for one image: the kernels in their order. No arithmetic on data happens here.

Pixel by pixel, all steps of one before the next: its membranes, sums and registers stay in the first-level cache.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from randhet.fixed_point.add_only import kernels
from randhet.fixed_point.add_only.neurons import fire_drawn, fire_given
from randhet.fixed_point.kernels.compiled import inner
from randhet.fixed_point.kernels.draws import AHEAD, TOGETHER, draw_ahead_by_shifts, unroll


@inner
def find_active(inputs, scratch):
    """Lists of every step and bit plane."""
    n = 0
    for t in range(len(inputs.step_at)):
        for down in range(len(inputs.plane_at)):
            n = kernels.list_active(inputs, scratch, t, down, n)


@inner(forceinline=True)
def synapse(inputs, scratch, pixel, t):
    """Sums of one output pixel, bit plane by bit plane from the highest; returns how many weight rows were added.

    Where every step is the same, the rows gathered at the first are added again.
    """
    rows, ends, sums = scratch.rows, scratch.ends, scratch.sums
    if t < len(inputs.step_at):
        n = 0
        for down in range(len(ends)):
            n = kernels.gather(inputs, scratch, pixel, inputs.begin_at[t] + inputs.plane_at[down], n)
            ends[down] = n
    sums[:] = 0
    used = 0
    for down in range(len(ends)):
        if down:
            kernels.double(sums)
        kernels.spend(inputs.packed, inputs.chunk_at, rows, used, ends[down], sums)
        if inputs.signed and not down:
            kernels.negate(sums)
        used = ends[down]
    return used


@inner
def sum_layer(inputs, scratch, output, low, high):
    """The sums of a read-out, all steps of the pixels low..high."""
    find_active(inputs, scratch)
    for pixel in range(low, high):
        for t in range(len(output.out_step)):
            output.rows_used[t] += synapse(inputs, scratch, pixel, t)
            offset = output.out_step[t] + output.out_pixel[pixel]
            kernels.store(scratch.sums, output.out, offset, output.width)


@inner
def drawn_layer(inputs, scratch, output, low, high, levels, draws, cells, state):
    """The same for neurons that draw their decays."""
    find_active(inputs, scratch)
    kernels.move_on(draws)
    unroll(draws.states)
    entry, phase, slot, out, offset = 0, 0, 0, output.out if output.straight else cells.spikes, 0
    for pixel in range(low, high):
        begin(output, pixel, cells.membrane, state.membrane)
        if phase == AHEAD:
            draw_ahead_by_shifts(draws.blocks, len(draws.blocks))
            phase = slot = 0
        entry = kernels.enter(draws, entry, pixel, phase)
        for t in range(len(output.out_step)):
            output.rows_used[t] += synapse(inputs, scratch, pixel, t)
            if output.straight:
                offset = output.out_step[t] + output.out_pixel[pixel]
            bias_at, draws_at = levels.bias_at[pixel], draws.block_at[t] + slot
            tally = fire_drawn(scratch.sums, levels, bias_at, cells, out, offset, draws, draws_at)
            put(output, t, pixel, cells, tally, output.straight)
        end(output, pixel, cells.membrane, state.membrane)
        phase += 1
        slot += TOGETHER


@inner
def given_layer(inputs, scratch, output, low, high, levels, given, cells, state):
    """The same for neurons whose decays stand still, or were drawn before."""
    find_active(inputs, scratch)
    out, offset = output.out if output.straight else cells.spikes, 0
    for pixel in range(low, high):
        begin(output, pixel, cells.membrane, state.membrane)
        for t in range(len(output.out_step)):
            output.rows_used[t] += synapse(inputs, scratch, pixel, t)
            if output.straight:
                offset = output.out_step[t] + output.out_pixel[pixel]
            bias_at, decay_at = levels.bias_at[pixel], given.step_at[t] + given.decay_at[pixel]
            tally = fire_given(scratch.sums, levels, bias_at, cells, out, offset, given, decay_at)
            put(output, t, pixel, cells, tally, output.straight)
        end(output, pixel, cells.membrane, state.membrane)


@inner
def cuba_layer(inputs, scratch, output, low, high, levels, kept, cells, state):
    """The same for CUBA neurons."""
    find_active(inputs, scratch)
    for pixel in range(low, high):
        begin(output, pixel, cells.u, state.current)
        begin(output, pixel, cells.v, state.membrane)
        for t in range(len(output.out_step)):
            output.rows_used[t] += synapse(inputs, scratch, pixel, t)
            saturated = kernels.cuba(scratch.sums, levels, levels.bias_at[pixel], kept, cells)
            fired = kernels.fire(cells.before, levels.threshold, cells.v, cells.spikes)
            put(output, t, pixel, cells, (np.int64(fired) << 32) | np.int64(saturated), False)
        end(output, pixel, cells.u, state.current)
        end(output, pixel, cells.v, state.membrane)


@inner(forceinline=True)
def begin(output, pixel, own, kept):
    """One pixel's neurons begin at what is kept of them, or at 0 where that is empty."""
    own[:] = 0
    if len(kept):
        offset = output.out_pixel[pixel]
        kernels.store(kept[offset : offset + output.width], own, 0, output.width)


@inner(forceinline=True)
def end(output, pixel, own, kept):
    """Keep what one pixel's neurons go on from, unless nothing is kept."""
    if len(kept):
        kernels.store(own, kept, output.out_pixel[pixel], output.width)


@inner(forceinline=True)
def put(output, t, pixel, cells, tally, written):
    """Results of one pixel and step, spikes unless they are `written`; tally: spikes << 32 | saturations."""
    offset = output.out_step[t] + output.out_pixel[pixel]
    if not written:
        kernels.store(cells.spikes, output.out, offset, output.width)
    if len(output.record):
        kernels.store(cells.before, output.record, offset, output.width)
    output.tally[0] += tally >> 32
    output.tally[1] += tally & 0xFFFFFFFF
