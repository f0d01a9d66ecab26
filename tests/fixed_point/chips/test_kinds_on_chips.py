"""Gates, max pools, zeros between values, concatenation, recurrence, late resets, floors and leaky read-outs on chips.

Every figure by hand: a Loihi 2 core stores a convolution's kernel once, weights and states in whole bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.chips.chip import load
from randhet.fixed_point.chips.energy import estimate, fan_out
from randhet.fixed_point.chips.inspection import freed, inspect
from randhet.fixed_point.chips.mapping import LayerMap, map_network
from randhet.fixed_point.network import Layer, Network

NEVER = 2**23 - 1


def ints(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.int32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


def lif(channels: int, **fields: Any) -> ir.Lif:
    return ir.Lif(ints(64, channels), ints(0, channels), **fields)


def made(*layers: Layer, shape: ir.Shape = (2, 1, 3), steps: int = 3) -> Network:
    return Network((Layer("input", ir.Input(shape, bits=1)), *layers), steps)


def one(neuron: ir.Neuron, recurrent: np.ndarray | None = None) -> Network:
    """Four neurons that read three values."""
    return made(Layer("it", ir.Dense(ones(4, 3), recurrent), (0,), neuron), shape=(3,))


def placed(network: Network, name: str = "it") -> LayerMap:
    return next(layer for layer in map_network(network, load("loihi2")).layers if layer.name == name)


def test_recurrent_weights_take_memory_and_every_spike_comes_back_to_each_neuron() -> None:
    plain, recurrent = one(lif(4)), one(lif(4), ones(4, 4))
    (before,), (after,) = placed(plain).loads, placed(recurrent).loads
    # a list of four weights of 8 bits for each of the layer's own four neurons
    assert after.weight_bits - before.weight_bits == 4 * (4 * 8 + (load("loihi2").limit("list_header") or 0))
    assert (before.in_axons, after.in_axons) == (3, 3 + 4)
    assert (before.out_axons, after.out_axons) == (0, 4)
    assert fan_out(recurrent)[1, 1].tolist() == [4] * 4
    assert inspect(recurrent).synapse_bytes == inspect(plain).synapse_bytes + 16


def test_synaptic_operations_of_own_spikes_are_counted() -> None:
    """Every neuron fires at every step: three inputs to four neurons, then four own spikes to four neurons each."""
    network, images = one(ir.Lif(ints(1, 4), ints(9000, 4), ir.Constant(0)), ones(4, 4)), np.ones((1, 3), np.uint8)
    result = reference.run(network, images, probes=["it"])
    found = estimate(network, map_network(network, load("loihi2")), images, result)
    (term,) = (term for term in found.terms if term.what == "synaptic operations")
    assert term.count == 3 * (3 * 4 + 4 * 4)


@pytest.mark.parametrize(
    ("fields", "bits", "words"),
    [
        ({}, 0, "zero"),
        ({"floor": ints(-7, 4)}, 4 * 24, "zero, floor"),
        ({"reset": "subtract", "reset_delay": 1}, 0, "subtract, a step late"),
    ],
)
def test_a_floor_is_kept_per_channel_and_both_need_microcode(fields: dict[str, Any], bits: int, words: str) -> None:
    network = one(lif(4, **fields))
    assert placed(network).loads[0].state_bits - placed(one(lif(4))).loads[0].state_bits == bits
    for chip, possible in (("loihi2", True), ("loihi1", not fields)):
        (finding,) = (f for f in inspect(network, chip).rules if f.rule == "reset after a spike")
        assert (finding.value, finding.ok) == (words, possible)


@pytest.mark.parametrize(("read", "bits"), [("sum", 32), ("last", 0), ("max", 24)])
def test_a_leaky_read_out_keeps_its_potential_and_what_is_read(read: ir.Read, bits: int) -> None:
    network = one(ir.Leaky(ir.Lif(ints(NEVER, 4), ints(0, 4)), read))
    # potential and what is read per neuron; a bias, and no threshold, per channel
    assert placed(network).loads[0].state_bits == 4 * (24 + bits) + 4 * 24
    row = inspect(network).layers[1]
    assert (row.neuron, row.decay, row.reset, row.threshold, row.f) == ("Leaky", "constant", None, None, 6)
    (total,) = (f for f in inspect(network).rules if f.rule == "read-out's sum over all steps fits 32 bits")
    assert total.value == (3 if read == "sum" else 1) * NEVER


def test_a_leaky_read_out_that_draws_stays_one_when_its_cores_are_freed() -> None:
    neuron = ir.Leaky(ir.Lif(ints(NEVER, 4), ints(0, 4), ir.Drawn(neurons_per_core=2)))
    layer = freed(one(neuron), load("loihi2")).layers[1]
    assert isinstance(layer.neuron, ir.Leaky) and layer.drawn is not None
    assert layer.drawn.neurons_per_core == load("loihi2").need("neurons_per_core")


def branches(operation: ir.Operation, *, second: int = 2) -> Network:
    """Two convolutions of 2 and `second` channels, 1 x 3, what joins them, and a dense layer of five."""
    conv = lambda name, out: Layer(name, ir.Conv(ones(out, 2, 1, 1)), (0,), lif(out))
    joined = made(conv("a", 2), conv("b", second), Layer("it", operation, (1, 2)))
    read = Layer("read", ir.Dense(ones(5, int(np.prod(joined.shapes[-1])))), (3,), ir.ReadOut(ints(0, 5)))
    return made(*joined.layers[1:], read)


@pytest.mark.parametrize("gate", [ir.And(), ir.Iand()])
def test_a_gate_is_a_population_that_both_branches_reach(gate: ir.Operation) -> None:
    network = branches(gate)
    layer = placed(network)
    assert layer.population.sources == (1, 2)
    (load_of_it,) = layer.loads
    # three pixels of either branch, a weight of 8 bits for each branch, no state
    assert (load_of_it.neurons, load_of_it.in_axons, load_of_it.state_bits) == (6, 2 * 3, 0)
    assert load_of_it.weight_bits == 2 * (8 + (load("loihi2").limit("list_header") or 0))
    driven = fan_out(network)
    assert [driven[sender, 3].tolist() for sender in (1, 2)] == [np.ones((2, 1, 3)).tolist()] * 2
    assert driven[3, 4].tolist() == np.full((2, 1, 3), 5.0).tolist()


def test_a_concatenation_is_wiring() -> None:
    network = branches(ir.Concat(), second=3)
    assert [layer.name for layer in map_network(network, load("loihi2")).layers] == ["a", "b", "read"]
    assert placed(network, "read").loads[0].in_axons == 2 * 3 + 3 * 3
    driven = fan_out(network)
    assert [driven[sender, 4].shape for sender in (1, 2)] == [(2, 1, 3), (3, 1, 3)]


def test_the_branches_of_a_concatenation_count_their_own_channels_where_a_convolution_reads_them() -> None:
    joined = branches(ir.Concat(), second=3).layers[:-1]
    network = made(*joined[1:], Layer("conv", ir.Conv(ones(1, 5, 1, 3)), (3,), lif(1)))
    driven = fan_out(network)
    # one output reads all three columns
    assert driven[1, 4].tolist() == np.ones((2, 1, 3)).tolist()
    assert driven[2, 4].tolist() == np.ones((3, 1, 3)).tolist()
    assert placed(network, "conv").loads[0].in_axons == 2 * 3


def test_zeros_between_values_take_no_axons() -> None:
    """1 x 3 values become 1 x 5; windows of two columns see four places, in which five of eight taps see a value."""
    network = made(
        Layer("a", ir.Conv(ones(1, 2, 1, 1)), (0,), lif(1)),
        Layer("spread", ir.Spread((1, 2)), (1,)),
        Layer("it", ir.Conv(ones(1, 1, 1, 2)), (2,), lif(1)),
    )
    assert [layer.name for layer in map_network(network, load("loihi2")).layers] == ["a", "it"]
    assert placed(network).loads[0].in_axons == 3
    # the outer values are seen once, the one in the middle twice
    assert fan_out(network)[1, 3].tolist() == [[[1, 2, 1]]]
    assert placed(network, "a").loads[0].out_axons == 3


def test_a_max_pool_is_a_population_and_of_graded_values_it_needs_microcode() -> None:
    pool = Layer("it", ir.MaxPool((1, 2), (1, 1), (0, 1)), (1,))
    network = made(Layer("a", ir.Conv(ones(1, 2, 1, 1)), (0,), lif(1)), pool)
    assert placed(network).loads[0].neurons == 4
    assert fan_out(network)[1, 2].tolist() == [[[2, 2, 2]]]
    graded = made(Layer("sum", ir.Add(), (0, 0)), pool, Layer("b", ir.Conv(ones(1, 2, 1, 1)), (2,), lif(1)))
    for chip, made_of, fits in (("loihi2", graded, True), ("loihi1", graded, False), ("loihi1", network, True)):
        (finding,) = (f for f in inspect(made_of, chip).rules if f.rule == "values of a max pool")
        assert finding.ok == fits


def test_spikes_of_a_recording_are_counted_frame_by_frame() -> None:
    layer = Layer("it", ir.Dense(ones(4, 3)), (0,), lif(4))
    network = Network((Layer("input", ir.Input((3,), bits=1, sequence=True)), layer), 2)
    images = np.array([[[1, 0, 1], [0, 0, 1]]], np.uint8)
    found = estimate(network, map_network(network, load("loihi2")), images, reference.run(network, images))
    (term,) = (term for term in found.terms if term.what == "synaptic operations")
    assert term.count == 3 * 4
