"""Value by value: every backend against the reference, and the float model under the same taus, chunk by chunk.

A chunk is as many images as fit in memory with their traces. Of a longer recording only some layers are traced at a
time, and the runs are repeated for the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray
from torch import nn

from randhet.base.split import IMAGES
from randhet.compare.equality import float_cause, layers
from randhet.compare.equality.layers import Counts
from randhet.compare.equality.replay import FloatTrace, replay
from randhet.export.graph import FloatGraph
from randhet.export.passes import fold
from randhet.export.trace import trace as graph_of
from randhet.fixed_point.backends import Runner, runner
from randhet.fixed_point.diagnosis.difference import explained, where
from randhet.fixed_point.diagnosis.divergence import Divergence, compared, first
from randhet.fixed_point.network import Layer, Network
from randhet.fixed_point.result import Result, Trace
from randhet.train.neurons import neurons

TRACE_BYTES = 2**28
"""Traces are taken of as many images at a time, or layers of one image, as fit in about this size, 256 MB."""


Progress = Callable[[int], None]


def quiet(count: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class BackendFinding:
    """One backend against the reference: how many values were compared, where they first differ, how long it ran."""

    outputs: int = 0
    membranes: int = 0
    seconds: float = 0.0
    divergence: Divergence | None = None

    @property
    def identical(self) -> bool:
        """Whether every compared value was equal."""
        return self.divergence is None


@dataclass(frozen=True)
class SpikeDifference:
    """The first spike that float and integers do not share, and both membranes there in the float model's units."""

    at: Divergence
    float_membrane: float
    fixed_membrane: float


@dataclass(frozen=True, eq=False)
class Tracing:
    """What the traces show. same_tau: images predicted alike by float and fixed; float_divergence: first odd spike."""

    backends: dict[str, BackendFinding]
    same_tau: int
    float_divergence: SpikeDifference | None
    saturations: int
    counts: Counts


def thresholds(model: nn.Module) -> dict[str, float]:
    """Return the float model's threshold of each neuron layer."""
    return {name: module.threshold for name, module in neurons(model).items()}


def chunk_size(network: Network, most: int = IMAGES) -> int:
    """Count the images whose traces fit TRACE_BYTES, at least 1 and at most `most`."""
    return max(1, min(TRACE_BYTES // sum(_bytes(network)), most))


def groups(network: Network) -> list[list[str]]:
    """Split the layers, in order, into groups whose traces of one image fit TRACE_BYTES, at least one layer each."""
    split: list[list[str]] = []
    left = 0
    for layer, size in zip(network.layers, _bytes(network)):
        if not split or size > left:
            split.append([])
            left = TRACE_BYTES
        split[-1].append(layer.name)
        left -= size
    return split


def _bytes(network: Network) -> list[int]:
    """Count the bytes of each layer's trace of one image: output and membrane potential, 8 bytes each."""
    return [16 * network.steps * prod(shape) for shape in network.shapes]


def trace(
    network: Network,
    model: nn.Module,
    pixels: np.ndarray,
    seed: int,
    backends: Mapping[str, Runner],
    done: Progress = quiet,
    graph: FloatGraph | None = None,
    most: int = IMAGES,
) -> Tracing:
    """Compare on all images; `done` is told how many images each of 2 + len(backends) runs has finished.

    graph: the folded float graph of the model, traced where it is not given. most: images of a chunk.
    """
    study = Study(network, model, graph or fold(graph_of(model, network.image_shape)), seed, backends)
    size, tracing = chunk_size(network, most), study.nothing
    for start in range(0, len(pixels), size):
        tracing = study.chunk(pixels[start : start + size], start, tracing, done)
    return tracing


@dataclass(frozen=True, eq=False)
class Traces:
    """What the runs of one chunk gave of some layers; seconds: of each backend."""

    expected: Result
    backends: dict[str, Result]
    seconds: dict[str, float]
    predictions: NDArray[np.int64]
    floats: dict[str, FloatTrace]


@dataclass
class Odd:
    """The first differences in a chunk so far: of each backend, and between float and fixed spikes."""

    backends: dict[str, Divergence | None]
    spike: Divergence | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """What is run on every chunk: the reference, the backends, and the float model with its folded graph."""

    network: Network
    model: nn.Module
    graph: FloatGraph
    seed: int
    backends: Mapping[str, Runner]

    @property
    def nothing(self) -> Tracing:
        """What is seen before the first chunk."""
        return Tracing({name: BackendFinding() for name in self.backends}, 0, None, 0, {})

    def chunk(self, pixels: np.ndarray, start: int, before: Tracing, done: Progress) -> Tracing:
        """Add images from number `start` on to what was seen before them."""
        odd, tracing, split = Odd(dict.fromkeys(self.backends)), before, groups(self.network)
        for number, names in enumerate(split):
            # images, saturations and seconds are counted in the first of the repeated runs
            traces = self.traces(pixels, start, names, quiet if number else done)
            tracing = tracing if number else _counted(tracing, traces)
            tracing = self._compared(names, start, tracing, traces, odd)
        return self._explained(pixels, start, tracing, odd, traces if len(split) == 1 else None)

    def traces(self, pixels: np.ndarray, start: int, names: Sequence[str], done: Progress = quiet) -> Traces:
        """Run everything with traces of these layers."""
        go: Callable[[Runner], Result] = lambda run: run(
            self.network, pixels, seed=self.seed, first_image=start, probes=names, progress=done
        )
        expected = go(runner("reference"))
        results, seconds = {}, {}
        for name, run in self.backends.items():
            begin = time.perf_counter()
            results[name] = go(run)
            seconds[name] = time.perf_counter() - begin
        predictions, floats = replay(self.model, self.network, pixels, self.seed, start, names)
        done(len(pixels))
        return Traces(expected, results, seconds, predictions, floats)

    def _compared(self, names: Sequence[str], start: int, before: Tracing, traces: Traces, odd: Odd) -> Tracing:
        """Add the values of these layers, and note where they first differ."""
        expected, size, backends = traces.expected, compared(traces.expected.traces), {}
        for name, result in traces.backends.items():
            odd.backends[name] = _earlier(odd.backends[name], where(names, expected, result, start))
            finding = before.backends[name]
            outputs, membranes = finding.outputs + size["outputs"], finding.membranes + size["membranes"]
            backends[name] = replace(finding, outputs=outputs, membranes=membranes)
        spiking = [layer for layer in layers.spiking(self.network) if layer.name in names]
        counts = layers.count(spiking, traces.floats, expected.traces, thresholds(self.model))
        odd.spike = _earlier(odd.spike, odd_spike(spiking, traces.floats, expected.traces, start))
        return replace(before, backends=backends, counts=before.counts | layers.add(before.counts, counts))

    def _explained(
        self, pixels: np.ndarray, start: int, found: Tracing, odd: Odd, all_layers: Traces | None
    ) -> Tracing:
        """Add the differences that no chunk before had, with their causes."""
        again = lambda at: all_layers or self.traces(pixels, start, self._read_by(at.layer))
        backends = dict(found.backends)
        for name, at in odd.backends.items():
            if at and backends[name].identical:
                traces = again(at)
                cause = explained(self.network, pixels, traces.expected, traces.backends[name], at, self.seed, start)
                backends[name] = replace(backends[name], divergence=cause)
        if odd.spike is None or found.float_divergence:
            return replace(found, backends=backends)
        traces = again(odd.spike)
        floats, fixed = traces.floats, traces.expected.traces
        difference = explained_spike(self.network, self.graph, odd.spike, floats, fixed, self.seed, start)
        return replace(found, backends=backends, float_divergence=difference)

    def _read_by(self, name: str) -> list[str]:
        """List a layer and those that it reads."""
        every = self.network.layers
        layer = next(layer for layer in every if layer.name == name)
        return [*(every[i].name for i in layer.inputs), name]


def odd_spike(
    spiking: Sequence[Layer], floats: Mapping[str, FloatTrace], fixed: Mapping[str, Trace], start: int
) -> Divergence | None:
    """Find the first spike of these layers that float and integers do not share."""
    return first(floats, fixed, [layer.name for layer in spiking], start, ("output",))


def explained_spike(
    network: Network,
    graph: FloatGraph,
    at: Divergence,
    floats: Mapping[str, FloatTrace],
    fixed: Mapping[str, Trace],
    seed: int,
    start: int,
) -> SpikeDifference:
    """Add the cause and both membrane potentials, in the model's units, to the place of such a spike."""
    layer = next(layer for layer in network.layers if layer.name == at.layer)
    cause = float_cause.explain(network, graph, at, floats, fixed, seed, start)
    index, integers = (at.image - start, at.step, *at.neuron), fixed[at.layer].membrane
    assert integers is not None
    return SpikeDifference(
        replace(at, cause=cause.kind, detail=cause.detail),
        float(floats[at.layer].membrane[index]),
        float(layers.float_units(layer, integers)[index]),
    )


def _counted(before: Tracing, traces: Traces) -> Tracing:
    """Add what a run says of all its layers: predictions, saturations, the time of the backends."""
    expected = traces.expected
    same = int(np.count_nonzero(traces.predictions == expected.predictions))
    timed = {
        name: replace(finding, seconds=finding.seconds + traces.seconds[name])
        for name, finding in before.backends.items()
    }
    return replace(
        before, backends=timed, same_tau=before.same_tau + same, saturations=before.saturations + expected.saturations
    )


def _earlier(one: Divergence | None, other: Divergence | None) -> Divergence | None:
    """Return the earlier of two differences of a run; `one` is of layers before those of the other."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda at: (at.image, at.step))
