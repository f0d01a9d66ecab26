"""The commands that exchange networks with other tools: export --onnx --nir, import-nir, run and compare with onnx."""

# ruff: noqa: E402  (what needs ONNX and NIR is imported after it is known to be there)
from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
nir = pytest.importorskip("nir")
onnxruntime = pytest.importorskip("onnxruntime")

from command_line import call, parsed

from randhet.fixed_point import reference
from randhet.fixed_point.diagnosis.difference import differences
from randhet.fixed_point.network import Constant
from randhet.netx import write as netx
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
DATA = ("--data", "digits", "--samples", 16)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and everything that one export makes of it."""
    folder = tmp_path_factory.mktemp("files")
    checkpoints.save(folder / "model.pt", checkpoints.random_init(MODEL, images=load("digits", "train").pixels[:64]))
    named = {"-o": "model.net", "--onnx": "net.onnx", "--onnx-float": "whole.onnx", "--onnx-step": "step.onnx"}
    places = [part for option, name in (named | {"--nir": "model.nir"}).items() for part in (option, folder / name)]
    found = parsed(call("export", folder / "model.pt", *places, "--taus", "input", "--seed", 5, *DATA, "--json"))
    assert set(found["files"]) == {"onnx", "onnx-float", "onnx-step", "nir"}
    return folder


def test_the_onnx_file_alone_gives_the_references_sums(files: Path) -> None:
    images = load("digits").pixels[:5]
    session = onnxruntime.InferenceSession(files / "net.onnx", providers=["CPUExecutionProvider"])
    (sums,) = session.run(["sums"], {"images": images})
    assert np.array_equal(sums, reference.run(netx.read(files / "model.net"), images).sums)


def test_run_and_compare_take_the_onnx_backend(files: Path) -> None:
    one, other = (
        parsed(call("run", files / "model.net", "--backend", name, "--samples", 6, "--seed", 3, "--json"))
        for name in ("reference", "onnx")
    )
    assert one["predictions"] == other["predictions"]
    assert one["spikes"] == other["spikes"]
    options = ("--backends", "onnx", "--samples", 8, "--draws", 2, "--margin", 0.9, "--json")
    result = call("compare", files / "model.pt", files / "model.net", *options)
    assert json.loads(result.stdout)["backends"]["onnx"]["identical"] is True


def test_float_graphs_take_their_taus_as_inputs(files: Path) -> None:
    """Both say where the model comes from; the step graph also takes each state."""
    source = dict(netx.read(files / "model.net").metadata)["source"]
    for name, states in (("whole", 0), ("step", 6)):
        model = onnx.load(files / f"{name}.onnx")
        inputs = [value.name for value in model.graph.input]
        assert sum(found.endswith("/tau") for found in inputs) == 6
        assert sum(found.endswith("/state") for found in inputs) == states
        assert {entry.key: entry.value for entry in model.metadata_props}["source.source"] == source


def test_our_own_nir_file_becomes_the_same_integer_network(files: Path, tmp_path: Path) -> None:
    found = parsed(call("import-nir", files / "model.nir", "-o", tmp_path / "b.net", *DATA, "--seed", 5, "--json"))
    assert found["restored"] is True
    one, other = netx.read(files / "model.net"), netx.read(tmp_path / "b.net")
    assert other.layers[1].drawn is not None
    unlike = [line.split(":")[0] for line in differences(one, other)]
    assert sorted(unlike) == ["network.metadata"]


def test_a_foreign_graph_with_a_flat_input_runs_on_images(tmp_path: Path) -> None:
    """A random dense network for 64 values, calibrated on digits of 1x8x8 and run on them."""
    rng = np.random.default_rng(0)
    ones = np.ones(12)
    nodes = {
        "in": nir.Input({"input": np.array([64])}),
        "w": nir.Affine(rng.normal(size=(12, 64)), np.zeros(12)),
        "s": nir.LIF(5e-4 * ones, ones, 0 * ones, 0.5 * ones, 0 * ones),
        "r": nir.Linear(rng.normal(size=(10, 12))),
        "out": nir.Output({"output": np.array([10])}),
    }
    order = list(nodes)
    nir.write(tmp_path / "a.nir", nir.NIRGraph(nodes, list(pairwise(order))))
    called = call(
        "import-nir", tmp_path / "a.nir", "-o", tmp_path / "a.net", "--tool", "norse", "--dt", 1e-4, "--steps", 8, *DATA
    )
    assert called.exit_code == 0, called.stderr
    assert "8 steps, read as Norse 1.1 runs it, a grey level is 1/255" in " ".join(called.stdout.split())
    network = netx.read(tmp_path / "a.net")
    neuron = network.layers[1].lif
    assert neuron is not None and isinstance(neuron.decay, Constant)
    assert neuron.decay.mantissa == round(0.8 * 4096)
    assert network.steps == 8
    spikes = parsed(call("run", tmp_path / "a.net", "--backend", "engine", "--samples", 9, "--json"))["spikes"]
    assert 0 < spikes[network.layers[1].name] < 9 * 8 * 12


def test_a_reset_that_graphs_of_a_tool_do_not_say_is_asked_for(tmp_path: Path) -> None:
    ones, file, net = np.ones(4), tmp_path / "a.nir", tmp_path / "a.net"
    cell = nir.LIF(4e-4 * ones, ones, 0 * ones, 0.5 * ones, 0 * ones)
    nodes = {"in": nir.Input({"input": np.array([4])}), "w": nir.Linear(np.eye(4)), "s": cell}
    nodes["out"] = nir.Output({"output": np.array([4])})
    nir.write(file, nir.NIRGraph(nodes, list(pairwise(nodes))))
    for tool, reset, said in (
        ("snntorch", None, "--reset zero reads neurons with 'zero' and reset_delay=False"),
        ("snntorch", "subtract", "'subtract' with reset_delay=False, which misses spikes there, is not supported"),
        ("sinabs", None, "--reset zero reads neurons with MembraneReset, SingleSpike and norm_input=False"),
        ("norse", "soft", "--reset is 'soft', it must be one of zero, subtract"),
    ):
        asked = () if reset is None else ("--reset", reset)
        called = call("import-nir", file, "-o", net, "--tool", tool, "--dt", 1e-4, "--steps", 8, *asked)
        assert called.exit_code == 2 and said in " ".join(called.stderr.split())
    for tool, asked, reset in (
        ("snntorch", ("--reset", "zero"), "zero"),
        ("snntorch", ("--reset", "subtract", "--reset-delay", 1), "subtract"),
        ("sinabs", ("--reset", "zero", "--floor", -0.5), "zero"),
        ("norse", ("--sequence",), "zero"),
        ("norse", ("--reset", "subtract"), "subtract"),
        ("spikingjelly", (), "zero"),
    ):
        called = call("import-nir", file, "-o", net, "--tool", tool, "--dt", 1e-4, "--steps", 8, *asked)
        assert called.exit_code == 0, called.stderr
        read = netx.read(net)
        (cell,) = (layer.lif for layer in read.layers if layer.lif)
        assert (cell.reset, cell.reset_delay) == (reset, int("--reset-delay" in asked))
        assert (cell.floored, read.input.sequence) == ("--floor" in asked, "--sequence" in asked)
    called = call("import-nir", file, "-o", net, "--tool", "norse", "--dt", 1e-4, "--steps", 8, "--read-out", "last")
    assert called.exit_code == 2 and "which is no leaky read-out (LI, CubaLI, I): leave out --read-out" in called.stderr


def test_bad_input_is_one_sentence(files: Path, tmp_path: Path) -> None:
    nodes = {
        "in": nir.Input({"input": np.array([4])}),
        "t": nir.Threshold(np.ones(4)),
        "i": nir.I(np.ones(4)),
        "out": nir.Output({"output": np.array([4])}),
    }
    edges = [("in", "t"), ("in", "i"), ("t", "out"), ("i", "out")]
    nir.write(tmp_path / "odd.nir", nir.NIRGraph(nodes, edges))
    (tmp_path / "text.nir").write_text("no")
    out = tmp_path / "x.net"
    for arguments, said in (
        (("import-nir", tmp_path / "odd.nir"), "give the tool that it is of (--tool) and the number of time steps"),
        (("import-nir", tmp_path / "odd.nir", "--steps", 4), "give the tool that it is of (--tool)"),
        (("import-nir", tmp_path / "odd.nir", "--tool", "norse"), "the number of time steps per image (--steps)"),
        (
            ("import-nir", tmp_path / "odd.nir", "--tool", "norse", "--steps", 4),
            "t (Threshold): a neuron must be the only reader of a layer with weights",
        ),
        (("import-nir", tmp_path / "odd.nir", "--tool", "norse", "--steps", 4), "i (I): a neuron must be"),
        (("import-nir", tmp_path / "text.nir"), "not an undamaged HDF5 file"),
        (("import-nir", tmp_path / "none.nir"), "no such file"),
        (("import-nir", files / "model.nir", "--tool", "nest"), "--tool is 'nest', it must be one of snntorch"),
        (("import-nir", files / "model.nir", "--dt", 0), "dt is 0.0"),
        (("import-nir", files / "model.nir", "--scale", "-1"), "--scale is '-1'"),
        (("export", files / "model.pt", "--taus", "mine", *DATA), "--taus is 'mine', it must be one of drawn, input"),
    ):
        result = call(*arguments, "-o", out)
        assert result.exit_code == 2
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_nothing_is_written_where_one_format_fails(files: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = call("export", files / "model.pt", "-o", tmp_path / "a.net", "--nir", tmp_path / "file" / "a.nir", *DATA)
    assert result.exit_code == 2 and "cannot write" in result.stderr
