"""Delayed and floored resets on Lava: against the reference, by hand, and in plain float arithmetic."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
from equality import assert_equal

from randhet.fixed_point import generator, reference
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.layers import NO_FLOOR
from randhet.fixed_point.network import Dense, Drawn, Input, Layer, Lif, Network, PerNeuron, Reset
from randhet.lava_runtime.runner import run

pytestmark = pytest.mark.lava
RNG = np.random.default_rng(12)
STILL = np.zeros(1, np.uint16)


def ints(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int32)


def dense(out: int, into: int) -> np.ndarray:
    return RNG.integers(-99, 100, (out, into)).astype(np.int8)


def floors(low: int, channels: int) -> np.ndarray:
    return RNG.integers(low, 1, channels).astype(np.int32)


def resets() -> Network:
    """Every reset, at once and late, with a floor for the layer, one per channel and none, in recurrent layers."""
    layers = [Layer("input", Input((6,), bits=4, signed=True, sequence=True))]
    width = 6
    for delay, reset, floor in product((0, 1), get_args(Reset), (np.array(-900), floors(-900, 7), np.array(NO_FLOOR))):
        lif = Lif(ints(900, 7), ints(9, 7), Drawn(neurons_per_core=3), reset=reset, reset_delay=delay, floor=floor)
        layers.append(Layer(f"l{len(layers)}", Dense(dense(7, width), dense(7, 7)), (len(layers) - 1,), lif))
        width = 7
    return Network(tuple(layers), 7)


@pytest.mark.parametrize("stream", [False, True])
def test_resets_equal_the_reference(stream: bool) -> None:
    network = resets()
    images = RNG.integers(-8, 8, (3, 7, 6)).astype(np.int16)
    place = {"seed": 2, "first_image": 9, "probes": [layer.name for layer in network.layers], "stream": stream}
    expected = reference.run(network, images, **place)  # type: ignore[arg-type]
    assert all(0 < count < expected.traces[name].output.size for name, count in expected.spikes.items())
    assert_equal(run(network, images, **place, batch=2), expected)  # type: ignore[arg-type]


def driven(**kind: object) -> np.ndarray:
    """Membrane potentials of a neuron with m = x, weight 10, and -3 for its own spike: frames 1, 1, 0, 0."""
    neuron = Lif(ints(4, 1), ints(0, 1), PerNeuron(STILL), f=0, **kind)  # type: ignore[arg-type]
    weight, own = np.array([[10]], np.int8), np.array([[-3]], np.int8)
    network = Network((Layer("input", Input((1,), sequence=True)), Layer("n", Dense(weight, own), (0,), neuron)), 4)
    membrane = run(network, np.array([[[1], [1], [0], [0]]], np.uint8), probes=["n"]).traces["n"].membrane
    assert membrane is not None
    return membrane.ravel()


def test_a_late_reset_and_a_floor_by_hand() -> None:
    """Late to zero whatever comes in; late by theta: 10 - 3 - 4; the -3 after two spikes is raised to a floor of -2."""
    assert driven(reset_delay=1).tolist() == [10, 0, 0, 0]
    assert driven(reset_delay=1, reset="subtract").tolist() == [10, 3, 0, 0]
    assert driven(floor=np.array(-2)).tolist() == [10, 7, -2, 0]


def test_a_late_reset_that_saturates_is_counted_and_equal() -> None:
    neuron = Lif(ints(2**22, 6), ints(-(2**23) + 1, 6), f=12, reset="subtract", reset_delay=1, floor=np.array(-(2**21)))
    network = Network((Layer("input", Input((4,))), Layer("n", Dense(dense(6, 4)), (0,), neuron)), 9)
    images = RNG.integers(0, 256, (2, 4)).astype(np.uint8)
    expected = reference.run(network, images, probes=["n"])
    assert expected.saturations > 0
    assert_equal(run(network, images, probes=["n"]), expected)


@pytest.mark.parametrize(("reset", "floor"), [("zero", -90_000), ("subtract", -90_000), ("subtract", -STATE_MAX)])
def test_floating_point_of_late_and_floored_resets(reset: Reset, floor: int) -> None:
    """m = x + tau * (m - x), less what the spike of the step before takes, not below the floor; U acts a step late."""
    decay = Drawn()
    neuron = Lif(ints(300_000, 6), ints(50, 6), decay, reset=reset, reset_delay=1, floor=np.array(floor))
    weight, own = dense(6, 4), dense(6, 6)
    network = Network((Layer("input", Input((4,), sequence=True)), Layer("n", Dense(weight, own), (0,), neuron)), 9)
    images = RNG.integers(0, 256, (2, 9, 4)).astype(np.uint8)
    trace = run(network, images, seed=4, probes=["n"], model="floating_pt").traces["n"]
    assert trace.membrane is not None
    register, fallen = generator.core_seed(4, 1, 0), 0
    for image, membranes, outputs in zip(images, trace.membrane, trace.output):
        membrane, spikes = np.zeros(6), np.zeros(6)
        for t, frame in enumerate(image):
            tau = np.zeros(6)
            for n in range(6):
                register, draw = generator.draw(register)
                tau[n] = decay.table[draw] / 256
            current = (weight @ frame.astype(float) + own @ spikes) * 2**6 + 50
            membrane = current + tau * (membrane - current)
            membrane = np.where(spikes > 0, membrane - 300_000 if reset == "subtract" else 0, membrane)
            fallen += int((membrane < floor).sum())
            membrane = np.maximum(membrane, floor)
            assert np.allclose(membranes[t], membrane, rtol=1e-12, atol=0)
            spikes = (membrane > 300_000).astype(float)
            assert np.array_equal(outputs[t], spikes)
    assert trace.output.any() and (fallen > 0) == (floor > -STATE_MAX)
