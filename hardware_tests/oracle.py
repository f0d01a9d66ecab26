"""Compute a network in Python's unbounded integers, one number at a time, written from the contract alone.

Nothing here calls the project's arithmetic, shapes or generator: only the description of the network is read. Every
operation is a list of terms for each of its values, (weight, which of the values read), and all are summed alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, product
from math import prod
from typing import NoReturn

from hardware_tests import galois
from randhet.fixed_point import network as ir

Flat = list[int]
Shape = tuple[int, ...]
Terms = list[list[tuple[int, int]]]
TOP = 2**23 - 1
UNITY = 4096
CLOCKS = 8
"""Clocks of the register for one draw."""
WORD = 2**32


def read(neuron: ir.Neuron | None, steps: list[Flat]) -> Flat:
    """Return what is read of the last layer: the sum over the steps unless the neuron is read otherwise."""
    if not isinstance(neuron, ir.Leaky) or neuron.read == "sum":
        return [sum(values) for values in zip(*steps)]
    if neuron.read == "last":
        return steps[-1]
    return [max(values) for values in zip(*steps)] if neuron.read == "max" else _unknown("read-out", neuron.read)


@dataclass
class Expected:
    """Outputs and, of neurons, membrane potentials before the reset: per layer name, image and step, flat."""

    outputs: dict[str, list[list[Flat]]] = field(default_factory=dict)
    membranes: dict[str, list[list[Flat]]] = field(default_factory=dict)
    saturations: int = 0


def run(network: ir.Network, images: list, seed: int, first_image: int = 0) -> Expected:
    """Run every layer, image and step, images one after another. images: nested lists (N, C, Y, X)."""
    shape = _shapes(network)
    terms = [_terms(layer.operation, [shape[j] for j in layer.inputs], shape[i]) for i, layer in _numbered(network)]
    draws = [_Draws(network, i, shape[i], seed, first_image) for i, _ in _numbered(network)]
    expected = Expected({layer.name: [] for layer in network.layers})
    for image in images:
        cells = [_layer_cell(layer, shape[i], draws[i]) for i, layer in _numbered(network)]
        frames = image if network.input.sequence else [image] * network.steps
        steps = [_step(network, terms, cells, _flatten(frame), expected) for frame in frames]
        for i, layer in _numbered(network):
            expected.outputs[layer.name].append([outputs[i] for outputs, _ in steps])
            if layer.neuron is not None:
                expected.membranes.setdefault(layer.name, []).append([membranes[i] for _, membranes in steps])
    return expected


def _numbered(network: ir.Network) -> Iterator[tuple[int, ir.Layer]]:
    return enumerate(network.layers)


def _step(
    network: ir.Network, terms: list[Terms], cells: list[Cell], image: Flat, expected: Expected
) -> tuple[list[Flat], list[Flat]]:
    outputs: list[Flat] = []
    membranes: list[Flat] = []
    for i, layer in _numbered(network):
        read = [value for j in layer.inputs for value in outputs[j]] or image
        gather = _gather(layer.operation)
        output, membrane, saturated = cells[i]([gather([(w, read[index]) for w, index in own]) for own in terms[i]])
        outputs.append(output)
        membranes.append(membrane)
        expected.saturations += saturated
    return outputs, membranes


def _flatten(nested: list | int) -> Flat:
    return [nested] if isinstance(nested, int) else [value for inner in nested for value in _flatten(inner)]


def _unknown(what: str, value: object) -> NoReturn:
    raise TypeError(f"the oracle knows no {what} {value!r}")


# --- shapes -----------------------------------------------------------------------------------------------------------


def _fits(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Count the windows that fit, by trying them."""
    windows = 0
    while windows * stride + dilation * (kernel - 1) < size + 2 * padding:
        windows += 1
    return windows


def _shapes(network: ir.Network) -> list[Shape]:
    shapes: list[Shape] = []
    for layer in network.layers:
        shapes.append(_shape(layer.operation, [shapes[j] for j in layer.inputs] or [()]))
    return shapes


def _shape(operation: ir.Operation, read: list[Shape]) -> Shape:
    into = read[0]
    match operation:
        case ir.Input():
            return operation.shape
        case ir.Conv():
            kernel = operation.weight.shape[2:]
            sides = zip(into[1:], kernel, operation.stride, operation.padding, operation.dilation)
            return (operation.weight.shape[0], *(_fits(*side) for side in sides))
        case ir.Dense():
            return (operation.weight.shape[0],)
        case ir.SumPool():
            return (into[0], *(_fits(*side, 0, 1) for side in zip(into[1:], operation.kernel, operation.stride)))
        case ir.MaxPool():
            sides = zip(into[1:], operation.kernel, operation.stride, operation.padding, (1, 1))
            return (into[0], *(_fits(*side) for side in sides))
        case ir.Spread():
            return (into[0], *(1 + s * (n - 1) + e for n, s, e in zip(into[1:], operation.stride, operation.extra)))
        case ir.Concat():
            return (sum(each[0] for each in read), *into[1:])
        case ir.Flatten():
            return (prod(into),)
        case ir.Add() | ir.And() | ir.Iand():
            return into
        case _:
            _unknown("operation", operation)


# --- operations: terms of each value, flat in (channel, y, x) order, over what is read, input after input -------------


def _gather(operation: ir.Operation) -> Callable[[list[tuple[int, int]]], int]:
    """Return what makes one value of its terms, (weight, value read): a sum, or the largest, or a gate."""
    match operation:
        case ir.MaxPool():
            return lambda terms: max(value for _, value in terms)
        case ir.And():
            return lambda terms: int(all(value == 1 for _, value in terms))
        case ir.Iand():
            return lambda terms: int([value for _, value in terms] == [0, 1])
        case _:
            return lambda terms: sum(weight * value for weight, value in terms)


def _terms(operation: ir.Operation, into: list[Shape], out: Shape) -> Terms:
    match operation:
        case ir.Input() | ir.Flatten() | ir.Concat():
            # the values that are read stand one branch after another, which is one channel after another
            return [[(1, n)] for n in range(prod(out))]
        case ir.Spread():
            return [list(_spread_from(operation, into[0], *index)) for index in product(*map(range, out))]
        case ir.Add() | ir.And() | ir.Iand():
            return [[(1, branch * prod(out) + n) for branch in range(len(into))] for n in range(prod(out))]
        case ir.Dense():
            return [[(w, n) for n, w in enumerate(row)] for row in operation.weight.tolist()]
        case ir.Conv():
            return [list(_conv(operation, into[0], out, *index)) for index in product(*map(range, out))]
        case ir.SumPool():
            return [list(_pool(operation, (0, 0), into[0], *index)) for index in product(*map(range, out))]
        case ir.MaxPool():
            return [list(_pool(operation, operation.padding, into[0], *index)) for index in product(*map(range, out))]
        case _:
            _unknown("operation", operation)


def _conv(operation: ir.Conv, into: Shape, out: Shape, o: int, y: int, x: int) -> Iterator[tuple[int, int]]:
    per_group, width = operation.weight.shape[1], out[0] // operation.groups
    (sy, sx), (py, px), (dy, dx) = operation.stride, operation.padding, operation.dilation
    for c, i, j in product(*map(range, operation.weight.shape[1:])):
        row, column, channel = y * sy + i * dy - py, x * sx + j * dx - px, o // width * per_group + c
        if 0 <= row < into[1] and 0 <= column < into[2]:
            yield int(operation.weight[o, c, i, j]), (channel * into[1] + row) * into[2] + column


def _pool(
    operation: ir.SumPool | ir.MaxPool, padding: tuple[int, int], into: Shape, c: int, y: int, x: int
) -> Iterator[tuple[int, int]]:
    (ky, kx), (sy, sx) = operation.kernel, operation.stride
    for i, j in product(range(ky), range(kx)):
        row, column = y * sy + i - padding[0], x * sx + j - padding[1]
        if 0 <= row < into[1] and 0 <= column < into[2]:
            yield 1, (c * into[1] + row) * into[2] + column


def _spread_from(operation: ir.Spread, into: Shape, c: int, y: int, x: int) -> Iterator[tuple[int, int]]:
    (row, down), (column, across) = divmod(y, operation.stride[0]), divmod(x, operation.stride[1])
    if down == across == 0 and row < into[1] and column < into[2]:
        yield 1, (c * into[1] + row) * into[2] + column


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
    """Wrap once around 24 bits, into (-2^23, 2^23]."""
    half = 2**23
    return value - 2 * half if value > half else value + 2 * half if value <= -half else value


def _spread(values: list, shape: Shape) -> Flat:
    """Spread values per channel, or per neuron as a map, to one value per neuron."""
    flat = _flatten(values)
    each = prod(shape) // len(flat)
    return [value for value in flat for _ in range(each)]


def _layer_cell(layer: ir.Layer, shape: Shape, draws: _Draws) -> Cell:
    """Return the cell of a layer; of one that reads itself, its own outputs are added with their weights first."""
    cell = _cell(layer.neuron, shape, draws)
    if not isinstance(layer.operation, ir.Dense) or layer.operation.recurrent is None:
        return cell
    rows, sent = layer.operation.recurrent.tolist(), [0] * prod(shape)

    def step(sums: Flat) -> tuple[Flat, Flat, int]:
        added = [total + sum(w * s for w, s in zip(row, sent)) for total, row in zip(sums, rows)]
        output, membrane, saturated = cell(added)
        sent[:] = output
        return output, membrane, saturated

    return step


def _cell(neuron: ir.Neuron | None, shape: Shape, draws: _Draws) -> Cell:
    match neuron:
        case None:
            return lambda sums: (sums, [], 0)
        case ir.Lif():
            return _lif(neuron, shape, draws)
        case ir.Cuba():
            return _cuba(neuron, shape)
        case ir.ReadOut():
            return _read_out(neuron, shape)
        case ir.Leaky():
            return _leaky(_cell(neuron.dynamics, shape, draws))
        case _:
            _unknown("neuron", neuron)


def _leaky(inside: Cell) -> Cell:
    def step(sums: Flat) -> tuple[Flat, Flat, int]:
        _, membrane, saturated = inside(sums)
        return membrane, membrane, saturated

    return step


def _lif(neuron: ir.Lif, shape: Shape, draws: _Draws) -> Cell:
    bias, theta = _spread(neuron.bias.tolist(), shape), _spread(neuron.threshold.tolist(), shape)
    floor = _spread(neuron.floor.tolist(), shape)
    decays, state, late = _decays(neuron.decay, prod(shape), draws), [0] * prod(shape), neuron.reset_delay == 1

    def step(sums: Flat) -> tuple[Flat, Flat, int]:
        before, saturated = [], 0
        for n, (total, decay) in enumerate(zip(sums, next(decays), strict=True)):
            x, over = _sat(total * 2**neuron.f + bias[n])
            m = x + decay * (state[n] - x) // 2**neuron.k
            if late and state[n] > theta[n]:
                m = _after_spike(m, theta[n], neuron.reset)
            m, under = _sat(m)
            saturated += over + under
            before.append(max(m, floor[n]))
        fired = [m > limit for m, limit in zip(before, theta)]
        state[:] = [
            _after_spike(m, limit, neuron.reset) if spike and not late else m
            for m, limit, spike in zip(before, theta, fired)
        ]
        return [int(spike) for spike in fired], before, saturated

    return step


def _after_spike(m: int, theta: int, reset: str) -> int:
    """Return what a spike leaves of the membrane potential."""
    return 0 if reset == "zero" else m - theta if reset == "subtract" else _unknown("reset", reset)


def _after(m: int, theta: int, reset: str) -> int:
    """Return the membrane potential after the reset."""
    return _after_spike(m, theta, reset) if m > theta else m


def _decays(decay: ir.Decay, neurons: int, draws: _Draws) -> Iterator[Flat]:
    """Yield the decay mantissas of each step of one image."""
    match decay:
        case ir.Constant():
            return ([decay.mantissa] * neurons for _ in count())
        case ir.PerNeuron():
            return (_flatten(decay.mantissa.tolist()) for _ in count())
        case ir.Drawn():
            return _drawn(decay, draws)
        case _:
            _unknown("decay", decay)


def _drawn(decay: ir.Drawn, draws: _Draws) -> Iterator[Flat]:
    table = decay.table.tolist()
    held = draws.next() if decay.sampling == "forward" else None
    while True:
        yield [table[r] for r in (draws.next() if held is None else held)]


def _cuba(neuron: ir.Cuba, shape: Shape) -> Cell:
    bias, theta = _spread(neuron.bias.tolist(), shape), _spread(neuron.threshold.tolist(), shape)
    u, v = [0] * prod(shape), [0] * prod(shape)

    def step(sums: Flat) -> tuple[Flat, Flat, int]:
        before, saturated = [], 0
        for n, total in enumerate(sums):
            u[n] = _wrap(_toward_zero(u[n], UNITY - neuron.current_decay - 1) + total * 2**neuron.f)
            m, over = _sat(_toward_zero(v[n], UNITY - neuron.voltage_decay) + u[n] + bias[n])
            saturated += over
            before.append(m)
        v[:] = [_after(m, limit, "zero") for m, limit in zip(before, theta)]
        return [int(m > limit) for m, limit in zip(before, theta)], before, saturated

    return step


def _read_out(neuron: ir.ReadOut, shape: Shape) -> Cell:
    bias, state = _spread(neuron.bias.tolist(), shape), [0] * prod(shape)

    def step(sums: Flat) -> tuple[Flat, Flat, int]:
        added = [total + b for total, b in zip(sums, bias)]
        state[:] = [m + a for m, a in zip(state, added)]
        return added, list(state), 0

    return step


# --- registers --------------------------------------------------------------------------------------------------------


def clock(state: int) -> int:
    """Clock the 32 bit register once, in Galois form with taps 0x80200003."""
    return state >> 1 ^ (0x80200003 if state & 1 else 0)


def later(state: int, clocks: int) -> int:
    """Return the state after that many clocks, each of which is a product with x in the field of 2^32 elements."""
    return galois.multiply(galois.power(galois.X, clocks % galois.ORDER), state)


def mix(value: int) -> int:
    """Mix one value with splitmix64."""
    mask = 2**64 - 1
    z = (value + 0x9E3779B97F4A7C15) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def chacha20(key: Flat, counter: int, nonce: Flat) -> bytes:
    """Return one block of RFC 8439, section 2.3: key of 8 words, counter, nonce of 3 words."""
    start = [
        *(int.from_bytes(b"expand 32-byte k"[i : i + 4], "little") for i in range(0, 16, 4)),
        *key,
        counter,
        *nonce,
    ]
    x = list(start)
    for number in range(80):
        # four quarter rounds down the columns, then four along the diagonals
        n, turn = number % 4, number // 4 % 2
        a, b, c, d = (4 * row + (n + turn * row) % 4 for row in range(4))
        for into, other, changed, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[into] = (x[into] + x[other]) % WORD
            mixed = x[changed] ^ x[into]
            x[changed] = (mixed << bits) % WORD + (mixed >> (32 - bits))
    return b"".join(((word + first) % WORD).to_bytes(4, "little") for word, first in zip(x, start))


class _Keyed:
    """The cipher of a layer: block b of round r has the counter b and the nonce (layer, r mod 2^32, r >> 32)."""

    def __init__(self, index: int, neurons: int, seed: int, first: int) -> None:
        self.key = [mix(mix(mix(seed % 2**64)) ^ word) % WORD or 1 for word in range(8)]
        self.index, self.neurons, self.number = index, neurons, first

    def next(self) -> Flat:
        """Return one draw of every neuron, neuron 0 first."""
        number = self.number % 2**64
        nonce = [self.index, number % WORD, number // WORD]
        self.number += 1
        stream = b"".join(chacha20(self.key, block, nonce) for block in range(-(-self.neurons // 64)))
        return list(stream[: self.neurons])


class _Draws:
    """The registers of a layer, which start where the first image begins and are clocked one by one from there.

    keyed: the cipher in their place.
    """

    keyed: _Keyed | None = None

    def __init__(self, network: ir.Network, index: int, shape: Shape, seed: int, first_image: int) -> None:
        self.states: list[int] = []
        self.sizes: list[int] = []
        neuron = network.layers[index].neuron
        decay = getattr(getattr(neuron, "dynamics", neuron), "decay", None)
        if not isinstance(decay, ir.Drawn):
            return
        rounds = {"forward": first_image, "step": first_image * network.steps}[decay.sampling]
        if network.generator == "chacha":
            self.keyed = _Keyed(index, prod(shape), seed, rounds)
            return
        for core, start in enumerate(range(0, prod(shape), decay.neurons_per_core)):
            size = min(decay.neurons_per_core, prod(shape) - start)
            state = mix(mix(mix(seed % 2**64) ^ index) ^ core) % 2**32 or 1
            self.states.append(later(state, rounds * size * CLOCKS))
            self.sizes.append(size)

    def next(self) -> Flat:
        """Return one draw of every neuron, core after core, neuron 0 first."""
        if self.keyed is not None:
            return self.keyed.next()
        drawn = []
        for core, size in enumerate(self.sizes):
            for _ in range(size):
                for _ in range(CLOCKS):
                    self.states[core] = clock(self.states[core])
                drawn.append(self.states[core] % 256)
        return drawn
