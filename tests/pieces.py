"""Pieces of work for the tests of `randhet.base.parallel`; a module of its own, because worker processes import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from randhet.base.errors import RandhetError


def square(shared: int, i: int) -> dict[str, int]:
    return {"square": shared + i * i}


def square_once(shared: tuple[int, str], i: int) -> dict[str, int]:
    """Refuses to be run twice for the same piece."""
    base, folder = shared
    (Path(folder) / str(i)).touch(exist_ok=False)
    return square(base, i)


def dies_first(shared: tuple[int, str], i: int) -> dict[str, int]:
    """Piece 2 kills its worker the first time, after the others had time to begin."""
    base, folder = shared
    marker = Path(folder) / "killed"
    if i == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(base, i)


def dies_always(shared: Any, i: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


running: list[int] = []
"""The pieces that run in this process."""


def crowd(shared: Any, i: int) -> int:
    """How many pieces ran in this process while this one did."""
    running.append(i)
    most = 0
    for _ in range(10):
        time.sleep(0.005)
        most = max(most, len(running))
    running.remove(i)
    return most


def length(shared: bytes) -> int:
    return len(shared)


def waits(shared: Any, i: int) -> int:
    time.sleep(0.1)
    return i


def fails(shared: Any, i: int) -> None:
    raise RandhetError(f"piece {i} is wrong")


def variable(shared: None, name: str) -> str | None:
    """What the worker's environment says."""
    return os.environ.get(name)
