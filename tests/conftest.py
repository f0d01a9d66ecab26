"""What every test shares: tests marked `lava` are skipped, with the reason, where Lava cannot run."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# `strategies` is shared by tests of several rooms
sys.path.insert(0, str(Path(__file__).parent))

# Two cores are the norm here: libraries that each start a thread per core only get in each other's way.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def lava_missing() -> str | None:
    """Why Lava cannot run here, None where it can."""
    if sys.version_info >= (3, 11):
        return f"Lava needs Python 3.10, this is {sys.version_info[0]}.{sys.version_info[1]}"
    return None if find_spec("lava") else "Lava is not installed (pip install 'randhet[lava]')"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = lava_missing()
    if reason:
        for item in items:
            if item.get_closest_marker("lava"):
                item.add_marker(pytest.mark.skip(reason=reason))
