"""Importing Lava without a trace in the importing program."""

from __future__ import annotations

import multiprocessing
from importlib import import_module


def load() -> None:
    """Import Lava, whatever way of starting processes this program has chosen, and leave that choice as it was.

    Lava chooses "fork" when its message infrastructure is imported, and the choice raises RuntimeError where Dask, a
    test or the user made one before.
    """
    chosen = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    try:
        import_module("lava.magma.runtime.message_infrastructure.multiprocessing")
    finally:
        multiprocessing.set_start_method(chosen, force=True)
