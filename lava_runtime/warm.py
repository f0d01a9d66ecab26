"""Kernels are loaded before Lava forks, so that its processes share the machine code instead of each loading it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point.engine import choice, kernels
from randhet.fixed_point.engine.plan import make_synapse
from randhet.fixed_point.generator import DRAW_VALUES
from randhet.fixed_point.kernels import registers as events
from randhet.fixed_point.kernels.blocks import CHUNK
from randhet.fixed_point.network import Cuba, Dense, Lif, Network, Neuron, ReadOut
from randhet.lava_runtime import step
from randhet.lava_runtime.wire import KINDS, Wire


def warm(network: Network, wires: list[Wire]) -> None:
    """Run every kernel that the network needs once on nothing, for each kind of message its layers read."""
    needed = {(_kernel(layer.neuron), KINDS[wires[layer.inputs[0]].bits]) for layer in network.layers if layer.neuron}
    for call, dtype in needed:
        call(np.zeros((1, 1, 1), dtype))
    registers = np.ones(1, np.uint32)
    kernels.jump(registers, registers.repeat(32))
    events.advance(np.ones(1, np.int64), np.ones(1, np.int64), np.zeros(DRAW_VALUES, np.int64))


def _kernel(neuron: Neuron) -> Callable[[np.ndarray], None]:
    match neuron:
        case Lif():
            return _lif
        case Cuba():
            return _cuba
        case ReadOut():
            return _sums
        case _:
            assert_never(neuron)


def _synapse() -> tuple[object, ...]:
    synapse = make_synapse(Dense(np.zeros((1, 1), np.int8)), (1,), 1)
    tile = synapse.tiles[0]
    return 0, 1, 1, synapse.window, tile.weight, tile.packed


def _sums(values: np.ndarray) -> None:
    kernels.sums_image(values, 1, *_synapse(), np.zeros((1, 1, 1), np.int32))


def _states() -> tuple[np.ndarray, ...]:
    """Membrane, spikes."""
    return np.zeros((1, 1, 1), np.int32), np.zeros((1, 1, 1), np.uint8)


def _cuba(values: np.ndarray) -> None:
    level = np.zeros((1, 1), np.int32)
    current, (membrane, spikes) = np.zeros((1, 1, 1), np.int32), _states()
    step.cuba_layer_step(
        values, *_synapse(), level, level[0], 0, 4095, 4096, current, membrane, spikes, 0, membrane,
    )  # fmt: skip


def _lif(values: np.ndarray) -> None:
    level, none = np.zeros((1, CHUNK), np.int32), np.zeros(0, np.int64)
    drawn = np.zeros((0, 0), np.int32), np.zeros(512, np.uint8), np.zeros((1, 0), np.uint32), none, none
    membrane, spikes = _states()
    constants = *_synapse(), np.zeros(0, np.int8), choice.limit(1), level, level[0], 6, 8, 0, *drawn
    step.lif_step(values, *constants, membrane, spikes, 0, membrane)
