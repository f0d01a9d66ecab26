"""What a network must compute, in Python's unbounded integers, one number at a time, written from the contract alone.

Nothing here calls the project's arithmetic, shapes or generator: only the description of the network is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import singledispatch
from itertools import product
from math import prod

from randhet.fixed_point import network as ir

Flat = list[int]
Shape = tuple[int, ...]
TOP = 2**23 - 1
UNITY = 4096


@dataclass
class Expected:
    """Per layer name, per image, per step: the flat outputs and, of neurons, the membrane before its reset."""

    outputs: dict[str, list[list[Flat]]] = field(default_factory=dict)
    membranes: dict[str, list[list[Flat]]] = field(default_factory=dict)
    saturations: int = 0


def run(network: ir.Network, images: list, seed: int, first_image: int = 0) -> Expected:
    """Every layer, image and step, images one after another. images: nested lists (N, C, Y, X)."""
    shape = _shapes(network)
    found = Expected({layer.name: [] for layer in network.layers})
    draws = {i: _Draws(network, i, shape[i], seed, first_image) for i in range(len(network.layers))}
    for image in images:
        cells = [_cell(layer.neuron, shape[i], draws[i]) for i, layer in enumerate(network.layers)]
        steps = [_step(network, shape, cells, _flatten(image), found) for _ in range(network.steps)]
        for i, layer in enumerate(network.layers):
            found.outputs[layer.name].append([outputs[i] for outputs, _ in steps])
            if layer.neuron is not None:
                found.membranes.setdefault(layer.name, []).append([membranes[i] for _, membranes in steps])
    return found


def _step(
    network: ir.Network, shape: list[Shape], cells: list[Cell], image: Flat, found: Expected
) -> tuple[list[Flat], list[Flat]]:
    outputs: list[Flat] = []
    membranes: list[Flat] = []
    for i, layer in enumerate(network.layers):
        read = [outputs[j] for j in layer.inputs] or [image]
        into = [shape[j] for j in layer.inputs] or [shape[i]]
        sums = _operate(layer.operation, read, into[0], shape[i])
        output, membrane, saturated = cells[i](sums)
        outputs.append(output)
        membranes.append(membrane)
        found.saturations += saturated
    return outputs, membranes


def _flatten(nested: list | int) -> Flat:
    return [nested] if isinstance(nested, int) else [value for part in nested for value in _flatten(part)]


# --- shapes -----------------------------------------------------------------------------------------------------------


def _fits(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many windows fit, by trying them."""
    count = 0
    while count * stride + dilation * (kernel - 1) < size + 2 * padding:
        count += 1
    return count


def _shapes(network: ir.Network) -> list[Shape]:
    found: list[Shape] = []
    for layer in network.layers:
        found.append(_shape(layer.operation, found[layer.inputs[0]] if layer.inputs else ()))
    return found


@singledispatch
def _shape(operation: ir.Operation, into: Shape) -> Shape:
    return into


@_shape.register
def _(operation: ir.Input, into: Shape) -> Shape:
    return operation.shape


@_shape.register
def _(operation: ir.Conv, into: Shape) -> Shape:
    kernel = operation.weight.shape[2:]
    sides = zip(into[1:], kernel, operation.stride, operation.padding, operation.dilation)
    return (operation.weight.shape[0], *(_fits(*side) for side in sides))


@_shape.register
def _(operation: ir.Dense, into: Shape) -> Shape:
    return (operation.weight.shape[0],)


@_shape.register
def _(operation: ir.SumPool, into: Shape) -> Shape:
    return (into[0], *(_fits(*side, 0, 1) for side in zip(into[1:], operation.kernel, operation.stride)))


@_shape.register
def _(operation: ir.Flatten, into: Shape) -> Shape:
    return (prod(into),)


# --- operations on flat lists in (channel, y, x) order ----------------------------------------------------------------


@singledispatch
def _operate(operation: ir.Operation, read: list[Flat], into: Shape, out: Shape) -> Flat:
    return list(read[0])


@_operate.register
def _(operation: ir.Add, read: list[Flat], into: Shape, out: Shape) -> Flat:
    return [sum(values) for values in zip(*read)]


@_operate.register
def _(operation: ir.Dense, read: list[Flat], into: Shape, out: Shape) -> Flat:
    return [sum(w * s for w, s in zip(row, read[0])) for row in operation.weight.tolist()]


@_operate.register
def _(operation: ir.Conv, read: list[Flat], into: Shape, out: Shape) -> Flat:
    weight, per_group = operation.weight.tolist(), operation.weight.shape[1]
    width = out[0] // operation.groups
    (sy, sx), (py, px), (dy, dx) = operation.stride, operation.padding, operation.dilation
    found = []
    for o, y, x in product(*map(range, out)):
        total, first = 0, o // width * per_group
        for c, i, j in product(*map(range, operation.weight.shape[1:])):
            row, column = y * sy + i * dy - py, x * sx + j * dx - px
            if 0 <= row < into[1] and 0 <= column < into[2]:
                total += weight[o][c][i][j] * read[0][((first + c) * into[1] + row) * into[2] + column]
        found.append(total)
    return found


@_operate.register
def _(operation: ir.SumPool, read: list[Flat], into: Shape, out: Shape) -> Flat:
    (ky, kx), (sy, sx) = operation.kernel, operation.stride
    at = lambda c, y, x: read[0][(c * into[1] + y) * into[2] + x]
    window = list(product(range(ky), range(kx)))
    return [sum(at(c, y * sy + i, x * sx + j) for i, j in window) for c, y, x in product(*map(range, out))]


# --- neurons ----------------------------------------------------------------------------------------------------------

Cell = Callable[[Flat], tuple[Flat, Flat, int]]
"""Sums of a step to (outputs, membranes before the reset, saturations)."""


def _sat(value: int) -> tuple[int, int]:
    """Saturate to 24 bits; 1 if that changed it."""
    return (TOP, 1) if value > TOP else (-TOP, 1) if value < -TOP else (value, 0)


def _toward_zero(value: int, fraction: int) -> int:
    size = abs(value) * fraction // UNITY
    return size if value > 0 else -size


def _wrap(value: int) -> int:
    """Once around 24 bits, into (-2^23, 2^23]."""
    half = 2**23
    return value - 2 * half if value > half else value + 2 * half if value <= -half else value


def _spread(values: list, shape: Shape) -> Flat:
    """Per channel, or per neuron as a map, to one value per neuron."""
    flat = _flatten(values)
    each = prod(shape) // len(flat)
    return [value for value in flat for _ in range(each)]


@singledispatch
def _cell(neuron: ir.Neuron | None, shape: Shape, draws: _Draws) -> Cell:
    return lambda sums: (sums, [], 0)


@_cell.register(ir.RandomTau)
@_cell.register(ir.Lif)
@_cell.register(ir.Het)
def _(neuron: ir.RandomTau | ir.Lif | ir.Het, shape: Shape, draws: _Draws) -> Cell:
    count = prod(shape)
    bias, theta = _spread(neuron.bias.tolist(), shape), _spread(neuron.threshold.tolist(), shape)
    decays = _decays(neuron, count, draws)
    state = [0] * count

    def step(sums: Flat) -> tuple[Flat, Flat, int]:
        before, saturated = [], 0
        for n, (total, decay) in enumerate(zip(sums, next(decays))):
            x, over = _sat(total * 2**neuron.f + bias[n])
            m, under = _sat(x + decay * (state[n] - x) // 2**neuron.k)
            saturated += over + under
            before.append(m)
        spikes = [int(m > limit) for m, limit in zip(before, theta)]
        state[:] = [0 if s else m for s, m in zip(spikes, before)]
        return spikes, before, saturated

    return step


def _decays(neuron: ir.RandomTau | ir.Lif | ir.Het, count: int, draws: _Draws) -> Iterator[Flat]:
    """The decay mantissas of each step of one image."""
    if isinstance(neuron, ir.RandomTau):
        held = draws.next() if neuron.sampling == "forward" else None
        while True:
            drawn = held if held is not None else draws.next()
            yield [int(neuron.table[r]) for r in drawn]
    fixed = _flatten(neuron.decay.tolist()) if isinstance(neuron, ir.Het) else [neuron.decay] * count
    while True:
        yield fixed


@_cell.register(ir.Cuba)
def _(neuron: ir.Cuba, shape: Shape, draws: _Draws) -> Cell:
    bias, theta = _spread(neuron.bias.tolist(), shape), _spread(neuron.threshold.tolist(), shape)
    u, v = [0] * prod(shape), [0] * prod(shape)

    def step(sums: Flat) -> tuple[Flat, Flat, int]:
        before, saturated = [], 0
        for n, total in enumerate(sums):
            u[n] = _wrap(_toward_zero(u[n], UNITY - neuron.current_decay - 1) + total * 2**neuron.f)
            m, over = _sat(_toward_zero(v[n], UNITY - neuron.voltage_decay) + u[n] + bias[n])
            saturated += over
            before.append(m)
        spikes = [int(m > limit) for m, limit in zip(before, theta)]
        v[:] = [0 if s else m for s, m in zip(spikes, before)]
        return spikes, before, saturated

    return step


@_cell.register(ir.ReadOut)
def _(neuron: ir.ReadOut, shape: Shape, draws: _Draws) -> Cell:
    bias, state = _spread(neuron.bias.tolist(), shape), [0] * prod(shape)

    def step(sums: Flat) -> tuple[Flat, Flat, int]:
        added = [total + b for total, b in zip(sums, bias)]
        state[:] = [m + a for m, a in zip(state, added)]
        return added, list(state), 0

    return step


# --- registers --------------------------------------------------------------------------------------------------------


def clock(state: int) -> int:
    """One step of the 32 bit register in Galois form, taps 0x80200003."""
    return state >> 1 ^ (0x80200003 if state & 1 else 0)


def mix(value: int) -> int:
    """splitmix64 of one value."""
    mask = 2**64 - 1
    z = (value + 0x9E3779B97F4A7C15) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


class _Draws:
    """A layer's registers, clocked serially from their seeds: no jumps."""

    def __init__(self, network: ir.Network, index: int, shape: Shape, seed: int, first_image: int) -> None:
        neuron = network.layers[index].neuron
        self.states: list[int] = []
        self.sizes: Flat = []
        if not isinstance(neuron, ir.RandomTau):
            return
        for core, start in enumerate(range(0, prod(shape), neuron.neurons_per_core)):
            self.states.append(mix(mix(mix(seed % 2**64) ^ index) ^ core) % 2**32 or 1)
            self.sizes.append(min(neuron.neurons_per_core, prod(shape) - start))
        for _ in range(first_image * (1 if neuron.sampling == "forward" else network.steps)):
            self.next()

    def next(self) -> Flat:
        """One draw of every neuron, core after core, neuron 0 first."""
        drawn = []
        for core, size in enumerate(self.sizes):
            for _ in range(size):
                for _ in range(8):
                    self.states[core] = clock(self.states[core])
                drawn.append(self.states[core] % 256)
        return drawn
