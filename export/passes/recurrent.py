"""Weights on a neuron's own spikes: of the dense layer that it reads in integers, of the neuron itself in torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from randhet.export.graph import (
    Array,
    AveragePool,
    Encoding,
    ExportError,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatInput,
    FloatNeuron,
    FloatNode,
)
from randhet.export.passes.fold import fold_batch_norm

LEVELS = 1 / 8
"""Weights on pixels must reach this part of the largest integer: three bits may be lost to weights on own spikes."""


def into_layers(graph: FloatGraph) -> FloatGraph:
    """Give the recurrent weights of every neuron to the dense layer that it reads: a = W s + b + U out + b_U."""
    for node in graph.nodes:
        neuron = node.operation
        if not isinstance(neuron, FloatNeuron) or neuron.recurrent is None:
            continue
        graph = _encoded_first(graph, node.inputs[0])
        source = graph.node(graph.node(node.name).inputs[0])
        if not isinstance(source.operation, FloatDense) or len(graph.readers(source.name)) != 1:
            raise ExportError(
                f"neuron {node.name} reads its own spikes and {source.name}: that is possible behind a dense layer of "
                "its own only"
            )
        if neuron.recurrent.shape != (len(source.operation.weight),) * 2:
            raise ExportError(
                f"neuron {node.name} has recurrent weights of shape {neuron.recurrent.shape} for "
                f"{len(source.operation.weight)} neurons"
            )
        added = 0 if neuron.recurrent_bias is None else neuron.recurrent_bias
        layer = replace(source.operation, bias=source.operation.bias + added, recurrent=neuron.recurrent)
        graph = graph.changed(source.name, layer)
        graph = graph.changed(node.name, replace(neuron, recurrent=None, recurrent_bias=None))
    return graph


def _encoded_first(graph: FloatGraph, name: str) -> FloatGraph:
    """Exchange an encoding, where this is one, with the dense layer before it: what returns differs in time."""
    encoding = graph.node(name)
    if not isinstance(encoding.operation, Encoding) or len(graph.readers(name)) != 1:
        return graph
    layer = graph.node(encoding.inputs[0])
    if not isinstance(layer.operation, FloatDense) or len(graph.readers(layer.name)) != 1:
        return graph
    moved = {
        layer.name: replace(encoding, inputs=layer.inputs),
        name: replace(layer, inputs=(name,)),
    }
    nodes = [moved.get(node.name, node) for node in graph.nodes]  # nobody else reads either
    return FloatGraph(
        tuple(
            replace(node, inputs=(layer.name,)) if node.inputs == (name,) and node.name != layer.name else node
            for node in nodes
        )
    )


def laid(graph: FloatGraph) -> FloatGraph:
    """Do the same to a traced graph, whose batch norm is first folded where a neuron has recurrent weights."""
    recurrent = any(
        isinstance(node.operation, FloatNeuron) and node.operation.recurrent is not None for node in graph.nodes
    )
    return into_layers(fold_batch_norm(graph)) if recurrent else graph


def into_neurons(graph: FloatGraph) -> FloatGraph:
    """Give the recurrent weights of every dense layer to the neuron that reads it."""
    for node in graph.nodes:
        layer = node.operation
        if isinstance(layer, FloatDense) and layer.recurrent is not None:
            (reader,) = graph.readers(node.name)
            assert isinstance(reader.operation, FloatNeuron)
            own = replace(reader.operation, recurrent=layer.recurrent, recurrent_bias=np.zeros(len(layer.recurrent)))
            graph = graph.changed(node.name, replace(layer, recurrent=None)).changed(reader.name, own)
    return graph


def check_levels(graph: FloatGraph, node: FloatNode, name: str, scale: Array, mantissa: int) -> None:
    """ExportError where weights on pixels, 0..255, have hardly any bits left in the scale of those on own spikes."""
    operation, source = node.operation, graph.node(node.inputs[0])
    while isinstance(source.operation, (FloatFlatten, AveragePool)):
        source = graph.node(source.inputs[0])
    if not isinstance(operation, FloatDense) or operation.recurrent is None:
        return
    levels = np.abs(operation.weight).max(1) / scale
    if isinstance(source.operation, FloatInput) and levels.min() < LEVELS * mantissa:
        raise ExportError(
            f"layer {name} reads the image and its own spikes with weights of one scale, in which those on the image "
            f"reach {levels.min():.2g} of {mantissa} in channel {levels.argmin()}: put a layer with neurons between "
            "the image and it"
        )
