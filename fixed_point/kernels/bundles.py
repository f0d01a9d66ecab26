"""What the engine's kernels are told, in bundles: named tuples of arrays and numbers.

Compiled code takes them apart, so that a bundle costs no more than its members one by one. Channels of whole chunks
are channels of a tile filled up to a multiple of 64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Strip(NamedTuple):
    """How the input of a convolution lies in memory so that neighbouring windows are the same bytes, moved on.

    slots (rows * row,) int32: the input pixel of each place of the padded image, -1 outside; of a row, every stride-th
    pixel side by side. places (output pixels, taps) int32: the slot each tap sees; within `line` output pixels, a row
    of the output, the next pixel sees the next slot. tall: rows of slots that a row of the output sees; stride: rows
    from one row of the output to the next. Empty where windows do not overlap or inputs of a tap are no whole lines.
    """

    slots: np.ndarray
    places: np.ndarray
    line: int
    row: int
    tall: int
    stride: int


NO_STRIP = Strip(np.zeros(0, np.int32), np.zeros((0, 0), np.int32), 1, 0, 0, 0)


class Source(NamedTuple):
    """What a tile of output channels reads.

    values (rows, pixels, channels) uint8 or int32: the activity, a row for every step, one where all steps are the
    same, or a row for every lane. window (output pixels, taps) int32: the input pixel that each tap sees, -1 outside.
    first, per_tap: the first of the input channels it reads, and how many. planes: bits of the largest value; more
    than 8 are not split into bits but multiplied. strip: how neighbouring windows may share what they see.
    """

    values: np.ndarray
    window: np.ndarray
    first: int
    per_tap: int
    planes: int
    strip: Strip = NO_STRIP


class Weights(NamedTuple):
    """A tile's weights in three layouts; a weight row is the weights of one input for all channels of the tile.

    plain (taps * per_tap + 1, width) int8, its last row zero; packed: these rows as `plan.pack` lays them out; wide: as
    `dense.pack` does, or empty, where nothing may be multiplied. limit: active bits of a row of the source above which
    it is multiplied.
    """

    plain: np.ndarray
    packed: np.ndarray
    wide: np.ndarray
    limit: int


class Levels(NamedTuple):
    """What neurons of the LIF family compare and add, whole chunks of channels.

    bias, flat: of every pixel, or one for all; threshold; f fractional bits; k bits of a decay. keep: -1 where a spike
    leaves m - theta of the membrane potential, 0 where it leaves nothing.
    """

    bias: np.ndarray
    threshold: np.ndarray
    f: int
    k: int
    keep: int


class ResetLevels(NamedTuple):
    """`Levels` of neurons whose reset may be late or whose membrane potential may have a floor.

    late: -1 where a spike acts at the next step, 0 where it acts at once. floor: the lowest membrane potential, whole
    chunks of channels. A type of its own, so that the kernels of other neurons are compiled without any of it.
    """

    bias: np.ndarray
    threshold: np.ndarray
    f: int
    k: int
    keep: int
    late: int
    floor: np.ndarray


class Decays(NamedTuple):
    """Where the decays of a tile come from.

    given, flat, int32, whole chunks of channels: of every pixel, or one for all; where it is empty registers draw them.
    step: how many of `given` belong to one row of the output, 0 where all rows share them.
    table: 256 decays, their low bytes, then their high. states (rows, entries) uint32: entry e puts its state into the
    register of entry_channel[e] at entry_pixel[e], in ascending order; from there on every pixel takes the next draw.
    """

    given: np.ndarray
    table: np.ndarray
    states: np.ndarray
    entry_pixel: np.ndarray
    entry_channel: np.ndarray
    step: int = 0


class CubaLevels(NamedTuple):
    """What CUBA neurons compare and add: bias (1 or pixels, width), threshold (width); f fractional bits.

    current_kept, voltage_kept: the share of u and of v that a step leaves, in 1/4096.
    """

    bias: np.ndarray
    threshold: np.ndarray
    f: int
    current_kept: int
    voltage_kept: int


class State(NamedTuple):
    """Membrane potentials, and currents of CUBA neurons, (rows, pixels, channels) int32, kept from call to call.

    With as many rows as the output has, these are lanes: images that take one step each. With one row, the rows of the
    output are steps of one image, whose state begins at what is kept. Without, it begins at zero.
    """

    membrane: np.ndarray
    current: np.ndarray


class Output(NamedTuple):
    """Where results go: pixels low..high and, from channel `offset` on, the channels of the tile.

    out (rows, pixels, channels): spikes. record: membrane potentials before the reset, of the same shape, or empty.
    """

    out: np.ndarray
    record: np.ndarray
    offset: int
    low: int
    high: int


class Row(NamedTuple):
    """One step of `count` neurons (whole chunks): flat arrays, and where in them it reads and writes.

    sums: synaptic sums; membrane: read, and written after the reset; before: written before it; spikes: written.
    """

    sums: Any
    sums_at: Any
    bias_at: Any
    membrane: Any
    before: Any
    before_at: Any
    spikes: Any
    spikes_at: Any
    count: Any


NO_STATE = State(np.zeros((0, 0, 0), np.int32), np.zeros((0, 0, 0), np.int32))
NO_RECORD = np.zeros((0, 0, 0), np.int32)
NO_DECAYS = np.zeros(0, np.int32)
NO_TABLE = np.zeros(512, np.uint8)
NO_STATES = np.zeros((0, 0), np.uint32)
NO_ENTRIES = np.zeros(0, np.int64)
