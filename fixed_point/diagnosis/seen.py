"""One layer of a run: what it read and gave, and what the definition makes of that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from randhet.fixed_point import reference
from randhet.fixed_point.diagnosis.fit import Window, current_window
from randhet.fixed_point.generator import LayerGenerator
from randhet.fixed_point.integer import STATE_MAX, Int
from randhet.fixed_point.network import Cuba, Het, Layer, Lif, Network, RandomTau, ReadOut
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
        return self.network.layers[self.index]

    @cached_property
    def sums(self) -> Int:
        """Synaptic sums a, (images, T, *shape)."""
        steps = range(self.network.steps)
        return np.stack([reference.operate(self.layer.operation, [r[:, t] for r in self.read]) for t in steps], 1)

    @cached_property
    def bias(self) -> Int:
        """Biases, broadcastable to the layer's shape."""
        assert self.layer.neuron is not None
        return reference.per_channel(self.layer.neuron.bias, self.sums.shape[2:])

    @cached_property
    def threshold(self) -> Int:
        """Thresholds, broadcastable to the layer's shape."""
        assert isinstance(self.layer.neuron, (RandomTau, Lif, Het, Cuba))
        return reference.per_channel(self.layer.neuron.threshold, self.sums.shape[2:])

    @property
    def membrane(self) -> Int:
        """Membranes before the reset, (images, T, *shape)."""
        assert self.found.membrane is not None
        return self.found.membrane

    @cached_property
    def before(self) -> Int:
        """Membranes that each step starts from: the run's own, reset where it spiked."""
        kept = np.where(self.found.output[:, :-1] != 0, 0, self.membrane[:, :-1])
        return np.concatenate([np.zeros_like(self.membrane[:, :1]), kept], axis=1)

    @cached_property
    def rounds(self) -> Int:
        """Numbers of the draws, (images, T)."""
        neuron, steps = self.layer.neuron, self.network.steps
        images = self.first_image + np.arange(len(self.sums))
        if isinstance(neuron, RandomTau) and neuron.sampling == "forward":
            return np.repeat(images[:, None], steps, 1)
        return images[:, None] * steps + np.arange(steps)

    @cached_property
    def draws(self) -> Int:
        """The draw 0..255 of every neuron, (images, T, *shape)."""
        neuron, shape = self.layer.neuron, self.sums.shape[2:]
        assert isinstance(neuron, RandomTau)
        generator = LayerGenerator(self.seed, self.index, prod(shape), neuron.neurons_per_core)
        known = {number: generator.round(number).astype(np.int64) for number in set(self.rounds.ravel().tolist())}
        return np.stack([known[number] for number in self.rounds.ravel().tolist()]).reshape(self.sums.shape)

    @cached_property
    def decay(self) -> Int:
        """A of every neuron, broadcastable to (images, T, *shape)."""
        neuron = self.layer.neuron
        if isinstance(neuron, RandomTau):
            return neuron.table.astype(np.int64)[self.draws]
        assert isinstance(neuron, (Lif, Het))
        decay = np.asarray(neuron.decay, np.int64)
        return np.broadcast_to(decay.reshape(self.sums.shape[2:]) if decay.ndim else decay, self.sums.shape)

    @cached_property
    def window(self) -> Window:
        """For each value, the currents x that would have given it (`fit.Window`)."""
        neuron = self.layer.neuron
        if isinstance(neuron, ReadOut):
            return Window(self.found.output - self.bias, self.found.output - self.bias, self.sums, 0)
        assert isinstance(neuron, (RandomTau, Lif, Het))
        due = self.sums << neuron.f
        edge = (np.abs(self.membrane) >= STATE_MAX) | (np.abs(due + self.bias) > STATE_MAX)
        low, high = current_window(self.membrane, self.before, self.decay, neuron.k)
        return Window(np.where(edge, -ANY, low - self.bias), np.where(edge, ANY, high - self.bias), due, neuron.f)
