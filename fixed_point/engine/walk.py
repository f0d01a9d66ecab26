"""The way of images through a network, the same for both engines: batch by batch, span by span, layer by layer.

Long recordings are taken in spans of steps, between which the neurons' state is carried on: what is held at once does
not grow with T. Only probed layers are recorded over all steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from randhet.base.errors import RandhetError
from randhet.base.kinds import assert_never
from randhet.fixed_point import reference
from randhet.fixed_point.engine.moves import Values, logical, move
from randhet.fixed_point.engine.plan import Span, last_reader
from randhet.fixed_point.network import Network, Read, read_of
from randhet.fixed_point.result import Result, Trace

LONGEST = 32
"""Steps of a span: enough for a pixel's weights to be used again and again, few enough for any memory."""
State = TypeVar("State")
"""What a layer carries on from span to span."""


class Sent(NamedTuple):
    """What a layer sends in a span; membranes before the reset where they are recorded; spikes and saturations."""

    values: Values
    membranes: Values | None = None
    spikes: int = 0
    saturations: int = 0


class Crew(NamedTuple):
    """Threads, and how many they are."""

    pool: ThreadPoolExecutor
    workers: int


class Walk(Generic[State]):
    """A loaded network; probes: names of the layers that are traced. Engines say how a layer with weights is run."""

    def __init__(self, network: Network, probes: Collection[str]) -> None:
        self.network, self.probes, self.last = network, frozenset(probes), last_reader(network)

    def weigh(self, i: int, values: Values, span: Span, carried: dict[int, State] | None, crew: Crew) -> Sent:
        """Run layer i, one with weights, from the state carried if any, which moves on."""
        raise NotImplementedError

    def moved(self, i: int, read: list[Values], sent: Values, span: Span) -> None:
        """Take notice of layer i, one without weights."""

    def release(self, i: int, values: Values) -> None:
        """Take back what layer i sent, once nobody reads it any more."""

    def run(
        self,
        images: np.ndarray,
        first: int,
        batch: int,
        threads: int | None,
        progress: Callable[[int], None] | None,
        stream: bool,
    ) -> Result:
        """Run images, the first of which has a number, in batches; in a stream one after another, state carried on."""
        parts: list[Result] = []
        workers, carried = threads or os.cpu_count() or 1, dict[int, State]()
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(images), 1 if stream else batch):
                chunk = images[start : start + (1 if stream else batch)]
                parts.append(self.batch(chunk, first + start, Crew(pool, workers), carried if stream else None))
                if progress:
                    progress(len(chunk))
        return reference.join(parts, self.network)

    def batch(self, images: np.ndarray, first: int, crew: Crew, carried: dict[int, State] | None) -> Result:
        """All layers for a few images, all steps."""
        reading, spans = Reading(self.network, self.probes), list(spans_of(first, len(images), self.network.steps))
        if len(spans) > 1 and carried is None:
            carried = {}
        for span in spans:
            self._span(images, span, reading, crew, carried)
        return reading.result(len(images))

    def _span(
        self, images: np.ndarray, span: Span, reading: Reading, crew: Crew, carried: dict[int, State] | None
    ) -> None:
        layers, kept = self.network.layers, dict[int, Values]()
        frames = images[:, span.start : span.stop] if self.network.input.sequence else images[:, None]
        for i, layer in enumerate(layers):
            read = [kept[source] for source in layer.inputs]
            if layer.weighted:
                sent = self.weigh(i, read[0], span, carried, crew)
            else:
                sent = self._move(i, read, frames, span, crew)
            kept[i] = sent.values
            reading.take(i, sent, span)
            for source in {source for source in kept if self.last[source] <= i < len(layers) - 1}:
                self.release(source, kept.pop(source))
        reading.read(kept[len(layers) - 1], span)

    def _move(self, i: int, read: list[Values], frames: np.ndarray, span: Span, crew: Crew) -> Sent:
        layer, network = self.network.layers[i], self.network
        shape = network.shapes[layer.inputs[0]] if layer.inputs else ()
        values = move(layer.operation, read, frames, shape, network.ranges[i], crew.pool.map)
        self.moved(i, read, values, span)
        return Sent(values)


def require_room(threads: int | None, batch: int) -> None:
    """Raise RandhetError unless there is at least one thread, and one image in a batch."""
    if (threads is not None and threads < 1) or batch < 1:
        raise RandhetError(f"threads {threads} and batch {batch} must be at least 1")


def spans_of(first: int, images: int, steps: int) -> Iterator[Span]:
    """Spans of all steps, as few and as alike as at most `LONGEST` steps allow."""
    edges = np.linspace(0, steps, -(-steps // LONGEST) + 1).astype(int).tolist()
    for start, stop in pairwise(edges):
        yield Span(first, images, steps, start, stop)


class Reading:
    """What a batch gives: traces of probed layers, counts, and what is read of the last layer."""

    def __init__(self, network: Network, probes: Collection[str]) -> None:
        self.network, self.sums, self.saturations = network, np.empty(0, np.int64), 0
        self.spikes = {layer.name: 0 for layer in network.layers if layer.spikes}
        self.outputs: dict[str, list[np.ndarray]] = {layer.name: [] for layer in network.layers if layer.name in probes}
        self.membranes: dict[str, list[np.ndarray]] = {name: [] for name in self.outputs}

    def take(self, i: int, sent: Sent, span: Span) -> None:
        """Count and record one layer's span."""
        layer, shape = self.network.layers[i], self.network.shapes[i]
        self.saturations += sent.saturations
        if layer.spikes:
            self.spikes[layer.name] += sent.spikes
        if layer.name in self.outputs:
            self.outputs[layer.name].append(logical(sent.values, span.count, shape))
            if sent.membranes is not None:
                self.membranes[layer.name].append(logical(sent.membranes, span.count, shape))

    def read(self, values: Values, span: Span) -> None:
        """Read one span of the last layer."""
        read = read_of(self.network.layers[-1].neuron)
        steps = logical(values, span.count, self.network.shapes[-1]).reshape(len(values), span.count, -1)
        self.sums = reference.read_on(self.sums if span.start else None, over(steps, read), read)

    def result(self, images: int) -> Result:
        """What was read, for so many images."""
        traces = {self.network.layers[i].name: self._trace(i) for i in self._probed()}
        return Result(self.sums.argmax(axis=1), self.sums, self.spikes, self.saturations, traces=traces)

    def _probed(self) -> list[int]:
        return [i for i, layer in enumerate(self.network.layers) if layer.name in self.outputs]

    def _trace(self, i: int) -> Trace:
        layer = self.network.layers[i]
        output = np.concatenate(self.outputs[layer.name], axis=1)
        if layer.neuron is not None and layer.dynamics is None:  # the classifier's sums so far
            return Trace(output, output.cumsum(axis=1))
        recorded = self.membranes[layer.name]
        return Trace(output, np.concatenate(recorded, axis=1) if recorded else None)


def over(steps: np.ndarray, read: Read) -> np.ndarray:
    """What is read of some steps (images, steps, outputs)."""
    match read:
        case "sum":
            return steps.sum(axis=1)
        case "last":
            return steps[:, -1]
        case "max":
            return steps.max(axis=1)
        case _:
            assert_never(read)
