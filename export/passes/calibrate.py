"""Calibration: run on data, look at every current and membrane, lower f where 24 bits do not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, log2

import numpy as np

from randhet.export.graph import ExportError, FloatGraph
from randhet.export.passes.activity import Told, chunks, source, sums, weighted
from randhet.export.passes.quantise import OutOfRange, Plan, quantise
from randhet.fixed_point import reference
from randhet.fixed_point.integer import DECAY_BITS, STATE_MAX
from randhet.fixed_point.network import Layer, Network
from randhet.fixed_point.result import Result

HEADROOM = 1.25
"""The largest current seen on calibration data may be this much larger on other data before it saturates."""
ROUNDS = 6


@dataclass(frozen=True)
class LayerRange:
    """What calibration saw of a layer: largest |x| (before saturation) and |m|, spikes per neuron and step, f."""

    layer: str
    current: int
    membrane: int
    rate: float
    f: int


@dataclass(frozen=True)
class Calibration:
    """Ranges of every layer with membrane potentials over the calibration images; the number of saturations is 0."""

    images: int
    layers: tuple[LayerRange, ...]
    saturations: int


def calibrate(
    graph: FloatGraph, plan: Plan, steps: int, images: np.ndarray, progress: Callable[[str], None] | None = None
) -> tuple[Network, Calibration]:
    """Quantise and measure until nothing comes near 24 bits; ExportError if a layer does not fit even at f = 0."""
    for _ in range(ROUNDS):
        plan, network = representable(graph, plan, steps)
        calibration = measure(network, images)
        if progress:
            progress(f"calibrated on {calibration.images} images, {calibration.saturations} saturations")
        reached = {layer_range.layer: HEADROOM * reach(layer_range, network) for layer_range in calibration.layers}
        tight = {layer: largest for layer, largest in reached.items() if largest > STATE_MAX}
        if not tight:
            return network, calibration
        for layer, largest in tight.items():
            plan = _lower(plan, layer, ceil(log2(largest / STATE_MAX)))
    layer, largest = next(iter(tight.items()))
    raise ExportError(f"layer {layer}: currents of {largest / HEADROOM:.0f} do not settle within 24 bits")


def reach(layer_range: LayerRange, network: Network) -> float:
    """The largest current that was seen.

    Of a CUBA neuron, which is no convex combination, also the membrane potential, and the current with what it may keep
    of earlier ones: x * (1 + a + a^2 + ...) over the steps.
    """
    neuron = next(layer.cuba for layer in network.layers if layer.name == layer_range.layer)
    if neuron is None:
        return layer_range.current
    kept = 1 - (neuron.current_decay + 1) / (1 << DECAY_BITS)
    return max(layer_range.membrane, layer_range.current * float(sum(kept**t for t in range(network.steps))))


def representable(graph: FloatGraph, plan: Plan, steps: int) -> tuple[Plan, Network]:
    """Lower f layer by layer until thresholds and biases fit."""
    while True:
        try:
            return plan, quantise(graph, plan, steps)
        except OutOfRange as fault:
            plan = _lower(plan, fault.layer, 1, str(fault))


def _lower(plan: Plan, layer: str, bits: int, reason: str = "currents leave 24 bits") -> Plan:
    f = plan.f(layer) - max(bits, 1)
    if f < 0:
        raise ExportError(f"layer {layer} does not fit 24 bits even without fractional bits ({reason})")
    return replace(plan, lowered={**plan.lowered, layer: f})


def measure(network: Network, images: np.ndarray, seed: int = 0, done: Told | None = None) -> Calibration:
    """Run the images and record the ranges."""
    layers = [layer for layer in weighted(network) if layer.dynamics]
    ranges = {layer.name: LayerRange(layer.name, 0, 0, 0.0, layer.dynamics.f) for layer in layers if layer.dynamics}
    saturations = 0
    for result in chunks(network, images, seed, done):
        saturations += result.saturations
        for layer in layers:
            ranges[layer.name] = _widened(ranges[layer.name], network, layer, result, len(images))
    return Calibration(len(images), tuple(ranges.values()), saturations)


def _widened(layer_range: LayerRange, network: Network, layer: Layer, result: Result, images: int) -> LayerRange:
    """What has been seen of a layer, with some more images."""
    trace, neuron = result.traces[layer.name], layer.neuron
    assert trace.membrane is not None
    assert neuron is not None
    read = result.traces[source(network, layer)].output
    total = sums(network, layer, read.reshape(-1, *read.shape[2:])).numpy()
    if layer.recurrent is not None:
        before = np.concatenate([np.zeros_like(trace.output[:, :1]), trace.output[:, :-1]], axis=1)
        total = total + before.reshape(-1, len(layer.recurrent)) @ layer.recurrent.astype(np.int64).T
    x = (total * 2.0**layer_range.f) + reference.per_channel(neuron.bias, total.shape[1:])
    return replace(
        layer_range,
        current=max(layer_range.current, int(np.abs(x).max(initial=0))),
        membrane=max(layer_range.membrane, int(np.abs(trace.membrane).max(initial=0))),
        rate=layer_range.rate + result.spikes.get(layer.name, 0) / (images * trace.membrane[0].size),
    )
