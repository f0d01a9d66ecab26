"""Value by value: every backend against the reference, and the float model under the same taus, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from torch import nn

from randhet.compare.equality import float_cause, layers
from randhet.compare.equality.layers import Counts
from randhet.compare.equality.replay import FloatTrace, replay
from randhet.export.graph import FloatGraph
from randhet.export.passes import fold
from randhet.export.trace import trace as graph_of
from randhet.fixed_point.backends import Runner, runner
from randhet.fixed_point.diagnosis.difference import divergence
from randhet.fixed_point.diagnosis.divergence import Divergence, compared, first
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Result, Trace
from randhet.train.neurons import neurons

TRACE_BYTES = 2**28
"""Traces are taken of as many images at a time as fit in about this size, 256 MB."""


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


def chunk_size(network: Network) -> int:
    """Count the images whose traces (output and membrane, 8 bytes each) fit TRACE_BYTES, at least 1."""
    return max(1, TRACE_BYTES // (16 * network.steps * sum(map(prod, network.shapes))))


def trace(
    network: Network,
    model: nn.Module,
    pixels: np.ndarray,
    seed: int,
    backends: Mapping[str, Runner],
    done: Callable[[int], None] = lambda count: None,
    graph: FloatGraph | None = None,
) -> Tracing:
    """Compare on all images; `done` is told how many images each of 2 + len(backends) runs has finished.

    graph: the folded float graph of the model, traced where it is not given.
    """
    graph = graph or fold(graph_of(model, network.image_shape))
    size = chunk_size(network)
    tracing = Tracing({name: BackendFinding() for name in backends}, 0, None, 0, {})
    for start in range(0, len(pixels), size):
        tracing = _chunk(network, model, pixels[start : start + size], seed, start, backends, tracing, done, graph)
    return tracing


def _chunk(
    network: Network,
    model: nn.Module,
    pixels: np.ndarray,
    seed: int,
    start: int,
    runners: Mapping[str, Runner],
    before: Tracing,
    done: Callable[[int], None],
    graph: FloatGraph,
) -> Tracing:
    names = [layer.name for layer in network.layers]
    expected = runner("reference")(network, pixels, seed=seed, first_image=start, probes=names, progress=done)
    backends = {
        name: _against(run, network, pixels, seed, start, expected, before.backends[name], done)
        for name, run in runners.items()
    }
    predictions, floats = replay(model, network, pixels, seed, start)
    done(len(pixels))
    return Tracing(
        backends,
        before.same_tau + int(np.count_nonzero(predictions == expected.predictions)),
        before.float_divergence or _first_spike(network, graph, floats, expected.traces, seed, start),
        before.saturations + expected.saturations,
        layers.add(before.counts, layers.count(network, floats, expected.traces, thresholds(model))),
    )


def _first_spike(
    network: Network,
    graph: FloatGraph,
    floats: Mapping[str, FloatTrace],
    fixed: Mapping[str, Trace],
    seed: int,
    start: int,
) -> SpikeDifference | None:
    spiking = {layer.name: layer for layer in layers.spiking(network)}
    spike = first(floats, fixed, spiking, start, ("output",))
    if spike is None:
        return None
    cause = float_cause.explain(network, graph, spike, floats, fixed, seed, start)
    index, integers = (spike.image - start, spike.step, *spike.neuron), fixed[spike.layer].membrane
    assert integers is not None
    return SpikeDifference(
        replace(spike, cause=cause.kind, detail=cause.detail),
        float(floats[spike.layer].membrane[index]),
        float(layers.float_units(spiking[spike.layer], integers)[index]),
    )


def _against(
    run: Runner,
    network: Network,
    pixels: np.ndarray,
    seed: int,
    start: int,
    expected: Result,
    before: BackendFinding,
    done: Callable[[int], None],
) -> BackendFinding:
    names = [layer.name for layer in network.layers]
    begin = time.perf_counter()
    result = run(network, pixels, seed=seed, first_image=start, probes=names, progress=done)
    seconds = time.perf_counter() - begin
    size = compared(expected.traces)
    return BackendFinding(
        before.outputs + size["outputs"],
        before.membranes + size["membranes"],
        before.seconds + seconds,
        before.divergence or divergence(network, pixels, expected, result, seed, start),
    )
