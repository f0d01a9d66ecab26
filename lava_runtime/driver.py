"""The run itself: `python -m randhet.lava_runtime.driver DIRECTORY`, a child of `guard` in a process group of its own.

Lava's own calls never return when a process dies, so a thread looks after every process from the first to the last.
Writes `done.json`, or `fault` with the place and the error, into the directory."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

# Lava is imported there first, as `loading` does it
from randhet.lava_runtime import processes  # noqa: F401

# isort: split
from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

from randhet.lava_runtime.builder import BuildError, build
from randhet.lava_runtime.guard import cause, release, report
from randhet.lava_runtime.plan import Run
from randhet.lava_runtime.processes.process import count
from randhet.lava_runtime.warm import warm
from randhet.netx.write import read

POLL_SECONDS = 0.02
MESSAGES = 2
"""Messages a channel has room for; Lava's default of 64 would be gigabytes. Processes move in step: one would do."""
STEPS_AT_ONCE = 128
"""Time steps, at most, between two commands of Lava's runtime service, which waits for all processes at each."""


def main(directory: Path) -> None:
    """Build, run, collect; any failure becomes the file `fault`, unless the failing model has written it already."""
    try:
        job = json.loads((directory / "job.json").read_text())
        # Segments get a name of this run, so that whoever cleans up can find them all
        shared_memory._SHM_NAME_PREFIX = f"/{job['token']}"  # type: ignore[attr-defined]
        name_failed_builds(directory)
        done = execute(directory, job)
        (directory / "done.part").write_text(json.dumps(done))
        os.replace(directory / "done.part", directory / "done.json")
    except BaseException as error:
        report(directory, *_place(error))
        os._exit(1)
    # Results are on disk; Lava's own stop can hang, and the guard ends what is left
    os._exit(0)


def _place(error: BaseException) -> tuple[str, BaseException]:
    if isinstance(error, BuildError):
        return error.layer, error.error
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    return "shared memory" if full else "the runtime", error


def name_failed_builds(directory: Path) -> None:
    """Lava does not say in which process a model could not be made: a constructor, a Var of the wrong shape."""
    build_model = PyProcessBuilder.build

    def named(builder: PyProcessBuilder) -> Any:
        try:
            return build_model(builder)
        except Exception as error:
            report(directory, builder.proc_params["name"], error)
            raise

    PyProcessBuilder.build = named


def execute(directory: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run all steps and return {"spikes": {layer: count}, "saturations": count}."""
    network = read(directory / "network.net")
    run = Run(
        directory,
        network.steps,
        job["images"],
        job["first_image"],
        job["master"],
        job["batch"],
        job["stream"],
        network.generator,
    )
    # The latest recorder sees spikes one step after its layer, which need not be the last one, sent them
    steps = run.total + max(network.delays) + 1
    commands = -(-steps // STEPS_AT_ONCE)
    run = replace(run, at_once=-(-steps // commands))
    built = build(network, run, job["probes"], floating=job["model"] == "floating_pt")
    first, settings = built.processes[0], Loihi2SimCfg(select_tag=job["model"])
    warm(built.neurons.values())
    watch = Watch(first, directory, job["token"], os.getppid())
    watch.start()
    first.create_runtime(run_cfg=settings, compile_config={"pypy_channel_size": MESSAGES})
    watch.list_processes()
    first.run(condition=RunSteps(commands, blocking=False), run_cfg=settings)
    finish(first)
    tallies = {name: layer.tally.get() for name, layer in built.neurons.items()}
    return {
        "spikes": {name: count(tally[:2]) for name, tally in tallies.items()},
        "saturations": sum(count(tally[2:]) for tally in tallies.values()),
    }


def finish(first: AbstractProcess) -> None:
    """Wait until every runtime service has reported the end of the steps."""
    runtime = first.runtime
    for port in runtime.service_to_runtime:
        if not enum_equal(port.recv(), MGMT_RESPONSE.DONE):
            raise RuntimeError("a process reported an error")
    runtime._is_running = False


@dataclass
class Watch:
    """Looks after the processes of a run, and after the guard that started it (process number `guard`)."""

    first: AbstractProcess
    directory: Path
    token: str
    guard: int

    def start(self) -> None:
        """Look on in a thread of its own."""
        threading.Thread(target=self.look, daemon=True).start()

    def look(self) -> None:
        """Until a process ends or the guard is gone; then leave the program, with a report of what ended."""
        try:
            while not (ended := list(self.ended())):
                if os.getppid() != self.guard:
                    self.leave()
                time.sleep(POLL_SECONDS)
            name, exitcode = ended[0]
            report(self.directory, name, f"its process ended unexpectedly ({cause(exitcode)})")
        except BaseException as error:  # a run that nobody looks after could hang
            report(self.directory, "the runtime", error)
        os._exit(1)

    def ended(self) -> Iterator[tuple[str, int]]:
        """Name and exit code of every process that is not alive, of those started so far; none ends before the run."""
        yield from ((name, process.exitcode) for name, process in self.processes() if process.exitcode is not None)

    def processes(self) -> Iterator[tuple[str, Any]]:
        """Name and process of each layer and of Lava's own, of those started so far."""
        runtime = self.first._runtime
        messaging = getattr(runtime, "_messaging_infrastructure", None)
        if messaging is None:
            return
        names = [process.name for process in runtime._executable.proc_builders] + ["the runtime service"]
        yield from zip(names, messaging.actors)
        # The process of multiprocessing's manager, which Lava's own wraps
        manager = getattr(getattr(messaging.smm, "_manager", None), "_process", None)
        if manager is not None:
            yield "the shared-memory manager", manager

    def list_processes(self) -> None:
        """Write `processes.json`: what runs under which process number, for whoever looks into a run."""
        numbers = {name: process.pid for name, process in self.processes()}
        everything = {"the guard": self.guard, "the runtime": os.getpid(), **numbers}
        (self.directory / "processes.part").write_text(json.dumps(everything))
        os.replace(self.directory / "processes.part", self.directory / "processes.json")

    def leave(self) -> None:
        """The guard was killed: do its work."""
        release(self.token)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
