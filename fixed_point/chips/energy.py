"""Energy and time of one image on a chip, from measured spikes: counts times published figures, term by term.

An estimate, not a measurement: what it takes for granted stands in `ASSUMPTIONS`, what nobody publishes in the chip's
`unknown`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.fixed_point.chips.chip import Chip, Quantity
from randhet.fixed_point.chips.load import Axis, axes
from randhet.fixed_point.chips.mapping import LayerMap
from randhet.fixed_point.chips.mapping import Mapping as Placement
from randhet.fixed_point.chips.placement import on_chip
from randhet.fixed_point.network import (
    And,
    Concat,
    Conv,
    Dense,
    Flatten,
    Iand,
    Input,
    MaxPool,
    Network,
    Operation,
    Shape,
    Spread,
    SumPool,
)
from randhet.fixed_point.result import Result

Counts = NDArray[np.float64]

ASSUMPTIONS = (
    "every neuron is updated at every step",
    "spikes of a layer are spread evenly over its neurons, unless the run recorded where they were",
    "one synaptic operation per arriving spike and synapse, whatever the spike's value",
    "a synaptic operation costs the same at every weight width: no figures by width are published",
    "messages travel the mean distance of random placement on one chip",
    "within a step a core works one after another, cores work at the same time, and the slowest sets the pace",
    "relayed values of pools and gates are sent at every step, unless the run recorded them",
    "a random draw takes no time beyond its neuron's update",
)


@dataclass(frozen=True)
class Term:
    """count events in a layer, each at `unit`: J, counted per image, or s, counted per step on its largest core."""

    what: str
    layer: str
    count: float
    unit: Quantity

    @property
    def total(self) -> float:
        """J or s."""
        return self.count * self.unit.value


@dataclass(frozen=True)
class Estimate:
    """Energy J per image, by terms; time s of one step, by terms, each layer's largest core; steps of one image alone.

    latency: s of one image alone; images per second back to back. exact: layers whose spikes were seen one by one.
    """

    chip: str
    terms: tuple[Term, ...]
    times: tuple[Term, ...]
    steps: int
    step_time: float
    latency: float
    images_per_second: float
    slowest: str
    exact: tuple[str, ...]

    @property
    def energy(self) -> float:
        """J per image, over all events."""
        return sum(term.total for term in self.terms)

    def by_kind(self) -> dict[str, float]:
        """Sum J per image of each kind of event."""
        total: dict[str, float] = defaultdict(float)
        for term in self.terms:
            total[term.what] += term.total
        return dict(total)

    def by_layer(self) -> dict[str, float]:
        """Sum J per image of each layer."""
        total: dict[str, float] = defaultdict(float)
        for term in self.terms:
            total[term.layer] += term.total
        return dict(total)


# --- how many synapses a spike drives -------------------------------------------------------------------------------


def windows(axis: Axis, outputs: int) -> Counts:
    """Count the (output, tap) pairs that read each source position along an axis."""
    count = np.zeros(axis.size)
    for out in range(outputs):
        for tap in range(axis.kernel):
            position = out * axis.stride + tap * axis.dilation - axis.padding
            if 0 <= position < axis.size:
                count[position] += 1
    return count


@singledispatch
def synapses(operation: Operation, shape_in: Shape, shape: Shape) -> Counts:
    """Count the synapses that each value a layer reads drives, in the shape it reads."""
    raise RandhetError(f"{type(operation).__name__} has no synapses")


@synapses.register
def _(operation: Dense, shape_in: Shape, shape: Shape) -> Counts:
    return np.full(shape_in, float(shape[0]))


@synapses.register
def _(operation: Conv, shape_in: Shape, shape: Shape) -> Counts:
    return _grid(operation, shape_in, shape) * (shape[0] // operation.groups)


@synapses.register(SumPool)
@synapses.register(MaxPool)
def _(operation: SumPool | MaxPool, shape_in: Shape, shape: Shape) -> Counts:
    return _grid(operation, shape_in, shape)


@synapses.register(And)
@synapses.register(Iand)
def _(operation: And | Iand, shape_in: Shape, shape: Shape) -> Counts:
    return np.ones(shape_in)


def _grid(operation: Conv | SumPool | MaxPool, shape_in: Shape, shape: Shape) -> Counts:
    y, x = axes(operation, shape_in)
    return np.broadcast_to(np.outer(windows(y, shape[1]), windows(x, shape[2])), shape_in)


def fan_out(network: Network) -> dict[tuple[int, int], Counts]:
    """Map (sender, reader) to the synapses that a spike of each of the sender's neurons drives in the reader."""
    shape = network.shapes
    driven: dict[tuple[int, int], Counts] = {}
    for i, layer in enumerate(network.layers):
        for source in layer.inputs if on_chip(network, i) else ():
            for sender, counts in _pull(network, source, synapses(layer.operation, shape[source], shape[i]), shape):
                driven[sender, i] = driven.get((sender, i), 0) + counts
        if layer.recurrent is not None:
            driven[i, i] = np.full(shape[i], float(len(layer.recurrent)))
    return driven


def _pull(network: Network, index: int, counts: Counts, shape: Sequence[Shape]) -> Iterator[tuple[int, Counts]]:
    """Carry counts on a layer's output back to the layers whose spikes arrive there."""
    layer = network.layers[index]
    operation = layer.operation
    if isinstance(operation, Input) or on_chip(network, index):
        yield index, counts
        return
    first = 0
    for source in layer.inputs:
        own = counts
        if isinstance(operation, Concat):
            own, first = counts[first : first + shape[source][0]], first + shape[source][0]
        yield from _pull(network, source, _through(operation, own, shape[source]), shape)


def _through(operation: Operation, counts: Counts, shape_in: Shape) -> Counts:
    if isinstance(operation, Flatten):
        return counts.reshape(shape_in)
    if isinstance(operation, Spread):
        (sy, sx), (_, rows, columns) = operation.stride, shape_in
        return counts[:, : (rows - 1) * sy + 1 : sy, : (columns - 1) * sx + 1 : sx]
    if not isinstance(operation, SumPool):
        return counts
    back = np.zeros(shape_in)
    for y, x in np.ndindex(*counts.shape[1:]):
        top, left = y * operation.stride[0], x * operation.stride[1]
        window = back[:, top : top + operation.kernel[0], left : left + operation.kernel[1]]
        window += counts[:, y, x][:, None, None]
    return back


# --- what a run did -------------------------------------------------------------------------------------------------


class Activity(NamedTuple):
    """Spikes per image of every neuron that sends, by layer number; exact: names of the layers seen spike by spike."""

    sent: dict[int, Counts]
    exact: tuple[str, ...]


def activity(network: Network, images: np.ndarray, result: Result) -> Activity:
    """Count spikes per image of every neuron that sends; those of a layer without a trace are spread over it evenly."""
    count = len(result.predictions)
    if not count or len(images) != count:
        raise RandhetError(f"the run has {count} images and {len(images)} were given, it takes the same and at least 1")
    shape, sent, exact = network.shapes, {}, []
    for i, layer in enumerate(network.layers):
        trace = result.traces.get(layer.name)
        if isinstance(layer.operation, Input):
            over = (0, 1) if layer.operation.sequence else (0,)
            sent[i] = (images != 0).sum(axis=over) / count * (1 if layer.operation.sequence else network.steps)
            exact.append(layer.name)
        elif trace is not None and on_chip(network, i):
            sent[i] = (trace.output != 0).sum(axis=(0, 1)) / count
            exact.append(layer.name)
        elif layer.name in result.spikes:
            sent[i] = np.full(shape[i], result.spikes[layer.name] / count / np.prod(shape[i]))
        elif on_chip(network, i):
            sent[i] = np.full(shape[i], float(network.steps))
    return Activity(sent, tuple(exact))


def together(network: Network, parts: Iterable[Activity]) -> Activity:
    """Join counts of one run of which some layers were traced at a time: of each layer those that are exact."""
    sent: dict[int, Counts] = {}
    exact: set[str] = set()
    for part in parts:
        seen = {i for i in part.sent if network.layers[i].name in part.exact}
        sent |= {i: counts for i, counts in part.sent.items() if i in seen or network.layers[i].name not in exact}
        exact |= set(part.exact)
    return Activity(sent, tuple(layer.name for layer in network.layers if layer.name in exact))


# --- the estimate ---------------------------------------------------------------------------------------------------


def estimate(network: Network, placement: Placement, images: np.ndarray, result: Result) -> Estimate:
    """Estimate energy and time of one image, the mean over a run. images: what was run; result: of any backend."""
    return estimate_of(network, placement, activity(network, images, result))


def estimate_of(network: Network, placement: Placement, counted: Activity) -> Estimate:
    """Estimate energy and time of one image in which neurons send so much."""
    sent, exact = counted
    arriving = _arrivals(network, sent)
    terms = [term for layer in placement.layers for term in _terms(network, placement.chip, layer, sent, arriving)]
    times = {layer.name: list(_times(network, placement.chip, layer, sent, arriving)) for layer in placement.layers}
    busy = {name: sum(term.total for term in layer_times) for name, layer_times in times.items()}
    slowest = max(busy, key=lambda name: busy[name])
    barrier = Term("barrier", "all", 1, placement.chip["time_barrier"])
    step = busy[slowest] + barrier.total
    steps = network.steps + max(network.delays)
    spent = (*(term for layer_times in times.values() for term in layer_times), barrier)
    rate = 1 / (network.steps * step)
    return Estimate(placement.chip.name, tuple(terms), spent, steps, step, steps * step, rate, slowest, exact)


def _arrivals(network: Network, sent: Mapping[int, Counts]) -> dict[int, float]:
    """Count synaptic operations per image in every population."""
    total: dict[int, float] = defaultdict(float)
    for (sender, reader), counts in fan_out(network).items():
        total[reader] += float((counts * sent[sender]).sum())
    return total


def _kind(layer: LayerMap) -> str:
    return "dense" if isinstance(layer.population.layer.operation, Dense) else "conv"


def _draws(network: Network, layer: LayerMap) -> int:
    drawn = layer.population.layer.drawn
    if drawn is None:
        return 0
    return int(np.prod(layer.population.shape)) * (1 if drawn.sampling == "forward" else network.steps)


def _sends(layer: LayerMap, sent: Mapping[int, Counts]) -> tuple[float, float]:
    """Count (spikes, messages) of a population per image; messages to the host are not counted."""
    far = sum(load.destinations * load.neurons for load in layer.loads) / sum(load.neurons for load in layer.loads)
    spikes = float(sent[layer.population.index].sum()) if far else 0.0
    return spikes, spikes * far


def _terms(
    network: Network, chip: Chip, layer: LayerMap, sent: Mapping[int, Counts], arriving: Mapping[int, float]
) -> Iterator[Term]:
    spikes, messages = _sends(layer, sent)
    neurons = float(np.prod(layer.population.shape))
    yield Term("neuron updates", layer.name, neurons * network.steps, chip["energy_neuron"])
    operations = arriving[layer.population.index]
    yield Term("synaptic operations", layer.name, operations, chip[f"energy_synapse_{_kind(layer)}"])
    yield Term("spikes", layer.name, spikes, chip["energy_spike"])
    yield Term("messages", layer.name, messages, chip["energy_message"])
    for axis, key in (("x", "mesh_width"), ("y", "mesh_height")):
        yield Term(f"hops {axis}", layer.name, messages * mean_hops(chip.need(key)), chip[f"energy_hop_{axis}"])
    if draws := _draws(network, layer):
        yield Term("random draws", layer.name, draws, chip["energy_draw"])


def mean_hops(tiles: int) -> float:
    """Return the mean distance of two tiles placed at random in a row of n: (n^2 - 1) / (3 n)."""
    return (tiles**2 - 1) / (3 * tiles)


def _times(
    network: Network, chip: Chip, layer: LayerMap, sent: Mapping[int, Counts], arriving: Mapping[int, float]
) -> Iterator[Term]:
    """List what the layer's largest core does in one step, one thing after another."""
    share = layer.largest("neurons") / float(np.prod(layer.population.shape)) / network.steps
    spikes, messages = _sends(layer, sent)
    operations = share * arriving[layer.population.index]
    yield Term("neuron updates", layer.name, layer.largest("neurons"), chip["time_neuron"])
    yield Term("synaptic operations", layer.name, operations, chip[f"time_synapse_{_kind(layer)}"])
    yield Term("spikes", layer.name, share * spikes, chip["time_spike"])
    yield Term("messages", layer.name, share * messages, chip["time_message"])
