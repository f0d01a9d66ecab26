"""The add-only engine against the reference, its counts by brute force."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from equality import assert_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import runs

from hardware_tests.random_networks import Run
from randhet.fixed_point import add_only, reference
from randhet.fixed_point import network as ir
from randhet.fixed_point.add_only.updates import Place, neuron_cost, program
from randhet.fixed_point.engine.calls import kept
from randhet.fixed_point.engine.plan import make_synapse


@settings(max_examples=120, deadline=None)
@given(runs(), st.integers(1, 4), st.integers(1, 3))
def test_any_network_equals_the_reference(run: Run, batch: int, threads: int) -> None:
    options = {"seed": run.seed, "first_image": run.first_image, "probes": run.names}
    expected = reference.run(run.network, run.images, **options)
    found = add_only.run(run.network, run.images, **options, batch=batch, threads=threads)
    assert_equal(found, expected)


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("operation", "sources", "expected"),
    [(ir.Flatten(), (0,), -3), (ir.Add(), (0, 0, 0), -9), (ir.SumPool((2, 2), (1, 1)), (0,), -12)],
)
def test_signed_values_keep_their_sign(operation: ir.Operation, sources: tuple[int, ...], expected: int) -> None:
    """-3 everywhere, read behind another layer with weights; three times the sum, the sum of four, by hand."""
    rest = ir.Lif(numbers(100), numbers(0))
    layers = [
        ir.Layer("input", ir.Input((1, 2, 2), bits=4, signed=True)),
        ir.Layer("first", ir.Conv(np.ones((1, 1, 1, 1), np.int8)), (0,), rest),
        ir.Layer("values", operation, sources),
    ]
    size = ir.Network(tuple(layers), 1).shapes[-1]
    weight = np.array([[5] + [0] * (int(np.prod(size)) - 1)], np.int8)
    layers.append(ir.Layer("read", ir.Dense(weight), (2,), ir.ReadOut(numbers(1))))
    images = np.full((1, 1, 2, 2), -3, np.int8)
    result = add_only.run(ir.Network(tuple(layers), 2), images, probes=["values"], threads=1)
    assert set(result.traces["values"].output.ravel()) == {expected}
    assert result.sums.tolist() == [[2 * (5 * expected + 1)]]


@pytest.mark.parametrize(("reset", "after"), [("zero", [70, 70, 70]), ("subtract", [70, 90, 100])])
def test_a_spike_leaves_nothing_or_what_lies_above_the_threshold(reset: ir.Reset, after: list[int]) -> None:
    """tau = 1/2, input 140, threshold 30, by hand: m = (m + 140) / 2, then 0 or m - 30: 40, 60."""
    layers = (
        ir.Layer("input", ir.Input((1,))),
        ir.Layer("one", ir.Dense(np.ones((1, 1), np.int8)), (0,), ir.Lif(numbers(30), numbers(0), f=0, reset=reset)),
    )
    result = add_only.run(ir.Network(layers, 3), np.array([[140]]), probes=["one"], threads=1)
    membrane = result.traces["one"].membrane
    assert membrane is not None
    assert membrane.ravel().tolist() == after
    assert result.spikes == {"one": 3}


def test_counts_are_those_of_the_spikes() -> None:
    """Additions of a padded, strided convolution counted spike by spike, tap by tap, bit by bit."""
    rng = np.random.default_rng(4)
    stem = ir.Conv(rng.integers(-9, 9, (3, 2, 3, 3)).astype(np.int8), stride=(2, 1), padding=(1, 1))
    layers = (
        ir.Layer("input", ir.Input((2, 5, 4))),
        ir.Layer("stem", stem, (0,), ir.Lif(np.full(3, 400, np.int32), np.zeros(3, np.int32), ir.Constant(9), k=5)),
        ir.Layer("flat", ir.Flatten(), (1,)),
        ir.Layer("read", ir.Dense(rng.integers(-9, 9, (4, 36)).astype(np.int8)), (2,), ir.ReadOut(numbers(0, 0, 0, 0))),
    )
    network = ir.Network(layers, steps=3)
    images = rng.integers(0, 256, (2, 2, 5, 4), dtype=np.uint8)
    result, counts = add_only.run_counted(network, images, probes=["stem"], threads=1)
    bits = inside = 0
    for y in range(3):
        for x in range(4):
            for i in range(3):
                for j in range(3):
                    row, column = 2 * y + i - 1, x + j - 1
                    if 0 <= row < 5 and 0 <= column < 4:
                        inside += 1
                        bits += sum(int(value).bit_count() for value in images[:, :, row, column].ravel())
    assert counts["stem"].accumulates.tolist() == [3 * bits] * 3
    assert counts["stem"].dense_macs.tolist() == [2 * inside * 2 * 3] * 3
    assert counts["stem"].doublings.tolist() == [2 * 36 * 7] * 3
    assert counts["stem"].shifts.tolist() == [2 * 36 * (1 + 2 * 5)] * 3
    spikes = result.traces["stem"].output.sum(axis=(0, 2, 3, 4))
    assert counts["read"].accumulates.tolist() == (4 * spikes).tolist()
    assert result.operations is not None
    assert result.operations["multiply"] == 0
    assert result.operations["fetch"] == counts["stem"].accumulates.sum() + counts["read"].accumulates.sum()


def test_flattened_values_are_not_written_over_while_they_are_read() -> None:
    """A flattened layer of one pixel is a view of the one before, whose memory must not serve the layer that reads it.

    That layer has two tiles: the second reads what the first might have written over.
    """
    rng, size = np.random.default_rng(7), 1024
    neuron = ir.Lif(np.full(size, 900, np.int32), np.full(size, 300, np.int32), ir.Constant(128), k=8)
    layers = (
        ir.Layer("input", ir.Input((3, 1, 1))),
        ir.Layer("first", ir.Conv(rng.integers(-9, 9, (size, 3, 1, 1)).astype(np.int8)), (0,), neuron),
        ir.Layer("flat", ir.Flatten(), (1,)),
        ir.Layer("second", ir.Dense(rng.integers(-9, 9, (size, size)).astype(np.int8)), (2,), neuron),
        ir.Layer(
            "read", ir.Dense(rng.integers(-9, 9, (4, size)).astype(np.int8)), (3,), ir.ReadOut(numbers(0, 0, 0, 0))
        ),
    )
    network, images = ir.Network(layers, steps=6), rng.integers(0, 256, (3, 3, 1, 1), dtype=np.uint8)
    expected = reference.run(network, images, seed=0)
    assert min(expected.spikes.values()) > 0
    assert_equal(add_only.run(network, images, seed=0, batch=1, threads=1), expected)


def one_neuron(neuron: ir.Neuron, signed: bool = False) -> ir.Network:
    """One input that a neuron reads with the weight 1, and T = 4."""
    source = ir.Layer("input", ir.Input((1,), bits=4, signed=signed))
    return ir.Network((source, ir.Layer("one", ir.Dense(np.ones((1, 1), np.int8)), (0,), neuron)), 4)


def test_subtracting_the_threshold_is_counted() -> None:
    """One more addition per neuron and step than where a spike leaves nothing."""
    additions = {}
    for reset in get_args(ir.Reset):
        network = one_neuron(ir.Lif(numbers(2000), numbers(0), reset=reset))
        additions[reset] = add_only.run_counted(network, np.array([[3]]))[1]["one"].additions
    assert (additions["subtract"] - additions["zero"]).tolist() == [1] * 4


def test_signed_values_are_spent_by_the_bits_of_their_twos_complement() -> None:
    """-3 is 1101 in the four bits that hold -8..7: three rows and, from plane to plane, three doublings."""
    counts = add_only.run_counted(one_neuron(ir.ReadOut(numbers(0)), signed=True), np.array([[-3]]))[1]["one"]
    assert counts.accumulates.tolist() == [3] * 4
    assert counts.doublings.tolist() == [3] * 4


def test_draws_are_counted_where_they_happen() -> None:
    """At every step, or once for the whole image; none where decays are not drawn."""
    decays: dict[str, ir.Decay] = {
        "step": ir.Drawn(),
        "forward": ir.Drawn(sampling="forward"),
        "none": ir.PerNeuron(np.array([9], np.uint16)),
    }
    found = {}
    for name, decay in decays.items():
        network = one_neuron(ir.Lif(numbers(9), numbers(0), decay))
        found[name] = add_only.run_counted(network, np.array([[3], [4]]))[1]["one"].draws.tolist()
    assert found == {"step": [2] * 4, "forward": [2, 0, 0, 0], "none": [0] * 4}


def test_unknown_kinds_are_refused() -> None:
    tile = make_synapse(ir.Dense(np.ones((1, 1), np.int8)), (1,), 1).tiles[0]
    neuron = ir.Lif(numbers(9), numbers(0))
    object.__setattr__(neuron, "decay", "quick")
    for call in (
        lambda: kept("soft"),  # type: ignore[arg-type]
        lambda: neuron_cost("neuron"),  # type: ignore[arg-type]
        lambda: program("neuron", Place((1,), None), tile),  # type: ignore[arg-type]
        lambda: program(neuron, Place((1,), None), tile),
    ):
        with pytest.raises(AssertionError, match="Expected code to be unreachable"):
            call()
