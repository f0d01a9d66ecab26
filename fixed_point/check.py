"""The rules of the representation, each a named function; all broken rules of a network are reported together."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from randhet.base.errors import NetworkError
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.network import (
    Accumulate,
    Conv,
    Cuba,
    Dense,
    Het,
    Input,
    Layer,
    Network,
    RandomTau,
    Shape,
    SumPool,
)
from randhet.fixed_point.shape import bounds, shapes

WEIGHT_MAX = 127
SUM_LIMIT = 2**31
MAX_DECAY_BITS = 12
MAX_FRACTION = 16
MAX_STEPS = 2**16
MAX_NEURONS = 2**28
"""Values of one layer."""


def graph(network: Network) -> Iterator[str]:
    """Layer 0 is the input, every other layer reads earlier ones; names are unique; neurons sit behind weights."""
    names = [layer.name for layer in network.layers]
    if not network.layers or not isinstance(network.layers[0].operation, Input):
        yield "the first layer must be the input"
    for name in {name for name in names if names.count(name) > 1}:
        yield f"layer name {name} is used {names.count(name)} times"
    for i, layer in enumerate(network.layers):
        yield from (f"layer {layer.name}: {fault}" for fault in _wiring(i, layer))


def _wiring(i: int, layer: Layer) -> Iterator[str]:
    kind = type(layer.operation).__name__
    wanted = {"Input": (0, 0), "Add": (2, 16)}.get(kind, (1, 1))
    if not wanted[0] <= len(layer.inputs) <= wanted[1]:
        yield f"{kind} reads {len(layer.inputs)} layers, the limits are {wanted[0]} to {wanted[1]}"
    for source in layer.inputs:
        if not 0 <= source < i:
            yield f"reads layer {source}, only layers 0 to {i - 1} come before it"
    if kind == "Input" and i:
        yield "only the first layer may be an input"
    if isinstance(layer.operation, (Conv, Dense)) != (layer.neuron is not None):
        yield f"{kind} {'needs a' if layer.neuron is None else 'cannot have a'} neuron"


def settings(network: Network) -> Iterator[str]:
    """T and the geometry of every operation lie in their ranges."""
    if not 1 <= network.steps <= MAX_STEPS:
        yield f"steps is {network.steps}, the limits are 1 to {MAX_STEPS}"
    for layer in network.layers:
        yield from (f"layer {layer.name}: {fault}" for fault in _geometry(layer))


def _geometry(layer: Layer) -> Iterator[str]:
    operation = layer.operation
    if isinstance(operation, Input) and (not operation.shape or min(operation.shape) < 1):
        yield f"input shape {operation.shape} has an empty axis"
    if isinstance(operation, Input) and not 1 <= operation.bits <= 24:
        yield f"input has {operation.bits} bits, the limits are 1 to 24"
    if isinstance(operation, Conv):
        yield from _weights(layer, operation.weight, 4)
        if min(*operation.stride, *operation.dilation, operation.groups) < 1 or min(operation.padding) < 0:
            yield "stride, dilation and groups must be at least 1, padding at least 0"
    if isinstance(operation, Dense):
        yield from _weights(layer, operation.weight, 2)
    if isinstance(operation, SumPool) and min(*operation.kernel, *operation.stride) < 1:
        yield f"pool kernel {operation.kernel} and stride {operation.stride} must be at least 1"


def _weights(layer: Layer, weight: np.ndarray, axes: int) -> Iterator[str]:
    # Weights of lava-dl use the whole mantissa; quantisation here is symmetric
    lowest = -WEIGHT_MAX - isinstance(layer.neuron, Cuba)
    if weight.ndim != axes or weight.dtype.kind != "i" or not weight.size:
        yield f"weight is {weight.dtype} of shape {weight.shape}, it must be integers with {axes} non-empty axes"
    elif weight.min() < lowest or weight.max() > WEIGHT_MAX:
        top = int(np.abs(weight.astype(np.int64)).max())
        yield f"largest |weight| is {top}, the limit is {WEIGHT_MAX}"


def sizes(network: Network) -> Iterator[str]:
    """No layer is larger than what a machine could hold."""
    for layer, shape in zip(network.layers, shapes(network)):
        if prod(shape) > MAX_NEURONS:
            yield f"layer {layer.name} has {prod(shape)} values, the limit is {MAX_NEURONS}"


def neurons(network: Network) -> Iterator[str]:
    """Thresholds 1..2^23-1, biases within 24 bits, decays below 2^k, arrays of the layer's shape."""
    for layer, shape in zip(network.layers, shapes(network)):
        if layer.neuron is not None:
            yield from (f"layer {layer.name}: {fault}" for fault in _neuron(layer, shape))


def _neuron(layer: Layer, shape: Shape) -> Iterator[str]:
    neuron = layer.neuron
    bias_limit = SUM_LIMIT - 1 if isinstance(neuron, Accumulate) else STATE_MAX
    assert neuron is not None
    yield from _array("bias", neuron.bias, -bias_limit, bias_limit, {shape[:1], shape})
    if isinstance(neuron, Accumulate):
        return
    yield from _array("threshold", neuron.threshold, 1, STATE_MAX, {shape[:1]})
    yield from _range("f", neuron.f, 0, MAX_FRACTION)
    if isinstance(neuron, Cuba):
        yield from _range("current decay", neuron.current_decay, -1, 4095)
        yield from _range("voltage decay", neuron.voltage_decay, 0, 4096)
        return
    yield from _range("k", neuron.k, 1, MAX_DECAY_BITS)
    top = (1 << min(max(neuron.k, 0), MAX_DECAY_BITS)) - 1  # a k of billions is refused, not raised to
    if isinstance(neuron, RandomTau):
        yield from _array("table", neuron.table, 0, top, {(256,)})
        yield from _range("neurons per core", neuron.neurons_per_core, 1, 2**24)
        if neuron.sampling not in ("step", "forward"):
            yield f"sampling is {neuron.sampling!r}, it must be 'step' or 'forward'"
    elif isinstance(neuron, Het):
        yield from _array("decay", neuron.decay, 0, top, {shape})
    else:
        yield from _range("decay", neuron.decay, 0, top)


def _range(name: str, value: int, low: int, high: int) -> Iterator[str]:
    if not low <= value <= high:
        yield f"{name} is {value}, the limits are {low} to {high}"


def _array(name: str, value: np.ndarray, low: int, high: int, allowed: set[Shape]) -> Iterator[str]:
    if value.dtype.kind not in "iu" or value.shape not in allowed or not value.size:
        yield f"{name} is {value.dtype} of shape {value.shape}, it must be integers of {sorted(allowed)}"
        return
    least, largest = int(value.min()), int(value.max())
    if least < low or largest > high:
        yield f"{name} lies in {least}..{largest}, the limits are {low} to {high}"


def sums(network: Network) -> Iterator[str]:
    """Every synaptic sum, and every classifier's sum over T, is proven to fit int32."""
    for layer, bound in zip(network.layers, bounds(network)):
        if isinstance(layer.neuron, Accumulate):
            bound = (bound + int(np.abs(layer.neuron.bias.astype(np.int64)).max(initial=0))) * network.steps
        if bound >= SUM_LIMIT:
            yield f"layer {layer.name}: a sum can reach {bound}, the limit is 2^31 - 1"


STRUCTURE = (graph, settings)
VALUES = (sizes, neurons, sums)


def faults(network: Network) -> list[str]:
    """Every broken rule, as sentences. Values are looked at only where the structure holds."""
    found = [fault for rule in STRUCTURE for fault in rule(network)]
    if found:
        return found
    try:
        shapes(network)
    except NetworkError as error:
        return [str(error)]
    return [fault for rule in VALUES for fault in rule(network)]


def check(network: Network) -> None:
    """Raise one NetworkError that lists every broken rule."""
    found = faults(network)
    if found:
        raise NetworkError("; ".join(found))


def check_images(network: Network, images: np.ndarray) -> None:
    """Images must be integers of the input's shape and range."""
    operation = network.layers[0].operation
    assert isinstance(operation, Input)
    if images.shape[1:] != operation.shape or images.dtype.kind not in "iu":
        raise NetworkError(
            f"images are {images.dtype} of shape {images.shape[1:]}, the network takes integers of {operation.shape}"
        )
    low = -(2 ** (operation.bits - 1)) if operation.signed else 0
    high = 2 ** (operation.bits - operation.signed) - 1
    if images.size and prod(operation.shape) and not (low <= images.min() and images.max() <= high):
        raise NetworkError(f"pixels lie in {images.min()}..{images.max()}, the limits are {low} to {high}")
