"""Nothing is lost or half-written: a full disk, a read-only folder, kill -9 around the write, two runs at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from randhet.base.errors import FileError
from randhet.base.parallel import run_all
from randhet.netx import write as netx
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

HOME = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HOME}{os.pathsep}{HOME / 'tests'}"}
MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
OLD = b"the old file\n"
FEW = ["--samples", "8"]
SWEEP = ["sweep", "MODEL", "--bits", "8", "--tau-bits", "8", "--fractions", "6", "--scales", "channel", *FEW]
SWEEP += ["--calibration", "8", "--draws", "2", "--threads", "1"]
WRITERS: dict[str, tuple[str, list[str]]] = {
    "export": ("a.net", ["export", "MODEL", "--data", "digits", *FEW, "--out", "FILE"]),
    "export onnx": ("a.onnx", ["export", "MODEL", "--data", "digits", *FEW, "--out", "FREE", "--onnx", "FILE"]),
    "export nir": ("a.nir", ["export", "MODEL", "--data", "digits", *FEW, "--out", "FREE", "--nir", "FILE"]),
    "train": ("a.pt", ["train", "--data", "digits", *FEW, "--batch", "4", "--epochs", "1", "--out", "FILE"]),
    "sweep": ("sweep.json", [*SWEEP, "--out", "FOLDER"]),
    "sweep's plot": ("sweep.png", [*SWEEP, "--out", "FOLDER"]),
    "compare": ("a.html", ["compare", "MODEL", "NET", *FEW, "--draws", "2", "--report", "FILE"]),
}
RUN_ALL = """
import json, sys
from pathlib import Path
from command_line import call
found = {}
for name, (file, words) in json.loads(Path(sys.argv[1]).read_text()).items():
    result = call(*words)
    found[name] = result.exit_code, result.stderr.strip().split("\\n")[-1], Path(file).read_bytes().decode("latin-1")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.pt and model.net."""
    folder = tmp_path_factory.mktemp("files")
    model = checkpoints.random_init(MODEL, images=load("digits", "train").pixels[:64])
    checkpoints.save(folder / "model.pt", model)
    from randhet.export.pipeline import export_checkpoint

    netx.write(folder / "model.net", export_checkpoint(model, load("digits", "train").pixels[:16]).network)
    return folder


def words_of(name: str, files: Path, folder: Path) -> tuple[Path, list[str]]:
    """The file that a command writes into the folder, and the command."""
    file, words = folder / WRITERS[name][0], WRITERS[name][1]
    places = {
        "MODEL": files / "model.pt",
        "NET": files / "model.net",
        "FILE": file,
        "FREE": files / "free.net",
        "FOLDER": folder,
    }
    return file, [str(places.get(word, word)) for word in words]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        pytest.param(
            "dd if=/dev/zero of={0}/filler bs=64k 2>/dev/null || true", "No space left on device", id="full disk"
        ),
        pytest.param("mount -o remount,ro {0}", "Read-only file system", id="read-only folder"),
    ],
)
def test_what_cannot_be_written_is_one_sentence_and_the_old_file_stays(
    prepare: str, reason: str, files: Path, tmp_path: Path
) -> None:
    """On a small disk in a mount namespace of its own; skipped where the system allows none."""
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("a disk of its own needs the right to mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    commands = {name: words_of(name, files, disk) for name in WRITERS}
    (tmp_path / "commands.json").write_text(
        json.dumps({name: (str(file), words) for name, (file, words) in commands.items()})
    )
    (tmp_path / "run.py").write_text(RUN_ALL)
    (tmp_path / "old").write_bytes(OLD)
    steps = [f"mount -t tmpfs -o size=1m tmpfs {disk}"]
    steps += [f"cp {tmp_path / 'old'} {file}" for file, _ in commands.values()]
    steps += [
        prepare.format(disk),
        f"{sys.executable} {tmp_path / 'run.py'} {tmp_path / 'commands.json'}",
        f"ls -A {disk}",
    ]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", "\n".join(steps)], capture_output=True, env=ENVIRONMENT, cwd=HOME, timeout=200
    )
    assert done.returncode == 0, done.stderr.decode()
    said, *left = done.stdout.decode().strip().split("\n")
    for name, (status, last, content) in json.loads(said).items():
        assert (status, content) == (2, OLD.decode()), (name, last)
        assert reason in last and "cannot write" in last, (name, last)
    # no temporary files; results that grow line by line are there as far as they came
    assert set(left) <= {"filler", "sweep.jsonl", *(file.name for file, _ in commands.values())}


KILLED = """
import os, signal, sys
from types import SimpleNamespace
from randhet.base import files
from randhet.cli.app import app
def replace(temporary, path):
    watched = str(path) == sys.argv[2]
    if not watched or sys.argv[1] == "after":
        os.replace(temporary, path)
    if watched:
        os.kill(os.getpid(), signal.SIGKILL)
files.os = SimpleNamespace(**{**vars(os), "replace": replace})
app(sys.argv[3:])
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["export", "train", "sweep", "sweep's plot", "compare"])
def test_killed_around_the_write(name: str, when: str, files: Path, tmp_path: Path) -> None:
    """At the worst moments, the last before and the first after the new file takes its place."""
    file, words = words_of(name, files, tmp_path)
    file.write_bytes(OLD)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, when, str(file), *words], capture_output=True, env=ENVIRONMENT, timeout=200
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    if when == "before":
        assert file.read_bytes() == OLD
    elif name == "export":
        assert netx.read(file).steps == MODEL.steps
    elif name == "train":
        assert checkpoints.load(file).record["epoch"] == 1
    elif name == "sweep":
        assert len(json.loads(file.read_text())["points"]) == 1
    elif name == "sweep's plot":
        assert file.read_bytes().endswith(b"IEND\xaeB`\x82") and json.loads((tmp_path / "sweep.json").read_text())
    else:
        assert file.read_text().rstrip().endswith("</html>")


EPOCH = """
import os, signal, sys
from randhet.train import loop
step, seen = loop._step, []
def kill(*arguments):
    seen.append(1)
    if len(seen) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)
loop._step = kill
from randhet.cli.app import app
app(sys.argv[2:])
"""


def test_killed_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """Two batches an epoch; killed in the second batch of the second: the first epoch's file is whole, and goes on.

    What comes of going on is, weight for weight, what a run gives that nobody killed.
    """
    words = ["train", "--data", "digits", *FEW, "--batch", "4", "--epochs", "3", "--threads", "1", "--out"]
    broken, whole = tmp_path / "broken.pt", tmp_path / "whole.pt"

    def train(last_batch: int, file: Path, *more: str) -> int:
        command = [sys.executable, "-c", EPOCH, str(last_batch), *words, str(file), *more]
        return subprocess.run(command, capture_output=True, env=ENVIRONMENT, timeout=250).returncode

    assert train(4, broken) == -signal.SIGKILL
    assert checkpoints.load(broken).record["epoch"] == 1
    assert train(0, broken, "--resume") == 0 and train(0, whole) == 0
    one, other = checkpoints.load(broken), checkpoints.load(whole)
    assert one.record["epoch"] == other.record["epoch"] == 3
    assert checkpoints.weights_hash(one.state) == checkpoints.weights_hash(other.state)


SLOW = """
import time
from pathlib import Path
from randhet.base.parallel import run_all
f = lambda shared, i: time.sleep(60 * (i == 1)) or {"i": i}
run_all(f, {f"piece {i}": (i,) for i in range(2)}, Path(%r), workers=0)
"""


def plain(shared: Any, i: int) -> dict[str, int]:
    return {"i": i}


def test_a_second_run_into_the_same_results_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    child = subprocess.Popen([sys.executable, "-c", SLOW % str(file)], env=ENVIRONMENT)
    try:
        while not (file.exists() and len(file.read_text().splitlines()) == 2):
            assert child.poll() is None
            time.sleep(0.02)
        before = file.read_bytes()
        pieces = {f"piece {i}": (i,) for i in range(2)}
        with pytest.raises(FileError, match=r"results .*results\.jsonl are being written by another run"):
            run_all(plain, pieces, file, workers=0)
        assert file.read_bytes() == before
    finally:
        child.kill()
        child.wait()
    assert run_all(plain, pieces, file, workers=0) == {"piece 0": {"i": 0}, "piece 1": {"i": 1}}
