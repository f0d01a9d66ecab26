"""Operations of gates, pools, late resets, floors, leaky read-outs and recurrent layers, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from randhet.fixed_point import add_only
from randhet.fixed_point import network as ir
from randhet.fixed_point.add_only import Counts
from randhet.fixed_point.network import Layer, Network

STEPS = 3


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def counted(*layers: Layer, shape: ir.Shape = (2, 2, 3), images: int = 2) -> dict[str, Counts]:
    network = Network((Layer("input", ir.Input(shape, 1, sequence=True)), *layers), STEPS)
    frames = np.random.default_rng(1).integers(0, 2, (images, STEPS, *shape)).astype(np.uint8)
    return add_only.run_counted(network, frames, threads=1)[1]


@pytest.mark.parametrize(
    ("operation", "inputs", "additions", "comparisons"),
    [
        # of 12 values a step, for two images
        (ir.Add(), (0, 0, 0), 2 * 12 * 2, 0),
        (ir.And(), (0, 0), 0, 2 * 12),
        (ir.Iand(), (0, 0), 0, 2 * 12),
        # 2 x 1 x 2 windows of four
        (ir.SumPool((2, 2), (1, 1)), (0,), 2 * 4 * 3, 0),
        (ir.MaxPool((2, 2), (1, 1)), (0,), 0, 2 * 4 * 3),
    ],
)
def test_layers_without_weights(
    operation: ir.Operation, inputs: tuple[int, ...], additions: int, comparisons: int
) -> None:
    found = counted(Layer("it", operation, inputs))["it"]
    assert found.additions.tolist() == [additions] * STEPS
    assert found.comparisons.tolist() == [comparisons] * STEPS
    assert not found.shifts.any() and not found.weight_fetches.any()


@pytest.mark.parametrize("operation", [ir.Concat(), ir.Spread((2, 1)), ir.Flatten()])
def test_what_only_moves_values_has_no_row(operation: ir.Operation) -> None:
    assert set(counted(Layer("it", operation, (0, 0) if isinstance(operation, ir.Concat) else (0,)))) == set()


def test_a_sum_of_still_images_is_made_once() -> None:
    layers = (Layer("input", ir.Input((4,), 8)), Layer("it", ir.Add(), (0, 0)))
    found = add_only.run_counted(Network(layers, STEPS), np.ones((2, 4), np.uint8), threads=1)[1]["it"]
    assert found.additions.tolist() == [2 * 4, 0, 0]


def neuron(neuron: ir.Neuron) -> tuple[int, int]:
    """(additions, comparisons) of one neuron in one step, without its weights."""
    found = counted(Layer("it", ir.Dense(np.ones((1, 1), np.int8)), (0,), neuron), shape=(1,), images=1)["it"]
    additions = found.additions - found.accumulates
    assert len(set(additions.tolist())) == len(set(found.comparisons.tolist())) == 1
    return int(additions[0]), int(found.comparisons[0])


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({"reset_delay": 1}, (0, 1)),
        # one subtraction, as without the delay; the spike of the step before, and the limit of what is left
        ({"reset": "subtract"}, (1, 0)),
        ({"reset": "subtract", "reset_delay": 1}, (1, 2)),
        ({"floor": numbers(-5)}, (0, 1)),
    ],
)
def test_late_resets_and_floors(fields: dict[str, Any], more: tuple[int, int]) -> None:
    plain = neuron(ir.Lif(numbers(50), numbers(0)))
    found = neuron(ir.Lif(numbers(50), numbers(0), **fields))
    assert (found[0] - plain[0], found[1] - plain[1]) == more


@pytest.mark.parametrize(("read", "more"), [("sum", (1, 0)), ("last", (0, 0)), ("max", (0, 1))])
def test_what_is_read_of_a_leaky_read_out(read: ir.Read, more: tuple[int, int]) -> None:
    never = numbers(2**23 - 1)
    plain, found = neuron(ir.Lif(never, numbers(0))), neuron(ir.Leaky(ir.Lif(never, numbers(0)), read))
    assert (found[0] - plain[0], found[1] - plain[1]) == more


def test_own_spikes_fetch_recurrent_weights() -> None:
    """Three neurons that fire at every step: five inputs of 1 and, from the second step on, three own spikes."""
    dense = ir.Dense(np.ones((3, 5), np.int8), np.ones((3, 3), np.int8))
    neuron = ir.Lif(numbers(1, 1, 1), numbers(900, 900, 900), ir.Constant(0))
    layers = (Layer("input", ir.Input((5,), 1, sequence=True)), Layer("it", dense, (0,), neuron))
    result, counts = add_only.run_counted(Network(layers, STEPS), np.ones((2, STEPS, 5), np.uint8), threads=1)
    assert result.spikes == {"it": 2 * STEPS * 3}
    assert counts["it"].accumulates.tolist() == [2 * 3 * 5, 2 * 3 * (5 + 3), 2 * 3 * (5 + 3)]
    assert counts["it"].dense_macs.tolist() == [2 * 3 * (5 + 3)] * STEPS
