"""Files of version 1 read to the integers and the runs that version 1 gave.

version1/*.net were written by the last release that wrote version 1; version1/expected.json holds what its reader
found in them and what its reference interpreter made of the images there. Nothing in it comes from the code tested.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.netx.write import read, write

FOLDER = Path(__file__).parent / "version1"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text())["files"]
KINDS = {"RandomTau": ir.Drawn, "Lif": ir.Constant, "Het": ir.PerNeuron, "Cuba": ir.Cuba, "Accumulate": ir.ReadOut}
"""What each neuron of version 1 is now: the kind of its decay, or of itself."""


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, "<i8").tobytes()).hexdigest()[:16]


def written(value: Any) -> Any:
    """A value as expected.json has it."""
    return digest(value) if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple) else value


def integers(layer: ir.Layer) -> dict[str, Any]:
    """Every field of a layer, its operation, its neuron and its decay, under version 1's names."""
    decay = layer.neuron.decay if isinstance(layer.neuron, ir.Lif) else None
    parts = [part for part in (layer, layer.operation, layer.neuron, decay) if part is not None]
    found = {entry.name: getattr(part, entry.name) for part in parts for entry in fields(part)}
    return {("decay" if name == "mantissa" else name): written(value) for name, value in found.items()}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_integers_are_those_of_version_1(name: str) -> None:
    network, expected = read(FOLDER / f"{name}.net"), EXPECTED[name]
    assert (network.steps, network.seed, list(network.classes)) == (
        expected["steps"],
        expected["seed"],
        expected["classes"],
    )
    assert [layer.name for layer in network.layers] == list(expected["integers"])
    for layer, was in zip(network.layers, expected["integers"].values()):
        kind = was.pop("neuron", None)
        assert was.items() <= integers(layer).items()
        part = layer.neuron.decay if isinstance(layer.neuron, ir.Lif) else layer.neuron
        assert type(part) is (KINDS[kind] if kind else type(None))
        assert integers(layer).get("reset", "zero") == "zero"


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("rewritten", [False, True], ids=["as-it-is", "as-version-2"])
def test_the_run_is_that_of_version_1(name: str, rewritten: bool, tmp_path: Path) -> None:
    network, expected = read(FOLDER / f"{name}.net"), EXPECTED[name]
    if rewritten:
        write(tmp_path / "a.net", network)
        network = read(tmp_path / "a.net")
    names = [layer.name for layer in network.layers]
    images = np.array(expected["images"])
    run = reference.run(network, images, seed=7, first_image=expected["first_image"], probes=names)
    assert run.predictions.tolist() == expected["predictions"] and run.sums.tolist() == expected["sums"]
    assert run.spikes == expected["spikes"] and run.saturations == expected["saturations"]
    assert {name: digest(trace.output) for name, trace in run.traces.items()} == expected["outputs"]
    membranes = {name: digest(trace.membrane) for name, trace in run.traces.items() if trace.membrane is not None}
    assert membranes == expected["membranes"]


@pytest.mark.parametrize("name", EXPECTED)
def test_onnxruntime_gives_version_1s_run_too(name: str) -> None:
    """Another project's runtime, on the graph made of the file that was read."""
    pytest.importorskip("onnxruntime")
    from randhet.export.onnx.run import run

    network, expected = read(FOLDER / f"{name}.net"), EXPECTED[name]
    found = run(network, np.array(expected["images"]), seed=7, first_image=expected["first_image"])
    assert found.sums.tolist() == expected["sums"] and found.spikes == expected["spikes"]
    assert found.saturations == expected["saturations"]


def test_the_files_are_true_files_of_version_1_and_hold_every_kind_of_it() -> None:
    types = set()
    for name in EXPECTED:
        with h5py.File(FOLDER / f"{name}.net") as file:
            assert file.attrs["version"] == 1
            layers = [file[f"layer/{i}"] for i in range(len(file["layer"]))]
            types |= {part["type"][0] for layer in layers for part in (layer, layer.get("neuron")) if part}
    assert types == {b"input", b"conv", b"dense", b"add", b"sum_pool", b"flatten"} | {
        b"RHLIF",
        b"LIF",
        b"HETLIF",
        b"CUBA",
        b"ACCUMULATE",
    }
