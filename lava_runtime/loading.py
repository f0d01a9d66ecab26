"""Importing Lava without a trace in the importing program, and on Python newer than the one it was written for."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

ENTRY = (
    "lava.magma.runtime.message_infrastructure.multiprocessing",
    "lava.magma.compiler.var_model",
    "lava.magma.core.run_configs",
    "lava.magma.core.process.process",
)
"""Modules that bring in all of Lava whose dataclasses need `unhashable_defaults`."""


def load() -> None:
    """Import Lava, whatever way of starting processes this program has chosen, and leave that choice as it was.

    Lava chooses "fork" when its message infrastructure is imported, and the choice raises RuntimeError where Dask, a
    test or the user made one before.
    """
    chosen = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    try:
        with unhashable_defaults():
            for name in ENTRY:
                import_module(name)
    finally:
        multiprocessing.set_start_method(chosen, force=True)


@contextmanager
def unhashable_defaults() -> Iterator[None]:
    """Let Lava's dataclasses have defaults that cannot be hashed, as Python allowed until 3.10.

    lava-nc 0.10.0 gives dataclass fields instances of other dataclasses as defaults, which Python 3.11 refuses. Inside
    this block, and for classes of Lava's modules only, such a default becomes a factory that returns the same instance.
    """
    make_field: Any = dataclasses._get_field  # type: ignore[attr-defined]

    def made(cls: type, name: str, *arguments: Any) -> Any:
        default = cls.__dict__.get(name, dataclasses.MISSING)
        if cls.__module__.startswith("lava.") and type(default).__hash__ is None:
            setattr(cls, name, dataclasses.field(default_factory=lambda: default))
        return make_field(cls, name, *arguments)

    dataclasses._get_field = made  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dataclasses._get_field = make_field  # type: ignore[attr-defined]
