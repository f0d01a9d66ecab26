"""The guard of a run: `python -m randhet.lava_runtime.guard DIRECTORY TOKEN COMMAND...`. Standard library only.

It stands between the program that asked for the run and the run itself, and its standard input is a pipe from that
program. However that program ends (Ctrl-C, SIGTERM, SIGKILL), the pipe closes, and the warden ends the run: every
process of its group, every shared-memory segment that carries its token, and, unless told to keep it, the directory.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from traceback import format_exception

SHARED_MEMORY = Path("/dev/shm")
POLL_SECONDS = 0.05
KEEP = b"k"
"""What the program that asked writes before it closes the pipe, because it still wants to read the directory."""


def main(directory: Path, token: str, command: list[str]) -> None:
    """Start the run in a session of its own, wait for its end or the asking program's, leave nothing behind."""
    with open(directory / "log", "wb") as log:
        run = subprocess.Popen(
            [*command, str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"TMPDIR": str(directory)},
            start_new_session=True,
        )
    keep = True
    try:
        (directory / "group").write_text(str(run.pid))
        keep = wait(run)
        if run.returncode:
            last = (directory / "log").read_text(errors="replace").strip().split("\n")[-1]
            report(directory, "the runtime", f"its process ended unexpectedly ({cause(run.returncode)}) {last}".strip())
    finally:
        end(directory, token)
        run.wait()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def wait(run: subprocess.Popen[bytes]) -> bool:
    """Until the run is over or the pipe speaks; False where the asking program is gone."""
    asking = os.getppid()
    while run.poll() is None:
        if select.select([0], [], [], POLL_SECONDS)[0]:
            return os.read(0, 1) == KEEP
        if os.getppid() != asking:
            return False
    return True


def end(directory: Path, token: str) -> None:
    """Kill the run's process group, then remove its shared memory; nothing happens where both are gone already."""
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.killpg(int((directory / "group").read_text()), signal.SIGKILL)
    release(token)


def release(token: str) -> None:
    """Remove the shared-memory segments whose names begin with the token."""
    if SHARED_MEMORY.is_dir():
        for segment in SHARED_MEMORY.glob(f"{token}*"):
            segment.unlink(missing_ok=True)


def report(directory: Path, origin: str, error: BaseException | str) -> None:
    """Write the file `fault`: one line with the place and the error, then the traceback; the first report stands."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}\n{''.join(format_exception(error))}"
    draft = directory / f"fault.{os.getpid()}"
    with suppress(OSError):
        draft.write_text(f"{origin}: {text}")
        if not (directory / "fault").exists():
            os.replace(draft, directory / "fault")


def cause(exitcode: int) -> str:
    """What an exit code says, in words."""
    if exitcode >= 0:
        return f"exit code {exitcode}"
    hint = ", as happens where shared memory is full" if -exitcode == signal.SIGBUS else ""
    return f"{signal.Signals(-exitcode).name}{hint}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
