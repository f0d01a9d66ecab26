"""One layer of a run: what it read and gave, and what the definition makes of that, by kind of neuron."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import ClassVar, NamedTuple

import numpy as np

from randhet.fixed_point import integer, reference
from randhet.fixed_point.diagnosis.fit import Mask, Window, current_window
from randhet.fixed_point.integer import STATE_MAX, Int
from randhet.fixed_point.network import Cuba, Layer, Lif, Network, Neuron, ReadOut, Shape
from randhet.fixed_point.reference import make_generator
from randhet.fixed_point.result import Trace

ANY = np.int64(2**40)
"""Beyond every current: an interval that says nothing, where a state was cut off."""


def late(values: Int, steps: int = 1) -> Int:
    """Values (images, T, ...) of some steps before each; zeros before the first."""
    return np.concatenate([np.zeros_like(values[:, :steps]), values[:, :-steps]], axis=1)[:, : values.shape[1]]


def saturated(values: Int) -> Int:
    """Cut off at 24 bits."""
    return np.clip(values, -STATE_MAX, STATE_MAX)


class Way(NamedTuple):
    """What a spike does to the membrane potential: `kind` of reset (None: none), late or not; whether a floor holds."""

    kind: str | None
    late: bool = False
    floored: bool = False


@dataclass(frozen=True, eq=False)
class Seen:
    """One layer of a run: what it read (images, T, ...) of each source, what it gave, and where the run stands."""

    network: Network
    index: int
    read: list[Int]
    found: Trace
    seed: int
    first_image: int

    @property
    def layer(self) -> Layer:
        """The layer itself."""
        return self.network.layers[self.index]

    @property
    def shape(self) -> Shape:
        """Shape of the layer's output."""
        return self.network.shapes[self.index]

    @cached_property
    def sums(self) -> Int:
        """Synaptic sums a, (images, T, *shape); those of a recurrent layer with what its own spikes add."""
        own = self.layer.recurrent
        return self.fed if own is None else self.fed + self.sent_before @ own.T.astype(np.int64)

    @cached_property
    def fed(self) -> Int:
        """The part of the sums that comes from other layers."""
        steps = range(self.network.steps)
        return np.stack([reference.operate(self.layer.operation, [r[:, t] for r in self.read]) for t in steps], 1)

    @cached_property
    def sent_before(self) -> Int:
        """What the layer sent at the step before each, nothing before the first."""
        return late(self.found.output)

    @property
    def membrane(self) -> Int:
        """Membrane potentials before the reset, (images, T, *shape)."""
        assert self.found.membrane is not None
        return self.found.membrane


@dataclass(frozen=True, eq=False)
class SeenNeuron(Seen):
    """A layer with a neuron."""

    neuron: Neuron

    @cached_property
    def bias(self) -> Int:
        """Biases, broadcastable to the layer's shape."""
        return reference.per_channel(self.neuron.bias, self.shape)


@dataclass(frozen=True, eq=False)
class SeenReadOut(SeenNeuron):
    """A layer that only sums."""

    neuron: ReadOut

    @property
    def due(self) -> Int:
        """Sums that should be added at each step, (images, T, *shape)."""
        return self.sums + self.bias

    @cached_property
    def window(self) -> Window:
        """The one sum a that gives each value."""
        read = self.found.output - self.bias
        return Window(read, read, self.sums, 0)


@dataclass(frozen=True, eq=False)
class SeenSpiking(SeenNeuron, ABC):
    """A layer that spikes: what is common to its kinds of neurons."""

    neuron: Lif | Cuba

    @property
    @abstractmethod
    def way(self) -> Way:
        """What a spike should do to the membrane potential."""

    @cached_property
    def threshold(self) -> Int:
        """Thresholds, broadcastable to the layer's shape."""
        return reference.per_channel(self.neuron.threshold, self.shape)

    @cached_property
    def fired_before(self) -> Mask:
        """Where a neuron fired at the step before."""
        return self.sent_before != 0

    def start(self, way: Way) -> Int:
        """Return the membrane potentials that each step starts from: the run's own after a reset that acts at once."""
        left = late(self.membrane)
        if way.kind is None or way.late:
            return left
        return np.where(self.fired_before, integer.reset_to(left, self.threshold, way.kind), left)

    @cached_property
    def before(self) -> Int:
        """Membrane potentials that each step starts from, after what the network's reset does at once."""
        return self.start(self.way)

    @abstractmethod
    def given(self, way: Way) -> Int:
        """Compute the membrane potentials before the reset that follow if spikes did this to those before."""

    @cached_property
    def due(self) -> Int:
        """Membrane potentials that should be there, (images, T, *shape)."""
        return self.given(self.way)


@dataclass(frozen=True, eq=False)
class SeenCuba(SeenSpiking):
    """Loihi's neuron: its current is followed from what the layer read."""

    neuron: Cuba
    way: ClassVar[Way] = Way("zero")

    def given(self, way: Way) -> Int:
        before, neuron, bias = self.start(way), self.neuron, np.broadcast_to(self.bias, self.shape)
        u, voltages = np.zeros_like(self.sums[:, 0]), []
        for t in range(self.network.steps):
            u, v, _ = integer.cuba(
                u, before[:, t], self.sums[:, t], bias, neuron.current_decay, neuron.voltage_decay, neuron.f
            )
            voltages.append(v)
        return np.stack(voltages, 1)

    @cached_property
    def window(self) -> Window:
        """The bias is added last, so that what is off the voltage is off the bias."""
        edge = np.abs(self.membrane) >= STATE_MAX
        return Window(np.where(edge, -ANY, self.membrane), np.where(edge, ANY, self.membrane), self.due, 0)


@dataclass(frozen=True, eq=False)
class SeenLif(SeenSpiking):
    """A LIF neuron, wherever its decays come from."""

    neuron: Lif

    @property
    def way(self) -> Way:
        return Way(self.neuron.reset, self.neuron.reset_delay > 0, self.neuron.floored)

    @cached_property
    def floor(self) -> Int:
        """Lowest membrane potentials, broadcastable to the layer's shape."""
        return reference.per_channel(self.neuron.floor, self.shape)

    @cached_property
    def decay(self) -> Int:
        """A of every neuron, (images, T, *shape)."""
        images = len(self.sums)
        context = reference.Place(self.seed, self.index, self.first_image, self.network.steps, self.network.generator)
        decays = reference.decays_of(self.neuron, self.shape, images, context)
        steps = [np.broadcast_to(decays(t), (images, *self.shape)) for t in range(self.network.steps)]
        return np.stack(steps, 1)

    @cached_property
    def draws(self) -> Int:
        """The draw 0..255 of every neuron of a layer with drawn decays, (images, T, *shape)."""
        drawn, images = self.neuron.drawn, len(self.sums)
        assert drawn is not None
        generator = make_generator(
            self.network.generator, self.seed, self.index, prod(self.shape), drawn.neurons_per_core
        )
        rounds = 1 if drawn.sampling == "forward" else self.network.steps
        draws = generator.rounds(self.first_image * rounds, images * rounds)
        return np.broadcast_to(draws.reshape(images, rounds, *self.shape).astype(np.int64), self.sums.shape)

    @cached_property
    def unlimited(self) -> Int:
        """Currents x before any saturation."""
        return (self.sums << self.neuron.f) + self.bias

    @cached_property
    def current(self) -> Int:
        """Currents x."""
        return np.clip(self.unlimited, -STATE_MAX, STATE_MAX)

    @cached_property
    def exact(self) -> Int:
        """2^k times the membrane potential, before the floor of the shift and any saturation of it."""
        return (self.current << self.neuron.k) + self.decay * (self.before - self.current)

    def given(self, way: Way) -> Int:
        start, x = self.start(way), self.current
        return self.settled(x + ((self.decay * (start - x)) >> self.neuron.k), way=way)

    def settled(self, moved: Int, limited: Callable[[Int], Int] = saturated, way: Way | None = None) -> Int:
        """Compute what becomes of decayed potentials: a late reset, the limit of their word, the floor."""
        way = way or self.way
        if way.late and way.kind is not None:
            moved = np.where(self.fired_before, integer.reset_to(moved, self.threshold, way.kind), moved)
        held = limited(moved)
        return np.maximum(held, self.lowest(way)) if way.floored else held

    def lowest(self, way: Way) -> Int:
        """The network's floor, or minus the threshold, as other libraries have it, where it has none."""
        return self.floor if self.neuron.floored else -self.threshold

    @cached_property
    def leaked(self) -> Int:
        """Membrane potentials before what a late reset took from them."""
        if self.way.late and self.way.kind == "subtract":
            return self.membrane + np.where(self.fired_before, self.threshold, 0)
        return self.membrane

    @cached_property
    def hidden(self) -> Mask:
        """Where a membrane potential says nothing of the step: a late reset to zero, the floor, the end of its word."""
        silent = np.abs(self.membrane) >= STATE_MAX
        if self.way.late and self.way.kind == "zero":
            silent = silent | self.fired_before
        return silent | (self.membrane <= self.floor) if self.neuron.floored else silent

    @cached_property
    def window(self) -> Window:
        """For each value, the currents x that would have given it (`fit.Window`)."""
        edge = self.hidden | (np.abs(self.unlimited) > STATE_MAX)
        low, high = current_window(self.leaked, self.before, self.decay, self.neuron.k)
        due = self.sums << self.neuron.f
        return Window(np.where(edge, -ANY, low - self.bias), np.where(edge, ANY, high - self.bias), due, self.neuron.f)
