"""Ctrl-C that waits while files change names."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, "FrameType | None"], object]


class Held:
    """A handler of SIGINT that keeps the signal for later while it holds, and otherwise passes it on."""

    def __init__(self, passed_to: Handler) -> None:
        self.passed_to = passed_to
        self.holds = True
        self.kept: list[tuple[int, FrameType | None]] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.holds:
            self.kept.append((number, frame))
        else:
            self.passed_to(number, frame)

    def deliver(self) -> None:
        """What was kept, once."""
        if self.kept:
            number, frame = self.kept[0]
            self.kept.clear()
            self.passed_to(number, frame)

    @contextmanager
    def released(self) -> Iterator[None]:
        """A part of the block in which Ctrl-C comes through at once."""
        try:
            self.holds = False
            self.deliver()
            yield
        finally:
            self.holds = True


@contextmanager
def held() -> Iterator[Held]:
    """Ctrl-C waits until the end of the block, where it is then raised.

    It reaches the main thread of a program alone, and only where a handler of Python's is set; else nothing changes.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield Held(lambda number, frame: None)
        return
    handler = Held(before)
    try:
        signal.signal(signal.SIGINT, handler)
        yield handler
    finally:
        signal.signal(signal.SIGINT, before)
        handler.deliver()
