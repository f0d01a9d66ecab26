"""One layer of the add-only engine for one image: the kernels in their order. No arithmetic on data happens here.

Pixel by pixel, all steps of one before the next: its membranes, sums and registers stay in the first-level cache.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from randhet.fixed_point.add_only import kernels
from randhet.fixed_point.add_only.neurons import fire_drawn, fire_given
from randhet.fixed_point.kernels.compiled import inner


class Inputs(NamedTuple):
    """What a tile of channels of one image reads, flat, with its tables of starts.

    values: activity from step_at (T, or 1 where every step is the same) and there from value_at (pixels); channels
    `first`, `per_tap` of them. window: input pixels that each output pixel sees, from window_at (output pixels + 1).
    tap_at: weight rows of each tap. begin_at (T), plane_at (planes, from the highest down): where the tables of a list
    begin. signed: the highest plane counts negative.
    """

    values: np.ndarray
    step_at: np.ndarray
    value_at: np.ndarray
    first: int
    per_tap: int
    window: np.ndarray
    window_at: np.ndarray
    tap_at: np.ndarray
    begin_at: np.ndarray
    plane_at: np.ndarray
    signed: bool
    packed: np.ndarray
    chunk_at: np.ndarray


class Scratch(NamedTuple):
    """Memory to work in: lists of active inputs and their tables; rows of one window, where those of each plane end;
    the sums, whole chunks of channels.
    """

    lists: np.ndarray
    begins: np.ndarray
    rows: np.ndarray
    ends: np.ndarray
    sums: np.ndarray


class Output(NamedTuple):
    """Where results go: values of pixel p at step t to out from out_step[t] + out_pixel[p] on, `width` of them.

    record: membranes, empty or as out. rows_used (T,): weight rows added. tally: [spikes, saturations].
    straight: the width is one of whole chunks, so that neurons may write to out themselves.
    """

    out: np.ndarray
    record: np.ndarray
    out_step: np.ndarray
    out_pixel: np.ndarray
    width: int
    straight: bool
    rows_used: np.ndarray
    tally: np.ndarray


class Levels(NamedTuple):
    """Bias from bias_at (pixels), threshold, fractional bits, bits of the decay."""

    bias: np.ndarray
    bias_at: np.ndarray
    threshold: np.ndarray
    f: int
    k: int


class Draws(NamedTuple):
    """How decays are drawn: `states` of the entries round by round from round_at, the first round filled in.

    Arguments of `kernels.move_on` and `kernels.enter`; registers of each step begin at register_at.
    """

    table: np.ndarray
    states: np.ndarray
    round_at: np.ndarray
    last: int
    near: np.ndarray
    far: np.ndarray
    held: bool
    entry_pixel: np.ndarray
    entry_channel: np.ndarray
    entry_state: np.ndarray
    registers: np.ndarray
    register_at: np.ndarray


@inner
def find_active(inputs, scratch):
    """Lists of every step and bit plane."""
    n = 0
    for t in range(len(inputs.step_at)):
        for down in range(len(inputs.plane_at)):
            plane, begin = len(inputs.plane_at) - 1 - down, inputs.begin_at[t] + inputs.plane_at[down]
            n = kernels.list_active(
                inputs.values, inputs.step_at[t], inputs.value_at, inputs.first, inputs.per_tap, plane,
                scratch.lists, n, scratch.begins, begin,
            )  # fmt: skip


@inner(forceinline=True)
def synapse(inputs, scratch, pixel, t):
    """Sums of one output pixel, bit plane by bit plane from the highest; returns how many weight rows were added.

    Where every step is the same, the rows gathered at the first are added again.
    """
    rows, ends, sums = scratch.rows, scratch.ends, scratch.sums
    if t < len(inputs.step_at):
        start, stop, n = inputs.window_at[pixel], inputs.window_at[pixel + 1], 0
        for down in range(len(ends)):
            begin = inputs.begin_at[t] + inputs.plane_at[down]
            n = kernels.gather(
                inputs.window, start, stop, inputs.tap_at, scratch.lists, scratch.begins, begin, rows, n
            )  # fmt: skip
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
    """The sums of a layer without neurons, all steps of the pixels low..high."""
    find_active(inputs, scratch)
    for pixel in range(low, high):
        for t in range(len(output.out_step)):
            output.rows_used[t] += synapse(inputs, scratch, pixel, t)
            at = output.out_step[t] + output.out_pixel[pixel]
            kernels.store(scratch.sums, output.out, at, output.width)


@inner
def drawn_layer(inputs, scratch, output, low, high, levels, draws, membrane, before, spikes):
    """The same for neurons that draw their decays; membrane, before and spikes are scratch memory of whole chunks."""
    find_active(inputs, scratch)
    kernels.move_on(draws.states, draws.round_at, draws.last, draws.near, draws.far, draws.held)
    entry, out, at = 0, output.out if output.straight else spikes, 0
    for pixel in range(low, high):
        membrane[:] = 0
        entry = kernels.enter(
            entry, pixel, draws.entry_pixel, draws.entry_channel, draws.entry_state, draws.states, draws.round_at,
            draws.registers, draws.register_at,
        )  # fmt: skip
        for t in range(len(output.out_step)):
            output.rows_used[t] += synapse(inputs, scratch, pixel, t)
            if output.straight:
                at = output.out_step[t] + output.out_pixel[pixel]
            tally = fire_drawn(
                scratch.sums, levels.bias, levels.bias_at[pixel], levels.threshold, levels.f, levels.k,
                membrane, before, 0, out, at, len(membrane), draws.table, draws.registers, draws.register_at[t],
            )  # fmt: skip
            put(output, t, pixel, before, spikes, tally, output.straight)


@inner
def given_layer(inputs, scratch, output, low, high, levels, decays, decay_at, membrane, before, spikes):
    """The same with decays (int32) of each pixel from decay_at."""
    find_active(inputs, scratch)
    out, at = output.out if output.straight else spikes, 0
    for pixel in range(low, high):
        membrane[:] = 0
        for t in range(len(output.out_step)):
            output.rows_used[t] += synapse(inputs, scratch, pixel, t)
            if output.straight:
                at = output.out_step[t] + output.out_pixel[pixel]
            tally = fire_given(
                scratch.sums, levels.bias, levels.bias_at[pixel], levels.threshold, levels.f, levels.k,
                membrane, before, 0, out, at, len(membrane), decays, decay_at[pixel],
            )  # fmt: skip
            put(output, t, pixel, before, spikes, tally, output.straight)


@inner
def cuba_layer(inputs, scratch, output, low, high, levels, kept_u, kept_v, u, v, wide, before, spikes):
    """The same for CUBA neurons: states u and v, and scratch memory for one pixel's channels."""
    find_active(inputs, scratch)
    for pixel in range(low, high):
        u[:] = 0
        v[:] = 0
        for t in range(len(output.out_step)):
            output.rows_used[t] += synapse(inputs, scratch, pixel, t)
            saturated = kernels.cuba(
                scratch.sums, levels.bias, levels.bias_at[pixel], levels.f, kept_u, kept_v, u, v, wide, before
            )  # fmt: skip
            fired = kernels.fire(before, levels.threshold, v, spikes)
            put(output, t, pixel, before, spikes, (np.int64(fired) << 32) | np.int64(saturated), False)


@inner(forceinline=True)
def put(output, t, pixel, before, spikes, tally, written):
    """Results of one pixel and step, spikes unless they are `written`; tally: spikes << 32 | saturations."""
    at = output.out_step[t] + output.out_pixel[pixel]
    if not written:
        kernels.store(spikes, output.out, at, output.width)
    if len(output.record):
        kernels.store(before, output.record, at, output.width)
    output.tally[0] += tally >> 32
    output.tally[1] += tally & 0xFFFFFFFF
