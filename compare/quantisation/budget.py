"""The error budget: each part of the arithmetic quantised alone, and all but that one, on the same random numbers.

A network is run in units of its own scales, so that with every part quantised it is the integer network itself and with
none the float model. Between them the parts are switched one by one:

    x = q*s_in + b;  m <- x + tau*(m - x), rounded down to a unit if the membrane is quantised, raised to its floor;
    spike where m > theta (m >= theta in a float model that says so);  a spike sets m to 0 or subtracts theta, at once
    or at the next step, as the neuron says;  a leaky read-out sends m

A lowest membrane potential is a threshold too. A convolution without a neuron sends its sums into pools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randhet.base.errors import RandhetError
from randhet.compare.equivalence import Difference, paired
from randhet.compare.quantisation.wiring import wired
from randhet.export.graph import ExportError, FloatConv, FloatDense, FloatGraph, FloatNeuron, FloatNode
from randhet.export.passes.activity import synapse
from randhet.export.passes.pooled import reads_sums
from randhet.export.passes.quantise import read_out_of, weighted_nodes
from randhet.fixed_point.network import (
    Conv,
    Dense,
    Drawn,
    Input,
    Layer,
    Lif,
    Network,
    Read,
    ReadOut,
)

PARTS = ("weights", "bias", "threshold", "tau table", "random bits", "membrane fraction")
Part = str
MARGIN = 0.005
"""Accuracy (0..1) that a cost is held against."""
Uniform = Callable[[int, int, tuple[int, ...]], Tensor]
"""Layer number, step and shape (N, ...) to numbers in 0..1: the only chance in a run."""


@dataclass(frozen=True, eq=False)
class Constants:
    """Float and quantised constants of a layer, in weight units; threshold and bias in membrane units, u = s * 2^-f.

    What bias correction added to the bias goes with the weights: it makes up for their rounding, not for its own.
    """

    weight: tuple[Tensor, Tensor]
    bias: tuple[Tensor, Tensor]
    threshold: tuple[Tensor, Tensor]
    f: int
    decay: NDArray[np.float64] | None = None
    """The float model's, None where there is none; not the drawn ones."""
    floor: tuple[Tensor, Tensor] | None = None
    inclusive: bool = False
    """Whether the float model spikes at its threshold itself; the integer threshold is one unit lower then."""

    def bias_for(self, parts: Collection[Part]) -> Tensor:
        """The bias with these parts quantised."""
        exact, whole = self.bias
        correction = whole - exact.round()
        return (exact.round() if "bias" in parts else exact) + (correction if "weights" in parts else 0)


@dataclass(frozen=True, eq=False)
class Simulation:
    """Class sums (N, classes) and the spikes of every spiking layer, (N, T, neurons) uint8, by name."""

    sums: NDArray[np.float64]
    spikes: Mapping[str, NDArray[np.uint8]]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """The class with the largest sum, (N,)."""
        return self.sums.argmax(axis=1)


def constants(network: Network, graph: FloatGraph) -> dict[str, Constants]:
    """Of every layer with weights."""
    by_layer = {}
    nodes = weighted_nodes(graph)
    for layer in network.layers:
        if layer.recurrent is not None:
            raise ExportError(f"layer {layer.name} has recurrent weights, of which there is no error budget")
        if layer.weighted:
            node = nodes[layer.name]
            summed = reads_sums(graph, node) is not None
            by_layer[layer.name] = _constants(layer, layer.weighted, node, float_neuron(graph, layer, node), summed)
    return by_layer


def float_neuron(graph: FloatGraph, layer: Layer, node: FloatNode) -> FloatNeuron | None:
    """The float model's neuron of a layer that has a membrane potential; None for the others."""
    own = graph.node(layer.name) if layer.spikes else read_out_of(graph, node)
    return None if own is None else cast(FloatNeuron, own.operation)


def _constants(
    layer: Layer, whole: Conv | Dense, node: FloatNode, model: FloatNeuron | None, summed: bool
) -> Constants:
    """summed: it reads pools of sums, in units of which its weight is 1."""
    operation, neuron = node.operation, layer.sender
    assert isinstance(operation, (FloatConv, FloatDense))
    assert layer.scale is not None
    assert neuron is not None
    scale = np.broadcast_to(layer.scale, len(operation.weight))
    wide = lambda value, like: value.reshape(-1, *[1] * (like.ndim - 1))
    per_unit = 2.0**neuron.f / scale
    exact = np.full(len(scale), np.inf) if model is None else model.threshold * per_unit
    threshold = layer.spiking.threshold if layer.spiking else exact
    pair = lambda own, quantised: (torch.from_numpy(own), torch.from_numpy(np.asarray(quantised, np.float64)))
    weight = whole.weight.astype(np.float64) if summed else operation.weight / wide(scale, operation.weight)
    floor = None
    if layer.lif and layer.lif.floored and model is not None and model.floor is not None:
        floor = pair(np.broadcast_to(model.floor, len(scale)) * per_unit, np.broadcast_to(layer.lif.floor, len(scale)))
    return Constants(
        weight=pair(weight, whole.weight),
        bias=pair(operation.bias * wide(per_unit, operation.bias), neuron.bias),
        threshold=pair(exact, threshold),
        f=neuron.f,
        decay=None if model is None else model.decay,
        floor=floor,
        inclusive=model is not None and model.inclusive,
    )


def cells(network: Network) -> dict[str, Lif]:
    """The neurons that have a membrane potential, by layer name; RandhetError where one is of a kind without budget."""
    for layer in network.layers:
        if layer.dynamics and not layer.lif:
            kind = type(layer.dynamics).__name__
            raise RandhetError(f"layer {layer.name}: neurons of kind {kind} have no error budget")
    return {layer.name: layer.lif for layer in network.layers if layer.lif}


class Simulator:
    """One network and its float graph, run with any set of parts quantised."""

    def __init__(self, network: Network, graph: FloatGraph) -> None:
        self.cells = cells(network)
        self.network, self.graph, self.shapes = network, graph, network.shapes
        self.constants = constants(network, graph)

    def scores(self, run: Simulation) -> NDArray[np.float64]:
        """Class sums in the float model's units, less their mean over the classes, which decides nothing."""
        sums = run.sums * self.network.logit_unit
        return np.asarray(sums - sums.mean(axis=1, keepdims=True))

    @torch.no_grad()
    def run(
        self,
        pixels: np.ndarray,
        parts: Sequence[Part],
        uniform: Uniform,
        only: Sequence[str] | None = None,
        batch: int = 128,
    ) -> Simulation:
        """Run images (N, C, Y, X) uint8; only: names of the layers to which `parts` applies, None for all."""
        runs = [
            _Run(self, set(parts), uniform, only, len(pixels), slice(start, start + batch)).images(
                pixels[start : start + batch]
            )
            for start in range(0, len(pixels), batch)
        ]
        spikes = {name: np.concatenate([run.spikes[name] for run in runs]) for name in runs[0].spikes}
        return Simulation(np.concatenate([run.sums for run in runs]), spikes)


class _Run:
    """One batch: states by layer."""

    def __init__(
        self,
        owner: Simulator,
        parts: set[Part],
        uniform: Uniform,
        only: Sequence[str] | None,
        total: int,
        rows: slice,
    ) -> None:
        self.owner, self.uniform, self.total, self.rows = owner, uniform, total, rows
        self.parts = {
            layer.name: parts if only is None or layer.name in only else set() for layer in owner.network.layers
        }
        self.membranes: dict[str, Tensor] = {}
        self.late: dict[str, Tensor] = {}
        """Where the neurons of a layer that resets one step late spiked at the step before."""
        self.spikes: dict[str, list[NDArray[np.uint8]]] = {}
        self.still: dict[str, Tensor] = {}
        self.held: dict[str, Tensor] = {}

    def images(self, pixels: np.ndarray) -> Simulation:
        """All steps."""
        network, given = self.owner.network, torch.from_numpy(pixels).double()
        read = ReadOut.read if network.layers[-1].neuron is None else network.layers[-1].neuron.read
        total = torch.zeros(len(pixels), prod(self.owner.shapes[-1]), dtype=torch.float64)
        for t in range(network.steps):
            image = given[:, t] if network.input.sequence else given
            outputs: list[Tensor] = []
            for i, layer in enumerate(network.layers):
                outputs.append(self.layer(i, layer, [outputs[j] for j in layer.inputs] or [image], t))
            total = READS[read](total, outputs[-1].flatten(1), t)
        return Simulation(total.numpy(), {name: np.stack(steps, 1) for name, steps in self.spikes.items()})

    def layer(self, index: int, layer: Layer, read: list[Tensor], t: int) -> Tensor:
        """One layer at one step."""
        operation, neuron = layer.weighted, self.owner.cells.get(layer.name)
        if operation is None:
            return wired(layer.operation, read)
        own, parts = self.owner.constants[layer.name], self.parts[layer.name]
        source = self.owner.network.layers[layer.inputs[0]].operation
        steady = isinstance(source, Input) and not source.sequence
        if not steady or t == 0:
            self.still[layer.name] = synapse(operation, own.weight["weights" in parts], read[0])
        bias = own.bias_for(parts)
        bias = bias.reshape(-1, *[1] * (len(self.owner.shapes[index]) - 1)) if bias.ndim == 1 else bias
        x = self.still[layer.name] * 2.0**own.f + bias
        if neuron is None:
            return x
        m = self.moved(index, layer.name, neuron, x, t)
        return self.fire(layer.name, neuron, m) if layer.spikes else m

    def moved(self, index: int, name: str, neuron: Lif, x: Tensor, t: int) -> Tensor:
        """The membrane potential before it is compared."""
        own, parts = self.owner.constants[name], self.parts[name]
        before = self.membranes.get(name, torch.zeros_like(x))
        m = self.tau(index, name, neuron, x, t) * (before - x)
        m = x + (m.floor() if "membrane fraction" in parts else m)
        if (fired := self.late.pop(name, None)) is not None:
            m = torch.where(fired, RESETS[neuron.reset](m, self.threshold(name, m)), m)
        if own.floor is not None:
            m = torch.maximum(m, _by_channel(own.floor["threshold" in parts], m))
        self.membranes[name] = m
        return m

    def fire(self, name: str, neuron: Lif, m: Tensor) -> Tensor:
        """Spike and reset."""
        own, threshold = self.owner.constants[name], self.threshold(name, m)
        at_it = own.inclusive and "threshold" not in self.parts[name]
        fired = m >= threshold if at_it else m > threshold
        if neuron.reset_delay:
            self.late[name] = fired
        else:
            self.membranes[name] = torch.where(fired, RESETS[neuron.reset](m, threshold), m)
        self.spikes.setdefault(name, []).append(fired.flatten(1).numpy().astype(np.uint8))
        return fired.double()

    def threshold(self, name: str, m: Tensor) -> Tensor:
        """The thresholds of a layer, to be held against its membrane potentials."""
        return _by_channel(self.owner.constants[name].threshold["threshold" in self.parts[name]], m)

    def tau(self, index: int, name: str, neuron: Lif, x: Tensor, t: int) -> Tensor:
        """Decays of one step: table of A / 2^k or the exact function, of 256 draws or of all numbers in 0..1."""
        parts, decay, shape = self.parts[name], neuron.drawn, x.shape[1:]
        if decay is None:
            exact, mantissa = self.owner.constants[name].decay, neuron.given
            assert exact is not None and mantissa is not None
            tau = np.asarray(mantissa / 2.0**neuron.k if "tau table" in parts else exact)
            return torch.from_numpy(np.broadcast_to(tau.reshape(shape) if tau.ndim else tau, shape).copy())
        if decay.sampling == "step" or name not in self.held:
            u = self.uniform(index, t, (self.total, *shape))[self.rows]
            self.held[name] = drawn(decay, neuron.k, u, "tau table" in parts, "random bits" in parts)
        return self.held[name]


RESETS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "zero": lambda m, threshold: torch.zeros_like(m),
    "subtract": lambda m, threshold: m - threshold,
}
"""What a spike leaves of the membrane potential."""
READS: dict[Read, Callable[[Tensor, Tensor, int], Tensor]] = {
    "sum": lambda total, output, t: total + output,
    "last": lambda total, output, t: output,
    "max": lambda total, output, t: torch.maximum(total, output) if t else output,
}
"""What is read of the last layer over the steps: from what was read, the output of step t, and t."""


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    """Values (C,) to be broadcast over (N, C, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 2))


def drawn(decay: Drawn, k: int, u: Tensor, table: bool, bits: bool) -> Tensor:
    """tau of numbers u in 0..1.

    bits: only as many values as the table has distinct ones are drawn, each the middle of its share; table: A / 2^k.
    Where only the table is quantised, A is rounded from the exact tau of u.
    """
    if bits and table:
        return torch.from_numpy(decay.table.astype(np.float64) / 2.0**k)[(u * 256).long().clamp_(max=255)]
    group = 256 // _shares(decay)
    if bits:
        u = ((u * 256 / group).floor() + 0.5) * group / 256
    tau = torch.sigmoid(decay.sigma * torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)))
    return (tau * 2**k).round().clamp_(max=2**k - 1) / 2**k if table else tau


def _shares(decay: Drawn) -> int:
    """How many different draws the table tells apart: 256, or fewer where neighbours share an entry by design."""
    for bits in range(1, 8):
        grouped = decay.table.reshape(2**bits, -1)
        if (grouped == grouped[:, :1]).all():
            return int(2**bits)
    return 256


def numbers(seed: int) -> Uniform:
    """Uniform numbers that depend on seed, layer and step alone, so that every variant sees the same."""

    def draw(layer: int, step: int, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.random.default_rng((seed, layer, step)).random(shape))

    return draw


# --- the budget ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What quantising `parts` costs against float runs with the same draws.

    lost: accuracy (0..1), paired by image; spikes, predictions: share that differs; scores: mean squared change of the
    class scores over what another draw of the taus changes them by (`Meter.noise`).
    """

    parts: tuple[Part, ...]
    accuracy: float
    lost: Difference
    spikes: float
    predictions: float
    scores: float


@dataclass(frozen=True, eq=False)
class Budget:
    """float: accuracy with nothing quantised; alone: each part by itself; without: all but it; together: all."""

    float_accuracy: float
    alone: dict[Part, Cost]
    without: dict[Part, Cost]
    together: Cost
    images: int
    draws: int


Told = Callable[[int], None]


class Meter:
    """Costs of variants against the float runs with the same random numbers; keeps the float runs."""

    def __init__(
        self, network: Network, graph: FloatGraph, pixels: np.ndarray, labels: NDArray[np.int64], seeds: range
    ) -> None:
        self.simulator, self.pixels, self.labels, self.seeds = Simulator(network, graph), pixels, labels, seeds
        self.floats = [self.simulator.run(pixels, (), numbers(seed)) for seed in seeds]

    @cached_property
    def noise(self) -> float:
        """Mean squared change of a class score between two float draws; without draws, 1 % of the scores' variance."""
        scores = np.stack([self.simulator.scores(run) for run in self.floats])
        redrawn = 2 * scores.var(axis=0, ddof=1).mean() if len(scores) > 1 else 0.0
        return float(redrawn or scores.var() / 100 or 1.0)

    @property
    def float_accuracy(self) -> float:
        """Mean accuracy, 0..1, of the float draws."""
        return float(np.mean([run.predictions == self.labels for run in self.floats]))

    def cost(self, parts: Sequence[Part], only: Sequence[str] | None = None, of: Simulator | None = None) -> Cost:
        """Of quantising these parts, of all layers or only the named ones; of: in another network of the same model."""
        simulator = of or self.simulator
        runs = [simulator.run(self.pixels, parts, numbers(seed), only) for seed in self.seeds]
        right = np.mean([run.predictions == self.labels for run in runs], axis=0)
        before = np.mean([run.predictions == self.labels for run in self.floats], axis=0)
        pairs = list(zip(runs, self.floats))
        changes = [simulator.scores(quantised) - self.simulator.scores(exact) for quantised, exact in pairs]
        return Cost(
            tuple(parts),
            float(right.mean()),
            paired(before - right, MARGIN),
            float(np.mean([_odd_spikes(quantised, exact) for quantised, exact in pairs])),
            float(np.mean([quantised.predictions != exact.predictions for quantised, exact in pairs])),
            float(np.mean(np.square(changes))) / self.noise,
        )


def _odd_spikes(quantised: Simulation, exact: Simulation) -> float:
    """Share of neuron-steps, over all layers, whose spike differs."""
    unequal = sum(int(np.count_nonzero(quantised.spikes[name] != exact.spikes[name])) for name in quantised.spikes)
    return unequal / sum(values.size for values in quantised.spikes.values())


def budget(
    network: Network,
    graph: FloatGraph,
    pixels: np.ndarray,
    labels: NDArray[np.int64],
    draws: int = 3,
    done: Told = lambda count: None,
) -> Budget:
    """Run 2 + 2 * 6 variants on the same images and random numbers; done is told after each."""
    meter = Meter(network, graph, pixels, labels, range(draws))
    done(1)

    def cost(parts: Sequence[Part]) -> Cost:
        measured_cost = meter.cost(parts)
        done(1)
        return measured_cost

    return Budget(
        meter.float_accuracy,
        {name: cost((name,)) for name in PARTS},
        {name: cost(tuple(other for other in PARTS if other != name)) for name in PARTS},
        cost(PARTS),
        len(pixels),
        draws,
    )
