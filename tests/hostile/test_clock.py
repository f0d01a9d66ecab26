"""A clock that is set back and forward while programs run: nothing that they compute or write depends on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from randhet.train.checkpoint import load

pytest.importorskip("distributed")

ROOT = Path(__file__).parents[2]
DAY = 86_400
JUMPS = (0, 3 * DAY, -DAY, 3600, -3600, 400 * DAY)
"""Seconds from the true time, each for a moment."""
FORWARD = tuple(DAY * days for days in range(1000))
"""The same for Dask: after 300 s it takes a worker for gone; set back, its timers wait for as long as the step."""
MOMENT = 0.3
WORK = """
import json, sys, time
from pathlib import Path
from typer.testing import CliRunner
from randhet.cli.app import app

folder, parallel, seen = Path(sys.argv[1]), sys.argv[2] == "parallel", []
def call(*arguments):
    seen.append(time.time())
    made = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert made.exit_code == 0, made.output
    return made.stdout
few = ("--samples", 24)
train = ("train", "--data", "digits", *few, "--batch", 8, "--out", folder / "a.pt", "--log", folder / "log")
call(*train, "--epochs", 2)
call("export", folder / "a.pt", "-o", folder / "a.net", *few, "--seed", 9)
said = call("run", folder / "a.net", "--backend", "engine", *few, "--json")
(folder / "run.json").write_text(said)
formats = ("--bits", "8,4", "--tau-bits", "8", "--fractions", "6", "--scales", "channel", "--draws", 2)
if parallel:
    call("sweep", folder / "a.pt", *formats, *few, "--calibration", 8, "--threads", 2, "--out", folder / "formats")
(folder / "clock.json").write_text(json.dumps(seen))
"""
JUMPING = """
import time
began = time.monotonic()
def jumping(real, unit):
    return lambda: real() + JUMPS[int((time.monotonic() - began) / MOMENT) % len(JUMPS)] * unit
time.time, time.time_ns = jumping(time.time, 1), jumping(time.time_ns, 10**9)
"""


def work(folder: Path, environment: dict[str, str], parallel: bool = True) -> float:
    """Train, export, run, and sweep with two workers, in a process of its own; the seconds it took."""
    folder.mkdir()
    begin = time.monotonic()
    command = [sys.executable, "-c", WORK, str(folder), "parallel" if parallel else ""]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return time.monotonic() - begin


def compare(one: Path, other: Path) -> None:
    """What two runs left is equal."""
    first, second = load(one / "a.pt"), load(other / "a.pt")
    assert all(torch.equal(tensor, second.state[name]) for name, tensor in first.state.items())
    assert (one / "a.net").read_bytes() == (other / "a.net").read_bytes()
    said = [json.loads((folder / "run.json").read_text()) for folder in (one, other)]
    assert said[0]["predictions"] == said[1]["predictions"] and said[0]["spikes"] == said[1]["spikes"]
    if (other / "formats").exists():
        formats = [json.loads((folder / "formats" / "sweep.json").read_text()) for folder in (one, other)]
        assert formats[0] == formats[1] and len(formats[0]["points"]) == 2


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clock") / "steady"
    work(folder, {})
    return folder


def check(steady: Path, folder: Path, environment: dict[str, str], parallel: bool = True) -> None:
    took = work(folder, environment, parallel)
    seen = json.loads((folder / "clock.json").read_text())
    assert max(abs(told - time.time()) for told in seen) > 3000, "the clock did not jump"
    compare(steady, folder)
    for seconds in (load(folder / "a.pt").record["seconds"], json.loads((folder / "run.json").read_text())["seconds"]):
        assert 0 < seconds < took


@pytest.mark.parametrize("jumps", [JUMPS, FORWARD], ids=["both-ways", "forward-with-workers"])
def test_a_clock_that_jumps_in_python(steady: Path, tmp_path: Path, jumps: tuple[int, ...]) -> None:
    """time.time of the program and, forward, of its workers; runs everywhere."""
    settings = f"JUMPS, MOMENT = {jumps}, {MOMENT}"
    (tmp_path / "sitecustomize.py").write_text(settings + JUMPING)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    check(steady, tmp_path / "jumping", {"PYTHONPATH": path}, parallel=jumps is FORWARD)


def test_a_clock_that_jumps_for_the_system(steady: Path, tmp_path: Path) -> None:
    """What the C library tells every program and native library, but not the monotonic clock, which no one can set."""
    if not sys.platform.startswith("linux") or (compiler := shutil.which("cc")) is None:
        pytest.skip("a clock for native libraries too needs Linux and a C compiler")
    library = tmp_path / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, Path(__file__).with_name("clock.c")], check=True)
    check(steady, tmp_path / "jumping", {"LD_PRELOAD": str(library)}, parallel=False)
