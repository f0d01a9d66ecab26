"""Which parts of a network sit on a chip as populations of neurons, and how populations are wired to each other.

Weights and neurons go to cores. A flatten and a concatenation cost nothing, and neither do zeros between values, to
which no spike belongs. A residual sum costs nothing either: both branches send their spikes to the same weights. A sum
pool with windows apart that only dense layers read is part of their wiring; any other pool, a max pool and an AND or
IAND of two branches are populations that relay what they find. A recurrent layer is a source of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from randhet.fixed_point.network import (
    Add,
    And,
    Conv,
    Dense,
    Flatten,
    Iand,
    Input,
    Layer,
    MaxPool,
    Network,
    Pair,
    Shape,
    Spread,
    SumPool,
)


@dataclass(frozen=True, eq=False)
class Population:
    """One layer with neurons on the chip. sources: numbers of the layers whose spikes it receives.

    apart: distances (y, x) of the values that it reads, where a `Spread` puts zeros between them; else 1.
    """

    index: int
    layer: Layer
    shape: Shape
    shape_in: Shape
    sources: tuple[int, ...]
    apart: Pair = (1, 1)


def readers(network: Network, index: int) -> list[int]:
    """List the layers that read a layer, looking through flattens."""
    numbers: list[int] = []
    for i, layer in enumerate(network.layers):
        if index in layer.inputs:
            numbers += readers(network, i) if isinstance(layer.operation, Flatten) else [i]
    return numbers


def folded(network: Network, index: int) -> bool:
    """Tell whether a sum pool is only wiring: windows do not overlap and every layer that reads it is dense."""
    pool = network.layers[index].operation
    assert isinstance(pool, SumPool)
    windows = network.shapes[index][1:]
    apart = all(s >= k or n == 1 for s, k, n in zip(pool.stride, pool.kernel, windows))
    reading = [network.layers[i].operation for i in readers(network, index)]
    return apart and bool(reading) and all(isinstance(operation, Dense) for operation in reading)


def on_chip(network: Network, index: int) -> bool:
    """Tell whether a layer has neurons of its own on the chip."""
    operation = network.layers[index].operation
    if isinstance(operation, SumPool):
        return not folded(network, index)
    return isinstance(operation, (Conv, Dense, MaxPool, And, Iand))


def senders(network: Network, index: int) -> tuple[int, ...]:
    """List the layers whose spikes arrive where an output is read: itself, the input, or the branches of a sum."""
    layer = network.layers[index]
    if isinstance(layer.operation, Input) or on_chip(network, index):
        return (index,)
    return tuple(sender for source in layer.inputs for sender in senders(network, source))


def populations(network: Network) -> list[Population]:
    """List every population in network order."""
    shape = network.shapes
    placed = []
    for i, layer in enumerate(network.layers):
        if on_chip(network, i):
            sources = tuple(sender for source in layer.inputs for sender in senders(network, source))
            own = () if layer.recurrent is None else (i,)
            read = layer.inputs[0]
            placed.append(Population(i, layer, shape[i], shape[read], sources + own, _apart(network, read)))
    return placed


def _apart(network: Network, index: int) -> Pair:
    """Distances of the values of a layer: those of the zeros that it puts between them, times those before."""
    layer = network.layers[index]
    if not isinstance(layer.operation, Spread):
        return 1, 1
    (y, x), (sy, sx) = _apart(network, layer.inputs[0]), layer.operation.stride
    return y * sy, x * sx


def branch_lags(network: Network, lag: Sequence[int]) -> dict[int, int]:
    """Count the steps by which the latest branch of each residual sum lags its earliest."""
    return {
        i: max(lag[j] for j in layer.inputs) - min(lag[j] for j in layer.inputs)
        for i, layer in enumerate(network.layers)
        if isinstance(layer.operation, Add)
    }
