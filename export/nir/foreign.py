"""Read a NIR graph that another tool wrote into the float graph.

A neuron reads one layer with weights; R and a threshold that differs between channels go into its weights, v_leak into
its bias. Everything that has no counterpart is refused by name, all at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from math import prod
from typing import Literal

import nir
import numpy as np

from randhet.export.float_shape import output_shape
from randhet.export.graph import (
    Array,
    AveragePool,
    Encoding,
    ExportError,
    FloatAdd,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatInput,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    Normalisation,
    TimeMean,
    TimeRead,
)
from randhet.export.nir.file import first_line
from randhet.export.nir.flat import flattened
from randhet.export.nir.nodes import Dynamics, convert, dynamics, is_neuron, pair, supported
from randhet.export.nir.steps import Discretisation
from randhet.export.passes.fold import multiplied
from randhet.fixed_point.network import Shape

ReadOutOf = Literal["last", "max", "mean"]
"""Which value of a leaky read-out is the answer: that of the last step, the largest, or the mean over the steps."""
DAMAGED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What comes of a node whose values are no numbers, or of no shape that belongs there: its file may be anyone's."""
PIXEL = 1 / 255
"""Float value of one grey level where images are in 0..1."""


def foreign(
    graph: nir.NIRGraph,
    time: Discretisation,
    steps: int,
    scale: float,
    read_out: ReadOutOf | None = None,
    sequence: bool = False,
) -> FloatGraph:
    """The float graph of a NIR graph of another tool, run for `steps` steps; see `read.read`."""
    return _Reader(graph, time, read_out).read(steps, scale, sequence)


class _Reader:
    """Converts node after node in topological order, collecting what it must refuse."""

    def __init__(self, graph: nir.NIRGraph, time: Discretisation, read_out: ReadOutOf | None) -> None:
        self.flat = flattened(graph)
        asks = time.reset is None and any(map(is_neuron, self.flat.nodes.values()))
        self.unsaid = time.unsaid if asks else ""
        """Why the graph cannot be read although every node of it can: said last."""
        self.time, self.read_out = replace(time, reset=time.reset or "zero"), read_out
        self.nodes: dict[str, FloatNode] = {}
        self.shapes: dict[str, Shape] = {}
        self.last: dict[str, str] = {}
        """By NIR node, the float node that holds its output."""
        self.scaled: dict[str, Array] = {}
        """By NIR node, what its output has yet to be multiplied by, in the weights that read it."""
        self.first = ""
        """The float node that holds the image."""
        self.refused: list[str] = []

    def read(self, steps: int, scale: float, sequence: bool) -> FloatGraph:
        for name in self._order():
            if name in self.flat.recurrent.values():
                continue
            node = in_numpy(self.flat.nodes[name])
            try:
                if isinstance(node, nir.Input):
                    self._image(name, node, scale, Encoding(steps, sequence))
                else:
                    self._node(name, node)
            except (ExportError, *DAMAGED) as error:
                said = str(error) if isinstance(error, ExportError) else f"its values are damaged ({first_line(error)})"
                self.refused.append(f"{name} ({type(node).__name__}): {said}")
                self.last[name] = ""
        if self.refused:
            raise ExportError(f"not supported: {'; '.join(self.refused)}. Supported are {', '.join(supported())}")
        if self.unsaid:
            raise ExportError(self.unsaid)
        return self._finished()

    def _order(self) -> list[str]:
        for kind in (nir.Input, nir.Output):
            if (count := sum(isinstance(node, kind) for node in self.flat.nodes.values())) != 1:
                raise ExportError(f"the graph has {count} nodes of type {kind.__name__}, it needs exactly one")
        try:
            return list(TopologicalSorter({name: self.flat.before(name) for name in self.flat.nodes}).static_order())
        except CycleError as error:
            raise ExportError(
                f"recurrent connections are not supported, but for a matrix of weights from one neuron to itself: "
                f"{' to '.join(error.args[1])}"
            ) from None

    def _node(self, name: str, node: nir.NIRNode) -> None:
        source = self._source(name)
        if not source:
            self.last[name] = ""
        elif isinstance(node, nir.Output):
            self._output(name, source)
        elif isinstance(node, nir.Delay):
            self.last[name] = undelayed(node, source)
        elif is_neuron(node):
            self.last[name] = self._neuron(name, dynamics(node, self.time), source)
        elif isinstance(node, nir.Scale):
            self._scale(name, node, source)
        else:
            self._operation(name, convert(node, self.shapes[source]), source)

    def _operation(self, name: str, operation: FloatOperation, source: str) -> None:
        if source == self.first and self._gain(name) is None:
            operation = normalisation(operation) or operation
        if (gain := self._gain(name)) is not None:
            operation = self._absorbed(name, operation, gain, source)
        self.last[name] = self._add(FloatNode(name, operation, (source,)))

    def _add(self, node: FloatNode) -> str:
        self.shapes[node.name] = output_shape(node.operation, tuple(self.shapes[name] for name in node.inputs))
        self.nodes[node.name] = node
        return node.name

    def _image(self, name: str, node: nir.Input, scale: float, encoding: Encoding) -> None:
        """The image; some tools count the batch as a first axis, (1, values) or (1, channel, y, x)."""
        given = node.input_type.get("input") if node.input_type else None
        shape = tuple(int(size) for size in np.ravel(given)) if given is not None else ()
        if not 1 <= len(shape) <= 4 or min(shape) < 1:
            raise ExportError(f"shape {given} is neither (values,) nor (channel, y, x)")
        last = self._add(FloatNode("input", FloatInput(self._frame(shape), encoding.sequence)))
        if scale != PIXEL:
            grey = Normalisation(np.zeros(1), np.full(1, PIXEL / scale))
            last = self._add(FloatNode("scale", grey, (last,)))
        self.first = self.last[name] = self._add(FloatNode("encode", encoding, (last,)))

    def _frame(self, shape: Shape) -> Shape:
        """The shape without a batch axis; (channel, x) of one-dimensional convolutions has one row."""
        if any(isinstance(node, nir.Conv1d) for node in self.flat.nodes.values()) and len(shape) in (2, 3):
            return (shape[-2], 1, shape[-1])
        return shape[len(shape) % 2 == 0 :]

    def _source(self, name: str) -> str:
        """The float node that a NIR node reads, a sum where it has several inputs; empty where one was refused."""
        before = self.flat.before(name)
        read = tuple(self.last[source] for source in before)
        if not read:
            raise ExportError("it reads nothing")
        if not all(read):
            return ""
        if len(read) == 1:
            return read[0]
        if factors := [source for source in before if source in self.scaled]:
            raise ExportError(f"it adds up what {factors[0]} scales, which only a layer with weights can take")
        for source in read:
            if isinstance(self.nodes[source].operation, (FloatConv, FloatDense)):
                raise ExportError(f"it adds up {', '.join(read)}; only spikes can be added, not what {source} gives")
        return self._add(FloatNode(f"{name}.add", FloatAdd(), read))

    def _output(self, name: str, source: str) -> None:
        """The mean over time; of a leaky read-out, what is asked for."""
        cell = self.nodes[source].operation
        leaky = isinstance(cell, FloatNeuron) and cell.read is not None
        if leaky and self.read_out is None:
            raise ExportError(
                f"{source} is a leaky read-out, and NIR does not say which value of it is the answer: "
                "give --read-out last, max or mean"
            )
        if not leaky and self.read_out is not None:
            raise ExportError(f"it reads {source}, which is no leaky read-out (LI, CubaLI, I): leave out --read-out")
        if self._gain(name) is not None:
            raise ExportError("it reads what a Scale gives, which only a layer with weights can take")
        how = TimeMean() if self.read_out is None or self.read_out == "mean" else TimeRead(self.read_out)
        self.last[name] = self._add(FloatNode(f"{name}.mean", how, (source,)))

    # --- factors ----------------------------------------------------------------------------------------------------

    def _gain(self, name: str) -> Array | None:
        """What the one input of a node has yet to be multiplied by."""
        return self.scaled.get(self.flat.before(name)[0])

    def _scale(self, name: str, node: nir.Scale, source: str) -> None:
        """Into the weights before it, where nothing else reads them; else into those that read it."""
        operation, before = self.nodes[source].operation, self._gain(name)
        factor = full(node.scale, self.shapes[source], "scale") * (1 if before is None else before)
        self.last[name] = source
        if isinstance(operation, (FloatConv, FloatDense)) and len(self._readers(source)) == 1:
            gain = per_channel(factor, self.shapes[source], "scale")
            self.nodes[source] = replace(self.nodes[source], operation=multiplied(operation, gain))
        else:
            self.scaled[name] = factor

    def _absorbed(self, name: str, operation: FloatOperation, gain: Array, source: str) -> FloatOperation:
        """The operation on what it reads times the factor: in its weights, or in those behind it."""
        shape = self.shapes[source]
        match operation:
            case FloatDense():
                return replace(operation, weight=operation.weight * gain.reshape(1, -1))
            case FloatConv():
                groups, (out, per_group) = operation.groups, operation.weight.shape[:2]
                each = per_channel(gain, shape, "scale").reshape(groups, per_group)
                rows = np.repeat(each, out // groups, axis=0)
                return replace(operation, weight=operation.weight * rows[:, :, None, None])
            case FloatFlatten():
                self.scaled[name] = gain.ravel()
                return operation
            case _:
                raise ExportError("it reads what a Scale gives, which only a layer with weights can take")

    # --- neurons ----------------------------------------------------------------------------------------------------

    def _neuron(self, name: str, cell: Dynamics, source: str) -> str:
        """Fold the drive, the leak and unequal thresholds into the layer with weights before the neuron."""
        origin = self._behind_pools(source)
        layer, shape = self.nodes[origin], self.shapes[source]
        weights = layer.operation
        if not isinstance(weights, (FloatConv, FloatDense)) or len(self._readers(origin)) != 1:
            raise ExportError(f"a neuron must be the only reader of a layer with weights, this one reads {source}")
        if self._late_zero_alone(name, cell):
            raise ExportError(
                f"resets to zero at once in {self.time.version} at any reset_delay: leave out --reset-delay 1"
            )
        if name in self.flat.recurrent:
            weights = with_recurrent(weights, in_numpy(self.flat.nodes[self.flat.recurrent[name]]))
        if cell.reads and (others := self._later(name)):
            raise ExportError(f"sends its membrane potential to {others[0]}: a leaky read-out must be the last node")
        threshold = per_channel(cell.threshold, shape, "threshold")
        unequal = bool(np.ptp(threshold))
        unit = 1 / threshold if unequal else np.ones_like(threshold)
        gain, leak = per_channel(cell.drive, shape, "drive") * unit, full(cell.leak, shape, "v_leak")
        if origin != source and leak.any():
            leak = np.broadcast_to(per_channel(leak, shape, "v_leak")[:, None, None], self.shapes[origin])
        weights = driven(weights, gain, leak, unit)
        if cell.synapse and np.any(weights.bias):
            raise ExportError(f"the bias of {source} would pass through its synapse, which integer CUBA neurons lack")
        self.nodes[origin] = replace(layer, operation=weights)
        return self._add(
            FloatNode(name, self._float_neuron(cell, shape, unit, 1.0 if unequal else threshold[0]), (source,))
        )

    def _float_neuron(self, cell: Dynamics, shape: Shape, unit: Array, level: float) -> FloatNeuron:
        """One decay for all, or one for each neuron."""
        time, decay = self.time, full(cell.decay, shape, "tau")
        one = not np.ptp(decay)
        if not one and cell.kind != "vanilla":
            raise ExportError("time constants that differ from neuron to neuron are supported in LIF and LI only")
        kind, decay = (cell.kind, np.array(decay.flat[0])) if one else ("het", decay)
        if cell.reads:
            return FloatNeuron(kind, 1.0, decay=decay, synapse=cell.synapse, read="sum")
        if cell.stateless:
            return FloatNeuron(kind, float(level), decay=decay)
        assert time.reset is not None
        floor = None if time.floor is None else time.floor * (unit if np.ptp(unit) else unit[0])
        return FloatNeuron(
            kind, float(level), decay=decay, synapse=cell.synapse, reset=time.reset, reset_delay=time.reset_delay,
            inclusive=time.inclusive, floor=None if floor is None else np.asarray(floor),
        )  # fmt: skip

    def _behind_pools(self, source: str) -> str:
        """The float node whose means a node reads, itself where it reads none: a mean keeps factors and biases."""
        node = self.nodes[source]
        alone = isinstance(node.operation, AveragePool) and len(self._readers(source)) == 1
        averaged = alone and not any(isinstance(self.flat.nodes[name], nir.SumPool2d) for name in (source,))
        return self._behind_pools(node.inputs[0]) if averaged else source

    def _late_zero_alone(self, name: str, cell: Dynamics) -> bool:
        """Whether a late reset to zero is asked for where only neurons that read their own spikes have one."""
        late = self.time.late_zero_returns and (self.time.reset, self.time.reset_delay) == ("zero", 1)
        return late and not (cell.reads or cell.stateless or name in self.flat.recurrent)

    def _later(self, name: str) -> list[str]:
        """The nodes other than the output that read a neuron."""
        return [node for node in self.flat.behind(name) if not isinstance(self.flat.nodes[node], nir.Output)]

    def _readers(self, source: str) -> list[str]:
        """The NIR nodes that read a float node, behind factors and delays of nothing."""
        origins = [name for name, last in self.last.items() if last == source]
        return [target for origin in origins for target in self.flat.behind(origin) if target not in origins]

    def _finished(self) -> FloatGraph:
        graph = FloatGraph(tuple(self.nodes.values()))
        for name, node in self.flat.nodes.items():
            if isinstance(node, nir.SumPool2d):
                for reader in _weighted(graph, name):
                    operation = reader.operation
                    assert isinstance(operation, (FloatConv, FloatDense))
                    window = prod(pair(node.kernel_size))
                    graph = graph.changed(reader.name, replace(operation, weight=operation.weight * window))
        return graph


def with_recurrent(weights: FloatConv | FloatDense, back: nir.NIRNode) -> FloatDense:
    """A dense layer whose neurons also read their own spikes of the step before; both biases count at each step."""
    own = convert(back, ())
    if not isinstance(weights, FloatDense) or not isinstance(own, FloatDense):
        raise ExportError("reads its own spikes, which is possible behind a dense layer only, not behind a convolution")
    if own.weight.shape != (len(weights.weight),) * 2:
        raise ExportError(f"has recurrent weights of shape {own.weight.shape} for {len(weights.weight)} neurons")
    return replace(weights, bias=weights.bias + own.bias, recurrent=own.weight)


def undelayed(node: nir.Delay, source: str) -> str:
    """The source of a delay of nothing; ExportError for any other."""
    if np.any(node.delay != 0):
        raise ExportError(
            f"delays by {np.max(np.abs(node.delay)):.3g}, and integer layers send a value at its own step: only a "
            "delay of 0 is exact, build others into the input or leave them out"
        )
    return source


def normalisation(operation: FloatOperation) -> Normalisation | None:
    """What a 1x1 convolution with a diagonal matrix does to an image: (x - mean) / std; None for anything else."""
    if not isinstance(operation, FloatConv) or operation.weight.shape[2:] != (1, 1) or operation.groups != 1:
        return None
    matrix = operation.weight[:, :, 0, 0]
    plain = operation.stride == (1, 1) and operation.padding == (0, 0) and len(matrix) == matrix.shape[1]
    if not plain or (matrix != np.diag(np.diag(matrix))).any() or not (np.diag(matrix) > 0).all():
        return None
    std = 1 / np.diag(matrix)
    return Normalisation(-operation.bias * std, std)


def _weighted(graph: FloatGraph, name: str) -> Iterator[FloatNode]:
    """The layers with weights that read a pool, directly or through pools and flattening."""
    for reader in graph.readers(name):
        if isinstance(reader.operation, (FloatConv, FloatDense)):
            yield reader
        elif isinstance(reader.operation, (AveragePool, FloatFlatten)):
            yield from _weighted(graph, reader.name)
        else:
            raise ExportError(f"{reader.name} reads the sum pool {name}, only a layer with weights may")


def in_numpy(node: nir.NIRNode) -> nir.NIRNode:
    """The node with NumPy arrays where a tool left its own tensors in a graph that never went through a file."""
    if not isinstance(node, nir.NIRNode):  # some tools leave None for a layer they cannot write
        return node
    copied = copy(node)
    for key, value in vars(node).items():
        if hasattr(value, "__array__"):
            setattr(copied, key, np.asarray(value))
    return copied


def driven(weights: FloatConv | FloatDense, gain: Array, leak: Array, unit: Array) -> FloatConv | FloatDense:
    """w <- gain*w, b <- gain*b + unit*leak, per channel; the bias becomes a map where the leak is one."""
    if (gain == 1).all() and not leak.any():
        return weights
    leak = leak * unit.reshape(-1, *[1] * (leak.ndim - 1))
    flat = leak.reshape(len(leak), -1)
    added = flat[:, 0] if not np.ptp(flat, axis=1).any() else leak
    bias = (weights.bias * gain).reshape(-1, *[1] * (added.ndim - 1)) + added
    return replace(multiplied(weights, gain), bias=bias)


def full(value: Array, shape: Shape, what: str) -> Array:
    """A neuron's parameter for every neuron of its layer: one number for all, or an array of the layer's shape."""
    array = np.asarray(value, np.float64)
    if array.size and not np.ptp(array):
        return np.full(shape, array.flat[0])
    if array.shape == shape[:1] + shape[2:]:  # a one-dimensional convolution's channels of one row
        array = array.reshape(shape)
    if array.shape != shape:
        raise ExportError(f"{what} has shape {array.shape}, the layer has {shape}")
    return array


def per_channel(value: Array, shape: Shape, what: str) -> Array:
    """The same for what may differ between channels only, (channels,)."""
    rows = full(value, shape, what).reshape(shape[0], -1)
    if np.ptp(rows, axis=1).any():
        raise ExportError(f"{what} differs within a channel")
    return rows[:, 0]
