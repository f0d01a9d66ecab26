"""Layers with weights in a row, without a neuron between, become one: W2(W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2).

An average pool behind a convolution is a convolution too. What pads between the two has no such form: its zeros are not
those of the first layer's input.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch.nn.grad import conv2d_input

from randhet.export.float_shape import shapes
from randhet.export.graph import (
    Array,
    AveragePool,
    ExportError,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatNeuron,
    FloatNode,
)
from randhet.export.passes.convolve import conv
from randhet.export.passes.fold import fold_batch_norm, own_weights
from randhet.fixed_point.network import Shape

MOST = 2**26
"""Weights of a dense layer that a convolution may become part of."""


def merge_linear(graph: FloatGraph) -> FloatGraph:
    """Merge until no layer with weights reads another; batch norm between them is folded on the way."""
    while True:
        pair = next(filter(None, (_pair(graph, node) for node in graph.nodes)), None)
        if pair is None:
            return graph
        first, second = pair
        merged = _merged(graph, first, second)
        graph = fold_batch_norm(graph.changed(second.name, merged).without(first.name))


def _pair(graph: FloatGraph, second: FloatNode) -> tuple[FloatNode, FloatNode] | None:
    """A layer with weights, and this node, which reads it and is one or a pool; flatten may stand between."""
    if not isinstance(second.operation, (FloatConv, FloatDense, AveragePool)) or _neuron_pool(graph, second):
        return None
    first = graph.node(second.inputs[0])
    if isinstance(first.operation, FloatFlatten) and len(graph.readers(first.name)) == 1:
        first = graph.node(first.inputs[0])
    return (first, second) if own_weights(graph, first) else None


def _neuron_pool(graph: FloatGraph, node: FloatNode) -> bool:
    """Whether a node is a pool that a neuron reads, which stays: the convolution sends its sums (`split_pools`)."""
    neurons = any(isinstance(reader.operation, FloatNeuron) for reader in graph.readers(node.name))
    return isinstance(node.operation, AveragePool) and neurons


def _merged(graph: FloatGraph, first: FloatNode, second: FloatNode) -> FloatConv | FloatDense:
    known = shapes(graph)
    one, other = first.operation, second.operation
    if isinstance(other, AveragePool):
        other = pooling(other, known[first.name])
    match one, other:
        case FloatDense(), FloatDense():
            return replace(other, weight=other.weight @ one.weight, bias=other.weight @ one.bias + other.bias)
        case FloatConv(), FloatConv():
            if other.padding != (0, 0):
                raise ExportError(
                    f"{second.name} reads {first.name} without a neuron between and pads it with zeros, which one "
                    "layer cannot do: put a neuron between, or let it pad nothing"
                )
            return composed(one, other)
        case FloatConv(), FloatDense():
            return _unrolled(second.name, one, other, known[first.inputs[0]], known[first.name])
        case _:
            raise ExportError(f"{second.name} reads {first.name} without a neuron between: put a neuron there")


def pooling(pool: AveragePool, shape: Shape) -> FloatConv:
    """The mean over windows of (C, Y, X) as a convolution, each channel by itself."""
    kernel = pool.kernel or (shape[1], shape[2])
    weight = np.full((shape[0], 1, *kernel), 1 / prod(kernel))
    return FloatConv(weight, np.zeros(shape[0]), pool.stride or kernel, groups=shape[0])


def spread(operation: FloatConv) -> Array:
    """Weights (out, in, y, x) without groups and without dilation, zeros between."""
    out, per_group, *kernel = operation.weight.shape
    size = [(length - 1) * gap + 1 for length, gap in zip(kernel, operation.dilation)]
    whole = np.zeros((out, per_group * operation.groups, *size))
    each = out // operation.groups
    for group in range(operation.groups):
        rows, columns = slice(group * each, (group + 1) * each), slice(group * per_group, (group + 1) * per_group)
        whole[rows, columns, :: operation.dilation[0], :: operation.dilation[1]] = operation.weight[rows]
    return whole


def composed(first: FloatConv, second: FloatConv) -> FloatConv:
    """Two convolutions as one: kernel k1 + (k2 - 1)*s1, stride s1*s2, padded as the first. The second pads nothing."""
    inner, outer = spread(first), spread(second)
    (sy, sx), (ky, kx) = first.stride, inner.shape[2:]
    size = [length + (steps - 1) * stride for length, steps, stride in zip((ky, kx), outer.shape[2:], first.stride)]
    weight = np.zeros((len(outer), inner.shape[1], *size))
    for y, x in np.ndindex(*outer.shape[2:]):
        part = np.einsum("om,mcyx->ocyx", outer[:, :, y, x], inner)
        weight[:, :, y * sy : y * sy + ky, x * sx : x * sx + kx] += part
    stride = (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1])
    return FloatConv(weight, _bias(first.bias, second), stride, first.padding)


def _bias(first: Array, second: FloatConv) -> Array:
    if first.ndim == 1:
        return second.bias + spread(second).sum((2, 3)) @ first
    own = second.bias if second.bias.ndim == 3 else second.bias.reshape(-1, 1, 1)
    return np.asarray(conv(second, first) + own)


def _unrolled(name: str, first: FloatConv, second: FloatDense, shape: Shape, between: Shape) -> FloatDense:
    """A dense layer of all outputs of a convolution: its rows are what reaches back through the convolution."""
    if (count := len(second.weight) * prod(shape)) > MOST:
        raise ExportError(
            f"{name} reads a convolution without a neuron between, which are {count} weights together, the limit is "
            f"{MOST}: put a neuron between"
        )
    rows = torch.from_numpy(second.weight.reshape(-1, *between))
    image = torch.zeros((len(rows), *shape), dtype=torch.float64)
    weight = torch.from_numpy(first.weight)
    back = conv2d_input(image.shape, weight, rows, first.stride, first.padding, first.dilation, first.groups)
    maps = first.bias if first.bias.ndim == 3 else np.broadcast_to(first.bias.reshape(-1, 1, 1), between)
    return replace(second, weight=back.flatten(1).numpy(), bias=second.bias + second.weight @ maps.ravel())
