"""One time step of a layer for a batch of images, made of the engine's kernels. Single threaded: Lava has a process
per layer. Where the engine takes all steps of one image, here the images of a batch take one step each.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from fixed_point.engine.blocks import fire_drawn, fire_given
from fixed_point.engine.compiled import kernel
from fixed_point.engine.kernels import buffers, cuba_step, listed, synapse


@kernel
def lif_step(
    values, first, per_tap, planes, window, weight, packed, bias, threshold, f, k,
    given, table, states, entry_pixel, entry_channel, membrane, out, offset, record,
):  # fmt: skip
    """Sums, currents, leak, threshold and reset of one tile of channels, neurons of the LIF family.

    values (lanes, pixels, channels); bias, threshold, given and table as in the engine's `lif_image`; states (lanes,
    entries): entry e is put into the register of entry_channel[e] at entry_pixel[e]. membrane (lanes, pixels,
    channels) is read and written; so are out (spikes) and, where it has entries, record (membranes before the reset),
    all from channel `offset`. Returns (spikes, saturations).
    """
    lanes = len(values)
    lists, begins, multiply = listed(values, first, per_tap, planes, np.zeros(len(values), np.bool_))
    rows, total = buffers(window, per_tap, weight)
    width, padded, pixels, channels = weight.shape[1], len(total), out.shape[1], out.shape[2]
    before, spikes, kept = np.empty(padded, np.int32), np.empty(padded, np.uint8), np.zeros(padded, np.int32)
    registers = np.zeros(lanes * padded, np.uint32)
    straight, all_membranes = width == padded, membrane.reshape(-1)
    flat_bias, flat_given = bias.reshape(-1), given.reshape(-1)
    fired = clipped = entry = 0
    for pixel in range(pixels):
        bias_at, given_at = min(pixel, len(bias) - 1) * padded, min(pixel, len(given) - 1) * padded
        while entry < len(entry_pixel) and entry_pixel[entry] <= pixel:
            for lane in range(lanes):
                registers[lane * padded + entry_channel[entry]] = states[lane, entry]
            entry += 1
        for lane in range(lanes):
            synapse(values, lane, pixel, first, per_tap, multiply, window, weight, packed, lists, begins, rows, total)
            at = (lane * pixels + pixel) * channels + offset
            cells = all_membranes[at : at + padded] if straight else kept
            if not straight:
                kept[:width] = membrane[lane, pixel, offset : offset + width]
            if len(given):
                tally = fire_given(
                    total, flat_bias, bias_at, threshold, f, k, flat_given, given_at,
                    cells, before, 0, spikes, 0, padded,
                )  # fmt: skip
            else:
                tally = fire_drawn(
                    total, flat_bias, bias_at, threshold, f, k, table, registers, lane * padded,
                    cells, before, 0, spikes, 0, padded,
                )  # fmt: skip
            fired += tally >> 32
            clipped += tally & 0xFFFFFFFF
            out[lane, pixel, offset : offset + width] = spikes[:width]
            if not straight:
                membrane[lane, pixel, offset : offset + width] = kept[:width]
            if len(record):
                record[lane, pixel, offset : offset + width] = before[:width]
    return fired, clipped


@kernel
def cuba_layer_step(
    values, first, per_tap, planes, window, weight, packed, bias, threshold, f,
    current_kept, voltage_kept, current, membrane, out, offset, record,
):  # fmt: skip
    """The same for CUBA neurons; bias (1 or pixels, tile) and threshold (tile) without padding."""
    lists, begins, multiply = listed(values, first, per_tap, planes, np.zeros(len(values), np.bool_))
    rows, total = buffers(window, per_tap, weight)
    width, before = weight.shape[1], np.empty(weight.shape[1], np.int32)
    fired = clipped = 0
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
                record[lane, pixel, offset : offset + width] = before
    return fired, clipped
