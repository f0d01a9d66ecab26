"""Ctrl-C at every line that a writing program runs: the file is the old or the new one, and nothing lies beside it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from randhet.base.files import replacing_all
from randhet.base.interrupts import held


def write(path: Path) -> None:
    with replacing_all(path) as temporary:
        temporary.write_text("new")
        temporary.with_name("beside").write_text("new")


def interrupted_at(number: int, path: Path) -> tuple[bool, bool]:
    """Write with SIGINT at the given traced line: whether so many lines ran, and whether KeyboardInterrupt came out."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == number:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        write(path)
    except KeyboardInterrupt:
        return True, True
    finally:
        sys.settrace(before)
    return lines >= number, False


def test_ctrl_c_at_any_line_leaves_whole_files_and_nothing_else(tmp_path: Path) -> None:
    path, beside = tmp_path / "a.txt", tmp_path / "beside"
    seen = set()
    number = 1
    while True:
        path.write_text("old")
        beside.write_text("old")
        reached, raised = interrupted_at(number, path)
        if not reached:
            break
        assert raised, f"line {number}: Ctrl-C was lost"
        assert sorted(os.listdir(tmp_path)) == ["a.txt", "beside"], f"line {number}"
        assert path.read_text() == beside.read_text(), f"line {number}"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        seen.add(path.read_text())
        number += 1
    assert number > 100  # all of tempfile, pathlib and contextlib that takes part is walked through
    assert seen == {"old", "new"}


def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    ran = []

    def hold() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            ran.append("rest of the block")

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert ran == ["rest of the block"]


def test_ctrl_c_comes_through_where_it_is_released() -> None:
    def hold() -> None:
        with held() as ctrl_c, ctrl_c.released():
            signal.raise_signal(signal.SIGINT)
            pytest.fail("Ctrl-C did not come")

    with pytest.raises(KeyboardInterrupt):
        hold()


def test_a_program_that_ignores_ctrl_c_and_other_threads_are_left_alone(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        write(tmp_path / "a.txt")
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=write, args=(tmp_path / "b.txt",))
    thread.start()
    thread.join()
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt", "beside"]
