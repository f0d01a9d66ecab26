"""The child program of a run: `python -m lava_runtime.driver DIRECTORY`. Alone in its session, it can be killed whole.

Lava's own run() never returns when a process dies; here the run is started without blocking and every process watched.
Writes `done.json`, or `fault` with the process and the error, into the directory. Source of the rules: measured.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

from export.netx import read
from fixed_point.shape import delays
from lava_runtime.builder import Built, build
from lava_runtime.plan import Run
from lava_runtime.processes.process import count

POLL_SECONDS = 0.02


class Died(Exception):
    """A Lava process ended before the run did; the message names it."""


def main(directory: Path) -> None:
    """Build, run, collect; any failure becomes the file `fault`, unless the failing model has written it already."""
    try:
        job = json.loads((directory / "job.json").read_text())
        # Segments get a name of this run, so that whoever cleans up can find them all
        shared_memory._SHM_NAME_PREFIX = f"/{job['token']}"  # type: ignore[attr-defined]
        done = execute(directory, job)
        (directory / "done.part").write_text(json.dumps(done))
        os.replace(directory / "done.part", directory / "done.json")
    except BaseException as error:
        if not (directory / "fault").exists():
            (directory / "fault").write_text(f"{error if isinstance(error, Died) else repr(error)}\n")
        os._exit(1)


def execute(directory: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run all steps and return {"spikes": {layer: count}, "saturations": count}."""
    network = read(directory / "network.net")
    run = Run(directory, network.steps, job["images"], job["first_image"], job["master"])
    built = build(network, run, job["probes"])
    # The last recorder sees spikes one step after the last layer sent them
    steps = run.total + delays(network)[-1] + 1
    first = built.processes[0]
    first.create_runtime(run_cfg=Loihi2SimCfg(select_tag=job["model"]))
    first.run(condition=RunSteps(steps, blocking=False), run_cfg=Loihi2SimCfg(select_tag=job["model"]))
    watch(built)
    (directory / "collecting").touch()
    tallies = {name: layer.tally.get() for name, layer in built.neurons.items()}
    return {
        "spikes": {name: count(tally[:2]) for name, tally in tallies.items()},
        "saturations": sum(count(tally[2:]) for tally in tallies.values()),
    }


def watch(built: Built) -> None:
    """Wait for the runtime's answer while looking after every process."""
    runtime = built.processes[0].runtime
    actors = runtime._messaging_infrastructure.actors
    names = [process.name for process in runtime._executable.proc_builders] + ["runtime service"]
    answers = list(runtime.service_to_runtime)
    while answers:
        for port in [port for port in answers if port.probe()]:
            if not enum_equal(port.recv(), MGMT_RESPONSE.DONE):
                raise Died("a process reported an error")
            answers.remove(port)
        for name, actor in zip(names, actors):
            if answers and not actor.is_alive():
                raise Died(f"{name}: its process ended unexpectedly")
        if os.getppid() == 1:
            raise Died("the program that started this run has ended")
        time.sleep(POLL_SECONDS)
    runtime._is_running = False


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # Results are on disk; Lava's own stop can hang, so the session is ended by whoever started it
    time.sleep(60)
