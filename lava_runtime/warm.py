"""Kernels are loaded before Lava forks, so that its processes share the machine code instead of each loading it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from randhet.fixed_point import network as ir
from randhet.fixed_point.engine import calls
from randhet.fixed_point.engine.keyed import make_keyed
from randhet.fixed_point.engine.plan import Tile, make_synapse
from randhet.fixed_point.generator import DRAW_VALUES
from randhet.fixed_point.kernels import registers as events
from randhet.fixed_point.kernels.bundles import Output, State
from randhet.lava_runtime.wire import KINDS

if TYPE_CHECKING:
    from randhet.lava_runtime.processes.process import Layer

SHAPE = (1, 1, 1)
ONE = np.ones(1, np.int32)
LIF = ir.Lif(ONE, ONE, ir.Constant(0))
LATE = replace(LIF, reset_delay=1)
CUBA = ir.Cuba(ONE, ONE)
SYNAPSE = make_synapse(ir.Dense(np.zeros((1, 1), np.int8)), (1,), 1)
TILE: Tile = SYNAPSE.tiles[0]


def warm(layers: Iterable[Layer]) -> None:
    """Run every kernel that the processes of these layers need, for each kind of message that they read."""
    for call, dtype in {(layer.warm_up, KINDS[layer.plan.source.bits]) for layer in layers}:
        call(np.zeros(SHAPE, dtype))
    registers = np.ones(1, np.uint32)
    events.jump(registers, registers.repeat(32))
    events.advance(np.ones(1, np.int64), np.ones(1, np.int64), np.zeros(DRAW_VALUES, np.int64))


Warm = Callable[[np.ndarray], None]
"""Runs the kernels of a kind of neurons once, for messages of this type."""


def of(neuron: ir.Lif) -> Warm:
    """Return what runs the kernels of these neurons: those with late or floored resets have their own."""
    return late if calls.reset_differs(neuron) else lif


def lif(values: np.ndarray) -> None:
    """Run the kernels of LIF neurons."""
    _lif(LIF, values)


def late(values: np.ndarray) -> None:
    """Run the kernels of LIF neurons with late or floored resets."""
    _lif(LATE, values)


def _lif(neuron: ir.Lif, values: np.ndarray) -> None:
    levels, decays = calls.lif_levels(neuron, SHAPE, TILE), calls.given(ir.Constant(0), SHAPE, TILE)
    calls.lif(SYNAPSE, TILE, values, levels, decays, *_written(np.zeros((0, 0, 0), np.int32)))


def keyed(values: np.ndarray) -> None:
    """Run the kernels of LIF neurons whose decays a cipher draws."""
    _cipher()
    lif(values)


def keyed_late(values: np.ndarray) -> None:
    """Run those of LIF neurons with late or floored resets whose decays a cipher draws."""
    _cipher()
    late(values)


def _cipher() -> None:
    make_keyed(ir.Drawn(), SHAPE, 0, 0).decays(TILE, [0])


def cuba(values: np.ndarray) -> None:
    """Run the kernels of CUBA neurons."""
    calls.cuba(SYNAPSE, TILE, values, calls.cuba_levels(CUBA, SHAPE, TILE), *_written(np.zeros(SHAPE, np.int32)))


def sums(values: np.ndarray) -> None:
    """Run the kernels of read-outs."""
    calls.sums(SYNAPSE, TILE, values, 1)


def _written(current: np.ndarray) -> tuple[State, Output]:
    membrane = np.zeros(SHAPE, np.int32)
    return State(membrane, current), Output(np.zeros(SHAPE, np.uint8), membrane, 0, 0, 1)
