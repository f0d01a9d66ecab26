"""The oracle stands alone and is right where it can be worked out by hand; the cases notice every planted fault."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from hardware_tests import galois, oracle
from hardware_tests.cases import CASES, alone
from hardware_tests.targets import Backend
from hardware_tests.test_conformance import differences, expected
from randhet.fixed_point import generator, integer, reference
from randhet.fixed_point import network as ir


def modules(of: Any) -> set[str | None]:
    """What a module imports."""
    tree = ast.parse(Path(of.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return names | {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}


def test_the_oracle_reads_the_description_of_a_network_and_nothing_else_of_the_project() -> None:
    """From the rooms it has the names of the parts alone; the field arithmetic beside it imports nothing of them."""
    standard = {"__future__", "collections.abc", "dataclasses", "itertools", "math", "typing"}
    assert modules(oracle) == {*standard, "hardware_tests", "randhet.fixed_point"}
    assert modules(galois) <= {*standard, "functools"}
    tree = ast.parse(Path(oracle.__file__).read_text())
    attributes = [
        node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    kinds = [kind.__name__ for union in (ir.Operation, ir.Neuron, ir.Decay) for kind in get_args(union)]
    assert {node.attr for node in attributes if node.value.id == "ir"} <= {  # type: ignore[attr-defined]
        "Network", "Layer", "Operation", "Neuron", "Decay", *kinds
    }  # fmt: skip
    derived = {"shapes", "ranges", "bounds", "delays"}
    assert not derived & {node.attr for node in attributes if node.value.id == "network"}  # type: ignore[attr-defined]


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
    run = hand(ir.Lif(level(5000), level(1), ir.Constant(128)), 1, 100, 4)
    assert run.membranes["n"] == [[[3200], [4800], [5600], [3200]]]
    assert run.outputs["n"] == [[[0], [0], [1], [0]]]
    assert run.saturations == 0


def test_saturation_by_hand() -> None:
    """(127*255 << 10) = 33162240 saturates to 2^23 - 1 = 8388607, which is not above itself."""
    run = hand(ir.Lif(level(8388607), level(0), ir.Constant(0), f=10), 127, 255, 2)
    assert run.membranes["n"] == [[[8388607], [8388607]]]
    assert run.outputs["n"] == [[[0], [0]]] and run.saturations == 2


def test_cuba_by_hand() -> None:
    """u = 64*w = -640 the first time; kept fraction (4096 - 1000 - 1)/4096: trunc(-640*3095/4096) = -483, -1123."""
    run = hand(ir.Cuba(level(64), level(0), 1000, 4095), -10, 1, 2)
    assert run.membranes["n"] == [[[-640], [-1123]]]


def test_subtraction_by_hand() -> None:
    """x = 6400 at once (A = 0): m = 6400 at every step, which a spike leaves at 3400; with A = 128 it is halved first.

    m: 6400 - 3000 = 3400; then 6400 + (3400 - 6400)/2 = 4900 - 3000 = 1900; then 4150 - 3000 = 1150; 3775.
    """
    at_once, halved = (ir.Lif(level(3000), level(0), ir.Constant(a), reset="subtract") for a in (0, 128))
    assert hand(at_once, 1, 100, 3).membranes["n"] == [[[6400]] * 3]
    assert hand(halved, 1, 100, 5).membranes["n"] == [[[3200], [3300], [3350], [3375], [3387]]]
    assert hand(halved, 2, 100, 4).membranes["n"] == [[[6400], [8100], [8950], [9375]]]


def test_signed_pixels_by_hand() -> None:
    layers = (
        ir.Layer("input", ir.Input((1, 1, 2), 4, signed=True)),
        ir.Layer("twice", ir.Add(), (0, 0)),
        ir.Layer("pool", ir.SumPool((1, 2), (1, 1)), (1,)),
        ir.Layer("read", ir.Dense(np.array([[2, -1]], np.int8)), (0,), ir.ReadOut(level(1))),
    )
    run = oracle.run(ir.Network(layers, 2), [[[[-3, -8]]]], 1)
    assert run.outputs["twice"] == [[[-6, -16]] * 2] and run.outputs["pool"] == [[[-22]] * 2]
    assert run.outputs["read"] == [[[3]] * 2] and run.membranes["read"] == [[[3], [6]]]


def shown(name: str, image: int = 0) -> tuple[dict[str, list], dict[str, list]]:
    """Outputs and membrane potentials of one image of a case, by layer, as (T, neurons)."""
    run = expected(name)
    return ({key: values[image] for key, values in found.items()} for found in (run.outputs, run.membranes))  # type: ignore[return-value]


def neuron(values: list, number: int) -> list[int]:
    return [step[number] for step in values]


def test_late_subtraction_by_hand() -> None:
    """x = 400: m = 400 + floor((m - 400)/2) - 90 from the second step on, always above 90: 200, 300 - 90, 305 - 90, ...

    At once, 200 - 90 = 110 would be halved first. x = 600: 300, below 399; then 450, which fires; 525 - 399, and so on.
    """
    outputs, membranes = shown("late-subtraction-stays-above-the-threshold")
    assert neuron(membranes["neuron"], 0) == [200, 210, 215, 217, 218, 219, 219]
    assert neuron(outputs["neuron"], 0) == [1] * 7
    assert neuron(membranes["neuron"], 1)[:4] == [300, 450, 126, 363]
    assert neuron(outputs["neuron"], 1)[:4] == [0, 1, 0, 0]


def test_late_reset_to_zero_by_hand() -> None:
    """500 fires, so 30,000 at the next step counts for nothing; 5 + floor(-5/2) = 2; 1000 - 499 = 501 fires again.

    The other neuron's current is 8,000,000 + 127 * 30,000 there, above 2^23 - 1: two saturations, of the current alone.
    """
    outputs, membranes = shown("late-reset-to-zero-whatever-the-current-is")
    assert neuron(membranes["neuron"], 0) == [500, 0, 2, 501, 0]
    assert neuron(outputs["neuron"], 0) == [1, 0, 0, 1, 0]
    assert neuron(membranes["neuron"], 1)[:2] == [4_063_500, 0]
    assert expected("late-reset-to-zero-whatever-the-current-is").saturations == 2


def test_late_subtraction_saturates_by_hand() -> None:
    """127 * 127 << 16 and -128 * 127 << 16 are far outside 24 bits; -(2^23 - 1) less the threshold is cut to it again.

    Saturations: one current of each neuron at each of five steps, and one late subtraction for each spike.
    """
    outputs, membranes = shown("late-subtraction-at-the-ends-of-the-range")
    top = 2**23 - 1
    assert neuron(membranes["neuron"], 0) == [top, -top, -top, top, top - (top - 1)]
    assert neuron(outputs["neuron"], 0) == [1, 0, 0, 1, 0] and neuron(outputs["neuron"], 2) == [0] * 5
    assert neuron(membranes["neuron"], 1) == [top, -top, -top, top, top - 1]
    # the spike before a positive current is subtracted without leaving 24 bits
    assert expected("late-subtraction-at-the-ends-of-the-range").saturations == 15 + 2


def test_floors_by_hand() -> None:
    """-200 takes m to -100, which is raised to -50; then -125, raised; (-50 + 300)/2 = 125; 10 + floor(115/2) = 67."""
    _, one = shown("floor-is-touched-and-left")
    assert neuron(one["neuron"], 0) == [-50, -50, 125, 67]
    assert neuron(one["neuron"], 1) == [100, 150, -50, -30]
    _, each = shown("floors-of-channels")
    assert [neuron(each["neuron"], n) for n in range(3)] == [
        [-10, -10, 145, 77],
        [-100, -100, 100, 55],
        [-100, -150, 75, 42],
    ]
    _, late = shown("floor-under-a-late-subtraction")
    assert neuron(late["neuron"], 0)[:3] == [200, -20, 40]
    assert neuron(late["neuron"], 1)[:3] == [200, -190, -45]


def test_max_pool_by_hand() -> None:
    """Windows of 2 x 2 over (-3 -7 / -8 -1) with a padded border."""
    outputs, _ = shown("max-pool-of-negative-values-with-padding")
    assert outputs["pool"] == [[-3, -3, -7, -3, -1, -1, -8, -1, -1]] * 3


def test_gates_by_hand() -> None:
    """Frames (1, 0), (1, 1), (0, 0), (0, 1): a is the first value, b the second, both of two neurons alike."""
    outputs, _ = shown("gates-of-equal-and-different-spikes")
    right = {
        "a": [1, 1, 0, 0], "b": [0, 1, 0, 1], "and": [0, 1, 0, 0], "iand": [0, 0, 0, 1], "iand of b": [1, 0, 0, 0],
        "and with itself": [1, 1, 0, 0], "iand with itself": [0, 0, 0, 0], "of gates": [1, 0, 0, 0],
    }  # fmt: skip
    for name, spikes in right.items():
        assert outputs[name] == [[spike, spike] for spike in spikes], name


def test_concatenation_by_hand() -> None:
    """Pixels (1 2 / 3 4): half of 1 2, of 3 4 and of 3 - 1, 4 - 2 at the first step; spikes are above 1, 3 and 1."""
    outputs, membranes = shown("concat-of-unequal-channels")
    assert membranes["spikes"][:2] == [[0, 1, 1, 2, 1, 1], [0, 1, 2, 3, 1, 1]]
    assert outputs["spikes"] == [[0] * 6] * 4
    assert outputs["all"] == [[1, 2, 3, 4, *[0] * 6, 0, 0, 1, 2, 3, 4]] * 4
    outputs, _ = shown("concat-of-unequal-channels", 1)
    assert outputs["spikes"][0] == [1, 0, 1, 1, 0, 1] and outputs["sum"][0] == [2, 2]
    assert outputs["all"][0] == [255, 0, 9, 77, 1, 0, 1, 1, 0, 1, 2, 2, 255, 0, 9, 77]


def test_sums_that_are_sent_by_hand() -> None:
    """p - 2 q, then 100 p + 3 q, of the two channels p and q of each pixel."""
    pixels = CASES["weights-without-a-neuron-send-their-sums"]().images[0].astype(int).reshape(2, 9)
    outputs, membranes = shown("weights-without-a-neuron-send-their-sums")
    right = [p - 2 * q for p, q in pixels.T.tolist()] + [100 * p + 3 * q for p, q in pixels.T.tolist()]
    assert outputs["still"] == [right] * 4 and "still" not in membranes


def test_transposed_convolution_by_hand() -> None:
    """(1 2 / 3 4) with (1 10 100 / 2 20 50), stride 2: each value times the kernel, two apart; one more column of 0.

    Row 0: 1, 10, 100 + 2, 20, 200. Row 1: 2, 20, 50 + 4, 40, 100. Rows 2 and 3 likewise of 3 and 4.
    """
    outputs, _ = shown("transposed-convolution")
    assert outputs["spread"][0] == [1, 0, 2, 0, 0, 0, 0, 0, 3, 0, 4, 0]
    rows = [[1, 10, 102, 20, 200, 0], [2, 20, 54, 40, 100, 0], [3, 30, 304, 40, 400, 0], [6, 60, 158, 80, 200, 0]]
    assert outputs["read"] == [[value for row in rows for value in row]] * 2


def test_recurrence_by_hand() -> None:
    """3 of the light, then 2 of its own spike at every step, above 1; the other one 2, 2 - 5, 2, 2 - 5."""
    outputs, membranes = shown("recurrence-keeps-itself-alive")
    assert neuron(outputs["neuron"], 0) == [1] * 5 and neuron(outputs["neuron"], 1) == [0, 1, 0, 1, 0]
    assert membranes["neuron"] == [[3, 0], [2, 2], [2, -3], [2, 2], [2, -3]]
    dark, _ = shown("recurrence-keeps-itself-alive", 1)
    assert dark["neuron"] == [[0, 0]] * 5


def test_leaky_read_outs_by_hand() -> None:
    """100, -60, 20: 50, -60 + 55 = -5, 20 + floor(-25/2) = 7; and -50, 5, -8. Loihi's: the sums so far, 100, 40, 60."""
    for name, steps in (("lif", [[50, -50], [-5, 5], [7, -8]]), ("cuba", [[100, -100], [40, -40], [60, -60]])):
        for read, right in (
            ("sum", [sum(v) for v in zip(*steps)]),
            ("last", steps[-1]),
            ("max", [max(v) for v in zip(*steps)]),
        ):
            case = CASES[f"leaky-{name}-read-by-{read}"]()
            outputs, _ = shown(case.name)
            assert outputs["neuron"] == steps
            assert oracle.read(case.network.layers[-1].neuron, outputs["neuron"]) == right
    _, floored = shown("leaky-lif-with-a-floor-read-by-last")
    assert floored["neuron"] == [[50, 0], [-5, 30], [7, 5]]


def test_frames_of_16_bits_by_hand() -> None:
    """-2^15 - (2^15 - 1) = -65535 and back; 127 times their sum, -1; -127 times the second value."""
    outputs, membranes = shown("sequence-of-signed-frames-of-16-bits")
    assert membranes["neuron"] == [[-65535, -127, -127 * 32767], [65535, -127, 127 * 32768], [-1, 127, -127]]
    assert outputs["neuron"] == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_register_by_hand() -> None:
    """1 shifts out its bit and becomes the polynomial; 2 only shifts."""
    assert oracle.clock(1) == 0x80200003 and oracle.clock(2) == 1


def test_a_jump_of_the_register_is_clocks_one_by_one() -> None:
    state = 0xDEADBEEF
    for clocks in range(200):
        assert oracle.later(0xDEADBEEF, clocks) == state
        state = oracle.clock(state)


@pytest.mark.parametrize("what", ["operation", "neuron", "decay", "reset"])
def test_the_oracle_refuses_what_it_does_not_know(what: str) -> None:
    class Unknown:
        """Of no kind."""

    neuron = ir.Lif(level(5), level(0))
    network = alone(neuron, np.array([[1]], np.int8), 2)
    layer = network.layers[1]
    wrong = {
        "operation": (layer, "operation", Unknown()),
        "neuron": (layer, "neuron", Unknown()),
        "decay": (neuron, "decay", Unknown()),
        "reset": (neuron, "reset", "half"),
    }
    object.__setattr__(*wrong[what])
    with pytest.raises(TypeError, match=f"the oracle knows no {what}"):
        oracle.run(network, [[[[9]]]], 1)


# --- faults ---------------------------------------------------------------------------------------------------------

Fault = tuple[Any, str, Callable[..., Any]]
cut = lambda value, low, high: (np.clip(value, low, high), int(np.count_nonzero((value < low) | (value > high))))
fired = lambda spikes: (
    lambda m, theta, reset="zero": (
        spikes(m, theta) * 1,
        np.where(spikes(m, theta), integer.reset_to(m, theta, reset), m),
    )
)
operate, max_pool, run_batch = reference.operate, reference._max_pool, reference._run_batch
FAULTS: dict[str, Fault] = {
    "threshold not strict": (integer, "fire", fired(lambda m, theta: m >= theta)),
    "reset by subtraction": (integer, "reset_to", lambda m, theta, reset: m - theta),
    "reset to zero": (integer, "reset_to", lambda m, theta, reset: 0),
    "subtraction as often as it goes": (
        integer,
        "reset_to",
        lambda m, theta, reset: 0 if reset == "zero" else m % theta,
    ),
    "no reset": (integer, "reset_to", lambda m, theta, reset: m),
    "negative pixels are bytes": (
        reference,
        "operate",
        lambda of, read: operate(of, [np.where(v < -1, v & 255, v) for v in read]),
    ),
    "sums have no sign": (
        reference,
        "operate",
        lambda of, read: abs(operate(of, read)) if isinstance(of, ir.Add) else operate(of, read),
    ),
    "a dense layer reads (x, y, channel)": (
        reference,
        "operate",
        lambda of, read: operate(
            of, [v.transpose(0, *range(v.ndim - 1, 0, -1)) for v in read] if isinstance(of, ir.Dense) else read
        ),
    ),
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
    "numbers of draws of 64 bits": (reference, "LayerGenerator", lambda *arguments: _Wrapping(*arguments)),
    "a late reset never comes": (integer, "leak_after", lambda m, x, a, k, s, theta, reset: integer.leak(m, x, a, k)),
    "a late reset before the decay": (
        integer,
        "leak_after",
        lambda m, x, a, k, s, theta, reset: integer.leak(np.where(s, integer.reset_to(m, theta, reset), m), x, a, k),
    ),
    "padding is zero in a max pool": (
        reference,
        "_max_pool",
        lambda of, read: np.maximum(max_pool(of, read), 0) if any(of.padding) else max_pool(of, read),
    ),
    "a gate takes its layers the other way": (reference, "operate", lambda of, read: operate(of, read[::-1])),
    "no recurrence": (reference.RecurrentCell, "returned", lambda self: 0),
    "the last step is read": (reference, "read_on", lambda before, output, read: output),
    "frames from the last to the first": (
        reference,
        "_run_batch",
        lambda net, x, *more: run_batch(net, x[:, ::-1] if net.input.sequence else x, *more),
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


class _Wrapping(generator.LayerGenerator):
    """Rounds are counted modulo 2^64."""

    def round(self, number: int) -> Any:
        return super().round(number % 2**64)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases are tried in order until one differs; without the fault none does (`test_conformance`)."""
    module, name, wrong = FAULTS[fault]
    small = [name for name in CASES if name not in ("a-whole-small-network", "images-from-number-1000")]
    right = {name: expected(name) for name in small}
    monkeypatch.setattr(module, name, wrong)
    assert any(differences(CASES[name](), Backend("reference").observe(CASES[name]()), right[name]) for name in small)


@pytest.mark.lava
def test_a_chip_that_is_not_there_is_a_skip_with_a_reason() -> None:
    from hardware_tests.board import Board

    assert "lava-loihi" in str(Board().missing())
