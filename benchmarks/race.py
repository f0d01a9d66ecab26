"""Every contender in a process of its own, one batch each in turn, so that a drifting machine hits all alike."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from randhet.base import child
from randhet.base.errors import RandhetError
from randhet.benchmarks.contenders import CONTENDERS, Contender, Job

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
COMMAND = child.command("randhet.benchmarks.worker")
PAUSE = 0.1
"""Seconds between two contenders: the threads of the last one spin for a while before they sleep."""


class WorkerError(RandhetError):
    """A contender that ended without an answer, or took too long."""


@dataclass
class Times:
    """What a contender gave: seconds until its first batch was done, of the others, memory, or why it gave nothing.

    cpu: processor seconds of all threads, which other work on the machine lengthens less than the time on the clock.
    interpreter_mb: what Python and NumPy took before the contender was imported; peak_mb includes it.
    """

    first: float | None = None
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    interpreter_mb: float | None = None
    missing: str | None = None
    failed: bool = False


class Worker:
    """A running contender."""

    def __init__(self, contender: Contender, job: Job, log: IO[bytes]) -> None:
        self.contender, self.log, self.times, self.batches = contender, log, Times(), 0
        threads = dict.fromkeys(THREAD_VARIABLES, str(job.threads))
        self.folder = tempfile.TemporaryDirectory(prefix="randhet-bench-")
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(
            [*COMMAND, json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=child.environment(**threads, **contender.variables()),
            cwd=self.folder.name,
            start_new_session=True,
        )

    def batch(self) -> None:
        """Wait for the batch that is running; WorkerError where it does not end well."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], self.contender.deadline)[0]:
            raise WorkerError(f"it took longer than {self.contender.deadline:.0f} s and was ended")
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"it failed: {self.last_words()}")
        said = json.loads(line)
        times = self.times
        if times.first is None:
            times.first = time.perf_counter() - self.begun
        if self.contender.most or self.batches:
            times.seconds.append(said["seconds"])
            times.cpu += [said["cpu"]] if said["cpu"] is not None else []
        self.batches += 1
        times.peak_mb, times.interpreter_mb = said["peak_mb"], said["interpreter_mb"]

    def go(self) -> None:
        """Let it run another batch."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def last_words(self) -> str:
        """The last error that it wrote on standard error, else the last line, or how it ended."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Failed)\b", line)]
        return (errors or lines or [f"exit status {self.process.wait()}"])[-1]

    def end(self) -> None:
        """End it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.folder.cleanup()


@contextmanager
def started(contender: Contender, job: Job) -> Iterator[Worker]:
    """A worker for the length of the block."""
    with tempfile.TemporaryFile() as log:
        worker = Worker(contender, job, log)
        try:
            yield worker
        finally:
            worker.end()


def race(
    names: Sequence[str],
    directory: Path,
    batch: int,
    threads: int,
    repeats: int,
    progress: Callable[[int], Any] = lambda count: None,
) -> dict[str, Times]:
    """Times of the contenders on the files of a case. Each loads and runs a first batch; then all take turns.

    progress is told of every batch, repeats + 1 per contender. Contenders with `most` run that often and are not kept.
    """
    if os.name != "posix":
        raise RandhetError("bench needs a POSIX system: it times processes that it can end with all they started")
    times: dict[str, Times] = {}
    with ExitStack() as stack:
        racing: list[Worker] = []
        for name in names:
            contender = CONTENDERS[name]
            if reason := contender.obstacle():
                times[name] = Times(missing=reason)
                progress(repeats + 1)
                continue
            batches = contender.most or repeats + 1
            job = Job(name, str(directory.resolve()), batch, threads, batches)
            with ExitStack() as own:
                worker = own.enter_context(started(contender, job))
                times[name] = worker.times
                stays = attempt(worker) and not contender.most
                progress(1 if stays else repeats + 1)
                if stays:
                    racing.append(worker)
                    stack.push(own.pop_all())
        for _ in range(repeats):
            for worker in list(racing):
                time.sleep(PAUSE)
                worker.go()
                if not attempt(worker):
                    racing.remove(worker)
                progress(1)
    return times


def attempt(worker: Worker) -> bool:
    """Whether its batch went well; where not, its times say why."""
    try:
        worker.batch()
    except WorkerError as error:
        worker.times.missing, worker.times.failed = str(error), True
        worker.end()
        return False
    return True
