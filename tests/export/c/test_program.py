"""The program that a network is written as: the reference's integers under sanitizers, plain text, bounded sizes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from equality import assert_equal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import runs

from hardware_tests.random_networks import Run, fingerprint, numbered
from randhet.base.errors import NetworkError
from randhet.export.c import run as c
from randhet.export.c import write as writer
from randhet.export.c.write import files, save
from randhet.fixed_point import backends, reference
from randhet.fixed_point import network as ir
from randhet.netx.read import read
from randhet.netx.write import write

sys.path.append(str(Path(__file__).parent))
import sanitized

pytestmark = pytest.mark.skipif(c.compiler() is None, reason=str(c.missing()))
STRICT = c.Build(c.compiler() or (), ("-O1", *sanitized.WARNINGS, *sanitized.SANITIZERS))


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def lif(channels: int, threshold: int = 9000, decay: ir.Decay | None = None) -> ir.Lif:
    return ir.Lif(np.full(channels, threshold, np.int32), np.zeros(channels, np.int32), decay or ir.Drawn())


def small(seed: int | None = None, *, names: tuple[str, str] = ("conv", "read"), **conv: object) -> ir.Network:
    """A convolution with drawn decays and a read-out, of a picture of 2 x 5 x 4."""
    rng = np.random.default_rng(5)
    first = ir.Conv(rng.integers(-90, 91, (3, 2, 3, 3)).astype(np.int8), **{"padding": (1, 1), **conv})  # type: ignore[arg-type]
    layers = [ir.Layer("input", ir.Input((2, 5, 4))), ir.Layer(names[0], first, (0,), lif(3))]
    size = int(np.prod(ir.Network(tuple(layers), 1).shapes[-1]))
    weight = rng.integers(-90, 91, (4, size)).astype(np.int8)
    layers.append(ir.Layer(names[1], ir.Dense(weight), (1,), ir.ReadOut(ints(5, -5, 0, 0))))
    return ir.Network(tuple(layers), 3, seed)


PICTURES = np.random.default_rng(1).integers(0, 256, (4, 2, 5, 4)).astype(np.uint8)


def agree(run: Run, stream: bool = False) -> None:
    assert sanitized.differs(run, STRICT, stream) == ""


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(runs(wide=True), st.booleans())
def test_any_network_gives_the_reference_s_integers_without_a_report(run: Run, stream: bool) -> None:
    agree(run, stream)


@pytest.mark.parametrize("number", range(8))
def test_numbered_networks_give_the_reference_s_integers_without_a_report(number: int) -> None:
    agree(numbered(number, wide=number % 4 != 0), stream=bool(number % 2))


@pytest.mark.skipif(which("clang") is None, reason="clang is not installed")
@pytest.mark.parametrize("number", range(3))
def test_clang_has_nothing_to_warn_of(number: int) -> None:
    assert sanitized.differs(numbered(number, wide=True), sanitized.builds()["clang"]) == ""


def test_the_record_is_of_these_networks_and_says_that_nothing_differs() -> None:
    record = json.loads(sanitized.RECORD.read_text())
    made = fingerprint(range(20), wide=True)
    assert record["fingerprint"] == made, "the generator has changed: tests/export/c/sanitized.py"
    assert record["kernels"] == sanitized.kernels(), "the kernels have changed: tests/export/c/sanitized.py"
    assert record["equal"] == record["compared"]
    assert record["compared"]["gcc"] >= 500


FAULTS = {
    "a higher membrane potential": (
        "decayed(*membrane - x, mantissa, neuron->k)",
        "decayed(*membrane - x, mantissa, neuron->k) + 3000",
    ),
    "no draws": ("neuron->decay[randhet_memory.draws[drawn]]", "neuron->decay[drawn & 1]"),
    "a decay one bit short": ("for (; k > 0; k--)", "for (k--; k > 0; k--)"),
    "a window one row off": ("at->top += window->stride_y;", "at->top += window->stride_y + 1;"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = FAULTS[fault]
    run = Run(small(), PICTURES, 3, 0)
    texts = files(run.network)
    assert texts["randhet.c"].count(right) == 1
    monkeypatch.setattr(c, "files", lambda network: texts | {"randhet.c": texts["randhet.c"].replace(right, wrong)})
    assert sanitized.differs(run, c.here()) != ""


def test_what_a_sanitizer_reports_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = files(small())
    wrong = texts["randhet.c"].replace("return as_signed((uint32_t)value << f);", "return value << (f + 30);")
    monkeypatch.setattr(c, "files", lambda network: texts | {"randhet.c": wrong})
    assert "runtime error" in sanitized.differs(Run(small(), PICTURES, 3, 0), STRICT)


def test_without_the_trace_the_sums_are_the_same() -> None:
    network = small()
    program = c.Program(network, STRICT, trace=False)
    found = program.run(PICTURES, c.states(network, 8, 40))
    expected = reference.run(network, PICTURES, seed=8, first_image=40)
    assert found.sums.tolist() == expected.sums.tolist() and found.saturations == expected.saturations


def test_batches_follow_each_other() -> None:
    network = small()
    told: list[int] = []
    found = c.run(network, PICTURES, seed=4, first_image=7, batch=3, progress=told.append)
    assert_equal(found, reference.run(network, PICTURES, seed=4, first_image=7))
    assert told == [3, 1]


# --- text -------------------------------------------------------------------------------------------------------------


def test_the_text_is_the_same_for_the_same_network(tmp_path: Path) -> None:
    network = numbered(3).network
    write(tmp_path / "it.net", network)
    assert files(network) == files(network) == files(read(tmp_path / "it.net"))


def test_kernels_include_nothing_and_multiply_nothing() -> None:
    """Operators of two operands stand between spaces there; stars without are pointers."""
    for name in writer.KERNELS:
        code = re.sub(r"/\*.*?\*/", "", (writer.HERE / name).read_text(), flags=re.DOTALL)
        assert re.findall(r"#include (\S+)", code) in ([["<stdint.h>", '"network.h"'], ['"randhet.h"']])
        assert " + " in code or name == "randhet.h"
        assert not re.search(r" [*/%]=? |\b(float|double|malloc|free)\b", code)


HOSTILE = [
    '*/ int evil(void) { return 1; } /*', "a\nb\r\n#error no", "??/\n", "\\", "ü\u202e\u2028", "x" * 100_000, '"', "//",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_cannot_leave_their_comment_or_string(name: str, tmp_path: Path) -> None:
    """The program compiles without a warning, and prints the class by the first characters of its name."""
    network = replace(small(9, names=(name, "read" + name)), classes=(name,) * 4)
    texts = files(network)
    assert max(map(len, texts["network.c"].splitlines())) < 1000
    assert all(text.isascii() for text in texts.values())
    out = example(network, tmp_path, PICTURES[:1])
    shown = name[:60].encode()
    assert re.fullmatch(rb"class \d " + re.escape(shown) + rb", sums( -?\d+){4}\n", out)


def test_a_seed_is_in_the_text_where_the_file_has_one() -> None:
    assert f"#define RANDHET_SEED UINT64_C({2**64 - 1})" in files(small(2**64 - 1))["network.h"]
    assert "RANDHET_SEED" not in files(small())["network.h"]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it").write_text("")
    with pytest.raises(Exception, match="it is a file, give the name of a folder"):
        save(tmp_path / "it", files(small()))


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_geometry_that_is_never_stepped_through_may_be_any() -> None:
    """One output pixel has no stride, one tap no dilation."""
    weight = np.random.default_rng(2).integers(-90, 91, (3, 2, 1, 1)).astype(np.int8)
    conv = ir.Conv(weight, stride=(2**60, 2**61), dilation=(2**50, 2**40))
    layers = (ir.Layer("input", ir.Input((2, 5, 4))), ir.Layer("conv", conv, (0,), lif(3)))
    agree(Run(ir.Network(layers, 2), PICTURES, 1, 0))


@pytest.mark.parametrize("padding", [2**12, 2**40])
def test_windows_that_pass_32_bits_are_refused(padding: int) -> None:
    network = small(padding=(padding, 0), stride=(padding, 1))
    if padding == 2**12:
        agree(Run(network, PICTURES, 1, 0))
        return
    with pytest.raises(
        NetworkError, match=r"^layer conv: as C its windows reach over \d+ values, the limit is 1073741"
    ):
        files(network)


def test_a_network_of_too_many_weights_is_refused() -> None:
    dense = ir.Dense(np.zeros((2900, 2900), np.int8))
    layers = (ir.Layer("input", ir.Input((2900,))), ir.Layer("dense", dense, (0,), lif(2900)))
    with pytest.raises(NetworkError, match="8410000 bytes of constants, the limit is 8388608"):
        files(ir.Network(layers, 1))


def test_memory_is_shared_by_what_does_not_live_at_once() -> None:
    """A chain of equal convolutions needs the values of two layers, however long it is; each keeps its states."""
    conv = ir.Conv(np.ones((2, 2, 3, 3), np.int8), padding=(1, 1))
    layers = [ir.Layer("input", ir.Input((2, 6, 6)))]
    layers += [ir.Layer(f"l{i}", conv, (i,), lif(2)) for i in range(9)]
    text = files(ir.Network(tuple(layers), 2))["network.h"]
    assert "#define RANDHET_VALUES 144\n" in text
    assert f"#define RANDHET_WORDS {72 * 10 + 2}\n" in text


# --- the example program ----------------------------------------------------------------------------------------------


def example(network: ir.Network, folder: Path, images: np.ndarray) -> bytes:
    """What the example program prints for these images."""
    save(folder, files(network))
    flags = ["CC=" + " ".join(c.compiler() or ()), "CFLAGS=-O1 -Werror"]
    subprocess.run(["make", "-s", *flags], cwd=folder, check=True, capture_output=True)
    text = "\n".join(" ".join(map(str, image.ravel())) for image in images)
    return subprocess.run(["./example"], input=text.encode(), cwd=folder, check=True, capture_output=True).stdout


needs_make = pytest.mark.skipif(which("make") is None, reason="make is not installed")


@needs_make
def test_the_example_seeds_as_the_reference_does(tmp_path: Path) -> None:
    """Registers start from the seed in the file, several cores in two layers, and run on from image to image."""
    network = small(2**63 + 5)
    drawn = ir.Drawn(neurons_per_core=7)
    first = replace(network.layers[1], neuron=lif(3, decay=drawn))
    network = replace(network, layers=(network.layers[0], first, network.layers[2]))
    expected = reference.run(network, PICTURES)
    lines = example(network, tmp_path, PICTURES).decode().splitlines()
    pairs = zip(expected.predictions, expected.sums.tolist())
    assert lines == [f"class {best}, sums {' '.join(map(str, sums))}" for best, sums in pairs]


@needs_make
def test_the_example_draws_anew_where_there_is_no_seed(tmp_path: Path) -> None:
    images = np.repeat(PICTURES[:1], 60, axis=0)
    assert example(small(), tmp_path, images) != example(small(), tmp_path, images)


@needs_make
@pytest.mark.parametrize("text", ["1 2", "x", "256 " * 40, "-1 " * 40])
def test_the_example_refuses_what_is_not_an_image(text: str, tmp_path: Path) -> None:
    example(small(1), tmp_path, PICTURES[:1])
    done = subprocess.run(["./example"], input=text.encode(), cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"an image is 40 integers from 0 to 255\n"


def test_a_network_that_was_not_seeded_classifies_nothing() -> None:
    network = small()
    program = c.Program(network, STRICT, trace=False)
    assert program.run(PICTURES, np.zeros(1, "<u4")).sums.tolist() == [[0] * 4] * 4


# --- compilers --------------------------------------------------------------------------------------------------------


def test_without_a_compiler_the_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "which", lambda name: None)
    monkeypatch.setattr(c, "find_spec", lambda name: None)
    with pytest.raises(backends.BackendError, match="c cannot run here: there is no C compiler: install gcc"):
        backends.runner("c")


def test_ziglang_stands_in_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "which", lambda name: None)
    monkeypatch.setattr(c, "find_spec", lambda name: name)
    assert c.compiler() == (sys.executable, "-m", "ziglang", "cc")


def test_the_same_text_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    c.run(small(), PICTURES[:1])
    monkeypatch.setattr(c, "_compile", None)
    c.run(small(), PICTURES[:1])
    with pytest.raises(TypeError):
        c.run(small(padding=(0, 0)), PICTURES[:1])


def test_a_compiler_that_fails_is_an_error_in_one_sentence() -> None:
    build = c.Build(c.compiler() or (), ("-O1", "-include", "nowhere.h"))
    with pytest.raises(c.CompilerError, match="failed with status 1: .*nowhere.h"):
        c.run(small(), PICTURES[:1], build=build)
