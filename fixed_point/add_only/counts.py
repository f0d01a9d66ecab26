"""What the add-only engine does, counted, and what a dense network of multiply-accumulates would have spent.

Definitions follow NeuroBench where it has them (Yik et al. 2023): an effective accumulate is one addition of a weight
for one spike, `accumulates` here; dense operations are those of every weight at every step. Two differences: a zero
weight that is fetched and added counts here, because the engine spends it, and a graded value counts once for each of
its bits, because that is how it is spent. Activation sparsity is 1 - spike rate of a layer's neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Conv,
    Dense,
    Drawn,
    Flatten,
    Iand,
    Input,
    MaxPool,
    Operation,
    Shape,
    Spread,
    SumPool,
)

if TYPE_CHECKING:
    from randhet.fixed_point.add_only.job import Loaded

Steps = np.ndarray
"""(T,) int64, summed over the images of a run."""


@dataclass(frozen=True, eq=False)
class Counts:
    """One layer, per step. additions = accumulates + doublings + those of the neurons, or of sums without weights."""

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


def count_layer(loaded: Loaded, rows: Steps, images: int) -> Counts:
    """Counts from the weight rows spent, times channels (T,), summed over images."""
    synapse, cost = loaded.synapse, loaded.cost
    per_step = np.full(len(rows), images * prod(loaded.context.shape), np.int64)
    doublings = per_step * (loaded.planes - 1)
    taps = int((synapse.window >= 0).sum())
    return Counts(
        accumulates=rows,
        doublings=doublings,
        weight_fetches=rows,
        additions=rows + doublings + per_step * cost.additions,
        shifts=per_step * cost.shifts,
        comparisons=per_step * cost.comparisons,
        draws=_draws(loaded.layer.drawn, per_step),
        dense_macs=np.full(len(rows), images * taps * synapse.per_tap * synapse.channels, np.int64),
    )


def count_move(operation: Operation, shape: Shape, read: int, images: Steps) -> Counts | None:
    """Counts of a layer without weights, None where it only moves values; images (T,) for which a step was done.

    shape is that of what it sends, read the number of layers that it reads.
    """
    cost = move_cost(operation, read)
    if not any((cost.additions, cost.comparisons)):
        return None
    values, none = images * prod(shape), np.zeros_like(images)
    additions, comparisons = values * cost.additions, values * cost.comparisons
    return Counts(none, none, none, additions, none, comparisons, none, none)


def move_cost(operation: Operation, read: int) -> NeuronCost:
    """Operations for one value that a layer without weights sends: of n values to one, n - 1; a gate compares two."""
    match operation:
        case Add():
            return NeuronCost(read - 1, 0, 0)
        case SumPool():
            return NeuronCost(prod(operation.kernel) - 1, 0, 0)
        case MaxPool():
            return NeuronCost(0, 0, prod(operation.kernel) - 1)
        case And() | Iand():
            return NeuronCost(0, 0, 1)
        case Input() | Concat() | Spread() | Flatten():
            return NeuronCost(0, 0, 0)
        case Conv() | Dense():
            raise TypeError(f"{type(operation).__name__} has weights: its rows are counted")
        case _:
            assert_never(operation)


def _draws(drawn: Drawn | None, per_step: Steps) -> Steps:
    """One draw per neuron and step, only at the first step where it is held, none where decays are not drawn."""
    if drawn is None:
        return np.zeros_like(per_step)
    return np.where(np.arange(len(per_step)) == 0, per_step, 0) if drawn.sampling == "forward" else per_step


def total_operations(counts: Mapping[str, Counts]) -> dict[str, int]:
    """Sums over layers and steps under the keys of the command line; multiply is 0 because no kernel has one."""
    keys = {"add": "additions", "shift": "shifts", "draw": "draws", "fetch": "weight_fetches", "compare": "comparisons"}
    totals = {key: int(sum(getattr(count, name).sum() for count in counts.values())) for key, name in keys.items()}
    return totals | {"multiply": 0, "dense_mac": int(sum(count.dense_macs.sum() for count in counts.values()))}
