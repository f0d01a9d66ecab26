"""Deploy spiking networks with random membrane decay: train in PyTorch, run as Loihi-style fixed point, prove equal.

The public functions are imported when first used: `randhet.export_checkpoint`, `randhet.read`, `randhet.run`, ...
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("randhet")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

_PUBLIC = {
    "load_data": ("randhet.train.data.sources", "load"),
    "load_checkpoint": ("randhet.train.checkpoint", "load"),
    "export_checkpoint": ("randhet.export.pipeline", "export_checkpoint"),
    "read": ("randhet.netx.write", "read"),
    "write": ("randhet.netx.write", "write"),
    "run": ("randhet.fixed_point.reference", "run"),
    "backend": ("randhet.fixed_point.backends", "runner"),
    "compare": ("randhet.compare.study", "compare"),
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'randhet' has no attribute {name!r}")
    module, function = _PUBLIC[name]
    return getattr(import_module(module), function)
