"""The same inputs and seed give the same bytes, whatever the process, the hash seed, the threads and the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nir")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from randhet.export.pipeline import export_checkpoint
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

ROOT = Path(__file__).parents[2]
WORK = """
import sys
from pathlib import Path
from typer.testing import CliRunner
from randhet.cli.app import app

checkpoint, folder, threads = sys.argv[1:]
def call(*arguments):
    made = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert made.exit_code == 0, made.output
    return made.stdout
train = ("--data", "digits", "--samples", 24, "--batch", 8, "--epochs", 1, "--threads", 1)
call("train", *train, "--out", Path(folder) / "trained.pt")
places = {"-o": "a.net", "--onnx": "a.onnx", "--onnx-float": "f.onnx", "--onnx-step": "s.onnx", "--nir": "a.nir"}
files = [part for option, name in places.items() for part in (option, Path(folder) / name)]
call("export", checkpoint, *files, "--samples", 24, "--seed", 9, "--threads", threads)
call("import-nir", Path(folder) / "a.nir", "-o", Path(folder) / "b.net", "--data", "digits", "--samples", 24)
for backend in ("engine", "add-only", "onnx"):
    said = call("run", Path(folder) / "a.net", "--backend", backend, "--samples", 24, "--threads", threads, "--json")
    (Path(folder) / f"{backend}.json").write_text(said)
"""


def made(folder: Path, threads: int, hash_seed: str) -> dict[str, bytes]:
    """What a process of its own writes, and the predictions and spikes of its runs."""
    folder.mkdir()
    many = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [
        sys.executable,
        "-c",
        WORK,
        str(ROOT / "checkpoints" / "digits-randhet-at.pt"),
        str(folder),
        str(threads),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | many | {"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".net", ".onnx", ".nir")}
    found["weights"] = checkpoints.weights_hash(checkpoints.load(folder / "trained.pt").state).encode()
    for path in folder.glob("*.json"):
        said = json.loads(path.read_text())
        kept = [said[name] for name in ("predictions", "spikes", "saturations", "accuracy")]
        found[path.name] = json.dumps(kept).encode()
    return found


def test_two_processes_write_the_same_bytes_and_predict_the_same(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one", 1, "1"), made(tmp_path / "other", 2, "77")
    assert len(one) == 10 and one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    assert len({one[f"{name}.json"] for name in ("engine", "add-only", "onnx")}) == 1


def test_a_sweep_gives_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    """Here, and on two processes, whose points come in as they are done."""
    pytest.importorskip("distributed")
    from typer.testing import CliRunner

    from randhet.cli.app import app

    path = tmp_path / "a.pt"
    model = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
    checkpoints.save(path, checkpoints.random_init(model, images=load("digits", "train").pixels[:64]))
    formats = ["--bits", "8,4", "--tau-bits", "8", "--fractions", "6", "--scales", "channel,layer"]
    few = ["--samples", "16", "--calibration", "8", "--draws", "2", "--data", "digits", "--json"]
    said = [
        CliRunner().invoke(app, ["sweep", str(path), *formats, *few, "--threads", str(threads)]) for threads in (1, 2)
    ]
    assert [result.exit_code for result in said] == [0, 0], said[1].output
    one, other = (json.loads(result.stdout) for result in said)
    assert one == other and len(one["points"]) == 4


@pytest.mark.lava
def test_lava_draws_the_same_for_the_same_seed() -> None:
    """Two runs, each of processes of its own; another seed gives other sums."""
    from randhet.lava_runtime.runner import run

    images = load("digits", "train").pixels
    model = checkpoints.random_init(ModelSettings(1, 10, (8, 8), (3,), (1,), steps=2), images=images[:64])
    network = export_checkpoint(model, images[:16]).network
    one, again, other = (run(network, images[:4], seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(one.sums, again.sums) and one.spikes == again.spikes
    assert not np.array_equal(one.sums, other.sums)
