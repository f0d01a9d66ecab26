"""Every design rule of the chips, broken by a network made for it, with the value and the limit worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from randhet.base.errors import NetworkError
from randhet.fixed_point.chips import chip, rules
from randhet.fixed_point.chips.inspection import inspect
from randhet.fixed_point.chips.mapping import map_network
from randhet.fixed_point.chips.rules import Finding
from randhet.fixed_point.network import (
    Add,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Input,
    Layer,
    Lif,
    MaxPool,
    Network,
    Neuron,
    Operation,
    PerNeuron,
    ReadOut,
    SumPool,
)


def ints(count: int, value: int) -> np.ndarray:
    return np.full(count, value, np.int32)


def dense(out: int, into: int, value: int = 2) -> Dense:
    return Dense(np.full((out, into), value, np.int8))


def cuba(count: int, threshold: int = 640, bias: int = 0, **fields: int) -> Cuba:
    return Cuba(ints(count, threshold), ints(count, bias), fields.pop("du", 4095), 0, **fields)


def alone(operation: Operation, neuron: Neuron, *shape: int, bits: int = 1, steps: int = 2) -> Network:
    return Network((Layer("input", Input(shape, bits)), Layer("n", operation, (0,), neuron)), steps)


def biases() -> Network:
    """4096 is 1 * 2^12 = 2048 * 2; 4097 has 13 bits and is odd; 4095 << 7 fits; (4095 << 7) + 1 does not."""
    bias = np.array([4096, 4097, 4095 << 7, (4095 << 7) + 1], np.int32)
    return alone(dense(4, 1), Cuba(ints(4, 640), bias, 4095, 0), 1, 1, 1)


def thresholds() -> Network:
    """640 = 10 * 64; 650 is no multiple; 2^17 * 64 is one too many."""
    return alone(dense(3, 1), Cuba(np.array([640, 650, 2**23 - 64], np.int32), ints(3, 0), 4095, 0), 1, 1, 1)


def branches() -> Network:
    """A branch 64 layers deep beside one of depth 1."""
    layers = [Layer("input", Input((1, 1, 1), 1))]
    layers += [Layer(f"d{i}", dense(1, 1), (i,), cuba(1)) for i in range(64)]
    return Network((*layers, Layer("sum", Add(), (1, 64))), 1)


def pooled() -> Network:
    """A pool of 2x2 windows of spikes that a conv reads: it sends 0..4, three bits."""
    one = Conv(np.ones((1, 1, 1, 1), np.int8))
    layers = (
        Layer("input", Input((1, 4, 4), 1)),
        Layer("n", one, (0,), cuba(1)),
        Layer("pool", SumPool((2, 2), (2, 2)), (1,)),
        Layer("c", one, (2,), cuba(1)),
    )
    return Network(layers, 1)


def table(count: int, **fields: Any) -> Lif:
    return Lif(ints(count, 640), ints(count, 0), Drawn(**fields))


Make = Callable[[], Network]
HET = Lif(ints(1, 640), ints(1, 0), PerNeuron(np.arange(40, dtype=np.uint16).reshape(1, 40, 1)))
SOFT = Lif(ints(1, 640), ints(1, 0), reset="subtract")
MANY = Cuba(np.arange(64, 64 * 18, 64, dtype=np.int32), ints(17, 0), 4095, 0)
WIDE = alone(dense(1, 5000), cuba(1), 5000, 1, 1)


def largest_of_sums() -> Network:
    """The largest of sums of two spikes."""
    layers = (
        Layer("input", Input((1, 1, 2), 1)),
        Layer("sum", Add(), (0, 0)),
        Layer("pool", MaxPool((1, 2), (1, 1)), (1,)),
        Layer("n", dense(1, 1), (2,), cuba(1)),
    )
    return Network(layers, 1)


BROKEN: dict[str, tuple[rules.Rule, str, Make, Finding]] = {
    "exponent": (
        rules.weight_exponent, "loihi1", lambda: alone(dense(1, 1), cuba(1, f=15), 1, 1, 1),
        Finding("weight exponent", "n", 8, "-8..7", False),
    ),
    "accumulator": (
        rules.accumulator, "loihi1", lambda: alone(dense(1, 300, 127), cuba(1), 300, 1, 1),
        Finding("largest possible input of a step fits the accumulator", "n", 300 * 127 * 64, 2**21 - 1, False),
    ),
    "graded max": (
        rules.graded_max, "loihi1", largest_of_sums,
        Finding("values of a max pool", "pool", "0..2", "spikes, 0..1", False),
    ),
    "threshold mantissa": (
        rules.threshold_mantissa, "loihi1", thresholds,
        Finding("thresholds that are no 17 bit mantissa times 64", "n", 1, 0, False),
    ),
    "thresholds per core": (
        rules.thresholds_per_core, "loihi1", lambda: alone(dense(17, 1), MANY, 1, 1, 1),
        Finding("different thresholds per core", "n", 17, 16, False),
    ),
    "bias mantissa": (
        rules.bias_mantissa, "loihi1", biases,
        Finding("biases that are no 12 bit mantissa times 2^0..2^7", "n", 2, 0, False),
    ),
    "decays per core": (
        rules.decays_per_core, "loihi1", lambda: alone(Conv(np.ones((1, 1, 1, 1), np.int8)), HET, 1, 40, 1),
        Finding("different decays per core", "n", 40, 32, False),
    ),
    "graded spikes": (
        rules.graded_spikes, "loihi1", pooled, Finding("bits of a spike's payload", "pool", 3, 1, False),
    ),
    "random decay": (
        rules.random_decay, "loihi1", lambda: alone(dense(1, 1), table(1, sampling="forward"), 1, 1, 1),
        Finding("decay drawn at random", "n", "every image", "none: noise reaches current or voltage only", False),
    ),
    "neuron model": (
        rules.neuron_model, "loihi1", lambda: alone(dense(1, 1), Lif(ints(1, 640), ints(1, 0)), 1, 1, 1),
        Finding("neuron model", "n", "Lif", "Cuba", False),
    ),
    "reset": (
        rules.reset_kind, "loihi1", lambda: alone(dense(1, 1), SOFT, 1, 1, 1),
        Finding("reset after a spike", "n", "subtract", "zero", False),
    ),
    "residual delay": (
        rules.residual_delay, "loihi1", branches, Finding("steps a residual branch waits", "sum", 63, 62, False),
    ),
    "register on one core": (
        rules.register_on_one_core, "loihi2", lambda: alone(dense(100, 4096), table(100), 4096, 1, 1),
        Finding("neurons that share a register and a core", "n", 100, 32, False),
    ),
    "fan-in": (
        rules.fan_in_axons, "loihi1", lambda: WIDE, Finding("fan-in axons per core", "n", 5000, 4096, False),
    ),
    "memory": (
        rules.memory_per_core, "loihi2", lambda: alone(dense(1, 196_600, 1), cuba(1), 196_600, 1, 1),
        Finding("memory per core, bits", "n", 196_600 * 8 + 2 * 24 + 2 * 24, 196_608 * 8, False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_says_layer_value_and_limit(name: str) -> None:
    rule, on, make, expected = BROKEN[name]
    network = make()
    found = list(rule(rules.Case(network, chip.load(on), map_network(network, chip.load(on)))))
    assert [finding for finding in found if not finding.ok] == [expected]


def test_fan_out_axons() -> None:
    """One neuron whose spikes 4097 cores of one neuron each want: one output axon per core."""
    layers = (
        Layer("input", Input((1, 1, 1), 1)),
        Layer("n", dense(1, 1), (0,), cuba(1)),
        Layer("fan", dense(4097, 1), (1,), table(4097, neurons_per_core=1)),
    )
    network, on = Network(layers, 1), chip.load("loihi1")
    found = list(rules.fan_out_axons(rules.Case(network, on, map_network(network, on))))
    assert Finding("fan-out axons per core", "n", 4097, 4096, False) in found


TIGHT = {"weight_bits": 3, "decay_bits": 4, "state_bits": 8, "neurons_per_core": 1}


def test_widths_against_a_narrow_chip() -> None:
    """Limits lowered by hand: weights to +-3, decays to 4 bits, states to 127."""
    loihi2 = chip.load("loihi2")
    narrow = {key: replace(loihi2[key], value=value) for key, value in TIGHT.items()}
    on = replace(loihi2, quantities={**loihi2.quantities, **narrow})
    network = alone(dense(1, 1, -5), cuba(1, threshold=128, bias=-130, du=16), 1, 1, 1)
    bad = rules.broken(rules.check_chip(network, map_network(network, on)))
    assert bad == [
        Finding("largest |weight| fits the mantissa", "n", 5, 3, False),
        Finding("threshold fits the state", "n", 128, 127, False),
        Finding("|bias| fits the state", "n", 130, 127, False),
        Finding("decay bits", "n", 5, 4, False),
    ]


def test_sums_against_32_bits() -> None:
    """127 * 255 * 600 a step plus 2^20 of bias, 104 steps: 2,129,875,904, less than 2^31 - 1; 105 are refused."""
    network = alone(dense(1, 600, 127), ReadOut(ints(1, 2**20)), 600, 1, 1, bits=8, steps=104)
    on = chip.load("loihi2")
    found = list(rules.read_out_sum(rules.Case(network, on, map_network(network, on))))
    total = (127 * 255 * 600 + 2**20) * 104
    assert found == [Finding("read-out's sum over all steps fits 32 bits", "n", total, 2**31 - 1, True)]
    with pytest.raises(NetworkError, match="a sum can reach 2150355480, the limit is 2147483647"):
        replace(network, steps=105)


def test_every_rule_that_can_break_is_broken_above() -> None:
    """Sums are proven when a network is made, neurons per core hold in every mapping."""
    seen = {rule for rule, *_ in BROKEN.values()}
    here = {rules.fan_out_axons, rules.weight_mantissa, rules.threshold_range, rules.bias_range, rules.decay_width}
    proven = {rules.synaptic_sum, rules.read_out_sum, rules.neurons_per_core}
    assert set(rules.RULES) == seen | here | proven


def test_all_broken_rules_are_reported_at_once_in_words() -> None:
    network = alone(dense(2, 1), Lif(ints(2, 650), ints(2, 4097), Drawn()), 1, 1, 1, bits=8)
    found = inspect(network, "loihi1")
    said = " ".join(found.sentences())
    assert not found.ok
    for words in (
        "decay drawn at random",
        "thresholds that are no",
        "biases that are no",
        "payload, limit 1: input (8)",
    ):
        assert words in said
    assert "Cannot be known without the hardware" in said


def test_what_is_not_public_is_named_instead_of_passed() -> None:
    network = alone(dense(1, 1), cuba(1), 1, 1, 1)
    found = inspect(network, "loihi2")
    assert "fan-in axons per core" in found.as_json()["unchecked"]
    assert not any(finding.rule == "fan-in axons per core" for finding in found.rules)
    assert inspect(network, "loihi1").as_json()["unchecked"] == []


@pytest.mark.parametrize(
    ("neuron", "seed", "words"),
    [(table(1), None, "carries no seed"), (table(1), 5, "carries seed 5"), (cuba(1), None, "Nothing in it is drawn")],
)
def test_seeds_are_spoken_of(neuron: Neuron, seed: int | None, words: str) -> None:
    network = replace(alone(dense(1, 1), neuron, 1, 1, 1), seed=seed)
    assert any(words in sentence for sentence in inspect(network).sentences())
