"""The command line as a user meets it: results, JSON, help, and one sentence with status 2 for every mistake."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from command_line import call, parsed
from PIL import Image
from typer.testing import Result

import randhet
from randhet.cli.app import COMMANDS
from randhet.fixed_point import reference
from randhet.netx import write as netx
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
RUN_KEYS = {
    "backend",
    "accuracy",
    "samples",
    "seed",
    "seconds",
    "images_per_second",
    "predictions",
    "spikes",
    "operations",
    "saturations",
    "neurobench",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.pt and the model.net that the command line makes of it."""
    folder = tmp_path_factory.mktemp("files")
    checkpoints.save(folder / "model.pt", checkpoints.random_init(MODEL, images=load("digits", "train").pixels[:64]))
    made = call("export", folder / "model.pt", "-o", folder / "model.net", "--data", "digits", "--samples", 16)
    assert made.exit_code == 0, made.stderr
    return folder


# --- what the commands do -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_starts_with_the_command(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"Example: randhet {command} " in " ".join(result.stdout.split())


def test_help_is_quick_because_it_imports_neither_torch_nor_lava() -> None:
    heavy = ("torch", "lava", "numba", "matplotlib", "onnx", "scipy", "sklearn")
    code = f"import sys, randhet.cli.app; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_version() -> None:
    assert call("--version").stdout.strip() == f"randhet {randhet.__version__}"


def test_run_reports_what_the_reference_gives(files: Path) -> None:
    found = parsed(call("run", files / "model.net", "--samples", 12, "--seed", 3, "--json"))
    images = load("digits").take(12)
    expected = reference.run(netx.read(files / "model.net"), images.pixels, seed=3)
    assert set(found) == RUN_KEYS
    assert found["predictions"] == expected.predictions.tolist()
    assert found["accuracy"] == np.mean(expected.predictions == images.labels)
    assert found["spikes"] == dict(expected.spikes)
    assert (found["backend"], found["samples"], found["seed"]) == ("reference", 12, 3)


def test_without_a_seed_the_draws_are_new_every_time(files: Path) -> None:
    one, other = (parsed(call("run", files / "model.net", "--samples", 4, "--json")) for _ in range(2))
    assert one["seed"] is None and other["seed"] is None
    assert one["spikes"] != other["spikes"]


def test_export_stores_a_seed_only_when_asked(files: Path, tmp_path: Path) -> None:
    assert netx.read(files / "model.net").seed is None
    common = (files / "model.pt", "--data", "digits", "--samples", 4)
    parsed(call("export", *common, "-o", tmp_path / "seeded.net", "--seed", 2**64 - 1, "--json"))
    assert netx.read(tmp_path / "seeded.net").seed == 2**64 - 1
    assert parsed(call("run", tmp_path / "seeded.net", "--samples", 1, "--json"))["seed"] == 2**64 - 1


def test_export_of_a_named_model_with_random_weights(tmp_path: Path) -> None:
    found = parsed(call("export", "--random-init", "sew-small", "-o", tmp_path / "small.net", "--samples", 1, "--json"))
    assert found["layers"] == len(netx.read(tmp_path / "small.net").layers)


def test_inspect_counts(files: Path) -> None:
    found = parsed(call("inspect", files / "model.net", "--json"))
    network = netx.read(files / "model.net")
    sizes = [getattr(layer.operation, "weight", np.zeros(0)).size for layer in network.layers]
    assert found["synapse_bytes"] == sum(sizes)
    assert [layer["layer"] for layer in found["layers"]] == [layer.name for layer in network.layers]
    assert {"rule", "layer", "value", "limit", "ok"} == set(found["rules"][0])
    assert found["cores"] == sum(layer.neuron is not None for layer in network.layers)  # all below 1024 neurons


def test_tables_for_people_name_every_layer(files: Path) -> None:
    shown = call("inspect", files / "model.net").stdout
    ran = call("run", files / "model.net", "--samples", 2).stdout
    for layer in netx.read(files / "model.net").layers:
        assert layer.name in shown
        if layer.neuron is not None and layer.name != "fc1":
            assert f"spikes of {layer.name}" in ran


def test_compare_writes_the_report_and_its_status_says_whether_a_check_failed(files: Path, tmp_path: Path) -> None:
    arguments = (files / "model.pt", files / "model.net", "--samples", 20, "--draws", 2, "--backends", "reference")
    result = call("compare", *arguments, "--out", tmp_path, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (1 if found["failures"] else 0)
    assert found == json.loads((tmp_path / "compare.json").read_text())
    assert found["verdict"] in (tmp_path / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.json", "report.html"]


def test_train_then_resume_with_a_log(tmp_path: Path) -> None:
    out, log = tmp_path / "model.pt", tmp_path / "log"
    common = ("train", "--out", out, "--objective", "plain", "--samples", 32, "--batch", 16, "--json", "--steps", 2)
    first = parsed(call(*common, "--epochs", 1, "--log", log))
    assert 0 <= first["accuracy"] <= 1
    assert checkpoints.load(out).record["epoch"] == 1
    assert any(file.stat().st_size for file in log.iterdir())
    again = call(*common, "--epochs", 1, "--resume")
    assert again.exit_code == 0, again.stderr
    other = call(*common, "--epochs", 1, "--resume", "--lr", "0.01")
    assert_refused(other, "lr")


# --- wrong use ----------------------------------------------------------------------------------------------------


def assert_refused(result: Result, *said: str) -> None:
    """Status 2, one sentence on standard error that says this, nothing on standard output, no traceback."""
    assert result.exit_code == 2, (result.exit_code, result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("randhet: ")]
    assert len(lines) == 1, result.stderr
    for fragment in said:
        assert fragment in lines[0]


def truncated(files: Path, tmp_path: Path) -> Path:
    whole = (files / "model.net").read_bytes()
    (tmp_path / "half.net").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "half.net"


def edited(files: Path, tmp_path: Path, key: str, value: Any) -> Path:
    path = tmp_path / "edited.net"
    path.write_bytes((files / "model.net").read_bytes())
    with h5py.File(path, "r+") as file:
        del file[key]
        file[key] = value
    return path


def unknown_layer(files: Path, tmp_path: Path) -> Path:
    return edited(files, tmp_path, "layer/1/type", np.array([b"attention"]))


def nan_scale(files: Path, tmp_path: Path) -> Path:
    return edited(files, tmp_path, "layer/1/scale", np.full(3, np.nan))


def not_hdf5(files: Path, tmp_path: Path) -> Path:
    return files / "model.pt"


def directory(files: Path, tmp_path: Path) -> Path:
    return tmp_path


BROKEN: list[tuple[Callable[[Path, Path], Path], str]] = [
    (lambda files, tmp_path: tmp_path / "none.net", "none.net does not exist"),
    (truncated, "half.net"),
    (unknown_layer, "attention"),
    (nan_scale, "NaN"),
    (not_hdf5, "model.pt"),
    (directory, ""),
]


@pytest.mark.parametrize("command", ["run", "inspect", "compare"])
@pytest.mark.parametrize(("make", "said"), BROKEN)
def test_damaged_networks(
    make: Callable[[Path, Path], Path], said: str, command: str, files: Path, tmp_path: Path
) -> None:
    before = [files / "model.pt"] if command == "compare" else []
    assert_refused(call(command, *before, make(files, tmp_path)), said)


def test_damaged_checkpoints_leave_no_network_behind(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "model.net"
    content = torch.load(files / "model.pt", weights_only=True)
    name = next(iter(content["state"]))
    content["state"][name] = torch.full_like(content["state"][name], float("nan"))
    torch.save(content, tmp_path / "nan.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    (tmp_path / "half.pt").write_bytes((files / "model.pt").read_bytes()[:900])
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    for file, said in (
        ("none.pt", "does not exist"),
        ("nan.pt", f"{name} contain NaN"),
        ("text.pt", "text.pt is not a checkpoint"),
        ("half.pt", "half.pt"),
        ("foreign.pt", "not a randhet checkpoint"),
    ):
        assert_refused(call("export", tmp_path / file, "-o", out), said)
    assert not out.exists()
    assert not out.parent.exists()


def test_images_of_another_size(files: Path, tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(3):
            Image.fromarray(np.full((5, 5), i, np.uint8)).save(tmp_path / label / f"{i}.png")
    said = "are (1, 5, 5), the network takes (1, 8, 8)"
    assert_refused(call("run", files / "model.net", "--data", tmp_path), said)
    assert_refused(call("compare", files / "model.pt", files / "model.net", "--data", tmp_path), said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "{net}", "--data", "nowhere"), "'nowhere' is neither a folder nor one of digits"),
        (("run", "{net}", "--samples", 10**6), "1000000 samples are required"),
        (("run", "{net}", "--backend", "gpu"), "backend 'gpu' is not one of reference"),
        (("compare", "{pt}", "{net}", "--backends", "reference,gpu"), "backend 'gpu' is not one of reference"),
        (("compare", "{pt}", "{net}", "--margin", 2), "margin is 2.0"),
        (("train", "--model", "resnet50"), "model 'resnet50' is not one of sew-resnet19"),
        (("train", "--neuron", "izhikevich"), "neuron 'izhikevich' is not one of randhet"),
        (("train", "--objective", "gan"), "objective 'gan' is not one of"),
        (("train", "--eps", 7), "eps 7.0"),
        (("train", "--data", "nowhere"), "'nowhere' is neither a folder"),
        (("export",), "needs MODEL, or --random-init"),
        (("export", "{pt}", "--random-init", "sew-small"), "not both"),
        (("export", "--random-init", "vgg"), "model 'vgg' is not one of"),
        (("export", "{pt}", "--data", "digits", "--bits", 9), "weight_bits is 9, the limits are 2 to 8"),
        (("export", "{pt}", "--data", "digits", "--scales", "none"), "scales is 'none'"),
    ],
)
def test_wrong_values(arguments: tuple[object, ...], said: str, files: Path, tmp_path: Path) -> None:
    names = {"net": files / "model.net", "pt": files / "model.pt"}
    filled = [str(argument).format(**names) for argument in arguments]
    out = ["--out", tmp_path / "out"] if filled[0] != "run" else []
    assert_refused(call(*filled, *out), said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [(), ("fly",), ("run",), ("run", "x.net", "--samples", "0"), ("inspect", "--k", "1")]
)
def test_wrong_usage_is_status_2_without_a_traceback(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["export", "compare", "train"])
def test_output_that_cannot_be_written(command: str, files: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "out"
    arguments = {
        "export": (files / "model.pt", "--data", "digits", "--samples", 2),
        "compare": (files / "model.pt", files / "model.net", "--samples", 2, "--draws", 2, "--backends", "reference"),
        "train": ("--samples", 16, "--epochs", 1, "--steps", 1, "--objective", "plain"),
    }[command]
    assert_refused(call(command, *arguments, "--out", target), "cannot write", str(target))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_lava_that_is_not_installed_is_said_in_one_sentence(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Python 3.11 this is the plain truth; on 3.10 the search for the package is made to find nothing."""
    monkeypatch.setattr("randhet.lava_runtime.available.find_spec", lambda name: None)
    assert_refused(call("run", files / "model.net", "--backend", "lava"), "backend lava cannot run here: Lava ")


def test_ctrl_c_is_a_word_and_not_a_traceback(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    options = ["--samples", "64", "--epochs", "1000", "--steps", "1", "--objective", "plain", "--threads", "1"]
    child = subprocess.Popen(
        [sys.executable, "-m", "randhet", "train", "--out", str(out), *options], stderr=subprocess.PIPE, text=True
    )
    while not out.exists() and child.poll() is None:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in said
    assert said.rstrip().endswith("randhet: stopped")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert checkpoints.load(out).resume is not None
