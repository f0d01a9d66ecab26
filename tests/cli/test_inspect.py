"""randhet inspect as a user meets it: rules, estimate, plot, wrong use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from randhet.cli.app import app
from randhet.fixed_point.network import (
    Conv,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    ReadOut,
    Reset,
    SumPool,
)
from randhet.netx import write as netx


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers on the digits' 8x8 pixels."""
    rng = np.random.default_rng(1)
    neuron = Lif(np.full(4, 20_000, np.int32), np.zeros(4, np.int32), Drawn(neurons_per_core=100))
    layers = (
        Layer("input", Input((1, 8, 8))),
        Layer("conv", Conv(rng.integers(-99, 100, (4, 1, 3, 3)).astype(np.int8), padding=(1, 1)), (0,), neuron),
        Layer("pool", SumPool((8, 8), (8, 8)), (1,)),
        Layer("flat", Flatten(), (2,)),
        Layer("read", Dense(np.ones((10, 4), np.int8)), (3,), ReadOut(np.zeros(10, np.int32))),
    )
    file = tmp_path_factory.mktemp("nets") / "small.net"
    netx.write(file, Network(layers, 2))
    return file


def parsed(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


def test_json_of_a_network_that_fits(net: Path) -> None:
    result = call(net, "--json")
    found = parsed(result)
    assert result.exit_code == 0
    assert (found["cores"], found["chips"], found["synapse_bytes"]) == (3 + 1, 1, 36 + 40)
    assert (found["chip"], found["hungriest"], found["seed"], found["steps"]) == ("Loihi 2", "conv", None, 2)
    assert all(rule["ok"] for rule in found["rules"])
    assert "estimate" not in found


@pytest.mark.parametrize(("reset", "words"), [("zero", "zero"), ("subtract", "subtraction")])
def test_decay_and_reset_are_shown(net: Path, tmp_path: Path, reset: Reset, words: str) -> None:
    network = netx.read(net)
    conv = network.layers[1]
    assert conv.lif is not None
    changed = replace(conv, neuron=replace(conv.lif, reset=reset))
    netx.write(tmp_path / "a.net", replace(network, layers=(network.layers[0], changed, *network.layers[2:])))
    shown = " ".join(call(tmp_path / "a.net").stdout.split())
    assert "decay drawn" in shown and f"{words} " in shown
    layer = parsed(call(tmp_path / "a.net", "--json"))["layers"][1]
    assert (layer["neuron"], layer["decay"], layer["reset"]) == ("Lif", "drawn every step", reset)


def test_a_broken_rule_is_exit_status_1_and_named(net: Path) -> None:
    result = call(net, "--chip", "loihi1")
    assert result.exit_code == 1
    assert "failed: decay drawn at random, layer conv: every step" in " ".join(result.stdout.split())
    broken = [rule for rule in parsed(call(net, "--chip", "loihi1", "--json"))["rules"] if not rule["ok"]]
    assert {"decay drawn at random", "bits of a spike's payload"} <= {rule["rule"] for rule in broken}


def test_the_estimate_is_the_sum_of_terms_with_sources(net: Path) -> None:
    options = (net, "--samples", 3, "--seed", 1, "--backend", "reference")
    found = parsed(call(*options, "--json"))["estimate"]
    assert found["energy_joule"] == pytest.approx(sum(term["count"] * term["joule_each"] for term in found["terms"]))
    assert all(term["source"] for term in (*found["terms"], *found["step_terms"]))
    assert found["counted_one_by_one"] == ["input", "conv", "read"]
    shown = call(*options).stdout
    assert "Estimate from measured spikes" in shown and "SANA-FE" in shown


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_plot_is_a_picture(net: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"cores.{kind}"
    assert call(net, "--plot", file).exit_code == 0
    if kind == "png":
        with Image.open(file) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    else:
        assert "</svg>" in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--chip", "loihi3"), "no chip is called loihi3"),
        (("--plot", "cores.txt"), "a plot is .png, .svg, .pdf"),
        (("--samples", "2", "--backend", "nothing"), "backend 'nothing' is not one of"),
        (("--samples", "2", "--data", "nowhere"), "nowhere"),
    ],
)
def test_wrong_use_is_a_sentence_and_status_2(net: Path, options: tuple[str, ...], words: str) -> None:
    result = call(net, *options)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_files_of_sana_fe_and_their_energy_beside_the_estimate(net: Path, tmp_path: Path) -> None:
    result = call(net, "--sana-fe", tmp_path / "new", "--samples", 3, "--seed", 1, "--backend", "reference", "--json")
    assert result.exit_code == 0, result.stderr
    found = parsed(result)
    written = found["sana_fe"]
    assert [Path(file).name for file in written["files"]] == ["arch.yaml", "snn.yaml"]
    assert all(Path(file).stat().st_size for file in written["files"])
    assert (written["neurons"], written["synapses"], written["cores"]) == (4 * 64 + 10, 4 * 64 * 10, found["cores"])
    terms = {(term["what"], term["layer"]): term["count"] for term in found["estimate"]["terms"]}
    assert written["events"]["dense"] == pytest.approx(terms["synaptic operations", "read"])
    assert written["events"]["spike"] == pytest.approx(terms["spikes", "conv"])
    assert written["events"]["axon_out"] == pytest.approx(terms["messages", "conv"])
    assert written["events"]["soma_update"] == 2 * (4 * 64 + 10)
    # the estimate adds the pixels' synapses, draws and other ways over the chip
    assert written["energy_joule"] < found["estimate"]["energy_joule"]


def test_files_of_sana_fe_without_an_image(net: Path, tmp_path: Path) -> None:
    result = call(net, "--sana-fe", tmp_path)
    assert result.exit_code == 0 and "SANA-FE itself was not run" in result.stdout
    assert "--samples adds the first image" in " ".join(result.stdout.split())
    assert "bias: 0, leak_decay" in (tmp_path / "snn.yaml").read_text()


def test_files_of_sana_fe_are_not_written_into_a_file(net: Path) -> None:
    result = call(net, "--sana-fe", net)
    assert result.exit_code == 2
    assert "cannot write" in result.stderr and "Traceback" not in result.stderr
