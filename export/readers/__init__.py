"""Readers of foreign modules: a model of another library becomes one of `randhet.train`, module by module.

`translated` copies a model and puts one of our modules in the place of every foreign one; the trace sees only the copy,
and `randhet.export.verify` runs the model itself beside it. To add a library, write a module with the functions of
`Reader` in this package and enter it in READERS.

Time comes in four forms: an Encode in the model, the model's own loop (`rolled`), a model of one step a call, or of
sequences (`stepwise`; both are wrapped in `randhet.export.in_time.InTime` with a stated T).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Protocol, cast

from torch import fx, nn

from randhet.export.graph import ExportError

READERS: dict[str, str] = {}
"""The top-level package of a library, such as snntorch, to the module of its reader, imported at first need."""


class Reader(Protocol):
    """What the module of a reader must have."""

    def read(self, module: nn.Module) -> nn.Module | None:
        """Return our module that computes the same on (T, N, ...); None for a container, which is then entered.

        module: of this library, or of a subclass. ExportError for what has no counterpart, as the end of a sentence
        that begins with the module's name: ", which resets ...: write ... instead".
        """

    def reset(self, model: nn.Module) -> None:
        """Forget the state that the library's modules keep between calls: a new image begins."""

    def stepwise(self, model: nn.Module) -> bool:
        """Tell whether the model's forward takes one step (N, C, Y, X) a call, and not a sequence (T, N, C, Y, X)."""

    def rolled(self, graph: fx.Graph, modules: Mapping[str, nn.Module]) -> int | None:
        """Fold the user's own loop over time in a traced forward into one step, in place; return its T, None for none.

        graph: of the translated copy, where each pass of a loop calls the same modules again; modules: those of the
        model itself, by name. A call with state, such as `spikes, state = lif(x, state)`, becomes the plain call
        `lif(x)` of our module. What gathers the steps (torch.stack of a list, a running sum) becomes what it is over
        (T, N, ...).
        """


def translated(model: nn.Module) -> nn.Module:
    """Return a copy with our modules in place of foreign ones; the model itself where it has none.

    ExportError names every foreign module that cannot be read.
    """
    foreign = {name: module for name, module in model.named_modules() if reader_of(module) is not None}
    return _replaced(model, foreign) if foreign else model


def reset(model: nn.Module) -> None:
    """Forget the state between images of every library that the model uses."""
    for reader in readers(model.modules()):
        reader.reset(model)


def stepwise(model: nn.Module) -> bool:
    """Tell whether a model without an encoding or a loop over time of its own is called once per step."""
    return any(reader.stepwise(model) for reader in readers(model.modules()))


def rolled(graph: fx.Graph, model: nn.Module) -> int | None:
    """Fold a loop over time by the libraries that the model uses; return its T, None where there is none."""
    modules = dict(model.named_modules())
    return next((steps for reader in readers(modules.values()) if (steps := reader.rolled(graph, modules))), None)


def readers(modules: Iterable[nn.Module]) -> list[Reader]:
    """List the readers of all foreign modules, each once."""
    found = (reader_of(module) for module in modules)
    return list(dict.fromkeys(reader for reader in found if reader is not None))


def reader_of(module: nn.Module) -> Reader | None:
    """Find the reader of a module by the packages of its class and of its parents; None for torch's and our own."""
    packages = (kind.__module__.partition(".")[0] for kind in type(module).__mro__)
    name = next((package for package in packages if package in READERS), None)
    return None if name is None else cast(Reader, import_module(READERS[name]))


def _replaced(model: nn.Module, foreign: Mapping[str, nn.Module]) -> nn.Module:
    whole, refused, ours = copy.deepcopy(model), list[str](), dict[str, nn.Module]()
    for name, module in foreign.items():
        try:
            read = cast(Reader, reader_of(module)).read(module)
        except ExportError as error:
            refused.append(f"{name} ({type(module).__name__}){error}")
            continue
        if read is not None:
            ours[name] = read
    if refused:
        raise ExportError(f"not supported: {'; '.join(refused)}")
    for name, module in ours.items():
        if not any(name.startswith(f"{outer}.") for outer in ours if outer != name):
            _put(whole, name, module)
    return ours.get("", whole)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Set a module by its dotted name."""
    if name:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module)
