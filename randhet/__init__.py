"""Deploy spiking networks with random membrane decay: train in PyTorch, run as Loihi-style fixed point, prove equal.

The public functions are imported when first used: `randhet.export_checkpoint`, `randhet.read`, `randhet.run`, ...
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__: str
_PUBLIC = {
    "load_data": ("randhet.train.data.sources", "load"),
    "load_checkpoint": ("randhet.train.checkpoint", "load"),
    "export_checkpoint": ("randhet.export.pipeline", "export_checkpoint"),
    "read": ("randhet.netx.lava_dl", "load_network"),
    "write": ("randhet.netx.write", "write"),
    "run": ("randhet.fixed_point.reference", "run"),
    "backend": ("randhet.fixed_point.backends", "runner"),
    "deploy": ("randhet.export.deploy", "deploy"),
    "compare_models": ("randhet.compare.comparing", "compare_models"),  # `randhet.compare` is the room
    "attack": ("randhet.compare.robustness.api", "attack"),
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'randhet' has no attribute {name!r}")
    module, function = _PUBLIC[name]
    return getattr(import_module(module), function)


def __dir__() -> list[str]:
    """List the public names also before they are imported."""
    return sorted({*globals(), *__all__})


def _version() -> str:
    """Return the version of the installed package; reading it imports much, so it is done when it is asked for."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("randhet")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
