"""Kernels compiled for ARM, called through an emulator: `Machine.call` in place of a kernel."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import cross
import numpy as np
from numba import typeof
from numba.core import types

EMULATOR = "qemu-aarch64"
APART, GUARD = 64, 0x5C
"""Bytes of arrays in memory are followed by so many, or more, of this value: a kernel must leave them."""


class Processor(NamedTuple):
    """features: what LLVM may use. model: the emulator's, which knows no more. about: the form of products."""

    features: str
    model: str
    about: str


PROCESSORS = {
    "neon": Processor("+neon", "cortex-a53", "NEON"),
    "dotprod": Processor("+neon,+dotprod", "neoverse-n1", "ARM dot products"),
    "i8mm": Processor("+neon,+dotprod,+i8mm", "max", "ARM dot products of mixed signs"),
}


def missing() -> str | None:
    """Return what is not installed of the tools, None where all is."""
    absent = [tool for tool in (cross.COMPILER, EMULATOR) if which(tool) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


class Machine:
    """A processor of the table, with a process that compiles for it."""

    def __init__(self, processor: Processor, folder: Path) -> None:
        self.processor, self.folder = processor, folder
        self.programs: dict[Any, tuple[Path, Any]] = {}
        command = [sys.executable, cross.__file__, processor.features, str(folder)]
        self.compiler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.compiler.communicate()

    def ask(self, module: str, name: str, kinds: Any) -> Any:
        """Return the program of a kernel, or where `kinds` is None, the value of a name."""
        assert self.compiler.stdin
        assert self.compiler.stdout
        pickle.dump((module, name, kinds), self.compiler.stdin)
        self.compiler.stdin.flush()
        return pickle.load(self.compiler.stdout)

    def call(self, kernel: Any, *arguments: Any) -> Any:
        """Run a kernel on the emulator; writes into the arguments' arrays, and returns what it returns."""
        return self.ran(kernel, arguments)[0]

    def ran(self, kernel: Any, arguments: tuple[Any, ...], options: tuple[str, ...] = ()) -> tuple[Any, str, Path]:
        """Do so with more options of the emulator; returns what it printed and the program too."""
        kinds = tuple(typeof(argument) for argument in arguments)
        key = kernel.__module__, kernel.__name__, kinds
        if key not in self.programs:
            self.programs[key] = self.ask(*key)
        path, returned = self.programs[key]
        words, memory, places = laid_out(arguments)
        given = np.array([len(words), len(memory)], np.int64).tobytes() + words.tobytes() + memory.tobytes()
        command = [EMULATOR, *options, "-cpu", self.processor.model, str(path)]
        done = subprocess.run(command, input=given, capture_output=True, check=False)
        assert done.returncode == 0, f"{kernel.__name__} ended with {done.returncode}: {done.stderr.decode()}"
        answer = np.frombuffer(done.stdout[:72], np.int64)
        assert answer[0] == 0, f"{kernel.__name__} returned status {answer[0]}"
        copied_back(np.frombuffer(done.stdout, np.uint8, offset=72), memory, places)
        return result(answer[1:], returned), done.stderr.decode(), path


def laid_out(arguments: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, int]]]:
    """Flatten arguments as numba passes them: words (is a place, value), the memory, the arrays and their places."""
    words, pieces, places, size = [], [], [], 0
    for value in flat(arguments):
        if not isinstance(value, np.ndarray):
            words.append((0, int(value)))
            continue
        data = np.ascontiguousarray(value)
        words += [(0, 0), (0, 0), (0, data.size), (0, data.itemsize), (1, size)]
        words += [(0, number) for number in (*data.shape, *data.strides)]
        places.append((value, size))
        gap = APART + -data.nbytes % APART
        pieces += [np.frombuffer(data.tobytes(), np.uint8), np.full(gap, GUARD, np.uint8)]
        size += data.nbytes + gap
    return np.array(words, np.int64), np.concatenate(pieces), places


def flat(value: Any) -> Iterator[Any]:
    """Take tuples apart."""
    if isinstance(value, tuple):
        for member in value:
            yield from flat(member)
    else:
        yield value


def copied_back(after: np.ndarray, before: np.ndarray, places: list[tuple[np.ndarray, int]]) -> None:
    """Write changed arrays; nothing else in memory may have changed."""
    changed = after != before
    for array, place in places:
        own = slice(place, place + array.nbytes)
        # an array that was passed twice is written from the place that changed
        if changed[own].any():
            array[...] = after[own].view(array.dtype).reshape(array.shape)
        changed[own] = False
    assert not changed.any(), "written beyond an array"


def result(answer: np.ndarray, kind: Any) -> Any:
    """Read what a kernel returned."""
    if isinstance(kind, types.UniTuple):
        return tuple(int(number) for number in answer[: len(kind)])
    return None if kind == types.none else int(answer[0])
