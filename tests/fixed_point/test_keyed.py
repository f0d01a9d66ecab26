"""The keyed generator: published vectors, its layout, and equal integers on every backend."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from hardware_tests import oracle, study
from hardware_tests.agreement import CONTENDERS, Counts, compare, contenders
from hardware_tests.observer import from_spikes
from hardware_tests.random_networks import Run, numbered
from randhet.base.errors import NetworkError, RandhetError
from randhet.compare.study import chosen
from randhet.export.c import run as c
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.backends import BACKENDS, runner
from randhet.fixed_point.chips.inspection import inspect
from randhet.fixed_point.engine.keyed import make_keyed
from randhet.fixed_point.engine.plan import Tile
from randhet.fixed_point.generator import core_seed, draws
from randhet.fixed_point.kernels.chacha import blocks, drawn_decays
from randhet.fixed_point.keyed import CONSTANTS, KeyedGenerator, key_of, keystream
from randhet.netx.read import read
from randhet.netx.write import write
from randhet.train.checkpoint import load
from randhet.train.data.sources import load as load_data

SHIPPED = Path(__file__).parents[2] / "checkpoints/digits-randhet-at.pt"
COUNTED = bytes(range(32))
# RFC 8439: section 2.3.2, then appendix A.1, vectors 1 and 2 (key, counter, nonce, block)
VECTORS = [
    (
        COUNTED, 1, "000000090000004a00000000",
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    ),
    (
        bytes(32), 0, "00" * 12,
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        bytes(32), 1, "00" * 12,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
]  # fmt: skip


FORBIDDEN = re.compile(r"v?p?i?(mul|div|madd)|v?(mul|div|add|sub)[sp][sd]")


def words(data: bytes) -> list[int]:
    return np.frombuffer(data, "<u4").tolist()


@pytest.mark.parametrize(("key", "counter", "nonce", "block"), VECTORS)
def test_published_blocks(key: bytes, counter: int, nonce: str, block: str) -> None:
    given, own = np.array(words(key), np.uint32), words(bytes.fromhex(nonce))
    assert keystream(given, (own[0], own[1], own[2]), counter, 1).tobytes().hex() == block
    assert oracle.chacha20(words(key), counter, own).hex() == block
    start = np.array([*CONSTANTS, *words(key), 0, *own], np.uint32)
    x, out = np.empty(256, np.uint32), np.empty(256, np.uint32)
    blocks(start, counter, x, out)
    assert out.astype("<u4").tobytes()[:64].hex() == block


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_gives_the_same_stream() -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        key, nonce, first = rng.bytes(32), rng.bytes(12), int(rng.integers(2**31))
        command = ["openssl", "enc", "-chacha20", "-K", key.hex(), "-iv", (first.to_bytes(4, "little") + nonce).hex()]
        wanted = subprocess.run(command, input=bytes(64 * 21), capture_output=True, check=True).stdout
        own = words(nonce)
        found = keystream(np.array(words(key), np.uint32), (own[0], own[1], own[2]), first, 21)
        assert found.tobytes() == wanted


def test_where_key_nonce_and_bytes_come_from() -> None:
    """Neuron 70 of layer 3 in round 2^32 + 5 takes byte 6 of block 1."""
    key = [core_seed(11, 0, word) for word in range(8)]
    assert key_of(11).tolist() == key
    block = oracle.chacha20(key, 1, [3, 5, 1])
    drawn = KeyedGenerator(11, 3, 100).round(2**32 + 5)
    assert drawn.shape == (100,) and drawn[70] == block[6]
    assert (KeyedGenerator(11, 3, 100).round(2**64 + 2**32 + 5) == drawn).all()


@settings(max_examples=30, deadline=None)
@given(
    master=st.integers(0, 2**64 - 1), layer=st.integers(0, 60), number=st.integers(0, 2**64 - 3),
    pixels=st.integers(1, 40), channels=st.integers(1, 70), data=st.data(),
)  # fmt: skip
def test_tiles_draw_what_the_definition_says(
    master: int, layer: int, number: int, pixels: int, channels: int, data: Any
) -> None:
    offset = data.draw(st.integers(0, channels - 1))
    width = data.draw(st.integers(1, channels - offset))
    rows = np.zeros((1, width), np.int8)
    tile = Tile(offset, 0, rows, rows, rows)
    table = np.random.default_rng(layer).permutation(256).astype(np.uint16)
    source = make_keyed(ir.Drawn(table), (channels, pixels), layer, master)
    found = source.decays(tile, [number, number + 1]).reshape(2, pixels, -1)
    drawn = KeyedGenerator(master, layer, channels * pixels).rounds(number, 2).reshape(2, channels, pixels)
    assert (found[:, :, :width] == table[drawn].swapaxes(1, 2)[:, :, offset : offset + width]).all()


def test_the_compiled_cipher_multiplies_nothing() -> None:
    """Nothing is multiplied, divided or computed in floating point; positions neither."""
    # compiled anew: machine code that was kept on disk cannot be listed
    fresh = njit(drawn_decays.py_func, nogil=True, _nrt=False)
    word, none = np.zeros(256, np.uint32), np.zeros(0, np.uint32)
    fresh(word[:16], none, np.zeros(256, np.int32), 0, 1, 1, 64, word, word.copy(), np.zeros(0, np.int32))
    (listing,) = fresh.inspect_asm().values()
    lines = [line.split() for line in listing.splitlines() if line.startswith("\t")]
    body = [words[0] for words in lines if not words[0].startswith(".")]
    assert len(body) > 500
    assert [name for name in body if FORBIDDEN.match(name)] == []
    assert all(FORBIDDEN.match(name) for name in ("imulq", "vpmulld", "divl", "vmulps", "mulsd", "vpmaddwd"))


# --- backends ---------------------------------------------------------------------------------------------------------


def keyed(run: Run) -> Run:
    """The same run with draws by the cipher."""
    return replace(run, network=replace(run.network, generator="chacha"))


@cache
def drawing(count: int) -> list[int]:
    """Numbers of the first random networks that draw, in which both samplings and recurrent layers appear."""
    found: list[int] = []
    number = 0
    while len(found) < count:
        if any(layer.drawn for layer in numbered(number).network.layers):
            found.append(number)
        number += 1
    return found


FAST = ["reference", "engine", "engine, 2 threads", "add-only", "add-only, 2 threads"]


@pytest.mark.parametrize("place", range(40))
def test_random_networks_give_the_oracle_s_integers(place: int) -> None:
    run = keyed(numbered(drawing(40)[place]))
    assert list(compare(place, run, contenders(FAST), Counts())) == []


def test_the_random_networks_hold_what_draws_can_depend_on() -> None:
    runs = [numbered(number) for number in drawing(40)]
    layers = [(run.network, layer) for run in runs for layer in run.network.layers if layer.drawn]
    assert {layer.drawn.sampling for _, layer in layers if layer.drawn} == {"step", "forward"}
    assert any(layer.recurrent is not None for _, layer in layers)
    assert any(run.first_image * run.network.steps >= 2**32 for run in runs)


@pytest.mark.skipif(BACKENDS["c"].missing() is not None, reason="no C compiler")
@pytest.mark.parametrize("place", range(8))
def test_random_networks_in_c(place: int) -> None:
    run = keyed(numbered(drawing(40)[place]))
    assert list(compare(place, run, {"c": CONTENDERS["c"]()}, Counts())) == []


@pytest.mark.lava
@pytest.mark.parametrize("place", range(4))
def test_random_networks_on_lava(place: int) -> None:
    run = keyed(numbered(drawing(40)[place]))
    assert list(compare(place, run, contenders(["lava"]), Counts())) == []


def shipped() -> ir.Network:
    made = export_checkpoint(load(SHIPPED), load_data("digits", "train").pixels[:32])
    return replace(made.network, generator="chacha")


@pytest.fixture(scope="module")
def network() -> ir.Network:
    return shipped()


@pytest.mark.parametrize("backend", ["engine", "add-only", "c"])
def test_pieces_of_a_recording_draw_on(network: ir.Network, backend: str) -> None:
    if reason := BACKENDS[backend].missing():
        pytest.skip(reason)
    images, names = load_data("digits").pixels[:3], [layer.name for layer in network.layers]
    wanted = reference.run(network, images, seed=4, first_image=9, probes=names, stream=True)
    found = runner(backend)(network, images, seed=4, first_image=9, probes=names, stream=True)
    for name in names:
        assert (found.traces[name].output == wanted.traces[name].output).all(), name
    assert (found.sums == wanted.sums).all()


def test_every_image_draws_anew_and_the_seed_decides(network: ir.Network) -> None:
    image = load_data("digits").pixels[:1].repeat(2, axis=0)
    first = reference.run(network, image, seed=1)
    assert (first.sums[0] != first.sums[1]).any()
    assert (reference.run(network, image, seed=1).sums == first.sums).all()
    assert (reference.run(network, image, seed=2).sums != first.sums).any()
    assert (reference.run(replace(network, generator="register"), image, seed=1).sums != first.sums).any()


# --- files, targets that cannot ---------------------------------------------------------------------------------------


def test_the_file_keeps_the_generator_and_says_nothing_of_registers(network: ir.Network, tmp_path: Path) -> None:
    write(tmp_path / "keyed.net", network)
    assert read(tmp_path / "keyed.net").generator == "chacha"
    write(tmp_path / "plain.net", replace(network, generator="register"))
    assert read(tmp_path / "plain.net").generator == "register"
    with h5py.File(tmp_path / "plain.net") as file:
        assert "generator" not in file.attrs
    with h5py.File(tmp_path / "keyed.net", "a") as file:
        file.attrs["generator"] = "dice"
    with pytest.raises(RandhetError, match="generator 'dice' is not one of register, chacha"):
        read(tmp_path / "keyed.net")
    with pytest.raises(NetworkError, match="generator 'dice'"):
        replace(network, generator="dice")


def test_integer_onnx_refuses_the_cipher(network: ir.Network) -> None:
    if reason := BACKENDS["onnx"].missing():
        pytest.skip(reason)
    with pytest.raises(RandhetError, match=r"'chacha'.*shift registers only"):
        runner("onnx")(network, load_data("digits").pixels[:1], seed=1)


def test_a_comparison_leaves_out_what_cannot_draw_so(network: ir.Network) -> None:
    names, absent = chosen(None, network)
    assert "engine" in names and "onnx" not in names
    if BACKENDS["onnx"].missing() is None:
        assert absent["onnx"] == "the network draws by chacha, it by register only"
        assert "onnx" in chosen(None, replace(network, generator="register"))[0]


def test_no_chip_is_said_to_have_the_cipher(network: ir.Network) -> None:
    rules = [finding for finding in inspect(network, "loihi2").rules if finding.rule == "decay drawn at random"]
    assert rules and not any(finding.ok for finding in rules)
    assert all("cipher" in str(finding.value) for finding in rules)


def test_c_of_registers_has_no_cipher(network: ir.Network) -> None:
    plain, own = c.files(replace(network, generator="register")), c.files(network)
    assert set(own) - set(plain) == {"randhet_chacha.c", "randhet_chacha.h"}
    assert not any("chacha" in text for text in plain.values())
    assert "randhet_chacha.c" in own["Makefile"]
    for name in c.KERNELS:
        assert own[name] == plain[name]


@pytest.mark.skipif(c.compiler() is None or shutil.which("make") is None, reason="no C compiler or make")
def test_the_example_program_is_built_and_answers(network: ir.Network, tmp_path: Path) -> None:
    seeded, image = replace(network, seed=77), load_data("digits").pixels[:3]
    for name, text in c.files(seeded).items():
        (tmp_path / name).write_text(text, "utf-8")
    compiler = " ".join(c.compiler() or ())
    subprocess.run(["make", f"CC={compiler}", "CFLAGS=-O1 -Werror"], cwd=tmp_path, check=True, capture_output=True)
    given = " ".join(map(str, image.ravel().tolist())).encode()
    answers = subprocess.run([tmp_path / "example"], input=given, capture_output=True, check=True).stdout.decode()
    found = [list(map(int, line.split("sums ")[1].split())) for line in answers.splitlines()]
    assert found == reference.run(seeded, image).sums.tolist()


# --- what an observer learns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "share"), [("register", 1.0), ("chacha", 0.0)])
@pytest.mark.parametrize("number", [0, 70_000])
def test_spikes_of_one_step_tell_the_draws_of_registers_alone(
    network: ir.Network, number: int, kind: Any, share: float
) -> None:
    """Share of the draws of the next step that follow from what `observer` recovers; chance would give 1/256."""
    network = replace(network, generator=kind)
    image, shape, drawn = load_data("digits").pixels[:1], network.shapes[1], network.layers[1].drawn
    assert drawn is not None
    run = reference.run(network, image, seed=2025, first_image=number, probes=["node1"])
    spikes, size = run.traces["node1"].output[0, 0] != 0, drawn.neurons_per_core
    later = number * network.steps + 1
    right = reference.make_generator(kind, 2025, 1, prod(shape), size).round(later).reshape(-1, size)
    for core in range(2):
        try:
            state = from_spikes(network, image[0], spikes, number, core).state
        except ValueError:  # what was seen contradicts every register: nothing is recovered
            state = None
        told = 0.0 if state is None else float((draws(state, later * size, size) == right[core]).mean())
        assert told == pytest.approx(share, abs=0.03)


def test_the_relation_of_five_draws_does_not_hold() -> None:
    """It holds for all draws of a register, and for one in 256 independent ones."""
    assert study.relation_holds(KeyedGenerator(99, 1, 20_000).round(0)) < 3 / 256
