"""Libraries whose modules are not read, and the way that their networks go."""

from __future__ import annotations

from torch import nn

from randhet.export.graph import ExportError

NIR = "write the network as a NIR graph, and give that with --tool {tool}"
WAYS = {
    "norse": NIR.format(tool="norse"),
    "sinabs": NIR.format(tool="sinabs"),
    "rockpool": NIR.format(tool="NAME, of the tool whose time steps it has"),
    "lava": "write it with export_hdf5, and give that file",
}
"""The top-level package of a library to what its users do."""


def read(module: nn.Module) -> nn.Module | None:
    """Raise ExportError that says which way modules of a library go; None for containers, which are entered."""
    if any(module.children()):
        return None
    kinds = (kind.__module__.partition(".")[0] for kind in type(module).__mro__)
    library = next(kind for kind in kinds if kind in WAYS)
    raise ExportError(f", which is of {library}: {WAYS[library]}")


def reset(module: nn.Module) -> None:
    """Leave the module as it is: it is refused in any case."""
