"""Layer by layer and step by step under the same taus: the float model's spikes and membranes against the integers'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.compare.equality.replay import FloatTrace
from randhet.fixed_point.network import Layer, Network, Spiking
from randhet.fixed_point.result import Trace


def spiking(network: Network) -> list[Layer]:
    """List the layers that spike, in order."""
    return [layer for layer in network.layers if layer.spikes]


def cell(layer: Layer) -> Spiking:
    """Return the neuron of a layer that spikes."""
    assert layer.spiking is not None
    return layer.spiking


def float_units(layer: Layer, membrane: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return integer membranes (images, T, C, ...) times scale_c * 2^-f: in the units of the float model."""
    return membrane * layer.unit.reshape(-1, *[1] * (membrane.ndim - 3))


@dataclass(frozen=True)
class StepFinding:
    """One layer at one step, or at all of them.

    rates: spikes per neuron and step; mismatch: share of neurons (0..1) whose spike differs; error: mean
    |float - fixed| membrane before the reset, in thresholds; snr: 10 log10(sum float^2 / sum (float - fixed)^2) in dB,
    None without any error.
    """

    float_rate: float
    fixed_rate: float
    mismatch: float
    error: float
    snr: float | None


@dataclass(frozen=True)
class LayerFinding:
    """One spiking layer under the same taus. threshold: the float model's; whole: over all steps; steps: each."""

    layer: str
    neurons: int
    f: int
    threshold: float
    whole: StepFinding
    steps: tuple[StepFinding, ...]

    @property
    def same_spikes(self) -> float:
        """Share of neuron-steps with the same spike, 0..1."""
        return 1 - self.whole.mismatch

    def as_dict(self) -> dict[str, Any]:
        """Return the whole layer's numbers beside its name, then those of each step."""
        own = {"layer": self.layer, "neurons": self.neurons, "f": self.f, "threshold": self.threshold}
        steps = [asdict(step) for step in self.steps]
        return own | asdict(self.whole) | {"same_spikes": self.same_spikes, "steps": steps}


Sums = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Count:
    """Sums over images and neurons at each step, (T,), so that chunks of a long run add up. Membranes in thresholds."""

    values: Sums
    float_spikes: Sums
    fixed_spikes: Sums
    unequal: Sums
    error: Sums
    noise: Sums
    signal: Sums

    def __add__(self, other: Count) -> Count:
        return Count(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    @property
    def whole(self) -> Count:
        """All steps together, (1,)."""
        return Count(**{name: getattr(self, name).sum(keepdims=True) for name in self.__dataclass_fields__})


Counts = dict[str, Count]


def count(
    spiking: Sequence[Layer],
    floats: Mapping[str, FloatTrace],
    fixed: Mapping[str, Trace],
    threshold: Mapping[str, float],
) -> Counts:
    """Compute the sums of one chunk of images, for each of these layers."""
    return {
        layer.name: _count(layer, floats[layer.name], fixed[layer.name], threshold[layer.name]) for layer in spiking
    }


def _count(layer: Layer, float_trace: FloatTrace, fixed_trace: Trace, threshold: float) -> Count:
    assert fixed_trace.membrane is not None
    membrane = float_trace.membrane.astype(np.float64)
    error = (membrane - float_units(layer, fixed_trace.membrane)) / threshold
    by_step = lambda values: values.swapaxes(0, 1).reshape(values.shape[1], -1).sum(axis=1, dtype=np.float64)
    return Count(
        values=by_step(np.ones_like(membrane)),
        float_spikes=by_step(float_trace.output),
        fixed_spikes=by_step(fixed_trace.output),
        unequal=by_step(float_trace.output != fixed_trace.output),
        error=by_step(np.abs(error)),
        noise=by_step(error**2),
        signal=by_step((membrane / threshold) ** 2),
    )


def add(a: Counts, b: Counts) -> Counts:
    """Add the sums of two chunks."""
    return {name: b[name] if name not in a else a[name] + b[name] for name in b}


def findings(network: Network, counts: Counts, images: int, threshold: Mapping[str, float]) -> tuple[LayerFinding, ...]:
    """Derive each layer's findings from the sums over `images` images."""
    return tuple(
        LayerFinding(
            layer=layer.name,
            neurons=int(counts[layer.name].values[0]) // images,
            f=cell(layer).f,
            threshold=threshold[layer.name],
            whole=_step(counts[layer.name].whole, 0),
            steps=tuple(_step(counts[layer.name], t) for t in range(network.steps)),
        )
        for layer in spiking(network)
    )


def _step(sums: Count, t: int) -> StepFinding:
    size = sums.values[t]
    return StepFinding(
        float_rate=float(sums.float_spikes[t] / size),
        fixed_rate=float(sums.fixed_spikes[t] / size),
        mismatch=float(sums.unequal[t] / size),
        error=float(sums.error[t] / size),
        snr=decibels(float(sums.signal[t]), float(sums.noise[t])),
    )


def decibels(signal: float, noise: float) -> float | None:
    """Compute 10 log10(signal / noise); None without noise, minus infinity made -999 without signal, for JSON."""
    if noise == 0:
        return None
    ratio = 10 * log10(signal / noise) if signal else -inf
    return max(ratio, -999.0)
