"""Random integer networks at the edges of what the representation allows, and images for them.

A `Choose` takes every decision: a random number generator (`Uniform`), or a library for property-based tests.
Every operation may read any earlier layer but a read-out, the input included; signs, widths, decays, thresholds and
numbers of images reach their ends. Layers are small: an oracle in Python's integers runs beside the backends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import prod
from typing import Any, Protocol, TypeVar, get_args

import numpy as np

from randhet.fixed_point import network as ir
from randhet.fixed_point.check import CUBA_MAX, IMAGE_END
from randhet.fixed_point.facts import Range, ranges, sum_range
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.layers import MAX_DECAY_BITS, MAX_FRACTION, SUM_MAX, declared
from randhet.fixed_point.shape import output_shape

T = TypeVar("T")
MAX_TERMS = 3000
"""Roughly the largest number of products of one layer at one step."""


class Choose(Protocol):
    """Take the decisions."""

    def number(self, low: int, high: int) -> int:
        """Choose an integer low..high."""

    def of(self, options: Sequence[T]) -> T:
        """Choose one of the options."""


@dataclass(frozen=True)
class Uniform:
    """Choose with a random number generator, every option equally likely."""

    rng: np.random.Generator

    def number(self, low: int, high: int) -> int:
        return low + int(self.rng.integers(0, high - low, dtype=np.uint64, endpoint=True))

    def of(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]


@dataclass(frozen=True, eq=False)
class Run:
    """Hold a network, images for it, the master seed, and the logical number of the first image."""

    network: ir.Network
    images: np.ndarray
    seed: int
    first_image: int

    @property
    def names(self) -> list[str]:
        """Return the names of all layers: each can be probed."""
        return [layer.name for layer in self.network.layers]


def numbered(number: int, wide: bool = True) -> Run:
    """Make the run with this number; the same number gives the same run. wide: sequences and every kind there is."""
    return make_run(Uniform(np.random.default_rng(number)), wide)


def fingerprint(numbers: Iterable[int], wide: bool = True) -> str:
    """Return the SHA-256 of everything in these runs: it changes where the generator does."""
    digest = sha256()
    for run in (numbered(number, wide) for number in numbers):
        digest.update(repr((run.network.steps, run.images.tolist(), run.seed, run.first_image)).encode())
        for layer in run.network.layers:
            digest.update(repr((type(layer.operation).__name__, layer.inputs, _fields(layer.neuron))).encode())
            digest.update(layer.weighted.weight.tobytes() if layer.weighted else b"")
            digest.update(layer.recurrent.tobytes() if layer.recurrent is not None else b"")
    return digest.hexdigest()


def _fields(component: ir.Neuron | ir.Decay | None) -> list[Any]:
    names = {ir.Lif: "decay", ir.Leaky: "dynamics"}
    inner = getattr(component, names[type(component)]) if type(component) in names else None
    own = [(name, np.asarray(value).tolist()) for name, _, value in declared(component)] if component else []
    return [type(component).__name__, *own, *(_fields(inner) if inner else [])]


def make_run(choose: Choose, wide: bool = True) -> Run:
    """Make a network with images, a seed and image numbers up to their end."""
    network = make_network(choose, wide)
    images = make_images(choose, network)
    first = choose.of([0, 1, choose.number(2, 1000), 2**31 - 1, 2**32 + 5, 2**53 + 1, 2**61, IMAGE_END - len(images)])
    return Run(network, images, choose.of([0, 2**64 - 1, choose.number(0, 2**64 - 1)]), first)


def make_images(choose: Choose, network: ir.Network) -> np.ndarray:
    """Make 1 to 4 images: any values, or each pixel at one of its ends, or all at the same end."""
    (low, high), rng = network.ranges[0], np.random.default_rng(choose.number(0, 2**32 - 1))
    shape = (network.steps, *network.input.shape) if network.input.sequence else network.input.shape
    styles: list[Callable[[], np.ndarray]] = [
        lambda: rng.integers(low, high, shape, endpoint=True),
        lambda: rng.choice([low, high], shape),
        lambda: np.full(shape, choose.of([low, high])),
    ]
    images = np.stack([choose.of(styles)() for _ in range(choose.number(1, 4))])
    wide = [kind for kind in (np.uint8, np.int16, np.int32, np.int64) if _holds(kind, low, high)]
    return images.astype(choose.of(wide[:2]))


def _holds(kind: type, low: int, high: int) -> bool:
    return bool(np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)


def make_network(choose: Choose, wide: bool = True) -> ir.Network:
    """Make 1 to 5 parts behind an input, and a read-out, a spiking dense layer, or neither."""
    net = Growing(choose, np.random.default_rng(choose.number(0, 2**32 - 1)), choose.number(1, 5), wide)
    signed = choose.of([False, False, True])
    shape: ir.Shape = (choose.number(1, 3), choose.number(1, 6), choose.number(1, 6))
    if not choose.number(0, 9):
        shape = (choose.number(1, 20),)
    bits = choose.of([1, 4, 8, 8, choose.number(1, 16), 16])
    net.push(ir.Input(shape, bits, signed, wide and choose.of([False, True])), ())
    parts = [grow_conv, grow_conv, grow_block, grow_pool, grow_add, grow_dense, grow_flatten]
    if wide:
        parts += [grow_max_pool, grow_gate, grow_gate, grow_concat, grow_spread, grow_recurrent]
    for _ in range(choose.number(1, 5)):
        choose.of(parts)(net, net.source())
    if choose.number(0, 3):
        last = net.source()
        net.weigh(last, lambda: ir.Dense(net.weights(choose.number(1, 5), prod(net.shapes[last]))), net.any_neuron())
    return ir.Network(tuple(net.layers), net.steps)


# --- a network under construction -------------------------------------------------------------------------------------


@dataclass
class Growing:
    """Collect layers, with their shapes and ranges."""

    choose: Choose
    rng: np.random.Generator
    steps: int
    wide: bool
    layers: list[ir.Layer] = field(default_factory=list)
    shapes: list[ir.Shape] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)

    def source(self) -> int:
        """Choose the layer that is read next: mostly the last one."""
        last = len(self.layers) - 1
        return self.choose.of([last, last, self.choose.number(0, last)])

    def push(self, operation: ir.Operation, inputs: tuple[int, ...], neuron: ir.Neuron | None = None) -> int:
        """Add a layer unless its values leave 32 bits; return the number of the last layer."""
        layer = ir.Layer(f"l{len(self.layers)}", operation, inputs, neuron)
        if layer.weighted:
            layer = replace(layer, scale=self.rng.random(len(layer.weighted.weight)))
        sent = ranges([*self.layers, layer])[-1]
        if sent.peak <= SUM_MAX:
            self.layers.append(layer)
            self.shapes.append(output_shape(operation, [self.shapes[i] for i in inputs]))
            self.ranges.append(sent)
        return len(self.layers) - 1

    def weigh(self, source: int, make: Callable[[], ir.Weighted], neuron: MakeNeuron) -> int:
        """Add a layer with weights, which are halved until its sums fit 32 bits."""
        operation, read = make(), self.ranges[source]
        while (bound := sum_range(operation, read).peak) > SUM_MAX // (2 * self.steps):
            operation = halved(operation)
        shape = output_shape(operation, [self.shapes[source]])
        return self.push(operation, (source,), neuron(self, shape, bound))

    def weights(self, *shape: int) -> np.ndarray:
        """Choose weights of one of several spreads: spread evenly, at both ends, all equal, all zero."""
        span = self.choose.of([1, 7, 127, 127])
        kinds: list[Callable[[], np.ndarray]] = [
            lambda: self.rng.integers(-span, span, shape, endpoint=True),
            lambda: self.rng.integers(-span, span, shape, endpoint=True),
            lambda: self.rng.choice([-span, span], shape),
            lambda: np.full(shape, self.choose.of([span, -span, 0])),
        ]
        return self.choose.of(kinds)().astype(np.int8)

    def any_neuron(self) -> MakeNeuron:
        """Choose the neuron of the last layer."""
        return self.choose.of([spiking, read_out, *([leaky, leaky] if self.wide else [])])


def halved(operation: ir.Weighted) -> ir.Weighted:
    """Return the operation with weights of half the size."""
    half = lambda weight: (weight / 2).astype(np.int8)
    if isinstance(operation, ir.Dense) and operation.recurrent is not None:
        return ir.Dense(half(operation.weight), half(operation.recurrent))
    return replace(operation, weight=half(operation.weight))


# --- parts ------------------------------------------------------------------------------------------------------------


def grow_conv(net: Growing, source: int) -> int:
    """Add a convolution of any geometry; a dense layer where there is no picture."""
    if len(net.shapes[source]) != 3:
        return grow_dense(net, source)
    channels, *size = net.shapes[source]
    number = net.choose.number
    groups = net.choose.of([g for g in (1, 1, 2, 3) if channels % g == 0])
    kernel, padding = [number(1, 3), number(1, 3)], (number(0, 2), number(0, 2))
    dilation, stride = (number(1, 2), number(1, 2)), (number(1, 2), number(1, 2))
    for axis in (0, 1):
        if size[axis] + 2 * padding[axis] < dilation[axis] * (kernel[axis] - 1) + 1:
            kernel[axis] = 1
    terms = prod(kernel) * channels // groups * prod(s + 2 * p for s, p in zip(size, padding))
    out = groups * number(1, max(1, min(4, MAX_TERMS // terms)))
    make = lambda: ir.Conv(net.weights(out, channels // groups, *kernel), stride, padding, dilation, groups)
    return net.weigh(source, make, spiking)


def grow_block(net: Growing, source: int) -> int:
    """Add a residual block of one shape with branches of unequal depth."""
    if len(net.shapes[source]) != 3 or net.shapes[source][0] > 4:
        return grow_add(net, source)
    channels = net.shapes[source][0]
    same = lambda inner: net.weigh(
        inner, lambda: ir.Conv(net.weights(channels, channels, 3, 3), padding=(1, 1)), spiking
    )
    branch = source
    for _ in range(net.choose.number(1, 2)):
        branch = same(branch)
    shortcut = same(source) if net.choose.number(0, 1) else source
    return net.push(ir.Add(), net.choose.of([(shortcut, branch), (branch, shortcut)]))


def grow_add(net: Growing, source: int) -> int:
    """Add a sum of 2 to 4 layers of one shape, the same one several times where there are no others."""
    alike = [i for i, shape in enumerate(net.shapes) if shape == net.shapes[source]]
    others = tuple(net.choose.of(alike) for _ in range(net.choose.number(1, 3)))
    return net.push(ir.Add(), (source, *others))


def grow_pool(net: Growing, source: int) -> int:
    """Add a sum pool of any geometry; a sum where there is no picture."""
    if len(net.shapes[source]) != 3:
        return grow_add(net, source)
    _, y, x = net.shapes[source]
    kernel = (net.choose.number(1, min(3, y)), net.choose.number(1, min(3, x)))
    return net.push(ir.SumPool(kernel, (net.choose.number(1, 2), net.choose.number(1, 2))), (source,))


def grow_dense(net: Growing, source: int) -> int:
    """Add a dense layer on whatever shape its source has."""
    features = prod(net.shapes[source])
    out = net.choose.number(1, max(1, min(9, MAX_TERMS // features)))
    return net.weigh(source, lambda: ir.Dense(net.weights(out, features)), spiking)


def grow_recurrent(net: Growing, source: int) -> int:
    """Add a dense layer that also reads its own spikes."""
    features = prod(net.shapes[source])
    out = net.choose.number(1, max(1, min(9, MAX_TERMS // features)))
    return net.weigh(source, lambda: ir.Dense(net.weights(out, features), net.weights(out, out)), spiking)


def grow_max_pool(net: Growing, source: int) -> int:
    """Add a max pool of any geometry, with padding; a gate where there is no picture."""
    if len(net.shapes[source]) != 3:
        return grow_gate(net, source)
    _, y, x = net.shapes[source]
    kernel = (net.choose.number(1, min(3, y)), net.choose.number(1, min(3, x)))
    padding = (net.choose.number(0, kernel[0] // 2), net.choose.number(0, kernel[1] // 2))
    return net.push(ir.MaxPool(kernel, (net.choose.number(1, 2), net.choose.number(1, 2)), padding), (source,))


def grow_gate(net: Growing, source: int) -> int:
    """Add an AND or IAND of two layers of spikes; a dense layer first where the source sends other values."""
    if net.ranges[source] != Range(0, 1):
        source = grow_dense(net, source)
    alike = [i for i, span in enumerate(net.ranges) if span == Range(0, 1) and net.shapes[i] == net.shapes[source]]
    gates: list[ir.Operation] = [ir.And(), ir.Iand()]
    return net.push(net.choose.of(gates), (net.choose.of(alike), source))


def grow_concat(net: Growing, source: int) -> int:
    """Add a concatenation of 2 or 3 layers of the same rows and columns, small enough to go on with."""
    alike = [i for i, shape in enumerate(net.shapes) if shape[1:] == net.shapes[source][1:]]
    others = tuple(net.choose.of(alike) for _ in range(net.choose.number(1, 2)))
    if sum(prod(net.shapes[i]) for i in (source, *others)) > MAX_TERMS // 4:
        return grow_add(net, source)
    return net.push(ir.Concat(), (source, *others))


def grow_spread(net: Growing, source: int) -> int:
    """Spread values by 1 to 3 with zeros between and behind, and convolve them: a transposed convolution."""
    if len(net.shapes[source]) != 3 or prod(net.shapes[source]) > MAX_TERMS // 20:
        return grow_flatten(net, source)
    stride, extra = (
        (net.choose.number(1, 3), net.choose.number(1, 2)),
        (net.choose.number(0, 2), net.choose.number(0, 1)),
    )
    return grow_conv(net, net.push(ir.Spread(stride, extra), (source,)))


def grow_flatten(net: Growing, source: int) -> int:
    """Add a flattening, of a picture or of what is flat already."""
    return net.push(ir.Flatten(), (source,))


# --- neurons ----------------------------------------------------------------------------------------------------------

MakeNeuron = Callable[[Growing, ir.Shape, int], ir.Neuron]
"""Make a neuron for a layer of this shape whose |sums| have this bound."""


def spiking(net: Growing, shape: ir.Shape, bound: int) -> ir.Spiking:
    """Make a neuron that spikes: three in four are Lif."""
    return cuba(net, shape, bound) if not net.choose.number(0, 3) and bound <= CUBA_MAX else lif(net, shape, bound)


def read_out(net: Growing, shape: ir.Shape, bound: int) -> ir.ReadOut:
    """Make a read-out with small biases, or with biases that fill 32 bits over the steps."""
    top = net.choose.of([500, SUM_MAX // net.steps - bound])
    return ir.ReadOut(net.rng.integers(-top, top, shape[0], endpoint=True))


def leaky(net: Growing, shape: ir.Shape, bound: int) -> ir.Leaky:
    """Make a leaky read-out, read in any way, of either dynamics."""
    inner, top = spiking(net, shape, bound), np.full(shape[0], STATE_MAX, np.int32)
    if isinstance(inner, ir.Lif):
        inner = replace(inner, threshold=top, reset="zero", reset_delay=0)
    else:
        inner = replace(inner, threshold=top)
    return ir.Leaky(inner, net.choose.of(get_args(ir.Read)))


def lif(net: Growing, shape: ir.Shape, bound: int) -> ir.Lif:
    """Make a Lif with any decay and reset; bits, fraction, threshold and bias up to their ends."""
    k, f = net.choose.number(1, MAX_DECAY_BITS), net.choose.of([0, 6, 6, net.choose.number(0, MAX_FRACTION), 16])
    threshold, bias = levels(net, shape, bound, f)
    made = ir.Lif(threshold, bias, decay(net, shape, k), k, f, net.choose.of(get_args(ir.Reset)))
    return replace(made, reset_delay=net.choose.number(0, 1), floor=floor(net, threshold)) if net.wide else made


def floor(net: Growing, threshold: np.ndarray) -> np.ndarray:
    """Choose no floor, minus the threshold, one for the layer, or one at its ends."""
    ends = net.rng.choice([-STATE_MAX, -1, 0], len(threshold))
    one = max(-net.choose.number(0, 2 * int(threshold.max())), -STATE_MAX)
    return np.asarray(net.choose.of([-STATE_MAX, -threshold, one, ends]), np.int32)


def cuba(net: Growing, shape: ir.Shape, bound: int) -> ir.Cuba:
    """Make a Cuba with decays at their ends half the time, and half the time the largest fraction that is allowed."""
    most = max(f for f in range(MAX_FRACTION + 1) if bound << f <= CUBA_MAX)
    f = net.choose.of([most, net.choose.number(0, most)])
    current = net.choose.of([-1, 0, 4095, net.choose.number(-1, 4095), net.choose.number(-1, 4095)])
    voltage = net.choose.of([0, 4095, 4096, net.choose.number(0, 4096), net.choose.number(0, 4096)])
    return ir.Cuba(*levels(net, shape, bound, f), current, voltage, f)


def levels(net: Growing, shape: ir.Shape, bound: int, f: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose threshold and bias around what the sums reach, or at their ends; the bias per channel or neuron."""
    level = max(1, min(STATE_MAX, (bound << f) // net.choose.of([1, 4, 16])))
    threshold = net.rng.integers(1, level, shape[0], endpoint=True)
    if not net.choose.number(0, 4):
        threshold = net.rng.choice([1, 2, STATE_MAX - 1, STATE_MAX], shape[0])
    wide = net.choose.of([shape, shape[:1], shape[:1]])
    bias = net.rng.integers(-level, level, wide, endpoint=True) // net.choose.of([1, 8])
    if not net.choose.number(0, 4):
        bias = net.rng.choice([-STATE_MAX, -1, 0, STATE_MAX], wide)
    return threshold.astype(np.int32), bias.astype(np.int32)


def decay(net: Growing, shape: ir.Shape, k: int) -> ir.Decay:
    """Choose a decay of any kind, with mantissas up to 0 and 2^k - 1."""
    top = 2**k - 1
    mantissas = lambda *size: net.choose.of(
        [net.rng.integers(0, top, size, endpoint=True), net.rng.choice([0, top], size)]
    )
    kind = net.choose.of(["constant", "per neuron", *get_args(ir.Sampling), *get_args(ir.Sampling)])
    if kind == "constant":
        return ir.Constant(net.choose.of([0, top, net.choose.number(0, top)]))
    if kind == "per neuron":
        return ir.PerNeuron(mantissas(*shape).astype(np.uint16))
    per_core = net.choose.of([1, net.choose.number(2, 40), 7, 1024])
    return ir.Drawn(mantissas(256).astype(np.uint16), kind, 1.0, per_core)
