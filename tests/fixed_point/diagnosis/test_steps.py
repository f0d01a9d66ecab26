"""Other discretisations of a neuron are named: the run follows another equation, the definition says which is due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from randhet.fixed_point import integer, reference
from randhet.fixed_point import network as ir
from randhet.fixed_point.diagnosis.difference import divergence
from randhet.fixed_point.network import Layer, Network

SEED, STEPS, WIDTH = 3, 12, 5
PIXELS = np.random.default_rng(4).integers(0, 16, (6, STEPS, 4), np.uint8)
WEIGHT = np.random.default_rng(5).integers(-40, 60, (WIDTH, 4)).astype(np.int8)


def ints(value: int) -> np.ndarray:
    return np.full(WIDTH, value, np.int32)


def network(neuron: ir.Neuron) -> Network:
    return Network(
        (Layer("input", ir.Input((4,), 4, sequence=True)), Layer("it", ir.Dense(WEIGHT), (0,), neuron)), STEPS
    )


def wrong_run(network: Network, monkeypatch: pytest.MonkeyPatch, name: str, other: Callable[..., Any]) -> Any:
    """The first difference of a run in which one function of the arithmetic is another, from the definition."""
    probes = ["input", "it"]
    right = reference.run(network, PIXELS, seed=SEED, probes=probes)
    with monkeypatch.context() as patched:
        patched.setattr(integer, name, other)
        wrong = reference.run(network, PIXELS, seed=SEED, probes=probes)
    found = divergence(network, PIXELS, right, wrong, SEED)
    assert found is not None
    return found


def limited(value: Any) -> tuple[Any, int]:
    return integer.sat24(value)


def delayed() -> Callable[..., Any]:
    """The leak towards the input of the call before; the reference calls once a step, from the first."""
    inputs: list[Any] = []

    def leak(m: Any, x: Any, a: Any, k: int) -> tuple[Any, int]:
        step = len(inputs)
        inputs.append(x)
        old = inputs[step - 1] if step else np.zeros_like(x)
        return limited(old + np.floor_divide(a * (m - old), 2**k))

    return leak


STEPS_OF_OTHERS: dict[str, Callable[[], Callable[..., Any]]] = {
    "m = A*m + x, the input is not multiplied": lambda: lambda m, x, a, k: limited(x + np.floor_divide(a * m, 2**k)),
    "m = A*(m + x), the leak acts on the input": lambda: lambda m, x, a, k: limited(np.floor_divide(a * (m + x), 2**k)),
    "x of the step before": delayed,
    "without a leak": lambda: lambda m, x, a, k: limited(m + x),
    "A and 1 - A exchanged": lambda: lambda m, x, a, k: limited(m - np.floor_divide(a * (m - x), 2**k)),
}


@pytest.mark.parametrize("decay", [ir.Constant(200), ir.Drawn()], ids=["constant", "drawn"])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("words", STEPS_OF_OTHERS)
def test_another_step_is_named(words: str, reset: ir.Reset, decay: ir.Decay, monkeypatch: pytest.MonkeyPatch) -> None:
    given = network(ir.Lif(ints(9000), ints(-3000), reset=reset, decay=decay))
    found = wrong_run(given, monkeypatch, "leak", STEPS_OF_OTHERS[words]())
    assert (found.layer, found.cause) == ("it", "discretisation")
    assert words in found.detail


def test_a_voltage_that_takes_the_current_too_late_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = integer.cuba

    def cuba(u: Any, v: Any, *others: Any) -> Any:
        following = right(u, v, *others)[0]
        _, bias, _, voltage_decay, _ = others
        lasting = np.sign(v) * (np.abs(v) * (4096 - voltage_decay) // 4096)
        return following, *limited(lasting + u + bias)

    found = wrong_run(network(ir.Cuba(ints(20000), ints(0), 1000, 300)), monkeypatch, "cuba", cuba)
    assert (found.layer, found.cause) == ("it", "discretisation")
