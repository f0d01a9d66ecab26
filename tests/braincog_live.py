"""BrainCog's neurons and layers, where the library and einops are installed.

Its packages import data sets, every model of the library and what these need (torchvision, timm), of which its neurons
need nothing: the packages on the way to them are entered without that.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACKAGES = ("braincog.base", "braincog.base.encoder", "braincog.base.connection")


def braincog(module: str) -> Any:
    """A module below braincog.base; skips the test where the library is not installed."""
    spec = find_spec("braincog")
    if spec is None or spec.submodule_search_locations is None or not find_spec("einops"):
        pytest.skip("braincog and einops are not installed", allow_module_level=True)
    for name in PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(Path(spec.submodule_search_locations[0], *name.split(".")[1:]))]
        sys.modules.setdefault(name, package)
    return import_module(f"braincog.base.{module}")
