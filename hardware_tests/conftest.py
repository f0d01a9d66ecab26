"""Options of the suite: which targets, which board. Targets that cannot run here are skipped with the reason."""

from __future__ import annotations

import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import settings

from hardware_tests.board import Board
from hardware_tests.cases import CASES
from hardware_tests.targets import NAMES, Target, target

# Nothing is timed: on a busy machine an example may take long without being wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

BOARD = Board()
COLLECTED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hardware_tests", "conformance of backends and hardware")
    group.addoption(
        "--target", action="append", choices=NAMES, help="what the cases run on; may be given more than once (all)"
    )
    group.addoption("--loihi-partition", metavar="NAME", help="SLURM partition of the Loihi 2 board")
    group.addoption("--loihi-board", metavar="NAME", help="SLURM node name of the Loihi 2 board")
    group.addoption("--loihi-host", metavar="ADDRESS", help="address of the board's host, without SLURM")
    group.addoption("--loihi-server", metavar="PATH", default=BOARD.server, help="its server program")
    group.addoption(
        "--loihi-generation", metavar="NAME", default=BOARD.generation, help="chip generation, as Lava says"
    )


def board(config: pytest.Config) -> Board:
    option = lambda name: config.getoption(f"loihi_{name}")
    return Board(*map(option, ("partition", "board", "host", "server", "generation")))


def wanted(config: pytest.Config) -> list[str]:
    return config.getoption("target") or list(NAMES)


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """One line for each target that did not run, or did not run every case, and why."""
    for name in wanted(config) if config.stash.get(COLLECTED, False) else ():
        backend = target(name, board(config))
        built = [maker() for maker in CASES.values()]
        if reason := backend.missing():
            terminalreporter.write_line(f"target {name}: skipped, {reason}")
        elif refused := [reason for case in built if (reason := backend.refuses(case.network))]:
            text = f"target {name}: {len(built) - len(refused)} of {len(built)} cases, the others are beyond it"
            terminalreporter.write_line(f"{text} (-rs lists why)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every case on every target; a target that cannot run here is one skipped test."""
    if {"target_name", "case_name"} <= set(metafunc.fixturenames):
        here = lambda name: target(name, board(metafunc.config)).missing() is None
        pairs = [(name, case) for name in wanted(metafunc.config) for case in (CASES if here(name) else ["every-case"])]
        metafunc.parametrize(("target_name", "case_name"), pairs)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Targets hear of all their cases at once, so that slow ones can begin."""
    asked: dict[str, list[str]] = {}
    session.config.stash[COLLECTED] = any(item.name.startswith("test_integers_are_equal") for item in session.items)
    for item in session.items:
        values = item.callspec.params if hasattr(item, "callspec") else {}
        if "target_name" in values:
            asked.setdefault(values["target_name"], []).append(values["case_name"])
    for name, cases in () if session.config.option.collectonly else asked.items():
        chosen = target(name, board(session.config))
        if not chosen.missing():
            built = [CASES[case]() for case in cases]
            chosen.prepare([case for case in built if not chosen.refuses(case.network)])


@pytest.fixture
def chosen(target_name: str, request: pytest.FixtureRequest) -> Target:
    """The target of a test; skips where it cannot run."""
    backend = target(target_name, board(request.config))
    if reason := backend.missing():
        pytest.skip(f"{target_name}: {reason}")
    return backend
