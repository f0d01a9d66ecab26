"""Folding: batch norm, image normalisation, pools and the mean over time disappear into weights and biases."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from randhet.export.float_shape import shapes
from randhet.export.graph import (
    Affine,
    Array,
    AveragePool,
    Encoding,
    ExportError,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatInput,
    FloatMaxPool,
    FloatNeuron,
    FloatNode,
    Normalisation,
    TimeMean,
    TimeRead,
)
from randhet.fixed_point.reference import taps

PIXEL_MAX = 255


def drop_encoding(graph: FloatGraph) -> FloatGraph:
    """Integers read the image at every step, so that nothing is left of an encoding."""
    for node in graph.nodes:
        graph = graph.without(node.name) if isinstance(node.operation, Encoding) else graph
    return graph


def fold_batch_norm(graph: FloatGraph) -> FloatGraph:
    """w <- gain*w, b <- gain*b + shift, for every batch norm behind a convolution or a dense layer of its own."""
    for node in graph.nodes:
        if isinstance(node.operation, Affine):
            source = graph.node(graph.node(node.name).inputs[0])
            graph = graph.changed(source.name, _scaled(source, node, graph)).without(node.name)
    return graph


def _scaled(source: FloatNode, norm: FloatNode, graph: FloatGraph) -> FloatConv | FloatDense:
    operation, affine = source.operation, norm.operation
    if not isinstance(operation, (FloatConv, FloatDense)) or len(graph.readers(source.name)) != 1:
        raise ExportError(f"batch norm {norm.name} does not follow a convolution or dense layer of its own")
    assert isinstance(affine, Affine)
    gain = affine.gain.reshape(-1, *[1] * (operation.weight.ndim - 1))
    return replace(operation, weight=operation.weight * gain, bias=operation.bias * affine.gain + affine.shift)


def fold_normalisation(graph: FloatGraph) -> FloatGraph:
    """Bytes instead of normalised floats: w <- w / (255*std), b <- b - sum of w*mean/std over the taps inside.

    Training pads after normalising, so at the border fewer taps see the mean: the bias becomes a map (out, y, x).
    """
    (image,) = (node for node in graph.nodes if isinstance(node.operation, FloatInput))
    assert isinstance(image.operation, FloatInput)
    channels = image.operation.shape[0]
    mean, std, readers = np.zeros(channels), np.ones(channels), graph.readers(image.name)
    if len(readers) == 1 and isinstance(readers[0].operation, Normalisation):
        mean, std = (
            _spread(value, channels, readers[0].name) for value in (readers[0].operation.mean, readers[0].operation.std)
        )
        graph = graph.without(readers[0].name)
    for node in _flattened_readers(graph, image.name):
        graph = graph.changed(node.name, _normalised(node, mean, std, image.operation.shape))
    return graph


def _flattened_readers(graph: FloatGraph, name: str) -> list[FloatNode]:
    """What reads a node, also in one row."""
    deeper = lambda reader: (
        _flattened_readers(graph, reader.name) if isinstance(reader.operation, FloatFlatten) else [reader]
    )
    return [node for reader in graph.readers(name) for node in deeper(reader)]


def _spread(value: Array, channels: int, name: str) -> Array:
    if value.size not in (1, channels):
        raise ExportError(f"normalisation {name} has {value.size} channels, the image has {channels}")
    return np.broadcast_to(value, channels)


def _normalised(node: FloatNode, mean: Array, std: Array, shape: tuple[int, ...]) -> FloatConv | FloatDense:
    operation = node.operation
    if isinstance(operation, FloatDense):
        per_pixel = np.broadcast_to(np.reshape(mean / std, (-1, *[1] * (len(shape) - 1))), shape).ravel()
        width = np.broadcast_to(np.reshape(PIXEL_MAX * std, (-1, *[1] * (len(shape) - 1))), shape).ravel()
        return replace(operation, weight=operation.weight / width, bias=operation.bias - operation.weight @ per_pixel)
    if not isinstance(operation, FloatConv):
        raise ExportError(f"{node.name} reads the image, only a convolution or a dense layer may")
    lost = conv(operation, np.broadcast_to((mean / std)[:, None, None], shape))
    bias = operation.bias.reshape(-1, 1, 1) - lost
    flat = np.ptp(bias, axis=(1, 2)).max() == 0
    per_group = operation.weight.shape[1]
    group = np.arange(len(operation.weight)) // (len(operation.weight) // operation.groups)
    std_in = std.reshape(operation.groups, per_group)[group]
    weight = operation.weight / (PIXEL_MAX * std_in[:, :, None, None])
    return replace(operation, weight=weight, bias=bias[:, 0, 0] if flat else bias)


def conv(operation: FloatConv, image: Array) -> Array:
    """The convolution without its bias of one image (C, Y, X) in float64, zero padded."""
    (py, px), groups = operation.padding, operation.groups
    padded = np.pad(image, ((0, 0), (py, py), (px, px)))[None]
    out, per_group, *kernel = operation.weight.shape
    weight = operation.weight.reshape(groups, out // groups, per_group, *kernel)
    total: Array = np.zeros(())
    for i, j, plane in taps(padded, (kernel[0], kernel[1]), operation.stride, operation.dilation):
        split = plane.reshape(groups, per_group, *plane.shape[2:])
        total = total + np.einsum("goc,gcyx->goyx", weight[..., i, j], split)
    return total.reshape(out, *total.shape[2:])


def fold_drive(graph: FloatGraph) -> FloatGraph:
    """A neuron's own factor g of its currents goes into the layer with weights before it, as g / (1 - decay)."""
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
    if neuron.kind == "integrate":
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
    return replace(operation, weight=operation.weight * gain.reshape(-1, *[1] * (operation.weight.ndim - 1)), bias=bias)


def fold_pools(graph: FloatGraph) -> FloatGraph:
    """A pool stays as a sum; its divisor goes into the weights of the layers that read it, through flatten."""
    for node in graph.nodes:
        if isinstance(node.operation, AveragePool) and node.operation.kernel is None:
            graph = graph.changed(node.name, AveragePool(shape_of(graph, node.inputs[0]), (1, 1)))
    for node in graph.nodes:
        operation = node.operation
        if isinstance(operation, AveragePool):
            assert operation.kernel is not None
            for reader in _weighted_readers(graph, node.name):
                graph = graph.changed(reader.name, _divided(graph.node(reader.name), prod(operation.kernel)))
    return graph


def _weighted_readers(graph: FloatGraph, name: str) -> list[FloatNode]:
    weighted = []
    for reader in graph.readers(name):
        passes = isinstance(reader.operation, (FloatFlatten, AveragePool, FloatMaxPool))
        weighted += _weighted_readers(graph, reader.name) if passes else [reader]
    return weighted


def _divided(node: FloatNode, divisor: float) -> FloatConv | FloatDense:
    if not isinstance(node.operation, (FloatConv, FloatDense)):
        raise ExportError(f"{node.name} reads an average pool, only a convolution or a dense layer may")
    return replace(node.operation, weight=node.operation.weight / divisor)


def shape_of(graph: FloatGraph, name: str) -> tuple[int, int]:
    """(y, x) of a node's output."""
    from randhet.fixed_point.shape import window_count

    node = graph.node(name)
    operation = node.operation
    if isinstance(operation, FloatInput):
        return operation.shape[1], operation.shape[2]
    y, x = shape_of(graph, node.inputs[0])
    if isinstance(operation, FloatConv):
        kernel, pad, dilation = operation.weight.shape[2:], operation.padding, operation.dilation
        sizes = [
            window_count(size, kernel[a], operation.stride[a], pad[a], dilation[a]) for a, size in enumerate((y, x))
        ]
        return sizes[0], sizes[1]
    if isinstance(operation, AveragePool):
        if operation.kernel is None or operation.stride is None:
            return 1, 1
        sizes = [window_count(size, operation.kernel[a], operation.stride[a]) for a, size in enumerate((y, x))]
        return sizes[0], sizes[1]
    return y, x


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
