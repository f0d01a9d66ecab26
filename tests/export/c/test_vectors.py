"""Test vectors: a program that knows only the page on the arithmetic computes them again; hex files are the arrays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import call

from hardware_tests.random_networks import numbered
from randhet.base.errors import NetworkError
from randhet.export.c.vectors import save, vectors, width, words
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference

STRANGER = Path(__file__).with_name("stranger.py")
RNG = np.random.default_rng(6)


def weights(*shape: int) -> np.ndarray:
    return RNG.integers(-60, 61, shape).astype(np.int8)


def network() -> ir.Network:
    """Every operation, every decay, both samplings and both resets, cores that end within a channel."""
    level = lambda n, top: (np.full(n, top, np.int32), RNG.integers(-50, 51, n).astype(np.int32))
    wide = ir.Lif(
        np.full(4, 9000, np.int32), RNG.integers(-900, 901, (4, 3, 3)).astype(np.int32), ir.Drawn(neurons_per_core=7)
    )
    table = np.arange(256).astype(np.uint16)
    mantissa = RNG.integers(0, 64, (4, 3, 3)).astype(np.uint16)
    layers = (
        ir.Layer("input", ir.Input((2, 6, 6))),
        ir.Layer("stem", ir.Conv(weights(4, 1, 3, 3), (2, 2), (1, 1), groups=2), (0,), wide),
        ir.Layer("held", ir.Conv(weights(4, 4, 3, 3), padding=(2, 2), dilation=(2, 2)), (1,),
                 ir.Lif(*level(4, 3000), ir.Drawn(table, "forward", neurons_per_core=20), reset="subtract")),
        ir.Layer("own", ir.Conv(weights(4, 4, 1, 1)), (1,), ir.Lif(*level(4, 2000), ir.PerNeuron(mantissa), 6, 5)),
        ir.Layer("sum", ir.Add(), (2, 3)),
        ir.Layer("pool", ir.SumPool((2, 2), (1, 1)), (4,)),
        ir.Layer("flat", ir.Flatten(), (5,)),
        ir.Layer("dense", ir.Dense(weights(5, 16)), (6,), ir.Lif(*level(5, 4000), ir.Constant(77))),
        ir.Layer("read", ir.Dense(weights(3, 5)), (7,), ir.ReadOut(level(3, 1)[1])),
    )  # fmt: skip
    return ir.Network(layers, 4)


def sequences(read: ir.Read, dynamics: ir.Spiking) -> ir.Network:
    """Signed sequences through every kind that the network above lacks."""
    level = lambda n, top: (np.full(n, top, np.int32), RNG.integers(-50, 51, n).astype(np.int32))
    late = ir.Lif(*level(4, 3000), ir.Constant(200), reset="subtract", reset_delay=1, floor=np.array(-700, np.int32))
    floored = ir.Lif(*level(4, 2000), ir.Drawn(neurons_per_core=7), floor=-np.arange(4, dtype=np.int32) * 400)
    layers = (
        ir.Layer("input", ir.Input((2, 5, 4), 12, signed=True, sequence=True)),
        ir.Layer("max", ir.MaxPool((3, 2), (1, 2), (1, 1)), (0,)),
        ir.Layer("late", ir.Conv(weights(4, 2, 3, 3), padding=(1, 1)), (1,), late),
        ir.Layer("zero", ir.Conv(weights(4, 2, 3, 3), padding=(1, 1)), (1,), ir.Lif(*level(4, 9000), reset_delay=1)),
        ir.Layer("floor", ir.Conv(weights(4, 2, 3, 3), padding=(1, 1)), (1,), floored),
        ir.Layer("and", ir.And(), (2, 3)),
        ir.Layer("iand", ir.Iand(), (2, 4)),
        ir.Layer("both", ir.Concat(), (5, 6, 1)),
        ir.Layer("spread", ir.Spread((2, 3), (1, 0)), (7,)),
        ir.Layer("cuba", ir.Conv(weights(3, 10, 3, 2)), (8,), ir.Cuba(*level(3, 90_000), 2000, 100, 1)),
        ir.Layer("own", ir.Dense(weights(6, 3 * 8 * 6), weights(6, 6)), (9,), ir.Lif(*level(6, 3000))),
        ir.Layer("weights", ir.Dense(weights(7, 6)), (10,)),
        ir.Layer("read", ir.Dense(weights(3, 7)), (11,), ir.Leaky(dynamics, read)),
    )  # fmt: skip
    return ir.Network(layers, 6)


NEVER = (np.full(3, 2**23 - 1, np.int32), np.array([3, -3, 0], np.int32))
READS: dict[str, tuple[ir.Read, ir.Spiking]] = {
    "sum of Lif": ("sum", ir.Lif(*NEVER)),
    "last of drawn Lif with a floor": ("last", ir.Lif(*NEVER, ir.Drawn(), floor=np.array([-9, 0, -99], np.int32))),
    "largest of Cuba": ("max", ir.Cuba(*NEVER, 700, 30, 5)),
}


@pytest.mark.parametrize("read", READS)
def test_a_program_of_a_stranger_computes_sequences_and_every_kind(read: str, tmp_path: Path) -> None:
    net, recordings = sequences(*READS[read]), RNG.integers(-2048, 2048, (2, 6, 2, 5, 4)).astype(np.int16)
    arrays = vectors(net, recordings, 41)
    silent = [layer.name for i, layer in enumerate(net.layers) if layer.spikes and not arrays[f"layer{i}/output"].any()]
    assert silent == []
    save(tmp_path, net, arrays, 41)
    done = stranger(tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 integers differ\n"), done.stderr


@pytest.mark.parametrize("number", range(40, 46))
def test_a_program_of_a_stranger_computes_any_network(number: int, tmp_path: Path) -> None:
    """Images are those from number 0 on, as vectors are."""
    run = numbered(number, wide=True)
    save(tmp_path, run.network, vectors(run.network, run.images, run.seed), run.seed)
    done = stranger(tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 integers differ\n"), done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, net = tmp_path_factory.mktemp("vectors"), network()
    images = RNG.integers(0, 256, (3, 2, 6, 6)).astype(np.uint8)
    save(out, net, vectors(net, images, 2**64 - 3), 2**64 - 3)
    return out


def stranger(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, STRANGER, folder], capture_output=True, text=True, check=False)


def test_a_program_of_a_stranger_computes_every_integer(folder: Path) -> None:
    done = stranger(folder)
    assert (done.returncode, done.stdout) == (0, "0 integers differ\n"), done.stderr


def test_the_stranger_imports_nothing_of_the_project() -> None:
    imports = [line for line in STRANGER.read_text().splitlines() if line.startswith(("from ", "import "))]
    assert imports == ["import json", "import sys", "from pathlib import Path", "import numpy as np"]


@pytest.mark.parametrize("name", ["layer1/registers", "layer2/draws", "layer3/before", "layer2/after", "layer4/output",
                                  "layer8/sums", "layer1/weight", "sums"])  # fmt: skip
def test_one_integer_that_is_off_is_noticed(name: str, folder: Path) -> None:
    file = folder / f"{name}.npy"
    kept = file.read_bytes()
    values = np.load(file)
    values.flat[0] += 1
    np.save(file, values)
    try:
        assert stranger(folder).returncode == 1
    finally:
        file.write_bytes(kept)


def test_hex_files_hold_the_arrays(folder: Path) -> None:
    arrays = json.loads((folder / "manifest.json").read_text())["arrays"]
    assert {f"{name}.npy" for name in arrays} == {str(path.relative_to(folder)) for path in folder.rglob("*.npy")}
    for name, about in arrays.items():
        read = [int(line, 16) for line in (folder / f"{name}.hex").read_text().split()]
        top = 2 ** about["bits"]
        values = [word - top if about["signed"] and word >= top // 2 else word for word in read]
        expected = np.load(folder / f"{name}.npy")
        assert values == expected.ravel().tolist() and about["shape"] == list(expected.shape), name


@pytest.mark.parametrize(
    ("values", "bits", "text"),
    [([0], 4, "0"), ([15], 4, "f"), ([16], 8, "10"), ([-1, 7], 4, "f 7"), ([-8, 8], 8, "f8 08"), ([-9], 8, "f7")],
)
def test_words_are_as_wide_as_they_must_be(values: list[int], bits: int, text: str) -> None:
    array = np.array(values)
    assert (width(array), " ".join(words(array))) == (bits, text)


@pytest.mark.parametrize("number", range(12))
def test_vectors_of_any_network_are_the_reference_s(number: int) -> None:
    run = numbered(number, wide=True)
    arrays = vectors(run.network, run.images, run.seed)
    result = reference.run(run.network, run.images, seed=run.seed, probes=run.names)
    for i, layer in enumerate(run.network.layers):
        assert np.array_equal(arrays[f"layer{i}/output"], result.traces[layer.name].output)
        assert (f"layer{i}/before" in arrays) == (layer.neuron is not None)
        if layer.spikes:
            after, spike = arrays[f"layer{i}/after"], arrays[f"layer{i}/output"]
            assert np.array_equal(after[spike == 0], arrays[f"layer{i}/before"][spike == 0])


def test_vectors_of_too_many_images_are_refused() -> None:
    images = np.zeros((60_000, 2, 6, 6), np.uint8)
    with pytest.raises(NetworkError, match="vectors of 60000 images have .* outputs, the limit is 16777216"):
        vectors(network(), images, 1)


def test_the_command_writes_them(tmp_path: Path) -> None:
    out = tmp_path / "vectors"
    found = call("export", "digits-randhet-at", "-o", tmp_path / "it.net", "--vectors", out, "--samples", 16, "--json")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["files"] == {"vectors": str(out)}
    assert np.load(out / "images.npy").shape == (2, 1, 8, 8)
    assert json.loads((out / "manifest.json").read_text())["seed"] == 1
