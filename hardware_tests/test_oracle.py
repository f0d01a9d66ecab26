"""The oracle stands alone and is right where it can be worked out by hand; the cases notice every planted fault."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_tests import oracle
from hardware_tests.cases import CASES
from hardware_tests.targets import Backend
from hardware_tests.test_conformance import differences, expected
from randhet.fixed_point import generator, integer, reference
from randhet.fixed_point import network as ir


def test_the_oracle_reads_the_description_of_a_network_and_nothing_else_of_the_project() -> None:
    tree = ast.parse(Path(oracle.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"__future__", "collections.abc", "dataclasses", "functools", "itertools", "math", "fixed_point"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ir"
    }
    assert used <= {
        "Network",
        "Layer",
        "Operation",
        "Neuron",
        *(kind.__name__ for kind in (*ir.Operation.__args__, *ir.Neuron.__args__)),
    }


def hand(neuron: ir.Neuron, weight: int, pixel: int, steps: int) -> oracle.Expected:
    layers = (
        ir.Layer("input", ir.Input((1, 1, 1))),
        ir.Layer("n", ir.Dense(np.array([[weight]], np.int8)), (0,), neuron),
    )
    return oracle.run(ir.Network(layers, steps), [[[[pixel]]]], 1)


def level(value: int) -> np.ndarray:
    return np.array([value], np.int32)


def test_lif_by_hand() -> None:
    """x = (1*100 << 6) + 1 = 6401; m = 6401 + floor((m - 6401)/2): 3200, 4800, 5600 > 5000, then from 0 again."""
    found = hand(ir.Lif(level(5000), level(1), ir.Constant(128)), 1, 100, 4)
    assert found.membranes["n"] == [[[3200], [4800], [5600], [3200]]]
    assert found.outputs["n"] == [[[0], [0], [1], [0]]]
    assert found.saturations == 0


def test_saturation_by_hand() -> None:
    """(127*255 << 10) = 33162240 saturates to 2^23 - 1 = 8388607, which is not above itself."""
    found = hand(ir.Lif(level(8388607), level(0), ir.Constant(0), f=10), 127, 255, 2)
    assert found.membranes["n"] == [[[8388607], [8388607]]]
    assert found.outputs["n"] == [[[0], [0]]] and found.saturations == 2


def test_cuba_by_hand() -> None:
    """u = 64*w = -640 the first time; kept fraction (4096 - 1000 - 1)/4096: trunc(-640*3095/4096) = -483, -1123."""
    found = hand(ir.Cuba(level(64), level(0), 1000, 4095), -10, 1, 2)
    assert found.membranes["n"] == [[[-640], [-1123]]]


def test_register_by_hand() -> None:
    """1 shifts out its bit and becomes the polynomial; 2 only shifts."""
    assert oracle.clock(1) == 0x80200003 and oracle.clock(2) == 1


# --- faults ---------------------------------------------------------------------------------------------------------

Fault = tuple[Any, str, Callable[..., Any]]
cut = lambda value, low, high: (np.clip(value, low, high), int(np.count_nonzero((value < low) | (value > high))))
FAULTS: dict[str, Fault] = {
    "threshold not strict": (integer, "fire", lambda m, theta: ((m >= theta) * 1, np.where(m >= theta, 0, m))),
    "reset by subtraction": (integer, "fire", lambda m, theta: ((m > theta) * 1, np.where(m > theta, m - theta, m))),
    "no reset": (integer, "fire", lambda m, theta: ((m > theta) * 1, m)),
    "lowest state -2^23": (integer, "sat24", lambda value: cut(value, -(2**23), 2**23 - 1)),
    "state of 25 bits": (integer, "sat24", lambda value: cut(value, 1 - 2**24, 2**24 - 1)),
    "saturations not counted": (integer, "sat24", lambda value: (np.clip(value, 1 - 2**23, 2**23 - 1), 0)),
    "decay truncates": (
        integer,
        "leak",
        lambda m, x, a, k: integer.sat24(x + np.sign(m - x) * ((a * np.abs(m - x)) >> k)),
    ),
    "product of 32 bits": (
        integer,
        "leak",
        lambda m, x, a, k: integer.sat24(x + ((a * (m - x)).astype(np.int32).astype(np.int64) >> k)),
    ),
    "bias before the shift": (integer, "current", lambda total, bias, f: integer.sat24((total + bias) << f)),
    "CUBA decay floors": (integer, "keep", lambda state, fraction: (state * fraction) >> 12),
    "CUBA wrap is modulo 2^24": (integer, "wrap_once", lambda value: (value + 2**23) % 2**24 - 2**23),
    "CUBA current saturates": (integer, "wrap_once", lambda value: np.clip(value, 1 - 2**23, 2**23 - 1)),
    "register clocked 4 times a draw": (
        generator,
        "draws",
        lambda seed, first, count: np.array([_clocked(seed, 4 * (first + i + 1)) for i in range(count)]),
    ),
    "registers start anew with every image": (
        reference,
        "LayerGenerator",
        lambda *arguments: _Restarting(*arguments),
    ),
    "one register for all cores": (
        reference,
        "LayerGenerator",
        lambda master, layer, neurons, per_core: generator.LayerGenerator(master, layer, neurons, neurons),
    ),
}


def _clocked(state: int, times: int) -> int:
    for _ in range(times):
        state = oracle.clock(state)
    return state % 256


class _Restarting(generator.LayerGenerator):
    """Rounds are counted from the image's start, five steps long."""

    def round(self, number: int) -> Any:
        return super().round(number % 5)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases are tried in order until one differs; without the fault none does (`test_conformance`)."""
    module, name, wrong = FAULTS[fault]
    small = [name for name in CASES if name not in ("a-whole-small-network", "images-from-number-1000")]
    right = {name: expected(name) for name in small}
    monkeypatch.setattr(module, name, wrong)
    assert any(differences(CASES[name](), Backend("reference").observe(CASES[name]()), right[name]) for name in small)


def test_a_chip_that_is_not_there_is_a_skip_with_a_reason() -> None:
    from hardware_tests.board import Board

    pytest.importorskip("lava.utils.loihi", reason="Lava is not installed")
    assert "lava-loihi" in str(Board().missing())
