"""One layer of a run: what it read and gave, and what the definition makes of that, by kind of neuron."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import ClassVar

import numpy as np

from randhet.fixed_point import integer, reference
from randhet.fixed_point.diagnosis.fit import Window, current_window
from randhet.fixed_point.generator import LayerGenerator
from randhet.fixed_point.integer import STATE_MAX, Int
from randhet.fixed_point.network import Cuba, Layer, Lif, Network, Neuron, ReadOut, Shape
from randhet.fixed_point.result import Trace

ANY = np.int64(2**40)
"""Beyond every current: an interval that says nothing, where a state was cut off."""


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
        """Synaptic sums a, (images, T, *shape)."""
        steps = range(self.network.steps)
        return np.stack([reference.operate(self.layer.operation, [r[:, t] for r in self.read]) for t in steps], 1)

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
    def reset(self) -> str:
        """What a spike should do to the membrane potential."""

    @cached_property
    def threshold(self) -> Int:
        """Thresholds, broadcastable to the layer's shape."""
        return reference.per_channel(self.neuron.threshold, self.shape)

    def start(self, reset: str | None) -> Int:
        """Return the membrane potentials that each step starts from: the run's own after a reset (None: without)."""
        left, fired = self.membrane[:, :-1], self.found.output[:, :-1] != 0
        if reset is not None:
            left = np.where(fired, integer.reset_to(left, self.threshold, reset), left)
        return np.concatenate([np.zeros_like(self.membrane[:, :1]), left], axis=1)

    @cached_property
    def before(self) -> Int:
        """Membrane potentials that each step starts from, after the reset that the network asks for."""
        return self.start(self.reset)

    @abstractmethod
    def given(self, before: Int) -> Int:
        """Compute what the definition makes of these starts: membrane potentials before the reset."""

    @cached_property
    def due(self) -> Int:
        """Membrane potentials that should be there, (images, T, *shape)."""
        return self.given(self.before)


@dataclass(frozen=True, eq=False)
class SeenCuba(SeenSpiking):
    """Loihi's neuron: its current is followed from what the layer read."""

    neuron: Cuba
    reset: ClassVar[str] = "zero"

    def given(self, before: Int) -> Int:
        neuron, bias = self.neuron, np.broadcast_to(self.bias, self.shape)
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
    def reset(self) -> str:
        return self.neuron.reset

    @cached_property
    def decay(self) -> Int:
        """A of every neuron, (images, T, *shape)."""
        images = len(self.sums)
        context = reference.Place(self.seed, self.index, self.first_image, self.network.steps)
        decays = reference.decays_of(self.neuron, self.shape, images, context)
        steps = [np.broadcast_to(decays(t), (images, *self.shape)) for t in range(self.network.steps)]
        return np.stack(steps, 1)

    @cached_property
    def draws(self) -> Int:
        """The draw 0..255 of every neuron of a layer with drawn decays, (images, T, *shape)."""
        drawn, images = self.neuron.drawn, len(self.sums)
        assert drawn is not None
        generator = LayerGenerator(self.seed, self.index, prod(self.shape), drawn.neurons_per_core)
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

    def given(self, before: Int) -> Int:
        return integer.leak(before, self.current, self.decay, self.neuron.k)[0]

    @cached_property
    def window(self) -> Window:
        """For each value, the currents x that would have given it (`fit.Window`)."""
        edge = (np.abs(self.membrane) >= STATE_MAX) | (np.abs(self.unlimited) > STATE_MAX)
        low, high = current_window(self.membrane, self.before, self.decay, self.neuron.k)
        due = self.sums << self.neuron.f
        return Window(np.where(edge, -ANY, low - self.bias), np.where(edge, ANY, high - self.bias), due, self.neuron.f)
