"""Pieces of work for the tests of `randhet.base.parallel`; a module of its own, because worker processes import it."""

from __future__ import annotations

import os
import signal
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


def fails(shared: Any, i: int) -> None:
    raise RandhetError(f"piece {i} is wrong")
