"""One time step of a layer for a batch of images, made of the engine's kernels. Single threaded: Lava has a process
per layer. Where the engine takes all steps of one image, here the images of a batch take one step each.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from randhet.fixed_point.engine.kernels import buffers, copy_to, cuba_step, listed, multiplied, step_sums, synapse
from randhet.fixed_point.kernels.blocks import fire_drawn, fire_given
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.dense import products


@kernel
def lif_step(
    values, first, per_tap, planes, window, weight, packed, wide, limit, bias, threshold, f, k, keep,
    given, table, states, entry_pixel, entry_channel, membrane, out, offset, record,
):  # fmt: skip
    """Sums, currents, leak, threshold and reset of one tile of channels, neurons of the LIF family.

    values (lanes, pixels, channels), whose lanes are to the kernels what steps are in the engine; wide, limit, bias,
    threshold, given and table as in its `lif_image`; states (lanes, entries): entry e is put into the register of
    entry_channel[e] at entry_pixel[e]. membrane (lanes, pixels, channels) is read and written; so are out (spikes)
    and, where it has entries, record (membranes before the reset), all from channel `offset`. Returns (spikes,
    saturations).
    """
    chosen, rank, at, group, space, activity = multiplied(values, first, per_tap, planes, window, wide, limit)
    lists, begins, multiply = listed(values, first, per_tap, planes, chosen)
    rows, none = buffers(window, per_tap, weight)
    padded = len(none)
    before, spikes, kept = np.empty(padded, np.int32), np.empty(padded, np.uint8), np.zeros(padded, np.int32)
    return lif_step_pixels(
        values, first, per_tap, window, weight, packed, wide,
        bias.reshape(-1), len(bias), threshold, f, k, keep, given.reshape(-1), len(given), table,
        states, entry_pixel, entry_channel, chosen, rank, at, group, activity, lists, begins, multiply, rows,
        np.zeros((1 + space, padded), np.int32), np.zeros((len(values), padded), np.uint32),
        before, spikes, kept, padded, membrane, out, offset, record,
    )  # fmt: skip


@inner
def lif_step_pixels(
    values, first, per_tap, window, weight, packed, wide,
    bias, biases, threshold, f, k, keep, given, givens, table, states, entry_pixel, entry_channel,
    chosen, rank, at, group, activity, lists, begins, multiply, rows,
    sums, registers, before, spikes, kept, padded, membrane, out, offset, record,
):  # fmt: skip
    """The loop over pixels and lanes of `lif_step`."""
    width, pixels, n = weight.shape[1], out.shape[1], len(at)
    total, flat_sums, flat_registers = sums[0], sums.reshape(-1), registers.reshape(-1)
    fired = clipped = entry = 0
    for pixel in range(pixels):
        bias_at, given_at = min(pixel, biases - 1) * padded, min(pixel, givens - 1) * padded
        while entry < len(entry_pixel) and entry_pixel[entry] <= pixel:
            for lane in range(len(values)):
                registers[lane, entry_channel[entry]] = states[lane, entry]
            entry += 1
        ahead = pixel % group
        if ahead == 0 and n > 0:
            products(values, at, per_tap, window, pixel, min(group, pixels - pixel), wide, activity, flat_sums, padded)
        for lane in range(len(values)):
            row = step_sums(
                lane, chosen, rank, ahead * n, values, pixel, first, per_tap, multiply,
                window, weight, packed, lists, begins, rows, total,
            )  # fmt: skip
            copy_to(kept[:width], membrane[lane, pixel, offset : offset + width])
            if givens:
                tally = fire_given(
                    flat_sums, row * padded, bias, bias_at, threshold, f, k, keep, given, given_at,
                    kept, before, 0, spikes, 0, padded,
                )  # fmt: skip
            else:
                tally = fire_drawn(
                    flat_sums, row * padded, bias, bias_at, threshold, f, k, keep, table, flat_registers, lane * padded,
                    kept, before, 0, spikes, 0, padded,
                )  # fmt: skip
            fired += tally >> 32
            clipped += tally & 0xFFFFFFFF
            copy_to(out[lane, pixel, offset : offset + width], spikes)
            copy_to(membrane[lane, pixel, offset : offset + width], kept)
            if len(record):
                copy_to(record[lane, pixel, offset : offset + width], before)
    return fired, clipped


@kernel
def cuba_layer_step(
    values, first, per_tap, planes, window, weight, packed, bias, threshold, f,
    current_kept, voltage_kept, current, membrane, out, offset, record,
):  # fmt: skip
    """The same for CUBA neurons; bias (1 or pixels, tile) and threshold (tile) without padding."""
    lists, begins, multiply = listed(values, first, per_tap, planes, np.zeros(len(values), np.bool_))
    rows, total = buffers(window, per_tap, weight)
    before = np.empty(weight.shape[1], np.int32)
    return cuba_step_pixels(
        values, first, per_tap, window, weight, packed, bias, threshold, f, current_kept, voltage_kept,
        lists, begins, multiply, rows, total, before, current, membrane, out, offset, record,
    )  # fmt: skip


@inner
def cuba_step_pixels(
    values, first, per_tap, window, weight, packed, bias, threshold, f, current_kept, voltage_kept,
    lists, begins, multiply, rows, total, before, current, membrane, out, offset, record,
):  # fmt: skip
    """The loop over pixels and lanes of `cuba_layer_step`."""
    fired, clipped, width = 0, 0, weight.shape[1]
    for pixel in range(out.shape[1]):
        for lane in range(len(values)):
            synapse(values, lane, pixel, first, per_tap, multiply, window, weight, packed, lists, begins, rows, total)
            spikes, saturated = cuba_step(
                total[:width], bias[min(pixel, len(bias) - 1)], current_kept, voltage_kept, f, threshold,
                current[lane, pixel, offset : offset + width], membrane[lane, pixel, offset : offset + width],
                before, out[lane, pixel, offset : offset + width],
            )  # fmt: skip
            fired += spikes
            clipped += saturated
            if len(record):
                copy_to(record[lane, pixel, offset : offset + width], before)
    return fired, clipped
