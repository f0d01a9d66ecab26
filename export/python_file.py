"""Models that a function in a user's own file of Python returns. The user names the file: it is executed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from randhet.base.errors import FileError, RandhetError
from randhet.export import readers
from randhet.export.float_model import FloatModel, Shifted
from randhet.export.graph import FloatConv, FloatDense, FloatGraph
from randhet.export.model import Model, weights_of
from randhet.export.trace import timed
from randhet.fixed_point.network import Shape
from randhet.train.checkpoint import weights_hash
from randhet.train.weights import Weights


@dataclass(frozen=True, eq=False)
class FromFile:
    """Makes the module that a function returns, with the weights it had first; the file is executed where it is made.

    file, name: of the function. steps: T, where the module does not say it; hint: T, where nobody else says it.
    """

    file: str
    name: str
    state: Mapping[str, Tensor]
    steps: int | None = None
    hint: int | None = None

    def module(self) -> nn.Module:
        """Return the module as its author wrote it."""
        made = made_by(self.file, self.name)
        load(made, self.state, f"{self.file}:{self.name}", "its first call")
        return made.eval()

    def through(self, module: nn.Module, shape: Shape) -> nn.Module:
        """Return the module as one of images of this shape in 0..1: itself, or one that has its layers."""
        return timed(module, shape, self.steps, self.hint)

    def __call__(self, shape: Shape) -> nn.Module:
        return self.through(self.module(), shape)


def model(
    file: str, name: str, held: Weights | None = None, steps: int | None = None, hint: int | None = None
) -> Model:
    """Take what a function in a file returns as a model, with these weights where they are given."""
    called = f"{file}:{name}"
    module = made_by(file, name)
    if held is not None:
        load(module, held.state, called, str(held.path))
    state = {entry: tensor.detach().cpu().clone() for entry, tensor in weights_of(module).items()}
    make = FromFile(str(Path(file).resolve()), name, state, steps, hint)
    known = {} if held is None else {"data": held.data, "classes": held.classes, "trained": held.record}
    return Model(called, make, weights_hash(state), **known)  # type: ignore[arg-type]


def load(module: nn.Module, state: Mapping[str, Tensor], called: str, where: str) -> None:
    """Put weights into a module; FileError names the first entry that does not fit."""
    own = weights_of(module)
    for name in sorted({*own, *state}):
        if name not in own or name not in state:
            lacks = where if name in own else called
            raise FileError(f"{lacks} has no weights {name}, which {called if name in own else where} has")
        if own[name].shape != state[name].shape:
            shapes = tuple(own[name].shape), tuple(state[name].shape)
            raise FileError(f"weights {name} have shape {shapes[1]} in {where}, {called} takes {shapes[0]}")
    module.load_state_dict(dict(state), strict=False)


def made_by(file: str, name: str) -> nn.Module:
    """Call the function; every failure of the user's file is one sentence with its line."""
    module = executed(str(Path(file).resolve()))
    function = getattr(module, name, None)
    if not callable(function):
        raise RandhetError(f"{file} has no function {name}, it has {', '.join(_functions(module)) or 'none'}")
    with _in_user_code(file):
        made = function()
    if not isinstance(made, nn.Module):
        raise RandhetError(f"{name} of {file} returns {type(made).__name__}, it must return an nn.Module")
    readers.reset(made)
    return made.eval()


@cache
def executed(file: str) -> ModuleType:
    """Execute a file once; what lies beside it can be imported by it, after everything that is installed."""
    if not Path(file).is_file():
        raise FileError(f"{file} does not exist")
    spec = spec_from_file_location(f"randhet_model_{Path(file).stem}", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str(Path(file).parent))
    try:
        with _in_user_code(file):
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(Path(file).parent))
    return module


@contextmanager
def _in_user_code(file: str) -> Iterator[None]:
    try:
        yield
    except RandhetError:
        raise
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).name == Path(file).name
        ]
        where = f", line {lines[-1]}" if lines else ""
        first = (str(error).splitlines() or [""])[0][:200]
        raise RandhetError(f"{file}{where}: {type(error).__name__}: {first}") from None


def _functions(module: ModuleType) -> list[str]:
    """Names of what the file itself defines and can be called."""
    return [name for name, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]


def with_weights(graph: FloatGraph, state: Mapping[str, Tensor], path: Path) -> FloatGraph:
    """The graph with the weights and biases of a state dict of its `FloatModel`; FileError where more has changed."""
    model = FloatModel(graph)
    layers = dict(model.named_modules())
    weighted = [node.name for node in graph.nodes if isinstance(node.operation, (FloatConv, FloatDense))]
    own = {f"{name}.{key}" for name in weighted for key in layers[name].state_dict()}
    for name, tensor in weights_of(model).items():
        if name not in own and name in state and not torch.equal(tensor, state[name]):
            raise FileError(
                f"weights {name} in {path} are not those of the graph, which takes weights and biases of its layers "
                "alone: leave them as they were"
            )
    load(model, state, "the graph", str(path))
    for node in graph.nodes:
        if isinstance(node.operation, (FloatConv, FloatDense)):
            weight, bias = (tensor.detach().double().numpy() for tensor in _constants(layers[node.name]))
            graph = graph.changed(node.name, replace(node.operation, weight=weight, bias=bias))
    return graph


def _constants(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias, or map of biases, of a layer of a `FloatModel`."""
    inner, bias = (layer.layer, layer.bias) if isinstance(layer, Shifted) else (layer, layer.bias)
    assert isinstance(inner, (nn.Conv2d, nn.Linear)) and isinstance(bias, Tensor)
    return inner.weight, bias
