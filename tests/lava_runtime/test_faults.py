"""What goes wrong in a run ends it, within seconds, with a sentence that names the place, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fixed_point.network import Accumulate, Conv, Dense, Flatten, Input, Layer, Network, RandomTau
from lava_runtime.runner import LavaRunError, run

pytestmark = pytest.mark.lava
HOME = Path(__file__).resolve().parents[2]
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 2, 6, 6)).astype(np.uint8)


def chain(steps: int = 4) -> Network:
    """input, one (conv), two (conv), flat, read: six Lava processes with the recorder of the last layer."""
    rng = np.random.default_rng(0)

    def conv(into: int) -> Conv:
        return Conv(rng.integers(-60, 61, (3, into, 3, 3)).astype(np.int8), padding=(1, 1))

    def neuron() -> RandomTau:
        return RandomTau(np.full(3, 4000, np.int32), np.zeros(3, np.int32))

    read = Dense(rng.integers(-60, 61, (4, 108)).astype(np.int8))
    layers = (
        Layer("input", Input((2, 6, 6))),
        Layer("one", conv(2), (0,), neuron()),
        Layer("two", conv(3), (1,), neuron()),
        Layer("flat", Flatten(), (2,)),
        Layer("read", read, (3,), Accumulate(np.zeros(4, np.int32))),
    )
    return Network(layers, steps)


ENDLESS = chain(steps=65_536)


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
    """After every test no process, no segment, no directory of it exists. tmp_path comes first, not below RUNS."""
    RUNS.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(RUNS))
    monkeypatch.setenv("TMPDIR", str(RUNS))
    yield
    wait_for(lambda: not processes(), 5)
    assert not orphans()
    RUNS.rmdir()


def when_it_runs(act: Callable[[list[int]], None]) -> threading.Thread:
    """Do something to the processes of a run as soon as it computes."""

    def wait() -> None:
        # guard, driver, shared-memory manager, input, one, two, read, recorder, runtime service
        wait_for(lambda: len(processes()) >= 9, 60)
        time.sleep(0.5)
        act(processes())

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("victim", "sentence"),
    [
        pytest.param(0, "its guard ended|the runtime: its process ended", id="guard"),
        pytest.param(1, "failed in the runtime: its process ended unexpectedly .SIGKILL", id="driver"),
        pytest.param(5, "failed in (input|one|two): its process ended unexpectedly .SIGKILL", id="layer"),
        pytest.param(-1, "failed in the runtime service: its process ended unexpectedly .SIGKILL", id="service"),
    ],
)
def test_a_killed_process_ends_the_run_within_ten_seconds(victim: int, sentence: str) -> None:
    killed: list[float] = []

    def kill(running: list[int]) -> None:
        killed.append(time.monotonic())
        os.kill(running[victim], signal.SIGKILL)

    killer = when_it_runs(kill)
    with pytest.raises(LavaRunError, match=sentence):
        run(ENDLESS, IMAGES, seed=0)
    took = time.monotonic()
    killer.join()
    assert took - killed[0] < 10


def test_a_run_that_stands_still_is_ended() -> None:
    freezer = when_it_runs(lambda running: os.kill(running[5], signal.SIGSTOP))
    with pytest.raises(LavaRunError, match="stood still for 4 s after [0-9]+ steps"):
        run(ENDLESS, IMAGES, seed=0, stall=4)
    freezer.join()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_the_program_ends_nothing_is_left(how: signal.Signals, tmp_path: Path) -> None:
    from export.netx import write

    write(tmp_path / "a.net", ENDLESS)
    np.save(tmp_path / "p.npy", IMAGES)
    code = (
        "import numpy as np; from lava_runtime.runner import run\n"
        f"run({str(tmp_path / 'a.net')!r}, np.load({str(tmp_path / 'p.npy')!r}), seed=0)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=HOME, stderr=subprocess.PIPE)
    when_it_runs(lambda running: child.send_signal(how)).join()
    _, message = child.communicate(timeout=10)
    assert child.returncode == -how
    assert (b"KeyboardInterrupt" in message) == (how == signal.SIGINT)


# --- models that fail: the fault is planted in the program that is the run, so that a real process fails --------------

LAYER = "import lava_runtime.processes.models as m, lava_runtime.processes.process as p, numpy as np, sys, time\n"
PLANTS = {
    "constructor": (
        "kept = m.Guarded.__init__\n"
        "def planted(self, params):\n"
        "    if params['name'] == 'two': raise ValueError('planted')\n"
        "    kept(self, params)\n"
        "m.Guarded.__init__ = planted\n",
        "two: ValueError: planted",
    ),
    "var of a wrong shape": (
        "kept = p.Layer.__init__\n"
        "def planted(self, plan):\n"
        "    kept(self, plan)\n"
        "    if plan.name == 'two': self.membrane.init = np.zeros((9, 9))\n"
        "p.Layer.__init__ = planted\n",
        "two: ValueError: could not broadcast",
    ),
    "port of a wrong shape": (
        "kept = p.Layer.__init__\n"
        "def planted(self, plan):\n"
        "    kept(self, plan)\n"
        "    if plan.name == 'two': self.s_in = p.InPort(shape=(1, 2, 3))\n"
        "p.Layer.__init__ = planted\n",
        "two: AssertionError: Shapes .* are incompatible",
    ),
    "set-up": (
        "kept = m.LayerModel.setup\n"
        "def planted(self):\n"
        "    if self.params['name'] == 'two': raise ValueError('planted')\n"
        "    kept(self)\n"
        "m.LayerModel.setup = planted\n",
        "two: ValueError: planted",
    ),
    "message of a wrong shape": (
        "kept = m.LayerModel.setup\n"
        "def planted(self):\n"
        "    kept(self)\n"
        "    if self.plan.name == 'two': self.buffer = np.zeros((1, 2, 3), np.int32)\n"
        "m.LayerModel.setup = planted\n",
        "two: AssertionError: data.shape",
    ),
    "step": (
        "kept = m.LifModel.integrate\n"
        "def planted(self, total):\n"
        "    if self.plan.name == 'two' and self.time_step > 5: raise MemoryError('planted')\n"
        "    return kept(self, total)\n"
        "m.LifModel.integrate = planted\n",
        "two: MemoryError: planted",
    ),
    "exit without an error": (
        "kept = m.LifModel.integrate\n"
        "def planted(self, total):\n"
        "    if self.plan.name == 'two' and self.time_step > 5: sys.exit(0)\n"
        "    return kept(self, total)\n"
        "m.LifModel.integrate = planted\n",
        "two: its process ended unexpectedly .exit code 0",
    ),
    "death after the last step": (
        "import os\n"
        "from lava_runtime.driver import finish\n"
        "import lava_runtime.driver as d\n"
        "def planted(first):\n"
        "    finish(first)\n"
        "    names = [process.name for process in first.runtime._executable.proc_builders]\n"
        "    os.kill(first.runtime._messaging_infrastructure.actors[names.index('two')].pid, 9)\n"
        "d.finish = planted\n",
        "two: its process ended unexpectedly .SIGKILL",
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_failing_model_is_reported_by_its_layer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, sentence = PLANTS[name]
    script = tmp_path / "planted.py"
    start = "from pathlib import Path\nfrom lava_runtime.driver import main\nmain(Path(sys.argv[1]))\n"
    script.write_text(LAYER + plant + start)
    monkeypatch.setattr("lava_runtime.runner.DRIVER", (sys.executable, str(script)))
    begin = time.monotonic()
    with pytest.raises(LavaRunError, match=f"Lava run failed in {sentence}"):
        run(chain(), IMAGES, seed=0)
    assert time.monotonic() - begin < 10


def test_a_driver_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "planted.py"
    script.write_text("raise ImportError('no such part of Lava')\n")
    monkeypatch.setattr("lava_runtime.runner.DRIVER", (sys.executable, str(script)))
    with pytest.raises(LavaRunError, match="the runtime: its process ended .* no such part of Lava"):
        run(chain(), IMAGES, seed=0)


def test_full_shared_memory_is_one_sentence(tmp_path: Path) -> None:
    """In a mount namespace of its own with a tiny /dev/shm; skipped where the system allows none."""
    allowed = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True)
    if allowed.returncode:
        pytest.skip("a private /dev/shm needs the right to mount")
    from export.netx import write

    write(tmp_path / "a.net", chain())
    code = (
        "import numpy as np; from lava_runtime.runner import run\n"
        f"run({str(tmp_path / 'a.net')!r}, np.zeros((1, 2, 6, 6), np.uint8), seed=0)\n"
    )
    (tmp_path / "run.py").write_text(code)
    command = f"mount -t tmpfs -o size=8k tmpfs /dev/shm && exec {sys.executable} {tmp_path / 'run.py'}"
    environment = os.environ | {"PYTHONPATH": str(HOME)}
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, env=environment, timeout=30)
    assert b"LavaRunError: Lava run failed in shared memory: OSError: [Errno 28]" in done.stderr
