"""The program on processors without a multiplier: the reference's sums, and no instruction that multiplies."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hardware_tests.random_networks import numbered
from randhet.export.c import boards
from randhet.export.c import run as c
from randhet.export.c.boards import BOARDS, MULTIPLYING, multiplications
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.train.data.sources import load as load_data

sys.path.append(str(Path(__file__).parent))
import dense
import digits
import every_kind
import sanitized

HERE = [
    pytest.param(name, marks=pytest.mark.skipif(board.missing() is not None, reason=str(board.missing())))
    for name, board in BOARDS.items()
]
every_board = pytest.mark.parametrize("name", HERE)
FLASH, RAM = 256 * 1024, 64 * 1024


@cache
def shipped() -> ir.Network:
    return digits.shipped()


@cache
def program(name: str) -> c.Program:
    return c.Program(shipped(), BOARDS[name].build, trace=False)


@every_board
def test_the_shipped_network_gives_the_reference_s_sums(name: str) -> None:
    """Some images here, from a late number on; all of them by digits.py."""
    pixels = load_data("digits").pixels[-6:]
    found = program(name).run(pixels, c.states(shipped(), 5, 353))
    assert found.sums.tolist() == reference.run(shipped(), pixels, seed=5, first_image=353).sums.tolist()


@every_board
def test_a_network_that_draws_by_a_cipher_gives_the_reference_s_sums_and_multiplies_nothing(name: str) -> None:
    network, pixels = replace(shipped(), generator="chacha"), load_data("digits").pixels[-2:]
    keyed = c.Program(network, BOARDS[name].build, trace=False)
    found = keyed.run(pixels, c.states(network, 5, 353))
    assert found.sums.tolist() == reference.run(network, pixels, seed=5, first_image=353).sums.tolist()
    assert multiplications(BOARDS[name], keyed.path) == []


@every_board
def test_the_whole_program_fits_and_multiplies_nothing(name: str) -> None:
    """Everything that is linked, the start of the program included; it is linked with no library."""
    found = digits.needs(shipped(), BOARDS[name], program(name))
    assert found["multiplications"] == []
    assert 90_000 < found["flash"] <= FLASH
    assert 50_000 < found["ram"] <= RAM


@every_board
def test_every_kind_of_layer_multiplies_nothing(name: str) -> None:
    """With groups, pools, sums, signed inputs and Loihi's neuron, traced: kernels that the shipped network lacks."""
    rng = np.random.default_rng(3)
    weights = lambda *shape: rng.integers(-9, 10, shape).astype(np.int8)
    levels = np.full(4, 300, np.int32), np.zeros(4, np.int32)
    layers = (
        ir.Layer("input", ir.Input((2, 5, 5), 8, signed=True)),
        ir.Layer("flat", ir.Flatten(), (0,)),
        ir.Layer("conv", ir.Conv(weights(4, 1, 3, 3), groups=2), (0,), ir.Lif(*levels, reset="subtract")),
        ir.Layer("cuba", ir.Conv(weights(4, 4, 1, 1)), (2,), ir.Cuba(*levels, 99, 77)),
        ir.Layer("sum", ir.Add(), (2, 3)),
        ir.Layer("pool", ir.SumPool((2, 2), (1, 1)), (4,)),
        ir.Layer("drawn", ir.Dense(weights(4, 16)), (5,), ir.Lif(*levels, ir.Drawn(neurons_per_core=3))),
        ir.Layer("read", ir.Dense(weights(3, 4)), (6,), ir.ReadOut(levels[1][:3])),
    )
    network, board = ir.Network(layers, 2), BOARDS[name]
    images = rng.integers(-128, 128, (2, 2, 5, 5)).astype(np.int8)
    for level in ("-O1", "-O2", "-O3", "-Os"):
        build = replace(board.build, options=(*board.build.options, level))
        assert multiplications(board, c.Program(network, build, trace=False).path) == []
        assert multiplications(board, c.compiled(network, build, trace=True)) == []
        found = c.run(network, images, seed=1, build=build)
        assert found.sums.tolist() == reference.run(network, images, seed=1).sums.tolist()


@every_board
@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3", "-Os"])
def test_every_kind_of_sequences_multiplies_nothing(name: str, level: str) -> None:
    """Pools, gates, concatenation, late resets, floors, recurrence, a leaky read-out; recordings and their pieces."""
    board, network = BOARDS[name], every_kind.READS["largest of drawn Lif with a floor"]
    build = replace(board.build, options=(*board.build.options, level))
    assert multiplications(board, c.Program(network, build, trace=False).path) == []
    for stream in (False, True):
        found = c.run(network, every_kind.RECORDINGS, seed=1, build=build, stream=stream)
        expected = reference.run(network, every_kind.RECORDINGS, seed=1, stream=stream)
        assert found.sums.tolist() == expected.sums.tolist()


@every_board
@pytest.mark.parametrize("number", range(60, 66))
def test_wide_networks_give_the_reference_s_integers(name: str, number: int) -> None:
    """Every output and membrane potential of random networks of every kind, odd ones as pieces of one recording."""
    assert sanitized.differs(numbered(number, wide=True), BOARDS[name].build, stream=bool(number % 2)) == ""


PLANTED = {"riscv32i": ("-march=rv32im", "mul"), "cortex-m0": ("-mcpu=cortex-m0", "muls")}


@every_board
def test_a_planted_multiplication_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an instruction where the processor has one; without it the program does not link, for want of a library."""
    texts = c.files(shipped())
    kernels = texts["randhet.c"].replace(
        "const int32_t added = *sums++ + *bias++;", "const int32_t added = *sums++ * *bias++;"
    )
    assert kernels != texts["randhet.c"]
    monkeypatch.setattr(c, "files", lambda network: texts | {"randhet.c": kernels})
    board, (option, instruction) = BOARDS[name], PLANTED[name]
    build = replace(board.build, options=(*board.build.options, option))
    assert set(multiplications(board, c.compiled(shipped(), build, trace=False))) == {instruction}
    if name == "riscv32i":
        with pytest.raises(c.CompilerError, match="undefined reference to `__mulsi3'"):
            c.compiled(shipped(), board.build, trace=False)


WORDS = "mul mulhu div remu muls mla smull udiv __mulsi3 __muldi3 __udivsi3 __umoddi3 __aeabi_idivmod __aeabi_lmul"


@pytest.mark.parametrize("word", WORDS.split())
def test_names_of_multiplications_are_known(word: str) -> None:
    assert MULTIPLYING.search(word)


def test_other_names_are_not() -> None:
    assert not any(map(MULTIPLYING.search, ["add", "movs", "randhet_lif", "sll", "module", "__aeabi_llsl", "smile"]))


@pytest.mark.parametrize("name", BOARDS)
def test_a_tool_that_is_missing_is_named_with_its_packages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "which", lambda tool: None)
    reason = str(BOARDS[name].missing())
    assert BOARDS[name].build.compiler[0] in reason
    assert reason.endswith("is not installed: apt install " + " ".join(BOARDS[name].packages))


@pytest.mark.skipif(c.compiler() is None, reason=str(c.missing()))
def test_the_int8_network_that_is_compared_gives_numpy_s_scores(tmp_path: Path) -> None:
    """Its instructions are those of a network that computes what it should."""
    pixels = load_data("digits").pixels[:4]
    built = dense.compiled(shipped(), c.Build(c.compiler() or (), ("-O1", "-Wall", "-Wextra", "-Werror")), tmp_path)
    run = subprocess.run([built], input=dense.request(pixels), capture_output=True, check=True)
    expected = [dense.Answers(shipped(), image).scores().tolist() for image in pixels]
    assert np.frombuffer(run.stdout, "<i4").reshape(4, -1).tolist() == expected
    assert len(set(map(tuple, expected))) == 4
