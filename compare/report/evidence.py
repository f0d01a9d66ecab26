"""What the report shows beside the comparison: taus drawn, one image trial by trial, operations counted, energy."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.compare.equality.layers import spiking
from randhet.compare.equality.tracing import chunk_size, groups
from randhet.fixed_point import synaptic
from randhet.fixed_point.add_only.counts import Counts
from randhet.fixed_point.chips import chip
from randhet.fixed_point.chips.energy import Activity, Estimate, activity, estimate_of, together
from randhet.fixed_point.chips.mapping import map_network
from randhet.fixed_point.network import Network
from randhet.fixed_point.neurobench import metrics
from randhet.fixed_point.reference import make_generator
from randhet.fixed_point.synaptic import Counted

TRIALS = 16
"""How often one image is shown for the raster."""
COUNTED = 16
"""Images whose operations are counted, at most."""
KEPT = 256
"""Neurons of a layer whose spikes are kept, at most."""
DRAWN = 2**18
"""Taus drawn for the histogram, about."""


@dataclass(frozen=True, eq=False)
class Taus:
    """Decays that a layer drew: how often each A of 0..2^k - 1 was drawn, (2^k,)."""

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
    """One image shown again and again.

    spikes (trials, T, some neurons) and counts (trials, neurons), spikes over all steps, of each layer; predictions
    (trials,).
    """

    image: int
    label: int
    spikes: dict[str, NDArray[np.bool_]]
    counts: dict[str, NDArray[np.int64]]
    predictions: NDArray[np.int64]

    def fano(self, layer: str) -> float | None:
        """Variance over mean of the spikes per trial, the mean over neurons that spiked at all; None without any."""
        counts = self.counts[layer]
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

    synaptic: what every layer read, from which the energy beside an ANN follows; neurobench: metrics by name.
    recording: the first input (T, C, values) where inputs change over time.
    """

    taus: Taus | None
    trials: Trials
    operations: tuple[LayerOperations, ...]
    energy: dict[str, Estimate | str]
    images: int
    synaptic: Counted
    neurobench: dict[str, Any]
    recording: NDArray[np.uint8] | None = None


def gather(network: Network, pixels: NDArray[np.uint8], labels: NDArray[np.int64], seed: int = 0) -> Evidence:
    """Runs the engine on one image and the add-only engine on the first few; images (N, C, Y, X) or recordings."""
    from randhet.fixed_point.add_only.run import run_counted

    counted = pixels[: min(COUNTED, chunk_size(network))]
    _, counts = run_counted(network, counted, seed=seed)
    sent = _sent(network, counted, seed)
    reading = synaptic.counted(network, counted, seed)
    return Evidence(
        taus=taus(network, seed),
        trials=trials(network, pixels, labels, seed),
        operations=tuple(_operations(name, count, len(counted)) for name, count in counts.items()),
        energy={name: _energy(network, name, sent) for name in chip.names()},
        images=len(counted),
        synaptic=reading,
        neurobench=metrics(network, reading),
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

    names = {layer.name for layer in spiking(network)}
    spikes: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in names}
    counts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    kept: dict[str, NDArray[np.int64]] = {}
    predictions = []
    for trial in range(TRIALS):
        for number, group in enumerate(groups(network)):
            result = run(network, pixels[:1], seed=seed, first_image=trial, probes=[*names.intersection(group)])
            for name, trace in result.traces.items():
                fired = trace.output.reshape(network.steps, -1) != 0
                counts[name].append(fired.sum(axis=0))
                # those of the first trial say which neurons are worth a look
                kept[name] = kept[name] if trial else _active(counts[name][0])
                spikes[name].append(fired[:, kept[name]])
            if not number:
                predictions.append(result.predictions)
    stacked = {layer.name: np.stack(spikes[layer.name]) for layer in spiking(network)}
    return Trials(
        0, int(labels[0]), stacked, {name: np.stack(counts[name]) for name in stacked}, np.concatenate(predictions)
    )


def _active(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of some neurons, all where they are few; else of those that spike, spread over the layer."""
    if len(counts) <= KEPT:
        return np.arange(len(counts))
    active = np.flatnonzero(counts)
    active = active if len(active) >= KEPT else np.arange(len(counts))
    return active[np.linspace(0, len(active) - 1, KEPT).astype(np.int64)]


def _sent(network: Network, pixels: NDArray[np.uint8], seed: int) -> Activity:
    """Count what every neuron sends, some layers at a time where the traces of all would not fit in memory."""
    from randhet.fixed_point.engine import run

    parts = (activity(network, pixels, run(network, pixels, seed=seed, probes=names)) for names in groups(network))
    return together(network, parts)


def _operations(name: str, count: Counts, images: int) -> LayerOperations:
    kinds = ("additions", "shifts", "draws", "comparisons", "dense_macs")
    return LayerOperations(name, *(float(getattr(count, kind).sum()) / images for kind in kinds))


def _energy(network: Network, name: str, sent: Activity) -> Estimate | str:
    try:
        return estimate_of(network, map_network(network, chip.load(name)), sent)
    except RandhetError as error:
        return str(error)
