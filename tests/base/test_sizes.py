"""Functions are short and take few parameters, counted over every shipped room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("base", "fixed_point", "train", "netx", "export", "lava_runtime", "compare", "cli", "randhet", "benchmarks")
MEDIAN, MOST, PARAMETERS = 6, 20, 10
"""Lines of the median function, and of nine in ten; parameters of any outside the command line."""


class Function(NamedTuple):
    """Where a function is, its lines from `def` to the end, its docstring included, and its parameters."""

    place: str
    lines: int
    parameters: int


def functions(source: str, name: str) -> Iterator[Function]:
    """Every function and method of a module, those within others too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            yield Function(f"{name}:{node.lineno} {node.name}", lines, _parameters(node.args))


def _parameters(arguments: ast.arguments) -> int:
    """How many a caller sees: without self and cls, a * or ** counted as one."""
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [arg for arg in (arguments.vararg, arguments.kwarg) if arg]
    return len([arg for arg in named if arg.arg not in ("self", "cls")]) + len(starred)


def shipped() -> list[Function]:
    """Every function of every room, each file once: the package holds links to the rooms."""
    paths = {path.resolve() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    names = {path: str(path.relative_to(ROOT)) for path in sorted(paths)}
    return [function for path, name in names.items() for function in functions(path.read_text(), name)]


def test_the_median_function_and_nine_in_ten_are_short() -> None:
    lengths = sorted(function.lines for function in shipped())
    assert len(lengths) > 1000
    assert lengths[len(lengths) // 2] <= MEDIAN
    assert lengths[len(lengths) * 9 // 10] <= MOST


def test_no_function_outside_the_command_line_takes_many_parameters() -> None:
    long = [f"{it.place}: {it.parameters}" for it in shipped() if it.parameters > PARAMETERS]
    long = [line for line in long if not line.startswith("cli/")]
    assert not long, "\n".join(long)


@pytest.mark.parametrize(
    ("source", "lines", "parameters"),
    [
        ("def f(): pass", 1, 0),
        ("@cache\ndef f(a, /, b, *c, d=1, **e):\n    '''Do.'''\n\n    return a", 4, 5),
        ("class A:\n    def f(self, a: int) -> int:\n        return a", 2, 1),
        ("async def f(\n    a,\n    b,\n):\n    return a", 5, 2),
    ],
)
def test_lines_and_parameters_by_hand(source: str, lines: int, parameters: int) -> None:
    (found,) = functions(source, "x")
    assert (found.lines, found.parameters) == (lines, parameters)
