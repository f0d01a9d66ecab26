"""onnxruntime on the integer graph gives the reference's integers: every neuron, operation, batch and start index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is the peer of this test")


from export import onnx_run
from fixed_point import generator, reference
from fixed_point.network import (
    Accumulate,
    Add,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Het,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    RandomTau,
    SumPool,
)
from fixed_point.result import Result

Make = Callable[[tuple[int, ...]], Neuron]
RNG = np.random.default_rng(0)


def weights(*shape: int, top: int = 127) -> np.ndarray:
    return RNG.integers(-top, top + 1, shape).astype(np.int8)


def lif(shape: tuple[int, ...], theta: int = 3000, spread: int = 2000) -> dict[str, np.ndarray]:
    return {
        "threshold": np.full(shape[0], theta, np.int32),
        "bias": RNG.integers(-spread, spread, shape[0]).astype(np.int32),
    }


NEURONS: dict[str, Make] = {
    "random": lambda shape: RandomTau(**lif(shape)),
    "random cores of 300": lambda shape: RandomTau(**lif(shape), neurons_per_core=300),
    "random cores of 7": lambda shape: RandomTau(**lif(shape), neurons_per_core=7),
    "random k=12": lambda shape: RandomTau(**lif(shape), table=generator.tau_table(12, 1.5), k=12),
    "random k=3 f=0": lambda shape: RandomTau(**lif(shape, 40, 30), table=generator.tau_table(3), k=3, f=0),
    "random forward": lambda shape: RandomTau(**lif(shape), sampling="forward", neurons_per_core=256),
    "vanilla": lambda shape: Lif(**lif(shape)),
    "het": lambda shape: Het(**lif(shape), decay=RNG.integers(0, 256, shape).astype(np.int32)),
    "cuba": lambda shape: Cuba(**lif(shape, 20000), current_decay=900, voltage_decay=300),
    "saturating": lambda shape: Lif(**lif(shape, 2**19, 2**18), decay=200, f=14),
    "saturating random": lambda shape: RandomTau(**lif(shape, 2**19, 2**18), f=16),
    "wrapping cuba": lambda shape: Cuba(**lif(shape, 2**20, 2**18), current_decay=5, voltage_decay=9, f=13),
}


def residual(make: Make, steps: int = 3, seed: int | None = 11) -> Network:
    """Stem, a block with a strided shortcut convolution, a residual sum, a second sum of sums, pool, classifier."""
    layers = (
        Layer("input", Input((3, 9, 8))),
        Layer("stem", Conv(weights(4, 3, 3, 3), padding=(1, 1)), (0,), make((4, 9, 8))),
        Layer("branch", Conv(weights(6, 2, 3, 3), (2, 1), (1, 2), (1, 2), groups=2), (1,), make((6, 5, 8))),
        Layer("shortcut", Conv(weights(6, 4, 1, 1), stride=(2, 1)), (1,), make((6, 5, 8))),
        Layer("sum", Add(), (2, 3)),
        Layer("more", Conv(weights(6, 6, 3, 3), padding=(1, 1)), (4,), make((6, 5, 8))),
        Layer("sums", Add(), (5, 4, 2)),
        Layer("pool", SumPool((2, 3), (1, 2)), (6,)),
        Layer("flat", Flatten(), (7,)),
        Layer("hidden", Dense(weights(300, 72)), (8,), make((300,))),
        Layer("classes", Dense(weights(5, 300)), (9,), Accumulate(RNG.integers(-99, 99, 5).astype(np.int32))),
    )
    return Network(layers, steps, seed)


def pixels(network: Network, count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *network.layers[0].operation.shape)).astype(np.uint8)


def same(one: Result, other: Result) -> None:
    assert np.array_equal(one.sums, other.sums)
    assert np.array_equal(one.predictions, other.predictions)
    assert dict(one.spikes) == dict(other.spikes)
    assert one.saturations == other.saturations
    assert one.traces.keys() == other.traces.keys()
    for name, trace in one.traces.items():
        assert np.array_equal(trace.output, other.traces[name].output), name
        if trace.membrane is not None:
            assert np.array_equal(trace.membrane, other.traces[name].membrane), name


@pytest.mark.parametrize("neuron", NEURONS)
def test_every_layer_of_every_neuron_equals_the_reference(neuron: str) -> None:
    network = residual(NEURONS[neuron])
    images, probes = pixels(network, 5), [layer.name for layer in network.layers]
    wanted = reference.run(network, images, first_image=3, probes=probes)
    assert min(wanted.spikes.values()) > 0
    assert wanted.saturations > 0 or "saturating" not in neuron
    same(onnx_run.run(network, images, first_image=3, probes=probes, batch=2), wanted)
