"""How each kind of neuron is updated: what runs a tile of it, and what one step costs. Nowhere else is a kind asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point import network as ir
from randhet.fixed_point.add_only import layer as kernels
from randhet.fixed_point.add_only.bundles import (
    Cells,
    CubaCells,
    Draws,
    Given,
    Inputs,
    Kept,
    Levels,
    Output,
    ResetLevels,
    Scratch,
    State,
)
from randhet.fixed_point.add_only.counts import NeuronCost
from randhet.fixed_point.engine.calls import floors, kept, reset_differs
from randhet.fixed_point.engine.calls import padded as filled
from randhet.fixed_point.engine.guard import padded
from randhet.fixed_point.engine.keyed import Keyed
from randhet.fixed_point.engine.plan import Registers, Tile, channels_last, visits
from randhet.fixed_point.engine.walk import LONGEST
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.kernels.draws import AHEAD, LANES
from randhet.fixed_point.kernels.registers import jump
from randhet.fixed_point.keyed import words_of

Entries = np.ndarray
"""States of the registers' entries, uint32; where a cipher draws, the two words of the round's number."""
Run = Callable[[Inputs, Scratch, Output, State, int, int, Entries], None]
"""Runs pixels low..high of a tile from a state, given the states of its registers' entries where the span begins."""

NO_ENTRIES = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Place:
    """Where neurons stand: the shape of their layer, and where decays are drawn its registers, or its cipher."""

    shape: ir.Shape
    registers: Registers | None
    keyed: Keyed | None = None

    @property
    def pixels(self) -> int:
        """Output pixels of the layer."""
        return prod(self.shape[1:])


@dataclass(frozen=True, eq=False)
class Program:
    """What runs a tile, its entries in the order of their states (those of the last core at the end), and what moves
    these states on by a step.
    """

    run: Run
    order: np.ndarray
    move_on: Callable[[Entries], None] = lambda entries: None


def program(neuron: ir.Neuron, context: Place, tile: Tile) -> Program:
    """What runs a tile of this kind of neuron."""
    match neuron:
        case ir.Lif():
            return _lif(neuron, context, tile)
        case ir.Cuba():
            return Program(_cuba(neuron, context, tile), NO_ENTRIES)
        case ir.ReadOut():
            return Program(_sums, NO_ENTRIES)
        case ir.Leaky():
            return program(neuron.dynamics, context, tile)
        case _:
            assert_never(neuron)


def neuron_cost(neuron: ir.Neuron) -> NeuronCost:
    """Read off the kernels: current (shift, bias, four comparisons to clamp and saturate), decay, threshold.

    The decay of k bits is one subtraction, k conditional additions each with a shift of the sum and one of the decay's
    bit, and the final addition; "subtract" takes one more subtraction. A late reset compares once more, and once to
    saturate what a threshold was taken from; a floor compares once. CUBA has two decays of 13 bits. What a leaky
    read-out reads takes an addition or a comparison, if not the last value.
    """
    match neuron:
        case ir.Lif():
            subtracts = int(kept(neuron.reset) != 0)
            compared = 5 + neuron.reset_delay * (1 + subtracts) + neuron.floored
            return NeuronCost(1 + 1 + neuron.k + 1 + subtracts, 1 + 2 * neuron.k, compared)
        case ir.Cuba():
            return NeuronCost(2 * 13 + 3, 2 * (2 * 13 + 1) + 1, 2 + 2 + 2 + 1)
        case ir.ReadOut():
            return NeuronCost(2, 0, 0)
        case ir.Leaky():
            moves = neuron_cost(neuron.dynamics)
            summed, compared = int(neuron.read == "sum"), int(neuron.read == "max")
            return NeuronCost(moves.additions + summed, moves.shifts, moves.comparisons + compared)
        case _:
            assert_never(neuron)


def _lif(neuron: ir.Lif, context: Place, tile: Tile) -> Program:
    match neuron.decay:
        case ir.Constant() | ir.PerNeuron():
            return Program(_given(neuron, neuron.decay, context, tile), NO_ENTRIES)
        case ir.Drawn():
            keyed = context.keyed
            return (
                _drawn(neuron, neuron.decay, context, tile) if keyed is None else _keyed(neuron, keyed, context, tile)
            )
        case _:
            assert_never(neuron.decay)


def _sums(
    inputs: Inputs, scratch: Scratch, output: Output, state: State, low: int, high: int, entries: Entries
) -> None:
    kernels.sum_layer(inputs, scratch, output, low, high)


def _given(neuron: ir.Lif, decay: ir.Constant | ir.PerNeuron, context: Place, tile: Tile) -> Run:
    levels, width = _lif_levels(neuron, context, tile), padded(tile.width)
    mantissa = channels_last(np.asarray(decay.mantissa), context.shape)[:, tile.channels]
    given = Given(neuron.k, *_rows(mantissa, 0, context.pixels), np.zeros(LONGEST, np.int64))

    def run(
        inputs: Inputs, scratch: Scratch, output: Output, state: State, low: int, high: int, entries: Entries
    ) -> None:
        kernels.given_layer(inputs, scratch, output, low, high, levels, given, _cells(width), state)

    return run


def _keyed(neuron: ir.Lif, keyed: Keyed, context: Place, tile: Tile) -> Program:
    """Decays are drawn before the kernel runs, which takes them as given ones of every step."""
    levels, width, size = _lif_levels(neuron, context, tile), padded(tile.width), keyed.size(tile)
    decay_at, still = np.arange(context.pixels) * width, np.zeros(LONGEST, np.int64)

    def run(
        inputs: Inputs, scratch: Scratch, output: Output, state: State, low: int, high: int, entries: Entries
    ) -> None:
        first, steps = _number(entries), len(output.out_step)
        rounds = [first] if keyed.held else range(first, first + steps)
        step_at = still if keyed.held else np.arange(steps) * size
        given = Given(neuron.k, keyed.decays(tile, rounds), decay_at, step_at)
        kernels.given_layer(inputs, scratch, output, low, high, levels, given, _cells(width), state)

    def move_on(entries: Entries) -> None:
        if not keyed.held:
            entries[:] = words_of(_number(entries) + 1)

    return Program(run, np.arange(2), move_on)


def _number(entries: Entries) -> int:
    return int(entries[0]) | int(entries[1]) << 32


def _drawn(neuron: ir.Lif, decay: ir.Drawn, context: Place, tile: Tile) -> Program:
    assert context.registers is not None  # every layer that draws has some
    mine = visits(context.registers, tile)
    # the entries of the last core stand at the end, so that each of the two matrices moves one range of states
    ordered = mine.number[np.argsort(mine.last, kind="stable")]
    levels, width = _lif_levels(neuron, context, tile), padded(tile.width)
    count, last, held = len(ordered), len(ordered) - int(mine.last.sum()), decay.sampling == "forward"
    near, far = context.registers.round()
    still = Draws(
        k=neuron.k, table=np.concatenate([decay.table & 0xFF, decay.table >> 8]).astype(np.uint8),
        states=np.zeros(0, np.uint32), round_at=NO_ENTRIES, last=last, near=near, far=far, held=held,
        entry_pixel=mine.pixel, entry_channel=mine.channel, entry_state=np.argsort(ordered),
        blocks=np.zeros(0, np.uint8), block_at=NO_ENTRIES,
    )  # fmt: skip

    def run(
        inputs: Inputs, scratch: Scratch, output: Output, state: State, low: int, high: int, entries: Entries
    ) -> None:
        steps = len(output.out_step)
        own = np.zeros(-(-steps * count // LANES) * LANES, np.uint32)
        own[:count] = entries
        blocks, apart = np.zeros(steps * width * AHEAD, np.uint8), width * AHEAD
        draws = still._replace(
            states=own, round_at=np.arange(steps + 1) * count, blocks=blocks, block_at=np.arange(steps) * apart
        )
        kernels.drawn_layer(inputs, scratch, output, low, high, levels, draws, _cells(width), state)

    def move_on(entries: Entries) -> None:
        if not held:
            jump(entries[:last], near)
            jump(entries[last:], far)

    return Program(run, ordered, move_on)


def _cuba(neuron: ir.Cuba, context: Place, tile: Tile) -> Run:
    levels, width = _levels(neuron, context, tile, 0), tile.width
    levels = levels._replace(threshold=levels.threshold[:width])
    parts = Kept(4096 - neuron.current_decay - 1, 4096 - neuron.voltage_decay)

    def run(
        inputs: Inputs, scratch: Scratch, output: Output, state: State, low: int, high: int, entries: Entries
    ) -> None:
        u, v, before = np.zeros((3, width), np.int32)
        cells = CubaCells(u, v, np.zeros(width, np.int64), before, np.zeros(width, np.uint8))
        kernels.cuba_layer(inputs, scratch, output, low, high, levels, parts, cells, state)

    return run


def _cells(width: int) -> Cells:
    return Cells(width, np.zeros(width, np.int32), np.zeros(width, np.int32), np.zeros(width, np.uint8))


def _lif_levels(neuron: ir.Lif, context: Place, tile: Tile) -> Levels | ResetLevels:
    levels = _levels(neuron, context, tile, kept(neuron.reset))
    if not reset_differs(neuron):
        return levels
    return ResetLevels(*levels, -neuron.reset_delay, floors(neuron, context.shape, tile))


def _levels(neuron: ir.Lif | ir.Cuba, context: Place, tile: Tile, keep: int) -> Levels:
    bias, bias_at = _rows(channels_last(neuron.bias, context.shape)[:, tile.channels], 0, context.pixels)
    # channels that only fill a chunk up never spike
    threshold, _ = _rows(neuron.threshold[None, tile.channels], STATE_MAX, 1)
    return Levels(bias, bias_at, threshold, neuron.f, keep)


def _rows(value: np.ndarray, fill: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """(1 or pixels, channels of a tile) int32, filled up to whole chunks, flat, and where each pixel's row starts."""
    return filled(value, fill), np.arange(pixels) * (padded(value.shape[1]) if len(value) > 1 else 0)
