"""What the report shows beside the comparison: taus drawn, one image trial by trial, operations counted, energy."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.compare.equality.layers import spiking
from randhet.fixed_point.add_only.counts import Counts
from randhet.fixed_point.chips import chip
from randhet.fixed_point.chips.energy import Estimate, estimate
from randhet.fixed_point.chips.mapping import map_network
from randhet.fixed_point.network import Network
from randhet.fixed_point.reference import make_generator
from randhet.fixed_point.result import Result

TRIALS = 16
"""How often one image is shown for the raster."""
COUNTED = 16
"""Images whose operations are counted, at most."""
DRAWN = 2**18
"""Taus drawn for the histogram, about."""


@dataclass(frozen=True, eq=False)
class Taus:
    """Decays that a layer's registers gave: how often each A of 0..2^k - 1 was drawn, (2^k,)."""

    layer: str
    k: int
    sigma: float
    counts: NDArray[np.int64]

    @property
    def values(self) -> NDArray[np.float64]:
        """tau = A / 2^k."""
        return np.arange(len(self.counts)) / 2.0**self.k

    @property
    def mean(self) -> float:
        """Mean tau, 0..1."""
        return float((self.values * self.counts).sum() / self.counts.sum())

    @property
    def drawn(self) -> int:
        """How many decays were drawn."""
        return int(self.counts.sum())


@dataclass(frozen=True, eq=False)
class Trials:
    """One image shown again and again: spikes (trials, T, neurons) of each layer, predictions (trials,)."""

    image: int
    label: int
    spikes: dict[str, NDArray[np.bool_]]
    predictions: NDArray[np.int64]

    def fano(self, layer: str) -> float | None:
        """Variance over mean of the spikes per trial, the mean over neurons that spiked at all; None without any."""
        counts = self.spikes[layer].sum(axis=1)
        mean = counts.mean(axis=0)
        active = mean > 0
        return float((counts.var(axis=0, ddof=1)[active] / mean[active]).mean()) if active.any() else None


@dataclass(frozen=True)
class LayerOperations:
    """Of one layer and image, the mean: what the add-only engine did, beside a dense network's multiply-accumulates."""

    layer: str
    additions: float
    shifts: float
    draws: float
    comparisons: float
    dense_macs: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """taus None: nothing is drawn; energy: by chip, an estimate or why there is none; images: how many were counted.

    recording: the first input (T, C, values) where inputs change over time.
    """

    taus: Taus | None
    trials: Trials
    operations: tuple[LayerOperations, ...]
    energy: dict[str, Estimate | str]
    images: int
    recording: NDArray[np.uint8] | None = None


def gather(network: Network, pixels: NDArray[np.uint8], labels: NDArray[np.int64], seed: int = 0) -> Evidence:
    """Runs the engine on one image and the add-only engine on the first few; images (N, C, Y, X) or recordings."""
    from randhet.fixed_point.add_only.run import run_counted

    counted = pixels[:COUNTED]
    result, counts = run_counted(network, counted, seed=seed, probes=[layer.name for layer in network.layers])
    return Evidence(
        taus=taus(network, seed),
        trials=trials(network, pixels, labels, seed),
        operations=tuple(_operations(name, count, len(counted)) for name, count in counts.items()),
        energy={name: _energy(network, name, counted, result) for name in chip.names()},
        images=len(counted),
        recording=pixels[0].reshape(*pixels.shape[1:3], -1) if network.input.sequence else None,
    )


def taus(network: Network, seed: int) -> Taus | None:
    """Draws of the first layer that draws at all."""
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes)):
        if layer.lif and layer.drawn:
            neurons, k, decay = prod(shape), layer.lif.k, layer.drawn
            generator = make_generator(network.generator, seed, i, neurons, decay.neurons_per_core)
            draws = generator.rounds(0, max(1, DRAWN // neurons))
            return Taus(layer.name, k, decay.sigma, np.bincount(decay.table[draws.ravel()], minlength=2**k))
    return None


def trials(network: Network, pixels: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> Trials:
    """The first image again and again, each time with the draws that come next."""
    from randhet.fixed_point.engine import run

    names = [layer.name for layer in spiking(network)]
    result = run(network, np.repeat(pixels[:1], TRIALS, axis=0), seed=seed, probes=names)
    spikes = {name: result.traces[name].output.reshape(TRIALS, network.steps, -1) != 0 for name in names}
    return Trials(0, int(labels[0]), spikes, result.predictions)


def _operations(name: str, count: Counts, images: int) -> LayerOperations:
    kinds = ("additions", "shifts", "draws", "comparisons", "dense_macs")
    return LayerOperations(name, *(float(getattr(count, kind).sum()) / images for kind in kinds))


def _energy(network: Network, name: str, pixels: NDArray[np.uint8], result: Result) -> Estimate | str:
    try:
        return estimate(network, map_network(network, chip.load(name)), pixels, result)
    except RandhetError as error:
        return str(error)
