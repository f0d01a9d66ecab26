"""What a network is made of, and the rules of the arithmetic with the value each layer has against its limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from fixed_point.check import SUM_LIMIT, WEIGHT_MAX
from fixed_point.generator import core_starts
from fixed_point.integer import STATE_MAX
from fixed_point.network import Accumulate, Conv, Dense, Layer, Network, RandomTau, Shape
from fixed_point.shape import bounds, peaks, shapes

NEURONS_PER_CORE = 1024
CORES_PER_CHIP = 128
"""Loihi: 1024 compartments per core, 128 cores per chip. Source: Davies et al., IEEE Micro 2018."""
GRADED_BITS = 32
"""Widest graded spike of Loihi 2. Source: Intel technology brief, 2021."""


@dataclass(frozen=True)
class LayerFacts:
    """bits: width of what the layer sends; scale: least and largest float value of one weight unit, None without."""

    layer: str
    operation: str
    neuron: str | None
    shape: Shape
    bits: int
    f: int | None
    k: int | None
    scale: tuple[float, float] | None
    threshold: tuple[int, int] | None
    weights: int
    largest_sum: int
    cores: int


@dataclass(frozen=True)
class RuleFinding:
    """A rule for one layer: the value, the limit, whether it holds."""

    rule: str
    layer: str
    value: int
    limit: int

    @property
    def ok(self) -> bool:
        return self.value <= self.limit


def facts(network: Network) -> list[LayerFacts]:
    """Every layer in order."""
    rows = zip(network.layers, shapes(network), peaks(network), bounds(network))
    return [_facts(layer, shape, peak, bound) for layer, shape, peak, bound in rows]


def _facts(layer: Layer, shape: Shape, peak: int, bound: int) -> LayerFacts:
    neuron, operation = layer.neuron, layer.operation
    threshold = getattr(neuron, "threshold", None)
    return LayerFacts(
        layer=layer.name,
        operation=type(operation).__name__,
        neuron=type(neuron).__name__ if neuron else None,
        shape=shape,
        bits=max(1, peak.bit_length()),
        f=getattr(neuron, "f", None),
        k=getattr(neuron, "k", None),
        scale=None if layer.scale is None else (float(layer.scale.min()), float(layer.scale.max())),
        threshold=None if threshold is None else (int(threshold.min()), int(threshold.max())),
        weights=operation.weight.size if isinstance(operation, (Conv, Dense)) else 0,
        largest_sum=bound,
        cores=cores(layer, shape),
    )


def cores(layer: Layer, shape: Shape) -> int:
    """Cores that a layer's neurons fill, at most `neurons_per_core` each; 0 for a layer without neurons."""
    if layer.neuron is None:
        return 0
    per_core = layer.neuron.neurons_per_core if isinstance(layer.neuron, RandomTau) else NEURONS_PER_CORE
    return len(core_starts(prod(shape), per_core))


def chips(core_count: int) -> int:
    """Chips that so many cores fill."""
    return ceil(core_count / CORES_PER_CHIP)


def rules(network: Network) -> Iterator[RuleFinding]:
    """The number formats of the arithmetic, layer by layer."""
    for layer, peak, bound in zip(network.layers, peaks(network), bounds(network)):
        operation, neuron = layer.operation, layer.neuron
        if isinstance(operation, (Conv, Dense)):
            largest = int(np.abs(operation.weight.astype(np.int64)).max())
            yield RuleFinding("weight fits 8 bits", layer.name, largest, WEIGHT_MAX)
            yield RuleFinding("synaptic sum fits 32 bits", layer.name, bound, SUM_LIMIT - 1)
        if isinstance(neuron, Accumulate):
            continue
        yield RuleFinding("sent value fits a graded spike", layer.name, max(1, peak.bit_length()), GRADED_BITS)
        if neuron is not None:
            yield RuleFinding("threshold fits 24 bits", layer.name, int(neuron.threshold.max()), STATE_MAX)
            yield RuleFinding(
                "bias fits 24 bits", layer.name, int(np.abs(neuron.bias.astype(np.int64)).max()), STATE_MAX
            )
