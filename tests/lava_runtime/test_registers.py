"""Shift registers of a Lava layer: serial draws and jumps against registers clocked bit by bit through all images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from randhet.fixed_point import generator
from randhet.fixed_point.network import Conv, Drawn, Layer, Lif, Sampling
from randhet.lava_runtime.plan import LayerPlan, Run
from randhet.lava_runtime.registers import CoreRegisters
from randhet.lava_runtime.wire import Wire

SHAPE, STEPS, BATCH, FIRST, MASTER, LAYER = (3, 4, 2), 3, 2, 1, 77, 5


def serial(images: int, each_step: bool, per_core: int) -> np.ndarray:
    """Draws (images, steps, neurons): a core's register goes on and on, neuron after neuron, step after step."""
    drawn = np.empty((images, STEPS, 24), np.int64)
    for core, begin in enumerate(range(0, 24, per_core)):
        state = generator.core_seed(MASTER, LAYER, core)
        for i, t in np.ndindex(images, STEPS):
            if t and not each_step:
                drawn[i, t, begin : begin + per_core] = drawn[i, 0, begin : begin + per_core]
                continue
            for n in range(begin, min(begin + per_core, 24)):
                state, drawn[i, t, n] = generator.draw(state)
    return drawn


@pytest.mark.parametrize("per_core", [7, 8, 24, 1024])
@pytest.mark.parametrize("sampling", ["step", "forward"])
def test_draws_and_jumps_follow_the_serial_order(sampling: Sampling, per_core: int) -> None:
    """Two images side by side, three rounds of them, the first being number 1; then where a jump would have been."""
    decay = Drawn(sampling=sampling, neurons_per_core=per_core)
    layer = Layer(
        "n", Conv(np.ones((3, 1, 1, 1), np.int8)), (0,), Lif(np.ones(3, np.int32), np.zeros(3, np.int32), decay)
    )
    wire = Wire(BATCH, SHAPE, 1)
    run = Run(Path(), STEPS, 3 * BATCH, FIRST, MASTER, BATCH)
    cores = CoreRegisters(LayerPlan(run, layer, LAYER, SHAPE, SHAPE, 1, wire, wire, 0, False), decay)
    expected = decay.table[serial(FIRST + 3 * BATCH, sampling == "step", per_core)]
    drawing = cores.begin()
    jumping, entries = drawing.copy(), cores.entries(drawing)
    for turn in range(3):
        if turn:
            cores.skip(drawing)
            cores.skip(jumping)
            entries = cores.entries(jumping)
        for t in range(STEPS):
            images = slice(FIRST + turn * BATCH, FIRST + (turn + 1) * BATCH)
            found = cores.draw(drawing).swapaxes(1, 2).reshape(BATCH, -1)
            assert np.array_equal(found, expected[images, t])
            cores.next_step(jumping)
            assert np.array_equal(drawing, jumping)
            cores.move_entries(entries)
            assert np.array_equal(entries, cores.entries(jumping))
