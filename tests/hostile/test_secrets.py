"""The master seed comes from the system's entropy, is never said or written unless asked for, and inspect says so."""

# ruff: noqa: E402  (what needs ONNX is imported after it is known to be there)
from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from randhet.cli.app import app
from randhet.fixed_point.generator import core_seed
from randhet.netx import write as netx
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
SECRET = 0xC0FFEE1234567890


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "model.pt"
    checkpoints.save(path, checkpoints.random_init(MODEL, images=load("digits", "train").pixels[:64]))
    return path


def test_a_seed_from_the_systems_entropy_is_used_and_not_told(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entropy is replaced by a known number: its draws are those of that seed, and no output has it in it."""
    call("export", checkpoint, "-o", tmp_path / "a.net", "--data", "digits", "--samples", 8)
    wanted = call("run", tmp_path / "a.net", "--seed", SECRET, "--samples", 5, "--json").stdout
    monkeypatch.setattr(secrets, "randbits", lambda bits: SECRET)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for backend in ("reference", "engine", "add-only", "onnx"):
        said = [
            call("run", tmp_path / "a.net", "--backend", backend, "--samples", 5, *more) for more in ((), ("--json",))
        ]
        assert json.loads(said[1].stdout)["spikes"] == json.loads(wanted)["spikes"]
        assert json.loads(said[1].stdout)["seed"] is None
        for output in (result.stdout + result.stderr for result in said):
            assert str(SECRET) not in output and f"{SECRET:x}" not in output.lower()
        assert "from the system's entropy" in said[0].stdout
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_files_hold_a_seed_only_when_asked_and_inspect_says_which(checkpoint: Path, tmp_path: Path) -> None:
    for name, more in (("without", ()), ("with", ("--seed", SECRET))):
        files = ("-o", tmp_path / f"{name}.net", "--onnx", tmp_path / f"{name}.onnx")
        call("export", checkpoint, *files, "--data", "digits", "--samples", 8, *more)
    assert netx.read(tmp_path / "without.net").seed is None
    assert netx.read(tmp_path / "with.net").seed == SECRET
    for name, policy, defaults in (("without", "given at run time", 0), ("with", "fixed in the file", 1)):
        model = onnx.load(tmp_path / f"{name}.onnx")
        assert sum(tensor.name == "registers" for tensor in model.graph.initializer) == defaults
        assert {entry.key: entry.value for entry in model.metadata_props}["randhet.seed"] == policy
    first = core_seed(SECRET, 1, 0).to_bytes(4, "little")
    assert first not in (tmp_path / "without.onnx").read_bytes()
    assert first in (tmp_path / "with.onnx").read_bytes()
    told = {name: " ".join(call("inspect", tmp_path / f"{name}.net").stdout.split()) for name in ("without", "with")}
    assert "carries no seed: the decays come from the system's entropy at every run" in told["without"]
    assert f"carries seed {SECRET}: whoever has it knows every decay" in told["with"]
