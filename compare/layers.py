"""Layer by layer under the same taus: the float model's spikes and membranes against the integer network's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compare.replay import FloatTrace
from fixed_point.network import Accumulate, Layer, Network
from fixed_point.result import Trace


def spiking(network: Network) -> list[Layer]:
    """The layers that spike, in order."""
    return [layer for layer in network.layers if layer.neuron and not isinstance(layer.neuron, Accumulate)]


def float_units(layer: Layer, membrane: NDArray[np.int64]) -> NDArray[np.float64]:
    """Integer membranes (images, T, C, ...) times scale_c * 2^-f: in the units of the float model."""
    assert layer.scale is not None
    assert layer.neuron is not None
    assert not isinstance(layer.neuron, Accumulate)
    unit = layer.scale * 2.0**-layer.neuron.f
    return membrane * unit.reshape(-1, *[1] * (membrane.ndim - 3))


@dataclass(frozen=True)
class LayerFinding:
    """One spiking layer under the same taus.

    rates: spikes per neuron and step; same_spikes: share of neuron-steps with the same spike (0..1); mean_error: mean
    |float - fixed| membrane before the reset, in the float model's units, over all neuron-steps.
    """

    layer: str
    neurons: int
    f: int
    threshold: float
    float_rate: float
    fixed_rate: float
    same_spikes: float
    mean_error: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Count:
    """Sums over some images, so that chunks of a long run add up."""

    values: int
    float_spikes: int
    fixed_spikes: int
    same: int
    error: float

    def __add__(self, other: _Count) -> _Count:
        return _Count(
            self.values + other.values,
            self.float_spikes + other.float_spikes,
            self.fixed_spikes + other.fixed_spikes,
            self.same + other.same,
            self.error + other.error,
        )


Counts = dict[str, _Count]


def count(network: Network, floats: Mapping[str, FloatTrace], fixed: Mapping[str, Trace]) -> Counts:
    """The sums of one chunk of images, by layer."""
    return {layer.name: _count(layer, floats[layer.name], fixed[layer.name]) for layer in spiking(network)}


def _count(layer: Layer, one: FloatTrace, other: Trace) -> _Count:
    assert other.membrane is not None
    error = np.abs(one.membrane - float_units(layer, other.membrane))
    return _Count(
        error.size,
        int(one.output.sum()),
        int(other.output.sum()),
        int(np.count_nonzero(one.output == other.output)),
        float(error.sum()),
    )


def add(a: Counts, b: Counts) -> Counts:
    """The sums of two chunks."""
    return {name: b[name] if name not in a else a[name] + b[name] for name in b}


def findings(network: Network, counts: Counts, images: int, threshold: Mapping[str, float]) -> tuple[LayerFinding, ...]:
    """What the sums over `images` images say about each layer."""
    found = []
    for layer in spiking(network):
        c, neuron = counts[layer.name], layer.neuron
        assert neuron is not None
        assert not isinstance(neuron, Accumulate)
        found.append(
            LayerFinding(
                layer=layer.name,
                neurons=c.values // (images * network.steps),
                f=neuron.f,
                threshold=threshold[layer.name],
                float_rate=c.float_spikes / c.values,
                fixed_rate=c.fixed_spikes / c.values,
                same_spikes=c.same / c.values,
                mean_error=c.error / c.values,
            )
        )
    return tuple(found)
