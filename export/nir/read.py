"""Read a NIR graph into the float graph, from which the passes make the integer network.

A neuron reads one layer with weights; R and a threshold that differs between channels go into its weights, v_leak into
its bias. Everything that has no counterpart is refused by name, all at once. Files of `nir_write` are restored exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from math import prod
from pathlib import Path
from typing import Any, get_args

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
)
from randhet.export.nir.file import first_line, nir_file
from randhet.export.nir.nodes import Dynamics, convert, dynamics, pair, supported
from randhet.export.nir.steps import Discretisation
from randhet.export.nir.write import FORMAT, to_nir
from randhet.fixed_point.network import Shape

OPERATIONS: dict[str, Any] = {kind.__name__: kind for kind in get_args(FloatOperation)}
RENAMED = {"tau": "decay"}
"""Fields of the descriptions of format 1."""
DAMAGED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What comes of a node whose values are no numbers, or of no shape that belongs there: its file may be anyone's."""
PIXEL = 1 / 255
"""Float value of one grey level where images are in 0..1."""


def read(path: str | Path, time: Discretisation, steps: int, scale: float = PIXEL) -> FloatGraph:
    """The float graph of a NIR file, run for `steps` steps on an image whose grey level is worth `scale`.

    A file that `nir_write` wrote says these itself; then the arguments are not used.
    """
    return load(path, time, steps, scale)[0]


def load(path: str | Path, time: Discretisation | None, steps: int, scale: float = PIXEL) -> tuple[FloatGraph, bool]:
    """The same, and whether it is one of our own, restored as it was; ExportError for others where time is None."""
    graph = nir_file(path)
    ours = restored(graph)
    if ours:
        return ours, True
    if time is None:
        raise ExportError(
            f"{path} says neither how time becomes steps nor how many there are: give the tool that it is of (--tool) "
            "and the number of time steps per image (--steps)"
        )
    return _Reader(graph, time).read(steps, scale), False


def from_nir(graph: nir.NIRGraph, time: Discretisation, steps: int, scale: float = PIXEL) -> FloatGraph:
    """The same for a graph in memory."""
    return restored(graph) or _Reader(graph, time).read(steps, scale)


# --- graphs of our own ------------------------------------------------------------------------------------------------


def restored(graph: nir.NIRGraph) -> FloatGraph | None:
    """The float graph in the metadata with the nodes' arrays; None where there is none, or where the nodes disagree."""
    notes = graph.metadata.get("randhet")
    if not isinstance(notes, str):
        return None
    try:
        description = json.loads(notes)
        if description["format"] not in (1, FORMAT):
            return None
        float_graph = FloatGraph(tuple(_restored(entry, graph.nodes) for entry in description["nodes"]))
        again = to_nir(float_graph, description["dt"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, ExportError):
        return None
    return float_graph if _same(graph, again) else None


def _restored(entry: dict[str, Any], nodes: dict[str, nir.NIRNode]) -> FloatNode:
    """Weights from the NIR node itself; what NIR rounds or does not have, from its metadata."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry["fields"].items()}
    for key, shape in entry["arrays"].items():
        node = nodes[entry["name"]]
        array = getattr(node, key) if key in ("weight", "bias") else node.metadata[key]
        values[RENAMED.get(key, key)] = np.asarray(array, np.float64).reshape(shape)
    return FloatNode(entry["name"], OPERATIONS[entry["type"]](**values), tuple(entry["inputs"]))


def _same(first: nir.NIRGraph, other: nir.NIRGraph) -> bool:
    """The same edges, and the same parameters in every node."""
    if set(first.edges) != set(other.edges) or first.nodes.keys() != other.nodes.keys():
        return False
    return all(_alike(first.nodes[name], node) for name, node in other.nodes.items())


def _alike(first: nir.NIRNode, other: nir.NIRNode) -> bool:
    derived = ("input_type", "output_type", "metadata", "input_shape")
    values, wanted = (
        {key: value for key, value in vars(node).items() if key not in derived} for node in (first, other)
    )
    if type(first) is not type(other) or values.keys() != wanted.keys():
        return False
    return all(np.array_equal(np.asarray(values[key]), np.asarray(wanted[key])) for key in wanted)


# --- foreign graphs ---------------------------------------------------------------------------------------------------


class _Reader:
    """Converts node after node in topological order, collecting what it must refuse."""

    def __init__(self, graph: nir.NIRGraph, time: Discretisation) -> None:
        asks = time.reset is None and any(map(_spikes, graph.nodes.values()))
        self.unsaid = time.unsaid if asks else ""
        """Why the graph cannot be read although every node of it can: said last."""
        self.graph, self.time = graph, replace(time, reset=time.reset or "zero")
        self.nodes: dict[str, FloatNode] = {}
        self.shapes: dict[str, Shape] = {}
        self.last: dict[str, str] = {}
        """By NIR node, the float node that holds its output."""
        self.before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        self.first = ""
        """The float node that holds the image."""
        self.refused: list[str] = []

    def read(self, steps: int, scale: float) -> FloatGraph:
        for name in self._order():
            node = in_numpy(self.graph.nodes[name])
            try:
                self._node(name, node, scale, steps)
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
        before = self.before
        for source, target in self.graph.edges:
            if source not in before or target not in before:
                raise ExportError(f"edge {source} to {target} leads to a node that is not in the graph")
            before[target].append(source)
        for kind in (nir.Input, nir.Output):
            if (count := sum(isinstance(node, kind) for node in self.graph.nodes.values())) != 1:
                raise ExportError(f"the graph has {count} nodes of type {kind.__name__}, it needs exactly one")
        try:
            return list(TopologicalSorter(before).static_order())
        except CycleError as error:
            raise ExportError(f"recurrent connections are not supported: {' to '.join(error.args[1])}") from None

    def _node(self, name: str, node: nir.NIRNode, scale: float, steps: int) -> None:
        if isinstance(node, nir.Input):
            self._image(name, node, scale, steps)
            return
        source = self._source(name)
        if not source:
            self.last[name] = ""
        elif isinstance(node, nir.Output):
            self.last[name] = self._add(FloatNode(f"{name}.mean", TimeMean(), (source,)))
        elif _spikes(node):
            self.last[name] = self._neuron(name, dynamics(node, self.time), source)
        else:
            operation = convert(node, self.shapes[source])
            if source == self.first:
                operation = normalisation(operation) or operation
            self.last[name] = self._add(FloatNode(name, operation, (source,)))

    def _add(self, node: FloatNode) -> str:
        self.shapes[node.name] = output_shape(node.operation, tuple(self.shapes[name] for name in node.inputs))
        self.nodes[node.name] = node
        return node.name

    def _image(self, name: str, node: nir.Input, scale: float, steps: int) -> None:
        """The image; some tools count the batch as a first axis, (1, values) or (1, channel, y, x)."""
        given = node.input_type.get("input") if node.input_type else None
        shape = tuple(int(size) for size in np.ravel(given)) if given is not None else ()
        if not 1 <= len(shape) <= 4 or min(shape) < 1:
            raise ExportError(f"shape {given} is neither (values,) nor (channel, y, x)")
        last = self._add(FloatNode("input", FloatInput(shape[len(shape) % 2 == 0 :])))
        if scale != PIXEL:
            grey = Normalisation(np.zeros(1), np.full(1, PIXEL / scale))
            last = self._add(FloatNode("scale", grey, (last,)))
        self.first = self.last[name] = self._add(FloatNode("encode", Encoding(steps), (last,)))

    def _source(self, name: str) -> str:
        """The float node that a NIR node reads, a sum where it has several inputs; empty where one was refused."""
        read = tuple(self.last[source] for source in self.before[name])
        if not self.before[name]:
            raise ExportError("it reads nothing")
        if not all(read):
            return ""
        if len(read) == 1:
            return read[0]
        for source in read:
            if isinstance(self.nodes[source].operation, (FloatConv, FloatDense)):
                raise ExportError(f"it adds up {', '.join(read)}; only spikes can be added, not what {source} gives")
        return self._add(FloatNode(f"{name}.add", FloatAdd(), read))

    def _neuron(self, name: str, cell: Dynamics, source: str) -> str:
        """Fold the drive, the leak and unequal thresholds into the layer with weights before the neuron."""
        layer, shape = self.nodes[source], self.shapes[source]
        weights = layer.operation
        if not isinstance(weights, (FloatConv, FloatDense)) or len(self._readers(source)) != 1:
            raise ExportError(f"a neuron must be the only reader of a layer with weights, this one reads {source}")
        threshold = per_channel(cell.threshold, shape, "threshold")
        unequal = bool(np.ptp(threshold))
        unit = 1 / threshold if unequal else np.ones_like(threshold)
        weights = driven(
            weights, per_channel(cell.drive, shape, "drive") * unit, full(cell.leak, shape, "v_leak"), unit
        )
        if cell.synapse and np.any(weights.bias):
            raise ExportError(f"the bias of {source} would pass through its synapse, which integer CUBA neurons lack")
        self.nodes[source] = replace(layer, operation=weights)
        level = 1.0 if unequal else float(threshold[0])
        return self._add(FloatNode(name, _float_neuron(cell, level, shape, self.time), (source,)))

    def _readers(self, source: str) -> list[str]:
        (origin,) = (name for name, last in self.last.items() if last == source)
        return [target for start, target in self.graph.edges if start == origin]

    def _finished(self) -> FloatGraph:
        graph = FloatGraph(tuple(self.nodes.values()))
        for name, node in self.graph.nodes.items():
            if isinstance(node, nir.SumPool2d):
                for reader in _weighted(graph, name):
                    operation = reader.operation
                    assert isinstance(operation, (FloatConv, FloatDense))
                    window = prod(pair(node.kernel_size))
                    graph = graph.changed(reader.name, replace(operation, weight=operation.weight * window))
        return graph


def _spikes(node: nir.NIRNode) -> bool:
    """Whether a node is a neuron that can be read."""
    return dynamics.dispatch(type(node)) is not dynamics.dispatch(object)


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


def _float_neuron(cell: Dynamics, level: float, shape: Shape, time: Discretisation) -> FloatNeuron:
    """An inclusive threshold becomes the next smaller float32; the integer one is lowered by one unit later."""
    assert time.reset is not None
    if time.inclusive:
        level = float(np.nextafter(np.float32(level), np.float32(0)))
    decay = full(cell.decay, shape, "tau")
    if not np.ptp(decay):
        return FloatNeuron(cell.kind, level, decay=np.array(decay.flat[0]), synapse=cell.synapse, reset=time.reset)
    if cell.kind != "vanilla":
        raise ExportError("time constants that differ from neuron to neuron are supported in LIF only")
    return FloatNeuron("het", level, decay=decay, reset=time.reset)


def driven(weights: FloatConv | FloatDense, gain: Array, leak: Array, unit: Array) -> FloatConv | FloatDense:
    """w <- gain*w, b <- gain*b + unit*leak, per channel; the bias becomes a map where the leak is one."""
    if (gain == 1).all() and not leak.any():
        return weights
    column = (-1, *[1] * (weights.weight.ndim - 1))
    leak = leak * unit.reshape(-1, *[1] * (leak.ndim - 1))
    flat = leak.reshape(len(leak), -1)
    added = flat[:, 0] if not np.ptp(flat, axis=1).any() else leak
    bias = (weights.bias * gain).reshape(-1, *[1] * (added.ndim - 1)) + added
    return replace(weights, weight=weights.weight * gain.reshape(column), bias=bias)


def full(value: Array, shape: Shape, what: str) -> Array:
    """A neuron's parameter for every neuron of its layer: one number for all, or an array of the layer's shape."""
    array = np.asarray(value, np.float64)
    if array.size and not np.ptp(array):
        return np.full(shape, array.flat[0])
    if array.shape != shape:
        raise ExportError(f"{what} has shape {array.shape}, the layer has {shape}")
    return array


def per_channel(value: Array, shape: Shape, what: str) -> Array:
    """The same for what may differ between channels only, (channels,)."""
    rows = full(value, shape, what).reshape(shape[0], -1)
    if np.ptp(rows, axis=1).any():
        raise ExportError(f"{what} differs within a channel")
    return rows[:, 0]
