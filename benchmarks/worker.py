"""One contender in a process of its own: `python -m randhet.benchmarks.worker JOB`, JOB in JSON.

After each batch it writes a line with the seconds and the memory so far, and waits for a line on standard input before
it goes on: the race lets one worker run at a time. The first batch includes loading and compiling.
"""

from __future__ import annotations

import json
import os
import sys
import time

from randhet.benchmarks.contenders import CONTENDERS, Job
from randhet.benchmarks.process import FamilyPeak, now_mb, peak_mb


def main(job: Job) -> None:
    """Run the contender's batches, one per line read."""
    # what libraries print must not come between the lines that are read
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contender = CONTENDERS[job.contender]
    family = FamilyPeak() if contender.tree else None
    begin, spent, interpreter = time.perf_counter(), time.process_time(), now_mb()

    def turn(seconds: float | None = None, cpu: float | None = None) -> None:
        nonlocal begin, spent
        if cpu is None and not contender.tree:
            cpu = time.process_time() - spent
        seconds = time.perf_counter() - begin if seconds is None else seconds
        peak = family.mb if family else peak_mb()
        channel.write(
            json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak, "interpreter_mb": interpreter}) + "\n"
        )
        channel.flush()
        if not sys.stdin.readline():
            os._exit(0)
        begin, spent = time.perf_counter(), time.process_time()

    contender.contend(job, turn)


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
