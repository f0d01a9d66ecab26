"""Calls of the kernels: what a layer keeps and what a batch brings, bundled, looked at and handed over."""

from __future__ import annotations

from math import prod
from typing import cast

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point.engine import choice, guard, kernels
from randhet.fixed_point.engine.plan import Synapse, Tile, Visits, channels_last
from randhet.fixed_point.engine.sums import sum_tile
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.kernels import dense
from randhet.fixed_point.kernels.bundles import (
    NO_DECAYS,
    NO_ENTRIES,
    NO_STATES,
    NO_TABLE,
    CubaLevels,
    Decays,
    Levels,
    Output,
    ResetLevels,
    State,
    Weights,
)
from randhet.fixed_point.layers import NO_FLOOR
from randhet.fixed_point.network import Constant, Cuba, Drawn, Lif, PerNeuron, Reset, Shape

NO_WEIGHTS = np.zeros(0, np.int8)
AnyLevels = Levels | ResetLevels
Tally = tuple[int, int]
"""Spikes, saturations."""


def lif(
    synapse: Synapse, tile: Tile, values: np.ndarray, levels: AnyLevels, decays: Decays, state: State, output: Output
) -> Tally:
    """Run `kernels.lif_tile` on activity (rows, pixels, channels)."""
    source, given = synapse.reads(tile, values), weights(synapse, tile, values)
    guard.source(source, len(output.out), synapse.source)
    guard.multiplied(given, source)
    guard.states(decays, len(output.out), synapse.pixels * whole(tile.width))
    guard.output(output, state, synapse.pixels, tile.width)
    return cast(Tally, kernels.lif_tile(source, given, levels, decays, state, output))


def cuba(synapse: Synapse, tile: Tile, values: np.ndarray, levels: CubaLevels, state: State, output: Output) -> Tally:
    """Run `kernels.cuba_tile` on activity (rows, pixels, channels)."""
    source = synapse.reads(tile, values)
    guard.source(source, len(output.out), synapse.source)
    guard.output(output, state, synapse.pixels, tile.width)
    return cast(Tally, kernels.cuba_tile(source, weights(synapse, tile, values), levels, state, output))


def sums(synapse: Synapse, tile: Tile, values: np.ndarray, rows: int) -> np.ndarray:
    """Return synaptic sums (rows, pixels, channels of the tile) int32."""
    source, out = synapse.reads(tile, values), np.empty((rows, synapse.pixels, tile.width), np.int32)
    guard.source(source, rows, synapse.source)
    sum_tile(source, weights(synapse, tile, values), out)
    return out


def weights(synapse: Synapse, tile: Tile, values: np.ndarray) -> Weights:
    """Return a tile's weights, to be multiplied by only where what it reads is bytes."""
    wide = tile.wide if dense.takes(values, synapse.per_tap, synapse.planes) else NO_WEIGHTS
    return Weights(tile.weight, tile.packed, wide, choice.limit(synapse.per_tap * synapse.source[0]))


def lif_levels(neuron: Lif, shape: Shape, tile: Tile) -> AnyLevels:
    """Return bias and threshold of a tile, filled up with neurons that never fire; late resets and floors if any."""
    bias = padded(channels_last(neuron.bias, shape)[:, tile.channels], 0)
    threshold = padded(neuron.threshold[tile.channels], STATE_MAX)
    plain = Levels(bias, threshold, neuron.f, neuron.k, kept(neuron.reset))
    late = ResetLevels(*plain, -neuron.reset_delay, floors(neuron, shape, tile)) if reset_differs(neuron) else None
    levels = late or plain
    guard.levels(levels, prod(shape[1:]), whole(tile.width))
    return levels


def cuba_levels(neuron: Cuba, shape: Shape, tile: Tile) -> CubaLevels:
    """Return bias and threshold of a tile of CUBA neurons; the offset of 1 sits on the current's decay only."""
    bias = np.ascontiguousarray(channels_last(neuron.bias, shape)[:, tile.channels], np.int32)
    threshold = np.ascontiguousarray(neuron.threshold[tile.channels], np.int32)
    levels = CubaLevels(bias, threshold, neuron.f, 4096 - neuron.current_decay - 1, 4096 - neuron.voltage_decay)
    guard.cuba_levels(levels, prod(shape[1:]), tile.width)
    return levels


def given(decay: Constant | PerNeuron, shape: Shape, tile: Tile) -> Decays:
    """Bundle decays that never change."""
    mantissa = channels_last(np.asarray(decay.mantissa), shape)[:, tile.channels]
    return _looked_at(Decays(padded(mantissa, 0), NO_TABLE, NO_STATES, NO_ENTRIES, NO_ENTRIES), shape, tile)


def keyed(decays: np.ndarray, step: int) -> Decays:
    """Bundle decays (rows * pixels * channels in whole chunks,) int32 of a call; step: how many a row has, or 0."""
    return Decays(decays, NO_TABLE, NO_STATES, NO_ENTRIES, NO_ENTRIES, step)


def drawn(decay: Drawn, visits: Visits, shape: Shape, tile: Tile) -> Decays:
    """Bundle decays drawn by registers, whose states at a tile's visits are still missing: `with_states`."""
    # two tables of bytes, low and high: the processor looks bytes up
    table = np.concatenate([decay.table & 0xFF, decay.table >> 8]).astype(np.uint8)
    return _looked_at(Decays(NO_DECAYS, table, NO_STATES, visits.pixel, visits.channel), shape, tile)


def with_states(decays: Decays, states: np.ndarray) -> Decays:
    """Return drawn decays with the states (rows, entries) of a call."""
    return Decays(decays.given, decays.table, states, decays.entry_pixel, decays.entry_channel)


def _looked_at(decays: Decays, shape: Shape, tile: Tile) -> Decays:
    guard.decays(decays, prod(shape[1:]), whole(tile.width), tile.width)
    return decays


def reset_differs(neuron: Lif) -> bool:
    """Return whether a reset is late or the membrane potential has a floor, which kernels of their own do."""
    return neuron.reset_delay > 0 or neuron.floored


def floors(neuron: Lif, shape: Shape, tile: Tile) -> np.ndarray:
    """Return the lowest membrane potentials of a tile, filled up with ones that change nothing."""
    return padded(channels_last(neuron.floor, shape)[0, tile.channels], NO_FLOOR)


def kept(reset: Reset) -> int:
    """Return what a spike leaves of m - theta, as bits: none of it ("zero") or all ("subtract")."""
    match reset:
        case "zero":
            return 0
        case "subtract":
            return -1
        case _:
            assert_never(reset)


def padded(values: np.ndarray, fill: int) -> np.ndarray:
    """Fill (..., channels of a tile) up to whole chunks; flat int32."""
    more = whole(values.shape[-1]) - values.shape[-1]
    wide = np.pad(values.astype(np.int32), [(0, 0)] * (values.ndim - 1) + [(0, more)], constant_values=fill)
    return wide.reshape(-1)


def whole(width: int) -> int:
    """Round a number of channels up to whole chunks."""
    return guard.padded(width)
