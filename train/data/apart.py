"""Decode a file in a program of its own: `python -m MODULE FILE OUT.npz ARGUMENTS`, bounded in time and memory.

Native decoders end a damaged file in a panic or a crash, with lines on standard error, or in an allocation of any size.
The program that asked for the file outlives both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.base import child
from randhet.train.data.images import DataError

PATIENCE = 600
"""Seconds for one file."""
MEMORY = 2**33
"""Bytes of address space for one file, 8 GiB."""
MARK = "refused: "
"""What a line of standard error begins with that is for the user."""

Arrays = dict[str, NDArray[Any]]


def decoded(module: str, file: Path, *arguments: str, what: str = "events") -> Arrays:
    """Arrays that the program `module` makes of a file; DataError for what it refuses, and for its own end."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.npz")
        try:
            done = subprocess.run(
                child.command(module, str(file.resolve()), str(out), *arguments),
                cwd=folder, env=child.environment(OPENBLAS_NUM_THREADS="1"), capture_output=True, text=True,
                errors="replace", timeout=PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DataError(f"{what} {file} are not decoded after {PATIENCE} seconds") from None
        if done.returncode:
            said = [line.removeprefix(MARK) for line in done.stderr.splitlines() if line.startswith(MARK)]
            raise DataError(said[-1] if said else f"{what} {file} cannot be read: they are damaged")
        with np.load(out) as found:
            return dict(found)


def serve(decode: Callable[..., Arrays]) -> int:
    """Run as that program: decode(file, *arguments) within the memory; exit status 1 with a line for a DataError."""
    file, out, *arguments = sys.argv[1:]
    _limit_memory()
    try:
        arrays: dict[str, Any] = decode(Path(file), *arguments)
        np.savez(out, **arrays)
    except DataError as error:
        print(f"{MARK}{error}", file=sys.stderr)
        return 1
    return 0


def _limit_memory() -> None:
    """Allocations beyond it fail. Windows has no such limit."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most), most))


def reason(error: BaseException) -> str:
    """The first line of what a decoder says, or the kind of its error."""
    return (str(error).splitlines() or [type(error).__name__])[0][:100]
