"""Write a float model as a NIR graph: decays become time constants, tau_nir = dt / (1 - decay), R = 1.

A random tau becomes its mean, 1/2, which any tool can run; what NIR cannot represent (draws, steps, normalisation) is
kept in the metadata, from which `nir_read` restores the same float graph. A residual sum is two edges into one node.
"""

from __future__ import annotations

import json
from dataclasses import fields
from functools import singledispatch
from pathlib import Path
from typing import Any

import nir
import numpy as np

from randhet.base.files import replacing
from randhet.export.float_shape import shapes
from randhet.export.graph import (
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
from randhet.export.nir.steps import OURS
from randhet.export.passes.fold import fold_batch_norm
from randhet.fixed_point.network import Shape

FORMAT = 2
"""Version of the description in the metadata."""
MEAN_TAU = 0.5
"""Mean of sigmoid(sigma * n), n ~ N(0, 1), for every sigma: the density is symmetric around one half."""


def write(path: str | Path, graph: FloatGraph, dt: float = OURS.dt) -> None:
    """Write the model as a NIR file."""
    save(path, to_nir(graph, dt))


def save(path: str | Path, graph: nir.NIRGraph) -> None:
    """Write a NIR graph beside `path`, then rename. The same graph gives the same bytes."""
    with replacing(path) as temporary:
        nir.write(temporary, graph)


def to_nir(graph: FloatGraph, dt: float = OURS.dt) -> nir.NIRGraph:
    """The NIR graph of a traced float model, batch norm folded. dt: the length of a step in seconds."""
    graph = fold_batch_norm(graph)
    shape = shapes(graph)
    converted = {node.name: _converted(node, shape[node.inputs[0]] if node.inputs else (), dt) for node in graph.nodes}
    nodes = {name: node for name, node in converted.items() if node is not None}
    nodes["output"] = nir.Output({"output": np.array(shape[graph.nodes[-1].name])})
    edges = wiring(graph, set(nodes))
    if doubled := {edge for edge in edges if edges.count(edge) > 1}:
        raise ExportError(f"{min(doubled)[0]} is added to itself, which NIR cannot say")
    notes = {"randhet": json.dumps(describe(graph, dt)), "dt": dt}
    return nir.NIRGraph(nodes, edges, metadata=notes, type_check=False)


def _converted(node: FloatNode, shape: Shape, dt: float) -> nir.NIRNode | None:
    try:
        return convert(node.operation, shape, dt)
    except ExportError as error:
        raise ExportError(f"{node.name}: {error}") from None


def wiring(graph: FloatGraph, kept: set[str]) -> list[tuple[str, str]]:
    """Edges between the nodes that NIR has: what reads a sum reads each of its terms. The last goes to `output`."""
    sources: dict[str, list[str]] = {}
    edges: list[tuple[str, str]] = []
    for node in graph.nodes:
        read = [source for name in node.inputs for source in sources[name]]
        sources[node.name] = [node.name] if node.name in kept else read
        edges += [(source, node.name) for source in read if node.name in kept]
    return edges + [(source, "output") for source in sources[graph.nodes[-1].name]]


USUAL = ("drive", "reset_delay", "inclusive", "read")
"""Fields of a neuron that always have their defaults here: others are refused."""


def describe(graph: FloatGraph, dt: float) -> dict[str, Any]:
    """The graph without its arrays, of which only the shapes: what `nir_read` needs besides the NIR nodes."""
    nodes = []
    for node in graph.nodes:
        named = (field.name for field in fields(node.operation) if field.name not in USUAL)
        values = {name: getattr(node.operation, name) for name in named}
        arrays = {name: list(value.shape) for name, value in values.items() if isinstance(value, np.ndarray)}
        plain = {name: value for name, value in values.items() if name not in arrays}
        kind = type(node.operation).__name__
        nodes.append({"name": node.name, "type": kind, "inputs": node.inputs, "fields": plain, "arrays": arrays})
    return {"format": FORMAT, "dt": dt, "nodes": nodes}


# --- nodes ------------------------------------------------------------------------------------------------------------


@singledispatch
def convert(operation: FloatOperation, shape: Shape, dt: float) -> nir.NIRNode | None:
    """The NIR node of an operation that reads `shape`; None where edges or metadata say it."""
    raise ExportError(f"NIR cannot represent {type(operation).__name__}")


@convert.register
def _(operation: FloatInput, shape: Shape, dt: float) -> nir.NIRNode:
    return nir.Input({"input": np.array(operation.shape)})


@convert.register(FloatAdd)
@convert.register(Encoding)
@convert.register(TimeMean)
def _(operation: FloatAdd | Encoding | TimeMean, shape: Shape, dt: float) -> None:
    return None


@convert.register
def _(operation: Normalisation, shape: Shape, dt: float) -> nir.NIRNode:
    """A 1x1 convolution, so that zeros are padded after it as in training; the exact values are in its metadata."""
    channels = shape[0]
    std, mean = (np.broadcast_to(value, channels) for value in (operation.std, operation.mean))
    weight = np.diag(1 / std)[:, :, None, None]
    notes = {"mean": np.atleast_1d(operation.mean), "std": np.atleast_1d(operation.std)}
    return nir.Conv2d((shape[1], shape[2]), weight, (1, 1), (0, 0), (1, 1), 1, -mean / std, metadata=notes)


@convert.register
def _(operation: FloatConv, shape: Shape, dt: float) -> nir.NIRNode:
    if operation.bias.ndim != 1:
        raise ExportError("a convolution's bias that differs from pixel to pixel cannot be represented in NIR")
    geometry = (operation.stride, operation.padding, operation.dilation, operation.groups)
    return nir.Conv2d((shape[1], shape[2]), operation.weight, *geometry, operation.bias)


@convert.register
def _(operation: FloatDense, shape: Shape, dt: float) -> nir.NIRNode:
    return nir.Affine(operation.weight, operation.bias)


@convert.register
def _(operation: AveragePool, shape: Shape, dt: float) -> nir.NIRNode:
    kernel = operation.kernel or (shape[1], shape[2])
    return nir.AvgPool2d(*(np.array(pair) for pair in (kernel, operation.stride or kernel, (0, 0))))


@convert.register
def _(operation: FloatFlatten, shape: Shape, dt: float) -> nir.NIRNode:
    return nir.Flatten({"input": np.array(shape)}, 0, -1)


@convert.register
def _(operation: FloatNeuron, shape: Shape, dt: float) -> nir.NIRNode:
    """Other tools would run a subtracted threshold as a reset to zero: NIR cannot represent it."""
    if operation.unusual:
        raise ExportError(f"NIR cannot represent {operation.unusual}")
    if operation.reset != "zero":
        raise ExportError(f"NIR cannot represent reset {operation.reset!r}, only a reset to zero")
    return NEURONS[operation.kind](operation, shape, dt)


def _lif(neuron: FloatNeuron, shape: Shape, dt: float) -> nir.NIRNode:
    tau = np.asarray(MEAN_TAU) if neuron.kind == "randhet" else neuron.decay
    ones, zeros = np.ones(shape), np.zeros(shape)
    time = np.broadcast_to(dt / (1 - tau), shape).copy()
    return nir.LIF(time, ones, zeros, neuron.threshold * ones, zeros, metadata={"decay": np.atleast_1d(neuron.decay)})


def _integrate(neuron: FloatNeuron, shape: Shape, dt: float) -> nir.NIRNode:
    full = [np.full(shape, value) for value in (1 / dt, neuron.threshold, 0.0)]
    return nir.IF(*full, metadata={"decay": np.atleast_1d(neuron.decay)})


def _cuba(neuron: FloatNeuron, shape: Shape, dt: float) -> nir.NIRNode:
    """With R = tau_mem/dt and w_in = tau_syn/dt the Euler step is u = synapse*u + x, m = tau*m + u."""
    tau_syn, tau_mem = dt / (1 - neuron.synapse), dt / (1 - float(neuron.decay))
    full = [np.full(shape, value) for value in (tau_syn, tau_mem, tau_mem / dt, 0.0, neuron.threshold, 0.0)]
    notes = {"decay": np.atleast_1d(neuron.decay)}
    return nir.CubaLIF(*full, w_in=np.full(shape, tau_syn / dt), metadata=notes)


NEURONS = {"vanilla": _lif, "het": _lif, "randhet": _lif, "integrate": _integrate, "cuba": _cuba}
