"""What every test shares: tests marked `lava` are skipped, with the reason, where Lava cannot run."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from randhet.lava_runtime.available import missing

# `strategies` is shared by tests of several rooms
sys.path.insert(0, str(Path(__file__).parent))

# Two cores are the norm here: libraries that each start a thread per core only get in each other's way.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


# A shell that runs the suite in the background has it ignore Ctrl-C, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing is timed: on a busy machine an example may take long without being wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := missing():
        for item in items:
            if item.get_closest_marker("lava"):
                item.add_marker(pytest.mark.skip(reason=reason))
