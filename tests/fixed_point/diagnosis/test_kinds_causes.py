"""Wrong resets, floors, recurrence, gates, pools and leaky read-outs, planted in the reference, are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.diagnosis.difference import divergence
from randhet.fixed_point.diagnosis.divergence import Divergence
from randhet.fixed_point.network import Layer, Network
from randhet.fixed_point.result import Result

SEED, STEPS, WIDTH = 3, 12, 5
PIXELS = np.random.default_rng(4).integers(0, 16, (6, STEPS, 4), np.uint8)
NEVER = 2**23 - 1
DECAYS: list[ir.Decay] = [ir.Constant(200), ir.PerNeuron(np.array([90, 130, 170, 210, 250], np.uint16)), ir.Drawn()]


def ints(value: int, count: int = WIDTH) -> np.ndarray:
    return np.full(count, value, np.int32)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-40, 60, shape).astype(np.int8)


def recorded(*layers: Layer) -> Network:
    """Layers behind a recording of four values of four bits."""
    return Network((Layer("input", ir.Input((4,), 4, sequence=True)), *layers), STEPS)


def neurons(recurrent: np.ndarray | None = None, **fields: Any) -> Network:
    neuron = ir.Lif(ints(9000), ints(-3000), **fields)
    return recorded(Layer("it", ir.Dense(weights(WIDTH, 4), recurrent), (0,), neuron))


def run(network: Network) -> Result:
    return reference.run(network, PIXELS, seed=SEED, probes=[layer.name for layer in network.layers])


def named(right: Network, wrong: Network) -> Divergence:
    """The first difference of a network from what it should be."""
    found = divergence(right, PIXELS, run(right), run(wrong), SEED)
    assert found is not None and found.layer == "it"
    return found


def changed(network: Network, **fields: Any) -> Network:
    """Other fields of the last layer's neuron."""
    *others, last = network.layers
    assert last.neuron is not None
    return replace(network, layers=(*others, replace(last, neuron=replace(last.neuron, **fields))))


@pytest.mark.parametrize("decay", DECAYS, ids=lambda decay: type(decay).__name__)
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("late", [0, 1])
def test_a_reset_at_the_wrong_step(reset: ir.Reset, late: int, decay: ir.Decay) -> None:
    network = neurons(reset=reset, reset_delay=late, decay=decay)
    found = named(network, changed(network, reset_delay=1 - late))
    words = {"zero": "to zero", "subtract": "by subtraction"}[reset]
    at_once, delayed = f"with a reset {words}", f"with a reset {words} one step late"
    is_so, due = (at_once, delayed) if late else (delayed, at_once)
    assert (found.cause, found.detail) == ("reset", f"the membrane potential continues as {is_so}, not {due}")


@pytest.mark.parametrize("late", [0, 1])
def test_the_other_reset_one_step_late_too(late: int) -> None:
    network = neurons(reset="zero", reset_delay=late)
    found = named(network, changed(network, reset="subtract"))
    more = " one step late" * late
    assert found.detail == (
        f"the membrane potential continues as with a reset by subtraction{more}, not with a reset to zero{more}"
    )


def test_a_floor_that_is_missing_and_one_that_is_not_asked_for() -> None:
    """The second is the one of Sinabs: minus the threshold."""
    free = neurons(reset="subtract")
    held = changed(free, floor=-ints(9000))
    assert held.layers[-1].lif is not None and held.layers[-1].lif.floored
    missing, superfluous = named(held, free), named(free, held)
    assert missing.cause == superfluous.cause == "reset"
    begin, subtracted = "the membrane potential continues as ", "with a reset by subtraction, "
    without, present = f"{subtracted}without the floor", f"{subtracted}with the floor"
    assert missing.detail == f"{begin}{without}, not {present}"
    assert superfluous.detail == f"{begin}{present} at minus the threshold, not {without}"


LATE = [
    {"reset": reset, "reset_delay": 1, "floor": floor} for reset in ("zero", "subtract") for floor in (-NEVER, -4000)
]


@pytest.mark.parametrize("fields", LATE, ids=str)
def test_other_causes_are_found_behind_late_resets_and_floors(fields: dict[str, Any]) -> None:
    fields = fields | {"floor": ints(fields["floor"])}
    network = neurons(**fields)
    bias = ints(-3000)
    bias[2] += 700
    found = named(network, changed(network, bias=bias))
    assert (found.cause, found.detail) == ("bias", "the bias of channel 2 is off by +700 units")
    assert named(network, changed(network, decay=ir.Constant(90))).cause == "tau"
    *others, it = network.layers
    weight = weights(WIDTH, 4)
    weight[1, 3] += 9
    other = replace(it, operation=ir.Dense(weight))
    assert named(network, replace(network, layers=(*others, other))).detail == (
        f"weight (1, 3) is {weight[1, 3]}, not {weight[1, 3] - 9}"
    )


U = np.random.default_rng(6).integers(-90, 100, (WIDTH, WIDTH)).astype(np.int8)


@pytest.mark.parametrize(
    ("other", "words"), [(None, "are left out"), (U.T.copy(), "are read as if transposed"), (-U, "are subtracted")]
)
def test_recurrent_weights_used_otherwise(other: np.ndarray | None, words: str) -> None:
    found = named(neurons(U), neurons(other))
    assert (found.cause, found.detail) == ("recurrence", f"the recurrent weights {words}")


def test_one_wrong_recurrent_weight_is_named() -> None:
    other = U.copy()
    other[2, 4] += 11
    found = named(neurons(U), neurons(other))
    assert (found.cause, found.detail) == ("weight", f"recurrent weight (2, 4) is {other[2, 4]}, not {U[2, 4]}")


def test_recurrent_cuba_neurons_without_their_recurrence() -> None:
    made = lambda own: recorded(
        Layer("it", ir.Dense(weights(WIDTH, 4), own), (0,), ir.Cuba(ints(20000), ints(0), 1000, 300))
    )
    assert named(made(U), made(None)).detail == "the recurrent weights are left out"


# --- layers without weights -------------------------------------------------------------------------------------------


def spiking(name: str, seed: int) -> Layer:
    weight = np.random.default_rng(seed).integers(20, 60, (2, 1, 1, 1)).astype(np.int8)
    return Layer(name, ir.Conv(weight), (1,), ir.Lif(ints(20000, 2), ints(0, 2)))


def wired(operation: ir.Operation, inputs: tuple[int, ...] = (2, 3)) -> Network:
    image = Layer("image", ir.Spread((1, 1)), (0,))
    source = Layer("input", ir.Input((1, 2, 2), 4, sequence=True))
    return Network((source, image, spiking("a", 1), spiking("b", 2), Layer("it", operation, inputs)), STEPS)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (wired(ir.And()), wired(ir.Add()), "the Add of what the layer reads, not the And"),
        (wired(ir.And()), wired(ir.Iand()), "the Iand of what the layer reads, not the And"),
        (wired(ir.Iand()), wired(ir.And()), "the And of what the layer reads, not the Iand"),
        (
            wired(ir.Iand()), wired(ir.Iand(), (3, 2)),
            "the Iand with its two layers exchanged of what the layer reads, not the Iand",
        ),
        (wired(ir.Add()), wired(ir.And()), "the And of what the layer reads, not the Add"),
        (
            wired(ir.Concat()), wired(ir.Concat(), (3, 2)),
            "the Concat in the opposite order of what the layer reads, not the Concat",
        ),
        (
            wired(ir.MaxPool((2, 2), (1, 1)), (2,)), wired(ir.SumPool((2, 2), (1, 1)), (2,)),
            "the SumPool of what the layer reads, not the MaxPool",
        ),
        (
            wired(ir.SumPool((2, 2), (1, 1)), (2,)), wired(ir.MaxPool((2, 2), (1, 1)), (2,)),
            "the MaxPool of what the layer reads, not the SumPool",
        ),
    ],
)  # fmt: skip
def test_another_operation_is_named(right: Network, wrong: Network, words: str) -> None:
    images = PIXELS.reshape(len(PIXELS), STEPS, 1, 2, 2)
    results = [
        reference.run(network, images, seed=SEED, probes=[layer.name for layer in network.layers])
        for network in (right, wrong)
    ]
    found = divergence(right, images, *results, SEED)
    assert found is not None
    assert (found.layer, found.cause, found.detail) == ("it", "operation", f"the values are {words}")


# --- leaky read-outs --------------------------------------------------------------------------------------------------


def read_out(**fields: Any) -> Network:
    dynamics = ir.Lif(ints(NEVER), ints(-300), ir.Constant(200), **fields)
    return recorded(Layer("it", ir.Dense(weights(WIDTH, 4)), (0,), ir.Leaky(dynamics, "max")))


def dynamics_changed(network: Network, **fields: Any) -> Network:
    neuron = network.layers[-1].neuron
    assert isinstance(neuron, ir.Leaky)
    return changed(network, dynamics=replace(neuron.dynamics, **fields))


@pytest.mark.parametrize(
    ("fields", "cause", "words"),
    [
        ({"decay": ir.Constant(201)}, "tau", "the decay differs"),
        ({"decay": ir.Constant(0)}, "read-out", "the values are the current of each step"),
        ({"bias": ints(-200)}, "bias", "off by +100 units"),
    ],
)
def test_a_leaky_read_out_with_another_constant(fields: dict[str, Any], cause: str, words: str) -> None:
    found = named(read_out(), dynamics_changed(read_out(), **fields))
    assert found.cause == cause and words in found.detail, found


def test_a_leaky_read_out_without_its_floor() -> None:
    held = dynamics_changed(read_out(), floor=np.array(0, np.int32))
    found = named(held, read_out())
    assert found.cause == "reset" and "without the floor" in found.detail


def test_a_read_out_that_sends_something_else_than_its_potential() -> None:
    network = read_out()
    right, wrong = run(network), run(network)
    wrong.traces["it"].output[1, 3, 2] += 1
    found = divergence(network, PIXELS, right, wrong, SEED)
    assert found is not None
    assert (found.cause, found.detail) == ("read-out", "what is sent is not the membrane potential")
