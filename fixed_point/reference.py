"""The reference interpreter: the definition of what a network computes. Readable first; other backends must equal it.

Layer by layer over the whole batch, time step by time step, all integers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.base.kinds import assert_never
from randhet.fixed_point import integer
from randhet.fixed_point.check import check_images
from randhet.fixed_point.generator import GeneratorKind, LayerGenerator
from randhet.fixed_point.integer import Int
from randhet.fixed_point.keyed import KeyedGenerator
from randhet.fixed_point.layers import Drawn
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Constant,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Network,
    Operation,
    Pair,
    PerNeuron,
    Read,
    ReadOut,
    Shape,
    Spiking,
    Spread,
    SumPool,
    read_of,
)
from randhet.fixed_point.result import Result, Trace
from randhet.fixed_point.shape import window_count

Progress = Callable[[int], None]
Observer = Callable[[Layer, int, Int], None]
"""Called with each layer, step and its synaptic sums (images, *shape) before the neuron: calibration listens here."""


def run(
    network: Network,
    images: np.ndarray,
    *,
    seed: int | None = None,
    first_image: int = 0,
    probes: Collection[str] = (),
    batch: int = 32,
    progress: Progress | None = None,
    observer: Observer | None = None,
    stream: bool = False,
) -> Result:
    """Run images (N, C, Y, X), or recordings (N, T, C, Y, X) where the input is a sequence, through the network.

    seed: master seed, else the network's, else the system's entropy. first_image: logical number of the first image,
    which places the registers. probes: names of layers to trace. progress is told how many images were done.
    stream: the images are pieces of one recording: membrane potentials, currents and recurrent spikes carry on from one
    to the next; draws run on as always, and what is read starts anew with each piece.
    """
    check_images(network.input, network.steps, images, first_image)
    master = master_seed(network, seed)
    parts, carried = [], None
    batch = 1 if stream else batch
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        cells = make_cells(network, len(chunk), master, first_image + start)
        if carried:
            for cell, before in zip(cells, carried):
                cell.carry_on(before)
        parts.append(_run_batch(network, chunk, cells, set(probes), observer))
        carried = cells if stream else None
        if progress:
            progress(len(chunk))
    return join(parts, network)


def master_seed(network: Network, seed: int | None) -> int:
    """The seed given, else the file's, else 64 fresh bits from the operating system."""
    chosen = seed if seed is not None else network.seed
    return secrets.randbits(64) if chosen is None else chosen


def join(parts: list[Result], network: Network) -> Result:
    """One result of consecutive batches."""
    if not parts:
        out = prod(network.shapes[-1])
        return Result(np.zeros(0, np.int64), np.zeros((0, out), np.int64), {}, 0)
    traces = {
        name: Trace(
            np.concatenate([result.traces[name].output for result in parts]),
            None if trace.membrane is None else np.concatenate([result.traces[name].membrane for result in parts]),
        )
        for name, trace in parts[0].traces.items()
    }
    return Result(
        predictions=np.concatenate([result.predictions for result in parts]),
        sums=np.concatenate([result.sums for result in parts]),
        spikes={name: sum(result.spikes[name] for result in parts) for name in parts[0].spikes},
        saturations=sum(result.saturations for result in parts),
        traces=traces,
    )


def make_cells(network: Network, images: int, master: int, first: int) -> list[Cell]:
    """The states of all layers for a batch of images."""
    return [
        make_cell(layer, network.shapes[i], images, Place(master, i, first, network.steps, network.generator))
        for i, layer in enumerate(network.layers)
    ]


def _run_batch(
    network: Network, images: np.ndarray, cells: list[Cell], probes: set[str], observer: Observer | None
) -> Result:
    layers = network.layers
    records: dict[str, list[tuple[Int, Int | None]]] = {layer.name: [] for layer in layers if layer.name in probes}
    spikes = {layer.name: 0 for layer in layers if layer.spikes}
    sums: Int | None = None
    for t in range(network.steps):
        outputs: list[Int] = []
        frame = images[:, t] if network.input.sequence else images
        for layer, cell in zip(layers, cells):
            read = [outputs[i] for i in layer.inputs] or [frame.astype(np.int64)]
            total = operate(layer.operation, read) + cell.returned()
            if observer:
                observer(layer, t, total)
            output, membrane = cell.step(total, t)
            outputs.append(output)
            if layer.name in spikes:
                spikes[layer.name] += int(output.sum())
            if layer.name in records:
                records[layer.name].append((output, membrane))
        sums = read_on(sums, outputs[-1].reshape(len(images), -1), read_of(layers[-1].neuron))
    assert sums is not None  # T is at least 1
    return Result(
        predictions=sums.argmax(axis=1),
        sums=sums,
        spikes=spikes,
        saturations=sum(cell.saturations for cell in cells),
        traces={name: _trace(steps) for name, steps in records.items()},
    )


def read_on(before: Int | None, output: Int, read: Read) -> Int:
    """What is read after one more step of the last layer: the sum of its outputs, the last one, or the largest."""
    if before is None or read == "last":
        return output.copy()
    return np.maximum(before, output) if read == "max" else before + output


def _trace(steps: list[tuple[Int, Int | None]]) -> Trace:
    membranes = [membrane for _, membrane in steps if membrane is not None]
    return Trace(np.stack([output for output, _ in steps], 1), np.stack(membranes, 1) if membranes else None)


# --- operations: (images, *shape) int64 to (images, *shape) int64 ----------------------------------------------------


def operate(operation: Operation, read: list[Int]) -> Int:  # noqa: C901 (a case a kind)
    """Apply one operation to the arrays it reads, first axis images."""
    match operation:
        case Input():
            return read[0]
        case Conv():
            return _conv(operation, read[0])
        case Dense():
            return read[0].reshape(len(read[0]), -1) @ operation.weight.astype(np.int64).T
        case Add():
            return np.sum(read, axis=0)
        case And():
            return np.minimum(read[0], read[1])
        case Iand():
            return (1 - read[0]) * read[1]
        case Concat():
            return np.concatenate(read, axis=1)
        case SumPool():
            return np.sum([plane for _, _, plane in taps(read[0], operation.kernel, operation.stride)], axis=0)
        case MaxPool():
            return _max_pool(operation, read[0])
        case Spread():
            return _spread(operation, read[0])
        case Flatten():
            return read[0].reshape(len(read[0]), -1)
        case _:
            assert_never(operation)


def taps(
    source: NDArray[Any], kernel: Pair, stride: Pair, dilation: Pair = (1, 1)
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """For each tap (i, j) of a window, the plane of values that tap sees, (images, channels, rows, columns)."""
    size = [window_count(source.shape[2 + a], kernel[a], stride[a], 0, dilation[a]) for a in (0, 1)]
    for i, j in np.ndindex(*kernel):
        start = (i * dilation[0], j * dilation[1])
        y, x = (slice(start[a], start[a] + (size[a] - 1) * stride[a] + 1, stride[a]) for a in (0, 1))
        yield i, j, source[:, :, y, x]


def _conv(operation: Conv, read: Int) -> Int:
    groups, weight = operation.groups, operation.weight.astype(np.int64)
    out, per_group, *kernel = weight.shape
    weight = weight.reshape(groups, out // groups, per_group, *kernel)
    (py, px), images = operation.padding, len(read)
    padded = np.pad(read, ((0, 0), (0, 0), (py, py), (px, px)))
    total: Int | int = 0
    for i, j, plane in taps(padded, (kernel[0], kernel[1]), operation.stride, operation.dilation):
        split = plane.reshape(images, groups, per_group, *plane.shape[2:])
        total = total + exact_product(weight[..., i, j], split.reshape(images, groups, per_group, -1))
    return np.asarray(total).reshape(images, out, *plane.shape[2:])


def _max_pool(operation: MaxPool, read: Int) -> Int:
    (py, px), lowest = operation.padding, np.iinfo(np.int64).min
    padded = np.pad(read, ((0, 0), (0, 0), (py, py), (px, px)), constant_values=lowest)
    return np.max([plane for _, _, plane in taps(padded, operation.kernel, operation.stride)], axis=0)


def _spread(operation: Spread, read: Int) -> Int:
    (sy, sx), (ey, ex), (rows, columns) = operation.stride, operation.extra, read.shape[2:]
    wide = np.zeros((*read.shape[:2], (rows - 1) * sy + 1 + ey, (columns - 1) * sx + 1 + ex), np.int64)
    wide[:, :, : (rows - 1) * sy + 1 : sy, : (columns - 1) * sx + 1 : sx] = read
    return wide


def exact_product(weight: Int, values: Int) -> Int:
    """Matrix product of integers. float64 holds every integer below 2^53, and sums of a checked network are int32."""
    return (weight.astype(np.float64) @ values.astype(np.float64)).astype(np.int64)


# --- neurons: state over the steps of one batch ----------------------------------------------------------------------


class Place:
    """Where a layer stands: master seed, layer number, first image, T, generator. Enough to find its draws."""

    def __init__(self, master: int, layer: int, first: int, steps: int, generator: GeneratorKind) -> None:
        self.master, self.layer, self.first, self.steps, self.generator = master, layer, first, steps, generator


class Cell:
    """A layer without a neuron: passes the values on. `state`: the names of what carries on in a recording."""

    saturations = 0
    state: tuple[str, ...] = ()

    def returned(self) -> Int | int:
        """The part of this step's sums that comes from the layer's own spikes of the step before."""
        return 0

    def step(self, total: Int, t: int) -> tuple[Int, Int | None]:
        """(output, membrane before the reset or None) of step t from the synaptic sums (images, *shape)."""
        return total, None

    def carry_on(self, before: Cell) -> None:
        """Start where another cell of the same layer ended."""
        for name in self.state:
            setattr(self, name, getattr(before, name))


class LifCell(Cell):
    """Membranes of a Lif layer; the decays of step t come from `decays`."""

    state = ("membrane",)

    def __init__(self, neuron: Lif, shape: Shape, images: int, context: Place) -> None:
        self.neuron, self.decays = neuron, decays_of(neuron, shape, images, context)
        self.threshold, self.bias = per_channel(neuron.threshold, shape), per_channel(neuron.bias, shape)
        self.floor = per_channel(neuron.floor, shape)
        self.membrane = np.zeros((images, *shape), np.int64)

    def step(self, total: Int, t: int) -> tuple[Int, Int | None]:
        x, clipped = integer.current(total, self.bias, self.neuron.f)
        before, saturated = self._leak(x, self.decays(t))
        before = np.maximum(before, self.floor)
        self.saturations += clipped + saturated
        spike, after = integer.fire(before, self.threshold, self.neuron.reset)
        # a delayed reset is done at the next step, on the membrane potential as it is now
        self.membrane = before if self.neuron.reset_delay else after
        return spike, before

    def _leak(self, x: Int, decay: Int) -> tuple[Int, int]:
        k, reset = self.neuron.k, self.neuron.reset
        if not self.neuron.reset_delay:
            return integer.leak(self.membrane, x, decay, k)
        fired = (self.membrane > self.threshold).astype(np.int64)
        return integer.leak_after(self.membrane, x, decay, k, fired, self.threshold, reset)


class CubaCell(Cell):
    """Current and voltage of Loihi's CUBA neuron."""

    state = ("u", "v")

    def __init__(self, neuron: Cuba, shape: Shape, images: int) -> None:
        self.neuron = neuron
        self.threshold, self.bias = per_channel(neuron.threshold, shape), per_channel(neuron.bias, shape)
        self.u = np.zeros((images, *shape), np.int64)
        self.v = self.u

    def step(self, total: Int, t: int) -> tuple[Int, Int | None]:
        neuron = self.neuron
        self.u, before, saturated = integer.cuba(
            self.u, self.v, total, self.bias, neuron.current_decay, neuron.voltage_decay, neuron.f
        )
        self.saturations += saturated
        spike, self.v = integer.fire(before, self.threshold)
        return spike, before


class ReadOutCell(Cell):
    """The classifier's sums. Output of a step: its a + b; membrane: the sum so far."""

    def __init__(self, neuron: ReadOut, shape: Shape, images: int) -> None:
        self.bias = per_channel(neuron.bias, shape)
        self.membrane = np.zeros((images, *shape), np.int64)

    def step(self, total: Int, t: int) -> tuple[Int, Int | None]:
        added = total + self.bias
        self.membrane = self.membrane + added
        return added, self.membrane


class LeakyCell(Cell):
    """A leaky read-out sends its membrane potential."""

    def __init__(self, inner: Cell) -> None:
        self.inner = inner

    def carry_on(self, before: Cell) -> None:
        assert isinstance(before, LeakyCell)
        self.inner.carry_on(before.inner)

    @property
    def saturations(self) -> int:  # type: ignore[override]
        """Those of its dynamics."""
        return self.inner.saturations

    def step(self, total: Int, t: int) -> tuple[Int, Int | None]:
        _, membrane = self.inner.step(total, t)
        assert membrane is not None
        return membrane, membrane


class RecurrentCell(Cell):
    """A dense layer that also reads its own spikes of the step before: adds U out[t-1] to its sums."""

    def __init__(self, inner: Cell, weight: np.ndarray, images: int) -> None:
        self.inner, self.weight = inner, weight.astype(np.int64)
        self.sent = np.zeros((images, len(weight)), np.int64)

    def carry_on(self, before: Cell) -> None:
        assert isinstance(before, RecurrentCell)
        self.sent = before.sent
        self.inner.carry_on(before.inner)

    @property
    def saturations(self) -> int:  # type: ignore[override]
        """Those of its neuron."""
        return self.inner.saturations

    def returned(self) -> Int:
        return self.sent @ self.weight.T

    def step(self, total: Int, t: int) -> tuple[Int, Int | None]:
        self.sent, membrane = self.inner.step(total, t)
        return self.sent, membrane


def per_channel(value: np.ndarray, shape: Shape) -> Int:
    """(), (C,) or (C, Y, X) as int64 that broadcasts against (images, *shape)."""
    wide = value.astype(np.int64)
    return wide if wide.shape == shape else wide.reshape(-1, *[1] * (len(shape) - 1))


def make_cell(layer: Layer, shape: Shape, images: int, context: Place) -> Cell:
    """The state of one layer's neurons for a batch of images."""
    cell = _cell(layer, shape, images, context)
    return cell if layer.recurrent is None else RecurrentCell(cell, layer.recurrent, images)


def _cell(layer: Layer, shape: Shape, images: int, context: Place) -> Cell:
    match layer.neuron:
        case None:
            return Cell()
        case Lif() | Cuba():
            return _spiking_cell(layer.neuron, shape, images, context)
        case Leaky():
            return LeakyCell(_spiking_cell(layer.neuron.dynamics, shape, images, context))
        case ReadOut():
            return ReadOutCell(layer.neuron, shape, images)
        case _:
            assert_never(layer.neuron)


def _spiking_cell(neuron: Spiking, shape: Shape, images: int, context: Place) -> Cell:
    match neuron:
        case Lif():
            return LifCell(neuron, shape, images, context)
        case Cuba():
            return CubaCell(neuron, shape, images)
        case _:
            assert_never(neuron)


def decays_of(neuron: Lif, shape: Shape, images: int, context: Place) -> Callable[[int], Int]:
    """A function from the step to the decays A of all neurons, broadcastable to (images, *shape)."""
    match neuron.decay:
        case Constant():
            constant = np.array(neuron.decay.mantissa, np.int64)
            return lambda t: constant
        case PerNeuron():
            own = neuron.decay.mantissa.astype(np.int64).reshape(shape)
            return lambda t: own
        case Drawn():
            return _drawn(neuron.decay, shape, images, context)
        case _:
            assert_never(neuron.decay)


def make_generator(
    kind: GeneratorKind, master: int, layer: int, neurons: int, per_core: int
) -> LayerGenerator | KeyedGenerator:
    """Make the generator of a layer; `per_core` neurons share a register, the cipher has no cores."""
    match kind:
        case "register":
            return LayerGenerator(master, layer, neurons, per_core)
        case "chacha":
            return KeyedGenerator(master, layer, neurons)
        case _:
            assert_never(kind)


def _drawn(decay: Drawn, shape: Shape, images: int, context: Place) -> Callable[[int], Int]:
    generator = make_generator(context.generator, context.master, context.layer, prod(shape), decay.neurons_per_core)
    table = decay.table.astype(np.int64)
    numbers = range(context.first, context.first + images)  # Python's integers: times T they may pass 64 bits

    def decays(rounds: list[int]) -> Int:
        return np.stack([table[generator.round(number)].reshape(shape) for number in rounds])

    if decay.sampling == "forward":
        held = decays(list(numbers))
        return lambda t: held
    return lambda t: decays([number * context.steps + t for number in numbers])
