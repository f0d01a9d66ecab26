"""What goes wrong in a run ends it, within seconds, with a sentence that names the place, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest

from randhet.fixed_point.network import (
    Add,
    Conv,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    ReadOut,
    SumPool,
)
from randhet.lava_runtime.runner import LavaRunError, run

pytestmark = pytest.mark.lava
HOME = Path(__file__).resolve().parents[2]
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 2, 6, 6)).astype(np.uint8)


def chain(steps: int = 4) -> Network:
    """input, one (conv), two (conv), flat, read: six Lava processes with the recorder of the last layer."""
    rng = np.random.default_rng(0)

    def conv(into: int) -> Conv:
        return Conv(rng.integers(-60, 61, (3, into, 3, 3)).astype(np.int8), padding=(1, 1))

    def neuron() -> Lif:
        return Lif(np.full(3, 4000, np.int32), np.zeros(3, np.int32), Drawn())

    read = Dense(rng.integers(-60, 61, (4, 108)).astype(np.int8))
    layers = (
        Layer("input", Input((2, 6, 6))),
        Layer("one", conv(2), (0,), neuron()),
        Layer("two", conv(3), (1,), neuron()),
        Layer("flat", Flatten(), (2,)),
        Layer("read", read, (3,), ReadOut(np.zeros(4, np.int32))),
    )
    return Network(layers, steps)


ENDLESS = chain(steps=65_536)


def branched() -> Network:
    """The chain with a residual sum and a pool between `two` and the read-out."""
    *start, _, read = chain().layers
    rest = (
        Layer("sum", Add(), (1, 2)),
        Layer("pool", SumPool((2, 2), (2, 2)), (3,)),
        replace(read, operation=Dense(np.ones((4, 27), np.int8)), inputs=(4,)),
    )
    return Network((*start, *rest), steps=4)


RUNS = Path(f"/tmp/rh-test-{os.getpid()}")
"""Runs of these tests keep their directories here, which tells their processes from those of any other run."""


def commands() -> dict[int, bytes]:
    """Command lines of all processes of this machine."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return found


def processes() -> list[int]:
    """Guard, driver and Lava processes of these tests, in the order they were started."""
    return sorted(number for number, command in commands().items() if f"{RUNS}/".encode() in command)


def orphans() -> list[Path]:
    """Shared-memory segments of runs that no living guard owns: its command line has the token, eight characters."""
    living = b"".join(commands().values())
    return [segment for segment in Path("/dev/shm").glob("rh*") if segment.name[:8].encode() not in living]


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.05)
    assert condition()


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After every test no process, no segment, no directory of it exists. tmp_path comes first, not below RUNS.

    Segments that somebody's killed guard left before do not count, and what one test leaves does not fail the next.
    """
    RUNS.mkdir()
    before = set(orphans())
    monkeypatch.setattr("tempfile.tempdir", str(RUNS))
    monkeypatch.setenv("TMPDIR", str(RUNS))
    try:
        yield
        wait_for(lambda: not processes(), 5)
        assert set(orphans()) <= before
        assert not list(RUNS.iterdir())
    finally:
        rmtree(RUNS)


def running() -> dict[str, int]:
    """Process numbers of the run of these tests by what they are, once it computes; empty before."""
    for directory in RUNS.iterdir():
        with suppress(OSError):
            if (directory / "steps").exists():
                return dict(json.loads((directory / "processes.json").read_text()))
    return {}


def when_it_runs(act: Callable[[dict[str, int]], None]) -> threading.Thread:
    """Do something to the processes of a run as soon as it computes."""

    def wait() -> None:
        wait_for(lambda: bool(running()), 60)
        act(running())

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_every_process_of_a_run_is_listed() -> None:
    found: list[dict[str, int]] = []
    alive: list[list[int]] = []

    def look(by_name: dict[str, int]) -> None:
        found.append(by_name)
        alive.append(processes())
        os.kill(by_name["the guard"], signal.SIGKILL)

    thread = when_it_runs(look)
    with pytest.raises(LavaRunError):
        run(ENDLESS, IMAGES, seed=0)
    thread.join()
    layers = ["input", "one", "two", "read", "read.recorder"]
    own = ["the guard", "the runtime", "the runtime service", "the shared-memory manager"]
    assert sorted(found[0]) == sorted(layers + own)
    assert sorted(found[0].values()) == alive[0]


@pytest.mark.parametrize(
    ("victim", "sentence"),
    [
        pytest.param("the guard", "its guard ended|the runtime: its process ended", id="guard"),
        pytest.param("the runtime", "failed in the runtime: its process ended unexpectedly .SIGKILL", id="driver"),
        *(
            pytest.param(name, f"failed in {name}: its process ended unexpectedly .SIGKILL", id=name)
            for name in ("two", "read", "read.recorder", "the runtime service", "the shared-memory manager")
        ),
    ],
)
def test_a_killed_process_ends_the_run_within_ten_seconds(victim: str, sentence: str) -> None:
    killed: list[float] = []

    def kill(by_name: dict[str, int]) -> None:
        killed.append(time.monotonic())
        os.kill(by_name[victim], signal.SIGKILL)

    killer = when_it_runs(kill)
    with pytest.raises(LavaRunError, match=sentence):
        run(ENDLESS, IMAGES, seed=0)
    took = time.monotonic()
    killer.join()
    assert took - killed[0] < 10


def test_a_run_that_stands_still_is_ended() -> None:
    freezer = when_it_runs(lambda by_name: os.kill(by_name["two"], signal.SIGSTOP))
    with pytest.raises(LavaRunError, match="stood still for 4 s after [0-9]+ steps"):
        run(ENDLESS, IMAGES, seed=0, stall=4)
    freezer.join()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_the_program_ends_nothing_is_left(how: signal.Signals, tmp_path: Path) -> None:
    from randhet.netx.write import write

    write(tmp_path / "a.net", ENDLESS)
    np.save(tmp_path / "p.npy", IMAGES)
    code = (
        "import numpy as np; from randhet.lava_runtime.runner import run\n"
        f"run({str(tmp_path / 'a.net')!r}, np.load({str(tmp_path / 'p.npy')!r}), seed=0)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=HOME, stderr=subprocess.PIPE)
    when_it_runs(lambda by_name: child.send_signal(how)).join()
    _, message = child.communicate(timeout=10)
    assert child.returncode == -how
    assert (b"KeyboardInterrupt" in message) == (how == signal.SIGINT)


# --- models that fail: the fault is planted in the program that is the run, so that a real process fails --------------

START = """
import os, sys, time
from pathlib import Path
import numpy as np
import randhet.lava_runtime.driver as d
from randhet.lava_runtime.processes import guarded, layers, process as p, wiring

def planted():
    Path({failed!r}).write_text(str(time.monotonic()))
    return True
"""
"""A planted fault says when it happens, on the clock that all processes share."""
RAISE = """
kept = {owner}.{method}
def failing(self, *arguments):
    name, step = self.params["name"], getattr(self, "time_step", 0)
    if name == {victim!r} and step >= {step} and planted():
        {act}
    return kept(self, *arguments)
{owner}.{method} = failing
"""
ERROR = "raise ValueError('planted')"
RAISED = [
    ("layers.LayerModel", "setup", "two", 0, ERROR, "ValueError: planted"),
    ("wiring.InputModel", "setup", "input", 0, ERROR, "ValueError: planted"),
    ("wiring.RecorderModel", "setup", "read.recorder", 0, ERROR, "ValueError: planted"),
    ("layers.LifFixed", "integrate", "two", 6, "raise MemoryError('planted')", "MemoryError: planted"),
    ("wiring.InputModel", "advance", "input", 6, ERROR, "ValueError: planted"),
    ("wiring.JunctionModel", "advance", "sum", 6, ERROR, "ValueError: planted"),
    ("wiring.GridModel", "advance", "pool", 6, ERROR, "ValueError: planted"),
    ("layers.ReadOutFixed", "integrate", "read", 6, ERROR, "ValueError: planted"),
    ("wiring.RecorderModel", "advance", "read.recorder", 6, ERROR, "ValueError: planted"),
    ("layers.LifFixed", "integrate", "two", 6, "sys.exit(0)", "its process ended unexpectedly .exit code 0"),
    (
        "layers.LayerModel",
        "advance",
        "two",
        6,
        "self.outgoing = np.zeros((1, 2, 3), np.uint8)",
        "AssertionError: data.shape",
    ),
]
CONSTRUCTED = """
kept = guarded.Guarded.__init__
def failing(self, params):
    if params["name"] == "two" and planted():
        raise ValueError("planted")
    kept(self, params)
guarded.Guarded.__init__ = failing
"""
SHAPED = """
kept = p.Layer.__init__
def failing(self, plan, *others):
    kept(self, plan, *others)
    if plan.name == "two" and planted():
        {act}
p.Layer.__init__ = failing
"""
LATE = """
kept = d.Watch.list_processes
def failing(watch):
    kept(watch)
    finish, two = d.finish, dict(watch.processes())["two"]
    d.finish = lambda first: (finish(first), planted(), os.kill(two.pid, 9))
d.Watch.list_processes = failing
"""
PLANTS = {
    f"{owner}.{method}-{sentence}": (
        RAISE.format(
            **{
                "owner": owner,
                "method": method,
                "victim": victim,
                "step": step,
                "act": act,
            }
        ),
        f"{victim}: {sentence}",
    )
    for owner, method, victim, step, act, sentence in RAISED
}
PLANTS |= {
    "constructor": (CONSTRUCTED, "two: ValueError: planted"),
    "var of a wrong shape": (
        SHAPED.format(act="self.membrane.init = np.zeros((9, 9))"),
        "two: ValueError: could not broadcast",
    ),
    "port of a wrong shape": (
        SHAPED.format(act="self.s_in = p.InPort(shape=(1, 2, 3))"),
        "two: AssertionError: Shapes .* are incompatible",
    ),
    "death after the last step": (LATE, "two: its process ended unexpectedly .SIGKILL"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_failing_model_is_reported_by_its_layer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, sentence = PLANTS[name]
    script, failed = tmp_path / "planted.py", tmp_path / "failed"
    script.write_text(START.format(failed=str(failed)) + plant + "d.main(Path(sys.argv[1]))\n")
    monkeypatch.setattr("randhet.lava_runtime.runner.DRIVER", (sys.executable, str(script)))
    with pytest.raises(LavaRunError, match=f"Lava run failed in {sentence}"):
        run(branched(), IMAGES, seed=0)
    assert time.monotonic() - float(failed.read_text()) < 10


def test_a_driver_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "planted.py"
    script.write_text("raise ImportError('no such part of Lava')\n")
    monkeypatch.setattr("randhet.lava_runtime.runner.DRIVER", (sys.executable, str(script)))
    with pytest.raises(LavaRunError, match="the runtime: its process ended .* no such part of Lava"):
        run(chain(), IMAGES, seed=0)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        pytest.param("8k", "shared memory: OSError: [Errno 28]", id="while channels are made"),
        pytest.param("64k", "shared memory", id="while messages are sent"),
    ],
)
def test_full_shared_memory_is_one_sentence(size: str, sentence: str, tmp_path: Path) -> None:
    """In a mount namespace of its own with a tiny /dev/shm; skipped where the system allows none."""
    allowed = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True)
    if allowed.returncode:
        pytest.skip("a private /dev/shm needs the right to mount")
    from randhet.netx.write import write

    write(tmp_path / "a.net", chain())
    code = (
        "import numpy as np; from randhet.lava_runtime.runner import run\n"
        f"run({str(tmp_path / 'a.net')!r}, np.zeros((60, 2, 6, 6), np.uint8), seed=0, batch=60)\n"
    )
    (tmp_path / "run.py").write_text(code)
    command = f"mount -t tmpfs -o size={size} tmpfs /dev/shm && exec {sys.executable} {tmp_path / 'run.py'}"
    environment = os.environ | {"PYTHONPATH": str(HOME)}
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, env=environment, timeout=100)
    last = done.stderr.decode().strip().split("\n")[-1]
    assert "LavaRunError: Lava run failed in " in last and sentence in last
