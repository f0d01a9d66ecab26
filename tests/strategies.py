"""Random integer networks for property-based tests: every operation and neuron, any geometry, any branch."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
from hypothesis import strategies as st

from randhet.fixed_point import network as ir
from randhet.fixed_point.network import Layer, Network, Shape
from randhet.fixed_point.shape import output_shape, peaks

Draw = st.DrawFn


@dataclass
class Growing:
    """A network under construction."""

    draw: Draw
    rng: np.random.Generator
    layers: list[Layer] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)

    def pick(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def add(self, operation: ir.Operation, inputs: tuple[int, ...], make: bool = True) -> int:
        shape = output_shape(operation, tuple(self.shapes[i] for i in inputs))
        weighted = isinstance(operation, (ir.Conv, ir.Dense))
        neuron = self.neuron(operation, inputs, shape) if weighted and make else None
        if weighted and not make:
            neuron = ir.ReadOut(self.rng.integers(-500, 500, shape[0]).astype(np.int32))
        scale = self.rng.random(shape[0]) if weighted else None
        self.layers.append(Layer(f"l{len(self.layers)}", operation, inputs, neuron, scale))
        self.shapes.append(shape)
        return len(self.layers) - 1

    def weights(self, *shape: int) -> np.ndarray:
        span = self.draw(st.sampled_from([1, 7, 127]))
        return self.rng.integers(-span, span + 1, shape).astype(np.int8)

    def neuron(self, operation: ir.Operation, inputs: tuple[int, ...], shape: Shape) -> ir.Neuron:
        assert isinstance(operation, (ir.Conv, ir.Dense))
        # thresholds around what the sums reach, so that neurons neither rest nor fire all the time
        spread = max(1, int(np.abs(operation.weight.astype(int)).sum() / len(operation.weight) / 8))
        top = peaks(Network(tuple(self.layers), 1))[inputs[0]]
        f = self.draw(st.sampled_from([0, 3, 6]))
        level = max(1, min(2**22, (spread * min(top, 64)) << f))
        threshold = self.rng.integers(1, level + 1, shape[0]).astype(np.int32)
        wide = self.draw(st.booleans()) and len(shape) == 3
        bias = self.rng.integers(-level, level + 1, shape if wide else shape[0]).astype(np.int32)
        k = self.pick(1, 12)
        kind = self.draw(st.sampled_from(["step", "forward", "lif", "het", "cuba"]))
        if kind == "lif":
            return ir.Lif(threshold, bias, ir.Constant(self.pick(0, 2**k - 1)), k=k, f=f)
        if kind == "het":
            return ir.Lif(threshold, bias, ir.PerNeuron(self.rng.integers(0, 2**k, shape).astype(np.uint16)), k=k, f=f)
        if kind == "cuba":
            return ir.Cuba(threshold, bias, self.pick(0, 4095), self.pick(0, 4095))
        table = self.rng.integers(0, 2**k, 256).astype(np.uint16)
        return ir.Lif(
            threshold, bias, ir.Drawn(table, sampling=kind, sigma=1.0, neurons_per_core=self.pick(1, 40)), k=k, f=f
        )  # type: ignore[arg-type]


def grow_conv(net: Growing, source: int) -> int:
    channels, *size = net.shapes[source]
    groups = net.draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    kernel = [net.pick(1, 3), net.pick(1, 3)]
    padding = tuple(net.pick(0, 2) for _ in kernel)
    dilation = tuple(net.pick(1, 2) for _ in kernel)
    for axis in (0, 1):
        if size[axis] + 2 * padding[axis] < dilation[axis] * (kernel[axis] - 1) + 1:
            kernel[axis] = 1
    weight = net.weights(groups * net.pick(1, 3), channels // groups, *kernel)
    stride = (net.pick(1, 2), net.pick(1, 2))
    return net.add(ir.Conv(weight, stride, padding, dilation, groups), (source,))  # type: ignore[arg-type]


def grow_block(net: Growing, source: int) -> int:
    """A residual block of one shape with branches of unequal depth."""
    channels = net.shapes[source][0]

    def same(inner: int) -> int:
        return net.add(ir.Conv(net.weights(channels, channels, 3, 3), padding=(1, 1)), (inner,))

    branch = source
    for _ in range(net.pick(1, 2)):
        branch = same(branch)
    shortcut = same(source) if net.draw(st.booleans()) or source == 0 else source
    return net.add(ir.Add(), (shortcut, branch))


def grow_pool(net: Growing, source: int) -> int:
    _, y, x = net.shapes[source]
    kernel = (net.pick(1, min(3, y)), net.pick(1, min(3, x)))
    return net.add(ir.SumPool(kernel, (net.pick(1, 2), net.pick(1, 2))), (source,))


@st.composite
def networks(draw: Draw) -> Network:
    """A small network of 1 to 4 parts and a classifier, or a spiking last layer."""
    net = Growing(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    shape = (net.pick(1, 3), net.pick(3, 7), net.pick(3, 7))
    net.layers.append(Layer("input", ir.Input(shape)))
    net.shapes.append(shape)
    last = grow_conv(net, 0)
    for _ in range(net.pick(0, 3)):
        last = draw(st.sampled_from([grow_conv, grow_block, grow_pool]))(net, last)
    last = net.add(ir.Flatten(), (last,))
    weight = net.weights(net.pick(2, 5), prod(net.shapes[last]))
    net.add(ir.Dense(weight), (last,), make=draw(st.booleans()))
    return Network(tuple(net.layers), net.pick(1, 4))


@st.composite
def cases(draw: Draw) -> tuple[Network, np.ndarray]:
    """A network and 1 to 5 images for it."""
    network = draw(networks())
    operation = network.layers[0].operation
    assert isinstance(operation, ir.Input)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return network, rng.integers(0, 256, (draw(st.integers(1, 5)), *operation.shape), dtype=np.uint8)
