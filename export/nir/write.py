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
    TimeRead,
)
from randhet.export.nir.steps import OURS
from randhet.export.passes.fold import fold_batch_norm
from randhet.export.passes.recurrent import into_layers
from randhet.fixed_point.network import Shape

FORMAT = 3
"""Version of the description in the metadata: 2 knows no read-outs, factors, recurrent weights and sequences."""
FORMATS = (1, 2, FORMAT)
"""Versions that are read."""
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
    graph = into_layers(fold_batch_norm(graph))
    shape = shapes(graph)
    converted = {node.name: _converted(node, shape[node.inputs[0]] if node.inputs else (), dt) for node in graph.nodes}
    nodes = {name: node for name, node in converted.items() if node is not None}
    nodes["output"] = nir.Output({"output": np.array(shape[graph.nodes[-1].name])})
    edges = wiring(graph, set(nodes))
    for node in graph.nodes:
        if isinstance(node.operation, FloatDense) and node.operation.recurrent is not None:
            (neuron,) = graph.readers(node.name)
            back = f"{node.name}.recurrent"
            nodes[back] = nir.Linear(node.operation.recurrent)
            edges += [(neuron.name, back), (back, neuron.name)]
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


NEWER = {"drive": None, "read": None, "recurrent": None, "recurrent_bias": None, "sequence": False}
"""Fields that a description has where they are not these."""
REFUSED = ("reset_delay", "inclusive", "floor")
"""Fields of a neuron that always have their defaults in what is written."""


def describe(graph: FloatGraph, dt: float) -> dict[str, Any]:
    """The graph without its arrays, of which only the shapes: what `nir_read` needs besides the NIR nodes."""
    nodes = []
    for node in graph.nodes:
        own = {field.name: getattr(node.operation, field.name) for field in fields(node.operation)}
        values = {
            name: value
            for name, value in own.items()
            if name not in REFUSED and (name not in NEWER or value is not NEWER[name])
        }
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
@convert.register(TimeRead)
def _(operation: FloatAdd | Encoding | TimeMean | TimeRead, shape: Shape, dt: float) -> None:
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
    if reason := operation.beyond_nir:
        raise ExportError(f"NIR cannot represent {reason}")
    if operation.reset != "zero" and operation.read is None:
        raise ExportError(f"NIR cannot represent reset {operation.reset!r}, only a reset to zero")
    return NEURONS[operation.kind](operation, shape, dt)


def _lif(neuron: FloatNeuron, shape: Shape, dt: float) -> nir.NIRNode:
    """With a drive, m = tau*m + drive*x: R = drive/(1 - tau)."""
    tau = np.asarray(MEAN_TAU) if neuron.kind == "randhet" else neuron.decay
    ones, zeros = np.ones(shape), np.zeros(shape)
    time = np.broadcast_to(dt / (1 - tau), shape).copy()
    r = ones if neuron.drive is None else np.broadcast_to(neuron.drive / (1 - tau), shape).copy()
    notes = {"decay": np.atleast_1d(neuron.decay)}
    if neuron.read is not None:
        return nir.LI(time, r, zeros, metadata=notes)
    return nir.LIF(time, r, zeros, neuron.threshold * ones, zeros, metadata=notes)


def _integrate(neuron: FloatNeuron, shape: Shape, dt: float) -> nir.NIRNode:
    r, notes = (
        np.full(shape, (1 if neuron.drive is None else neuron.drive) / dt),
        {"decay": np.atleast_1d(neuron.decay)},
    )
    if neuron.read is not None:
        return nir.I(r, metadata=notes)
    return nir.IF(r, np.full(shape, neuron.threshold), np.zeros(shape), metadata=notes)


def _cuba(neuron: FloatNeuron, shape: Shape, dt: float) -> nir.NIRNode:
    """With R = tau_mem/dt and w_in = tau_syn/dt the Euler step is u = synapse*u + x, m = tau*m + u."""
    tau_syn, tau_mem = dt / (1 - neuron.synapse), dt / (1 - float(neuron.decay))
    full = [np.full(shape, value) for value in (tau_syn, tau_mem, tau_mem / dt, 0.0)]
    w_in, notes = np.full(shape, tau_syn / dt), {"decay": np.atleast_1d(neuron.decay)}
    if neuron.read is not None:
        return nir.CubaLI(*full, w_in=w_in, metadata=notes)
    return nir.CubaLIF(*full, np.full(shape, neuron.threshold), np.zeros(shape), w_in=w_in, metadata=notes)


NEURONS = {"vanilla": _lif, "het": _lif, "randhet": _lif, "integrate": _integrate, "cuba": _cuba}
