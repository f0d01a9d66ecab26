"""A core of random-decay neurons in Verilog, simulated on test vectors: every draw, potential and spike is theirs."""

from __future__ import annotations

import json
import re
import subprocess
from math import prod
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest

from randhet.export.c.vectors import save, vectors
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.generator import core_starts
from randhet.fixed_point.integer import STATE_MAX

HERE = Path(__file__).parent / "verilog"
CORE = HERE / "randhet_lif.v"
SEED = 2**63 + 12345
simulated = pytest.mark.skipif(which("iverilog") is None, reason="iverilog is not installed: apt install iverilog")


def network(neuron: ir.Lif, shape: tuple[int, int, int] = (3, 4, 5), weight: int = 40) -> ir.Network:
    """An image, and one pixel-wise layer of these neurons."""
    weights = np.random.default_rng(3).integers(-weight, weight + 1, (shape[0], 2, 1, 1)).astype(np.int8)
    image = ir.Input((2, *shape[1:]))
    return ir.Network((ir.Layer("input", image), ir.Layer("neurons", ir.Conv(weights), (0,), neuron)), 5)


def lif(decay: ir.Drawn, threshold: int = 60_000, bias: int = 3000, **settings: Any) -> ir.Lif:
    """Thresholds and biases that differ by channel."""
    return ir.Lif(
        np.array([threshold, threshold // 2, 1], np.int32), np.array([bias, -bias, 0], np.int32), decay, **settings
    )


TABLE = np.random.default_rng(1).integers(0, 4096, 256).astype(np.uint16)
EDGES = np.where(np.arange(256) % 2, 4095, 0).astype(np.uint16)
PER_NEURON = np.random.default_rng(2).integers(-9000, 9000, (3, 4, 5)).astype(np.int32)
CASES: dict[str, ir.Network] = {
    "default": network(lif(ir.Drawn())),
    "several cores, the last not full": network(lif(ir.Drawn(neurons_per_core=16))),
    "subtract": network(lif(ir.Drawn(neurons_per_core=7), reset="subtract")),
    "one draw an image": network(lif(ir.Drawn(sampling="forward", neurons_per_core=25))),
    "decays of 12 bits, bias per neuron": network(
        ir.Lif(np.full(3, 9000, np.int32), PER_NEURON, ir.Drawn(TABLE), 12, 3)
    ),
    "decays of 1 bit": network(lif(ir.Drawn((TABLE & 1).astype(np.uint16)), k=1)),
    "currents one beyond their ends": network(
        ir.Lif(np.array([STATE_MAX, 1, 9], np.int32), np.array([STATE_MAX, -STATE_MAX, STATE_MAX], np.int32),
               ir.Drawn(EDGES), 12, 0), weight=1,
    ),
    "potentials at their ends": network(
        ir.Lif(np.array([STATE_MAX, 1, STATE_MAX - 1], np.int32), np.array([STATE_MAX, -STATE_MAX, 7], np.int32),
               ir.Drawn(EDGES), 12, 16, "subtract"), weight=127,
    ),
}  # fmt: skip


def printed(folder: Path, values: dict[str, int]) -> np.ndarray:
    """What the bench prints in a folder of vectors, with these parameters."""
    command = [
        "iverilog",
        "-g2005",
        "-Wall",
        "-s",
        "bench",
        "-o",
        "bench",
        *(f"-Pbench.{k}={v}" for k, v in values.items()),
    ]
    built = subprocess.run([*command, CORE, HERE / "bench.v"], cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert str(CORE) not in "".join(line for line in built.stderr.splitlines(True) if "timescale" not in line)
    text = subprocess.run(["vvp", "-n", "bench"], cwd=folder, capture_output=True, text=True, check=True).stdout
    return np.array([line.split() for line in text.splitlines() if line[0] in "-0123456789"], np.int64)


def core_parameters(net: ir.Network, folder: Path, core: int) -> dict[str, int]:
    """Parameters of the bench for one core of the layer, from the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    layer, arrays, shape = manifest["layers"][1], manifest["arrays"], manifest["layers"][1]["shape"]
    size, neuron = prod(shape), layer["neuron"]
    starts = [*core_starts(size, neuron["neurons_per_core"]), size]
    signed = lambda name: arrays[f"layer1/{name}"]["bits"] if arrays[f"layer1/{name}"]["signed"] else 32
    biases = prod(arrays["layer1/bias"]["shape"])
    return {
        "ROUNDS": arrays["images"]["shape"][0] * manifest["steps"], "STEPS": manifest["steps"], "LAYER": size,
        "FIRST": starts[core], "NEURONS": starts[core + 1] - starts[core], "CORE": core, "CORES": len(starts) - 1,
        "PIXELS": size // shape[0], "CHANNELS": shape[0], "BIASES": biases, "BIAS_STEP": int(biases == size),
        "SUM_BITS": signed("sums"), "BIAS_BITS": signed("bias"), "K": neuron["k"], "F": neuron["f"],
        "SUBTRACT": int(neuron["reset"] == "subtract"), "PER_IMAGE": int(neuron["sampling"] == "forward"),
    }  # fmt: skip


@simulated
@pytest.mark.parametrize("name", CASES)
def test_the_core_gives_every_integer_of_the_vectors(name: str, tmp_path: Path) -> None:
    net = CASES[name]
    images = np.random.default_rng(4).integers(0, [[[[256]]], [[[2]]], [[[2]]]], (3, *net.input.shape)).astype(np.uint8)
    arrays = vectors(net, images, SEED)
    save(tmp_path, net, arrays, SEED)
    found, saturations = {}, 0
    for core in range(len(arrays["layer1/registers"])):
        values = core_parameters(net, tmp_path, core)
        lines = printed(tmp_path / "layer1", values)
        columns = lines.reshape(values["ROUNDS"], values["NEURONS"], 5)
        found[core] = columns[..., :4]
        saturations += int(columns[..., 4].sum())
    given = np.concatenate(list(found.values()), axis=1)
    for i, part in enumerate(("draws", "before", "after", "output")):
        assert given[..., i].ravel().tolist() == arrays[f"layer1/{part}"].ravel().tolist(), part
    assert saturations == reference.run(net, images, seed=SEED).saturations
    assert len(np.unique(arrays["layer1/output"])) == 2, "some spike and some do not"


@simulated
def test_the_ends_of_the_range_are_reached() -> None:
    """The case that saturates does, or the one above proves less."""
    net = CASES["potentials at their ends"]
    assert reference.run(net, np.full((1, *net.input.shape), 255, np.uint8), seed=SEED).saturations > 0


def test_the_core_multiplies_nothing() -> None:
    """Outside comments no operator * / % stands in the core, `@(*)` included."""
    code = re.sub(r"//.*", "", CORE.read_text("utf-8"))
    assert "module randhet_lif" in code
    assert not re.search(r"[*/%]", code)
