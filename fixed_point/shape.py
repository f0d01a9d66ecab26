"""What follows from a network's structure: shapes, largest values, bounds on sums, delays. Derived, never stored."""

from __future__ import annotations

from functools import singledispatch
from math import prod

import numpy as np

from randhet.base.errors import NetworkError
from randhet.fixed_point.network import (
    Accumulate,
    Add,
    Conv,
    Dense,
    Flatten,
    Input,
    Layer,
    Network,
    Operation,
    Shape,
    SumPool,
)


def window_count(size: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> int:
    """Output length along one axis: floor((size + 2*padding - dilation*(kernel-1) - 1) / stride) + 1."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@singledispatch
def output_shape(operation: Operation, inputs: tuple[Shape, ...]) -> Shape:
    """Shape of an operation's output from the shapes it reads; NetworkError where they do not fit."""
    raise NetworkError(f"operation {type(operation).__name__} is not one of the network's operations")


@output_shape.register
def _(operation: Input, inputs: tuple[Shape, ...]) -> Shape:
    return operation.shape


@output_shape.register
def _(operation: Conv, inputs: tuple[Shape, ...]) -> Shape:
    (channels, *sizes) = _image(inputs[0], "conv")
    out, per_group, *kernel = operation.weight.shape
    if channels != per_group * operation.groups:
        raise NetworkError(f"conv takes {per_group * operation.groups} channels, its input has {channels}")
    if out % operation.groups:
        raise NetworkError(f"conv has {out} output channels, not a multiple of its {operation.groups} groups")
    shape = tuple(map(window_count, sizes, kernel, operation.stride, operation.padding, operation.dilation))
    if min(shape) < 1:
        raise NetworkError(f"conv kernel {tuple(kernel)} does not fit its input {inputs[0]}")
    return (out, *shape)


@output_shape.register
def _(operation: Dense, inputs: tuple[Shape, ...]) -> Shape:
    out, features = operation.weight.shape
    if prod(inputs[0]) != features:
        raise NetworkError(f"dense takes {features} values, its input has {prod(inputs[0])}")
    return (out,)


@output_shape.register
def _(operation: Add, inputs: tuple[Shape, ...]) -> Shape:
    if len(set(inputs)) != 1:
        raise NetworkError(f"residual sum of different shapes {', '.join(map(str, inputs))}")
    return inputs[0]


@output_shape.register
def _(operation: SumPool, inputs: tuple[Shape, ...]) -> Shape:
    (channels, *sizes) = _image(inputs[0], "sum pool")
    shape = tuple(map(window_count, sizes, operation.kernel, operation.stride))
    if min(shape) < 1:
        raise NetworkError(f"sum pool kernel {operation.kernel} does not fit its input {inputs[0]}")
    return (channels, *shape)


@output_shape.register
def _(operation: Flatten, inputs: tuple[Shape, ...]) -> Shape:
    return (prod(inputs[0]),)


def _image(shape: Shape, reader: str) -> Shape:
    if len(shape) != 3:
        raise NetworkError(f"{reader} reads (channel, y, x), its input has shape {shape}")
    return shape


def shapes(network: Network) -> list[Shape]:
    """Output shape of every layer."""
    found: list[Shape] = []
    for layer in network.layers:
        try:
            found.append(output_shape(layer.operation, tuple(found[i] for i in layer.inputs)))
        except NetworkError as error:
            raise NetworkError(f"layer {layer.name}: {error}") from None
    return found


def fan_in_weights(operation: Conv | Dense) -> np.ndarray:
    """Weights as (out, fan in) int64."""
    return operation.weight.reshape(len(operation.weight), -1).astype(np.int64)


def bound(operation: Conv | Dense, peak: int) -> int:
    """Largest |a| the operation can reach: max over channels of sum |w| * peak. Exact."""
    return int(np.abs(fan_in_weights(operation)).sum(axis=1).max(initial=0)) * peak


@singledispatch
def _peak(operation: Operation, peaks: list[int]) -> int:
    """Largest output value (absolute value, where signed) of an operation without a neuron."""
    return peaks[0]


@_peak.register
def _(operation: Input, peaks: list[int]) -> int:
    return 2 ** (operation.bits - 1) if operation.signed else 2**operation.bits - 1


@_peak.register
def _(operation: Add, peaks: list[int]) -> int:
    return sum(peaks)


@_peak.register
def _(operation: SumPool, peaks: list[int]) -> int:
    return prod(operation.kernel) * peaks[0]


def layer_peak(layer: Layer, peaks: list[int]) -> int:
    """Largest value a layer can send: 1 for spikes; for a read-out the largest sum and bias of one step."""
    operation = layer.operation
    if not isinstance(operation, (Conv, Dense)):
        return _peak(operation, peaks)
    if isinstance(layer.neuron, Accumulate):
        return bound(operation, peaks[0]) + int(np.abs(layer.neuron.bias.astype(np.int64)).max(initial=0))
    return 1


def peaks(network: Network) -> list[int]:
    """Largest value each layer can send; a graded spike of a layer needs ceil(log2(peak + 1)) bits."""
    found: list[int] = []
    for layer in network.layers:
        found.append(layer_peak(layer, [found[i] for i in layer.inputs]))
    return found


def bounds(network: Network) -> list[int]:
    """Largest |synaptic sum| of each layer, 0 where it has no weights."""
    top = peaks(network)
    return [
        bound(layer.operation, top[layer.inputs[0]]) if isinstance(layer.operation, (Conv, Dense)) else 0
        for layer in network.layers
    ]


def delays(network: Network, synapse: int = 1) -> list[int]:
    """Steps by which each layer lags the input where every layer with weights takes `synapse` steps, sums wait."""
    found: list[int] = []
    for layer in network.layers:
        own = synapse if isinstance(layer.operation, (Conv, Dense)) else 0
        found.append(max((found[i] for i in layer.inputs), default=0) + own)
    return found
