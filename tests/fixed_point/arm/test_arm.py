"""The engines' kernels compiled for ARM, run in an emulator, against the reference."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))
import cross
from emulated import PROCESSORS, Machine, missing
from equality import assert_equal

from randhet.fixed_point import add_only, engine, reference
from randhet.fixed_point import network as ir
from randhet.fixed_point.add_only import layer
from randhet.fixed_point.engine import calls, choice, kernels
from randhet.fixed_point.engine.plan import make_synapse
from randhet.fixed_point.engine.sums import sum_tile
from randhet.fixed_point.kernels import dense, vectors
from randhet.fixed_point.kernels.bundles import Source
from randhet.fixed_point.network import Layer
from randhet.fixed_point.result import Result

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Machine]]:
    """Make the machine of a name, once."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(Machine(PROCESSORS[name], tmp_path_factory.mktemp(name))))


@pytest.fixture(params=PROCESSORS)
def machine(request: pytest.FixtureRequest, machines: Callable[[str], Machine]) -> Machine:
    """Every processor in turn."""
    return machines(request.param)


@pytest.fixture
def common(machines: Callable[[str], Machine]) -> Machine:
    """One of them: forms differ in their products only."""
    return machines("dotprod")


def form(machine: Machine) -> tuple[str, int]:
    """Name of what bytes are multiplied with there, and the bits of the largest value."""
    module = "randhet.fixed_point.kernels.vectors"
    return machine.ask(module, "FORM.name", None), machine.ask(module, "MOST_PLANES", None)


def test_the_form_is_the_best_of_the_processor(machine: Machine) -> None:
    assert form(machine)[0] == machine.processor.about
    assert machine.ask("randhet.fixed_point.kernels.dense", "AVAILABLE", None)


@pytest.mark.parametrize(("inputs", "width", "ends"), [(4, 65, True), (132, 64, True), (516, 130, False)])
def test_products_of_windows(machine: Machine, inputs: int, width: int, ends: bool) -> None:
    """Sums by multiplication, also where every value and weight is at its end, against a sum in 64 bit."""
    rng, (_, planes) = np.random.default_rng(inputs), form(machine)
    top, shape, steps = 2**planes - 1, (width, inputs, 3, 2), 8
    weight = np.full(shape, -128) if ends else rng.integers(-128, 128, shape)
    operation = ir.Conv(weight.astype(np.int8), (2, 1), (1, 0))
    (tile, *_), window = (synapse := make_synapse(operation, (inputs, 4, 3), top)).tiles, synapse.window
    values = rng.integers(top if ends else 0, top + 1, (steps, 12, inputs), dtype=np.uint8)
    source, begins = Source(values, window, tile.first, inputs, planes), np.arange(steps) * 12 * inputs
    padded, pixels = -(-tile.weight.shape[1] // 64) * 64, synapse.pixels
    sums, wide = np.full(pixels * steps * padded, 99, np.int32), vectors.pack(tile.weight[:-1], inputs)
    machine.call(vectors.products, source, wide, begins, np.empty(0, np.uint8), 0, pixels, sums, 0)
    shown = values.astype(np.int64).reshape(steps, 4, 3, inputs).transpose(0, 3, 1, 2)
    expected = reference.operate(operation, [shown]).reshape(steps, width, -1).transpose(2, 0, 1)
    found = sums.reshape(pixels, steps, padded)[:, :, : tile.weight.shape[1]]
    np.testing.assert_array_equal(found, expected[:, :, tile.channels])


def network(reset: ir.Reset = "zero") -> ir.Network:
    """A stem of 8 bit values, a layer of more than a chunk, graded sums, a pool; decays drawn and constant."""
    rng = np.random.default_rng(3)
    conv = lambda out, into: ir.Conv(rng.integers(-127, 128, (out, into, 3, 3)).astype(np.int8), padding=(1, 1))
    ints = lambda value, count: np.full(count, value, np.int32)
    neuron = lambda width, level, decay, k=8: ir.Lif(ints(level, width), ints(500, width), decay, k=k, reset=reset)
    table = np.sort(rng.integers(0, 256, 256)).astype(np.uint16)
    layers = (
        Layer("input", ir.Input((3, 5, 4))),
        Layer("stem", conv(68, 3), (0,), neuron(68, 20_000 << 6, ir.Drawn(table, neurons_per_core=96))),
        Layer("a", conv(68, 68), (1,), neuron(68, 900 << 6, ir.Constant(200))),
        Layer("sum", ir.Add(), (1, 2)),
        Layer("b", conv(130, 68), (3,), neuron(130, 1100 << 6, ir.Drawn(16 * table, neurons_per_core=96), 12)),
        Layer("pool", ir.SumPool((5, 4), (5, 4)), (4,)),
        Layer("flat", ir.Flatten(), (5,)),
        Layer("read", ir.Dense(rng.integers(-9, 9, (10, 130)).astype(np.int8)), (6,), ir.ReadOut(ints(0, 10))),
    )
    return ir.Network(layers, steps=5)


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4), dtype=np.uint8)
LIMITS = {"added": lambda inputs: 2**62, "multiplied": lambda inputs: -1, "half": lambda inputs: inputs // 4}


@pytest.mark.parametrize("multiplied", LIMITS)
def test_the_engine_equals_the_reference(common: Machine, multiplied: str) -> None:
    """Sums by addition, by multiplication and by both; weights lie as vectors read them, wherever this test runs."""
    reset: ir.Reset = "subtract" if multiplied == "half" else "zero"
    replaced = {
        (dense, "AVAILABLE"): True, (dense, "BY"): vectors, (dense, "pack"): vectors.pack,
        (dense, "MOST_PLANES"): form(common)[1], (choice, "limit"): LIMITS[multiplied],
        (calls, "sum_tile"): partial(common.call, sum_tile),
        (kernels, "lif_tile"): partial(common.call, kernels.lif_tile),
    }  # fmt: skip
    equal_to_reference(engine.run, network(reset), replaced)


def equal_to_reference(run: Callable[..., Result], given: ir.Network, replaced: dict[tuple[Any, str], Any]) -> None:
    """Compare an engine with kernels of the emulator in place of its own."""
    options: dict[str, Any] = {"seed": 1, "probes": ["a", "b", "sum"], "first_image": 7}
    expected = reference.run(given, IMAGES, **options)
    assert all(count > 0 for count in expected.spikes.values())
    with ExitStack() as stack:
        for (module, name), value in replaced.items():
            stack.enter_context(patch.object(module, name, value))
        found = run(given, IMAGES, **options, threads=1)
    assert_equal(found, expected)


FORBIDDEN = re.compile(r"^(f(?!mov)\w*|[us]cvtf|\w?mul\w*|\w*m(add|sub)l?|\w?ml[as]\w*|[us]div|\w*dot|sq\w*mul\w*)$")
"""Products, quotients, floating point: instructions of aarch64 that the add-only kernels must not have."""


def test_the_add_only_engine_equals_the_reference(common: Machine) -> None:
    """Its code for ARM multiplies nothing either."""
    names = "sum_layer", "drawn_layer", "given_layer"
    replaced = {(layer, name): partial(common.call, getattr(layer, name)) for name in names}
    equal_to_reference(add_only.run, network(), replaced)
    for name in names:
        programs = [path for (_, own, _), (path, _) in common.programs.items() if own == name]
        assert programs
        for program in programs:
            body = instructions(program)
            assert len(body) > 100
            assert not {word for word in body if FORBIDDEN.match(word)}


def instructions(program: Path) -> list[str]:
    """Mnemonics of this project's functions in a program; others are wrappers of numba, the driver and C."""
    tool = cross.COMPILER.replace("gcc", "objdump")
    text = subprocess.run(
        [tool, "-d", "--no-show-raw-insn", program], capture_output=True, check=True, text=True
    ).stdout
    found: list[str] = []
    ours = False
    for line in text.splitlines():
        if label := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            ours = label[1].startswith("_ZN7randhet")
        elif ours and (word := re.match(r"^\s+[0-9a-f]+:\s+([\w.]+)", line)):
            found.append(word[1])
    return found


def test_a_multiplication_would_be_found(common: Machine) -> None:
    """The products of the engine have what the add-only kernels must not have."""
    test_products_of_windows(common, 4, 65, True)
    programs = [path for (_, own, _), (path, _) in common.programs.items() if own == "products"]
    assert all("sdot" in filter(FORBIDDEN.match, instructions(path)) for path in programs)
    assert programs
