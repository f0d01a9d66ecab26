"""What the add-only engine does, counted, and what a dense network of multiply-accumulates would have spent.

Definitions follow NeuroBench where it has them (Yik et al. 2023): an effective accumulate is one addition of a weight
for one spike, `accumulates` here; dense operations are those of every weight at every step. Two differences: a zero
weight that is fetched and added counts here, because the engine spends it, and a graded value counts once for each of
its bits, because that is how it is spent. Activation sparsity is 1 - spike rate of a layer's neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from randhet.fixed_point.engine.plan import Synapse
from randhet.fixed_point.network import Cuba, Layer, Neuron, RandomTau, ReadOut, Shape

Steps = np.ndarray
"""(T,) int64, summed over the images of a run."""


@dataclass(frozen=True, eq=False)
class Counts:
    """One layer, per step. additions = accumulates + doublings + those of the neurons."""

    accumulates: Steps
    doublings: Steps
    weight_fetches: Steps
    additions: Steps
    shifts: Steps
    comparisons: Steps
    draws: Steps
    dense_macs: Steps


@dataclass(frozen=True)
class NeuronCost:
    """Operations of one neuron in one step, without its draw."""

    additions: int
    shifts: int
    comparisons: int


def neuron_cost(neuron: Neuron | None) -> NeuronCost:
    """Read off the kernels: current (shift, bias, four comparisons to clamp and saturate), decay, threshold.

    The decay of k bits is one subtraction, k conditional additions each with a shift of the sum and one of the decay's
    bit, and the final addition. CUBA has two decays of 13 bits.
    """
    if neuron is None or isinstance(neuron, ReadOut):
        return NeuronCost(2, 0, 0)
    if isinstance(neuron, Cuba):
        return NeuronCost(2 * 13 + 3, 2 * (2 * 13 + 1) + 1, 2 + 2 + 2 + 1)
    return NeuronCost(1 + neuron.k + neuron.k + 1, 1 + 2 * neuron.k, 5)


def count_layer(layer: Layer, shape: Shape, synapse: Synapse, planes: int, rows: Steps, images: int) -> Counts:
    """Counts from the weight rows spent, times channels (T,), summed over images."""
    neurons = int(np.prod(shape))
    per_step = np.full(len(rows), images * neurons, np.int64)
    cost = neuron_cost(layer.neuron)
    doublings = per_step * (planes - 1)
    taps = int((synapse.window >= 0).sum())
    draws = per_step if isinstance(layer.neuron, RandomTau) else np.zeros_like(per_step)
    if isinstance(layer.neuron, RandomTau) and layer.neuron.sampling == "forward":
        draws = np.where(np.arange(len(rows)) == 0, per_step, 0)
    return Counts(
        accumulates=rows,
        doublings=doublings,
        weight_fetches=rows,
        additions=rows + doublings + per_step * cost.additions,
        shifts=per_step * cost.shifts,
        comparisons=per_step * cost.comparisons,
        draws=draws,
        dense_macs=np.full(len(rows), images * taps * synapse.per_tap * synapse.channels, np.int64),
    )


def total_operations(counts: Mapping[str, Counts]) -> dict[str, int]:
    """Sums over layers and steps under the keys of the command line; multiply is 0 because no kernel has one."""
    keys = {"add": "additions", "shift": "shifts", "draw": "draws", "fetch": "weight_fetches", "compare": "comparisons"}
    totals = {key: int(sum(getattr(count, name).sum() for count in counts.values())) for key, name in keys.items()}
    return totals | {"multiply": 0, "dense_mac": int(sum(count.dense_macs.sum() for count in counts.values()))}
