"""What the kernels take, in documented bundles: named tuples, which numba hands over field by field, at no cost.

Every array is flat, and every start of a row stands in a table (`*_at`), so that no index needs a multiplication. A
"tile" is a range of output channels whose weights stay in the cache; "whole chunks" means filled up to a multiple of
64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Inputs(NamedTuple):
    """What a tile of one image reads."""

    values: np.ndarray
    """Activity, uint8 or int32: step after step, pixel after pixel, channel after channel."""
    step_at: np.ndarray
    """(T,), or (1,) where every step is the same: where its values begin."""
    value_at: np.ndarray
    """(input pixels,): where the channels of each begin within a step."""
    first: int
    """First input channel of the tile's group."""
    per_tap: int
    """Input channels of the group: weight rows of one tap."""
    window: np.ndarray
    """Input pixels that each output pixel sees, tap by tap; -1 is padding."""
    window_at: np.ndarray
    """(output pixels + 1,): where the window of each begins."""
    tap_at: np.ndarray
    """(taps,): number of each tap's first weight row."""
    begin_at: np.ndarray
    """(T + 1,): where the list table of each step begins in `Scratch.begins`."""
    plane_at: np.ndarray
    """(bit planes,): where that of each plane begins within a step, highest plane first."""
    signed: bool
    """The highest plane counts negative, as in two's complement."""
    packed: np.ndarray
    """Weights, int8: chunks of 64 channels one after another, a row is 64 bytes of each (`plan.pack`)."""
    chunk_at: np.ndarray
    """(chunks,): where each begins."""


class Scratch(NamedTuple):
    """Memory to work in; any content."""

    lists: np.ndarray
    """Numbers of the active input channels, list after list, uint32."""
    begins: np.ndarray
    """Where the list of each step, plane and pixel begins, and the one before it ends."""
    rows: np.ndarray
    """Weight rows to add for one output pixel, plane after plane, uint32."""
    ends: np.ndarray
    """(bit planes,): where the rows of each end."""
    sums: np.ndarray
    """Synaptic sums of one output pixel, int32, whole chunks."""


class Output(NamedTuple):
    """Where results go: those of pixel p at step t from out_step[t] + out_pixel[p] on, `width` of them."""

    out: np.ndarray
    """Spikes, uint8, or sums, int32."""
    record: np.ndarray
    """Membrane potentials before the reset, int32; empty where nobody asks for them."""
    out_step: np.ndarray
    out_pixel: np.ndarray
    width: int
    """Channels of the tile."""
    straight: bool
    """The width is one of whole chunks: neurons may write to out themselves."""
    rows_used: np.ndarray
    """(T,): weight rows added."""
    tally: np.ndarray
    """[spikes, saturations]."""


class Levels(NamedTuple):
    """What neurons compare and add, in membrane units; whole chunks."""

    bias: np.ndarray
    bias_at: np.ndarray
    """(output pixels,): where the biases of each begin."""
    threshold: np.ndarray
    f: int
    """Fractional bits: a current is (a << f) + b."""
    keep: int
    """-1 where a spike leaves m - threshold, 0 where it leaves nothing: every bit of what is left, or none."""


class ResetLevels(NamedTuple):
    """`Levels` of neurons whose reset may be late or whose membrane potential may have a floor."""

    bias: np.ndarray
    bias_at: np.ndarray
    threshold: np.ndarray
    f: int
    keep: int
    late: int
    """-1 where a spike acts at the next step, 0 where it acts at once."""
    floor: np.ndarray
    """The lowest membrane potential."""


class Given(NamedTuple):
    """Decays that stand still, one per neuron, or those of every step: int32, whole chunks."""

    k: int
    """Bits of a decay."""
    decays: np.ndarray
    decay_at: np.ndarray
    """(output pixels,): where the decays of each begin."""
    step_at: np.ndarray
    """(T,): where those of each step begin, zeros where all steps share them."""


class Draws(NamedTuple):
    """Decays that are drawn: the states of the registers, by entries (see `plan.Registers`)."""

    k: int
    """Bits of a decay."""
    table: np.ndarray
    """Decay of each draw: 256 low bytes, then 256 high ones, uint8."""
    states: np.ndarray
    """States of all entries at the start of each round, uint32, filled up to whole vectors; those of the first round
    are filled in.
    """
    round_at: np.ndarray
    """(T + 1,): where each round begins in states."""
    last: int
    """Number of the first entry of the last core, whose rounds may be shorter."""
    near: np.ndarray
    """Matrix, 32 columns, that moves the entries before `last` on by a round."""
    far: np.ndarray
    """The same for the others."""
    held: bool
    """Every step draws what the first drew: states do not move on from round to round."""
    entry_pixel: np.ndarray
    """Output pixel at which each entry begins, ascending."""
    entry_channel: np.ndarray
    entry_state: np.ndarray
    """Number of each entry's state in a round."""
    blocks: np.ndarray
    """Draws of the pixel at hand and of the three after it, step after step, as `kernels.draws` lays them out."""
    block_at: np.ndarray
    """(T,): where those of each step begin."""


class Cells(NamedTuple):
    """State of one pixel's neurons, whole chunks."""

    neurons: int
    """How many they are."""
    membrane: np.ndarray
    """Membrane potentials, int32."""
    before: np.ndarray
    """The same before the reset."""
    spikes: np.ndarray
    """0 or 1, uint8."""


class Kept(NamedTuple):
    """What CUBA decays leave of 4096 parts."""

    current: int
    voltage: int


class State(NamedTuple):
    """What neurons carry from call to call, from the tile's first channel on: that of pixel p begins at out_pixel[p].

    Empty where it begins at zero.
    """

    membrane: np.ndarray
    """Membrane potentials, int32."""
    current: np.ndarray
    """Currents of CUBA neurons, int32."""


class CubaCells(NamedTuple):
    """State of one pixel's CUBA neurons."""

    u: np.ndarray
    """Currents, int32."""
    v: np.ndarray
    """Voltages, int32."""
    wide: np.ndarray
    """Decayed states, int64."""
    before: np.ndarray
    """Voltages before the reset, int32."""
    spikes: np.ndarray
    """0 or 1, uint8."""
