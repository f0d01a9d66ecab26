"""The rules of the representation, each a named function; all broken rules of a network are reported together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, get_args

import numpy as np

from randhet.base.errors import NetworkError
from randhet.base.kinds import assert_never
from randhet.fixed_point.facts import SPIKE, Range, bounds, ranges
from randhet.fixed_point.generator import GENERATORS
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.layers import (
    MAX_DECAY_BITS,
    SUM_MAX,
    WEIGHT_MAX,
    Add,
    And,
    Concat,
    Conv,
    Cuba,
    Decay,
    Declared,
    Dense,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Neuron,
    Operation,
    ReadOut,
    Shape,
    Spiking,
    Spread,
    SumPool,
    declared,
)
from randhet.fixed_point.shape import shapes

Layers = Sequence[Layer]

MAX_STEPS = 2**16
MAX_INPUTS = 16
"""Branches of a residual sum."""
MAX_VALUES = 2**24
"""Values of one layer."""
MAX_TAPS = 2**26
"""Entries of a convolution's or a pool's table of windows: output pixels times taps."""
CUBA_MAX = 2**24
"""Largest |a << f| that one fold by 2^24 brings back into 24 bits, whatever the current was."""
IMAGE_END = 2**62
"""Image numbers lie below."""


# --- structure ------------------------------------------------------------------------------------------------------


def kinds(layers: Layers, steps: int) -> Iterator[str]:
    """Every operation, neuron and decay is of a known kind, not of one derived from it that may do otherwise."""
    for layer in layers:
        for component, known in _parts(layer):
            if type(component) not in get_args(known):
                names = ", ".join(kind.__name__ for kind in get_args(known))
                yield f"layer {layer.name}: {type(component).__name__} is not one of {names}"


def _parts(layer: Layer) -> Iterator[tuple[Any, Any]]:
    """What a layer is made of, each part with the union of its kinds."""
    yield layer.operation, Operation
    if layer.neuron is not None:
        yield layer.neuron, Neuron
    if type(layer.neuron) in get_args(Neuron) and layer.dynamics is not None:
        yield layer.dynamics, Spiking
        if layer.lif is not None:
            yield layer.lif.decay, Decay


def graph(layers: Layers, steps: int) -> Iterator[str]:
    """Layer 0 is the input, every other layer reads earlier ones; names are unique; neurons sit behind weights.

    A layer with weights and no neuron sends its sums.
    """
    if not layers or not isinstance(layers[0].operation, Input):
        yield "the first layer must be the input"
    for name, count in Counter(layer.name for layer in layers).items():
        if count > 1:
            yield f"layer name {name} is used {count} times"
    for i, layer in enumerate(layers):
        yield from _of(layer, _wiring(i, layer))


def _of(layer: Layer, faults: Iterator[str]) -> Iterator[str]:
    yield from (f"layer {layer.name}: {fault}" for fault in faults)


def _arity(layer: Layer) -> tuple[int, int]:
    """Least and largest number of layers that an operation reads."""
    match layer.operation:
        case Input():
            return 0, 0
        case Add() | Concat():
            return 2, MAX_INPUTS
        case And() | Iand():
            return 2, 2
        case Conv() | Dense() | SumPool() | MaxPool() | Spread() | Flatten():
            return 1, 1
        case _:
            assert_never(layer.operation)


def _wiring(i: int, layer: Layer) -> Iterator[str]:
    kind, (least, most) = type(layer.operation).__name__, _arity(layer)
    if not least <= len(layer.inputs) <= most:
        yield f"{kind} reads {len(layer.inputs)} layers, the limits are {least} to {most}"
    for source in layer.inputs:
        if not 0 <= source < i:
            yield f"reads layer {source}, only layers 0 to {i - 1} come before it"
    if kind == "Input" and i:
        yield "only the first layer may be an input"
    if layer.weighted is None and layer.neuron is not None:
        yield f"{kind} cannot have a neuron"
    if layer.recurrent is not None and not layer.spikes:
        yield "recurrent weights read the layer's own spikes, and its neuron sends none"


def read_outs(layers: Layers, steps: int) -> Iterator[str]:
    """A read-out is the last word of its layer: no other layer reads it."""
    for layer in layers:
        for source in layer.inputs:
            if 0 <= source < len(layers) and layers[source].neuron and not layers[source].spikes:
                yield (
                    f"layer {layer.name}: reads the read-out {layers[source].name}, whose sums are 32 bit; "
                    "only spikes and graded values may be read"
                )


def settings(layers: Layers, steps: int) -> Iterator[str]:
    """T and the geometry of every operation lie in their ranges."""
    yield from _number("steps", steps, 1, MAX_STEPS)
    for layer in layers:
        yield from _of(layer, _geometry(layer))


def _geometry(layer: Layer) -> Iterator[str]:
    operation = layer.operation
    match operation:
        case Input():
            yield from _input(operation)
        case Conv():
            yield from _weights(layer, operation.weight, 4)
            if min(*operation.stride, *operation.dilation, operation.groups) < 1 or min(operation.padding) < 0:
                yield "stride, dilation and groups must be at least 1, padding at least 0"
        case Dense():
            yield from _weights(layer, operation.weight, 2)
            yield from _recurrent(layer, operation)
        case SumPool():
            yield from _window(operation)
        case MaxPool():
            yield from _window(operation)
            yield from _padding(operation)
        case Spread():
            if min(operation.stride) < 1 or min(operation.extra) < 0:
                yield f"spread by stride {operation.stride}, at least 1, and extra {operation.extra}, at least 0"
        case Add() | And() | Iand() | Concat() | Flatten():
            pass
        case _:
            assert_never(operation)


def _input(operation: Input) -> Iterator[str]:
    if not operation.shape or min(operation.shape) < 1:
        yield f"input shape {operation.shape} has an empty axis"
    if not 1 <= operation.bits <= 24:
        yield f"input has {operation.bits} bits, the limits are 1 to 24"


def _padding(pool: MaxPool) -> Iterator[str]:
    # so that every window holds a value that is not padded
    if not all(0 <= 2 * size <= edge for size, edge in zip(pool.padding, pool.kernel)):
        yield f"pool padding {pool.padding} must be 0 to half the kernel {pool.kernel}"


def _window(pool: SumPool | MaxPool) -> Iterator[str]:
    if min(*pool.kernel, *pool.stride) < 1:
        yield f"pool kernel {pool.kernel} and stride {pool.stride} must be at least 1"


def _recurrent(layer: Layer, dense: Dense) -> Iterator[str]:
    if dense.recurrent is None:
        return
    yield from _weights(layer, dense.recurrent, 2)
    width = len(dense.weight)
    if dense.recurrent.shape != (width, width):
        yield f"recurrent weights are of shape {dense.recurrent.shape}, its neurons need {(width, width)}"


def _weights(layer: Layer, weight: np.ndarray, axes: int) -> Iterator[str]:
    # Weights of lava-dl use the whole mantissa; quantisation here is symmetric
    lowest = -WEIGHT_MAX - (layer.lif is None)
    if weight.ndim != axes or weight.dtype.kind != "i" or not weight.size:
        yield f"weight is {weight.dtype} of shape {weight.shape}, it must be integers with {axes} non-empty axes"
    elif weight.min() < lowest or weight.max() > WEIGHT_MAX:
        top = int(np.abs(weight.astype(np.int64)).max())
        yield f"largest |weight| is {top}, the limit is {WEIGHT_MAX}"


# --- values ---------------------------------------------------------------------------------------------------------


def sizes(layers: Layers, steps: int) -> Iterator[str]:
    """No layer, and no table of windows, is larger than what a machine could hold."""
    for layer, shape in zip(layers, shapes(layers)):
        if prod(shape) > MAX_VALUES:
            yield f"layer {layer.name} has {prod(shape)} values, the limit is {MAX_VALUES}"
        elif (taps := _taps(layer, shape)) > MAX_TAPS:
            yield f"layer {layer.name}: its windows have {taps} taps together, the limit is {MAX_TAPS}"


def _taps(layer: Layer, shape: Shape) -> int:
    """Output pixels times taps of one window."""
    match layer.operation:
        case Conv():
            return prod(shape[1:]) * prod(layer.operation.weight.shape[2:])
        case SumPool() | MaxPool():
            return prod(shape[1:]) * prod(layer.operation.kernel)
        case Input() | Dense() | Add() | And() | Iand() | Concat() | Spread() | Flatten():
            return 0
        case _:
            assert_never(layer.operation)


def neurons(layers: Layers, steps: int) -> Iterator[str]:
    """Every field of every neuron lies in the range that it is declared with."""
    for layer, shape in zip(layers, shapes(layers)):
        if layer.neuron is not None:
            yield from _of(layer, _neuron(layer.neuron, shape))


def _leaky(neuron: Leaky, shape: Shape) -> Iterator[str]:
    """The rules of a leaky read-out: its potential moves as that of a neuron that never spikes."""
    yield from _fields(neuron, shape, 0)
    yield from _neuron(neuron.dynamics, shape)
    if not (neuron.dynamics.threshold == STATE_MAX).all():
        yield f"a leaky read-out never spikes, its threshold must be {STATE_MAX}"
    if isinstance(neuron.dynamics, Lif) and (neuron.dynamics.reset, neuron.dynamics.reset_delay) != ("zero", 0):
        yield "a leaky read-out never spikes, its reset must be 'zero' with reset delay 0"


def _neuron(neuron: Neuron, shape: Shape) -> Iterator[str]:
    if isinstance(neuron, Leaky):
        yield from _leaky(neuron, shape)
        return
    if not isinstance(neuron, Lif):
        yield from _fields(neuron, shape, 0)
        return
    top = (1 << min(max(neuron.k, 0), MAX_DECAY_BITS)) - 1  # a k of billions is refused, not raised to
    yield from _fields(neuron, shape, top)
    yield from _fields(neuron.decay, shape, top, type(neuron.decay).__name__.lower() + " decay ")


def _fields(component: Any, shape: Shape, top: int, prefix: str = "") -> Iterator[str]:
    for name, limits, value in declared(component):
        label = prefix + name.replace("_", " ")
        high = top if limits.high is None else limits.high
        if limits.names:
            if value not in limits.names:
                yield f"{label} is {value!r}, it must be {' or '.join(map(repr, limits.names))}"
        elif limits.per:
            yield from _array(label, value, (limits.low, high), _allowed(limits, shape))
        else:
            yield from _number(label, value, limits.low, high)


def _allowed(limits: Declared, shape: Shape) -> set[Shape]:
    shapes_of: dict[str, Shape] = {"layer": (), "channel": shape[:1], "neuron": shape, "draw": (256,)}
    return {shapes_of[per] for per in limits.per}


def _number(name: str, value: int, low: int, high: int) -> Iterator[str]:
    if not low <= value <= high:
        yield f"{name} is {value}, the limits are {low} to {high}"


def _array(name: str, values: np.ndarray, limits: tuple[int, int], allowed: set[Shape]) -> Iterator[str]:
    if values.dtype.kind not in "iu" or values.shape not in allowed or not values.size:
        yield f"{name} is {values.dtype} of shape {values.shape}, it must be integers of {sorted(allowed)}"
        return
    least, largest = int(values.min()), int(values.max())
    if least < limits[0] or largest > limits[1]:
        yield f"{name} lies in {least}..{largest}, the limits are {limits[0]} to {limits[1]}"


def sums(layers: Layers, steps: int) -> Iterator[str]:
    """Every value, every synaptic sum, every read-out over T and every CUBA current is proven to fit its word."""
    sent = ranges(layers)
    for layer, span, bound in zip(layers, sent, bounds(layers, sent)):
        yield from _of(layer, _sums(layer.neuron, span, bound, steps))


def _sums(neuron: Neuron | None, sent: Range, bound: int, steps: int) -> Iterator[str]:
    match neuron:
        case Lif():
            reach, limit = bound, SUM_MAX
        case Cuba():
            reach, limit = bound << neuron.f, CUBA_MAX
        case ReadOut():
            reach, limit = sent.peak * steps, SUM_MAX
        case Leaky():
            yield from _sums(neuron.dynamics, sent, bound, steps)
            reach, limit = sent.peak * (steps if neuron.read == "sum" else 1), SUM_MAX
        case None:
            reach, limit = sent.peak, SUM_MAX
        case _:
            assert_never(neuron)
    if reach > limit:
        what = "a current a << f" if limit == CUBA_MAX else "a sum"
        yield f"{what} can reach {reach}, the limit is {limit}"


def gates(layers: Layers, steps: int) -> Iterator[str]:
    """AND and IAND read spikes: what they read is 0 or 1."""
    sent = ranges(layers)
    for layer in layers:
        for source in dict.fromkeys(layer.inputs) if isinstance(layer.operation, And | Iand) else ():
            if sent[source] != SPIKE:
                low, high = sent[source]
                yield f"layer {layer.name}: {layers[source].name} sends {low}..{high}, a gate reads spikes, 0 and 1"


STRUCTURE = (graph, read_outs, settings)
VALUES = (sizes, neurons, sums, gates)


def faults(layers: Layers, steps: int) -> list[str]:
    """Every broken rule, as sentences. Values are looked at only where the structure holds, it only at known kinds."""
    broken = list(kinds(layers, steps)) or [fault for rule in STRUCTURE for fault in rule(layers, steps)]
    if broken:
        return broken
    try:
        shapes(layers)
    except NetworkError as error:
        return [str(error)]
    return [fault for rule in VALUES for fault in rule(layers, steps)]


def check_generator(kind: str) -> None:
    """NetworkError unless a network's draws come from a generator that there is."""
    if kind not in GENERATORS:
        raise NetworkError(f"generator {kind!r} is not one of {', '.join(GENERATORS)}")


def check(layers: Layers, steps: int) -> None:
    """Raise one NetworkError that lists every broken rule."""
    broken = faults(layers, steps)
    if broken:
        raise NetworkError("; ".join(broken))


def check_images(operation: Input, steps: int, images: np.ndarray, first_image: int = 0) -> None:
    """Raise NetworkError unless images are integers of the input's shape and range, with numbers 0..2^62 - 1."""
    shape = (steps, *operation.shape) if operation.sequence else operation.shape
    if images.shape[1:] != shape or images.dtype.kind not in "iu":
        what = "recordings of T frames" if operation.sequence else "still images"
        raise NetworkError(
            f"images are {images.dtype} of shape {images.shape[1:]}, the network takes {what}, integers of {shape}"
        )
    span = ranges([Layer("input", operation)])[0]
    if images.size and not (span.low <= images.min() and images.max() <= span.high):
        raise NetworkError(f"pixels lie in {images.min()}..{images.max()}, the limits are {span.low} to {span.high}")
    if not 0 <= first_image <= IMAGE_END - max(len(images), 1):
        raise NetworkError(f"first_image is {first_image}, images have numbers 0 to {IMAGE_END - 1}")
