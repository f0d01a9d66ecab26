"""Folding forward: what stands between spikes, or the image, and the next layer with weights goes into that layer.

A value v/width + shift of each channel, read with weights w, is sum (w/width)*v + (b + sum w*shift). So fold image
normalisation (width 255*std, shift -mean/std), the divisor of an average pool (width its size) and batch norm behind
neurons (width 1/gain). A convolution pads with zeros what it reads, v/width + shift, and not v: near the border fewer
taps see the shift, and its bias becomes a map (out, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from randhet.base.kinds import assert_never
from randhet.export.float_shape import shapes
from randhet.export.graph import (
    Affine,
    Array,
    AveragePool,
    Encoding,
    ExportError,
    FloatAdd,
    FloatAnd,
    FloatConcat,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatIand,
    FloatInput,
    FloatMaxPool,
    FloatNeuron,
    FloatNode,
    FloatSpread,
    Normalisation,
    TimeMean,
    TimeRead,
)
from randhet.export.passes.convolve import conv
from randhet.fixed_point.network import Shape

PIXEL_MAX = 255


@dataclass(frozen=True, eq=False)
class Change:
    """What a layer reads in place of v: v/width + shift, each (channels,), of a node called name; what it is, in words.

    shape: of what is read.
    """

    width: Array
    shift: Array
    shape: Shape
    name: str

    def full(self, values: Array) -> Array:
        """Values of every channel for everything that is read."""
        return np.broadcast_to(values.reshape(-1, *[1] * (len(self.shape) - 1)), self.shape)


def fold_normalisation(graph: FloatGraph) -> FloatGraph:
    """Bytes instead of normalised floats: w <- w / (255*std), b <- b - sum of w*mean/std over the taps inside.

    A batch norm that reads the image is a normalisation too.
    """
    (image,) = (node for node in graph.nodes if isinstance(node.operation, FloatInput))
    assert isinstance(image.operation, FloatInput)
    shape = image.operation.shape
    for reader in graph.readers(image.name):
        operation = reader.operation
        if isinstance(operation, Normalisation):
            mean, std = (_spread(value, shape[0], reader.name) for value in (operation.mean, operation.std))
            change = Change(PIXEL_MAX * std, -(mean / std), shape, reader.name)
            graph = _pushed(graph, reader.name, change).without(reader.name)
        elif isinstance(operation, Affine):
            change = Change(PIXEL_MAX * _inverse(operation.gain), operation.shift, shape, reader.name)
            graph = _pushed(graph, reader.name, change).without(reader.name)
        else:
            change = Change(np.full(shape[0], float(PIXEL_MAX)), np.zeros(shape[0]), shape, image.name)
            graph = _into(graph, reader, change, image.name)
    return graph


def fold_batch_norm_forward(graph: FloatGraph) -> FloatGraph:
    """Batch norm that follows no layer with weights of its own goes into the layers that read it."""
    for node in graph.nodes:
        operation = graph.node(node.name).operation
        if isinstance(operation, Affine):
            change = Change(_inverse(operation.gain), operation.shift, shapes(graph)[node.name], node.name)
            graph = _pushed(graph, node.name, change).without(node.name)
    return graph


def fold_pools(graph: FloatGraph) -> FloatGraph:
    """A pool stays as a sum; its divisor goes into the weights of the layers that read it."""
    known = shapes(graph)
    for node in graph.nodes:
        operation = node.operation
        if isinstance(operation, AveragePool):
            shape = known[node.inputs[0]]
            kernel = operation.kernel or (shape[1], shape[2])
            stride = (1, 1) if operation.kernel is None else operation.stride
            change = Change(np.full(shape[0], float(prod(kernel))), np.zeros(shape[0]), known[node.name], node.name)
            graph = _pushed(graph, node.name, change).changed(node.name, AveragePool(kernel, stride))
    return graph


def _inverse(gain: Array) -> Array:
    """1/gain; infinite for a channel that is switched off, whose weights become 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(1 / gain)


def _spread(value: Array, channels: int, name: str) -> Array:
    if value.size not in (1, channels):
        raise ExportError(f"normalisation {name} has {value.size} channels, the image has {channels}")
    return np.broadcast_to(value, channels)


def _pushed(graph: FloatGraph, name: str, change: Change) -> FloatGraph:
    """The graph in which every reader of a node has taken up the change."""
    for reader in graph.readers(name):
        graph = _into(graph, reader, change, name)
    return graph


def _into(graph: FloatGraph, reader: FloatNode, change: Change, source: str) -> FloatGraph:
    """The graph in which one reader of a source has taken up the change, or passed it on to its own readers."""
    operation = graph.node(reader.name).operation
    match operation:
        case FloatConv():
            return graph.changed(reader.name, _convolution(operation, change))
        case FloatDense():
            return graph.changed(reader.name, _dense(operation, change))
        case FloatFlatten():
            width, shift = (change.full(values).ravel() for values in (change.width, change.shift))
            return _pushed(graph, reader.name, Change(width, shift, (prod(change.shape),), change.name))
        case AveragePool() | FloatMaxPool() | FloatSpread():
            _passable(operation, reader.name, change)
            return _pushed(graph, reader.name, replace(change, shape=shapes(graph)[reader.name]))
        case FloatConcat():
            return _pushed(graph, reader.name, _among(graph, reader, change, source))
        case Affine():
            return graph.changed(
                reader.name,
                Affine(operation.gain / change.width, operation.gain * change.shift + operation.shift),
            )
        case (
            FloatAdd()
            | FloatAnd()
            | FloatIand()
            | FloatNeuron()
            | FloatInput()
            | Normalisation()
            | Encoding()
            | TimeMean()
            | TimeRead()
        ):
            raise ExportError(
                f"{reader.name} reads {change.name}, whose values only a convolution or a linear layer may read: put "
                "one between, or put it elsewhere"
            )
        case _:
            assert_never(operation)


def _passable(operation: AveragePool | FloatMaxPool | FloatSpread, name: str, change: Change) -> None:
    """ExportError where what is read of a change is none of what was read before it."""
    if isinstance(operation, FloatMaxPool) and (not (change.width > 0).all() or np.isinf(change.width).any()):
        raise ExportError(
            f"max pool {name} reads {change.name}, which has a gain of 0 or below in some channels: put the pool "
            "before it"
        )
    if isinstance(operation, FloatSpread) and change.shift.any():
        raise ExportError(
            f"{name} puts zeros between values of {change.name}, to which it adds something: put a neuron between"
        )


def _among(graph: FloatGraph, reader: FloatNode, change: Change, source: str) -> Change:
    """The change of one branch among the channels of a concatenation; the others stay as they are."""
    known = shapes(graph)
    parts = [(name == source, known[name][0]) for name in reader.inputs]
    if sum(own for own, _ in parts) != 1:
        raise ExportError(f"{reader.name} joins {source} with itself: compute it twice")
    width = np.concatenate([change.width if own else np.ones(count) for own, count in parts])
    shift = np.concatenate([change.shift if own else np.zeros(count) for own, count in parts])
    return Change(width, shift, known[reader.name], change.name)


def _dense(operation: FloatDense, change: Change) -> FloatDense:
    width, shift = (change.full(values).ravel() for values in (change.width, change.shift))
    return replace(operation, weight=operation.weight / width, bias=operation.bias + operation.weight @ shift)


def _convolution(operation: FloatConv, change: Change) -> FloatConv:
    shown = conv(operation, change.full(change.shift))
    own = operation.bias if operation.bias.ndim == 3 else operation.bias.reshape(-1, 1, 1)
    bias = own + shown
    flat = np.ptp(bias, axis=(1, 2)).max() == 0
    per_group = operation.weight.shape[1]
    group = np.arange(len(operation.weight)) // (len(operation.weight) // operation.groups)
    width = change.width.reshape(operation.groups, per_group)[group]
    return replace(operation, weight=operation.weight / width[:, :, None, None], bias=bias[:, 0, 0] if flat else bias)
