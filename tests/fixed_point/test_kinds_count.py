"""How many places ask for a neuron's kind, counted in the syntax trees of everything that ships.

A neuron that is new must be added wherever its kind is asked for, so these places are few. Asking is: isinstance, a
class pattern of a match, a function registered for a class, a table of classes, a comparison with a class or its name,
and getattr or hasattr that finds out whether a neuron has a field. Making a neuron, and naming it as the type of a
parameter, is not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from randhet.fixed_point import layers

ROOT = Path(__file__).parents[2]
ROOMS = ("base", "fixed_point", "train", "netx", "export", "lava_runtime", "compare", "cli", "benchmarks")
KINDS = {"Lif", "Cuba", "ReadOut", "Leaky", "Constant", "PerNeuron", "Drawn"}
UNIONS = {"Neuron", "Spiking", "Decay"}
HOME = "randhet.fixed_point.layers"
MODULES = {HOME, "randhet.fixed_point.network"}
FILES, ISINSTANCES = 15, 10

Asked = tuple[int, str]
"""A line, and how it asks."""


class Kinds(ast.NodeVisitor):
    """Which names of a module mean a kind of neuron: imported ones, those of an imported module, and own classes."""

    def __init__(self, tree: ast.Module, home: bool) -> None:
        self.names = {name: name for name in KINDS | UNIONS} if home else {}
        self.modules: set[str] = set()
        self.visit(tree)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if node.module in MODULES and alias.name in KINDS | UNIONS:
                self.names[alias.asname or alias.name] = alias.name
            if f"{node.module}.{alias.name}" in MODULES:
                self.modules.add(alias.asname or alias.name)

    def visit_Import(self, node: ast.Import) -> None:
        self.modules |= {alias.asname or alias.name for alias in node.names if alias.name in MODULES}

    def kind(self, node: ast.AST | None) -> str | None:
        """The kind that an expression names, if it is a name of one."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in self.modules and node.attr in KINDS | UNIONS:
            return node.attr
        return None


def types_of(tree: ast.Module) -> set[ast.AST]:
    """Every node within a type: of a parameter, a result, a variable or an alias of types."""
    types: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            types.append(node.annotation)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            types.append(node.returns)
        elif isinstance(node, ast.AnnAssign):
            types.append(node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.value, (ast.BinOp, ast.Subscript)):
            types.append(node.value if node in tree.body else None)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "cast":
            types.append(node.args[0])
    return {inner for node in types if node is not None for inner in ast.walk(node)}


def asked(source: str, home: bool = False) -> Iterator[Asked]:
    """Where a module asks for the kind of a neuron; home: the one that defines them."""
    tree = ast.parse(source)
    kinds, types = Kinds(tree, home), types_of(tree)
    made = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    within = isinstances(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.MatchClass) and kinds.kind(node.cls):
            yield node.lineno, "case"
        elif node in within and kinds.kind(node):
            yield node.lineno, "isinstance"  # type: ignore[attr-defined]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and registered(node, kinds):
            yield node.lineno, "register"
        elif isinstance(node, ast.Call) and sniffs(node):
            yield node.lineno, "getattr"
        elif named(node):
            yield node.lineno, "name"  # type: ignore[attr-defined]
        elif isinstance(node, (ast.Name, ast.Attribute)) and kinds.kind(node) and loose(node, types, made, tree):
            yield node.lineno, "class"


def isinstances(tree: ast.Module) -> set[ast.AST]:
    """Every node within the second argument of isinstance and issubclass."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) == 2]
    return {
        inner
        for call in calls
        if ast.unparse(call.func) in ("isinstance", "issubclass")
        for inner in ast.walk(call.args[1])
    }


def registered(node: ast.FunctionDef | ast.AsyncFunctionDef, kinds: Kinds) -> bool:
    """Whether the function is one of several, chosen by the class of its first argument."""
    chosen = any(ast.unparse(decorator).partition("(")[0].endswith(".register") for decorator in node.decorator_list)
    first = node.args.args[:1]
    return chosen and any(kinds.kind(inner) for arg in first if arg.annotation for inner in ast.walk(arg.annotation))


def sniffs(call: ast.Call) -> bool:
    """Whether a call finds out if a neuron has a field."""
    name, most = ast.unparse(call.func), len(call.args)
    subject = ast.unparse(call.args[0]).rpartition(".")[2] if call.args else ""
    return subject in ("neuron", "decay") and (name == "hasattr" or (name == "getattr" and most == 3))


def named(node: ast.AST) -> bool:
    """Whether a class's name is compared with, or is the key of a table."""
    if isinstance(node, ast.Compare):
        texts: list[ast.AST | None] = [inner for part in node.comparators for inner in ast.walk(part)]
    elif isinstance(node, ast.Dict):
        texts = list(node.keys)
    elif isinstance(node, ast.MatchValue):
        texts = [node.value]
    else:
        return False
    # words of others too: ONNX has a node "Constant", snnTorch a neuron "Leaky"
    return any(isinstance(text, ast.Constant) and text.value in KINDS - {"Constant", "Leaky"} for text in texts)


def loose(node: ast.AST, types: set[ast.AST], made: set[ast.expr], tree: ast.Module) -> bool:
    """Whether a class is used as a value: neither called to make a neuron, nor the type of something."""
    patterns = {pattern.cls for pattern in ast.walk(tree) if isinstance(pattern, ast.MatchClass)}
    annotated = node in types or node in made or node in patterns or node in isinstances(tree)
    owners = {part.value for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
    return not annotated and node not in owners and isinstance(getattr(node, "ctx", None), ast.Load)


def everything() -> dict[str, list[Asked]]:
    """Each shipped file that asks, with where it does."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if places := list(asked(path.read_text(), path == ROOT / "fixed_point" / "layers.py")):
                found[str(path.relative_to(ROOT))] = places
    return found


def test_few_files_ask_for_the_kind_of_a_neuron() -> None:
    asking = everything()
    assert len(asking) <= FILES, "\n".join(f"{name}: {places}" for name, places in asking.items())


def test_few_places_use_isinstance_on_a_neuron() -> None:
    places = [f"{name}:{line}" for name, found in everything().items() for line, how in found if how == "isinstance"]
    assert len(places) <= ISINSTANCES, "\n".join(places)


IMPORT = "from randhet.fixed_point.network import Constant, Cuba, Lif, Neuron\n"
MODULE = "from randhet.fixed_point import network as ir\n"


def test_the_kinds_are_those_of_the_representation() -> None:
    assert {kind.__name__ for union in (layers.Neuron, layers.Decay) for kind in get_args(union)} == KINDS
    assert all(hasattr(layers, name) for name in UNIONS)


@pytest.mark.parametrize(
    ("source", "how"),
    [
        (IMPORT + "x = isinstance(neuron, Lif)", ["isinstance"]),
        (IMPORT + "x = isinstance(neuron, (Lif, Cuba))", ["isinstance", "isinstance"]),
        (MODULE + "x = isinstance(neuron, ir.Lif)", ["isinstance"]),
        ("from randhet.fixed_point.layers import Lif as Other\nx = isinstance(neuron, Other)", ["isinstance"]),
        ("import randhet.fixed_point.network\nx = isinstance(n, randhet.fixed_point.network.Lif)", ["isinstance"]),
        (IMPORT + "match neuron:\n    case Lif() | Cuba():\n        pass", ["case", "case"]),
        (MODULE + "match neuron:\n    case ir.Lif():\n        pass", ["case"]),
        (IMPORT + "TABLE = {Lif: 1}", ["class"]),
        (IMPORT + "x = type(neuron) is Lif", ["class"]),
        (IMPORT + "x = type(neuron) in (Lif, Cuba)", ["class", "class"]),
        (IMPORT + "x = type(neuron).__name__ == 'Lif'", ["name"]),
        (IMPORT + "x = {'Lif': 1}[type(neuron).__name__]", ["name"]),
        (IMPORT + "@f.register\ndef _(neuron: Lif) -> None: ...", ["register"]),
        (IMPORT + "@f.register(Lif)\ndef _(neuron: Neuron) -> None: ...", ["register", "class"]),
        ("x = getattr(layer.neuron, 'threshold', None)", ["getattr"]),
        ("x = hasattr(neuron, 'k')", ["getattr"]),
        (IMPORT + "# isinstance(neuron, Lif)\nx = 'isinstance(neuron, Lif)'", []),
        (IMPORT + "def f(neuron: Lif | None) -> Cuba: return Cuba()", []),
        (IMPORT + "Spiking = Lif | Cuba\nx: Neuron = Lif()", []),
        ("from ast import Constant\nx = isinstance(node, Constant)", []),
        ("from torch.nn import LIF as Lif\nx = isinstance(module, Lif)", []),
    ],
)
def test_the_count_sees_every_way_of_asking_and_nothing_else(source: str, how: list[str]) -> None:
    assert sorted(way for _, way in asked(source)) == sorted(how)
