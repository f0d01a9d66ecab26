"""Calibration: run on data, look at every current and membrane, lower f where 24 bits do not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2

import numpy as np

from export.graph import ExportError, FloatGraph
from export.passes.quantise import OutOfRange, Plan, quantise
from fixed_point import reference
from fixed_point.integer import STATE_MAX, Int
from fixed_point.network import Accumulate, Layer, Network, SpikingNeuron
from fixed_point.shape import shapes

HEADROOM = 1.25
"""The largest current seen on calibration data may be this much larger on other data before it saturates."""
ROUNDS = 4


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
    """Ranges of every spiking layer over the calibration images, and the number of saturations, which is 0."""

    images: int
    layers: tuple[LayerRange, ...]
    saturations: int


def calibrate(
    graph: FloatGraph, plan: Plan, steps: int, images: np.ndarray, progress: Callable[[str], None] | None = None
) -> tuple[Network, Calibration]:
    """Quantise and measure until nothing comes near 24 bits; ExportError if a layer does not fit even at f = 0."""
    for _ in range(ROUNDS):
        plan, network = _representable(graph, plan, steps)
        found = measure(network, images)
        if progress:
            progress(f"calibrated on {found.images} images, {found.saturations} saturations")
        tight = [seen for seen in found.layers if seen.current * HEADROOM > STATE_MAX]
        if not tight:
            return network, found
        for seen in tight:
            plan = _lower(plan, seen.layer, ceil(log2(seen.current * HEADROOM / STATE_MAX)))
    raise ExportError(f"layer {tight[0].layer}: currents of {tight[0].current} do not settle within 24 bits")


def _representable(graph: FloatGraph, plan: Plan, steps: int) -> tuple[Plan, Network]:
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
    return Plan(plan.settings, {**plan.lowered, layer: f})


def measure(network: Network, images: np.ndarray, seed: int = 0) -> Calibration:
    """Run the reference and record the ranges."""
    currents: dict[str, int] = {}

    def observe(layer: Layer, t: int, total: Int) -> None:
        neuron = layer.neuron
        if neuron is not None and not isinstance(neuron, Accumulate):
            x = (total << neuron.f) + reference.per_channel(neuron.bias, total.shape[1:])
            currents[layer.name] = max(currents.get(layer.name, 0), int(np.abs(x).max(initial=0)))

    cells = spiking_layers(network)
    peaks = dict.fromkeys(cells, 0)
    spikes = dict.fromkeys(cells, 0)
    saturations = 0
    for image in range(0, len(images), 8):
        part = images[image : image + 8]
        result = reference.run(network, part, seed=seed, first_image=image, probes=list(cells), observer=observe)
        saturations += result.saturations
        for name in cells:
            membrane = result.traces[name].membrane
            assert membrane is not None
            peaks[name] = max(peaks[name], int(np.abs(membrane).max(initial=0)))
            spikes[name] += result.spikes[name]
    size = {layer.name: int(np.prod(shape)) for layer, shape in zip(network.layers, shapes(network))}
    chances = len(images) * network.steps
    ranges = [
        LayerRange(name, currents[name], peaks[name], spikes[name] / (chances * size[name]), neuron.f)
        for name, neuron in cells.items()
    ]
    return Calibration(len(images), tuple(ranges), saturations)


def spiking_layers(network: Network) -> dict[str, SpikingNeuron]:
    """Neurons that spike, by layer name."""
    return {
        layer.name: layer.neuron
        for layer in network.layers
        if layer.neuron is not None and not isinstance(layer.neuron, Accumulate)
    }
