"""What the cases run on, a table of names; each target says why it cannot run here, or cannot run a case."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Protocol, cast

import numpy as np

from hardware_tests import stock
from hardware_tests.board import Board
from hardware_tests.cases import Case
from randhet.export.c import boards
from randhet.export.c import run as c
from randhet.fixed_point.backends import BACKENDS, Runner, runner
from randhet.fixed_point.network import Network

AT_ONCE = 2
"""Lava runs at the same time."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What a target shows of a run, by layer name, as (images, T, neurons); what it cannot show is left out or None.

    predictions: arg max of the read-out's sum over T, None where the target has no read-out.
    """

    outputs: Mapping[str, np.ndarray]
    membranes: Mapping[str, np.ndarray] = field(default_factory=dict)
    saturations: int | None = None
    predictions: np.ndarray | None = None


class Target(Protocol):
    """Something that runs cases."""

    def missing(self) -> str | None:
        """Why it cannot run here, None where it can."""

    def refuses(self, network: Network) -> str | None:
        """Why it cannot run this network, None where it can."""

    def prepare(self, cases: Iterable[Case]) -> None:
        """Told once which cases will be asked for."""

    def observe(self, case: Case) -> Observed:
        """Run a case."""


@dataclass(frozen=True)
class Backend:
    """One of `randhet run --backend`; all of them run every network."""

    name: str

    def missing(self) -> str | None:
        return BACKENDS[self.name].missing()

    def refuses(self, network: Network) -> str | None:
        return None

    def prepare(self, cases: Iterable[Case]) -> None:
        pass

    def runner(self) -> Runner:
        return runner(self.name)

    def observe(self, case: Case) -> Observed:
        names = [layer.name for layer in case.network.layers]
        result = self.runner()(case.network, case.images, seed=case.seed, first_image=case.first_image, probes=names)
        flat = lambda values: np.asarray(values).reshape(len(case.images), case.network.steps, -1)
        membranes = {name: flat(t.membrane) for name, t in result.traces.items() if t.membrane is not None}
        outputs = {name: flat(trace.output) for name, trace in result.traces.items()}
        return Observed(outputs, membranes, result.saturations, result.predictions)


@dataclass(frozen=True)
class Firmware(Backend):
    """The program that `randhet export --c` writes, on one of `boards.BOARDS`."""

    def missing(self) -> str | None:
        return boards.BOARDS[self.name].missing()

    def runner(self) -> Runner:
        return cast(Runner, partial(c.run, build=boards.BOARDS[self.name].build))


@dataclass
class Ahead:
    """A target whose runs take seconds to start: all cases are begun together and collected one by one."""

    target: Target
    runs: dict[str, Future[Observed]] = field(default_factory=dict)

    def missing(self) -> str | None:
        return self.target.missing()

    def refuses(self, network: Network) -> str | None:
        return self.target.refuses(network)

    def prepare(self, cases: Iterable[Case]) -> None:
        if "PYTEST_XDIST_WORKER" in os.environ:
            return  # each of several workers would begin all cases, and runs but some of them
        pool = ThreadPoolExecutor(AT_ONCE)
        self.runs = {case.name: pool.submit(self.target.observe, case) for case in cases}
        # Threads end with their work; an interrupted session does not wait for what has not begun
        pool.shutdown(wait=False)

    def observe(self, case: Case) -> Observed:
        return self.runs[case.name].result() if case.name in self.runs else self.target.observe(case)


@dataclass(frozen=True)
class Stock:
    """Stock Lava processes, simulated (board None) or on a Loihi 2 board."""

    board: Board | None

    def missing(self) -> str | None:
        return BACKENDS["lava"].missing() or (self.board.missing() if self.board else None)

    def refuses(self, network: Network) -> str | None:
        return next(iter(stock.obstacles(network)), None)

    def prepare(self, cases: Iterable[Case]) -> None:
        pass

    def observe(self, case: Case) -> Observed:
        return Observed(stock.run(case.network, case.images, self.board))


NAMES = (*(name for name in BACKENDS if name != "c"), "c-host", *boards.BOARDS, "lava-stock", "loihi2")
"""Every target, by name."""


@cache
def target(name: str, board: Board) -> Target:
    """The target called `name`; the board is used by loihi2."""
    if name == "lava":
        return Ahead(Backend(name))
    if name == "c-host":
        return Backend("c")
    if name in boards.BOARDS:
        return Firmware(name)
    if name == "lava-stock":
        return Ahead(Stock(None))
    return Stock(board) if name == "loihi2" else Backend(name)
