"""Pools between a convolution and its neuron: the convolution sends its sums, and one weight a channel reads the pool.

The largest, or the sum, of values that share a positive factor and a bias is that of the values without them: both
move behind the pool. The convolution's weights are scaled to 127, so that the integers that it sends keep all 8 bits,
and the layer behind the pool has the integer weight 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from randhet.export.graph import AveragePool, ExportError, FloatConv, FloatGraph, FloatMaxPool, FloatNeuron, FloatNode
from randhet.fixed_point.layers import WEIGHT_MAX

POOLS = (AveragePool, FloatMaxPool)


def split_pools(graph: FloatGraph) -> FloatGraph:
    """Give every neuron that reads a pool a layer with weights of its own."""
    for node in graph.nodes:
        if isinstance(node.operation, FloatNeuron) and isinstance(graph.node(node.inputs[0]).operation, POOLS):
            graph = _split(graph, node)
    return graph


def sends_sums(graph: FloatGraph, node: FloatNode) -> bool:
    """Whether a layer with weights has no neuron and is read by a pool."""
    readers = graph.readers(node.name)
    return len(readers) == 1 and isinstance(readers[0].operation, POOLS)


def reads_sums(graph: FloatGraph, node: FloatNode) -> FloatNode | None:
    """The layer whose sums a layer with one weight a channel reads through pools; None for other layers."""
    source = graph.node(node.inputs[0])
    while isinstance(source.operation, POOLS):
        source = graph.node(source.inputs[0])
    pooled = isinstance(source.operation, FloatConv) and sends_sums(graph, source)
    return source if pooled and source.name != node.inputs[0] else None


def _split(graph: FloatGraph, neuron: FloatNode) -> FloatGraph:
    source = graph.node(neuron.inputs[0])
    while isinstance(source.operation, POOLS):
        source = graph.node(source.inputs[0])
    conv = source.operation
    if not isinstance(conv, FloatConv):
        raise ExportError(f"neuron {neuron.name} reads a pool of {source.name}, it must be one of a convolution")
    if not sends_sums(graph, source):
        raise ExportError(f"{source.name} is read by a pool and by others: let the pool alone read it")
    if conv.bias.ndim > 1:
        raise ExportError(
            f"the bias of {source.name} differs within a window of the pool behind it, since images are normalised and "
            "padded: put the pool behind the neuron, or leave out the padding"
        )
    largest = np.abs(conv.weight).reshape(len(conv.weight), -1).max(axis=1)
    gain = np.where(largest > 0, largest, 1.0) / WEIGHT_MAX
    graph = graph.changed(
        source.name, replace(conv, weight=conv.weight / gain[:, None, None, None], bias=0 * conv.bias)
    )
    own = FloatConv(gain[:, None, None, None], conv.bias, groups=len(gain))
    return _before(graph, neuron, FloatNode(f"{neuron.name}.pooled", own, neuron.inputs))


def _before(graph: FloatGraph, neuron: FloatNode, layer: FloatNode) -> FloatGraph:
    nodes: list[FloatNode] = []
    for node in graph.nodes:
        nodes += [layer, replace(node, inputs=(layer.name,))] if node.name == neuron.name else [node]
    return FloatGraph(tuple(nodes))
