"""Every synapse of a network between the layers that have neurons, as sparse matrices; sums and pools are wiring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from randhet.base.errors import RandhetError
from randhet.fixed_point.chips.energy import fan_out
from randhet.fixed_point.network import (
    Add,
    Concat,
    Conv,
    Dense,
    Flatten,
    Input,
    Network,
    Operation,
    Shape,
    Spread,
    SumPool,
)

MOST_SYNAPSES = 4_000_000
"""Synapses that are listed at most: one line each, about 60 bytes."""
Matrix = Any
"""A `scipy.sparse.csr_array`; scipy declares no types."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses from the neurons of one layer to those of another, (channel, y, x) order: weight of each, zeros too."""

    sender: int
    reader: int
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.int64]


def projections(network: Network) -> list[Projection]:
    """List every synapse; RandhetError where they are too many, or where a layer relays values that are no spikes."""
    for layer in network.layers:
        if not isinstance(layer.operation, (Input, Conv, Dense, Add, Concat, Flatten, Spread, SumPool)):
            kind = type(layer.operation).__name__
            raise RandhetError(f"layer {layer.name} is a {kind}, SANA-FE's files have synapses between neurons only")
    total = int(sum(counts.sum() for counts in fan_out(network).values()))
    if total > MOST_SYNAPSES:
        raise RandhetError(f"the network has {total:,} synapses, a file of SANA-FE lists {MOST_SYNAPSES:,} at most")
    return [projection for i in range(len(network.layers)) for projection in _of_reader(network, i)]


def _of_reader(network: Network, i: int) -> Iterator[Projection]:
    layer, shape = network.layers[i], network.shapes
    if layer.weighted is not None:
        source = layer.inputs[0]
        own, there = (matrix(layer.weighted, shape[source], shape[i], ones) for ones in (False, True))
        for sender, path in _paths(network, source).items():
            yield _listed(sender, i, own @ path, there @ path)
    if layer.recurrent is not None:
        own = sparse.csr_array(layer.recurrent.astype(np.int64))
        yield _listed(i, i, own, sparse.csr_array(np.ones(layer.recurrent.shape, np.int64)))


def _listed(sender: int, reader: int, weights: Matrix, there: Matrix) -> Projection:
    """List the entries of `there`; a weight of 0 is a synapse too, as it is on the chip."""
    synapses = there.tocoo()
    # products leave out sums that are zero, so that the weights are looked up where synapses are
    found = np.zeros(synapses.nnz, np.int64)
    rows, columns = synapses.row, synapses.col
    rows, columns = rows.astype(np.int64), columns.astype(np.int64)
    order = np.argsort(rows * there.shape[1] + columns)
    rows, columns = rows[order], columns[order]
    values = weights.tocoo()
    keys = values.row.astype(np.int64) * there.shape[1] + values.col
    found[np.searchsorted(rows * there.shape[1] + columns, keys)] = values.data
    return Projection(sender, reader, columns, rows, found)


def _paths(network: Network, index: int) -> dict[int, Matrix]:
    """Map every layer with neurons, or the input, to what of its spikes arrives in the values of layer `index`."""
    layer, shape = network.layers[index], network.shapes
    if isinstance(layer.operation, Input) or layer.weighted is not None:
        same = np.arange(prod(shape[index]))
        return {index: sparse.csr_array((np.ones(len(same), np.int64), (same, same)))}
    found: dict[int, Matrix] = {}
    first = 0
    for source in layer.inputs:
        step = _step(layer.operation, shape[source], shape[index], first)
        first += shape[source][0]
        for sender, path in _paths(network, source).items():
            arriving = step @ path
            found[sender] = found[sender] + arriving if sender in found else arriving
    return found


def _step(operation: Operation, shape_in: Shape, shape: Shape, first: int) -> Matrix:
    """Carry one source's values to a layer without neurons; first: its first channel there, of a concatenation."""
    size = prod(shape_in)
    if isinstance(operation, SumPool):
        channels = shape_in[0]
        kernel = np.ones((channels, 1, *operation.kernel), np.int64)
        return matrix(Conv(kernel, operation.stride, groups=channels), shape_in, shape, True)
    rows = np.arange(size)
    if isinstance(operation, Concat):
        rows = rows + first * prod(shape_in[1:])
    elif isinstance(operation, Spread):
        places = np.arange(prod(shape)).reshape(shape)
        (sy, sx), (_, height, width) = operation.stride, shape_in
        rows = places[:, : (height - 1) * sy + 1 : sy, : (width - 1) * sx + 1 : sx].ravel()
    return sparse.csr_array((np.ones(size, np.int64), (rows, np.arange(size))), shape=(prod(shape), size))


def matrix(operation: Conv | Dense, shape_in: Shape, shape: Shape, ones: bool = False) -> Matrix:
    """Write an operation as a matrix (outputs, inputs); ones: 1 for every synapse in place of its weight."""
    if isinstance(operation, Dense):
        weight = operation.weight.astype(np.int64)
        return sparse.csr_array(np.ones_like(weight) if ones else weight)
    (_, height, width), (out, rows, columns) = shape_in, shape
    (py, px), (sy, sx), (dy, dx) = operation.padding, operation.stride, operation.dilation
    _, per_group, kernel_y, kernel_x = operation.weight.shape
    o, y, x, c, i, j = np.indices((out, rows, columns, per_group, kernel_y, kernel_x), np.int32).reshape(6, -1)
    row, column = y * sy + i * dy - py, x * sx + j * dx - px
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    o, y, x, c, i, j, row, column = (part[inside] for part in (o, y, x, c, i, j, row, column))
    source = ((o // (out // operation.groups) * per_group + c) * height + row) * width + column
    values = np.ones(len(o), np.int64) if ones else operation.weight[o, c, i, j].astype(np.int64)
    return sparse.csr_array((values, ((o * rows + y) * columns + x, source)), shape=(prod(shape), prod(shape_in)))
