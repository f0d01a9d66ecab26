"""Readers of foreign modules: a model of another library becomes one of `randhet.train`.

`read` runs a model that has foreign modules on a few images, records what its layers are (`record`), and makes a model
of ours of them (`rebuild`), whose neurons spike as the model's own do, step by step. To add a library, write a module
with the functions of `Reader` in this package and enter it in READERS.

Time comes in three forms, whichever the model has: its own loop, a forward of one step a call, or of sequences
(T, N, C, Y, X).
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from torch import nn

READERS: dict[str, str] = {
    "snntorch": "randhet.export.readers.snntorch",
    "spikingjelly": "randhet.export.readers.spikingjelly",
    "brevitas": "randhet.export.readers.brevitas",
    "braincog": "randhet.export.readers.braincog",
    **dict.fromkeys(("norse", "sinabs", "rockpool", "lava"), "randhet.export.readers.elsewhere"),
}
"""The top-level package of a library to the module of its reader, imported at first need."""


class Reader(Protocol):
    """What the module of a reader must have."""

    def read(self, module: nn.Module) -> nn.Module | None:
        """Return our module that computes the same on (T, N, ...); None for a container, which is then entered.

        module: of this library, or of a subclass. An Identity is one that changes nothing. ExportError for what has no
        counterpart, as the end of a sentence that begins with the module's name: ", which resets ...: write ...".
        """

    def reset(self, module: nn.Module) -> None:
        """Forget the state that a module keeps between calls: a new image begins."""


def reader_of(module: nn.Module) -> Reader | None:
    """Find the reader of a module by the packages of its class and of its parents; None for torch's and our own."""
    packages = (kind.__module__.partition(".")[0] for kind in type(module).__mro__)
    name = next((package for package in packages if package in READERS), None)
    return None if name is None else cast(Reader, import_module(READERS[name]))


def foreign(model: nn.Module) -> bool:
    """Tell whether a model has modules of another library."""
    return any(reader_of(module) is not None for module in model.modules())


def reset(model: nn.Module) -> None:
    """Forget the state between images of every foreign module."""
    for module in model.modules():
        reader = reader_of(module)
        if reader is not None:
            reader.reset(module)
