"""What a command says: results on standard output, progress and complaints on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

WIDTH = 120
"""Columns where no terminal says how many there are: a pipe or a log."""


def _console(stderr: bool = False) -> Console:
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDTH)


out = _console()
err = _console(stderr=True)

Stage = Callable[[str, int], Callable[[int], None]]


def emit(content: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(content) + "\n")


def complain(message: str) -> None:
    """One sentence on standard error, as plain text."""
    err.print(f"randhet: {message}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def bars() -> Iterator[Progress]:
    """Progress bars on standard error for the length of the block."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=not err.is_terminal) as progress:
        yield progress


@contextmanager
def stages() -> Iterator[Stage]:
    """A function that begins a named piece of work of so many units and returns what to call as units are done."""
    with bars() as progress:

        def begin(name: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(name, total=total)
            return lambda count: progress.advance(task, count)

        yield begin
