"""The soak passes for some seconds on what is sound, and fails where memory really grows or a prediction changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point.backends import runner
from randhet.fixed_point.result import Result
from randhet.netx import write as netx
from randhet.train.checkpoint import random_init
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

pytest.importorskip("psutil")
SOAK = Path(__file__).parents[2] / "scripts" / "soak"
SECONDS = 3
LEFT = Path(f"/dev/shm/left-by-{os.getpid()}")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("soak") / "a.net"
    images = load("digits", "train").pixels[:64]
    made = random_init(ModelSettings(1, 10, (8, 8), (3,), (1,), steps=2), images=images)
    netx.write(path, export_checkpoint(made, images[:16]).network)
    return path


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = SourceFileLoader("soak", str(SOAK))
    spec = spec_from_loader("soak", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("backends", [["engine"], pytest.param(["engine", "lava"], marks=pytest.mark.lava)])
def test_some_seconds(backends: list[str], network: Path, tmp_path: Path) -> None:
    words = [network, "--minutes", f"{SECONDS / 60}", "--samples", "4", "--out", tmp_path / "a.json"]
    done = subprocess.run(
        [sys.executable, SOAK, *map(str, words), "--backends", *backends], capture_output=True, text=True, timeout=250
    )
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["odd"] == 0 and all(found["runs"][name] > 0 for name in backends)
    for fault in found["faults"]:  # a few seconds are too short for memory to have settled
        assert fault.startswith("memory went from")
    assert done.returncode == bool(found["faults"]), done.stderr
    assert (tmp_path / "a.png").stat().st_size > 10_000


def planted(kind: str) -> Any:
    """A runner of engines that keep 4 MB at every run, leave shared memory, or change a prediction at the 30th."""
    kept: list[np.ndarray] = []

    def make(name: str, threads: int) -> Any:
        run = runner(name, threads=threads)

        def faulty(*args: Any, **options: Any) -> Result:
            result = run(*args, **options)
            kept.append(np.ones(2**22 if kind == "memory" else 1, np.uint8))
            if kind == "shared" and len(kept) == 30:
                LEFT.write_bytes(b"left")
            if kind == "prediction" and len(kept) == 30:
                return replace(result, predictions=(result.predictions + 1) % 10)
            return result

        return faulty

    return make


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("memory", "memory went from"),
        ("shared", "shared went from"),
        ("prediction", "1 repetitions predicted something else"),
    ],
)
def test_a_planted_fault_is_told(
    kind: str, words: str, network: Path, tmp_path: Path, soak: ModuleType, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(soak, "runner", planted(kind))
    monkeypatch.setattr(soak, "PATIENCE", 1)
    arguments = [network, "--minutes", f"{SECONDS / 60}", "--samples", "4", "--out", tmp_path / "a.json"]
    monkeypatch.setattr(sys, "argv", ["soak", *map(str, arguments), "--backends", "engine"])
    try:
        assert soak.main() == 1
    finally:
        LEFT.unlink(missing_ok=True)
    assert any(fault.startswith(words) for fault in json.loads(capsys.readouterr().out)["faults"])


def test_shared_memory_of_other_programs_does_not_count(soak: ModuleType) -> None:
    """What another process holds is not left over from this one; what nobody holds may be."""
    hold = (
        "from multiprocessing.shared_memory import SharedMemory\n"
        "s = SharedMemory(create=True, size=9)\n"
        "print(s.name, flush=True)\ninput()\ns.close()\ns.unlink()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout
        name = child.stdout.readline().strip()
        assert name in soak.mapped_elsewhere(set()) and name not in soak.mapped_elsewhere({child.pid})
        child.stdin.write("\n")


def test_what_another_program_removes_soon_is_not_left_over(soak: ModuleType) -> None:
    """Shared memory is made before it is mapped, and unmapped before it is removed: what lasts counts."""
    LEFT.write_bytes(b"soon gone")
    threading.Timer(0.5, LEFT.unlink).start()
    assert LEFT.name in soak.shared() and soak.lasting({LEFT.name}) == set()
