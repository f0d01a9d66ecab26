"""Folding back: batch norm, a neuron's drive and the mean over time go into the layer with weights before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from randhet.export.float_shape import shapes
from randhet.export.graph import (
    Affine,
    Array,
    Encoding,
    ExportError,
    FloatConv,
    FloatDense,
    FloatGraph,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    TimeMean,
    TimeRead,
)

PIXEL_MAX = 255


def drop_encoding(graph: FloatGraph) -> FloatGraph:
    """Integers read the image at every step, so that nothing is left of an encoding."""
    for node in graph.nodes:
        graph = graph.without(node.name) if isinstance(node.operation, Encoding) else graph
    return graph


def fold_batch_norm(graph: FloatGraph) -> FloatGraph:
    """w <- gain*w, b <- gain*b + shift, for every batch norm behind a convolution or a dense layer of its own."""
    for node in graph.nodes:
        source = graph.node(graph.node(node.name).inputs[0]) if node.inputs else node
        if isinstance(node.operation, Affine) and own_weights(graph, source):
            graph = graph.changed(source.name, _scaled(source.operation, node.operation)).without(node.name)
    return graph


def own_weights(graph: FloatGraph, node: FloatNode) -> bool:
    """Whether a node has weights and one reader alone."""
    return isinstance(node.operation, (FloatConv, FloatDense)) and len(graph.readers(node.name)) == 1


def _scaled(operation: FloatOperation, affine: Affine) -> FloatConv | FloatDense:
    assert isinstance(operation, (FloatConv, FloatDense))
    wide = multiplied(operation, affine.gain)
    return replace(wide, bias=wide.bias + affine.shift.reshape(-1, *[1] * (wide.bias.ndim - 1)))


def neurons_have_currents(graph: FloatGraph) -> FloatGraph:
    """The graph, where every neuron reads a layer with weights; ExportError names all that do not."""
    refused = []
    for node in graph.nodes:
        source = graph.node(node.inputs[0]) if node.inputs else node
        if isinstance(node.operation, FloatNeuron) and not isinstance(source.operation, (FloatConv, FloatDense)):
            refused.append(f"neuron {node.name} reads {source.name}, which has no weights")
    if refused:
        raise ExportError(
            f"{'; '.join(refused)}: a neuron must follow a convolution or a linear layer, with nothing but batch norm, "
            "average pools or further such layers between"
        )
    return graph


def fold_drive(graph: FloatGraph) -> FloatGraph:
    """A neuron's own factor g of its currents goes into the layer with weights before it, as g / (1 - decay).

    As g where it integrates or has a current of its own, since that enters whole.
    """
    for node in graph.nodes:
        neuron = node.operation
        if isinstance(neuron, FloatNeuron) and neuron.drive is not None:
            source = graph.node(node.inputs[0])
            if not isinstance(source.operation, (FloatConv, FloatDense)) or len(graph.readers(source.name)) != 1:
                raise ExportError(f"neuron {node.name} does not follow a convolution or dense layer of its own")
            gain = _gain(node.name, neuron, len(source.operation.weight))
            graph = graph.changed(source.name, multiplied(source.operation, gain))
            graph = graph.changed(node.name, replace(neuron, drive=None))
    return graph


def spread_decays(graph: FloatGraph) -> FloatGraph:
    """Decays that differ are given for every neuron of their layer."""
    known = shapes(graph)
    for node in graph.nodes:
        neuron = node.operation
        if isinstance(neuron, FloatNeuron) and neuron.kind == "het":
            shape = known[node.name]
            try:
                decay = np.broadcast_to(neuron.decay, (1, *shape)).reshape(shape)
            except ValueError:
                raise ExportError(
                    f"neuron {node.name} has decays of shape {neuron.decay.shape}, its layer has {shape}"
                ) from None
            graph = graph.changed(node.name, replace(neuron, decay=decay))
    return graph


def _gain(name: str, neuron: FloatNeuron, channels: int) -> Array:
    """What the weights of each channel are multiplied by, (channels,)."""
    assert neuron.drive is not None
    if neuron.kind in ("integrate", "cuba"):
        return np.full(channels, neuron.drive)
    rows = neuron.decay.reshape(len(neuron.decay), -1) if neuron.decay.ndim else neuron.decay.reshape(1, 1)
    if len(rows) not in (1, channels) or np.ptp(rows, axis=1).any():
        raise ExportError(
            f"neuron {name} multiplies its currents by {neuron.drive} and has decays that differ within a channel: "
            "let its decay differ between channels only"
        )
    if (rows == 1).any():
        raise ExportError(f"neuron {name} has a decay of 1 in some channels: let all integrate, or none")
    return np.broadcast_to(neuron.drive / (1 - rows[:, 0]), channels)


def multiplied(operation: FloatConv | FloatDense, gain: Array) -> FloatConv | FloatDense:
    """The layer whose outputs are multiplied by gain (channels,)."""
    bias = operation.bias * gain.reshape(-1, *[1] * (operation.bias.ndim - 1))
    weight = operation.weight * gain.reshape(-1, *[1] * (operation.weight.ndim - 1))
    if isinstance(operation, FloatConv) or operation.recurrent is None:
        return replace(operation, weight=weight, bias=bias)
    return replace(operation, weight=weight, bias=bias, recurrent=operation.recurrent * gain.reshape(-1, 1))


def fold_time(graph: FloatGraph) -> FloatGraph:
    """The mean over T does not move the arg max of a sum over T; it must be the output. Read-outs take other reads."""
    for node in graph.nodes:
        if isinstance(node.operation, (TimeMean, TimeRead)):
            if node is not graph.nodes[-1]:
                raise ExportError(f"the mean over time {node.name} must be the model's output")
            if isinstance(node.operation, TimeRead):
                graph = _read(graph, graph.node(node.inputs[0]), node.operation)
            graph = graph.without(node.name)
    return graph


def _read(graph: FloatGraph, source: FloatNode, how: TimeRead) -> FloatGraph:
    if not isinstance(source.operation, FloatNeuron) or source.operation.read is None:
        raise ExportError(
            f"the {how.read} of the T steps of {source.name} is read, which is possible for membrane potentials alone: "
            "end the model in MeanOverTime()"
        )
    return graph.changed(source.name, replace(source.operation, read=how.read))
