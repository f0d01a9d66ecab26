"""MODEL in every command: a function in a file of one's own, a NIR graph, a network of lava-dl; wrong pairs refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from command_line import call, parsed

from randhet.export import python_file
from randhet.fixed_point import reference
from randhet.fixed_point.network import Network
from randhet.netx.lava_dl import Shown, read_foreign
from randhet.netx.write import read
from randhet.train import weights
from randhet.train.data.sources import load

OWN = """
import torch
from torch import nn

from randhet.train.layers import Encode, MeanOverTime
from randhet.train.neurons import LIF, RandomTauLIF

from beside import WIDTH


def made(seed, neuron, *tail, encode=True):
    torch.manual_seed(seed)
    start = [nn.Conv2d(1, WIDTH, 3, padding=1)] + ([Encode(3)] if encode else [])
    return nn.Sequential(*start, neuron(), nn.Flatten(-3), nn.Linear(WIDTH * 64, 10), *tail)


def net():
    return made(0, RandomTauLIF, MeanOverTime())


def other():
    return made(1, RandomTauLIF, MeanOverTime())


def slower():
    return made(0, lambda: RandomTauLIF(0.5), MeanOverTime())


def sequence():
    net = made(2, lambda: LIF(0.7, 0.2), encode=False)
    net[0] = nn.Sequential(nn.Flatten(0, 1), net[0], nn.Unflatten(0, (-1, 4)))
    return net


def broken():
    raise ValueError("no such width")


def number():
    return 3
"""
LINE = 1 + OWN.splitlines().index('    raise ValueError("no such width")')
DATA = ("--data", "digits")
FEW = (*DATA, "--samples", 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    (folder / "beside.py").write_text("WIDTH = 4\n")
    done = call("export", f"{folder}/own.py:net", "-o", folder / "net.net", *FEW)
    assert done.exit_code == 0, done.stderr
    return folder


def refusal(*arguments: object) -> str:
    done = call(*arguments)
    assert done.exit_code == 2, done.stdout + done.stderr
    return " ".join(done.stderr.split())


def test_the_file_says_what_it_was_exported_from(folder: Path) -> None:
    notes = read(folder / "net.net").metadata
    assert notes["data"] == "digits"
    assert set(json.loads(notes["model"])) == {"input", "0", "1", "2", "3", "4", "5"}


def test_compare_takes_it_without_more_words(folder: Path) -> None:
    found = parsed(
        call(
            "compare",
            f"{folder}/own.py:net",
            folder / "net.net",
            "--samples",
            12,
            "--draws",
            2,
            "--backends",
            "engine",
            "--json",
        )
    )
    assert found["backends"]["engine"]["identical"] and found["same_tau_agreement"] >= 0.9


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("other", "exported from other weights than those of"),
        ("slower", "layer 2 of"),
        ("number", "returns int, it must return an nn.Module"),
        ("absent", "has no function absent, it has made, net, other"),
        ("broken", f"own.py, line {LINE}: ValueError: no such width"),
    ],
)
def test_a_wrong_pair_is_refused_in_one_sentence(folder: Path, name: str, sentence: str) -> None:
    assert sentence in refusal("compare", f"{folder}/own.py:{name}", folder / "net.net", *FEW)


def test_weights_of_a_file_and_of_another_model(folder: Path) -> None:
    torch.save({"state_dict": python_file.made_by(f"{folder}/own.py", "net").state_dict()}, folder / "own.pt")
    pair = (f"{folder}/own.py:other", folder / "net.net", "--weights", folder / "own.pt", *FEW)
    done = call("compare", *pair, "--draws", 1, "--backends", "engine")
    assert done.exit_code in (0, 1), done.stderr
    torch.save({"0.weight": torch.zeros(4, 1, 3, 3)}, folder / "part.pt")
    assert "has no weights 0.bias" in refusal("compare", *pair[:2], "--weights", folder / "part.pt", *FEW)
    assert "cannot write" in refusal(
        "export", f"{folder}/own.py:net", "--weights", folder / "own.pt", "-o", folder / "own.pt"
    )
    assert "cannot write" in refusal("export", f"{folder}/own.py:net", "-o", folder / "own.py")


def test_what_is_said_must_belong_to_the_kind(folder: Path) -> None:
    own = f"{folder}/own.py:net"
    assert "--tool is not for a function in Python" in refusal("export", own, "--tool", "norse", "-o", folder / "x.net")
    assert "--weights is not for a checkpoint" in refusal(
        "export", "digits-randhet-at", "--weights", folder / "own.py", "-o", folder / "x.net"
    )
    assert "own.py:NAME" in refusal("export", folder / "own.py", "-o", folder / "x.net")
    assert "was exported: give the model that it was exported from" in refusal(
        "export", folder / "net.net", "-o", folder / "x.net"
    )


ONCE = ("--epochs", 1, "--samples", 60, "--objective", "plain")


def peaks(network: Network) -> set[int]:
    """The largest integer weight of each layer with weights."""
    return {int(np.abs(layer.weighted.weight.astype(int)).max()) for layer in network.layers if layer.weighted}


def test_a_function_is_trained_further_for_four_bits(folder: Path) -> None:
    """The weights that are written go in by --weights, and bring data, classes and bits with them."""
    own, tuned, net = f"{folder}/own.py:net", folder / "tuned.pt", folder / "tuned.net"
    done = parsed(call("train", "--from", own, "--qat-bits", 4, *ONCE, "-o", tuned, "--json"))
    assert (done["epochs"], done["data"], done["qat_bits"], done["lr"]) == (1, "digits", 4, 0.01)
    assert weights.load(tuned).classes == load("digits").classes
    made = call("export", own, "--weights", tuned, "-o", net, "--samples", 12)
    assert made.exit_code == 0, made.stderr
    assert peaks(read(net)) == {7} and read(net).metadata["data"] == "digits"
    assert "exported from other weights" in refusal("compare", own, net, *FEW)
    pair = (own, net, "--weights", tuned, "--samples", 12)
    found = parsed(call("compare", *pair, "--draws", 2, "--backends", "engine", "--json"))
    assert found["backends"]["engine"]["identical"] and found["same_tau_agreement"] >= 0.9
    again = folder / "again.pt"
    more = parsed(
        call("train", "--from", own, "--weights", tuned, "--epochs", 1, "--samples", 60, "-o", again, "--json")
    )
    assert (more["objective"], more["qat_bits"], more["lr"]) == ("plain", 0, pytest.approx(0.001))
    assert weights.load(again).record["began_with"] == read(net).metadata["source"]


def test_what_train_is_given_must_belong_to_it(folder: Path) -> None:
    own, out = f"{folder}/own.py:net", ("-o", folder / "no.pt")
    for arguments, words in (
        (("--weights", folder / "own.py"), "--weights belongs to --from"),
        (("--time-steps", 3), "--time-steps belongs to --from"),
        (("--from", own, "--neuron", "vanilla"), "neuron cannot change"),
        (("--from", own, "--reset", "subtract"), "--reset is not for a function in Python"),
        (("--from", own, "--short-epochs", 1), "only checkpoints can be shown images for half"),
        (("--from", own, "--data", "digits-events"), "cannot be run on images of digits-events"),
        (("--from", "digits-randhet-at", "--connect", "and"), "which says its own connect"),
    ):
        assert words in refusal("train", *arguments, *out), words
    assert "cannot write" in refusal("train", "--from", own, "-o", folder / "own.py")
    assert not (folder / "no.pt").exists()


def test_attack_budget_and_sweep_take_it(folder: Path) -> None:
    own = f"{folder}/own.py:net"
    attacked = parsed(
        call("attack", own, "--attacks", "fgsm", *FEW, "--draws", 2, "--redraws", 2, "--threads", 1, "--json")
    )
    assert set(attacked["attacks"]) == {"fgsm"}
    grid = ("--bits", "8", "--tau-bits", "8", "--fractions", "6", "--scales", "channel", "--threads", 1)
    swept = parsed(call("sweep", own, *FEW, *grid, "--calibration", 8, "--draws", 2, "--json"))
    assert len(swept["points"]) == 1
    cost = parsed(call("budget", own, folder / "net.net", *FEW, "--calibration", 8, "--draws", 1, "--json"))
    assert cost["samples"] == 12


def test_sweep_in_other_processes(folder: Path) -> None:
    """The file is executed in the workers as well."""
    grid = ("--bits", "8,6", "--tau-bits", "8", "--fractions", "6", "--scales", "channel", "--threads", 2)
    swept = parsed(call("sweep", f"{folder}/own.py:net", *FEW, *grid, "--calibration", 8, "--draws", 2, "--json"))
    assert all("accuracy" in point for point in swept["points"])


# --- NIR --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph(folder: Path) -> Path:
    """A foreign graph: what its nodes are, and nothing that says how it runs."""
    nir = pytest.importorskip("nir")
    rng = np.random.default_rng(0)
    ones = np.ones(12)
    nodes = {
        "input": nir.Input({"input": np.array([64])}),
        "fc1": nir.Affine(rng.normal(0, 0.3, (12, 64)), rng.normal(0, 0.1, 12)),
        "lif": nir.LIF(5e-3 * ones, ones, 0 * ones, 0.3 * ones, 0 * ones),
        "fc2": nir.Affine(rng.normal(0, 0.5, (10, 12)), np.zeros(10)),
        "output": nir.Output({"output": np.array([10])}),
    }
    names = list(nodes)
    nir.write(folder / "foreign.nir", nir.NIRGraph(nodes, list(pairwise(names))))
    done = call("export", folder / "foreign.nir", "--tool", "norse", "--time-steps", 5, "-o", folder / "nir.net", *FEW)
    assert done.exit_code == 0, done.stderr
    return folder / "foreign.nir"


def test_a_graph_is_exported_as_import_nir_does(folder: Path, graph: Path) -> None:
    done = call("import-nir", graph, "--tool", "norse", "--steps", 5, "-o", folder / "imported.net", *FEW)
    assert done.exit_code == 0, done.stderr
    assert same_integers(read(folder / "nir.net"), read(folder / "imported.net"))


def same_integers(first: Network, other: Network) -> bool:
    """The same sums and spikes of the digits, and there are spikes."""
    pixels = load("digits").pixels[:20]
    runs = [reference.run(net, pixels.reshape(-1, *net.input.shape), seed=0) for net in (first, other)]
    assert sum(runs[0].spikes.values()) > 0
    return np.array_equal(runs[0].sums, runs[1].sums) and runs[0].spikes == runs[1].spikes


def test_compare_reads_a_graph_as_it_was_exported(folder: Path, graph: Path) -> None:
    found = parsed(
        call("compare", graph, folder / "nir.net", "--samples", 12, "--backends", "engine,add-only", "--json")
    )
    assert found["same_tau_agreement"] >= 0.9
    assert all(backend["identical"] for backend in found["backends"].values())


def test_another_reading_of_a_graph_is_refused(folder: Path, graph: Path) -> None:
    assert "the network runs 5 time steps" in refusal("compare", graph, folder / "nir.net", "--time-steps", 4, *FEW)
    assert "layer lif of" in refusal("compare", graph, folder / "nir.net", "--dt", 0.002, *FEW)
    assert "give the tool" in refusal("export", graph, "-o", folder / "x.net", *FEW)


def test_a_graph_can_be_attacked(graph: Path) -> None:
    said = ("--tool", "norse", "--time-steps", 5)
    assert (
        "fgsm" in parsed(call("attack", graph, *said, "--attacks", "fgsm", *FEW, "--threads", 1, "--json"))["attacks"]
    )


def test_a_graph_is_trained_further(folder: Path, graph: Path) -> None:
    said, tuned, net = ("--tool", "norse", "--time-steps", 5), folder / "graph.pt", folder / "tuned_nir.net"
    done = call("train", "--from", graph, *said, "--data", "digits", "--qat-bits", 4, *ONCE, "-o", tuned)
    assert done.exit_code == 0, done.stderr
    made = call("export", graph, *said, "--weights", tuned, "-o", net, "--samples", 12)
    assert made.exit_code == 0, made.stderr
    assert peaks(read(net)) == {7}
    assert "exported from other weights" in refusal("compare", graph, net, *FEW)
    done = call("compare", graph, net, "--weights", tuned, "--samples", 12, "--backends", "engine", "--json")
    found = json.loads(done.stdout)
    # biases of 4-bit classes are coarse, so that few spikes may end in a tie; the spikes are the same
    assert found["backends"]["engine"]["identical"]
    assert [layer["same_spikes"] for layer in found["layers"]] == [1.0]


# --- every kind -------------------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[object, ...]] = {
    "compare": ("--draws", 1, "--backends", "engine"),
    "budget": ("--calibration", 8, "--draws", 1),
    "attack": ("--attacks", "fgsm", "--draws", 1, "--redraws", 1, "--threads", 1),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["checkpoint", "function", "weights", "graph", "lava-dl"])
def test_a_network_of_another_model_is_refused(command: str, kind: str, folder: Path, graph: Path) -> None:
    """In every command that takes a model and its network, for every kind of MODEL."""
    torch.save(python_file.made_by(f"{folder}/own.py", "other").state_dict(), folder / "other.pt")
    model: dict[str, tuple[object, ...]] = {
        "checkpoint": ("digits-vanilla-at",),
        "function": (f"{folder}/own.py:other",),
        "weights": (f"{folder}/own.py:net", "--weights", folder / "other.pt"),
        "graph": (graph, "--tool", "norse", "--time-steps", 3),
        "lava-dl": (lava_dl(folder / "pair.net"), "--time-steps", 3),
    }
    path, *said = model[kind]
    pair = (path, "--net", folder / "net.net") if command == "attack" else (path, folder / "net.net")
    sentence = refusal(command, *pair, *said, *FEW, *COMMANDS[command])
    words = {"checkpoint": "time steps", "lava-dl": "holds integers and no float model"}
    assert words.get(kind, "exported from other weights than those of") in sentence


# --- lava-dl ----------------------------------------------------------------------------------------------------------


def lava_dl(path: Path) -> Path:
    """A file as lava-dl writes it: a hidden layer of CUBA neurons, and an end that only integrates."""
    rng = np.random.default_rng(4)
    neuron = {"type": np.array([b"CUBA"]), "iDecay": 4096, "vDecay": 300, "vThMant": 60, "refDelay": 1}
    hidden, out = (2.0 * rng.integers(-6, 8, shape) for shape in ((16, 64), (10, 16)))
    layers: list[dict[str, Any]] = [
        {"type": np.array([b"input"]), "shape": [64]},
        {"type": np.array([b"dense"]), "shape": [16], "weight": hidden.astype(np.float32)},
        {"type": np.array([b"dense"]), "shape": [10], "weight": out.astype(np.float32)},
    ]
    with h5py.File(path, "w") as file:
        for i, layer in enumerate(layers):
            for key, value in layer.items():
                file[f"layer/{i}/{key}"] = value
        for key, value in neuron.items():
            file[f"layer/1/neuron/{key}"] = value
    return path


def test_a_network_of_lava_dl_is_written_as_it_is(folder: Path) -> None:
    file = lava_dl(folder / "lava_dl.net")
    done = call("export", file, "--time-steps", 4, "--input-bits", 8, "-o", folder / "lava.net", *FEW)
    assert done.exit_code == 0, done.stderr
    assert same_integers(read(folder / "lava.net"), read_foreign(file, Shown(4, 8)))
    assert "holds integers and no float model" in refusal("compare", file, folder / "lava.net", "--time-steps", 4, *FEW)
    few = ("--time-steps", 4, *FEW)
    assert "holds integers and no float" in refusal("sweep", file, *few, "--bits", "8", "--threads", 1)
    assert "holds integers and no float" in refusal("train", "--from", file, *few, "-o", folder / "no.pt")
    assert "does not say its number of time steps" in refusal("export", file, "-o", folder / "x.net")
    assert "has integers only" in refusal(
        "export", file, "--time-steps", 4, "-o", folder / "x.net", "--nir", folder / "x.nir", *FEW
    )
